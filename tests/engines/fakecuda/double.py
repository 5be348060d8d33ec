"""A TensorRT of one network, bytes to their 255th part, computing on the fake driver's memory."""

import ctypes
import math

import numpy as np
from numpy.typing import DTypeLike

__version__ = "10.3.0"
PLAN = b"a plan of the double for "
uint8, float16, float32 = "UINT8", "HALF", "FLOAT"
Dims = tuple[int, ...]
compiled = 0  # kernels, since the process began
_infer = ctypes.CDLL("libcuda.so.1").fake_infer
_infer.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_size_t]


class ILogger:
    class Severity:
        ERROR, VERBOSE = 1, 4

    def log(self, severity: int, msg: str) -> None:
        """Take a line; what derives from it says where to."""


def nptype(_kind: str) -> DTypeLike:
    return np.float32


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> "ICudaEngine | None":
        if plan.startswith(PLAN):
            return ICudaEngine(plan)
        self._logger.log(ILogger.Severity.ERROR, "the plan is damaged")
        return None


class ICudaEngine:
    num_io_tensors = 2

    def __init__(self, plan: bytes) -> None:
        self._shape = tuple(map(int, plan.removeprefix(PLAN).split(b"x")))

    def get_tensor_name(self, index: int) -> str:
        return ("frame", "probability")[index]

    def get_tensor_dtype(self, name: str) -> str:
        return uint8 if name == "frame" else float32

    def get_tensor_shape(self, _name: str) -> tuple[int, ...]:
        return (-1, *self._shape)

    def create_runtime_config(self) -> "IRuntimeConfig":
        return IRuntimeConfig()

    def create_execution_context(
        self, runtime_config: "IRuntimeConfig | None" = None
    ) -> "IExecutionContext":
        return IExecutionContext(runtime_config.cache if runtime_config else None)


class IRuntimeCache:
    """The kernels that TensorRT-RTX has compiled: here, one for each run that found none."""

    def __init__(self) -> None:
        self.kernels = b""

    def deserialize(self, blob: bytes) -> bool:
        self.kernels = blob
        return True

    def serialize(self) -> bytes:
        return self.kernels


class IRuntimeConfig:
    cache: IRuntimeCache

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self.cache = cache
        return True


class IExecutionContext:
    def __init__(self, cache: IRuntimeCache | None) -> None:
        self._cache = cache
        self._shape: tuple[int, ...] = ()
        self._at: dict[str, int] = {}

    def set_input_shape(self, _name: str, shape: tuple[int, ...]) -> bool:
        self._shape = shape
        return True

    def get_tensor_shape(self, _name: str) -> tuple[int, ...]:
        return self._shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._at[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        global compiled
        if self._cache is not None and not self._cache.kernels:
            self._cache.kernels = b"a kernel"
            compiled += 1
        where = self._at["frame"], self._at["probability"]
        return not _infer(stream, *where, math.prod(self._shape))
