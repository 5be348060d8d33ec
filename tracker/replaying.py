"""Tracking a recording again, each frame treated as it was when it was recorded."""

import json
from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.agelimit import AgeLimit
from veintrack.tracker.frame import Frame, PictureState, Signal, SourceState
from veintrack.tracker.framing import Framing, Place
from veintrack.tracker.pipeline import Arrivals, Gap
from veintrack.tracker.reader import Arrived
from veintrack.tracker.recording_lines import DAMAGE
from veintrack.tracker.recording_names import TRACKED
from veintrack.tracker.sources.recording import RecordingSource

__all__ = ["Between", "KeptFraming", "Retake", "Script", "Turn", "read_script"]

_NO_SIGNAL = "the driver said so when it was recorded"


@dataclass(frozen=True, slots=True)
class Turn:
    """How a frame was looked at.

    Attributes
    ----------
    place : Place
        Where the ultrasound was said to lie.
    segmented : bool
        False where its tracks were predicted, as it was too old.
    no_signal : bool
        Whether it was said to be no picture.
    """

    place: Place
    segmented: bool
    no_signal: bool


@dataclass(frozen=True, slots=True)
class Between:
    """A result without a frame, while the source was lost.

    Attributes
    ----------
    state : SourceState
        What was wrong with the source.
    time_ns : int
        When its tracks hold.
    """

    state: SourceState
    time_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """What a run did.

    Attributes
    ----------
    turns : dict
        By the frame's index, in order.
    between : dict
        By the index of the last frame before: results without one.
    """

    turns: dict[int, Turn]
    between: dict[int, list[Between]]


def read_script(folder: Path) -> Script:
    """Read ``tracked.jsonl`` of a recording, up to the last whole line.

    Raises
    ------
    SourceUnreadableError
        If it is missing, or a line before the last is damaged.
    """
    path = folder / TRACKED
    script, turns = Script({}, {}), dict[Turn, Turn]()
    number = 0
    try:
        with path.open("rb") as file:
            for text in file:
                number += 1
                if not text.endswith(b"\n"):
                    break  # it was being written
                _take(script, turns, json.loads(text))
    except OSError as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error.strerror}") from error
    except DAMAGE as error:
        raise SourceUnreadableError(f"{path}: line {number} is damaged") from error
    return script


def _take(script: Script, turns: dict[Turn, Turn], row: dict[str, Any]) -> None:
    """Take in a line; `turns` are those so far: hours of frames are treated alike."""
    frame, between_ns = int(row["frame"]), row["between_ns"]
    if between_ns is not None:
        said = row["source"]
        state = SourceState(Signal(said["state"]), int(said["since_ns"]), str(said["reason"]))
        script.between.setdefault(frame, []).append(Between(state, int(between_ns)))
        return
    x, y, width, height = map(int, row["scan_area_px"])
    place = Place((x, y, width, height), bool(row["settled"]), "layout changed" in row["changes"])
    no_signal = row["picture"] == PictureState.NO_SIGNAL.value
    turn = Turn(place, bool(row["segmented"]), no_signal)
    script.turns[frame] = turns.setdefault(turn, turn)


class KeptFraming(Framing):
    """Says of each frame what was said of it; of others, what was said of the one before.

    Parameters
    ----------
    turns : dict
        Those of a :class:`Script`; not empty.
    """

    def __init__(self, turns: dict[int, Turn]) -> None:
        super().__init__("none")
        self._turns, self._indices = turns, list(turns)

    def place(self, frame: Frame, *, usable: bool = True) -> Place:
        """Say where the ultrasound lay."""
        del usable
        turn = self._turns.get(frame.index)
        if turn is not None:
            return turn.place
        before = max(0, bisect_right(self._indices, frame.index) - 1)
        return replace(self._turns[self._indices[before]].place, changed=False)


class _KeptLimit(AgeLimit):
    """Refuses the frames that were refused."""

    def __init__(self) -> None:
        super().__init__(None)
        self.turn: Turn | None = None  # of the frame that is asked for

    def refuses(self, age_ns: int, now_ns: int) -> bool:
        del age_ns, now_ns
        refused = self.turn is not None and not self.turn.segmented
        self.refused += refused
        return refused


class Retake:
    """Gives a pipeline the frames of a recording as they came, with what was between them.

    Parameters
    ----------
    recording : RecordingSource
        Where they come from.
    script : Script
        What the run did.

    Attributes
    ----------
    limit : AgeLimit
        For the pipeline: refuses the frames that were refused.
    """

    def __init__(self, recording: RecordingSource, script: Script) -> None:
        self._recording, self._script = recording, script
        self._limit = _KeptLimit()

    @property
    def limit(self) -> AgeLimit:
        return self._limit

    def signals(self, arrivals: Arrivals) -> Arrivals:
        """Have the recording say of each frame what the driver said of its signal."""
        for arrived in arrivals:
            if isinstance(arrived, Arrived):
                turn = self._limit.turn = self._script.turns.get(arrived.frame.index)
                self._recording.no_signal = _NO_SIGNAL if turn and turn.no_signal else ""
            yield arrived

    def gaps(self, arrivals: Arrivals) -> Arrivals:
        """Do the same, and give the times without a frame after the frame that they followed."""
        for arrived in self.signals(arrivals):
            yield arrived
            if isinstance(arrived, Arrived):
                for one in self._script.between.get(arrived.frame.index, ()):
                    yield Gap(one.state, at_ns=one.time_ns)
