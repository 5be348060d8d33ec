"""The window, on SDL's screen that exists in memory only."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from veintrack.errors import BackendMissingError, OutputError
from veintrack.tracker.controls import Controls, ControlState
from veintrack.tracker.frame import U8, Frame, FrameResult, Timings
from veintrack.tracker.sinks import window as window_module
from veintrack.tracker.sinks.window import STATUS_PX, WindowView, has_screen, open_window
from veintrack.tracker.sinks.window_keys import KEYS, bindings

pygame = pytest.importorskip(
    "pygame", reason='the window\'s library is not installed: pip install "veintrack[window]"'
)
HEIGHT, WIDTH = 500, 600


@pytest.fixture(autouse=True)
def _screen_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def grey(level: int, index: int, spacing: float | None = 0.1) -> FrameResult:
    spacing_mm = None if spacing is None else (spacing, spacing)
    frame = Frame(np.full((HEIGHT, WIDTH), level, np.uint8), index, index, spacing_mm=spacing_mm)
    return FrameResult(frame, (), (), Timings(0, 0, 0, 0, 0, 0, 0, 0))


def wait_for(condition: Callable[[], bool], limit_s: float = 5.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def controls(stop: Callable[[], None] = lambda: None, *, live: bool = False) -> Controls:
    return Controls(stop, ControlState(live=live, threshold=0.5))


class Run:
    """A run that notes what it is asked for."""

    stopping = False

    def __init__(self) -> None:
        self.threshold = 0.5
        self.recordings: list[bool] = []

    def hold(self, on: bool) -> None:
        """Nothing is handed out in real time."""

    def look_from(self, threshold: float) -> None:
        self.threshold = threshold

    def record(self, on: bool) -> str:
        self.recordings.append(on)
        return "recording" if on else "recorded 1 frame"


class Scene:
    """A window, its controls, and the keyboard before it."""

    def __init__(self, *, live: bool = False) -> None:
        self.stopped = threading.Event()
        self.controls = controls(self.stopped.set, live=live)
        self.run = Run()
        self.window = open_window(self.controls)

    def press(self, key: str, *, shift: bool = False) -> None:
        mod = pygame.KMOD_LSHIFT if shift else pygame.KMOD_NONE
        number = getattr(pygame, key)
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=number, mod=mod))

    def show(self, level: int, index: int = 0) -> None:
        """Show a grey picture and wait until it is seen."""
        self.window.put(grey(level, index))
        wait_for(lambda: self.level() == level)

    def screen(self) -> U8:
        """What is seen: height, width, RGB."""
        pixels = pygame.surfarray.array3d(pygame.display.get_surface())
        return np.ascontiguousarray(pixels.swapaxes(0, 1))

    def spread(self, rows: slice) -> int:
        """How far the brightest and the darkest pixel of some rows are apart."""
        return int(np.ptp(self.screen()[rows]))

    def flagged(self) -> bool:
        """Whether something out of the ordinary stands under the picture, in yellow."""
        strip = self.screen()[HEIGHT:].astype(int)
        return bool((strip[..., 0] - strip[..., 2] > 150).any())

    def level(self) -> int:
        return int(pygame.display.get_surface().get_at((WIDTH // 2, 100))[0])

    def after(self, condition: Callable[[ControlState], bool]) -> None:
        """Let the run obey until something holds of its state."""

        def obeyed() -> bool:
            self.controls.obey(self.run)
            return condition(self.controls.state)

        wait_for(obeyed)


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.window.close()


def test_the_window_shows_the_newest_result() -> None:
    window = open_window(controls())
    for i in range(20):
        window.put(grey(5 * i, i))

    def shown() -> bool:
        surface = pygame.display.get_surface()
        size = surface.get_size() == (WIDTH, HEIGHT + STATUS_PX)
        return bool(size and surface.get_at((300, 250))[:3] == (95,) * 3)

    wait_for(shown)
    window.close()
    assert not pygame.display.get_init()


@pytest.mark.parametrize("key", ["K_q", "K_ESCAPE", None])
def test_closing_the_window_ends_the_run(scene: Scene, key: str | None) -> None:
    if key:
        scene.press(key)
    else:
        pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert scene.stopped.wait(5)


def test_the_space_bar_lets_a_file_stand_still_and_go_on(scene: Scene) -> None:
    scene.press("K_SPACE")
    wait_for(lambda: scene.controls.state.paused)
    scene.press("K_SPACE")
    wait_for(lambda: not scene.controls.state.paused)


def test_a_live_source_says_that_it_cannot_stand_still() -> None:
    scene = Scene(live=True)
    scene.press("K_SPACE")
    wait_for(lambda: "a live source does not wait" in scene.controls.state.said)
    scene.window.close()
    assert not scene.controls.state.paused


@pytest.mark.parametrize("key", ["K_PERIOD", "K_RIGHT"])
def test_a_step_takes_one_more_frame_and_stands_still(scene: Scene, key: str) -> None:
    taken = threading.Semaphore(0)

    def take() -> None:
        while not scene.run.stopping:
            scene.controls.obey(scene.run)
            taken.release()

    scene.controls.pause(True)
    tracking = threading.Thread(target=take)
    tracking.start()
    assert not taken.acquire(timeout=0.1)
    for _ in range(2):
        scene.press(key)
        assert taken.acquire(timeout=5)
        assert not taken.acquire(timeout=0.1)
    scene.run.stopping = True
    tracking.join(5)


def test_a_step_while_the_run_goes_on_stops_it(scene: Scene) -> None:
    scene.press("K_PERIOD")
    wait_for(lambda: scene.controls.state.paused)


def test_a_frozen_picture_stays_until_it_is_let_go_and_the_run_goes_on(scene: Scene) -> None:
    scene.show(50, 0)
    scene.press("K_f")
    wait_for(scene.flagged)
    for i in range(1, 5):
        scene.window.put(grey(100, i))
        time.sleep(0.03)
    assert scene.level() == 50
    assert not scene.controls.state.paused
    scene.press("K_f")
    wait_for(lambda: scene.level() == 100)


def test_the_key_r_begins_and_ends_a_recording(scene: Scene) -> None:
    scene.press("K_r")
    scene.after(lambda state: state.recording)
    scene.press("K_r")
    scene.after(lambda state: not state.recording)
    assert scene.run.recordings == [True, False]


def test_the_key_s_keeps_the_picture_that_is_seen(scene: Scene, tmp_path: Path) -> None:
    scene.controls.folder = tmp_path
    scene.show(50, 7)
    scene.press("K_f")
    wait_for(scene.flagged)
    scene.window.put(grey(100, 8))
    scene.press("K_s")
    wait_for(lambda: scene.controls.state.said.startswith("wrote"))
    (path,) = (tmp_path / "snapshots").iterdir()
    assert path.name == "frame_000007.png"
    picture = cv2.imread(str(path))
    assert picture is not None
    assert np.median(picture) == 50


def test_without_a_picture_there_is_nothing_to_keep(scene: Scene, tmp_path: Path) -> None:
    scene.controls.folder = tmp_path
    scene.press("K_s")
    scene.press("K_SPACE")
    wait_for(lambda: scene.controls.state.paused)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "shift", "begun", "ended"),
    [
        ("K_t", False, 0.5, 0.45), ("K_MINUS", False, 0.52, 0.5), ("K_KP_MINUS", False, 0.1, 0.05),
        ("K_t", True, 0.5, 0.55), ("K_PLUS", True, 0.52, 0.55), ("K_EQUALS", True, 0.5, 0.55),
        ("K_EQUALS", False, 0.5, 0.55), ("K_KP_PLUS", False, 0.9, 0.95),
    ],
)  # fmt: skip
def test_keys_move_the_threshold_to_the_next_twentieth(
    scene: Scene, key: str, shift: bool, begun: float, ended: float
) -> None:
    scene.controls.look_from(begun)
    scene.controls.obey(scene.run)
    scene.press(key, shift=shift)
    scene.after(lambda state: state.threshold == pytest.approx(ended, abs=1e-9))
    assert scene.run.threshold == pytest.approx(ended, abs=1e-9)


@pytest.mark.parametrize(("key", "shift", "at"), [("K_t", False, 0.05), ("K_t", True, 0.95)])
def test_the_threshold_stays_between_its_ends(
    scene: Scene, key: str, shift: bool, at: float
) -> None:
    scene.controls.look_from(at)
    scene.controls.obey(scene.run)
    scene.press(key, shift=shift)
    scene.press("K_SPACE")
    wait_for(lambda: scene.controls.state.paused)
    scene.controls.pause(False)
    scene.controls.obey(scene.run)
    assert scene.run.threshold == at


def test_the_legend_and_the_scale_are_shown_until_they_are_not_wanted(scene: Scene) -> None:
    scene.show(50)
    foot = slice(HEIGHT - 40, HEIGHT - 26)  # above the notice
    assert scene.spread(foot) > 100
    scene.press("K_l")
    wait_for(lambda: scene.spread(foot) == 0)
    scene.press("K_l")
    wait_for(lambda: scene.spread(foot) > 100)


@pytest.mark.parametrize("key", ["K_h", "K_F1"])
def test_the_keys_are_listed_also_while_the_run_stands_still(scene: Scene, key: str) -> None:
    scene.show(120)
    scene.controls.pause(True)
    middle = slice(HEIGHT // 2 - 100, HEIGHT // 2 + 100)
    assert scene.spread(middle) == 0
    scene.press(key)
    wait_for(lambda: scene.spread(middle) > 100)
    scene.press(key)
    wait_for(lambda: scene.spread(middle) == 0)


def test_every_key_is_one_that_the_library_knows_and_does_one_thing() -> None:
    assert len(bindings(pygame)) == sum(len(key.names) for key in KEYS)


def test_a_key_that_is_for_nothing_does_nothing(scene: Scene) -> None:
    before = scene.controls.state
    scene.press("K_x")
    scene.press("K_LSHIFT", shift=True)
    scene.press("K_q")
    assert scene.stopped.wait(5)
    assert scene.controls.state == before


def test_the_picture_fills_a_window_that_was_made_larger(scene: Scene) -> None:
    scene.show(50)
    scene.controls.pause(True)  # no new result comes
    pygame.display.set_mode((1200, 2 * HEIGHT + STATUS_PX), pygame.RESIZABLE)
    wait_for(lambda: scene.screen()[2 * HEIGHT - 60, 1190].tolist() == [50] * 3)
    pygame.display.set_mode((300, 900), pygame.RESIZABLE)  # bars above and below
    wait_for(lambda: scene.screen()[430, 290].tolist() == [50] * 3)
    assert scene.screen()[100].max() == scene.screen()[700].max() == 0


def test_a_window_without_room_for_a_picture_stays_alive(scene: Scene) -> None:
    scene.show(50)
    pygame.display.set_mode((60, 20), pygame.RESIZABLE)
    time.sleep(0.1)
    scene.press("K_q")
    assert scene.stopped.wait(5)


def test_what_lies_outside_the_scan_area_is_not_shown(scene: Scene) -> None:
    result = grey(60, 0)
    result.frame.pixels[:, :100] = 250  # a name, burnt in
    scene.window.put(replace(result, scan_area_px=(100, 0, 500, 500)))
    wait_for(lambda: scene.level() == 60)
    assert scene.screen()[150:400].max() == 60


def test_nothing_is_shown_while_the_scan_area_is_not_known(scene: Scene) -> None:
    scene.show(50)
    scene.window.put(replace(grey(250, 1), scan_area_settled=False))
    wait_for(lambda: scene.level() == 0)
    assert scene.screen()[150:400].max() == 0


def test_the_window_takes_the_size_of_the_scan_area_once_that_is_known(scene: Scene) -> None:
    scene.window.put(replace(grey(250, 0), scan_area_settled=False))
    area = (50, 0, 520, 490)
    scene.window.put(replace(grey(60, 1), scan_area_px=area))
    wait_for(lambda: pygame.display.get_surface().get_size() == (520, 490 + STATUS_PX))


def test_tracking_never_waits_for_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    screen_is_back = threading.Event()
    monkeypatch.setattr(pygame.display, "flip", lambda: screen_is_back.wait(20))
    result = grey(50, 0)
    begun_s = time.monotonic()
    for _ in range(1000):
        scene.window.put(result)
    assert time.monotonic() - begun_s < 1
    screen_is_back.set()
    scene.window.close()


def test_a_picture_that_cannot_be_drawn_closes_the_window_and_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> U8:
        raise RuntimeError("no picture today")

    monkeypatch.setattr(window_module, "draw", fail)
    scene = Scene()
    scene.window.put(grey(50, 0))
    wait_for(lambda: scene.window.error is not None)
    scene.window.put(grey(50, 1))
    scene.window.close()
    assert "the window is closed: no picture today" in caplog.text
    assert not scene.stopped.is_set()


def test_without_a_screen_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    message = "^there is no screen for a window: use --view web, or --view none$"
    with pytest.raises(OutputError, match=message):
        open_window(controls())
    assert not has_screen({})


def test_a_screen_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    message = r"^the window does not open: .*; use --view web, or --view none$"
    with pytest.raises(OutputError, match=message):
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

    window: WindowView = open_window(controls())
    monkeypatch.setattr(pygame.event, "get", hang)
    assert looked.wait(5)
    begun_s = time.monotonic()
    window.close()
    assert time.monotonic() - begun_s < 2
    screen_is_back.set()
    window.close()
