"""From a model to its INT8 form: what is quantised and what not, and where the form is kept."""

import hashlib
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, numpy_helper

from tests.engines.test_half import model_of
from veintrack.engines.base import F32, U8, Pictures, infer, open_engine
from veintrack.engines.half import half_onnx, normalisation
from veintrack.engines.model import QUANTISED_FROM, ModelInfo, read_model_info
from veintrack.engines.quantise import (
    ends,
    find_quantised,
    quantisable,
    quantise,
    quantised,
    symmetric,
)
from veintrack.errors import BackendMissingError, EngineError

needs_nncf = pytest.mark.skipif(
    find_spec("nncf") is None, reason='quantises for real: pip install "veintrack[int8]"'
)
needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="builds a real engine: pip install tensorrt-rtx (x86_64; no GPU needed)",
)
HEAD = "(uint8[N, 1, 16, 16] frame) => (float[N, 1, 16, 16] probability)"
LAYERS_IN_INT8 = 3
LAYERS = 7 + LAYERS_IN_INT8 + 2


def straight(layers: int, end: str = "probability = Sigmoid(x{n})") -> str:
    """Write a chain of convolutions, each with a ReLU, in ONNX's text form."""
    shapes = ["float[4, 1, 3, 3] w1"] + [f"float[4, 4, 3, 3] w{n}" for n in range(2, layers)]
    body = [f"x0 = Cast<to = 1>(frame) x = Div(x0, white) c1 = {conv('x', 1)} x1 = Relu(c1)"]
    for n in range(2, layers):
        body.append(f"c{n} = {conv(f'x{n - 1}', n)} x{n} = Relu(c{n})")
    body.append(f"x{layers} = {conv(f'x{layers - 1}', layers)}")
    body.append(end.format(n=layers))
    shapes.append(f"float[1, 4, 3, 3] w{layers}")
    weights = ", ".join(shapes)
    return f"straight {HEAD} <float white = {{255}}, {weights}> {{ {' '.join(body)} }}"


def conv(source: str, number: int) -> str:
    return f"Conv<pads = [1, 1, 1, 1]>({source}, w{number})"


def tamed(data: bytes) -> bytes:
    """Scale the weights so that the signal neither dies nor grows on its way: He et al., 2015."""
    model = onnx.load_from_string(data)
    for tensor in (t for t in model.graph.initializer if len(t.dims) > 1):
        values = numpy_helper.to_array(tensor)
        spread = np.sqrt(2 / values[0].size) / values.std()
        tensor.CopyFrom(numpy_helper.from_array((values * spread).astype(np.float32), tensor.name))
    return bytes(model.SerializeToString())


def pictures(count: int = 6, seed: int = 0) -> list[U8]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (1, 1, 16, 16), dtype=np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def model() -> bytes:
    return tamed(model_of(straight(LAYERS)))


@pytest.fixture(scope="module")
def int8(model: bytes) -> bytes:
    pytest.importorskip("nncf", reason='quantises for real: pip install "veintrack[int8]"')
    return quantise(model, pictures())


