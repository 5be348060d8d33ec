"""Tracks or truth as a table: one row per object and frame."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veintrack.errors import OutputError
from veintrack.tracker.frame import F64, Track, TrackStatus

if TYPE_CHECKING:
    from veintrack.tracker.phantom import VesselTruth

__all__ = [
    "I64",
    "TRUTH_COLUMNS",
    "Flags",
    "Rows",
    "rows_of_tracks",
    "rows_of_truth",
    "write_truth",
]

I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: Header of a truth file; the columns from `left_px` on may be missing.
TRUTH_COLUMNS = (
    "frame,time_s,track_id,x_px,y_px,left_px,top_px,width_px,height_px,area_px2,major_px,minor_px,"
    "visible"
)
_BELIEVED = (TrackStatus.CONFIRMED, TrackStatus.COASTING)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Tracks or truth, one row per object and frame, in any order.

    Attributes
    ----------
    frame : ndarray of shape (N,), int64
        Index of the frame in its source, from 0.
    id : ndarray of shape (N,), int64
        Which object.
    time_s : ndarray of shape (N,), float64
        When, since the source's first frame; NaN where the file does not say it.
    xy_px : ndarray of shape (N, 2), float64
        Centroid.
    box_px : ndarray of shape (N, 4), float64, or None
        ``(left, top, width, height)`` of the outer edges; NaN in rows without one.
    cov_px2 : ndarray of shape (N, 2, 2), float64, or None
        Stated uncertainty of the centroid.
    confirmed : ndarray of shape (N,), bool, or None
        False where a track is predicted, not seen. None: all were seen.
    visible : ndarray of shape (N,), bool, or None
        False where an object is known to be, and cannot be seen. None: all can be seen.
    area_px2, major_px, minor_px : ndarray of shape (N,), float64, or None
        Size; NaN in rows without one.
    all_frames, all_time_s : ndarray of shape (F,), or None
        Every frame that was looked at, also those without a row, and its time.
    """

    frame: I64
    id: I64
    time_s: F64
    xy_px: F64
    box_px: F64 | None = None
    cov_px2: F64 | None = None
    confirmed: Flags | None = None
    visible: Flags | None = None
    area_px2: F64 | None = None
    major_px: F64 | None = None
    minor_px: F64 | None = None
    all_frames: I64 | None = None
    all_time_s: F64 | None = None

    def __post_init__(self) -> None:
        count = len(self.frame)
        for name, shape in _SHAPES.items():
            value = getattr(self, name)
            if value is not None and value.shape != (count, *shape):
                raise ValueError(f"{name} must be {(count, *shape)}, got {value.shape}")
        if not np.isfinite(self.xy_px).all():
            raise ValueError("xy_px must be finite")
        if (self.all_frames is None) != (self.all_time_s is None):
            raise ValueError("all_frames and all_time_s must be given together")
        both = np.stack([self.frame, self.id], axis=1)
        pairs, times = np.unique(both, axis=0, return_counts=True)
        if (times > 1).any():
            frame, number = pairs[times > 1][0]
            raise ValueError(f"frame {frame} holds the object {number} more than once")

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, which: Flags | I64) -> "Rows":
        """Choose rows by a mask, or put them in a new order by their places."""
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen = {n: v[which] for n, v in kept.items() if n in _SHAPES and v is not None}
        return Rows(**{**kept, **chosen})


#: What a column holds in each row.
_SHAPES: dict[str, tuple[int, ...]] = {
    "frame": (),
    "id": (),
    "time_s": (),
    "xy_px": (2,),
    "box_px": (4,),
    "cov_px2": (2, 2),
    "confirmed": (),
    "visible": (),
    "area_px2": (),
    "major_px": (),
    "minor_px": (),
}


def rows_of_tracks(moments: Iterable[tuple[int, float, Sequence[Track]]]) -> Rows:
    """Gather what a tracker reported.

    Parameters
    ----------
    moments : iterable of tuple
        Frame, its time in seconds, and the tracks; tentative and lost ones are left out.
    """
    every = list(moments)
    rows = [(f, s, t) for f, s, tracks in every for t in tracks if t.status in _BELIEVED]
    shapes = [track.shape for *_, track in rows]
    size = np.array(
        [(np.nan,) * 3 if s is None else (s.area_px2, s.major_px, s.minor_px) for s in shapes]
    ).reshape(-1, 3)
    return Rows(
        frame=np.array([frame for frame, *_ in rows], np.int64),
        id=np.array([track.id for *_, track in rows], np.int64),
        time_s=np.array([time_s for _, time_s, _ in rows], np.float64),
        xy_px=np.array([track.centroid_px for *_, track in rows]).reshape(-1, 2),
        box_px=np.array([track.box_px for *_, track in rows]).reshape(-1, 4),
        cov_px2=np.array([track.covariance_px2 for *_, track in rows]).reshape(-1, 2, 2),
        confirmed=np.array([t.status is TrackStatus.CONFIRMED for *_, t in rows], np.bool_),
        area_px2=size[:, 0],
        major_px=size[:, 1],
        minor_px=size[:, 2],
        all_frames=np.array([frame for frame, *_ in every], np.int64),
        all_time_s=np.array([time_s for _, time_s, _ in every], np.float64),
    )


def rows_of_truth(moments: "Iterable[tuple[int, float, Sequence[VesselTruth]]]") -> Rows:
    """Gather the phantom's truth.

    Parameters
    ----------
    moments : iterable of tuple
        Frame, its time in seconds, and its vessels. A hidden one stands where all of it is.
    """
    every = list(moments)
    rows = [(frame, time_s, v) for frame, time_s, vessels in every for v in vessels]
    visible = np.array([v.visible for *_, v in rows], np.bool_)
    seen = np.where(visible, 1.0, np.nan)
    return Rows(
        frame=np.array([frame for frame, *_ in rows], np.int64),
        id=np.array([v.id for *_, v in rows], np.int64),
        time_s=np.array([time_s for _, time_s, _ in rows], np.float64),
        xy_px=np.array([v.centroid_px if v.visible else v.place_px for *_, v in rows]).reshape(
            -1, 2
        ),
        box_px=np.array([v.box_px for *_, v in rows]).reshape(-1, 4) * seen[:, None],
        visible=visible,
        area_px2=np.array([v.area_px2 for *_, v in rows], np.float64) * seen,
        major_px=np.array([v.axes_px[0] for *_, v in rows], np.float64) * seen,
        minor_px=np.array([v.axes_px[1] for *_, v in rows], np.float64) * seen,
        all_frames=np.array([frame for frame, *_ in every], np.int64),
        all_time_s=np.array([time_s for _, time_s, _ in every], np.float64),
    )


def write_truth(path: Path, rows: Rows) -> None:
    """Write a truth file: CSV with the columns of :data:`TRUTH_COLUMNS`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    count = len(rows)
    blank = np.full(count, np.nan)
    box = np.full((count, 4), np.nan) if rows.box_px is None else rows.box_px
    sizes = (blank if c is None else c for c in (rows.area_px2, rows.major_px, rows.minor_px))
    visible = np.ones(count, np.bool_) if rows.visible is None else rows.visible
    columns = zip(
        rows.frame, rows.time_s, rows.id, *rows.xy_px.T, *box.T, *sizes, visible, strict=True
    )
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(TRUTH_COLUMNS.split(","))
            for frame, time_s, number, *values, seen in columns:
                cells = ["" if np.isnan(v) else f"{v:.4f}" for v in values]
                at = "" if np.isnan(time_s) else f"{time_s:.6f}"
                table.writerow([int(frame), at, int(number), *cells, int(seen)])
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror}") from error
