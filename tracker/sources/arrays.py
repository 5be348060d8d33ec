"""Frames that lie in memory: for programs that have them, and to measure what comes after."""

import math
import time
from collections.abc import Iterator, Sequence

import numpy as np

from veintrack.tracker.frame import U8, Frame, Spacing
from veintrack.tracker.sources.base import OneShot, SourceInfo

__all__ = ["ArraySource"]


class ArraySource(OneShot):
    """Delivers pictures one after another, as a file would.

    Parameters
    ----------
    pictures : sequence of ndarray of shape (H, W), uint8
        Grey levels; at least one. They are handed on, not copied: leave them alone meanwhile.
    rate_hz : float
        Frames a second; says when each was taken.
    frame_count : int, optional
        How many frames to deliver, beginning again after the last picture; by default each once.
    spacing_mm : tuple of float, optional
        ``(row_mm, col_mm)``, millimetres per pixel.

    Raises
    ------
    ValueError
        If there is no picture, one is no grey picture, or a number is not positive.
    """

    def __init__(
        self,
        pictures: Sequence[U8],
        rate_hz: float = 30.0,
        *,
        frame_count: int | None = None,
        spacing_mm: Spacing | None = None,
    ) -> None:
        if not len(pictures):
            raise ValueError("there must be at least one picture")
        for picture in pictures:
            if picture.ndim != 2 or picture.dtype != np.uint8:
                raise ValueError(f"expected (H, W) uint8, got {picture.shape} {picture.dtype}")
        if not (rate_hz > 0 and math.isfinite(rate_hz)):
            raise ValueError(f"rate_hz must be greater than 0 and finite, got {rate_hz}")
        if frame_count is not None and frame_count < 1:
            raise ValueError(f"frame_count must be at least 1, got {frame_count}")
        self._pictures = pictures
        self._closed = False
        height, width = pictures[0].shape
        self.info = SourceInfo(
            name="array",
            kind="array",
            live=False,
            shape_px=(height, width),
            rate_hz=rate_hz,
            frame_count=frame_count or len(pictures),
            spacing_mm=spacing_mm,
            times_from="the frame's index and the rate that was given",
        )

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.info.frame_count or 0):
            if self._closed:
                return
            yield Frame(
                pixels=self._pictures[index % len(self._pictures)],
                index=index,
                capture_ns=round(index * 1e9 / (self.info.rate_hz or 1)),
                arrival_ns=time.monotonic_ns(),
                spacing_mm=self.info.spacing_mm,
            )

    def close(self) -> None:
        """End the iteration before its next frame. Safe to call twice, from any thread."""
        self._closed = True
