"""A sender's time, put on our clock."""

__all__ = ["SenderClock"]

_DRIFT = 5000  # a sender's clock runs slow by 1/5000 at most; quartz is off by about 1/10 000
_JUMP_NS = 1_000_000_000  # a step of the stamps this far from the arrivals' is a clock being set


class SenderClock:
    """Puts a sender's stamps on our monotonic clock.

    A frame arrives late by the clocks' difference and a delay that is never less than the
    network's least. The least sum seen so far is therefore the best estimate of the difference,
    and what a frame exceeds it by is how late it came (as in the clock filter of NTP, RFC 5905,
    section 10). The estimate rises by 1/5000 of the time that passes, so that a sender whose clock
    runs slow is followed; each frame that comes without delay lowers it again.

    What cannot be seen is the part of the delay that every frame has.
    """

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._last_sender_ns = self._last_arrival_ns = 0
        self._last_ns = -1

    def capture_ns(self, sender_ns: int | None, arrival_ns: int) -> int:
        """Give a frame's time: never later than its arrival, always later than the one before.

        Parameters
        ----------
        sender_ns : int or None
            The sender's stamp; None if the frame has none.
        arrival_ns : int
            ``time.monotonic_ns`` when it came; later than that of the frame before.
        """
        time_ns = arrival_ns
        if sender_ns is not None:
            time_ns = sender_ns + self._offset(sender_ns, arrival_ns)
        self._last_ns = max(time_ns, self._last_ns + 1)
        return self._last_ns

    def _offset(self, sender_ns: int, arrival_ns: int) -> int:
        seen_ns = arrival_ns - sender_ns
        sender_step_ns = sender_ns - self._last_sender_ns
        arrival_step_ns = arrival_ns - self._last_arrival_ns
        self._last_sender_ns, self._last_arrival_ns = sender_ns, arrival_ns
        jumped = sender_step_ns < 0 or abs(sender_step_ns - arrival_step_ns) > _JUMP_NS
        if self._offset_ns is None or jumped:  # a clock that was set is another clock
            self._offset_ns = seen_ns
        else:
            self._offset_ns = min(seen_ns, self._offset_ns + arrival_step_ns // _DRIFT)
        return self._offset_ns
