"""Findings about engines and GPUs, from what the probes said."""

import os
import platform
from collections.abc import Iterator, Mapping
from functools import partial

from veintrack.tracker.cli.probes import Answer
from veintrack.tracker.health import (
    BROKEN,
    MISSING,
    NOT_NEEDED,
    OK,
    Check,
    Places,
    has_nvidia_hardware,
    in_container,
    is_jetson,
    look,
    version_of,
)

__all__ = ["REINSTALL", "Said", "engine_checks", "fault", "gpu_checks"]

Said = Mapping[str, Answer]
"""By question of :data:`veintrack.tracker.cli.probes.PROBES`, its answer."""
REINSTALL = "pip install --upgrade --force-reinstall veintrack"
_TENSORRT = ("tensorrt", "tensorrt-rtx")  # in the order in which they are taken
# Generations that TensorRT-RTX 1.7 has kernels for; one that is installed says so itself.
_RTX = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")


def fault(name: str, answer: Answer, mend: str) -> Check:
    """Put a failed answer into a finding."""
    return Check(name, MISSING if "missing" in answer else BROKEN, answer["error"], mend)


def engine_checks(places: Places, said: Said) -> Iterator[Check]:
    """Say which engine ``auto`` takes, and which others are there."""
    yield from look("auto", partial(_auto, said))
    for name in ("openvino", "onnxruntime"):
        yield from look(name, partial(_processor_engine, name, said[name]))
    for name in _TENSORRT:
        yield from look(name, partial(_tensorrt, name, places, said))
    yield from look("CUDA binding", partial(_binding, said))


def _auto(said: Said) -> Check:
    """Foresee what ``auto`` takes, without building it."""
    from veintrack.engines.base import engine_names, factory

    aside = ""
    if "tensorrt" in engine_names():
        name = next((name for name in _TENSORRT if "error" not in said[name]), _TENSORRT[0])
        aside = _gpu_fault(name, said)
        if not aside:
            gpu, precision = said["gpu"]["gpus"][0]["name"], factory(name).offers("cuda")[0]
            return Check("auto", OK, f"takes {name}, {precision}, on cuda:0 ({gpu})")
        aside = f"; the GPU is not used: {aside}"
    answer = said["openvino"]
    if "error" in answer:
        return fault("auto", {**answer, "error": answer["error"] + aside}, REINSTALL)
    sha256 = said["models"].get("default", {}).get("sha256")
    chosen = _remembered(sha256) or "the fastest that passes its check of " + ", ".join(
        answer["offers"]
    )
    return Check("auto", OK, f"takes openvino, {chosen}, on {answer['device']}{aside}")


def _remembered(sha256: str) -> str:
    """Read which precision a model's first use on this processor took; empty before that."""
    from veintrack.engines.cache import entries, path_of

    wanted = {"library": "choice", "engine": "openvino", "model_sha256": sha256}
    for entry in entries():  # the most recently used first
        if wanted.items() <= entry.key.items():
            return path_of(entry.key).read_text()
    return ""


def _processor_engine(name: str, answer: Answer) -> Check:
    if "error" in answer:
        return fault(name, answer, f"pip install --upgrade --force-reinstall {name}")
    return Check(name, OK, answer["version"])


def _tensorrt(name: str, places: Places, said: Said) -> Check:
    version = version_of(name)
    there = version or said[name].get("version", "not installed")
    if not said["gpu"].get("gpus"):
        return Check(name, NOT_NEEDED, f"{there}; there is no GPU to run it on")
    trouble = _gpu_fault(name, said)
    if not trouble:
        return Check(name, OK, there)
    other = next(one for one in _TENSORRT if one != name)
    if name != _suited(places, said) or (not version and not _gpu_fault(other, said)):
        return Check(name, NOT_NEEDED, f"{there}; {other} is for this GPU")
    absent = "missing" in said[name]
    detail = there if absent else f"{there}; {trouble}"
    return Check(name, MISSING if absent else BROKEN, detail, _install(name, places))


