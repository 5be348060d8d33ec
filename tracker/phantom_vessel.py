"""How a vessel shows in the phantom's picture: it moves its surroundings and changes echoes."""

import math
from dataclasses import dataclass

import numpy as np

from veintrack.tracker.frame import F32
from veintrack.tracker.phantom_lumen import Lumen
from veintrack.tracker.phantom_settings import VesselSettings

__all__ = ["Profiles", "displace", "draw", "window"]

_ENTRIES = 1024
_END = 4.0  # squared relative radius at which the profiles end
_SPECKLED_DB = -34.0  # tissue around a wall that gives it its nominal brightness
# Where the tissue's power falls to a half, beyond the border, in units of the border's softness:
# compressed to grey levels, the picture then turns from tissue to blood at the border itself.
_SEEN = 1.4


@dataclass(frozen=True, slots=True, eq=False)
class Profiles:
    """A vessel's echoes as tables over the squared relative radius, which is 1 on its border.

    Attributes
    ----------
    keep : ndarray of float32
        What is left of the tissue's own power.
    wall : ndarray of float32
        Power of the wall where the beam meets it squarely.
    blood : ndarray of float32
        Power of the lumen.
    reach : float
        Relative radius beyond which nothing changes.
    """

    keep: F32
    wall: F32
    blood: F32
    reach: float

    @classmethod
    def of(cls, vessel: VesselSettings) -> "Profiles":
        """Tabulate a vessel's profiles for its size at rest."""
        radius = np.sqrt(np.arange(_ENTRIES) * (_END / _ENTRIES))
        out_mm = (radius - 1) * math.sqrt(vessel.major_mm * vessel.minor_mm) / 2
        inside = 1 / (1 + np.exp(np.clip(out_mm / vessel.edge_mm - _SEEN, -40, 40)))
        sheath_db = vessel.sheath_db * np.exp(-np.maximum(0, out_mm) / 0.8) * (1 - inside)
        sheath_db *= np.clip((2 - radius) * 2, 0, 1)
        offset = out_mm / (vessel.wall_mm / 2) - 1  # from the middle of the wall
        wall = 10 ** (vessel.wall_db / 10) * np.exp(-(offset**2))
        changed = (wall > 1e-7) | (sheath_db > 0.1) | (inside > 1e-3)
        return cls(
            keep=((1 - inside) * 10 ** (sheath_db / 10) + 1e-4 * inside).astype(np.float32),
            wall=wall.astype(np.float32),
            blood=(inside * 10 ** (vessel.blood_db / 10)).astype(np.float32),
            reach=float(radius[changed].max()),
        )


def displace(
    x_px: F32,
    y_px: F32,
    lumen: Lumen,
    rest_px: tuple[float, float],
    rest_semi_px: tuple[float, float],
) -> None:
    """Let the tissue around a vessel follow its border, less and less with distance.

    Parameters
    ----------
    x_px, y_px : ndarray of shape (H, W), float32
        Where each pixel's tissue was at rest; changed in place.
    lumen : Lumen
        The vessel now.
    rest_px : tuple of float
        ``(x, y)`` where its centroid would be without motion of its own.
    rest_semi_px : tuple of float
        Its semi-axes at rest.
    """
    (cx, cy), (major, minor) = lumen.centroid_px, lumen.semi_px
    reach = 2.0 * rest_semi_px[0]
    at = window(x_px.shape, lumen.centroid_px, (reach, reach))
    dx, dy = _columns(at) - np.float32(cx), _rows(at) - np.float32(cy)
    weight = np.maximum(0, 1 - (dx * dx + dy * dy) * np.float32(1 / reach**2))
    weight *= weight
    cos, sin = math.cos(lumen.angle_rad), math.sin(lumen.angle_rad)
    s = np.float32(cos / major) * dx + np.float32(sin / major) * dy
    t = np.float32(-sin / minor) * dx + np.float32(cos / minor) * dy
    at_border = weight / np.maximum(1, np.sqrt(s * s + t * t))
    s *= at_border * np.float32(rest_semi_px[0] - major)
    t *= at_border * np.float32(rest_semi_px[1] - minor)
    x_px[at] += s * cos - t * sin + weight * np.float32(rest_px[0] - cx)
    y_px[at] += s * sin + t * cos + weight * np.float32(rest_px[1] - cy)


