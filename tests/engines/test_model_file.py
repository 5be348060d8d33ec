"""What a model file must say, and what is answered where it does not."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from veintrack.engines.model import read_model_info
from veintrack.errors import ModelFileError

MakeModel = Callable[..., Path]


def props_of(path: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


def test_a_model_file_says_what_it_is(model_file: Path) -> None:
    info = read_model_info(model_file)
    assert info.classes == ("vessel",)
    assert info.input_shape == (64, 64)
    assert info.threshold == 0.5
    assert len(info.sha256) == 64


def test_missing_metadata_is_named(make_model: MakeModel, model_file: Path, tmp_path: Path) -> None:
    props = props_of(model_file)
    del props["threshold"], props["licence"]
    path = make_model(tmp_path / "m.onnx", props=props)
    with pytest.raises(ModelFileError, match=r"it lacks threshold, licence; export it with"):
        read_model_info(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("threshold", "high", "unreadable metadata"),
        ("threshold", "1.5", "threshold must lie between 0 and 1, got 1.5"),
        ("classes", "[]", "classes must name at least one class"),
        ("classes", "vessel", "unreadable metadata"),
        ("input_width", "32", "input 'frame' must be N x 1 x 64 x 32, got N x 1 x 64 x 64"),
    ],
)
def test_metadata_that_cannot_be_true_is_refused(
    make_model: MakeModel, model_file: Path, tmp_path: Path, key: str, value: str, message: str
) -> None:
    path = make_model(tmp_path / "m.onnx", props={**props_of(model_file), key: value})
    with pytest.raises(ModelFileError, match=message):
        read_model_info(path)


@pytest.mark.parametrize("content", [b"", b"hello, world\n" * 50, bytes(range(256)) * 20])
def test_a_file_of_another_kind_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="is not an ONNX file"):
        read_model_info(path)


def test_a_float_input_is_refused(model_file: Path, tmp_path: Path) -> None:
    model = onnx.load(model_file)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match="must be uint8"):
        read_model_info(tmp_path / "m.onnx")


def test_other_tensor_names_are_refused(model_file: Path, tmp_path: Path) -> None:
    model = onnx.load(model_file)
    model.graph.output[0].name = "mask"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match="expected input 'frame' and output 'probability'"):
        read_model_info(tmp_path / "m.onnx")
