"""A model written for one precision, grid and device into a file of the user's.

The main job needs none of this: it builds what it needs into the cache. A file is for another
program, another machine, or another grid. Before it is written, it is held against ONNX Runtime in
FP32, as far as this machine can compute its answers: a GPU's engine is judged by the typed ONNX
that it is built from, FP16 by emulation.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from veintrack.engines.base import Progress, infer, open_engine
from veintrack.engines.model import INPUT, ModelInfo, read_model_info
from veintrack.engines.parity import Answer, Parity, compare
from veintrack.engines.proven import SLOWER, Proof
from veintrack.engines.quantise import quantised, symmetric
from veintrack.engines.shared_files import write_whole
from veintrack.errors import EngineError, ModelFileError, OutputError

__all__ = ["PLANS_FOR", "Made", "Order", "beside_of", "make", "reshape", "write_made"]

log = logging.getLogger(__name__)
PLANS_FOR = ("tensorrt", "tensorrt-rtx")
"""The engines that read a compiled file; all others read ONNX."""
_PRECISIONS = ("int8", "fp16", "fp32")  # that can be written down


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made.

    Attributes
    ----------
    precision : str
        ``int8``, ``fp16`` or ``fp32``: what to begin with; where it is refused, the next slower one
        is taken, saying so.
    engine : str or None
        ``tensorrt-rtx``, or ``tensorrt``: the first of the two that is installed; None is a model
        file.
    device : str
        The GPU to build for where there is no `target`: ``auto`` or ``cuda[:N]``.
    batch : int
        Pictures at once, of an engine; a model file takes any number.
    target : tuple of int, optional
        See :func:`veintrack.engines.tensorrt_build.build_plan`.
    workspace_bytes : int, optional
        As there.

    Raises
    ------
    ValueError
        If the precision or the engine is not one of these, or the batch is below 1.
    """

    precision: str
    engine: str | None = None
    device: str = "auto"
    batch: int = 1
    target: tuple[int, int] | None = None
    workspace_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in _PRECISIONS:
            raise ValueError(
                f"a file can be {', '.join(_PRECISIONS)}, got {self.precision}: "
                "other precisions are chosen by the engine that reads it"
            )
        if self.engine not in (None, *PLANS_FOR):
            raise ValueError(f"{self.engine} reads .onnx files: name one as output")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")


@dataclass(frozen=True, slots=True)
class Made:
    """A file's content.

    Attributes
    ----------
    data : bytes
        The content.
    precision : str
        What it computes in.
    parity : Parity
        How far its answers are from the reference's.
    facts : dict
        What it was made from and what was found of it; JSON values.
    """

    data: bytes
    precision: str
    parity: Parity
    facts: dict[str, Any]


def make(model: ModelInfo, order: Order, proof: Proof, progress: Progress | None = None) -> Made:
    """Make what was ordered, in the first precision from the ordered one on that passes the gate.

    Raises
    ------
    EngineError
        If a library refuses the model, or no precision passes.
    BackendMissingError
        If a library is not installed.
    """
    if order.engine is not None:
        _library(order.engine)  # if it is missing, that is told before the work
    precisions = [p for p in SLOWER[SLOWER.index(order.precision) :] if p in _PRECISIONS]
    if model.quantised:
        precisions = ["int8"]
    for precision in precisions:
        form = model
        if precision == "int8":
            form = quantised(model, proof.calibration, progress=progress)
        try:
            typed = _typed(form, precision, for_tensorrt=order.engine is not None)
        except EngineError as error:
            log.warning("%s is left out: %s", precision, error)
            continue
        parity = _judge(model, typed, proof)
        if not parity.passes(proof.limits):
            log.warning("%s is refused: %s", precision, parity.reason(proof.limits))
            continue
        facts = {
            "model": model.name,
            "model_sha256": model.sha256,
            "precision": precision,
            "frames": proof.frames.name,
            "parity": parity.to_json(),
        }
        if precision == "fp16":
            facts["largest_activation"] = _largest_activation(typed, proof)
        if order.engine is None:
            return _made(typed, precision, parity, facts)
        data, built = _plan(model, typed, order, progress)
        return _made(data, precision, parity, facts | built)
    raise EngineError(
        f"{' and '.join(precisions)} give other answers than {model.name} does: nothing is written"
    )


def _made(data: bytes, precision: str, parity: Parity, facts: dict[str, Any]) -> Made:
    return Made(data, precision, parity, facts | {"sha256": hashlib.sha256(data).hexdigest()})


def _typed(form: ModelInfo, precision: str, *, for_tensorrt: bool) -> bytes:
    """Write a model in the types that it computes in."""
    from veintrack.engines.half import half_onnx, normalisation

    data = form.path.read_bytes()
    if form.quantised and for_tensorrt:
        data = symmetric(data)
    if precision == "fp16" or (precision == "int8" and for_tensorrt):
        return half_onnx(data, keep_fp32=normalisation(data))
    return data


