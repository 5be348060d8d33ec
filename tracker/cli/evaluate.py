"""``veintrack evaluate``: how good a model is, or tracks are, where the truth is known."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from veintrack.engines.model import DEFAULT_MODEL, read_model_info, resolve_model
from veintrack.tracker.cli.evaluate_output import (
    as_json,
    check_free,
    facts_of_model,
    make_page,
    show,
    write,
)
from veintrack.tracker.cli.evaluate_tracking import tracking

if TYPE_CHECKING:  # imported on use: the command line starts without them
    from veintrack.train.evaluation import EmptyFrame
    from veintrack.train.formats import LabelChoice, LabelledFolder, LabelledFrame

__all__ = ["evaluate"]

evaluate = typer.Typer(help="Score a model, or tracks, against truth.", rich_markup_mode=None)
evaluate.command("tracking")(tracking)

_REPORT = "report.html"
_LABEL, _NOTHING = "vessel=1", "none"
_UNLABELLED = ("background", "unknown")


@evaluate.callback()
def _evaluate() -> None:
    """Score a model, or tracks, against truth."""


@evaluate.command("segmentation")
def segmentation(
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of frames, with --masks; or alone, with --label none: a folder, or a "
            "video file.",
            metavar="PATH",
        ),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of masks with the frames' names.", metavar="DIR")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Instead of both: folder of labelled frames, or COCO file.", metavar="PATH"
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="Of --data: auto, folders (images/ and masks/), coco, labelme, nnunet.",
        ),
    ] = "auto",
    model: Annotated[
        str, typer.Option(help="Name of a shipped model, or path of a model file.")
    ] = DEFAULT_MODEL,
    label: Annotated[
        str | None,
        typer.Option(
            help="What the data calls the vessel: a number, a colour (#ff0000) or a name; NAME is "
            "one of the model's classes. none: nothing in the frames is a vessel, and no masks "
            "are needed [vessel=1].",
            metavar="[NAME=]VALUE",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            help="Pixels that the data calls so are unknown and count nowhere; may be given again.",
            metavar="VALUE",
        ),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="Which of the model's classes [the label's NAME, else vessel, else vein, else "
            "its first].",
            metavar="NAME",
        ),
    ] = None,
    unlabelled: Annotated[
        str,
        typer.Option(
            help="What the data leaves out: background, or unknown where it labels only some "
            "vessels. Then marks that overlap no labelled vessel count in no score."
        ),
    ] = "background",
    split: Annotated[
        Path | None,
        typer.Option(
            help="Only frames of one part of a training run: its split.json.", metavar="FILE"
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Which part of the split: train, val or test [test].")
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Frames that belong together, as for training: a JSON or CSV file, or a regular "
            "expression with one capture group. Intervals are then over groups [over frames]."
        ),
    ] = None,
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
    engine: Annotated[str, typer.Option(help="auto, tensorrt, openvino or onnxruntime.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or int8.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
    bootstrap: Annotated[int, typer.Option(help="Sets drawn anew for the intervals.")] = 2000,
) -> None:
    """Score the vessels that a model marks, in the frames' own pixels."""
    from rich.console import Console
    from rich.progress import track
    from rich.text import Text

    from veintrack.tracker.cli.train import parse_labels
    from veintrack.tracker.config import parse_spacing
    from veintrack.tracker.segment import load_segmenter
    from veintrack.train.evaluation import Judging, empty_frames, score_files
    from veintrack.train.formats import LabelChoice
    from veintrack.train.summary import summarise

    _check_options(threshold=threshold, bootstrap=bootstrap, unlabelled=unlabelled)
    if part is not None and split is None:
        raise ValueError("part chooses among the frames of a split: name its file with --split")
    spacing_mm = parse_spacing(spacing) if spacing is not None else None
    choice = LabelChoice(parse_labels([label or _LABEL]), tuple(ignore or ()))
    report = output / _REPORT if output else None
    check_free([p for p in (json_file, report) if p], overwrite=overwrite)
    class_name = _choose_class(model, label, class_name)
    if _NOTHING in choice.labels.values():
        needless = {
            "masks": masks, "data": data, "format": form != "auto", "split": split,
            "groups": groups, "ignore": ignore, "unlabelled": unlabelled != "background",
        }  # fmt: skip
        found = _Found(empty_frames(_alone(images, needless)))
    else:
        folder, home = _open(images, masks, data, form)
        found = _find(folder, home, choice, split=split, part=part, groups=groups)
    console = Console(stderr=True, highlight=False)
    with load_segmenter(
        model, engine=engine, precision=precision, device=device, class_name=class_name
    ) as segmenter:
        judging = Judging(
            choice=choice,
            classes=found.classes,
            threshold=segmenter.threshold if threshold is None else threshold,
            spacing_mm=spacing_mm,
            background_known=unlabelled == "background",
        )
        silent = not console.is_terminal
        shown = track(found.frames, "scoring", console=console, disable=silent, transient=True)
        frames, levels = score_files(segmenter, shown, judging)
        summary = summarise(frames, found.groups, replicates=bootstrap)
        facts = {
            **facts_of_model(segmenter),
            "images": images and str(images),
            "masks": masks and str(masks),
            "data": data and str(data),
            "format": found.format,
            "label": label or _LABEL,
            "ignore": ignore,
            "unlabelled": unlabelled,
            "split": split and f"{part or 'test'} of {split}",
            "images_without_mask": found.without_mask,
            "unknown_share": found.unknown_share,
            "groups": groups,
            "threshold": judging.threshold,
            "spacing_mm": spacing_mm,
            "bootstrap": bootstrap,
        }
        if json_file:
            figures = as_json(facts, summary, frames, found.groups, levels)
            write(json_file, json.dumps(figures, indent=1))
        if report:
            write(
                report, make_page(segmenter, found.frames, judging, facts, summary, frames, levels)
            )
    show(summary, facts)
    for path in filter(None, (json_file, report)):
        console.print(Text(f"written: {path}"), soft_wrap=True)  # as text: a path is no markup


