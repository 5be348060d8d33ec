"""What the doctor finds on machines that are healthy, bare or broken, and what mends them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tracker.machine_scene import find, plain_machine, write
from veintrack.engines import base, cache
from veintrack.errors import EngineError
from veintrack.tracker.cli import doctor as command
from veintrack.tracker.cli import doctor_engines, probes
from veintrack.tracker.cli.app import run
from veintrack.tracker.cli.doctor import examine, obstacle
from veintrack.tracker.cli.probes import OF_GPU, PROBES, Answer, answer, ask, gpus_of
from veintrack.tracker.health import (
    BROKEN,
    MISSING,
    NOT_NEEDED,
    OK,
    Check,
    Places,
)

ABSENT = {"missing": "x", "error": "ModuleNotFoundError: No module named 'x'"}


def gpu(major: int, minor: int) -> Answer:
    one = {"name": "NVIDIA X", "memory_gib": 15.7, "compute_capability": (major, minor)}
    return {"cuda": "13.0", "gpus": [one]}


def healthy(**others: Answer) -> dict[str, Answer]:
    """What the probes say on a plain machine, but for `others`."""
    return {
        "libraries": {"versions": {"numpy": "2.4.6", "scipy": None}, "screen": True},
        "openvino": {
            "version": "2026.4",
            "device": "CPU Z",
            "native": ["FP32", "BF16", "BIN"],
            "offers": ["bf16", "fp32"],
        },
        "models": {"default": {"size_mib": 46.6, "classes": ["vessel"], "input_shape": [256, 256]}},
        "onnxruntime": {"version": "1.32.0"},
        "gpu": {"missing": "libcuda.so.1", "error": "libcuda.so.1: cannot open"},
        "cuda": {"backend": "pycuda"},
        "tensorrt": ABSENT,
        "tensorrt-rtx": ABSENT,
        "machine": {"cores": 2, "load_average": [0.5, 0.25, 0.0]},
        **{name.replace("_", "-"): said for name, said in others.items()},
    }


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return plain_machine(tmp_path / "root")


@pytest.fixture
def with_gpu(places: Places) -> Places:
    """The same with an NVIDIA GPU in a slot."""
    slot = "sys/bus/pci/devices/0000:01:00.0"
    return write(places.root, {f"{slot}/vendor": "0x10de\n", f"{slot}/class": "0x030000\n"})


@pytest.fixture
def auto_tries_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "engine_names", lambda: ("tensorrt", "openvino"))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(doctor_engines, "version_of", lambda _: None)


# Engines and GPUs


def test_a_plain_machine_needs_no_gpu_and_is_not_asked_for_one(places: Places) -> None:
    asked = []

    def put(name: str) -> Answer:
        asked.append(name)
        return healthy()[name]

    found = examine(places, put)
    assert set(asked) == set(PROBES) - set(OF_GPU)
    assert obstacle(found) == ""
    assert [check.state for check in found["gpu"]] == [NOT_NEEDED]
    assert find(found["engines"], "auto").detail.startswith("takes openvino, the fastest ")
    for name in ("tensorrt", "tensorrt-rtx", "CUDA binding"):
        assert find(found["engines"], name).state == NOT_NEEDED
    assert find(found["machine"], "processor").detail.endswith("computes in BF16, FP32")


def test_the_precision_that_the_first_use_took_is_named(
    places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VEINTRACK_CACHE", str(tmp_path / "engines"))
    model = healthy()["models"]["default"] | {"sha256": "abc"}
    key = {"library": "choice", "version": "1", "engine": "openvino", "model_sha256": "abc"}
    cache.store(key, b"int8")
    found = examine(places, healthy(models={"default": model}).__getitem__)
    assert find(found["engines"], "auto").detail == "takes openvino, int8, on CPU Z"
    assert "1 entry" in find(found["cache"], "engine cache").detail


@pytest.mark.usefixtures("auto_tries_the_gpu")
def test_a_gpu_with_all_it_needs_is_taken(with_gpu: Places) -> None:
    rtx = {"version": "1.7", "generations": ["SM86", "SM89"]}
    found = examine(with_gpu, healthy(gpu=gpu(8, 9), tensorrt_rtx=rtx).__getitem__)
    assert find(found["engines"], "auto").detail == "takes tensorrt-rtx, fp16, on cuda:0 (NVIDIA X)"
    assert find(found["engines"], "tensorrt-rtx") == Check("tensorrt-rtx", OK, "1.7")
    assert find(found["engines"], "tensorrt").state == NOT_NEEDED
    assert find(found["engines"], "CUDA binding").detail.startswith("pycuda is taken")
    assert find(found["gpu"], "cuda:0").detail == "NVIDIA X, 15.7 GiB, compute capability 8.9"
    assert find(found["gpu"], "driver").detail.endswith("serves CUDA 13.0")


@pytest.mark.usefixtures("auto_tries_the_gpu")
@pytest.mark.parametrize(
    ("capability", "jetson", "name", "mend"),
    [
        ((8, 9), False, "tensorrt-rtx", 'pip install "veintrack[tensorrt]"'),
        ((9, 0), False, "tensorrt", 'pip install tensorrt "veintrack[tensorrt]"'),
        ((8, 7), True, "tensorrt", "python3 -m venv --system-site-packages"),
    ],
)
def test_a_gpu_without_its_library_names_the_one_for_it(
    with_gpu: Places, capability: tuple[int, int], jetson: bool, name: str, mend: str
) -> None:
    if jetson:
        write(with_gpu.root, {"etc/nv_tegra_release": "# R36"})
    found = examine(with_gpu, healthy(gpu=gpu(*capability)).__getitem__)
    engines = {check.name: check for check in found["engines"]}
    other = "tensorrt" if name == "tensorrt-rtx" else "tensorrt-rtx"
    assert (engines[name].state, engines[other].state) == (MISSING, NOT_NEEDED)
    assert mend in engines[name].mend
    assert engines["auto"].state == OK
    assert "the GPU is not used" in engines["auto"].detail
    assert obstacle(found) == ""


@pytest.mark.usefixtures("auto_tries_the_gpu")
def test_a_library_without_kernels_for_the_gpu_does_not_count(with_gpu: Places) -> None:
    rtx = {"version": "1.7", "generations": ["SM86", "SM89"]}
    found = examine(with_gpu, healthy(gpu=gpu(9, 0), tensorrt_rtx=rtx).__getitem__)
    assert "no kernels for SM90" in find(found["engines"], "auto").detail
    assert find(found["engines"], "tensorrt").state == MISSING


@pytest.mark.usefixtures("auto_tries_the_gpu")
def test_a_library_that_does_not_load_is_broken(with_gpu: Places) -> None:
    broken = {"error": "ImportError: libnvinfer.so.10: cannot open"}
    found = examine(with_gpu, healthy(gpu=gpu(8, 9), tensorrt_rtx=broken).__getitem__)
    check = find(found["engines"], "tensorrt-rtx")
    assert check.state == BROKEN
    assert "libnvinfer.so.10" in check.detail


@pytest.mark.usefixtures("auto_tries_the_gpu")
def test_without_a_cuda_binding_the_gpu_is_not_used(with_gpu: Places) -> None:
    said = healthy(gpu=gpu(8, 9), tensorrt_rtx={"version": "1.7"}, cuda=ABSENT)
    found = examine(with_gpu, said.__getitem__)
    assert find(found["engines"], "CUDA binding").state == MISSING
    assert find(found["engines"], "CUDA binding").mend == 'pip install "veintrack[tensorrt]"'
    assert "the GPU is not used" in find(found["engines"], "auto").detail


@pytest.mark.parametrize(
    ("mark", "mend"),
    [
        ("", "install NVIDIA's driver"),
        (".dockerenv", "--gpus all"),
        ("etc/nv_tegra_release", "nvidia-jetpack"),
    ],
)
def test_a_gpu_without_its_driver_says_how_to_get_it(
    with_gpu: Places, mark: str, mend: str
) -> None:
    if mark:
        write(with_gpu.root, {mark: ""})
    (only,) = examine(with_gpu, healthy().__getitem__)["gpu"]
    assert only.state == MISSING
    assert mend in only.mend


@pytest.mark.parametrize("hidden", [True, False])
def test_a_driver_that_finds_no_gpu_is_broken(
    with_gpu: Places, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    said = healthy(gpu={"error": "EngineError: cuInit says CUDA_ERROR_NO_DEVICE"})
    (only,) = examine(with_gpu, said.__getitem__)["gpu"]
    assert only.state == BROKEN
    assert "CUDA_ERROR_NO_DEVICE" in only.detail
    assert ("CUDA_VISIBLE_DEVICES" if hidden else "nvidia-smi") in only.mend


class FakeDriver:
    """CUDA's driver with two devices, as ctypes calls it."""

    def __init__(self, code: int = 0) -> None:
        self.code = code

    def __getattr__(self, name: str) -> Callable[..., int]:
        values = {"cuDeviceGetCount": 2, "cuDeviceTotalMem_v2": 8 * 2**30}

        def function(*arguments: Any) -> int:
            if name == "cuDeviceGetName":
                arguments[0].value = b"NVIDIA X"
            elif name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = {75: 8, 76: 9}[arguments[1]]
            elif name == "cuGetErrorName":
                arguments[1]._obj.value = b"CUDA_ERROR_UNKNOWN"
            elif name in values:
                arguments[0]._obj.value = values[name]
            return self.code

        return function


