"""How steadily a source delivers: the figures of ``veintrack doctor --probe``."""

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from veintrack.errors import SourceLostError
from veintrack.tracker.frame import Stamp
from veintrack.tracker.sources.base import Source

__all__ = ["Pace", "measure_pace", "pace_of"]


@dataclass(frozen=True, slots=True)
class Pace:
    """What was measured of a run of frames.

    Attributes
    ----------
    frames : int
        How many came.
    rate_hz : float
        Frames a second, from the first stamp to the last.
    said_hz : float or None
        What the driver says.
    interval_ms : float
        Median of the times between two stamps.
    jitter_ms : float
        What 99 in 100 of these times differ from their median by, at most.
    lost : int
        Frames that the driver lost or damaged.
    age_ms, oldest_ms : float or None
        From the stamp to the pixels being here, median and most. Below 0 where a driver stamps the
        end of a frame before it is there; None where it does not stamp by our clock.
    """

    frames: int
    rate_hz: float
    said_hz: float | None
    interval_ms: float
    jitter_ms: float
    lost: int
    age_ms: float | None
    oldest_ms: float | None


def measure_pace(source: Source, duration_s: float) -> Pace:
    """Listen to a source, from its first frame on.

    Raises
    ------
    SourceLostError
        If it stops delivering before, or delivers fewer than two frames.
    """
    times_ns: list[tuple[int, int]] = []
    on_our_clock = False
    end_ns, lost = 0, source.driver_drops
    for frame in source:
        end_ns = end_ns or time.monotonic_ns() + round(duration_s * 1e9)
        times_ns.append((frame.capture_ns, frame.arrival_ns))
        on_our_clock = frame.stamp in (Stamp.EXPOSURE_START, Stamp.FRAME_END)
        if time.monotonic_ns() >= end_ns:
            break
    if len(times_ns) < 2:
        raise SourceLostError(f"{source.info.name}: {len(times_ns)} frames came, two are needed")
    capture_ns, arrival_ns = zip(*times_ns, strict=True)
    lost = source.driver_drops - lost
    pace = pace_of(capture_ns, arrival_ns if on_our_clock else None)
    return replace(pace, said_hz=source.info.rate_hz, lost=lost)


def pace_of(capture_ns: ArrayLike, arrival_ns: ArrayLike | None = None) -> Pace:
    """Compute the figures of frames in their order.

    Parameters
    ----------
    capture_ns : array_like of shape (N,)
        Their stamps, growing, in ns; at least two.
    arrival_ns : array_like of shape (N,), optional
        When they were here, on the clock of the stamps.

    Returns
    -------
    Pace
        As far as the times tell.

    Raises
    ------
    ValueError
        If there are fewer than two, or they do not grow: nothing lies between them.
    """
    stamps_ns = np.asarray(capture_ns, np.int64)
    if stamps_ns.size < 2 or stamps_ns[-1] <= stamps_ns[0]:
        raise ValueError(f"pace needs two or more growing stamps, got {stamps_ns.size}")
    intervals_ms = np.diff(stamps_ns) / 1e6
    median_ms = np.median(intervals_ms)
    ages_ms = None if arrival_ns is None else (np.asarray(arrival_ns, np.int64) - stamps_ns) / 1e6
    return Pace(
        frames=stamps_ns.size,
        rate_hz=float(1e9 * (stamps_ns.size - 1) / (stamps_ns[-1] - stamps_ns[0])),
        said_hz=None,
        interval_ms=float(median_ms),
        jitter_ms=float(np.percentile(np.abs(intervals_ms - median_ms), 99)),
        lost=0,
        age_ms=None if ages_ms is None else float(np.median(ages_ms)),
        oldest_ms=None if ages_ms is None else float(ages_ms.max()),
    )
