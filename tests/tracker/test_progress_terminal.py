"""A run on a real terminal, which the kernel makes: what it shows, and how it leaves it."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tracker.test_progress import Terminal

QUICK = ("--view", "none", "--engine", "onnxruntime", "--precision", "fp32")


class Run:
    """The main job on the demonstration source, with its messages on a terminal."""

    def __init__(self, model: Path, width: int, height: int, *options: str) -> None:
        self.text = ""
        self._width, self._height = width, height
        self._near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))
        self._before = termios.tcgetattr(far)
        fixed = ("--source", "demo", "--pace", "realtime", "--output", "out", *QUICK)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "veintrack", *fixed, "--model", str(model), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=far,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "", "LINES": ""},
            text=True,
        )
        self._far = far

    def read_until(self, done: Callable[[Terminal], bool], limit_s: float = 30.0) -> None:
        deadline_s = time.monotonic() + limit_s
        while not done(self.terminal):
            assert time.monotonic() < deadline_s, self.text
            if select.select([self._near], [], [], 0.05)[0]:
                self.text += os.read(self._near, 1 << 16).decode()

    @property
    def terminal(self) -> Terminal:
        terminal = Terminal(self._width, self._height)
        terminal.feed(self.text)
        return terminal

    @property
    def settings_changed(self) -> bool:
        return termios.tcgetattr(self._far) != self._before

    def end(self) -> int:
        self.read_until(lambda _: self.process.poll() is not None)
        while select.select([self._near], [], [], 0.05)[0]:
            self.text += os.read(self._near, 1 << 16).decode()
        return self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        os.close(self._near)
        os.close(self._far)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (32, 6)])
def test_ctrl_c_leaves_the_terminal_as_it_was(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_model: Callable[..., Path],
    width: int,
    height: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = make_model(tmp_path / "rule.onnx", 128)
    run = Run(model, width, height, "--duration", "600")
    try:
        run.read_until(lambda shown: any("streaming" in line for line in shown.lines))
        run.read_until(lambda shown: any("confirmed" in line for line in shown.lines))
        shown = run.terminal
        assert not shown.cursor_shown
        status = [n for n, line in enumerate(shown.lines) if line.startswith("streaming")]
        assert len(status) == 1, shown.lines
        messages = shown.lines[: status[0]]
        assert messages[0].startswith("veintrack ")
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 130
        assert run.terminal.cursor_shown
        left = run.terminal.lines
        assert left[: len(messages)] == messages
        assert not any(word in line for line in left for word in ("streaming", "confirmed"))
        assert not run.settings_changed
    finally:
        run.close()
