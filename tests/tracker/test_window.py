"""The window, on SDL's screen that exists in memory only."""

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from veintrack.errors import BackendMissingError, OutputError
from veintrack.tracker.controls import Controls, ControlState
from veintrack.tracker.frame import Frame, FrameResult, Timings
from veintrack.tracker.sinks.window import has_screen, open_window

pygame = pytest.importorskip(
    "pygame", reason='the window\'s library is not installed: pip install "veintrack[window]"'
)


@pytest.fixture(autouse=True)
def _screen_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def grey(level: int, index: int) -> FrameResult:
    frame = Frame(np.full((500, 600), level, np.uint8), index, index)
    return FrameResult(frame, (), (), Timings(0, 0, 0, 0, 0, 0, 0, 0))


def wait_for(condition: Callable[[], bool], limit_s: float = 5.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def controls(stop: Callable[[], None] = lambda: None) -> Controls:
    return Controls(stop, ControlState(live=False, threshold=0.5))


def test_the_window_shows_the_newest_result() -> None:
    window = open_window(controls())
    for i in range(20):
        window.put(grey(5 * i, i))

    def shown() -> bool:
        surface = pygame.display.get_surface()
        return bool(
            surface.get_size() == (600, 500) and surface.get_at((300, 250))[:3] == (95,) * 3
        )

    wait_for(shown)
    window.close()
    assert not pygame.display.get_init()


@pytest.mark.parametrize("key", ["K_q", "K_ESCAPE", None])
def test_closing_the_window_ends_the_run(key: str | None) -> None:
    stopped = threading.Event()
    window = open_window(controls(stopped.set))
    event = (
        pygame.event.Event(pygame.KEYDOWN, key=getattr(pygame, key))
        if key
        else pygame.event.Event(pygame.QUIT)
    )
    pygame.event.post(event)
    assert stopped.wait(5)
    window.close()


def test_without_a_screen_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OutputError, match="no screen for a window: use --view none"):
        open_window(controls())
    assert not has_screen({})


def test_a_screen_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    with pytest.raises(OutputError, match=r"the window does not open: .*; use --view none"):
        open_window(controls())


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(BackendMissingError, match=r"veintrack\[window\]"):
        open_window(controls())


def test_closing_a_window_that_hangs_takes_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    screen_is_back = threading.Event()
    looked = threading.Event()

    def hang() -> list[object]:
        looked.set()
        screen_is_back.wait(20)
        return []

    window = open_window(controls())
    monkeypatch.setattr(pygame.event, "get", hang)
    assert looked.wait(5)
    begun_s = time.monotonic()
    window.close()
    assert time.monotonic() - begun_s < 2
    screen_is_back.set()
    window.close()
