"""Tier A: what becomes FP16 and what stays. Tier B: real TensorRT-RTX builds, without a GPU."""

from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.parser import parse_graph

from tests.conftest import metadata
from veintrack.engines.half import half_onnx, normalisation
from veintrack.engines.model import read_model_info, resolve_model
from veintrack.engines.tensorrt_build import ShapeRange, build_plan, layer_types
from veintrack.errors import EngineError

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="tier B builds real engines: pip install tensorrt-rtx (x86_64; no GPU needed)",
)
HEAD = "(uint8[N, 1, 16, 16] frame) => (float[N, 2, 16, 16] probability)"
# A network in small: normalised, convolved, shrunk, enlarged, joined with what was before.
UNET = f"""small {HEAD}
<float white = {{255}}, float one = {{1}}, float16[4, 1, 3, 3] kernel, float[4] bias,
 float[2, 8, 1, 1] last>
{{
    stored = Cast<to = 1>(kernel)
    grey = Cast<to = 1>(frame)
    scaled = Div(grey, white)
    shifted = Sub(scaled, one)
    first = Conv<pads = [1, 1, 1, 1]>(shifted, stored, bias)
    edge = Relu(first)
    small = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(edge)
    twice = Constant<value = float[4] {{1, 1, 2, 2}}>()
    large = Resize<mode = "linear">(small, "", twice)
    both = Concat<axis = 1>(large, edge)
    logit = Conv(both, last)
    probability = Sigmoid(logit)
}}"""
QUANTISED = f"""quantised {HEAD}
<float white = {{255}}, float step = {{0.01}}, int8 zero = {{0}},
 int8[2, 1, 1, 1] kernel = {{9, -7}}, float[2] bias = {{0.5, -0.5}}>
{{
    grey = Cast<to = 1>(frame)
    scaled = Div(grey, white)
    q = QuantizeLinear(scaled, step, zero)
    x = DequantizeLinear(q, step, zero)
    w = DequantizeLinear(kernel, step, zero)
    sum = Conv(x, w, bias)
    edge = Relu(sum)
    q2 = QuantizeLinear(edge, step, zero)
    x2 = DequantizeLinear(q2, step, zero)
    less = Neg(x2)
    more = Neg(less)
    probability = Sigmoid(more)
}}"""


def model_of(text: str) -> bytes:
    """Make a model file of a graph in ONNX's text form; weights that it leaves open are random."""
    graph = parse_graph(text)
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type.lower()}{number}"
    rng, made = np.random.default_rng(0), {name for node in graph.node for name in node.output}
    for value in (v for v in graph.value_info if v.name not in made):
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        weights = rng.normal(0, 0.5, shape).astype(kind)
        graph.initializer.append(numpy_helper.from_array(weights, value.name))
    del graph.value_info[:]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata(16))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def types_of(data: bytes) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(data)).graph
    return {v.name: v.type.tensor_type.elem_type for v in graph.value_info}


def nodes_of(data: bytes) -> list[NodeProto]:
    return list(onnx.load_from_string(data).graph.node)


