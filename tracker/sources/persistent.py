"""A live source that comes back: lost, looked for, opened again, numbered on."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic_ns

from veintrack.errors import (
    SourceLostError,
    SourceNotFoundError,
    SourceStalledError,
    SourceUnreadableError,
)
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import STREAMING, Frame, Signal, SourceState
from veintrack.tracker.sources.base import LiveSource

__all__ = ["PersistentSource"]

log = logging.getLogger(__name__)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 1.0  # between two tries; each doubles the wait


class PersistentSource(Closing):
    """Frames of a live source, over any number of times that it is lost and found again.

    Index and times go on from the last frame. What happens meanwhile is told by :attr:`state`:
    whoever waits for frames looks at it.

    Parameters
    ----------
    source : LiveSource
        Open. This object closes it, and each one that follows it.
    lost_timeout_s : float
        For how long it is looked for, each time.
    """

    def __init__(self, source: LiveSource, lost_timeout_s: float) -> None:
        if not lost_timeout_s > 0:
            raise ValueError(f"lost_timeout_s must be greater than 0, got {lost_timeout_s}")
        self._source, self._timeout_s = source, lost_timeout_s
        self._lock = threading.Lock()  # close() must meet the source that is open
        self._closed = threading.Event()
        self._state = STREAMING
        self._earlier_drops = 0
        self.outages = 0
        self.info = source.info

    @property
    def state(self) -> SourceState:
        """Whether it delivers, and why not."""
        return self._state

    @property
    def driver_drops(self) -> int:
        """Frames that the driver lost, over all openings."""
        return self._earlier_drops + self._source.driver_drops

    @property
    def no_signal(self) -> str:
        """What the driver says is wrong with its input."""
        return self._source.no_signal

    def __iter__(self) -> Iterator[Frame]:
        offset = last_index = 0
        last_ns = -1
        while not self._closed.is_set():
            try:
                for frame in self._source:
                    if self._state is not STREAMING:
                        self._state = STREAMING
                    last_index = offset + frame.index
                    last_ns = max(last_ns + 1, frame.capture_ns)
                    yield replace(frame, index=last_index, capture_ns=last_ns)
                return  # closed, or ended by itself
            except SourceLostError as error:
                if self._closed.is_set():
                    return
                self._wait_for(error)
                offset = last_index + 1

    def _wait_for(self, error: SourceLostError) -> None:
        """Close what is lost and open it again as soon as it is back."""
        signal = Signal.STALLED if isinstance(error, SourceStalledError) else Signal.LOST
        since_ns = monotonic_ns()
        self._state = SourceState(signal, since_ns, str(error))
        self.outages += 1
        log.warning("%s; waiting for it to come back", error)
        self._source.close()
        pause_s = _FIRST_WAIT_S
        while not self._closed.wait(pause_s):
            pause_s = min(2 * pause_s, _LONGEST_WAIT_S)
            try:
                self._take(self._source.reopen(self._closed.is_set))
            except (SourceNotFoundError, SourceUnreadableError) as not_yet:
                log.debug("not back yet: %s", not_yet)
            else:
                log.warning("back after %.1f s", (monotonic_ns() - since_ns) * 1e-9)
                return
            if monotonic_ns() - since_ns > self._timeout_s * 1e9:
                raise SourceLostError(f"{error}; not back within {self._timeout_s:g} s") from error

    def _take(self, source: LiveSource) -> None:
        with self._lock:
            if self._closed.is_set():
                source.close()
                return
            self._earlier_drops += self._source.driver_drops
            self._source = source

    def close(self) -> None:
        """End the iteration, whatever it is waiting for. Safe to call twice, from any thread."""
        with self._lock:
            self._closed.set()
            self._source.close()
