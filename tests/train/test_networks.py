"""The networks that are compared: one contract, one encoder, and each as its paper draws it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor, nn

from veintrack.engines.model import read_model_info
from veintrack.train.baselines import DeepLabV3Plus, FCN8s, bilinear_kernel
from veintrack.train.export import ProbabilityMap, export_model
from veintrack.train.losses import segmentation_loss
from veintrack.train.networks import (
    ARCHITECTURES,
    count_multiply_adds,
    count_parameters,
    make_network,
)
from veintrack.train.resnet34_unet import (
    ResNet34Encoder,
    SegmentationNetwork,
    load_encoder_weights,
)

BASELINES = ("fcn", "deeplabv3plus")
ENCODER = 21_797_672 - 513 * 1000 - 2 * 64 * 49  # see test_network.py
every_arch = pytest.mark.parametrize("arch", ARCHITECTURES)


def test_an_unknown_network_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="one of resnet34-unet, fcn, deeplabv3plus, got unet"):
        make_network("unet")


@pytest.mark.parametrize("classes", [1, 3])
@every_arch
def test_logits_have_the_size_of_the_frame(arch: str, classes: int) -> None:
    logits = make_network(arch, classes).eval()(torch.rand(2, 1, 32, 96))
    assert logits.shape == (2, classes, 32, 96)


@every_arch
def test_a_wrong_shape_and_no_classes_are_refused(arch: str) -> None:
    with pytest.raises(ValueError, match="multiples of 32, got 1 x 1 x 48 x 64"):
        make_network(arch)(torch.zeros(1, 1, 48, 64))
    with pytest.raises(ValueError, match="classes must be at least 1, got 0"):
        make_network(arch, 0)


def convolution(channels_in: int, channels: int, size: int) -> int:
    """Kernel, and scale and offset of the normalisation after it."""
    return channels_in * channels * size**2 + 2 * channels


def context(classes: int) -> int:
    pyramid = 2 * convolution(512, 256, 1) + 3 * convolution(512, 256, 3)
    project = convolution(5 * 256, 256, 1)
    decoder = convolution(64, 48, 1) + convolution(304, 256, 3) + convolution(256, 256, 3)
    return pyramid + project + decoder + (256 + 1) * classes


@pytest.mark.parametrize("classes", [1, 3])
def test_parameters_are_as_many_as_the_papers_layers_have(classes: int) -> None:
    decoders = {
        "resnet34-unet": 24_429_952 - ENCODER + (16 + 1) * classes,
        "fcn": (512 + 256 + 128 + 3) * classes + 2 * 16 * classes**2,
        "deeplabv3plus": context(classes),
    }
    for arch in ARCHITECTURES:
        assert count_parameters(make_network(arch, classes)) == ENCODER + decoders[arch]


def test_multiply_adds_are_counted_without_touching_the_network() -> None:
    network = make_network("fcn", 2).train()
    scores = (512 * 2**2 + 256 * 4**2 + 128 * 8**2) * 2
    doublings = (2**2 + 4**2) * 16 * 2**2
    decoder = count_multiply_adds(network, 64) - count_multiply_adds(network.encoder, 64)
    assert decoder == scores + doublings
    assert network.training
    assert {p.device.type for p in network.parameters()} == {"cpu"}


def test_the_encoder_costs_what_is_published() -> None:
    # He et al. 2016, table 1: 3.6e9 for three channels at 224 x 224, of which two of the first
    # convolution's three, and the classifier, are not here.
    missing = 2 * 49 * 64 * 112**2 + 512 * 1000
    assert count_multiply_adds(ResNet34Encoder(), 224) + missing == pytest.approx(3.6e9, rel=0.02)


@every_arch
def test_published_encoder_weights_fit_every_network(arch: str, tmp_path: Path) -> None:
    state = {k: torch.rand_like(v.float()) for k, v in ResNet34Encoder().state_dict().items()}
    torch.save(state | {"conv1.weight": torch.rand(64, 3, 7, 7)}, tmp_path / "w.pth")
    network = make_network(arch)
    load_encoder_weights(network, tmp_path / "w.pth")
    name = "layer4.2.conv2.weight"
    torch.testing.assert_close(network.state_dict()[f"encoder.{name}"], state[name])


def test_the_dilated_encoder_samples_the_published_one_more_densely() -> None:
    torch.manual_seed(0)
    published, dense = ResNet34Encoder().eval(), ResNet34Encoder(output_stride=16).eval()
    dense.load_state_dict(published.state_dict())
    image = torch.rand(1, 1, 96, 64)
    with torch.no_grad():
        *shallow, deep = published(image)
        *same, deeper = dense(image)
    assert [x.shape[2] for x in (*same, deeper)] == [48, 24, 12, 6, 6]
    torch.testing.assert_close(same, shallow)
    # The a trous algorithm: at every second pixel nothing has changed.
    torch.testing.assert_close(deeper[:, :, ::2, ::2], deep, rtol=1e-4, atol=1e-4)


def test_other_output_strides_are_refused() -> None:
    with pytest.raises(ValueError, match="output_stride must be 16 or 32, got 8"):
        ResNet34Encoder(output_stride=8)


def test_deeplab_sees_the_deepest_features_at_stride_16() -> None:
    network, seen = DeepLabV3Plus().eval(), []
    network.context.register_forward_hook(lambda _, given, made: seen.append((*given, made)))
    network(torch.rand(1, 1, 64, 96))
    assert [tuple(x.shape) for x in seen[0]] == [(1, 512, 4, 6), (1, 256, 4, 6)]


def test_a_doubling_starts_by_interpolating_a_ramp_exactly() -> None:
    x, y = torch.arange(8.0), torch.arange(6.0)[:, None]
    ramps = torch.stack([3 * x - 2 * y, 5 * y + x])[None]
    doubled = nn.functional.conv_transpose2d(ramps, bilinear_kernel(2), stride=2, padding=1)
    x, y = (torch.arange(16.0) - 0.5) / 2, (torch.arange(12.0)[:, None] - 0.5) / 2
    expected = torch.stack([3 * x - 2 * y, 5 * y + x])[None]
    torch.testing.assert_close(doubled[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_fcn_adds_up_its_three_scores() -> None:
    network = FCN8s().eval()
    features = network.encoder(torch.rand(1, 1, 128, 128))
    assert not network.decode(features).any()  # scores start from zero
    for score, constant in zip(network.scores, (1.0, 20.0, 300.0), strict=True):
        nn.init.constant_(score.get_parameter("bias"), constant)
    inside = network.decode(features)[0, 0, 48:-48, 48:-48]
    torch.testing.assert_close(inside, torch.full_like(inside, 321))


def tiny_set() -> tuple[Tensor, Tensor]:
    """Dark squares in noise."""
    image, mask = 0.5 + 0.3 * torch.rand(4, 1, 64, 64), torch.zeros(4, 1, 64, 64)
    for i in range(4):
        mask[i, :, 8 + 6 * i : 32 + 6 * i, 30 - 6 * i : 54 - 6 * i] = 1
    return image * (1 - 0.8 * mask), mask


@every_arch
def test_a_few_steps_lower_the_loss(arch: str) -> None:
    torch.manual_seed(0)
    image, mask = tiny_set()
    network = make_network(arch).train()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    losses = []
    for _ in range(6):
        loss = segmentation_loss("bce-dice", network(image), mask)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.75 * losses[0]


def exported(network: SegmentationNetwork, path: Path, arch: str) -> Path:
    export_model(
        network,
        path,
        classes=("vessel", "nerve"),
        threshold=0.5,
        training_data="noise",
        metrics={},
        licence="none",
        size_px=(64, 96),
        arch=arch,
    )
    return path


@pytest.fixture(scope="module", params=BASELINES)
def baseline(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SegmentationNetwork, Path]:
    """Weights as after some training, and the file; the UNet has its own tests of export."""
    torch.manual_seed(0)
    network = make_network(request.param, classes=2)
    for _ in range(3):
        network(torch.rand(4, 1, 64, 64))
    last = network.scores if isinstance(network, FCN8s) else network.get_submodule("head")
    for parameter in last.parameters():
        nn.init.normal_(parameter, std=0.05)
    path = tmp_path_factory.mktemp("export") / f"{request.param}.onnx"
    return network.eval(), exported(network, path, request.param)


def frames(n: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(n).integers(0, 256, (n, 1, 64, 96), np.uint8)


@pytest.mark.parametrize("n", [1, 3])
def test_engines_agree_with_torch(baseline: tuple[SegmentationNetwork, Path], n: int) -> None:
    network, path = baseline
    with torch.no_grad():
        expected = ProbabilityMap(network)(torch.from_numpy(frames(n))).numpy()
    assert np.ptp(expected) > 0.05  # not just one value everywhere
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (got,) = session.run(["probability"], {"frame": frames(n)})
    np.testing.assert_allclose(got, expected, atol=2e-3)
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled({"frame": frames(n)})[0], expected, atol=2e-3)


def test_the_file_names_its_network_and_is_the_same_each_time(
    baseline: tuple[SegmentationNetwork, Path], tmp_path: Path
) -> None:
    network, path = baseline
    assert read_model_info(path).classes == ("vessel", "nerve")
    props = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert props["arch"] == path.stem
    assert exported(network, tmp_path / "again.onnx", path.stem).read_bytes() == path.read_bytes()
