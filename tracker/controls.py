"""What people at a view may ask of a run; asked from any thread, done between two frames."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2

from veintrack.errors import OutputError, VeintrackError
from veintrack.tracker.frame import FrameResult
from veintrack.tracker.overlay import draw

__all__ = ["SNAPSHOTS", "ControlState", "Controls", "Run"]

SNAPSHOTS = "snapshots"  # folder of pictures, in that of the run
_GLANCE_S = 0.05  # how often, while a run stands still, its end is looked for


class Run(Protocol):
    """What can be done with a run, by the thread that takes its results."""

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        ...

    def look_from(self, threshold: float) -> None:
        """Take what reaches this probability for vessel, from the next frame on."""
        ...

    def hold(self, on: bool) -> None:
        """Let the time of the source stand still, or go on."""
        ...

    def record(self, on: bool) -> str:
        """Begin or end a recording, and say what was done, or why not."""
        ...


@dataclass(frozen=True, slots=True)
class ControlState:
    """How a run stands.

    Attributes
    ----------
    live : bool
        Whether its source is live: then it cannot stand still.
    threshold : float
        Probability from which a pixel counts as vessel.
    paused, recording : bool
        Whether it stands still, and whether its frames are kept.
    said : str
        What came of the last thing that was asked for.
    """

    live: bool
    threshold: float
    paused: bool = False
    recording: bool = False
    said: str = ""


class Controls:
    """Takes what is asked for at views, and has the run do it between two frames.

    Parameters
    ----------
    stop : callable
        Ends the run; safe from any thread.
    state : ControlState
        How it stands at first.

    Attributes
    ----------
    folder : Path or None
        Of the run; to be set once it is made.
    """

    def __init__(self, stop: Callable[[], None], state: ControlState) -> None:
        self.stop = stop
        self.folder: Path | None = None
        self._state = state
        self._changed = threading.Condition()
        self._threshold: float | None = None  # what is asked for, and not done yet
        self._record: bool | None = None
        self._steps = 0

    @property
    def state(self) -> ControlState:
        """How the run stands."""
        return self._state

    def pause(self, on: bool) -> None:
        """Let a file's run stand still, or go on; a live one cannot."""
        with self._changed:
            if self._state.live:
                self._say("a live source does not wait: freeze the picture instead")
                return
            self._state = replace(self._state, paused=on, said="paused" if on else "")
            self._changed.notify_all()

    def step(self) -> None:
        """Take one more frame of a run that stands still."""
        with self._changed:
            self._steps += self._state.paused
            self._changed.notify_all()

    def look_from(self, threshold: float) -> None:
        """Take what reaches this probability for vessel.

        Raises
        ------
        ValueError
            If it is not between 0 and 1.
        """
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, got {threshold}")
        with self._changed:
            self._threshold = threshold
            self._changed.notify_all()

    def record(self, on: bool) -> None:
        """Begin or end a recording."""
        with self._changed:
            self._record = on
            self._changed.notify_all()

    def snapshot(self, result: FrameResult) -> None:
        """Write what is seen of a result, annotated, as a PNG in the run's folder.

        What lies outside the scan area may name the patient, and is not in it.
        """
        try:
            if self.folder is None:
                raise OutputError("no snapshot yet: the run has no folder")
            said = f"wrote {write_snapshot(self.folder, result)}"
        except VeintrackError as error:
            said = str(error)
        with self._changed:
            self._say(said)

    def obey(self, run: Run) -> None:
        """Do what was asked for since the last time; where the run is to stand still, wait.

        Called by the thread that takes the run's results.
        """
        if self._threshold is None and self._record is None and not self._state.paused:
            return
        run.hold(self._state.paused)
        self._do(run)
        run.hold(False)

    def _do(self, run: Run) -> None:
        while True:
            with self._changed:
                threshold, self._threshold = self._threshold, None
                record, self._record = self._record, None
            if threshold is not None:
                self._set_threshold(run, threshold)
            if record is not None and record is not self._state.recording:
                self._set_recording(run, record)
            with self._changed:
                if not self._state.paused or run.stopping:
                    return
                if self._steps:
                    self._steps -= 1
                    return
                self._changed.wait(_GLANCE_S)

    def _set_threshold(self, run: Run, threshold: float) -> None:
        if self._state.recording:
            said = "a recording keeps one threshold: end it first"
            threshold = self._state.threshold
        else:
            run.look_from(threshold)
            said = f"threshold {threshold:.2f}"
        with self._changed:
            self._state = replace(self._state, threshold=threshold, said=said)

    def _set_recording(self, run: Run, on: bool) -> None:
        try:
            said = run.record(on)
        except OutputError as error:
            on, said = False, str(error)
        with self._changed:
            self._state = replace(self._state, recording=on, said=said)

    def _say(self, said: str) -> None:
        self._state = replace(self._state, said=said)


def write_snapshot(folder: Path, result: FrameResult) -> Path:
    """Write a result's scan area, annotated, to ``snapshots/`` in a folder; say where.

    Raises
    ------
    OutputError
        If the scan area is not known yet, or the file cannot be written.
    """
    if not result.scan_area_settled:
        raise OutputError("no snapshot yet: the scan area is not known, the rest may name a person")
    path = folder / SNAPSHOTS / f"frame_{result.frame.index:06d}.png"
    made, data = cv2.imencode(".png", draw(result, result.scan_area_px))
    if not made:
        raise OutputError(f"cannot write {path}: the picture cannot be encoded")
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return path
