"""The report of an evaluation: one HTML file that holds everything, figures too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F64, U8
from veintrack.tracker.page import as_png, new_figure, page, table
from veintrack.train.bootstrap import FEW_GROUPS, Estimate
from veintrack.train.curves import calibrate, dice_by_threshold
from veintrack.train.scores import FrameScores
from veintrack.train.summary import SIZES, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Example", "pick_examples", "remarks", "render_report", "score_rows"]

Mask = NDArray[np.bool_]

# Okabe and Ito's palette, told apart without full colour vision.
_TRUTH, _MARKED, _LEFT_OUT = "#E69F00", "#56B4E9", "#CC79A7"
_CURVE, _GREY = "#0072B2", "#767676"


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A frame to show.

    Attributes
    ----------
    rank : str
        Why it is shown: ``best``, ``median`` or ``worst``.
    scores : FrameScores
        Its scores.
    pixels : ndarray of shape (H, W), uint8
        Grey levels.
    truth, marked : ndarray of shape (H, W), bool
        Where the vessel is, and where it was marked.
    left_out : ndarray of shape (H, W), bool, optional
        Where it was marked too, but not scored, as nothing is known there.
    """

    rank: str
    scores: FrameScores
    pixels: U8
    truth: Mask
    marked: Mask
    left_out: Mask | None = None


