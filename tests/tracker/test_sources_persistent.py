"""A live source that is lost and found again, with every failure scripted."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

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


def test_what_was_lost_just_before_a_failure_has_its_numbers() -> None:
    source, script = waiting(Frames(2), Fails(), Frames(2))
    first = source._source
    frames = iter(source)
    with source:
        next(frames), next(frames)
        first.driver_drops = 3  # type: ignore[misc]
        assert [next(frames).index, next(frames).index] == [5, 6]
        assert source.driver_drops == 3
    del script


def test_a_loss_before_the_first_frame_takes_no_number() -> None:
    source, _ = waiting(Fails(), Frames(2))
    with source:
        assert [f.index for f in take(source, 2)] == [0, 1]


def test_opening_and_failing_again_without_a_frame_is_one_outage_that_times_out() -> None:
    source, _ = waiting(Frames(1), *[Fails("ENODEV")] * 10**4, timeout_s=0.2)
    frames = iter(source)
    with source:
        next(frames)
        with pytest.raises(SourceLostError, match=r"^ENODEV; not back within 0\.2 s$"):
            next(frames)
        assert source.outages == 1


def test_pictures_of_another_size_end_it_where_spacing_was_given() -> None:
    class Smaller(FaultySource):
        def reopen(self, cancelled: Callable[[], bool]) -> FaultySource:
            found = super().reopen(cancelled)
            found.info = replace(found.info, shape_px=(60, 80))
            return found

    script = Script([Frames(1), Fails("ENODEV"), Frames(1)])
    source = PersistentSource(Smaller(script), 5.0, same_size="the spacing")
    frames = iter(source)
    with source:
        next(frames)
        with pytest.raises(SourceLostError, match="80x60 px; the spacing was for 160x120 px"):
            next(frames)


def test_a_node_that_vanishes_while_it_is_looked_for_is_not_there_yet() -> None:
    source, script = waiting(Frames(1), Fails(), Refuses(1, OSError), Frames(1))  # type: ignore[arg-type]
    with source:
        assert [f.index for f in take(source, 2)] == [0, 1]
    assert script.openings == 2
