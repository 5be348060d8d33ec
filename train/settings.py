"""Everything that a training run can be told, checked where it is born."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from veintrack.train.networks import ARCHITECTURES

__all__ = ["TrainSettings"]

# A run may only go on with the data and the network that it began with.
_FIXED = ("arch", "data", "labels", "groups", "size_px", "seed", "val_fraction", "test_fraction")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Configuration of one training run.

    Attributes
    ----------
    data : Path or None
        Folder with ``images/`` and ``masks/``; None trains on phantom frames alone.
    output : Path
        Folder of the run.
    arch : str
        Which network; a name in `veintrack.train.networks.ARCHITECTURES`.
    labels : mapping of str to int
        Class names, and their values in the masks; one output channel each, in this order.
    groups : str or None
        JSON file of clusters, or regular expression; see `veintrack.train.data.group_frames`.
    val_fraction, test_fraction : float
        Parts of the frames that are not trained on.
    allow_leaks : bool
        Train even if near duplicates lie in different parts of the split.
    phantom : int
        Synthetic frames in each epoch.
    phantom_epochs : int
        Epochs that one set of them serves; then new ones are rendered.
    epochs, batch, lr, weight_decay, clip : int, int, float, float, float
        The usual: AdamW's peak rate and decay, and the largest norm of a gradient.
    warmup : float
        Part of all steps in which the rate rises.
    ema_decay : float
        Share of the old average of the weights that a step keeps.
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
    labels: Mapping[str, int] = field(default_factory=lambda: {"vessel": 1})
    groups: str | None = None
    val_fraction: float = 0.15
    test_fraction: float = 0.15
    allow_leaks: bool = False
    phantom: int = 0
    phantom_epochs: int = 2
    epochs: int = 60
    batch: int = 8
    lr: float = 1e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    warmup: float = 0.05
    ema_decay: float = 0.998
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
        for name in ("phantom", "weight_decay", "seed"):
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
        _check(len(self.labels) > 0, "labels must name at least one class", dict(self.labels))
        for name, value in self.labels.items():
            _check(0 < value < 256, f"the value of label {name} must be 1 to 255", value)
        _check(
            self.data is not None or self.phantom > 0,
            "there is nothing to train on: give --data, a folder, or --phantom, a number of frames",
            "",
        )
        _check(
            self.phantom == 0 or len(self.labels) == 1,
            "phantom frames show one class, so there must be one label",
            dict(self.labels),
        )
        _check(not (self.resume and self.overwrite), "resume and overwrite exclude each other", "")
        _check(self.val_fraction > 0, "val_fraction must be positive", self.val_fraction)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        values = asdict(self)
        return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}

    def check_resumes(self, stored: Path) -> None:
        """Check that a run with the settings stored at `stored` may go on with these.

        Raises
        ------
        ValueError
            If the data, the split or the network would change.
        """
        try:
            before = json.loads(stored.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"no run to resume: {stored} cannot be read") from error
        now = self.to_json()
        changed = [
            f"{k} was {before.get(k)}, is {now[k]}" for k in _FIXED if before.get(k) != now[k]
        ]
        if changed:
            raise ValueError(
                f"this run cannot be resumed with other settings: {'; '.join(changed)}"
            )


def _check(holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{expected}, got {got}" if got != "" else expected)