def pick_examples(frames: Sequence[FrameScores], each: int = 3) -> list[tuple[str, FrameScores]]:
    """Pick frames with the best, the middle and the worst Dice, each frame once at most.

    Parameters
    ----------
    frames : sequence of FrameScores
        Those without a vessel are passed over.
    each : int
        Frames of each rank; fewer if there are not three times as many.
    """
    order = sorted((f for f in frames if f.vessels), key=lambda f: -(f.dice or 0.0))
    n = len(order)
    each = min(each, max(n // 3, 1))
    middle = (n - each) // 2
    ranks = {
        "best": order[:each],
        "median": order[middle : middle + each],
        "worst": order[n - each :],
    }
    first_rank: dict[str, tuple[str, FrameScores]] = {}
    for rank, picked in ranks.items():
        for frame in picked:
            first_rank.setdefault(frame.name, (rank, frame))
    return list(first_rank.values())


def score_rows(summary: Summary) -> list[tuple[str, str, str]]:
    """Write a summary as rows of text: score, all frames together, mean of the frames."""
    pooled, mean, vessels = summary.pooled, summary.mean, summary.vessels
    if not summary.frames_with_vessel:
        return [
            ("false detections a frame", "", _text(summary.false_alarms)),
            ("pixel accuracy", _text(pooled["pixel_accuracy"]), ""),
        ]
    rows = [
        (name, _text(pooled[key]), _text(mean[key]))
        for name, key in (
            ("Dice", "dice"),
            ("IoU", "iou"),
            ("precision", "precision"),
            ("recall", "recall"),
        )
    ]
    background_known = summary.marks_left_out is None
    if background_known:
        nothing = _text(pooled["marking_nothing_accuracy"])
        rows += [
            ("pixel accuracy", _text(pooled["pixel_accuracy"]), _text(mean["pixel_accuracy"])),
            ("  if nothing were marked", nothing, ""),
        ]
    units = ("px", "mm") if mean["hd95_mm"] else ("px",)
    for unit in units:
        rows += [
            (f"HD95, {unit}", "", _text(mean[f"hd95_{unit}"], 2)),
            (f"mean surface distance, {unit}", "", _text(mean[f"surface_distance_{unit}"], 2)),
        ]
    rows += _detection_rows(summary)
    for unit in units:
        quantiles = summary.centroid_error_px if unit == "px" else summary.centroid_error_mm
        rows.append((f"centroid error, {unit}", _text(vessels[f"centroid_error_{unit}"], 2), ""))
        rows += [
            (f"  {name}", f"{quantiles[key]:.2f}" if quantiles else "undefined", "")
            for key, name in (("median", "median"), ("p95", "95th percentile"))
        ]
    return rows


def _detection_rows(summary: Summary) -> list[tuple[str, str, str]]:
    vessels, rates = summary.vessels, summary.detection_rate_by_size
    rows = [("vessels detected", _text(vessels["detection_rate"]), "")]
    if summary.size_limits_px:
        low, high = (f"{limit:.0f}" for limit in summary.size_limits_px)
        spans = (f"below {low} px", f"{low} to {high} px", f"{high} px and above")
        rows += [
            (f"  diameter {span}", _text(rates[size]), "")
            for size, span in zip(SIZES, spans, strict=True)
        ]
    rows += [
        ("detections a frame", "", _text(vessels["detections"])),
        ("  false, with a vessel", "", _text(vessels["false_detections"])),
    ]
    if summary.marks_left_out is None:
        rows.append(("  false, without a vessel", "", _text(summary.false_alarms)))
    return rows


def remarks(summary: Summary) -> list[str]:
    """Say what the numbers are of, and what they leave out."""
    missed, empty = summary.frames_without_surface, summary.frames_without_vessel
    said = [_of_the_intervals(summary)]
    if not summary.frames_with_vessel:
        said.append("No frame shows a vessel: whatever is detected is a false alarm.")
    elif summary.marks_left_out is None:
        said.append(
            f"Of {summary.frames} frames, {empty} show no vessel: they count in what is pooled, "
            "and by what is detected in them; the other means are of the frames with a vessel."
        )
    else:
        said.append(
            "What is not labelled is taken for unknown: marks that overlap no labelled vessel, "
            f"{summary.marks_left_out} in {summary.frames} frames, count in no score, so false "
            "alarms beside the vessels do not show. Precision, Dice and the distances are of the "
            "labelled vessels and the marks on them, each mark whole. Recall and the vessels "
            "detected do not depend on this. Pixel accuracy, calibration and false alarms in "
            f"frames without a label ({empty}) are undefined."
        )
    if missed:
        said.append(
            f"Surface distances leave out {missed} frames with a vessel in which nothing was "
            "marked."
        )
    return said


def _of_the_intervals(summary: Summary) -> str:
    said = "In brackets: 95 % bootstrap percentile intervals over "
    if summary.resampled == "frames":
        return f"{said}{summary.resampled_count} frames, taken for independent."
    said += f"{summary.resampled_count} groups of frames, drawn whole."
    if summary.resampled_count < FEW_GROUPS:
        said += f" With fewer than {FEW_GROUPS} groups they tend to be too narrow."
    return said


def _text(estimate: Estimate | None, digits: int = 3) -> str:
    if estimate is None:
        return "undefined"
    value, low, high = (f"{x:.{digits}f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def render_report(
    facts: Mapping[str, str],
    summary: Summary,
    frames: Sequence[FrameScores],
    levels: F64,
    threshold: float,
    examples: Sequence[Example],
    notice: str,
) -> str:
    """Render a report as one HTML page that needs no other file.

    Parameters
    ----------
    facts : mapping of str to str
        What was evaluated, and on what.
    summary : Summary
        Scores of the set.
    frames : sequence of FrameScores
        Scores of each frame.
    levels : ndarray of shape (3, 256)
        From :func:`veintrack.train.curves.count_levels`, summed over the frames.
    threshold : float
        Probability from which a pixel was marked.
    examples : sequence of Example
        Frames to show.
    notice : str
        What the results must not be used for.
    """
    head = ("score", "all frames together", "mean of frames")
    parts = [
        f"<p class=notice>{escape(notice)}</p>",
        table(facts.items()),
        "<h2>Scores</h2>",
        table(score_rows(summary), head),
        *(f"<p>{escape(text)}</p>" for text in remarks(summary)),
    ]
    if summary.frames_with_vessel:
        parts += [
            *_curve_parts(levels, threshold, background_known=summary.marks_left_out is None),
            "<h2>Frames</h2>",
            as_png(_histogram(frames), "histogram of Dice over the frames with a vessel"),
        ]
    if examples:
        parts += [
            f"<p>{_legend(examples)}</p>",
            as_png(_gallery(examples), "best, median and worst frames with outlines"),
        ]
    parts += ["<details><summary>Every frame</summary>", _frame_table(frames), "</details>"]
    return page("Evaluation of a segmentation", "\n".join(parts))


def _curve_parts(levels: F64, threshold: float, *, background_known: bool) -> list[str]:
    if not background_known:
        figure = new_figure(5, 4.2)
        _draw_thresholds(figure.subplots(), levels, threshold)
        return ["<h2>Threshold</h2>", as_png(figure, "pooled Dice by threshold")]
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    _draw_thresholds(left, levels, threshold)
    _draw_reliability(right, levels)
    return [
        "<h2>Threshold and calibration</h2>",
        as_png(figure, "pooled Dice by threshold; reliability diagram"),
        f"<p>Expected calibration error {calibrate(levels).error:.4f}, over all pixels. Nearly "
        "all are surely background, so it is small for any usable model; the curve says more.</p>",
    ]


def _legend(examples: Sequence[Example]) -> str:
    legend = "Truth dashed, orange. Marked solid, blue."
    if any(e.left_out is not None and e.left_out.any() for e in examples):
        legend += " Marked but left out, dotted, pink."
    return legend


def _frame_table(frames: Sequence[FrameScores]) -> str:
    names = ("dice", "iou", "precision", "recall", "hd95_px", "surface_distance_px")
    rows = (
        [f.name, *(_number(getattr(f, n)) for n in names), *map(str, _vessels(f))] for f in frames
    )
    head = ("frame", "Dice", "IoU", "precision", "recall", "HD95, px", "surface, px")
    return table(rows, (*head, "vessels", "detected", "false"))


def _vessels(frame: FrameScores) -> tuple[int, int, int]:
    return frame.vessels, frame.matched, frame.marked - frame.matched


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _draw_thresholds(axes: "Axes", levels: F64, threshold: float) -> None:
    thresholds, dice = dice_by_threshold(levels)
    axes.plot(thresholds, dice, color=_CURVE)
    axes.axvline(threshold, color=_GREY, linestyle="--", label=f"used: {threshold:.3f}")
    axes.set(xlabel="threshold", ylabel="pooled Dice", xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False, loc="lower left")


def _draw_reliability(axes: "Axes", levels: F64) -> None:
    calibration = calibrate(levels)
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", label="perfect")
    axes.plot(
        calibration.confidence, calibration.frequency, color=_CURVE, marker="o", label="model"
    )
    axes.set(
        xlabel="probability of vessel, mean of the bin",
        ylabel="part that is vessel",
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
    )
    axes.legend(frameon=False, loc="upper left")


def _histogram(frames: Sequence[FrameScores]) -> "Figure":
    figure = new_figure(10, 2.8)
    axes = figure.subplots()
    dice = [f.dice for f in frames if f.vessels and f.dice is not None]
    axes.hist(dice, bins=np.linspace(0, 1, 21).tolist(), color=_CURVE, edgecolor="white")
    axes.set(xlabel="Dice", ylabel="frames", xlim=(0, 1))
    return figure


def _gallery(examples: Sequence[Example]) -> "Figure":
    columns = min(3, len(examples))
    rows = -(-len(examples) // columns)
    figure = new_figure(10, 3.5 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, example in zip(grid.flat, examples, strict=False):
        axes.imshow(example.pixels, cmap="gray", vmin=0, vmax=255)
        _outline(axes, example.marked, _MARKED, "solid")
        if example.left_out is not None:
            _outline(axes, example.left_out, _LEFT_OUT, "dotted")
        _outline(axes, example.truth, _TRUTH, "dashed")
        scores = example.scores
        axes.set_title(f"{example.rank}: {scores.name}, Dice {scores.dice:.3f}", fontsize=10)
    return figure


def _outline(axes: "Axes", mask: Mask, colour: str, style: str) -> None:
    if mask.any() and not mask.all():  # otherwise there is no line to draw
        width = 2.0 if style == "dotted" else 1.4
        axes.contour(mask, levels=[0.5], colors=colour, linestyles=style, linewidths=width)
