"""Tier C: what the code asks of TensorRT is there in every version that it supports."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.tensorrt_stubs import VERSIONS

ROOT = Path(__file__).parents[2]
FILES = ("tensorrt.py", "tensorrt_api.py", "tensorrt_build.py", "tensorrt_plan.py")
STUBS = os.environ.get("VEINTRACK_TENSORRT_STUBS")
PYRIGHT = shutil.which("pyright")

pytestmark = pytest.mark.skipif(
    STUBS is None or PYRIGHT is None,
    reason='tier C checks types: pip install pybind11-stubgen "pyright[nodejs]", '
    "python tests/engines/tensorrt_stubs.py FOLDER, VEINTRACK_TENSORRT_STUBS=FOLDER",
)


def complaints(project: Path, version: str) -> str:
    """What pyright finds in the room's TensorRT files, copied to `project`, with these stubs."""
    assert STUBS is not None
    assert PYRIGHT is not None
    settings = {
        "include": [f"veintrack/engines/{name}" for name in FILES],
        "stubPath": str(Path(STUBS).resolve() / version),
        "pythonVersion": "3.10",
        "typeCheckingMode": "standard",
        "enableTypeIgnoreComments": False,
        "reportMissingModuleSource": "none",
        # The stubs say less than is true: that Dims iterate, and that memory has bytes.
        "reportArgumentType": "none",
        "reportIncompatibleMethodOverride": "none",
    }
    (project / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [PYRIGHT, "--project", str(project), "--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    ours = shutil.ignore_patterns("__pycache__", "models", "*.onnx")
    shutil.copytree(ROOT / "veintrack" / "engines", tmp_path / "veintrack" / "engines", ignore=ours)
    for name in ("__init__.py", "errors.py", "_version.py"):
        shutil.copy(ROOT / "veintrack" / name, tmp_path / "veintrack")
    return tmp_path


@pytest.mark.parametrize("version", list(VERSIONS))
def test_the_version_has_all_that_is_used(project: Path, version: str) -> None:
    assert complaints(project, version) == ""


def test_what_a_version_lacks_is_found(project: Path) -> None:
    file = project / "veintrack" / "engines" / "tensorrt_build.py"
    file.write_text(file.read_text() + "\n\nHALF = trt.BuilderFlag.FP16\n")  # gone in TensorRT 11
    assert complaints(project, "10.16") == ""
    assert '"FP16"' in complaints(project, "11.4")
