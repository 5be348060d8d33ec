"""How well marked vessels match labelled ones: scores of one frame, and of a set of frames.

Which scores, and where they are undefined, follows Maier-Hein et al., "Metrics reloaded:
recommendations for image analysis validation", Nature Methods 21, 2024. Everything is in the
frame's own pixels. A score that is undefined is None, and a mean says how many frames it is of.

Frames without a labelled vessel have no Dice of their own. They count in what is pooled over
pixels, by their false alarms, and are counted apart otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from veintrack.tracker.frame import F32, F64, Spacing

__all__ = [
    "BINS",
    "Calibration",
    "Estimate",
    "FrameScores",
    "Summary",
    "calibrate",
    "count_levels",
    "dice_by_threshold",
    "score_frame",
    "summarise",
    "surface_distances",
]

Mask = NDArray[np.bool_]

BINS = 256
"""Levels of probability that are told apart: multiples of 1/256 are exact in binary."""
_RELIABILITY_BINS = 16
_PX: Spacing = (1.0, 1.0)

# Each score of overlap is a ratio of two sums over (tp, fp, fn, tn).
_OVERLAP: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "dice": ((2, 0, 0, 0), (2, 1, 1, 0)),
    "iou": ((1, 0, 0, 0), (1, 1, 1, 0)),
    "pixel_accuracy": ((1, 0, 0, 1), (1, 1, 1, 1)),
    "precision": ((1, 0, 0, 0), (1, 1, 0, 0)),
    "recall": ((1, 0, 0, 0), (1, 0, 1, 0)),
}
_NOTHING_MARKED = ((0, 1, 0, 1), (1, 1, 1, 1))  # right are the pixels that are not vessel
_SURFACE = ("hd95_px", "surface_distance_px", "hd95_mm", "surface_distance_mm")


@dataclass(frozen=True, slots=True)
class FrameScores:
    """Scores of one frame; None where undefined.

    Attributes
    ----------
    name : str
        Of the frame.
    tp, fp, fn, tn : int
        Pixels rightly and wrongly marked, wrongly and rightly left.
    dice, iou, precision, recall, pixel_accuracy : float or None
        From 0 to 1.
    hd95_px, surface_distance_px, hd95_mm, surface_distance_mm : float or None
        See :func:`surface_distances`; undefined where nothing is marked or nothing is labelled,
        and in mm without a spacing.
    vessels, marked, matched : int
        Connected areas labelled, marked, and matched with each other.
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
    centroid_errors_px: tuple[float, ...]
    centroid_errors_mm: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score of a set of frames, its 95 % interval, and the number of frames that it is of."""

    value: float
    low: float
    high: float
    frames: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Scores of a set of frames.

    Attributes
    ----------
    frames, frames_with_vessel, frames_without_vessel : int
        How many.
    frames_without_surface : int
        Frames with a vessel in which nothing was marked: left out of the surface distances.
    pooled : dict
        Overlap of all pixels of all frames together; ``marking_nothing_accuracy`` is the pixel
        accuracy of a model that marks nothing.
    mean : dict
        Means over the frames with a vessel.
    vessels : dict
        ``detection_rate`` over all labelled vessels, ``false_detections`` a frame with a vessel,
        ``centroid_error_px`` and ``centroid_error_mm``: means over all matches.
    centroid_error_px, centroid_error_mm : dict
        ``median`` and ``p95`` over all matches; empty if there are none.
    false_alarms : Estimate or None
        Marked areas in a frame without a vessel.
    """

    frames: int
    frames_with_vessel: int
    frames_without_vessel: int
    frames_without_surface: int
    pooled: dict[str, Estimate | None]
    mean: dict[str, Estimate | None]
    vessels: dict[str, Estimate | None]
    centroid_error_px: dict[str, float]
    centroid_error_mm: dict[str, float]
    false_alarms: Estimate | None


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What a probability is worth; bins without pixels are left out.

    Attributes
    ----------
    confidence, frequency : ndarray of shape (B,), float64
        Mean probability of the pixels of a bin, and the part of them that is vessel.
    share : ndarray of shape (B,), float64
        Part of all pixels that lies in the bin.
    error : float
        Expected calibration error: the mean distance of the two, weighted by `share`.
    """

    confidence: F64
    frequency: F64
    share: F64
    error: float


def score_frame(
    name: str,
    truth: Mask,
    marked: Mask,
    spacing_mm: Spacing | None = None,
    *,
    min_area_px2: float = 0.0,
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
    min_area_px2 : float
        Marked areas below this are no detections, as for the tracker. Overlap counts them.
    """
    if truth.shape != marked.shape or truth.ndim != 2:
        raise ValueError(
            f"truth and marked must be (H, W) and of one size, got {truth.shape}, {marked.shape}"
        )
    tp = int(np.count_nonzero(truth & marked))
    fp, fn = int(np.count_nonzero(marked)) - tp, int(np.count_nonzero(truth)) - tp
    tn = truth.size - tp - fp - fn

    def overlap(score: str) -> float | None:
        above, below = np.array(_OVERLAP[score]) @ (tp, fp, fn, tn)
        return float(above / below) if below else None

    hd95_px, mean_px = surface_distances(truth, marked) or (None, None)
    hd95_mm, mean_mm = (spacing_mm and surface_distances(truth, marked, spacing_mm)) or (None, None)
    vessels, detections, offsets_px = _match(truth, marked, min_area_px2)
    return FrameScores(
        name=name,
        tp=tp,
        fp=fp,
        fn=fn,
        tn=tn,
        dice=overlap("dice"),
        iou=overlap("iou"),
        pixel_accuracy=overlap("pixel_accuracy"),
        precision=overlap("precision"),
        recall=overlap("recall"),
        hd95_px=hd95_px,
        surface_distance_px=mean_px,
        hd95_mm=hd95_mm,
        surface_distance_mm=mean_mm,
        vessels=vessels,
        marked=detections,
        matched=len(offsets_px),
        centroid_errors_px=_lengths(offsets_px, _PX),
        centroid_errors_mm=_lengths(offsets_px, spacing_mm) if spacing_mm else (),
    )


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


