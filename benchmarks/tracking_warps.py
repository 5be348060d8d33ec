"""Real stills set in motion by known warps, so that the truth of every frame is exact.

The tissue moves under the probe: the frame's border stands, the picture behind it is warped about
the frame's centre, and what comes in from outside is the picture mirrored. A speckle pattern that
is new in every frame lies on top. Where a vessel's labelled centroid goes follows from the warp.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F64, U8

__all__ = ["MOVES", "Moved", "Place", "Still", "Vessel", "Warp", "moving"]

_SPECKLE = 8.0  # standard deviation in grey levels, on tissue of at least `_LIT`
_LIT = 40.0
_SPECKLE_PX = (1.2, 0.8)  # its size, standard deviation of the blur in x and y
_DRAWN_PX = 2  # from the border: outlines of what it cuts end so close to it


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """Where what was at xy in the still is now: ``centre + linear @ (xy - centre) + shift``.

    Attributes
    ----------
    linear : ndarray of shape (2, 2), float64
        Turning and stretching about the frame's centre.
    shift_px : ndarray of shape (2,), float64
        ``(x, y)``.
    """

    linear: F64
    shift_px: F64

    def move(self, xy_px: F64, centre_px: F64) -> F64:
        """Move points, shape (..., 2)."""
        moved: F64 = centre_px + (xy_px - centre_px) @ self.linear.T + self.shift_px
        return moved


@dataclass(frozen=True, slots=True, eq=False)
class Vessel:
    """One labelled vessel of a still: its centroid, shape (2,), and its outline, (K, 2), in px."""

    centroid_px: F64
    outline_px: F64


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """A labelled picture, shape (H, W), cut to its scan area, and the vessels in it.

    The mask, of the same shape, is 255 on those vessels and 0 elsewhere.
    """

    name: str
    pixels: U8
    mask: U8
    vessels: tuple[Vessel, ...]

    @classmethod
    def of(
        cls, name: str, pixels: U8, mask: NDArray[np.bool_], least_px2: float = 100.0
    ) -> "Still":
        """Take each connected part of a vessel mask as a vessel.

        Parts that reach the picture's border, whose rest nobody labelled, and those smaller than
        `least_px2` are left out. Nobody draws to the last pixel: what ends `_DRAWN_PX` before the
        border or less reaches it.
        """
        count, labels, facts, centroids = cv2.connectedComponentsWithStats(
            mask.astype(np.uint8), connectivity=8
        )
        height, width = mask.shape
        vessels, kept = [], np.zeros(mask.shape, np.uint8)
        for number in range(1, count):
            left, top, w, h, area = facts[number]
            gaps = left, top, width - left - w, height - top - h
            inside = min(gaps) > _DRAWN_PX
            if not inside or area < least_px2:
                continue
            outlines, _ = cv2.findContours(
                (labels == number).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            outline = np.concatenate(outlines)[:, 0].astype(np.float64)
            kept[labels == number] = 255
            vessels.append(Vessel(np.asarray(centroids[number], np.float64), outline))
        return cls(name, pixels, kept, tuple(vessels))

    @property
    def centre_px(self) -> F64:
        """``(x, y)`` of the middle of the picture."""
        height, width = self.pixels.shape
        return np.array([(width - 1) / 2, (height - 1) / 2])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vessel of a still is in one frame.

    Attributes
    ----------
    vessel : int
        Its number in the still.
    xy_px : tuple of float
        ``(x, y)`` of its centroid.
    box_px : tuple of float
        ``(left, top, width, height)``.
    visible : bool
        Whether all of it lies in the frame.
    """

    vessel: int
    xy_px: tuple[float, float]
    box_px: tuple[float, float, float, float]
    visible: bool


def _wave(t_s: float, hz: float) -> float:
    return math.sin(2 * math.pi * hz * t_s)


def _shift(t_s: float) -> Warp:
    return Warp(np.eye(2), np.array([12 * _wave(t_s, 0.5), 8 * _wave(t_s, 0.35)]))


