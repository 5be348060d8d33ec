"""From the frame's pixels to the network's grid and back, with sub-pixel truth.

The frame is scaled with its aspect kept and centred on the grid; what is left over is black, as
outside a scanner's picture. Training and inference both resample here, so they cannot differ.

Pixel centres are at whole numbers, so a picture of width W spans -0.5 to W - 0.5, and scaling
keeps edges on edges: ``x_grid = (x + 0.5) * scale - 0.5 + offset``.
"""

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

from veintrack.tracker.frame import F32, F64, U8, Region

__all__ = ["Grid", "fit", "image_to_grid", "mask_to_grid", "probability_to_frame"]

T = TypeVar("T", float, F64)


@dataclass(frozen=True, slots=True)
class Grid:
    """How a region of a frame lies on the network's grid.

    Attributes
    ----------
    region : tuple of int
        ``(x, y, width, height)`` of the part of the frame that is looked at, in frame px.
    shape : tuple of int
        ``(H, W)`` of the network's input.
    inner : tuple of int
        ``(x, y, width, height)`` that the region occupies on the grid, in grid px.
    """

    region: Region
    shape: tuple[int, int]
    inner: tuple[int, int, int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Grid pixels per frame pixel, ``(x, y)``; the two differ by rounding only."""
        return self.inner[2] / self.region[2], self.inner[3] / self.region[3]

    def to_frame(self, x_grid: T, y_grid: T) -> tuple[T, T]:
        """Map coordinates on the grid, numbers or arrays, to the frame's."""
        scale_x, scale_y = self.scale
        return (
            (x_grid + 0.5 - self.inner[0]) / scale_x - 0.5 + self.region[0],
            (y_grid + 0.5 - self.inner[1]) / scale_y - 0.5 + self.region[1],
        )

    def to_grid(self, x_frame: T, y_frame: T) -> tuple[T, T]:
        """Map coordinates in the frame, numbers or arrays, to the grid's."""
        scale_x, scale_y = self.scale
        return (
            (x_frame + 0.5 - self.region[0]) * scale_x - 0.5 + self.inner[0],
            (y_frame + 0.5 - self.region[1]) * scale_y - 0.5 + self.inner[1],
        )


def fit(
    frame_shape: tuple[int, int],
    grid_shape: tuple[int, int],
    region: Region | None = None,
) -> Grid:
    """Lay a frame, or a region of it, on a grid: as large as fits, aspect kept, centred.

    Parameters
    ----------
    frame_shape, grid_shape : tuple of int
        ``(H, W)`` in px.
    region : tuple of int, optional
        ``(x, y, width, height)`` in frame px; the whole frame by default.

    Raises
    ------
    ValueError
        If the region is empty or reaches outside the frame.
    """
    height, width = frame_shape
    x, y, w, h = region if region is not None else (0, 0, width, height)
    if w < 1 or h < 1 or x < 0 or y < 0 or x + w > width or y + h > height:
        raise ValueError(
            f"crop {x},{y},{w},{h} (x, y, width, height) does not lie inside "
            f"the {width}x{height} frame"
        )
    scale = min(grid_shape[0] / h, grid_shape[1] / w)
    inner_w = min(grid_shape[1], max(1, round(w * scale)))
    inner_h = min(grid_shape[0], max(1, round(h * scale)))
    left, top = (grid_shape[1] - inner_w) // 2, (grid_shape[0] - inner_h) // 2
    return Grid((x, y, w, h), grid_shape, (left, top, inner_w, inner_h))


def _region(image: U8, grid: Grid) -> U8:
    x, y, w, h = grid.region
    return image[y : y + h, x : x + w]


def image_to_grid(pixels: U8, grid: Grid, out: U8) -> None:
    """Resample a frame into `out`, an (H, W) uint8 buffer of the grid's shape.

    A picture that shrinks is laid on a grid of twice the size first, linearly, and that is halved:
    what averaging over areas gives, nearly, at a third of its cost. One that is more than four
    times too large is halved before, or speckle would alias. Only the inner part is written: `out`
    must be black outside it.
    """
    x, y, w, h = grid.inner
    picture, inner = _region(pixels, grid), out[y : y + h, x : x + w]
    if picture.shape[0] <= h and picture.shape[1] <= w:
        cv2.resize(picture, (w, h), dst=inner, interpolation=cv2.INTER_LINEAR)
        return
    while picture.shape[0] >= 4 * h and picture.shape[1] >= 4 * w:
        picture = _resized(picture, picture.shape[1] // 2, picture.shape[0] // 2, cv2.INTER_AREA)
    twice = _resized(picture, 2 * w, 2 * h, cv2.INTER_LINEAR)
    cv2.resize(twice, (w, h), dst=inner, interpolation=cv2.INTER_AREA)


def _resized(picture: U8, width: int, height: int, how: int) -> U8:
    resized: U8 = cv2.resize(picture, (width, height), interpolation=how)  # type: ignore[assignment]
    return resized


def mask_to_grid(mask: U8, grid: Grid) -> F32:
    """Resample a 0/1 mask to the grid: the part of each grid pixel that is covered, 0 to 1."""
    x, y, w, h = grid.inner
    out = np.zeros(grid.shape, np.float32)
    shrinks = w < grid.region[2] or h < grid.region[3]
    out[y : y + h, x : x + w] = cv2.resize(
        _region(mask, grid).astype(np.float32),
        (w, h),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )
    return out


def probability_to_frame(probability: F32, grid: Grid, frame_shape: tuple[int, int]) -> F32:
    """Resample an (H, W) probability map to the frame's own pixels; 0 outside the region."""
    x, y, w, h = grid.inner
    rx, ry, rw, rh = grid.region
    out = np.zeros(frame_shape, np.float32)
    out[ry : ry + rh, rx : rx + rw] = cv2.resize(
        probability[y : y + h, x : x + w], (rw, rh), interpolation=cv2.INTER_LINEAR
    )
    return out
