"""A live source that comes back: lost, looked for, opened again, numbered on."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic_ns

from veintrack.errors import (
    SourceLostError,
    SourceStalledError,
)
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import STREAMING, Frame, Signal, SourceState
from veintrack.tracker.sources.base import LiveSource, SourceInfo

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
    same_size : str, optional
        What was given for pictures of this size only (``the spacing``): another size ends it.
    """

    def __init__(
        self, source: LiveSource, lost_timeout_s: float, *, same_size: str | None = None
    ) -> None:
        if not lost_timeout_s > 0:
            raise ValueError(f"lost_timeout_s must be greater than 0, got {lost_timeout_s}")
        self._source, self._timeout_s, self._same_size = source, lost_timeout_s, same_size
        self._lock = threading.Lock()  # close() must meet the source that is open
        self._closed = threading.Event()
        self._state = self._last_outage = STREAMING
        self._earlier_drops = 0
        self._outages = 0
        self._info = source.info

    @property
    def info(self) -> SourceInfo:
        """What is known of the source as it was opened last."""
        return self._info

    @property
    def outages(self) -> int:
        """How often it was lost."""
        return self._outages

    @property
    def last_outage(self) -> SourceState:
        """The state while it was lost last; streaming if it never was."""
        return self._last_outage

    @property
    def state(self) -> SourceState:
        """Whether it delivers, and why not."""
        return self._state

    @property
    def driver_drops(self) -> int:
        """Frames that the driver lost, over all openings."""
        with self._lock:
            return self._earlier_drops + self._source.driver_drops

    @property
    def no_signal(self) -> str:
        """What the driver says is wrong with its input."""
        return self._source.no_signal

    def __iter__(self) -> Iterator[Frame]:
        offset, last_index, last_ns = 0, -1, -1
        while not self._closed.is_set():
            numbered = 0  # numbers of this opening that were used, by frames and by gaps
            frames = 0
            try:
                for frame in self._source:
                    self._state = STREAMING
                    frames, numbered = frames + 1, frame.index + 1
                    last_index = offset + frame.index
                    last_ns = max(last_ns + 1, frame.capture_ns)
                    yield replace(frame, index=last_index, capture_ns=last_ns)
                return  # closed, or ended by itself
            except SourceLostError as error:
                if self._closed.is_set():
                    return
                # What was lost just before the failure has left no gap yet.
                lost_at_the_end = max(0, frames + self._source.driver_drops - numbered)
                offset += numbered + lost_at_the_end
                self._wait_for(error)

    def _wait_for(self, error: SourceLostError) -> None:
        """Close what is lost and open it again as soon as it is back.

        Until a frame comes it is the same outage, however often it is opened and fails.
        """
        if self._state is STREAMING:
            signal = Signal.STALLED if isinstance(error, SourceStalledError) else Signal.LOST
            self._state = self._last_outage = SourceState(signal, monotonic_ns(), str(error))
            self._outages += 1
            log.warning("%s; waiting for it to come back", error)
        self._source.close()
        pause_s = _FIRST_WAIT_S
        while not self._closed.wait(min(pause_s, self._left_s())):
            if self._left_s() <= 0:
                lost = self._state.reason
                raise SourceLostError(f"{lost}; not back within {self._timeout_s:g} s") from error
            pause_s = min(2 * pause_s, _LONGEST_WAIT_S)
            try:
                found = self._source.reopen(self._gives_up)
            except OSError as not_yet:  # ours among them; a node that vanishes under us as well
                log.debug("not back yet: %s", not_yet)
                continue
            if not found.info.live:  # another thing under the same address
                found.close()
                continue
            self._take(found)
            log.warning("back after %.1f s", (monotonic_ns() - self._state.since_ns) * 1e-9)
            return

    def _left_s(self) -> float:
        """Seconds for which it is still looked for."""
        return max(0.0, self._timeout_s - (monotonic_ns() - self._state.since_ns) * 1e-9)

    def _gives_up(self) -> bool:
        return self._closed.is_set() or self._left_s() <= 0

    def _take(self, source: LiveSource) -> None:
        """Go on with what was opened anew, if it is what was lost."""
        was, now = self._info.shape_px, source.info.shape_px
        if self._same_size is not None and now != was:
            source.close()
            raise SourceLostError(
                f"{source.info.name} came back with pictures of {now[1]}x{now[0]} px; "
                f"{self._same_size} was for {was[1]}x{was[0]} px"
            )
        with self._lock:
            if self._closed.is_set():
                source.close()
                return
            self._earlier_drops += self._source.driver_drops
            self._source, self._info = source, source.info

    def close(self) -> None:
        """End the iteration, whatever it is waiting for. Safe to call twice, from any thread."""
        with self._lock:
            self._closed.set()
            self._source.close()
