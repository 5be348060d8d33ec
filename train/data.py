"""Labelled frames, laid on the network's grid.

Frames are resampled once, by the same functions that inference uses, and then stay in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import F32, U8
from veintrack.tracker.grid import fit, image_to_grid, mask_to_grid
from veintrack.train.formats import LabelChoice, LabelledFolder, LabelledFrame, Survey, survey
from veintrack.train.leaks import thumbnail

__all__ = ["Frames", "LoadedFrames", "lay_on_grid", "load_frames"]


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Labelled frames on the network's grid, in memory.

    Attributes
    ----------
    images : ndarray of shape (N, 1, H, W), uint8
        Grey levels; black outside the frame.
    masks : ndarray of shape (N, C, H, W), uint8
        How much of each grid pixel a class covers, 0 to 255.
    unknown : ndarray of shape (N, C, H, W), uint8
        Where it is not known whether a class is there: 255, else 0.
    """

    images: U8
    masks: U8
    unknown: U8

    def __post_init__(self) -> None:
        n, _, *size = self.images.shape
        same = self.masks.shape == self.unknown.shape
        if not same or self.masks.shape[0] != n or list(self.masks.shape[2:]) != size:
            raise ValueError(
                "images, masks and unknown must be of one number and size, "
                f"got {self.images.shape}, {self.masks.shape} and {self.unknown.shape}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Sequence[int]) -> "Frames":
        """Pick frames by index."""
        at = list(indices)
        return Frames(self.images[at], self.masks[at], self.unknown[at])

    @classmethod
    def join(cls, parts: Sequence["Frames"]) -> "Frames":
        """Put frames of one grid and number of classes one after another."""
        return cls(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.masks for part in parts]),
            np.concatenate([part.unknown for part in parts]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class LoadedFrames:
    """Frames of one folder.

    Attributes
    ----------
    names : tuple of str
        One for each frame.
    frames : Frames
        On the network's grid.
    thumbnails : ndarray of shape (N, K), float32
        What near duplicates are found by, see `veintrack.train.leaks`.
    found : Survey
        The report on the folder.
    """

    names: tuple[str, ...]
    frames: Frames
    thumbnails: F32
    found: Survey


def load_frames(
    folder: LabelledFolder, choice: LabelChoice, classes: Sequence[str], size_px: int
) -> LoadedFrames:
    """Read a folder's frames, lay them on the network's grid, and say what was found.

    Parameters
    ----------
    folder : LabelledFolder
        What to read.
    choice : LabelChoice
        What its labels mean.
    classes : sequence of str
        The network's classes; one that `choice` does not name is unknown in all frames.
    size_px : int
        Height and width of the grid.

    Returns
    -------
    LoadedFrames
        Those that could be read, in the folder's order, and what was found.

    Raises
    ------
    ValueError
        If the choice does not fit the data.
    SourceUnreadableError
        If no frame can be used.
    """
    shape = (len(classes), size_px, size_px)
    known = [classes.index(name) for name in choice.labels]
    names: list[str] = []
    images, all_masks, all_unknown, thumbnails = [], [], [], []

    def take(frame: LabelledFrame, image: U8, masks: U8, unknown: U8) -> None:
        cover, hidden = np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)
        grey, planes = lay_on_grid(image, [*masks, *unknown], size_px)
        cover[known], hidden[known] = planes[: len(known)], planes[len(known) :]
        names.append(frame.name)
        images.append(grey)
        all_masks.append(cover)
        all_unknown.append(hidden)
        thumbnails.append(thumbnail(image))

    found = survey(folder, choice, take)
    if not images:
        raise SourceUnreadableError(
            f"no frame of {folder.path} can be used: {found.problems[0].line}"
        )
    frames = Frames(np.stack(images)[:, None], np.stack(all_masks), np.stack(all_unknown))
    return LoadedFrames(tuple(names), frames, np.stack(thumbnails), found)


def lay_on_grid(image: U8, masks: Sequence[U8], size_px: int) -> tuple[U8, U8]:
    """Resample a frame and its 0/1 masks to ``(S, S)`` and ``(C, S, S)``, coverage as 0 to 255."""
    height, width = image.shape
    grid = fit((height, width), (size_px, size_px))
    grey = np.zeros(grid.shape, np.uint8)
    image_to_grid(image, grid, grey)
    cover = np.zeros((len(masks), *grid.shape), np.uint8)
    for plane, mask in zip(cover, masks, strict=True):
        if mask.any():
            plane[:] = np.rint(255 * mask_to_grid(mask, grid))
    return grey, cover
