"""The fake driver as the scenarios see it: its settings, its counts, and what it found wrong."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veintrack.engines.cuda import CudaBackend, open_cuda
from veintrack.engines.model import ModelInfo
from veintrack.engines.tensorrt import TensorRTEngine
from veintrack.engines.tensorrt_build import Plan

Patch = pytest.MonkeyPatch
Scenario = Callable[["Fake", Patch], None]
SHAPE = (1, 1, 8, 16)


class Fake:
    """The fake driver's own settings and counts, and the backend under test."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self._library = ctypes.CDLL("libcuda.so.1")
        self._library.fake_faults.restype = ctypes.c_char_p
        self.builds = 0

    def __getitem__(self, name: str) -> int:
        return ctypes.c_int.in_dll(self._library, f"fake_{name}").value

    def __setitem__(self, name: str, value: int) -> None:
        ctypes.c_int.in_dll(self._library, f"fake_{name}").value = value

    def reset(self) -> None:
        self._library.fake_reset()
        self.builds = 0

    def forgive(self) -> None:
        """Forget what a scenario did wrong on purpose, and what it could not free."""
        self._library.fake_reset()

    @property
    def faults(self) -> str:
        text: bytes = self._library.fake_faults()
        return text.decode()

    @property
    def depth(self) -> int:
        return int(self._library.fake_depth())

    def infer(self, stream: int, source: int, target: int, size: int) -> int:
        pointers = [ctypes.c_void_p(x) for x in (stream, source, target)]
        return int(self._library.fake_infer(*pointers, ctypes.c_size_t(size)))

    def open(self, index: int = 0) -> CudaBackend:
        return open_cuda(index, self.backend)

    def engine(self, device: str = "cuda:0", slots: int | None = 2) -> TensorRTEngine:
        return TensorRTEngine(MODEL, precision="fp32", device=device, slots=slots)

    def build(self, _onnx: bytes, **_options: object) -> Plan:
        self.builds += 1
        return Plan(b"a plan of the double for " + b"x".join(b"%d" % n for n in SHAPE[1:]), b"")


SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    """Have a function tried with each backend."""
    SCENARIOS[function.__name__] = function
    return function


MODEL = ModelInfo("0", ("vessel",), SHAPE[2:], 0.5, "", {}, "", Path(os.devnull), "none", "0" * 64)


def picture(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)
