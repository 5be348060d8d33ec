"""Which scales an ultrasound picture can have."""

import math

from veintrack.tracker.frame import Spacing

__all__ = ["COARSEST_MM", "FINEST_MM", "is_plausible"]

FINEST_MM, COARSEST_MM = 1e-4, 10.0  # per pixel; outside of these it is damage


def is_plausible(spacing_mm: Spacing) -> bool:
    """Tell whether an ultrasound picture can have as many millimetres per pixel."""
    return all(math.isfinite(mm) and FINEST_MM <= mm <= COARSEST_MM for mm in spacing_mm)
