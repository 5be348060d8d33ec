"""nnU-Net: ``dataset.json`` with ``imagesTr/NAME_0000.png`` and ``labelsTr/NAME.png``.

Described in nnU-Net's ``documentation/dataset_format.md`` (version 2; the labels of version 1,
number to name, are read too) and ``ignore_label.md``: the label called ``ignore`` means that
nothing is known. Only 2-D natural images are read, one channel or one RGB file a frame.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.train.formats.base import LabelledFolder, LabelledFrame, Problem
from veintrack.train.formats.masks import MaskTruth
from veintrack.train.formats.pictures import find_pictures, no_pictures, read_json

__all__ = ["open_nnunet"]

_CASE = re.compile(r"(.+)_(\d{4})")


def open_nnunet(folder: Path) -> LabelledFolder:
    """Find the training cases of an nnU-Net data set.

    Raises
    ------
    SourceNotFoundError
        If ``dataset.json``, ``imagesTr/`` or ``labelsTr/`` is missing, or holds nothing.
    SourceUnreadableError
        If ``dataset.json`` cannot be understood, the pictures are volumes, or a frame has several
        channels.
    """
    for part in ("dataset.json", "imagesTr", "labelsTr"):
        if not (folder / part).exists():
            raise SourceNotFoundError(
                f"no {folder / part}: an nnU-Net data set has dataset.json, imagesTr/ and labelsTr/"
            )
    values = _read_labels(folder / "dataset.json")
    images, channels, problems = _cases(folder / "imagesTr")
    if channels > 1:
        raise SourceUnreadableError(
            f"{folder / 'imagesTr'} has {channels} channels a frame: keep the B-mode channel "
            "alone, as NAME_0000"
        )
    labels = {path.stem: path for path in find_pictures(folder / "labelsTr")}
    problems += [
        Problem(p, f"{p} has no label file {folder / 'labelsTr' / (name + p.suffix)}", "labels")
        for name, p in images.items()
        if name not in labels
    ]
    problems += [
        Problem(
            path,
            f"{path} has no image {folder / 'imagesTr' / f'{name}_0000{path.suffix}'}",
            "image",
        )
        for name, path in labels.items()
        if name not in images
    ]
    ignored = frozenset(values.pop("ignore", "").split("+")) - {""}
    background = frozenset(values.pop("background", "0").split("+"))
    known = background.union(ignored, *(value.split("+") for value in values.values()))
    frames = tuple(
        LabelledFrame(
            name, path, MaskTruth(labels[name], False, background, ignored=ignored, known=known)
        )
        for name, path in images.items()
        if name in labels
    )
    if not frames:
        raise SourceNotFoundError(problems[0].line)
    return LabelledFolder(folder, "nnunet", frames, values, tuple(problems))


def _read_labels(path: Path) -> dict[str, str]:
    """Read the labels: names, and their numbers as text, joined by ``+`` for regions."""
    content = read_json(path)
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, Mapping) or not labels:
        raise SourceUnreadableError(
            f'{path} has no \'labels\', such as {{"background": 0, "vein": 1}}'
        )
    ending = str(content.get("file_ending"))
    if ending.endswith((".nii", ".nii.gz", ".nrrd", ".mha")):
        raise SourceUnreadableError(
            f"{path} says that the images are {ending} volumes: training reads 2-D pictures, so "
            'save every frame and its mask as a PNG and set "file_ending" to ".png"'
        )
    if all(name.isdecimal() and isinstance(value, str) for name, value in labels.items()):
        return {value: str(int(number)) for number, value in labels.items()}
    return {name: _numbers(path, name, value) for name, value in labels.items()}


def _numbers(path: Path, name: str, value: Any) -> str:
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(type(n) is int and n >= 0 for n in numbers):
        raise SourceUnreadableError(
            f"{path}: the label {name!r} must be a number or a list of numbers, got {value!r}"
        )
    return "+".join(map(str, numbers))


def _cases(folder: Path) -> tuple[dict[str, Path], int, list[Problem]]:
    """Return the first image of each case, how many channels there are, and what fits no case."""
    pictures = find_pictures(folder)
    if not pictures:
        raise no_pictures(folder)
    images, channels, problems = {}, {0}, []
    for path in pictures:
        match = _CASE.fullmatch(path.stem)
        if match is None:
            problems.append(Problem(path, f"{path} has no channel in its name: expected NAME_0000"))
        elif int(match[2]) == 0:
            images[match[1]] = path
        else:
            channels.add(int(match[2]))
    return images, len(channels), problems
