"""Tier F: the TensorRT engine on a real GPU, held against ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest

from veintrack.engines import cache, cuda
from veintrack.engines.base import infer
from veintrack.engines.cuda import open_cuda
from veintrack.engines.model import ModelInfo, read_model_info, resolve_model
from veintrack.engines.onnxruntime import OnnxRuntimeEngine
from veintrack.engines.tensorrt import TensorRTEngine
from veintrack.engines.tensorrt_api import use
from veintrack.errors import EngineError

Picture = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@pytest.fixture(autouse=True)
def _gpu() -> None:
    try:
        use()
        open_cuda(0)
    except EngineError as error:
        pytest.skip(f"tier F needs an NVIDIA GPU with TensorRT: {error}")


@pytest.fixture(params=list(cuda.BACKENDS))
def _each_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        open_cuda(0, request.param)
    except EngineError as error:
        pytest.skip(str(error))
    only = {request.param: cuda.BACKENDS[request.param]}
    monkeypatch.setattr(cuda, "BACKENDS", only)


@pytest.fixture
def model(model_file: Path) -> ModelInfo:
    return read_model_info(model_file)


def pictures(shape: tuple[int, int], count: int) -> list[Picture]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (1, 1, *shape), dtype=np.uint8) for _ in range(count)]


@pytest.mark.usefixtures("_each_backend")
@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-5), ("fp16", 5e-3)])
def test_slots_in_turn_give_the_reference_answers(
    model: ModelInfo, precision: str, error: float
) -> None:
    reference = OnnxRuntimeEngine(model)
    engine = TensorRTEngine(model, precision=precision, slots=2)
    frames = pictures(model.input_shape, 50)
    for index, frame in enumerate(frames):
        engine.buffer(index % 2)[...] = frame
        engine.start(index % 2)
        if index:
            expected = infer(reference, frames[index - 1])
            np.testing.assert_allclose(engine.result((index - 1) % 2), expected, atol=error)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.start(0)


def test_the_shipped_model_marks_the_same_pixels_in_fp16() -> None:
    model = read_model_info(resolve_model("default"))
    engine, reference = TensorRTEngine(model), OnnxRuntimeEngine(model)
    assert engine.precision == "fp16"
    for frame in pictures(model.input_shape, 5):
        ours, theirs = infer(engine, frame), infer(reference, frame)
        assert np.abs(ours - theirs).max() < 0.05
    engine.close()


def test_a_damaged_engine_is_built_anew(model: ModelInfo) -> None:
    TensorRTEngine(model, precision="fp32").close()
    for path in cache.cache_folder().glob("*.blob"):
        path.write_bytes(path.read_bytes()[:1000])
    engine = TensorRTEngine(model, precision="fp32")
    assert infer(engine, pictures(model.input_shape, 1)[0]).shape == (1, 1, *model.input_shape)
    engine.close()
