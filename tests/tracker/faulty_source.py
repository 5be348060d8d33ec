"""A live source that fails as scripted: every way in which capture cards let one down, in ms.

A script is a list of steps. The source plays them until one of them ends it, as a real reader
would; opening it again goes on with the next step.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from tests.conftest import disc
from veintrack.errors import (
    SourceLostError,
    SourceNotFoundError,
    SourceStalledError,
    SourceUnreadableError,
)
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import STREAMING, Frame, Stamp
from veintrack.tracker.sources.base import SourceInfo

SHAPE = (120, 160)
PERIOD_S = 0.002


@dataclass(frozen=True)
class Frames:
    """So many frames; `withheld` of them never leave the driver, after the first."""

    count: int
    withheld: int = 0


@dataclass(frozen=True)
class Fails:
    """The source is lost: unplugged, EIO, another mode."""

    message: str = "ENODEV: no such device"


@dataclass(frozen=True)
class Stalls:
    """The device stays, and no frame comes."""

    message: str = "no frame for 0.5 s"


@dataclass(frozen=True)
class Refuses:
    """Opening again fails so many times: absent, busy, not permitted."""

    times: int
    error: type[SourceNotFoundError] | type[SourceUnreadableError] = SourceNotFoundError
    message: str = "no such device"


@dataclass(frozen=True)
class Hangs:
    """Opening again, or the next frame, does not come until someone closes or gives up."""


Step = Frames | Fails | Stalls | Refuses | Hangs


@dataclass
class Script:
    """The steps, and what was done to the source: shared by all its openings."""

    steps: list[Step]
    made: list[tuple[int, int]] = field(default_factory=list)  # (sequence, capture_ns) of each
    openings: int = 1
    closed: int = 0


class FaultySource(Closing):
    """One opening of the scripted device."""

    state = last_outage = STREAMING
    no_signal = ""
    outages = 0

    def __init__(self, script: Script, period_s: float = PERIOD_S) -> None:
        self.script, self._period_s = script, period_s
        self._closed = threading.Event()
        self.driver_drops = 0
        self.info = SourceInfo(
            "faulty", "v4l2", True, SHAPE, 1 / period_s, None, None, "the test's clock"
        )

    def __iter__(self) -> Iterator[Frame]:
        sequence = 0
        while self.script.steps and not self._closed.is_set():
            step = self.script.steps.pop(0)
            if isinstance(step, Fails):
                raise SourceLostError(step.message)
            if isinstance(step, Stalls):
                raise SourceStalledError(step.message)
            if isinstance(step, Hangs):
                self._closed.wait(10)
                return
            if isinstance(step, Frames):
                for number in range(step.count):
                    if self._closed.wait(self._period_s):
                        return
                    yield self._frame(sequence)
                    lost = step.withheld if number == 0 else 0
                    self.driver_drops += lost
                    sequence += 1 + lost
        self._closed.wait(10)

    def _frame(self, sequence: int) -> Frame:
        now_ns = time.monotonic_ns()
        self.script.made.append((sequence, now_ns))
        pixels = np.where(disc(SHAPE, 60, 60, 12) == 1, 10, 70).astype(np.uint8)
        return Frame(pixels, sequence, now_ns, now_ns, sequence, stamp=Stamp.EXPOSURE_START)

    def reopen(self, cancelled: Callable[[], bool]) -> "FaultySource":
        step = self.script.steps[0] if self.script.steps else Hangs()
        if isinstance(step, Refuses):
            left = step.times - 1
            self.script.steps[:1] = [Refuses(left, step.error, step.message)] if left else []
            raise step.error(step.message)
        if isinstance(step, Hangs):
            while not cancelled():
                time.sleep(0.01)
            raise SourceUnreadableError("nobody waits any more")
        self.script.openings += 1
        return FaultySource(self.script, self._period_s)

    def close(self) -> None:
        self.script.closed += 1
        self._closed.set()
