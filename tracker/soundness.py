"""What a tracker is given: refused where it is nonsense, made fit where a filter needs more."""

import math
from dataclasses import replace

import numpy as np

from veintrack.tracker.frame import Detection, Region, Spacing

__all__ = ["check_picture", "sound"]

_LEAST_NOISE_PX2 = 1e-4  # no centroid is known better, whatever a detection says of itself
_MOST_CORRELATED = 0.999  # x and y of a centroid


def check_picture(spacing_mm: Spacing | None, area_px: Region | None) -> None:
    """Refuse a spacing or a scan area that no picture has.

    Raises
    ------
    ValueError
        If the spacing is not positive and finite, or the area is empty.
    """
    if spacing_mm is not None and not all(0 < mm < math.inf for mm in spacing_mm):
        raise ValueError(f"spacing_mm must be positive and finite, got {spacing_mm}")
    if area_px is not None and not (area_px[2] > 0 and area_px[3] > 0):
        raise ValueError(f"area_px must have a width and a height above 0, got {area_px}")


def sound(found: Detection) -> Detection:
    """Make a detection's covariance fit for a filter: symmetric, and positive definite.

    Raises
    ------
    ValueError
        If one of its numbers is not finite: a track would never get rid of it.
    """
    ((xx, xy), (yx, yy)), (major, minor) = found.covariance_px2.tolist(), found.axes_px
    rest = found.area_px2 + major + minor + found.angle_rad + found.score
    if not math.isfinite(xx + xy + yx + yy + rest):
        raise ValueError(
            "a detection's covariance_px2, area_px2, axes_px, angle_rad and score must be finite, "
            f"got {found.covariance_px2.tolist()}, {found.area_px2}, {found.axes_px}, "
            f"{found.angle_rad} and {found.score}"
        )
    least, most = _LEAST_NOISE_PX2, _MOST_CORRELATED * math.sqrt(abs(xx * yy))
    if xx >= least and yy >= least and xy == yx and abs(xy) <= most:
        return found
    xx, yy = max(xx, least), max(yy, least)
    most = _MOST_CORRELATED * math.sqrt(xx * yy)
    xy = min(max((xy + yx) / 2, -most), most)
    return replace(found, covariance_px2=np.array([[xx, xy], [xy, yy]]))
