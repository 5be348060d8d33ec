"""Which frames belong together, and which part of the data each frame is in: no leaks."""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from veintrack.tracker.naturalorder import natural_key

__all__ = ["Split", "fold_groups", "group_frames", "split_groups"]


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of the frames of each part, ascending."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


def group_frames(names: Sequence[str], groups: str | None) -> list[str]:
    """Say which group each frame belongs to; frames of one group are never divided.

    Parameters
    ----------
    names : sequence of str
        File names without suffixes.
    groups : str or None
        Path of a JSON file with a list of clusters, each a list of names or of numbers (a name
        read as a whole number); frames in no cluster stand alone. Or of a CSV file whose first
        column is a name, or a file name, and whose second is its group. Or a regular expression
        whose one capture group, searched in a name, is the name's group. None: every frame
        stands alone.

    Raises
    ------
    ValueError
        If the file or the expression is not of that form, or does not fit the names.
    """
    if groups is None:
        return list(names)
    if groups.endswith(".json"):
        return _cluster(names, Path(groups))
    if groups.endswith(".csv"):
        return _table(names, Path(groups))
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise ValueError(f"groups {groups!r} is no regular expression: {error}") from error
    if pattern.groups != 1:
        raise ValueError(
            "groups must be a .json or .csv file or a regular expression with one capture group, "
            f"got {groups!r} with {pattern.groups}"
        )
    found = [pattern.search(name) for name in names]
    for name, match in zip(names, found, strict=True):
        if match is None or match[1] is None:
            raise ValueError(f"groups {groups!r} does not match the frame {name!r}")
    return [str(match[1]) for match in found if match is not None]


def _cluster(names: Sequence[str], path: Path) -> list[str]:
    try:
        clusters = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"groups file {path} cannot be read as JSON: {error}") from error
    if not isinstance(clusters, list) or not all(isinstance(c, list) for c in clusters):
        raise ValueError(f"groups file {path} must hold a list of lists of frames")
    numbers = {int(name): name for name in names if name.isdigit()}
    known = set(names)
    group_of = {name: name for name in names}
    for number, cluster in enumerate(clusters):
        for member in cluster:
            name = numbers.get(member) if isinstance(member, int) else member
            # A name that is not here belongs to frames that were left out; nothing can leak.
            if name in known:
                if group_of[name] != name:
                    raise ValueError(f"groups file {path} has {member!r} in two clusters")
                group_of[name] = f"cluster {number}"
    return [group_of[name] for name in names]


def _table(names: Sequence[str], path: Path) -> list[str]:
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"groups file {path} cannot be read as CSV: {error}") from error
    if short := next((row for row in rows if len(row) < 2), None):
        raise ValueError(f"groups file {path} must have two columns, name and group, got {short}")
    group_of: dict[str, str] = {}
    for name, group, *_ in rows:
        for key in {name, Path(name).stem}:
            if group_of.setdefault(key, group) != group:
                raise ValueError(f"groups file {path} has {name!r} in two groups")
    if missing := [name for name in names if name not in group_of]:
        raise ValueError(
            f"groups file {path} has no group for {len(missing)} of {len(names)} frames, "
            f"first {missing[0]!r}"
        )
    return [group_of[name] for name in names]


def fold_groups(groups: Sequence[str], folds: int, fold: int, val: float, seed: int) -> Split:
    """Split for cross-validation: the test part is one of `folds` parts, alike in size.

    Whole groups, the largest first and those of one size shuffled, go to the part that holds the
    fewest frames. The validation part is taken from the others, as `split_groups` does.

    Parameters
    ----------
    groups : sequence of str
        The group of each frame.
    folds, fold : int
        How many parts, and which of them, from 0.
    val : float
        Fraction of all frames.
    seed : int
        Of the shuffle; the folds of one seed do not overlap.

    Raises
    ------
    ValueError
        If there are fewer groups than parts, or too few frames or groups beside the test part for
        a validation part.
    """
    sizes = Counter(groups)
    if folds < 2 or not 0 <= fold < folds or len(sizes) < folds:
        raise ValueError(
            "cross-validation needs at least 2 folds, a fold below their number, and as many "
            f"groups, got fold {fold} of {folds} and {len(sizes)} groups"
        )
    names = sorted(sizes, key=natural_key)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    held = [0] * folds
    fold_of: dict[str, int] = {}
    for name in sorted(order, key=lambda name: -sizes[name]):
        fold_of[name] = held.index(min(held))
        held[fold_of[name]] += sizes[name]
    test = tuple(i for i, group in enumerate(groups) if fold_of[group] == fold)
    rest = [i for i, group in enumerate(groups) if fold_of[group] != fold]
    if val * len(groups) >= len(rest):
        raise ValueError(
            f"with {folds} folds, {len(test)} of {len(groups)} frames are for the test, so the "
            f"validation part must be below {len(rest) / len(groups):.3g}, got {val:g}"
        )
    inner = split_groups([groups[i] for i in rest], val * len(groups) / len(rest), 0, seed)
    return Split(tuple(rest[i] for i in inner.train), tuple(rest[i] for i in inner.val), test)


def split_groups(groups: Sequence[str], val: float, test: float, seed: int) -> Split:
    """Split frames into three parts without dividing a group; the same seed, the same split.

    Groups are shuffled; whole ones go to the test part until it holds its fraction of the frames,
    then to the validation part, and the rest is for training. A group is passed over where a part
    would be further from its fraction with it than without it. But each part whose fraction is
    above 0 has one group at least: if all are too large, the smallest.

    Parameters
    ----------
    groups : sequence of str
        The group of each frame.
    val, test : float
        Fractions of the frames, each at least 0, below 1 together.
    seed : int
        Of the shuffle.

    Raises
    ------
    ValueError
        If a fraction is out of range, or there are too few groups for the parts.
    """
    if val < 0 or test < 0 or val + test >= 1:
        raise ValueError(
            "the validation and test fractions must not be negative and sum to less than 1, "
            f"got {val} and {test}"
        )
    sizes = Counter(groups)
    names = sorted(sizes, key=natural_key)
    needed = 1 + (val > 0) + (test > 0)
    if len(names) < needed:
        raise ValueError(
            f"a split into {needed} parts needs at least {needed} groups of frames, "
            f"got {len(names)} ({', '.join(names)})"
        )
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    part_of: dict[str, str] = {}
    for part, fraction, left_for_others in (("test", test, 1 + (val > 0)), ("val", val, 1)):
        wanted, most = math.ceil(fraction * len(groups)), len(order) - left_for_others
        for name in _choose(order[::-1], sizes, wanted, most):
            part_of[name] = part
            order.remove(name)
    of = [part_of.get(group, "train") for group in groups]
    train, val_indices, test_indices = (
        tuple(i for i, part in enumerate(of) if part == wanted)
        for wanted in ("train", "val", "test")
    )
    return Split(train, val_indices, test_indices)


def _choose(order: Sequence[str], sizes: Mapping[str, int], wanted: int, most: int) -> list[str]:
    """Choose groups that together hold about `wanted` frames, at least one if any are wanted."""
    chosen: list[str] = []
    missing = wanted
    for name in order:
        if missing <= 0 or len(chosen) == most:
            break
        if sizes[name] - missing <= missing:
            chosen.append(name)
            missing -= sizes[name]
    if wanted and not chosen:  # all are too large
        return [min(order, key=lambda name: sizes[name])]
    return chosen
