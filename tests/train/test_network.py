"""The network against its description in the papers."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from veintrack.train.resnet34_unet import ResNet34UNet, load_encoder_weights


@pytest.fixture(scope="module")
def network() -> ResNet34UNet:
    torch.manual_seed(0)
    return ResNet34UNet().eval()


def norm(name: str) -> list[str]:
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return [f"{name}.{part}" for part in parts]


def torchvision_names() -> set[str]:
    """The names in a torchvision resnet34 state dict, without fc."""
    names = ["conv1.weight", *norm("bn1")]
    for layer, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            for i in (1, 2):
                names += [f"{name}.conv{i}.weight", *norm(f"{name}.bn{i}")]
            if layer > 1 and block == 0:
                names += [f"{name}.downsample.0.weight", *norm(f"{name}.downsample.1")]
    return set(names)


def torchvision_state(network: ResNet34UNet) -> dict[str, Tensor]:
    state = {k: torch.rand_like(v.float()) for k, v in network.encoder.state_dict().items()}
    state["conv1.weight"] = torch.rand(64, 3, 7, 7)
    return state | {"fc.weight": torch.rand(1000, 512), "fc.bias": torch.rand(1000)}


def test_it_has_the_published_number_of_parameters(network: ResNet34UNet) -> None:
    encoder = sum(p.numel() for p in network.encoder.parameters())
    # torchvision's resnet34 has 21 797 672: without fc, and with one input channel for three.
    assert encoder == 21_797_672 - 513 * 1000 - 2 * 64 * 49


def test_the_encoder_bears_torchvisions_names(network: ResNet34UNet) -> None:
    assert set(network.encoder.state_dict()) == torchvision_names()


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 64, 64)])
def test_a_wrong_shape_is_refused(network: ResNet34UNet, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 32, got"):
        network(torch.zeros(shape))


def test_colour_weights_treat_a_grey_picture_as_three_equal_channels(tmp_path: Path) -> None:
    network = ResNet34UNet()
    state = torchvision_state(network)
    torch.save(state, tmp_path / "resnet34.pth")
    load_encoder_weights(network, tmp_path / "resnet34.pth")
    grey = torch.rand(1, 1, 32, 32)
    colour = torch.nn.functional.conv2d(grey.expand(1, 3, 32, 32), state["conv1.weight"])
    torch.testing.assert_close(
        torch.nn.functional.conv2d(grey, network.encoder.conv1.weight), colour
    )
    torch.testing.assert_close(
        network.encoder.state_dict()["layer3.5.bn2.running_var"], state["layer3.5.bn2.running_var"]
    )


def test_unfitting_encoder_weights_are_named(network: ResNet34UNet, tmp_path: Path) -> None:
    state = torchvision_state(network)
    del state["layer1.0.conv1.weight"]
    state["layer9.weight"] = torch.zeros(1)
    state["bn1.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(
        ValueError,
        match=r"lacks layer1\.0\.conv1\.weight; has unknown layer9\.weight; misshapes bn1\.bias",
    ):
        load_encoder_weights(network, tmp_path / "w.pth")


@pytest.mark.parametrize("content", [None, b"", b"no weights at all"])
def test_an_unreadable_weight_file_is_refused(
    network: ResNet34UNet, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "w.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as PyTorch weights"):
        load_encoder_weights(network, path)


def test_a_file_of_something_else_is_no_state_dict(network: ResNet34UNet, tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        load_encoder_weights(network, tmp_path / "w.pth")
