"""From a model file to one that computes in FP16: the way to half precision in TensorRT.

TensorRT 11 no longer chooses precisions by itself: a network is strongly typed, each layer computes
in the type that the ONNX file gives its tensors. So the types are changed here, once, for TensorRT
10.3 to 11 and TensorRT-RTX alike. The input stays uint8 and the output float32, as in every model
file.

What stays as it was: quantised parts (QuantizeLinear, DequantizeLinear, and what one of them feeds
or reads: a device computes these in INT8), inputs that say where and not what (scales of Resize),
and the nodes that the caller names.
"""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from veintrack.engines.graph import casts_to_float, plain_constants, replace
from veintrack.engines.model import INPUT
from veintrack.errors import EngineError

__all__ = ["FP16_MAX", "half_onnx", "normalisation"]

FP16_MAX = 65504.0  # the largest finite number of IEEE 754 binary16

_FLOAT, _HALF = 1, 10  # TensorProto.FLOAT, TensorProto.FLOAT16
_SUFFIX = {_FLOAT: ".fp32", _HALF: ".fp16"}
_NOT_DATA = {"Resize": (1, 2), "Upsample": (1,)}  # regions and scales: FP32 by the standard


def half_onnx(data: bytes, *, keep_fp32: Collection[str] = ()) -> bytes:
    """Write a model in FP16.

    Parameters
    ----------
    data : bytes
        A model file, see :mod:`veintrack.engines.model`, that computes in FP32; its weights may
        be stored as FP16 behind a Cast.
    keep_fp32 : collection of str
        Names of nodes, or types of nodes (``Sigmoid``), that go on computing in FP32.

    Returns
    -------
    bytes
        The same model with the same metadata; the same bytes each time.

    Raises
    ------
    ValueError
        If `keep_fp32` names what the model does not have.
    EngineError
        If constants are too large for FP16 (the message names them), or the model uses what cannot
        be FP16.
    """
    import onnx

    model = onnx.load_from_string(data)
    graph = model.graph
    _check(graph, keep_fp32)
    plain_constants(graph)
    outputs = [value.name for value in graph.output if _is_float(value)]
    conversion = _Conversion(model, keep_fp32)
    nodes = [new for node in graph.node for new in conversion.convert(node, outputs)]
    nodes += [_cast(_inner(name), name, _FLOAT) for name in outputs]
    conversion.refuse_overflow()
    replace(graph.node, nodes)
    replace(graph.initializer, conversion.constants.values())
    replace(graph.value_info, ())
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EngineError(f"the model cannot be converted to FP16: {error}") from error
    return bytes(model.SerializeToString(deterministic=True))


def normalisation(data: bytes) -> tuple[str, ...]:
    """Name the nodes that lead from the input to the first one with weights.

    They are worth keeping in FP32: they cost next to nothing, and their rounding shifts all of the
    picture alike. That more than halves the shipped model's largest error on phantom frames.

    Parameters
    ----------
    data : bytes
        A model file, see :mod:`veintrack.engines.model`.

    Returns
    -------
    tuple of str
        For `keep_fp32` of :func:`half_onnx`; nodes without a name are left out.
    """
    import onnx

    graph = onnx.load_from_string(data).graph
    plain_constants(graph)
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1}
    tensor = INPUT
    found: list[str] = []
    while True:
        readers = [node for node in graph.node if tensor in node.input]
        if len(readers) != 1 or not weights.isdisjoint(readers[0].input):
            return tuple(name for name in found if name)
        found.append(readers[0].name)
        tensor = readers[0].output[0]


def _check(graph: Any, keep_fp32: Collection[str]) -> None:
    known = {node.name for node in graph.node} | {node.op_type for node in graph.node}
    unknown = sorted(set(keep_fp32) - known)
    if unknown:
        raise ValueError(f"the model has no node or type of node called {', '.join(unknown)}")
    flow = [n.op_type for n in graph.node for a in n.attribute if a.HasField("g") or a.graphs]
    if flow:
        raise EngineError(f"a model with control flow ({flow[0]}) cannot be converted to FP16")


