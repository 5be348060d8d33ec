"""One NVIDIA GPU's memory, streams, events and graphs, through pycuda or cuda-python.

Both work in the device's primary context, the one that TensorRT and PyTorch use. It is kept for
the life of the process, as CUDA's own runtime keeps it, and made current only inside
:meth:`CudaBackend.active`, so that nothing is left behind on a thread that others use, too.

Whatever :class:`CudaBackend` hands out is freed when nobody refers to it any more; let it go inside
``active()``.
"""

import ctypes
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, SupportsInt, cast

from numpy.typing import DTypeLike, NDArray

from veintrack.errors import BackendMissingError, EngineError

__all__ = [
    "BACKENDS",
    "CudaBackend",
    "Stream",
    "abandon",
    "check_index",
    "device_index",
    "driver_version",
    "open_cuda",
    "wait",
]

BACKENDS = {  # name -> module:class, in the order in which they are tried
    "pycuda": "veintrack.engines.cuda_pycuda:PyCuda",
    "cuda-python": "veintrack.engines.cuda_python:CudaPython",
}
_POLL_S = 50e-6  # short beside a picture's milliseconds, long beside a query's microsecond
_DRIVER_FILES = ("/proc/driver/nvidia/version", "/etc/nv_tegra_release")


class Stream(Protocol):
    """A queue of work for the device, beside all others."""

    @property
    def handle(self) -> int:
        """What other libraries know it by."""
        ...


class CudaBackend(Protocol):
    """What an engine needs of one device. All but the properties work inside `active` only."""

    @property
    def device(self) -> str:
        """Its name for messages, ``cuda:0 (NVIDIA ...)``."""
        ...

    @property
    def model(self) -> str:
        """Its name in the maker's words."""
        ...

    @property
    def compute_capability(self) -> tuple[int, int]:
        """Its generation, such as ``(8, 9)``."""
        ...

    @property
    def cuda_version(self) -> str:
        """The newest CUDA that the driver serves, such as ``13.0``."""
        ...

    def active(self) -> AbstractContextManager[None]:
        """Make the device's context current inside the block.

        A failure of the driver in it becomes an :class:`EngineError` that names the device.
        """
        ...

    def alloc(self, size_bytes: int) -> SupportsInt:
        """Take memory of the device; as an integer, it is its address."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Make an array that the device copies from and to without the processor."""
        ...

    def stream(self) -> Stream:
        """Make a stream that does not wait for the default one."""
        ...

    def event(self) -> object:
        """Make a mark that can be put into a stream."""
        ...

    def copy_in(self, memory: SupportsInt, array: NDArray[Any], stream: Stream) -> None:
        """Queue a copy of a pinned array to the device. It is read later."""
        ...

    def copy_out(self, array: NDArray[Any], memory: SupportsInt, stream: Stream) -> None:
        """Queue a copy from the device that fills a pinned array. It is written later."""
        ...

    def record(self, event: object, stream: Stream) -> None:
        """Put `event` behind all that `stream` has been given."""
        ...

    def finished(self, event: object) -> bool:
        """Ask whether all before `event` is done, without waiting."""
        ...

    def capture(self, stream: Stream, enqueue: Callable[[], None]) -> Callable[[], None] | None:
        """Record what `enqueue` gives to `stream`, without doing it.

        Returns
        -------
        callable or None
            Gives the whole recording to the stream in one call. None if it could not be recorded.
        """
        ...


def open_cuda(index: int, backend: str | None = None) -> CudaBackend:
    """Open a device, through the first library of :data:`BACKENDS` that is installed.

    Nothing of TensorRT may run before this: without a driver, parts of it end the process.

    Raises
    ------
    EngineError
        If there is no driver, no such device, or the device does not answer.
    BackendMissingError
        If neither library is installed.
    """
    broken = ""
    for name in (backend,) if backend else BACKENDS:
        module_name, class_name = BACKENDS[name].split(":")
        try:
            return cast("CudaBackend", getattr(import_module(module_name), class_name)(index))
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("veintrack"):
                raise
        except ImportError as error:  # it is installed, but the driver that it needs is not
            broken = broken or f"{name} does not load: {error}"
    if broken:
        raise EngineError(f"no NVIDIA driver here: {broken}")
    raise BackendMissingError(
        'using an NVIDIA GPU needs pycuda or cuda-python: pip install "veintrack[tensorrt]"'
    )


def device_index(device: str) -> int:
    """Read ``auto``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    name, _, number = device.partition(":")
    if device in ("auto", "cuda"):
        return 0
    if name != "cuda" or not (number.isascii() and number.isdigit()):
        raise ValueError(f"expected device auto, cuda or cuda:N, got {device!r}")
    return int(number)


def check_index(index: int, count: int) -> None:
    """Compare a device's number with how many there are.

    Raises
    ------
    EngineError
        If there is no such device.
    """
    if not 0 <= index < count:
        there = f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0" if count else "none"
        raise EngineError(f"there is no device cuda:{index}; this machine has {there}")


def driver_version() -> str:
    """Read what the driver says of itself; ``unknown`` where it says nothing."""
    for name in _DRIVER_FILES:
        try:
            return Path(name).read_text(encoding="utf-8").splitlines()[0].strip()
        except (OSError, IndexError):
            continue
    return "unknown"


def wait(cuda: CudaBackend, event: object, limit_s: float) -> None:
    """Wait until all before `event` is done.

    It asks instead of blocking: a device that hangs, or fell off the bus, would block for ever.

    Raises
    ------
    EngineError
        If the device failed, or takes longer than `limit_s`.
    """
    deadline_s = time.perf_counter() + limit_s
    while not cuda.finished(event):
        if time.perf_counter() > deadline_s:
            raise EngineError(f"{cuda.device} does not answer: nothing came back in {limit_s:g} s")
        time.sleep(_POLL_S)


def abandon(*objects: object) -> None:
    """Never free these: freeing what belongs to a device that hangs would hang, too."""
    for thing in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
