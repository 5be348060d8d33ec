"""A constant-velocity Kalman filter for one point in the image.

The state is ``[x, y, vx, vy]`` in px and px/s. The functions are pure: they take Gaussians and
return new ones. The algebra is filterpy's; its update is the Joseph form, which keeps the
covariance symmetric and non-negative under rounding.

On matrices this small, filterpy costs what its calls cost. So the states of all tracks are handed
to it together where they are many.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from filterpy.kalman import predict as _predict
from filterpy.kalman import update as _update
from numpy.typing import NDArray

from veintrack.tracker.frame import F64

__all__ = [
    "Gaussian",
    "Step",
    "birth",
    "carried",
    "damped_step",
    "drift",
    "predict",
    "step",
    "update",
]

_TOGETHER = 12  # states that one call updates: its matrices grow as the square
_PLACE, _SPEED = 0, 2  # where what is measured begins in a state: at x and y, or at vx and vy


class Gaussian(NamedTuple):
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
    return _step(dt_s, 1.0, *(accel_psd_px2_s3 * part for part in (dt_s**3 / 3, dt_s**2 / 2, dt_s)))


def damped_step(dt_s: float, accel_psd_px2_s3: float, damped_s: float) -> Step:
    """Make the motion model for an interval in which the velocity dies away.

    ``dv/dt = -v / damped_s`` plus the white noise of :func:`step`: an Ornstein-Uhlenbeck process
    (Uhlenbeck and Ornstein, *Physical Review* 36, 1930) and its integral. The uncertainty of the
    place grows with the time, not with its third power. Two short steps equal one long step here
    too.

    Parameters
    ----------
    dt_s, accel_psd_px2_s3 : float
        As in :func:`step`.
    damped_s : float
        Time in which the velocity falls to 1/e.

    Raises
    ------
    ValueError
        If `dt_s` is negative.
    """
    if dt_s < 0:
        raise ValueError(f"dt_s must not be negative, got {dt_s}")
    lost = -math.expm1(-dt_s / damped_s)  # part of the velocity that is gone
    lost_twice = -math.expm1(-2 * dt_s / damped_s)
    a = damped_s**2 * (dt_s - 2 * damped_s * lost + damped_s / 2 * lost_twice)
    b = damped_s**2 / 2 * lost**2
    c = damped_s / 2 * lost_twice
    if dt_s < 1e-3 * damped_s:  # the difference above is lost in rounding; it tends to this
        a = dt_s**3 / 3
    return _step(
        damped_s * lost, 1 - lost, *(accel_psd_px2_s3 * max(part, 0.0) for part in (a, b, c))
    )


def birth(
    xy_px: F64, noise_px2: F64, speed_px_s: float, velocity_px_s: F64 | None = None
) -> Gaussian:
    """Start at a first measured centroid.

    Parameters
    ----------
    xy_px : ndarray of shape (2,)
        Measured centroid.
    noise_px2 : ndarray of shape (2, 2)
        Its covariance.
    speed_px_s : float
        Standard deviation of each velocity component.
    velocity_px_s : ndarray of shape (2,), optional
        Expected velocity; none where it is not given.
    """
    cov = np.zeros((4, 4))
    cov[:2, :2] = noise_px2
    cov[2, 2] = cov[3, 3] = speed_px_s**2
    mean = np.zeros(4)
    mean[:2] = xy_px
    if velocity_px_s is not None:
        mean[2:] = velocity_px_s
    return Gaussian(mean, cov)


def carried(
    move: Step, dt_s: float, before_px_s: F64, now_px_s: F64, noise_px2: float
) -> tuple[Step, F64]:
    """Let a motion model hold within a picture that moves as a whole.

    What moves by `move` is then the velocity within the picture, the state's less the picture's.

    Parameters
    ----------
    move : Step
        Motion within the picture.
    dt_s : float
        The interval; greater than 0.
    before_px_s, now_px_s : ndarray of shape (T, 2)
        Velocity of the picture at each state's place, in the step before and in this one.
    noise_px2 : float
        Variance of the picture's displacement in this step, in each direction.

    Returns
    -------
    move : Step
        With the noise of the displacement, which is that of the place and of the velocity alike.
    known : ndarray of shape (T, 4)
        What is to be added to each state.
    """
    known = np.empty((len(now_px_s), 4))
    known[:, :2] = now_px_s * dt_s - before_px_s * move.transition[0, 2]
    known[:, 2:] = now_px_s - before_px_s * move.transition[2, 2]
    a, b, c = noise_px2, noise_px2 / dt_s, noise_px2 / dt_s**2
    return Step(move.transition, move.noise + _both_axes(a, b, c)), known


def predict(priors: Sequence[Gaussian], move: Step, known: F64 | None = None) -> list[Gaussian]:
    """Move states forward in time.

    Parameters
    ----------
    priors : sequence of Gaussian
        Before.
    move : Step
        The interval.
    known : ndarray of shape (T, 4), optional
        What is to be added to each state's mean.
    """
    if not priors:
        return []
    # numpy.dot, by which filterpy multiplies, takes a stack as its second factor and moves the
    # stack's axis behind the first factor's rows: (4, 4) times (T, 4, 4) is (4, T, 4).
    means, covs = _predict(
        np.array([g.mean for g in priors]).T,
        np.array([g.cov for g in priors]),
        F=move.transition,
        Q=move.noise[:, None],
        u=0.0 if known is None else known.T,
    )
    return list(map(Gaussian, means.T, covs.swapaxes(0, 1)))


def update(
    priors: Sequence[Gaussian], xy_px: Sequence[F64] | F64, noise_px2: Sequence[F64] | F64
) -> list[Gaussian]:
    """Blend one measured centroid into each state.

    Parameters
    ----------
    priors : sequence of Gaussian
        Predicted states at the time of the measurement, independent of each other.
    xy_px : ndarray of shape (T, 2), or sequence of ndarray of shape (2,)
        Measured centroids.
    noise_px2 : ndarray of shape (T, 2, 2), or sequence of ndarray of shape (2, 2)
        Their covariances.
    """
    return _measure(priors, np.asarray(xy_px), np.asarray(noise_px2), _PLACE)


def drift(priors: Sequence[Gaussian], velocity_px_s: F64, noise_px2_s2: float) -> list[Gaussian]:
    """Blend the motion of the whole picture into each state, as a measurement of its velocity.

    Parameters
    ----------
    priors : sequence of Gaussian
        States at the beginning of the step over which the motion was measured.
    velocity_px_s : ndarray of shape (T, 2)
        Velocity of the picture at each state's place.
    noise_px2_s2 : float
        Variance, in each direction, of a vessel's velocity against it.
    """
    noise = np.broadcast_to(noise_px2_s2 * np.eye(2), (len(priors), 2, 2))
    return _measure(priors, velocity_px_s, noise, _SPEED)


def _measure(priors: Sequence[Gaussian], z: F64, noise: F64, first: int) -> list[Gaussian]:
    """Update independent states, a few as one: their joint covariance is block-diagonal."""
    updated: list[Gaussian] = []
    for start in range(0, len(priors), _TOGETHER):
        k = slice(start, start + _TOGETHER)
        means, count = np.array([g.mean for g in priors[k]]), len(priors[k])
        mean, cov = _update(
            means.reshape(-1),
            _diagonal([g.cov for g in priors[k]], count, 4),
            z[k].reshape(-1),
            _diagonal(noise[k], count, 2),
            H=_measured(count, first),
        )
        covs: F64 = cov.take(_blocks(count, 4))
        covs = (covs + covs.swapaxes(1, 2)) / 2
        updated += map(Gaussian, mean.reshape(count, 4), covs)
    return updated


@functools.cache
def _measured(count: int, first: int) -> F64:
    """Matrix H that picks two numbers, from `first` on, of each of so many states."""
    return np.kron(np.eye(count), np.eye(2, 4, first)).astype(np.float64)


@functools.cache
def _blocks(count: int, size: int) -> NDArray[np.intp]:
    """Where blocks of `size` lie along the diagonal of a matrix, counted through its rows."""
    first, within = np.arange(count) * size, np.arange(size)
    rows = first[:, None, None] + within[:, None]
    columns = first[:, None, None] + within
    return rows * count * size + columns


def _diagonal(blocks: Sequence[F64] | F64, count: int, size: int) -> F64:
    """Lay square blocks along the diagonal of a matrix of zeros."""
    matrix = np.zeros((count * size, count * size))
    matrix.put(_blocks(count, size), blocks)
    return matrix


def _step(glide_s: float, kept: float, a: float, b: float, c: float) -> Step:
    """F and Q: how far a velocity carries, what is left of it, and the noise's three parts."""
    transition = np.zeros((4, 4))
    transition[0, 0] = transition[1, 1] = 1.0
    transition[0, 2] = transition[1, 3] = glide_s
    transition[2, 2] = transition[3, 3] = kept
    return Step(transition, _both_axes(a, b, c))


def _both_axes(a: float, b: float, c: float) -> F64:
    """Covariance of a place (a) and a velocity (c), the same and apart in x and y."""
    noise = np.zeros((4, 4))
    noise[0, 0] = noise[1, 1] = a
    noise[0, 2] = noise[1, 3] = noise[2, 0] = noise[3, 1] = b
    noise[2, 2] = noise[3, 3] = c
    return noise
