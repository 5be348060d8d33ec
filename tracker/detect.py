"""From a probability map to vessels with sub-pixel centroids.

Everything is computed on the network's grid and mapped to the frame at the end: the map holds no
more than that, and the grid has a fifth of a frame's pixels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F32, F64, U8, Detection, Patch, Region
from veintrack.tracker.grid import Grid

__all__ = ["DetectSettings", "axes_of", "describe", "detect", "moments_of"]

_NEW, _FIRST, _DONE = 1, 2, 255  # marks of blobs: not visited, visited (from here on), long ago
_WIDEST_BLUR = 1.0  # px²; beyond this it is the inside that is unsure
_THINNEST = 4 / math.sqrt(12)  # px, axis of what is one pixel wide
_NEIGHBOURS: U8 = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class DetectSettings:
    """What counts as a vessel.

    Attributes
    ----------
    threshold : float or None
        Probability from which a pixel belongs to a vessel, 0 to 1; None for the model's own.
    min_area_grid_px2 : float
        Smaller blobs are left out; in px² of the network's grid, where noise is the same size
        for every frame.
    noise_floor_px : float
        Standard deviation of a centroid whose edges are perfectly sharp, in frame px.
    edge_correlation_grid_px2 : float
        Area over which the network's edge errors move together, in px² of the grid. Neighbouring
        pixels err alike, so counting each alone would make the centroid look too certain.
    """

    threshold: float | None = None
    min_area_grid_px2: float = 20.0
    noise_floor_px: float = 0.3
    edge_correlation_grid_px2: float = 16.0

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, got {self.threshold}")
        for name in ("min_area_grid_px2", "noise_floor_px", "edge_correlation_grid_px2"):
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
    # As the map's own type holds it, so that all who compare with it agree on every pixel.
    threshold = float(probability.dtype.type(threshold))
    found = [
        describe(_patch(inside, marks, mark, box, grid, threshold), settings, contours=contours)
        for marks, mark, box, area_px in _blobs(inside >= threshold)
        if area_px >= settings.min_area_grid_px2
    ]
    return tuple(sorted(found, key=lambda d: -d.area_px2))


def describe(
    patch: Patch,
    settings: DetectSettings = DetectSettings(),
    *,
    contours: bool = False,
    edge: float | None = None,
) -> Detection:
    """Describe one vessel from its pixels: a blob as it was found, or a part of one.

    Parameters
    ----------
    patch : Patch
        The vessel's own pixels; kept in the detection.
    settings : DetectSettings
        How uncertain a centroid is.
    contours : bool
        Trace the outline too; of the largest piece, where there are several.
    edge : float, optional
        Probability on the outline; half of that well inside by default.

    Raises
    ------
    ValueError
        If no pixel of the patch reaches its threshold.
    """
    p, threshold = patch.probability, patch.threshold
    own = (p >= threshold).view(np.uint8)
    left, top, width, height = cv2.boundingRect(own)
    if not width:
        raise ValueError(f"a patch must have pixels at its threshold {threshold:g}, got none")

    score = cv2.mean(p, own)[0]
    if edge is None:
        edge = max(score, cv2.mean(p, (p >= score).view(np.uint8))[0]) / 2
    cover = np.minimum(p / (2 * edge), 1.0)  # how much of each pixel is vessel
    shape = cv2.moments(cover)
    area = shape["m00"]
    cx, cy = shape["m10"] / area, shape["m01"] / area
    xx, yy, xy = shape["mu20"] / area, shape["mu02"] / area, shape["mu11"] / area
    blur = _blur(xx + yy, area - cv2.norm(cover, cv2.NORM_L2SQR))

    (x0, y0), (per_x, per_y) = patch.origin_px, patch.step_px
    pixel_px2 = per_x * per_y
    major, minor, angle = axes_of((xx - blur) * per_x**2, (yy - blur) * per_y**2, xy * pixel_px2)
    thinnest = _THINNEST * math.sqrt(pixel_px2)
    vxx, vyy, vxy = _centroid_covariance(p, cx, cy, area, settings)
    floor_px2 = settings.noise_floor_px**2
    across = vxy * pixel_px2
    return Detection(
        centroid_px=np.array((x0 + cx * per_x, y0 + cy * per_y)),
        covariance_px2=np.array(
            [(vxx * per_x**2 + floor_px2, across), (across, vyy * per_y**2 + floor_px2)]
        ),
        area_px2=area * pixel_px2,
        axes_px=(max(major, thinnest), max(minor, thinnest)),
        angle_rad=angle,
        score=score,
        box_px=(
            x0 + (left - 0.5) * per_x,
            y0 + (top - 0.5) * per_y,
            width * per_x,
            height * per_y,
        ),
        contour_px=_trace(patch, edge) if contours else None,
        patch=patch,
        edge=edge,
    )


def axes_of(xx: float, yy: float, xy: float) -> tuple[float, float, float]:
    """Full axes and direction of the ellipse with these second central moments.

    A filled ellipse with semi-axes a and b has the moments a²/4 and b²/4 about its axes.

    Parameters
    ----------
    xx, yy, xy : float
        Means of dx², dy² and dx dy over the shape, (dx, dy) from its centroid. Where less than
        nothing is left of them, without an edge's blur, the axes are 0.

    Returns
    -------
    major, minor : float
        Full lengths, in the square root of the moments' unit.
    angle_rad : float
        Of the major axis, from +x towards +y, in ``(-pi/2, pi/2]``.
    """
    mean, half = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    angle = 0.5 * math.atan2(2 * xy, xx - yy)
    return 4 * math.sqrt(max(mean + half, 0.0)), 4 * math.sqrt(max(mean - half, 0.0)), angle


def moments_of(major: float, minor: float, angle_rad: float) -> tuple[float, float, float]:
    """Second central moments (xx, yy, xy) of an ellipse: what :func:`axes_of` turns back."""
    along, across = major * major / 16, minor * minor / 16
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    return (
        along * cos * cos + across * sin * sin,
        along * sin * sin + across * cos * cos,
        (along - across) * sin * cos,
    )


def _blobs(mask: NDArray[np.bool_]) -> Iterator[tuple[U8, int, Region, int]]:
    """Visit the 4-connected blobs of a mask from the top: marks, own mark, box and pixels of each.

    The marks are 0 outside all blobs, and another number in the other blobs. Filling looks at a
    blob's own pixels only, labelling at the whole map.
    """
    cells = bytearray(mask)
    marks = np.frombuffer(cells, np.uint8).reshape(mask.shape)
    at, mark = cells.find(_NEW), _FIRST
    while at >= 0:
        row, column = divmod(at, mask.shape[1])
        area_px, _, _, (left, top, width, height) = cv2.floodFill(marks, None, (column, row), mark)
        yield marks, mark, (left, top, width, height), area_px
        mark += 1
        if mark == _DONE:  # a byte tells no more of them apart
            marks[marks >= _FIRST] = _DONE
            mark = _FIRST
        at = cells.find(_NEW, at + 1)


def _patch(
    probability: F32, marks: U8, mark: int, box: Region, grid: Grid, threshold: float
) -> Patch:
    """Cut out the blob that has a mark, with its soft edge and without its neighbours."""
    left, top, width, height = box
    # One pixel more on each side: the soft edge outside the threshold belongs to the vessel too.
    x0, y0 = max(left - 1, 0), max(top - 1, 0)
    window = np.s_[y0 : top + height + 1, x0 : left + width + 1]
    seen, marked = probability[window], marks[window]
    own = marked == mark
    near = cv2.dilate(own.view(np.uint8), _NEIGHBOURS).view(bool)
    return Patch(
        probability=np.multiply(seen, near & (own | (marked == 0)), dtype=np.float64),
        threshold=threshold,
        origin_px=grid.to_frame(float(grid.inner[0] + x0), float(grid.inner[1] + y0)),
        step_px=(1 / grid.scale[0], 1 / grid.scale[1]),
    )


def _centroid_covariance(
    p: F64, cx: float, cy: float, area: float, settings: DetectSettings
) -> tuple[float, float, float]:
    """Variances of the centroid (x, y) and covariance when each pixel is vessel with probability p.

    A pixel's membership has the variance p(1 - p); moving it in or out moves the centroid by its
    distance over the area (first-order propagation). Errors that move together over an area add
    in proportion to it. Only uncertain pixels - the blurred edge - contribute.
    """
    edge = cv2.moments(p * (1 - p))
    total, x, y = edge["m00"], edge["m10"], edge["m01"]
    factor = settings.edge_correlation_grid_px2 / area**2
    return (
        factor * (edge["m20"] - 2 * cx * x + cx * cx * total),
        factor * (edge["m02"] - 2 * cy * y + cy * cy * total),
        factor * (edge["m11"] - cx * y - cy * x + cx * cy * total),
    )


def _blur(spread: float, unsure: float) -> float:
    """Variance of an edge's blur across the edge, px², by which all second moments are too large.

    A blurred edge is a sum of sharp ones, spread about its place, and moments add up. How wide it
    is follows from `unsure`, the sum of c(1 - c) over the pixels' covers c: per length of outline
    L/6 for a ramp of length L, whose variance is L²/12, so three times the square of it. For a
    logistic edge it is 3.29 times. A mask that covers pixels in part is a ramp of one pixel.

    Parameters
    ----------
    spread : float
        Sum of the second moments along two axes: a quarter of the squared semi-axes, which give
        the outline's length as 2 pi times their root mean square.
    unsure : float
        The sum, px².
    """
    return min(3 * unsure * unsure / (8 * math.pi**2 * spread), _WIDEST_BLUR) if spread else 0.0


def _trace(patch: Patch, level: float) -> F32:
    """Outline at a level of the probability, traced on a four times finer map, in frame px."""
    fine = cv2.resize(
        cv2.copyMakeBorder(
            patch.probability.astype(np.float32), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
        ),
        None,
        fx=4,
        fy=4,
        interpolation=cv2.INTER_LINEAR,
    )
    # Between a thin blob's pixels the finer map is lower than they are.
    level = min(level, float(fine.max()))
    found, _ = cv2.findContours(
        (fine >= level).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    # A quarter of a grid pixel is less than the outline's error, and saves most of its points.
    outline = cv2.approxPolyDP(max(found, key=cv2.contourArea), 1.0, closed=True)[:, 0, :]
    at = (outline.astype(np.float64) + 0.5) / 4 - 1.5
    return (at * patch.step_px + patch.origin_px).astype(np.float32)
