"""What every format of labelled frames is turned into."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from veintrack.tracker.frame import U8

__all__ = [
    "FORMATS",
    "Area",
    "LabelledFolder",
    "LabelledFrame",
    "Labels",
    "Problem",
    "Truth",
    "show_some",
]

#: What ``--format`` takes.
FORMATS = ("auto", "folders", "coco", "labelme", "nnunet")


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that cannot be used.

    Attributes
    ----------
    path : Path
        The file.
    line : str
        Why, in one line that names the file itself.
    lacks : str or None
        ``labels`` for an image that nobody labelled, ``image`` for labels of no image.
    """

    path: Path
    line: str
    lacks: Literal["labels", "image"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """What one label covers in a frame.

    Attributes
    ----------
    names : tuple of str
        All that the data calls this label, such as ``("1", "#ff0000")`` for a palette's colour;
        the first is what is shown.
    mask : ndarray of shape (H, W), uint8
        1 where the label is, 0 elsewhere.
    """

    names: tuple[str, ...]
    mask: U8


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """All labels of one frame, background aside.

    Attributes
    ----------
    areas : tuple of Area
        Areas may overlap, and two may have one name.
    unknown : ndarray of shape (H, W), uint8, or None
        1 where the data itself says that nothing is known.
    faults : mapping of str to str
        Labels that were set without an area (a line, a box), and one line each that says so.
    """

    areas: tuple[Area, ...]
    unknown: U8 | None = None
    faults: Mapping[str, str] = field(default_factory=dict)


class Truth(Protocol):
    """The labels of one frame as its format keeps them."""

    def read(self, shape_px: tuple[int, int]) -> Labels:
        """Read the labels of a frame of `shape_px`, ``(H, W)``.

        Raises
        ------
        SourceUnreadableError
            If they cannot be read, or belong to a frame of another size.
        """
        ...


@dataclass(frozen=True, slots=True)
class LabelledFrame:
    """One frame and its labels.

    Attributes
    ----------
    name : str
        Unique in the data: the file's name without its suffix, with its subfolders where several
        files of that name exist.
    image : Path
        The picture; or the LabelMe file that has it inside.
    truth : Truth
        Reads its labels.
    """

    name: str
    image: Path
    truth: Truth


@dataclass(frozen=True, slots=True)
class LabelledFolder:
    """Labelled frames, found but not read.

    Attributes
    ----------
    path : Path
        As it was given.
    format : str
        One of `FORMATS`, never ``auto``.
    frames : tuple of LabelledFrame
        In natural order of their names.
    classes : mapping of str to str
        Names that the data gives its labels, and what stands for them there: a number, several
        (``1+2``), a colour, or the name itself. Empty for masks of bare numbers or colours.
    problems : tuple of Problem
        Files that cannot be used.
    """

    path: Path
    format: str
    frames: tuple[LabelledFrame, ...]
    classes: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def show_some(items: list[str], most: int = 6) -> str:
    """Join words with commas; where there are many, the first few and how many more."""
    shown = ", ".join(items[:most])
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown
