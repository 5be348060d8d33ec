"""What a machine says of itself: its parts, video devices, folders and what is installed."""

import errno
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.tracker.machine_scene import find, plain_machine, write
from veintrack.tracker import health
from veintrack.tracker.health import (
    BROKEN,
    MISSING,
    NOT_NEEDED,
    OK,
    PARTS,
    Check,
    Places,
    folder_fault,
    has_nvidia_hardware,
    look,
    machine_checks,
    optional_parts,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return plain_machine(tmp_path / "root")


def test_hardware_that_may_not_be_seen_counts_as_none(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    assert not has_nvidia_hardware(places)
    for name in ("exists", "iterdir", "is_dir", "stat", "glob"):
        monkeypatch.setattr(Path, name, refuse)
    assert not has_nvidia_hardware(places)


def test_a_look_that_fails_is_itself_a_finding() -> None:
    def at() -> list[Check]:
        raise RuntimeError("two\nlines")

    assert look("x", at) == [Check("x", BROKEN, "RuntimeError: two lines")]


def test_what_was_found_before_a_failure_counts() -> None:
    def at() -> Any:
        yield Check("a", OK, "fine")
        raise OSError(errno.EIO, "gone")

    assert [check.state for check in look("x", at)] == [OK, BROKEN]


def test_the_machine_is_named(places: Places) -> None:
    write(places.root, {"proc/device-tree/model": "NVIDIA Jetson Orin Nano\0"})
    facts = {"load_average": [0.5, 1, 2], "power_mode": "15W", "governor": "powersave"}
    found = list(machine_checks(places, facts, ["INT8", "FP32"]))
    assert {check.state for check in found} == {OK}
    assert find(found, "board").detail == "NVIDIA Jetson Orin Nano"
    assert find(found, "system").detail.startswith("Linux Z, Linux ")
    assert find(found, "memory").detail == "4.0 of 8.0 GiB free"
    assert find(found, "processor").detail.startswith("CPU Z, ")
    assert find(found, "processor").detail.endswith("computes in INT8, FP32")
    assert "jetson_clocks" in find(found, "power mode").mend
    assert "performance" in find(found, "governor").mend


def test_a_machine_that_says_nothing_is_still_looked_at(tmp_path: Path) -> None:
    found = list(machine_checks(Places(tmp_path), {"error": "x"}, []))
    assert find(found, "memory").state == BROKEN
    assert [check.name for check in found][:3] == ["veintrack", "system", "processor"]


def test_a_folder_that_takes_no_files_cannot_be_written() -> None:
    assert folder_fault(Path("/proc/runs")).startswith("/proc cannot be written: ")


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert folder_fault(tmp_path / "file" / "new") == f"{tmp_path / 'file'} is not a folder"
    assert folder_fault(tmp_path / "new" / "newer") == ""
    assert not (tmp_path / "new").exists()


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(health, "version_of", lambda name: "1.0" if name in names else None)


def test_parts_that_are_not_installed_name_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "lightning", "torch")
    found = list(optional_parts(gpu=False, screen=True))
    assert {check.state for check in found} == {MISSING}
    training = find(found, "training")
    assert training.mend == 'pip install "veintrack[train]"'
    assert training.detail == (
        "not installed: kornia, torchmetrics (there: torch 1.0, lightning 1.0)"
    )
    assert find(found, "quantisation").mend.startswith("pip install ")


@pytest.mark.parametrize(
    ("line", "gpu", "said", "mended"),
    [
        ("cuda: Optional[str] = '12.8'", True, "built for CUDA 12.8", False),
        ("cuda: Optional[str] = '12.8'", False, "without a GPU", False),
        ("cuda: Optional[str] = None", False, "built for the CPU", False),
        ("cuda: Optional[str] = None", True, "built for the CPU", True),
    ],
)
def test_torch_is_read_not_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, gpu: bool, said: str, mended: bool
) -> None:
    class Torch:
        def locate_file(self, path: str) -> Path:
            return tmp_path / path

    write(tmp_path, {"torch/version.py": f"__version__ = '2'\n{line}\n"})
    monkeypatch.setattr(metadata, "distribution", lambda _: Torch())
    installed(monkeypatch, *PARTS["training"][1])
    training = find(list(optional_parts(gpu, screen=True)), "training")
    assert training.state == OK
    assert said in training.detail
    assert bool(training.mend) == mended


def test_without_a_screen_no_window_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "pygame-ce")
    assert find(list(optional_parts(False, screen=False)), "window").state == NOT_NEEDED
    assert find(list(optional_parts(False, screen=True)), "window").state == OK


def test_the_parts_are_those_of_the_extras() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for package, names in PARTS.values():
        if "[" in package:
            extra = extras[package.split("[")[1].rstrip(']"')]
            assert {name for name in names if any(need.startswith(name) for need in extra)} == {
                *names
            }
