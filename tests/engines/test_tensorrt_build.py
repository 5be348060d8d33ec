"""Tier A: profiles, refusals and errors. Tier B: real builds with TensorRT-RTX, without a GPU."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from veintrack.engines import tensorrt_api
from veintrack.engines.model import INPUT, read_model_info, resolve_model
from veintrack.engines.tensorrt_api import call
from veintrack.engines.tensorrt_build import (
    Plan,
    ShapeRange,
    _check_profile,
    build_plan,
    layer_types,
)
from veintrack.engines.tensorrt_plan import typed_onnx
from veintrack.errors import BackendMissingError, EngineError

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="tier B builds real engines: pip install tensorrt-rtx (x86_64; no GPU needed)",
)
ONE = {"frame": ShapeRange.fixed(1, 1, 32, 32)}


def network(half: bool = True, op: str = "Sigmoid") -> bytes:
    """A convolution and `op` in FP16 or FP32; bytes in, FP32 out, any number of pictures."""
    inner = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    weights = np.linspace(-1, 1, 36, dtype=np.float16 if half else np.float32)
    nodes = [
        helper.make_node("Cast", ["frame"], ["grey"], to=inner, name="cast_in"),
        helper.make_node("Conv", ["grey", "weights"], ["sum"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node(op, ["sum"], ["answer"], name="op"),
        helper.make_node("Cast", ["answer"], ["probability"], to=TensorProto.FLOAT, name="out"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, ["N", 1, 32, 32])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 4, 32, 32])],
        [helper.make_tensor("weights", inner, [4, 1, 3, 3], weights.tobytes(), raw=True)],
    )
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture
def _no_library_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_api, "_used", None)


class Library(ModuleType):
    """Enough of a TensorRT to be imported."""

    __version__ = "10.3.0"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, _no_library_yet: None) -> Iterator[ModuleType]:
    fake = Library("tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    yield fake
    tensorrt_api._errors.clear()


# Tier A ------------------------------------------------------------------------------------------

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple)


@given(sizes, st.data())
def test_a_range_holds_min_opt_and_max_in_this_order_only(
    low: tuple[int, ...], data: st.DataObject
) -> None:
    grow = st.tuples(*[st.integers(0, 5)] * len(low))
    best = tuple(a + b for a, b in zip(low, data.draw(grow), strict=True))
    high = tuple(a + b for a, b in zip(best, data.draw(grow), strict=True))
    assert ShapeRange(low, best, high).max == high
    if low != high:
        with pytest.raises(ValueError, match="1 <= min <= opt <= max"):
            ShapeRange(high, best, low)


@pytest.mark.parametrize("wrong", [((1,), (1, 1), (1, 1)), ((), (), ())])
def test_a_range_of_mixed_or_no_axes_is_refused(wrong: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="same number of axes"):
        ShapeRange(*wrong)


def test_a_range_with_an_axis_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="1 <= min"):
        ShapeRange.fixed(0, 1)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"picture": ShapeRange.fixed(1, 1, 8, 8)}, "inputs are frame, got picture"),
        ({}, "has open axes"),
        ({"frame": ShapeRange.fixed(1, 8, 8)}, r"got \(1, 8, 8\)"),
        ({"frame": ShapeRange.fixed(1, 1, 8, 9)}, r"got \(1, 1, 8, 9\)"),
        (
            {"frame": ShapeRange((1, 1, 4, 8), (1, 1, 8, 8), (1, 1, 8, 8))},
            r"\(1, 1, 4, 8\) to \(1, 1, 8, 8\)",
        ),
    ],
)
def test_a_profile_that_does_not_fit_the_network_is_refused(
    shapes: dict[str, ShapeRange], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _check_profile({"frame": (-1, 1, 8, 8)}, shapes)


def test_a_profile_that_fits_is_taken() -> None:
    many = ShapeRange((1, 1, 8, 8), (2, 1, 8, 8), (4, 1, 8, 8))
    _check_profile({"frame": (-1, 1, 8, 8), "fixed": (3,)}, {"frame": many})


@pytest.mark.usefixtures("_no_library_yet")
def test_a_missing_library_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tensorrt_api.LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendMissingError, match=r'pip install "veintrack\[tensorrt\]"'):
        tensorrt_api.use()


def test_a_process_uses_one_library(library: ModuleType) -> None:
    assert tensorrt_api.use() is library is tensorrt_api.use("tensorrt")
    with pytest.raises(EngineError, match="already uses tensorrt: tensorrt_rtx needs a process"):
        tensorrt_api.use("tensorrt_rtx")


@pytest.mark.parametrize("answer", [None, False])
@pytest.mark.usefixtures("library")
def test_a_refusal_is_an_error_with_the_log_of_this_call_alone(answer: bool | None) -> None:
    tensorrt_api._errors.append("of an earlier call")

    def refuse(size: int) -> bool | None:
        tensorrt_api._errors.append(f"size {size} is too large")
        return answer

    with pytest.raises(EngineError) as caught:
        call("make it", refuse, 7)
    assert str(caught.value) == "tensorrt 10.3.0 could not make it: size 7 is too large"


@pytest.mark.usefixtures("library")
def test_a_refusal_without_a_log_line_says_so() -> None:
    with pytest.raises(EngineError, match="could not make it: it gave no reason"):
        call("make it", lambda: None)


@pytest.mark.usefixtures("library")
def test_an_exception_of_the_library_is_an_engine_error() -> None:
    with pytest.raises(EngineError, match="could not count: invalid literal"):
        call("count", int, "x")


@pytest.mark.usefixtures("library")
def test_zero_is_an_answer_not_a_refusal() -> None:
    assert call("count", int, "0") == 0


# Tier B ------------------------------------------------------------------------------------------


@needs_rtx
def test_every_layer_computes_in_the_type_of_the_model() -> None:
    types = layer_types(network(half=True))
    assert types == {"cast_in": ("HALF",), "conv": ("HALF",), "op": ("HALF",), "out": ("FLOAT",)}
    assert set(layer_types(network(half=False)).values()) == {("FLOAT",)}


@needs_rtx
def test_the_same_model_gives_the_same_bytes() -> None:
    first = build_plan(network(), shapes=ONE, workspace_bytes=1 << 26)
    assert first == build_plan(network(), shapes=ONE, workspace_bytes=1 << 26)
    assert isinstance(first, Plan)
    assert len(first.engine) > 1000
    assert first.engine != build_plan(network(half=False), shapes=ONE).engine


@needs_rtx
def test_an_engine_is_built_for_another_gpu() -> None:
    ada = build_plan(network(), shapes=ONE, target=(8, 9)).engine
    assert ada != build_plan(network(), shapes=ONE, target=(12, 0)).engine


@needs_rtx
def test_a_gpu_that_the_library_does_not_know_is_refused() -> None:
    with pytest.raises(EngineError, match=r"does not build for SM87; it offers SM75, .*SM89"):
        build_plan(network(), shapes=ONE, target=(8, 7))


@needs_rtx
def test_what_is_no_model_is_refused_with_the_parsers_reason() -> None:
    with pytest.raises(EngineError, match="could not read the model: .*Failed to parse"):
        build_plan(b"not an ONNX file", shapes=ONE)


@needs_rtx
def test_an_operator_that_the_library_lacks_is_named() -> None:
    with pytest.raises(EngineError, match="could not read the model: .*Det"):
        build_plan(network(op="Det"), shapes=ONE)


@needs_rtx
def test_a_wrong_profile_is_refused_before_the_library_sees_it() -> None:
    with pytest.raises(ValueError, match="inputs are frame, got image"):
        build_plan(network(), shapes={"image": ShapeRange.fixed(1, 1, 32, 32)})


@needs_rtx
def test_progress_counts_each_phase_to_its_end() -> None:
    last: dict[str, tuple[int, int]] = {}
    build_plan(network(), shapes=ONE, progress=lambda name, n, of: last.update({name: (n, of)}))
    assert last["Building engine"][0] == last["Building engine"][1] > 1


@needs_rtx
def test_what_progress_raises_ends_the_build() -> None:
    told: list[str] = []

    def interrupt(phase: str, done: int, steps: int) -> None:
        told.append(f"{phase} {done}/{steps}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(network(), shapes=ONE, progress=interrupt)
    assert len(told) == 1


@needs_rtx
def test_the_shipped_model_computes_in_half_behind_its_normalisation() -> None:
    model = read_model_info(resolve_model("default"))
    onnx = typed_onnx(model, "fp16")
    types = list(layer_types(onnx).values())
    first = types.index(("HALF",))
    assert set(types[:first]) <= {("FLOAT",)}
    assert set(types[first:-1]) == {("HALF",)}
    assert types[-1] == ("FLOAT",)  # the cast of the answer
    assert len(types) > 100
    assert first < 15

    shapes = {INPUT: ShapeRange.fixed(1, 1, *model.input_shape)}
    half = build_plan(onnx, shapes=shapes).engine
    assert len(half) < 0.6 * len(build_plan(typed_onnx(model, "fp32"), shapes=shapes).engine)


@needs_rtx
def test_tensorrt_rtx_has_what_its_kernels_are_kept_with() -> None:
    rtx = tensorrt_api.use("tensorrt_rtx")
    for used in (
        rtx.ICudaEngine.create_runtime_config,
        rtx.IRuntimeConfig.create_runtime_cache,
        rtx.IRuntimeConfig.set_runtime_cache,
        rtx.IRuntimeCache.serialize,
        rtx.IRuntimeCache.deserialize,
    ):
        assert callable(used)
