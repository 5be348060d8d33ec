"""From a trained network to the model file that the engines read."""

import os
import warnings
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from veintrack._version import __version__
from veintrack.engines.model import INPUT, OUTPUT, ModelInfo, metadata_props, read_model_info
from veintrack.errors import OutputError

__all__ = ["OPSET", "ProbabilityMap", "export_model", "halve_weights"]

OPSET = 17


class ProbabilityMap(nn.Module):
    """The model file's contract around a network: uint8 grey levels in, probabilities out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor) -> Tensor:
        """Map (N, 1, H, W) uint8 to (N, C, H, W) float from 0 to 1."""
        return torch.sigmoid(self.network(frame.float() / 255))


def export_model(
    network: nn.Module,
    path: Path,
    *,
    classes: tuple[str, ...],
    threshold: float,
    training_data: str,
    metrics: dict[str, Any],
    licence: str,
    size_px: tuple[int, int],
    arch: str,
) -> ModelInfo:
    """Write a network as a model file, complete or not at all.

    Parameters
    ----------
    network : Module
        Grey levels from 0 to 1 in, one logit per pixel and class out. It is left in evaluation
        mode, in which batch normalisation folds into the convolutions before it.
    path : Path
        Where to; replaced if it exists.
    classes, threshold, training_data, metrics, licence
        Metadata, see `veintrack.engines.model.ModelInfo`.
    size_px : tuple of int
        ``(H, W)`` of the input.
    arch : str
        Name of the network, for the file's metadata; no engine needs it.

    Returns
    -------
    ModelInfo
        Read back from the file.

    Raises
    ------
    OutputError
        If the file cannot be written.
    ModelFileError
        If what was written does not keep the contract.
    """
    model = _trace(network, size_px)
    halve_weights(model.graph)
    props = metadata_props(
        version=__version__,
        classes=classes,
        input_shape=size_px,
        threshold=threshold,
        training_data=training_data,
        metrics=metrics,
        licence=licence,
    )
    helper.set_model_props(model, props | {"arch": arch})
    model.producer_name, model.producer_version = "veintrack", __version__
    onnx.checker.check_model(model, full_check=True)
    return _write(model.SerializeToString(), path)


def _trace(network: nn.Module, size_px: tuple[int, int]) -> onnx.ModelProto:
    example = torch.zeros(2, 1, *size_px, dtype=torch.uint8)
    written = BytesIO()
    network = network.cpu().eval()
    with warnings.catch_warnings():
        # The exporter by tracing needs no further package; that it is the older one is known.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            ProbabilityMap(network).eval(),
            (example,),
            written,  # type: ignore[arg-type]
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "N"}, OUTPUT: {0: "N"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(written.getvalue())


def halve_weights(graph: onnx.GraphProto) -> None:
    """Keep the kernels as FP16 behind a cast to float: half the file, and computing as before.

    Engines fold the cast when they compile. Vectors stay as they are: they weigh nothing.
    """
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        largest = float(np.abs(values).max())
        if not largest <= float(np.finfo(np.float16).max):  # what is no number is not either
            raise ValueError(f"the weights {name} reach {largest:g}, too much for FP16")
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
        casts.append(
            helper.make_node("Cast", [tensor.name], [name], f"{name}.cast", to=TensorProto.FLOAT)
        )
    nodes = [*casts, *graph.node]  # in order of use, which the standard demands
    del graph.node[:]
    graph.node.extend(nodes)


def _write(data: bytes, path: Path) -> ModelInfo:
    temporary: Path | None = None
    try:
        with NamedTemporaryFile(dir=path.parent, suffix=path.suffix, delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        read_model_info(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OutputError) or error.errno is None:
            raise  # one of ours, with its own words
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    return read_model_info(path)
