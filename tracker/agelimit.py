"""Which frames are too old to be worth segmenting."""

import logging
from collections import deque

__all__ = ["AgeLimit"]

log = logging.getLogger(__name__)
_RECENT = 9  # frames by which the usual time is told: four that hang do not change it
_ENOUGH = 3  # before, how long a frame takes is not known: the first ones are slow
_LOOK_NS = 250_000_000  # after so long without, a frame is segmented whatever its age
_TELL_NS = 2_000_000_000  # after so long with no frame in time, it is said


class AgeLimit:
    """Tells frames apart whose tracks would be older than a limit when they are ready.

    That is a frame's age when its turn comes, and the median time from there to the tracks of the
    last frames. Something must be looked at for tracks to begin and go on, so a frame is in any
    case let through a quarter of a second after the last one that was.

    Parameters
    ----------
    limit_ms : float or None
        Largest age; None lets every frame through.

    Attributes
    ----------
    refused : int
        Frames that were too old.
    """

    def __init__(self, limit_ms: float | None) -> None:
        self.refused = 0
        self._limit_ns = None if limit_ms is None else limit_ms * 1e6
        self._took_ns: deque[int] = deque(maxlen=_RECENT)
        self._looked_ns: int | None = None
        self._in_time_ns = 0
        self._told = False

    @property
    def usual_ns(self) -> int:
        """What a frame takes from its turn to its tracks; 0 until that is known."""
        if len(self._took_ns) < _ENOUGH:
            return 0
        return sorted(self._took_ns)[len(self._took_ns) // 2]

    def refuses(self, age_ns: int, now_ns: int) -> bool:
        """Say whether a frame is too old, and count it.

        Parameters
        ----------
        age_ns : int
            Its age now that its turn has come.
        now_ns : int
            ``time.monotonic_ns``.
        """
        if self._limit_ns is None:
            return False
        if self._looked_ns is None or age_ns + self.usual_ns <= self._limit_ns:
            self._looked_ns = self._in_time_ns = now_ns
            return False
        if not self._told and now_ns - self._in_time_ns >= _TELL_NS:
            self._tell(age_ns)
        if now_ns - self._looked_ns >= _LOOK_NS:
            self._looked_ns = now_ns
            return False
        self.refused += 1
        return True

    def took(self, duration_ns: int) -> None:
        """Take note of how long a frame took from its turn to its tracks."""
        self._took_ns.append(duration_ns)

    def _tell(self, age_ns: int) -> None:
        self._told = True
        log.warning(
            "no frame is in time for an age of %g ms: the last was %.0f ms old when its turn came, "
            "and segmenting takes %.0f ms; one is segmented every %g s, and what lies between is "
            "predicted",
            (self._limit_ns or 0) * 1e-6,
            age_ns * 1e-6,
            self.usual_ns * 1e-6,
            _LOOK_NS * 1e-9,
        )
