"""The model that ships: complete, small, and the same in every engine."""

import numpy as np
import pytest

from veintrack.engines.base import infer, open_engine
from veintrack.engines.model import read_model_info, resolve_model
from veintrack.errors import ModelFileError
from veintrack.tracker.phantom import random_still


def test_an_unknown_name_lists_the_shipped_models() -> None:
    with pytest.raises(ModelFileError, match=r"no model 'better': give a path .*\(default\)"):
        resolve_model("better")


def test_the_shipped_model_is_complete_and_small() -> None:
    info = read_model_info(resolve_model("default"))
    assert info.path.stat().st_size < 50_000_000
    assert info.path.with_suffix(".md").is_file()
    assert "CC BY 4.0" in info.licence
    assert info.metrics


def test_openvino_agrees_with_onnx_runtime_on_the_shipped_model() -> None:
    info = read_model_info(resolve_model("default"))
    pixels, _ = random_still(11, *info.input_shape)
    frames = np.ascontiguousarray(pixels)[None, None]
    reference = infer(open_engine(info, "onnxruntime"), frames)
    fp32 = infer(open_engine(info, "openvino", precision="fp32"), frames)
    np.testing.assert_allclose(fp32, reference, atol=2e-3)
    auto = infer(open_engine(info, "openvino"), frames)
    assert np.abs(auto - reference).mean() < 5e-3
