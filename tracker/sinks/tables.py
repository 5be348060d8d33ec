"""Tracks as text: CSV for people, JSON Lines for programs, MOTChallenge rows for evaluators.

Every file is written line by line, so that what a power cut leaves behind is whole lines.
"""

import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from time import monotonic_ns
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from veintrack.tracker.frame import (
    Detection,
    FrameResult,
    Measurement,
    Shape,
    Timings,
    Track,
    TrackStatus,
)
from veintrack.tracker.ranking import SortBy, best_vein

__all__ = ["CSV_COLUMNS", "CsvSink", "JsonlSink", "MotSink"]

CSV_COLUMNS = (
    "frame,time_s,track_id,status,x_px,y_px,vx_px_s,vy_px_s,var_x_px2,cov_xy_px2,var_y_px2,"
    "area_px2,major_px,minor_px,angle_deg,score,depth_mm,area_mm2,major_mm,minor_mm,collapse,"
    "pulse_hz"
)
_BELIEVED = (TrackStatus.CONFIRMED, TrackStatus.COASTING)
_MEASURED = tuple(field.name for field in fields(Measurement))
_SHAPED = tuple(field.name for field in fields(Shape))


class _Lines:
    """A text file that takes whole lines."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file = path.open("w", encoding="utf-8", newline="\n", buffering=1)
        self._first_ns: int | None = None

    def time_s(self, result: FrameResult) -> float:
        """Seconds since the first frame."""
        if self._first_ns is None:
            self._first_ns = result.frame.capture_ns
        return (result.time_ns - self._first_ns) * 1e-9

    def lines(self, lines: Iterable[str]) -> None:
        self._file.writelines(f"{line}\n" for line in lines)

    def close(self) -> None:
        self._file.close()


class CsvSink(_Lines):
    """``tracks.csv``: a row per confirmed or coasting track per frame.

    While a source is lost there are rows between frames: tracks that are predicted, at their own
    times, with the number of the last frame that came.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lines([CSV_COLUMNS])

    def write(self, result: FrameResult) -> None:
        start = f"{result.frame.index},{self.time_s(result):.6f}"
        self.lines(f"{start},{_csv_row(t)}" for t in result.tracks if t.status in _BELIEVED)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _csv_row(track: Track) -> str:
    (x, y), (vx, vy) = track.centroid_px, track.velocity_px_s
    cov = track.covariance_px2
    m = track.measurement
    shape = (
        [""] * 11
        if m is None
        else [
            _number(m.area_px2, 2),
            _number(m.major_px, 3),
            _number(m.minor_px, 3),
            _number(m.angle_deg, 2),
            _number(track.score, 4),
            _number(m.depth_mm, 3),
            _number(m.area_mm2, 3),
            _number(m.major_mm, 3),
            _number(m.minor_mm, 3),
            _number(m.collapse, 4),
            _number(m.pulse_hz, 3),
        ]
    )
    place = f"{x:.3f},{y:.3f},{vx:.3f},{vy:.3f},{cov[0, 0]:.4f},{cov[0, 1]:.4f},{cov[1, 1]:.4f}"
    return f"{track.id},{track.status},{place},{','.join(shape)}"


class JsonlSink(_Lines):
    """``tracks.jsonl``: an object per frame with times, detections and every track.

    While a source is lost there are objects between frames, with ``fresh`` false.

    Parameters
    ----------
    path : Path
        The file.
    sort_by : str, optional
        What the best track of each frame is named by; without it none is.
    """

    def __init__(self, path: Path, sort_by: SortBy | None = None) -> None:
        super().__init__(path)
        self._sort_by = sort_by

    def write(self, result: FrameResult) -> None:
        frame, timings = result.frame, result.timings
        best = None if self._sort_by is None else best_vein(result.tracks, self._sort_by)
        row = {
            "frame": frame.index,
            "fresh": result.fresh,
            "time_s": round(self.time_s(result), 9),
            "time_ns": result.time_ns,
            "capture_ns": frame.capture_ns,
            "stamp": frame.stamp.value,
            "sender_ns": frame.sender_ns,
            "driver_sequence": frame.driver_sequence,
            "source": {
                "state": result.source.signal.value,
                "since_ns": result.source.since_ns,
                "reason": result.source.reason,
            },
            "segmented": result.segmented,
            "picture": result.picture.value,
            "changes": list(result.changes),
            "scan_area_px": result.scan_area_px,
            "probe_motion": _motion_fields(result),
            "age_ms": timings.age_ns * 1e-6,
            "ages_ms": {name: round(ms, 4) for name, ms in _ages_ms(timings).items()},
            "stage_ms": {
                "read": timings.read_ns * 1e-6,
                "wait": timings.wait_ns * 1e-6,
                "prepare": timings.prepare_ns * 1e-6,
                "infer": timings.infer_ns * 1e-6,
                "detect": timings.detect_ns * 1e-6,
                "track": timings.track_ns * 1e-6,
            },
            "detections": [_detection_fields(d) for d in result.detections],
            "tracks": [_track_fields(t, result.detections) for t in result.tracks],
            "best": best.id if best else None,
        }
        self.lines([json.dumps(row)])


