"""Which of a model's classes is segmented."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.conftest import metadata
from veintrack.engines.model import INPUT, OUTPUT, ModelInfo
from veintrack.tracker.segment import load_segmenter


def constant_model(path: Path, *classes: str) -> Path:
    """Write a model whose n-th class has the probability (n + 1) / 10 everywhere."""
    kind, channels = TensorProto.FLOAT, len(classes)
    frame = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", 1, 64, 64])
    probability = helper.make_tensor_value_info(OUTPUT, kind, ["N", channels, 64, 64])
    tenths = [(n + 1) / 10 for n in range(channels)]
    constants = [
        helper.make_tensor("zero", kind, [], [0.0]),
        helper.make_tensor("levels", kind, [1, channels, 1, 1], tenths),
    ]
    nodes = [
        helper.make_node("Cast", [INPUT], ["grey"], to=kind),
        helper.make_node("Mul", ["grey", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "levels"], [OUTPUT]),
    ]
    graph = helper.make_graph(nodes, "constant", [frame], [probability], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    names = "[" + ", ".join(f'"{name}"' for name in classes) + "]"
    helper.set_model_props(model, {**metadata(), "classes": names})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("classes", "asked", "taken"),
    [
        (("nerve", "vein", "vessel"), None, "vessel"),
        (("nerve", "vein"), None, "vein"),
        (("nerve", "artery"), None, "nerve"),
        (("nerve", "artery"), "artery", "artery"),
        (("nerve", "vessel"), "nerve", "nerve"),
    ],
)
def test_the_class_asked_for_is_segmented_or_else_the_vessel(
    tmp_path: Path, classes: tuple[str, ...], asked: str | None, taken: str
) -> None:
    path = constant_model(tmp_path / "m.onnx", *classes)
    with load_segmenter(str(path), engine="onnxruntime", class_name=asked) as segmenter:
        assert segmenter.class_name == taken
        probability = segmenter(np.full((64, 64), 100, np.uint8))
    assert probability == pytest.approx((classes.index(taken) + 1) / 10)


def test_an_unknown_class_is_refused_before_an_engine_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = constant_model(tmp_path / "m.onnx", "nerve", "vessel")

    def never(info: ModelInfo, engine: str, **options: object) -> None:
        raise AssertionError((info, engine, options))

    monkeypatch.setattr("veintrack.tracker.segment.open_proven", never)
    with pytest.raises(ValueError, match=r"m.onnx has no class 'artery'; it has nerve, vessel"):
        load_segmenter(str(path), class_name="artery")
