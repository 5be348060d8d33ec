"""Labelled frames: found on disk, laid on the network's grid, and split without leaks.

A data folder holds ``images/`` and ``masks/`` with equal names; a mask's pixels are class numbers.
Frames are resampled once, by the same functions that inference uses, and then stay in memory.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import U8
from veintrack.tracker.grid import fit, image_to_grid, mask_to_grid
from veintrack.tracker.naturalorder import natural_key

__all__ = [
    "FrameFile",
    "Frames",
    "Split",
    "find_frames",
    "group_frames",
    "lay_on_grid",
    "load_frames",
    "match_frames",
    "read_frame",
    "split_groups",
]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True)
class FrameFile:
    """One labelled frame on disk; `name` is its file name without the suffix."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Labelled frames on the network's grid, in memory.

    Attributes
    ----------
    images : ndarray of shape (N, 1, H, W), uint8
        Grey levels; black outside the frame.
    masks : ndarray of shape (N, C, H, W), uint8
        How much of each grid pixel a class covers, 0 to 255.
    """

    images: U8
    masks: U8

    def __post_init__(self) -> None:
        n, _, *size = self.images.shape
        if self.masks.shape[0] != n or list(self.masks.shape[2:]) != size:
            raise ValueError(
                "images and masks must be of one number and size, "
                f"got {self.images.shape} and {self.masks.shape}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Sequence[int]) -> "Frames":
        """Pick frames by index."""
        return Frames(self.images[list(indices)], self.masks[list(indices)])


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of the frames of each part, ascending."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


def find_frames(folder: Path) -> list[FrameFile]:
    """List the labelled frames of a data folder, in natural order of their names.

    Raises
    ------
    SourceNotFoundError
        If the folder, its images or the mask of an image is missing.
    """
    for part in (folder, folder / "images", folder / "masks"):
        if not part.is_dir():
            raise SourceNotFoundError(
                f"no folder {part}: training data is a folder that holds images/ and masks/"
            )
    files, missing = match_frames(folder / "images", folder / "masks")
    if missing:
        raise SourceNotFoundError(
            f"no mask for {len(missing)} of {len(files) + len(missing)} images in {folder}: "
            f"first {missing[0]}; images/ and masks/ must hold equal names"
        )
    return files


def match_frames(images: Path, masks: Path) -> tuple[list[FrameFile], list[str]]:
    """Pair images with masks of the same name, suffixes aside.

    Parameters
    ----------
    images, masks : Path
        Two folders.

    Returns
    -------
    files : list of FrameFile
        The pairs, in natural order of their names.
    without_mask : list of str
        File names of images that have no mask, in the same order.

    Raises
    ------
    SourceNotFoundError
        If a folder is missing, or there are no images.
    SourceUnreadableError
        If two images have one name.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise SourceNotFoundError(f"no folder {folder}")
    found = [p for p in images.iterdir() if p.suffix.lower() in _SUFFIXES]
    if not found:
        raise SourceNotFoundError(f"no images ({', '.join(sorted(_SUFFIXES))}) in {images}")
    repeated = [name for name, count in Counter(p.stem for p in found).items() if count > 1]
    if repeated:
        raise SourceUnreadableError(f"{images} holds {repeated[0]!r} under two suffixes")
    mask_of = {p.stem: p for p in masks.iterdir() if p.suffix.lower() in _SUFFIXES}
    found.sort(key=lambda p: natural_key(p.stem))
    files = [FrameFile(p.stem, p, mask_of[p.stem]) for p in found if p.stem in mask_of]
    return files, [p.name for p in found if p.stem not in mask_of]


