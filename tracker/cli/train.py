"""``veintrack train``: options become settings, settings become a model file."""

import logging
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from veintrack.errors import BackendMissingError

__all__ = ["parse_labels", "train"]


def train(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder that holds images/ and masks/ [phantom frames alone].", metavar="DIR"
        ),
    ] = None,
    arch: Annotated[
        str, typer.Option(help="Network: resnet34-unet, fcn or deeplabv3plus.")
    ] = "resnet34-unet",
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="A class and its value in the masks; may be given again [vessel=1].",
            metavar="NAME=VALUE",
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Frames that belong together: a JSON file of clusters, or a regular expression "
            "with one capture group [every frame stands alone].",
        ),
    ] = None,
    val: Annotated[float, typer.Option(help="Part of the frames for validation.")] = 0.15,
    test: Annotated[float, typer.Option(help="Part of the frames for the final test.")] = 0.15,
    allow_leaks: Annotated[
        bool,
        typer.Option("--allow-leaks", help="Train even if near duplicates are in different parts."),
    ] = False,
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
    fit, settings_class = _load()
    settings = settings_class(
        data=data,
        arch=arch,
        labels=parse_labels(label or ["vessel=1"]),
        groups=groups,
        val_fraction=val,
        test_fraction=test,
        allow_leaks=allow_leaks,
        phantom=phantom,
        output=output or Path("runs") / f"train-{datetime.now():%Y%m%d-%H%M%S}",
        overwrite=overwrite,
        resume=resume,
        epochs=epochs,
        batch=batch,
        lr=lr,
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
    _show(fit(settings))


def parse_labels(texts: list[str]) -> dict[str, int]:
    """Read ``vessel=2`` and its like; any other form, or a name given twice, is a `ValueError`."""
    labels: dict[str, int] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value.isdecimal():
            raise ValueError(f"a label must be NAME=VALUE such as vessel=2, got {text!r}")
        if name in labels:
            raise ValueError(f"label {name!r} is given twice")
        labels[name] = int(value)
    return labels


def _load() -> tuple[Any, Any]:
    """Import the training room; it needs libraries that the default install lacks."""
    try:
        from veintrack.train.fit import fit
        from veintrack.train.settings import TrainSettings
    except ImportError as error:
        if error.name is None or error.name.startswith("veintrack"):
            raise  # a fault of our own, which no installation would mend
        raise BackendMissingError(
            f'training needs {error.name}, which is not installed: pip install "veintrack[train]"'
        ) from error
    from rich.console import Console

    if not Console(stderr=True).is_terminal:  # a terminal has the progress bar
        logging.getLogger("veintrack.train").setLevel(logging.INFO)
    return fit, TrainSettings


def _show(model: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from veintrack.engines.model import read_model_info

    info = read_model_info(model)
    table = Table("frames", "number", "Dice", "IoU", "pixel accuracy")
    table.caption = f"pooled over pixels, threshold {info.threshold:.3f}"
    for part, scores in info.metrics.items():
        figures = (f"{scores[name]:.3f}" for name in ("dice", "iou", "pixel_accuracy"))
        table.add_row(part, str(scores["frames"]), *figures)
    console = Console()
    console.print(table)
    console.print(f"model: {model}", soft_wrap=True, highlight=False)