def constants_of(data: bytes) -> "dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]":
    graph = onnx.load_from_string(data).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def answer(data: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    frame = np.random.default_rng(1).integers(0, 256, (1, 1, 16, 16), dtype=np.uint8)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    probability: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    (probability,) = session.run(None, {"frame": frame})
    return probability


@pytest.fixture(scope="module")
def unet() -> bytes:
    return model_of(UNET)


@pytest.fixture(scope="module")
def default_half() -> bytes:
    return half_onnx(resolve_model("default").read_bytes())


# Tier A ------------------------------------------------------------------------------------------


def test_every_tensor_between_input_and_output_is_half(unet: bytes) -> None:
    types = types_of(half_onnx(unet))
    assert len(types) > 8
    assert set(types.values()) == {HALF}


def test_input_output_and_metadata_are_those_of_the_model_file(unet: bytes, tmp_path: Path) -> None:
    before, after = tmp_path / "a.onnx", tmp_path / "b.onnx"
    before.write_bytes(unet)
    after.write_bytes(half_onnx(unet))
    infos = [read_model_info(path) for path in (before, after)]
    assert len({(i.classes, i.input_shape, i.threshold, i.licence, i.version) for i in infos}) == 1
    graph = onnx.load(after).graph
    assert graph.output[0].type.tensor_type.elem_type == FLOAT


def test_the_answer_is_the_same_but_for_rounding(unet: bytes) -> None:
    np.testing.assert_allclose(answer(half_onnx(unet)), answer(unet), atol=2e-3)


def test_the_same_model_gives_the_same_file(unet: bytes) -> None:
    assert half_onnx(unet) == half_onnx(unet)


def test_weights_that_were_stored_in_fp16_stay_bit_for_bit_and_lose_their_cast(unet: bytes) -> None:
    half = half_onnx(unet)
    kernels = [c for c in constants_of(half).values() if c.shape == (4, 1, 3, 3)]
    np.testing.assert_array_equal(kernels, [constants_of(unet)["kernel"]])
    assert Counter(n.op_type for n in nodes_of(half))["Cast"] == 2  # after input, before output


def test_scales_of_a_resize_stay_fp32_and_its_picture_does_not(unet: bytes) -> None:
    half = half_onnx(unet)
    (resize,) = (n for n in nodes_of(half) if n.op_type == "Resize")
    assert constants_of(half)[resize.input[2]].dtype == np.float32
    assert types_of(half)[resize.output[0]] == HALF


@pytest.mark.parametrize("named", [("conv10", "sigmoid11"), ("Concat", "Sigmoid", "Conv")])
def test_named_nodes_stay_fp32_without_a_cast_from_one_to_the_next(
    unet: bytes, named: tuple[str, ...]
) -> None:
    half = half_onnx(unet, keep_fp32=named)
    types = types_of(half)
    kept = [n for n in nodes_of(half) if {n.name, n.op_type} & set(named)]
    assert {types[name] for node in kept for name in node.output} == {FLOAT}
    assert kept[-1].input[0] == kept[-2].output[0]
    assert HALF in types.values()
    np.testing.assert_allclose(answer(half), answer(unet), atol=2e-3)


def test_the_way_from_the_input_to_the_first_weights_is_its_normalisation(unet: bytes) -> None:
    assert normalisation(unet) == ("cast1", "div2", "sub3")
    types = types_of(half_onnx(unet, keep_fp32=normalisation(unet)))
    assert [types[name] for name in ("grey", "scaled", "shifted")] == [FLOAT] * 3
    assert types["first"] == HALF


def test_two_readers_of_a_tensor_share_one_cast(unet: bytes) -> None:
    half = half_onnx(unet, keep_fp32=["Concat", "MaxPool"])  # both read what Relu writes
    casts = [n for n in nodes_of(half) if n.op_type == "Cast" and n.input[0] == "edge"]
    assert len(casts) == 1


@pytest.mark.parametrize("name", ["conv99", "Softmax", ""])
def test_a_name_that_the_model_lacks_is_refused(unet: bytes, name: str) -> None:
    with pytest.raises(ValueError, match=f"no node or type of node called {name}"):
        half_onnx(unet, keep_fp32=[name])


def test_constants_too_large_for_fp16_are_named() -> None:
    text = f"""huge {HEAD} <float big = {{70000}}, float alsobig = {{-1e9}}, float fine = {{65504}}>
    {{
        grey = Cast<to = 1>(frame)
        a = Mul(grey, big)
        b = Mul(a, alsobig)
        c = Add(b, fine)
        probability = Concat<axis = 1>(c, c)
    }}"""
    with pytest.raises(
        EngineError, match=r"too large for FP16 \(65504\): big \(70000\), alsobig \(1e\+09\)"
    ):
        half_onnx(model_of(text))
    half_onnx(model_of(text), keep_fp32=["Mul"])


def test_a_constant_that_is_infinite_on_purpose_stays_so() -> None:
    text = f"""masked {HEAD} <float[1] never>
    {{
        grey = Cast<to = 1>(frame)
        a = Max(grey, never)
        probability = Concat<axis = 1>(a, a)
    }}"""
    model = onnx.load_from_string(model_of(text))
    never = numpy_helper.from_array(np.array([-np.inf], np.float32), "never")
    model.graph.initializer[0].CopyFrom(never)
    (value,) = constants_of(half_onnx(model.SerializeToString())).values()
    assert value.dtype == np.float16
    assert value[0] == -np.inf


def test_quantised_parts_pass_untouched_and_what_follows_them_is_half() -> None:
    data = model_of(QUANTISED)
    half = half_onnx(data)

    def part(data: bytes) -> list[NodeProto]:
        ops = ("QuantizeLinear", "DequantizeLinear", "Conv", "Relu")
        return [n for n in nodes_of(data) if n.op_type in ops]

    assert part(data) == part(half)
    constants = constants_of(half)
    for name, value in constants_of(data).items():
        np.testing.assert_array_equal(constants[name], value)
        assert constants[name].dtype == value.dtype
    types = types_of(half)
    assert [types[name] for name in ("grey", "edge", "x2", "more")] == [HALF, FLOAT, FLOAT, HALF]
    np.testing.assert_allclose(answer(half), answer(data), atol=1e-2)


def test_control_flow_is_refused() -> None:
    text = f"""branches {HEAD} <bool yes = {{1}}>
    {{
        grey = Cast<to = 1>(frame)
        probability = If (yes) <
            then_branch = g1 () => (float[N, 2, 16, 16] a) {{ a = Concat<axis = 1>(grey, grey) }},
            else_branch = g2 () => (float[N, 2, 16, 16] b) {{ b = Concat<axis = 1>(grey, grey) }}
        >
    }}"""
    with pytest.raises(EngineError, match=r"control flow \(If\) cannot be converted"):
        half_onnx(model_of(text))


def test_what_cannot_be_fp16_is_an_error_and_may_be_kept() -> None:
    text = f"""odd {HEAD}
    {{
        grey = Cast<to = 1>(frame)
        q, scale, zero = DynamicQuantizeLinear(grey)
        a = Mul(grey, scale)
        probability = Concat<axis = 1>(a, a)
    }}"""
    with pytest.raises(EngineError, match="cannot be converted to FP16: .*DynamicQuantizeLinear"):
        half_onnx(model_of(text))
    half_onnx(model_of(text), keep_fp32=["DynamicQuantizeLinear"])


def test_the_shipped_model_is_half_throughout(default_half: bytes) -> None:
    types = types_of(default_half)
    assert len(types) > 100
    assert set(types.values()) == {HALF}
    floats = [c for c in constants_of(default_half).values() if c.dtype == np.float32]
    assert {c.shape for c in floats} == {(4,)}  # the scales


# Tier B ------------------------------------------------------------------------------------------


def not_half(data: bytes) -> dict[str, tuple[str, ...]]:
    return {name: kinds for name, kinds in layer_types(data).items() if set(kinds) != {"HALF"}}


@needs_rtx
def test_tensorrt_reads_every_layer_of_the_shipped_model_as_half(default_half: bytes) -> None:
    assert len(layer_types(default_half)) > 120
    assert not_half(default_half) == {"probability.cast": ("FLOAT",)}


@needs_rtx
def test_tensorrt_builds_the_shipped_model_the_same_each_time(default_half: bytes) -> None:
    shapes = {
        "frame": ShapeRange.fixed(1, 1, *read_model_info(resolve_model("default")).input_shape)
    }
    first = build_plan(default_half, shapes=shapes, target=(8, 6)).engine
    assert first == build_plan(default_half, shapes=shapes, target=(8, 6)).engine
    assert 0.9 < len(first) / len(default_half) < 1.2  # FP32 would be twice that


@needs_rtx
def test_tensorrt_reads_kept_layers_as_float(unet: bytes) -> None:
    types = not_half(half_onnx(unet, keep_fp32=["Sigmoid"]))
    assert types == dict.fromkeys(types, ("FLOAT",))
    assert "sigmoid11" in types
    assert not {name for name in types if name.startswith(("conv", "resize", "concat"))}


@needs_rtx
def test_tensorrt_builds_quantised_parts_beside_half_ones() -> None:
    half = half_onnx(model_of(QUANTISED))
    kinds = Counter(kind for kinds in layer_types(half).values() for kind in kinds)
    assert kinds["INT8"] >= 2
    assert kinds["HALF"] >= 3
    assert build_plan(half, shapes={"frame": ShapeRange.fixed(1, 1, 16, 16)}).engine