def test_the_driver_is_asked_for_its_devices() -> None:
    one = {"name": "NVIDIA X", "memory_gib": 8.0, "compute_capability": (8, 9)}
    assert list(gpus_of(FakeDriver())) == [one, one]


def test_a_driver_that_refuses_is_named_with_its_reason() -> None:
    with pytest.raises(EngineError, match="cuInit says CUDA_ERROR_UNKNOWN"):
        list(gpus_of(FakeDriver(999)))


# Probes


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import os; os.abort()", "it ends the process that loads it: Aborted"),
        ("import time; time.sleep(60)", "no answer within 0.3 s"),
        ("raise SystemExit('nothing to say')", "nothing to say"),
        ("", "it said nothing"),
        ("print('[1]'); print(2)", "it said nothing"),
    ],
)
def test_a_library_that_takes_its_process_down_is_an_answer(
    monkeypatch: pytest.MonkeyPatch, code: str, error: str
) -> None:
    monkeypatch.setattr(probes, "_CHILD", code)
    limit_s = 0.3 if "sleep" in code else 20.0
    assert ask("openvino", limit_s) == {"error": error}


def test_what_a_library_prints_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        probes, "_CHILD", "print('hello'); print('{\"version\": \"1\"}'); print('goodbye')"
    )
    assert ask("openvino") == {"version": "1"}


