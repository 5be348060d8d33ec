"""Which detection belongs to which track.

First each detection goes to one track at most, so that the whole is most likely. What is left over
is then looked at more closely: a track without a detection may share the blob of another, and a
detection without a track may be a piece of a vessel that fell apart.
"""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from veintrack.tracker import blobs
from veintrack.tracker.blobs import Place
from veintrack.tracker.detect import moments_of
from veintrack.tracker.frame import F64, Detection, Shape
from veintrack.tracker.kalman import Gaussian
from veintrack.tracker.shape import grown, size_noise_px2

__all__ = [
    "Expected",
    "Matches",
    "associate",
    "clear_pairs",
    "doubt_size",
    "mahalanobis2",
]

_AREA_SD = 0.25  # how much of a vessel's area the network may get wrong in one frame
_UNLIKE = 8.0  # the most that another size and place without overlap cost
_LOG_DET = 100.0  # more than the logarithm of any covariance's determinant, px⁴
_PIXEL_PX2 = 1 / 12  # second moment of a pixel: what is seen is no smaller
_NEAR = 8.0  # squared distance of two like ellipses that touch, in their moments' metric
_INSIDE = 0.5  # part of a track's ellipse that a blob covers, if it holds that vessel
_LEAST_PART = 0.55  # of a vessel's area; less of it is hidden, not beside
_OTHER_SIZE = 0.6  # ratio of areas from which a detection is of another size than expected
_SMALL = 0.85  # of a vessel's area; with less of it a further piece is looked for
_LEAST_FILLING = 0.5  # of the ellipse of joined pieces: more of a gap, and they are two vessels
_BANKS = 0.65  # of a piece's width, along a gap that divides a vessel
_WAIST = 0.85  # of a part's width, at a cut through what may be one vessel
_MOST_GROWN = 1.6  # of the expected area, that one vessel may have
_SIZE_RATIO = 5.0  # most by which a vessel may have grown or shrunk where its place jumped


class Expected(NamedTuple):
    """What a track expects to see now.

    Attributes
    ----------
    state : Gaussian
        Predicted to the time of the detections.
    shape : Shape
        Smoothed over the frames before.
    area_sd : float
        Standard deviation of the logarithm of its area, as it may have grown since.
    extra_px2 : float
        Added to the variance of the place: a collapsed vessel, or one that was held while the
        probe was lifted, may reappear a little away.
    believed : bool
        Whether a blob may be shared with it. A track that was not confirmed yet may be a mere
        piece of the vessel that another track follows.
    settled : bool
        Whether it was seen as a blob of its own for so much longer than as a part of one, a second
        or two, that it is no such piece. One that was not shares a blob only where that narrows
        between the two.
    """

    state: Gaussian
    shape: Shape
    area_sd: float
    extra_px2: float = 0.0
    believed: bool = True
    settled: bool = True

    @property
    def place(self) -> Place:
        """Where it is expected, for cutting."""
        (xx, _), (_, yy) = self.state.position_cov_px2
        return Place(self.state.position_px, self.shape, (xx + yy) / 2)


class Matches(NamedTuple):
    """The result of :func:`associate`.

    Attributes
    ----------
    pairs : list of (int, Detection)
        Index of the track, and what was seen of it: as found, or cut or joined (`parts_of`).
    free_tracks : list of int
        Tracks of which nothing was seen.
    free_detections : list of int
        Detections of which nothing belongs to a track.
    jumped : frozenset of int
        Tracks that were paired beyond the gate: what is seen lies in their place, and yet is not
        where they were expected.
    """

    pairs: list[tuple[int, Detection]]
    free_tracks: list[int]
    free_detections: list[int]
    jumped: frozenset[int] = frozenset()


def mahalanobis2(predicted: Sequence[Gaussian], found: Sequence[Detection]) -> tuple[F64, F64]:
    """Squared Mahalanobis distance of every detection from every prediction.

    Returns
    -------
    distance2 : ndarray of shape (T, D)
        ``rᵀ S⁻¹ r`` with r the residual and S the sum of both covariances: chi-squared with two
        degrees of freedom where they belong together.
    log_det : ndarray of shape (T, D)
        Logarithm of the determinant of S.
    """
    distance2, det = _by_place(predicted, [0.0] * len(predicted), found)
    return distance2, np.log(det)


