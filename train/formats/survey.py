"""What is in a laboratory's data, in figures, before anything is learnt from it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import U8
from veintrack.tracker.naturalorder import natural_key
from veintrack.train.formats.base import LabelledFolder, LabelledFrame, Problem, show_some
from veintrack.train.formats.choice import LabelChoice, Reading, read_frame

__all__ = ["ClassSurvey", "Survey", "describe", "survey"]

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ClassSurvey:
    """One class in figures.

    Attributes
    ----------
    name, label : str
        The class, and what it is called in the data.
    frames : int
        Frames that show it.
    share : float
        Its part of all pixels, 0 to 1.
    areas : int
        Connected areas (8 neighbours), all frames together.
    """

    name: str
    label: str
    frames: int
    share: float
    areas: int


@dataclass(frozen=True, slots=True)
class Survey:
    """Labelled frames in figures.

    Attributes
    ----------
    source, format : str
        The data, and its format.
    frames : int
        Frames that were read.
    sizes : mapping of str to int
        Frames of each size, ``WxH`` in px, smallest area first.
    classes : tuple of ClassSurvey
        The classes that were chosen.
    empty : tuple of str
        Frames that show none of them.
    unknown : float
        Part of all pixels of which nothing is known, 0 to 1.
    others : mapping of str to int
        Labels that were not chosen, and how many frames show each.
    problems : tuple of Problem
        Files that cannot be used, those found while reading too.
    """

    source: str
    format: str
    frames: int
    sizes: Mapping[str, int]
    classes: tuple[ClassSurvey, ...]
    empty: tuple[str, ...]
    unknown: float
    others: Mapping[str, int]
    problems: tuple[Problem, ...]

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes that no frame shows."""
        return tuple(c.name for c in self.classes if not c.frames)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the classes as a table of text, its first row the header."""
        return [
            (
                "class",
                "label in the data",
                "frames that show it",
                "of all pixels",
                "connected areas",
            ),
            *(
                (c.name, c.label, f"{c.frames} of {self.frames}", f"{c.share:.2%}", str(c.areas))
                for c in self.classes
            ),
        ]


@dataclass(slots=True, eq=False)
class _Tally:
    """What is counted while the frames go by; `classes` is (3, C): see `add`."""

    classes: NDArray[np.int64]
    sizes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    pixels: int = 0
    unknown: int = 0

    def add(self, name: str, reading: Reading) -> None:
        self.sizes[reading.image.shape] += 1
        self.others.update(reading.others)
        self.pixels += reading.image.size
        self.unknown += np.count_nonzero(reading.unknown.all(axis=0))
        for i, mask in enumerate(reading.masks):
            covered = np.count_nonzero(mask)
            areas = cv2.connectedComponents(mask)[0] - 1 if covered else 0
            self.classes[:, i] += np.array([covered > 0, covered, areas])
        if not reading.masks.any():
            self.empty.append(name)


def survey(
    folder: LabelledFolder,
    choice: LabelChoice,
    take: Callable[[LabelledFrame, U8, U8, U8], None] | None = None,
) -> Survey:
    """Read every frame once and count what is there.

    Parameters
    ----------
    folder : LabelledFolder
        Frames, not yet read.
    choice : LabelChoice
        Classes and their labels.
    take : callable, optional
        Given each frame that could be read, with its image (H, W), masks and unknown pixels, both
        (C, H, W), so that nobody needs to read it again.

    Raises
    ------
    ValueError
        If the choice does not fit the data; the message says what would. A class that fits, but
        occurs nowhere, is in `Survey.absent`.
    """
    tally = _Tally(np.zeros((3, len(choice.labels)), np.int64))
    problems = list(folder.problems)
    for frame in folder.frames:
        try:
            reading = read_frame(frame, choice, folder.classes)
        except SourceUnreadableError as error:
            problems.append(Problem(frame.image, str(error)))
            continue
        tally.add(frame.name, reading)
        if take is not None:
            take(frame, reading.image, reading.masks, reading.unknown)
    by_area = sorted(tally.sizes.items(), key=lambda item: item[0][0] * item[0][1])
    return Survey(
        source=str(folder.path),
        format=folder.format,
        frames=sum(tally.sizes.values()),
        sizes={f"{width}x{height}": n for (height, width), n in by_area},
        classes=tuple(
            ClassSurvey(name, label, shown, covered / max(1, tally.pixels), areas)
            for (name, label), (shown, covered, areas) in zip(
                choice.labels.items(), tally.classes.T.tolist(), strict=True
            )
        ),
        empty=tuple(tally.empty),
        unknown=tally.unknown / max(1, tally.pixels),
        others=_named(tally.others, folder.classes),
        problems=tuple(problems),
    )


def describe(found: Survey) -> str:
    """Say in plain text what a survey found."""
    sizes = list(found.sizes)
    span = f", {' to '.join(dict.fromkeys([sizes[0], sizes[-1]]))} pixels" if sizes else ""
    lines = [f"{found.source}: {found.frames} frames ({found.format} format){span}", ""]
    lines += [f"  {line}" for line in _align(found.rows())] + [""]
    if found.absent:
        lines.append(f"No frame shows {show_some(list(found.absent))}.")
    if found.empty:
        lines.append(
            f"Frames without any class: {len(found.empty)} of {found.frames} "
            f"({show_some(list(found.empty))})."
        )
    if found.others:
        others = [f"{k} (in {n} of {found.frames} frames)" for k, n in found.others.items()]
        lines.append(f"Labels that were not chosen: {show_some(others)}.")
    if found.unknown:
        lines.append(f"Unknown, neither class nor background: {found.unknown:.1%} of the pixels.")
    if found.problems:
        lines.append(f"Files that cannot be used: {len(found.problems)}")
        lines += [f"  {problem.line}" for problem in found.problems[:_SHOWN]]
        if len(found.problems) > _SHOWN:
            lines.append(f"  and {len(found.problems) - _SHOWN} more")
    return "\n".join(lines).rstrip()


def _named(others: Mapping[str, int], classes: Mapping[str, str]) -> dict[str, int]:
    """Call labels by their names where the data has them."""
    names = {value: name for name, value in classes.items()}
    ordered = sorted(others.items(), key=lambda item: natural_key(item[0]))
    return {names.get(label, label): count for label, count in ordered}


def _align(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ("   ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows)
    return [line.rstrip() for line in padded]
