"""The networks that can be trained, by name, and what each costs."""

from copy import deepcopy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from veintrack.train.baselines import DeepLabV3Plus, FCN8s
from veintrack.train.resnet34_unet import ResNet34UNet, SegmentationNetwork

__all__ = ["ARCHITECTURES", "count_multiply_adds", "count_parameters", "make_network"]

ARCHITECTURES: dict[str, type[SegmentationNetwork]] = {
    "resnet34-unet": ResNet34UNet,
    "fcn": FCN8s,
    "deeplabv3plus": DeepLabV3Plus,
}
"""What ``--arch`` takes, and the class that it makes."""


def make_network(arch: str, classes: int = 1) -> SegmentationNetwork:
    """Make a network with fresh weights.

    Parameters
    ----------
    arch : str
        A name in `ARCHITECTURES`.
    classes : int
        Output channels.

    Raises
    ------
    ValueError
        If there is no such network, or no class.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(f"arch must be one of {', '.join(ARCHITECTURES)}, got {arch}")
    return ARCHITECTURES[arch](classes)


def count_parameters(network: nn.Module) -> int:
    """Count what is learned; running statistics are not."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_multiply_adds(network: nn.Module, size_px: int) -> int:
    """Count the multiply-adds of one frame's convolutions, without computing them.

    PyTorch's counter takes one multiply-add as 2 FLOPs, so this is half of what it says. It
    leaves out normalisation, activations and interpolation, as published figures do.

    Parameters
    ----------
    network : Module
        Takes (1, 1, size_px, size_px); it is left as it is.
    size_px : int
        Height and width of the frame, a multiple of 32.
    """
    shapes_only = deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter:
        shapes_only(torch.zeros(1, 1, size_px, size_px, device="meta"))
    return int(counter.get_total_flops()) // 2
