"""What the tests of replays share: a recorded run, what came of it, and what of its replay."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from veintrack.tracker.cli.app import run
from veintrack.tracker.sources.base import Source

Recorded = Callable[..., Path]


def recorder_of(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Give what tracks a source with --record into the folder ``run``."""

    def record(source: Source, *options: str, code: int = 0, quiet: bool = True) -> Path:
        with monkeypatch.context() as patch:
            patch.setattr("veintrack.tracker.cli.watch.open_source", lambda *_, **__: source)
            given = ["--source", "fake", "--model", str(model_file), "--engine", "onnxruntime"]
            common = ["--record", "--output", "run", "--view", "none"]
            assert run([*given, *common, *options, *["--quiet"][: int(quiet)]]) == code
        return Path("run")

    return record


def replay(*arguments: str, output: str = "again") -> int:
    shutil.rmtree(output, ignore_errors=True)
    return run(["replay", "run", "--output", output, "--view", "none", "--quiet", *arguments])


def rows(folder: str) -> list[str]:
    return (Path(folder) / "tracks.csv").read_text().splitlines()[1:]


def frames_of(folder: str) -> list[int]:
    lines = (Path(folder) / "tracks.jsonl").read_text().splitlines()
    return [json.loads(line)["frame"] for line in lines]


def kept_frames() -> list[int]:
    lines = Path("run/recording/frames.jsonl").read_text().splitlines()
    return [json.loads(line)["index"] for line in lines]


def said_of_frames() -> list[str]:
    return Path("run/recording/tracked.jsonl").read_text().splitlines()


def change_kept(change: Callable[[list[str]], None]) -> None:
    """Change the table of tracks that is kept with the recording."""
    path = Path("run/recording/tracks.csv")
    lines = path.read_text().splitlines(keepends=True)
    change(lines)
    path.write_text("".join(lines))
