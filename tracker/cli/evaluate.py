"""``veintrack evaluate``: how good a model is, on frames whose truth is known."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from veintrack._version import __version__
from veintrack.engines.model import DEFAULT_MODEL
from veintrack.errors import OutputError, SourceNotFoundError
from veintrack.tracker.frame import F64, Spacing

if TYPE_CHECKING:  # imported on use: the command line starts without them
    from rich.console import Console

    from veintrack.tracker.segment import Segmenter
    from veintrack.train.data import FrameFile
    from veintrack.train.report import Example
    from veintrack.train.scores import FrameScores, Summary

__all__ = ["evaluate"]

evaluate = typer.Typer(help="Score a model against truth.", rich_markup_mode=None)

_REPORT = "report.html"


@evaluate.callback()
def _evaluate() -> None:
    """Score a model against truth."""


@evaluate.command("segmentation")
def segmentation(
    images: Annotated[Path, typer.Option(help="Folder of frames.", metavar="DIR")],
    masks: Annotated[
        Path, typer.Option(help="Folder of index masks with the frames' names.", metavar="DIR")
    ],
    model: Annotated[
        str, typer.Option(help="Name of a shipped model, or path of a model file.")
    ] = DEFAULT_MODEL,
    label: Annotated[
        str, typer.Option(help="The vessel's value in the masks.", metavar="[NAME=]VALUE")
    ] = "vessel=1",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every figure there.", metavar="FILE")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help=f"Write {_REPORT} into this folder.", metavar="DIR")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
    spacing: Annotated[
        str | None, typer.Option(help="Millimetres per pixel, MM or ROW_MM,COL_MM.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Probability from which a pixel is vessel [the model's].")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, openvino or onnxruntime.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or int8.")] = "auto",
    bootstrap: Annotated[int, typer.Option(help="Sets drawn anew for the intervals.")] = 2000,
) -> None:
    """Score the vessels that a model marks, in the frames' own pixels."""
    from rich.console import Console

    from veintrack.tracker.config import parse_spacing
    from veintrack.tracker.overlay import NOTICE
    from veintrack.tracker.segment import load_segmenter
    from veintrack.train.report import pick_examples, render_report
    from veintrack.train.scores import summarise

    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
    if bootstrap < 1:
        raise ValueError(f"bootstrap must be at least 1, got {bootstrap}")
    spacing_mm = parse_spacing(spacing) if spacing is not None else None
    value = _label_value(label)
    report = output / _REPORT if output else None
    _check_free([p for p in (json_file, report) if p], overwrite=overwrite)
    files, without_mask = _find(images, masks, value, label)
    console = Console(stderr=True, highlight=False)
    with load_segmenter(model, engine=engine, precision=precision) as segmenter:
        threshold = segmenter.threshold if threshold is None else threshold
        frames, levels = _score(segmenter, files, value, threshold, spacing_mm, console)
        summary = summarise(frames, replicates=bootstrap)
        facts = _facts(segmenter, images, masks, label, threshold, spacing_mm, bootstrap)
        facts["images_without_mask"] = len(without_mask)
        if json_file:
            _write(json_file, json.dumps(_as_json(facts, summary, frames, levels), indent=1))
        if report:
            chosen = pick_examples(frames)
            examples = _examples(segmenter, files, chosen, value, threshold)
            shown = {k.replace("_", " "): _text(v) for k, v in facts.items() if k != "notice"}
            _write(
                report,
                render_report(shown, summary, frames, levels, threshold, examples, NOTICE),
            )
    _show(summary, facts)
    for path in filter(None, (json_file, report)):
        console.print(f"written: {path}", soft_wrap=True)


def _label_value(text: str) -> int:
    from veintrack.tracker.cli.train import parse_labels

    if text.isdecimal():
        return int(text)
    return next(iter(parse_labels([text]).values()))