def clear_pairs(
    states: Sequence[Gaussian], extra_px2: Sequence[float], found: Sequence[Detection], gate: float
) -> list[int] | None:
    """Give the detection of each track where there is no choice, which is the rule; else None.

    No choice is where each track has one detection within its gate, each detection one track, and
    none is left over: whatever else is known of them, :func:`associate` pairs them so.

    Parameters
    ----------
    states, extra_px2 : sequence of Gaussian, of float
        As in :class:`Expected`.
    found, gate : sequence of Detection, float
        As for :func:`associate`.
    """
    if len(states) != len(found):
        return None
    if not states:
        return []
    rows, columns = (_by_place(states, extra_px2, found)[0] <= gate).nonzero()
    pairs: list[int] = columns.tolist()
    every = list(range(len(found)))
    return pairs if rows.tolist() == every == sorted(pairs) else None


def associate(expected: Sequence[Expected], found: Sequence[Detection], gate: float) -> Matches:
    """Pair tracks with what was seen of them so that the whole is most likely.

    The cost of a pair is its negative log-likelihood: of the place, ``d² + log |S|`` (without the
    second term a vague track would take detections from a certain one), of the area, and of how
    far the shapes are from overlapping. Pairs beyond the gate are not made at first. Then, where
    tracks are left without a detection or detections without a track:

    - a blob in which several tracks are expected is cut between them, or goes to one of them where
      the others are hidden;
    - a track whose vessel jumped beyond the gate takes what lies in its place;
    - a detection that a narrow gap divides from a vessel is joined to it.

    Parameters
    ----------
    expected : sequence of Expected
        Tracks, moved to the time of the detections.
    found : sequence of Detection
        Detections of one frame.
    gate : float
        Largest squared Mahalanobis distance; 13.8 lets 99.9 % of true pairs through.
    """
    if not expected or not found:
        return Matches([], list(range(len(expected))), list(range(len(found))))
    distance2, det = _by_place([e.state for e in expected], [e.extra_px2 for e in expected], found)
    # Of two that are equally good the first is taken, so their order must not be that of the list.
    order = sorted(range(len(found)), key=lambda d: _rank(found[d]))
    matches = _weighed(
        expected, [found[d] for d in order], distance2[:, order], det[:, order], gate
    )
    return matches._replace(free_detections=sorted(order[d] for d in matches.free_detections))


def _rank(found: Detection) -> tuple[float, ...]:
    """Tell detections apart by what they are; left and right come last."""
    return -found.area_px2, *found.centroid_px[::-1].tolist()


def _weighed(
    expected: Sequence[Expected], found: Sequence[Detection], distance2: F64, det: F64, gate: float
) -> Matches:
    """Pair where there is a choice, or something is left over."""
    allowed, (apart2, unlike) = distance2 <= gate, _by_shape(expected, found)
    # A square that levels off (Geman and McClure, 1987): vessels are pressed, pulsate and jump.
    cost = distance2 + np.log(det) + _UNLIKE * unlike / (_UNLIKE + unlike)
    taken = _assign(cost, allowed, gate)
    seen = {t: doubt_size(expected[t].shape, found[d]) for t, d in taken.items()}
    if len(seen) == len(expected) == len(found):
        return Matches(list(seen.items()), [], [])
    used = set(taken.values())
    near = apart2 <= _NEAR

    owners = {d: t for t, d in taken.items()}
    for d, tracks in _shared(expected, found, owners, near).items():
        seen.pop(owners.get(d, -1), None)
        seen |= _divide(expected, tracks, found[d])
        used.add(d)
    jumps = _in_place(expected, found, seen, used, apart2)
    for t, d in jumps:
        seen[t] = _vague(expected[t], found[d])
        used.add(d)
    whole = {t for t, own in seen.items() if not own.parts_of}
    for d in sorted(set(range(len(found))) - used, key=lambda d: -found[d].area_px2):
        for t in sorted(whole & set(np.flatnonzero(near[:, d])), key=lambda t: apart2[t, d]):
            joined = _with_piece(expected[t], seen[t], found[d], gate)
            if joined is not None:
                seen[t] = joined
                used.add(d)
                break
    return Matches(
        sorted(seen.items(), key=lambda pair: pair[0]),
        [t for t in range(len(expected)) if t not in seen],
        [d for d in range(len(found)) if d not in used],
        frozenset(t for t, _ in jumps),
    )


