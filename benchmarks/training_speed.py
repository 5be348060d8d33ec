"""Whether training uses the machine: a real epoch against its bare steps.

    python benchmarks/training_speed.py --data DIR --label vessel=2 --json training_speed.json

A real epoch is all that ``veintrack train`` does for it between two validations: rendering,
batches, augmentation, steps, logs, checkpoints. A bare step is forward, loss, backward, clipping,
optimiser and moving average with the same network and optimiser in the same precision, on tensors
that lie augmented on the device. Both are timed in turns within one run, so that other loads on the
machine hit both; their ratio is what to read. Between the epochs each part is timed by itself too,
over as many images; what the parts do not explain is Lightning and its logs. A first epoch warms
up, validation is not counted, and figures are medians over the rounds: two epochs where phantom
frames are rendered every other epoch, else one.
"""

import argparse
import json
import logging
import os
import platform
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, cast
from unittest.mock import patch

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from rich.console import Console
from rich.table import Table
from torch import nn

import veintrack.train.fit as product
from veintrack._version import __version__
from veintrack.errors import VeintrackError
from veintrack.tracker.cli.train import parse_labels
from veintrack.train.batches import RunData
from veintrack.train.phantoms import render_frames
from veintrack.train.settings import TrainSettings
from veintrack.train.task import Batch, SegmentationTask, update_average

TARGET = 0.9
PARTS = {
    "ready": "bare steps on ready tensors",
    "augmentation": "augmentation",
    "batches": "batches to the device",
    "rendering": "phantom frames",
    "checkpoints": "checkpoints",
}
"""What is timed by itself, and how it is called in the table."""
_KEPT = 4  # batches that are kept for the parts


@dataclass(slots=True)
class Epoch:
    """Seconds of one epoch: as it is, and of its parts."""

    images: int = 0
    real: float = 0.0
    validation: float = 0.0
    ready: float = 0.0
    augmentation: float = 0.0
    batches: float = 0.0
    rendering: float = 0.0
    checkpoints: float = 0.0


class Clock(Callback):
    """Times each epoch, and before it, with the clock held, its parts.

    It must come before all other callbacks. What happens from the end of one validation to the
    beginning of the next belongs to the later epoch.

    Parameters
    ----------
    settings : TrainSettings
        Of the run.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self._settings = settings
        self._kept: list[tuple[Batch, Batch]] = []
        self._since_s = 0.0
        self.epochs: list[Epoch] = [Epoch()]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = self.epochs[-1]
        now.real += self._lap()
        self._time_parts(now, trainer, cast(SegmentationTask, pl_module))
        self._lap()

    def on_validation_start(self, *_: object) -> None:
        self.epochs[-1].real += self._lap()

    def on_validation_end(self, *_: object) -> None:
        self.epochs[-1].validation = self._lap()
        self.epochs.append(Epoch())

    def after_checkpoints(self) -> None:
        self.epochs[-1].checkpoints = self.epochs[-1].real = self._lap()

    def _lap(self) -> float:
        """Seconds since the last lap."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        before, self._since_s = self._since_s, time.perf_counter()
        return self._since_s - before

    def _time_parts(self, epoch: Epoch, trainer: pl.Trainer, task: SegmentationTask) -> None:
        settings, data = self._settings, cast(RunData, trainer.datamodule)  # type: ignore[attr-defined]
        loader = data.train_dataloader()
        self._lap()
        for image, *rest in loader:
            epoch.images += len(image.to(task.device))
            for part in rest:
                part.to(task.device)
        epoch.batches = self._lap()
        autocast = trainer.precision_plugin.train_step_context
        if not self._kept:
            for batch, _ in zip(loader, range(_KEPT), strict=False):
                raw = cast(Batch, tuple(part.to(task.device) for part in batch))
                with autocast():
                    self._kept.append((raw, task.vary(raw)))
        self._lap()
        for number in range(len(loader)):
            with autocast():
                task.vary(self._kept[number % len(self._kept)][0])
        epoch.augmentation = self._lap()
        for number in range(len(loader)):
            step(task, trainer, self._kept[number % len(self._kept)][1], settings)
        epoch.ready = self._lap()
        # A set serves several epochs, so this is an epoch's part of it.
        seeds = range(settings.phantom)
        render_frames(seeds, settings.size_px, settings.workers, len(data.classes))
        epoch.rendering = self._lap() / settings.phantom_epochs