def _match(truth: Mask, marked: Mask, min_area_px2: float) -> tuple[int, int, F64]:
    """Match connected areas so that their IoU sums to the most (Kuhn 1955).

    Returns the number of labelled and of marked areas, and for each match the offset of its
    centroids, shape (M, 2) in rows and columns. Areas connect by their pixels' sides.
    """
    a, n = ndimage.label(truth)
    b, m = ndimage.label(marked)
    shared = np.bincount((a * (m + 1) + b).ravel(), minlength=(n + 1) * (m + 1))
    shared = shared.reshape(n + 1, m + 1)
    area_a, area_b = shared.sum(1), shared.sum(0)
    large = np.flatnonzero(area_b[1:] >= min_area_px2) + 1
    both = shared[1:, large]
    iou = both / (area_a[1:, None] + area_b[large] - both)
    rows, columns = linear_sum_assignment(iou, maximize=True)
    overlaps = iou[rows, columns] > 0
    centres_a = ndimage.center_of_mass(truth, a, rows[overlaps] + 1)
    centres_b = ndimage.center_of_mass(marked, b, large[columns[overlaps]])
    return n, len(large), np.reshape(centres_b, (-1, 2)) - np.reshape(centres_a, (-1, 2))


def _lengths(offsets_px: F64, spacing: Spacing) -> tuple[float, ...]:
    return tuple(np.hypot(*(offsets_px * spacing).T).tolist())


def summarise(frames: Sequence[FrameScores], *, replicates: int = 2000, seed: int = 0) -> Summary:
    """Pool and average the scores of frames, each with a 95 % interval.

    The interval is the bootstrap's percentile interval (Efron & Tibshirani, "An Introduction to
    the Bootstrap", 1993, chapter 13): frames are drawn anew with replacement. It takes frames for
    independent, so it is too narrow where many are of one scan.

    Parameters
    ----------
    frames : sequence of FrameScores
        At least one.
    replicates : int
        Sets drawn anew.
    seed : int
        Of the draw.
    """
    if not frames or replicates < 1:
        raise ValueError(
            f"expected frames and replicates, got {len(frames)} frames, {replicates} replicates"
        )
    n = len(frames)
    # How often each frame is drawn: a set drawn anew is a row of weights. The frames as they are
    # count as one more, so that there is always a set in which a score is defined.
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=replicates)
    weights = np.vstack([np.ones_like(drawn[:1]), drawn])
    counts = np.array([[f.tp, f.fp, f.fn, f.tn] for f in frames], np.float64)
    vessels, marked, matched = np.array(
        [[f.vessels, f.marked, f.matched] for f in frames], np.float64
    ).T
    shown = vessels > 0

    def pooled(ratio: tuple[tuple[int, ...], tuple[int, ...]]) -> Estimate | None:
        return _estimate(counts @ ratio[0], counts @ ratio[1], weights)

    def mean(name: str) -> Estimate | None:
        values = np.array([getattr(f, name) for f in frames], np.float64)  # None becomes NaN
        valid = shown & ~np.isnan(values)
        return _estimate(np.where(valid, values, 0), valid.astype(np.float64), weights)

    def error(unit: str) -> Estimate | None:
        each = [getattr(f, f"centroid_errors_{unit}") for f in frames]
        return _estimate(
            np.array([sum(e) for e in each]), np.array([float(len(e)) for e in each]), weights
        )

    return Summary(
        frames=n,
        frames_with_vessel=int(shown.sum()),
        frames_without_vessel=int((~shown).sum()),
        frames_without_surface=sum(f.vessels > 0 and f.hd95_px is None for f in frames),
        pooled={
            **{name: pooled(ratio) for name, ratio in _OVERLAP.items()},
            "marking_nothing_accuracy": pooled(_NOTHING_MARKED),
        },
        mean={name: mean(name) for name in (*_OVERLAP, *_SURFACE)},
        vessels={
            "detection_rate": _estimate(matched, vessels, weights),
            "false_detections": _estimate(
                (marked - matched) * shown, shown.astype(np.float64), weights
            ),
            "centroid_error_px": error("px"),
            "centroid_error_mm": error("mm"),
        },
        centroid_error_px=_quantiles([e for f in frames for e in f.centroid_errors_px]),
        centroid_error_mm=_quantiles([e for f in frames for e in f.centroid_errors_mm]),
        false_alarms=_estimate(marked * ~shown, (~shown).astype(np.float64), weights),
    )