def load_frames(files: Sequence[FrameFile], labels: Mapping[str, int], size_px: int) -> Frames:
    """Read frames and lay them on the network's grid.

    Parameters
    ----------
    files : sequence of FrameFile
        What to read.
    labels : mapping of str to int
        The mask value of each class; other values are background.
    size_px : int
        Height and width of the grid.

    Raises
    ------
    SourceUnreadableError
        If a file cannot be read, or a mask's size differs from its image's.
    ValueError
        If a label occurs in no mask.
    """
    images, masks = [], []
    seen: set[int] = set()
    for file in files:
        image, mask = read_frame(file)
        values = np.unique(mask).tolist()
        seen.update(values)
        grey, cover = lay_on_grid(
            image, [(mask == v).astype(np.uint8) for v in labels.values()], size_px
        )
        images.append(grey)
        masks.append(cover)
    absent = [f"{name}={value}" for name, value in labels.items() if value not in seen]
    if absent:
        raise ValueError(
            f"label {', '.join(absent)} occurs in no mask; "
            f"the masks hold the values {', '.join(map(str, sorted(seen)))}"
        )
    return Frames(np.stack(images)[:, None], np.stack(masks))


def lay_on_grid(image: U8, masks: Sequence[U8], size_px: int) -> tuple[U8, U8]:
    """Resample a frame and its 0/1 masks to ``(S, S)`` and ``(C, S, S)``, coverage as 0 to 255."""
    height, width = image.shape
    grid = fit((height, width), (size_px, size_px))
    grey = np.zeros(grid.shape, np.uint8)
    image_to_grid(image, grid, grey)
    cover = np.stack([np.rint(255 * mask_to_grid(mask, grid)).astype(np.uint8) for mask in masks])
    return grey, cover


def read_frame(file: FrameFile) -> tuple[U8, U8]:
    """Read a frame's grey levels and its index mask, both of shape (H, W).

    Raises
    ------
    SourceUnreadableError
        If a file cannot be read, or the mask's size differs from the image's.
    """
    image, mask = _read_grey(file.image), _read_mask(file.mask)
    if image.shape != mask.shape:
        raise SourceUnreadableError(
            f"{file.mask} is {mask.shape[1]}x{mask.shape[0]}, "
            f"but its image is {image.shape[1]}x{image.shape[0]}"
        )
    return image, mask


def _read_grey(path: Path) -> U8:
    return _decode(path, cv2.IMREAD_GRAYSCALE)


def _read_mask(path: Path) -> U8:
    mask = _decode(path, cv2.IMREAD_UNCHANGED)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise SourceUnreadableError(
            f"{path} is no index mask: expected one 8-bit channel of class numbers, "
            f"got shape {mask.shape} {mask.dtype}"
        )
    return mask


def _decode(path: Path, mode: int) -> U8:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error.strerror}") from error
    image = cv2.imdecode(data, mode) if data.size else None
    if image is None:
        raise SourceUnreadableError(f"{path} cannot be read as an image")
    return image  # type: ignore[return-value]


def group_frames(names: Sequence[str], groups: str | None) -> list[str]:
    """Say which group each frame belongs to; frames of one group are never divided.

    Parameters
    ----------
    names : sequence of str
        File names without suffixes.
    groups : str or None
        Path of a JSON file with a list of clusters, each a list of names or of numbers (a name
        read as a whole number); frames in no cluster stand alone. Or a regular expression whose
        one capture group, searched in a name, is the name's group. None: every frame stands alone.

    Raises
    ------
    ValueError
        If the file or the expression is not of that form, or does not fit the names.
    """
    if groups is None:
        return list(names)
    if groups.endswith(".json"):
        return _cluster(names, Path(groups))
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise ValueError(f"groups {groups!r} is no regular expression: {error}") from error
    if pattern.groups != 1:
        raise ValueError(
            "groups must be a .json file or a regular expression with one capture group, "
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


def split_groups(groups: Sequence[str], val: float, test: float, seed: int) -> Split:
    """Split frames into three parts without dividing a group; the same seed, the same split.

    Groups are shuffled; whole ones go to the test part until it holds its fraction of the frames,
    then to the validation part, and the rest is for training.

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
        taken = 0
        while fraction > 0 and len(order) > left_for_others and taken < fraction * len(groups):
            name = order.pop()
            part_of[name] = part
            taken += sizes[name]
    of = [part_of.get(group, "train") for group in groups]
    train, val_indices, test_indices = (
        tuple(i for i, part in enumerate(of) if part == wanted)
        for wanted in ("train", "val", "test")
    )
    return Split(train, val_indices, test_indices)
