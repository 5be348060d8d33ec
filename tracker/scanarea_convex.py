"""The sector that a convex or phased probe shows: where its sides meet, angles and radii."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F64, U8, Region

__all__ = ["SectorShape", "find_sector"]

_SMALLEST_PX = 32  # a sector is at least so high
_LEAST_RAD = math.radians(8)  # sides closer to the vertical are those of a linear probe
_MOST_RAD = math.radians(80)
_SIDE = 0.25  # of the mask's height: a straight side is at least so long
_NEAR = 0.008  # of the mask's height: the outline's points this near to a side belong to it
_ENOUGH = 400  # rows, at least, in which they are looked for
_BINS = 48  # rays along which the arcs are looked for
_INSIDE, _FILLED = 0.96, 0.6  # the mask's part inside the sector, the sector's part that is mask
_BOX = 0.93  # a sector fills less than this of its bounding box
_FULL, _EMPTY = 0.5, 0.2  # lit part of an arc inside the picture, and beyond its edge
_ACROSS = 3  # px within which a sharp edge falls from full to empty
_QUIET = 16  # depth of the sector over how broad a part at its arcs may not move


@dataclass(frozen=True, slots=True)
class SectorShape:
    """A sector: two straight sides that would meet above it, and two arcs about that point.

    Attributes
    ----------
    apex_px : tuple of float
        ``(x, y)`` where the sides meet, in px of the frame; it may lie above the frame.
    left_rad, right_rad : float
        Angles of the sides from straight down, both positive.
    inner_px, outer_px : float
        Radii of the probe's face and of the picture's end.
    """

    apex_px: tuple[float, float]
    left_rad: float
    right_rad: float
    inner_px: float
    outer_px: float

    def outline_px(self, step_rad: float = 0.01) -> F64:
        """Trace the sector: points ``(x, y)`` of shape (N, 2), closed implicitly."""
        count = max(2, math.ceil((self.left_rad + self.right_rad) / step_rad))
        angles = np.linspace(-self.left_rad, self.right_rad, count)
        rays = np.stack([np.sin(angles), np.cos(angles)], axis=1)
        outline: F64 = np.concatenate([self.inner_px * rays, self.outer_px * rays[::-1]])
        outline += self.apex_px
        return outline

    def box_px(self, shape_px: tuple[int, int]) -> Region:
        """Bound the part of it that lies in a frame of ``(H, W)``: ``(x, y, width, height)``."""
        limits = np.array([shape_px[1], shape_px[0]])
        outline = self.outline_px()
        left, top = (int(v) for v in np.clip(np.floor(outline.min(axis=0)), 0, limits - 1))
        right, bottom = (int(v) for v in np.clip(np.ceil(outline.max(axis=0)) + 1, 1, limits))
        return left, top, right - left, bottom - top


def find_sector(mask: U8, lit: U8) -> SectorShape | None:
    """Find the sector that a mask has the shape of.

    The sides are straight edges of the mask's convex hull, whatever is missing inside. A mask that
    is no sector, or is one only in part, has none.

    Parameters
    ----------
    mask : ndarray of shape (H, W), uint8
        Other than 0 where the picture is for certain.
    lit : ndarray of shape (H, W), uint8
        1 where the frame is not black, else 0: the arcs are looked for up to where that ends.
    """
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    outline = max(contours, key=cv2.contourArea)[:, 0].astype(np.float64)
    if np.ptp(outline[:, 1]) < _SMALLEST_PX:
        return None
    sides = [_side(outline, sign) for sign in (-1, 1)]
    if sides[0] is None or sides[1] is None:
        return None
    (left, slope_left), (right, slope_right) = sides[0], sides[1]  # x = x0 + slope * y
    apex_y = (right - left) / (slope_left - slope_right)
    apex = (left + slope_left * apex_y, apex_y)
    angles = -math.atan(slope_left), math.atan(slope_right)
    radii = _radii(mask, apex, angles)
    if radii is None:
        return None
    sector = SectorShape(apex, *angles, *radii)
    return _extended(sector, lit) if _fits(sector, mask) else None


def _side(outline: F64, sign: int) -> tuple[float, float] | None:
    """Fit the side that leans outwards, left for sign -1: ``x = x0 + slope * y``."""
    height = float(np.ptp(outline[:, 1]))
    hull = cv2.approxPolyDP(cv2.convexHull(outline.astype(np.float32)), _NEAR * height, closed=True)
    start = hull[:, 0].astype(np.float64)
    end = np.roll(start, -1, axis=0)
    across, down = (end - start).T
    lean = np.arctan2(sign * across * np.sign(down), np.abs(down))
    outer = sign * ((start + end)[:, 0] / 2 - np.median(outline[:, 0])) > 0
    length = np.hypot(across, down)
    length[~outer | (lean < _LEAST_RAD) | (lean > _MOST_RAD)] = 0
    best = int(length.argmax())
    if length[best] < _SIDE * height:
        return None
    one, other = start[best], end[best]
    along = (other - one) / length[best]
    away = np.abs((outline - one) @ np.array([-along[1], along[0]]))
    between = (outline - one) @ along
    near = (away <= max(1.5, _NEAR * height)) & (between >= 0) & (between <= length[best])
    if np.count_nonzero(near) < 3:
        return None
    x_along, y_along, x, y = (
        float(v)
        for v in cv2.fitLine(outline[near].astype(np.float32), cv2.DIST_HUBER, 0, 0.01, 0.01)[:, 0]
    )
    if abs(y_along) < 1e-3:
        return None
    slope = x_along / y_along
    return x - slope * y, slope


def _radii(
    mask: U8, apex: tuple[float, float], angles: tuple[float, float]
) -> tuple[float, float] | None:
    """Find where the mask begins and ends along rays from the apex."""
    step = max(1, min(mask.shape) // _ENOUGH)
    rows, columns = np.nonzero(mask[::step, ::step])
    x, y = step * columns - apex[0], step * rows - apex[1]
    share = (np.arctan2(x, y) + angles[0]) / (angles[0] + angles[1])
    kept = (share > 0.05) & (share < 0.95)
    radius, share = np.hypot(x, y)[kept], share[kept]
    bins = (share * _BINS).astype(int)
    first, last = np.full(_BINS, np.inf), np.zeros(_BINS)
    np.minimum.at(first, bins, radius)
    np.maximum.at(last, bins, radius)
    found = last > 0
    if np.count_nonzero(found) < _BINS / 2:
        return None
    # Shadows shorten rays, they do not lengthen them.
    return float(np.quantile(first[found], 0.3)), float(np.quantile(last[found], 0.9))


def _extended(sector: SectorShape, lit: U8) -> SectorShape:
    """Move the arcs outwards to where what is lit ends, where that is near."""
    reach = round(sector.outer_px - sector.inner_px) // _QUIET + _ACROSS
    steps = np.arange(1, reach)
    return replace(
        sector,
        inner_px=sector.inner_px - _quiet_px(_lit_arcs(sector, lit, sector.inner_px - steps)),
        outer_px=sector.outer_px + _quiet_px(_lit_arcs(sector, lit, sector.outer_px + steps)),
    )


def _lit_arcs(sector: SectorShape, lit: U8, radii: NDArray[np.floating]) -> F64:
    """Measure the lit part of arcs of these radii, as far as they lie in the frame."""
    angles = np.linspace(-0.95 * sector.left_rad, 0.95 * sector.right_rad, 128)
    columns = np.rint(sector.apex_px[0] + np.maximum(radii, 0)[:, None] * np.sin(angles))
    rows = np.rint(sector.apex_px[1] + np.maximum(radii, 0)[:, None] * np.cos(angles))
    height, width = lit.shape
    seen = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    values = lit[
        np.clip(rows, 0, height - 1).astype(int), np.clip(columns, 0, width - 1).astype(int)
    ]
    part: F64 = (values * seen).sum(axis=1) / np.maximum(1, seen.sum(axis=1))
    return part


def _quiet_px(lit: F64) -> int:
    """Count the arcs up to the edge of what is lit; 0 where there is none."""
    dim = np.flatnonzero(lit < _FULL)
    if not dim.size:
        return 0
    first = int(dim[0])
    return first if lit[first : first + _ACROSS].min() < _EMPTY else 0


def _fits(sector: SectorShape, mask: U8) -> bool:
    """Whether mask and sector cover each other, and the sector is no rectangle."""
    _, _, width, height = sector.box_px((mask.shape[0], mask.shape[1]))
    drawn = np.zeros_like(mask)
    cv2.fillPoly(drawn, [np.rint(sector.outline_px()).astype(np.int32)], 1)
    grown = cv2.dilate(drawn, np.ones((7, 7), np.uint8))
    lit, size = np.count_nonzero(mask), np.count_nonzero(drawn)
    return bool(
        size
        and size < _BOX * width * height
        and np.count_nonzero((mask > 0) & (grown > 0)) >= _INSIDE * lit
        and np.count_nonzero((mask > 0) & (drawn > 0)) >= _FILLED * size
    )
