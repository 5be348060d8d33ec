"""Blobs that are not one vessel each: one that several vessels share, several of one vessel.

What a blob is cut into, and what pieces are joined to, is described by the same function as a blob
as it was found (:func:`veintrack.tracker.detect.describe`), with a larger covariance for what the
cut or the gap leaves open. Detections that somebody else made have no pixels: the ellipse of their
moments stands for them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from veintrack.tracker import shape
from veintrack.tracker.detect import axes_of, describe, moments_of
from veintrack.tracker.frame import F64, Detection, Patch, Shape

__all__ = ["Part", "Place", "covered", "cut", "facing", "filling", "join", "radius"]

_CUT_SHARE = 0.1  # standard deviation of where a cut lies, as a part of the vessels' radius
_ROUNDS = 2  # of finding where the vessels lie in the blob, before it is cut
_NOTHING = 0.1  # of what is expected of a vessel in a blob: too little to place it by
_HIDDEN_SHARE = 1.0  # how far off the centroid may be, as a part of radius times hidden part
_BLIND_SHARE = 0.25  # the same for a vessel in a blob without pixels
_GAP_SHARE = 0.5  # widest gap, as a part of the root of the area on both sides of it
_BANK = 2.0  # how far from the nearest pixel the banks of a gap reach, px of the patch
_DRAWN_ACROSS = 16  # pixels across an ellipse that stands for a blob without pixels
_LEAST_STEP_PX = 0.25  # of its pixels
_THINNEST = 0.05  # least minor axis of an ellipse, as a part of the major one


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a vessel is expected, and in what shape.

    Attributes
    ----------
    xy_px : ndarray of shape (2,), float64
        Its centre.
    shape : Shape
        Its size and form.
    variance_px2 : float
        Of the centre, in each direction.
    """

    xy_px: F64
    shape: Shape
    variance_px2: float = 0.0


def radius(place: Place, x_px: F64 | float, y_px: F64 | float) -> F64:
    """Distance from a vessel's centre in its own metric: 1 on the outline of its ellipse."""
    form = place.shape
    least = max(_THINNEST * form.major_px, 1e-3)
    xx, yy, xy = moments_of(max(form.major_px, least), max(form.minor_px, least), form.angle_rad)
    dx, dy = x_px - place.xy_px[0], y_px - place.xy_px[1]
    # An ellipse's outline has the Mahalanobis distance 2 of its own second moments.
    square: F64 = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / (4 * (xx * yy - xy * xy))
    return np.sqrt(square)


class Part(NamedTuple):
    """What one vessel has of a blob.

    Attributes
    ----------
    seen : Detection
        The vessel as a whole: what its neighbours hide is put back.
    shown : float
        Which part of the expected area is in the blob, nothing put back.
    waist : float
        Length of the cut, as a part of how wide the part is in its direction: about 1 where the
        blob does not narrow there.
    """

    seen: Detection
    shown: float
    waist: float


def covered(place: Place, detection: Detection) -> float:
    """Which part of the expected ellipse the detection covers, 0 to 1."""
    patch = _pixels(detection)
    x, y = _coordinates(patch)
    both = (radius(place, x, y) <= 1) & (patch.probability >= patch.threshold)
    return min(1.0, int(np.count_nonzero(both)) * math.prod(patch.step_px) / _full_px2(place))


def filling(detection: Detection) -> float:
    """Which part of the ellipse with the same second moments is filled: 1 for an ellipse."""
    return shape.filling(detection.area_px2, *detection.axes_px)


def cut(detection: Detection, places: Sequence[Place]) -> list[Part | None]:
    """Share one blob between the vessels that are expected in it.

    Each pixel goes to the vessel to which it is nearest in that vessel's own metric
    (:func:`radius`); a pixel that the border crosses goes to both in part. Where the expected
    ellipses overlap, each hides some of the other. So the same cut is made through the blob that
    the ellipses would make: what a vessel lacks there is given back to its part, in centroid,
    area and axes.

    Parameters
    ----------
    detection : Detection
        What was found.
    places : sequence of Place
        At least one.

    Returns
    -------
    list of (Part or None)
        One for each place, in their order; None where nothing is left for it.
    """
    if not places:
        raise ValueError("places must be at least one, got none")
    patch = _pixels(detection)
    patch = _padded(patch, _bounds(patch, places))
    for _ in range(_ROUNDS):
        places = _nudged(patch, places, detection.edge)
    shares, expected = _sharing(patch, places)
    return [_part(detection, patch, places, i, share, expected) for i, share in enumerate(shares)]


