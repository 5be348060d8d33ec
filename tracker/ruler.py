"""Millimetres per pixel: from a known depth, from two points, from the depth ruler on the screen.

Scanners draw a ruler beside the picture: short strokes or dots, one below the other at equal
distances, every few of them longer, some with a number. Its ticks stand at whole steps of depth,
so that they say more exactly how many pixels a millimetre has than the outline of the scan area.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F32, F64, U8, Region, Spacing

__all__ = [
    "DepthSpacing",
    "Ruler",
    "find_ruler",
    "spacing_for_depth",
    "spacing_from_clicks",
    "spacing_from_depth",
    "spacing_from_ruler",
]

IntP = NDArray[np.intp]

#: Distances that scanners put between ticks, in mm.
TICKS_MM = (1.0, 2.0, 2.5, 5.0, 10.0, 20.0, 50.0)

_NEAREST_CLICKS_PX = 10.0  # a click is good to about a pixel: nearer, and spacing is off by 10 %
_STEP_FIT = 0.15  # how far a tick's distance may be from a usual one: what an outline is off by
_BAND = 0.12  # of the frame's width: how far from the scan area a ruler may stand
_INSIDE = 0.03  # and how far inside it
_LINE = 160  # shorter side of the frame over the thickness of a line that was scaled with it
_FAINT = 7.0  # grey levels that a tick stands out by, at least
_HALO = 2.0  # lines around a stroke, within which one of half its brightness is none
_LONGEST = 0.06  # of the frame's width: what is longer is a stripe across the picture, no tick
_STRIPES = 10  # in so many of a column there is no ruler: a test picture, tissue, noise
_MOST = 200  # strokes in a column, or they are a texture
_TICKS = 5  # at least so many, or any two strokes of text are a ruler
_CLOSEST_PX = 4.0  # ticks nearer than this run into each other
_OFF = 0.5  # of a line that a tick may be away from where the one before wants it
_ROUGH = 0.25  # of a line: standard deviation about equal steps; rounding alone makes 0.1
_PRESENT = 0.8  # of a ruler's ticks that are seen: a mark may hide one
_SPAN = 0.5  # of the scan area's height that a ruler covers, at least
_BESIDE = (
    5 / 3
)  # lines from a tick's column outwards, in which text would show more than its strokes
_ALONE = 0.58  # of what is lit there, the part that the ticks are: text has half and less
_STRAY = 0.25  # other strokes between the ticks, over ticks: focus marks, digits


@dataclass(frozen=True, slots=True)
class Ruler:
    """A depth ruler on the screen.

    Attributes
    ----------
    x_px : float
        Column in which its ticks were found.
    ticks_px : tuple of float
        Where they are, from the top; of those that are missing nothing is said.
    pitch_px : float
        From one tick to the next, fitted through all of them.
    pitch_sd_px : float
        Standard deviation of `pitch_px`.
    """

    x_px: float
    ticks_px: tuple[float, ...]
    pitch_px: float
    pitch_sd_px: float


@dataclass(frozen=True, slots=True)
class DepthSpacing:
    """Spacing that follows from the depth set on the scanner.

    Attributes
    ----------
    spacing_mm : tuple of float
        ``(row_mm, col_mm)``, millimetres per pixel.
    ruler : Ruler or None
        The ruler that it was measured with; None where the scan area's height was taken.
    said : str
        In words, what it follows from.
    """

    spacing_mm: Spacing
    ruler: Ruler | None
    said: str


def spacing_from_depth(depth_mm: float, area_px: Region) -> Spacing:
    """Divide the depth over the rows of the scan area; pixels are square.

    Parameters
    ----------
    depth_mm : float
        Depth from the top to the bottom of the scan area, as set on the scanner.
    area_px : tuple of int
        ``(x, y, width, height)`` of the scan area.

    Raises
    ------
    ValueError
        If the depth is not above 0 and finite, or the area has no height.
    """
    _positive("depth_mm", depth_mm)
    if area_px[3] <= 0:
        raise ValueError(f"area_px must have a height above 0, got {area_px}")
    mm = depth_mm / area_px[3]
    return (mm, mm)


def spacing_from_clicks(
    first_px: tuple[float, float], second_px: tuple[float, float], distance_mm: float
) -> Spacing:
    """Divide a known distance over the pixels between two points; pixels are square.

    Parameters
    ----------
    first_px, second_px : tuple of float
        ``(x, y)`` of the points, at least 10 px apart.
    distance_mm : float
        How far they are apart, as the scanner's ruler or callipers say.

    Raises
    ------
    ValueError
        If the points are too near to each other, or the distance is not above 0 and finite.
    """
    _positive("distance_mm", distance_mm)
    apart_px = math.dist(first_px, second_px)
    if not _NEAREST_CLICKS_PX <= apart_px < math.inf:
        raise ValueError(
            f"two points must be at least {_NEAREST_CLICKS_PX:g} px apart, got {apart_px:.1f} px"
        )
    mm = distance_mm / apart_px
    return (mm, mm)


def spacing_from_ruler(
    ruler: Ruler,
    *,
    tick_mm: float | None = None,
    depth_mm: float | None = None,
    area_px: Region | None = None,
) -> Spacing:
    """Divide the distance of two ticks over the pixels between them; pixels are square.

    Where the distance is not known, it is the one of :data:`TICKS_MM` that agrees with the depth.

    Parameters
    ----------
    ruler : Ruler
        As :func:`find_ruler` found it.
    tick_mm : float, optional
        Distance of two ticks.
    depth_mm : float, optional
        Instead: the depth of the scan area.
    area_px : tuple of int, optional
        With it, the scan area.

    Raises
    ------
    ValueError
        If neither is known, or no usual distance of ticks agrees with the depth.
    """
    if tick_mm is None:
        if depth_mm is None or area_px is None:
            raise ValueError("tick_mm, or depth_mm and area_px, must be given")
        tick_mm = _usual_step(ruler, depth_mm, area_px)
    _positive("tick_mm", tick_mm)
    mm = tick_mm / ruler.pitch_px
    return (mm, mm)


def _usual_step(ruler: Ruler, depth_mm: float, area_px: Region) -> float:
    """Choose the usual distance of ticks that agrees with the depth."""
    about_mm = spacing_from_depth(depth_mm, area_px)[0] * ruler.pitch_px
    near = [mm for mm in TICKS_MM if abs(about_mm / mm - 1) <= _STEP_FIT]
    if not near:
        raise ValueError(
            f"a depth of {depth_mm:g} mm over {area_px[3]} px puts the ruler's ticks "
            f"{about_mm:.2f} mm apart: expected {', '.join(f'{mm:g}' for mm in TICKS_MM)}"
        )
    # Of two, the one by which the ruler is as long as the depth.
    steps = round((ruler.ticks_px[-1] - ruler.ticks_px[0]) / ruler.pitch_px)
    return min(near, key=lambda mm: abs(depth_mm / mm - steps))


def spacing_for_depth(pixels: U8, area_px: Region, depth_mm: float) -> DepthSpacing:
    """Find spacing from the depth set on the scanner, with the screen's ruler where there is one.

    Parameters
    ----------
    pixels : ndarray of shape (H, W), uint8
        A whole frame.
    area_px : tuple of int
        ``(x, y, width, height)`` of the scan area in it.
    depth_mm : float
        Depth from the top to the bottom of the scan area.

    Raises
    ------
    ValueError
        If the depth is not above 0 and finite.
    """
    plain = spacing_from_depth(depth_mm, area_px)
    over = f"{depth_mm:g} mm over the scan area's {area_px[3]} rows"
    ruler = find_ruler(pixels, area_px)
    if ruler is None:
        return DepthSpacing(plain, None, f"{over}; no depth ruler was found")
    try:
        spacing_mm = spacing_from_ruler(ruler, depth_mm=depth_mm, area_px=area_px)
    except ValueError:  # what was found is no depth ruler, or not that of this depth
        return DepthSpacing(plain, None, f"{over}; what looks like a ruler disagrees with it")
    tick_mm = spacing_mm[0] * ruler.pitch_px
    said = (
        f"the depth ruler: {len(ruler.ticks_px)} ticks of {tick_mm:g} mm, "
        f"{ruler.pitch_px:.2f} +- {ruler.pitch_sd_px:.2f} px apart"
    )
    return DepthSpacing(spacing_mm, ruler, said)


def find_ruler(pixels: U8, area_px: Region) -> Ruler | None:
    """Find the depth ruler at the left or right side of the scan area.

    In each column near the sides, short strokes are looked for that stand out from what is above
    and below them. A ruler is where most of them are equally far apart, over most of the depth;
    of several such columns, the one with the most ticks.

    Parameters
    ----------
    pixels : ndarray of shape (H, W), uint8
        A whole frame.
    area_px : tuple of int
        ``(x, y, width, height)`` of the scan area in it.

    Returns
    -------
    Ruler or None
        None where there is none.
    """
    x, y, width, height = area_px
    # A tick at depth 0 stands half above the area, and an outline may be some rows too small.
    top, bottom = max(0, y - height // 20), min(pixels.shape[0], y + height + height // 20)
    band, inside = round(_BAND * pixels.shape[1]), round(_INSIDE * pixels.shape[1])
    line_px = max(3, min(pixels.shape) // _LINE) | 1
    if bottom - top < 3:
        return None
    strokes = _strokes(pixels[top:bottom], line_px)
    found: list[Ruler] = []
    sides = ((x - band, x + inside, -1), (x + width - inside, x + width + band, 1))
    for side_left, side_right, outwards in sides:
        left, right = max(0, side_left), min(pixels.shape[1], side_right)
        if right - left < 3:
            continue
        for column in range(left, right):
            peaks_px = _peaks(strokes[:, column], line_px) + top
            if not _TICKS <= len(peaks_px) <= _MOST:
                continue
            ruler = _fit(peaks_px, float(column), height, line_px)
            if ruler is not None and _stands_alone(ruler, pixels, outwards, line_px):
                found.append(ruler)
    return max(found, key=lambda r: (len(r.ticks_px), -r.pitch_sd_px), default=None)


def _stands_alone(ruler: Ruler, pixels: U8, outwards: int, line_px: int) -> bool:
    """Whether ticks are what there is to see from this column outwards, or lines of text."""
    column, width = int(ruler.x_px), pixels.shape[1]
    columns = column + outwards * np.arange(-1, round(_BESIDE * line_px))
    seen = pixels[:, columns[(columns >= 0) & (columns < width)]].astype(np.float32)
    rows = np.round(ruler.ticks_px).astype(np.intp)
    # A line that ticks hang on is lit everywhere; what is black is a little grey in a video.
    seen = np.maximum(seen - np.percentile(seen[rows[0] : rows[-1] + 1], 10, axis=0), 0).mean(1)
    ends = np.round(rows[:, None] + ruler.pitch_px * np.array([-0.5, 0.5])).astype(np.intp)
    sums = np.concatenate(([0.0], np.cumsum(seen, dtype=np.float64)))

    def between(first: IntP, end: IntP) -> F64:
        return np.asarray(sums[np.clip(end, 0, len(seen))] - sums[np.clip(first, 0, len(seen))])

    half = line_px // 2
    ticks, periods = between(rows - half, rows + half + 1), between(ends[:, 0], ends[:, 1])
    return bool(np.median(ticks / np.maximum(periods, 1e-6)) >= _ALONE)


def _strokes(pixels: U8, line_px: int) -> F32:
    """Grey levels by which short lines stand out from what is above and below, over 3 columns."""
    tall = np.ones((2 * line_px + 1, 1), np.uint8)
    thin = cv2.morphologyEx(pixels, cv2.MORPH_TOPHAT, tall).astype(np.float32)
    strokes = np.asarray(cv2.blur(thin, (3, 1)), np.float32)
    wide = np.ones((1, max(3 * line_px, round(_LONGEST * pixels.shape[1]))), np.uint8)
    stripes = cv2.morphologyEx((strokes > _FAINT).astype(np.uint8), cv2.MORPH_OPEN, wide)
    crossings = np.count_nonzero(stripes[1:] > stripes[:-1], axis=0)
    return np.asarray(np.where(stripes | (crossings > _STRIPES), np.float32(0), strokes))


def _peaks(stroke: F32, line_px: int) -> F64:
    """Rows of the strokes in one column, to parts of a pixel: their centres of gravity."""
    out = np.flatnonzero(stroke > _FAINT)
    groups = [g for g in np.split(out, np.flatnonzero(np.diff(out) > 1) + 1) if g.size]
    rows: F64 = np.array([np.average(g, weights=stroke[g]) for g in groups])
    heights = np.array([stroke[g].max() for g in groups])
    # Compression surrounds a stroke with fainter ones.
    near = np.abs(rows[:, None] - rows) <= _HALO * line_px
    return np.asarray(rows[(near * heights).max(axis=1, initial=0) <= 2 * heights])


def _fit(peaks_px: F64, x_px: float, height_px: int, line_px: int) -> Ruler | None:
    """Find the equal distance that most strokes of one column keep."""
    best: Ruler | None = None
    rows_px = peaks_px.tolist()
    for first in range(len(peaks_px) - _TICKS + 1):
        ticks, span_px = len(peaks_px) - first, peaks_px[-1] - peaks_px[first]
        if span_px < _SPAN * height_px or (best is not None and ticks <= len(best.ticks_px)):
            break  # what is left cannot be the ruler, or no better one
        for second in range(first + 1, min(first + 4, len(peaks_px))):  # two strays may lie between
            pitch_px = rows_px[second] - rows_px[first]
            ruler = _walk(rows_px[first:], pitch_px, x_px, line_px)
            if ruler is None or (best is not None and len(ruler.ticks_px) <= len(best.ticks_px)):
                continue
            top, bottom = ruler.ticks_px[0], ruler.ticks_px[-1]
            between = np.count_nonzero((peaks_px >= top) & (peaks_px <= bottom))
            stray = between / len(ruler.ticks_px) - 1
            if bottom - top >= _SPAN * height_px and stray <= _STRAY:
                best = ruler
    return best


def _walk(rows_px: list[float], pitch_px: float, x_px: float, line_px: int) -> Ruler | None:
    """Go from the first stroke to the next at this distance, over one that is missing, and so on.

    The distance is corrected on the way, and fitted through all ticks by least squares in the end.
    """
    if pitch_px < _CLOSEST_PX:
        return None
    steps, ticks_px = [0], [rows_px[0]]
    step = missing = 0
    while missing < 2:
        step += 1
        wanted_px = ticks_px[-1] + (step - steps[-1]) * pitch_px
        after = bisect_left(rows_px, wanted_px)
        nearest_px = min(rows_px[max(0, after - 1) : after + 1], key=lambda px: abs(px - wanted_px))
        missing += 1
        if abs(nearest_px - wanted_px) <= min(_OFF * line_px, pitch_px / 4):
            steps.append(step)
            ticks_px.append(nearest_px)
            pitch_px = (nearest_px - ticks_px[0]) / step
            missing = 0
    if len(steps) < max(_TICKS, _PRESENT * (steps[-1] + 1)):
        return None
    ruler, rest_px = _through(np.array(ticks_px), np.array(steps, np.float64), x_px)
    return ruler if rest_px <= _ROUGH * line_px else None


def _through(ticks_px: F64, steps: F64, x_px: float) -> tuple[Ruler, float]:
    """Lay a line through ticks by least squares; also, how far they are from it (1 sigma)."""
    centred = steps - steps.mean()
    spread = float(centred @ centred)
    pitch_px = float(centred @ ticks_px) / spread
    rest_px = ticks_px - ticks_px.mean() - centred * pitch_px
    sd_px = math.sqrt(float(rest_px @ rest_px) / (len(ticks_px) - 2))  # two numbers were fitted
    # Ticks are drawn on whole rows. The rounding may be the same for all, and then does not show.
    pitch_sd_px = max(sd_px, 1 / math.sqrt(12)) / math.sqrt(spread)
    return Ruler(x_px, tuple(map(float, ticks_px)), pitch_px, pitch_sd_px), sd_px


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be greater than 0 and finite, got {value}")
