"""The furniture of a scanner's screen: what stands around the scan area, as a coarse map.

A map holds how densely a cell is filled with edges, in four levels, and says by that whether a
picture comes from the screen that it was made of, and whether it lies where it lay. It holds no
text: a cell is at least 16 px to a side and a twentieth of the frame, several letters of any font
that a scanner uses, and of it two bits are kept.
"""

import cv2
import numpy as np

from veintrack.tracker.frame import F32, U8, Region

__all__ = ["LEVELS", "Furniture", "agreement", "furniture_of", "map_shape", "offset_px"]

Furniture = tuple[str, ...]  # a row of cells each, a digit a cell

#: A cell is one of so many levels.
LEVELS = 4

_CELLS = 20  # along the longer side of the frame
_FINE = 8  # squares along a cell: how finely a map can be laid over a picture
_FINE_PX = 2  # at least, of a square: so a cell has 16
_DENSITY = (0.03, 0.12, 0.3)  # edge pixels in a cell, above which each level begins
_EDGE = 40  # grey levels within 3 x 3 px, more than compression and faint gradients make
_MARGIN = 3  # squares around the scan area that are left out: its outline is found anew each time
_REACH = 8  # squares that furniture is looked for around its place


def map_shape(shape_px: tuple[int, int]) -> tuple[int, int]:
    """``(rows, columns)`` of the map of a frame of ``(H, W)`` px."""
    cell = _FINE * _square_px(shape_px)
    return -(-shape_px[0] // cell), -(-shape_px[1] // cell)


def furniture_of(pixels: U8, crop_px: Region) -> Furniture:
    """Make the map of a picture, the scan area left out.

    Parameters
    ----------
    pixels : ndarray of shape (H, W), uint8
        A whole frame.
    crop_px : tuple of int
        ``(x, y, width, height)`` of the scan area.

    Returns
    -------
    tuple of str
        A string a row of cells, a digit from 0 (empty) to 3 (full) a cell.
    """
    levels = _levels(_edges(pixels) * _outside(pixels.shape, crop_px))
    return tuple("".join(map(str, row)) for row in levels)


def agreement(first: Furniture, second: Furniture) -> tuple[float, int]:
    """How well two maps of one shape agree.

    Returns
    -------
    share : float
        Sum of the smaller levels over the sum of the larger, 0 to 1 (the weighted Jaccard index);
        1 for two empty maps.
    apart : int
        Sum of the levels' differences.
    """
    return _agreement(_digits(first), _digits(second))


def offset_px(furniture: Furniture, pixels: U8, crop_px: Region) -> tuple[int, int, float]:
    """Find where the furniture of a map lies in a picture that may be moved.

    Parameters
    ----------
    furniture : tuple of str
        Of the screen, as :func:`furniture_of` made it.
    pixels : ndarray of shape (H, W), uint8
        A whole frame of the same size.
    crop_px : tuple of int
        Scan area that the map was made with.

    Returns
    -------
    x_px, y_px : int
        By how much the picture is moved to the right and down; known to a 160th of the frame.
    share : float
        The agreement at that place.
    """
    wanted, edges = _digits(furniture), _edges(pixels)
    outside = _outside(pixels.shape, crop_px)
    reach = range(-_REACH, _REACH + 1)
    places = sorted(((x, y) for x in reach for y in reach), key=lambda p: p[0] ** 2 + p[1] ** 2)
    shares = [_agreement(wanted, _levels(_moved(edges, *p) * outside))[0] for p in places]
    best = int(np.argmax(shares))  # of equals the first: the nearest
    square = _square_px(pixels.shape)
    return places[best][0] * square, places[best][1] * square, shares[best]


def _square_px(shape_px: tuple[int, ...]) -> int:
    return max(_FINE_PX, -(-max(shape_px) // (_CELLS * _FINE)))


def _edges(pixels: U8) -> F32:
    """Share of edge pixels in each square of the fine grid; whole cells, black beyond the frame."""
    square = _square_px(pixels.shape)
    rows, columns = (_FINE * n for n in map_shape((pixels.shape[0], pixels.shape[1])))
    steep = cv2.morphologyEx(pixels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > _EDGE
    whole = np.zeros((rows * square, columns * square), np.float32)
    whole[: pixels.shape[0], : pixels.shape[1]] = steep
    return np.asarray(whole.reshape(rows, square, columns, square).mean((1, 3)), np.float32)


def _outside(shape_px: tuple[int, ...], crop_px: Region) -> F32:
    """1 in the squares outside of the scan area and its margin, 0 in it."""
    square = _square_px(shape_px)
    x, y, width, height = crop_px
    rows, columns = map_shape((shape_px[0], shape_px[1]))
    mask = np.ones((rows * _FINE, columns * _FINE), np.float32)
    left, top = max(0, x // square - _MARGIN), max(0, y // square - _MARGIN)
    right, bottom = -(-(x + width) // square) + _MARGIN, -(-(y + height) // square) + _MARGIN
    mask[top:bottom, left:right] = 0
    return mask


def _levels(edges: F32) -> U8:
    rows, columns = edges.shape
    cells = edges.reshape(rows // _FINE, _FINE, columns // _FINE, _FINE).mean((1, 3))
    return np.asarray(np.digitize(cells, _DENSITY), np.uint8)


def _moved(edges: F32, x: int, y: int) -> F32:
    """Take back a move of so many squares to the right and down; empty where nothing comes from."""
    rows, columns = edges.shape
    back = np.zeros_like(edges)
    back[max(0, -y) : rows - max(0, y), max(0, -x) : columns - max(0, x)] = edges[
        max(0, y) : rows - max(0, -y), max(0, x) : columns - max(0, -x)
    ]
    return back


def _digits(furniture: Furniture) -> U8:
    return np.array([[int(digit) for digit in row] for row in furniture], np.uint8)


def _agreement(first: U8, second: U8) -> tuple[float, int]:
    smaller = int(np.minimum(first, second).sum(dtype=np.int64))
    larger = int(np.maximum(first, second).sum(dtype=np.int64))
    return (smaller / larger if larger else 1.0), larger - smaller
