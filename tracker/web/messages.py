"""What the run and its page tell each other, through a pipe."""

from collections import deque
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from time import monotonic_ns
from typing import Any, Literal

import numpy as np

from veintrack.tracker.controls import ControlState
from veintrack.tracker.frame import (
    U8,
    Detection,
    FrameResult,
    PictureState,
    Region,
    SourceState,
    Track,
    TrackStatus,
)

__all__ = [
    "Ask",
    "Figures",
    "News",
    "Picture",
    "Setting",
    "Tally",
    "TrackRow",
    "picture_of",
    "receive",
    "rows_of",
    "send_picture",
]

_BELIEVED = (TrackStatus.CONFIRMED, TrackStatus.COASTING)
_SECOND_NS = 1_000_000_000
_AGES = 256  # frames over which the spread of the ages is taken

#: What a page may ask for, and the value that comes with it.
Ask = tuple[
    Literal["ready", "failed", "looking", "record", "snapshot", "pause", "step", "threshold"],
    bool | float | str | None,
]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a page must know when it begins.

    Attributes
    ----------
    hosts : frozenset of str
        Names by which it may be asked for.
    port : int
        Where it listens.
    token : str
        What the first visit must bring along; empty where none is asked for.
    runs : str
        Folder of the runs whose recordings are listed.
    source : str
        What is looked at, in words.
    """

    hosts: frozenset[str]
    port: int
    token: str
    runs: str
    source: str


@dataclass(frozen=True, slots=True)
class Figures:
    """How the run does.

    Attributes
    ----------
    frames, drops, too_old : int
        Frames seen; frames that never came to be looked at; frames whose tracks were predicted,
        as they were too old.
    fps : float
        Frames in the last second.
    age_ms, age_p95_ms : float
        Age of a frame when its tracks were ready: the middle and the 95th percentile of the last
        256 frames.
    """

    frames: int = 0
    drops: int = 0
    too_old: int = 0
    fps: float = 0.0
    age_ms: float = 0.0
    age_p95_ms: float = 0.0


class Tally:
    """Counts results; costs the thread that tracks a microsecond each."""

    def __init__(self) -> None:
        self._frames = self._drops = self._too_old = 0
        self._last_index: int | None = None
        self._recent: deque[tuple[int, int]] = deque(maxlen=_AGES)  # done_ns, age_ns

    def count(self, result: FrameResult) -> None:
        """Take in one result."""
        if not result.fresh:
            return
        index = result.frame.index
        if self._last_index is not None:
            self._drops += max(0, index - self._last_index - 1)
        self._last_index = index
        self._frames += 1
        self._too_old += not result.segmented
        self._recent.append((result.timings.done_ns, result.timings.age_ns))

    def figures(self) -> Figures:
        """Sum up; any thread may ask."""
        recent = list(self._recent)
        if not recent:
            return Figures()
        since_ns = monotonic_ns() - _SECOND_NS
        done_ns = [done for done, _ in recent if done > since_ns]
        # A second may hold more than is kept: then by the time that these took.
        span_ns = _SECOND_NS if len(done_ns) < len(recent) else done_ns[-1] - done_ns[0]
        ages_ms = np.percentile([age * 1e-6 for _, age in recent], (50, 95))
        return Figures(
            self._frames,
            self._drops,
            self._too_old,
            len(done_ns) / max(span_ns, 1) * 1e9 if len(done_ns) > 1 else float(len(done_ns)),
            *map(float, ages_ms),
        )


@dataclass(frozen=True, slots=True)
class TrackRow:
    """One track, for the table and the plots.

    Attributes
    ----------
    id : int
        Its identity.
    status : str
        ``confirmed``, ``coasting`` or ``collapsed``.
    diameter, depth, area : float or None
        Minor axis, depth of the centroid below the top of the scan area, area: in mm and mm2
        where the spacing is known, else in px and px2. None while it is not seen.
    collapse, pulse_hz, likeness, likeness_sd : float or None
        As in :class:`~veintrack.tracker.frame.Measurement`.
    """

    id: int
    status: str
    diameter: float | None = None
    depth: float | None = None
    area: float | None = None
    collapse: float | None = None
    pulse_hz: float | None = None
    likeness: float | None = None
    likeness_sd: float | None = None


def rows_of(result: FrameResult) -> tuple[TrackRow, ...]:
    """Give the tracks that are believed, for the table."""
    top_px = result.scan_area_px[1] if result.scan_area_px else 0
    return tuple(_row(track, top_px) for track in result.tracks if track.status in _BELIEVED)


def _row(track: Track, top_px: int) -> TrackRow:
    m = track.measurement
    status = "collapsed" if track.collapsed else track.status.value
    if m is None:
        return TrackRow(track.id, status)
    in_px = m.minor_mm is None
    return TrackRow(
        track.id,
        status,
        m.minor_px if in_px else m.minor_mm,
        float(track.centroid_px[1]) - top_px if in_px else m.depth_mm,
        m.area_px2 if in_px else m.area_mm2,
        m.collapse,
        m.pulse_hz,
        m.vein_likeness,
        m.vein_likeness_sd,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """The scan area of a result, and what is to be drawn on it. Nothing else leaves the run.

    Attributes
    ----------
    pixels : ndarray of shape (h, w), uint8
        The scan area.
    area_px : tuple of int
        ``(x, y, w, h)``: where it lies in the frame.
    shape_px : tuple of int
        ``(H, W)`` of the frame.
    result : FrameResult
        Tracks and states; its frame has one black pixel.
    """

    pixels: U8
    area_px: Region
    shape_px: tuple[int, int]
    result: FrameResult

    def whole(self) -> FrameResult:
        """Put the scan area back to where it lay, on black."""
        x, y, width, height = self.area_px
        pixels = np.zeros(self.shape_px, np.uint8)
        pixels[y : y + height, x : x + width] = self.pixels
        return replace(self.result, frame=replace(self.result.frame, pixels=pixels))


_BLACK = np.zeros((1, 1), np.uint8)


def picture_of(result: FrameResult) -> Picture | None:
    """Cut the scan area out; None while it is looked for: the rest may name the patient."""
    if not result.scan_area_settled:
        return None
    height, width = shape_px = result.frame.pixels.shape[:2]
    x, y, w, h = area_px = result.scan_area_px or (0, 0, width, height)
    light = replace(
        result,
        frame=replace(result.frame, pixels=_BLACK),
        detections=(),
        tracks=tuple(_light(t) for t in result.tracks if t.status in _BELIEVED),
    )
    pixels = np.ascontiguousarray(result.frame.pixels[y : y + h, x : x + w])
    return Picture(pixels, area_px, shape_px, light)


def _light(track: Track) -> Track:
    """Leave out of a track what is not drawn, and costs most to send."""
    seen: Detection | None = track.detection
    if seen is None:
        return track
    return replace(track, detection=replace(seen, patch=None, parts_of=()))


def send_picture(pipe: "Connection[Any, Any]", picture: Picture) -> None:
    """Send a picture. Its pixels go as they are: to pickle them takes longer than all the rest."""
    pipe.send(replace(picture, pixels=_BLACK))
    pipe.send_bytes(picture.pixels.data.cast("B"))


def receive(pipe: "Connection[Any, Any]") -> "News | Picture":
    """Wait for what the run tells.

    Raises
    ------
    EOFError, OSError
        If the run is over.
    """
    told: News | Picture = pipe.recv()
    if isinstance(told, News):
        return told
    pixels = np.frombuffer(pipe.recv_bytes(), np.uint8)
    return replace(told, pixels=pixels.reshape(told.area_px[:1:-1]))


@dataclass(frozen=True, slots=True, eq=False)
class News:
    """How the run stands.

    Attributes
    ----------
    time_ns : int
        When the tracks hold; 0 before the first result.
    rows : tuple of TrackRow
        The tracks.
    millimetres : bool
        Whether these are in mm, not in px.
    figures : Figures
        How the run does.
    control : ControlState
        What was asked of it.
    source : SourceState
        Whether the source delivers.
    picture_state : PictureState
        What the picture is good for.
    settled : bool
        Whether the scan area is known; there is no picture before.
    """

    time_ns: int
    rows: tuple[TrackRow, ...]
    millimetres: bool
    figures: Figures
    control: ControlState
    source: SourceState
    picture_state: PictureState
    settled: bool