def _ages_ms(timings: Timings) -> dict[str, float]:
    """Age of the frame at each station, and now that it is written."""
    written_ns = monotonic_ns() - timings.done_ns + timings.age_ns
    return timings.ages_ms() | {"written": written_ns * 1e-6}


def _rounded(values: ArrayLike, digits: int = 4) -> list[Any]:
    rounded: list[Any] = np.round(np.asarray(values, np.float64), digits).tolist()
    return rounded


def _detection_fields(found: Detection) -> dict[str, Any]:
    return {
        "centroid_px": _rounded(found.centroid_px),
        "covariance_px2": _rounded(found.covariance_px2.ravel(), 6),
        "area_px2": round(found.area_px2, 3),
        "axes_px": _rounded(found.axes_px),
        "angle_rad": round(found.angle_rad, 6),
        "score": round(found.score, 5),
        "box_px": _rounded(found.box_px, 3),
        "contour_px": None if found.contour_px is None else _rounded(found.contour_px, 2),
    }


def _motion_fields(result: FrameResult) -> dict[str, Any] | None:
    """How the picture moved, at the centre of the scan area."""
    motion = result.motion
    if motion is None:
        return None
    height, width = result.frame.pixels.shape
    x, y, width, height = result.scan_area_px or (0, 0, width, height)
    centre = np.array([x + (width - 1) / 2, y + (height - 1) / 2])
    return {
        "shift_px": _rounded(motion.displacement(centre)),
        "noise_px2": round(motion.noise_px2, 6),
    }


def _track_fields(track: Track, detections: tuple[Detection, ...]) -> dict[str, Any]:
    return {
        "id": track.id,
        "status": track.status.value,
        "collapsed": track.collapsed,
        "centroid_px": _rounded(track.centroid_px),
        "velocity_px_s": _rounded(track.velocity_px_s),
        "covariance_px2": _rounded(track.covariance_px2.ravel(), 6),
        "state_cov": None if track.state_cov is None else _rounded(track.state_cov.ravel(), 6),
        "box_px": _rounded(track.box_px, 3),
        "score": round(track.score, 5),
        "shape": _shape_fields(track.shape),
        "detection": _places(track.detection, detections),
        **{name: _value(getattr(track.measurement, name, None)) for name in _MEASURED},
    }


def _value(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _shape_fields(shape: Shape | None) -> dict[str, float] | None:
    return None if shape is None else {n: round(getattr(shape, n), 4) for n in _SHAPED}


def _places(wanted: Detection | None, detections: tuple[Detection, ...]) -> int | list[int] | None:
    """Index of what a track was found as in the frame's list; several if it was found in pieces."""
    if wanted is None:
        return None
    found = wanted.parts_of or (wanted,)
    places = [i for i, d in enumerate(detections) if any(d is one for one in found)]
    return places[0] if len(places) == 1 else places or None


class MotSink(_Lines):
    """``tracks.mot.txt``: MOTChallenge rows, 1-based: ``frame,id,left,top,w,h,conf,-1,-1,-1``.

    The first pixel of a picture is 1 there, and its outer edge is -0.5 here: boxes move by 1.5.
    What was predicted between frames has no row: there was no picture to mark it in.
    """

    def write(self, result: FrameResult) -> None:
        if not result.fresh:
            return
        self.lines(
            f"{result.frame.index + 1},{t.id},{t.box_px[0] + 1.5:.2f},{t.box_px[1] + 1.5:.2f},"
            f"{t.box_px[2]:.2f},{t.box_px[3]:.2f},{t.score:.4f},-1,-1,-1"
            for t in result.tracks
            if t.status in _BELIEVED
        )
