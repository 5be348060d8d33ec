"""The CUDA driver through pycuda."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, SupportsInt

import pycuda.driver as driver
from numpy.typing import DTypeLike, NDArray

from veintrack.engines.cuda import Stream, abandon, check_index
from veintrack.errors import EngineError

__all__ = ["PyCuda"]

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, which pycuda does not name


class PyCuda:
    """One device. See :class:`veintrack.engines.cuda.CudaBackend` for what its members do.

    Raises
    ------
    EngineError
        If there is no driver, or no such device.
    """

    def __init__(self, index: int) -> None:
        self.device = f"cuda:{index}"
        try:
            driver.init()
        except driver.Error as error:
            raise EngineError(f"no NVIDIA driver here: {error}") from error
        check_index(index, driver.Device.count())
        device = driver.Device(index)
        self.model: str = device.name()
        self.device = f"cuda:{index} ({self.model})"
        self.compute_capability: tuple[int, int] = device.compute_capability()
        version = driver.get_driver_version()
        self.cuda_version = f"{version // 1000}.{version % 1000 // 10}"
        try:
            self._context = device.retain_primary_context()
        except driver.Error as error:
            raise EngineError(f"{self.device} failed: {error}") from error
        # pycuda would release it as if it were an ordinary context, which the driver refuses.
        abandon(self._context)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        try:
            self._context.push()
            try:
                yield
            finally:
                self._context.pop()
        except driver.Error as error:
            raise EngineError(f"{self.device} failed: {error}") from error

    def alloc(self, size_bytes: int) -> SupportsInt:
        memory: SupportsInt = driver.mem_alloc(size_bytes)
        return memory

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        array: NDArray[Any] = driver.pagelocked_empty(shape, dtype)
        return array

    def stream(self) -> Stream:
        stream: Stream = driver.Stream(_NON_BLOCKING)
        return stream

    def event(self) -> object:
        event: object = driver.Event(driver.event_flags.DISABLE_TIMING)
        return event

    def copy_in(self, memory: SupportsInt, array: NDArray[Any], stream: Stream) -> None:
        driver.memcpy_htod_async(memory, array, stream)

    def copy_out(self, array: NDArray[Any], memory: SupportsInt, stream: Stream) -> None:
        driver.memcpy_dtoh_async(array, memory, stream)

    def record(self, event: Any, stream: Stream) -> None:
        event.record(stream)

    def finished(self, event: Any) -> bool:
        return bool(event.query())

    def capture(self, stream: Stream, enqueue: Callable[[], None]) -> Callable[[], None] | None:
        try:  # pycuda has no graphs; cuda-python records on its stream
            from veintrack.engines.cuda_python import capture
        except ImportError:
            return None

        def guarded() -> None:
            with self.active():  # so that pycuda's own errors arrive as ours
                enqueue()

        return capture(self, stream, guarded)
