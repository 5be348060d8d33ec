"""From a probability map to vessels with sub-pixel centroids.

Everything is computed on the network's grid and mapped to the frame at the end: the map holds no
more than that, and the grid has a fifth of a frame's pixels.
"""

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F32, F64, U8, Detection
from veintrack.tracker.grid import Grid

__all__ = ["DetectSettings", "axes_of", "detect"]

I32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class DetectSettings:
    """What counts as a vessel.

    Attributes
    ----------
    min_area_grid_px2 : float
        Smaller blobs are left out; in px² of the network's grid, where noise is the same size
        for every frame.
    noise_floor_px : float
        Standard deviation of a centroid whose edges are perfectly sharp, in frame px.
    edge_correlation_grid_px2 : float
        Area over which the network's edge errors move together, in px² of the grid. Neighbouring
        pixels err alike, so counting each alone would make the centroid look too certain.
    """

    min_area_grid_px2: float = 20.0
    noise_floor_px: float = 0.3
    edge_correlation_grid_px2: float = 16.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


def detect(
    probability: F32,
    grid: Grid,
    threshold: float,
    settings: DetectSettings = DetectSettings(),
    *,
    contours: bool = False,
) -> tuple[Detection, ...]:
    """Find the vessels in one probability map.

    Parameters
    ----------
    probability : ndarray of shape (H, W), float32
        Vessel probability on the network's grid.
    grid : Grid
        Where that grid lies in the frame.
    threshold : float
        Probability from which a pixel belongs to a vessel.
    settings : DetectSettings
        What counts as a vessel.
    contours : bool
        Trace each outline too.

    Returns
    -------
    tuple of Detection
        In frame pixels, largest first.
    """
    x, y, w, h = grid.inner
    inside = probability[y : y + h, x : x + w]
    mask = (inside >= threshold).view(np.uint8)
    count, *maps = cv2.connectedComponentsWithStats(mask, connectivity=4)
    labels, stats = cast("I32", maps[0]), cast("I32", maps[1])
    found = [
        _describe(inside, labels, label, stats[label], grid, threshold, settings, contours)
        for label in range(1, count)
        if stats[label, cv2.CC_STAT_AREA] >= settings.min_area_grid_px2
    ]
    return tuple(sorted(found, key=lambda d: -d.area_px2))


def axes_of(second_moment: F64) -> tuple[float, float, float]:
    """Full axes and direction of the ellipse with these second central moments.

    A filled ellipse with semi-axes a and b has the moments a²/4 and b²/4 about its axes.

    Parameters
    ----------
    second_moment : ndarray of shape (2, 2)
        Mean of ``d dᵀ`` over the shape, d from its centroid.

    Returns
    -------
    major, minor : float
        Full lengths, in the square root of the moment's unit.
    angle_rad : float
        Of the major axis, from +x towards +y, in ``(-pi/2, pi/2]``.
    """
    xx, yy, xy = second_moment[0, 0], second_moment[1, 1], second_moment[0, 1]
    mean, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    major, minor = 4 * np.sqrt(mean + half), 4 * np.sqrt(max(mean - half, 0.0))
    return float(major), float(minor), float(angle)


def _describe(
    probability: F32,
    labels: I32,
    label: int,
    stats: I32,
    grid: Grid,
    threshold: float,
    settings: DetectSettings,
    contours: bool,
) -> Detection:
    left, top, width, height = (int(n) for n in stats[:4])
    # One pixel more on each side: the soft edge outside the threshold belongs to the vessel too.
    x0, y0 = max(left - 1, 0), max(top - 1, 0)
    window = np.s_[y0 : top + height + 1, x0 : left + width + 1]
    own = labels[window] == label
    near = cv2.dilate(own.view(np.uint8), _NEIGHBOURS).view(bool)
    others = (labels[window] != 0) & ~own
    p = np.where(near & ~others, probability[window], np.float32(0)).astype(np.float64)

    # How much of each pixel is vessel: a half where the probability is the threshold.
    coverage = np.minimum(p / (2 * threshold), 1.0)
    area = float(coverage.sum())
    xs = np.arange(x0, x0 + p.shape[1], dtype=np.float64)
    ys = np.arange(y0, y0 + p.shape[0], dtype=np.float64)
    columns, rows = coverage.sum(0), coverage.sum(1)
    cx, cy = float(columns @ xs) / area, float(rows @ ys) / area
    dx, dy = xs - cx, ys - cy
    # A pixel is a square, not a point: it spreads by 1/12 px² about its own centre.
    xx = float(columns @ dx**2) / area + 1 / 12
    yy = float(rows @ dy**2) / area + 1 / 12
    xy = float(dy @ coverage @ dx) / area

    per_px = 1 / grid.scale
    to_frame = np.outer(per_px, per_px)
    major, minor, angle = axes_of(np.array([[xx, xy], [xy, yy]]) * to_frame)
    offset = np.array(grid.inner[:2], np.float64)
    corner = grid.to_frame(np.add(offset, (left - 0.5, top - 0.5)))
    return Detection(
        centroid_px=grid.to_frame(np.add(offset, (cx, cy))),
        covariance_px2=_centroid_covariance(p, dx, dy, area, settings) * to_frame
        + settings.noise_floor_px**2 * np.eye(2),
        area_px2=area * float(np.prod(per_px)),
        axes_px=(major, minor),
        angle_rad=angle,
        score=float(probability[window][own].mean()),
        box_px=(
            float(corner[0]),
            float(corner[1]),
            float(width * per_px[0]),
            float(height * per_px[1]),
        ),
        contour_px=_trace(p, threshold, np.add(offset, (x0, y0)), grid) if contours else None,
    )


_NEIGHBOURS: U8 = np.ones((3, 3), np.uint8)


def _centroid_covariance(p: F64, dx: F64, dy: F64, area: float, settings: DetectSettings) -> F64:
    """Variance of the centroid when each pixel is vessel with probability p.

    A pixel's membership has the variance p(1 - p); moving it in or out moves the centroid by its
    distance over the area (first-order propagation). Errors that move together over an area add
    in proportion to it. Only uncertain pixels - the blurred edge - contribute.
    """
    variance = p * (1 - p)
    columns, rows = variance.sum(0), variance.sum(1)
    xy = dy @ variance @ dx
    moment = np.array([[columns @ dx**2, xy], [xy, rows @ dy**2]])
    covariance: F64 = settings.edge_correlation_grid_px2 * moment / area**2
    return covariance


def _trace(p: F64, threshold: float, origin: F64, grid: Grid) -> F32:
    """Outline at the threshold, traced on a four times finer map, in frame px."""
    fine = cv2.resize(
        np.pad(p, 1).astype(np.float32), None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR
    )
    found, _ = cv2.findContours(
        (fine >= threshold).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    # A quarter of a grid pixel is less than the outline's error, and saves most of its points.
    outline = cv2.approxPolyDP(max(found, key=cv2.contourArea), 1.0, closed=True)[:, 0, :]
    at_grid = (outline.astype(np.float64) + 0.5) / 4 - 1.5 + origin
    return grid.to_frame(at_grid).astype(np.float32)
