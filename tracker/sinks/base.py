"""What a sink is, and the thread that keeps a slow one from stalling the tracking."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from veintrack.errors import OutputError
from veintrack.tracker.frame import FrameResult

__all__ = ["Sink", "SinkThread", "problems_of"]

log = logging.getLogger(__name__)
_GLANCE_S = 0.05  # how often, while something is waited for, the deadline is looked at
_CLOSING_S = 0.3  # before the deadline: no more is written, so that the file can be closed


class Sink(Protocol):
    """Takes results one by one, in order, on one thread."""

    @property
    def name(self) -> str:
        """What a user calls it: the file's name, or the view's."""
        ...

    def write(self, result: FrameResult) -> None:
        """Take one result; its frame and arrays must not be changed."""
        ...

    def close(self) -> None:
        """Finish what was written. Called once, after the last result."""
        ...


class SinkThread:
    """Runs one sink on a thread of its own, behind a queue.

    Parameters
    ----------
    sink : Sink
        The sink; touched by this thread only, from now on.
    name : str, optional
        What a user calls it, if not by the sink's own name.
    capacity : int
        Results that may wait.
    patient : bool
        With a full queue, True makes :meth:`put` wait (files: nothing may be lost), False leaves
        the result out and counts it (live: tracking must not wait).
    due_s : callable
        Says by when (seconds of ``time.monotonic``) all must be over; infinite for as long as
        nobody hurries. Shortly before, what still waits is dropped and the sink is closed.

    Attributes
    ----------
    left_out : int
        Results that found the queue full.
    unwritten : int
        Results that there was no time for before the deadline.
    error : Exception or None
        What the sink failed with.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        name: str | None = None,
        capacity: int = 64,
        patient: bool,
        due_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.name = name or sink.name
        self.left_out = self.unwritten = 0
        self.error: Exception | None = None
        self._sink, self._capacity, self._patient, self._due_s = sink, capacity, patient, due_s
        self._changed = threading.Condition()
        self._waiting: deque[FrameResult] = deque()
        self._ended = False
        self._thread = threading.Thread(
            target=self._run, name=f"veintrack-{self.name}", daemon=True
        )
        self._thread.start()

    def put(self, result: FrameResult) -> None:
        """Hand over one result; a sink that has failed ignores it."""
        if self.error is not None:
            return
        with self._changed:
            while self._patient and self._full() and not self._hurried():
                self._changed.wait(_GLANCE_S)
            if not self._full() and not self._ended:
                self._waiting.append(result)
                self._changed.notify_all()
            elif self._hurried():
                self.unwritten += 1
            else:
                self._leave_out()

    def _full(self) -> bool:
        return len(self._waiting) >= self._capacity

    def _hurried(self) -> bool:
        return self._due_s() < math.inf

    def _leave_out(self) -> None:
        if not self.left_out:
            log.warning("%s: writing is slower than the source, frames are left out", self.name)
        self.left_out += 1

    def end(self) -> None:
        """Say that no more results come, and wait for nothing."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Write what waits and finish the sink, by the deadline if there is one.

        See :attr:`error` and :attr:`unwritten` for how it went.
        """
        self.end()
        while self._thread.is_alive() and time.monotonic() < self._due_s():
            self._thread.join(_GLANCE_S)
        if self._thread.is_alive():
            self.error = self.error or OutputError("it could not be written to its end in time")

    def _run(self) -> None:
        # After a failure the queue is still emptied, or put() would wait for ever.
        while (result := self._next()) is not None:
            if self.error is None:
                self._guard(partial(self._sink.write, result))
        self._guard(self._sink.close)

    def _next(self) -> FrameResult | None:
        """Wait for a result; None when there are no more, or no time for them."""
        with self._changed:
            while time.monotonic() < self._due_s() - _CLOSING_S:
                if self._waiting:
                    self._changed.notify_all()
                    return self._waiting.popleft()
                if self._ended:
                    return None
                self._changed.wait(_GLANCE_S)
            self._ended = True
            self.unwritten += len(self._waiting)
            self._waiting.clear()
            return None

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever the sink met, tracking goes on and the run says so
            if self.error is None:
                self.error = error
                log.warning("%s cannot be written any further: %s", self.name, error)
            log.debug("sink %s failed", self.name, exc_info=True)


def problems_of(sinks: Sequence[SinkThread]) -> list[str]:
    """Say what went wrong with closed sinks, a line for each kind and sink."""
    failed = [
        f"{s.name} is incomplete: {getattr(s.error, 'strerror', None) or s.error}"
        for s in sinks
        if s.error
    ]
    late = [
        f"{s.name} lacks {s.left_out} frames: writing was slower than the source"
        for s in sinks
        if s.left_out
    ]
    unwritten = [
        f"{s.name} lacks the last {s.unwritten} frames: the run was stopped before their turn"
        for s in sinks
        if s.unwritten and not s.error
    ]
    return failed + late + unwritten