def _check_free(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse what could not be written, before hours of work go into it."""
    for path in paths:
        if path.is_dir():
            raise OutputError(f"{path} is a folder, not a file")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists: name another, or add --overwrite")
        nearest = next(p for p in path.absolute().parents if p.exists())
        if not nearest.is_dir():
            raise OutputError(f"cannot write to {path}: {nearest} is not a folder")


def _find(images: Path, masks: Path, value: int, label: str) -> tuple[list["FrameFile"], list[str]]:
    """Pair the files, and check every mask: a fault in the last one should not take an hour."""
    import numpy as np

    from veintrack.train.data import match_frames, read_frame

    files, without_mask = match_frames(images, masks)
    if not files:
        raise SourceNotFoundError(
            f"no image in {images} has a mask of its name in {masks}: "
            f"the first image is {without_mask[0]}"
        )
    seen: set[int] = set()
    for file in files:
        seen.update(np.unique(read_frame(file)[1]).tolist())
    if value not in seen:
        raise ValueError(
            f"label {label} occurs in no mask; "
            f"the masks hold the values {', '.join(map(str, sorted(seen)))}"
        )
    return files, without_mask


def _score(
    segmenter: "Segmenter",
    files: Sequence["FrameFile"],
    value: int,
    threshold: float,
    spacing_mm: Spacing | None,
    console: "Console",
) -> tuple[list["FrameScores"], F64]:
    import numpy as np
    from rich.progress import track

    from veintrack.tracker.detect import DetectSettings
    from veintrack.tracker.grid import fit
    from veintrack.train.data import read_frame
    from veintrack.train.scores import BINS, count_levels, score_frame

    frames, levels = [], np.zeros((3, BINS))
    silent = not console.is_terminal
    for file in track(files, "scoring", console=console, disable=silent, transient=True):
        pixels, mask = read_frame(file)
        truth = mask == value
        probability = segmenter(pixels)
        # What the tracker leaves out as too small is no detection.
        scale = fit((pixels.shape[0], pixels.shape[1]), segmenter.input_shape).scale
        least_px2 = DetectSettings().min_area_grid_px2 / float(np.prod(scale))
        frames.append(
            score_frame(
                file.name, truth, probability >= threshold, spacing_mm, min_area_px2=least_px2
            )
        )
        levels += count_levels(probability, truth)
    return frames, levels


def _examples(
    segmenter: "Segmenter",
    files: Sequence["FrameFile"],
    chosen: Sequence[tuple[str, "FrameScores"]],
    value: int,
    threshold: float,
) -> list["Example"]:
    """Segment the frames to show again: keeping every frame's picture would fill the memory."""
    from veintrack.train.data import read_frame
    from veintrack.train.report import Example

    file_of = {file.name: file for file in files}
    examples = []
    for rank, scores in chosen:
        pixels, mask = read_frame(file_of[scores.name])
        marked = segmenter(pixels) >= threshold
        examples.append(Example(rank, scores, pixels, mask == value, marked))
    return examples


def _facts(
    segmenter: "Segmenter",
    images: Path,
    masks: Path,
    label: str,
    threshold: float,
    spacing_mm: Spacing | None,
    bootstrap: int,
) -> dict[str, Any]:
    from veintrack.tracker.overlay import NOTICE

    return {
        "notice": NOTICE,
        "veintrack": __version__,
        "model": str(segmenter.model.path),
        "model_sha256": segmenter.model.sha256,
        "engine": segmenter.engine.name,
        "precision": segmenter.engine.precision,
        "device": segmenter.engine.device,
        "images": str(images),
        "masks": str(masks),
        "label": label,
        "threshold": threshold,
        "spacing_mm": spacing_mm,
        "bootstrap": bootstrap,
    }


def _text(fact: Any) -> str:
    if isinstance(fact, tuple):
        return " x ".join(map(str, fact))
    return "unknown" if fact is None else str(fact)


def _as_json(
    facts: dict[str, Any], summary: "Summary", frames: Sequence["FrameScores"], levels: F64
) -> dict[str, Any]:
    from veintrack.train.scores import calibrate, dice_by_threshold

    thresholds, dice = dice_by_threshold(levels)
    calibration = calibrate(levels)
    return {
        **facts,
        **asdict(summary),
        "threshold_curve": {"threshold": thresholds.tolist(), "dice": dice.tolist()},
        "calibration": {
            "expected_calibration_error": calibration.error,
            "confidence": calibration.confidence.tolist(),
            "frequency": calibration.frequency.tolist(),
            "share": calibration.share.tolist(),
        },
        "per_frame": [asdict(frame) for frame in frames],
    }


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror}") from error


def _show(summary: "Summary", facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from veintrack.train.report import score_rows

    table = Table("score", "all together", "mean of frames")
    for row in score_rows(summary):
        table.add_row(*map(Text, row))  # as text: brackets are no markup here
    console = Console(highlight=False)
    console.print(table)
    for note in _notes(summary, facts):
        console.print(Text(note))


def _notes(summary: "Summary", facts: dict[str, Any]) -> list[str]:
    notes = [
        f"{summary.frames_with_vessel} frames with a vessel, "
        f"{summary.frames_without_vessel} without. In brackets: 95 % over frames. "
        f"Threshold {facts['threshold']:.3f}, {facts['engine']} {facts['precision']}."
    ]
    if summary.frames_without_surface:
        notes.append(
            f"Surface distances leave out {summary.frames_without_surface} frames with a vessel "
            "in which nothing was marked."
        )
    if facts["images_without_mask"]:
        notes.append(f"Images left out for want of a mask: {facts['images_without_mask']}.")
    return [*notes, facts["notice"]]
