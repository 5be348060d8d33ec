"""A live source that is lost and found again, with every failure scripted."""

import threading
import time
from collections.abc import Iterator

import pytest

from tests.tracker.faulty_source import (
    Fails,
    FaultySource,
    Frames,
    Hangs,
    Refuses,
    Script,
    Stalls,
    Step,
)
from veintrack.errors import SourceLostError, SourceUnreadableError
from veintrack.tracker.frame import Frame, Signal
from veintrack.tracker.sources import persistent
from veintrack.tracker.sources.persistent import PersistentSource


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistent, "_FIRST_WAIT_S", 0.002)
    monkeypatch.setattr(persistent, "_LONGEST_WAIT_S", 0.01)


def waiting(*steps: Step, timeout_s: float = 5.0) -> tuple[PersistentSource, Script]:
    script = Script(list(steps))
    return PersistentSource(FaultySource(script), timeout_s), script


def take(source: PersistentSource, count: int) -> list[Frame]:
    frames: Iterator[Frame] = iter(source)
    return [next(frames) for _ in range(count)]


@pytest.mark.parametrize(
    "fault",
    [
        Fails("ENODEV: no such device"),
        Fails("EIO: input/output error"),
        Fails("/dev/video0 changed its picture to 1280x720"),
        Stalls("no frame for 0.5 s"),
    ],
)
def test_after_any_failure_the_same_run_goes_on(fault: Fails | Stalls) -> None:
    source, script = waiting(Frames(3), fault, Frames(4))
    with source:
        frames = take(source, 7)
    assert [f.index for f in frames] == list(range(7))
    assert [(f.driver_sequence, f.capture_ns) for f in frames] == script.made
    assert script.openings == 2
    assert script.closed >= 1  # before it is looked for: else the card comes back renamed


@pytest.mark.parametrize(
    "refusal",
    [
        Refuses(4),
        Refuses(4, SourceUnreadableError, "/dev/video0: permission denied"),
        Refuses(4, SourceUnreadableError, "/dev/video0 is in use by another program"),
    ],
)
def test_it_is_tried_again_until_it_opens(refusal: Refuses) -> None:
    source, script = waiting(Frames(1), Fails(), refusal, Frames(1))
    with source:
        assert [f.index for f in take(source, 2)] == [0, 1]
    assert script.openings == 2


def test_several_failures_number_on_and_add_up_what_the_driver_lost() -> None:
    source, _ = waiting(Frames(2, withheld=3), Fails(), Frames(2, withheld=1), Stalls(), Frames(2))
    with source:
        frames = take(source, 6)
        assert source.driver_drops == 4
    assert [f.index for f in frames] == [0, 4, 5, 7, 8, 9]
    assert [f.driver_sequence for f in frames] == [0, 4, 0, 2, 0, 1]
    assert source.outages == 2


@pytest.mark.parametrize(
    ("fault", "signal"), [(Fails("gone"), Signal.LOST), (Stalls("silent"), Signal.STALLED)]
)
def test_the_state_tells_what_is_wrong_and_that_it_is_over(
    fault: Fails | Stalls, signal: Signal
) -> None:
    source, script = waiting(Frames(1), fault, Hangs())
    frames = iter(source)
    with source:
        before_ns = time.monotonic_ns()
        next(frames)
        assert source.state.signal is Signal.STREAMING
        reader = threading.Thread(target=lambda: next(frames, None))
        reader.start()
        while source.state.signal is Signal.STREAMING:
            time.sleep(0.001)
        assert source.state.signal is signal
        assert source.state.reason == fault.message
        assert before_ns <= source.state.since_ns <= time.monotonic_ns()
        script.steps[:] = [Frames(1), Hangs()]
    reader.join(5)
    assert not reader.is_alive()


def test_when_frames_come_again_it_streams() -> None:
    source, _ = waiting(Frames(1), Fails(), Frames(1))
    with source:
        take(source, 2)
        assert source.state.signal is Signal.STREAMING


def test_what_does_not_come_back_in_time_is_lost_for_good() -> None:
    source, _ = waiting(Frames(1), Fails("ENODEV"), Refuses(10**6), timeout_s=0.05)
    frames = iter(source)
    with source:
        next(frames)
        with pytest.raises(SourceLostError, match=r"^ENODEV; not back within 0\.05 s$"):
            next(frames)


@pytest.mark.parametrize(
    "script",
    [
        [Frames(1), Hangs()],
        [Frames(1), Fails(), Refuses(10**6)],
        [Frames(1), Fails(), Hangs()],
        [Frames(1), Stalls(), Refuses(10**6, SourceUnreadableError, "busy")],
    ],
    ids=["awaiting a frame", "unplugged", "opening hangs", "busy"],
)
def test_closing_ends_it_at_once_in_every_state(script: list[Step]) -> None:
    source, _ = waiting(*script)
    ended = threading.Event()

    def read() -> None:
        list(source)
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.05)
    source.close()
    assert ended.wait(1.0)
    reader.join()


def test_a_wait_of_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="lost_timeout_s must be greater than 0, got 0"):
        waiting(timeout_s=0)
