"""A model run over labelled frames: which frames, what counts as right, and the scores of each."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.detect import DetectSettings
from veintrack.tracker.frame import F64, U8, Spacing
from veintrack.tracker.grid import fit
from veintrack.tracker.sources import Source, open_source
from veintrack.train.bootstrap import check_groups
from veintrack.train.curves import BINS, count_levels
from veintrack.train.formats import (
    LabelChoice,
    LabelledFolder,
    LabelledFrame,
    Problem,
    Survey,
    read_image,
    read_truth,
    survey,
)
from veintrack.train.formats.pictures import find_pictures, no_pictures, unique_names
from veintrack.train.report import Example
from veintrack.train.scores import FrameScores, marks_on_vessels, score_frame, vessels_alone
from veintrack.train.splits import group_frames

if TYPE_CHECKING:
    from veintrack.tracker.segment import Segmenter

__all__ = [
    "PARTS",
    "EmptyFrame",
    "Judging",
    "check_label",
    "empty_frames",
    "find_labelled",
    "group_files",
    "score_files",
    "show_frames",
]

Mask = NDArray[np.bool_]

PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, eq=False)
class EmptyFrame:
    """A frame of which it is known that nothing in it is a vessel.

    Attributes
    ----------
    name : str
        Of the frame.
    pixels : ndarray of shape (H, W), uint8
        Grey levels.
    """

    name: str
    pixels: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """What counts as marked, and what as right.

    Attributes
    ----------
    choice : LabelChoice
        What the vessel is called, as the only class, and of which labels nothing is known. Its
        `unlabelled` says what single pixels are; whole marks are `background_known`'s.
    classes : mapping of str to str
        The data's names for its labels.
    threshold : float
        Probability from which a pixel is marked.
    spacing_mm : tuple of float or None
        ``(row_mm, col_mm)``, millimetres per pixel.
    background_known : bool
        Whether all that is not labelled is known to be no vessel; see
        :func:`veintrack.train.scores.score_frame`.
    """

    choice: LabelChoice
    classes: Mapping[str, str]
    threshold: float
    spacing_mm: Spacing | None = None
    background_known: bool = True

    def __post_init__(self) -> None:
        if len(self.choice.labels) != 1:
            raise ValueError(f"expected one class to judge, got {', '.join(self.choice.labels)}")

    def read(self, frame: LabelledFrame | EmptyFrame) -> tuple[U8, Mask, Mask]:
        """Read a frame's grey levels, where the vessel is, and where that is known."""
        if isinstance(frame, EmptyFrame):
            nowhere = np.zeros(frame.pixels.shape, bool)
            return frame.pixels, nowhere, ~nowhere
        pixels, masks, unknown = read_truth(frame, self.choice, self.classes)
        return pixels, masks[0] > 0, unknown[0] == 0


def find_labelled(
    folder: LabelledFolder, split: Path | None = None, part: str = "test", home: str | None = None
) -> tuple[LabelledFolder, list[Path]]:
    """Take the frames that can be judged, all or those of one part of a training run's split.

    Parameters
    ----------
    folder : LabelledFolder
        Frames, not yet read.
    split : Path, optional
        A run's ``split.json``. Its names may stand behind the name of their data folder and a
        slash; names behind another's are passed over.
    part : str
        ``train``, ``val`` or ``test``.
    home : str, optional
        The data folder's name there; by default that of `folder`.

    Returns
    -------
    folder : LabelledFolder
        At least one frame, and no problems.
    without_labels : list of Path
        Images that have no labels.

    Raises
    ------
    SourceUnreadableError
        If a file cannot be used. With a split, only its part's frames need to be there.
    SourceNotFoundError
        If no frame of the part has labels.
    ValueError
        If the split cannot be read, or names frames that are not there.
    """
    without = [problem.path for problem in folder.problems if problem.lacks == "labels"]
    if split is None:
        _refuse([problem for problem in folder.problems if problem.lacks is None])
        return replace(folder, problems=()), without
    present = {*(f.name for f in folder.frames), *(path.stem for path in without)}
    chosen = _names_of_part(split, part, home or folder.path.resolve().name, present)
    if absent := sorted(chosen - present):
        raise ValueError(
            f"{len(absent)} of {len(chosen)} frames of part {part} of {split} are not in "
            f"{folder.path}: first {absent[0]!r}"
        )
    frames = tuple(frame for frame in folder.frames if frame.name in chosen)
    without = [path for path in without if path.stem in chosen]
    if not frames:
        raise SourceNotFoundError(
            f"no frame of part {part} of {split} has labels: the first is {without[0].name}"
        )
    return replace(folder, frames=frames, problems=()), without


