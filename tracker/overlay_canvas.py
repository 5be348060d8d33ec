"""A part of a frame, enlarged and in colour, and how lines and words are put on it."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F64, U8, Region

__all__ = ["LIGHT", "WARNING", "Box", "Canvas", "Colour", "canvas_of", "size_of"]

Colour = tuple[int, int, int]  # BGR
Box = tuple[int, int, int, int]  # left, top, right, bottom; px of a canvas

LIGHT: Colour = (200, 200, 200)
WARNING: Colour = (0, 220, 255)
_MIN_HEIGHT_PX = 480  # smaller frames are enlarged, or the labels would hide them
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_RIM_PX = 2  # room around letters
_KEPT = 256  # texts of which the picture is kept: most come again with the next frame


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A picture to draw on. Points are in px of the frame unless said otherwise.

    Attributes
    ----------
    pixels : ndarray of shape (H, W, 3), uint8
        BGR, drawn on in place.
    zoom : int
        Its pixels to one of the frame.
    origin_px : ndarray of shape (2,), float64
        ``(x, y)`` in the frame of its first pixel.
    """

    pixels: U8
    zoom: int
    origin_px: F64

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the canvas."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def place(self, points_px: F64) -> F64:
        """Map frame coordinates, shape (..., 2), to pixels of the canvas."""
        mapped: F64 = (points_px - self.origin_px + 0.5) * self.zoom - 0.5
        return mapped

    def line(
        self, points_px: F64, colour: Colour, *, closed: bool = True, dashed: bool = False
    ) -> None:
        """Draw a line through points, shape (N, 2); of one that is dashed every second piece."""
        points = self._fixed(points_px)
        pieces = [points[k : k + 3] for k in range(0, len(points), 4)] if dashed else [points]
        cv2.polylines(self.pixels, pieces, closed and not dashed, colour, 1, cv2.LINE_AA, shift=4)

    def dots(self, points_px: F64, colour: Colour) -> None:
        """Draw dots at points, shape (N, 2)."""
        for x, y in self._fixed(points_px).tolist():
            cv2.circle(self.pixels, (x, y), 24, colour, cv2.FILLED, cv2.LINE_AA, shift=4)

    def cross(self, point_px: F64, colour: Colour) -> None:
        """Mark a point, shape (2,)."""
        x, y = np.rint(self.place(point_px)).astype(int).tolist()
        cv2.drawMarker(self.pixels, (x, y), colour, cv2.MARKER_CROSS, 9, 1, cv2.LINE_AA)

    def write(
        self, text: str, at: tuple[int, int], colour: Colour = LIGHT, scale: float = 0.5
    ) -> Box:
        """Write a text, black-rimmed, so that its base line begins `at` a pixel of the canvas.

        It is moved to stay inside from left to right. Returns the box that it fills.
        """
        above = _letters(text, colour, scale)[2]
        return self.write_below(text, (at[0], at[1] - above), colour, scale)

    def write_below(
        self, text: str, corner: tuple[int, int], colour: Colour = LIGHT, scale: float = 0.5
    ) -> Box:
        """Write a text, as :meth:`write` does, so that its upper left corner is at a pixel."""
        keep, ink, _ = _letters(text, colour, scale)
        height, width = ink.shape[:2]
        left, top = max(0, min(corner[0], self.pixels.shape[1] - width)), corner[1]
        self.lay(keep, ink, (left, top))
        return left, top, left + width, top + height

    def lay(self, keep: U8, ink: U8, corner: tuple[int, int]) -> None:
        """Lay a picture on this one; what does not fit is cut off.

        Parameters
        ----------
        keep, ink : ndarray of shape (h, w, 3), uint8
            What is kept of this picture, of 255, and what is added then.
        corner : tuple of int
            ``(x, y)`` of its upper left pixel on the canvas; x not below 0.
        """
        left, top = corner
        first = max(0, top)
        part = self.pixels[first : max(0, top + ink.shape[0]), left : left + ink.shape[1]]
        if part.size:
            cut = np.s_[first - top : first - top + part.shape[0], : part.shape[1]]
            cv2.multiply(part, keep[cut], dst=part, scale=1 / 255)
            cv2.add(part, ink[cut], dst=part)

    def _fixed(self, points_px: F64) -> NDArray[np.int32]:
        """Map frame coordinates to sixteenths of the canvas's pixels, as OpenCV draws them."""
        return np.rint(self.place(points_px) * 16).astype(np.int32)


def canvas_of(pixels: U8, area_px: Region | None, *, hidden: bool = False) -> Canvas:
    """Make a canvas of a part of a frame, or one of its size in black.

    Parameters
    ----------
    pixels : ndarray of shape (H, W), uint8
        The whole frame.
    area_px : tuple of int or None
        ``(x, y, width, height)`` of the part; None for all of it.
    hidden : bool
        Whether the picture itself is left out.
    """
    x, y, width, height = area_px or (0, 0, pixels.shape[1], pixels.shape[0])
    part = pixels[y : y + height, x : x + width]
    if hidden:
        part = np.zeros_like(part)
    zoom = max(1, math.ceil(_MIN_HEIGHT_PX / height))
    if zoom > 1:
        size = (zoom * width, zoom * height)
        part = cast("U8", cv2.resize(part, size, interpolation=cv2.INTER_CUBIC))
    colour = cast("U8", cv2.cvtColor(part, cv2.COLOR_GRAY2BGR))
    return Canvas(colour, zoom, np.array([x, y], np.float64))


def size_of(text: str, scale: float = 0.5) -> tuple[int, int]:
    """Width and height in px that a text fills, its rim included."""
    (width, height), below = cv2.getTextSize(text, _FONT, scale, 1)
    return width + 2 * _RIM_PX, height + below + 2 * _RIM_PX


@lru_cache(_KEPT)
def _letters(text: str, colour: Colour, scale: float) -> tuple[U8, U8, int]:
    """Draw a text once: what it leaves of the picture (of 255), what it adds, its base line.

    The rim is the letters spread by a pixel. A thicker line would be set wider.
    """
    (_, above), _ = cv2.getTextSize(text, _FONT, scale, 1)
    width, height = size_of(text, scale)
    ink = np.zeros((height, width), np.uint8)
    base = above + _RIM_PX
    cv2.putText(ink, text, (_RIM_PX, base), _FONT, scale, 255, 1, cv2.LINE_AA)
    rim = cv2.dilate(ink, np.ones((3, 3), np.uint8))
    keep = cv2.merge([255 - rim] * 3)
    inked = ink[..., None].astype(np.uint16) * np.array(colour, np.uint16) // 255
    return cast("U8", keep), inked.astype(np.uint8), base
