"""A file that begins again at its end: to measure for longer than it lasts."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from veintrack.tracker.frame import Frame
from veintrack.tracker.sources.base import OneShot, Source

__all__ = ["RepeatedSource"]

_RATE_HZ = 30.0  # where the file names none


class RepeatedSource(OneShot):
    """Delivers a file's frames over and over, index and times going on.

    Parameters
    ----------
    reopen : callable
        Opens the file; called anew for each round.
    rate_hz : float, optional
        Frames a second, in place of the file's own times.
    """

    def __init__(self, reopen: Callable[[], Source], rate_hz: float | None = None) -> None:
        self._reopen, self._rate_hz = reopen, rate_hz
        self._lock = threading.Lock()  # close() must meet the round that is open
        self._closed = False
        self._round = reopen()
        self.info = replace(self._round.info, frame_count=None)
        if rate_hz is not None:
            given = f"the frame's index and {rate_hz:g} frames a second, as given"
            self.info = replace(self.info, rate_hz=rate_hz, times_from=given)

    def __iter__(self) -> Iterator[Frame]:
        period_ns = round(1e9 / (self.info.rate_hz or _RATE_HZ))
        index = start_ns = capture_ns = 0
        while True:
            for frame in self._round:
                if self._rate_hz is not None:
                    capture_ns = round(index * 1e9 / self._rate_hz)
                else:
                    capture_ns = start_ns + frame.capture_ns
                yield replace(frame, index=index, capture_ns=capture_ns)
                index += 1
            with self._lock:
                if self._closed:
                    return
                self._round.close()
                self._round = self._reopen()
            start_ns = capture_ns + period_ns

    def close(self) -> None:
        """End the iteration. Safe to call twice, from any thread."""
        with self._lock:
            self._closed = True
            self._round.close()
