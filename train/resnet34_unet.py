"""ResNet34-UNet: a residual encoder and a decoder that gets its details back over skips.

Encoder: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1,
34 layers. Decoder: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation", MICCAI 2015, with nearest upsampling in place of up-convolutions. The encoder and
what lies before and after it serve the other networks too (`veintrack.train.baselines`).
"""

import pickle
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

__all__ = [
    "STRIDE",
    "ResNet34Encoder",
    "ResNet34UNet",
    "SegmentationNetwork",
    "conv_bn_relu",
    "initialise",
    "load_encoder_weights",
]

STRIDE = 32
"""The deepest feature map is this many times smaller than the input, if no stage is dilated."""

_DECODER_CHANNELS = (256, 128, 64, 32, 16)
# Mean and standard deviation of ImageNet's three channels, averaged: what published encoder
# weights were trained with. Other weights only need them to be the same at all times.
_MEAN, _STD = 0.449, 0.226


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, figure 5 left)."""

    def __init__(
        self, channels_in: int, channels: int, stride: int, dilations: tuple[int, int]
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            channels_in, channels, 3, stride, dilations[0], dilations[0], bias=False
        )
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, dilations[1], dilations[1], bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(residual + self.downsample(x))
        return out


def _stage(
    channels_in: int, channels: int, blocks: int, stride: int, dilation: int = 1
) -> nn.Sequential:
    # The first convolution still sees the map before the stride, so it keeps its own spacing.
    first = _BasicBlock(channels_in, channels, stride, (1, dilation))
    rest = (_BasicBlock(channels, channels, 1, (dilation, dilation)) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


class ResNet34Encoder(nn.Module):
    """The 34-layer residual network without its classifier, for one grey channel.

    Parameters bear torchvision's names, so that published weights fit.

    Parameters
    ----------
    output_stride : int
        How many times smaller than the input the deepest feature map is: 32 as published, or 16,
        where the last stage samples as densely as the one before it and spreads its kernels
        instead (Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation",
        2017, section 3.1). Parameters and their names are the same.
    """

    channels = (64, 64, 128, 256, 512)

    def __init__(self, output_stride: int = STRIDE) -> None:
        super().__init__()
        if output_stride not in (STRIDE // 2, STRIDE):
            raise ValueError(
                f"output_stride must be {STRIDE // 2} or {STRIDE}, got {output_stride}"
            )
        dilation = STRIDE // output_stride
        self.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, blocks=3, stride=1)
        self.layer2 = _stage(64, 128, blocks=4, stride=2)
        self.layer3 = _stage(128, 256, blocks=6, stride=2)
        self.layer4 = _stage(256, 512, blocks=3, stride=2 // dilation, dilation=dilation)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the feature maps at 1/2, 1/4, 1/8, 1/16 and 1/output_stride of the size."""
        features = [self.relu(self.bn1(self.conv1(x)))]
        x = self.maxpool(features[0])
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


class SegmentationNetwork(nn.Module, ABC):
    """Grey picture in, one logit per pixel and class out; how, is up to the class's `decode`.

    Parameters
    ----------
    classes : int
        Output channels C; each is a yes or no of its own (sigmoid, not softmax).
    output_stride : int
        Of the encoder.

    Attributes
    ----------
    smallest_batch : int
        Frames that a training step needs for batch normalisation to have something to average.
    """

    smallest_batch: ClassVar[int] = 1

    def __init__(self, classes: int = 1, output_stride: int = STRIDE) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        self.classes = classes
        self.encoder = ResNet34Encoder(output_stride)

    def forward(self, grey: Tensor) -> Tensor:
        """Segment a batch.

        Parameters
        ----------
        grey : Tensor of shape (N, 1, H, W), float
            Grey levels from 0 to 1; H and W are multiples of 32.

        Returns
        -------
        Tensor of shape (N, C, H, W), float
            Logits; their sigmoid is the probability.

        Raises
        ------
        ValueError
            If the shape is any other.
        """
        if (
            not torch._C._get_tracing_state()
        ):  # sizes are no plain numbers while the export looks on
            _check_shape(tuple(grey.shape))
        return self.decode(self.encoder((grey - _MEAN) / _STD))

    @abstractmethod
    def decode(self, features: list[Tensor]) -> Tensor:
        """Turn the encoder's five feature maps into logits of the input's size."""


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 4 or shape[1] != 1 or shape[2] % STRIDE or shape[3] % STRIDE:
        raise ValueError(
            f"the input must be N x 1 x H x W with H and W multiples of {STRIDE}, "
            f"got {' x '.join(map(str, shape))}"
        )


