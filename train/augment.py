"""Random views of a batch: image and mask warped as one, then the image's gain varied.

Rotation, flip and projection as in He et al. style segmentation training; all of them together
are one projective map, so each pixel is resampled once.
"""

import math
from dataclasses import dataclass

import torch
from kornia.geometry.transform import get_perspective_transform, warp_perspective
from torch import Tensor

__all__ = ["Augmentation", "augment", "random_homographies", "vary_gain", "warp"]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far frames are varied; each range is symmetric about no change unless said otherwise.

    Attributes
    ----------
    rotation_deg : float
        Largest rotation, either way.
    flip : float
        Probability of a horizontal flip.
    projection : float
        Largest shift of each corner, as a fraction of the size.
    zoom : float
        Largest factor of magnification, and of reduction.
    shift : float
        Largest translation, as a fraction of the size.
    gain, depth_gain, contrast, gamma, noise : float
        Brightness offset (fraction of full scale), the same as a ramp over depth, factor of
        contrast, exponent, and largest standard deviation of added noise.
    """

    rotation_deg: float = 20.0
    flip: float = 0.5
    projection: float = 0.06
    zoom: float = 1.3
    shift: float = 0.1
    gain: float = 0.1
    depth_gain: float = 0.15
    contrast: float = 1.3
    gamma: float = 1.3
    noise: float = 0.03


def augment(image: Tensor, mask: Tensor, how: Augmentation) -> tuple[Tensor, Tensor]:
    """Vary a batch.

    Parameters
    ----------
    image, mask : Tensor of shape (N, 1, H, W) and (N, C, H, W), float
        From 0 to 1, on one device.
    how : Augmentation
        The ranges.

    Returns
    -------
    tuple of Tensor
        The same shapes; the mask follows the image's geometry exactly.
    """
    height, width = image.shape[-2:]
    maps = random_homographies(len(image), (height, width), how).to(image.device)
    image, mask = warp(image, mask, maps)
    return vary_gain(image, how), mask


def _uniform(n: int, *shape: int, limit: float) -> Tensor:
    return (2 * torch.rand(n, *shape) - 1) * limit


def _factor(n: int, limit: float) -> Tensor:
    return torch.exp(_uniform(n, limit=math.log(limit)))


def random_homographies(n: int, shape: tuple[int, int], how: Augmentation) -> Tensor:
    """Draw maps from the frame to its varied view, shape (n, 3, 3), in px.

    The four corners are flipped, turned, scaled, shifted and moved each by itself; they define
    the map (Hartley and Zisserman, "Multiple View Geometry", 2nd ed., section 4.1).
    """
    height, width = shape
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    unit = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    corners = (unit * half).expand(n, 4, 2)

    flipped = torch.where(torch.rand(n) < how.flip, -1.0, 1.0)
    angle = _uniform(n, limit=math.radians(how.rotation_deg))
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    matrix = turn * _factor(n, how.zoom).view(n, 1, 1)
    matrix[:, :, 0] *= flipped.view(n, 1)

    moved = corners @ matrix.transpose(1, 2)
    moved = moved + _uniform(n, 1, 2, limit=how.shift) * (2 * half)
    moved = moved + _uniform(n, 4, 2, limit=how.projection) * (2 * half)
    maps: Tensor = get_perspective_transform(corners + half, moved + half)
    return maps


def warp(image: Tensor, mask: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Warp image and mask by the same maps, in one go; black and empty beyond the border."""
    both = torch.cat([image, mask], dim=1)
    warped = warp_perspective(both, maps, (both.shape[2], both.shape[3]), align_corners=True)
    return warped[:, :1], warped[:, 1:]


def vary_gain(image: Tensor, how: Augmentation) -> Tensor:
    """Turn the knobs of a scanner: gain, gain over depth, contrast, gamma; and add noise.

    What is black stays black, as outside the scan area.
    """
    n, _, height, _ = image.shape

    def each(values: Tensor) -> Tensor:
        return values.view(n, 1, 1, 1).to(image.device)

    depth = torch.linspace(-1, 1, height, device=image.device).view(1, 1, height, 1)
    offset = each(_uniform(n, limit=how.gain)) + each(_uniform(n, limit=how.depth_gain)) * depth
    varied = image.clamp(min=0) ** each(_factor(n, how.gamma)) * each(_factor(n, how.contrast))
    noise = torch.randn_like(image) * each(torch.rand(n) * how.noise)
    # The offset acts fully from a tenth of full scale on, so that dark stays dark.
    lit = (image * 10).clamp(0, 1)
    return (varied + (offset + noise) * lit).clamp(0, 1)
