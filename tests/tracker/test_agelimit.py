"""Which frames are too old, told by clocks that the tests set."""

import logging
from itertools import pairwise

import pytest

from veintrack.tracker.agelimit import AgeLimit

MS = 1_000_000


def limit_of(limit_ms: float | None, *took_ms: int) -> AgeLimit:
    """A limit after frames that took so long."""
    limit = AgeLimit(limit_ms)
    for ms in took_ms:
        limit.took(ms * MS)
    return limit


def frames(limit: AgeLimit, age_ms: float, *, count: int, every_ms: int = 40) -> list[bool]:
    """Whether each of `count` frames of the same age is let through."""
    return [not limit.refuses(round(age_ms * MS), i * every_ms * MS) for i in range(count)]


def test_without_a_limit_every_frame_is_let_through() -> None:
    assert all(frames(limit_of(None, 900, 900, 900), 10_000, count=50))


def test_a_frame_is_in_time_if_its_tracks_will_be() -> None:
    assert all(frames(limit_of(50, 20, 20, 20), 30, count=50))
    late = limit_of(50, 20, 20, 20)
    assert sum(frames(late, 31, count=50)) == 8  # the first, then every 0.28 s
    assert late.refused == 42


def test_what_a_frame_usually_takes_is_not_told_by_a_few_that_hang() -> None:
    hung = limit_of(50, 20, 21, 20, 900, 900, 22, 900, 20, 900)
    assert hung.usual_ns == 22 * MS
    assert all(frames(hung, 25, count=50))


def test_it_follows_a_network_that_has_become_slower() -> None:
    limit = limit_of(50, *[20] * 100, *[60] * 5)
    assert limit.usual_ns == 60 * MS


def test_nothing_is_expected_of_the_first_frames() -> None:
    assert limit_of(50, 900, 900).usual_ns == 0


@pytest.mark.parametrize("rate_hz", [5, 25, 120])
def test_frames_are_looked_at_now_and_then_however_old_they_are(rate_hz: int) -> None:
    every_ms = 1000 // rate_hz
    passed = frames(limit_of(1, 20, 20, 20), 5_000, count=10 * rate_hz, every_ms=every_ms)
    looks_ms = [i * every_ms for i, let in enumerate(passed) if let]
    gaps = [later - earlier for earlier, later in pairwise(looks_ms)]
    assert max(gaps) <= 250 + every_ms
    assert sum(passed) <= 41


def test_that_no_frame_is_in_time_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    limit = limit_of(10, 34, 34, 34)
    with caplog.at_level(logging.WARNING):
        frames(limit, 3, count=40)
        assert not caplog.messages  # 1.6 s: it may pass
        frames(limit, 3, count=500)
    assert caplog.messages == [
        "no frame is in time for an age of 10 ms: the last was 3 ms old when its turn came, and "
        "segmenting takes 34 ms; one is segmented every 0.25 s, and what lies between is predicted"
    ]


def test_a_short_hold_up_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    limit = limit_of(50, 20, 20, 20)
    with caplog.at_level(logging.WARNING):
        for i in range(200):
            limit.refuses(500 * MS if i % 40 > 10 else 5 * MS, i * 40 * MS)
    assert limit.refused > 100
    assert not caplog.messages
