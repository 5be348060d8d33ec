"""The probe's motion as a velocity, and states that move with the picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from veintrack.tracker import kalman
from veintrack.tracker.frame import F64, ProbeMotion
from veintrack.tracker.kalman import Gaussian

__all__ = ["Probe", "moved_with"]


@dataclass(frozen=True, slots=True)
class Probe:
    """How the picture moves, as a velocity.

    Attributes
    ----------
    motion : ProbeMotion
        How it moved in one step.
    dt_s : float
        How long that took; greater than 0.
    """

    motion: ProbeMotion
    dt_s: float

    def at(self, xy_px: F64) -> F64:
        """Velocity of the picture at places, shape (..., 2), px/s."""
        return self.motion.displacement(xy_px) / self.dt_s

    @property
    def noise_px2_s2(self) -> float:
        """Variance of that velocity in each direction."""
        return self.motion.noise_px2 / self.dt_s**2


def moved_with(
    states: Sequence[Gaussian],
    move: kalman.Step,
    dt_s: float,
    before: Probe | None,
    now: Probe | None,
) -> list[Gaussian]:
    """Move states within the picture, and with it where its motion is known.

    Parameters
    ----------
    states : sequence of Gaussian
        At the beginning of the step.
    move : Step
        Motion within the picture.
    dt_s : float
        The step.
    before, now : Probe or None
        Motion of the picture in the step before, and in this one.
    """
    if not states or before is None or now is None:
        return kalman.predict(states, move)
    at_px = np.array([state.mean for state in states])[:, :2]
    noise_px2 = now.motion.noise_px2
    move, known = kalman.carried(move, dt_s, before.at(at_px), now.at(at_px), noise_px2)
    return kalman.predict(states, move, known)
