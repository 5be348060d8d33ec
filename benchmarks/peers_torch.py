"""A model file in eager PyTorch: its nodes, one by one, by functions of torch.

The file's batch normalisation is folded into its convolutions, so this is a little faster than the
network that was trained. Knows the operators of this project's files, and no others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F  # noqa: N812  # its common name
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

__all__ = ["read_network"]

Attributes = dict[str, Any]
_TYPES = {TensorProto.FLOAT: torch.float32, TensorProto.FLOAT16: torch.float16}


def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x, weight, bias, a["strides"], _padding(a), a["dilations"], a["group"])


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    return F.max_pool2d(x, a["kernel_shape"], a["strides"], _padding(a))


def _resize(a: Attributes, x: Tensor, scales: Tensor) -> Tensor:
    if (a["mode"], a["coordinate_transformation_mode"]) != (b"nearest", b"asymmetric"):
        raise ValueError(f"resizing must be nearest and asymmetric, got {a}")
    return F.interpolate(x, scale_factor=scales[2:].tolist(), mode="nearest")


def _padding(a: Attributes) -> list[int]:
    """Torch pads both sides alike."""
    before, after = a["pads"][:2], a["pads"][2:]
    if before != after:
        raise ValueError(f"both sides must be padded alike, got {a['pads']}")
    return list(before)


_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda _, x, y: x + y,
    "Cast": lambda a, x: x.to(_TYPES[a["to"]]),
    "Concat": lambda a, *xs: torch.cat(xs, a["axis"]),
    "Constant": lambda a: torch.tensor(numpy_helper.to_array(a["value"])),
    "Conv": _conv,
    "Div": lambda _, x, y: x / y,
    "MaxPool": _max_pool,
    "Min": lambda _, *xs: reduce(torch.minimum, xs),
    "Mul": lambda _, x, y: x * y,
    "Relu": lambda _, x: F.relu(x),
    "Resize": _resize,
    "Sigmoid": lambda _, x: torch.sigmoid(x),
    "Sub": lambda _, x, y: x - y,
}


@dataclass(slots=True)
class _Step:
    """A node of the graph; `frees` names what nobody needs after it."""

    operator: Callable[..., Tensor]
    attributes: Attributes
    inputs: list[str]
    output: str
    frees: Sequence[str] = ()

    def compute(self, values: Mapping[str, Tensor]) -> Tensor:
        return self.operator(self.attributes, *(values[name] for name in self.inputs))


def read_network(path: Path | str) -> Callable[[Tensor], Tensor]:
    """Read a model file as a function of its input.

    What depends on no input, such as the weights' cast from FP16, is computed here, once.

    Raises
    ------
    ValueError
        If it holds an operator that is not known here.
    """
    graph = onnx.load(path).graph
    if unknown := sorted({node.op_type for node in graph.node} - _OPERATORS.keys()):
        raise ValueError(f"{path}: no such operator here: {', '.join(unknown)}")
    known = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in graph.initializer}
    steps: list[_Step] = []
    for node in graph.node:
        names = [name for name in node.input if name]  # an empty name is left out
        step = _Step(
            _OPERATORS[node.op_type],
            {a.name: helper.get_attribute_value(a) for a in node.attribute},
            names,
            node.output[0],
        )
        if all(name in known for name in names):
            known[step.output] = step.compute(known)
        else:
            steps.append(step)
    # What no later step needs is freed, as in a module's own code.
    needed = {graph.output[0].name, *known}
    for step in reversed(steps):
        step.frees = sorted(set(step.inputs) - needed)
        needed |= set(step.inputs)
    for name, value in known.items():
        if value.ndim == 4:
            # `contiguous` would leave the kernels of one channel as they are, and with them the
            # first convolution's answer.
            last = torch.empty_like(value, memory_format=torch.channels_last)
            known[name] = last.copy_(value)
    source, answer = graph.input[0].name, graph.output[0].name

    def network(frame: Tensor) -> Tensor:
        values = known | {source: frame.contiguous(memory_format=torch.channels_last)}
        for step in steps:
            values[step.output] = step.compute(values)
            for name in step.frees:
                del values[name]
        return values[answer]

    return network
