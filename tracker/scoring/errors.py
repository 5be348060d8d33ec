"""How far tracks are from the truth, and whether they know it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.signal import correlate

from veintrack.tracker.frame import F64
from veintrack.tracker.scoring.rows import I64

__all__ = [
    "LEVELS",
    "Consistency",
    "Coverage",
    "Errors",
    "consistency_of",
    "effective_count",
    "errors_of",
    "nees_of",
]

#: Parts of the truth that the regions whose coverage is measured are to hold.
LEVELS = (0.50, 0.90, 0.95)
_TRUST = 0.95  # of every interval
_Z = float(stats.norm.ppf((1 + _TRUST) / 2))


@dataclass(frozen=True, slots=True)
class Errors:
    """Distances of tracks from the truth, all pairs together, in the unit of the field's name.

    Figures as in the challenge on liver ultrasound tracking (De Luca et al., Phys. Med. Biol. 60,
    2015): mean, standard deviation, 95th percentile and maximum of the distance.
    """

    count: int
    mean: float
    sd: float
    rmse: float
    p95: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often a region holds the truth, and the interval in which that lies.

    Attributes
    ----------
    stated, measured, low, high : float
        As parts of 1; the interval is Wilson's (J. Am. Stat. Assoc. 22, 1927) at 95 %, with the
        effective number of samples.
    """

    stated: float
    measured: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Consistency:
    """Whether stated uncertainties are true.

    Attributes
    ----------
    count : int
        Pairs of a track and the truth.
    effective_count : float
        Independent samples that would say as much; see :func:`effective_count`.
    coverage : tuple of Coverage
        At 50, 90 and 95 %.
    nees : float
        Mean of the normalised estimation error squared, ``eᵀ P⁻¹ e``: 2 where P is true, more
        where it is too small (Bar-Shalom, Li and Kirubarajan, 2001, section 5.4.2).
    nees_low, nees_high : float
        Interval of that mean.
    nees_accepted : tuple of float
        Where the mean of a consistent filter lies, at 95 %.
    curve : tuple of tuple of float
        ``(stated, measured)`` from 0 to 1.
    """

    count: int
    effective_count: float
    coverage: tuple[Coverage, ...]
    nees: float
    nees_low: float
    nees_high: float
    nees_accepted: tuple[float, float]
    curve: tuple[tuple[float, float], ...]


def errors_of(offset: F64) -> Errors | None:
    """Summarise offsets from the truth, shape (N, 2); None where there are none."""
    if not len(offset):
        return None
    away = np.hypot(*offset.T)
    return Errors(
        count=len(away),
        mean=float(away.mean()),
        sd=float(away.std(ddof=1)) if len(away) > 1 else 0.0,
        rmse=float(np.sqrt(np.mean(away**2))),
        p95=float(np.percentile(away, 95)),
        maximum=float(away.max()),
    )


def nees_of(offset: F64, cov_px2: F64) -> F64:
    """Normalised estimation errors squared, shape (N,); infinite where nothing is uncertain."""
    a, b, c = cov_px2[:, 0, 0], cov_px2[:, 0, 1], cov_px2[:, 1, 1]
    x, y = offset.T
    det = a * c - b * b
    true = (det > 0) & (a > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        nees: F64 = np.where(true, (c * x * x - 2 * b * x * y + a * y * y) / det, np.inf)
    return nees


def consistency_of(nees: F64, runs: I64) -> Consistency | None:
    """Compare errors with what is stated of them.

    Parameters
    ----------
    nees : ndarray of shape (N,)
        Normalised errors squared, in the order of time within each run: chi-squared with two
        degrees of freedom where the stated covariance is true.
    runs : ndarray of shape (N,)
        Which object each belongs to; errors of different objects are taken as independent.

    Returns
    -------
    Consistency or None
        None where there are fewer than two.
    """
    count = len(nees)
    if count < 2:
        return None
    # Uniform from 0 to 1 for a consistent filter, and bounded: outliers do not rule its variance.
    place = stats.chi2.cdf(nees, 2)
    effective = effective_count(place, runs)
    mean, half = float(nees.mean()), math.inf
    if math.isfinite(mean):
        half = _Z * float(nees.std(ddof=1)) / math.sqrt(effective_count(nees, runs))
    tails = np.array([(1 - _TRUST) / 2, (1 + _TRUST) / 2])
    low, high = stats.chi2.ppf(tails, 2 * effective) / effective
    stated = np.linspace(0, 1, 101)
    measured = np.searchsorted(np.sort(place), stated, "right") / count
    return Consistency(
        count=count,
        effective_count=effective,
        coverage=tuple(_coverage(place, level, effective) for level in LEVELS),
        nees=mean,
        nees_low=mean - half,
        nees_high=mean + half,
        nees_accepted=(float(low), float(high)),
        curve=tuple(zip(stated.tolist(), measured.tolist(), strict=True)),
    )


def _coverage(place: F64, level: float, effective: float) -> Coverage:
    covered = float(np.mean(place <= level))
    z2 = _Z**2
    middle = (covered + z2 / (2 * effective)) / (1 + z2 / effective)
    spread = covered * (1 - covered) / effective + z2 / (4 * effective**2)
    half = math.sqrt(z2 * spread) / (1 + z2 / effective)
    return Coverage(level, covered, max(0.0, middle - half), min(1.0, middle + half))


def effective_count(values: F64, runs: I64) -> float:
    """How many independent samples would tell the mean of `values` as exactly.

    Errors of neighbouring frames are alike, and an object's constant error is alike in all of
    them. The variance of the mean is the sum of the covariances of all pairs within a run, about
    the mean over all runs, up to the lag from which on neighbouring lags no longer add a positive
    sum: the initial positive sequence of Geyer (Stat. Sci. 7, 1992).

    Parameters
    ----------
    values : ndarray of shape (N,)
        In the order of time within each run.
    runs : ndarray of shape (N,)
        Which run each belongs to.

    Returns
    -------
    float
        From 1 to N.
    """
    centred = values - values.mean()
    total = float(centred @ centred)
    if total <= 0:
        return float(len(np.unique(runs)))  # all alike: no more is known than that of each run
    products = np.zeros(int(np.bincount(np.unique(runs, return_inverse=True)[1]).max()) + 1)
    for part in _each(centred, runs):
        products[: len(part)] += correlate(part, part, method="auto")[len(part) - 1 :]
    even = len(products) // 2 * 2
    sums = products[:even].reshape(-1, 2).sum(axis=1)  # lags 0 and 1, 2 and 3, ...
    ends = np.flatnonzero(sums <= 0)
    kept = sums[: ends[0]] if len(ends) else sums
    # Where errors alternate, the sums may cancel: no more is known than of independent samples.
    return max(1.0, len(values) * total / max(total, 2 * float(kept.sum()) - total))


def _each(values: F64, runs: I64) -> Iterator[F64]:
    """Split values into those of each run, in their order."""
    order = np.argsort(runs, kind="stable")
    ends = np.flatnonzero(np.diff(runs[order])) + 1
    yield from np.split(values[order], ends)
