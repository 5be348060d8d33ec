"""How a segmentation depends on its threshold, and what its probabilities are worth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F32, F64

__all__ = ["BINS", "Calibration", "calibrate", "count_levels", "dice_by_threshold"]

Mask = NDArray[np.bool_]

BINS = 256
"""Levels of probability that are told apart: multiples of 1/256 are exact in binary."""
_RELIABILITY_BINS = 16


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


def count_levels(probability: F32, truth: Mask) -> F64:
    """Count a frame's pixels by probability and truth; the counts of frames add up.

    Parameters
    ----------
    probability : ndarray, float32
        From 0 to 1, of a frame or of those of its pixels that count.
    truth : ndarray of the same shape, bool
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
