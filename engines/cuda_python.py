"""The CUDA driver through cuda-python, whose functions return a code where others raise."""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, SupportsInt

import numpy as np
from cuda.bindings import driver
from numpy.typing import DTypeLike, NDArray

from veintrack.engines.cuda import Stream, check_index
from veintrack.errors import EngineError

__all__ = ["CudaPython", "capture"]


class _Driver:
    """The driver's functions, whose failures become errors that name the device."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __call__(self, function: str, *arguments: object) -> Any:
        code, *values = getattr(driver, function)(*arguments)
        if int(code) != 0:
            raise EngineError(f"{self.device} failed: {function} says {driver.CUresult(code).name}")
        return values[0] if len(values) == 1 else tuple(values)


class _Owned:
    """A handle of the driver that is freed when nobody refers to it."""

    def __init__(
        self,
        handle: SupportsInt,
        free: Callable[[], object],
        active: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.handle = int(handle)
        self._free, self._active = free, active

    def __int__(self) -> int:
        return self.handle

    def __del__(self) -> None:
        with contextlib.suppress(EngineError), self._active():
            self._free()


class _Pinned(_Owned):
    """Host memory that arrays may be made of; it lives as long as the last of them."""

    size_bytes = 0

    @property
    def __array_interface__(self) -> dict[str, object]:
        return {
            "version": 3,
            "shape": (self.size_bytes,),
            "typestr": "|u1",
            "data": (self.handle, False),
        }


class CudaPython:
    """One device. See :class:`veintrack.engines.cuda.CudaBackend` for what its members do.

    Raises
    ------
    EngineError
        If there is no driver, or no such device.
    """

    def __init__(self, index: int) -> None:
        self.device = f"cuda:{index}"
        self._do = do = _Driver(self.device)
        try:
            do("cuInit", 0)
        except RuntimeError as error:  # of ours, or of the package if there is no driver to load
            raise EngineError(f"no NVIDIA driver here: {error}") from error
        check_index(index, do("cuDeviceGetCount"))
        number = do("cuDeviceGet", index)
        self.model = do("cuDeviceGetName", 256, number).split(b"\0")[0].decode()
        self.device = do.device = f"cuda:{index} ({self.model})"
        kind = driver.CUdevice_attribute
        self.compute_capability: tuple[int, int] = (
            do("cuDeviceGetAttribute", kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, number),
            do("cuDeviceGetAttribute", kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, number),
        )
        version = do("cuDriverGetVersion")
        self.cuda_version = f"{version // 1000}.{version % 1000 // 10}"
        self._context = do("cuDevicePrimaryCtxRetain", number)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        self._do("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            self._do("cuCtxPopCurrent")

    def alloc(self, size_bytes: int) -> SupportsInt:
        address = self._do("cuMemAlloc", size_bytes)
        return self._owned(address, "cuMemFree")

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        address = self._do("cuMemHostAlloc", size_bytes, 0)
        memory = _Pinned(address, lambda: self._do("cuMemFreeHost", address), self.active)
        memory.size_bytes = size_bytes
        return np.asarray(memory).view(dtype).reshape(shape)

    def stream(self) -> Stream:
        flag = driver.CUstream_flags.CU_STREAM_NON_BLOCKING
        return self._owned(self._do("cuStreamCreate", int(flag)), "cuStreamDestroy")

    def event(self) -> object:
        flag = driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
        return self._owned(self._do("cuEventCreate", int(flag)), "cuEventDestroy")

    def copy_in(self, memory: SupportsInt, array: NDArray[Any], stream: Stream) -> None:
        source = array.ctypes.data
        self._do("cuMemcpyHtoDAsync", int(memory), source, array.nbytes, stream.handle)

    def copy_out(self, array: NDArray[Any], memory: SupportsInt, stream: Stream) -> None:
        target = array.ctypes.data
        self._do("cuMemcpyDtoHAsync", target, int(memory), array.nbytes, stream.handle)

    def record(self, event: Any, stream: Stream) -> None:
        self._do("cuEventRecord", event.handle, stream.handle)

    def finished(self, event: Any) -> bool:
        (code,) = driver.cuEventQuery(event.handle)
        if code == driver.CUresult.CUDA_ERROR_NOT_READY:
            return False
        if int(code) != 0:
            raise EngineError(f"{self.device} failed: {driver.CUresult(code).name}")
        return True

    def capture(self, stream: Stream, enqueue: Callable[[], None]) -> Callable[[], None] | None:
        return capture(self, stream, enqueue)

    def _owned(self, handle: Any, free: str) -> _Owned:
        return _Owned(handle, lambda: self._do(free, handle), self.active)


def capture(cuda: Any, stream: Stream, enqueue: Callable[[], None]) -> Callable[[], None] | None:
    """Do the work of :meth:`veintrack.engines.cuda.CudaBackend.capture` for any backend `cuda`."""
    do = _Driver(cuda.device)
    # The mode: what other threads do meanwhile, a CUDA call of PyTorch say, spoils nothing.
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    try:
        do("cuStreamBeginCapture", stream.handle, mode)
        try:
            enqueue()
        finally:
            graph = do("cuStreamEndCapture", stream.handle)
            recorded = _Owned(graph, lambda: do("cuGraphDestroy", graph), cuda.active)
        program = do("cuGraphInstantiate", recorded.handle, 0)
    except EngineError:
        return None
    owned = _Owned(program, lambda: do("cuGraphExecDestroy", program), cuda.active)

    def launch() -> None:
        do("cuGraphLaunch", owned.handle, stream.handle)

    return launch
