"""Probability maps of elliptic vessels, and what is found in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from veintrack.tracker.blobs import Place
from veintrack.tracker.detect import detect
from veintrack.tracker.frame import F32, F64, Detection, Shape
from veintrack.tracker.grid import fit

GRID = fit((480, 640), (256, 256))  # 2.5 frame px on a pixel of the grid
SOFT_PX = 1.2  # of the edge, frame px


@dataclass(frozen=True, slots=True)
class Vessel:
    """An ellipse in frame px: centre, semi-axes, direction of the first."""

    x: float
    y: float
    a: float
    b: float
    angle_rad: float = 0.0

    @property
    def xy_px(self) -> F64:
        return np.array([self.x, self.y])

    @property
    def area_px2(self) -> float:
        return math.pi * self.a * self.b

    @property
    def place(self) -> Place:
        """As a track would expect it."""
        shape = Shape(self.area_px2, 2 * self.a, 2 * self.b, self.angle_rad, 0.1)
        return Place(self.xy_px, shape, 1.0)

    def moved(self, dx: float, dy: float) -> "Vessel":
        return replace(self, x=self.x + dx, y=self.y + dy)

    def mirrored(self) -> "Vessel":
        """Left and right changed, about the middle of the frame."""
        return replace(self, x=639 - self.x, angle_rad=-self.angle_rad)


def probability(vessels: Sequence[Vessel]) -> F32:
    """Draw vessels with soft edges; what they share is drawn once."""
    made = np.zeros((256, 256))
    for vessel in vessels:
        reach = max(vessel.a, vessel.b) + 16 * SOFT_PX
        (left, right), (top, bottom) = (
            np.clip(np.array([at - reach, at + reach]) / 2.5 + off, 0, 256).astype(int)
            for at, off in ((vessel.x, 0), (vessel.y, GRID.inner[1]))
        )
        rows, columns = np.mgrid[top:bottom, left:right].astype(np.float64)
        x, y = GRID.to_frame(columns, rows)
        cos, sin = math.cos(vessel.angle_rad), math.sin(vessel.angle_rad)
        dx, dy = x - vessel.x, y - vessel.y
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        radius = np.maximum(np.hypot(u / vessel.a, v / vessel.b), 1e-6)
        outside_px = (radius - 1) * np.hypot(u, v) / radius
        window = made[top:bottom, left:right]
        np.maximum(window, 1 / (1 + np.exp(np.clip(outside_px / SOFT_PX, -40, 40))), out=window)
    made[made < 1e-4] = 0  # so that it does not matter where a window ends
    return made.astype(np.float32)


def seen(vessels: Sequence[Vessel], gap_px: tuple[float, float] | None = None) -> list[Detection]:
    """Find vessels; a gap ``(x, width)`` divides what it crosses."""
    made = probability(vessels)
    if gap_px is not None:
        x, _ = GRID.to_frame(np.arange(256.0), np.arange(256.0))
        made[:, np.abs(x - gap_px[0]) < gap_px[1] / 2] = 0.02
    return list(detect(made, GRID, 0.5))
