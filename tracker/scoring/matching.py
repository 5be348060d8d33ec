"""Which track follows which object, frame by frame."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from veintrack.tracker.frame import F64
from veintrack.tracker.scoring.rows import I64, Flags, Rows

__all__ = ["Scene", "lay_together", "match"]

_CLOCKS_S = 0.5  # files whose times differ by more than this are not of the same source
_NEVER = np.iinfo(np.int64).min  # no track has this number
_NEAR_PX = 15.0  # where nothing is known of the objects' size


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Tracks and truth of the same frames.

    Attributes
    ----------
    truth, tracks : Rows
        Sorted by frame and object.
    frame : ndarray of shape (F,), int64
        Every frame that counts, in order.
    time_s : ndarray of shape (F,), float64
        Its time; NaN where no file says it.
    truth_at, tracks_at : list of slice
        The rows of each frame.
    """

    truth: Rows
    tracks: Rows
    frame: I64
    time_s: F64
    truth_at: list[slice]
    tracks_at: list[slice]

    @property
    def visible(self) -> Flags:
        """Which rows of the truth are to be found, shape (N,)."""
        seen = self.truth.visible
        return np.ones(len(self.truth), bool) if seen is None else seen

    @property
    def near_px(self) -> float:
        """Half the usual size of an object: what is farther from its centre is beside it."""
        sizes = self.truth.major_px
        if sizes is None and self.truth.box_px is not None:
            sizes = self.truth.box_px[:, 2:].max(axis=1)
        known = (
            sizes[(sizes > 0) & np.isfinite(sizes) & self.visible]
            if sizes is not None
            else np.empty(0)
        )
        return float(np.median(known)) / 2 if known.size else _NEAR_PX

    @property
    def seconds(self) -> float | None:
        """How long it lasts, each frame counted with the time to the next; None if not known."""
        known = self.time_s[np.isfinite(self.time_s)]
        lasts_s = float(known[-1] - known[0] + np.median(np.diff(known))) if len(known) > 1 else 0.0
        return lasts_s if lasts_s > 0 else None

    def time_of(self, frames: I64) -> F64:
        """Look up the times of some frames."""
        return self.time_s[np.searchsorted(self.frame, frames)]


def lay_together(tracks: Rows, truth: Rows, *, only_labelled: bool = False) -> Scene:
    """Sort both by frame, and find the times.

    Parameters
    ----------
    only_labelled : bool
        Leave out frames in which the truth has no row: it was not looked at there.

    Raises
    ------
    ValueError
        If the files' times tell that they are of different sources, or no frame is left.
    """
    known = _times(truth)
    clock = _times(tracks)
    both = np.array([abs(known[f] - clock[f]) for f in known.keys() & clock.keys()])
    off_s = float(np.median(both[np.isfinite(both)])) if np.isfinite(both).any() else 0.0
    if off_s > _CLOCKS_S:
        raise ValueError(
            f"the times of tracks and truth differ by {off_s:.3g} s for the same frames: "
            "they must be of the same source, with time_s counted from its first frame"
        )
    labelled = set(truth.frame.tolist()) if only_labelled else known.keys() | clock.keys()
    if not labelled:
        raise ValueError("neither the tracks nor the truth hold a frame")
    frame = np.array(sorted(labelled), np.int64)
    stated = [known.get(f, np.nan) for f in frame.tolist()]
    measured = [clock.get(f, np.nan) for f in frame.tolist()]
    tracks, truth = (_sorted(rows, frame) for rows in (tracks, truth))
    return Scene(
        truth,
        tracks,
        frame,
        np.where(np.isnan(stated), measured, stated),
        _slices(truth, frame),
        _slices(tracks, frame),
    )


def _times(rows: Rows) -> dict[int, float]:
    """Every frame that was looked at, with its time."""
    times = dict(zip(rows.frame.tolist(), rows.time_s.tolist(), strict=True))
    if rows.all_frames is not None and rows.all_time_s is not None:
        times.update(zip(rows.all_frames.tolist(), rows.all_time_s.tolist(), strict=True))
    return times


def _sorted(rows: Rows, frame: I64) -> Rows:
    order = np.lexsort((rows.id, rows.frame))
    return rows.take(order[np.isin(rows.frame[order], frame)])


def _slices(rows: Rows, frame: I64) -> list[slice]:
    starts = np.searchsorted(rows.frame, frame, "left").tolist()
    ends = np.searchsorted(rows.frame, frame, "right").tolist()
    return [slice(a, b) for a, b in zip(starts, ends, strict=True)]


def match(scene: Scene, near_px: float) -> I64:
    """Find the object that each track follows in each frame.

    As in CLEAR (Bernardin and Stiefelhagen, EURASIP J. Image Video Process., 2008): what belonged
    together when the object was last found stays together while it is near; the others are paired
    so that as many as possible are, at the least total distance.

    Parameters
    ----------
    near_px : float
        Largest distance of a track from the object that it follows.

    Returns
    -------
    ndarray of shape (N,), int64
        For each row of the tracks the row of the truth; -1 where it follows none.
    """
    found = np.full(len(scene.tracks), -1, np.int64)
    last: dict[int, int] = {}  # object -> track
    for at, seen in _frames(scene):
        objects, tracks = scene.truth.id[at], scene.tracks.id[seen]
        away = _distances(scene.truth.xy_px[at], scene.tracks.xy_px[seen])
        allowed = away <= near_px
        kept = np.array([last.get(o, _NEVER) for o in objects.tolist()])[:, None] == tracks[None]
        # To keep a pair is worth more than any other pair; that, more than a shorter distance.
        gain = allowed * (1.0 + 1e3 * kept + 1e-3 * (1 - away / near_px))
        for row, column in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
            if allowed[row, column]:
                found[seen.start + column] = at.start + row
                last[int(objects[row])] = int(tracks[column])
    return found


def _frames(scene: Scene) -> Iterator[tuple[slice, slice]]:
    """Rows of the frames that hold both objects and tracks."""
    for at, seen in zip(scene.truth_at, scene.tracks_at, strict=True):
        if at.start < at.stop and seen.start < seen.stop:
            yield at, seen


def _distances(first: F64, second: F64) -> F64:
    """Distance of each of the first, shape (A, 2), from each of the second, shape (B, 2)."""
    away: F64 = np.hypot(*(first[:, None] - second[None]).transpose(2, 0, 1))
    return away
