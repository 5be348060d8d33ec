"""The exported file computes what the network computes, in every engine."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch

from veintrack.engines.model import read_model_info
from veintrack.errors import OutputError
from veintrack.train.export import ProbabilityMap, export_model, halve_weights
from veintrack.train.resnet34_unet import ResNet34UNet

FACTS = {
    "classes": ("vessel", "nerve"),
    "threshold": 0.375,
    "training_data": "noise",
    "metrics": {"val": {"dice": 0.5}},
    "licence": "none",
    "size_px": (64, 96),
    "arch": "resnet34-unet",
}


@pytest.fixture(scope="module")
def network() -> ResNet34UNet:
    """Random weights, with running statistics that folding must not ignore."""
    torch.manual_seed(0)
    network = ResNet34UNet(classes=2)
    for _ in range(3):
        network(torch.rand(4, 1, 64, 64))
    # Untrained logits reach -16; trained ones stay in single figures, and so does their rounding.
    torch.nn.init.normal_(network.head.weight, std=0.05)
    return network.eval()


@pytest.fixture(scope="module")
def model(network: ResNet34UNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_model(network, path, **FACTS)  # type: ignore[arg-type]
    return path


def frames(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(n).integers(0, 256, (n, 1, 64, 96), np.uint8)


def expected(network: ResNet34UNet, n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    with torch.no_grad():
        probability = ProbabilityMap(network)(torch.from_numpy(frames(n)))
    return np.asarray(probability.numpy(), np.float32)


@pytest.mark.parametrize("n", [1, 3])
def test_onnx_runtime_agrees_with_torch(network: ResNet34UNet, model: Path, n: int) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (got,) = session.run(["probability"], {"frame": frames(n)})
    np.testing.assert_allclose(got, expected(network, n), atol=2e-3)
    assert np.ptp(got) > 0.05  # not just one value everywhere


@pytest.mark.parametrize("n", [1, 3])
def test_openvino_agrees_with_torch(network: ResNet34UNet, model: Path, n: int) -> None:
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    got = compiled({"frame": frames(n)})[0]
    np.testing.assert_allclose(got, expected(network, n), atol=2e-3)


def test_the_file_says_what_it_is_and_stays_small(model: Path) -> None:
    info = read_model_info(model)
    assert info.classes == FACTS["classes"]
    assert (info.input_shape, info.threshold) == ((64, 96), 0.375)
    assert (info.metrics, info.licence) == (FACTS["metrics"], "none")
    assert model.stat().st_size < 50_000_000
    assert [p.name for p in model.parent.iterdir()] == ["model.onnx"]


def test_normalisation_is_folded_and_kernels_are_halves(model: Path) -> None:
    graph = onnx.load(model).graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    kernels = [t for t in graph.initializer if len(t.dims) == 4]
    # 33 convolutions of the encoder and its 3 shortcuts, 10 of the decoder, the head.
    assert len(kernels) == 47
    assert {t.data_type for t in kernels} == {onnx.TensorProto.FLOAT16}


def test_weights_beyond_fp16_are_refused() -> None:
    tensor = onnx.numpy_helper.from_array(np.full((1, 1), 1e6, np.float32), "w")
    graph = onnx.helper.make_graph([], "g", [], [], [tensor])
    with pytest.raises(ValueError, match=r"weights w reach 1e\+06, too much for FP16"):
        halve_weights(graph)


def test_a_folder_that_is_not_there_is_named(network: ResNet34UNet, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"model\.onnx cannot be written: No such file"):
        export_model(network, tmp_path / "none" / "model.onnx", **FACTS)  # type: ignore[arg-type]


def test_a_refused_export_leaves_the_old_file_alone(network: ResNet34UNet, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="threshold must lie between 0 and 1"):
        export_model(network, path, **FACTS | {"threshold": 1.5})  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
