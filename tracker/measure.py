"""Sizes and depth of one vessel, in pixels and, where spacing is known, in millimetres."""

import math

from veintrack.tracker.detect import axes_of
from veintrack.tracker.frame import Detection, Measurement, Spacing

__all__ = ["measure"]


def measure(detection: Detection, spacing_mm: Spacing | None, top_px: float = 0.0) -> Measurement:
    """Measure one vessel in one frame.

    Parameters
    ----------
    detection : Detection
        What was found.
    spacing_mm : tuple of float or None
        ``(row_mm, col_mm)``, millimetres per pixel; without it the millimetre fields stay None.
    top_px : float
        Row of the first pixel of the scan area. Depth counts from that pixel's upper edge.

    Notes
    -----
    Where rows and columns differ in spacing an ellipse changes its shape and direction in
    millimetres, so the axes are computed anew from the scaled second moments.
    """
    major_px, minor_px = detection.axes_px
    angle_deg = math.degrees(detection.angle_rad)
    if spacing_mm is None:
        return Measurement(detection.area_px2, major_px, minor_px, angle_deg)
    row_mm, col_mm = spacing_mm
    along, across = (major_px / 4) ** 2, (minor_px / 4) ** 2
    cos, sin = math.cos(detection.angle_rad), math.sin(detection.angle_rad)
    major_mm, minor_mm, _ = axes_of(
        (along * cos**2 + across * sin**2) * col_mm**2,
        (along * sin**2 + across * cos**2) * row_mm**2,
        (along - across) * sin * cos * row_mm * col_mm,
    )
    return Measurement(
        area_px2=detection.area_px2,
        major_px=major_px,
        minor_px=minor_px,
        angle_deg=angle_deg,
        depth_mm=(float(detection.centroid_px[1]) + 0.5 - top_px) * row_mm,
        area_mm2=detection.area_px2 * row_mm * col_mm,
        major_mm=major_mm,
        minor_mm=minor_mm,
    )