def _by_place(
    states: Sequence[Gaussian], extra_px2: Sequence[float], found: Sequence[Detection]
) -> tuple[F64, F64]:
    """Squared Mahalanobis distance of each pair's places, and determinant of its covariance."""
    at = np.array([state.mean for state in states])[:, None, :2]
    cov = np.array([state.cov for state in states])[:, None, :2, :2]
    if any(extra_px2):
        cov = cov + np.multiply.outer(extra_px2, np.eye(2))[:, None]
    r = np.array([d.centroid_px for d in found]) - at
    s = cov + np.array([d.covariance_px2 for d in found])
    return _quadratic(r, s[..., 0, 0], s[..., 1, 1], s[..., 0, 1])


def _by_shape(expected: Sequence[Expected], found: Sequence[Detection]) -> tuple[F64, F64]:
    """How far each pair is apart in the metric of both shapes, and how unlike its shapes are.

    Returns
    -------
    apart2 : ndarray of shape (T, D)
        Squared distance: below `_NEAR` they may touch.
    unlike : ndarray of shape (T, D)
        The same, and the squared difference in size over its variance.
    """
    # Of each: moments of its shape (xx, yy, xy), no smaller than a pixel's, and its area.
    mine = np.array([(*_moments(e.shape), e.shape.area_px2 + 1, e.area_sd) for e in expected])
    theirs = np.array([(*moments_of(*d.axes_px, d.angle_rad), d.area_px2 + 1) for d in found])
    at = np.array([e.state.mean for e in expected])[:, None, :2]
    r = np.array([d.centroid_px for d in found]) - at
    xx, yy, xy = mine.T[:3, :, None] + theirs.T[:3, None]
    apart2, _ = _quadratic(r, xx + _PIXEL_PX2, yy + _PIXEL_PX2, xy)
    growth = np.log(theirs[:, 3] / mine[:, 3, None])
    area_sd = mine[:, 4, None]
    return apart2, growth * growth / (area_sd * area_sd + _AREA_SD**2) + apart2


def _moments(shape: Shape) -> tuple[float, float, float]:
    return moments_of(shape.major_px, shape.minor_px, shape.angle_rad)


def _quadratic(r: F64, xx: F64, yy: F64, xy: F64) -> tuple[F64, F64]:
    """``rᵀ S⁻¹ r`` and ``|S|`` of symmetric 2x2 matrices, r of shape (..., 2)."""
    det = xx * yy - xy * xy
    x, y = r[..., 0], r[..., 1]
    return (yy * x * x - 2 * xy * x * y + xx * y * y) / det, det


