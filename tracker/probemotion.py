"""How the picture moved since the frame before: the probe slides, turns, presses.

Some fifty points of the frame before are looked for in the new one by pyramidal optical flow
(Lucas and Kanade, IJCAI 1981; Bouguet, "Pyramidal implementation of the Lucas Kanade feature
tracker", Intel, 2000). One affine motion is fitted to where they went, by least squares weighted
anew in each round (Tukey's biweight: Beaton and Tukey, Technometrics 16, 1974), so that what moves
otherwise (a pulsing vessel, text on the screen, noise) has no say while it is the minority. How
far the points disagree tells how exact the answer is, and whether there is one. There is none where
many points stand while others go together: a moving picture among a screen's furniture, or beside
a frozen one.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from veintrack.tracker.frame import F32, F64, U8, ProbeMotion
from veintrack.tracker.grid import Grid

__all__ = ["MotionWatch", "ProbeMotionSettings"]

_LONGER_SIDE_PX = 128  # of the reduced picture: speckle still shows
_SMALLEST_PX = 24  # smaller pictures have no room for points
_ROUNDS = 3  # of weighting: more change nothing that could be measured
_SD2_PER_MEDIAN = 1 / 0.4549  # the median of chi-squared with one degree of freedom
_TUKEY_SD = 4.685  # 95 % as exact as plain least squares where errors are Gaussian
_STANDS_PX, _GOES_PX = 0.05, 0.3  # less: it stands; more: it clearly goes
_STANDING, _GOING = 0.4, 0.125  # parts of the points with which two things are seen at once
_LEAST_PX2 = 1e-4  # where all points agree exactly: a picture that was delivered twice


@dataclass(frozen=True, slots=True)
class ProbeMotionSettings:
    """How motion is looked for, and when it is believed.

    Lengths are pixels of the reduced picture, whose longer side has about 128.

    Attributes
    ----------
    points : int
        About how many points are followed.
    window_px : int
        Side of the square around a point that is looked for.
    levels : int
        How often the picture is halved to find motion that is large.
    texture : float
        Least eigenvalue of a window's gradient matrix with which it can be found again, as
        `cv2.calcOpticalFlowPyrLK` scales it.
    textured_part : float
        If less of the points could be followed, there is no answer.
    gap_s : float
        Nor is there after a longer time than this.
    scatter_px : float
        Nor if the points' standard deviation about the fitted motion is more.
    stretch : float
        Standard deviation of the part by which a picture turns or stretches between two frames:
        holds the fit where few points tell.
    noise_factor : float
        What the variance that follows from the scatter is multiplied by. It is that of the worse of
        the two directions; set so that squared errors over it are near 1 there.
    floor_px : float
        Standard deviation of what all points get wrong alike.
    """

    points: int = 48
    window_px: int = 11
    levels: int = 2
    texture: float = 1e-3
    textured_part: float = 0.35
    gap_s: float = 0.5
    scatter_px: float = 0.8
    stretch: float = 0.03
    noise_factor: float = 0.7
    floor_px: float = 0.01

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(
                    f"{name} must be greater than 0 and finite, got {getattr(self, name)}"
                )
        if self.points < 6 or self.window_px < 3:
            raise ValueError(
                "points must be at least 6 and window_px at least 3, "
                f"got {self.points} and {self.window_px}"
            )


class _Lattice(NamedTuple):
    """The points that are followed, for one layout of the picture.

    Attributes
    ----------
    grid : Grid
        The layout.
    small_px : ndarray of shape (N, 1, 2), float32
        Where they are in the reduced picture.
    terms : ndarray of shape (3, N)
        1, x and y: where they are in the frame, from `centre_px` in units of `unit_px`.
    products : ndarray of shape (9, N)
        Each term times each, row by row.
    products_mean : ndarray of shape (9,)
        Their means over the points.
    centre_px : ndarray of shape (2,)
        Centre of the region, in the frame.
    unit_px : float
        About half the region's side.
    step_px : ndarray of shape (2,)
        Frame px per pixel of the reduced picture, ``(x, y)``.
    """

    grid: Grid
    small_px: F32
    terms: F64
    products: F64
    products_mean: F64
    centre_px: F64
    unit_px: float
    step_px: F64


class MotionWatch:
    """Tells of each picture of a source how it moved since the one before.

    Not thread safe: one watch belongs to one thread.

    Parameters
    ----------
    settings : ProbeMotionSettings
        How motion is looked for, and when it is believed.
    """

    def __init__(self, settings: ProbeMotionSettings | None = None) -> None:
        self.settings = settings or ProbeMotionSettings()
        self._lattice: _Lattice | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the picture before."""
        self._before: U8 | None = None
        self._before_ns = 0

    def look(self, picture: U8, grid: Grid, capture_ns: int) -> ProbeMotion | None:
        """Compare a picture with the one before.

        Parameters
        ----------
        picture : ndarray of shape (H, W), uint8
            What was laid on the network's grid: all of the grid, or its inner part. Only read, and
            not kept.
        grid : Grid
            How it lies in the frame. With another than before, the watch starts anew.
        capture_ns : int
            When it was taken.

        Returns
        -------
        ProbeMotion or None
            In frame px; None where it cannot be told, or there is no picture before.
        """
        inner = _inner(picture, grid)
        if inner is None:
            self.reset()
            return None
        small = _reduced(inner)
        before, gap_s = self._before, (capture_ns - self._before_ns) * 1e-9
        self._before, self._before_ns = small, capture_ns
        lattice = self._lattice
        if lattice is None or lattice.grid != grid:
            self._lattice = _spread(grid, self.settings.points)
            return None
        if before is None or not 0 < gap_s <= self.settings.gap_s:
            return None
        return _motion(before, small, lattice, self.settings)


