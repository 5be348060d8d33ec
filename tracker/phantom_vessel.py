"""How a vessel shows in the phantom's picture: it moves its surroundings and changes echoes."""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from veintrack.tracker.frame import F32
from veintrack.tracker.phantom_lumen import Lumen
from veintrack.tracker.phantom_settings import VesselSettings

__all__ = ["Profiles", "displace", "draw", "window"]

_ENTRIES = 2048
_END = 9.0  # squared relative radius at which the profiles end
_SPECKLED_DB = -34.0  # tissue around a wall that gives it its nominal brightness
_HAZY = 0.3  # mean over the border of the haze's profile, for late echoes that end anywhere
_FRESH_DB = 1.0  # half of how much darker than its mean fresh speckle shows, next to averaged
_FAINT = 0.25  # power of the wall on the border, as a part of what is half-way there


_Power = TypeVar("_Power", float, F32)


@dataclass(frozen=True, slots=True, eq=False)
class Profiles:
    """A vessel's echoes as tables over the squared relative radius, which is 1 on its border.

    Attributes
    ----------
    keep : ndarray of float32
        What is left of the tissue's own power.
    wall : ndarray of float32
        Power of the near wall where the beam meets it squarely, then that of the far wall.
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
    def of(cls, vessel: VesselSettings, tissue_db: float, floor_db: float) -> "Profiles":
        """Tabulate a vessel's profiles for its size at rest.

        Tissue fades into blood, and the wall into both, over some distance; what is seen is their
        logarithm. Both are laid so that the picture is half-way between the grey of the tissue
        and that of the lumen on the border itself, whatever its softness, wall and contrast.

        Parameters
        ----------
        vessel : VesselSettings
            Its looks.
        tissue_db : float
            Echo of the tissue around it.
        floor_db : float
            Echo that the picture shows where there is none: noise, or what is black.
        """
        radius = np.sqrt(np.arange(_ENTRIES) * (_END / _ENTRIES))
        out_mm = (radius - 1) * math.sqrt(vessel.major_mm * vessel.minor_mm) / 2
        around = _power(tissue_db + vessel.sheath_db) + _power(floor_db)
        lumen = _power(vessel.blood_db) * (1 + _HAZY * vessel.haze) + _power(floor_db)
        middle = math.sqrt(around * lumen) * _power(-_FRESH_DB * vessel.blood_grain**2)
        # What is left of the tissue on the border, so that blood and tissue add up to the middle.
        left = (middle - lumen) / (around - lumen) if around > lumen else 0.5
        left = min(0.98, max(0.02, left))
        inside = 1 / (1 + np.exp(np.clip(out_mm / vessel.edge_mm, -40, 40)) * left / (1 - left))
        sheath_db = vessel.sheath_db * np.exp(-np.maximum(0, out_mm) / 0.8) * (1 - inside)
        sheath_db *= np.clip((2 - radius) * 2, 0, 1)
        walls = []
        for wall_db in (vessel.wall_db, vessel.wall_db + vessel.far_wall_db):
            above = _power(wall_db) * _in_tissue(_power(tissue_db)) / (_FAINT * middle)
            flank = math.sqrt(max(1.0, math.log(above)))  # where it is no more than faint
            offset = out_mm / (vessel.wall_mm / 2) - flank
            walls.append(_power(wall_db) * np.exp(-(offset**2)))
        changed = (np.max(walls, axis=0) > 1e-7) | (sheath_db > 0.1) | (inside > 1e-3)
        return cls(
            keep=((1 - inside) * 10 ** (sheath_db / 10) + 1e-4 * inside).astype(np.float32),
            wall=np.concatenate(walls).astype(np.float32),
            blood=(inside * _power(vessel.blood_db)).astype(np.float32),
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
    wall = profiles.wall.take(entry + _ENTRIES * (q > 0)) * (steep * steep * steep)
    wall *= _in_tissue(part)
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


def _in_tissue(power: _Power) -> _Power:
    """Part of a wall's nominal power that it has in tissue of this power."""
    share: _Power = 0.15 + power * np.float32(0.85 / 10 ** (_SPECKLED_DB / 10))
    return share


def _power(echo_db: float) -> float:
    return float(10 ** (echo_db / 10))


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
