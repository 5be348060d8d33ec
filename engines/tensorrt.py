"""TensorRT and TensorRT-RTX: the engines of NVIDIA GPUs, in FP16, FP32 or INT8.

Each slot has a stream, memory and an execution context of its own, so that one picture goes up and
another comes down while a third is computed. All that is taken when the engine is opened: a
picture takes nothing more. It goes up as bytes, and only the probability comes down.
"""

import contextlib
import logging
from collections.abc import Iterator

import numpy as np

from veintrack.engines.base import F32, U8, Progress, chosen_precision
from veintrack.engines.cuda import CudaBackend, abandon, device_index, open_cuda, wait
from veintrack.engines.model import INPUT, OUTPUT, ModelInfo
from veintrack.engines.tensorrt_api import call, logger, trt, use
from veintrack.engines.tensorrt_plan import KeptKernels, engine_key, load_or_build
from veintrack.errors import EngineError

__all__ = ["TensorRTEngine", "TensorRTRTXEngine"]

log = logging.getLogger(__name__)
_BUSY_SLOTS = 2  # one picture is copied while the other is computed
_LIMIT_S = 5.0  # a picture takes milliseconds: what takes this long will not come back
_FIRST_LIMIT_S = 120.0  # TensorRT-RTX compiles its kernels when they first run


