"""The fastest precision that still gives the same answer: found, proved, remembered.

Engines are scripted here: what they offer, how long they take, how far off their answers are.
"""

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.engines.scripted import GOOD, SHAPE, Factory, Form, Machine
from veintrack.engines import base, cache, proven
from veintrack.engines.base import U8, Pictures, infer
from veintrack.engines.model import QUANTISED_FROM, ModelInfo, read_model_info
from veintrack.engines.parity import ParityLimits
from veintrack.engines.proven import Proof, open_form, open_proven, prove
from veintrack.errors import EngineError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEINTRACK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose engines are all as good as the reference."""
    made = Machine({"onnxruntime": {"fp32": Form(40), "int8": Form(15)}, "openvino": dict(GOOD)})
    made.forms["tensorrt"] = {"fp16": Form(2), "fp32": Form(1), "int8": Form(1)}
    module = SimpleNamespace(**{name.title(): Factory(made, name) for name in made.forms})
    monkeypatch.setitem(sys.modules, "fake_engines", module)
    for name in made.forms:
        monkeypatch.setitem(base.ENGINES, name, f"fake_engines:{name.title()}")
    monkeypatch.setattr(proven, "time", SimpleNamespace(perf_counter_ns=made.clock))
    monkeypatch.setattr(base, "_may_have_gpu", lambda: False)
    return made


def write_int8(model: Path, source_sha256: str) -> Path:
    """Write a model in INT8 beside it: the grey levels, which are integers, are quantised."""
    quantised = onnx.load(model)
    nodes = list(quantised.graph.node)
    nodes[0].output[0] = "levels"
    one, zero = helper.make_tensor("step", 1, [], [1.0]), helper.make_tensor("nil", 2, [], [0])
    quantised.graph.initializer.extend([one, zero])
    nodes[1:1] = [
        helper.make_node("QuantizeLinear", ["levels", "step", "nil"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "nil"], ["grey"]),
    ]
    del quantised.graph.node[:]
    quantised.graph.node.extend(nodes)
    quantised.metadata_props.add(key=QUANTISED_FROM, value=source_sha256)
    path = model.with_suffix(".int8.onnx")
    onnx.save(quantised, path)
    return path


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> ModelInfo:
    """A model with its INT8 form beside it."""
    info = read_model_info(make_model(tmp_path / "dark.onnx"))
    write_int8(info.path, info.sha256)
    return info


def frames() -> Sequence[U8]:
    picture = np.zeros(SHAPE, np.uint8)
    picture[..., 20:40, 10:30] = 230
    return [picture] * 3


def never() -> Sequence[U8]:
    raise AssertionError("no pictures are needed")


def proof(
    make: Callable[[], Sequence[U8]] = frames,
    *,
    limits: ParityLimits | None = None,
    afresh: bool = False,
    channel: int = 0,
) -> Proof:
    return Proof(
        frames=Pictures("square", make),
        calibration=Pictures("none", never),
        limits=limits or ParityLimits(),
        afresh=afresh,
        channel=channel,
    )


# The search --------------------------------------------------------------------------------------


def test_the_fastest_is_taken_wherever_it_is_listed(machine: Machine, model: ModelInfo) -> None:
    machine.forms["openvino"] = {"int8": Form(20), "bf16": Form(10), "fp32": Form(40)}
    engine = open_proven(model, proof=proof())
    assert (engine.name, engine.precision) == ("openvino", "bf16")
    assert machine.tried == ["openvino int8", "openvino bf16", "openvino fp32"]
    assert machine.still_open == ["openvino bf16"]


def test_of_two_that_are_as_fast_the_first_is_taken(machine: Machine, model: ModelInfo) -> None:
    machine.forms["openvino"] = {"int8": Form(10), "fp32": Form(10)}
    assert open_proven(model, proof=proof()).precision == "int8"


def test_a_fast_one_whose_answers_are_off_is_refused_and_it_is_said(
    machine: Machine, model: ModelInfo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    machine.forms["openvino"]["int8"] = Form(10, shift_px=1)
    assert open_proven(model, proof=proof()).precision == "bf16"
    assert machine.still_open == ["openvino bf16"]
    first, int8, bf16, fp32 = (r.message for r in caplog.records)
    assert first == "first use of dark.onnx in openvino here: trying int8, bf16, fp32"
    assert int8 == (
        "int8: 10.0 ms a frame; refused: Dice 0.9500 of class 0 is below 0.99; "
        "a centroid lies 1.00 px off, more than 0.5"
    )
    assert bf16.startswith("bf16: 20.0 ms a frame; Dice 1.0000")
    assert fp32 == "fp32: slower, 40.0 against 20.0 ms"


def test_only_the_class_that_is_followed_counts(machine: Machine, model: ModelInfo) -> None:
    assert open_proven(model, proof=proof(channel=0)).precision == "int8"
    assert open_proven(model, proof=proof(channel=1)).precision == "bf16"
    assert machine.still_open == ["openvino int8", "openvino bf16"]


def test_one_that_cannot_be_opened_is_passed_over(
    machine: Machine, model: ModelInfo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    machine.forms["openvino"]["int8"] = Form(10, fault=EngineError("no such instruction"))
    assert open_proven(model, proof=proof()).precision == "bf16"
    assert "int8: no such instruction" in caplog.text


def test_where_none_can_be_opened_the_error_says_why(machine: Machine, model: ModelInfo) -> None:
    broken = Form(1, fault=EngineError("no such instruction"))
    machine.forms["openvino"] = {"bf16": broken, "fp32": broken}
    with pytest.raises(EngineError, match="no such instruction"):
        open_proven(model, proof=proof())


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_where_none_passes_the_error_says_what_to_do(
    machine: Machine, model: ModelInfo, precision: str
) -> None:
    machine.forms["openvino"] = {"int8": Form(1, 5), "fp32": Form(2, 5)}
    advice = (
        "no precision of openvino gives the answers of dark.onnx within Dice 0.99 and 0.5 px: "
        "use --engine onnxruntime"
    )
    with pytest.raises(EngineError, match=advice):
        open_proven(model, precision=precision, proof=proof())
    assert machine.still_open == []


@pytest.mark.parametrize("can", [False, True])
def test_int8_is_not_tried_where_it_can_be_neither_found_nor_made(
    machine: Machine, model: ModelInfo, monkeypatch: pytest.MonkeyPatch, can: bool
) -> None:
    monkeypatch.setattr(proven, "can_quantise", lambda: can)  # but this model has no layers
    model.path.with_suffix(".int8.onnx").unlink()
    assert open_proven(model, proof=proof()).precision == "bf16"
    assert machine.tried == ["openvino bf16", "openvino fp32"]


def test_on_a_gpu_the_first_that_passes_is_taken(machine: Machine, model: ModelInfo) -> None:
    assert open_proven(model, "tensorrt", proof=proof()).precision == "fp16"
    assert machine.tried == ["tensorrt fp16"]


def test_on_a_gpu_what_comes_behind_fp32_is_for_who_asks(
    machine: Machine, model: ModelInfo
) -> None:
    machine.forms["tensorrt"]["fp16"] = Form(1, shift_px=5)
    assert open_proven(model, "tensorrt", proof=proof()).precision == "fp32"
    assert machine.tried == ["tensorrt fp16", "tensorrt fp32"]
    assert open_proven(model, "tensorrt", precision="int8", proof=proof()).precision == "int8"


def test_a_gpu_on_which_nothing_passes_is_told_and_the_cpu_taken(
    machine: Machine,
    model: ModelInfo,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(base, "_may_have_gpu", lambda: True)
    machine.forms["tensorrt"] = {"fp16": Form(1, 5), "fp32": Form(1, 5)}
    assert open_proven(model, proof=proof()).name == "openvino"
    assert "tensorrt is not used: no precision of tensorrt gives the answers" in caplog.text
    assert machine.still_open == ["openvino int8"]


@pytest.mark.parametrize("failure", [EngineError("device lost"), KeyboardInterrupt()])
def test_what_fails_while_it_is_judged_is_closed(
    machine: Machine, model: ModelInfo, failure: BaseException
) -> None:
    machine.forms["openvino"]["bf16"] = Form(20, failure=failure)
    with pytest.raises(type(failure)):
        open_proven(model, precision="bf16", proof=proof())
    assert machine.still_open == []


def test_who_interrupts_the_search_leaves_nothing_open(machine: Machine, model: ModelInfo) -> None:
    machine.forms["openvino"]["fp32"] = Form(40, failure=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        open_proven(model, proof=proof())
    assert machine.still_open == []


# A precision that is asked for -------------------------------------------------------------------


def test_a_precision_that_passes_is_taken_as_asked(machine: Machine, model: ModelInfo) -> None:
    assert open_proven(model, precision="fp32", proof=proof()).precision == "fp32"
    assert machine.tried == ["openvino fp32"]


def test_a_precision_that_is_refused_gives_way_to_the_next_slower_one(
    machine: Machine, model: ModelInfo, caplog: pytest.LogCaptureFixture
) -> None:
    machine.forms["openvino"]["int8"] = Form(10, shift_px=1)
    machine.forms["openvino"]["bf16"] = Form(10, shift_px=1)
    assert open_proven(model, precision="int8", proof=proof()).precision == "fp32"
    assert machine.tried == ["openvino int8", "openvino bf16", "openvino fp32"]
    assert machine.still_open == ["openvino fp32"]
    assert [r.levelname for r in caplog.records] == ["WARNING"] * 2
    assert caplog.records[0].message.startswith(
        "int8 is refused, its answers differ too much: Dice 0.9500 of class 0 is below 0.99"
    )


def test_a_precision_that_is_not_offered_is_an_error(machine: Machine, model: ModelInfo) -> None:
    message = "openvino offers int8 and bf16 and fp32 here, not fp16: use --precision bf16"
    with pytest.raises(EngineError, match=message):
        open_proven(model, precision="fp16", proof=proof())
    assert machine.tried == []


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_the_reference_is_not_held_against_itself(
    machine: Machine, model: ModelInfo, precision: str
) -> None:
    engine = open_proven(model, "onnxruntime", precision=precision, proof=proof(never))
    assert machine.opened == ["onnxruntime fp32"]
    assert engine.precision == "fp32"


def test_onnx_runtime_in_int8_is_judged(machine: Machine, model: ModelInfo) -> None:
    machine.forms["onnxruntime"]["int8"] = Form(15, shift_px=1)
    engine = open_proven(model, "onnxruntime", precision="int8", proof=proof())
    assert engine.precision == "fp32"
    assert machine.still_open == ["onnxruntime fp32"]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_quantised_file_computes_in_int8_and_in_nothing_else(
    machine: Machine, model: ModelInfo, engine: str
) -> None:
    int8 = read_model_info(model.path.with_suffix(".int8.onnx"))
    for precision in ("auto", "int8"):
        assert open_proven(int8, engine, precision=precision, proof=proof()).precision == "int8"
    message = "dark.int8.onnx is quantised: it computes in int8, not fp32"
    with pytest.raises(EngineError, match=message):
        open_proven(int8, engine, precision="fp32", proof=proof())
    assert "openvino bf16" not in machine.opened


def test_a_quantised_file_that_does_not_pass_has_no_slower_form(
    machine: Machine, model: ModelInfo
) -> None:
    machine.forms["openvino"]["int8"] = Form(10, shift_px=1)
    int8 = read_model_info(model.path.with_suffix(".int8.onnx"))
    for precision in ("auto", "int8"):
        with pytest.raises(EngineError, match="no precision of openvino .* --engine onnxruntime"):
            open_proven(int8, precision=precision, proof=proof())


# What is remembered ------------------------------------------------------------------------------


def test_the_second_time_only_what_was_chosen_is_opened(machine: Machine, model: ModelInfo) -> None:
    machine.forms["openvino"] = {"int8": Form(20), "bf16": Form(10), "fp32": Form(40)}
    open_proven(model, proof=proof()).close()
    machine.opened.clear()
    assert open_proven(model, proof=proof(never)).precision == "bf16"
    assert machine.opened == ["openvino bf16"]


def test_what_was_found_of_an_engine_is_read_again(machine: Machine, model: ModelInfo) -> None:
    engine = open_form(model, "openvino", precision="bf16", calibration=Pictures("none", never))
    machine.forms["openvino"]["bf16"] = Form(7)
    first = prove(model, engine, proof())
    assert (first.latency_ms, first.parity.dice, first.parity.frames) == (20, (1,), 3)
    again = prove(model, engine, proof(never))
    assert again == first
    assert engine.key is not None
    (name,) = cache.facts_of(engine.key)
    assert cache.facts_of(engine.key)[name]["frames"] == "square"


def test_a_precision_that_is_asked_for_is_proved_once(machine: Machine, model: ModelInfo) -> None:
    open_proven(model, precision="bf16", proof=proof())
    open_proven(model, precision="bf16", proof=proof(never))
    assert machine.tried == ["openvino bf16"] * 2


def test_other_limits_choose_anew_from_what_was_measured(
    machine: Machine, model: ModelInfo
) -> None:
    machine.forms["openvino"]["int8"] = Form(10, shift_px=1)
    assert open_proven(model, proof=proof()).precision == "bf16"
    loose = ParityLimits(dice=0.9, centroid_shift_px=1)
    assert open_proven(model, proof=proof(never, limits=loose)).precision == "int8"
    assert open_proven(model, proof=proof(never)).precision == "bf16"


def test_another_idea_of_what_is_sure_is_measured_anew(machine: Machine, model: ModelInfo) -> None:
    open_proven(model, proof=proof())
    with pytest.raises(AssertionError, match="no pictures"):
        open_proven(model, proof=proof(never, limits=ParityLimits(sure=0.5)))
    assert machine.still_open == ["openvino int8"]


def test_who_asks_for_it_judges_afresh(machine: Machine, model: ModelInfo) -> None:
    assert open_proven(model, proof=proof()).precision == "int8"
    machine.forms["openvino"]["int8"] = Form(10, shift_px=1)
    assert open_proven(model, proof=proof(never)).precision == "int8"
    assert open_proven(model, proof=proof(afresh=True)).precision == "bf16"
    assert open_proven(model, proof=proof(never)).precision == "bf16"


def test_another_model_is_judged_anew(
    machine: Machine, model: ModelInfo, make_model: Callable[..., Path]
) -> None:
    open_proven(model, proof=proof())
    other = read_model_info(make_model(model.path, level=41.0))
    machine.opened.clear()
    with pytest.raises(AssertionError, match="no pictures"):
        open_proven(other, precision="bf16", proof=proof(never))
    assert open_proven(other, precision="bf16", proof=proof()).precision == "bf16"


def test_what_was_chosen_and_is_gone_is_looked_for_again(
    machine: Machine, model: ModelInfo
) -> None:
    assert open_proven(model, proof=proof()).precision == "int8"
    machine.forms["openvino"]["int8"] = Form(10, fault=EngineError("not in this version"))
    assert open_proven(model, proof=proof()).precision == "bf16"


def test_int8_that_was_not_there_before_is_tried(
    machine: Machine, model: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proven, "can_quantise", lambda: False)
    beside = model.path.with_suffix(".int8.onnx")
    aside = beside.rename(beside.with_suffix(".aside"))
    assert open_proven(model, proof=proof()).precision == "bf16"
    aside.rename(beside)
    assert open_proven(model, proof=proof()).precision == "int8"
    assert machine.tried[-1] == "openvino fp32"  # all were tried


def test_int8_held_against_itself_is_no_proof_against_the_model(
    machine: Machine, model: ModelInfo
) -> None:
    # As scripted, whoever computes in INT8 is off by as much, so the form agrees with itself.
    machine.forms["openvino"]["int8"] = machine.forms["onnxruntime"]["int8"] = Form(10, shift_px=1)
    int8 = read_model_info(model.path.with_suffix(".int8.onnx"))
    assert open_proven(int8, proof=proof()).precision == "int8"
    assert open_proven(model, precision="int8", proof=proof()).precision == "bf16"


def test_a_cache_that_cannot_be_written_only_costs_time(
    machine: Machine, model: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEINTRACK_CACHE", str(model.path))  # a file is in the way
    for _ in range(2):
        assert open_proven(model, proof=proof()).precision == "int8"
    assert machine.tried == ["openvino int8", "openvino bf16", "openvino fp32"] * 2


# With real engines -------------------------------------------------------------------------------

OPEN = """
import logging, sys
from pathlib import Path
import numpy as np
from veintrack.engines.base import Pictures
from veintrack.engines.model import read_model_info
from veintrack.engines.proven import Proof, open_proven

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
frame = np.full((1, 1, 64, 64), 90, np.uint8)
frame[..., 20:40, 10:30] = 20
pictures = Pictures("square", lambda: [frame])
proof = Proof(frames=pictures, calibration=pictures)
model = read_model_info(Path(sys.argv[1]))
open_proven(model, "openvino", precision="fp32", proof=proof).close()
"""


def test_two_processes_at_once_compile_once(model: ModelInfo) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(model.path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(said).count("compiling dark.onnx for OpenVINO in fp32") == 1


def test_int8_of_a_model_is_found_proved_and_answers(model: ModelInfo) -> None:
    picture = np.full(SHAPE, 90, np.uint8)
    picture[..., 20:40, 10:30] = 20
    real = proof(lambda: [picture])
    for name in ("openvino", "onnxruntime"):
        engine = open_proven(model, name, precision="int8", proof=real)
        assert (engine.name, engine.precision) == (name, "int8")
        reference = open_proven(model, "onnxruntime", proof=proof(never))
        np.testing.assert_allclose(infer(engine, picture), infer(reference, picture), atol=0.05)
        engine.close()
