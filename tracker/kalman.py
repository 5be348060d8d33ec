"""A constant-velocity Kalman filter for one point in the image.

The state is ``[x, y, vx, vy]`` in px and px/s. The functions are pure: they take Gaussians and
return new ones. The algebra is filterpy's; its update is the Joseph form, which keeps the
covariance symmetric and non-negative under rounding.

On matrices this small, filterpy costs what its calls cost. So the states of all tracks are handed
to it together where they are many.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from filterpy.kalman import predict as _predict
from filterpy.kalman import update as _update

from veintrack.tracker.frame import F64

__all__ = ["Gaussian", "Step", "birth", "predict", "step", "update"]

_TOGETHER = 8  # states that one call updates: its matrices grow as the square
_H = np.kron(np.eye(_TOGETHER), np.eye(2, 4))  # a detection measures x and y, not the velocity


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """Mean and covariance of the state.

    Attributes
    ----------
    mean : ndarray of shape (4,)
        ``[x, y, vx, vy]`` in px, px, px/s, px/s.
    cov : ndarray of shape (4, 4)
        Symmetric and positive semi-definite.
    """

    mean: F64
    cov: F64

    @property
    def position_px(self) -> F64:
        """``(x, y)`` in px."""
        return self.mean[:2]

    @property
    def position_cov_px2(self) -> F64:
        """Covariance of the position, shape (2, 2), in px²."""
        return self.cov[:2, :2]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """How the state moves over one interval; the same for every track of a frame.

    Attributes
    ----------
    transition, noise : ndarray of shape (4, 4)
        The matrices F and Q.
    """

    transition: F64
    noise: F64


def step(dt_s: float, accel_psd_px2_s3: float) -> Step:
    """Make the motion model for an interval.

    Parameters
    ----------
    dt_s : float
        Elapsed time in seconds, not frames: dropped frames need no special case.
    accel_psd_px2_s3 : float
        Power spectral density of the white-noise acceleration, in px²/s³ (Bar-Shalom, Li and
        Kirubarajan, *Estimation with Applications to Tracking and Navigation*, 2001, section
        6.2.2). Two short steps equal one long step exactly.

    Raises
    ------
    ValueError
        If `dt_s` is negative.
    """
    if dt_s < 0:
        raise ValueError(f"dt_s must not be negative, got {dt_s}")
    a, b, c = (accel_psd_px2_s3 * part for part in (dt_s**3 / 3, dt_s**2 / 2, dt_s))
    return Step(
        np.array([[1.0, 0, dt_s, 0], [0, 1, 0, dt_s], [0, 0, 1, 0], [0, 0, 0, 1]]),
        np.array([[a, 0, b, 0], [0, a, 0, b], [b, 0, c, 0], [0, b, 0, c]]),
    )


def birth(xy_px: F64, noise_px2: F64, speed_px_s: float) -> Gaussian:
    """Start at a first measured centroid, with the velocity unknown.

    Parameters
    ----------
    xy_px : ndarray of shape (2,)
        Measured centroid.
    noise_px2 : ndarray of shape (2, 2)
        Its covariance.
    speed_px_s : float
        Standard deviation of each velocity component.
    """
    cov = np.zeros((4, 4))
    cov[:2, :2] = noise_px2
    cov[2, 2] = cov[3, 3] = speed_px_s**2
    return Gaussian(np.array([*xy_px, 0.0, 0.0]), cov)


def predict(priors: Sequence[Gaussian], move: Step) -> list[Gaussian]:
    """Move states forward in time."""
    if not priors:
        return []
    # numpy.dot, by which filterpy multiplies, takes a stack as its second factor and moves the
    # stack's axis behind the first factor's rows: (4, 4) times (T, 4, 4) is (4, T, 4).
    means, covs = _predict(
        np.array([g.mean for g in priors]).T,
        np.array([g.cov for g in priors]),
        F=move.transition,
        Q=move.noise[:, None],
    )
    return [Gaussian(means[:, i], covs[:, i]) for i in range(len(priors))]


def update(
    priors: Sequence[Gaussian], xy_px: Sequence[F64], noise_px2: Sequence[F64]
) -> list[Gaussian]:
    """Blend one measured centroid into each state.

    Parameters
    ----------
    priors : sequence of Gaussian
        Predicted states at the time of the measurement, independent of each other.
    xy_px : sequence of ndarray of shape (2,)
        Measured centroids.
    noise_px2 : sequence of ndarray of shape (2, 2)
        Their covariances.
    """
    groups = (slice(i, i + _TOGETHER) for i in range(0, len(priors), _TOGETHER))
    return [g for k in groups for g in _update_together(priors[k], xy_px[k], noise_px2[k])]


def _update_together(
    priors: Sequence[Gaussian], xy_px: Sequence[F64], noise_px2: Sequence[F64]
) -> list[Gaussian]:
    """Update independent states as one: their joint covariance is block-diagonal, and stays so."""
    count = len(priors)
    mean, cov = _update(
        np.concatenate([g.mean for g in priors]),
        _diagonal([g.cov for g in priors]),
        np.concatenate(xy_px),
        _diagonal(noise_px2),
        H=_H[: 2 * count, : 4 * count],
    )
    each = [slice(4 * i, 4 * i + 4) for i in range(count)]
    return [Gaussian(mean[i], (cov[i, i] + cov[i, i].T) / 2) for i in each]


def _diagonal(blocks: Sequence[F64]) -> F64:
    """Lay square blocks of one size along the diagonal of a matrix of zeros."""
    size = len(blocks[0])
    matrix = np.zeros((size * len(blocks), size * len(blocks)))
    for i, block in enumerate(blocks):
        matrix[size * i : size * (i + 1), size * i : size * (i + 1)] = block
    return matrix
