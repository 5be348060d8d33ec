"""What ``veintrack evaluate`` gives: figures as JSON, a page, and a table on the terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veintrack._version import __version__
from veintrack.errors import OutputError
from veintrack.tracker.frame import F64

if TYPE_CHECKING:  # imported on use: the command line starts without them
    from veintrack.tracker.segment import Segmenter
    from veintrack.train.evaluation import EmptyFrame, Judging
    from veintrack.train.formats import LabelledFrame
    from veintrack.train.scores import FrameScores
    from veintrack.train.summary import Summary

__all__ = ["as_json", "check_free", "facts_of_model", "make_page", "show", "write"]


def check_free(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse what could not be written, before hours of work go into it."""
    for path in paths:
        if path.is_dir():
            raise OutputError(f"{path} is a folder, not a file")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists: name another, or add --overwrite")
        nearest = next(p for p in path.absolute().parents if p.exists())
        if not nearest.is_dir():
            raise OutputError(f"cannot write to {path}: {nearest} is not a folder")


def facts_of_model(segmenter: "Segmenter") -> dict[str, Any]:
    """Say what was judged, and what ran it."""
    from veintrack.tracker.overlay import NOTICE

    return {
        "notice": NOTICE,
        "veintrack": __version__,
        "model": str(segmenter.model.path),
        "model_sha256": segmenter.model.sha256,
        "class": segmenter.class_name,
        "engine": segmenter.engine.name,
        "precision": segmenter.engine.precision,
        "device": segmenter.engine.device,
    }


def make_page(
    segmenter: "Segmenter",
    found: "Iterable[LabelledFrame | EmptyFrame]",
    judging: "Judging",
    facts: dict[str, Any],
    summary: "Summary",
    frames: Sequence["FrameScores"],
    levels: F64,
) -> str:
    """Lay out the report, with the best, median and worst of the labelled frames."""
    from veintrack.train.evaluation import EmptyFrame, show_frames
    from veintrack.train.report import pick_examples, render_report

    picked = pick_examples(frames)
    labelled = [frame for frame in found if not isinstance(frame, EmptyFrame)]
    examples = show_frames(segmenter, labelled, picked, judging)
    shown = {
        k.replace("_", " "): _text(v) for k, v in facts.items() if v is not None and k != "notice"
    }
    return render_report(
        shown, summary, frames, levels, judging.threshold, examples, facts["notice"]
    )


def _text(fact: Any) -> str:
    if isinstance(fact, list):
        return ", ".join(fact)
    if isinstance(fact, float):
        return f"{fact:.4g}"
    return " x ".join(map(str, fact)) if isinstance(fact, tuple) else str(fact)


def as_json(
    facts: dict[str, Any],
    summary: "Summary",
    frames: Sequence["FrameScores"],
    groups: Sequence[str] | None,
    levels: F64,
) -> dict[str, Any]:
    """Gather every figure; `groups` names the group of each frame."""
    from veintrack.train.curves import calibrate, dice_by_threshold

    figures = {
        **facts,
        **asdict(summary),
        "threshold_curve": None,
        "calibration": None,
        "per_frame": [asdict(frame) for frame in frames],
    }
    if summary.frames_with_vessel:  # without one there is no Dice
        thresholds, dice = dice_by_threshold(levels)
        figures["threshold_curve"] = {"threshold": thresholds.tolist(), "dice": dice.tolist()}
    if summary.marks_left_out is None:  # it needs to know the background
        calibration = calibrate(levels)
        figures["calibration"] = {
            "expected_calibration_error": calibration.error,
            "confidence": calibration.confidence.tolist(),
            "frequency": calibration.frequency.tolist(),
            "share": calibration.share.tolist(),
        }
    for row, group in zip(figures["per_frame"], groups or (), strict=False):
        row["group"] = group
    return figures


def write(path: Path, text: str) -> None:
    """Write a text file, and its folder if need be.

    Raises
    ------
    OutputError
        If that cannot be done.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror}") from error


def show(summary: "Summary", facts: dict[str, Any]) -> None:
    """Print the scores, and what must be known to read them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from veintrack.train.report import remarks, score_rows

    caption = Text(f"the model's class {facts['class']}, the data's label {facts['label']}")
    table = Table("score", "all together", "mean of frames", caption=caption)
    for row in score_rows(summary):
        table.add_row(*map(Text, row))  # as text: brackets are no markup here
    console = Console(highlight=False)
    console.print(table)
    notes = [
        f"{summary.frames_with_vessel} frames with a vessel, {summary.frames_without_vessel} "
        f"without. Threshold {facts['threshold']:.3f}, {facts['engine']} {facts['precision']}.",
        *remarks(summary),
    ]
    if facts["images_without_mask"]:
        notes.append(f"Images left out for want of a mask: {facts['images_without_mask']}.")
    if facts["unknown_share"]:
        notes.append(f"Unknown, counted nowhere: {facts['unknown_share']:.1%} of the pixels.")
    for note in (*notes, facts["notice"]):
        console.print(Text(note))
