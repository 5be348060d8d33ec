"""What the window says of a run: how fast it is, how old its pictures are, how it stands."""

import time
from collections import deque
from statistics import median

from veintrack.tracker.controls import ControlState
from veintrack.tracker.frame import FrameResult

__all__ = ["Gauges", "figures", "flags", "shortened"]

_EVERY_S = 0.5  # a person reads no faster
_LOOKS = 4  # back to which the rate is taken: two seconds


class Gauges:
    """Counts a run's results, and says twice a second how it goes.

    Attributes
    ----------
    fps : float or None
        New frames a second over the last two seconds; None before any rate is known.
    age_ms : float or None
        How old the pictures were when they were shown, the middle of the last half second.
    dropped : int
        Frames that are missing between those that came, whoever dropped them.
    """

    def __init__(self) -> None:
        self.fps: float | None = None
        self.age_ms: float | None = None
        self.dropped = 0
        self._frames = 0
        self._last_index: int | None = None
        self._ages_ms: list[float] = []
        self._looks: deque[tuple[float, int]] = deque(maxlen=_LOOKS)

    def count(self, result: FrameResult) -> None:
        """Count a result; called by the tracking, for each."""
        if not result.fresh:
            return
        index = result.frame.index
        if self._last_index is not None:
            self.dropped += max(0, index - self._last_index - 1)
        self._last_index = index
        self._frames += 1

    def saw(self, age_ms: float) -> None:
        """Take note of how old a picture was when it was shown."""
        self._ages_ms.append(age_ms)

    def look(self, now_s: float | None = None) -> None:
        """Work the figures out where it is time."""
        now_s = time.monotonic() if now_s is None else now_s
        if self._looks and now_s - self._looks[-1][0] < _EVERY_S:
            return
        frames = self._frames
        if self._looks:
            then_s, counted = self._looks[0]
            self.fps = (frames - counted) / (now_s - then_s)
        self._looks.append((now_s, frames))
        if self._ages_ms:
            self.age_ms = median(self._ages_ms)
            self._ages_ms = []


def figures(gauges: Gauges, state: ControlState) -> str:
    """Say in figures how a run goes."""
    parts = []
    if gauges.fps is not None and not state.paused:
        parts.append(f"{gauges.fps:.1f} fps")
        if gauges.age_ms is not None:
            parts.append(f"{gauges.age_ms:.0f} ms old")
    parts += [f"{gauges.dropped} dropped", f"threshold {state.threshold:.2f}"]
    return "  ".join(parts)


def flags(state: ControlState, *, frozen: bool) -> str:
    """Say in words what is out of the ordinary."""
    words = (("REC", state.recording), ("PAUSED", state.paused), ("FROZEN", frozen))
    return "  ".join(word for word, on in words if on)


def shortened(text: str, letters: int) -> str:
    """Leave out the middle of a text that is too long: the end of a path tells more than it."""
    if len(text) <= letters:
        return text
    head = max(0, letters // 3 - 1)
    tail = max(1, letters - head - 2)
    return f"{text[:head]}..{text[-tail:]}"