def facing(one: Detection, other: Detection) -> float:
    """How much of the narrower one's width faces the other across a narrow gap, 0 to about 1.

    A gap that divides one vessel has two long banks; two vessels side by side come close to each
    other at one point only. Without pixels, 0.
    """
    laid = _laid_together([one, other])
    if laid is None:
        return 0.0
    canvas, (here, there) = laid
    own = here >= canvas.threshold
    away = cv2.distanceTransform((there < canvas.threshold).view(np.uint8), cv2.DIST_L2, 5)
    gap = float(away[own].min())
    if gap * _step_px(canvas) > _GAP_SHARE * math.sqrt(one.area_px2 + other.area_px2):
        return 0.0
    return _banks(_weigh(canvas, (own & (away <= gap + _BANK)).astype(np.float64)), one, other)


def join(detections: Sequence[Detection]) -> Detection:
    """Take several blobs as one vessel that fell into pieces.

    Parameters
    ----------
    detections : sequence of Detection
        At least one; of the same frame.
    """
    if not detections:
        raise ValueError("detections must be at least one, got none")
    whole = _join_pixels(detections) or _join_moments(detections)
    # What lies in the gap was not seen: nobody knows to whose side it belongs.
    gap_px = (1 - min(1.0, filling(whole))) * whole.axes_px[1] / 4
    return replace(
        whole,
        covariance_px2=whole.covariance_px2 + gap_px**2 * np.eye(2),
        parts_of=tuple(detections),
    )


def _full_px2(place: Place) -> float:
    return max(math.pi / 4 * place.shape.major_px * place.shape.minor_px, 1e-6)


def _pixels(detection: Detection) -> Patch:
    """Return what a detection was made from; the ellipse of its moments where that is not known."""
    if detection.patch is not None:
        return detection.patch
    major = max(detection.axes_px[0], 1.0)
    minor = max(detection.axes_px[1], _THINNEST * major)
    ellipse = Shape(detection.area_px2, major, minor, detection.angle_rad, 0.0)
    place = Place(detection.centroid_px, ellipse)
    step_px = max(math.sqrt(major * minor) / _DRAWN_ACROSS, _LEAST_STEP_PX)
    xx, yy, _ = moments_of(major, minor, detection.angle_rad)
    columns, rows = (2 * math.ceil(2 * math.sqrt(m) / step_px) + 3 for m in (xx, yy))
    x, y = (detection.centroid_px - step_px * np.array([columns - 1, rows - 1]) / 2).tolist()
    empty = Patch(np.zeros((rows, columns)), 0.5, (x, y), (step_px, step_px))
    return replace(empty, probability=_sharing(empty, [place])[1])


def _mean_axis(place: Place) -> float:
    return max(math.sqrt(place.shape.major_px * place.shape.minor_px), 1e-3)


def _step_px(patch: Patch) -> float:
    return math.sqrt(math.prod(patch.step_px))


def _coordinates(patch: Patch) -> tuple[F64, F64]:
    """Frame coordinates of a patch's pixels: a row of x and a column of y."""
    height, width = patch.probability.shape
    x = patch.origin_px[0] + patch.step_px[0] * np.arange(width, dtype=np.float64)
    y = patch.origin_px[1] + patch.step_px[1] * np.arange(height, dtype=np.float64)
    return x[None, :], y[:, None]


