"""Which labels become which classes, and the frames read that way."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import U8
from veintrack.train.formats.base import Area, LabelledFrame, Labels, show_some
from veintrack.train.formats.pictures import read_image

__all__ = ["LabelChoice", "Reading", "read_frame", "read_truth", "values_of"]


@dataclass(frozen=True, slots=True)
class LabelChoice:
    """What of the labels is learnt.

    Attributes
    ----------
    labels : mapping of str to str
        Class names, and what each is called in the data: a name (``vein``), a number (``2``) or a
        colour (``#ff0000``); several joined by ``+``.
    ignore : tuple of str
        Labels whose pixels are unknown to every class, in the same words.
    unlabelled : str
        What pixels without any label are: ``background``, or ``unknown`` where not everything
        that can be seen was labelled.
    """

    labels: Mapping[str, str]
    ignore: tuple[str, ...] = ()
    unlabelled: Literal["background", "unknown"] = "background"

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("labels must name at least one class")
        if self.unlabelled not in ("background", "unknown"):
            raise ValueError(f"unlabelled must be background or unknown, got {self.unlabelled!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A frame as it was read.

    Attributes
    ----------
    image : ndarray of shape (H, W), uint8
        Grey levels.
    masks : ndarray of shape (C, H, W), uint8
        1 where a class is, in the order of the choice; 0 where that is unknown.
    unknown : ndarray of shape (C, H, W), uint8
        1 where nothing is known of a class.
    others : tuple of str
        What the data calls the labels of this frame that were not chosen.
    """

    image: U8
    masks: U8
    unknown: U8
    others: tuple[str, ...]


def read_truth(
    frame: LabelledFrame, choice: LabelChoice, classes: Mapping[str, str]
) -> tuple[U8, U8, U8]:
    """Read a frame: its grey levels, its masks, and where they are unknown; see `read_frame`."""
    reading = read_frame(frame, choice, classes)
    return reading.image, reading.masks, reading.unknown


def read_frame(frame: LabelledFrame, choice: LabelChoice, classes: Mapping[str, str]) -> Reading:
    """Read a frame and lay out the classes that were chosen.

    A pixel with another label is known not to be of a class; a pixel may be of several. What is
    ignored is unknown even where it also has a label.

    Parameters
    ----------
    frame : LabelledFrame
        What to read.
    choice : LabelChoice
        Classes and their labels.
    classes : mapping of str to str
        The folder's names for its labels.

    Raises
    ------
    SourceUnreadableError
        If a file cannot be read, the sizes differ, or a chosen label has no area.
    ValueError
        If the choice does not fit the data; the message says what would.
    """
    wanted = {name: values_of(text, classes) for name, text in choice.labels.items()}
    ignored = frozenset().union(*(values_of(text, classes) for text in choice.ignore))
    image = read_image(frame.image)
    labels = frame.truth.read(image.shape)
    chosen = ignored.union(*wanted.values())
    if not classes:
        _check_kind(frame, labels, chosen)
    for value, line in labels.faults.items():
        if value in chosen:
            raise SourceUnreadableError(line)
    unknown = _cover(labels.areas, ignored, image.shape)
    if labels.unknown is not None:
        unknown |= labels.unknown
    if choice.unlabelled == "unknown":
        unknown |= 1 - _cover(labels.areas, None, image.shape)
    masks = np.stack(
        [_cover(labels.areas, v, image.shape) & (1 - unknown) for v in wanted.values()]
    )
    others = {area.names[0] for area in labels.areas if chosen.isdisjoint(area.names)}
    return Reading(image, masks, np.repeat(unknown[None], len(masks), 0), tuple(sorted(others)))


def values_of(text: str, classes: Mapping[str, str]) -> frozenset[str]:
    """Resolve what a label was called by to what the data has in its place.

    Parameters
    ----------
    text : str
        A name, a number or a colour, or several joined by ``+``.
    classes : mapping of str to str
        The data's names; empty for masks of bare numbers or colours.

    Raises
    ------
    ValueError
        If the data has no such label, or it means background.
    """
    text = text.strip()
    if text not in classes and "+" in text:
        return frozenset().union(*(values_of(part, classes) for part in text.split("+")))
    if text in classes:
        value = classes[text]
        several = value.split("+")
        # Several numbers, unless it is a name that has a plus in it.
        return frozenset(several if all(part.isdecimal() for part in several) else [value])
    value = str(int(text)) if text.isdecimal() else text.lower() if text[:1] == "#" else text
    if classes:
        if not any(value in known.split("+") for known in classes.values()):
            names = [n if n == v else f"{n} ({v})" for n, v in classes.items()]
            raise ValueError(f"the data has no label {text!r}; it has {show_some(names, 20)}")
    elif _kind(value) == "name":
        raise ValueError(
            f"the masks carry no names such as {text!r}: ask for a number such as 1 "
            "or a colour such as #ff0000"
        )
    if value == "0":
        raise ValueError("label 0 is background, which cannot be a class or ignored")
    return frozenset({value})


def _kind(value: str) -> str:
    if value.isdecimal():
        return "number"
    is_colour = value[:1] == "#" and len(value) == 7 and {*value[1:]} <= {*"0123456789abcdef"}
    return "colour" if is_colour else "name"


def _check_kind(frame: LabelledFrame, labels: Labels, chosen: Iterable[str]) -> None:
    """Refuse numbers asked of colours, and colours asked of numbers."""
    kinds = {_kind(name) for area in labels.areas for name in area.names}
    wrong = next((value for value in sorted(chosen) if kinds and _kind(value) not in kinds), None)
    if wrong is not None:
        values = [area.names[0] for area in labels.areas]
        raise ValueError(
            f"the mask of {frame.image} holds {kinds.pop()}s ({show_some(values)}): "
            f"ask for one of them, not for the {_kind(wrong)} {wrong}"
        )


def _cover(areas: Iterable[Area], values: frozenset[str] | None, shape: tuple[int, ...]) -> U8:
    """Join the areas of these labels, of all labels for None."""
    cover = np.zeros(shape, np.uint8)
    for area in areas:
        if values is None or not values.isdisjoint(area.names):
            cover |= area.mask
    return cover
