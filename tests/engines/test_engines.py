"""Engines by name, the answers they give, and the cache of their compiled forms."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veintrack.engines import base, cache
from veintrack.engines.base import Engine, infer, open_engine
from veintrack.engines.model import read_model_info
from veintrack.errors import BackendMissingError, EngineError

REAL_FACTORY = base.factory
CPU_ENGINES = ("openvino", "onnxruntime")


def no_gpu(*_: object, device: str, **__: object) -> Engine:
    raise EngineError(f"{device} is not there")


@pytest.fixture
def frames() -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (1, 1, 64, 64), dtype=np.uint8)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_every_engine_computes_what_the_model_says(
    model_file: Path, frames: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", name: str
) -> None:
    engine = open_engine(read_model_info(model_file), name, precision="fp32")
    grey = frames.astype(np.float64)
    expected = np.minimum(grey, 1) / (1 + np.exp((grey - 40) / 2))
    np.testing.assert_allclose(infer(engine, frames), expected, atol=1e-5)
    assert (engine.name, engine.precision) == (name, "fp32")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        infer(engine, frames)


@pytest.mark.parametrize("name", CPU_ENGINES)
@pytest.mark.parametrize("wrong", [np.zeros((1, 1, 32, 64), np.uint8), np.zeros((1, 1, 64, 64))])
def test_frames_of_another_shape_or_type_are_refused(
    model_file: Path, name: str, wrong: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"
) -> None:
    engine = open_engine(read_model_info(model_file), name)
    with pytest.raises(ValueError, match=r"expected frames of shape \(1, 1, 64, 64\) uint8"):
        infer(engine, wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "abacus"}, "unknown engine 'abacus'; choose one of auto, openvino, onnxruntime"),
        ({"precision": "fp4"}, "unknown precision 'fp4'; choose one of auto, fp32, bf16"),
        ({"device": "npu"}, "unknown device 'npu'; choose one of auto, cpu, cuda, cuda:N"),
        ({"device": "cpu:1"}, "unknown device 'cpu:1'; choose one of auto, cpu, cuda"),
        ({"name": "openvino", "device": "cuda"}, "openvino runs on cpu, not on cuda"),
        ({"name": "tensorrt", "device": "cpu"}, "tensorrt runs on cuda, not on cpu"),
    ],
)
def test_unknown_words_are_answered_with_the_known_ones(
    model_file: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        open_engine(read_model_info(model_file), **options)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_a_precision_that_is_not_offered_is_an_engine_error(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(base.factory(name), "offers", lambda *_: ("int8", "bf16", "fp32"))
    message = f"{name} offers int8 and bf16 and fp32 here, not fp16: use --precision bf16"
    with pytest.raises(EngineError, match=message):
        open_engine(read_model_info(model_file), name, precision="fp16")


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_int8_of_a_model_that_is_not_quantised_says_how_to_get_it(
    model_file: Path, name: str
) -> None:
    message = "dark.onnx is not quantised: `veintrack build --precision int8` does it"
    with pytest.raises(EngineError, match=message):
        open_engine(read_model_info(model_file), name, precision="int8")


def test_a_missing_library_names_what_to_install(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "veintrack.engines.onnxruntime", raising=False)
    with pytest.raises(BackendMissingError, match="needs onnxruntime: pip install onnxruntime"):
        open_engine(read_model_info(model_file), "onnxruntime")


def test_the_compiled_form_is_kept_and_used_again(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEINTRACK_CACHE", str(tmp_path))
    info = read_model_info(model_file)
    open_engine(info, "openvino")
    (blob,) = tmp_path.glob("*.blob")
    written = blob.stat().st_mtime_ns
    open_engine(info, "openvino")
    assert [p.stat().st_mtime_ns for p in tmp_path.glob("*.blob")] == [written]


def test_another_model_under_the_same_name_gets_its_own_engine(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEINTRACK_CACHE", str(tmp_path / "cache"))
    grey = np.full((1, 1, 64, 64), 60, np.uint8)
    path = tmp_path / "m.onnx"
    before = infer(open_engine(read_model_info(make_model(path, level=40.0)), "openvino"), grey)
    before = before.copy()
    after = infer(open_engine(read_model_info(make_model(path, level=90.0)), "openvino"), grey)
    assert before.max() < 0.5 < after.min()
    assert len(list((tmp_path / "cache").glob("*.blob"))) == 2


def test_a_damaged_cache_entry_is_put_aside_and_rebuilt(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEINTRACK_CACHE", str(tmp_path))
    info = read_model_info(model_file)
    open_engine(info, "openvino")
    (blob,) = tmp_path.glob("*.blob")
    blob.write_bytes(blob.read_bytes()[:100])
    engine = open_engine(info, "openvino")
    assert infer(engine, np.zeros((1, 1, 64, 64), np.uint8)).max() == 0
    assert len(list(tmp_path.glob("*.bad"))) == 1
    assert blob.stat().st_size > 100


def test_a_cache_that_cannot_be_written_does_not_stop_the_engine(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VEINTRACK_CACHE", str(tmp_path / "file"))
    open_engine(read_model_info(model_file), "openvino")


def test_an_entry_is_stored_whole_with_what_it_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEINTRACK_CACHE", str(tmp_path))
    key = {"engine": "x", "precision": "fp32"}
    assert cache.load(key) is None
    cache.store(key, b"compiled")
    assert cache.load(key) == b"compiled"
    assert cache.load({**key, "precision": "bf16"}) is None
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".blob", ".json"]


@pytest.mark.parametrize("name", CPU_ENGINES)
@pytest.mark.parametrize("slots", [1, 3, None])
def test_each_slot_answers_what_it_was_given(
    model_file: Path, name: str, slots: int | None
) -> None:
    info = read_model_info(model_file)
    engine = open_engine(info, name, precision="fp32", slots=slots)
    assert engine.slots == slots or slots is None or name == "onnxruntime"
    for turn in range(3):
        levels = [5 + 30 * (slot + turn) for slot in range(engine.slots)]
        for slot, level in enumerate(levels):
            engine.buffer(slot).fill(level)
            engine.start(slot)
        for slot, level in enumerate(levels):
            expected = 1 / (1 + np.exp((level - 40) / 2))
            np.testing.assert_allclose(engine.result(slot), expected, atol=1e-5)


def test_an_engine_may_be_closed_while_it_works(model_file: Path) -> None:
    engine = open_engine(read_model_info(model_file), "openvino", slots=2)
    engine.start(0)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.result(0)


def test_fewer_slots_than_one_are_refused(model_file: Path) -> None:
    with pytest.raises(ValueError, match="slots must be at least 1, got 0"):
        open_engine(read_model_info(model_file), slots=0)


def test_a_gpu_that_is_asked_for_is_not_replaced_by_the_cpu(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "factory", lambda _: no_gpu)
    info = read_model_info(model_file)
    with pytest.raises(EngineError, match="cuda:1 is not there"):
        open_engine(info, device="cuda:1")


def test_a_gpu_that_fails_is_told_and_the_cpu_taken(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        base, "factory", lambda name: no_gpu if name == "tensorrt" else REAL_FACTORY(name)
    )
    monkeypatch.setattr(base, "_may_have_gpu", lambda: True)
    assert open_engine(read_model_info(model_file)).name == "openvino"
    assert "tensorrt is not used: auto is not there" in caplog.text
