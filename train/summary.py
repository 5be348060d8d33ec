"""Scores of a set of frames, each with its interval.

A mean says how many frames it is of. Frames without a labelled vessel have no Dice of their own.
They count in what is pooled over pixels, by their false alarms, and are counted apart otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F64
from veintrack.train.bootstrap import Estimate, check_groups, draw_sets, estimate_ratio
from veintrack.train.scores import OVERLAP, FrameScores

__all__ = ["SIZES", "Summary", "summarise"]

SIZES = ("small", "medium", "large")
_NOTHING_MARKED = ((0, 1, 0, 1), (1, 1, 1, 1))  # right are the pixels that are not vessel
_SURFACE = ("hd95_px", "surface_distance_px", "hd95_mm", "surface_distance_mm")


@dataclass(frozen=True, slots=True)
class Summary:
    """Scores of a set of frames.

    Attributes
    ----------
    frames, frames_with_vessel, frames_without_vessel : int
        How many.
    frames_without_surface : int
        Frames with a vessel in which nothing was marked: left out of the surface distances.
    resampled, resampled_count : str, int
        What was drawn anew for the intervals, ``frames`` or ``groups``, and how many there are.
    marks_left_out : int or None
        Marked areas that count in no score, as the background is unknown; None where it is known.
    pooled : dict
        Overlap of all pixels of all frames together; ``marking_nothing_accuracy`` is the pixel
        accuracy of a model that marks nothing. Both accuracies need a known background.
    mean : dict
        Means over the frames with a vessel.
    vessels : dict
        ``detection_rate`` over all labelled vessels, ``false_detections`` a frame with a vessel,
        ``detections`` a frame of all, ``centroid_error_px`` and ``centroid_error_mm``: means over
        all matches.
    detection_rate_by_size : dict
        The same for the ``small``, ``medium`` and ``large`` third of the labelled vessels.
    size_limits_px : tuple of float
        The two diameters between these; empty if nothing is labelled.
    centroid_error_px, centroid_error_mm : dict
        ``median`` and ``p95`` over all matches; empty if there are none.
    false_alarms : Estimate or None
        Marked areas in a frame without a vessel; undefined where the background is unknown.
    """

    frames: int
    frames_with_vessel: int
    frames_without_vessel: int
    frames_without_surface: int
    resampled: str
    resampled_count: int
    marks_left_out: int | None
    pooled: dict[str, Estimate | None]
    mean: dict[str, Estimate | None]
    vessels: dict[str, Estimate | None]
    detection_rate_by_size: dict[str, Estimate | None]
    size_limits_px: tuple[float, ...]
    centroid_error_px: dict[str, float]
    centroid_error_mm: dict[str, float]
    false_alarms: Estimate | None


def summarise(
    frames: Sequence[FrameScores],
    groups: Sequence[str] | None = None,
    *,
    replicates: int = 2000,
    seed: int = 0,
) -> Summary:
    """Pool and average the scores of frames, each with a 95 % bootstrap interval.

    Parameters
    ----------
    frames : sequence of FrameScores
        At least one.
    groups : sequence of str, optional
        The group of each frame, for intervals over groups: see
        :func:`veintrack.train.bootstrap.draw_sets`. Without it frames are taken for independent,
        and the intervals are too narrow where many are of one scan.
    replicates : int
        Sets drawn anew.
    seed : int
        Of the draw.
    """
    if not frames or replicates < 1:
        raise ValueError(
            f"expected frames and replicates, got {len(frames)} frames, {replicates} replicates"
        )
    if groups is not None and len(groups) != len(frames):
        raise ValueError(f"expected a group for each of {len(frames)} frames, got {len(groups)}")
    if groups is not None:
        check_groups(groups)
    units = groups if groups is not None else [str(i) for i in range(len(frames))]
    weights = draw_sets(units, replicates, seed)
    counts = np.array([[f.tp, f.fp, f.fn, f.tn] for f in frames], np.float64)
    vessels, marked, matched = np.array(
        [[f.vessels, f.marked, f.matched] for f in frames], np.float64
    ).T
    shown = vessels > 0
    left_out = [f.left_out for f in frames if f.left_out is not None]

    def pooled(ratio: tuple[tuple[int, ...], tuple[int, ...]]) -> Estimate | None:
        if left_out and ratio[1][3]:  # it needs the pixels that are known to be background
            return None
        return estimate_ratio(counts @ ratio[0], counts @ ratio[1], weights)

    def mean(name: str) -> Estimate | None:
        values = np.array([getattr(f, name) for f in frames], np.float64)  # None becomes NaN
        valid = shown & ~np.isnan(values)
        return estimate_ratio(np.where(valid, values, 0), valid.astype(np.float64), weights)

    def error(unit: str) -> Estimate | None:
        each = [getattr(f, f"centroid_errors_{unit}") for f in frames]
        return estimate_ratio(
            np.array([sum(e) for e in each]), np.array([float(len(e)) for e in each]), weights
        )

    limits_px, by_size = _detected_by_size(frames, weights)
    return Summary(
        frames=len(frames),
        frames_with_vessel=int(shown.sum()),
        frames_without_vessel=int((~shown).sum()),
        frames_without_surface=sum(f.vessels > 0 and f.hd95_px is None for f in frames),
        resampled="frames" if groups is None else "groups",
        resampled_count=len(set(units)),
        marks_left_out=sum(left_out) if left_out else None,
        pooled={
            **{name: pooled(ratio) for name, ratio in OVERLAP.items()},
            "marking_nothing_accuracy": pooled(_NOTHING_MARKED),
        },
        mean={name: mean(name) for name in (*OVERLAP, *_SURFACE)},
        vessels={
            "detection_rate": estimate_ratio(matched, vessels, weights),
            "false_detections": estimate_ratio(
                (marked - matched) * shown, shown.astype(np.float64), weights
            ),
            "detections": estimate_ratio(marked, np.ones(len(frames)), weights),
            "centroid_error_px": error("px"),
            "centroid_error_mm": error("mm"),
        },
        detection_rate_by_size=by_size,
        size_limits_px=limits_px,
        centroid_error_px=_quantiles([e for f in frames for e in f.centroid_errors_px]),
        centroid_error_mm=_quantiles([e for f in frames for e in f.centroid_errors_mm]),
        false_alarms=None
        if left_out
        else estimate_ratio(marked * ~shown, (~shown).astype(np.float64), weights),
    )


def _detected_by_size(
    frames: Sequence[FrameScores], weights: NDArray[np.int64]
) -> tuple[tuple[float, ...], dict[str, Estimate | None]]:
    """Divide the labelled vessels into thirds by diameter; how many of each were found."""
    diameters_px = np.array([d for f in frames for d in f.diameters_px], np.float64)
    if not diameters_px.size:
        return (), dict.fromkeys(SIZES)
    limits_px = np.percentile(diameters_px, (100 / 3, 200 / 3))
    size = np.digitize(diameters_px, limits_px)
    found = np.array([hit for f in frames for hit in f.found], bool)
    frame = np.repeat(np.arange(len(frames)), [f.vessels for f in frames])

    def per_frame(which: NDArray[np.bool_]) -> F64:
        return np.bincount(frame[which], minlength=len(frames)).astype(np.float64)

    rates = {
        name: estimate_ratio(per_frame((size == i) & found), per_frame(size == i), weights)
        for i, name in enumerate(SIZES)
    }
    return tuple(limits_px.tolist()), rates


def _quantiles(errors: list[float]) -> dict[str, float]:
    if not errors:
        return {}
    median, p95 = np.percentile(errors, (50, 95))
    return {"median": float(median), "p95": float(p95)}
