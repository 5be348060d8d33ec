"""OpenVINO: the engine of a plain CPU, in FP32 or BF16."""

import contextlib
import io
import logging

import numpy as np
import openvino as ov

from veintrack.engines import cache
from veintrack.engines.base import F32, U8
from veintrack.engines.model import INPUT, ModelInfo
from veintrack.errors import EngineError

__all__ = ["OpenVINOEngine"]

log = logging.getLogger(__name__)
_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVINOEngine:
    """A network compiled by OpenVINO for this CPU.

    With one slot, all cores work on one picture; with several, each picture has fewer of them, and
    none waits for another's last layer. The first use of a model on a machine compiles it; the
    compiled form is kept in the cache and loads faster afterwards.

    Raises
    ------
    EngineError
        If the CPU does not compute in `precision`, or OpenVINO refuses the model.
    """

    name = "openvino"

    def __init__(
        self,
        model: ModelInfo,
        *,
        precision: str = "auto",
        device: str = "auto",
        slots: int | None = 1,
    ) -> None:
        del device  # the CPU is the only one that OpenVINO is used on here
        core = ov.Core()
        self.precision = _choose_precision(core, precision)
        self.device = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
        hint = "LATENCY" if slots == 1 else "THROUGHPUT"
        network = _compile(core, model, self.precision, self.device, hint)
        if slots is None:
            # One more than are computed at once: it is ready when one of them ends.
            slots = 1 + int(network.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.slots = slots
        self._frames = [np.zeros((1, 1, *model.input_shape), np.uint8) for _ in range(slots)]
        self._requests = [network.create_infer_request() for _ in range(slots)]
        for request, frames in zip(self._requests, self._frames, strict=True):
            request.set_input_tensor(ov.Tensor(frames, shared_memory=True))

    def buffer(self, slot: int) -> U8:
        return self._frames[slot]

    def start(self, slot: int) -> None:
        request = self._request(slot)
        try:
            request.start_async()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed: {_first_line(error)}") from error

    def ready(self, slot: int) -> bool:
        try:
            return bool(self._request(slot).wait_for(0))
        except RuntimeError:  # the result will say what happened
            return True

    def result(self, slot: int) -> F32:
        request = self._request(slot)
        try:
            request.wait()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed: {_first_line(error)}") from error
        probability: F32 = request.get_output_tensor().data
        return probability

    def _request(self, slot: int) -> ov.InferRequest:
        if not self._requests:
            raise EngineError("this engine is closed")
        return self._requests[slot]

    def close(self) -> None:
        for request in self._requests:
            with contextlib.suppress(RuntimeError):  # what failed has ended, too
                request.wait()  # it still reads and writes our buffers
        self._requests = []


def _choose_precision(core: ov.Core, precision: str) -> str:
    native = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    offered = [name for name in _HINTS if name == "fp32" or name.upper() in native]
    if precision == "auto":
        return offered[-1]
    if precision not in offered:
        raise EngineError(
            f"OpenVINO on this CPU offers {' and '.join(offered)}, not {precision}: "
            f"use --precision {offered[-1]}"
        )
    return precision


def _compile(
    core: ov.Core, model: ModelInfo, precision: str, device: str, hint: str
) -> ov.CompiledModel:
    settings = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": _HINTS[precision]}
    key = {
        "library": "openvino",
        "version": ov.get_version(),
        "model_sha256": model.sha256,
        "device": device,
        "shape": "x".join(str(n) for n in (1, 1, *model.input_shape)),
        **settings,
    }

    def load(blob: bytes) -> ov.CompiledModel:
        return core.import_model(io.BytesIO(blob), "CPU", settings)

    def build() -> bytes:
        log.info("compiling %s for OpenVINO %s", model.path.name, precision)
        network = core.read_model(model.path)
        network.reshape({INPUT: [1, 1, *model.input_shape]})
        exported = io.BytesIO()
        core.compile_model(network, "CPU", settings).export_model(exported)
        return exported.getvalue()

    try:
        return cache.load_or_build(key, load, build, {"model": model.path.name})
    except RuntimeError as error:
        raise EngineError(f"OpenVINO refuses {model.path}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
