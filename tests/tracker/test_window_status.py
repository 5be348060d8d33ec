"""What stands under the window's picture."""

import numpy as np
import pytest

from veintrack.tracker.controls import ControlState
from veintrack.tracker.frame import Frame, FrameResult, Timings
from veintrack.tracker.sinks.window_status import Gauges, figures, flags, shortened

FILE = ControlState(live=False, threshold=0.5)


def result(index: int, between_ns: int | None = None) -> FrameResult:
    frame = Frame(np.zeros((4, 4), np.uint8), index, index)
    return FrameResult(frame, (), (), Timings(0, 0, 0, 0, 0, 0, 0, 0), between_ns=between_ns)


def test_the_rate_is_that_of_the_last_two_seconds() -> None:
    gauges = Gauges()
    gauges.look(0.0)
    assert gauges.fps is None
    for tick in range(1, 49):  # 3 s at 16 Hz
        gauges.count(result(tick))
        gauges.look(tick / 16)
    assert gauges.fps == pytest.approx(16)
    for tick in range(49, 65):  # a second without frames
        gauges.look(tick / 16)
    assert gauges.fps == pytest.approx(8)


def test_frames_that_are_missing_between_those_that_came_are_counted() -> None:
    gauges = Gauges()
    for index in (100, 101, 104, 105, 107):  # what came before the first is nobody's loss
        gauges.count(result(index))
    assert gauges.dropped == 3


def test_predictions_without_a_frame_are_neither_frames_nor_drops() -> None:
    gauges = Gauges()
    gauges.look(0.0)
    gauges.count(result(5))
    for _ in range(9):
        gauges.count(result(5, between_ns=10))
    gauges.count(result(6))
    gauges.look(1.0)
    assert (gauges.fps, gauges.dropped) == (2.0, 0)


def test_the_age_is_the_middle_one_of_what_was_shown_lately() -> None:
    gauges = Gauges()
    for age_ms in (30.0, 35.0, 400.0):
        gauges.saw(age_ms)
    gauges.look(0.0)
    assert gauges.age_ms == 35.0
    gauges.look(1.0)
    assert gauges.age_ms == 35.0


def test_the_figures_are_written_in_one_line() -> None:
    gauges = Gauges()
    assert figures(gauges, FILE) == "0 dropped  threshold 0.50"
    gauges.fps, gauges.age_ms, gauges.dropped = 29.97, 34.6, 2
    assert figures(gauges, FILE) == "30.0 fps  35 ms old  2 dropped  threshold 0.50"


def test_a_run_that_stands_still_has_no_rate() -> None:
    gauges = Gauges()
    gauges.fps = 0.0
    paused = ControlState(live=False, threshold=0.25, paused=True)
    assert figures(gauges, paused) == "0 dropped  threshold 0.25"


def test_what_is_out_of_the_ordinary_is_named() -> None:
    assert flags(FILE, frozen=False) == ""
    unusual = ControlState(live=False, threshold=0.5, paused=True, recording=True)
    assert flags(unusual, frozen=True) == "REC  PAUSED  FROZEN"


@pytest.mark.parametrize("letters", [4, 10, 31, 32, 100])
def test_a_text_that_is_too_long_loses_its_middle(letters: int) -> None:
    text = "wrote runs/one/snapshots/f_7.png"
    short = shortened(text, letters)
    assert len(short) <= max(letters, 3)
    assert short.endswith(text[-1])
    assert (short == text) == (letters >= len(text))
