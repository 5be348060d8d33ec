"""How well the vessels marked in one frame match those labelled.

Which scores, and where they are undefined, follows Maier-Hein et al., "Metrics reloaded:
recommendations for image analysis validation", Nature Methods 21, 2024. Everything is in the
frame's own pixels. A score that is undefined is None.

Labels may leave vessels out: of a neck, perhaps only the carotid is labelled. Then a mark beside
the labelled vessels is not known to be wrong, and what is not labelled is not known to be
background. With the background unknown, only marks that overlap a labelled vessel count, each of
them whole; whatever needs to know the background is undefined.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from veintrack.tracker.frame import F32, F64, Spacing
from veintrack.train.curves import BINS

__all__ = [
    "OVERLAP",
    "FrameScores",
    "marks_on_vessels",
    "score_frame",
    "surface_distances",
    "vessels_alone",
]

Mask = NDArray[np.bool_]
I32 = NDArray[np.int32]

OVERLAP: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "dice": ((2, 0, 0, 0), (2, 1, 1, 0)),
    "iou": ((1, 0, 0, 0), (1, 1, 1, 0)),
    "pixel_accuracy": ((1, 0, 0, 1), (1, 1, 1, 1)),
    "precision": ((1, 0, 0, 0), (1, 1, 0, 0)),
    "recall": ((1, 0, 0, 0), (1, 0, 1, 0)),
}
"""Each score of overlap is a ratio of two sums over (tp, fp, fn, tn)."""
_PX: Spacing = (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class FrameScores:
    """Scores of one frame; None where undefined.

    Attributes
    ----------
    name : str
        Of the frame.
    tp, fp, fn, tn : int
        Pixels rightly and wrongly marked, wrongly and rightly left; `tn` is 0 where the
        background is unknown.
    dice, iou, precision, recall, pixel_accuracy : float or None
        From 0 to 1; the last is undefined where the background is unknown.
    hd95_px, surface_distance_px, hd95_mm, surface_distance_mm : float or None
        See :func:`surface_distances`; undefined where nothing is marked or nothing is labelled,
        and in mm without a spacing.
    vessels, marked, matched : int
        Connected areas labelled, marked, and matched with each other.
    left_out : int or None
        Marked areas that were not scored, as they overlap no labelled vessel and the background
        is unknown; None where it is known.
    diameters_px : tuple of float
        Of each labelled area: the diameter of the disc of its size.
    found : tuple of bool
        Whether it was matched.
    centroid_errors_px, centroid_errors_mm : tuple of float
        Distance between the centroids of each match.
    """

    name: str
    tp: int
    fp: int
    fn: int
    tn: int
    dice: float | None
    iou: float | None
    pixel_accuracy: float | None
    precision: float | None
    recall: float | None
    hd95_px: float | None
    surface_distance_px: float | None
    hd95_mm: float | None
    surface_distance_mm: float | None
    vessels: int
    marked: int
    matched: int
    left_out: int | None
    diameters_px: tuple[float, ...]
    found: tuple[bool, ...]
    centroid_errors_px: tuple[float, ...]
    centroid_errors_mm: tuple[float, ...]


def score_frame(
    name: str,
    truth: Mask,
    marked: Mask,
    spacing_mm: Spacing | None = None,
    *,
    known: Mask | None = None,
    min_area_px2: float = 0.0,
    background_known: bool = True,
) -> FrameScores:
    """Score what was marked in one frame.

    Parameters
    ----------
    name : str
        Of the frame.
    truth, marked : ndarray of shape (H, W), bool
        Where the vessel is, and where it was marked.
    spacing_mm : tuple of float, optional
        ``(row_mm, col_mm)``, millimetres per pixel.
    known : ndarray of shape (H, W), bool, optional
        Pixels of which the truth is known. The others count nowhere, as if nothing were labelled
        or marked there; areas end at them.
    min_area_px2 : float
        Marked areas below this are no detections, as for the tracker. Overlap counts them.
    background_known : bool
        Whether all that is not labelled is known to be no vessel. If not, marks that overlap no
        labelled vessel are left out, so false alarms cannot be seen: precision, Dice and distances
        are then of the labelled vessels and the marks on them alone. Recall and the vessels found
        stay as they are.
    """
    if truth.shape != marked.shape or truth.ndim != 2:
        raise ValueError(
            f"truth and marked must be (H, W) and of one size, got {truth.shape}, {marked.shape}"
        )
    pixels = truth.size
    if known is not None:
        truth, marked, pixels = truth & known, marked & known, int(np.count_nonzero(known))
    left_out = None
    if not background_known:
        kept = marks_on_vessels(marked, truth)
        left_out = int(np.count_nonzero(_parts(marked & ~kept)[1] >= min_area_px2))
        marked = kept
    tp = int(np.count_nonzero(truth & marked))
    fp, fn = int(np.count_nonzero(marked)) - tp, int(np.count_nonzero(truth)) - tp
    tn = pixels - tp - fp - fn if background_known else 0

    def overlap(score: str) -> float | None:
        above, below = np.array(OVERLAP[score]) @ (tp, fp, fn, tn)
        return float(above / below) if below else None

    hd95_px, mean_px = surface_distances(truth, marked) or (None, None)
    hd95_mm, mean_mm = (spacing_mm and surface_distances(truth, marked, spacing_mm)) or (None, None)
    areas_px2, found, detections, offsets_px = _match(truth, marked, min_area_px2)
    return FrameScores(
        name=name,
        tp=tp,
        fp=fp,
        fn=fn,
        tn=tn,
        dice=overlap("dice"),
        iou=overlap("iou"),
        pixel_accuracy=overlap("pixel_accuracy") if background_known else None,
        precision=overlap("precision"),
        recall=overlap("recall"),
        hd95_px=hd95_px,
        surface_distance_px=mean_px,
        hd95_mm=hd95_mm,
        surface_distance_mm=mean_mm,
        vessels=len(found),
        marked=detections,
        matched=len(offsets_px),
        left_out=left_out,
        diameters_px=tuple(np.sqrt(4 / np.pi * areas_px2).tolist()),
        found=found,
        centroid_errors_px=_lengths(offsets_px, _PX),
        centroid_errors_mm=_lengths(offsets_px, spacing_mm) if spacing_mm else (),
    )


def _parts(mask: Mask) -> tuple[I32, F64, F64]:
    """Tell apart the areas that connect by their pixels' sides, as the tracker does.

    Returns a map of their numbers from 1, their sizes, and their centroids as rows and columns.
    """
    _, *maps = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    numbers, stats, centroids = cast("tuple[I32, I32, F64]", maps)
    return numbers, stats[1:, cv2.CC_STAT_AREA].astype(np.float64), centroids[1:, ::-1]


def marks_on_vessels(marked: Mask, truth: Mask) -> Mask:
    """Keep the connected areas of `marked` that overlap `truth`, whole."""
    numbers, areas, _ = _parts(marked)
    kept = np.zeros(len(areas) + 1, bool)
    kept[numbers[truth]] = True
    kept[0] = False
    on_vessels: Mask = kept[numbers]
    return on_vessels


def vessels_alone(probability: F32, truth: Mask) -> F32:
    """Lower a probability map until, at any threshold, only marks on labelled vessels are left.

    This is its greyscale reconstruction from what lies inside `truth` (Vincent, "Morphological
    grayscale reconstruction in image analysis", IEEE Trans. Image Processing 2, 1993, section IV),
    by geodesic dilation until nothing changes.

    Parameters
    ----------
    probability : ndarray of shape (H, W), float32
        From 0 to 1.
    truth : ndarray of shape (H, W), bool
        Where the vessel is.

    Returns
    -------
    ndarray of shape (H, W), float32
        What is 1/256 or more of it is as large as the threshold at which that pixel's mark comes
        to overlap `truth`; the rest is 0.
    """
    lowered = np.zeros_like(probability)
    reach = marks_on_vessels(probability >= 1 / BINS, truth)
    if not reach.any():
        return lowered
    # No further than this can anything spread; it is a fraction of the frame.
    box = ndimage.find_objects(reach.astype(np.uint8))[0]
    ceiling = np.where(reach[box], probability[box], np.float32(0))
    spread = np.where(truth[box], ceiling, np.float32(0))
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    while True:
        wider = np.minimum(cv2.dilate(spread, cross), ceiling)
        if np.array_equal(wider, spread):
            break
        spread = wider
    lowered[box] = spread
    return lowered


def surface_distances(a: Mask, b: Mask, spacing: Spacing = _PX) -> tuple[float, float] | None:
    """Measure how far apart two outlines are, between the centres of their boundary pixels.

    A boundary pixel belongs to its mask while one of its four neighbours does not. From each to
    the nearest of the other outline is one distance. Both measures are symmetric, and defined as
    in Maier-Hein et al. 2024, supplementary note on metric profiles.

    Parameters
    ----------
    a, b : ndarray of shape (H, W), bool
        Masks.
    spacing : tuple of float
        Size of a pixel, ``(row, col)``; the distances have its unit.

    Returns
    -------
    hd95 : float
        95th percentile of the Hausdorff distance: the larger of the two directions' percentiles.
    mean : float
        Average symmetric surface distance, over the distances of both directions together.
        None instead of both where a mask is empty.
    """
    if not a.any() or not b.any():
        return None
    # Nothing outside the box around both plays a part; it is a fraction of the frame.
    box = ndimage.find_objects((a | b).astype(np.uint8))[0]
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (a[box], b[box])]
    to_a, to_b = (ndimage.distance_transform_edt(~edge, spacing) for edge in edges)
    there, back = to_b[edges[0]], to_a[edges[1]]
    hd95 = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    return hd95, float(np.concatenate([there, back]).mean())


def _match(
    truth: Mask, marked: Mask, min_area_px2: float
) -> tuple[F64, tuple[bool, ...], int, F64]:
    """Match connected areas so that their IoU sums to the most (Kuhn 1955).

    Returns the sizes of the labelled areas and whether each is matched, the number of marked
    areas, and for each match the offset of its centroids, shape (M, 2) in rows and columns.
    """
    a, area_a, centre_a = _parts(truth)
    b, area_b, centre_b = _parts(marked)
    n, m = len(area_a), len(area_b)
    shared = np.bincount((a * (m + 1) + b).ravel(), minlength=(n + 1) * (m + 1))
    large = np.flatnonzero(area_b >= min_area_px2)
    both = shared.reshape(n + 1, m + 1)[1:, large + 1]
    iou = both / (area_a[:, None] + area_b[large] - both)
    rows, columns = linear_sum_assignment(iou, maximize=True)
    overlaps = iou[rows, columns] > 0
    rows, columns = rows[overlaps], columns[overlaps]
    found = tuple(np.isin(np.arange(n), rows).tolist())
    return area_a, found, len(large), centre_b[large[columns]] - centre_a[rows]


def _lengths(offsets_px: F64, spacing: Spacing) -> tuple[float, ...]:
    return tuple(np.hypot(*(offsets_px * spacing).T).tolist())
