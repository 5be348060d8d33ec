"""An ONNX network compiled by TensorRT 10.3 to 11 or TensorRT-RTX, strongly typed.

What a network computes in is written in the network: an FP16 engine comes from an FP16 file. So
one path serves TensorRT 10, which can choose types itself, and TensorRT 11, which cannot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from veintrack.engines.base import Progress
from veintrack.engines.tensorrt_api import call, logger, trt, use
from veintrack.errors import EngineError

__all__ = ["Plan", "ShapeRange", "build_plan", "layer_types"]

Shape = tuple[int, ...]


class Plan(NamedTuple):
    """What a build gives.

    Attributes
    ----------
    engine : bytes
        The serialised engine, for this library version and its target.
    timing_cache : bytes
        What was measured while building; handed to the next build it makes that one faster.
        Empty with TensorRT-RTX, which measures nothing.
    """

    engine: bytes
    timing_cache: bytes


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """The shapes that an input may have, and the one to be fast at.

    TensorRT takes a profile with a wrong rank or ``min > max`` without a word and fails later.

    Attributes
    ----------
    min, opt, max : tuple of int
        Sizes along each axis, 1 or more.

    Raises
    ------
    ValueError
        If the three do not have the same rank, or ``min <= opt <= max`` fails on any axis.
    """

    min: Shape
    opt: Shape
    max: Shape

    def __post_init__(self) -> None:
        text = f"min {self.min}, opt {self.opt}, max {self.max}"
        if not len(self.min) == len(self.opt) == len(self.max) > 0:
            raise ValueError(f"min, opt and max must have the same number of axes, got {text}")
        axes = zip(self.min, self.opt, self.max, strict=True)
        if not all(1 <= low <= best <= high for low, best, high in axes):
            raise ValueError(f"1 <= min <= opt <= max must hold on each axis, got {text}")

    @classmethod
    def fixed(cls, *shape: int) -> "ShapeRange":
        """One shape and no other."""
        return cls(shape, shape, shape)


def build_plan(
    onnx: bytes,
    *,
    shapes: Mapping[str, ShapeRange],
    workspace_bytes: int | None = None,
    target: tuple[int, int] | None = None,
    timing_cache: bytes = b"",
    progress: Progress | None = None,
) -> Plan:
    """Compile a network.

    Parameters
    ----------
    onnx : bytes
        The model; every tensor keeps the type that it has there.
    shapes : mapping of str to ShapeRange
        For every input of the network with an axis left open, and for no other name.
    workspace_bytes : int, optional
        Most scratch memory of the device that a layer may use; the library's choice by default.
    target : tuple of int, optional
        Compute capability such as ``(8, 6)`` to build for, instead of the GPU at hand. Only
        TensorRT-RTX does this, for the GPUs that it knows.
    timing_cache : bytes
        Of an earlier build on the same device. One that does not fit is left out.
    progress : callable, optional
        See :data:`Progress`.

    Raises
    ------
    ValueError
        If `shapes` does not fit the network's inputs.
    EngineError
        If the library refuses the model or the target, or fails to build.
    """
    builder = call("start", trt.Builder, logger())
    network, _parser = _parse(builder, onnx)  # it owns weights that the network points at
    config = call("make a configuration", builder.create_builder_config)
    # TF32 keeps 10 bits of a number: what says FP32 shall be FP32.
    config.clear_flag(trt.BuilderFlag.TF32)
    if workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    if target is not None:
        _set_target(config, target)
    _add_profile(builder, config, network, shapes)
    times = use().__name__ == "tensorrt"
    if times:
        _set_timing_cache(config, timing_cache)
    monitor = _monitor(progress)
    config.progress_monitor = monitor
    try:
        engine = call("build the engine", builder.build_serialized_network, network, config)
    except EngineError:
        if monitor.stopped_by is not None:
            raise monitor.stopped_by from None
        raise
    if not times:
        return Plan(bytes(engine), b"")
    measured = call("give the timing cache", config.get_timing_cache)
    return Plan(bytes(engine), bytes(call("write the timing cache", measured.serialize)))


def layer_types(onnx: bytes) -> dict[str, tuple[str, ...]]:
    """List the type of each output of each layer by the layer's name, as the library read them.

    Raises
    ------
    EngineError
        If the library refuses the model.
    """
    network, _parser = _parse(call("start", trt.Builder, logger()), onnx)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    return {
        layer.name: tuple(layer.get_output_type(i).name for i in range(layer.num_outputs))
        for layer in layers
    }


def _parse(
    builder: "trt.Builder", onnx: bytes
) -> tuple["trt.INetworkDefinition", "trt.OnnxParser"]:
    # The flag's bit differs from version to version, and one day the flag may be gone.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    flags = 0 if typed is None else 1 << int(typed)
    network = call("make a network", builder.create_network, flags)
    parser = call("start the ONNX parser", trt.OnnxParser, network, logger())
    call("read the model", parser.parse, onnx)
    return network, parser


def _add_profile(
    builder: "trt.Builder",
    config: "trt.IBuilderConfig",
    network: "trt.INetworkDefinition",
    shapes: Mapping[str, ShapeRange],
) -> None:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    _check_profile({tensor.name: tuple(tensor.shape) for tensor in tensors}, shapes)
    profile = call("make a profile", builder.create_optimization_profile)
    for name, s in shapes.items():
        profile.set_shape(name, trt.Dims(s.min), trt.Dims(s.opt), trt.Dims(s.max))
    if call("take the profile", config.add_optimization_profile, profile) < 0:
        raise EngineError(f"{use().__name__} refused the shapes {dict(shapes)}")


def _check_profile(inputs: Mapping[str, Shape], shapes: Mapping[str, ShapeRange]) -> None:
    """Compare `shapes` with the network's inputs, whose open axes are -1."""
    unknown = [name for name in shapes if name not in inputs]
    if unknown:
        raise ValueError(f"the network's inputs are {', '.join(inputs)}, got {', '.join(unknown)}")
    for name, declared in inputs.items():
        if name not in shapes:
            if -1 in declared:
                raise ValueError(f"input {name!r} has open axes {declared}: shapes must name it")
            continue
        wanted = shapes[name]
        if len(wanted.opt) != len(declared) or any(
            size not in (-1, low, high) or (size != -1 and low != high)
            for size, low, high in zip(declared, wanted.min, wanted.max, strict=False)
        ):
            raise ValueError(
                f"input {name!r} is {declared} in the network (-1 is open), "
                f"got {wanted.min} to {wanted.max}"
            )


