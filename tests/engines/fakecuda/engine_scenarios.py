"""What the TensorRT engine must get right: waiting, order, memory, failures, and its plan."""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.fakecuda.fake import Fake, Patch, picture, scenario
from veintrack.engines import tensorrt, tensorrt_api, tensorrt_plan
from veintrack.engines.tensorrt import TensorRTEngine
from veintrack.engines.tensorrt_build import Plan
from veintrack.errors import EngineError


def answered(engine: TensorRTEngine, slot: int, seed: int) -> bool:
    return np.array_equal(engine.result(slot), picture(seed) / np.float32(255))


def run(engine: TensorRTEngine, slot: int, seed: int) -> None:
    engine.buffer(slot)[...] = picture(seed)
    engine.start(slot)


@scenario
def engine_answers_in_every_slot(fake: Fake, _patch: Patch) -> None:
    engine = fake.engine("cuda:1")
    assert (engine.name, engine.precision, engine.device) == ("tensorrt", "fp32", "Fake B")
    assert not engine.buffer(0).any(), "black at first"
    for seed in range(0, 10, 2):
        run(engine, 0, seed)
        run(engine, 1, seed + 1)
        assert answered(engine, 1, seed + 1)
        assert answered(engine, 0, seed)
    assert fake["graph_launches"] == 10
    engine.close()


@scenario
def engine_without_graphs_answers_the_same(fake: Fake, patch: Patch) -> None:
    if fake.backend == "pycuda":  # it records through cuda-python, which may be missing
        patch.setitem(sys.modules, "veintrack.engines.cuda_python", None)
    fake["refuses_capture"] = 1
    engine = fake.engine()
    for seed in range(3):
        run(engine, seed % 2, seed)
        assert answered(engine, seed % 2, seed)
    assert fake["graph_launches"] == 0
    engine.close()


@scenario
def engine_takes_no_memory_for_a_picture(fake: Fake, _patch: Patch) -> None:
    engine = fake.engine(slots=None)
    taken, live = fake["allocations"], fake["live"]
    for seed in range(20):
        run(engine, seed % engine.slots, seed)
        assert answered(engine, seed % engine.slots, seed)
    assert (fake["allocations"], fake["live"]) == (taken, live)
    engine.close()


@scenario
def engine_that_does_not_wait_is_caught(fake: Fake, patch: Patch) -> None:
    engine = fake.engine()
    with patch.context() as p:
        p.setattr(tensorrt, "wait", lambda *_: None)
        run(engine, 0, 1)
        assert not answered(engine, 0, 1)
    engine.start(1)
    engine.close()
    assert "work" in fake.faults  # of slot 0, which was freed while it was in work
    fake.forgive()


@scenario
def picture_overwritten_too_early_is_caught(fake: Fake, _patch: Patch) -> None:
    engine = fake.engine()
    run(engine, 0, 1)
    engine.buffer(0)[...] = picture(2)
    assert not answered(engine, 0, 1)
    engine.close()


@scenario
def slot_in_work_is_not_started_again(fake: Fake, _patch: Patch) -> None:
    engine = fake.engine()
    run(engine, 0, 1)
    with pytest.raises(ValueError, match="slot 0 is in work"):
        engine.start(0)
    assert answered(engine, 0, 1)
    engine.close()


@scenario
def answer_and_buffer_outlive_the_engine(fake: Fake, _patch: Patch) -> None:
    engine = fake.engine()
    buffer = engine.buffer(0)
    run(engine, 0, 1)
    answer = engine.result(0)
    engine.close()
    np.testing.assert_array_equal(answer, picture(1) / np.float32(255))
    np.testing.assert_array_equal(buffer, picture(1))


@scenario
def engine_is_closed_with_a_picture_in_work(fake: Fake, _patch: Patch) -> None:
    engine = fake.engine()
    run(engine, 1, 1)
    engine.close()
    assert fake["live"] == 0
    engine.close()
    for use in (engine.buffer, engine.start, engine.result):
        with pytest.raises(EngineError, match="closed"):
            use(0)


@scenario
def engines_of_two_devices_work_side_by_side(fake: Fake, _patch: Patch) -> None:
    engines = [fake.engine(f"cuda:{index}", slots=1) for index in (0, 1)]
    for index, engine in enumerate(engines):
        run(engine, 0, index)
    for index, engine in enumerate(engines):
        assert answered(engine, 0, index)
        engine.close()


@scenario
def engine_that_does_not_fit_leaves_nothing_behind(fake: Fake, _patch: Patch) -> None:
    fake["limit"] = 6  # the first slot takes four
    with pytest.raises(EngineError, match=r"cuda:0 \(Fake A\) failed"):
        fake.engine()


@scenario
def lost_device_is_an_error_that_names_it(fake: Fake, _patch: Patch) -> None:
    engine = fake.engine("cuda:1")
    run(engine, 0, 1)
    fake["error"] = 719
    with pytest.raises(EngineError, match=r"cuda:1 \(Fake B\) failed"):
        engine.result(0)
    with pytest.raises(EngineError, match=r"cuda:1 \(Fake B\) was lost"):
        engine.start(1)
    engine.close()
    fake.forgive()


@scenario
def device_that_hangs_is_an_error_and_not_a_hang(fake: Fake, patch: Patch) -> None:
    patch.setattr(tensorrt, "_LIMIT_S", 0.05)
    engine = fake.engine()
    run(engine, 0, 1)
    fake["hangs"] = 1
    began = time.perf_counter()
    with pytest.raises(EngineError, match=r"cuda:0 \(Fake A\) does not answer.* 0.05 s"):
        engine.result(0)
    engine.close()
    assert time.perf_counter() - began < 1
    assert fake["live"] > 0, "freeing what a device uses that hangs would hang, too"
    fake.forgive()


@scenario
def engine_is_built_once_and_again_if_it_does_not_load(fake: Fake, patch: Patch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        patch.setenv("VEINTRACK_CACHE", folder)
        for _ in range(2):
            fake.engine().close()
        assert fake.builds == 1
        (kept,) = Path(folder).glob("*.blob")
        kept.write_bytes(kept.read_bytes()[:20])
        engine = fake.engine()
        assert fake.builds == 2
        run(engine, 0, 1)
        assert answered(engine, 0, 1)
        engine.close()


@scenario
def plan_that_the_library_refuses_is_an_error_with_its_log(fake: Fake, patch: Patch) -> None:
    patch.setattr(tensorrt_plan, "build_plan", lambda *_, **__: Plan(b"broken", b""))
    with tempfile.TemporaryDirectory() as folder:
        patch.setenv("VEINTRACK_CACHE", folder)
        with pytest.raises(EngineError, match="could not load the engine: the plan is damaged"):
            fake.engine()


@scenario
def kernels_of_tensorrt_rtx_are_compiled_once(fake: Fake, patch: Patch) -> None:
    double: Any = tensorrt_api.use()
    patch.setattr(double, "__name__", "tensorrt_rtx")
    before = double.compiled
    for _ in range(2):
        engine = fake.engine()
        assert engine.name == "tensorrt-rtx"
        run(engine, 1, 1)
        assert answered(engine, 1, 1)
        engine.close()
    assert double.compiled == before + 1
