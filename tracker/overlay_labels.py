"""Where labels go: beside the vessels, not on them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.overlay_canvas import Box

__all__ = ["place_labels"]

_GAP_PX = 3
_LITTLE = 0.05  # of a label, that may lie on something: labels should not jump for less


def place_labels(
    sizes_px: Sequence[tuple[int, int]],
    vessels: Sequence[Box],
    taken: Sequence[Box],
    canvas_px: tuple[int, int],
) -> list[Box]:
    """Find a place for each vessel's label: above it, below, or at a side, whatever is free first.

    Where none is free, the one is taken that covers least of vessels and labels.

    Parameters
    ----------
    sizes_px : sequence of tuple
        Width and height of each label.
    vessels : sequence of tuple
        The box of each vessel, in the same order.
    taken : sequence of tuple
        Boxes where other words are.
    canvas_px : tuple of int
        Width and height of the canvas, which no label leaves.

    Returns
    -------
    list of tuple
        The box of each label.
    """
    full = np.array([*vessels, *taken, *([(0, 0, 0, 0)] * len(vessels))]).reshape(-1, 4)
    placed: list[Box] = []
    for size, vessel in zip(sizes_px, vessels, strict=True):
        places = _places(size, vessel, canvas_px)
        covered = _covered(np.array(places), full)
        free = np.flatnonzero(covered <= _LITTLE * size[0] * size[1])
        best = places[int(free[0] if len(free) else covered.argmin())]
        full[len(vessels) + len(taken) + len(placed)] = best
        placed.append(best)
    return placed


def _places(size: tuple[int, int], vessel: Box, canvas_px: tuple[int, int]) -> list[Box]:
    """Boxes beside a vessel, the one that is liked best first, moved into the canvas."""
    width, height = size
    left, top, right, bottom = vessel
    middle = (top + bottom - height) // 2
    corners = [
        (left, top - _GAP_PX - height),
        (left, bottom + _GAP_PX),
        (right - width, top - _GAP_PX - height),
        (right - width, bottom + _GAP_PX),
        (right + _GAP_PX, middle),
        (left - _GAP_PX - width, middle),
    ]
    most_x, most_y = max(0, canvas_px[0] - width), max(0, canvas_px[1] - height)
    inside = [(max(0, min(x, most_x)), max(0, min(y, most_y))) for x, y in corners]
    return [(x, y, x + width, y + height) for x, y in inside]


def _covered(boxes: NDArray[np.int_], others: NDArray[np.int_]) -> NDArray[np.int_]:
    """Area of each box, shape (K, 4), that lies on others, shape (N, 4), px².

    What lies on two of them counts twice.
    """
    first = np.maximum(boxes[:, None, :2], others[:, :2])
    last = np.minimum(boxes[:, None, 2:], others[:, 2:])
    covered: NDArray[np.int_] = np.maximum(last - first, 0).prod(axis=2).sum(axis=1)
    return covered
