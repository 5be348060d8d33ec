"""What the libraries and the driver say, each asked in a process of its own.

A library made for another processor ends the process that imports it, and a driver in trouble may
never answer: neither may take with it the command that asks.
"""

import ctypes
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from veintrack.errors import BackendMissingError, EngineError, VeintrackError
from veintrack.tracker.health import one_line

__all__ = ["OF_GPU", "PROBES", "Answer", "answer", "ask", "ask_all", "gpus_of"]

Answer = dict[str, Any]
"""What was found; with ``error`` where it failed, and ``missing`` where something is not there."""
_CHILD = """
import sys
sys.path[:] = sys.argv[2:]
from veintrack.tracker.cli.probes import answer
answer(sys.argv[1])
"""
_LIMIT_S = 20.0  # many times what the slowest takes on a small machine
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


def ask_all(names: Sequence[str], put: Callable[[str], Answer]) -> dict[str, Answer]:
    """Put several questions at once, by `put`, which is :func:`ask`."""
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(put, names), strict=True))


def ask(name: str, limit_s: float = _LIMIT_S) -> Answer:
    """Put a question of :data:`PROBES` in a process of its own; a failure is an answer, too.

    Parameters
    ----------
    name : str
        Which question.
    limit_s : float
        How long to wait before the process is ended.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, name, *sys.path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {limit_s:g} s"}
    except OSError as error:  # no memory for one more process, or no leave to start it
        return {"error": one_line(error)}
    if done.returncode < 0:
        return {"error": f"it ends the process that loads it: {signal.strsignal(-done.returncode)}"}
    # Libraries may have spoken before, and may speak once more as they are unloaded.
    objects = [line for line in done.stdout.splitlines() if line.startswith(b"{")]
    try:
        return dict(json.loads(objects[-1]))
    except (IndexError, ValueError, TypeError):
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return {"error": lines[-1] if lines else "it said nothing"}


def answer(name: str) -> None:
    """Answer a question, as one line of JSON."""
    try:
        said = PROBES[name]()
    except ModuleNotFoundError as error:
        said = {"missing": error.name, "error": one_line(error)}
    except BackendMissingError as error:
        said = {"missing": name, "error": str(error)}
    except VeintrackError as error:
        said = {"error": str(error)}
    except Exception as error:  # whatever a library raises is what was asked for
        said = {"error": one_line(error)}
    sys.stdout.write(f"\n{json.dumps(said)}\n")


def _machine() -> Answer:
    from veintrack.tracker.machine import machine_facts

    return machine_facts()


def _libraries() -> Answer:
    """Import all that tracking needs beside an engine."""
    for module in ("pipeline", "sources.video", "sources.v4l2", "sinks.video"):
        import_module(f"veintrack.tracker.{module}")
    from veintrack.tracker.runfolder import library_versions
    from veintrack.tracker.sinks.window import has_screen

    return {"versions": library_versions(), "screen": has_screen()}


def _models() -> Answer:
    from veintrack.engines.model import read_model_info

    found: Answer = {}
    folder = Path(str(files("veintrack.engines.models")))
    for path in sorted(folder.glob("*.onnx"), key=lambda path: path.stem):
        found[path.stem] = {"size_mib": path.stat().st_size / 2**20}
        try:
            info = read_model_info(path)
        except OSError as error:  # a faulty model is one, too
            found[path.stem]["error"] = str(error)
            continue
        found[path.stem] |= {
            "classes": info.classes,
            "input_shape": info.input_shape,
            "sha256": info.sha256,
        }
    return found


def _openvino() -> Answer:
    import openvino

    from veintrack.engines.base import factory

    core = openvino.Core()
    return {
        "version": openvino.get_version().split("-")[0],
        "device": str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip(),
        "native": core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
        "offers": factory("openvino").offers("cpu"),
    }


def _onnxruntime() -> Answer:
    import onnxruntime

    return {"version": onnxruntime.__version__}


def _tensorrt(name: str) -> Answer:
    """Import a library of TensorRT. Its run time is left alone: without a driver it crashes."""
    library = import_module(name)
    targets = getattr(library, "ComputeCapability", None)
    return {
        "version": library.__version__,
        "generations": list(targets.__members__) if targets else None,
    }


def _gpu() -> Answer:
    """Ask the driver itself, so that nothing else needs to be installed."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"missing": "libcuda.so.1", "error": str(error)}
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return {
        "cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
        "gpus": list(gpus_of(driver)),
    }


def gpus_of(driver: Any) -> Iterator[Answer]:
    """Ask CUDA's driver for its devices; no context is made on any of them.

    Parameters
    ----------
    driver : ctypes.CDLL
        ``libcuda``.

    Yields
    ------
    dict
        ``name``, ``memory_gib`` and ``compute_capability`` (major, minor) of a device.

    Raises
    ------
    EngineError
        If the driver refuses.
    """

    def call(function: str, *arguments: object) -> None:
        if code := getattr(driver, function)(*arguments):
            name = ctypes.c_char_p()
            driver.cuGetErrorName(code, ctypes.byref(name))
            raise EngineError(f"{function} says {(name.value or str(code).encode()).decode()}")

    count, device, major, minor = (ctypes.c_int() for _ in range(4))
    memory_bytes, name = ctypes.c_size_t(), ctypes.create_string_buffer(256)
    call("cuInit", 0)
    call("cuDeviceGetCount", ctypes.byref(count))
    for index in range(count.value):
        call("cuDeviceGet", ctypes.byref(device), index)
        call("cuDeviceGetName", name, len(name), device)
        call("cuDeviceTotalMem_v2", ctypes.byref(memory_bytes), device)
        call("cuDeviceGetAttribute", ctypes.byref(major), _MAJOR, device)
        call("cuDeviceGetAttribute", ctypes.byref(minor), _MINOR, device)
        yield {
            "name": name.value.decode(),
            "memory_gib": memory_bytes.value / 2**30,
            "compute_capability": (major.value, minor.value),
        }


def _cuda() -> Answer:
    """Open the first GPU as an engine would."""
    from veintrack.engines.cuda import BACKENDS, open_cuda

    opened = type(open_cuda(0)).__name__
    return {"backend": next(name for name, at in BACKENDS.items() if at.endswith(f":{opened}"))}


PROBES: dict[str, Callable[[], Answer]] = {  # the slowest first: they are asked at once
    "libraries": _libraries,
    "openvino": _openvino,
    "models": _models,
    "onnxruntime": _onnxruntime,
    "gpu": _gpu,
    "cuda": _cuda,
    "tensorrt": partial(_tensorrt, "tensorrt"),
    "tensorrt-rtx": partial(_tensorrt, "tensorrt_rtx"),
    "machine": _machine,
}
OF_GPU = ("gpu", "cuda", "tensorrt", "tensorrt-rtx")
"""The questions that are worth asking only where there is an NVIDIA GPU."""
