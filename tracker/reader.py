"""The thread that reads a source, and the mailbox it leaves frames in."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from veintrack.tracker.frame import Frame
from veintrack.tracker.mailbox import Mailbox
from veintrack.tracker.sources.base import Source

__all__ = ["Arrived", "Reader"]

_READ_AHEAD = 4  # frames decoded ahead of the network, for files
_JOIN_S = 0.5  # a thread that is stuck in a library is left to itself after this long


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame that the source delivered.

    Attributes
    ----------
    frame : Frame
        The frame.
    read_ns : int
        What the source took for it.
    put_ns : int
        ``time.perf_counter_ns`` when it was left in the mailbox.
    """

    frame: Frame
    read_ns: int
    put_ns: int


class Reader:
    """Iterates a source on a thread of its own.

    Parameters
    ----------
    source : Source
        Owned by the thread while it is iterated; closed with the reader.
    newest_only : bool
        Keep the newest frame only, and count those that it replaces; else every frame waits.
    realtime : bool
        Hand a file's frames out at the times they were taken.
    """

    def __init__(self, source: Source, *, newest_only: bool, realtime: bool) -> None:
        self._source, self._realtime = source, realtime
        self._mailbox: Mailbox[Arrived] = Mailbox(
            capacity=1 if newest_only else _READ_AHEAD, newest_only=newest_only
        )
        self._closing, self._going = threading.Event(), threading.Event()
        self._going.set()
        self._thread = threading.Thread(target=self._read, name="veintrack-reader", daemon=True)
        self.cpu_ns = 0

    @property
    def dropped(self) -> int:
        """Frames older than the one taken last that nobody took."""
        return self._mailbox.dropped_before

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def take(self, timeout_s: float) -> Arrived | None:
        """Wait for a frame; None at the end.

        Raises
        ------
        queue.Empty
            If none came within `timeout_s` seconds.
        Exception
            The source's, once every frame before it was taken.
        """
        return self._mailbox.take(timeout_s)

    def hold(self, on: bool) -> None:
        """Let the time of a file that is handed out in real time stand still, or go on."""
        if on:
            self._going.clear()
        else:
            self._going.set()

    def close(self) -> None:
        """End reading and close the source."""
        self._closing.set()
        self._going.set()
        self._mailbox.close()
        self._source.close()
        self._thread.join(_JOIN_S)

    def _read(self) -> None:
        take_turns = _pacer(self._closing, self._going) if self._realtime else None
        asked_ns = time.perf_counter_ns()
        try:
            for frame in self._source:
                read_ns = time.perf_counter_ns() - asked_ns
                due = take_turns(frame) if take_turns else frame
                arrived = Arrived(due, read_ns, time.perf_counter_ns())
                self.cpu_ns = time.thread_time_ns()
                if self._closing.is_set() or not self._mailbox.put(arrived):
                    return
                asked_ns = time.perf_counter_ns()
        except Exception as error:  # handed to the thread that takes, which raises it
            self._mailbox.fail(error)
        else:
            self._mailbox.close()


def _pacer(stopping: threading.Event, going: threading.Event) -> Callable[[Frame], Frame]:
    """Hand frames out at the times they were taken, counted from the first, while time goes."""
    start_ns: int | None = None

    def take_turns(frame: Frame) -> Frame:
        nonlocal start_ns
        now_ns = time.monotonic_ns()
        if start_ns is None:
            start_ns = now_ns - frame.capture_ns
        if not going.is_set():
            going.wait()
            start_ns += time.monotonic_ns() - now_ns
        due_ns = start_ns + frame.capture_ns
        stopping.wait(max(0, due_ns - time.monotonic_ns()) * 1e-9)
        return replace(frame, arrival_ns=due_ns)

    return take_turns
