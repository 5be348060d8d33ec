"""What Ctrl-C and SIGTERM do: before a run, to a command, and while the main job runs.

Both mean the same. SIGINT is obeyed even where a shell has it ignored, as it does for what it
starts in the background.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stop", "ignore_signals", "leave_on_signal", "raise_on_signal", "stops_on_signal"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ALLOWED_S = 0.7  # of the second in which a run ends: the rest is the interpreter's own end
_ALLOWED_AGAIN_S = 0.1


def leave_on_signal() -> None:
    """Let a signal end the process at once, with one line: for as long as nothing is open.

    An exception in the middle of an import is shown in parts, or lost, by the machinery that
    imports.
    """
    for number in _SIGNALS:
        signal.signal(number, _leave)


def _leave(signum: int, stack: FrameType | None) -> None:
    del signum, stack
    os.write(2, b"veintrack: interrupted\n")
    os._exit(130)


def raise_on_signal() -> None:
    """End what :func:`leave_on_signal` began: from here on a signal is a KeyboardInterrupt."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _leave:
            signal.signal(number, signal.default_int_handler)


def ignore_signals() -> None:
    """Take no more signals: all is done, and the interpreter's own end lets them kill it."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Stop:
    """Whether a run was told to stop, and by when it must be over.

    Attributes
    ----------
    by_s : float
        In seconds of ``time.monotonic``; infinite for as long as no signal came. A second signal
        brings it nearer.
    """

    def __init__(self) -> None:
        self.by_s = math.inf

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self.by_s < math.inf

    def shorten(self) -> None:
        """Take in one signal. It may interrupt anything, and must wait for no lock."""
        allowed_s = _ALLOWED_AGAIN_S if self.asked else _ALLOWED_S
        self.by_s = min(self.by_s, time.monotonic() + allowed_s)


@contextmanager
def stops_on_signal(end: Callable[[], None]) -> Iterator[Stop]:
    """Call `end` at the first signal, and say by when all must be over; nothing is raised."""
    stop = Stop()

    def obey(signum: int, stack: FrameType | None) -> None:
        del signum, stack
        first = not stop.asked
        stop.shorten()
        if first:
            end()

    before = {number: signal.signal(number, obey) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
