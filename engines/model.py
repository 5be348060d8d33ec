"""The model file: one ``.onnx`` that says by itself what it is.

Input ``frame``: uint8, ``(N, 1, H, W)``, N dynamic, raw grey levels. Output ``probability``: float,
``(N, C, H, W)``, after the sigmoid. What a user must know of it lies in the file's metadata
properties; a file that lacks them is refused, since nothing else says what its numbers mean.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veintrack.errors import ModelFileError

__all__ = [
    "DEFAULT_MODEL",
    "INPUT",
    "OUTPUT",
    "QUANTISED_FROM",
    "ModelInfo",
    "metadata_props",
    "read_model_info",
    "resolve_model",
]

INPUT, OUTPUT = "frame", "probability"
QUANTISED_FROM = "veintrack.quantised_from"
DEFAULT_MODEL = "default"
_SHIPPED = Path(__file__).parent / "models"
_KEYS = {
    "version": "veintrack.version",
    "classes": "classes",
    "input_height": "input_height",
    "input_width": "input_width",
    "threshold": "threshold",
    "training_data": "training_data",
    "metrics": "metrics",
    "licence": "licence",
}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model file says of itself.

    Attributes
    ----------
    version : str
        The veintrack that exported it.
    classes : tuple of str
        One name per output channel.
    input_shape : tuple of int
        ``(H, W)`` of the network's grid.
    threshold : float
        Probability from which a pixel counts as vessel.
    training_data : str
        What it learned from, in words.
    metrics : dict
        Measured figures, by name.
    licence : str
        Licence of the weights and credit for the data.
    path : Path
        Where it was read from.
    name : str
        What to call it.
    sha256 : str
        Of the file's bytes.
    quantised : bool
        Whether it computes in INT8.
    quantised_from : str
        `sha256` of the model that it was quantised from; empty where that is not known.
    """

    version: str
    classes: tuple[str, ...]
    input_shape: tuple[int, int]
    threshold: float
    training_data: str
    metrics: dict[str, Any]
    licence: str
    path: Path
    name: str
    sha256: str
    quantised: bool = False
    quantised_from: str = ""


def resolve_model(name: str | Path) -> Path:
    """Find a model by the name of a shipped one, or by its path.

    Raises
    ------
    ModelFileError
        If there is no such model.
    """
    shipped = _SHIPPED / f"{name}.onnx"
    if "/" not in str(name) and shipped.is_file():
        return shipped
    path = Path(name).expanduser()
    if path.is_file():
        return path
    names = ", ".join(sorted(p.stem for p in _SHIPPED.glob("*.onnx"))) or "none"
    raise ModelFileError(
        f"no model {str(name)!r}: give a path to an .onnx file, or a shipped name ({names})"
    )


def read_model_info(path: Path, name: str | None = None) -> ModelInfo:
    """Read and check a model file's metadata, inputs and outputs; the weights are not loaded.

    Parameters
    ----------
    path : Path
        The file.
    name : str, optional
        What to call it; the file's name by default.

    Raises
    ------
    ModelFileError
        If it is no ONNX file, or anything in it differs from what this module's text says.
    """
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    data = path.read_bytes()
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelFileError(f"{path} is not an ONNX file") from error
    if not model.graph.node:
        raise ModelFileError(f"{path} is not an ONNX file")

    props = {p.key: p.value for p in model.metadata_props}
    missing = [key for key in _KEYS.values() if key not in props]
    if missing:
        raise ModelFileError(
            f"{path} is an ONNX file without veintrack's metadata: it lacks {', '.join(missing)}; "
            "export it with `veintrack train`, "
            "or add them with veintrack.engines.model.metadata_props"
        )
    inputs = {v.name: v.type.tensor_type for v in model.graph.input}
    outputs = {v.name for v in model.graph.output}
    if INPUT not in inputs or OUTPUT not in outputs:
        raise ModelFileError(
            f"{path}: expected input {INPUT!r} and output {OUTPUT!r}, "
            f"got {', '.join(inputs)} and {', '.join(outputs)}"
        )
    if inputs[INPUT].elem_type != 2:  # TensorProto.UINT8
        raise ModelFileError(f"{path}: input {INPUT!r} must be uint8 (raw grey levels)")
    try:
        info = ModelInfo(
            version=props[_KEYS["version"]],
            classes=tuple(json.loads(props["classes"])),
            input_shape=(int(props["input_height"]), int(props["input_width"])),
            threshold=float(props["threshold"]),
            training_data=props["training_data"],
            metrics=dict(json.loads(props["metrics"])),
            licence=props["licence"],
            path=path,
            name=name or path.name,
            sha256=hashlib.sha256(data).hexdigest(),
            quantised=any(node.op_type == "QuantizeLinear" for node in model.graph.node),
            quantised_from=props.get(QUANTISED_FROM, ""),
        )
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"{path}: unreadable metadata: {error}") from error
    dims = [d.dim_value for d in inputs[INPUT].shape.dim]
    if len(dims) != 4 or dims[1] != 1 or tuple(dims[2:]) != info.input_shape:
        raise ModelFileError(
            f"{path}: input {INPUT!r} must be N x 1 x "
            f"{' x '.join(map(str, info.input_shape))}, "
            f"got {' x '.join(str(d or 'N') for d in dims)}"
        )
    if not 0 < info.threshold < 1:
        raise ModelFileError(f"{path}: threshold must lie between 0 and 1, got {info.threshold}")
    if not info.classes:
        raise ModelFileError(f"{path}: classes must name at least one class")
    return info


def metadata_props(
    *,
    version: str,
    classes: tuple[str, ...],
    input_shape: tuple[int, int],
    threshold: float,
    training_data: str,
    metrics: dict[str, Any],
    licence: str,
) -> dict[str, str]:
    """Write a model's facts as ONNX metadata properties; the inverse of :func:`read_model_info`."""
    return {
        _KEYS["version"]: version,
        "classes": json.dumps(list(classes)),
        "input_height": str(input_shape[0]),
        "input_width": str(input_shape[1]),
        "threshold": repr(float(threshold)),
        "training_data": training_data,
        "metrics": json.dumps(metrics, sort_keys=True),
        "licence": licence,
    }
