"""A sender's time on our clock, whatever the network and the sender do."""

from hypothesis import given
from hypothesis import strategies as st

from veintrack.tracker.sources.senderclock import SenderClock

MS = 1_000_000


@given(
    drift_ppm=st.integers(-100, 100),
    start_ns=st.integers(-(10**15), 10**15),
    delays_ms=st.lists(st.floats(0, 60), min_size=30, max_size=120),
)
def test_a_senders_clock_is_followed(drift_ppm: int, start_ns: int, delays_ms: list[float]) -> None:
    clock, step_ns = SenderClock(), 400 * MS  # few frames stand for many minutes
    last_arrival_ns, worst_ns = 0, 0
    for number, delay_ms in enumerate(delays_ms):
        true_ns = 10**9 + number * step_ns
        late_ns = 0 if number % 10 == 0 else round(delay_ms * MS)
        arrival_ns = max(true_ns + late_ns, last_arrival_ns + 1)
        sender_ns = start_ns + round(number * step_ns * (1 + drift_ppm * 1e-6))
        capture_ns = clock.capture_ns(sender_ns, arrival_ns)
        assert capture_ns <= arrival_ns
        worst_ns = max(worst_ns, abs(capture_ns - true_ns))
        last_arrival_ns = arrival_ns
    # Between two frames that came without delay lie 4 s, in which the clocks part by 0.4 ms and
    # the estimate rises by 0.8 ms.
    assert worst_ns < 1.3 * MS


@given(st.lists(st.tuples(st.none() | st.integers(-(10**12), 10**12), st.integers(1, 10**9))))
def test_times_grow_and_are_never_in_the_future_whatever_is_stamped(
    frames: list[tuple[int | None, int]],
) -> None:
    clock, arrival_ns, last_ns = SenderClock(), 0, -1
    for sender_ns, step_ns in frames:
        arrival_ns += step_ns
        capture_ns = clock.capture_ns(sender_ns, arrival_ns)
        assert last_ns < capture_ns <= max(arrival_ns, last_ns + 1)
        last_ns = capture_ns


def test_a_senders_clock_that_is_set_is_begun_anew() -> None:
    clock = SenderClock()
    first = [clock.capture_ns(40 * MS * i, 10**9 + 40 * MS * i) for i in range(3)]
    later = [clock.capture_ns(9**15 + 40 * MS * i, 2 * 10**9 + 40 * MS * i) for i in range(3)]
    back = [clock.capture_ns(40 * MS * i, 3 * 10**9 + 40 * MS * i) for i in range(3)]
    assert [ns / MS for ns in first + later + back] == [
        1000, 1040, 1080, 2000, 2040, 2080, 3000, 3040, 3080,
    ]  # fmt: skip
