"""The two networks that ResNet34-UNet is compared with, on the same encoder.

They differ from it in nothing but how feature maps become logits, so a comparison is one of
decoders: the grey input, its normalisation and the encoder's weights are the same.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from veintrack.train.resnet34_unet import SegmentationNetwork, conv_bn_relu, initialise

__all__ = ["DeepLabV3Plus", "FCN8s", "bilinear_kernel"]

_RATES = (6, 12, 18)
_ASPP_CHANNELS = 256
_LOW_LEVEL_CHANNELS = 48


class FCN8s(SegmentationNetwork):
    """Scores at strides 8, 16 and 32, added up from the coarsest to the finest.

    Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
    section 4: score layers start from zero; doublings start as bilinear and are learned; the last
    step, eightfold, stays bilinear. The three skips leave the residual encoder where it has the
    strides of VGG's pool3, pool4 and conv7.

    Parameters
    ----------
    classes : int
        Output channels C.
    """

    def __init__(self, classes: int = 1) -> None:
        super().__init__(classes)
        initialise(self)
        coarsest_first = self.encoder.channels[:1:-1]
        self.scores = nn.ModuleList(nn.Conv2d(n, classes, 1) for n in coarsest_first)
        self.doublings = nn.ModuleList(
            nn.ConvTranspose2d(classes, classes, 4, stride=2, padding=1, bias=False)
            for _ in coarsest_first[1:]
        )
        for parameter in self.scores.parameters():
            nn.init.zeros_(parameter)
        for parameter in self.doublings.parameters():
            with torch.no_grad():
                parameter.copy_(bilinear_kernel(classes))

    def decode(self, features: list[Tensor]) -> Tensor:
        coarse, *finer = (score(x) for score, x in zip(self.scores, features[:1:-1], strict=True))
        for double, fine in zip(self.doublings, finer, strict=True):
            coarse = double(coarse) + fine
        return _magnify(coarse, 8)


def bilinear_kernel(channels: int) -> Tensor:
    """Return the transposed convolution of stride 2 that interpolates each channel by itself.

    Returns
    -------
    Tensor of shape (channels, channels, 4, 4), float
        A tent two input pixels wide on the diagonal, zero elsewhere.
    """
    tent = torch.tensor([0.25, 0.75, 0.75, 0.25])
    return torch.eye(channels)[:, :, None, None] * torch.outer(tent, tent)


class DeepLabV3Plus(SegmentationNetwork):
    """Context from several spacings at stride 16, edges from stride 4.

    Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution for
    Semantic Image Segmentation", ECCV 2018, figure 2 and sections 3.1 and 4.1; its plain
    convolutions, as with its residual encoder, not the separable ones.

    Parameters
    ----------
    classes : int
        Output channels C.
    """

    # The branch that pools the whole picture leaves one value a frame and channel.
    smallest_batch = 2

    def __init__(self, classes: int = 1) -> None:
        super().__init__(classes, output_stride=16)
        channels = self.encoder.channels
        self.context = _PyramidPooling(channels[-1], _ASPP_CHANNELS)
        self.low_level = nn.Sequential(*conv_bn_relu(channels[1], _LOW_LEVEL_CHANNELS, size=1))
        self.refine = nn.Sequential(
            *conv_bn_relu(_ASPP_CHANNELS + _LOW_LEVEL_CHANNELS, _ASPP_CHANNELS),
            *conv_bn_relu(_ASPP_CHANNELS, _ASPP_CHANNELS),
        )
        self.head = nn.Conv2d(_ASPP_CHANNELS, classes, kernel_size=1)
        initialise(self)
        # Scaled by its few outputs, so wide a layer would start out certain of everything.
        nn.init.normal_(self.head.weight, std=0.01)

    def decode(self, features: list[Tensor]) -> Tensor:
        context = _magnify(self.context(features[-1]), 4)
        both = torch.cat([context, self.low_level(features[1])], dim=1)
        return _magnify(self.head(self.refine(both)), 4)


class _PyramidPooling(nn.Module):
    """Atrous spatial pyramid pooling with the picture's mean.

    Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image
    Segmentation", 2017, figure 5: (N, channels_in, H, W) to (N, channels, H, W).
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        point = nn.Sequential(*conv_bn_relu(channels_in, channels, size=1))
        spread = (nn.Sequential(*conv_bn_relu(channels_in, channels, 3, rate)) for rate in _RATES)
        self.branches = nn.ModuleList([point, *spread])
        self.picture = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), *conv_bn_relu(channels_in, channels, size=1)
        )
        self.project = nn.Sequential(
            *conv_bn_relu((len(self.branches) + 1) * channels, channels, size=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = [branch(x) for branch in self.branches]
        # Interpolating a single pixel is repeating it.
        seen.append(self.picture(x).expand_as(seen[0]))
        out: Tensor = self.project(torch.cat(seen, dim=1))
        return out


def _magnify(x: Tensor, factor: int) -> Tensor:
    return interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
