"""Scores of tracks against truth: found, told apart, how far off, and how sure of it.

The tables of both are laid side by side, a track is said to follow at most one object in each
frame, and everything else is counted from that. Objects that are known to be, and cannot be seen,
are not asked for, and what follows them is not wrong.
"""

import math
from dataclasses import dataclass

import numpy as np

from veintrack.tracker.frame import F64, Spacing
from veintrack.tracker.scoring.errors import (
    Consistency,
    Errors,
    consistency_of,
    errors_of,
    nees_of,
)
from veintrack.tracker.scoring.matching import Scene, lay_together, match
from veintrack.tracker.scoring.mot import (
    Similarity,
    TrackingScores,
    score_tracking,
    similarity_of,
)
from veintrack.tracker.scoring.rows import I64, Flags, Rows

__all__ = ["ObjectScore", "SizeErrors", "TrackScore", "score", "score_scene"]

_FALSE = 0.5  # a track that follows an object for less of its frames than this is a false one


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """How one object was followed.

    Attributes
    ----------
    id : int
        Its name in the truth.
    visible_frames, found_frames : int
        Frames in which it can be seen, and in how many of these a track follows it.
    confirm_s : float or None
        From its first visible frame to the first in which a confirmed track follows it; None where
        none ever does, or times are not known.
    tracks : tuple of int
        Every track that follows it, in the order of time.
    """

    id: int
    visible_frames: int
    found_frames: int
    confirm_s: float | None
    tracks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SizeErrors:
    """Relative errors of a size: their mean, and the mean and 95th percentile of their amount."""

    count: int
    bias: float
    mean: float
    p95: float


@dataclass(frozen=True, slots=True)
class TrackScore:
    """Everything that is said of tracks against truth.

    Attributes
    ----------
    frames : int
        Frames that count.
    seconds : float or None
        Their time; None where no file says it.
    similarity : str
        What HOTA and its like compare: overlap of the ``box``, or distance of the ``centroid``.
    near_px : float
        Largest distance of a track from the object that it follows.
    scores : TrackingScores
        HOTA and its like.
    recall : float or None
        Part of the visible objects' frames in which a track follows them.
    identity_kept : float or None
        Part of the objects that were found which one and the same track follows all the time.
    objects : tuple of ObjectScore
        One by one.
    confirm_s : float or None
        Mean time to a confirmed track, of the objects that get one.
    false_tracks : int
        Tracks that follow no object in more than half of their frames.
    false_tracks_min : float or None
        The same a minute.
    false_frames : float
        Part of the frames with a track that follows nothing.
    error_px, error_mm : Errors or None
        Distance of the centroids from those of the visible objects.
    seen, all_rows : Consistency or None
        Whether the stated covariance is true: of tracks that were seen in the frame; and of all,
        predicted ones and those of hidden objects too. None where none is stated.
    area, major, minor : SizeErrors or None
        Errors of the sizes, where both files hold them.
    """

    frames: int
    seconds: float | None
    similarity: Similarity
    near_px: float
    scores: TrackingScores
    recall: float | None
    identity_kept: float | None
    objects: tuple[ObjectScore, ...]
    confirm_s: float | None
    false_tracks: int
    false_tracks_min: float | None
    false_frames: float
    error_px: Errors | None
    error_mm: Errors | None
    seen: Consistency | None
    all_rows: Consistency | None
    area: SizeErrors | None
    major: SizeErrors | None
    minor: SizeErrors | None


def score(
    tracks: Rows,
    truth: Rows,
    *,
    spacing_mm: Spacing | None = None,
    near_px: float | None = None,
    similarity: Similarity | None = None,
    confirmed_only: bool = False,
    only_labelled: bool = False,
) -> TrackScore:
    """Score tracks against truth.

    Parameters
    ----------
    tracks, truth : Rows
        Of the same source.
    spacing_mm : tuple of float, optional
        ``(row_mm, col_mm)``: errors are given in mm too.
    near_px : float, optional
        Largest distance of a track from the object that it follows; half the objects' usual size
        where the truth states it, else 15.
    similarity : {"box", "centroid"}, optional
        What HOTA and its like compare; by default boxes where all rows have one.
    confirmed_only : bool
        Leave predicted tracks out.
    only_labelled : bool
        Leave out frames in which the truth has no row.

    Raises
    ------
    ValueError
        If the files are of different sources, or a number is out of range.
    BackendMissingError
        If trackeval is not installed.
    """
    if confirmed_only and tracks.confirmed is not None:
        tracks = tracks.take(tracks.confirmed)
    scene = lay_together(tracks, truth, only_labelled=only_labelled)
    near_px = scene.near_px if near_px is None else near_px
    if not 0 < near_px < math.inf:
        raise ValueError(f"near_px must be greater than 0 and finite, got {near_px}")
    return score_scene(
        scene,
        match(scene, near_px),
        near_px,
        similarity=similarity_of(scene, similarity),
        spacing_mm=spacing_mm,
    )


