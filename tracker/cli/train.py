"""``veintrack train``: options become settings, settings become a model file."""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from veintrack.errors import BackendMissingError
from veintrack.tracker.cli.saying import let_speak

__all__ = ["parse_labels", "train"]


def train(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of labelled frames, COCO file, or YAML file that lists several data sets "
            "[phantom frames alone].",
            metavar="PATH",
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", help="auto, folders (images/ and masks/), coco, labelme, nnunet."),
    ] = "auto",
    arch: Annotated[
        str, typer.Option(help="Network: resnet34-unet, fcn or deeplabv3plus.")
    ] = "resnet34-unet",
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="A class and what the data calls it: a number, a colour (#ff0000) or a name; "
            "may be given again [vessel=1].",
            metavar="CLASS[=VALUE]",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            help="Pixels that the data calls so are unknown; may be given again.", metavar="VALUE"
        ),
    ] = None,
    unlabelled: Annotated[
        str, typer.Option(help="What a pixel without a label is: background, or unknown.")
    ] = "background",
    groups: Annotated[
        str | None,
        typer.Option(
            help="Frames that belong together: a JSON file of clusters, a CSV file of name and "
            "group, a regular expression with one capture group, or auto: near duplicates [every "
            "frame stands alone].",
        ),
    ] = None,
    val: Annotated[float, typer.Option(help="Part of the frames for validation.")] = 0.15,
    test: Annotated[float, typer.Option(help="Part of the frames for the final test.")] = 0.15,
    folds: Annotated[
        int, typer.Option(help="Cross-validation: the test part is one of so many [0: is --test].")
    ] = 0,
    fold: Annotated[int, typer.Option(help="Which of the folds, from 0.")] = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out files that cannot be used.")
    ] = False,
    allow_leaks: Annotated[
        bool,
        typer.Option("--allow-leaks", help="Train even if near duplicates are in different parts."),
    ] = False,
    augment: Annotated[
        str, typer.Option(help="How frames are varied: ultrasound, paper or none.")
    ] = "ultrasound",
    loss: Annotated[
        str,
        typer.Option(
            help="What is minimised: bce-dice, bce, dice, bce-dice-of-frames, bce-tversky, "
            "focal-dice."
        ),
    ] = "bce-dice",
    phantom: Annotated[int, typer.Option(help="Synthetic frames in each epoch.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run [a new one under runs/].", metavar="DIR")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run the folder holds.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run the folder holds.")
    ] = False,
    epochs: Annotated[int, typer.Option(help="Rounds through the data.")] = 60,
    batch: Annotated[int, typer.Option(help="Frames in a step, on each device.")] = 8,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    schedule: Annotated[
        str, typer.Option(help="Of the learning rate: cosine or one-cycle.")
    ] = "cosine",
    patience: Annotated[
        int, typer.Option(help="Stop after so many epochs without a better Dice [0: never].")
    ] = 0,
    keep: Annotated[
        str, typer.Option(help="The epoch that becomes the model: best in validation, or last.")
    ] = "best",
    size: Annotated[
        int, typer.Option(help="Height and width of the network's grid, a multiple of 32.")
    ] = 256,
    seed: Annotated[int, typer.Option(help="Of the split, the weights and all chance.")] = 0,
    init: Annotated[
        Path | None, typer.Option(help="Checkpoint of an earlier run to start from.")
    ] = None,
    encoder_weights: Annotated[
        Path | None, typer.Option(help="torchvision resnet34 weights to start the encoder from.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write logs for TensorBoard too.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Threads that render phantom frames [all cores].")
    ] = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu ...")] = "auto",
    devices: Annotated[str, typer.Option(help="How many devices, or which (0,1).")] = "auto",
    num_nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    strategy: Annotated[str, typer.Option(help="auto, ddp ... as Lightning names them.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, 32-true, bf16-mixed ... as Lightning names them.")
    ] = "auto",
    training_data: Annotated[
        str | None, typer.Option(help="What the model file says of its data, with credit.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="What the model file says of its licence.")
    ] = None,
) -> None:
    """Train a network, judge it on frames it has not seen, and export a model file."""
    if resume and output is None:
        raise ValueError("--resume needs --output, the folder of the run")
    fit, first_process, settings_class = _load()
    settings = settings_class(
        data=data,
        arch=arch,
        format=form,
        labels=parse_labels(label or ["vessel=1"]),
        ignore=tuple(ignore or ()),
        unlabelled=unlabelled,
        groups=groups,
        val_fraction=val,
        test_fraction=test,
        folds=folds,
        fold=fold,
        skip_bad=skip_bad,
        allow_leaks=allow_leaks,
        augment=augment,
        loss=loss,
        phantom=phantom,
        output=output or Path("runs") / f"train-{datetime.now():%Y%m%d-%H%M%S}",
        overwrite=overwrite,
        resume=resume,
        epochs=epochs,
        batch=batch,
        lr=lr,
        schedule=schedule,
        patience=patience,
        keep=keep,
        tensorboard=tensorboard,
        size_px=size,
        seed=seed,
        init=init,
        encoder_weights=encoder_weights,
        workers=workers or os.cpu_count() or 1,
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=precision,
        training_data=training_data,
        licence=licence,
    )
    model = fit(settings)
    if first_process():
        _show(model)


def parse_labels(texts: list[str]) -> dict[str, str]:
    """Read ``vessel=2`` and its like; ``vessel`` alone is ``vessel=vessel``.

    Raises
    ------
    ValueError
        If one has another form, or a class is given twice.
    """
    labels: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or (equals and not value):
            raise ValueError(f"a label must be CLASS or CLASS=VALUE such as vessel=2, got {text!r}")
        if name in labels:
            raise ValueError(f"label {name!r} is given twice")
        labels[name] = value or name
    return labels


def _load() -> tuple[Any, Any, Any]:
    """Import the training room; it needs libraries that the default install lacks."""
    try:
        from veintrack.train.fit import first_process, fit
        from veintrack.train.settings import TrainSettings
    except ImportError as error:
        if error.name is None or error.name.startswith("veintrack"):
            raise  # a fault of our own, which no installation would mend
        raise BackendMissingError(
            f'training needs {error.name}, which is not installed: pip install "veintrack[train]"'
        ) from error
    let_speak("veintrack.train")
    return fit, first_process, TrainSettings


def _show(model: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from veintrack.engines.model import read_model_info

    info = read_model_info(model)
    table = Table("frames", "number", "Dice", "IoU", "pixel accuracy")
    table.caption = f"pooled over pixels, threshold {info.threshold:.3f}"
    for part, scores in info.metrics.items():
        figures = (f"{scores[name]:.3f}" for name in ("dice", "iou", "pixel_accuracy"))
        table.add_row(part, str(scores["frames"]), *figures)
    console = Console()
    console.print(table)
    console.print(Text(f"model: {model}"), soft_wrap=True)  # as text: a path is no markup
