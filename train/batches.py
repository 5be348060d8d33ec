"""The frames of a run, and each epoch's batches of them."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import F32
from veintrack.train.data import Frames, LoadedFrames, load_frames
from veintrack.train.dataset import DataSet, class_names
from veintrack.train.formats import LabelChoice, Survey, describe, open_folder
from veintrack.train.leaks import check_split, group_duplicates
from veintrack.train.phantoms import render_frames
from veintrack.train.settings import TrainSettings
from veintrack.train.splits import Split, fold_groups, group_frames, split_groups

__all__ = ["RunData", "prepare_data"]

_PARTS = ("train", "val", "test")
_HELD_OUT = 100_000
"""Seeds below this are for judging, those from here on for training."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Part:
    """Training frames of one data set, and how many of them an epoch draws."""

    frames: Frames
    drawn: int


class RunData(pl.LightningDataModule):
    """Frames in memory, batched for Lightning.

    Attributes
    ----------
    classes : tuple of str
        One for each channel of the masks.
    train, val, test : Frames
        Real training frames, and those that are only looked at.
    split_names : dict
        Which named frame is in which part.
    description : str
        What is trained on, in words.
    """

    def __init__(
        self,
        parts: Sequence[_Part],
        val: Frames,
        test: Frames,
        *,
        classes: tuple[str, ...],
        settings: TrainSettings,
        split_names: dict[str, list[str]],
        description: str,
    ) -> None:
        super().__init__()
        self.classes, self.val, self.test = classes, val, test
        self.split_names, self.description = split_names, description
        self._parts, self._settings = tuple(parts), settings
        self._synthetic = _render(settings, _HELD_OUT, 0, len(classes))
        self._set = -1  # which set of synthetic frames that is

    @property
    def train(self) -> Frames:
        empty = _render(self._settings, 0, 0, len(self.classes))
        return Frames.join([empty, *(part.frames for part in self._parts)])

    def epoch(self, number: int) -> Frames:
        """Return the frames of an epoch: what it draws of the real ones, and its synthetic set."""
        settings = self._settings
        if (wanted := number // settings.phantom_epochs) != self._set:
            first = _HELD_OUT + wanted * settings.phantom
            self._synthetic = _render(settings, first, settings.phantom, len(self.classes))
            self._set = wanted
        rng = np.random.default_rng((settings.seed, number))
        drawn = [
            part.frames
            if part.drawn == len(part.frames)
            else part.frames.take(np.sort(rng.permutation(len(part.frames))[: part.drawn]).tolist())
            for part in self._parts
        ]
        return Frames.join([*drawn, self._synthetic])

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        number = self.trainer.current_epoch if self.trainer is not None else 0
        frames, batch = self.epoch(number), self._settings.batch
        # Shuffled here, and with a generator that nobody reads: Lightning begins with a loader once
        # or, where a run was not just resumed, twice, which must change neither the order nor what
        # the augmentation draws.
        order = np.random.default_rng((self._settings.seed, number, 1)).permutation(len(frames))
        # A last batch of one or two frames would upset batch normalisation.
        return DataLoader(
            _tensors(frames.take(order.tolist())),
            batch,
            generator=torch.Generator(),
            drop_last=len(frames) >= batch,
        )

    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(_tensors(self.val), self._settings.batch)


def _tensors(frames: Frames) -> TensorDataset:
    return TensorDataset(*map(torch.from_numpy, (frames.images, frames.masks, frames.unknown)))


def prepare_data(settings: TrainSettings) -> RunData:
    """Read, split and render all that a run needs.

    Raises
    ------
    SourceNotFoundError, SourceUnreadableError, ValueError
        If the data cannot be used as the settings say.
    """
    data_sets = settings.data_sets()
    if not data_sets:
        return _phantom_data(settings)
    if settings.folds and not any(data_set.test for data_set in data_sets):
        raise ValueError(
            "the folds are of data with a test above 0, and there is none: leave out --test 0, or "
            "--folds"
        )
    classes = class_names(data_sets)
    loaded = [_load(data_set, classes, settings) for data_set in data_sets]
    names, frames, thumbnails, split = _join(loaded)
    _log.info("train %d, val %d, test %d frames", len(split.train), len(split.val), len(split.test))
    if not settings.allow_leaks:
        check_split(names, thumbnails, split)
    if not split.val:
        raise ValueError("no data set has frames for validation: give one a val above 0")
    _check_classes(classes, frames, split, rendered=classes[:1] if settings.phantom else ())
    parts = [one.training_part() for one in loaded]
    said = [
        f"{len(part.frames)} frames of {one.data_set.name}"
        for part, one in zip(parts, loaded, strict=True)
    ]
    if settings.phantom:
        said.append(f"{_synthetic_count(settings)} synthetic frames")
    return RunData(
        parts,
        frames.take(split.val),
        frames.take(split.test),
        classes=classes,
        settings=settings,
        split_names={part: [names[i] for i in getattr(split, part)] for part in _PARTS},
        description=" and ".join(said),
    )


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A data set, read and split."""

    data_set: DataSet
    loaded: LoadedFrames
    split: Split

    def training_part(self) -> _Part:
        frames = self.loaded.frames.take(self.split.train)
        return _Part(frames, max(1, round(self.data_set.share * len(frames))))


def _join(data: Sequence[_Loaded]) -> tuple[list[str], Frames, F32, Split]:
    """Put names, frames, thumbnails and splits one after another."""
    # Frames of several data sets may have one name; their folders tell them apart.
    prefixes = [f"{one.data_set.name}/" if len(data) > 1 else "" for one in data]
    names = [p + name for p, one in zip(prefixes, data, strict=True) for name in one.loaded.names]
    starts = np.cumsum([0, *(len(one.loaded.names) for one in data)]).tolist()
    moved = {
        part: tuple(
            start + i
            for start, one in zip(starts[:-1], data, strict=True)
            for i in getattr(one.split, part)
        )
        for part in _PARTS
    }
    frames = Frames.join([one.loaded.frames for one in data])
    thumbnails = np.concatenate([one.loaded.thumbnails for one in data])
    return names, frames, thumbnails, Split(**moved)


def _check_classes(
    classes: Sequence[str], frames: Frames, split: Split, rendered: Sequence[str]
) -> None:
    """Say which part shows each class how often; refuse a run that could not learn or judge one.

    Where no validation frame shows a class, a network that never marks it is taken for perfect.
    Synthetic frames show the `rendered` classes to the network, whatever the real ones show.
    """
    shown = frames.masks.any(axis=(2, 3))
    for name, in_frames in zip(classes, shown.T, strict=True):
        counts = {part: int(in_frames[list(getattr(split, part))].sum()) for part in _PARTS}
        _log.info("%s: shown in %s frames", name, ", ".join(f"{p} {n}" for p, n in counts.items()))
        for part, of in (("train", "training"), ("val", "validation")):
            if not counts[part] and not (part == "train" and name in rendered):
                raise ValueError(
                    f"no {of} frame shows {name}: give another --seed or other sizes (--val, "
                    "--test), label more frames with it, or leave the class out"
                )


def _load(data_set: DataSet, classes: tuple[str, ...], settings: TrainSettings) -> _Loaded:
    folder = open_folder(data_set.folder, data_set.format)
    choice = LabelChoice(data_set.labels, data_set.ignore, data_set.unlabelled)
    loaded = load_frames(folder, choice, classes, settings.size_px)
    _log.info("%s", describe(loaded.found))
    _check_found(loaded.found, settings)
    if data_set.groups == "auto":
        groups = group_duplicates(loaded.names, loaded.thumbnails)
    else:
        groups = group_frames(loaded.names, data_set.groups)
    split = _split(groups, data_set, settings)
    _warn_of_sizes(data_set, split, settings)
    return _Loaded(data_set, loaded, split)


def _check_found(found: Survey, settings: TrainSettings) -> None:
    if found.problems and not settings.skip_bad:
        more = len(found.problems) - 1
        raise SourceUnreadableError(
            f"{found.problems[0].line}{f' (and {more} more)' if more else ''}: mend the data, or "
            "leave out what cannot be used with --skip-bad"
        )
    if found.absent:
        others = ", ".join(found.others) or "none"
        raise ValueError(
            f"no frame of {found.source} shows {', '.join(found.absent)}; "
            f"other labels that occur there: {others}"
        )


def _split(groups: Sequence[str], data_set: DataSet, settings: TrainSettings) -> Split:
    if settings.folds and data_set.test:
        return fold_groups(groups, settings.folds, settings.fold, data_set.val, settings.seed)
    return split_groups(groups, data_set.val, data_set.test, settings.seed)


def _warn_of_sizes(data_set: DataSet, split: Split, settings: TrainSettings) -> None:
    """Warn of a part that is far from its size: whole groups may not allow a better one."""
    frames = sum(len(getattr(split, part)) for part in _PARTS)
    test = 1 / settings.folds if settings.folds and data_set.test else data_set.test
    for part, fraction in (("val", data_set.val), ("test", test)):
        held, wanted = len(getattr(split, part)), fraction * frames
        if abs(held - wanted) > max(1, wanted / 2):
            _log.warning(
                "%s: %d of %d frames are in part %s instead of %.0f: its groups are too few or "
                "too unequal for a better split",
                data_set.name, held, frames, part, wanted,
            )  # fmt: skip


def _phantom_data(settings: TrainSettings) -> RunData:
    """Judge on phantom frames too, where there is nothing else."""
    classes = tuple(settings.labels)
    val = max(1, round(settings.phantom * settings.val_fraction))
    test = round(settings.phantom * settings.test_fraction)
    return RunData(
        (),
        _render(settings, 0, val, len(classes)),
        _render(settings, val, test, len(classes)),
        classes=classes,
        settings=settings,
        split_names={"train": [], "val": [], "test": []},
        description=f"{_synthetic_count(settings)} synthetic frames",
    )


def _synthetic_count(settings: TrainSettings) -> int:
    return settings.phantom * math.ceil(settings.epochs / settings.phantom_epochs)


def _render(settings: TrainSettings, first: int, count: int, classes: int) -> Frames:
    base = settings.seed * 10_000_000 + first
    seeds = range(base, base + count)
    return render_frames(seeds, settings.size_px, settings.workers, classes)
