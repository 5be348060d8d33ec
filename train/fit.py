"""A whole training run: data in, a judged model file out."""

import json
import logging
import os
import pickle
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console

from veintrack.errors import OutputError
from veintrack.train.batches import RunData, prepare_data
from veintrack.train.callbacks import EpochLog
from veintrack.train.data import Frames
from veintrack.train.export import export_model
from veintrack.train.memory import keep_freed_memory
from veintrack.train.metrics import PooledScores, Scores
from veintrack.train.networks import count_multiply_adds, count_parameters, make_network
from veintrack.train.resnet34_unet import SegmentationNetwork, load_encoder_weights
from veintrack.train.settings import TrainSettings
from veintrack.train.task import SegmentationTask

__all__ = ["MODEL_FILE", "evaluate", "fit", "load_network", "resolve_precision"]

MODEL_FILE = "model.onnx"
_WRITTEN = ("settings.json", "split.json", "checkpoints", "logs", MODEL_FILE)
_HINTS = ("does not have many workers", "exists and is not empty", "`isinstance\\(treespec")
_log = logging.getLogger(__name__)


def fit(settings: TrainSettings) -> Path:
    """Train, choose the best weights, judge them, and export them.

    The output folder then holds ``model.onnx``, ``settings.json`` (as resolved, and what the
    network costs), ``split.json`` (which frame was used for what), ``logs/`` (CSV) and
    ``checkpoints/`` (``best.ckpt`` by pooled Dice on the validation frames, ``last.ckpt``).

    Parameters
    ----------
    settings : TrainSettings
        What to do.

    Returns
    -------
    Path
        The model file.

    Raises
    ------
    ValueError, SourceNotFoundError, SourceUnreadableError
        If the settings do not fit the data or the files; before anything is written.
    OutputError
        If the output folder is in use, or cannot be written.
    """
    last = settings.output / "checkpoints" / "last.ckpt"
    _check_output(settings, last)
    keep_freed_memory()
    network = _start(settings)
    data = prepare_data(settings)
    if _first_process():
        _begin_output(settings, data, _costs(settings, network))
    with _quiet_lightning():
        trainer = _trainer(settings)
        task = SegmentationTask(network, settings)
        trainer.fit(task, data, ckpt_path=last if settings.resume else None, weights_only=True)
        if trainer.is_global_zero:
            _finish(settings, data, trainer.strategy.root_device)
        trainer.strategy.barrier()
    return settings.output / MODEL_FILE


def _first_process() -> bool:
    """Whether this is the one that writes, as far as a launcher of several has said by now."""
    ranks = (
        os.environ.get(name, "0") for name in ("RANK", "NODE_RANK", "SLURM_PROCID", "LOCAL_RANK")
    )
    return all(rank == "0" for rank in ranks)


def _start(settings: TrainSettings) -> SegmentationNetwork:
    torch.manual_seed(settings.seed)
    network = make_network(settings.arch, len(settings.labels))
    if settings.init is not None:
        network = load_network(settings.init, len(settings.labels), settings.arch)
    if settings.encoder_weights is not None:
        load_encoder_weights(network, settings.encoder_weights)
    return network


