"""How two runs over the same frames differ: who was followed, where, and by which identity."""

from dataclasses import dataclass, replace

import numpy as np

from veintrack.tracker.frame import F64
from veintrack.tracker.scoring.matching import Scene, lay_together, match
from veintrack.tracker.scoring.rows import I64, Rows

__all__ = ["Distance", "Pair", "RunDiff", "Together", "compare_runs", "put_together"]

_STEADY_S = 0.05  # by so much may the difference of two runs' times change: rounding, no more


@dataclass(frozen=True, slots=True)
class Distance:
    """How far centroids lie apart, px.

    Attributes
    ----------
    same : int
        Rows with the very same centroid, as it was written.
    median, p95, maximum : float
        Over the rows that belong together.
    """

    same: int
    median: float
    p95: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two identities that follow the same vessel.

    Attributes
    ----------
    a, b : int
        Identity in either run.
    frames : int
        In which they do.
    first, last : int
        Index of the first and last of them.
    distance : Distance
        Between their centroids.
    """

    a: int
    b: int
    frames: int
    first: int
    last: int
    distance: Distance


@dataclass(frozen=True, slots=True)
class RunDiff:
    """How two runs differ.

    Attributes
    ----------
    frames_a, frames_b, frames_both : int
        Frames that were looked at by either run, and by both.
    rows_a, rows_b, rows_both : int
        Tracks in these frames, over all frames; `rows_both` belong together. Only frames that
        both runs looked at count.
    status : int
        Rows that belong together, of which one was seen and the other predicted.
    distance : Distance or None
        Over all rows that belong together; None if none do.
    pairs : tuple of Pair
        Identities that belong together, by those of the first run.
    alone_a, alone_b : tuple of tuple
        ``(identity, frames)`` of tracks that have a counterpart in no frame.
    near_px : float
        Up to which distance tracks belong together.
    """

    frames_a: int
    frames_b: int
    frames_both: int
    rows_a: int
    rows_b: int
    rows_both: int
    status: int
    distance: Distance | None
    pairs: tuple[Pair, ...]
    alone_a: tuple[tuple[int, int], ...]
    alone_b: tuple[tuple[int, int], ...]
    near_px: float

    @property
    def same(self) -> bool:
        """Whether nothing differs that the files tell."""
        return (
            self.frames_a == self.frames_b == self.frames_both
            and self.rows_a == self.rows_b == self.rows_both
            and self.status == 0
            and (self.distance is None or self.distance.same == self.rows_both)
            and len({p.a for p in self.pairs}) == len(self.pairs)
            and all(p.a == p.b for p in self.pairs)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """Two runs, and what in them belongs together.

    Attributes
    ----------
    scene : Scene
        The first run as the truth, the second as the tracks.
    partner : ndarray of shape (N,), int64
        For each row of the second run that of the first; -1 where there is none.
    near_px : float
        Up to which distance rows belong together.
    frames_a, frames_b : ndarray, int64
        Index of every frame that either run looked at.
    """

    scene: Scene
    partner: I64
    near_px: float
    frames_a: I64
    frames_b: I64

    @property
    def rows(self) -> tuple[I64, I64]:
        """Rows of the first and of the second run that belong together."""
        second = np.flatnonzero(self.partner >= 0)
        return self.partner[second], second

    @property
    def away_px(self) -> F64:
        """Distance of the centroids of :attr:`rows`."""
        first, second = self.rows
        away: F64 = np.hypot(*(self.scene.tracks.xy_px[second] - self.scene.truth.xy_px[first]).T)
        return away


def put_together(a: Rows, b: Rows, near_px: float | None = None) -> Together:
    """Find what in two runs belongs together.

    Parameters
    ----------
    a, b : Rows
        Of the runs.
    near_px : float, optional
        Largest distance; half the usual size of the first run's tracks by default.

    Raises
    ------
    ValueError
        If they tell of different sources, or no frame is in both.
    """
    frames_a, frames_b = _frames(a), _frames(b)
    both = np.intersect1d(frames_a, frames_b)
    if not len(both):
        raise ValueError("the runs have no frame in common: they must be of the same source")
    _check_clocks(a, b)
    # Of another beginning, as after --seek, the same frames have other times.
    timeless = replace(b, time_s=np.full(len(b), np.nan), all_frames=None, all_time_s=None)
    scene = lay_together(
        timeless.take(np.isin(b.frame, both)),
        replace(
            a.take(np.isin(a.frame, both)),
            all_frames=both,
            all_time_s=np.array([_times(a).get(f, np.nan) for f in both.tolist()]),
        ),
    )
    near_px = scene.near_px if near_px is None else near_px
    return Together(scene, match(scene, near_px), near_px, frames_a, frames_b)


def compare_runs(together: Together) -> RunDiff:
    """Say how two runs differ."""
    scene, (first, second) = together.scene, together.rows
    away = together.away_px
    frames = scene.tracks.frame[second]
    ids = np.stack([scene.truth.id[first], scene.tracks.id[second]], axis=1)
    pairs = []
    for a, b in np.unique(ids, axis=0).tolist():
        own = (ids == (a, b)).all(axis=1)
        distance = _distance(away[own])
        if distance is not None:
            at = frames[own]
            pairs.append(Pair(a, b, int(own.sum()), int(at.min()), int(at.max()), distance))
    return RunDiff(
        frames_a=len(together.frames_a),
        frames_b=len(together.frames_b),
        frames_both=len(np.intersect1d(together.frames_a, together.frames_b)),
        rows_a=len(scene.truth),
        rows_b=len(scene.tracks),
        rows_both=len(second),
        status=_unlike(scene, first, second),
        distance=_distance(away),
        pairs=tuple(pairs),
        alone_a=_alone(scene.truth, {p.a for p in pairs}),
        alone_b=_alone(scene.tracks, {p.b for p in pairs}),
        near_px=together.near_px,
    )


def _frames(rows: Rows) -> I64:
    """Every frame that was looked at, as far as the file tells."""
    return np.unique(rows.frame if rows.all_frames is None else rows.all_frames)


def _times(rows: Rows) -> dict[int, float]:
    times = dict(zip(rows.frame.tolist(), rows.time_s.tolist(), strict=True))
    if rows.all_frames is not None and rows.all_time_s is not None:
        times.update(zip(rows.all_frames.tolist(), rows.all_time_s.tolist(), strict=True))
    return times


def _check_clocks(a: Rows, b: Rows) -> None:
    """Refuse runs whose times differ by more than where they begin."""
    first, second = _times(a), _times(b)
    off = np.array([second[f] - first[f] for f in first.keys() & second.keys()])
    off = off[np.isfinite(off)]
    if len(off) and float(np.ptp(off)) > _STEADY_S:
        raise ValueError(
            f"the times of the same frames drift apart by {np.ptp(off):.3g} s: "
            "the runs must be of the same source"
        )


def _distance(away_px: F64) -> Distance | None:
    if not len(away_px):
        return None
    median, p95 = np.percentile(away_px, (50, 95)).tolist()
    return Distance(int((away_px == 0).sum()), median, p95, float(away_px.max()))


def _unlike(scene: Scene, first: I64, second: I64) -> int:
    a, b = scene.truth.confirmed, scene.tracks.confirmed
    return 0 if a is None or b is None else int((a[first] != b[second]).sum())


def _alone(rows: Rows, paired: set[int]) -> tuple[tuple[int, int], ...]:
    ids, counts = np.unique(rows.id, return_counts=True)
    together = zip(ids.tolist(), counts.tolist(), strict=True)
    return tuple((number, count) for number, count in together if number not in paired)
