"""Where on a captured screen the ultrasound is.

A scanner's screen holds the picture, black margins, text, a grey or colour bar and small widgets.
Tissue is what is bright over areas thicker than the strokes of text and lines. That gives the
picture's bright part; its dim rest is found by going outwards from there until a sharp edge.
"""

import cv2
import numpy as np

from veintrack.tracker.frame import F64, U8

__all__ = ["find_scan_area"]

_BRIGHT = 16  # grey levels above this are surely more than noise on black
_LIT = 4  # and up to this may be black: compression leaves faint noise
_STROKE = 70  # shorter side of the frame over the thickness that text and lines may have
_PART = 0.01  # of the frame: a bright area of this size is part of the picture, no widget
_SMALLEST = 0.15  # of the frame: anything less is no scan area
_FULL, _EMPTY = 0.5, 0.2  # lit part of a row inside the picture, and beyond its edge
_ROWS, _COLUMNS = 3, 8  # within so many, a sharp edge falls from full to empty
_STEP_BACK = 24  # rows that text or a grey bar may stand out beyond the picture


def find_scan_area(pixels: U8) -> tuple[int, int, int, int]:
    """Find the part of one frame that is ultrasound.

    Rather too large than too small: tissue in shadow is black like a margin, so on a side where
    the picture fades out, instead of ending in an edge, it is taken to reach the frame's border.

    Parameters
    ----------
    pixels : ndarray of shape (H, W), uint8
        A whole captured frame.

    Returns
    -------
    tuple of int
        ``(x, y, width, height)`` in px; the whole frame where no part stands out.
    """
    height, width = pixels.shape
    whole = (0, 0, width, height)
    stroke = max(3, min(height, width) // _STROKE)
    bright = np.where(pixels > _BRIGHT, np.uint8(255), np.uint8(0))
    thick = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((stroke, stroke), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(thick, connectivity=4)
    parts = stats[1:][stats[1:, cv2.CC_STAT_AREA] >= _PART * pixels.size]
    if not len(parts):
        return whole
    left, top = (int(v) for v in parts[:, :2].min(axis=0))
    right, bottom = (int(v) for v in (parts[:, :2] + parts[:, 2:4]).max(axis=0))

    lit = pixels > _LIT
    rows: F64 = lit[:, left:right].mean(axis=1)
    top, bottom = height - _end(rows[::-1], height - top, _ROWS), _end(rows, bottom, _ROWS)
    columns: F64 = lit[top:bottom].mean(axis=0)
    left, right = (
        width - _end(columns[::-1], width - left, _COLUMNS),
        _end(columns, right, _COLUMNS),
    )
    area = (left, top, right - left, bottom - top)
    return area if area[2] * area[3] >= _SMALLEST * pixels.size else whole


def _end(lit: F64, at: int, within: int) -> int:
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
    full = np.flatnonzero(lit[max(0, at - _STEP_BACK) : at] >= _FULL)
    if not full.size:
        return len(lit)
    end = max(0, at - _STEP_BACK) + int(full[-1]) + 1
    dim = np.flatnonzero(lit[end:] < _FULL)
    end = end + int(dim[0]) if dim.size else len(lit)
    outside = lit[end : end + within]
    return end if outside.size and outside.min() < _EMPTY else len(lit)