class TensorRTEngine:
    """A network on one NVIDIA GPU.

    The first use of a model on a device builds its engine, which takes from seconds to minutes;
    it is kept in the cache and loads faster afterwards.

    Parameters
    ----------
    model : ModelInfo
        The model. For ``int8`` it must be a quantised one.
    precision : str
        ``fp16`` (``auto``), ``fp32`` or ``int8``.
    device : str
        ``cuda:N``; ``auto`` and ``cuda`` are ``cuda:0``.
    slots : int or None
        Pictures that may be in work at once; None is 2.
    workspace_bytes, progress
        See :func:`veintrack.engines.tensorrt_build.build_plan`.

    Raises
    ------
    ValueError
        If `device` names no GPU.
    EngineError
        If there is no such GPU, it fails, or TensorRT refuses the model or does not offer
        `precision`.
    BackendMissingError
        If TensorRT, or both pycuda and cuda-python, are missing.
    """

    library: str | None = None  # the first that is installed

    @staticmethod
    def offers(device: str = "auto") -> tuple[str, ...]:
        """See `EngineFactory`. INT8 costs a build of minutes and, without zero points, accuracy."""
        del device
        return ("fp16", "fp32", "int8")

    def __init__(
        self,
        model: ModelInfo,
        *,
        precision: str = "auto",
        device: str = "auto",
        slots: int | None = 1,
        workspace_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.name = use(self.library).__name__.replace("_", "-")
        self.precision = chosen_precision(self.name, self.offers(), model, precision)
        self.slots = _BUSY_SLOTS if slots is None else slots
        # First of all the driver: without one, TensorRT's run time ends the process.
        self._cuda = open_cuda(device_index(device))
        self.device = self._cuda.model
        self._lost = False
        self._slots: list[_Slot] = []
        self._network: trt.ICudaEngine | None = None
        self._kernels: KeptKernels | None = None
        self._runtime: trt.Runtime | None = None
        try:
            with self._cuda.active():
                self._runtime = call("start its run time", trt.Runtime, logger())
                self._network = load_or_build(
                    self._runtime,
                    self._cuda,
                    model,
                    self.precision,
                    workspace_bytes=workspace_bytes,
                    progress=progress,
                )
                self.key = engine_key(self._cuda, model, self.precision, workspace_bytes)
                self._kernels = KeptKernels(self._network, self.key)
                shape = (1, 1, *model.input_shape)
                for _ in range(self.slots):
                    context = call(
                        "make a context",
                        self._network.create_execution_context,
                        *self._kernels.arguments,
                    )
                    self._slots.append(_Slot(self._cuda, self._network, context, shape))
                    del context  # the slot frees it before the engine
                self._kernels.keep()
        except BaseException:
            self.close()
            raise

    def buffer(self, slot: int) -> U8:
        return self._opened(slot).frames

    def start(self, slot: int) -> None:
        chosen = self._opened(slot)
        if chosen.in_work:
            raise ValueError(f"slot {slot} is in work: take its result before the next start")
        with self._working():
            chosen.start()

    def ready(self, slot: int) -> bool:
        chosen = self._opened(slot)
        if not chosen.in_work:
            return True
        with self._working():
            return chosen.ended()

    def result(self, slot: int) -> F32:
        chosen = self._opened(slot)
        if chosen.in_work:
            with self._working():
                chosen.finish(_LIMIT_S)
        return chosen.answer

    def close(self) -> None:
        slots, kernels, network, runtime = self._slots, self._kernels, self._network, self._runtime
        self._slots, self._kernels, self._network, self._runtime = [], None, None, None
        if network is None:
            return
        if not self._lost:
            with contextlib.suppress(EngineError), self._working():
                for number in range(len(slots)):  # a loop's variable would hold on to the last slot
                    slots[number].wait(_LIMIT_S)  # the device still reads and writes its memory
        if self._lost:
            abandon(slots, kernels, network, runtime)
            return
        with contextlib.suppress(EngineError), self._cuda.active():
            for number in range(len(slots)):
                slots[number].let_go()
            del kernels
            del network
            del runtime
            slots.clear()

    def _opened(self, slot: int) -> "_Slot":
        if not self._slots:
            raise EngineError("this engine is closed")
        if self._lost:
            raise EngineError(f"{self._cuda.device} was lost: close this engine")
        return self._slots[slot]

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """Have the device's context current; whatever fails in it has lost the device."""
        try:
            with self._cuda.active():
                yield
        except EngineError:
            self._lost = True
            raise


class TensorRTRTXEngine(TensorRTEngine):
    """The same by TensorRT-RTX, also where TensorRT is installed."""

    library = "tensorrt_rtx"


class _Slot:
    """One picture's way through the device. Its methods need the device's context."""

    def __init__(
        self,
        cuda: CudaBackend,
        network: "trt.ICudaEngine",
        context: "trt.IExecutionContext",
        shape: tuple[int, ...],
    ) -> None:
        self._cuda, self._context = cuda, context
        call(f"take pictures of {shape}", context.set_input_shape, INPUT, trt.Dims(shape))
        answer_shape = tuple(context.get_tensor_shape(OUTPUT))
        answer_type = np.dtype(trt.nptype(network.get_tensor_dtype(OUTPUT)))
        self.frames: U8 = cuda.pinned(shape, np.uint8)
        self.frames[...] = 0
        self._down = cuda.pinned(answer_shape, answer_type)
        # Beside the pinned array: reading that is slow on some devices, and it is freed on close.
        self.answer: F32 = np.zeros(answer_shape, np.float32)
        self._frames_there = cuda.alloc(self.frames.nbytes)
        self._answer_there = cuda.alloc(self._down.nbytes)
        for name, memory in ((INPUT, self._frames_there), (OUTPUT, self._answer_there)):
            call(f"take the address of {name}", context.set_tensor_address, name, int(memory))
        self._stream, self._end = cuda.stream(), cuda.event()
        self.in_work = False
        # Once plainly: what a network does at its first run must not be recorded.
        self._graph = None
        try:
            self.start()
            self.finish(_FIRST_LIMIT_S)
        except EngineError:
            abandon(self)  # the device may still be at it
            raise
        self.answer[...] = 0
        self._graph = cuda.capture(self._stream, self._enqueue)
        if self._graph is None:
            log.info("no CUDA graph on %s: every step of a picture is launched", cuda.device)

    def start(self) -> None:
        if self._graph is None:
            self._enqueue()
        else:
            self._graph()
        self._cuda.record(self._end, self._stream)
        self.in_work = True

    def finish(self, limit_s: float) -> None:
        self.wait(limit_s)
        np.copyto(self.answer, self._down)
        self.in_work = False

    def ended(self) -> bool:
        return self._cuda.finished(self._end)

    def wait(self, limit_s: float) -> None:
        if self.in_work:
            wait(self._cuda, self._end, limit_s)

    def let_go(self) -> None:
        """Free what belongs to the network, which must be gone before the network is."""
        self._graph = None
        del self._context

    def _enqueue(self) -> None:
        self._cuda.copy_in(self._frames_there, self.frames, self._stream)
        call("run the network", self._context.execute_async_v3, self._stream.handle)
        self._cuda.copy_out(self._down, self._answer_there, self._stream)
