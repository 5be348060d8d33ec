"""A contestant in a process of its own: what is asked of it, line by line, and what it answers.

The same file serves both ends. The far one may run in another Python (3.10 or newer), which needs
NumPy and nothing of ours.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["Brief", "Contestant", "Peer", "PeerError", "serve", "timed"]

PATIENCE_S = 600.0
_END_S = 10.0

Brief = dict[str, Any]
"""What a contestant is told: where pictures and model lie, and the like."""


class Contestant(Protocol):
    """What computes at the far end.

    Attributes
    ----------
    facts : dict
        What it says of itself: ``does``, in words; ``clock``, from where to where it is timed;
        ``precision``; ``versions``; and what else it knows.
    """

    facts: dict[str, Any]

    def turn(self, frames: int, warm_up: int) -> tuple[float, float]:
        """Compute so many frames after those that warm up; what `timed` says of them."""
        ...

    def masks(self, count: int) -> NDArray[np.uint8]:
        """Segment the first pictures: (count, h, w) of 0 and 1, the picture on the grid alone."""
        ...


class PeerError(Exception):
    """A contestant cannot be loaded, or failed. The message is one line."""


class Peer:
    """The near end: a contestant's process.

    Parameters
    ----------
    command : sequence of str
        Starts it; the brief is added as JSON.
    brief : dict
        What it needs to know.
    log : Path
        Where its messages go.

    Attributes
    ----------
    facts : dict
        As of its `Contestant`.

    Raises
    ------
    PeerError
        If it cannot be started or loaded, here or later.
    """

    def __init__(self, command: Sequence[str], brief: Brief, log: Path) -> None:
        self._log = log
        try:
            with log.open("wb") as messages:
                self._process = subprocess.Popen(
                    [*command, json.dumps(brief)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=messages,
                )
        except OSError as error:
            raise PeerError(f"{command[0]}: {error.strerror}") from error
        self._asked = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)
        try:
            self.facts = self._answer()
        except BaseException:
            self.close()
            raise

    def turn(self, frames: int, warm_up: int) -> dict[str, float]:
        """Let it compute; ``fps`` and ``cpu_ms``, processor time a frame, come back."""
        answer: dict[str, float] = self._ask(do="turn", frames=frames, warm_up=warm_up)
        return answer

    def masks(self, count: int, file: Path) -> None:
        """Let it write the masks of the first pictures as an array (count, h, w) of 0 and 1."""
        self._ask(do="masks", count=count, file=str(file))

    def close(self) -> None:
        """End the process. Safe to call twice."""
        with suppress(OSError):  # it has ended by itself
            self._asked.close()
        self._answers.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, **what: Any) -> Any:
        with suppress(OSError):  # it has ended: the answer says how
            self._asked.write(json.dumps(what).encode() + b"\n")
            self._asked.flush()
        return self._answer()

    def _answer(self) -> Any:
        if not select.select([self._answers], [], [], PATIENCE_S)[0]:
            self._process.kill()
            raise PeerError(f"no answer within {PATIENCE_S:g} s")
        line = self._answers.readline()
        if not line:
            status = self._process.wait()
            said = self._log.read_text(errors="replace").split("\n")
            last = next((text for text in reversed(said) if text.strip()), "")
            raise PeerError(f"ended with exit status {status}: {last}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer


def serve(open_contestant: Callable[[Brief], Contestant]) -> None:
    """Be the far end: load a contestant, and do what is asked for until nobody asks any more."""
    # Libraries print where they like: what is meant for the near end has a way of its own.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)

        def answer(what: Any) -> None:
            answers.write(json.dumps(what) + "\n")
            answers.flush()

        try:
            contestant = open_contestant(json.loads(sys.argv[1]))
            answer(contestant.facts)
            for line in sys.stdin:
                asked = json.loads(line)
                if asked.pop("do") == "turn":
                    fps, cpu_ms = contestant.turn(**asked)
                    answer({"fps": fps, "cpu_ms": cpu_ms})
                else:
                    np.save(asked["file"], contestant.masks(asked["count"]))
                    answer({})
        except Exception as error:
            first, *_ = str(error).strip().splitlines() or [""]
            kind = "" if isinstance(error, PeerError) else f"{type(error).__name__}: "
            answer({"error": kind + first})


def timed(results: Iterable[object], frames: int, warm_up: int) -> tuple[float, float]:
    """Take results one by one, and time those after the first ones.

    Returns
    -------
    fps : float
        Frames a second.
    cpu_ms : float
        Processor time of the process a frame, all threads.

    Raises
    ------
    PeerError
        If there are too few.
    """
    number, begun = 0, _clocks_s()
    ended = begun
    for number, _ in enumerate(results, 1):
        if number == warm_up:
            begun = _clocks_s()
        if number == warm_up + frames:
            ended = _clocks_s()  # leaving the loop ends what yields them: not to be timed
            break
    if number < warm_up + frames:
        raise PeerError(f"it stopped after {number} of {warm_up + frames} frames")
    wall_s, cpu_s = (after - before for before, after in zip(begun, ended, strict=True))
    return round(frames / wall_s, 4), round(1000 * cpu_s / frames, 4)


def _clocks_s() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
