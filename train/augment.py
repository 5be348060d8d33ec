"""Random views of a batch: image and mask warped as one, then the image's appearance varied.

The effects and their ranges are in `augment_presets`, the geometry in `augment_geometry`, the
grey levels in `augment_appearance`.
"""

import torch
from torch import Tensor

from veintrack.train.augment_appearance import vary_appearance
from veintrack.train.augment_geometry import (
    cut_margins,
    displace,
    random_homographies,
    random_margins,
    sampling_grid,
    warp,
)
from veintrack.train.augment_presets import PRESETS, Augmentation, Effect

__all__ = ["PRESETS", "Augmentation", "Effect", "augment"]


def augment(image: Tensor, mask: Tensor, how: Augmentation) -> tuple[Tensor, Tensor]:
    """Vary a batch, each frame by itself.

    All randomness comes from torch's global generators: after `torch.manual_seed` the same batch
    is varied in the same way. Shapes and amounts are drawn on the CPU for every device alike.

    Parameters
    ----------
    image, mask : Tensor of shape (N, 1, H, W) and (N, C, H, W), float
        From 0 to 1, on one device. All planes of the mask are treated alike.
    how : Augmentation
        Odds and strengths.

    Returns
    -------
    tuple of Tensor
        The same shapes; the mask follows the image's geometry exactly, and both are zero beyond
        the frame's border and in the margins.

    Raises
    ------
    ValueError
        If the shapes do not belong together.
    """
    n, channels, height, width = image.shape if image.ndim == 4 else (0, 0, 0, 0)
    if channels != 1 or mask.ndim != 4 or (len(mask), *mask.shape[2:]) != (n, height, width):
        raise ValueError(
            "expected an image (N, 1, H, W) and a mask (N, C, H, W), "
            f"got {tuple(image.shape)} and {tuple(mask.shape)}"
        )
    # Half precision, as a training step may ask for, is too coarse for positions.
    with torch.autocast(image.device.type, enabled=False):
        image, mask = _move(image, mask, how)
        image = vary_appearance(image, how)
    return image, mask


def _move(image: Tensor, mask: Tensor, how: Augmentation) -> tuple[Tensor, Tensor]:
    corners = (how.flip, how.rotation_deg, how.projection, how.zoom, how.shift)
    if not any((*corners, how.elastic, how.margins)):
        return image, mask
    n, _, height, width = image.shape
    maps = random_homographies(n, (height, width), how).to(image)
    grid = displace(sampling_grid(maps, (height, width)), how)
    return warp(image, mask, cut_margins(grid, random_margins(n, how)))
