"""Signals: before the run one line, in it a time by which to end; errors are one clean line."""

import signal
import subprocess
import sys
import time

import pytest

from veintrack.errors import SourceLostError
from veintrack.tracker.cli.app import run
from veintrack.tracker.cli.saying import as_line
from veintrack.tracker.cli.stopping import stops_on_signal

_INTERRUPTED_IMPORT = """
import os, signal, sys
from veintrack.__main__ import main

class Hit:
    def find_spec(self, name, *_):
        if name == {library!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Hit())
sys.argv[1:] = ["--source", "nowhere.mp4"]
sys.exit(main())
"""


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(
    ("library", "number"),
    [("typer", signal.SIGINT), ("yaml", signal.SIGINT), ("typer", signal.SIGTERM)],
)
def test_a_signal_during_the_imports_ends_with_one_line(
    library: str, number: signal.Signals, ignored: bool
) -> None:
    code = _INTERRUPTED_IMPORT.format(library=library, number=int(number))
    if ignored:  # as a shell does for what it starts in the background
        code = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (130, "veintrack: interrupted\n")


def deliver(number: signal.Signals) -> None:
    """Call the handler as the interpreter does.

    A real signal would end a process whose handlers run on faulthandler's small stack, as under
    pytest, once its thread has used the processor's matrix registers (AMX): they do not fit on it.
    """
    handler = signal.getsignal(number)
    assert callable(handler)
    handler(number, None)


def test_a_second_signal_shortens_the_time_that_is_left_and_raises_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    ended: list[bool] = []
    with stops_on_signal(lambda: ended.append(True)) as stop:
        assert not stop.asked
        deliver(signal.SIGINT)
        first_s = stop.by_s
        assert 0 < first_s - time.monotonic() <= 1
        deliver(signal.SIGTERM)
        assert stop.by_s < first_s
        third_s = stop.by_s
        time.sleep(0.02)
        deliver(signal.SIGINT)
        assert stop.by_s == third_s
    assert ended == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_before_the_run_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("veintrack.tracker.cli.bench_run.measure", interrupted)
    assert run(["bench"]) == 130
    assert capsys.readouterr().err == "veintrack: interrupted\n"


def test_a_source_that_is_lost_in_a_benchmark_is_no_wrong_argument(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(*_: object) -> None:
        raise SourceLostError("rtsp://user:hunter2@cam/s: the stream ended")

    monkeypatch.setattr("veintrack.tracker.cli.bench_run.measure", lost)
    assert run(["bench"]) == 1
    said = capsys.readouterr().err
    assert "the stream ended" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "message",
    [
        "No such command 'rtsp://u:hunter2@cam/s'.",
        "cannot open rtsp://u:hunter2@cam/s: refused",
        "--source=http://cam/s?pwd=hunter2 is wrong",
    ],
)
def test_no_message_shows_a_password(message: str) -> None:
    assert "hunter2" not in as_line(message)
    assert "cam/s" in as_line(message)


def test_a_message_without_an_address_stays_as_it_is() -> None:
    assert as_line("a.mp4: 3 of\n 4 frames, key=value") == "a.mp4: 3 of 4 frames, key=value"
