"""OpenVINO: the engine of a plain CPU, in FP32 or BF16."""

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
    """A network compiled by OpenVINO for this CPU, one picture at a time.

    The first use of a model on a machine compiles it; the compiled form is kept in the cache and
    loads faster afterwards.

    Raises
    ------
    EngineError
        If the CPU does not compute in `precision`, or OpenVINO refuses the model.
    """

    name = "openvino"

    def __init__(self, model: ModelInfo, *, precision: str = "auto", device: str = "auto") -> None:
        del device  # the CPU is the only one that OpenVINO is used on here
        core = ov.Core()
        self.precision = _choose_precision(core, precision)
        self.device = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
        self._shape = (1, 1, *model.input_shape)
        self._request = _compile(core, model, self.precision, self.device).create_infer_request()

    def infer(self, frames: U8) -> F32:
        if self._request is None:
            raise EngineError("this engine is closed")
        if frames.shape != self._shape or frames.dtype != np.uint8:
            raise EngineError(
                f"expected frames of shape {self._shape} uint8, got {frames.shape} {frames.dtype}"
            )
        try:
            results = self._request.infer({0: frames}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed: {_first_line(error)}") from error
        probability: F32 = results[0]
        return probability

    def close(self) -> None:
        self._request = None


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


def _compile(core: ov.Core, model: ModelInfo, precision: str, device: str) -> ov.CompiledModel:
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
    key = {
        "engine": f"openvino {ov.get_version()}",
        "model_sha256": model.sha256,
        "device": device,
        "shape": "x".join(str(n) for n in (1, 1, *model.input_shape)),
        **settings,
    }
    blob = cache.load(key)
    if blob is not None:
        try:
            return core.import_model(io.BytesIO(blob), "CPU", settings)
        except RuntimeError as error:
            log.warning("a cached engine did not load and is rebuilt: %s", _first_line(error))
            cache.quarantine(key)
    log.info("compiling %s for OpenVINO %s", model.path.name, precision)
    try:
        network = core.read_model(model.path)
        network.reshape({INPUT: [1, 1, *model.input_shape]})
        compiled = core.compile_model(network, "CPU", settings)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO refuses {model.path}: {_first_line(error)}") from error
    exported = io.BytesIO()
    compiled.export_model(exported)
    try:
        cache.store(key, exported.getvalue())
    except OSError as error:
        log.warning("the compiled engine could not be kept: %s", error)
    return compiled


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
