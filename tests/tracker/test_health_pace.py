"""How the pace of a source is measured."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veintrack.errors import SourceLostError
from veintrack.tracker.frame import Frame, Stamp
from veintrack.tracker.health_pace import Pace, measure_pace, pace_of
from veintrack.tracker.sources.base import SourceInfo

MS = 1_000_000


class FakeSource:
    """Frames with a stamp every 40 ms, each 5 ms old; the driver loses as many as said."""

    def __init__(self, frames: int, *, stamp: Stamp = Stamp.EXPOSURE_START, lost: int = 0) -> None:
        self.frames, self.stamp, self.lost = frames, stamp, lost
        self.driver_drops = 7
        self.info = SourceInfo("0", "v4l2", True, (2, 2), 25.0, None, None, "")

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.frames):
            at_ns = index * 40 * MS
            yield Frame(np.zeros((2, 2), np.uint8), index, at_ns, at_ns + 5 * MS, stamp=self.stamp)
        self.driver_drops += self.lost
        if self.lost:
            yield Frame(np.zeros((2, 2), np.uint8), index + 1, at_ns + 40 * MS, at_ns + 45 * MS)


def test_a_source_is_measured_by_its_stamps() -> None:
    found = measure_pace(FakeSource(26), 60.0)  # type: ignore[arg-type]
    assert found == Pace(26, 25.0, 25.0, 40.0, 0.0, 0, 5.0, 5.0)
    by_arrival = measure_pace(FakeSource(26, stamp=Stamp.ARRIVAL), 60.0)  # type: ignore[arg-type]
    assert by_arrival.age_ms is None
    assert measure_pace(FakeSource(5, lost=2), 60.0).lost == 2  # type: ignore[arg-type]


def test_listening_ends_when_the_time_is_up() -> None:
    assert measure_pace(FakeSource(10**9), 0.02).frames < 10**6  # type: ignore[arg-type]


@pytest.mark.parametrize("frames", [0, 1])
def test_too_few_frames_are_no_pace(frames: int) -> None:
    with pytest.raises(SourceLostError, match="two are needed"):
        measure_pace(FakeSource(frames), 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two or more growing stamps"):
        pace_of(range(frames))


@given(
    st.floats(1.0, 240.0),
    st.integers(3, 200),
    st.integers(-(10**9), 10**12),
    st.integers(0, 50 * MS),
)
def test_an_even_pace_is_found_whatever_its_rate_start_and_age(
    rate_hz: float, count: int, start_ns: int, age_ns: int
) -> None:
    stamps = start_ns + np.round(np.arange(count) * 1e9 / rate_hz).astype(np.int64)
    found = pace_of(stamps, stamps + age_ns)
    assert math.isclose(found.rate_hz, rate_hz, rel_tol=1e-6)
    assert math.isclose(found.interval_ms, 1e3 / rate_hz, rel_tol=1e-6)
    assert found.jitter_ms < 1e-5
    assert found.age_ms == found.oldest_ms == age_ns / 1e6


def test_jitter_is_what_99_in_100_intervals_stay_within() -> None:
    late_ns = np.zeros(1001, np.int64)
    late_ns[500] = 8 * MS  # one of a thousand: it does not count
    late_ns[::50] += 2 * MS
    found = pace_of(np.arange(1001) * 40 * MS + late_ns)
    assert found.jitter_ms == pytest.approx(2.0)
