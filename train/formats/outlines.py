"""Labels kept as outlines or as runs of pixels, turned into masks.

Outlines are in the coordinates of COCO and LabelMe: (0, 0) is the corner of the picture, so the
centre of the top left pixel is (0.5, 0.5). A pixel belongs to an outline if its centre does.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from veintrack.tracker.frame import F64, U8

__all__ = ["as_points", "circle", "decode_counts", "fill_polygon", "fill_runs"]


def as_points(pairs: Any) -> F64:
    """Return points as an array of shape (K, 2).

    Raises
    ------
    ValueError
        If they are anything but pairs of finite numbers.
    """
    try:
        points = np.asarray(pairs, np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError("its points are no pairs of numbers")
    return points


def fill_polygon(corners_px: F64, shape_px: tuple[int, int]) -> U8:
    """Fill a polygon; where it overlaps itself, the even-odd rule holds, as in COCO.

    Every edge flips all pixels of a row whose centre is to the right of it: the scan-line
    algorithm of Foley et al., Computer Graphics: Principles and Practice, section 3.6.

    Parameters
    ----------
    corners_px : ndarray of shape (K, 2), float64
        ``(x, y)`` from the picture's corner; the last is joined to the first. Parts outside the
        picture are cut off.
    shape_px : tuple of int
        ``(H, W)``.

    Returns
    -------
    ndarray of shape (H, W), uint8
        1 inside.
    """
    height, width = shape_px
    start = np.asarray(corners_px, np.float64) - 0.5  # pixel centres at whole numbers
    end = np.roll(start, -1, axis=0)
    top = np.minimum(start[:, 1], end[:, 1]).clip(0, height)
    bottom = np.maximum(start[:, 1], end[:, 1]).clip(0, height)
    # An edge crosses the rows from its upper end up to, but not with, its lower end, so that two
    # edges that meet in a row cross it once.
    first = np.ceil(top).astype(np.int64)
    rows_of = np.ceil(bottom).astype(np.int64) - first
    edge = np.repeat(np.arange(len(start)), rows_of)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(rows_of) - rows_of, rows_of) + first[edge]
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    cross = x0 + (row - y0) * (x1 - x0) / (y1 - y0)
    # Only odd or even matters, and eight bits that overflow stay odd or even.
    flips = np.zeros((height, width + 1), np.uint8)
    np.add.at(flips, (row, np.ceil(cross).clip(0, width).astype(np.int64)), 1)
    inside: U8 = np.bitwise_and(flips.cumsum(axis=1, dtype=np.uint8)[:, :width], np.uint8(1))
    return inside


def circle(centre_px: Sequence[float], edge_px: Sequence[float]) -> F64:
    """Return a circle's outline: 128 corners, less than 0.1 % of its area missing."""
    x, y = centre_px
    radius = np.hypot(edge_px[0] - x, edge_px[1] - y)
    angle = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def decode_counts(text: str) -> list[int]:
    """Decode COCO's compressed run lengths.

    Each number is split into groups of 5 bits, lowest first, with a sixth bit that says that more
    follow, and stored as the character 48 above that; the highest bit of the last group is the
    sign. From the fourth on, numbers are differences to the last but one. (COCO API,
    ``common/maskApi.c``, ``rleToString``.)

    Raises
    ------
    ValueError
        If `text` has other characters or ends inside a number.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"character {character!r} cannot occur in run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("the run lengths end inside a number")
    return counts


def fill_runs(counts: Sequence[int], shape_px: tuple[int, int]) -> U8:
    """Turn run lengths into a mask: down the columns, 0 and 1 in turn, 0 first (COCO's RLE).

    Raises
    ------
    ValueError
        If a run is no number from 0, or they do not add up to the picture.
    """
    height, width = shape_px
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise ValueError("its runs must be whole numbers, none of them negative")
    if sum(counts) != height * width:
        raise ValueError(
            f"its runs add up to {sum(counts)} pixels, but a {width}x{height} picture has "
            f"{height * width}"
        )
    column_major = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8)
    return np.ascontiguousarray(column_major.reshape(width, height).T)