def _set_target(config: Any, target: tuple[int, int]) -> None:
    known = getattr(trt, "ComputeCapability", None)
    if known is None:
        raise EngineError(
            f"{use().__name__} builds for the GPU at hand only; tensorrt_rtx builds for others"
        )
    name = f"SM{target[0]}{target[1]}"
    if name not in known.__members__:
        offered = ", ".join(n for n in known.__members__ if n.startswith("SM"))
        raise EngineError(f"{use().__name__} does not build for {name}; it offers {offered}")
    config.num_compute_capabilities = 1
    call(f"build for {name}", config.set_compute_capability, known.__members__[name], 0)


def _set_timing_cache(config: "trt.IBuilderConfig", data: bytes) -> None:
    for times in (data, b""):
        cache = call("make a timing cache", config.create_timing_cache, times)
        if config.set_timing_cache(cache, False):  # ignore_mismatch: another device's times lie
            return


def _monitor(progress: Progress | None) -> Any:
    """Pass on what the builder does, and stop it if that raises (Ctrl-C raises here, too)."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped_by: BaseException | None = None
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            del parent_phase
            self._steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return self.stopped_by is None

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self._steps.get(phase_name, 0))  # last steps may be left out
            self._steps.pop(phase_name, None)

        def _tell(self, phase: str, done: int) -> None:
            try:  # an exception must not cross the library: it would end the process
                if progress is not None and self.stopped_by is None:
                    progress(phase, done, self._steps.get(phase, done))
            except BaseException as error:
                self.stopped_by = error

    return Monitor()
