"""What a sink is, and the thread that keeps a slow one from stalling the tracking."""

import logging
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from veintrack.tracker.frame import FrameResult

__all__ = ["Sink", "SinkThread"]

log = logging.getLogger(__name__)


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
    capacity : int
        Results that may wait.
    patient : bool
        With a full queue, True makes :meth:`put` wait (files: nothing may be lost), False leaves
        the result out and counts it (live: tracking must not wait).
    """

    def __init__(self, sink: Sink, *, capacity: int = 64, patient: bool) -> None:
        self.name = sink.name
        self.left_out = 0
        self.error: Exception | None = None
        self._sink = sink
        self._patient = patient
        self._queue: queue.Queue[FrameResult | None] = queue.Queue(capacity)
        self._thread = threading.Thread(
            target=self._run, name=f"veintrack-{self.name}", daemon=True
        )
        self._thread.start()

    def put(self, result: FrameResult) -> None:
        """Hand over one result; a sink that has failed ignores it."""
        if self.error is not None:
            return
        try:
            self._queue.put(result, block=self._patient)
        except queue.Full:
            self.left_out += 1

    def close(self) -> None:
        """Write what waits and finish the sink; see :attr:`error` for how it went."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        # After a failure the queue is still emptied, or put() would wait for ever.
        while (result := self._queue.get()) is not None:
            if self.error is None:
                self._guard(partial(self._sink.write, result))
        self._guard(self._sink.close)

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever the sink met, tracking goes on and the run says so
            self.error = self.error or error
            log.debug("sink %s failed", self.name, exc_info=True)
