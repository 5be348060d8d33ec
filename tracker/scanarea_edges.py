"""Where a picture ends on a screen: from which grey level on it is lit, and what is an edge."""

import numpy as np

from veintrack.tracker.frame import F64, U8

__all__ = ["COLUMNS_PX", "EMPTY", "FULL", "PART", "ROWS_PX", "grey_levels", "picture_end"]

FULL, EMPTY = 0.5, 0.2  # lit part of a row inside the picture, and beyond its edge
ROWS_PX, COLUMNS_PX = 3, 8  # within so many, a sharp edge falls from full to empty
PART = 0.01  # of the frame: an area of this size is part of the picture, no widget
_STEP_BACK_PX = 24  # rows that text or a grey bar may stand out beyond the picture

_BRIGHT = 16  # grey levels above this are surely more than noise on black
_LIT = 4  # and up to this may be black: compression leaves faint noise
_WHITE = 80  # where less than 1 in 100 pixels is brighter, the levels above are less in proportion:
_LEAST_BRIGHT, _LEAST_LIT = 2, 1  # a frame that fades to black keeps its scan area, down to these


def grey_levels(pixels: U8) -> tuple[float, float]:
    """Choose the grey levels above which a pixel is surely bright, and is lit.

    Parameters
    ----------
    pixels : ndarray of shape (H, W), uint8
        A whole captured frame.
    """
    scale = min(1.0, float(np.quantile(pixels[::4, ::4], 0.99)) / _WHITE)
    return max(_LEAST_BRIGHT, _BRIGHT * scale), max(_LEAST_LIT, _LIT * scale)


def picture_end(lit: F64, at: int, within: int) -> int:
    """Find where the picture ends, from the lit part of each row in the outward direction.

    Parameters
    ----------
    lit : ndarray of shape (N,), float64
        0 to 1.
    at : int
        Where the bright part ends: the index after its last row.
    within : int
        Rows within which a sharp edge falls from full to empty.

    Returns
    -------
    int
        The index after the picture's last row: N where no sharp edge comes before.
    """
    # Text that touches the picture belongs to the bright part: step back in to where rows are full.
    full = np.flatnonzero(lit[max(0, at - _STEP_BACK_PX) : at] >= FULL)
    if not full.size:
        return len(lit)
    end = max(0, at - _STEP_BACK_PX) + int(full[-1]) + 1
    dim = np.flatnonzero(lit[end:] < FULL)
    end = end + int(dim[0]) if dim.size else len(lit)
    outside = lit[end : end + within]
    return end if outside.size and outside.min() < EMPTY else len(lit)