def empty_frames(images: Path) -> Iterator[EmptyFrame]:
    """Read frames without a vessel, one by one: no labels are needed.

    Parameters
    ----------
    images : Path
        A folder of pictures, with its subfolders, or a video file.

    Raises
    ------
    SourceNotFoundError, SourceUnreadableError
        If there is no such folder or file, it holds no frames, or one of them cannot be read.
    SourceLostError
        If a video ends before its end.
    """
    if images.is_dir():
        pictures = find_pictures(images)
        if not pictures:
            raise no_pictures(images)
        names = unique_names([path.relative_to(images) for path in pictures])
        return (EmptyFrame(n, read_image(p)) for n, p in zip(names, pictures, strict=True))
    if not images.is_file():
        raise SourceNotFoundError(f"no folder or file {images}")
    # By its whole path: a file may be called as a source of another kind is.
    return _frames_of(open_source(images.absolute()))


def _frames_of(source: Source) -> Iterator[EmptyFrame]:
    with source:
        for frame in source:
            yield EmptyFrame(f"{frame.index}", frame.pixels)


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise SourceUnreadableError(problems[0].line + more)


def _names_of_part(split: Path, part: str, home: str, present: set[str]) -> set[str]:
    """Read a part's names, but for those of another data folder."""
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    try:
        parts = json.loads(split.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"split file {split} cannot be read as JSON: {error}") from error
    held = {one: parts[one] for one in PARTS if one in parts} if isinstance(parts, dict) else {}
    if part not in held or not all(map(_are_names, held.values())):
        raise ValueError(f"split file {split} must hold lists of names: {', '.join(PARTS)}")
    own_of = {one: _own_names(names, home, present) for one, names in held.items()}
    own = own_of.pop(part)
    if not own:
        raise ValueError(f"part {part} of {split} names no frame of the data folder {home}")
    for other, names in own_of.items():
        if shared := sorted(own & names):
            raise ValueError(
                f"part {part} of {split} names {shared[0]!r}, which is in {other} too: frames of "
                "several data folders of one name cannot be told apart"
            )
    return own


def _are_names(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _own_names(names: Sequence[str], home: str, present: set[str]) -> set[str]:
    """Keep the names of one data folder, without the folder itself."""
    # Names may have slashes of their own: frames in subfolders.
    bare = {name if name in present else name.removeprefix(f"{home}/") for name in names}
    return {name for name in bare if name in present or "/" not in name}


def group_files(frames: Sequence[LabelledFrame], groups: str) -> list[str]:
    """Say which group each frame belongs to, as :func:`veintrack.train.splits.group_frames` does.

    Raises
    ------
    ValueError
        If `groups` does not fit the frames' names, or there is only one group.
    """
    group_of = group_frames([frame.name for frame in frames], groups)
    check_groups(group_of)
    return group_of


def check_label(folder: LabelledFolder, choice: LabelChoice) -> Survey:
    """Read every frame: a fault in the last one should not take an hour to show.

    Returns
    -------
    Survey
        What is there.

    Raises
    ------
    SourceUnreadableError
        If a file cannot be read, or does not fit its image.
    ValueError
        If the data has no such label, or shows it nowhere; the message says what it has.
    """
    found = survey(folder, choice)
    _refuse(found.problems)
    if found.absent:
        raise ValueError(
            f"no frame of {found.source} shows the label {choice.labels[found.absent[0]]}; other "
            f"labels that occur there: {', '.join(found.others) or 'none'}; if nothing there is a "
            "vessel, give --images alone and --label none"
        )
    return found


def score_files(
    segmenter: "Segmenter", frames: Iterable[LabelledFrame | EmptyFrame], judging: Judging
) -> tuple[list[FrameScores], F64]:
    """Score a model on frames.

    Returns
    -------
    scores : list of FrameScores
        In the order of the frames.
    levels : ndarray of shape (3, 256), float64
        From :func:`veintrack.train.curves.count_levels`, summed over the frames.
    """
    scores, levels = [], np.zeros((3, BINS))
    for frame in frames:
        pixels, truth, known = judging.read(frame)
        probability = segmenter(pixels)
        # What the tracker leaves out as too small is no detection.
        scale = fit((pixels.shape[0], pixels.shape[1]), segmenter.input_shape).scale
        least_px2 = DetectSettings().min_area_grid_px2 / float(np.prod(scale))
        scores.append(
            score_frame(
                frame.name,
                truth,
                probability >= judging.threshold,
                judging.spacing_mm,
                known=known,
                min_area_px2=least_px2,
                background_known=judging.background_known,
            )
        )
        if not judging.background_known:
            probability = vessels_alone(np.where(known, probability, np.float32(0)), truth)
        levels += count_levels(probability[known], truth[known])
    return scores, levels


def show_frames(
    segmenter: "Segmenter",
    frames: Sequence[LabelledFrame],
    chosen: Iterable[tuple[str, FrameScores]],
    judging: Judging,
) -> list[Example]:
    """Segment the frames to show again: keeping every frame's picture would fill the memory."""
    frame_of = {frame.name: frame for frame in frames}
    examples = []
    for rank, scores in chosen:
        pixels, truth, known = judging.read(frame_of[scores.name])
        marked = segmenter(pixels) >= judging.threshold
        scored = marked & known
        if not judging.background_known:
            scored = marks_on_vessels(scored, truth)
        examples.append(Example(rank, scores, pixels, truth, scored, marked & ~scored))
    return examples
