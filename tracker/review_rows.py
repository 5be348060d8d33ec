"""What was kept of the tracks of a frame, looked up by the frame, and made tracks again.

Written by :mod:`veintrack.tracker.sinks.tables` and :mod:`veintrack.tracker.sinks.tracked`.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import (
    F64,
    Detection,
    Measurement,
    Shape,
    Timings,
    Track,
    TrackStatus,
)
from veintrack.tracker.recording_lines import DAMAGE
from veintrack.tracker.shape import box_at
from veintrack.tracker.sinks.tables import CSV_COLUMNS

__all__ = ["ObjectLines", "TableLines"]

_DAMAGE = (*DAMAGE, AttributeError, IndexError)
_COLUMNS = CSV_COLUMNS.split(",")
_MEASURED = tuple(field.name for field in fields(Measurement))
_SHAPED = tuple(field.name for field in fields(Shape))
_STAGES = ("read", "wait", "prepare", "infer", "detect", "track")
_PLACE = ("x_px", "y_px", "vx_px_s", "vy_px_s", "var_x_px2", "cov_xy_px2", "var_y_px2")
_SIZES = ("area_px2", "major_px", "minor_px")
_SAME_PX2 = 2e-3  # areas are written to three digits
_OBJECT = re.compile(rb'\{"frame": (\d{1,18}),')
_ROW = re.compile(rb"(\d{1,18}),[^,]*,(\d{1,18}),(confirmed|coasting),")

Found = tuple[tuple[Detection, ...], tuple[Track, ...], Timings]


class _Lines(Closing):
    """Lines of a text file, looked up by the frame's number at their beginning.

    Only whole lines count: the last one may have been cut off. A file that is missing has none.
    """

    def __init__(self, path: Path, begin: re.Pattern[bytes]) -> None:
        self.path = path
        self._starts: dict[int, int] = {}
        self._open = ExitStack()
        try:
            if path.is_file():
                self._file = self._open.enter_context(path.open("rb"))
                self._look_through(begin)
        except OSError as error:
            self.close()
            raise SourceUnreadableError(f"{path} cannot be read: {error.strerror}") from error

    def _look_through(self, begin: re.Pattern[bytes]) -> None:
        at = 0
        for line in self._file:
            found = begin.match(line) if line.endswith(b"\n") else None
            if found:
                self._starts.setdefault(int(found[1]), at)
                self._note(found, at)
            at += len(line)

    def _note(self, found: re.Match[bytes], at: int) -> None:
        """Take note of a line, and of where it begins."""

    def _line(self, start: int) -> bytes:
        self._file.seek(start)
        return self._file.readline()

    def damaged(self, frame: int) -> SourceUnreadableError:
        """Say that a line is."""
        return SourceUnreadableError(f"{self.path}: what it says of frame {frame} is damaged")

    def close(self) -> None:
        self._open.close()


class ObjectLines(_Lines):
    """Objects of ``tracks.jsonl`` or ``tracked.jsonl``, looked up by their frame.

    Where several are of one frame, the first one is given: the others tell of the time after it,
    while the source was lost.

    Parameters
    ----------
    path : Path
        The file; one that is missing holds nothing.

    Raises
    ------
    SourceUnreadableError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _OBJECT)

    def at(self, frame: int) -> dict[str, Any] | None:
        """Read what is said of a frame; None where nothing is.

        Raises
        ------
        SourceUnreadableError
            If it is damaged.
        """
        start = self._starts.get(frame)
        if start is None:
            return None
        try:
            row: dict[str, Any] = json.loads(self._line(start))
        except _DAMAGE as error:
            raise self.damaged(frame) from error
        return row

    def found(self, row: Mapping[str, Any]) -> Found:
        """Make of an object of ``tracks.jsonl`` the detections, the tracks and the timings.

        Raises
        ------
        SourceUnreadableError
            If they are damaged.
        """
        try:
            detections = tuple(_detection(one) for one in row["detections"])
            tracks = tuple(_track(one, detections, row["time_ns"]) for one in row["tracks"])
            return detections, tracks, _timings(row)
        except _DAMAGE as error:
            raise self.damaged(row["frame"]) from error


