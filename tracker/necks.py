"""Blobs that fall into parts at a narrow neck.

Where two vessels lie close together, a network may join them by a thin bridge; from a vessel's edge
a tail may grow into dark tissue. Either is told by form alone, whatever was seen before: what is
left of a blob when discs of half its largest inner radius are moved about in it (a morphological
opening; Serra, *Image Analysis and Mathematical Morphology*, 1982) holds each vessel whole, and
neither bridges nor tails.
"""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.blobs import filling
from veintrack.tracker.detect import describe
from veintrack.tracker.frame import F32, U8, Detection

__all__ = ["apart"]

_WHOLE = 0.93  # of the ellipse of its moments, that a blob fills which is one vessel
_NECK = 0.5  # widest neck, as a part of the largest disc in the blob
_TAIL = 0.1  # of the blob's area: what is smaller stays where it is
_VESSEL = 0.85  # of the ellipse of its moments, that a part fills which is a vessel and no tail
_LEAST_PX = 3.0  # inner radius, px of the patch: in a smaller blob a neck is a matter of a pixel


def apart(detection: Detection) -> tuple[Detection, ...]:
    """Take a blob apart at its necks.

    Parameters
    ----------
    detection : Detection
        What was found. Without pixels it stays as it is.

    Returns
    -------
    tuple of Detection
        The vessels in it, `detection` in the `parts_of` of each; tails are left out. Or
        `detection` itself, where it has no neck.
    """
    patch = detection.patch
    if patch is None or filling(detection) >= _WHOLE:
        return (detection,)
    inside = (patch.probability >= patch.threshold).astype(np.uint8)
    rimmed = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    parts = _parts(np.asarray(rimmed, np.uint8))[1:-1, 1:-1]
    count = int(parts.max())
    if count < 2:
        return (detection,)
    seen = [
        replace(
            describe(
                replace(patch, probability=np.where(parts == number, patch.probability, 0.0)),
                contours=detection.contour_px is not None,
            ),
            parts_of=(detection,),
        )
        for number in range(1, count + 1)
    ]
    vessels = tuple(part for part in seen if filling(part) >= _VESSEL)
    return vessels or (detection,)


def _parts(inside: U8) -> NDArray[np.int32]:
    """Give each pixel of a blob the number of its part, from 1."""
    depth = _distance(inside)
    most = float(depth.max())
    if most < _LEAST_PX:
        return inside.astype(np.int32)
    # Discs are moved about in the blob: their centres, then all of them.
    count, cores = cv2.connectedComponents((depth > _NECK * most).view(np.uint8))
    opened = (_distance((cores == 0).view(np.uint8)) <= _NECK * most).view(np.uint8) & inside
    least = _TAIL * np.count_nonzero(inside)
    outside = inside & (1 - opened)
    if count <= 2 and np.count_nonzero(outside) < least:
        return inside.astype(np.int32)
    marks = np.where(opened > 0, _nearest(cores.astype(np.int32)), 0)
    _, rest, facts, _ = cv2.connectedComponentsWithStats(outside)
    for number in range(1, len(facts)):
        if facts[number, cv2.CC_STAT_AREA] >= least:
            marks[rest == number] = count
            count += 1
    if count <= 2:
        return inside.astype(np.int32)
    return np.where(inside > 0, _nearest(marks), 0).astype(np.int32)


def _distance(inside: U8) -> F32:
    """Distance of each pixel from the next one that is 0."""
    return cv2.distanceTransform(inside, cv2.DIST_L2, 5).astype(np.float32, copy=False)


def _nearest(marks: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give each pixel the number of the nearest mark."""
    _, labels = cv2.distanceTransformWithLabels(
        (marks == 0).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of = np.zeros(int(labels.max()) + 1, np.int32)
    marked = marks > 0
    of[labels[marked]] = marks[marked]
    return of[labels]
