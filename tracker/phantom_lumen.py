"""The shape of a phantom vessel's lumen at one moment, with an exact centroid.

The outline is a gently bent ellipse. With ``(s, t)`` the coordinates along its axes in units of
the semi-axes, and bend ``(a, b)``, the lumen is

    p = s + a t^2,   q = t + b p^2,   p^2 + q^2 <= 1.

Both steps are shears, so the map keeps areas, and moments of the lumen are moments of the unit
disc: area ``pi`` and centroid ``s = -a / 4 - a b^2 / 8``, ``t = -b / 4`` in semi-axes.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F64
from veintrack.tracker.phantom_settings import VesselSettings

__all__ = ["Lumen", "lumen_at"]

Reals = NDArray[Any]  # float32 to draw, float64 to check
_FLAT = 0.06  # a vein whose minor axis is below this part of its rest is closed


@dataclass(frozen=True, slots=True)
class Lumen:
    """A lumen in the picture.

    Attributes
    ----------
    centroid_px : tuple of float
        ``(x, y)``, exact.
    semi_px : tuple of float
        Semi-axes ``(major, minor)``.
    angle_rad : float
        Direction of the major axis, from +x towards +y.
    bend : tuple of float
        As in :class:`VesselSettings`.
    open : bool
        False where a vein is compressed to nothing.
    """

    centroid_px: tuple[float, float]
    semi_px: tuple[float, float]
    angle_rad: float
    bend: tuple[float, float]
    open: bool

    @property
    def area_px2(self) -> float:
        """Exact area."""
        return math.pi * self.semi_px[0] * self.semi_px[1]

    def to_disc(self, x_px: Reals, y_px: Reals) -> tuple[Reals, Reals]:
        """Map picture coordinates to the unit disc, ``(p, q)``; arguments are broadcast."""
        (major, minor), (a, b) = self.semi_px, self.bend
        cos, sin = math.cos(self.angle_rad), math.sin(self.angle_rad)
        dx, dy = x_px - self.centroid_px[0], y_px - self.centroid_px[1]
        s = (cos / major) * dx + ((sin / major) * dy - (a / 4 + a * b * b / 8))
        t = (-sin / minor) * dx + ((cos / minor) * dy - b / 4)
        p: Reals = s + a * t * t
        q: Reals = t + b * p * p
        return p, q

    def squareness(self, p: Reals, q: Reals) -> Reals:
        """Squared cosine between the beam, which runs straight down, and the wall's normal.

        The bend is left out: it turns the wall by little.
        """
        cos, sin = math.cos(self.angle_rad), math.sin(self.angle_rad)
        along, across = p / self.semi_px[0], q / self.semi_px[1]
        down = along * sin + across * cos
        length: Reals = np.maximum(along * along + across * across, np.float32(1e-12))
        return down * down / length

    def extent_px(self, radius: float = 1.0) -> tuple[float, float]:
        """Half width and half height of an upright box that holds it, grown by `radius`."""
        major = self.semi_px[0] * (radius + abs(self.bend[0]))
        minor = self.semi_px[1] * (radius + abs(self.bend[1]))
        cos, sin = math.cos(self.angle_rad), math.sin(self.angle_rad)
        return math.hypot(major * cos, minor * sin), math.hypot(major * sin, minor * cos)

    def outline_px(self, count: int = 256) -> F64:
        """Points on the outline, shape (count, 2)."""
        turn = np.arange(count) * (2 * math.pi / count)
        p, q = np.cos(turn), np.sin(turn)
        a, b = self.bend
        t = q - b * p * p
        s = p - a * t * t
        along = self.semi_px[0] * (s + a / 4 + a * b * b / 8)
        across = self.semi_px[1] * (t + b / 4)
        cos, sin = math.cos(self.angle_rad), math.sin(self.angle_rad)
        x, y = cos * along - sin * across, sin * along + cos * across
        outline: F64 = np.stack([x, y], axis=1) + np.array(self.centroid_px)
        return outline


def lumen_at(
    vessel: VesselSettings,
    time_s: float,
    press: float,
    centroid_px: tuple[float, float],
    px_per_mm: float,
    turn_rad: float = 0.0,
) -> Lumen:
    """Shape of a vessel at one moment.

    Pressing flattens a vein and widens it a little, as its wall keeps its length; an artery
    yields hardly at all.
    """
    phase = 2 * math.pi * vessel.pulse_hz * time_s + vessel.pulse_phase_rad
    wave = (math.sin(phase) + 0.35 * math.sin(2 * phase + 0.6)) / 2.4
    pulse = 1 + vessel.pulse_fraction * wave
    if vessel.kind == "vein":
        opening = max(0.0, 1 - (press / vessel.closing_press) ** 1.5)
    else:
        opening = 1 - 0.1 * press
    major = vessel.major_mm * pulse * (1 + 0.2 * (1 - opening))
    minor = vessel.minor_mm * pulse * max(opening, 0.02)
    return Lumen(
        centroid_px=centroid_px,
        semi_px=(major * px_per_mm / 2, minor * px_per_mm / 2),
        angle_rad=vessel.angle_rad - turn_rad,
        bend=vessel.bend,
        open=opening > _FLAT,
    )