class TableLines(_Lines):
    """Rows of ``tracks.csv``, looked up by their frame. See :class:`ObjectLines`."""

    def __init__(self, path: Path) -> None:
        self._last_seen: dict[int, int] = {}
        self._seen_before: dict[tuple[int, int], int] = {}  # of what is predicted: when seen last
        super().__init__(path, _ROW)
        self._last_seen.clear()

    def _note(self, found: re.Match[bytes], at: int) -> None:
        frame, number = int(found[1]), int(found[2])
        if found[3] == b"confirmed":
            self._last_seen[number] = at
        elif number in self._last_seen:
            self._seen_before[frame, number] = self._last_seen[number]

    def tracks(self, frame: int, time_ns: int) -> tuple[Track, ...]:
        """Make the tracks of a frame, as far as a row tells: ellipses in place of outlines.

        Raises
        ------
        SourceUnreadableError
            If they are damaged.
        """
        try:
            return tuple(
                _track_of_row(row, self._shape(frame, row), time_ns) for row in self._rows(frame)
            )
        except _DAMAGE as error:
            raise self.damaged(frame) from error

    def _rows(self, frame: int) -> list[dict[str, str]]:
        start = self._starts.get(frame)
        rows: list[dict[str, str]] = []
        while start is not None:
            line = self._line(start)
            found = _ROW.match(line)
            if found is None or int(found[1]) != frame or not line.endswith(b"\n"):
                break
            row = _cells(line)
            if rows and row["time_s"] != rows[0]["time_s"]:  # it is of the time after the frame
                break
            rows.append(row)
            start += len(line)
        return rows

    def _shape(self, frame: int, row: Mapping[str, str]) -> Shape:
        """Size and form of a track, or when it was seen last."""
        before = self._seen_before.get((frame, int(row["track_id"])))
        seen = row if before is None else _cells(self._line(before))
        area, major, minor = (float(seen[name] or 0) for name in _SIZES)
        return Shape(area, major, minor, math.radians(float(seen["angle_deg"] or 0)), 0.0)


def _timings(row: Mapping[str, Any]) -> Timings:
    """Where the time went; `done_ns` was not kept, and is 0."""
    stages = {f"{name}_ns": round(row["stage_ms"][name] * 1e6) for name in _STAGES}
    return Timings(**stages, done_ns=0, age_ns=round(row["age_ms"] * 1e6))


def _numbers(values: Any, *shape: int) -> F64:
    array = np.array(values, np.float64).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError("not finite")
    return array


def _detection(row: Mapping[str, Any]) -> Detection:
    major, minor = row["axes_px"]
    contour = row["contour_px"]
    return Detection(
        _numbers(row["centroid_px"], 2),
        _numbers(row["covariance_px2"], 2, 2),
        float(row["area_px2"]),
        (float(major), float(minor)),
        float(row["angle_rad"]),
        float(row["score"]),
        _box(row["box_px"]),
        None if contour is None else _numbers(contour, -1, 2).astype(np.float32),
    )


def _box(values: Any) -> tuple[float, float, float, float]:
    left, top, width, height = _numbers(values, 4).tolist()
    return left, top, width, height


def _track(row: Mapping[str, Any], detections: tuple[Detection, ...], time_ns: int) -> Track:
    shape, cov = row["shape"], row["state_cov"]
    measured: dict[str, Any] = {name: row.get(name) for name in _MEASURED}
    track = Track(
        int(row["id"]),
        TrackStatus(row["status"]),
        _numbers(row["centroid_px"], 2),
        _numbers(row["velocity_px_s"], 2),
        _numbers(row["covariance_px2"], 2, 2),
        _box(row["box_px"]),
        float(row["score"]),
        measurement=Measurement(**measured) if measured["area_px2"] else None,
        shape=None if shape is None else Shape(*(float(shape[name]) for name in _SHAPED)),
        collapsed=bool(row["collapsed"]),
        time_ns=int(time_ns),
        state_cov=None if cov is None else _numbers(cov, 4, 4),
    )
    places = row["detection"]
    if places is None or track.measurement is None:
        return track
    parts = [detections[i] for i in (places if isinstance(places, list) else [places])]
    return replace(track, detection=_as_seen(track, track.measurement, parts))


def _as_seen(track: Track, measured: Measurement, parts: Sequence[Detection]) -> Detection:
    """Give what a track was found as: a blob, or an ellipse where it was several, or a part."""
    if len(parts) == 1 and abs(parts[0].area_px2 - measured.area_px2) < _SAME_PX2:
        return parts[0]
    return _ellipse(track, measured, tuple(parts))


def _ellipse(track: Track, measured: Measurement, parts: tuple[Detection, ...] = ()) -> Detection:
    """Make what was seen of a track from what was measured of it."""
    return Detection(
        track.centroid_px,
        track.covariance_px2,
        measured.area_px2,
        (measured.major_px, measured.minor_px),
        math.radians(measured.angle_deg),
        track.score,
        track.box_px,
        parts_of=parts,
    )


def _cells(line: bytes) -> dict[str, str]:
    return dict(zip(_COLUMNS, line.decode("ascii").strip().split(","), strict=True))


def _track_of_row(row: Mapping[str, str], shape: Shape, time_ns: int) -> Track:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    x, y, vx, vy, xx, xy, yy = (float(row[name]) for name in _PLACE)
    measured: dict[str, Any] = {name: number(name) for name in _MEASURED if name in row}
    track = Track(
        int(row["track_id"]),
        TrackStatus(row["status"]),
        np.array([x, y]),
        np.array([vx, vy]),
        np.array([[xx, xy], [xy, yy]]),
        box_at(shape, x, y),
        number("score") or 0.0,
        measurement=Measurement(**measured) if measured["area_px2"] else None,
        shape=shape,
        time_ns=time_ns,
    )
    if track.measurement is None:
        return track
    return replace(track, detection=_ellipse(track, track.measurement))
