"""What is built and installed works far from the checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build", reason='build is not installed: pip install "veintrack[test]"')

ROOT = Path(__file__).parents[2]
ROOMS = ("veintrack", "tracker", "engines", "train")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of a copy of the checkout, and the wheel built from that sdist."""
    copy = tmp_path_factory.mktemp("checkout") / "veintrack"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for room in ROOMS:
        shutil.copytree(
            ROOT / room, copy / room, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", str(copy)],
        check=True,
        capture_output=True,
    )
    return copy / "dist"


def modules() -> set[str]:
    """Every module of the rooms, as a path inside the installed package."""
    found = {p.name for p in (ROOT / "veintrack").glob("*.py")}
    for room in ROOMS[1:]:
        found |= {str(p.relative_to(ROOT)) for p in (ROOT / room).rglob("*.py")}
    return {f"veintrack/{name}" for name in found}


def test_the_wheel_holds_every_module_the_model_and_its_card(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert modules() <= names
    assert {"veintrack/py.typed", "veintrack/engines/models/default.md"} <= names
    assert "veintrack/engines/models/default.onnx" in names
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"veintrack"}


def test_the_sdist_holds_the_licence_and_the_rooms(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {"/".join(n.split("/")[1:]) for n in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "tracker/pipeline.py"} <= names


def test_the_wheel_runs_far_from_the_checkout(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    place = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", place, wheel],
        check=True,
    )
    code = (
        "import veintrack, pathlib, veintrack.tracker.cli.app as app, sys;"
        f"assert pathlib.Path(veintrack.__file__).is_relative_to({str(place)!r});"
        "sys.exit(app.run(['--source', 'demo', '--max-frames', '5', '--output', 'out']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "tracks.csv").is_file()
