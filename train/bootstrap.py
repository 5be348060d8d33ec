"""How sure a score of a set of frames is: the set is drawn anew, many times over."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F64

__all__ = ["FEW_GROUPS", "Estimate", "check_groups", "draw_sets", "estimate_ratio"]

FEW_GROUPS = 30
"""With fewer, intervals over groups tend to be too narrow (Cameron, Gelbach & Miller,
"Bootstrap-based improvements for inference with clustered errors", Review of Economics and
Statistics 90, 2008)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score of a set of frames, its 95 % interval, and the number of frames that it is of."""

    value: float
    low: float
    high: float
    frames: int


def check_groups(groups: Sequence[str]) -> None:
    """Check that there is more than one group: of one alone, every set drawn is the same.

    Raises
    ------
    ValueError
        If there is not.
    """
    if len(set(groups)) < 2:
        raise ValueError(
            f"intervals over groups need at least 2 groups, got {len(groups)} frames in "
            f"{', '.join(map(repr, set(groups))) or 'none'}"
        )


def draw_sets(groups: Sequence[str], replicates: int, seed: int) -> NDArray[np.int64]:
    """Draw whole groups of frames with replacement, as many as there are.

    Frames of one group (a patient, a clip) are alike, and count as little more than one frame. So
    groups are drawn and kept whole, which is the cluster bootstrap of Field & Welsh,
    "Bootstrapping clustered data", JRSS B 69, 2007, and the first strategy of Davison & Hinkley,
    "Bootstrap Methods and their Application", 1997, section 3.8. Where every group is one frame,
    it is the ordinary bootstrap.

    Parameters
    ----------
    groups : sequence of str
        The group of each frame.
    replicates : int
        Sets drawn anew.
    seed : int
        Of the draw.

    Returns
    -------
    ndarray of shape (1 + replicates, frames), int64
        How often each frame is in each set. The first set is the frames as they are, so that
        there is always one in which a score is defined.
    """
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    n = len(number)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=replicates)
    weights = np.vstack([np.ones_like(drawn[:1]), drawn])
    return weights[:, [number[group] for group in groups]]


def estimate_ratio(top: F64, bottom: F64, weights: NDArray[np.int64]) -> Estimate | None:
    """Estimate a ratio of two sums over frames, with its bootstrap percentile interval.

    The interval is that of Efron & Tibshirani, "An Introduction to the Bootstrap", 1993,
    chapter 13.

    Parameters
    ----------
    top, bottom : ndarray of shape (frames,), float64
        What each frame adds to the two sums.
    weights : ndarray of shape (sets, frames), int64
        From :func:`draw_sets`.

    Returns
    -------
    Estimate or None
        None where the lower sum is 0. A set in which it is 0 plays no part in the interval.
    """
    if not bottom.any():
        return None
    above, below = weights @ top, weights @ bottom
    low, high = np.percentile(above[below > 0] / below[below > 0], (2.5, 97.5))
    return Estimate(
        float(top.sum() / bottom.sum()), float(low), float(high), int(np.count_nonzero(bottom))
    )
