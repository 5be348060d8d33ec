"""The frames of a run, and each epoch's batches of them."""

import math
from collections.abc import Sequence

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from veintrack.train.data import Frames, Split, find_frames, group_frames, load_frames, split_groups
from veintrack.train.leaks import check_split
from veintrack.train.phantoms import render_frames
from veintrack.train.settings import TrainSettings

__all__ = ["RunData", "prepare_data"]

_HELD_OUT = 100_000
"""Seeds below this are for judging, those from here on for training."""


class RunData(pl.LightningDataModule):
    """Frames in memory, batched for Lightning.

    Attributes
    ----------
    train, val, test : Frames
        Real training frames, and those that are only looked at.
    split_names : dict
        Which named frame is in which part.
    description : str
        What is trained on, in words.
    """

    def __init__(
        self,
        train: Frames,
        val: Frames,
        test: Frames,
        *,
        settings: TrainSettings,
        split_names: dict[str, list[str]],
        description: str,
    ) -> None:
        super().__init__()
        self.train, self.val, self.test = train, val, test
        self.split_names, self.description = split_names, description
        self._settings = settings
        self._synthetic = _render(settings, _HELD_OUT, 0)
        self._set = -1  # which set of synthetic frames that is

    def epoch(self, number: int) -> Frames:
        """Return the frames of an epoch: all real ones, and the synthetic ones of its set."""
        settings = self._settings
        if (wanted := number // settings.phantom_epochs) != self._set:
            first = _HELD_OUT + wanted * settings.phantom
            self._synthetic, self._set = _render(settings, first, settings.phantom), wanted
        return Frames(
            np.concatenate([self.train.images, self._synthetic.images]),
            np.concatenate([self.train.masks, self._synthetic.masks]),
        )

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        number = self.trainer.current_epoch if self.trainer is not None else 0
        frames, batch = self.epoch(number), self._settings.batch
        order = torch.Generator().manual_seed(self._settings.seed * 100_003 + number)
        # A last batch of one or two frames would upset batch normalisation.
        return DataLoader(
            _tensors(frames), batch, shuffle=True, generator=order, drop_last=len(frames) >= batch
        )

    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(_tensors(self.val), self._settings.batch)


def _tensors(frames: Frames) -> TensorDataset:
    return TensorDataset(torch.from_numpy(frames.images), torch.from_numpy(frames.masks))


def prepare_data(settings: TrainSettings) -> RunData:
    """Read, split and render all that a run needs."""
    if settings.data is None:
        return _phantom_data(settings)
    files = find_frames(settings.data)
    names = [file.name for file in files]
    split = split_groups(
        group_frames(names, settings.groups),
        settings.val_fraction,
        settings.test_fraction,
        settings.seed,
    )
    frames = load_frames(files, settings.labels, settings.size_px)
    if not settings.allow_leaks:
        check_split(names, frames.images, split)
    description = f"{len(split.train)} frames of {settings.data.resolve().name}"
    if settings.phantom:
        description += f" and {_synthetic_count(settings)} synthetic frames"
    return RunData(
        frames.take(split.train),
        frames.take(split.val),
        frames.take(split.test),
        settings=settings,
        split_names=_names(names, split),
        description=description,
    )


def _phantom_data(settings: TrainSettings) -> RunData:
    """Judge on phantom frames too, where there is nothing else."""
    val = max(1, round(settings.phantom * settings.val_fraction))
    test = round(settings.phantom * settings.test_fraction)
    return RunData(
        _render(settings, 0, 0),
        _render(settings, 0, val),
        _render(settings, val, test),
        settings=settings,
        split_names=_names([], Split((), (), ())),
        description=f"{_synthetic_count(settings)} synthetic frames",
    )


def _synthetic_count(settings: TrainSettings) -> int:
    return settings.phantom * math.ceil(settings.epochs / settings.phantom_epochs)


def _render(settings: TrainSettings, first: int, count: int) -> Frames:
    base = settings.seed * 10_000_000 + first
    return render_frames(range(base, base + count), settings.size_px, settings.workers)


def _names(names: Sequence[str], split: Split) -> dict[str, list[str]]:
    parts = {"train": split.train, "val": split.val, "test": split.test}
    return {part: [names[i] for i in indices] for part, indices in parts.items()}