def _inner(picture: U8, grid: Grid) -> U8 | None:
    """Cut the black around a picture off; None where there is too little, or it is not the grid's.

    A grid that is all picture is its own inner part.
    """
    x, y, width, height = grid.inner
    if min(width, height) < _SMALLEST_PX:
        return None
    if picture.shape == grid.shape:
        return picture[y : y + height, x : x + width]
    return picture if picture.shape == (height, width) else None


def _times(width: int, height: int) -> int:
    """How many pixels of a side become one."""
    return max(1, round(max(width, height) / _LONGER_SIDE_PX))


def _reduced(picture: U8) -> U8:
    """Average blocks of whole pixels, which OpenCV is fast at; a copy in any case."""
    times = _times(*picture.shape)
    if times == 1:
        return np.array(picture)
    height, width = picture.shape[0] // times, picture.shape[1] // times
    small: U8 = cv2.resize(  # type: ignore[assignment]
        picture[: height * times, : width * times], (width, height), interpolation=cv2.INTER_AREA
    )
    return small


def _spread(grid: Grid, count: int) -> _Lattice:
    """Spread points evenly over the inner part of a grid."""
    left, top, region_width, region_height = grid.region
    times = _times(*grid.inner[2:])
    width, height = grid.inner[2] // times, grid.inner[3] // times
    pitch = math.sqrt(width * height / count)
    small_px = np.stack(np.meshgrid(_places(width, pitch), _places(height, pitch)), axis=-1)
    small_px = small_px.reshape(-1, 2)
    step_px = times / np.array(grid.scale)
    frame_px = (small_px + 0.5) * step_px - 0.5 + (left, top)
    centre_px = np.array([left + (region_width - 1) / 2, top + (region_height - 1) / 2])
    unit_px = math.sqrt(region_width * region_height) / 2
    terms = np.vstack([np.ones(len(frame_px)), (frame_px - centre_px).T / unit_px])
    products = (terms[:, None] * terms).reshape(9, -1)
    return _Lattice(
        grid,
        small_px[:, None].astype(np.float32),
        terms,
        products,
        products.mean(axis=1),
        centre_px,
        unit_px,
        step_px,
    )


def _places(length: int, pitch: float) -> F64:
    """Spread points over a side, on pixels and between them in turn.

    Interpolation between pixels blurs, and draws every point's answer to one side or the other,
    depending on where between pixels it lies before and after. So the errors cancel.
    """
    count = max(2, round(length / pitch))
    middles = (np.arange(count) + 0.5) * (length / count) - 0.5
    places: F64 = np.floor(middles) + 0.5 * (np.arange(count) % 2)
    return places


