"""A whole training run: data in, a judged model file out."""

import json
import logging
import os
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from rich.console import Console

from veintrack.errors import BackendMissingError, VeintrackError
from veintrack.train.batches import RunData, prepare_data
from veintrack.train.callbacks import Checkpoints, CountOnce, EpochLog, Patience, RunProgress
from veintrack.train.checkpoints import WholeFiles, load_network, start_from
from veintrack.train.data import Frames
from veintrack.train.export import export_model
from veintrack.train.memory import keep_freed_memory
from veintrack.train.metrics import PooledScores, Scores
from veintrack.train.networks import count_multiply_adds, count_parameters, make_network
from veintrack.train.resnet34_unet import SegmentationNetwork, load_encoder_weights
from veintrack.train.runfolder import (
    MODEL_FILE,
    begin_folder,
    check_folder,
    check_split_is_kept,
    last_checkpoint,
)
from veintrack.train.settings import TrainSettings
from veintrack.train.task import SegmentationTask

__all__ = ["evaluate", "first_process", "fit", "resolve_precision"]

_HINTS = (
    "does not have many workers",
    "exists and is not empty",
    "`isinstance\\(treespec",
    "It is recommended to use `self.log",  # what we log is the same in every process
    "Total length of `.*` across ranks is zero",  # refused in words of our own
    "callbacks used to create the checkpoint",  # --patience may come and go
)
_FIRST_ONE_S = 30.0
_log = logging.getLogger(__name__)


def fit(settings: TrainSettings) -> Path:
    """Train, choose the weights to keep, judge them, and export them.

    The output folder then holds ``model.onnx``, ``settings.json`` (as resolved, and what the
    network costs), ``split.json`` (which frame was used for what), ``logs/metrics.csv`` (a row for
    each epoch) and ``checkpoints/`` (``best.ckpt`` by pooled Dice on the validation frames,
    ``last.ckpt``). A run that is killed and resumed ends with what it would have ended with.

    Where a launcher runs several processes, all of them call this, and the first one alone writes
    and speaks. Batch normalisation keeps to each process's own batch, and the first one's running
    statistics count.

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
    BackendMissingError
        If logs for TensorBoard are wanted, and its package is not installed.
    """
    with _first_one_speaks(), _quiet_lightning():
        _check_packages(settings)
        if first_process():  # for the others, it has looked already, and has begun to write
            check_folder(settings)
        keep_freed_memory()
        data = prepare_data(settings)
        network = _start(settings, len(data.classes))
        trainer = _trainer(settings, data)
        if first_process():
            check_split_is_kept(settings, data.split_names)
            begin_folder(settings, data.split_names, _facts(settings, network))
        task = SegmentationTask(network, settings)
        task.scores.names = data.classes
        with _interruptible():
            trainer.fit(task, data, ckpt_path=last_checkpoint(settings), weights_only=True)
        if trainer.is_global_zero:
            _finish(settings, data, trainer.strategy.root_device)
        trainer.strategy.barrier()
    return settings.output / MODEL_FILE


def first_process() -> bool:
    """Whether this is the one that writes, as far as a launcher of several has said by now."""
    ranks = (
        os.environ.get(name, "0") for name in ("RANK", "NODE_RANK", "SLURM_PROCID", "LOCAL_RANK")
    )
    return all(rank == "0" for rank in ranks)


@contextmanager
def _first_one_speaks() -> Iterator[None]:
    """Let the first of several processes alone say what it does, and what is wrong."""
    if first_process():
        yield
        return
    with _quiet("veintrack.train", logging.ERROR):
        try:
            yield
        except (VeintrackError, ValueError):
            # The first one finds the same; then the launcher ends this one too, in silence.
            time.sleep(_FIRST_ONE_S)
            raise


def _start(settings: TrainSettings, classes: int) -> SegmentationNetwork:
    torch.manual_seed(settings.seed)
    network = make_network(settings.arch, classes)
    if settings.init is not None:
        start_from(network, settings.init)
    if settings.encoder_weights is not None:
        load_encoder_weights(network, settings.encoder_weights)
    return network


def _check_packages(settings: TrainSettings) -> None:
    if settings.tensorboard and find_spec("tensorboard") is None:
        raise BackendMissingError(
            "logs for TensorBoard need tensorboard, which is not installed: "
            'pip install "veintrack[train]"'
        )


def _facts(settings: TrainSettings, network: SegmentationNetwork) -> dict[str, Any]:
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
    precision = resolve_precision(settings.precision, settings.accelerator)
    return {"precision": precision, "parameters": parameters, "multiply_adds": multiply_adds}


