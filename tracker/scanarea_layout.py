"""Whether a screen is still laid out as it was, from a thumbnail of it."""

from dataclasses import dataclass

import cv2
import numpy as np

from veintrack.tracker.frame import U8, Region

__all__ = ["LayoutSettings", "LayoutWatch"]

_SAMPLES = 120  # rows, at least, that are looked at: text shows in some of them
_FEW = 8  # blocks of furniture that differ tell nothing: a margin of a few px has no more
_BLOCK = 4  # samples that are averaged along each side


@dataclass(frozen=True, slots=True)
class LayoutSettings:
    """From when on a screen is laid out differently.

    Attributes
    ----------
    static_grey : int
        Furniture changes by less than this in the first second: no clock, no trace.
    other_grey : int
        Furniture that differs by more is other furniture. Noise, compression and a jitter of one
        pixel stay below it.
    other_part : float
        Of the furniture: a clock, a depth and a pointer are less. In the clips that the tests look
        at, nothing differs.
    even_grey : int
        A screen this even shows nothing at all, no other layout.
    black_grey, lit_grey : int
        What is black for certain, and what is more than noise on black.
    strip_part : float
        Of the picture's width, on either side: black strips where it became narrower.
    calls : int
        In a row: what a menu covers for a moment is no other layout.
    """

    static_grey: int = 12
    other_grey: int = 24
    other_part: float = 0.03
    even_grey: int = 6
    black_grey: int = 4
    lit_grey: int = 16
    strip_part: float = 0.06
    calls: int = 2


class LayoutWatch:
    """Compares screens with the first second of frames.

    Outside the picture, furniture is to stay as it was; what moves there is left out. Inside, a
    picture that became narrower leaves black strips on both sides, from top to bottom. What else
    is inside is the picture's own business: it may move, freeze or go dark.

    Parameters
    ----------
    low, high : ndarray of shape (H, W), uint8
        The least and the greatest grey level of each pixel in the first second.
    area : tuple of int
        ``(x, y, width, height)`` of the picture.
    settings : LayoutSettings
        From when on a screen is laid out differently.
    """

    def __init__(
        self, low: U8, high: U8, area: Region, settings: LayoutSettings | None = None
    ) -> None:
        self.settings = settings or LayoutSettings()
        self._shape = high.shape
        self._step = max(1, min(high.shape) // _SAMPLES)
        self._reference = self._thumbnail(high)
        still = cv2.absdiff(self._reference, self._thumbnail(low)) <= self.settings.static_grey
        inside = np.zeros(self._reference.shape, bool)
        pitch = self._step * _BLOCK
        x, y, width, height = area
        rows = slice(y // pitch, -(-(y + height) // pitch))
        columns = slice(x // pitch, -(-(x + width) // pitch))
        inside[rows, columns] = True
        self._furniture = still & ~inside
        self._furniture_size = np.count_nonzero(self._furniture)
        # Blocks that lie wholly inside, and of those the strips at the sides that were lit.
        self._inside = (
            slice(-(-y // pitch), (y + height) // pitch),
            slice(-(-x // pitch), (x + width) // pitch),
        )
        self._strips = self._lit_strips(self._reference[self._inside])
        self._others = 0

    def changed(self, pixels: U8) -> bool:
        """Whether the screen is laid out differently, in this call and the one before.

        Parameters
        ----------
        pixels : ndarray of shape (H, W), uint8
            A whole captured frame. One of another size tells at once.
        """
        if pixels.shape != self._shape:
            return True
        self._others = self._others + 1 if self._is_other(self._thumbnail(pixels)) else 0
        return self._others >= self.settings.calls

    def _is_other(self, seen: U8) -> bool:
        settings = self.settings
        if self._is_even(seen):
            return False
        if self._is_even(self._reference):  # nothing was there, and now something is
            return True
        other = (cv2.absdiff(seen, self._reference) > settings.other_grey) & self._furniture
        if np.count_nonzero(other) > max(_FEW, settings.other_part * self._furniture_size):
            return True
        inside = seen[self._inside]
        strips = self._strips
        if not strips or int(inside[:, strips:-strips].max()) <= settings.lit_grey:
            return False
        sides = max(int(inside[:, :strips].max()), int(inside[:, -strips:].max()))
        return sides <= settings.black_grey

    def _is_even(self, seen: U8) -> bool:
        return int(seen.max()) - int(seen.min()) <= self.settings.even_grey

    def _lit_strips(self, inside: U8) -> int:
        """Count the columns of blocks on either side that can be told from black; 0 if none."""
        strips = max(1, round(self.settings.strip_part * inside.shape[1]))
        if inside.shape[1] < 4 * strips or not inside.shape[0]:
            return 0
        sides = inside[:, :strips], inside[:, -strips:]
        lit = all(np.median(side.max(axis=0)) > self.settings.lit_grey for side in sides)
        return strips if lit else 0

    def _thumbnail(self, pixels: U8) -> U8:
        step = self._step
        height, width = (n // step // _BLOCK for n in pixels.shape)
        if not height or not width:
            return pixels
        sampled = pixels[::step, ::step][: height * _BLOCK, : width * _BLOCK]
        small: U8 = cv2.resize(  # type: ignore[assignment]
            np.ascontiguousarray(sampled), (width, height), interpolation=cv2.INTER_AREA
        )
        return small
