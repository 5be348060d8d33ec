"""The scan area in a second of frames: what moves, against the furniture of the screen.

Speckle moves with the tissue and flickers where it does not, in patches of several pixels; text,
panels and pictures in a clipboard do not, and a grabber's noise flickers pixel by pixel. So the
picture is where the range of each pixel is large, and remains so when neighbours are averaged.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from veintrack.tracker.frame import F64, U8, Region
from veintrack.tracker.scanarea_convex import SectorShape, find_sector
from veintrack.tracker.scanarea_edges import (
    COLUMNS_PX,
    EMPTY,
    FULL,
    PART,
    ROWS_PX,
    grey_levels,
    picture_end,
)

__all__ = ["Extremes", "MovingSettings", "find_moving_area", "moves_anywhere"]

_DOT = np.ones((5, 5), np.uint8)  # px: what is thinner is a stroke
_BLUR_PX = 2  # half the width over which compression blurs a sharp edge
_STILL_GREY = 8  # what compression changes in what stands still
_BAR_LEAST_PX = 6  # of what is narrower, too little can be seen
_BAR_STILL, _BAR_LIT, _BAR_LIT_GREY = 0.8, 0.6, 16  # parts of a bar's row; a margin is darker


@dataclass(frozen=True, slots=True)
class MovingSettings:
    """What moves like a picture.

    The figures are of ten frames in a second of the clips that the tests look at: a screen capture,
    two lung clips, a bone.

    Attributes
    ----------
    change_grey : int
        A pixel that changes by more moves. Half of the pictures' pixels change by 10 to 34 levels;
        around them, 1 pixel in 100 changes by more than 6.
    grain_px : int
        Side of the squares over which frames are averaged to tell speckle from noise.
    kept_part : float
        Of its change, a pixel of speckle keeps more than this in the average; noise keeps a third.
    spot_part : float
        Of the frame's shorter side: side of the squares in which moving pixels are counted.
    dense_part : float
        Of such a square: the part that moves where the picture moves.
    main_part : float
        Of the largest part that moves: smaller ones are clocks and traces.
    gap_part : float
        Of the frame's shorter side: gaps between moving pixels that belong to the picture.
    quiet_part : float
        Of the frame's side: how broad a part at the picture's edge may not move; the bands under
        the probe's face do not.
    soft_part : float
        Of the frame's side: how softly a picture may end that was scaled up.
    smallest_part : float
        Of the frame: anything less is no scan area.
    bar_parts : tuple of float
        Of the frame's width: how broad a bar is, at least and at most, that is drawn over the
        picture's side.
    bar_high_part : float
        Of the frame's height: how high it is at least.
    bar_grey : int
        Grey levels by which it differs from the picture beside it.
    bar_rows_part : float
        Of its rows: so many look like a bar's. In the screen capture's seconds at least 0.72, at
        other sides at most 0.43.
    """

    change_grey: int = 6
    grain_px: int = 3
    kept_part: float = 0.5
    spot_part: float = 1 / 24
    dense_part: float = 0.3
    main_part: float = 0.1
    gap_part: float = 1 / 32
    quiet_part: float = 1 / 16
    soft_part: float = 1 / 80
    smallest_part: float = 0.05
    bar_parts: tuple[float, float] = (1 / 64, 1 / 36)
    bar_high_part: float = 1 / 5
    bar_grey: int = 10
    bar_rows_part: float = 0.58


class Extremes:
    """The least and the greatest grey level of each pixel in some frames.

    Attributes
    ----------
    low, high : ndarray of shape (H, W), uint8
        Of what was added: 255 and 0 before that.
    """

    def __init__(self, shape_px: tuple[int, int]) -> None:
        self.low: U8 = np.full(shape_px, 255, np.uint8)
        self.high: U8 = np.zeros(shape_px, np.uint8)

    def add(self, pixels: U8) -> None:
        """Look at a frame; it is not kept."""
        cv2.min(self.low, pixels, dst=self.low)
        cv2.max(self.high, pixels, dst=self.high)

    def change(self) -> U8:
        """Say by how much each pixel changed; by nothing before a frame was added."""
        change: U8 = cv2.subtract(self.high, self.low)  # type: ignore[assignment]
        return change


def find_moving_area(
    raw: Extremes, smooth: Extremes, bright: Region, settings: MovingSettings
) -> tuple[Region, SectorShape | None]:
    """Find the scan area by what moves; by what is bright where too little does.

    Parameters
    ----------
    raw, smooth : Extremes
        Of the frames, and of the frames averaged over `MovingSettings.grain_px`.
    bright : tuple of int
        What `find_scan_area` says of the brightest that each pixel became.
    settings : MovingSettings
        What moves like a picture.

    Returns
    -------
    area : tuple of int
        ``(x, y, width, height)`` in px.
    sector : SectorShape or None
        The sector whose bounding box the area is.
    """
    high = raw.high
    shape = high.shape[0], high.shape[1]
    lit = (high > grey_levels(high)[1]).astype(np.uint8)
    marks = _moving(raw, smooth, settings)
    part = _dense_part(marks, settings)
    if part is None:
        sector = find_sector(_largest(lit), lit)
        return (bright if sector is None else sector.box_px(shape)), sector
    gap = max(3, int(settings.gap_part * min(shape)))
    square = np.ones((gap, gap), np.uint8)
    picture = np.asarray(cv2.morphologyEx(marks, cv2.MORPH_CLOSE, square), np.uint8) * lit
    near = np.asarray(cv2.dilate(part, square), np.uint8)
    sector = find_sector(_without_strokes(picture * near), lit)
    if sector is not None:
        return sector.box_px(shape), sector
    area = _grown(picture, lit, _bounds(part), bright, settings)
    if area[2] * area[3] < settings.smallest_part * high.size:
        return bright, None
    return _without_bars(raw, area, settings), None


def moves_anywhere(raw: Extremes, smooth: Extremes, settings: MovingSettings) -> bool:
    """Whether any part of the frame moves like a picture."""
    return _dense_part(_moving(raw, smooth, settings), settings) is not None


def _moving(raw: Extremes, smooth: Extremes, settings: MovingSettings) -> U8:
    """Mark the pixels that change, and not as a grabber's noise does."""
    change = raw.change()
    moves = (change > settings.change_grey) & (smooth.change() > settings.kept_part * change)
    return moves.astype(np.uint8)