def _motion(
    before: U8, now: U8, lattice: _Lattice, settings: ProbeMotionSettings
) -> ProbeMotion | None:
    there_px, found, _ = cv2.calcOpticalFlowPyrLK(
        before,
        now,
        lattice.small_px,
        np.empty_like(lattice.small_px),
        winSize=(settings.window_px, settings.window_px),
        maxLevel=settings.levels,
        criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03),
        minEigThreshold=settings.texture,
    )
    known = found[:, 0].view(bool)
    count = np.count_nonzero(known)
    if count < settings.textured_part * len(known):
        return None
    unit_px, small_px = lattice.unit_px, float(lattice.step_px.max())
    moved_px = (there_px - lattice.small_px)[:, 0].T * lattice.step_px[:, None]
    terms, products = lattice.terms, lattice.products
    if count < len(known):
        moved_px, terms, products = moved_px[:, known], terms[:, known], products[:, known]
    if _splits(moved_px / small_px):
        return None
    fit = _fit(terms, products, moved_px, (settings.stretch * unit_px) ** 2)
    if fit is None or fit.scatter_px2 > (settings.scatter_px * small_px) ** 2:
        return None
    linear = fit.terms[:, 1:] / unit_px
    leverage = float(fit.inverse.reshape(-1) @ lattice.products_mean)
    return ProbeMotion(
        linear,
        fit.terms[:, 0] - linear @ lattice.centre_px,
        settings.noise_factor * fit.scatter_px2 * leverage + (settings.floor_px * small_px) ** 2,
    )


def _splits(moved_px: F64) -> bool:
    """Whether many points stand while others go, at least half of these the same way.

    Points that do not agree on a way are tissue that is still, and shimmers or pulses in places.
    """
    away = np.hypot(*moved_px)
    if np.count_nonzero(away < _STANDS_PX) < _STANDING * len(away):
        return False
    goes = away > _GOES_PX
    going, speed = moved_px[:, goes], away[goes]
    if len(speed) < _GOING * len(away):
        return False
    # The faster ones tell the way: what lies across a seam goes in part only.
    way = np.median(going[:, speed >= np.median(speed)], axis=1)
    alike = np.hypot(*(going - way[:, None])) < 0.5 * np.hypot(*way)
    return bool(np.count_nonzero(alike) >= len(speed) / 2)


class _Fit(NamedTuple):
    """A linear model of displacement.

    Attributes
    ----------
    terms : ndarray of shape (2, 3)
        Displacement, x and y, per unit of each term, px.
    scatter_px2 : float
        Variance of the points about it, in the worse of the two directions.
    inverse : ndarray of shape (3, 3)
        Covariance of the terms, for a scatter of 1.
    """

    terms: F64
    scatter_px2: float
    inverse: F64


def _fit(terms: F64, products: F64, moved_px: F64, prior_px2: float) -> _Fit | None:
    """Fit what most points agree on; None where they do not.

    The variances of the two directions are told apart: layers of tissue run across the picture,
    and along a layer a point slips.
    """
    fitted = np.zeros((2, 3))
    fitted[:, 0] = _middle(moved_px)
    for _ in range(_ROUNDS):
        off_px2 = np.square(moved_px - fitted @ terms)
        scatter_px2 = np.maximum(_middle(off_px2) * _SD2_PER_MEDIAN, _LEAST_PX2)
        weights = np.square(np.maximum(1 - (1 / (_TUKEY_SD**2 * scatter_px2)) @ off_px2, 0))
        normal = (products @ weights).reshape(3, 3)
        if normal.item(0) < len(weights) / 4:  # their sum
            return None
        worse_px2 = float(scatter_px2.max())
        normal[1, 1] += worse_px2 / prior_px2
        normal[2, 2] += worse_px2 / prior_px2
        # At a third of what numpy's inverse costs.
        inverse: F64 = cv2.invert(normal, flags=cv2.DECOMP_CHOLESKY)[1]  # type: ignore[assignment]
        fitted = (moved_px * weights) @ terms.T @ inverse
    return _Fit(fitted, worse_px2, inverse)


def _middle(values: F64) -> F64:
    """Median of each row (the upper of two), at a fifth of what numpy's costs."""
    half, rows = values.shape[1] // 2, values.copy()
    rows.partition(half, axis=1)
    middle: F64 = rows[:, half]
    return middle