@pytest.fixture
def file(model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelInfo:
    """A model file with nothing beside it, and an empty cache."""
    monkeypatch.setenv("VEINTRACK_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "vein.onnx"
    path.write_bytes(model)
    return read_model_info(path)


def nodes_of(data: bytes, op: str) -> list[NodeProto]:
    return [node for node in onnx.load_from_string(data).graph.node if node.op_type == op]


def in_int8(data: bytes) -> list[int]:
    """Number the convolutions that read what was dequantised."""
    made = {name for node in nodes_of(data, "DequantizeLinear") for name in node.output}
    layers = nodes_of(data, "Conv")
    return [n for n, node in enumerate(layers, 1) if made.issuperset(node.input[:2])]


def answer(data: bytes, frame: U8) -> F32:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    probability: F32
    (probability,) = session.run(None, {"frame": frame})
    return probability


def never() -> Sequence[U8]:
    raise AssertionError("no pictures are needed")


NEVER = Pictures("none", never)


# Which layers ------------------------------------------------------------------------------------


def test_the_ends_of_a_chain_are_its_first_and_last_layers(model: bytes) -> None:
    kept = {n for n in ends(model, 2, 1) if n.startswith("conv")}
    convolutions = [node.name for node in nodes_of(model, "Conv")]
    assert kept == {convolutions[0], convolutions[1], convolutions[-1]}


def test_what_lies_behind_a_kept_layer_is_kept_up_to_the_next(model: bytes) -> None:
    names = [node.name for node in onnx.load_from_string(model).graph.node]
    assert list(ends(model, 1, 0)) == names[:4]  # Cast, Div, Conv, Relu
    assert list(ends(model, 0, 0)) == names[:2]


def test_weights_in_fp16_behind_a_cast_count_as_weights() -> None:
    text = straight(3).replace("float[4, 4, 3, 3] w2", "float16[4, 4, 3, 3] h2")
    stored = model_of(text.replace("{ x0", "{ w2 = Cast<to = 1>(h2) x0"))
    assert {n for n in ends(stored, 2, 0) if "conv" in n} == {
        node.name for node in nodes_of(stored, "Conv")[:2]
    }


@pytest.mark.parametrize(
    ("end", "last"),
    [
        ("both = Add(x{n}, x) probability = Sigmoid(both)", []),  # it forks at once
        ("wide = Concat<axis = 1>(x{n}, x1) y = Conv(wide, v) probability = Sigmoid(y)", ["y"]),
        ("y = Resize(x{n}, , one) probability = Sigmoid(y)", ["x4", "c3"]),
        ("y = Add(x{n}, white) probability = Sigmoid(y)", ["x4", "c3"]),
    ],
    ids=["sum", "joined", "resized", "constant"],
)
def test_the_last_layers_are_sought_as_far_as_the_graph_does_not_fork(
    end: str, last: list[str]
) -> None:
    text = straight(4, end).replace(
        "float white = {255}",
        "float white = {255}, float[1, 5, 1, 1] v, float[4] one = {1, 1, 1, 1}",
    )
    data = model_of(text)
    by_name = {node.name: node.output[0] for node in onnx.load_from_string(data).graph.node}
    assert [by_name[name] for name in ends(data, 0, 2)[2:]] == last


def test_the_first_seven_layers_and_the_last_two_stay_and_the_others_do_not(int8: bytes) -> None:
    assert in_int8(int8) == [8, 9, 10]  # counted from 1
    assert len(nodes_of(int8, "Conv")) == LAYERS


@needs_nncf
def test_layers_without_a_name_are_kept_too(model: bytes, int8: bytes) -> None:
    nameless = onnx.load_from_string(model)
    for node in nameless.graph.node:
        node.name = ""
    got = quantise(bytes(nameless.SerializeToString()), pictures())
    assert in_int8(got) == in_int8(int8)


@needs_nncf
def test_a_model_of_ends_alone_is_refused() -> None:
    with pytest.raises(EngineError, match="cannot be made INT8: it has only first and last layers"):
        quantise(tamed(model_of(straight(9))), pictures())


@pytest.mark.parametrize(("layers", "possible"), [(9, False), (10, True)])
def test_a_model_can_become_int8_if_it_has_more_than_ends(
    file: ModelInfo, layers: int, possible: bool
) -> None:
    file.path.write_bytes(model_of(straight(layers)))
    assert quantisable(read_model_info(file.path)) is possible


# What comes out ----------------------------------------------------------------------------------


def test_it_says_what_it_is_and_what_it_was_made_from(
    model: bytes, int8: bytes, file: ModelInfo
) -> None:
    path = file.path.with_name("other.onnx")
    path.write_bytes(int8)
    info = read_model_info(path)
    assert info.quantised
    assert info.quantised_from == hashlib.sha256(model).hexdigest() == file.sha256
    assert not file.quantised
    was, now = (
        {p.key: p.value for p in onnx.load_from_string(data).metadata_props}
        for data in (model, int8)
    )
    assert now == was | {QUANTISED_FROM: file.sha256}


def test_the_same_pictures_give_the_same_bytes_and_others_do_not(model: bytes, int8: bytes) -> None:
    assert quantise(model, pictures()) == int8
    assert quantise(model, pictures(seed=1)) != int8


def test_it_is_a_valid_file_for_any_number_of_pictures(int8: bytes) -> None:
    onnx.checker.check_model(onnx.load_from_string(int8), full_check=True)
    two = np.concatenate(pictures(2))
    assert answer(int8, two).shape == (2, 1, 16, 16)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_both_engines_of_a_cpu_answer_almost_as_in_fp32(
    model: bytes, int8: bytes, file: ModelInfo, name: str
) -> None:
    path = file.path.with_name("other.onnx")
    path.write_bytes(int8)
    engine = open_engine(read_model_info(path), name)
    assert engine.precision == "int8"
    for frame in pictures(3, seed=7):
        expected = answer(model, frame)
        assert np.abs(infer(engine, frame) - expected).max() < 0.1 * np.ptp(expected)


def test_each_picture_is_told(model: bytes, int8: bytes) -> None:
    told: list[tuple[str, int, int]] = []
    assert quantise(model, pictures(), progress=lambda *step: told.append(step)) == int8
    assert told == [("calibrate", n, 6) for n in range(1, 7)]


@needs_nncf
def test_who_watches_can_end_it(model: bytes) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantise(model, pictures(), progress=stop)


def test_no_pictures_are_refused(model: bytes) -> None:
    with pytest.raises(ValueError, match="frames must hold at least one picture, got none"):
        quantise(model, [])


def test_a_missing_library_names_the_extra(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    message = r'making a model INT8 needs nncf: pip install "veintrack\[int8\]"'
    with pytest.raises(BackendMissingError, match=message):
        quantise(model, pictures())


@needs_nncf
def test_a_model_that_nncf_refuses_is_an_engine_error(model: bytes) -> None:
    wrong = [np.zeros((1, 1, 16, 17), np.uint8)]
    with pytest.raises(EngineError, match="the model cannot be made INT8: "):
        quantise(model, wrong)


# Without zero points -----------------------------------------------------------------------------


def zero_points(data: bytes) -> list["np.ndarray[tuple[int, ...], np.dtype[np.integer]]"]:
    graph = onnx.load_from_string(data).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kinds = ("QuantizeLinear", "DequantizeLinear")
    return [constants[node.input[2]] for node in graph.node if node.op_type in kinds]


def test_the_symmetric_form_has_int8_zero_points_of_0_alone(int8: bytes) -> None:
    assert any(zeros.dtype == np.uint8 for zeros in zero_points(int8))
    points = zero_points(symmetric(int8))
    assert len(points) == len(zero_points(int8)) > 0
    assert all(zeros.dtype == np.int8 and not zeros.any() for zeros in points)
    onnx.checker.check_model(onnx.load_from_string(symmetric(int8)), full_check=True)


def test_the_symmetric_form_answers_almost_the_same_and_stays_as_it_is(int8: bytes) -> None:
    plain = symmetric(int8)
    assert symmetric(plain) == plain
    for frame in pictures(3, seed=7):
        expected = answer(int8, frame)
        assert np.abs(answer(plain, frame) - expected).max() < 0.1 * np.ptp(expected)


def range_model(low: float, high: float, kind: str) -> bytes:
    """Quantise the input, less 128, for the range from `low` to `high` in `kind`, and no more."""
    scale = (high - low) / 255
    zero = round(np.iinfo(kind).min - low / scale)
    return model_of(
        f"one {HEAD} <float step = {{{scale}}}, {kind} zero = {{{zero}}}, float half = {{128}}> {{"
        " grey = Cast<to = 1>(frame) x = Sub(grey, half) q = QuantizeLinear(x, step, zero)"
        " probability = DequantizeLinear(q, step, zero) }"
    )


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize(("low", "high"), [(-128, 127), (-40, 100), (-100, 20), (0, 127)])
def test_a_range_grows_to_as_far_on_either_side(low: float, high: float, kind: str) -> None:
    frame = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    value = frame - np.float32(128)
    far = max(-low, high)
    got = answer(symmetric(range_model(low, high, kind)), frame)
    step = far / 127
    np.testing.assert_allclose(got, value.clip(-far - step, far), atol=step / 2 + 0.51)


@needs_rtx
def test_tensorrt_rtx_builds_the_symmetric_form_with_layers_in_int8(int8: bytes) -> None:
    from veintrack.engines.tensorrt_build import ShapeRange, build_plan, layer_types

    plain = symmetric(int8)
    half = half_onnx(plain, keep_fp32=normalisation(plain))
    types = layer_types(half)
    assert sum(kinds == ("INT8",) for kinds in types.values()) == 2 * LAYERS_IN_INT8
    assert build_plan(half, shapes={"frame": ShapeRange.fixed(1, 1, 16, 16)}).engine


# Where it is found and kept ----------------------------------------------------------------------


def test_a_quantised_model_is_its_own_int8_form(int8: bytes, file: ModelInfo) -> None:
    file.path.write_bytes(int8)
    info = read_model_info(file.path)
    assert find_quantised(info) is info
    assert quantised(info, NEVER) is info


def test_the_form_beside_a_model_is_taken(int8: bytes, file: ModelInfo) -> None:
    assert find_quantised(file) is None
    beside = file.path.with_name("vein.int8.onnx")
    beside.write_bytes(int8)
    found = find_quantised(file)
    assert found is not None
    assert (found.path, found.quantised) == (beside, True)
    assert quantised(file, NEVER) == found


def test_a_form_of_another_model_is_passed_over_and_said(
    int8: bytes, file: ModelInfo, caplog: pytest.LogCaptureFixture
) -> None:
    beside = file.path.with_name("vein.int8.onnx")
    beside.write_bytes(int8)
    file.path.write_bytes(tamed(model_of(straight(LAYERS - 1))))
    assert find_quantised(read_model_info(file.path)) is None
    assert [r.message for r in caplog.records] == [
        f"{beside} is passed over: it was not made from vein.onnx"
    ]


def test_a_broken_form_is_passed_over_and_said(
    file: ModelInfo, caplog: pytest.LogCaptureFixture
) -> None:
    beside = file.path.with_name("vein.int8.onnx")
    beside.write_bytes(b"half of it")
    assert find_quantised(file) is None
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("WARNING", f"the INT8 form is passed over: {beside} is not an ONNX file")
    ]


def test_a_form_that_cannot_be_read_is_passed_over_and_said(
    int8: bytes,
    file: ModelInfo,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(f"{path} is not yours")

    file.path.with_name("vein.int8.onnx").write_bytes(int8)
    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read anything
    assert find_quantised(file) is None
    assert "the INT8 form is passed over: " in caplog.text
    assert "is not yours" in caplog.text


def test_a_form_is_made_once_and_kept(
    int8: bytes, file: ModelInfo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = quantised(file, Pictures("noise", pictures))
    assert made.path.read_bytes() == int8
    assert (made.name, made.quantised_from) == ("vein.onnx in INT8", file.sha256)
    assert "making vein.onnx INT8 with 6 pictures (noise)" in caplog.text
    assert quantised(file, NEVER) == made


def test_who_asks_for_it_makes_it_afresh(int8: bytes, file: ModelInfo) -> None:
    quantised(file, Pictures("noise", pictures))
    other = quantised(file, Pictures("other noise", lambda: pictures(seed=1)), afresh=True)
    assert other.path.read_bytes() != int8
    assert quantised(file, NEVER) == other


def test_afresh_passes_over_what_lies_beside(int8: bytes, file: ModelInfo) -> None:
    beside = file.path.with_name("vein.int8.onnx")
    beside.write_bytes(int8)
    assert quantised(file, Pictures("noise", pictures), afresh=True).path != beside


@pytest.mark.usefixtures("int8")
def test_another_byte_in_the_model_makes_another_form(file: ModelInfo) -> None:
    first = quantised(file, Pictures("noise", pictures))
    model = onnx.load(file.path)
    model.producer_name = "b"
    onnx.save(model, file.path)
    changed = read_model_info(file.path)
    second = quantised(changed, Pictures("noise", pictures))
    assert second.quantised_from == changed.sha256 != first.quantised_from
    assert second.path != first.path


@pytest.mark.parametrize("afresh", [False, True])
def test_a_cache_that_cannot_be_written_is_an_error_of_one_line(
    file: ModelInfo, monkeypatch: pytest.MonkeyPatch, afresh: bool
) -> None:
    monkeypatch.setattr("veintrack.engines.quantise.quantise", lambda *_, **__: b"made")
    monkeypatch.setenv("VEINTRACK_CACHE", str(file.path))  # a file is in the way
    with pytest.raises(EngineError, match="the INT8 form of vein.onnx could not be kept: ") as got:
        quantised(file, Pictures("noise", pictures), afresh=afresh)
    assert "\n" not in str(got.value)


@pytest.mark.usefixtures("int8")
def test_a_kept_form_that_was_damaged_is_made_anew(int8: bytes, file: ModelInfo) -> None:
    kept = quantised(file, Pictures("noise", pictures)).path
    kept.write_bytes(int8[:100])
    assert quantised(file, Pictures("noise", pictures)).path.read_bytes() == int8


def test_what_goes_wrong_with_the_pictures_is_passed_on(file: ModelInfo) -> None:
    with pytest.raises(AssertionError, match="no pictures"):
        quantised(file, NEVER)
