"""From a model file to one that computes in INT8, and where such files are found.

Post-training quantisation (Jacob et al., "Quantization and training of neural networks for
efficient integer-arithmetic-only inference", CVPR 2018), done by nncf: typical pictures tell the
range of every tensor, and QuantizeLinear and DequantizeLinear nodes say in the file what is
computed in INT8. So the result is a model file as any other; OpenVINO, ONNX Runtime and TensorRT
read the same one.

What was found by measurement on the shipped model, see ``docs/performance.md``: the first seven
layers and the last two cost most of the accuracy and little time, so they stay as they are; ranges
are taken without the outermost 1e-4 of each picture's values; correcting biases by sixty pictures
makes the answers worse.
"""

import contextlib
import hashlib
import io
import logging
import os
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import accumulate
from typing import Any

import numpy as np

from veintrack.engines import cache
from veintrack.engines.base import U8, Pictures, Progress
from veintrack.engines.graph import drop_unused, plain_constants
from veintrack.engines.model import INPUT, OUTPUT, QUANTISED_FROM, ModelInfo, read_model_info
from veintrack.errors import BackendMissingError, EngineError, SourceUnreadableError

__all__ = [
    "RECIPE",
    "can_quantise",
    "ends",
    "find_quantised",
    "quantisable",
    "quantise",
    "quantised",
    "symmetric",
]

log = logging.getLogger(__name__)
RECIPE = "1"  # counts up when the same pictures would give another file
_FIRST, _LAST = 7, 2  # layers with weights, at the input and at the output, that are not quantised
_OUTERMOST = 1e-4  # share of a tensor's values, on either side, that may lie out of its range


def quantise(
    data: bytes,
    frames: Sequence[U8],
    *,
    first: int = _FIRST,
    last: int = _LAST,
    progress: Progress | None = None,
) -> bytes:
    """Write a model in INT8.

    Parameters
    ----------
    data : bytes
        A model file, see :mod:`veintrack.engines.model`, that computes in FP32; its weights may be
        stored as FP16 behind a Cast.
    frames : sequence of ndarray of shape (1, 1, H, W), uint8
        Typical pictures, on the network's grid. Sixty are enough for the shipped model.
    first, last : int
        What stays as it is, see :func:`ends`.
    progress : callable, optional
        See :data:`~veintrack.engines.base.Progress`.

    Returns
    -------
    bytes
        The same model with the same metadata, and :data:`~veintrack.engines.model.QUANTISED_FROM`;
        the same bytes for the same pictures.

    Raises
    ------
    ValueError
        If there are no frames.
    EngineError
        If the model cannot be quantised.
    BackendMissingError
        If nncf is not installed.
    """
    import onnx

    if not frames:
        raise ValueError("frames must hold at least one picture, got none")
    model = onnx.load_from_string(data)
    plain_constants(model.graph)
    drop_unused(model.graph)
    for node in model.graph.node:
        node.name = node.name or node.output[0]  # nncf takes what is kept by name
    kept = sorted(set(ends(model.SerializeToString(), first, last)))
    result = _by_nncf(model, frames, kept, progress)
    if not any(node.op_type == "QuantizeLinear" for node in result.graph.node):
        raise EngineError("the model cannot be made INT8: it has only first and last layers")
    drop_unused(result.graph)
    del result.metadata_props[:]
    result.metadata_props.extend(onnx.load_from_string(data).metadata_props)
    result.metadata_props.add(key=QUANTISED_FROM, value=hashlib.sha256(data).hexdigest())
    return bytes(result.SerializeToString(deterministic=True))


def _by_nncf(
    model: Any, frames: Sequence[U8], kept: Sequence[str], progress: Progress | None
) -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # or it reports its use to its makers
    try:
        import nncf
        from nncf.quantization import advanced_parameters, range_estimator
    except ImportError as error:
        raise BackendMissingError(
            'making a model INT8 needs nncf: pip install "veintrack[int8]"'
        ) from error

    def look(numbered: tuple[int, U8]) -> dict[str, U8]:
        number, frame = numbered
        if progress is not None:
            progress("calibrate", number + 1, len(frames))
        return {INPUT: frame}

    collector = range_estimator.StatisticsCollectorParameters(
        range_estimator.StatisticsType.QUANTILE,
        range_estimator.AggregatorType.MAX,  # over pictures: what one of them needs, counts
        quantile_outlier_prob=_OUTERMOST,
    )
    advanced = advanced_parameters.AdvancedQuantizationParameters(
        disable_bias_correction=True,
        activations_range_estimator_params=range_estimator.RangeEstimatorParameters(
            collector, collector
        ),
    )
    logging.getLogger("nncf").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
            return nncf.quantize(
                model,
                nncf.Dataset(list(enumerate(frames)), look),
                preset=nncf.QuantizationPreset.PERFORMANCE,
                target_device=nncf.TargetDevice.CPU,
                subset_size=len(frames),
                ignored_scope=nncf.IgnoredScope(names=list(kept)),
                advanced_parameters=advanced,
            )
    except Exception as error:  # nncf and what it calls share no base but Exception
        raise EngineError(f"the model cannot be made INT8: {error}") from error