def test_a_process_that_cannot_be_started_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    assert ask("openvino")["error"].startswith("FileNotFoundError: ")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("No module named 'x'", name="x"), ABSENT),
        (RuntimeError("no"), {"error": "RuntimeError: no"}),
    ],
)
def test_what_a_probe_raises_is_its_answer(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    said: Answer,
) -> None:
    def probe() -> Answer:
        raise error

    monkeypatch.setitem(PROBES, "openvino", probe)
    answer("openvino")
    assert json.loads(capsys.readouterr().out) == said


# The command


@pytest.fixture
def with_answers(
    monkeypatch: pytest.MonkeyPatch, places: Places
) -> Callable[[dict[str, Answer]], None]:
    def use(said: dict[str, Answer]) -> None:
        monkeypatch.setattr(command, "Places", lambda: places)
        monkeypatch.setattr(command, "ask", said.__getitem__)

    return use


Use = Callable[[dict[str, Answer]], None]


def test_a_machine_that_can_run_the_main_job_exits_with_0(
    with_answers: Use, capsys: pytest.CaptureFixture[str]
) -> None:
    with_answers(healthy())
    assert run(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "takes openvino" in said
    assert said.splitlines()[-1] == "The main job can run here."


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"openvino": ABSENT}, "auto: ModuleNotFoundError"),
        ({"libraries": {"error": "ImportError: libGL"}}, "libraries: ImportError: libGL"),
        ({"models": {}}, "default: no model is shipped"),
        ({"models": {"default": {"size_mib": 1, "error": "no ONNX"}}}, "default: 1.0 MiB; no ONNX"),
    ],
)
def test_what_the_main_job_cannot_do_without_exits_with_1(
    with_answers: Use, capsys: pytest.CaptureFixture[str], others: dict[str, Answer], why: str
) -> None:
    with_answers(healthy(**others))
    assert run(["doctor"]) == 1
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith(f"The main job cannot run here. {why}")
    assert "-> pip install --upgrade --force-reinstall veintrack" in said


def test_a_probe_that_answers_nonsense_ends_no_look(
    with_answers: Use, capsys: pytest.CaptureFixture[str]
) -> None:
    with_answers({name: {"error": "no"} for name in PROBES})
    assert run(["doctor"]) == 1
    with_answers({name: {"odd": 1} for name in PROBES})
    assert run(["doctor"]) == 1
    assert "KeyError" in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_is_broken_but_keeps_nothing_from_running(
    with_answers: Use,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VEINTRACK_CACHE", str(tmp_path / "file" / "engines"))
    with_answers(healthy())
    assert run(["doctor", "--json"]) == 0
    (cache,) = json.loads(capsys.readouterr().out)["sections"]["cache"]
    assert cache["state"] == BROKEN
    assert "is not a folder" in cache["detail"]
    assert cache["mend"].startswith("export VEINTRACK_CACHE=")


def test_a_large_cache_says_how_to_prune_it(
    with_answers: Use, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_LARGE_GIB", -1.0)
    with_answers(healthy())
    run(["doctor"])
    assert "veintrack build --prune" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_keeps_the_main_job_from_running(
    with_answers: Use,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "runs").touch()
    monkeypatch.chdir(tmp_path)
    with_answers(healthy())
    assert run(["doctor"]) == 1
    assert "--output DIR" in capsys.readouterr().out


def test_json_has_the_same_keys_everywhere(
    with_answers: Use, capsys: pytest.CaptureFixture[str]
) -> None:
    with_answers(healthy())
    assert run(["doctor", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert list(record) == ["veintrack", "ready", "why", "sections"]
    assert (record["ready"], record["why"]) == (True, "")
    assert list(record["sections"]) == [
        "machine", "engines", "gpu", "models", "cache", "video", "optional", "output",
    ]  # fmt: skip
    for checks in record["sections"].values():
        assert checks
        for check in checks:
            assert list(check) == ["name", "state", "detail", "mend"]
            assert check["state"] in (OK, MISSING, BROKEN, NOT_NEEDED)


def test_this_machine_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    sections = json.loads(capsys.readouterr().out)["sections"]
    assert "takes " in find([Check(**c) for c in sections["engines"]], "auto").detail
    assert find([Check(**c) for c in sections["models"]], "default").state == OK