def _dense_part(marks: U8, settings: MovingSettings) -> U8 | None:
    """Mark where marks are dense, over areas of the size of a picture's parts; None if nowhere."""
    spot = max(3, int(settings.spot_part * min(marks.shape)))
    counted = cv2.blur(marks * np.uint8(255), (spot, spot))
    dense = (counted > 255 * settings.dense_part).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dense, connectivity=4)
    sizes = stats[:, cv2.CC_STAT_AREA].copy()
    sizes[0] = 0  # the background
    kept = sizes >= max(1, PART * marks.size, settings.main_part * sizes.max())
    return kept[labels].astype(np.uint8) if kept.any() else None


def _without_strokes(mask: U8) -> U8:
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, _DOT), np.uint8)


def _largest(mask: U8) -> U8:
    """Keep the largest part of a mask, without strokes."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(_without_strokes(mask), connectivity=4)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    return (labels == 1 + int(sizes.argmax())).astype(np.uint8) if len(sizes) else mask


def _grown(moves: U8, lit: U8, part: Region, bright: Region, settings: MovingSettings) -> Region:
    """Go outwards from the part that moves to the picture's edges.

    Where what moves does not end in an edge, the picture is taken to reach as far as what is
    bright does, which is the frame's border in doubt.
    """
    height, width = moves.shape
    x, y, right, bottom = _sides(part)
    left, top = x, y
    ends = _sides(bright)
    tall = max(ROWS_PX, int(settings.soft_part * height))
    wide = max(COLUMNS_PX, int(settings.soft_part * width))
    high, broad = int(settings.quiet_part * height), int(settings.quiet_part * width)
    for _ in range(2):  # the second time with the other sides' edges known
        rows: F64 = moves[:, left:right].mean(axis=1)
        full: F64 = lit[:, left:right].mean(axis=1)
        top = height - _edge(rows[::-1], full[::-1], (height - y, height - ends[1]), tall, high)
        bottom = _edge(rows, full, (y + part[3], ends[3]), tall, high)
        columns: F64 = moves[top:bottom].mean(axis=0)
        full = lit[top:bottom].mean(axis=0)
        left = width - _edge(columns[::-1], full[::-1], (width - x, width - ends[0]), wide, broad)
        right = _edge(columns, full, (x + part[2], ends[2]), wide, broad)
    return left, top, right - left, bottom - top


def _without_bars(raw: Extremes, area: Region, settings: MovingSettings) -> Region:
    """Leave out the grey and colour bars that a scanner draws over the picture's sides."""
    x, y, width, height = area
    low, high = (v[y : y + height, x : x + width] for v in (raw.low, raw.high))
    shape = raw.high.shape[0], raw.high.shape[1]
    left = _bar_px(low, high, shape, settings)
    right = _bar_px(low[:, ::-1], high[:, ::-1], shape, settings)
    return x + left, y, width - left - right, height


