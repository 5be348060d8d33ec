"""ONNX Runtime on the CPU, in FP32: the reference that other engines are held against."""

from typing import Any

import numpy as np
import onnxruntime

from veintrack.engines.base import F32, U8
from veintrack.engines.model import INPUT, OUTPUT, ModelInfo
from veintrack.errors import EngineError

__all__ = ["OnnxRuntimeEngine"]


class OnnxRuntimeEngine:
    """A network run by ONNX Runtime.

    Raises
    ------
    EngineError
        If another precision than FP32 is asked for, or ONNX Runtime refuses the model.
    """

    name = "onnxruntime"

    def __init__(self, model: ModelInfo, *, precision: str = "auto", device: str = "auto") -> None:
        del device  # the CPU provider is the only one that is used here
        if precision not in ("auto", "fp32"):
            raise EngineError(f"ONNX Runtime offers fp32 here, not {precision}")
        self.precision = "fp32"
        self.device = "CPU"
        self._shape = (1, 1, *model.input_shape)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: they come back as exceptions
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model.path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own exceptions share no base but Exception
            raise EngineError(f"ONNX Runtime refuses {model.path}: {error}") from error

    def infer(self, frames: U8) -> F32:
        if self._session is None:
            raise EngineError("this engine is closed")
        if frames.shape != self._shape or frames.dtype != np.uint8:
            raise EngineError(
                f"expected frames of shape {self._shape} uint8, got {frames.shape} {frames.dtype}"
            )
        probability: F32 = self._session.run([OUTPUT], {INPUT: frames})[0]
        return probability

    def close(self) -> None:
        self._session = None