def ends(data: bytes, first: int = _FIRST, last: int = _LAST) -> tuple[str, ...]:
    """Name the nodes that are not quantised: those at the two ends of the network.

    Parameters
    ----------
    data : bytes
        A model file, see :mod:`veintrack.engines.model`.
    first : int
        Layers with weights at the input's end. What lies between them stays with them, up to the
        next layer with weights.
    last : int
        Layers with weights at the output's end, as far as it does not fork.

    Returns
    -------
    tuple of str
        In no particular order.
    """
    import onnx

    graph = onnx.load_from_string(data).graph
    plain_constants(graph)
    constants = {tensor.name for tensor in graph.initializer}
    weighty = _weighty(graph)
    before = zip(graph.node, accumulate(weighty), strict=True)
    found = [node.name for node, count in before if count <= first]
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output}
    tensor = OUTPUT
    while last and tensor in makers:
        number = makers[tensor]
        node = graph.node[number]
        sources = [name for name in node.input if name and name not in constants]
        if len(sources) != 1:
            break
        if weighty[number]:
            found.append(node.name)
            last -= 1
        tensor = sources[0]
    return tuple(found)


def quantisable(model: ModelInfo) -> bool:
    """Whether a model has layers with weights between those that stay as they are."""
    import onnx

    graph = onnx.load(model.path).graph
    plain_constants(graph)
    return sum(_weighty(graph)) > _FIRST + _LAST


def _weighty(graph: Any) -> list[bool]:
    """Say of each node whether it has weights; the constants are plain."""
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1}
    return [not weights.isdisjoint(node.input) for node in graph.node]


def symmetric(data: bytes) -> bytes:
    """Write a quantised model without zero points, as TensorRT wants it.

    A range from `low` to `high` becomes ``-m`` to ``m`` with ``m = max(-low, high)``, in int8. A
    range that begins at 0, as behind a ReLU, so loses a bit.

    Parameters
    ----------
    data : bytes
        A quantised model file.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(data)
    plain_constants(model.graph)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if len(node.input) < 3 or not constants.keys() >= set(node.input[1:3]):
            raise EngineError(
                f"{node.op_type} {node.name}: expected a constant scale and zero point"
            )
        scale, zero = (constants[name] for name in node.input[1:3])
        zeros = numpy_helper.to_array(zero)
        limits = np.iinfo(zeros.dtype)
        if limits.min < 0 and not zeros.any():
            continue
        steps = np.maximum(limits.max - zeros.astype(np.int32), zeros.astype(np.int32) - limits.min)
        scales = numpy_helper.to_array(scale) * steps / np.iinfo(np.int8).max
        scale.CopyFrom(numpy_helper.from_array(scales.astype(np.float32), scale.name))
        zero.CopyFrom(numpy_helper.from_array(np.zeros_like(zeros, np.int8), zero.name))
    del model.graph.value_info[:]
    return bytes(model.SerializeToString(deterministic=True))


def find_quantised(model: ModelInfo) -> ModelInfo | None:
    """Find the INT8 form of a model.

    It is the model itself; what was made of it on this machine and lies in the cache; or the file
    ``NAME.int8.onnx`` beside it. One that was made from another model is passed over, and said.
    """
    if model.quantised:
        return model
    with contextlib.suppress(OSError):  # also a ModelFileError: pruned just now
        if cache.load(_key(model)) is not None:
            return _read(model)
    beside = model.path.with_suffix(".int8.onnx")
    if not beside.is_file():
        return None
    try:
        found = read_model_info(beside)
    except OSError as error:  # also a ModelFileError
        log.warning("the INT8 form is passed over: %s", error)
        return None
    if found.quantised_from != model.sha256:
        log.warning("%s is passed over: it was not made from %s", beside, model.name)
        return None
    return found


def quantised(
    model: ModelInfo,
    pictures: Pictures,
    *,
    afresh: bool = False,
    progress: Progress | None = None,
) -> ModelInfo:
    """Find the INT8 form of a model, or make it and keep it in the cache of engines.

    Parameters
    ----------
    model : ModelInfo
        The model.
    pictures : Pictures
        What :func:`quantise` calibrates with.
    afresh : bool
        Make it, whatever there is.
    progress : callable, optional
        See :data:`~veintrack.engines.base.Progress`.

    Raises
    ------
    EngineError
        If the model cannot be quantised, or the cache folder cannot be written.
    BackendMissingError
        If it has to be made and nncf is not installed.
    """
    if afresh and model.quantised:
        raise EngineError(f"{model.name} is INT8 already: give the model that it was made from")
    found = None if afresh else find_quantised(model)
    if found is not None:
        return found

    def build() -> bytes:
        cache.check_writable()  # before half a minute's work
        frames = pictures.make()
        log.info("making %s INT8 with %d pictures (%s)", model.name, len(frames), pictures.name)
        return quantise(model.path.read_bytes(), frames, progress=progress)

    facts = {"model": model.name, "calibration": pictures.name}
    try:
        cache.load_or_build(_key(model), lambda data: data, build, facts, afresh=afresh)
        return _read(model)
    except SourceUnreadableError:  # of the pictures
        raise
    except OSError as error:  # also a ModelFileError
        raise EngineError(f"the INT8 form of {model.name} could not be kept: {error}") from error


def _key(model: ModelInfo) -> dict[str, str]:
    return {
        "library": "quantisation",
        "version": RECIPE,
        "model_sha256": model.sha256,
        "precision": "int8",
    }


def _read(model: ModelInfo) -> ModelInfo:
    return read_model_info(cache.path_of(_key(model)), f"{model.name} in INT8")


def can_quantise() -> bool:
    """Whether nncf is there."""
    return find_spec("nncf") is not None