def _bar_px(low: U8, high: U8, frame_shape: tuple[int, int], settings: MovingSettings) -> int:
    """Measure the bar at the left side of a picture, px; 0 where there is none.

    In most of its rows it stands still, is lit, and ends in a jump of the grey level at the same
    column, whatever its levels are. Tissue does not.
    """
    run = int(settings.bar_high_part * frame_shape[0])
    least, most = (int(part * frame_shape[1]) for part in settings.bar_parts)
    least = max(least, _BAR_LEAST_PX)
    reach = most + 2 * _BLUR_PX
    if run < 1 or low.shape[0] < run or low.shape[1] < 2 * reach:
        return 0
    low, high = low[:, :reach], high[:, :reach]
    level = (low.astype(np.float64) + high) / 2
    jump = np.abs(level[:, 2 * _BLUR_PX :] - level[:, : -2 * _BLUR_PX]) > settings.bar_grey
    columns = np.arange(1, most + 1)
    still = (high - low <= _STILL_GREY).cumsum(axis=1)[:, :most] >= _BAR_STILL * columns
    lit = (level > _BAR_LIT_GREY).cumsum(axis=1)[:, :most] >= _BAR_LIT * columns
    total = np.pad((jump & still & lit).cumsum(axis=0), ((1, 0), (0, 0)))
    part = ((total[run:] - total[:-run]) / run).max(axis=0)
    ends = np.flatnonzero(part[least:] >= settings.bar_rows_part)
    return least + int(ends[-1]) + 2 * _BLUR_PX if ends.size else 0


def _bounds(mask: U8) -> Region:
    x, y, width, height = cv2.boundingRect(mask)
    return x, y, width, height


def _sides(region: Region) -> Region:
    """Turn ``(x, y, width, height)`` into ``(left, top, right, bottom)``."""
    x, y, width, height = region
    return x, y, x + width, y + height


def _edge(moves: F64, lit: F64, ends: tuple[int, int], within: int, quiet: int) -> int:
    """Find where the picture ends, from the part of each row that moves, and that is lit.

    The edge of what moves; or of what is lit, where that ends close behind: the picture is quiet
    there. Without an edge, the further of `ends`: of the part that moves, and of what is bright.
    """
    end = picture_end(moves, ends[0], within)
    if end == len(moves):
        return max(ends)
    beyond = lit[end : end + max(within, quiet)]
    dim = np.flatnonzero(beyond < FULL)
    if not dim.size:
        return len(lit) if end + len(beyond) == len(lit) else end
    last = end + int(dim[0])
    return last if lit[last : last + within].min() < EMPTY else end
