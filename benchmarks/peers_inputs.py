"""What the contestants of `peers.py` are given: pictures, files of them, and the model."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from peers_process import Brief

from veintrack.engines.model import OUTPUT, read_model_info, resolve_model
from veintrack.engines.onnxruntime import OnnxRuntimeEngine
from veintrack.tracker.grid import fit, image_to_grid
from veintrack.tracker.phantom import Phantom, demo_settings
from veintrack.tracker.segment import Segmenter

__all__ = ["float_model", "prepare", "write_mhd"]

U8 = NDArray[np.uint8]


def prepare(model: str, work: Path, pictures: int) -> Brief:
    """Write what contestants are given into a folder; the brief says where.

    Parameters
    ----------
    model : str
        Name of a shipped model, or path of a model file.
    work : Path
        The folder.
    pictures : int
        How many are rendered of the demo's phantom; they are shown there and back.
    """
    info = read_model_info(resolve_model(model))
    phantom = Phantom(demo_settings())
    shown = [phantom.render(i).pixels for i in range(pictures)]
    shown += shown[-2:0:-1]  # so that nothing jumps
    np.save(work / "pictures.npy", np.stack(shown))
    for number, picture in enumerate(shown):
        write_mhd(picture, work / f"frame_{number}.mhd")

    height, width = shown[0].shape
    grid = fit((height, width), info.input_shape)
    small = np.zeros(grid.shape, np.uint8)
    image_to_grid(shown[0], grid, small)
    np.save(work / "grid.npy", small)
    with Segmenter(OnnxRuntimeEngine(info), info) as exact:
        channel = info.classes.index(exact.class_name)
        np.save(work / "probability.npy", exact.result(exact.start(small)))
    float_model(info.path, channel, work / "float.onnx")
    return {
        "model": str(info.path),
        "model_sha256": info.sha256,
        "shape_px": [height, width],
        "input_px": list(info.input_shape),
        "inner": list(grid.inner),
        "channel": channel,
        "threshold": info.threshold,
        "pictures": str(work / "pictures.npy"),
        "files": str(work / "frame_#.mhd"),
        "grid": str(work / "grid.npy"),
        "probability": str(work / "probability.npy"),
        "float_model": str(work / "float.onnx"),
    }


def write_mhd(picture: U8, path: Path) -> None:
    """Write a MetaImage: a header, and the grey levels in a file beside it."""
    height, width = picture.shape
    raw = path.with_suffix(".raw")
    raw.write_bytes(np.ascontiguousarray(picture).tobytes())
    path.write_text(
        "ObjectType = Image\n"
        "NDims = 2\n"
        f"DimSize = {width} {height}\n"
        "ElementSpacing = 1 1\n"
        "ElementNumberOfChannels = 1\n"
        "ElementType = MET_UCHAR\n"
        f"ElementDataFile = {raw.name}\n"
    )


def float_model(model: Path, channel: int, path: Path) -> None:
    """Write a model file with the inputs and outputs that FAST needs; the weights are the same.

    It feeds floats, here grey levels as they are, and takes every channel of the answer for a
    class of its own, so it gets the one channel that veintrack looks at.
    """
    proto = onnx.load(model)
    graph = proto.graph
    (source,) = graph.input
    source.type.tensor_type.elem_type = TensorProto.FLOAT
    dims = source.type.tensor_type.shape.dim
    dims[0].Clear()
    dims[0].dim_value = 1
    shape = [1, 1, *(d.dim_value for d in dims[2:])]
    graph.initializer.append(helper.make_tensor("channel", TensorProto.INT64, [1], [channel]))
    graph.node.append(helper.make_node("Gather", [OUTPUT, "channel"], ["vessel"], axis=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("vessel", TensorProto.FLOAT, shape))
    onnx.checker.check_model(proto)
    onnx.save(proto, path)
