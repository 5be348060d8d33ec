"""The installed command, run in the guest and watched while it runs."""

import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Row", "Watch", "warm_up"]

Row = dict[str, Any]
_POLL_S = 0.02


def warm_up() -> None:
    """Import what the command imports, once for all runs: emulated, that takes a quarter minute."""
    import veintrack.engines.onnxruntime
    import veintrack.tracker.cli.app
    import veintrack.tracker.cli.watch
    import veintrack.tracker.sources.v4l2  # noqa: F401


class Watch:
    """A run of the installed command; its start-up is shared, everything else is its own.

    Parameters
    ----------
    command : Path
        The installed script, which a copy of this process runs.
    folder : Path
        Where its results lie, in ``out/``, and what it says, in ``said``.
    arguments : list of str
        Of the command.
    """

    def __init__(self, command: Path, folder: Path, arguments: list[str]) -> None:
        self.folder = folder
        self._table = folder / "out" / "tracks.jsonl"
        self._read = self._looked_at = 0
        self.rows: list[Row] = []
        fork = multiprocessing.get_context("fork")
        self._process = fork.Process(target=_run, args=(command, folder / "said", arguments))
        self._process.start()

    def wait_for(self, wanted: Callable[[Row], bool], timeout_s: float = 60.0) -> Row:
        """Wait for the next row of ``tracks.jsonl`` that is as wanted; says when it was seen."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            self._read_rows()
            while self._looked_at < len(self.rows):
                row = self.rows[self._looked_at]
                self._looked_at += 1
                if wanted(row):
                    return row | {"seen_ns": time.monotonic_ns()}
            if not self._process.is_alive():
                raise RuntimeError(f"the run ended: {self.said()}")
            time.sleep(_POLL_S)
        raise TimeoutError(f"no such row within {timeout_s:g} s; it said {self.said()}")

    def _read_rows(self) -> None:
        if not self._table.exists():
            return
        with self._table.open() as file:
            file.seek(self._read)
            whole, _, _ = file.read().rpartition("\n")
        if whole:
            self._read += len(whole.encode()) + 1
            self.rows += [json.loads(line) for line in whole.splitlines()]

    def holds(self, node: Path) -> bool:
        """Tell whether the run has a device open."""
        return node in [d.readlink() for d in Path(f"/proc/{self._process.pid}/fd").iterdir()]

    def said(self) -> str:
        """Give what it printed, both streams."""
        path = self.folder / "said"
        return path.read_text() if path.exists() else ""

    def interrupt(self) -> float:
        """Send the signal of Ctrl-C; give the seconds until the process has ended."""
        asked_s = time.monotonic()
        os.kill(self._process.pid or 0, signal.SIGINT)
        self._process.join(30)
        return time.monotonic() - asked_s

    def end(self, timeout_s: float = 90.0) -> dict[str, Any]:
        """Wait for the end, kill what does not end, and give what is to be known of the run."""
        self._process.join(timeout_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._read_rows()
        record, csv = self.folder / "out" / "run.json", self.folder / "out" / "tracks.csv"
        return {
            "exit_code": self._process.exitcode,
            "said": self.said(),
            "rows": [_short(row) for row in self.rows],
            "tail": _tail(self._table),
            "csv_tail": _tail(csv),
            "record": json.loads(record.read_text()) if record.exists() else None,
        }


def _short(row: Row) -> Row:
    """Leave out what takes most of the room."""
    return {name: value for name, value in row.items() if name != "detections"}


def _tail(path: Path) -> str:
    return path.read_text()[-80:] if path.exists() else ""


def _run(command: Path, said: Path, arguments: list[str]) -> None:
    """Be the command: the forked copy of this process turns into it."""
    with said.open("w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = [str(command), *arguments]
    runpy.run_path(str(command), run_name="__main__")