def _assign(cost: F64, allowed: NDArray[np.bool_], gate: float) -> dict[int, int]:
    """As many allowed pairs as there can be, at the least cost: detection of each track."""
    # Dearer than any set of allowed pairs, so that one is taken only where nothing else is left.
    never = (gate + _UNLIKE + _LOG_DET) * (min(allowed.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(allowed, cost, never))
    pairs = zip(rows.tolist(), columns.tolist(), allowed[rows, columns].tolist(), strict=True)
    return {t: d for t, d, made in pairs if made}


def _shared(
    expected: Sequence[Expected],
    found: Sequence[Detection],
    owners: dict[int, int],
    near: NDArray[np.bool_],
) -> dict[int, list[int]]:
    """Blobs in which tracks are expected that got nothing, and all tracks of each blob."""
    free = [t for t in range(len(expected)) if t not in owners.values() and expected[t].believed]
    groups = {}
    for d in np.flatnonzero(near[free].any(axis=0)).tolist():
        inside = [
            t for t in free if near[t, d] and blobs.covered(expected[t].place, found[d]) >= _INSIDE
        ]
        owner = owners.get(d)
        if not inside or (owner is None and len(inside) == 1):
            continue
        if owner is not None and expected[owner].believed and near[owner, d]:
            inside.append(owner)
        groups[d] = sorted(inside)
    return groups


def _divide(
    expected: Sequence[Expected], tracks: Sequence[int], blob: Detection
) -> dict[int, Detection]:
    """Cut a blob between tracks, leaving out those that are hidden in it, and those that are none.

    Where one vessel hides another, too little is left for it. A track that follows a mere piece of
    a vessel is told by its part: the blob does not narrow at the cut, and the others explain it.
    """
    left = sorted(tracks, key=lambda t: expected[t].shape.area_px2)
    while len(left) > 1:
        places = [expected[t].place for t in left]
        parts = blobs.cut(blob, places)
        hidden = [i for i, part in enumerate(parts) if not part or part.shown < _LEAST_PART]
        if hidden:
            # The one that is less certain, so that it is the same one in every frame.
            left.pop(max(hidden, key=lambda i: places[i].variance_px2))
            continue
        all_px2 = sum(expected[t].shape.area_px2 for t in left)
        surplus = [
            t
            for t, part in zip(left, parts, strict=True)
            if part
            and not expected[t].settled
            and part.waist >= _WAIST
            and blob.area_px2 <= _MOST_GROWN * (all_px2 - expected[t].shape.area_px2)
        ]
        if not surplus:
            return {t: part.seen for t, part in zip(left, parts, strict=True) if part}
        left.remove(surplus[0])
    (last,) = left
    doubt_px2 = size_noise_px2(expected[last].shape.area_px2, blob)
    return {last: replace(_vague(expected[last], blob, doubt_px2), parts_of=(blob,))}


def doubt_size(shape: Shape, detection: Detection) -> Detection:
    """Take a detection of quite another size than expected for a part, or for more than one."""
    if _OTHER_SIZE <= grown(shape.area_px2, detection) <= 1 / _OTHER_SIZE:
        return detection
    noise_px2 = size_noise_px2(shape.area_px2, detection) * np.eye(2)
    return replace(detection, covariance_px2=detection.covariance_px2 + noise_px2)


def _vague(expected: Expected, detection: Detection, more_px2: float = 0.0) -> Detection:
    """Take a detection for less certain by as much as it lies off the expected place."""
    off = detection.centroid_px - expected.state.position_px
    noise_px2 = np.outer(off, off) + more_px2 * np.eye(2)
    return replace(detection, covariance_px2=detection.covariance_px2 + noise_px2)


def _in_place(
    expected: Sequence[Expected],
    found: Sequence[Detection],
    seen: Mapping[int, Detection],
    used: Container[int],
    apart2: F64,
) -> list[tuple[int, int]]:
    """Pairs beyond the gate of which the one lies in the other's place; the nearest first.

    A vessel of which a part falls into shadow, or to which a dark neighbour is added, moves its
    centroid farther in one frame than it would move itself.
    """
    rows, columns = np.nonzero(apart2 <= _NEAR)
    order = np.argsort(apart2[rows, columns], kind="stable")
    pairs: dict[int, int] = {}
    for t, d in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if t in seen or t in pairs or d in used or d in pairs.values():
            continue
        place, blob = expected[t].place, found[d]
        if not 1 / _SIZE_RATIO <= grown(expected[t].shape.area_px2, blob) <= _SIZE_RATIO:
            continue
        x, y = blob.centroid_px
        if blobs.radius(place, x, y) <= 1 or blobs.covered(place, blob) >= _INSIDE:
            pairs[t] = d
    return list(pairs.items())


def _with_piece(
    expected: Expected, own: Detection, piece: Detection, gate: float
) -> Detection | None:
    """Join a free detection to what was seen of a track; None where it is no piece of it.

    Pieces face each other like the banks of a gap. Where there are no pixels to tell by, the
    vessel must have become too small, and the piece lie in its place.
    """
    whole = blobs.join([*(own.parts_of or (own,)), piece])
    if blobs.filling(whole) < _LEAST_FILLING or grown(expected.shape.area_px2, whole) > _MOST_GROWN:
        return None
    if own.patch is not None and piece.patch is not None:
        if blobs.facing(own, piece) < _BANKS:
            return None
    else:
        x, y = piece.centroid_px
        before, after = grown(expected.shape.area_px2, own), grown(expected.shape.area_px2, whole)
        better = abs(math.log(after)) < abs(math.log(before))
        if not (before < _SMALL and better and blobs.radius(expected.place, x, y) <= 1):
            return None
    if mahalanobis2([expected.state], [whole])[0][0, 0] > gate:
        return _vague(expected, whole)
    return whole
