"""Tier E: FP16 errors that can be seen without FP16 arithmetic."""

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from tests.engines.test_half import HEAD, UNET, model_of
from veintrack.engines.emulate import Activation, emulate_fp16, largest_activations
from veintrack.engines.half import half_onnx
from veintrack.engines.model import read_model_info, resolve_model
from veintrack.tracker.phantom import random_still

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
# 255 * 300 is too large for FP16, its hundredth is not: only the sum in between overflows.
TOO_LARGE = f"""overflow {HEAD} <float much = {{300}}, float little = {{0.01}}>
{{
    grey = Cast<to = 1>(frame)
    large = Mul(grey, much)
    small = Mul(large, little)
    probability = Concat<axis = 1>(small, small)
}}"""


def plain(data: bytes, frame: U8) -> F32:
    """Answer as ONNX Runtime does."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    probability: F32 = session.run(None, {"frame": frame})[0]
    return probability


@pytest.fixture(scope="module")
def overflow() -> bytes:
    return half_onnx(model_of(TOO_LARGE))


@pytest.fixture(scope="module")
def white() -> U8:
    return np.full((1, 1, 16, 16), 255, np.uint8)


def test_every_step_is_rounded_as_ieee_754_says() -> None:
    text = f"""steps {HEAD} <float a = {{0.1}}, float b = {{17.3}}, float c = {{1000.7}}>
    {{
        grey = Cast<to = 1>(frame)
        x = Mul(grey, a)
        y = Add(x, c)
        z = Div(y, b)
        probability = Concat<axis = 1>(z, x)
    }}"""
    grey = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    x = grey.astype(np.float16) * np.float16(0.1)
    z = (x + np.float16(1000.7)) / np.float16(17.3)
    expected = np.concatenate([z, x], axis=1).astype(np.float32)
    np.testing.assert_array_equal(emulate_fp16(half_onnx(model_of(text)))(grey), expected)


def test_what_overflows_in_fp16_is_infinite(overflow: bytes, white: U8) -> None:
    assert np.isposinf(emulate_fp16(overflow)(white)).all()


def test_onnx_runtime_hides_what_overflows(overflow: bytes, white: U8) -> None:
    np.testing.assert_allclose(plain(overflow, white), 765, rtol=2e-3)


def test_the_layer_that_overflows_is_named_with_its_number(overflow: bytes, white: U8) -> None:
    found = largest_activations(overflow, [np.zeros_like(white), white])
    assert [(a.layer, a.kind) for a in found] == [
        ("cast0", "Cast"),
        ("mul1", "Mul"),
        ("mul2", "Mul"),
        ("concat3", "Concat"),
    ]
    # What comes after still counts.
    assert [a.largest for a in found] == pytest.approx([255, 76500, 765, 765], rel=1e-3)
    assert [a.layer for a in found if a.overflows] == ["mul1"]


def test_a_layer_kept_in_fp32_does_not_overflow(white: U8) -> None:
    half = half_onnx(model_of(TOO_LARGE), keep_fp32=["Mul"])
    np.testing.assert_allclose(emulate_fp16(half)(white), 765, rtol=2e-3)
    found = largest_activations(half, [white])
    assert not {"mul1", "mul2"} & {a.layer for a in found}
    assert not [a for a in found if a.overflows]


def test_a_number_that_is_not_one_counts_as_overflow() -> None:
    assert Activation("a", "Div", float("nan")).overflows
    assert Activation("a", "Div", 65505.0).overflows
    assert not Activation("a", "Div", 65504.0).overflows


def test_no_frames_are_refused(overflow: bytes) -> None:
    with pytest.raises(ValueError, match="frames must hold at least one picture, got none"):
        largest_activations(overflow, [])


def test_a_small_network_answers_within_the_rounding_of_fp16() -> None:
    data = model_of(UNET)
    frame = np.random.default_rng(1).integers(0, 256, (3, 1, 16, 16), dtype=np.uint8)
    np.testing.assert_allclose(emulate_fp16(half_onnx(data))(frame), plain(data, frame), atol=2e-3)


def test_the_shipped_model_bears_fp16() -> None:
    model = read_model_info(resolve_model("default"))
    data = model.path.read_bytes()
    half = half_onnx(data)
    frames = np.stack([random_still(seed, *model.input_shape)[0][None] for seed in (0, 3, 4)])
    before, after = plain(data, frames), emulate_fp16(half)(frames)
    assert np.abs(before - after).mean() < 5e-4
    expected, got = before >= model.threshold, after >= model.threshold
    assert expected.sum() > 100
    assert 2 * (expected & got).sum() / (expected.sum() + got.sum()) > 0.99
    assert not [a for a in largest_activations(half, [frames]) if a.overflows]
