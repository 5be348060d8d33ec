"""The model that ships: complete, small, and the same in every engine."""

from dataclasses import replace

import numpy as np
import openvino
import pytest

from veintrack.engines.base import infer, open_engine
from veintrack.engines.model import ModelInfo, read_model_info, resolve_model
from veintrack.engines.proven import Proof, prove
from veintrack.engines.quantise import find_quantised
from veintrack.errors import ModelFileError
from veintrack.tracker.phantom import random_still
from veintrack.tracker.typical import judging_pictures


def test_an_unknown_name_lists_the_shipped_models() -> None:
    with pytest.raises(
        ModelFileError, match=r"no model 'better': give .* \(default, default.int8\)"
    ):
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


@pytest.fixture(scope="module")
def default() -> ModelInfo:
    return read_model_info(resolve_model("default"))


@pytest.fixture(scope="module")
def int8() -> ModelInfo:
    return read_model_info(resolve_model("default.int8"))


def test_the_int8_form_ships_beside_the_model_it_was_made_from(
    default: ModelInfo, int8: ModelInfo
) -> None:
    assert int8.quantised_from == default.sha256
    assert find_quantised(default) == int8
    assert int8.path.stat().st_size < 30_000_000


def test_the_int8_form_says_of_itself_what_the_model_does(
    default: ModelInfo, int8: ModelInfo
) -> None:
    own = {name: getattr(int8, name) for name in ("path", "name", "sha256")}
    assert int8 == replace(default, **own, quantised=True, quantised_from=default.sha256)


def test_the_int8_form_passes_the_gate(default: ModelInfo, int8: ModelInfo) -> None:
    native = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "INT8" not in native:
        pytest.skip(f"this CPU does not compute in INT8, it has {', '.join(native)}")
    pictures = judging_pictures(default.input_shape)
    proof = Proof(frames=pictures, calibration=pictures, channel=default.classes.index("vessel"))
    parity = prove(default, open_engine(int8, "openvino"), proof).parity
    assert parity.passes(), parity.reason()
    assert parity.matched >= 12
    assert parity.dice[0] > 0.995, parity.reason()
