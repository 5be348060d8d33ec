"""Image and mask stay in step, and nothing leaves its range."""

import torch
from torch import Tensor

from veintrack.train.augment import Augmentation, augment, random_homographies, vary_gain, warp

NONE = Augmentation(
    rotation_deg=0,
    flip=0,
    projection=0,
    zoom=1,
    shift=0,
    gain=0,
    depth_gain=0,
    contrast=1,
    gamma=1,
    noise=0,
)


def grids(n: int, size: int = 96) -> Tensor:
    """Lines 8 px apart, 2 px wide."""
    at = torch.arange(size)
    lines = ((at % 8 < 2)[:, None] | (at % 8 < 2)[None, :]).float()
    return lines.expand(n, 1, size, size).contiguous()


def test_a_warped_grid_is_the_same_in_image_and_mask() -> None:
    torch.manual_seed(3)
    grid = grids(16)
    how = Augmentation()
    maps = random_homographies(16, (96, 96), how)
    image, mask = warp(grid, torch.cat([grid, 1 - grid], dim=1), maps)
    torch.testing.assert_close(image, mask[:, :1])
    assert (image - grid).abs().mean() > 0.1  # it has moved
    inside = warp(torch.ones_like(grid), grid, maps)[0]
    torch.testing.assert_close(mask.sum(dim=1, keepdim=True), inside)


def test_a_dot_goes_where_the_map_sends_it() -> None:
    torch.manual_seed(5)
    maps = random_homographies(20, (96, 96), Augmentation())
    image = torch.zeros(20, 1, 96, 96)
    image[:, :, 38:43, 48:53] = 1  # centred on (50, 40)
    warped, _ = warp(image, image, maps)
    sent = maps @ torch.tensor([50.0, 40.0, 1.0])
    sent = sent[:, :2] / sent[:, 2:]
    at = torch.arange(96.0)
    total = warped.sum(dim=(1, 2, 3))
    x = (warped.sum(dim=(1, 2)) * at).sum(dim=1) / total
    y = (warped.sum(dim=(1, 3)) * at).sum(dim=1) / total
    torch.testing.assert_close(torch.stack([x, y], dim=1), sent, atol=0.15, rtol=0)


def test_no_variation_changes_nothing() -> None:
    grid = grids(4)
    image, mask = augment(0.5 * grid, grid, NONE)
    torch.testing.assert_close(image, 0.5 * grid, atol=1e-4, rtol=0)
    torch.testing.assert_close(mask, grid, atol=1e-4, rtol=0)


def test_a_certain_flip_mirrors_left_and_right() -> None:
    image = torch.rand(2, 1, 64, 64)
    flip = Augmentation(**{name: getattr(NONE, name) for name in NONE.__slots__} | {"flip": 1.0})
    flipped, _ = augment(image, image, flip)
    torch.testing.assert_close(flipped, image.flip(-1), atol=1e-3, rtol=0)


def test_every_frame_of_a_batch_is_varied_by_itself() -> None:
    torch.manual_seed(0)
    image, _ = augment(grids(2), grids(2), Augmentation())
    assert (image[0] - image[1]).abs().mean() > 0.05


def test_gain_keeps_black_black_and_the_range() -> None:
    torch.manual_seed(0)
    image = torch.rand(32, 1, 16, 16)
    image[..., :8] = 0
    varied = vary_gain(image, Augmentation())
    assert float(varied.min()) >= 0
    assert float(varied.max()) <= 1
    assert not varied[..., :8].any()
    assert varied[..., 8:].mean(dim=(1, 2, 3)).std() > 0.03


def test_the_seed_repeats_the_variation() -> None:
    views = []
    for _ in range(2):
        torch.manual_seed(1)
        views.append(augment(grids(2), grids(2), Augmentation())[0])
    torch.testing.assert_close(*views)
