"""What every rewriting of a model file needs: its constants in one place, and no dead ones.

The functions change the graph (an ``onnx.GraphProto``) that they are given.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["casts_to_float", "drop_unused", "plain_constants", "replace"]

_FLOAT = 1  # TensorProto.FLOAT


def plain_constants(graph: Any) -> None:
    """Turn Constant nodes, and Casts of constants to float, into constants of the graph."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        value = None
        if node.op_type == "Constant":
            value = _value_of(node)
        elif casts_to_float(node) and node.input[0] in constants:
            value = numpy_helper.to_array(constants[node.input[0]]).astype(np.float32)
        if value is None:
            nodes.append(node)
        else:
            constants[node.output[0]] = numpy_helper.from_array(value, node.output[0])
    replace(graph.node, nodes)
    replace(graph.initializer, constants.values())


def _value_of(constant: Any) -> NDArray[Any] | None:
    """Read the value of a Constant node; None where it is text or sparse."""
    from onnx import helper, numpy_helper

    (attribute,) = constant.attribute
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return np.asarray(numpy_helper.to_array(value))
    types = {"float": np.float32, "floats": np.float32, "int": np.int64, "ints": np.int64}
    kind = types.get(attribute.name.removeprefix("value_"))
    return None if kind is None else np.array(value, kind)


def casts_to_float(node: Any) -> bool:
    """Whether a node is a Cast to FP32."""
    return node.op_type == "Cast" and any(a.name == "to" and a.i == _FLOAT for a in node.attribute)


def drop_unused(graph: Any) -> None:
    """Leave out the constants that no node reads."""
    read = {name for node in graph.node for name in node.input}
    read |= {value.name for value in graph.output}
    replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in read])


def replace(part: Any, new: Iterable[Any]) -> None:
    """Put other members into a repeated field; they may come from the field itself."""
    kept = list(new)
    del part[:]
    part.extend(kept)