def _gpu_fault(name: str, said: Said) -> str:
    """Say why a library of TensorRT could not run on the first GPU; empty if it could."""
    if not said["gpu"].get("gpus"):
        return str(said["gpu"].get("error", "the driver finds none"))
    if "missing" in said[name]:
        return "TensorRT is not installed"
    for answer in (said[name], said["cuda"]):
        if "error" in answer:
            return str(answer["error"])
    known, generation = said[name].get("generations"), _generation(said)
    if name == "tensorrt-rtx" and known and generation not in known:
        return f"TensorRT-RTX {said[name]['version']} has no kernels for {generation}"
    return ""


def _generation(said: Said) -> str:
    """Name the first GPU's generation as NVIDIA's libraries do, such as ``SM89``."""
    return "SM{}{}".format(*said["gpu"]["gpus"][0]["compute_capability"])


def _suited(places: Places, said: Said) -> str:
    """Say which library of TensorRT is for the first GPU."""
    desktop = platform.machine() == "x86_64" and not is_jetson(places)
    return "tensorrt-rtx" if desktop and _generation(said) in _RTX else "tensorrt"


def _install(name: str, places: Places) -> str:
    if name == "tensorrt-rtx":
        return 'pip install "veintrack[tensorrt]"'
    if is_jetson(places):
        return (
            "sudo apt install python3-libnvinfer && python3 -m venv --system-site-packages .venv   "
            '# then, in it: pip install "veintrack[tensorrt]"'
        )
    return 'pip install tensorrt "veintrack[tensorrt]"'


def _binding(said: Said) -> Check:
    installed = {name: version_of(name) for name in ("pycuda", "cuda-python")}
    there = ", ".join(f"{name} {v}" for name, v in installed.items() if v) or "none is installed"
    if not said["gpu"].get("gpus"):
        return Check("CUDA binding", NOT_NEEDED, f"{there}; there is no GPU to reach")
    if "error" in said["cuda"]:
        return fault("CUDA binding", said["cuda"], 'pip install "veintrack[tensorrt]"')
    return Check("CUDA binding", OK, f"{said['cuda']['backend']} is taken; {there}")


def gpu_checks(places: Places, answer: Answer) -> Iterator[Check]:
    """Say which GPUs there are, and what their driver is."""
    from veintrack.engines.cuda import driver_version

    gpus = answer.get("gpus")
    if not gpus:
        yield _no_gpu(places, answer)
        return
    for index, gpu in enumerate(gpus):
        capability = "{}.{}".format(*gpu["compute_capability"])
        memory = f"{gpu['memory_gib']:.1f} GiB"
        detail = f"{gpu['name']}, {memory}, compute capability {capability}"
        yield Check(f"cuda:{index}", OK, detail)
    yield Check("driver", OK, f"{driver_version()}; serves CUDA {answer['cuda']}")


def _no_gpu(places: Places, answer: Answer) -> Check:
    error = answer.get("error", "the driver finds none")
    if not has_nvidia_hardware(places):
        return Check("GPU", NOT_NEEDED, "no NVIDIA GPU found: networks run on the processor")
    if "missing" not in answer:
        hidden = "CUDA_VISIBLE_DEVICES" in os.environ
        mend = "unset CUDA_VISIBLE_DEVICES" if hidden else "nvidia-smi   # says more; or restart"
        return Check("GPU", BROKEN, f"an NVIDIA GPU is there, but {error}", mend)
    if in_container(places):
        mend = "start the container with --gpus all (on a Jetson: --runtime nvidia)"
    elif is_jetson(places):
        mend = "sudo apt install nvidia-jetpack"
    else:
        mend = "install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install) and restart"
    return Check("GPU", MISSING, "an NVIDIA GPU is there, its driver is not", mend)
