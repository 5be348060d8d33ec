"""Pixels go where the map and the field send them, image and mask together."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from veintrack.train.augment import PRESETS, Augmentation, Effect, augment
from veintrack.train.augment_geometry import (
    cut_margins,
    displace,
    draw_amounts,
    random_homographies,
    random_margins,
    sampling_grid,
    smooth_fields,
    warp,
)

NONE = PRESETS["none"]
ELASTIC = replace(NONE, elastic=Effect(1.0, 0.04))


def grids(n: int, size: int = 96) -> Tensor:
    """Lines 8 px apart, 2 px wide."""
    at = torch.arange(size)
    lines = ((at % 8 < 2)[:, None] | (at % 8 < 2)[None, :]).float()
    return lines.expand(n, 1, size, size).contiguous()


def positions(n: int, height: int, width: int) -> Tensor:
    """Each pixel's own x and y, 0 to 1, shape (n, 2, H, W)."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([x, y]).expand(n, 2, height, width).contiguous()


def test_no_map_and_no_field_are_every_pixel_s_own_place() -> None:
    grid = sampling_grid(torch.eye(3)[None], (40, 60))
    torch.testing.assert_close(grid, 2 * positions(1, 40, 60).movedim(1, -1) - 1)
    assert displace(grid, NONE) is grid


def test_a_dot_goes_where_the_map_sends_it() -> None:
    torch.manual_seed(5)
    maps = random_homographies(20, (96, 120), Augmentation())
    image = torch.zeros(20, 1, 96, 120)
    image[:, :, 38:43, 58:63] = 1  # centred on (60, 40)
    warped, _ = warp(image, image, sampling_grid(maps, (96, 120)))
    sent = maps @ torch.tensor([60.0, 40.0, 1.0])
    sent = sent[:, :2] / sent[:, 2:]
    total = warped.sum(dim=(1, 2, 3))
    x = (warped.sum(dim=(1, 2)) * torch.arange(120.0)).sum(dim=1) / total
    y = (warped.sum(dim=(1, 3)) * torch.arange(96.0)).sum(dim=1) / total
    torch.testing.assert_close(torch.stack([x, y], dim=1), sent, atol=0.15, rtol=0)


def test_every_pixel_shows_the_place_that_the_grid_names() -> None:
    torch.manual_seed(1)
    how = Augmentation()
    grid = displace(sampling_grid(random_homographies(8, (64, 80), how), (64, 80)), how)
    place = positions(8, 64, 80)
    x, y = warp(place[:, :1], place[:, 1:], grid)
    inside = (grid.abs() <= 1).all(dim=-1)
    assert float(inside.float().mean()) > 0.6
    shown = torch.cat([x, y], dim=1).movedim(1, -1)[inside]
    torch.testing.assert_close(2 * shown - 1, grid[inside], atol=1e-5, rtol=0)


def test_a_warped_coordinate_grid_is_the_same_in_image_and_mask() -> None:
    torch.manual_seed(3)
    lines = grids(16)
    how = Augmentation()
    grid = displace(sampling_grid(random_homographies(16, (96, 96), how), (96, 96)), how)
    image, mask = warp(lines, torch.cat([lines, 1 - lines], dim=1), grid)
    torch.testing.assert_close(image, mask[:, :1])
    assert float((image - lines).abs().mean()) > 0.1  # it has moved
    inside = warp(torch.ones_like(lines), lines, grid)[0]
    torch.testing.assert_close(mask.sum(dim=1, keepdim=True), inside)


def test_the_mask_of_a_warped_image_is_the_warped_mask_of_the_image() -> None:
    torch.manual_seed(6)
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    ball = torch.sigmoid((30 - torch.hypot(x - 50, y - 45)) / 3).expand(12, 1, 96, 96)
    image, mask = augment(ball, (ball > 0.5).float(), ELASTIC)
    assert float((image - ball).abs().amax()) > 0.2
    mask = (mask > 0.5).float()
    border = max_pool2d(mask, 3, 1, 1) + max_pool2d(1 - mask, 3, 1, 1) > 1
    assert not ((image > 0.5) != (mask > 0.5))[~border].any()


def test_the_strongest_field_that_is_allowed_never_folds() -> None:
    torch.manual_seed(0)
    grid = displace(sampling_grid(torch.eye(3).expand(64, 3, 3), (96, 96)), ELASTIC)
    right = grid[:, :-1, 1:] - grid[:, :-1, :-1]
    down = grid[:, 1:, :-1] - grid[:, :-1, :-1]
    area = right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]
    assert float(area.min()) > 0


def test_a_smooth_field_is_smooth_and_centred() -> None:
    torch.manual_seed(0)
    fields = smooth_fields(200, 2, (48, 64), 6)
    assert fields.shape == (200, 2, 48, 64)
    assert float(fields.mean().abs()) < 0.01
    assert float(fields.abs().max()) < 1.6
    assert float(fields.diff(dim=3).abs().max()) < 0.3


def test_a_certain_flip_mirrors_left_and_right() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 1, 64, 64)
    flipped, mask = augment(image, image, replace(NONE, flip=Effect(1.0)))
    torch.testing.assert_close(flipped, image.flip(-1), atol=1e-3, rtol=0)
    torch.testing.assert_close(mask, flipped)


def test_amounts_are_zero_or_uniform_up_to_the_strength() -> None:
    torch.manual_seed(0)
    amounts = draw_amounts(4000, Effect(0.25, 3.0))
    chosen = amounts[amounts > 0]
    assert 900 < len(chosen) < 1100
    assert float(chosen.max()) <= 3
    assert 1.4 < float(chosen.mean()) < 1.6


def test_every_frame_of_a_batch_is_moved_by_itself() -> None:
    torch.manual_seed(0)
    image, _ = augment(grids(2), grids(2), PRESETS["paper"])
    assert float((image[0] - image[1]).abs().mean()) > 0.05


def test_a_margin_is_as_wide_as_it_says_on_its_own_side() -> None:
    grid = sampling_grid(torch.eye(3)[None], (100, 200))
    image, mask = torch.ones(1, 1, 100, 200), torch.ones(1, 3, 100, 200)
    expected = torch.zeros(1, 1, 100, 200)
    expected[:, :, 20:, 10:180] = 1
    cut = warp(image, mask, cut_margins(grid, torch.tensor([[0.05, 0.1, 0.2, 0.0]])))
    torch.testing.assert_close(cut, (expected, expected.expand(1, 3, 100, 200)))


def test_margins_lie_on_some_sides_of_some_frames() -> None:
    torch.manual_seed(0)
    widths = random_margins(400, replace(NONE, margins=Effect(0.5, 0.2)))
    assert float(widths.max()) <= 0.2
    sides = (widths > 0).sum(dim=1)
    assert {0, 1, 2, 3, 4} == set(sides.tolist())
    assert 150 < int((sides == 0).sum()) < 300
