"""How the main job ends: in time and with closed files, whatever hangs, fails or is pressed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import pytest

from tests.conftest import dark_is_vessel
from tests.tracker.faulty_source import Fails, FaultySource, Frames, Script
from veintrack.tracker.cli.app import run
from veintrack.tracker.cli.progress import Progress
from veintrack.tracker.frame import FrameResult
from veintrack.tracker.sinks.tables import MotSink
from veintrack.tracker.sources.persistent import PersistentSource


@pytest.fixture
def quick_model(tmp_path: Path) -> str:
    """A model that costs no time, where the network's answer does not matter."""
    return str(dark_is_vessel(tmp_path / "quick.onnx", 64))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def demo(model: str, *options: object) -> list[str]:
    fixed = ("--source", "demo", "--model", model, "--output", "out", "--quiet", "--view", "none")
    return [*fixed, *map(str, options)]


def record() -> dict[str, object]:
    content: dict[str, object] = json.loads(Path("out/run.json").read_text())
    return content


def test_a_full_disk_leaves_the_other_files_and_says_so_once(quick_model: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here, which is a full disk: Linux has it")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "veintrack"),
            *demo(quick_model, "--video", "/dev/full", "--max-frames", 150),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    warning, problem = done.stderr.splitlines()
    assert warning.startswith("WARNING: full cannot be written any further")
    assert problem == "veintrack: full is incomplete: No space left on device"
    assert len(Path("out/tracks.jsonl").read_text().splitlines()) == 150


@pytest.mark.parametrize("reader", [True, False])
def test_a_run_whose_video_hangs_ends_when_it_is_told_to(quick_model: str, reader: bool) -> None:
    os.mkfifo("pipe")
    opened = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK) if reader else None
    options = demo(quick_model, "--video", "../pipe", "--duration", 600)
    process = subprocess.Popen(
        [sys.executable, "-m", "veintrack", *options], stderr=subprocess.PIPE, text=True
    )
    try:
        table = Path("out/tracks.jsonl")
        deadline_s = time.monotonic() + 40
        while not (table.exists() and table.read_text().count("\n") > 100):
            assert time.monotonic() < deadline_s
            assert process.poll() is None
            time.sleep(0.05)
        asked_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    if opened is not None:
        os.close(opened)
    assert process.returncode == 130, errors
    assert time.monotonic() - asked_s < 2  # 1 s on a machine that has nothing else to do
    assert "pipe is incomplete: it could not be written to its end in time" in errors
    assert record()["ended"] == "interrupted"
    assert record()["summary"]


def test_an_interrupt_while_the_end_is_written_keeps_the_video_and_the_summary(
    quick_model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, close = MotSink.write, Progress.close

    def slowly(self: MotSink, result: FrameResult) -> None:
        time.sleep(0.05)
        write(self, result)

    def then_interrupt(self: Progress) -> None:
        close(self)
        pid = os.getpid()
        threading.Timer(0.1, os.kill, (pid, signal.SIGINT)).start()
        threading.Timer(0.2, os.kill, (pid, signal.SIGINT)).start()

    monkeypatch.setattr(MotSink, "write", slowly)
    monkeypatch.setattr(Progress, "close", then_interrupt)
    assert run(demo(quick_model, "--max-frames", 90)) == 130
    assert record()["ended"] == "interrupted"
    assert record()["summary"]
    assert "tracks.mot.txt" in capsys.readouterr().err


def test_an_interrupt_while_the_end_is_written_leaves_a_whole_video(
    quick_model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    close = MotSink.close

    def interrupted(self: MotSink) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        close(self)

    monkeypatch.setattr(MotSink, "close", interrupted)
    assert run(demo(quick_model, "--max-frames", 40, "--video")) == 130
    del capsys
    assert record()["ended"] == "interrupted"
    with av.open("out/overlay.mp4") as video:
        assert sum(1 for _ in video.decode(video=0)) == 40


def test_an_outage_without_any_result_is_counted(
    quick_model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = PersistentSource(FaultySource(Script([Fails(), Frames(60)])), 5)
    monkeypatch.setattr("veintrack.tracker.cli.watch.open_source", lambda *_, **__: source)
    assert run([*demo(quick_model, "--max-frames", 5), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outages"] == 1


def test_a_window_is_closed_when_a_later_step_refuses(
    quick_model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pygame = pytest.importorskip(
        "pygame", reason='the window\'s library is not installed: pip install "veintrack[window]"'
    )
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    Path("out").mkdir()
    Path("out/tracks.csv").write_text("mine")
    assert run([*demo(quick_model)[:-1], "window"]) == 2
    assert "already holds tracks.csv" in capsys.readouterr().err
    assert not pygame.display.get_init()