class AfterCheckpoints(Checkpoint):
    """Tells a clock that all checkpoints of an epoch are written; it must come last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_train_epoch_end(self, *_: object) -> None:
        self._clock.after_checkpoints()


def step(
    task: SegmentationTask, trainer: pl.Trainer, ready: Batch, settings: TrainSettings
) -> None:
    """Make a bare training step, with the network and the optimiser of the run itself."""
    image, mask, unknown = ready
    optimiser = trainer.optimizers[0]
    with trainer.precision_plugin.train_step_context():
        loss = task.loss(task.network(image), mask, unknown)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(task.network.parameters(), settings.clip)
    optimiser.step()
    update_average(task.averaged, task.network, settings.ema_decay)


def run(settings: TrainSettings) -> tuple[list[Epoch], dict[str, Any]]:
    """Train as `fit` does, but for the model file; the timed epochs, and on what they ran."""
    clock = Clock(settings)
    trainers: list[pl.Trainer] = []
    make = product._trainer

    def make_with_clock(*args: Any) -> pl.Trainer:
        trainers.append(trainer := make(*args))
        callbacks = cast("list[Callback]", trainer.callbacks)  # type: ignore[attr-defined]
        callbacks[:] = [clock, *callbacks, AfterCheckpoints(clock)]
        return trainer

    # The run must be set up as `fit` sets it up, but with a clock in it.
    with patch.object(product, "_trainer", make_with_clock), patch.object(product, "_finish"):
        product.fit(settings)
    (trainer,) = trainers
    device = trainer.strategy.root_device
    machine = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "precision": trainer.precision,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "veintrack": __version__,
    }
    return clock.epochs[1:-1], machine


def processor() -> str:
    """Name the processor, as far as the kernel does."""
    with Path("/proc/cpuinfo").open() as lines:
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(names, platform.machine())


def sum_up(epochs: list[Epoch], round_epochs: int) -> dict[str, Any]:
    """Take medians over rounds of so many epochs.

    Returns
    -------
    dict
        ``ratio`` of the bare steps' time to the real epoch's, with its range; images a second of
        both; and ``ms_per_image`` of the real epoch, of each part, and of the ``rest``.
    """
    rounds = [epochs[i : i + round_epochs] for i in range(0, len(epochs), round_epochs)]

    def ms(name: str) -> list[float]:
        return [
            1000 * sum(getattr(e, name) for e in some) / sum(e.images for e in some)
            for some in rounds
        ]

    of = {name: ms(name) for name in ("real", *PARTS)}
    parts = list(zip(*(of[name] for name in PARTS), strict=True))
    of["rest"] = [real - sum(each) for real, each in zip(of["real"], parts, strict=True)]
    ratios = [ready / real for ready, real in zip(of["ready"], of["real"], strict=True)]
    return {
        "rounds": len(rounds),
        "ratio": round(median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "target": TARGET,
        "real_images_per_s": round(1000 / median(of["real"]), 2),
        "ready_images_per_s": round(1000 / median(of["ready"]), 2),
        "ms_per_image": {name: round(median(values), 3) for name, values in of.items()},
        "validation_s": round(median(e.validation for e in epochs), 2),
    }


def show(found: dict[str, Any], title: str) -> None:
    """Print where the time of a real epoch goes."""
    ms = found["ms_per_image"]
    names = {**PARTS, "rest": "Lightning, logs and all else", "real": "a real epoch"}
    table = Table("", "ms an image", "of the epoch", title=title)
    for name, called in names.items():
        table.add_row(called, f"{ms[name]:.2f}", f"{100 * ms[name] / ms['real']:.1f} %")
    low, high = found["ratio_range"]
    table.caption = (
        f"{found['real_images_per_s']} images/s of {found['ready_images_per_s']} on ready tensors: "
        f"ratio {found['ratio']} ({low} to {high} over {found['rounds']} rounds; "
        f"target {TARGET}). Validation takes {found['validation_s']} s more."
    )
    Console(width=100).print(table)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="as for veintrack train [phantom frames alone]")
    parser.add_argument("--label", default="vessel=1")
    parser.add_argument("--phantom", type=int, default=0, help="synthetic frames in each epoch")
    parser.add_argument("--augment", default="ultrasound")
    parser.add_argument("--arch", default="resnet34-unet")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=6, help="timed, after one that warms up")
    parser.add_argument("--threads", type=int, help="of the CPU [all cores]")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    logging.basicConfig(format="%(message)s")
    logging.getLogger("veintrack.train").setLevel(logging.INFO)
    if options.threads:
        torch.set_num_threads(options.threads)
    with TemporaryDirectory() as folder:
        try:
            settings = TrainSettings(
                output=Path(folder) / "run",
                data=options.data,
                labels=parse_labels([options.label]),
                allow_leaks=True,  # how fast it learns, not how well
                augment=options.augment,
                phantom=options.phantom,
                arch=options.arch,
                size_px=options.size,
                batch=options.batch,
                epochs=1 + options.epochs,
                workers=options.threads or os.cpu_count() or 1,
            )
            round_epochs = settings.phantom_epochs if settings.phantom else 1
            if options.epochs < 1 or options.epochs % round_epochs:
                raise ValueError(f"epochs must be a multiple of {round_epochs}")
            epochs, machine = run(settings)
        except (ValueError, VeintrackError) as error:
            raise SystemExit(f"training_speed: {error}") from error
    found = sum_up(epochs, round_epochs)
    show(
        found,
        f"{settings.arch}, {settings.size_px} px, batches of {settings.batch}, "
        f"{epochs[0].images} images an epoch, {machine['precision']}, {machine['threads']} threads",
    )
    if options.json:
        record = {
            "machine": machine,
            "command": shlex.join(["python", "benchmarks/training_speed.py", *sys.argv[1:]]),
            **found,
            "epochs_s": [asdict(epoch) for epoch in epochs],
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