def _slide(t_s: float) -> Warp:
    there = 2 * abs(2 * ((t_s / 4 + 0.25) % 1) - 1) - 1  # to and fro at one speed, 4 s in all
    return Warp(np.eye(2), np.array([40 * there, 0.0]))


def _rotate(t_s: float) -> Warp:
    a = math.radians(10) * _wave(t_s, 0.25)
    return Warp(np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]), np.zeros(2))


def _breathe(t_s: float) -> Warp:
    deep = _wave(t_s, 0.3)
    return Warp(np.diag([1.0, 1 + 0.05 * deep]), np.array([0.0, 12 * deep]))


def _scale(t_s: float) -> Warp:
    return Warp((1 + 0.1 * _wave(t_s, 0.25)) * np.eye(2), np.zeros(2))


#: How the tissue moves, by name, as a function of the time in seconds; lengths in px.
MOVES: Mapping[str, Callable[[float], Warp]] = {
    "shift": _shift,
    "slide": _slide,
    "rotate": _rotate,
    "breathe": _breathe,
    "scale": _scale,
}


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """One frame of a still in motion.

    Attributes
    ----------
    pixels : ndarray of shape (H, W), uint8
        The picture.
    mask : ndarray of shape (H, W), uint8
        Which part of each pixel is vessel, 255 for all of it.
    warp : Warp
        How it was made.
    places : tuple of Place
        Every vessel of the still.
    """

    pixels: U8
    mask: U8
    warp: Warp
    places: tuple[Place, ...]


def moving(
    still: Still, move: Callable[[float], Warp], rate_hz: float, count: int, seed: int
) -> Iterator[Moved]:
    """Set a still in motion.

    Parameters
    ----------
    still : Still
        The picture.
    move : callable
        One of `MOVES`.
    rate_hz : float
        Frames a second.
    count : int
        How many frames.
    seed : int
        Of the speckle.

    Yields
    ------
    Moved
        One frame.
    """
    speckle = np.random.default_rng(seed)
    for index in range(count):
        warp = move(index / rate_hz)
        pixels = _warped(still.pixels, warp, still.centre_px, cv2.BORDER_REFLECT_101)
        mask = _warped(still.mask, warp, still.centre_px, cv2.BORDER_CONSTANT)
        yield Moved(_speckled(pixels, speckle), mask, warp, tuple(_places(still, warp)))


def _warped(pixels: U8, warp: Warp, centre_px: F64, border: int) -> U8:
    start = centre_px - warp.linear @ centre_px + warp.shift_px
    height, width = pixels.shape
    warped: U8 = cv2.warpAffine(  # type: ignore[assignment]
        pixels,
        np.column_stack([warp.linear, start]),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=border,
    )
    return warped


def _speckled(pixels: U8, rng: np.random.Generator) -> U8:
    """Add noise of the size of speckle: of one strength on tissue, as brightness is logarithmic."""
    x, y = _SPECKLE_PX
    white = rng.standard_normal(pixels.shape, np.float32)
    noise = cv2.GaussianBlur(white, (0, 0), sigmaX=x, sigmaY=y)
    # A Gaussian blur leaves 1 / (4 pi sx sy) of the variance of white noise.
    strength = np.minimum(pixels / np.float32(_LIT), 1) * np.float32(
        _SPECKLE * math.sqrt(4 * math.pi * x * y)
    )
    speckled: U8 = np.clip(np.rint(pixels + noise * strength), 0, 255).astype(np.uint8)
    return speckled


def _places(still: Still, warp: Warp) -> Iterator[Place]:
    height, width = still.pixels.shape
    for number, vessel in enumerate(still.vessels):
        outline = warp.move(vessel.outline_px, still.centre_px)
        (left, top), (right, bottom) = outline.min(0) - 0.5, outline.max(0) + 0.5
        inside = left >= -0.5 and top >= -0.5 and right <= width - 0.5 and bottom <= height - 0.5
        x, y = warp.move(vessel.centroid_px, still.centre_px).tolist()
        box = (float(left), float(top), float(right - left), float(bottom - top))
        yield Place(number, (x, y), box, bool(inside))
