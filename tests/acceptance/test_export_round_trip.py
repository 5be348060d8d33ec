"""``veintrack export``, as a user would: track, record, hand on, track what was handed on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Done
from veintrack.tracker.cli.app import run

FRAMES = 40


def track(model_file: Path, source: object, output: str, *options: str) -> None:
    given = ["--source", str(source), "--model", str(model_file), "--engine", "onnxruntime"]
    assert run([*given, "--output", output, "--view", "none", "--quiet", *options]) == 0


def rows(folder: Path) -> list[list[str]]:
    lines = (folder / "tracks.csv").read_text().splitlines()[1:]
    return [line.split(",") for line in lines]


@pytest.fixture(scope="module")
def scan(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over the demo, with its recording."""
    folder = tmp_path_factory.mktemp("scan") / "run"
    options = ("--record", "--max-frames", str(FRAMES))
    track(model_file, "demo", str(folder), *options)
    return folder


def veintrack(*arguments: object) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "veintrack", *map(str, arguments)], capture_output=True, text=True
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def was(scan: Path, model_file: Path) -> list[list[str]]:
    """The tracks of the recording."""
    folder = scan.with_name("was")
    track(model_file, scan, str(folder), "--crop", "none")
    return rows(folder)


@pytest.mark.parametrize("name", ["a.igs.mha", "a.mhd", "a.nrrd", "a.us.dcm"])
def test_what_was_handed_on_gives_the_same_tracks(
    scan: Path, was: list[list[str]], model_file: Path, tmp_path: Path, name: str
) -> None:
    to = tmp_path / name
    assert run(["export", str(scan), "--to", str(to)]) == 0
    track(model_file, to, str(tmp_path / "now"), "--crop", "none")
    assert len(was) > FRAMES / 2
    assert rows(tmp_path / "now") == was


def test_the_command_says_what_it_wrote_and_refuses_to_replace_it(
    scan: Path, tmp_path: Path
) -> None:
    to = tmp_path / "a.nrrd"
    done = veintrack("export", scan, "--to", to, "--compress")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"written: {to}: {FRAMES} frames\n"
    again = veintrack("export", scan, "--to", to)
    assert again.returncode == 2
    assert again.stderr == f"veintrack: {to} exists: name another, or add --overwrite\n"


def test_a_recording_alone_is_enough_for_frames(scan: Path, tmp_path: Path) -> None:
    alone = tmp_path / "recording"
    shutil.copytree(scan / "recording", alone)
    assert run(["export", str(alone), "--to", str(tmp_path / "a.mha")]) == 0
