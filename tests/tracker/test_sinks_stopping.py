"""A sink that hangs or fails: the run can be stopped, and says what it lacks."""

import logging
import math
import threading
import time

import pytest

from tests.tracker.test_sinks import Slow, result_of
from veintrack.tracker.sinks.base import SinkThread


class Patience:
    """Until when a run may take; nobody hurries at first."""

    def __init__(self) -> None:
        self.by_s = math.inf

    def __call__(self) -> float:
        return self.by_s

    def end_in(self, seconds: float) -> None:
        self.by_s = time.monotonic() + seconds


class Stuck(Slow):
    """Takes nothing until the test is over."""

    name = "stuck"

    def write(self, result: object) -> None:
        del result
        self.gate.wait(20)


def test_a_patient_put_gives_up_when_the_run_is_stopped() -> None:
    stuck, patience = Stuck(), Patience()
    thread = SinkThread(stuck, capacity=2, patient=True, due_s=patience)
    threading.Timer(0.2, patience.end_in, [0.5]).start()
    begun_s = time.monotonic()
    for i in range(6):
        thread.put(result_of(i, []))
    assert time.monotonic() - begun_s < 1.5
    assert thread.unwritten >= 2
    thread.close()
    stuck.gate.set()


def test_all_sinks_share_one_deadline_and_those_that_can_are_finished() -> None:
    patience, stuck, good = Patience(), [Stuck(), Stuck()], Slow()
    good.gate.set()
    threads = [SinkThread(s, patient=True, due_s=patience) for s in (*stuck, good)]
    for i in range(5):
        for thread in threads:
            thread.put(result_of(i, []))
    patience.end_in(0.6)
    for thread in threads:
        thread.end()
    for thread in threads:
        thread.close()
    assert time.monotonic() < patience.by_s + 0.4
    assert good.closed
    assert good.written == list(range(5))
    assert [str(t.error) for t in threads[:2]] == ["it could not be written to its end in time"] * 2
    assert threads[2].error is None
    for one in stuck:
        one.gate.set()


def test_what_waits_when_the_time_is_over_is_dropped_counted_and_the_file_closed() -> None:
    slow, patience = Slow(), Patience()
    thread = SinkThread(slow, capacity=64, patient=True, due_s=patience)
    for i in range(20):
        thread.put(result_of(i, []))
    patience.end_in(0.2)  # less than is kept for closing
    slow.gate.set()
    thread.close()
    assert slow.closed
    assert thread.unwritten >= 19
    assert len(slow.written) + thread.unwritten == 20


def test_a_run_that_ends_by_itself_waits_for_its_files_until_it_is_stopped() -> None:
    stuck, patience = Stuck(), Patience()
    thread = SinkThread(stuck, patient=True, due_s=patience)
    thread.put(result_of(0, []))
    closed = threading.Event()

    def close() -> None:
        thread.close()
        closed.set()

    threading.Thread(target=close, daemon=True).start()
    assert not closed.wait(0.3)
    patience.end_in(0.1)
    assert closed.wait(2)
    stuck.gate.set()


def test_a_failure_is_said_at_once_and_once(caplog: pytest.LogCaptureFixture) -> None:
    broken = Slow(fails_at=0)
    broken.gate.set()
    thread = SinkThread(broken, patient=True)
    with caplog.at_level(logging.WARNING):
        thread.put(result_of(0, []))
        deadline_s = time.monotonic() + 5
        while not caplog.messages and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert len(caplog.messages) == 1
        assert "slow cannot be written any further: [Errno 28] No space" in caplog.messages[0]
        thread.put(result_of(0, []))
        thread.close()
    assert len(caplog.messages) == 1


def test_the_first_result_that_is_left_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    slow = Slow()
    thread = SinkThread(slow, capacity=1, patient=False)
    with caplog.at_level(logging.WARNING):
        for i in range(10):
            thread.put(result_of(i, []))
    assert caplog.messages == ["slow: writing is slower than the source, frames are left out"]
    slow.gate.set()
    thread.close()