def load_network(checkpoint: Path, classes: int, arch: str) -> SegmentationNetwork:
    """Read the averaged weights out of a checkpoint of a run.

    Parameters
    ----------
    checkpoint : Path
        ``best.ckpt`` or ``last.ckpt``.
    classes, arch : int, str
        What that run trained, see `veintrack.train.networks.make_network`.

    Raises
    ------
    ValueError
        If it is no checkpoint of this network with so many classes.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{checkpoint} cannot be read as a checkpoint of a training run"
        ) from error
    prefix = "averaged."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    network = make_network(arch, classes)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint} holds no {arch} with {classes} class(es)") from error
    return network


def _check_output(settings: TrainSettings, last: Path) -> None:
    if not _first_process():
        return  # the first one has looked, and has begun to write since
    output = settings.output
    if settings.resume:
        if not last.is_file():
            raise ValueError(f"no run to resume: {last} does not exist")
        settings.check_resumes(output / "settings.json")
    elif output.exists() and not output.is_dir():
        raise OutputError(f"output {output} exists and is no folder")
    elif not settings.overwrite and output.is_dir() and any(output.iterdir()):
        raise OutputError(
            f"output folder {output} is not empty: name another, or give --overwrite to replace "
            "the run in it, or --resume to go on with it"
        )


def _costs(settings: TrainSettings, network: SegmentationNetwork) -> dict[str, int]:
    size_px = settings.size_px
    parameters, multiply_adds = count_parameters(network), count_multiply_adds(network, size_px)
    _log.info(
        "network %s: %.2f million parameters, %.2f billion multiply-adds for a frame of %d x %d px",
        settings.arch,
        parameters / 1e6,
        multiply_adds / 1e9,
        size_px,
        size_px,
    )
    return {"parameters": parameters, "multiply_adds": multiply_adds}


def _begin_output(settings: TrainSettings, data: RunData, costs: dict[str, int]) -> None:
    output = settings.output
    try:
        output.mkdir(parents=True, exist_ok=True)
        if not settings.resume:
            for name in _WRITTEN:  # nothing else of a user's own is touched
                path = output / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        precision = resolve_precision(settings.precision)
        resolved = settings.to_json() | {"precision": precision} | costs
        (output / "settings.json").write_text(json.dumps(resolved, indent=2) + "\n")
        (output / "split.json").write_text(json.dumps(data.split_names, indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"output folder {output} cannot be written: {error.strerror}") from error


def resolve_precision(precision: str) -> str:
    """Resolve ``auto``: bf16 where the device computes in it, else 32 bits."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    return "bf16-mixed" if "amx_bf16" in flags or "avx512_bf16" in flags else "32-true"


def _trainer(settings: TrainSettings) -> pl.Trainer:
    folder = settings.output / "checkpoints"
    callbacks: list[Callback] = [
        ModelCheckpoint(
            folder,
            "best",
            monitor="val_dice",
            mode="max",
            save_weights_only=True,  # nobody resumes from it, and it is half as large
            enable_version_counter=False,
        ),
        ModelCheckpoint(folder, "last", enable_version_counter=False),
        EpochLog(settings.batch),
    ]
    terminal = Console(stderr=True).is_terminal
    if terminal:
        callbacks.append(RichProgressBar())
    return pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        precision=resolve_precision(settings.precision),  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        gradient_clip_val=settings.clip,
        logger=CSVLogger(settings.output, name="logs"),
        callbacks=callbacks,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        reload_dataloaders_every_n_epochs=1,  # each epoch has its own phantom frames
        enable_progress_bar=terminal,
        enable_model_summary=False,
    )


def _finish(settings: TrainSettings, data: RunData, device: torch.device) -> None:
    best = settings.output / "checkpoints" / "best.ckpt"
    network = load_network(best, len(settings.labels), settings.arch)
    network.to(device)
    val = evaluate(network, data.val, settings.batch).best()
    metrics = {"val": _report(val, data.val)}
    if len(data.test):
        test = evaluate(network, data.test, settings.batch).at(val.threshold)
        metrics["test"] = _report(test, data.test)
    export_model(
        network,
        settings.output / MODEL_FILE,
        classes=tuple(settings.labels),
        threshold=val.threshold,
        training_data=settings.training_data or data.description,
        metrics=metrics,
        licence=settings.licence or "not stated; research use only",
        size_px=(settings.size_px, settings.size_px),
        arch=settings.arch,
    )
    _log.info("model %s: %s", settings.output / MODEL_FILE, json.dumps(metrics))


def _report(scores: Scores, frames: Frames) -> dict[str, Any]:
    return {"frames": len(frames)} | {k: round(v, 4) for k, v in asdict(scores).items()}


@torch.no_grad()
def evaluate(network: SegmentationNetwork, frames: Frames, batch: int = 8) -> PooledScores:
    """Count a network's right and wrong pixels over frames, in 32 bits, on its own device."""
    network.eval()
    device = next(network.parameters()).device
    scores = PooledScores(network.classes).to(device)
    for start in range(0, len(frames), batch):
        image, mask = (
            torch.from_numpy(part[start : start + batch]).to(device).float() / 255
            for part in (frames.images, frames.masks)
        )
        scores.update(torch.sigmoid(network(image)), mask)
    return scores


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's hints off the console: they speak to its programmers."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for hint in _HINTS:
                warnings.filterwarnings("ignore", f".*{hint}")
            yield
    finally:
        log.setLevel(level)
