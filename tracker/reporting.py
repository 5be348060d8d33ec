"""What a tracker tells of its tracks."""

import math
from collections.abc import Sequence

import numpy as np

from veintrack.tracker import shape
from veintrack.tracker.frame import F64, Detection, Region, Shape, Spacing, Track
from veintrack.tracker.life import Life
from veintrack.tracker.measure import measure
from veintrack.tracker.tracksettings import TrackSettings

__all__ = ["report", "systematic_px2"]


def report(
    lives: Sequence[Life],
    time_ns: int,
    settings: TrackSettings,
    *,
    spacing_mm: Spacing | None,
    area_px: Region | None,
    accel_psd_px2_s3: float,
) -> list[Track]:
    """Tell of each track where it is, how certain that is, and what was seen of it.

    Parameters
    ----------
    lives : sequence of Life
        The tracks, as they stand at `time_ns`.
    time_ns : int
        On the clock of the frames.
    settings : TrackSettings
        What the uncertainty holds besides the filter's, and how what is hidden moves.
    spacing_mm : tuple of float or None
        ``(row_mm, col_mm)``, for measurements.
    area_px : tuple of int or None
        The scan area: depth counts from its top, and no box of what is not seen reaches beyond.
    accel_psd_px2_s3 : float
        How quickly velocities may change.
    """
    if not lives:
        return []
    shapes = [life.shape_after(life.unseen_s, settings) for life in lives]
    # Copies: what is told is its reader's own, even to write to.
    means = np.array([life.state.mean for life in lives])
    states = np.array([life.state.cov for life in lives])
    covs = states[:, :2, :2] + systematic_px2(shapes, [life.last for life in lives], settings)
    top_px = 0.0 if area_px is None else float(area_px[1])
    told = []
    for life, now, mean, state, cov in zip(lives, shapes, means, states, covs, strict=True):
        seen, measurement = None, None
        if life.seen_now:
            seen = life.last
            measurement = measure(seen, spacing_mm, top_px, life.signs)
        told.append(
            Track(
                life.id,
                life.status,
                mean[:2],
                mean[2:],
                cov,
                _box(now, mean, area_px) if seen is None else seen.box_px,
                life.last.score,
                seen,
                measurement,
                now,
                life.collapsed,
                time_ns,
                state,
                accel_psd_px2_s3,
                settings.damped_s if life.waits else None,
            )
        )
    return told


def systematic_px2(
    shapes: Sequence[Shape], seen: Sequence[Detection], settings: TrackSettings
) -> F64:
    """Covariance of what is wrong with a centroid in every frame alike.

    A network draws a vessel's border a little off, and always the same way: no number of frames
    averages that away, so the filter cannot know of it.

    Parameters
    ----------
    shapes : sequence of Shape
        Size and form of each vessel.
    seen : sequence of Detection
        What was last seen of each.
    settings : TrackSettings
        `bias_px` in every direction; `bias_axes`, and `bias_ragged` for what its outline
        lacks, in proportion to the axes.

    Returns
    -------
    ndarray of shape (T, 2, 2)
        In px².
    """
    floor = settings.bias_px**2
    covs = []
    for each, last in zip(shapes, seen, strict=True):
        lack = shape.ragged(last.area_px2, *last.axes_px)
        part2 = settings.bias_axes**2 + (settings.bias_ragged * lack) ** 2
        along, across = part2 * each.major_px**2, part2 * each.minor_px**2
        mean, half = floor + (along + across) / 2, (along - across) / 2
        even, slant = half * math.cos(2 * each.angle_rad), half * math.sin(2 * each.angle_rad)
        covs.append((mean + even, slant, slant, mean - even))
    return np.array(covs).reshape(-1, 2, 2)


def _box(now: Shape, mean: F64, area_px: Region | None) -> tuple[float, float, float, float]:
    """Box of what is not seen: that of its shape, as far as it lies in the scan area."""
    left, top, width, height = shape.box_at(now, *mean[:2].tolist())
    if area_px is None:
        return left, top, width, height
    x0, y0 = area_px[0] - 0.5, area_px[1] - 0.5
    right, bottom = min(left + width, x0 + area_px[2]), min(top + height, y0 + area_px[3])
    inside = max(left, x0), max(top, y0)
    if inside[0] >= right or inside[1] >= bottom:  # all of it is outside
        return left, top, width, height
    return *inside, right - inside[0], bottom - inside[1]
