"""A model run over labelled frames: which frames, what counts as right, and the scores of each."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.detect import DetectSettings
from veintrack.tracker.frame import F64, U8, Spacing
from veintrack.tracker.grid import fit
from veintrack.train.bootstrap import check_groups
from veintrack.train.curves import BINS, count_levels
from veintrack.train.formats import (
    LabelChoice,
    LabelledFolder,
    LabelledFrame,
    Problem,
    Survey,
    read_truth,
    survey,
)
from veintrack.train.report import Example
from veintrack.train.scores import FrameScores, marks_on_vessels, score_frame, vessels_alone
from veintrack.train.splits import group_frames

if TYPE_CHECKING:
    from veintrack.tracker.segment import Segmenter

__all__ = [
    "PARTS",
    "Judging",
    "check_label",
    "find_labelled",
    "group_files",
    "score_files",
    "show_frames",
]

Mask = NDArray[np.bool_]

PARTS = ("train", "val", "test")


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

    def read(self, frame: LabelledFrame) -> tuple[U8, Mask, Mask]:
        """Read a frame's grey levels, where the vessel is, and where that is known."""
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
    names = parts.get(part) if isinstance(parts, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"split file {split} must hold lists of names: {', '.join(PARTS)}")
    # Names may have slashes of their own: frames in subfolders.
    bare = {name if name in present else name.removeprefix(f"{home}/") for name in names}
    own = {name for name in bare if name in present or "/" not in name}
    if not own:
        raise ValueError(f"part {part} of {split} names no frame of the data folder {home}")
    return own


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
            f"no frame of {found.source} shows the label {choice.labels[found.absent[0]]}; "
            f"other labels that occur there: {', '.join(found.others) or 'none'}"
        )
    return found


def score_files(
    segmenter: "Segmenter", frames: Iterable[LabelledFrame], judging: Judging
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
