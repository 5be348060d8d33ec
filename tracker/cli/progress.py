"""One line on the terminal while a run goes on."""

import time

from rich.console import Console
from rich.status import Status

from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import FrameResult, PictureState, TrackStatus

__all__ = ["Progress"]

_EVERY_S = 0.2  # a person reads no faster, and drawing costs time


class Progress(Closing):
    """Frames, fps, drops and tracks, on one line that is drawn over; silent in a pipe."""

    def __init__(self, console: Console, total: int | None) -> None:
        self._on = console.is_terminal and not console.quiet
        self._status = Status("waiting for the first frame", console=console)
        self._total = total
        self._frames = 0
        self._fps = 0.0
        self._last_frames, self._last_s = 0, time.monotonic()
        self._last_state: object = None
        if self._on:
            self._status.start()

    def show(self, result: FrameResult, drops: int, too_old: int = 0) -> None:
        """Count one result, and redraw the line when it is time, or when something changed."""
        self._frames += result.fresh
        if not self._on:
            return
        now_s = time.monotonic()
        state = (result.source, result.picture)
        due = now_s - self._last_s >= _EVERY_S
        if not due and result.fresh and state == self._last_state:
            return
        self._last_state = state
        if due:  # a rate over a shorter time would jump
            self._fps = (self._frames - self._last_frames) / (now_s - self._last_s)
            self._last_frames, self._last_s = self._frames, now_s
        confirmed = sum(t.status is TrackStatus.CONFIRMED for t in result.tracks)
        coasting = sum(t.status is TrackStatus.COASTING for t in result.tracks)
        of = f"/{self._total}" if self._total else ""
        lost = f", {drops} dropped" if drops else ""
        late = f", {too_old} too old" if too_old else ""
        self._status.update(
            f"frame {self._frames}{of}  {self._fps:.1f} fps  {_how_it_is(result)}"
            f"{confirmed} tracks, {coasting} coasting{lost}{late}"
        )

    def close(self) -> None:
        """Take the line off the terminal."""
        self._status.stop()


def _how_it_is(result: FrameResult) -> str:
    """Name what is wrong with the source or the picture, or the frame's age where nothing is."""
    if not result.fresh:
        lost_s = (time.monotonic_ns() - result.source.since_ns) * 1e-9
        return f"SOURCE {result.source.signal.value.upper()} for {lost_s:.0f} s  "
    if result.picture is not PictureState.GOOD:
        return f"{result.picture.value.upper()}  "
    return f"{result.timings.age_ns * 1e-6:.0f} ms old  "
