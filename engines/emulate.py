"""What FP16 does to a model's answer, computed without FP16 arithmetic.

ONNX Runtime on the CPU runs an FP16 file in FP32 from layer to layer: it rounds little, and hides
that a number is too large for FP16. So the file of :func:`veintrack.engines.half.half_onnx` is
written back in FP32 here, with its halved weights, and each number that a layer hands on is rounded
to FP16 and back. Within a layer sums are FP32, as on tensor cores; a device that also sums in FP16
errs more.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from veintrack.engines.base import F32, U8
from veintrack.engines.graph import replace
from veintrack.engines.half import FP16_MAX
from veintrack.engines.model import INPUT, OUTPUT

__all__ = ["Activation", "emulate_fp16", "largest_activations"]

_FLOAT, _HALF = 1, 10  # TensorProto.FLOAT, TensorProto.FLOAT16


@dataclass(frozen=True, slots=True)
class Activation:
    """The largest number that a layer made.

    Attributes
    ----------
    layer : str
        Name of the node.
    kind : str
        Its type, such as ``Conv``.
    largest : float
        Largest absolute value that it handed on.
    """

    layer: str
    kind: str
    largest: float

    @property
    def overflows(self) -> bool:
        """Whether FP16 holds it only as infinity."""
        return not self.largest <= FP16_MAX


def emulate_fp16(half: bytes) -> Callable[[U8], F32]:
    """Make a function that answers as FP16 arithmetic would.

    Parameters
    ----------
    half : bytes
        From :func:`veintrack.engines.half.half_onnx`.

    Returns
    -------
    callable
        Takes frames of shape (N, 1, H, W), uint8; returns (N, C, H, W), float32. Numbers that
        FP16 cannot hold are infinite on the way, and what follows from them may be NaN.
    """
    session = _session(_in_fp32(half, rounded=True))

    def infer(frames: U8) -> F32:
        probability: F32 = session.run([OUTPUT], {INPUT: frames})[0]
        return probability

    return infer


def largest_activations(half: bytes, frames: Iterable[U8]) -> tuple[Activation, ...]:
    """Find the largest number that each FP16 layer would have to hold.

    The numbers are those before rounding to FP16, in every layer, so that one overflow does not
    hide what comes after it.

    Parameters
    ----------
    half : bytes
        From :func:`veintrack.engines.half.half_onnx`.
    frames : iterable of ndarray of shape (N, 1, H, W), uint8
        Typical pictures.

    Returns
    -------
    tuple of Activation
        In the order of the layers.

    Raises
    ------
    ValueError
        If there are no frames.
    """
    from onnx import helper

    model = _in_fp32(half, rounded=False)
    graph, halved = model.graph, _halved(half)
    layers = [(node, name) for node in graph.node for name in node.output if name in halved]
    watched = [f"{name}.largest" for _, name in layers]
    for (_, name), largest in zip(layers, watched, strict=True):
        graph.node.append(helper.make_node("Abs", [name], [f"{name}.size"]))
        graph.node.append(helper.make_node("ReduceMax", [f"{name}.size"], [largest], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(largest, _FLOAT, []))
    session = _session(model)
    found = [session.run(watched, {INPUT: picture}) for picture in frames]
    if not found:
        raise ValueError("frames must hold at least one picture, got none")
    return tuple(
        Activation(node.name or name, node.op_type, float(value))
        for (node, name), value in zip(layers, np.max(found, axis=0), strict=True)
    )


def _in_fp32(half: bytes, *, rounded: bool) -> Any:
    """Write an FP16 model in FP32, each result rounded to FP16 and back where that is asked for."""
    import onnx
    from onnx import helper, numpy_helper

    model, halved = onnx.load_from_string(half), _halved(half)
    graph, nodes = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type == _HALF:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in graph.node:
        _make_float(node)
        nodes.append(node)
        for place, name in enumerate(node.output):
            if rounded and name in halved:
                exact, stored = f"{name}.exact", f"{name}.stored"
                node.output[place] = exact
                nodes.append(helper.make_node("Cast", [exact], [stored], to=_HALF))
                nodes.append(helper.make_node("Cast", [stored], [name], to=_FLOAT))
    replace(graph.node, nodes)
    return model


def _halved(half: bytes) -> set[str]:
    """Name the FP16 tensors that nodes write."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(half)).graph
    return {v.name for v in graph.value_info if v.type.tensor_type.elem_type == _HALF}


def _make_float(node: Any) -> None:
    """Change the attributes of a node that say that it makes FP16."""
    from onnx import numpy_helper

    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _HALF:
            attribute.i = _FLOAT
        if node.op_type == "ConstantOfShape" and attribute.t.data_type == _HALF:
            values = numpy_helper.to_array(attribute.t).astype(np.float32)
            attribute.t.CopyFrom(numpy_helper.from_array(values))


def _session(model: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # An optimiser may take a Cast and the Cast back for nothing.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
