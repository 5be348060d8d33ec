"""A model's engine for one device: kept in the cache, or built.

An engine works on the kind of device and with the library and driver that it was built with, so all
of these are part of its key. It is code that the library runs: it is loaded from the cache alone.
"""

import contextlib
import hashlib
import logging
from pathlib import Path
from typing import Any

from veintrack.engines import cache
from veintrack.engines.base import Progress
from veintrack.engines.cuda import CudaBackend, driver_version
from veintrack.engines.model import INPUT, OUTPUT, ModelInfo
from veintrack.engines.tensorrt_api import call, trt, use
from veintrack.engines.tensorrt_build import ShapeRange, build_plan
from veintrack.errors import EngineError

__all__ = ["KeptKernels", "engine_key", "load_or_build", "typed_onnx"]

log = logging.getLogger(__name__)


def load_or_build(
    runtime: "trt.Runtime",
    cuda: CudaBackend,
    model: ModelInfo,
    precision: str,
    *,
    workspace_bytes: int | None = None,
    progress: Progress | None = None,
) -> "trt.ICudaEngine":
    """Load the engine that is kept for this model and device, or build one.

    Call it while `cuda` is active. The parameters are those of :func:`engine_key` and
    :func:`veintrack.engines.tensorrt_build.build_plan`.

    Raises
    ------
    EngineError
        If the library refuses the model, or what it has just built.
    """
    shape = (1, 1, *model.input_shape)

    def load(plan: bytes) -> "trt.ICudaEngine":
        network = call("load the engine", runtime.deserialize_cuda_engine, plan)
        _check(network, model)
        return network

    def build() -> bytes:
        log.info("building the %s engine of %s for %s", precision, model.name, cuda.device)
        times = _timing_key(cuda)
        plan = build_plan(
            typed_onnx(model, precision),
            shapes={INPUT: ShapeRange.fixed(*shape)},
            workspace_bytes=workspace_bytes,
            timing_cache=cache.load(times) or b"",
            progress=progress,
        )
        if plan.timing_cache:
            with contextlib.suppress(OSError):  # it only saves time
                cache.store(times, plan.timing_cache)
        return plan.engine

    key = engine_key(cuda, model, precision, workspace_bytes)
    return cache.load_or_build(key, load, build, {"model": model.name})


def engine_key(
    cuda: CudaBackend, model: ModelInfo, precision: str, workspace_bytes: int | None = None
) -> dict[str, str]:
    """List everything that an engine depends on.

    Parameters
    ----------
    cuda : CudaBackend
        The device.
    model : ModelInfo
        The model.
    precision : str
        ``fp16``, ``fp32`` or ``int8``.
    workspace_bytes : int, optional
        Most scratch memory that a layer may use.

    Returns
    -------
    dict of str
        For :mod:`veintrack.engines.cache`.
    """
    return _device_key(cuda) | {
        "model_sha256": model.sha256,
        "precision": precision,
        "conversion": _conversion(precision),
        "shape": "x".join(map(str, (1, 1, *model.input_shape))),
        "workspace": str(workspace_bytes or "default"),
        "flags": "strongly typed, no TF32",
    }


class KeptKernels:
    """What TensorRT-RTX compiled when an engine first ran, kept for the next start.

    TensorRT compiles all while building: with it, this does nothing. Make it, and call
    :meth:`keep`, while the device's context is current; it must live as long as the contexts.

    Parameters
    ----------
    network : ICudaEngine
        The engine.
    key : dict of str
        From :func:`engine_key`.

    Attributes
    ----------
    arguments : tuple
        For the engine's ``create_execution_context``.
    """

    def __init__(self, network: Any, key: dict[str, str]) -> None:
        self.arguments: tuple[Any, ...] = ()
        self._kernels: Any = None
        if use().__name__ != "tensorrt_rtx":
            return
        self._key = key | {"kind": "kernels"}
        config = call("configure the engine", network.create_runtime_config)
        self._kernels = call("make a kernel cache", config.create_runtime_cache)
        kept = cache.load(self._key)
        self._known = kept is not None and self._kernels.deserialize(kept)
        call("take the kernel cache", config.set_runtime_cache, self._kernels)
        self.arguments = (config,)

    def keep(self) -> None:
        """Store what was compiled, if it was not loaded; call it when the engine has run."""
        if self._kernels is not None and not self._known:
            compiled = call("give its kernels", self._kernels.serialize)
            with contextlib.suppress(OSError):  # it only saves time
                cache.store(self._key, bytes(compiled))


def typed_onnx(model: ModelInfo, precision: str) -> bytes:
    """Read a model in the types that it is to be computed in.

    The first steps, which make grey levels of bytes, stay in FP32: see
    :func:`veintrack.engines.half.normalisation`.

    Raises
    ------
    EngineError
        If the model cannot be converted.
    """
    data = model.path.read_bytes()
    if precision == "fp32":
        return data
    from veintrack.engines.half import half_onnx, normalisation

    if model.quantised:
        from veintrack.engines.quantise import symmetric

        data = symmetric(data)
    return half_onnx(data, keep_fp32=normalisation(data))


def _conversion(precision: str) -> str:
    """Name the way in which :func:`typed_onnx` changes a model; it takes seconds to do."""
    if precision == "fp32":
        return "none"
    folder = Path(__file__).parent
    sources = b"".join((folder / f"{n}.py").read_bytes() for n in ("graph", "half", "quantise"))
    return hashlib.sha256(sources).hexdigest()


def _device_key(cuda: CudaBackend) -> dict[str, str]:
    """Name what an engine can be loaded by, and nothing else."""
    library = use()
    return {
        "library": library.__name__,
        "version": str(library.__version__),
        "device": cuda.model,
        "compute_capability": ".".join(map(str, cuda.compute_capability)),
        "driver": driver_version(),
        "cuda": cuda.cuda_version,
    }


def _timing_key(cuda: CudaBackend) -> dict[str, str]:
    return _device_key(cuda) | {"kind": "timing cache"}


def _check(network: "trt.ICudaEngine", model: ModelInfo) -> None:
    """Hold an engine's tensors against the model: memory is sized by what they are."""
    names = [network.get_tensor_name(i) for i in range(network.num_io_tensors)]
    if sorted(names) != sorted((INPUT, OUTPUT)):
        raise EngineError(f"expected an engine from {INPUT} to {OUTPUT}, got {', '.join(names)}")
    types = {name: network.get_tensor_dtype(name) for name in names}
    if types[INPUT] != trt.uint8 or types[OUTPUT] not in (trt.float32, trt.float16):
        raise EngineError(f"expected bytes to floats, got {types[INPUT]} to {types[OUTPUT]}")
    answer = tuple(network.get_tensor_shape(OUTPUT))[1:]
    if answer != (len(model.classes), *model.input_shape):
        raise EngineError(
            f"expected {len(model.classes)} classes on the model's grid, got {answer}"
        )
