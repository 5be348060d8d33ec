"""OpenVINO: the engine of a plain CPU, in INT8, BF16, FP16 or FP32."""

import contextlib
import io
import logging

import numpy as np
import openvino as ov

from veintrack.engines import cache
from veintrack.engines.base import F32, U8, Progress, chosen_precision
from veintrack.engines.model import INPUT, ModelInfo
from veintrack.errors import EngineError

__all__ = ["OpenVINOEngine"]

log = logging.getLogger(__name__)
_HINTS = {"bf16": "bf16", "fp16": "f16", "fp32": "f32"}


class OpenVINOEngine:
    """A network compiled by OpenVINO for this CPU.

    With one slot, all cores work on one picture; with several, each picture has fewer of them, and
    none waits for another's last layer. The first use of a model on a machine compiles it; the
    compiled form is kept in the cache and loads faster afterwards.

    A quantised model computes in INT8; what it leaves in floating point is computed in BF16 where
    the processor does.

    Raises
    ------
    EngineError
        If the CPU does not compute in `precision`, or OpenVINO refuses the model.
    """

    name = "openvino"

    @staticmethod
    def offers(device: str = "auto") -> tuple[str, ...]:
        """List the precisions that the CPU computes natively, and FP32; see `EngineFactory`."""
        del device
        native = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return tuple(p for p in ("int8", *_HINTS) if p == "fp32" or p.upper() in native)

    def __init__(
        self,
        model: ModelInfo,
        *,
        precision: str = "auto",
        device: str = "auto",
        slots: int | None = 1,
        progress: Progress | None = None,
    ) -> None:
        del progress  # it takes seconds
        del device  # the CPU is the only one that OpenVINO is used on here
        core = ov.Core()
        self.precision = chosen_precision(self.name, self.offers(), model, precision)
        self.device = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
        hint = "LATENCY" if slots == 1 else "THROUGHPUT"
        self.key = _key(core, model, self.precision, hint)
        network = _compile(core, model, self.key)
        if slots is None:
            # More than are computed at once: one is ready when one of them ends, and one more while
            # that one's answer is worked up.
            slots = 2 + int(network.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
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


def _key(core: ov.Core, model: ModelInfo, precision: str, hint: str) -> dict[str, str]:
    """List everything that a compiled form depends on."""
    floats = precision  # of what is computed in floating point
    if precision == "int8":
        native = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        floats = "bf16" if "BF16" in native else "fp32"
    return {
        "library": "openvino",
        "version": ov.get_version(),
        "model_sha256": model.sha256,
        "precision": precision,
        "device": str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip(),
        "shape": "x".join(str(n) for n in (1, 1, *model.input_shape)),
        "PERFORMANCE_HINT": hint,
        "INFERENCE_PRECISION_HINT": _HINTS[floats],
    }


def _compile(core: ov.Core, model: ModelInfo, key: dict[str, str]) -> ov.CompiledModel:
    settings = {name: value for name, value in key.items() if name.isupper()}

    def load(blob: bytes) -> ov.CompiledModel:
        return core.import_model(io.BytesIO(blob), "CPU", settings)

    def build() -> bytes:
        log.info("compiling %s for OpenVINO in %s", model.name, key["precision"])
        network = core.read_model(model.path)
        network.reshape({INPUT: [1, 1, *model.input_shape]})
        exported = io.BytesIO()
        core.compile_model(network, "CPU", settings).export_model(exported)
        return exported.getvalue()

    try:
        return cache.load_or_build(key, load, build, {"model": model.name})
    except RuntimeError as error:
        raise EngineError(f"OpenVINO refuses {model.path}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
