"""What several rooms' tests need: tiny models, known shapes, the path of the real recordings."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from veintrack.engines.model import INPUT, OUTPUT, metadata_props

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests must not read or fill the user's engine cache, nor his scanner profiles."""
    shared = tmp_path_factory.getbasetemp() / "engine-cache"
    monkeypatch.setenv("VEINTRACK_CACHE", str(shared))
    monkeypatch.setenv("VEINTRACK_CONFIG", str(tmp_path_factory.getbasetemp() / "config"))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings, which is not part of the project."""
    folder = Path(os.environ.get("VEINTRACK_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            "no real recordings here: put the ultrasound data set into ../shared/data, "
            "or name its folder in VEINTRACK_TEST_DATA"
        )
    return folder


def dark_is_vessel(
    path: Path, size: int = 64, props: dict[str, str] | None = None, level: float = 40.0
) -> Path:
    """Write a model that calls a pixel vessel the surer the darker it is than `level`.

    Real in every way but its weights: it has none. Black (outside the scan area) is background.
    """
    f, u8 = TensorProto.FLOAT, TensorProto.UINT8
    frame = helper.make_tensor_value_info(INPUT, u8, ["N", 1, size, size])
    probability = helper.make_tensor_value_info(OUTPUT, f, ["N", 1, size, size])
    constants = [
        helper.make_tensor(name, f, [], [value])
        for name, value in (("level", level), ("one", 1.0), ("slope", 0.5))
    ]
    nodes = [
        helper.make_node("Cast", [INPUT], ["grey"], to=f),
        helper.make_node("Sub", ["level", "grey"], ["darker"]),
        helper.make_node("Mul", ["darker", "slope"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["dark"]),
        helper.make_node("Min", ["grey", "one"], ["lit"]),
        helper.make_node("Mul", ["dark", "lit"], [OUTPUT]),
    ]
    graph = helper.make_graph(nodes, "dark_is_vessel", [frame], [probability], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    helper.set_model_props(model, metadata(size) if props is None else props)
    onnx.save(model, path)
    return path


def metadata(size: int = 64) -> dict[str, str]:
    return metadata_props(
        version="0",
        classes=("vessel",),
        input_shape=(size, size),
        threshold=0.5,
        training_data="none: a rule",
        metrics={},
        licence="Apache-2.0",
    )


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file whose answer is known: dark grey is vessel."""
    return dark_is_vessel(tmp_path_factory.mktemp("model") / "dark.onnx")


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    """Write other model files like `model_file`."""
    return dark_is_vessel


def disc(
    shape: tuple[int, int], x: float, y: float, radius: float
) -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    """A 0/1 mask; a pixel belongs where its centre is inside."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    inside: np.ndarray[tuple[int, int], np.dtype[np.uint8]] = (
        (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    ).astype(np.uint8)
    return inside


EMPTY: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]" = np.zeros((60, 80), bool)


def square(
    x: int, y: int = 20, side: int = 10
) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """A mask of the size of `EMPTY` with a square in it."""
    mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = EMPTY.copy()
    mask[y : y + side, x : x + side] = True
    return mask