def score_scene(
    scene: Scene,
    followed: I64,
    near_px: float,
    *,
    similarity: Similarity,
    spacing_mm: Spacing | None = None,
) -> TrackScore:
    """Score what was paired already; see :func:`score`.

    Parameters
    ----------
    followed : ndarray of shape (N,), int64
        Of :func:`~veintrack.tracker.scoring.matching.match`, within `near_px`.
    """
    truth, tracks = scene.truth, scene.tracks
    pairs = _Pairs.of(scene, followed)
    found = pairs.only(pairs.visible)
    objects = _score_objects(scene, found)
    confirm_s = [o.confirm_s for o in objects if o.confirm_s is not None]
    kept = [len(o.tracks) == 1 for o in objects if o.tracks]
    wanted = int(scene.visible.sum())
    false = _false_tracks(scene, followed)
    minutes = scene.seconds / 60 if scene.seconds else None
    stray = np.unique(tracks.frame[followed < 0])
    return TrackScore(
        frames=len(scene.frame),
        seconds=scene.seconds,
        similarity=similarity,
        near_px=near_px,
        scores=score_tracking(scene, followed, near_px, similarity),
        recall=len(found.track) / wanted if wanted else None,
        identity_kept=float(np.mean(kept)) if kept else None,
        objects=objects,
        confirm_s=float(np.mean(confirm_s)) if confirm_s else None,
        false_tracks=false,
        false_tracks_min=false / minutes if minutes else None,
        false_frames=len(stray) / len(scene.frame),
        error_px=errors_of(found.offset_px),
        error_mm=errors_of(found.offset_px * spacing_mm[::-1]) if spacing_mm else None,
        seen=_consistency(scene, found.only(found.confirmed)),
        all_rows=_consistency(scene, pairs),
        area=_size_errors(tracks.area_px2, truth.area_px2, found),
        major=_size_errors(tracks.major_px, truth.major_px, found),
        minor=_size_errors(tracks.minor_px, truth.minor_px, found),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Tracks and the objects that they follow, in the order of time."""

    track: I64  # row of the tracks
    object: I64  # row of the truth
    offset_px: F64
    visible: Flags
    confirmed: Flags

    @classmethod
    def of(cls, scene: Scene, followed: I64) -> "_Pairs":
        track = np.flatnonzero(followed >= 0)
        of = followed[track]
        seen = scene.tracks.confirmed
        return cls(
            track,
            of,
            scene.tracks.xy_px[track] - scene.truth.xy_px[of],
            scene.visible[of],
            np.ones(len(track), bool) if seen is None else seen[track],
        )

    def only(self, which: Flags) -> "_Pairs":
        return _Pairs(
            self.track[which],
            self.object[which],
            self.offset_px[which],
            self.visible[which],
            self.confirmed[which],
        )


def _score_objects(scene: Scene, found: _Pairs) -> tuple[ObjectScore, ...]:
    """Say of each object that can ever be seen how it was followed."""
    visible = scene.truth.take(scene.visible)
    return tuple(
        _score_object(scene, number, visible.frame[visible.id == number], found)
        for number in np.unique(visible.id).tolist()
    )


def _score_object(scene: Scene, number: int, frames: I64, found: _Pairs) -> ObjectScore:
    own = found.only(scene.truth.id[found.object] == number)
    confirmed = scene.tracks.frame[own.track[own.confirmed]]
    confirm_s = None
    if len(confirmed):
        start_s, end_s = scene.time_of(np.array([frames[0], confirmed[0]])).tolist()
        confirm_s = end_s - start_s if np.isfinite(end_s - start_s) else None
    tracks = dict.fromkeys(scene.tracks.id[own.track].tolist())
    return ObjectScore(number, len(frames), len(own.track), confirm_s, tuple(tracks))


def _false_tracks(scene: Scene, followed: I64) -> int:
    """Count tracks that follow no object in more than half of their frames."""
    _, of, rows = np.unique(scene.tracks.id, return_inverse=True, return_counts=True)
    on_object = np.bincount(of, weights=followed >= 0, minlength=len(rows))
    return int((on_object < _FALSE * rows).sum())


def _consistency(scene: Scene, pairs: _Pairs) -> Consistency | None:
    cov = scene.tracks.cov_px2
    if cov is None:
        return None
    stated = pairs.only(np.isfinite(cov[pairs.track].sum(axis=(1, 2))))
    nees = nees_of(stated.offset_px, cov[stated.track])
    return consistency_of(nees, scene.truth.id[stated.object])


def _size_errors(of_tracks: F64 | None, of_truth: F64 | None, found: _Pairs) -> SizeErrors | None:
    if of_tracks is None or of_truth is None:
        return None
    true = of_truth[found.object]
    error = of_tracks[found.track] / np.where(true > 0, true, np.nan) - 1
    error = error[np.isfinite(error)]
    if not len(error):
        return None
    amount = np.abs(error)
    return SizeErrors(
        len(error), float(error.mean()), float(amount.mean()), float(np.percentile(amount, 95))
    )