def _bounds(patch: Patch, places: Sequence[Place]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in pixels of the patch that hold it and all expected ellipses."""
    height, width = patch.probability.shape
    sides = [(0.0, 0.0, float(width), float(height))]
    for place in places:
        at = (place.xy_px - patch.origin_px) / patch.step_px
        xx, yy, _ = moments_of(place.shape.major_px, place.shape.minor_px, place.shape.angle_rad)
        reach_x, reach_y = 2 * np.sqrt([xx, yy]) / patch.step_px + 1
        sides.append((at[0] - reach_x, at[1] - reach_y, at[0] + reach_x + 1, at[1] + reach_y + 1))
    left, top, right, bottom = zip(*sides, strict=True)
    return (
        math.floor(min(left)),
        math.floor(min(top)),
        math.ceil(max(right)),
        math.ceil(max(bottom)),
    )


def _padded(patch: Patch, bounds: tuple[int, int, int, int]) -> Patch:
    """Widen a patch to bounds in its own pixels."""
    left, top, right, bottom = bounds
    height, width = patch.probability.shape
    return replace(
        patch,
        probability=np.pad(patch.probability, ((-top, bottom - height), (-left, right - width))),
        origin_px=(
            patch.origin_px[0] + left * patch.step_px[0],
            patch.origin_px[1] + top * patch.step_px[1],
        ),
    )


def _sharing(patch: Patch, places: Sequence[Place]) -> tuple[F64, F64]:
    """How much of each pixel goes to each vessel, and the blob that they all would make.

    Returns
    -------
    shares : ndarray of shape (K, H, W)
        0 to 1; their sum is 1.
    expected : ndarray of shape (H, W)
        0 to 1, as far as each pixel would be covered.
    """
    x, y = _coordinates(patch)
    radii = np.stack([radius(place, x, y) for place in places])
    # By how much a radius changes from one pixel to the next, on the ellipse's outline.
    per_px = np.array([[[2 * _step_px(patch) / _mean_axis(place)]] for place in places])
    expected: F64 = np.clip((1 - radii) / per_px + 0.5, 0, 1).max(axis=0)
    if len(places) == 1:
        return np.ones_like(radii), expected
    rivals = np.stack([np.delete(radii, i, axis=0).min(axis=0) for i in range(len(radii))])
    shares = np.clip(0.5 + (rivals - radii) / (2 * per_px.mean()), 0, 1)
    return shares / shares.sum(axis=0), expected


def _nudged(patch: Patch, places: Sequence[Place], edge: float) -> list[Place]:
    """Move each place by as much as its part of the blob lies off its part of the expected one."""
    cover = np.minimum(patch.probability / (2 * edge), 1)
    shares, expected = _sharing(patch, places)
    moved = []
    for place, share in zip(places, shares, strict=True):
        seen, model = _weigh(patch, share * cover), _weigh(patch, share * expected)
        # Of a vessel of which there is next to nothing, nobody knows where it is.
        there = seen.area_px2 > _NOTHING * model.area_px2
        off_px = seen.xy_px - model.xy_px if there else np.zeros(2)
        moved.append(replace(place, xy_px=place.xy_px + off_px))
    return moved


class _Weighed(NamedTuple):
    """Area, centroid and second central moments (xx, yy, xy) of a map, in frame px."""

    area_px2: float
    xy_px: F64
    moments_px2: F64


def _weigh(patch: Patch, weight: F64) -> _Weighed:
    step = np.array(patch.step_px)
    m = cv2.moments(weight)
    total = max(m["m00"], 1e-12)
    return _Weighed(
        m["m00"] * float(step.prod()),
        patch.origin_px + step * (m["m10"] / total, m["m01"] / total),
        np.array([m["mu20"], m["mu02"], m["mu11"]]) / total * (*step**2, step.prod()),
    )


def _part(
    detection: Detection,
    patch: Patch,
    places: Sequence[Place],
    index: int,
    share: F64,
    expected: F64,
) -> Part | None:
    p = patch.probability
    kept = np.where(share < 1, share * np.minimum(p, 2 * detection.edge), p)
    if not (kept >= patch.threshold).any():
        return None
    part = describe(
        replace(patch, probability=kept),
        contours=detection.contour_px is not None,
        edge=detection.edge,
    )
    place, visible = places[index], _weigh(patch, share * expected)
    # A cut that lies elsewhere by d moves the centroid by d times the sum, over the cut, of how
    # far it is from the centroid, over the area.
    line = _weigh(patch, ((share > 0) & (share < 1) & (p >= patch.threshold)).astype(np.float64))
    arm = (line.xy_px - part.centroid_px) * line.area_px2 / (_step_px(patch) * part.area_px2)
    cut_px2 = np.mean(
        [each.variance_px2 / 2 + (_CUT_SHARE * _mean_axis(each) / 2) ** 2 for each in places]
    )
    hidden = max(0.0, 1 - visible.area_px2 / _full_px2(place))
    blind = _BLIND_SHARE if detection.patch is None else 0.0
    vague_px2 = (math.hypot(_HIDDEN_SHARE * hidden, blind) * _mean_axis(place) / 2) ** 2
    whole = replace(
        _completed(part, place, visible, 1 - hidden),
        covariance_px2=part.covariance_px2 + cut_px2 * np.outer(arm, arm) + vague_px2 * np.eye(2),
        score=part.score if detection.patch else detection.score,
        contour_px=part.contour_px if detection.patch else None,
        patch=part.patch if detection.patch else None,
        parts_of=(detection,),
    )
    return Part(whole, part.area_px2 / max(place.shape.area_px2, 1e-6), _banks(line, part))


def _banks(line: _Weighed, *sides: Detection) -> float:
    """Length of a line as a part of the least width, in its direction, of what lies beside it."""
    length_px, _, angle_rad = axes_of(*line.moments_px2.tolist())
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    moments = (moments_of(*side.axes_px, side.angle_rad) for side in sides)
    least = min(xx * cos * cos + 2 * xy * cos * sin + yy * sin * sin for xx, yy, xy in moments)
    # A line's second moment is a twelfth of its squared length, an ellipse's a sixteenth.
    return math.sqrt(12 / 16) * length_px / (4 * math.sqrt(least))


def _completed(part: Detection, place: Place, visible: _Weighed, shown: float) -> Detection:
    """Give a part back what its neighbours hide: what the expected ellipse lacks there."""
    full = np.array(moments_of(place.shape.major_px, place.shape.minor_px, place.shape.angle_rad))
    seen = np.array(moments_of(*part.axes_px, part.angle_rad))
    xx, yy, xy = (seen + full - visible.moments_px2).tolist()
    major, minor, angle_rad = axes_of(max(xx, 0.0), max(yy, 0.0), xy)
    return replace(
        part,
        centroid_px=part.centroid_px + place.xy_px - visible.xy_px,
        area_px2=part.area_px2 / shown,
        axes_px=(major, minor),
        angle_rad=angle_rad,
    )


def _laid_together(detections: Sequence[Detection]) -> tuple[Patch, list[F64]] | None:
    """Lay patches on one canvas; None where some have no pixels, or not those of one map."""
    patches = [d.patch for d in detections if d.patch is not None]
    if len(patches) < len(detections):
        return None
    first = patches[0]
    offsets = [np.subtract(p.origin_px, first.origin_px) / first.step_px for p in patches]
    one_map = all(
        p.threshold == first.threshold
        and np.allclose(p.step_px, first.step_px)
        and np.allclose(offset, np.rint(offset), atol=1e-3)
        for p, offset in zip(patches, offsets, strict=True)
    )
    if not one_map:
        return None
    corners = np.rint(offsets).astype(int)
    sizes = np.array([p.probability.shape[::-1] for p in patches])
    (left, top), (right, bottom) = corners.min(axis=0), (corners + sizes).max(axis=0)
    maps = [
        _padded(p, (left - x, top - y, right - x, bottom - y))
        for p, (x, y) in zip(patches, corners, strict=True)
    ]
    return maps[0], [p.probability for p in maps]


def _join_pixels(detections: Sequence[Detection]) -> Detection | None:
    laid = _laid_together(detections)
    if laid is None:
        return None
    canvas, maps = laid
    return describe(
        # A soft edge between two pieces is in both: it counts once.
        replace(canvas, probability=np.maximum.reduce(maps)),
        contours=any(d.contour_px is not None for d in detections),
    )


def _join_moments(detections: Sequence[Detection]) -> Detection:
    """Without pixels: areas, centroids and moments about the common centroid add up."""
    areas = np.array([max(d.area_px2, 1e-6) for d in detections])
    weights = areas / areas.sum()
    at = np.array([d.centroid_px for d in detections])
    centroid_px = weights @ at
    moments = np.array([moments_of(*d.axes_px, d.angle_rad) for d in detections])
    dx, dy = (at - centroid_px).T
    xx, yy, xy = weights @ (moments + np.column_stack([dx * dx, dy * dy, dx * dy]))
    major, minor, angle_rad = axes_of(float(xx), float(yy), float(xy))
    left, top = np.min([d.box_px[:2] for d in detections], axis=0).tolist()
    right = max(d.box_px[0] + d.box_px[2] for d in detections)
    bottom = max(d.box_px[1] + d.box_px[3] for d in detections)
    return Detection(
        centroid_px=centroid_px,
        covariance_px2=np.einsum("i,ijk->jk", weights**2, [d.covariance_px2 for d in detections]),
        area_px2=float(areas.sum()),
        axes_px=(major, minor),
        angle_rad=angle_rad,
        score=float(weights @ [d.score for d in detections]),
        box_px=(left, top, right - left, bottom - top),
    )
