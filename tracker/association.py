"""Which detection belongs to which track."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from veintrack.tracker.frame import F64, Detection
from veintrack.tracker.kalman import Gaussian

__all__ = ["Matches", "associate", "mahalanobis2"]


class Matches(NamedTuple):
    """The result of :func:`associate`, as indices into its arguments."""

    pairs: list[tuple[int, int]]  # (track, detection)
    free_tracks: list[int]
    free_detections: list[int]


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
    at = np.array([g.mean for g in predicted])[:, :2]
    cov = np.array([g.cov for g in predicted])[:, :2, :2]
    seen = np.array([d.centroid_px for d in found])
    noise = np.array([d.covariance_px2 for d in found])
    r = seen[None] - at[:, None]
    s = cov[:, None] + noise[None]
    a, b, c = s[..., 0, 0], s[..., 0, 1], s[..., 1, 1]
    det = a * c - b * b
    x, y = r[..., 0], r[..., 1]
    return (c * x * x - 2 * b * x * y + a * y * y) / det, np.log(det)


def associate(predicted: Sequence[Gaussian], found: Sequence[Detection], gate: float) -> Matches:
    """Pair predictions with detections so that the whole is most likely.

    The cost of a pair is its negative log-likelihood, ``d² + log |S|``: without the second term a
    vague track would take detections from a certain one. Pairs beyond the gate are never made.

    Parameters
    ----------
    predicted : sequence of Gaussian
        Tracks, moved to the time of the detections.
    found : sequence of Detection
        Detections of one frame.
    gate : float
        Largest squared Mahalanobis distance; 13.8 lets 99.9 % of true pairs through.
    """
    if not predicted or not found:
        return Matches([], list(range(len(predicted))), list(range(len(found))))
    distance2, log_det = mahalanobis2(predicted, found)
    allowed = distance2 <= gate
    cost = distance2 + log_det
    # Dearer than any set of allowed pairs, so that one is taken only where nothing else is left.
    never = (np.abs(cost[allowed]).sum() + 1) * (min(cost.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(allowed, cost, never))
    made = allowed[rows, columns]
    pairs = list(zip(rows[made].tolist(), columns[made].tolist(), strict=True))
    tracks, detections = {t for t, _ in pairs}, {d for _, d in pairs}
    return Matches(
        pairs,
        [t for t in range(len(predicted)) if t not in tracks],
        [d for d in range(len(found)) if d not in detections],
    )