def _check_options(*, threshold: float | None, bootstrap: int, unlabelled: str) -> None:
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
    if bootstrap < 1:
        raise ValueError(f"bootstrap must be at least 1, got {bootstrap}")
    if unlabelled not in _UNLABELLED:
        raise ValueError(f"unlabelled must be {' or '.join(_UNLABELLED)}, got {unlabelled!r}")


@dataclass(frozen=True, slots=True)
class _Found:
    """The frames to judge, and what is known of them before."""

    frames: "Iterable[LabelledFrame | EmptyFrame]"
    format: str | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[str] | None = None
    without_mask: int = 0
    unknown_share: float = 0.0


def _choose_class(model: str, label: str | None, class_name: str | None) -> str | None:
    """Choose the model's class that is asked for, or that the label is named after."""
    name, equals, _ = (label or "").partition("=")
    if name not in read_model_info(resolve_model(model)).classes:
        return class_name
    if equals and class_name not in (None, name):
        raise ValueError(
            f"--label {label} is of the model's class {name}, but --class is {class_name}: "
            "leave one of them out"
        )
    return class_name or name


def _alone(images: Path | None, needless: Mapping[str, Any]) -> Path:
    """Check that frames in which nothing is labelled are named, and nothing else is."""
    given = [name for name, value in needless.items() if value]
    if images is None or given:
        raise ValueError(
            "with --label none, name the frames with --images alone"
            + "".join(f", without --{name}" for name in given[:1])
        )
    return images


def _find(
    folder: "LabelledFolder",
    home: str,
    choice: "LabelChoice",
    *,
    split: Path | None,
    part: str | None,
    groups: str | None,
) -> _Found:
    """Choose among labelled frames, and read all of them once."""
    from veintrack.train.evaluation import check_label, find_labelled, group_files

    folder, without_mask = find_labelled(folder, split, part or "test", home)
    group_of = group_files(folder.frames, groups) if groups is not None else None
    unknown_share = check_label(folder, choice).unknown
    return _Found(
        folder.frames, folder.format, folder.classes, group_of, len(without_mask), unknown_share
    )


def _open(
    images: Path | None, masks: Path | None, data: Path | None, form: str
) -> tuple["LabelledFolder", str]:
    """Find labelled frames, and what a training run calls the folder they are in."""
    from veintrack.train.formats import open_folder, pair_folders

    if data is not None and images is None and masks is None:
        return open_folder(data, form), data.resolve().name
    if data is None and images is not None and masks is not None:
        if form != "auto":
            raise ValueError("format is that of --data: --images and --masks are folders")
        return pair_folders(images, masks), images.resolve().parent.name
    raise ValueError(
        "name the frames either with --images and --masks, or with --data; where nothing in them "
        "is a vessel, with --images alone and --label none"
    )