class _Conversion:
    """A walk through the graph, in its order, that remembers what each tensor's type became."""

    def __init__(self, model: Any, keep_fp32: Collection[str]) -> None:
        import onnx

        graph = onnx.shape_inference.infer_shapes(model).graph
        self.constants: dict[str, Any] = {}  # of the new graph, by name
        self._old_constants = {tensor.name: tensor for tensor in graph.initializer}
        values = (*graph.value_info, *graph.input, *graph.output)
        self._floats = {value.name for value in values if _is_float(value)}
        self._floats |= {t.name for t in graph.initializer if t.data_type == _FLOAT}
        self._halved: set[str] = set()  # tensors that are written in FP16 now
        self._made: set[str] = set()  # casts, which a second reader may use too
        self._too_large: list[str] = []
        self._keep_fp32 = set(keep_fp32)
        quantise = [n for n in graph.node if n.op_type == "QuantizeLinear"]
        dequantise = [n for n in graph.node if n.op_type == "DequantizeLinear"]
        self._quantised = {n.input[0] for n in quantise} | {n.output[0] for n in dequantise}

    def convert(self, node: Any, outputs: Collection[str]) -> Iterator[Any]:
        """Give a node its new types; before it come the Casts that it needs."""
        stays = self._stays(node)
        places = _NOT_DATA.get(node.op_type, ())
        for place, name in enumerate(node.input):
            wants = _FLOAT if stays or place in places else _HALF
            if name in self._old_constants:
                node.input[place] = self._constant(name, wants)
            elif name in self._floats:
                source = _inner(name) if name in outputs else name
                has = _HALF if name in self._halved else _FLOAT
                node.input[place] = source if has == wants else source + _SUFFIX[wants]
                if has != wants and node.input[place] not in self._made:
                    self._made.add(node.input[place])
                    yield _cast(source, node.input[place], wants)
        for place, name in enumerate(node.output):
            if name in self._floats and not stays:
                self._halved.add(name)
            if name in outputs:
                node.output[place] = _inner(name)
        if not stays:
            _make_half(node)
        yield node

    def refuse_overflow(self) -> None:
        """Raise if a constant became infinite."""
        if self._too_large:
            raise EngineError(
                f"too large for FP16 ({FP16_MAX:g}): {', '.join(self._too_large)}; "
                "keep the nodes that use them in FP32"
            )

    def _stays(self, node: Any) -> bool:
        return (
            node.op_type in ("QuantizeLinear", "DequantizeLinear")
            or not self._keep_fp32.isdisjoint((node.name, node.op_type))
            or not self._quantised.isdisjoint((*node.input, *node.output))
        )

    def _constant(self, name: str, wants: int) -> str:
        """Keep a constant as it is, or in FP16; return the name that it then has."""
        from onnx import numpy_helper

        tensor = self._old_constants[name]
        if tensor.data_type != _FLOAT or wants == _FLOAT:
            self.constants[name] = tensor
            return name
        halved = name + _SUFFIX[_HALF]
        if halved not in self._made:
            self._made.add(halved)
            values = numpy_helper.to_array(tensor)
            with np.errstate(over="ignore"):
                rounded = values.astype(np.float16)
            if np.any(np.isinf(rounded) & np.isfinite(values)):
                largest = np.abs(values[np.isfinite(values)]).max()
                self._too_large.append(f"{name} ({largest:g})")
            self.constants[halved] = numpy_helper.from_array(rounded, halved)
        return halved


def _make_half(node: Any) -> None:
    """Change the attributes of a node that say that it makes floats."""
    from onnx import numpy_helper

    if casts_to_float(node):
        next(a for a in node.attribute if a.name == "to").i = _HALF
    if node.op_type == "ConstantOfShape":
        for attribute in node.attribute:
            values = numpy_helper.to_array(attribute.t)
            if values.dtype == np.float32:
                attribute.t.CopyFrom(numpy_helper.from_array(values.astype(np.float16)))


def _is_float(value: Any) -> bool:
    return bool(value.type.tensor_type.elem_type == _FLOAT)


def _inner(output: str) -> str:
    """Name the tensor of which an output is the FP32 form."""
    return f"{output}.inner"


def _cast(source: str, target: str, to: int) -> Any:
    from onnx import helper

    return helper.make_node("Cast", [source], [target], f"{target}.cast", to=to)
