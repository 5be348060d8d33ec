"""What an inference engine is, and how one is found by name.

An engine is a class with :class:`Engine`'s members. Its module is imported only when it is asked
for, so importing this one needs NumPy alone.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from veintrack.engines.model import ModelInfo
from veintrack.errors import BackendMissingError, EngineError

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "RUNS_ON",
    "Engine",
    "EngineFactory",
    "Pictures",
    "Progress",
    "chosen_precision",
    "engine_names",
    "factory",
    "first_that_opens",
    "infer",
    "open_engine",
]

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Progress = Callable[[str, int, int], None]
"""Told the phase, the steps done, and the steps it has. What it raises ends a build."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures that are made when they are needed.

    Attributes
    ----------
    name : str
        What they are, in words.
    make : callable
        Gives them: arrays of shape (1, 1, H, W), uint8, on the network's grid.
    """

    name: str
    make: Callable[[], Sequence[U8]]


class Engine(Protocol):
    """A loaded network, ready to run on one device.

    It computes one picture in each of its slots: the caller fills the slot's :meth:`buffer`, calls
    :meth:`start`, and some time later :meth:`result`. With several slots, the next pictures are
    prepared and computed while the answers to earlier ones are looked at.

    Not thread safe: one engine belongs to one thread.
    """

    @property
    def name(self) -> str:
        """Its key in :data:`ENGINES`."""
        ...

    @property
    def precision(self) -> str:
        """What it computes in: ``fp32``, ``bf16``, ``fp16`` or ``int8``."""
        ...

    @property
    def device(self) -> str:
        """The device it runs on, in the maker's words."""
        ...

    @property
    def key(self) -> Mapping[str, str] | None:
        """What its compiled form is kept under in the cache; None where nothing is kept."""
        ...

    @property
    def slots(self) -> int:
        """How many pictures may be in work at once, numbered from 0."""
        ...

    def buffer(self, slot: int) -> U8:
        """Return a slot's input, which the caller fills in place.

        Returns
        -------
        ndarray of shape (1, 1, H, W), uint8
            Raw grey levels on the network's grid; black at first. Not to be touched between
            :meth:`start` and :meth:`result`.
        """
        ...

    def start(self, slot: int) -> None:
        """Begin to segment what lies in a slot's buffer.

        Raises
        ------
        EngineError
            If the device failed, or the engine is closed.
        """
        ...

    def ready(self, slot: int) -> bool:
        """Whether :meth:`result` would answer at once, or compute by itself what it answers."""
        ...

    def result(self, slot: int) -> F32:
        """Wait for the answer to what was started in a slot.

        Returns
        -------
        ndarray of shape (1, C, H, W), float32
            Probability of each class, 0 to 1. The engine's own buffer, which the slot's next start
            overwrites: copy it to keep it.

        Raises
        ------
        EngineError
            If the device failed, or the engine is closed.
        """
        ...

    def close(self) -> None:
        """Free the device. Safe to call twice."""
        ...


class EngineFactory(Protocol):
    """How an engine is made; each value of :data:`ENGINES` names one."""

    def offers(self, device: str) -> tuple[str, ...]:
        """List the precisions that it has here, the fastest first.

        What comes behind ``fp32`` is there for who asks for it.
        """
        ...

    def __call__(
        self,
        model: ModelInfo,
        *,
        precision: str,
        device: str,
        slots: int | None,
        progress: Progress | None,
    ) -> Engine: ...


ENGINES = {  # name -> module:class
    "openvino": "veintrack.engines.openvino:OpenVINOEngine",
    "onnxruntime": "veintrack.engines.onnxruntime:OnnxRuntimeEngine",
    "tensorrt": "veintrack.engines.tensorrt:TensorRTEngine",
    "tensorrt-rtx": "veintrack.engines.tensorrt:TensorRTRTXEngine",
}
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
RUNS_ON = {"openvino": "cpu", "onnxruntime": "cpu", "tensorrt": "cuda", "tensorrt-rtx": "cuda"}
log = logging.getLogger(__name__)
_GPU_FILES = ("/dev/nvidia0", "/etc/nv_tegra_release", "/dev/dxg")  # of a desktop, Jetson, WSL


