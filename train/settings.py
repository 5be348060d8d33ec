"""Everything that a training run can be told, checked where it is born."""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from veintrack.train.augment import PRESETS
from veintrack.train.dataset import DataSet, read_data_sets
from veintrack.train.losses import LOSSES
from veintrack.train.networks import ARCHITECTURES

__all__ = ["KEPT", "SCHEDULES", "TrainSettings"]

SCHEDULES = ("cosine", "one-cycle")
KEPT = ("best", "last")

# What a run that goes on may be told anew. Everything else would change what it is, or be ignored
# because the optimiser goes on as it was.
_FREE = {
    "output", "resume", "overwrite", "epochs", "patience", "keep", "tensorboard", "skip_bad",
    "allow_leaks", "workers", "accelerator", "devices", "num_nodes", "strategy", "precision",
    "training_data", "licence",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Configuration of one training run.

    Attributes
    ----------
    data : Path or None
        Folder, COCO file, or YAML file that lists several; see `veintrack.train.dataset`. None
        trains on phantom frames alone.
    output : Path
        Folder of the run.
    arch : str
        Which network; a name in `veintrack.train.networks.ARCHITECTURES`.
    format, labels, ignore, unlabelled, groups, val_fraction, test_fraction
        How to read and divide the data; see `veintrack.train.dataset.DataSet`. One output channel
        each class, in the order of `labels`.
    folds, fold : int
        Cross-validation: the test part is number `fold` (from 0) of `folds` parts of the groups.
        With 0 folds, `test_fraction` counts.
    skip_bad : bool
        Leave out files that cannot be used, instead of refusing to begin.
    allow_leaks : bool
        Train even if near duplicates lie in different parts of the split.
    augment : str
        How training frames are varied; a name in `veintrack.train.augment.PRESETS`.
    loss : str
        What is minimised; a name in `veintrack.train.losses.LOSSES`.
    phantom : int
        Synthetic frames in each epoch; they show the first class, and the others are unknown.
    phantom_epochs : int
        Epochs that one set of them serves; then new ones are rendered.
    epochs, batch, lr, weight_decay, clip : int, int, float, float, float
        The usual: AdamW's peak rate and decay, and the largest norm of a gradient.
    schedule : str
        How the rate goes over all steps: ``cosine`` (rise, then half a cosine down) or
        ``one-cycle`` (half a cosine up over 30 %, then down).
    warmup : float
        Part of all steps in which the rate rises, with ``cosine``.
    patience : int
        Stop early after so many epochs without a better Dice on the validation frames; 0, never.
    keep : str
        Which epoch's weights become the model: of the ``best`` Dice on the validation frames, or
        the ``last``, which chance does not choose where these frames are few.
    ema_decay : float
        Share of the old average of the weights that a step keeps.
    tensorboard : bool
        Write logs for TensorBoard too; needs its package.
    size_px : int
        Height and width of the network's grid, a multiple of 32.
    seed : int
        Of the split, the weights, the order and the augmentation.
    init : Path or None
        Checkpoint whose network is started from.
    encoder_weights : Path or None
        torchvision ``resnet34`` state dict that the encoder starts from.
    resume, overwrite : bool
        What to do with an `output` that holds a run: go on with it, or replace it.
    workers : int
        Threads that render phantom frames. Real frames stay in memory and need none.
    accelerator, devices, num_nodes, strategy, precision : str, str, int, str, str
        As Lightning's ``Trainer`` takes them; precision ``auto`` is bf16 where it is fast.
    training_data, licence : str or None
        What the model file says of its data and its licence.
    """

    output: Path
    data: Path | None = None
    arch: str = "resnet34-unet"
    format: str = "auto"
    labels: Mapping[str, str] = field(default_factory=lambda: {"vessel": "1"})
    ignore: tuple[str, ...] = ()
    unlabelled: str = "background"
    groups: str | None = None
    val_fraction: float = 0.15
    test_fraction: float = 0.15
    folds: int = 0
    fold: int = 0
    skip_bad: bool = False
    allow_leaks: bool = False
    augment: str = "ultrasound"
    loss: str = "bce-dice"
    phantom: int = 0
    phantom_epochs: int = 2
    epochs: int = 60
    batch: int = 8
    lr: float = 1e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    schedule: str = "cosine"
    warmup: float = 0.05
    patience: int = 0
    keep: str = "best"
    ema_decay: float = 0.998
    tensorboard: bool = False
    size_px: int = 256
    seed: int = 0
    init: Path | None = None
    encoder_weights: Path | None = None
    resume: bool = False
    overwrite: bool = False
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "auto"
    training_data: str | None = None
    licence: str | None = None

    def __post_init__(self) -> None:
        _check(
            self.arch in ARCHITECTURES,
            f"arch must be one of {', '.join(ARCHITECTURES)}",
            self.arch,
        )
        for name in ("epochs", "batch", "phantom_epochs", "num_nodes", "workers"):
            _check(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))
        smallest = ARCHITECTURES[self.arch].smallest_batch
        _check(
            self.batch >= smallest,
            f"batch must be at least {smallest} with {self.arch}",
            self.batch,
        )
        for name in ("lr", "clip"):
            _check(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        for name, known in (
            ("augment", PRESETS),
            ("loss", LOSSES),
            ("schedule", SCHEDULES),
            ("keep", KEPT),
        ):
            value = getattr(self, name)
            _check(value in known, f"{name} must be one of {', '.join(known)}", value)
        for name in ("phantom", "weight_decay", "seed", "patience"):
            value = getattr(self, name)
            _check(value >= 0, f"{name} must not be negative", value)
        for name in ("warmup", "ema_decay"):
            value = getattr(self, name)
            _check(0 <= value < 1, f"{name} must be at least 0 and below 1", value)
        _check(
            self.size_px >= 32 and self.size_px % 32 == 0,
            "size must be a multiple of 32",
            self.size_px,
        )
        _check(
            self.data is not None or self.phantom > 0,
            "there is nothing to train on: give --data, a folder, or --phantom, a number of frames",
            "",
        )
        _check(
            self.folds == 0 or (self.folds >= 2 and 0 <= self.fold < self.folds),
            "folds must be 0 or at least 2, and fold a number below it",
            f"{self.folds} and {self.fold}",
        )
        _check(not (self.resume and self.overwrite), "resume and overwrite exclude each other", "")
        _check(self.val_fraction > 0, "val_fraction must be positive", self.val_fraction)

    def data_sets(self) -> list[DataSet]:
        """List what `data` names; empty where it is None."""
        if self.data is None:
            return []
        default = {
            "format": self.format,
            "labels": self.labels,
            "ignore": self.ignore,
            "unlabelled": self.unlabelled,
            "groups": self.groups,
            "val": self.val_fraction,
            "test": self.test_fraction,
        }
        return read_data_sets(self.data, default)

    def to_json(self) -> dict[str, Any]:
        """Return the settings, with the data sets that they name, as plain values."""
        values = asdict(self) | {"data_sets": [asdict(one) for one in self.data_sets()]}
        return {name: _plain(value) for name, value in values.items()}

    def changes_from(self, before: Mapping[str, Any], free: Collection[str]) -> list[str]:
        """Say which settings differ from those of a run, and how.

        Parameters
        ----------
        before : mapping
            From that run's `to_json`. A run of an earlier version lacks what came later, and did
            what is the default now.
        free : collection of str
            Names that may differ.
        """
        now = self.to_json()
        defaults = TrainSettings(output=self.output, phantom=1).to_json()
        before = {name: before.get(name, defaults[name]) for name in now if name not in free}
        return [
            f"{name} was {value}, is {now[name]}"
            for name, value in before.items()
            # As text: the order of the labels is that of the output channels.
            if json.dumps(value) != json.dumps(now[name])
        ]

    def check_resumes(self, stored: Path) -> None:
        """Check that a run with the settings stored at `stored` may go on with these.

        Raises
        ------
        ValueError
            If the data, the network or how it learns would change.
        """
        try:
            before = json.loads(stored.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"no run to resume: {stored} cannot be read") from error
        changed = self.changes_from(before, _FREE)
        if changed:
            raise ValueError(
                f"this run cannot be resumed with other settings: {'; '.join(changed)}"
            )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _check(holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{expected}, got {got}" if got != "" else expected)