def initialise(network: nn.Module) -> None:
    """He initialisation for rectifiers (He et al., ICCV 2015, section 2.2)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def conv_bn_relu(
    channels_in: int, channels: int, size: int = 3, dilation: int = 1
) -> tuple[nn.Module, ...]:
    """Return the layers of a convolution that keeps the size, normalised and rectified."""
    padding = dilation * (size // 2)
    conv = nn.Conv2d(channels_in, channels, size, padding=padding, dilation=dilation, bias=False)
    return conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)


class _DecoderBlock(nn.Module):
    """Double the size, take in the skip, then convolve twice."""

    def __init__(self, channels_in: int, channels_skip: int, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *conv_bn_relu(channels_in + channels_skip, channels),
            *conv_bn_relu(channels, channels),
        )

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = interpolate(x, scale_factor=2.0, mode="nearest")
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        out: Tensor = self.convs(x)
        return out


class ResNet34UNet(SegmentationNetwork):
    """The network that veintrack ships: a decoder block for each doubling of the size.

    Parameters
    ----------
    classes : int
        Output channels.
    """

    def __init__(self, classes: int = 1) -> None:
        super().__init__(classes)
        *skips, deepest = self.encoder.channels
        inputs = (deepest, *_DECODER_CHANNELS[:-1])
        self.decoder = nn.ModuleList(
            _DecoderBlock(channels_in, channels_skip, channels)
            for channels_in, channels_skip, channels in zip(
                inputs, (*reversed(skips), 0), _DECODER_CHANNELS, strict=True
            )
        )
        self.head = nn.Conv2d(_DECODER_CHANNELS[-1], classes, kernel_size=1)
        initialise(self)

    def decode(self, features: list[Tensor]) -> Tensor:
        *skips, x = features
        for block in self.decoder:
            x = block(x, skips.pop() if skips else None)
        logits: Tensor = self.head(x)
        return logits


def load_encoder_weights(network: SegmentationNetwork, file: Path) -> None:
    """Start the encoder from a torchvision ``resnet34`` state dict.

    The three colour channels of its first convolution are summed, which for a grey picture is the
    same as showing it three times; the classifier (``fc.*``) is left out.

    Raises
    ------
    ValueError
        If the file is no state dict, or keys are missing, unknown or of another shape.
    """
    state = {key: value for key, value in _read_state(file).items() if not key.startswith("fc.")}
    first = state.get("conv1.weight")
    if isinstance(first, Tensor) and first.ndim == 4:
        state["conv1.weight"] = first.sum(dim=1, keepdim=True)
    wanted = network.encoder.state_dict()
    # Files written before 2018 lack these counters; nothing reads them.
    for key, value in wanted.items():
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, value)

    missing = sorted(wanted.keys() - state.keys())
    unknown = sorted(state.keys() - wanted.keys())
    reshaped = sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    faults = [
        f"{what} {_few(keys)}"
        for what, keys in (("lacks", missing), ("has unknown", unknown), ("misshapes", reshaped))
        if keys
    ]
    if faults:
        raise ValueError(f"{file} is not a torchvision resnet34 state dict: it {'; '.join(faults)}")
    network.encoder.load_state_dict(state)


def _read_state(file: Path) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{file} cannot be read as PyTorch weights") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{file} holds no state dict (names and tensors)")
    return state


def _few(keys: list[str], shown: int = 4) -> str:
    more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return ", ".join(keys[:shown]) + more