def draw(power: F32, vessel: VesselSettings, profiles: Profiles, lumen: Lumen, blood: F32) -> None:
    """Put an open vessel into the tissue's echo power.

    Parameters
    ----------
    power : ndarray of shape (H, W), float32
        Changed in place.
    vessel : VesselSettings
        Its looks.
    profiles : Profiles
        Of the same vessel.
    lumen : Lumen
        Its shape now.
    blood : ndarray of shape (H, W), float32
        Speckle of mean 1, new in every frame as blood flows on.
    """
    _enhance(power, vessel, lumen)
    at = window(power.shape, lumen.centroid_px, lumen.extent_px(profiles.reach))
    part = power[at]
    if part.size == 0:
        return
    p, q = lumen.to_disc(_columns(at), _rows(at))
    square = p * p + q * q
    entry = np.minimum(square * np.float32(_ENTRIES / _END), _ENTRIES - 1).astype(np.intp)
    steep = lumen.squareness(p, q)
    wall = profiles.wall.take(entry) * (steep * steep * steep)
    if vessel.far_wall_db:
        wall[q > 0] *= 10 ** (vessel.far_wall_db / 10)
    wall *= 0.15 + part * np.float32(0.85 / 10 ** (_SPECKLED_DB / 10))
    part *= profiles.keep.take(entry)
    part += wall
    # Echoes of the near wall that come late.
    start = vessel.haze_from
    haze = np.maximum(0, np.float32(start / (1 + start)) - q * np.float32(1 / (1 + start)))
    grain = np.float32(vessel.blood_grain)
    speckle = blood[at] * grain + (1 - grain)
    part += profiles.blood.take(entry) * speckle * (1 + np.float32(vessel.haze) * haze * haze)


def _enhance(power: F32, vessel: VesselSettings, lumen: Lumen) -> None:
    """Brighten what lies behind a vessel, and darken what lies behind its edges."""
    half_width, half_height = lumen.extent_px()
    cx, cy = lumen.centroid_px
    at = window(power.shape, (cx, cy + 8 * half_height), (1.3 * half_width, 8 * half_height))
    if power[at].size == 0:
        return
    side = (_columns(at) - np.float32(cx)) / np.float32(half_width)
    over = np.sqrt(np.maximum(0, 1 - side * side))
    edge = np.exp(-(((np.abs(side) - 1.02) / 0.08) ** 2))
    across_db = vessel.enhancement_db * (over - 0.5 * edge)
    down = np.exp(-(_rows(at) - np.float32(cy)) / np.float32(5 * half_height))
    power[at] *= np.exp((down * across_db).astype(np.float32) * np.float32(math.log(10) / 10))


def window(
    shape: tuple[int, ...], centre: tuple[float, float], half: tuple[float, float]
) -> tuple[slice, slice]:
    """Rows and columns of a picture within `half` of `centre`, both ``(x, y)``; may be empty."""
    height, width = shape[:2]
    top, bottom = math.floor(centre[1] - half[1]), math.ceil(centre[1] + half[1]) + 1
    left, right = math.floor(centre[0] - half[0]), math.ceil(centre[0] + half[0]) + 1
    rows = slice(min(height, max(0, top)), min(height, max(0, bottom)))
    return rows, slice(min(width, max(0, left)), min(width, max(0, right)))


def _rows(at: tuple[slice, slice]) -> F32:
    return np.arange(at[0].start, at[0].stop, dtype=np.float32)[:, None]


def _columns(at: tuple[slice, slice]) -> F32:
    return np.arange(at[1].start, at[1].stop, dtype=np.float32)
