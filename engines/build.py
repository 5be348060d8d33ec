"""A model written for one precision, grid and device into a file of the user's.

The main job needs none of this: it builds what it needs into the cache. A file is for another
program, another machine, or another grid. Before it is written, it is held against ONNX Runtime in
FP32, as far as this machine can compute its answers: a GPU's engine is judged by the typed ONNX
that it is built from, FP16 by emulation.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veintrack.engines.base import Progress, infer, open_engine
from veintrack.engines.model import INPUT, ModelInfo, read_model_info
from veintrack.engines.parity import Answer, Parity, compare
from veintrack.engines.proven import SLOWER, Proof
from veintrack.engines.quantise import quantised, symmetric
from veintrack.engines.shared_files import write_whole
from veintrack.errors import EngineError, ModelFileError, OutputError

__all__ = ["PLANS_FOR", "Made", "Order", "make", "reshape", "write_made"]

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
        One of :data:`PLANS_FOR`; None is a model file.
    batch : int
        Pictures at once, of an engine; a model file takes any number.
    target : tuple of int, optional
        See :func:`veintrack.engines.tensorrt_build.build_plan`.
    workspace_bytes : int, optional
        As there.
    recalibrate : bool
        Make the INT8 form anew, whatever there is.

    Raises
    ------
    ValueError
        If the precision or the engine is not one of these, or the batch is below 1.
    """

    precision: str
    engine: str | None = None
    batch: int = 1
    target: tuple[int, int] | None = None
    workspace_bytes: int | None = None
    recalibrate: bool = False

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
    precisions = [p for p in SLOWER[SLOWER.index(order.precision) :] if p in _PRECISIONS]
    for precision in precisions:
        form = model
        if precision == "int8":
            form = quantised(model, proof.calibration, afresh=order.recalibrate, progress=progress)
        typed = _typed(form, precision, for_tensorrt=order.engine is not None)
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
            return Made(typed, precision, parity, facts)
        data, built = _plan(model, typed, order, progress)
        return Made(data, precision, parity, facts | built)
    raise EngineError(
        f"{' and '.join(precisions)} give other answers than {model.name} does: nothing is written"
    )


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
    from veintrack.engines.tensorrt_api import use
    from veintrack.engines.tensorrt_build import ShapeRange, build_plan

    library = use((order.engine or "").replace("-", "_"))
    shape = (order.batch, 1, *model.input_shape)
    plan = build_plan(
        typed,
        shapes={INPUT: ShapeRange.fixed(*shape)},
        workspace_bytes=order.workspace_bytes,
        target=order.target,
        progress=progress,
    )
    return plan.engine, {
        "library": library.__name__,
        "version": str(library.__version__),
        "shape": list(shape),
        "target": list(order.target) if order.target else "the GPU at hand",
        "workspace_bytes": order.workspace_bytes,
    }


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
    beside = path.with_name(f"{path.name}.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, made.data)
        write_whole(beside, json.dumps(made.facts, indent=2).encode())
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
        engine = open_engine(changed, "onnxruntime")
        got = infer(engine, engine.buffer(0)).shape
        engine.close()
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
