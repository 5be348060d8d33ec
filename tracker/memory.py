"""Tracks that were lost a short while ago: what is found in the place of one goes on with it."""

from collections.abc import Iterable

from veintrack.tracker.frame import Detection, ProbeMotion
from veintrack.tracker.life import Life

__all__ = ["Memory"]


class Memory:
    """Keeps what was believed and then not seen for too long, with the time of its end."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, Life]] = []

    def keep(self, lost: Iterable[Life], time_ns: int) -> None:
        """Take in tracks that end now."""
        self._kept += [(time_ns, life) for life in lost]

    def carry(self, motion: ProbeMotion) -> None:
        """Let places move with the picture."""
        for _, life in self._kept:
            life.carry_sighting(motion)

    def forget(self, before_ns: int | None = None) -> None:
        """Forget what ended before a time, or all."""
        self._kept = [
            (at_ns, life)
            for at_ns, life in self._kept
            if before_ns is not None and at_ns >= before_ns
        ]

    def recall(self, found: Detection) -> Life | None:
        """Give back the track in whose place something lies, of about its size; the nearest."""
        near = [(life.off(found), i) for i, (_, life) in enumerate(self._kept) if life.fits(found)]
        return self._kept.pop(min(near)[1])[1] if near else None