def resolve_precision(precision: str, accelerator: str = "auto") -> str:
    """Resolve ``auto``: bf16 where the device computes in it, else fp16 on a GPU and 32 bits."""
    if precision != "auto":
        return precision
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        # A GPU that only emulates it would be slower than in 32 bits.
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if native else "16-mixed"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    return "bf16-mixed" if "amx_bf16" in flags or "avx512_bf16" in flags else "32-true"


def _trainer(settings: TrainSettings, data: RunData) -> pl.Trainer:
    terminal = Console(stderr=True).is_terminal
    # An empty version: its files lie in logs/ itself, beside the table.
    tensorboard = TensorBoardLogger(settings.output, "logs", "") if settings.tensorboard else False
    make_trainer = partial(
        pl.Trainer,
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        precision=resolve_precision(settings.precision, settings.accelerator),  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        gradient_clip_val=settings.clip,
        logger=tensorboard,
        # Half a gigabyte an epoch: training goes on while a copy of it is written.
        plugins=[AsyncCheckpointIO(WholeFiles())],
        callbacks=_callbacks(settings, data) + [RunProgress()] * terminal,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        reload_dataloaders_every_n_epochs=1,  # each epoch has its own phantom frames
        enable_progress_bar=terminal,
        enable_model_summary=False,
    )
    try:
        return make_trainer()
    except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"this machine does not offer accelerator {settings.accelerator}, devices "
            f"{settings.devices}, num_nodes {settings.num_nodes}, strategy {settings.strategy}, "
            f"precision {settings.precision}: {reason}"
        ) from error


def _callbacks(settings: TrainSettings, data: RunData) -> list[Callback]:
    checkpoints = settings.output / "checkpoints"
    callbacks: list[Callback] = [
        CountOnce(len(data.val), settings.batch),
        EpochLog(settings.batch, data.classes, settings.output / "logs" / "metrics.csv"),
        Checkpoints(
            checkpoints,
            "best",
            monitor="val_dice",
            mode="max",
            save_weights_only=True,  # nobody resumes from it, and it is half as large
            enable_version_counter=False,
        ),
        # After the best one, of which it keeps account.
        Checkpoints(checkpoints, "last", enable_version_counter=False),
    ]
    if settings.patience:
        callbacks.append(Patience(settings.patience))
    return callbacks


def _finish(settings: TrainSettings, data: RunData, device: torch.device) -> None:
    kept = settings.output / "checkpoints" / f"{settings.keep}.ckpt"
    network = load_network(kept, len(data.classes), settings.arch)
    network.to(device)
    val = evaluate(network, data.val, settings.batch).best()
    metrics = {"val": _report(val, data.classes, data.val)}
    if len(data.test):
        test = evaluate(network, data.test, settings.batch).at(val.threshold)
        metrics["test"] = _report(test, data.classes, data.test)
    export_model(
        network,
        settings.output / MODEL_FILE,
        classes=data.classes,
        threshold=val.threshold,
        training_data=settings.training_data or data.description,
        metrics=metrics,
        licence=settings.licence or "not stated; research use only",
        size_px=(settings.size_px, settings.size_px),
        arch=settings.arch,
    )
    _log.info("model %s: %s", settings.output / MODEL_FILE, json.dumps(metrics))


def _report(scores: Scores, classes: Sequence[str], frames: Frames) -> dict[str, Any]:
    figures = asdict(scores)
    of_classes = figures.pop("dice_of_classes")
    report = {"frames": len(frames)} | {k: round(v, 4) for k, v in figures.items()}
    if len(classes) > 1:
        report["dice_of"] = {
            name: None if value is None else round(value, 4)
            for name, value in zip(classes, of_classes, strict=True)
        }
    return report


@torch.no_grad()
def evaluate(network: SegmentationNetwork, frames: Frames, batch: int = 8) -> PooledScores:
    """Count a network's right and wrong pixels over frames, in 32 bits, on its own device."""
    network.eval()
    device = next(network.parameters()).device
    scores = PooledScores(network.classes).to(device)
    for start in range(0, len(frames), batch):
        image, mask, unknown = (
            torch.from_numpy(part[start : start + batch]).to(device).float() / 255
            for part in (frames.images, frames.masks, frames.unknown)
        )
        scores.update(torch.sigmoid(network(image)), mask, unknown)
    return scores


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let an interrupt be one: Lightning ends the process itself, deaf to further interrupts."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from end


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's hints off the console: they speak to its programmers."""
    with (
        _quiet("lightning.pytorch", logging.WARNING),
        _quiet("lightning.fabric", logging.WARNING),
        warnings.catch_warnings(),
    ):
        for hint in _HINTS:
            warnings.filterwarnings("ignore", f".*{hint}")
        yield


@contextmanager
def _quiet(name: str, least: int) -> Iterator[None]:
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(least)
    try:
        yield
    finally:
        log.setLevel(level)
