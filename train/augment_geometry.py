"""Where each pixel of a varied view comes from: one projective map and one elastic field.

All of it together is one grid of sampling positions, so each pixel is resampled once.
"""

import torch
from kornia.geometry.transform import get_perspective_transform
from torch import Tensor
from torch.nn import functional

from veintrack.train.augment_presets import Augmentation, Effect

__all__ = [
    "cut_margins",
    "displace",
    "draw_amounts",
    "draw_signs",
    "random_homographies",
    "random_margins",
    "sampling_grid",
    "smooth_fields",
    "warp",
]

_KNOTS = 6
"""Knots of the elastic field along each side, the borders included."""

_BEYOND = 3.0
"""A sampling position that is surely outside; the frame ends at 1."""


def draw_amounts(n: int, effect: Effect) -> Tensor:
    """Draw each frame's amount of an effect, shape (n,): 0 where the effect is not chosen."""
    chosen = torch.rand(n) < effect.probability
    return torch.where(chosen, torch.rand(n) * effect.strength, 0.0)


def draw_signs(n: int) -> Tensor:
    """Draw -1 or 1, shape (n,)."""
    return torch.where(torch.rand(n) < 0.5, -1.0, 1.0)


def smooth_fields(n: int, channels: int, shape: tuple[int, int], knots: int) -> Tensor:
    """Draw smooth fields of about -1 to 1, shape (n, channels, H, W).

    Uniform values on `knots` places along each side, the borders included, joined by bicubic
    convolution (Keys, IEEE Trans. Acoustics, Speech and Signal Processing 29, 1981), rows and
    columns apart: many times faster than dense noise under a blur as wide as that.
    """
    values = 2 * torch.rand(n, channels, knots, knots) - 1
    down, across = (_joins(size, knots) for size in shape)
    return down @ values @ across.T


def _joins(size: int, knots: int) -> Tensor:
    """Weights of the knots in each of `size` samples, shape (size, knots)."""
    each = torch.eye(knots)[None, None]
    return functional.interpolate(each, (size, knots), mode="bicubic", align_corners=True)[0, 0]


def random_homographies(n: int, shape: tuple[int, int], how: Augmentation) -> Tensor:
    """Draw maps from the frame to its varied view, shape (n, 3, 3), in px.

    The four corners are flipped, turned, scaled, shifted and moved each by itself; they define
    the map (Hartley and Zisserman, "Multiple View Geometry", 2nd ed., section 4.1).
    """
    height, width = shape
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    unit = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    corners = (unit * half).expand(n, 4, 2)

    angle = draw_signs(n) * torch.deg2rad(draw_amounts(n, how.rotation_deg))
    cos, sin = torch.cos(angle), torch.sin(angle)
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    matrix = turn * ((1 + draw_amounts(n, how.zoom)) ** draw_signs(n)).view(n, 1, 1)
    flipped = torch.where(torch.rand(n) < how.flip.probability, -1.0, 1.0)
    matrix[:, :, 0] *= flipped.view(n, 1)

    moved = corners @ matrix.transpose(1, 2)
    for effect, points in ((how.shift, 1), (how.projection, 4)):
        limit = draw_amounts(n, effect).view(n, 1, 1)
        moved = moved + (2 * torch.rand(n, points, 2) - 1) * limit * (2 * half)
    maps: Tensor = get_perspective_transform(corners + half, moved + half)
    return maps


def sampling_grid(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """Say where in the frame each pixel of the view comes from.

    Parameters
    ----------
    maps : Tensor of shape (N, 3, 3)
        From the frame to the view, in px.
    shape : tuple of int
        Height and width of both, in px.

    Returns
    -------
    Tensor of shape (N, H, W, 2)
        (x, y) as `torch.nn.functional.grid_sample` wants them: -1 and 1 are the centres of the
        outermost pixels.
    """
    height, width = shape
    to_unit = maps.new_tensor([[2 / (width - 1), 0, -1], [0, 2 / (height - 1), -1], [0, 0, 1]])
    back = (to_unit @ torch.linalg.inv(maps))[..., None]
    x = torch.arange(width, dtype=maps.dtype, device=maps.device)
    y = torch.arange(height, dtype=maps.dtype, device=maps.device)
    # Sums of a row and a column: some ten times faster than kornia's transform_points.
    row, column = back[:, :, 0] * x + back[:, :, 2], back[:, :, 1] * y
    sent = row[:, :2].mT[:, None] + column[:, :2].mT[:, :, None]
    scale = row[:, 2, None] + column[:, 2, :, None]
    grid: Tensor = sent / scale[..., None]
    return grid


def displace(grid: Tensor, how: Augmentation) -> Tensor:
    """Add a smooth random displacement to the sampling positions of some frames."""
    amounts = draw_amounts(len(grid), how.elastic)
    (chosen,) = torch.nonzero(amounts, as_tuple=True)
    if not len(chosen):
        return grid
    fields = smooth_fields(len(chosen), 2, (grid.shape[1], grid.shape[2]), _KNOTS)
    # The size is 2 in the grid's unit.
    displacements = fields.movedim(1, -1) * (2 * amounts[chosen]).view(-1, 1, 1, 1)
    chosen = chosen.to(grid.device)
    return grid.index_copy(0, chosen, grid[chosen] + displacements.to(grid))


def random_margins(n: int, how: Augmentation) -> Tensor:
    """Draw the widths of black borders, shape (n, 4): left, right, top, bottom.

    Each is a fraction of the frame's size, 0 on the sides that have none.
    """
    widths = draw_amounts(n, how.margins).view(n, 1) * torch.rand(n, 4)
    return torch.where(torch.rand(n, 4) < 0.5, widths, 0.0)


def cut_margins(grid: Tensor, widths: Tensor) -> Tensor:
    """Send the pixels of the margins beyond the frame's border, where all is zero.

    Parameters
    ----------
    grid : Tensor of shape (N, H, W, 2)
        From `sampling_grid`.
    widths : Tensor of shape (N, 4), on the CPU
        From `random_margins`.
    """
    n, height, width, _ = grid.shape
    x = (torch.arange(width) + 0.5) / width
    y = (torch.arange(height) + 0.5) / height
    left, right, top, bottom = widths.T[..., None]
    columns = (x < left) | (x > 1 - right)
    rows = (y < top) | (y > 1 - bottom)
    margins = (columns.view(n, 1, width) | rows.view(n, height, 1)).to(grid.device)
    return grid.masked_fill(margins[..., None], _BEYOND)


def warp(image: Tensor, mask: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Resample image and mask at the same positions, each pixel once; zero beyond the border.

    Parameters
    ----------
    image, mask : Tensor of shape (N, 1, H, W) and (N, C, H, W)
        On one device.
    grid : Tensor of shape (N, H, W, 2)
        From `sampling_grid`.
    """
    return (
        functional.grid_sample(image, grid, align_corners=True),
        functional.grid_sample(mask, grid, align_corners=True),
    )
