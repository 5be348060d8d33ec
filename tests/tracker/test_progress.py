"""The line on the terminal says at once what is wrong."""

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console
from rich.status import Status

from tests.tracker.test_sinks import result_of
from veintrack.tracker.cli.progress import Progress
from veintrack.tracker.frame import FrameResult, PictureState, Signal, SourceState


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what is shown."""
    shown: list[str] = []
    monkeypatch.setattr(Status, "update", lambda _, text: shown.append(text))
    return shown


def progress() -> Progress:
    return Progress(Console(file=io.StringIO(), force_terminal=True), None)


def lost(index: int, for_s: float) -> FrameResult:
    since_ns = time.monotonic_ns() - round(for_s * 1e9)
    state = SourceState(Signal.LOST, since_ns, "unplugged")
    return replace(result_of(index, []), source=state, between_ns=time.monotonic_ns())


def test_a_lost_source_is_said_at_once_and_for_how_long(lines: list[str]) -> None:
    with progress() as line:
        line.show(result_of(0, []), 0)
        line.show(result_of(1, []), 0)
        before = len(lines)
        line.show(lost(1, 0), 0)
        line.show(lost(1, 7.1), 0)
    assert ["SOURCE LOST for 0 s" in text for text in lines[before:]] == [True, False]
    assert "SOURCE LOST for 7 s" in lines[-1]


def test_a_change_of_the_picture_and_the_source_that_is_back_are_said_at_once(
    lines: list[str],
) -> None:
    frozen = replace(result_of(1, []), picture=PictureState.FROZEN)
    with progress() as line:
        line.show(result_of(0, []), 0)
        line.show(frozen, 0)
        assert "FROZEN" in lines[-1]
        line.show(lost(1, 1), 0)
        line.show(result_of(2, []), 0)
        assert "ms old" in lines[-1]
        count = len(lines)
        line.show(result_of(3, []), 0)  # nothing new: not yet
    assert len(lines) == count


def test_what_was_lost_and_what_was_too_old_is_counted(lines: list[str]) -> None:
    with progress() as line:
        line.show(result_of(0, []), 0)
        line.show(lost(0, 0), 3, 12)
    assert "dropped" not in lines[0]
    assert lines[-1].endswith(", 3 dropped, 12 too old")