def _judge(model: ModelInfo, typed: bytes, proof: Proof) -> Parity:
    from veintrack.engines.emulate import emulate_fp16

    reference = open_engine(model, "onnxruntime")
    try:
        channel = slice(proof.channel, proof.channel + 1)
        answer = emulate_fp16(typed)  # of what computes in other types it changes nothing
        first: Answer = lambda frame: infer(reference, frame)[:, channel]  # noqa: E731
        second: Answer = lambda frame: answer(frame)[:, channel]  # noqa: E731
        return compare(
            first, second, proof.frames.make(), threshold=model.threshold, sure=proof.limits.sure
        )
    finally:
        reference.close()


def _largest_activation(half: bytes, proof: Proof) -> dict[str, Any]:
    """Find the layer nearest to FP16's limit."""
    from veintrack.engines.emulate import largest_activations

    largest = max(largest_activations(half, proof.frames.make()), key=lambda a: a.largest)
    return {"layer": largest.layer, "value": round(largest.largest, 2)}


def _plan(
    model: ModelInfo, typed: bytes, order: Order, progress: Progress | None
) -> tuple[bytes, dict[str, Any]]:
    from veintrack.engines.tensorrt_build import ShapeRange, build_plan

    shape = (order.batch, 1, *model.input_shape)
    with _gpu(order) as gpu:
        plan = build_plan(
            typed,
            shapes={INPUT: ShapeRange.fixed(*shape)},
            workspace_bytes=order.workspace_bytes,
            target=order.target,
            progress=progress,
        )
    library = _library(order.engine or "")
    return plan.engine, {
        "library": library.__name__,
        "version": str(library.__version__),
        "shape": list(shape),
        "built_for": gpu,
        "workspace_bytes": order.workspace_bytes,
        "judged": "by the typed ONNX that it was built from, FP16 by emulation; it was not run",
    }


def _library(engine: str) -> ModuleType:
    from veintrack.engines.tensorrt_api import use

    return use("tensorrt_rtx" if engine == "tensorrt-rtx" else None)


@contextlib.contextmanager
def _gpu(order: Order) -> Iterator[str]:
    """Have the GPU that is built for current, if it is one at hand, and name it."""
    from veintrack.engines.cuda import device_index, open_cuda

    if order.target is not None:
        yield f"compute capability {order.target[0]}.{order.target[1]}"
        return
    cuda = open_cuda(device_index(order.device))
    with cuda.active():
        yield f"{cuda.model}, compute capability {'.'.join(map(str, cuda.compute_capability))}"


def beside_of(path: Path) -> Path:
    """Name the file that says what another was made from."""
    return path.with_name(f"{path.name}.json")


def write_made(path: Path, made: Made) -> Path:
    """Write the file and, beside it, what it was made from as JSON; each whole or not at all.

    Returns
    -------
    Path
        Of the second.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    beside = beside_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, data in ((path, made.data), (beside, json.dumps(made.facts, indent=2).encode())):
            write_whole(file, data)
            file.chmod(0o644)  # it is for others, too
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return beside


def reshape(model: ModelInfo, shape_px: tuple[int, int], folder: Path) -> ModelInfo:
    """Write a model for another grid.

    Parameters
    ----------
    model : ModelInfo
        The model.
    shape_px : tuple of int
        ``(H, W)`` of the new grid. A network whose stages halve the grid n times needs multiples of
        ``2**n``: 32 for those of `veintrack train`.
    folder : Path
        Where to write it.

    Raises
    ------
    EngineError
        If the network does not work on that grid.
    """
    import onnx

    written = onnx.load(model.path)
    graph = written.graph
    for value in (*graph.input, *graph.output):
        for axis, size in zip((2, 3), shape_px, strict=True):
            value.type.tensor_type.shape.dim[axis].dim_value = size
    del graph.value_info[:]
    for prop in written.metadata_props:
        if prop.key in ("input_height", "input_width"):
            prop.value = str(shape_px[("input_height", "input_width").index(prop.key)])
    path = folder / f"{model.path.stem}-{shape_px[0]}x{shape_px[1]}.onnx"
    path.write_bytes(written.SerializeToString(deterministic=True))
    try:
        changed = read_model_info(path)
        with contextlib.closing(open_engine(changed, "onnxruntime")) as engine:
            got = infer(engine, engine.buffer(0)).shape
    except (EngineError, ModelFileError, RuntimeError) as error:
        raise EngineError(
            f"{model.name} does not work on a grid of {shape_px[0]}x{shape_px[1]}; sizes must be "
            f"multiples of 32 for networks of `veintrack train`: {error}"
        ) from error
    if got[2:] != shape_px:
        raise EngineError(
            f"{model.name} answers {got[2:]} on a grid of {shape_px}: its size is fixed"
        )
    return changed
