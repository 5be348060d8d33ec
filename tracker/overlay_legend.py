"""What the lines of the overlay mean, and how long a millimetre is."""

import math
from functools import lru_cache

import cv2
import numpy as np

from veintrack.tracker.frame import U8, Spacing
from veintrack.tracker.overlay_canvas import LIGHT, Box, Canvas, size_of
from veintrack.tracker.overlay_trails import TRAIL_S

__all__ = ["draw_legend", "draw_scale", "round_length_mm"]

_SCALE = 0.4  # of the letters: smaller than what is said of the vessels
_ROW_PX, _SAMPLE_PX, _GAP_PX = 18, 26, 12
_MARGIN_PX = 8
_PART = 0.2  # of the picture's width, and height, that a scale bar takes at most
_ALIKE = 0.01  # spacing of rows and columns that differ by less share a bar
_LINES = (
    ("solid", "seen"),
    ("dashed", "predicted"),
    ("dotted", "collapsed"),
    ("ellipse", "centre, 95 %"),
    ("fading", f"last {TRAIL_S:g} s"),
)


def draw_legend(canvas: Canvas, bottom: int) -> list[Box]:
    """Write what the lines mean in rows above a height of the canvas, px.

    Returns the boxes that it fills.
    """
    keep, ink, boxes = _legend(canvas.size_px[0])
    top = bottom - ink.shape[0]
    canvas.lay(keep, ink, (0, top))
    return [(left, above + top, right, below + top) for left, above, right, below in boxes]


@lru_cache(4)
def _legend(width: int) -> tuple[U8, U8, list[Box]]:
    """Draw the legend once for a width: what it leaves of a picture, what it adds, its boxes.

    On black only what it adds is seen; on white, as much more as it leaves.
    """
    rows = _rows(width)
    height = _ROW_PX * len(rows)
    on_black, on_white = (np.full((height, width, 3), level, np.uint8) for level in (0, 255))
    boxes: list[Box] = []
    for pixels in (on_black, on_white):
        canvas = Canvas(pixels, 1, np.zeros(2))
        boxes = []
        for number, row in enumerate(rows, 1):
            y = _ROW_PX * number - 5
            for line, words, x in row:
                _sample(canvas, line, x, y - 4)
                box = canvas.write(words, (x + _SAMPLE_PX, y), scale=_SCALE)
                boxes.append((x, box[1], box[2], box[3]))
    return on_white - on_black, on_black, boxes


def _rows(width: int) -> list[list[tuple[str, str, int]]]:
    """Lay the legend's lines out in rows: which line, its words, and where it begins."""
    right = width - 4 * _MARGIN_PX  # a scale bar may stand there
    rows: list[list[tuple[str, str, int]]] = [[]]
    x = _MARGIN_PX
    for line, words in _LINES:
        wide = _SAMPLE_PX + size_of(words, _SCALE)[0] + _GAP_PX
        if rows[-1] and x + wide - _GAP_PX > right:
            rows.append([])
            x = _MARGIN_PX
        rows[-1].append((line, words, x))
        x += wide
    return rows


def _sample(canvas: Canvas, line: str, x: int, y: int) -> None:
    """Draw a piece of line, black-rimmed, from a pixel of the canvas to the right."""
    plain = Canvas(canvas.pixels, 1, np.zeros(2))
    right = x + _SAMPLE_PX - 6
    turn = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    ellipse = np.array([(x + right) / 2, y]) + np.column_stack([9 * np.cos(turn), 4 * np.sin(turn)])
    across = np.column_stack([np.linspace(x, right, 12), np.full(12, y, np.float64)])
    cv2.line(canvas.pixels, (x, y), (right, y), (0, 0, 0), 3)
    if line == "ellipse":
        plain.line(ellipse, (255, 255, 255))
    elif line == "dotted":
        plain.dots(across[1::3], LIGHT)
    elif line == "fading":
        for k, light in enumerate((70, 120, 170, 220)):
            plain.line(across[3 * k : 3 * k + 4], (light,) * 3, closed=False)
    else:
        plain.line(across, LIGHT, closed=False, dashed=line == "dashed")


def draw_scale(canvas: Canvas, spacing_mm: Spacing, bottom: int) -> list[Box]:
    """Draw a bar of a round length in the lower right corner, and one upright if that differs.

    Parameters
    ----------
    canvas : Canvas
        What to draw on.
    spacing_mm : tuple of float
        ``(row_mm, col_mm)`` of a pixel of the frame.
    bottom : int
        Height in px of the canvas at which it lies.

    Returns
    -------
    list of tuple
        The boxes that it fills.
    """
    row_mm, col_mm = spacing_mm
    width, height = canvas.size_px
    both = abs(row_mm / col_mm - 1) > _ALIKE
    most_mm = _PART * width * col_mm / canvas.zoom
    if both:
        most_mm = min(most_mm, _PART * height * row_mm / canvas.zoom)
    mm = round_length_mm(most_mm)
    across, down = round(mm / col_mm * canvas.zoom), round(mm / row_mm * canvas.zoom)
    right = width - _MARGIN_PX - 1
    _bar(canvas, (right - across, bottom), (right, bottom))
    text = f"{mm:g} mm"
    wide = size_of(text, _SCALE)[0]
    words = canvas.write(text, (right - across - wide - 4, bottom + 4), scale=_SCALE)
    boxes: list[Box] = [words, (right - across, bottom - 4, right + 4, bottom + 4)]
    if both:
        _bar(canvas, (right, bottom - down), (right, bottom))
        boxes.append((right - 4, bottom - down, right + 4, bottom))
    return boxes


def _bar(canvas: Canvas, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Draw a line across or upright with a stroke at each end, white with a black rim."""
    upright = start[0] == end[0]
    dx, dy = (3, 0) if upright else (0, 3)
    strokes = [(start, end)]
    strokes += [((x - dx, y - dy), (x + dx, y + dy)) for x, y in (start, end)]
    for thick, level in ((3, 0), (1, 255)):
        for first, last in strokes:
            cv2.line(canvas.pixels, first, last, (level,) * 3, thick)


def round_length_mm(most_mm: float) -> float:
    """Largest of 1, 2, 5, 10, 20 ... mm, and 0.5, 0.2 ..., that is not more than a length.

    Raises
    ------
    ValueError
        If that is not positive and finite.
    """
    if not 0 < most_mm < math.inf:
        raise ValueError(f"most_mm must be positive and finite, got {most_mm}")
    power = math.floor(math.log10(most_mm))
    steps = [digit * 10.0**exponent for exponent in (power - 1, power) for digit in (1, 2, 5)]
    return max(step for step in steps if step <= most_mm)
