"""Where on a captured screen the ultrasound is.

A scanner's screen holds the picture, black margins, text, a grey or colour bar and small widgets.
In a second of frames the picture is what moves and speckles, in one frame it is what is bright
over areas thicker than the strokes of text and lines. Either gives a part of the picture; its dim
rest is found by going outwards from there until a sharp edge.
"""

import cv2
import numpy as np

from veintrack.tracker.frame import F64, U8, Region
from veintrack.tracker.scanarea_convex import SectorShape
from veintrack.tracker.scanarea_edges import COLUMNS_PX, PART, ROWS_PX, grey_levels, picture_end
from veintrack.tracker.scanarea_layout import LayoutWatch
from veintrack.tracker.scanarea_moving import (
    Extremes,
    MovingSettings,
    find_moving_area,
    moves_anywhere,
)

__all__ = ["ScanAreaFinder", "find_scan_area"]

_STROKE = 70  # shorter side of the frame over the thickness that text and lines may have
_SMALLEST = 0.15  # of the frame: anything less is no scan area


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
    bright_grey, lit_grey = grey_levels(pixels)
    bright = np.where(pixels > bright_grey, np.uint8(255), np.uint8(0))
    thick = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((stroke, stroke), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(thick, connectivity=4)
    parts = stats[1:][stats[1:, cv2.CC_STAT_AREA] >= PART * pixels.size]
    if not len(parts):
        return whole
    left, top = (int(v) for v in parts[:, :2].min(axis=0))
    right, bottom = (int(v) for v in (parts[:, :2] + parts[:, 2:4]).max(axis=0))

    lit = pixels > lit_grey
    rows: F64 = lit[:, left:right].mean(axis=1)
    top, bottom = (
        height - picture_end(rows[::-1], height - top, ROWS_PX),
        picture_end(rows, bottom, ROWS_PX),
    )
    columns: F64 = lit[top:bottom].mean(axis=0)
    left, right = (
        width - picture_end(columns[::-1], width - left, COLUMNS_PX),
        picture_end(columns, right, COLUMNS_PX),
    )
    area = (left, top, right - left, bottom - top)
    return area if area[2] * area[3] >= _SMALLEST * pixels.size else whole


class ScanAreaFinder:
    """Finds the scan area from the first second of frames, then tells when the layout changes.

    Static screen furniture does not move, whatever it looks like: grey panels, thumbnails of other
    pictures and a grey bar are told from the picture by that. Where too little moves (stills, a
    frozen scanner), the brightest that each pixel became is looked at as `find_scan_area` does.

    Some ten frames, evenly spread over the first second, are what it wants; of fewer than four,
    too little moves for most screens.

    Parameters
    ----------
    shape_px : tuple of int
        ``(H, W)`` of the frames.
    settings : MovingSettings
        What moves like a picture.
    """

    def __init__(self, shape_px: tuple[int, int], settings: MovingSettings | None = None) -> None:
        self.shape_px = shape_px
        self.settings = settings or MovingSettings()
        self._raw, self._smooth = Extremes(shape_px), Extremes(shape_px)
        self._area: Region | None = None
        self._sector: SectorShape | None = None
        self._layout: LayoutWatch | None = None
        self._found = False

    def add(self, pixels: U8) -> None:
        """Look at a frame.

        Parameters
        ----------
        pixels : ndarray of shape (H, W), uint8
            A whole captured frame; not kept.

        Raises
        ------
        ValueError
            If it is of another size than the first, or the area was already asked for.
        """
        if pixels.shape != self.shape_px:
            raise ValueError(f"frames must be of shape {self.shape_px}, got {pixels.shape}")
        if self._area is not None:
            raise ValueError("the scan area was found; frames cannot be added any more")
        self._raw.add(pixels)
        grain = self.settings.grain_px
        self._smooth.add(np.asarray(cv2.blur(pixels, (grain, grain)), np.uint8))

    def area(self) -> Region:
        """Find the scan area in the frames that were added, and keep it.

        Returns
        -------
        tuple of int
            ``(x, y, width, height)`` in px: of a sector its bounding box; the whole frame where no
            part stands out, or before a frame was added.
        """
        if self._area is None:
            raw = self._raw
            bright = find_scan_area(raw.high)
            self._area, self._sector = find_moving_area(raw, self._smooth, bright, self.settings)
            whole = self._area == (0, 0, self.shape_px[1], self.shape_px[0])
            self._found = not whole or moves_anywhere(raw, self._smooth, self.settings)
            self._layout = LayoutWatch(raw.low, raw.high, self._area)
            del self._raw, self._smooth
        return self._area

    @property
    def found(self) -> bool:
        """Whether, once the area was asked for, it is one: a part of the frame, or what moves."""
        return self._found

    @property
    def sector(self) -> SectorShape | None:
        """The sector of a convex probe, once the area was found; None where there is none."""
        return self._sector

    def layout_changed(self, pixels: U8) -> bool:
        """Whether the screen is laid out differently now: find its scan area anew.

        Meant to be asked about once a second, from the time the area was found. A change is told
        at the second call in a row that sees it, another size of the frame at once. It is not told
        of the picture's own changes, nor of a screen that shows nothing.
        """
        self.area()
        return self._layout is not None and self._layout.changed(pixels)
