"""Tier D: pycuda and cuda-python, and the TensorRT engine on them, against a fake driver.

The libraries are the real ones; the driver under them is ``fakecuda/fakecuda.c``.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.engines.fakecuda import driver_scenarios, engine_scenarios
from tests.engines.fakecuda.fake import SCENARIOS
from veintrack.engines import cuda
from veintrack.engines.cuda import abandon, device_index, open_cuda
from veintrack.errors import BackendMissingError

__all__ = ["driver_scenarios", "engine_scenarios"]  # imported, they are in SCENARIOS

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "fakecuda" / "fakecuda.c"
MODULES = {"pycuda": "pycuda", "cuda-python": "cuda"}


@pytest.fixture(scope="module")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ``libcuda.so.1`` that needs no GPU."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("tier D compiles a fake CUDA driver: install a C compiler")
    folder = tmp_path_factory.mktemp("fakecuda")
    options = ["-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
    target = folder / "libcuda.so.1"
    subprocess.run([compiler, *options, "-o", target, SOURCE, "-ldl"], check=True)
    return folder


@pytest.fixture(scope="module", params=list(MODULES))
def outcome(request: pytest.FixtureRequest, fake_driver: Path) -> dict[str, str]:
    """What became of every scenario with one backend."""
    backend: str = request.param
    if find_spec(MODULES[backend]) is None:
        pytest.skip(f"tier D tries the real {backend}: pip install {backend}")
    environment = os.environ | {"LD_LIBRARY_PATH": str(fake_driver), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.engines.fakecuda", backend],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "PyCUDA" not in done.stderr, done.stderr  # how it reports what it could not free
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_on_the_fake_driver(outcome: dict[str, str], name: str) -> None:
    if outcome[name]:
        pytest.fail(outcome[name], pytrace=False)


@pytest.mark.parametrize(("device", "index"), [("auto", 0), ("cuda", 0), ("cuda:3", 3)])
def test_a_device_is_named_by_its_number(device: str, index: int) -> None:
    assert device_index(device) == index


@pytest.mark.parametrize("device", ["cpu", "cuda:", "cuda:-1", "cuda:x", "gpu:0", "cuda0"])
def test_another_device_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match=f"expected device auto, cuda or cuda:N, got '{device}'"):
        device_index(device)


def test_without_a_backend_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "BACKENDS", {"pycuda": "no_such_library:X"})
    with pytest.raises(BackendMissingError, match=r'pip install "veintrack\[tensorrt\]"'):
        open_cuda(0)


def test_what_is_abandoned_is_never_freed() -> None:
    freed: list[str] = []

    class Thing:
        def __del__(self) -> None:
            freed.append("thing")

    abandon(Thing())
    Thing()
    assert freed == ["thing"]
