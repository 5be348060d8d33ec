"""The installed command with its window, on a real X screen: keys pressed, the screen looked at."""

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.acceptance.test_main_job import write_video
from tests.conftest import dark_is_vessel
from veintrack.tracker.frame import U8

pytest.importorskip(
    "pygame", reason='the window\'s library is not installed: pip install "veintrack[window]"'
)
SIZE = (1024, 768)
FIRST_COLOUR = (0, 158, 115)  # RGB of the first track


class Screen:
    """An X server that shows nothing to anyone, and a keyboard at it."""

    def __init__(self, folder: Path) -> None:
        self._x11, self._test = _library("libX11.so.6"), _library("libXtst.so.6")
        reading, writing = os.pipe()
        self._server = subprocess.Popen(
            [
                "Xvfb", "-displayfd", str(writing), "-screen", "0", f"{SIZE[0]}x{SIZE[1]}x24",
                "-nolisten", "tcp", "-fbdir", str(folder),
            ],
            pass_fds=[writing],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(writing)
        with os.fdopen(reading) as pipe:
            self.name = f":{pipe.readline().strip()}"
        self._picture = folder / "Xvfb_screen0"
        self._x11.XOpenDisplay.restype = ctypes.c_void_p
        self._x11.XStringToKeysym.restype = ctypes.c_ulong
        self._display = ctypes.c_void_p(self._x11.XOpenDisplay(self.name.encode()))
        assert self._display, f"the X server does not answer at {self.name}"
        self._test.XTestFakeMotionEvent(self._display, -1, SIZE[0] // 2, SIZE[1] // 2, 0)

    def press(self, key: str) -> None:
        """Press a key and let it go; `key` is the name that X has for it."""
        symbol = ctypes.c_ulong(self._x11.XStringToKeysym(key.encode()))
        code = self._x11.XKeysymToKeycode(self._display, symbol)
        for down in (1, 0):
            self._test.XTestFakeKeyEvent(self._display, code, down, 0)
        self._x11.XFlush(self._display)

    def look(self) -> U8:
        """What is on the screen: height, width, RGB. X keeps it in a file, as a window dump."""
        data = self._picture.read_bytes()
        header = np.frombuffer(data, ">u4", 25)
        width, height, stride, colours = (int(header[k]) for k in (4, 5, 12, 19))
        rows = np.frombuffer(data, np.uint8, height * stride, int(header[0]) + 12 * colours)
        return rows.reshape(height, stride // 4, 4)[:, :width, 2::-1]

    def close(self) -> None:
        self._x11.XCloseDisplay(self._display)
        self._server.terminate()
        self._server.wait(10)


def _library(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError:
        pytest.skip(f"{name} is not installed: apt-get install libx11-6 libxtst6")


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    if shutil.which("Xvfb") is None:
        pytest.skip("there is no X server to test with: apt-get install xvfb")
    folder = tmp_path / "screen"
    folder.mkdir()
    made = Screen(folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute of a dark vessel that moves to and fro."""
    noise = np.random.default_rng(0).integers(100, 180, (240, 320), dtype=np.uint8)
    pictures = []
    for i in range(900):
        picture = noise.copy()
        x = 160 + round(60 * np.sin(i / 15))
        cv2.ellipse(picture, (x, 110), (34, 24), 0, 0, 360, 20, cv2.FILLED)
        pictures.append(picture)
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", pictures)


@pytest.fixture
def run(screen: Screen, clip: Path, tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """The command, tracking the clip as if it were live."""
    model = dark_is_vessel(tmp_path / "quick.onnx", 128)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SDL_", "WAYLAND_"))}
    process = subprocess.Popen(
        [
            sys.executable, "-m", "veintrack", "--source", str(clip), "--spacing", "0.1",
            "--crop", "none", "--pace", "realtime", "--view", "window", "--model", str(model),
            "--output", "out",
        ],
        cwd=tmp_path,
        env={**environment, "DISPLAY": screen.name, "SDL_VIDEODRIVER": "x11"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def coloured(picture: U8) -> int:
    """How many pixels have the colour of the first track."""
    return int((np.abs(picture.astype(int) - FIRST_COLOUR).max(axis=2) < 12).sum())


def middle(picture: U8) -> U8:
    """The picture without what stands under it, which changes by itself."""
    return picture[: SIZE[1] // 2 + 150]


def stands_still(screen: Screen) -> bool:
    before = middle(screen.look()).copy()
    time.sleep(0.3)
    return bool((middle(screen.look()) == before).all())


def test_the_window_shows_the_overlay_and_obeys_its_keys(
    screen: Screen, run: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    wait_for(lambda: coloured(screen.look()) > 100, "the first track's outline is seen", 60)
    assert not stands_still(screen)

    screen.press("space")
    wait_for(lambda: stands_still(screen), "the run stands still")
    before = middle(screen.look()).copy()
    screen.press("period")
    wait_for(lambda: bool((middle(screen.look()) != before).any()), "one frame further")
    wait_for(lambda: stands_still(screen), "and no more")

    before = middle(screen.look()).copy()
    screen.press("h")
    wait_for(lambda: bool((middle(screen.look()) != before).any()), "the keys are listed")
    screen.press("h")
    wait_for(lambda: bool((middle(screen.look()) == before).all()), "and not any more")

    screen.press("s")
    wait_for(lambda: any((tmp_path / "out").glob("snapshots/frame_*.png")), "a screenshot")
    screen.press("space")
    wait_for(lambda: not stands_still(screen), "the run goes on")
    screen.press("f")
    wait_for(lambda: stands_still(screen), "the picture is frozen")
    tracks = tmp_path / "out" / "tracks.jsonl"
    lines = len(tracks.read_text().splitlines())
    wait_for(lambda: len(tracks.read_text().splitlines()) > lines + 10, "tracking goes on")
    screen.press("f")
    wait_for(lambda: not stands_still(screen), "and let go")
    screen.press("r")
    wait_for(lambda: any((tmp_path / "out").glob("recording*")), "a recording")

    screen.press("q")
    output, _ = run.communicate(timeout=30)
    assert run.returncode == 0, output
    assert "Traceback" not in output
