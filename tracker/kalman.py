"""A constant-velocity Kalman filter for one point in the image.

The state is ``[x, y, vx, vy]`` in px and px/s. The functions are pure: they take a
:class:`Gaussian` and return a new one. The algebra is filterpy's; its update is the Joseph form,
which keeps the covariance symmetric and non-negative under rounding.
"""

from dataclasses import dataclass

import numpy as np
from filterpy.common import Q_continuous_white_noise
from filterpy.kalman import predict as _predict
from filterpy.kalman import update as _update

from veintrack.tracker.frame import F64

__all__ = ["Gaussian", "Step", "birth", "predict", "step", "update"]

_H = np.eye(2, 4)  # a detection measures x and y, not the velocity


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
    transition = np.eye(4)
    transition[0, 2] = transition[1, 3] = dt_s
    noise = Q_continuous_white_noise(2, dt_s, accel_psd_px2_s3, block_size=2, order_by_dim=False)
    return Step(transition, noise)


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


def predict(prior: Gaussian, move: Step) -> Gaussian:
    """Move the state forward in time."""
    mean, cov = _predict(prior.mean, prior.cov, F=move.transition, Q=move.noise)
    return Gaussian(mean, cov)


def update(prior: Gaussian, xy_px: F64, noise_px2: F64) -> Gaussian:
    """Blend in one measured centroid.

    Parameters
    ----------
    prior : Gaussian
        Predicted state at the time of the measurement.
    xy_px : ndarray of shape (2,)
        Measured centroid.
    noise_px2 : ndarray of shape (2, 2)
        Its covariance.
    """
    mean, cov = _update(prior.mean, prior.cov, xy_px, noise_px2, H=_H)
    return Gaussian(mean, (cov + cov.T) / 2)
