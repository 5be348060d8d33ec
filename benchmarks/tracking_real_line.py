"""What the runs of `tracking_real.py` share: pictures with times as a source, and their scores."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from tracking_warps import Place

from veintrack.tracker.frame import F32, F64, U8, Frame, FrameResult, Region, Track, TrackStatus
from veintrack.tracker.grid import fit, mask_to_grid
from veintrack.tracker.pipeline import Pipeline, PipelineSettings
from veintrack.tracker.scoring.rows import Rows, rows_of_tracks
from veintrack.tracker.scoring.score import TrackScore, score
from veintrack.tracker.segment import GridSegmenter, InWork
from veintrack.tracker.sources.base import OneShot, SourceInfo
from veintrack.tracker.tracks import VeinTracker

__all__ = ["BELIEVED", "FOUND", "Gathered", "MaskSegmenter", "follow", "grey", "overlap", "rms"]

BELIEVED = (TrackStatus.CONFIRMED, TrackStatus.COASTING)
FOUND = 0.5  # a track whose box overlaps a vessel's by less follows something else
_RUN = 100_000  # what belongs to one run is numbered from so many times its number
_RUN_S = 1000.0


class TimedPictures(OneShot):
    """Pictures with a time each, as a source."""

    def __init__(
        self, pictures: Iterable[U8], times_s: Sequence[float], shape_px: tuple[int, int]
    ) -> None:
        self._pictures, self._times_s = pictures, times_s
        self.info = SourceInfo(
            name="pictures",
            kind="array",
            live=False,
            shape_px=shape_px,
            rate_hz=None,
            frame_count=len(times_s),
            spacing_mm=None,
            times_from="the caller",
        )

    def __iter__(self) -> Iterator[Frame]:
        for index, (time_s, pixels) in enumerate(zip(self._times_s, self._pictures, strict=True)):
            yield Frame(pixels, index, round(time_s * 1e9))

    def close(self) -> None:
        """Nothing is held."""


class MaskSegmenter:
    """Labelled masks in place of a network, 255 on vessels; asked frame by frame, in order."""

    threshold = 0.5
    input_shape = (256, 256)
    slots = 1

    def __init__(self, masks: Iterable[U8]) -> None:
        self._masks = iter(masks)

    def start(self, pixels: U8, region: Region | None = None) -> InWork:
        """Begin a frame."""
        grid = fit((pixels.shape[0], pixels.shape[1]), self.input_shape, region)
        picture: U8 = cv2.resize(  # type: ignore[assignment]
            pixels, grid.inner[2:], interpolation=cv2.INTER_AREA
        )
        return InWork(0, grid, picture)

    def ready(self, work: InWork) -> bool:
        """Say that it can be asked for."""
        del work
        return True

    def result(self, work: InWork) -> F32:
        """Answer with the next mask."""
        part: F32 = mask_to_grid(next(self._masks), work.grid) / np.float32(255)
        return part


def follow(
    pictures: Sequence[U8], times_s: Sequence[float], segmenter: GridSegmenter
) -> Iterator[FrameResult]:
    """Run the line over pictures that are scan area throughout."""
    shape = (pictures[0].shape[0], pictures[0].shape[1])
    return iter(
        Pipeline(
            TimedPictures(pictures, times_s, shape),
            segmenter,
            VeinTracker(),
            PipelineSettings(crop="none", contours=False),
        )
    )


@dataclass(slots=True)
class Gathered:
    """Tracks and truth of several runs, as if they were one: no number is in two of them."""

    moments: list[tuple[int, float, list[Track]]] = field(default_factory=list)
    truth: list[tuple[int, float, Place]] = field(default_factory=list)

    def add(
        self, run: int, result: FrameResult, places: Iterable[Place]
    ) -> tuple[list[Track], list[Place]]:
        """Take in one frame of a run.

        Returns
        -------
        tracks : list of Track
            The confirmed and coasting ones, numbered anew.
        places : list of Place
            What was given, numbered anew.
        """
        base = run * _RUN
        frame, time_s = base + result.frame.index, run * _RUN_S + result.frame.capture_ns * 1e-9
        tracks = [replace(t, id=base + t.id) for t in result.tracks if t.status in BELIEVED]
        true = [replace(p, vessel=base + p.vessel) for p in places]
        self.moments.append((frame, time_s, tracks))
        self.truth += [(frame, time_s, place) for place in true]
        return tracks, true

    def score(self, ids: set[int] | None = None) -> TrackScore:
        """Score all runs together; of the tracks only those with these ids, if given."""
        kept = [
            (frame, time_s, [t for t in tracks if ids is None or t.id in ids])
            for frame, time_s, tracks in self.moments
        ]
        truth = Rows(
            frame=np.array([frame for frame, *_ in self.truth], np.int64),
            id=np.array([place.vessel for *_, place in self.truth], np.int64),
            time_s=np.array([time_s for _, time_s, _ in self.truth], np.float64),
            xy_px=np.array([place.xy_px for *_, place in self.truth]),
            box_px=np.array([place.box_px for *_, place in self.truth]),
            visible=np.array([place.visible for *_, place in self.truth], np.bool_),
        )
        return score(rows_of_tracks(kept), truth)


def overlap(
    some: Sequence[tuple[float, float, float, float]],
    others: Sequence[tuple[float, float, float, float]],
) -> F64:
    """Intersection over union of boxes ``(left, top, width, height)``, each with each."""
    a, b = (np.array(boxes).reshape(-1, 4) for boxes in (some, others))
    a, b = a[:, None], b[None]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    both = np.prod(np.maximum(high - low, 0), axis=-1)
    shared: F64 = both / (np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - both)
    return shared


def rms(offsets: F64) -> float:
    """Root of the mean squared length of vectors, shape (N, 2)."""
    return float(np.sqrt(np.square(offsets).sum(axis=1).mean())) if len(offsets) else float("nan")


def grey(path: Path) -> U8:
    """Read a grey picture.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise FileNotFoundError(f"no picture at {path}")
    return np.asarray(pixels, np.uint8)
