"""Sizes and depth of one vessel, in pixels and, where spacing is known, in millimetres."""

import math
from typing import TYPE_CHECKING

from veintrack.tracker.detect import axes_of
from veintrack.tracker.frame import Detection, Measurement, Patch, Spacing

if TYPE_CHECKING:
    from veintrack.tracker.vitals import VitalSigns

__all__ = ["axes_mm", "measure", "near_wall_y"]


def measure(
    detection: Detection,
    spacing_mm: Spacing | None,
    top_px: float = 0.0,
    signs: "VitalSigns | None" = None,
) -> Measurement:
    """Measure one vessel in one frame.

    Parameters
    ----------
    detection : Detection
        What was found.
    spacing_mm : tuple of float or None
        ``(row_mm, col_mm)``, millimetres per pixel; without it the millimetre fields stay None.
    top_px : float
        Row of the first pixel of the scan area. Depth counts from that pixel's upper edge.
    signs : VitalSigns, optional
        What the vessel did over the last seconds.

    Notes
    -----
    What each number is and where it comes from: ``docs/measurement.md``.
    """
    major_px, minor_px = detection.axes_px
    near_wall_px = near_wall_y(detection) + 0.5 - top_px
    depth_mm = area_mm2 = major_mm = minor_mm = near_wall_mm = None
    if spacing_mm is not None:
        row_mm, col_mm = spacing_mm
        depth_mm = (float(detection.centroid_px[1]) + 0.5 - top_px) * row_mm
        area_mm2 = detection.area_px2 * row_mm * col_mm
        major_mm, minor_mm = axes_mm(detection, spacing_mm)
        near_wall_mm = near_wall_px * row_mm
    return Measurement(
        detection.area_px2,
        major_px,
        minor_px,
        math.degrees(detection.angle_rad),
        depth_mm,
        area_mm2,
        major_mm,
        minor_mm,
        signs.collapse if signs else None,
        signs.pulse_hz if signs else None,
        near_wall_px,
        near_wall_mm,
        signs.pulse_strength if signs else None,
        signs.vein_likeness if signs else None,
        signs.vein_likeness_sd if signs else None,
    )


def axes_mm(detection: Detection, spacing_mm: Spacing) -> tuple[float, float]:
    """Full axes ``(major, minor)`` in mm.

    Where rows and columns differ in spacing an ellipse changes its shape and direction in
    millimetres, so the axes are computed anew from the scaled second moments.
    """
    row_mm, col_mm = spacing_mm
    major_px, minor_px = detection.axes_px
    if row_mm == col_mm:
        return major_px * row_mm, minor_px * row_mm
    xx, yy, xy = _moments(detection)
    major_mm, minor_mm, _ = axes_of(xx * col_mm**2, yy * row_mm**2, xy * row_mm * col_mm)
    return major_mm, minor_mm


def near_wall_y(detection: Detection) -> float:
    """Row, in px of the frame, where the vertical line through the centroid enters the vessel.

    Where the probability on that line, interpolated between pixels, first reaches that of the
    detection's edge.
    Without the map, or where the line misses the vessel (a crescent), that of the ellipse with
    the same second moments.
    """
    x_px, y_px = detection.centroid_px.tolist()
    found = (
        None if detection.patch is None else _first_crossing(detection.patch, x_px, detection.edge)
    )
    if found is not None:
        return found
    xx, yy, xy = _moments(detection)
    # The ellipse d' S^-1 d = 4 with the moments S meets x = 0 at y² = 4 det(S) / S_xx.
    return float(y_px - 2 * math.sqrt(max(yy - xy * xy / xx, 0.0) if xx > 0 else yy))


def _moments(detection: Detection) -> tuple[float, float, float]:
    """Second central moments xx, yy, xy of the ellipse, px²: a quarter of the semi-axes squared."""
    along, across = (a * a / 16 for a in detection.axes_px)
    cos, sin = math.cos(detection.angle_rad), math.sin(detection.angle_rad)
    return (
        along * cos**2 + across * sin**2,
        along * sin**2 + across * cos**2,
        (along - across) * sin * cos,
    )


def _first_crossing(patch: Patch, x_px: float, level: float) -> float | None:
    """Where a vertical line first enters the part above a level; None where it does not."""
    height, width = patch.probability.shape
    column = (x_px - patch.origin_px[0]) / patch.step_px[0]
    if not 0 <= column <= width - 1:
        return None
    left = min(int(column), width - 2) if width > 1 else 0
    right, part = min(left + 1, width - 1), column - left
    at_pixel, before = patch.probability.item, 0.0
    for row in range(height):  # as a rule it enters within the first few
        here = (1 - part) * at_pixel(row, left) + part * at_pixel(row, right)
        if here >= level:
            # Cut by the map's edge, the pixel's own edge is the last that is known.
            at = row - 1 + (level - before) / (here - before) if row else -0.5
            return patch.origin_px[1] + at * patch.step_px[1]
        before = here
    return None