def _estimate(top: F64, bottom: F64, weights: NDArray[np.int64]) -> Estimate | None:
    """Estimate a ratio of two sums over frames; None if the lower one is 0."""
    if not bottom.any():
        return None
    above, below = weights @ top, weights @ bottom
    low, high = np.percentile(above[below > 0] / below[below > 0], (2.5, 97.5))
    return Estimate(
        float(top.sum() / bottom.sum()), float(low), float(high), int(np.count_nonzero(bottom))
    )


def _quantiles(errors: list[float]) -> dict[str, float]:
    if not errors:
        return {}
    median, p95 = np.percentile(errors, (50, 95))
    return {"median": float(median), "p95": float(p95)}


def count_levels(probability: F32, truth: Mask) -> F64:
    """Count a frame's pixels by probability and truth; the counts of frames add up.

    Parameters
    ----------
    probability : ndarray of shape (H, W), float32
        From 0 to 1.
    truth : ndarray of shape (H, W), bool
        Where the vessel is.

    Returns
    -------
    ndarray of shape (3, 256), float64
        For each level, pixels that are not vessel, pixels that are, and the sum of both's
        probabilities. Level k holds probabilities from k/256 to below (k + 1)/256; the last 1 too.
    """
    level = np.minimum((probability * BINS).astype(np.intp), BINS - 1)
    cells = np.bincount((level + BINS * truth).ravel(), minlength=2 * BINS)
    sums = np.bincount(level.ravel(), probability.ravel(), minlength=BINS)
    return np.vstack([cells.reshape(2, BINS), sums])


def dice_by_threshold(levels: F64) -> tuple[F64, F64]:
    """Compute pooled Dice at every threshold.

    Parameters
    ----------
    levels : ndarray of shape (3, 256)
        From :func:`count_levels`, with a vessel in at least one frame.

    Returns
    -------
    threshold, dice : ndarray of shape (255,), float64
        Thresholds are 1/256 to 255/256.
    """
    false, true = levels[:2, ::-1].cumsum(1)[:, ::-1]  # found at level k: at k or above
    dice = 2 * true / (true + false + levels[1].sum())
    return np.arange(1, BINS) / BINS, dice[1:]


def calibrate(levels: F64) -> Calibration:
    """Compare probabilities with how often they come true.

    As in Guo et al., "On calibration of modern neural networks", ICML 2017, equations 2 to 4, for
    the probability of vessel of every pixel, in 16 bins of equal width. Nearly all pixels are
    surely background, so the error is small for any usable model; the curve says more.

    Parameters
    ----------
    levels : ndarray of shape (3, 256)
        From :func:`count_levels`.
    """
    not_vessel, vessel, sums = levels.reshape(3, _RELIABILITY_BINS, -1).sum(2)
    pixels = not_vessel + vessel
    held = pixels > 0
    confidence, frequency = sums[held] / pixels[held], vessel[held] / pixels[held]
    share = pixels[held] / pixels.sum()
    return Calibration(confidence, frequency, share, float(share @ np.abs(confidence - frequency)))