def open_engine(
    model: ModelInfo,
    name: str = "auto",
    *,
    precision: str = "auto",
    device: str = "auto",
    slots: int | None = 1,
    progress: Progress | None = None,
) -> Engine:
    """Load `model` in the named engine, or in the best one for this machine.

    Parameters
    ----------
    model : ModelInfo
        From :func:`veintrack.engines.model.read_model_info`.
    name : str
        A key of :data:`ENGINES`, or ``auto``: TensorRT where it is installed and there is an NVIDIA
        GPU, and else OpenVINO, the fastest on a plain CPU.
    precision : str
        One of :data:`PRECISIONS`, or ``auto``: that of a quantised model, or else the fastest
        floating-point one that the device computes natively.
    device : str
        ``cpu``, ``cuda``, ``cuda:N``, or ``auto``.
    slots : int or None
        How many pictures may be in work at once. 1: each is answered as soon as possible. None: as
        many as keep the device busy, for the most pictures a second.
    progress : callable, optional
        See :data:`Progress`.

    Raises
    ------
    ValueError
        If the name, precision, device or number of slots is unknown.
    EngineError
        If the engine does not offer that precision, or refuses the model.
    BackendMissingError
        If the engine's library is not installed; the message says how to get it.
    """
    if slots is not None and slots < 1:
        raise ValueError(f"slots must be at least 1, got {slots}")

    def attempt(name: str) -> Engine:
        return factory(name)(
            model, precision=precision, device=device, slots=slots, progress=progress
        )

    return first_that_opens(engine_names(name, precision, device), attempt)


def first_that_opens(names: Sequence[str], attempt: Callable[[str], Engine]) -> Engine:
    """Open the first engine that can be; why another is not is a warning.

    Raises
    ------
    EngineError
        If none can be: why the last cannot.
    """
    for name in names[:-1]:
        try:
            return attempt(name)
        except EngineError as error:
            log.warning("%s is not used: %s", name, error)
    return attempt(names[-1])


def engine_names(
    name: str = "auto", precision: str = "auto", device: str = "auto"
) -> tuple[str, ...]:
    """List the engines to try for what was asked, the best first; see :func:`open_engine`.

    Raises
    ------
    ValueError
        If the name, precision or device is unknown.
    """
    if name not in ("auto", *ENGINES):
        raise ValueError(f"unknown engine {name!r}; choose one of auto, {', '.join(ENGINES)}")
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(
            f"unknown precision {precision!r}; choose one of auto, {', '.join(PRECISIONS)}"
        )
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda") or (kind != "cuda" and device != kind):
        raise ValueError(f"unknown device {device!r}; choose one of auto, cpu, cuda, cuda:N")
    if name != "auto":
        if kind not in ("auto", RUNS_ON[name]):
            raise ValueError(f"{name} runs on {RUNS_ON[name]}, not on {device}")
        return (name,)
    if kind == "cuda":
        return ("tensorrt",)
    return ("tensorrt", "openvino") if kind == "auto" and _may_have_gpu() else ("openvino",)


def chosen_precision(engine: str, offers: Collection[str], model: ModelInfo, precision: str) -> str:
    """Settle what an engine computes a model in.

    Parameters
    ----------
    engine : str
        Its name, for messages.
    offers : collection of str
        The precisions that it has, the fastest first.
    model : ModelInfo
        A quantised one computes in INT8, and no other does.
    precision : str
        What was asked for; ``auto`` is the fastest.

    Raises
    ------
    EngineError
        If the engine does not offer it, or the model has no such form.
    """
    if model.quantised:
        if precision not in ("auto", "int8"):
            raise EngineError(f"{model.name} is quantised: it computes in int8, not {precision}")
        return "int8"
    if precision == "int8":
        raise EngineError(
            f"{model.name} is not quantised: `veintrack build --precision int8` does it"
        )
    floats = [offered for offered in offers if offered != "int8"]
    if precision == "auto":
        return floats[0]
    if precision not in floats:
        raise EngineError(
            f"{engine} offers {' and '.join(offers)} here, not {precision}: "
            f"use --precision {floats[0]}"
        )
    return precision


def factory(name: str) -> EngineFactory:
    """Import what makes the named engine.

    Raises
    ------
    BackendMissingError
        If its library is not installed; the message says how to get it.
    """
    module_name, class_name = ENGINES[name].split(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("veintrack"):
            raise
        raise BackendMissingError(
            f"engine {name!r} needs {error.name}: pip install {name}"
        ) from error
    return cast("EngineFactory", getattr(module, class_name))


def _may_have_gpu() -> bool:
    """Look without asking the driver, which takes time: for an NVIDIA GPU, and for TensorRT."""
    return any(Path(file).exists() for file in _GPU_FILES) and any(
        find_spec(library) for library in ("tensorrt", "tensorrt_rtx")
    )


def infer(engine: Engine, frames: U8) -> F32:
    """Segment one picture, in the first slot, and wait for the answer.

    Parameters
    ----------
    engine : Engine
        An engine with nothing in work.
    frames : ndarray of shape (1, 1, H, W), uint8
        Raw grey levels on the network's grid.

    Returns
    -------
    ndarray of shape (1, C, H, W), float32
        As from :meth:`Engine.result`.

    Raises
    ------
    ValueError
        If the shape or type of `frames` is wrong.
    EngineError
        If the device failed, or the engine is closed.
    """
    buffer = engine.buffer(0)
    if frames.shape != buffer.shape or frames.dtype != np.uint8:
        raise ValueError(
            f"expected frames of shape {buffer.shape} uint8, got {frames.shape} {frames.dtype}"
        )
    buffer[...] = frames
    engine.start(0)
    return engine.result(0)
