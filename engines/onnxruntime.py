"""ONNX Runtime on the CPU: in FP32 the reference that other engines are held against."""

from typing import Any

import numpy as np
import onnxruntime

from veintrack.engines.base import F32, U8, Progress, chosen_precision
from veintrack.engines.model import INPUT, OUTPUT, ModelInfo
from veintrack.errors import EngineError

__all__ = ["OnnxRuntimeEngine"]


class OnnxRuntimeEngine:
    """A network run by ONNX Runtime, in FP32, or in INT8 where the model is quantised.

    Raises
    ------
    EngineError
        If another precision is asked for, or ONNX Runtime refuses the model.
    """

    name = "onnxruntime"

    slots = 1

    key = None  # nothing is compiled ahead

    @staticmethod
    def offers(device: str = "auto") -> tuple[str, ...]:
        """See `EngineFactory`."""
        del device
        return ("fp32", "int8")

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
        del device  # the CPU provider is the only one that is used here
        del slots  # it computes one picture at a time, on all cores
        self.precision = chosen_precision(self.name, self.offers(), model, precision)
        self.device = "CPU"
        self._frames = np.zeros((1, 1, *model.input_shape), np.uint8)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: they come back as exceptions
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model.path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own exceptions share no base but Exception
            raise EngineError(f"ONNX Runtime refuses {model.path}: {error}") from error

    def buffer(self, slot: int) -> U8:
        del slot
        return self._frames

    def start(self, slot: int) -> None:
        """Do nothing yet: it computes where it is waited for."""
        del slot
        self._open_session()

    def ready(self, slot: int) -> bool:
        del slot
        return True

    def result(self, slot: int) -> F32:
        del slot
        try:
            probability: F32 = self._open_session().run([OUTPUT], {INPUT: self._frames})[0]
        except RuntimeError as error:
            raise EngineError(f"ONNX Runtime failed: {error}") from error
        return probability

    def _open_session(self) -> Any:
        if self._session is None:
            raise EngineError("this engine is closed")
        return self._session

    def close(self) -> None:
        self._session = None
