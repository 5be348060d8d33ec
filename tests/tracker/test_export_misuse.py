"""Every misuse of ``veintrack export`` is answered with one line, and writes nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tracker.export_scene import FACTS, export, recorded


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("export") / "run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "a.png"), "--to must end in .mha, .mhd, .nrrd, .parquet, .us.dcm, .sr.dcm, got"),
        (("--to", ".mha"), "--to must end in"),
        (("--to", "a.csv"), "the run's folder has its tracks and video already"),
        (("--to", "a.dcm"), "--to must end in"),
        (("--to", "a.parquet", "--compress"), "--compress means nothing for .parquet: it is for"),
        (("--to", "a.us.dcm", "--compress"), "--compress means nothing for .us.dcm"),
        (("--to", "a.sr.dcm", "--full"), "--full means nothing for .sr.dcm"),
        (("--to", "a.mha", "--source-dicom", "b.dcm"), "--source-dicom means nothing for .mha"),
        (("--to", "a.parquet"), "is no folder of a run: run.json and manifest.json are missing"),
        (("--to", "exists.mha"), "exists.mha exists: name another, or add --overwrite"),
        (("--to", "b.mhd"), "b.raw exists: name another, or add --overwrite"),
        (("--to", "folder.mha"), "folder.mha is a folder"),
        (("--to", "exists.mha/a.mha"), "exists.mha is not a folder"),
    ],
)
def test_one_line_says_what_would_be_right(
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("exists.mha", "b.raw"):
        Path(name).write_text("mine")
    Path("folder.mha").mkdir()
    before = sorted(Path().rglob("*"))
    assert export(run_folder, *arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    assert Path("exists.mha").read_text() == "mine"


def test_overwrite_replaces_a_file(run_folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "a.mha"
    to.write_text("mine")
    assert export(run_folder, "--to", to, "--full", "--overwrite") == 0
    assert to.stat().st_size > 1000


def test_a_folder_without_a_recording_is_told_apart_from_one_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    assert export(tmp_path / "run", "--to", tmp_path / "a.mha") == 2
    assert "holds no recording, and frames come from one: track with --record" in (
        capsys.readouterr().err
    )
    assert export(tmp_path / "gone", "--to", tmp_path / "a.mha") == 2
    assert "no folder" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(OSError(28, "full"), 2), (KeyboardInterrupt(), 130)])
@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.us.dcm"])
def test_a_failure_in_the_midst_leaves_nothing_and_spares_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException, code: int
) -> None:
    to = tmp_path / name
    to.write_text("mine")

    def fail(*_: object) -> None:
        raise error

    run_folder = recorded(tmp_path / "run", **FACTS)
    monkeypatch.setattr("veintrack.tracker.exports.frames.Stack.__init__", fail)
    assert export(run_folder, "--to", to, "--full", "--overwrite") == code
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, "run"]
    assert to.read_text() == "mine"


@pytest.mark.parametrize(
    ("library", "to", "extra"),
    [("pyarrow", "a.parquet", "parquet"), ("highdicom", "a.sr.dcm", "dicom")],
)
def test_a_missing_library_is_named_with_what_installs_it(
    run_folder: Path, tmp_path: Path, library: str, to: str, extra: str
) -> None:
    script = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from veintrack.tracker.cli.app import run\n"
        f"sys.exit(run(['export', {str(run_folder)!r}, '--to', {str(tmp_path / to)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert f'needs {library}: pip install "veintrack[{extra}]"' in done.stderr


def test_the_command_line_starts_without_the_libraries_of_exports() -> None:
    script = (
        "import sys, veintrack.tracker.cli.app\n"
        "assert not {'pyarrow', 'highdicom', 'pydicom'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
