"""Presets do what they say, whole batches stay in step, and a seed repeats them."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from veintrack.train.augment import PRESETS, Augmentation, Effect, augment

NONE, PAPER, ULTRASOUND = PRESETS["none"], PRESETS["paper"], PRESETS["ultrasound"]
NAMES = [field.name for field in fields(Augmentation)]
MOVING = ["flip", "rotation_deg", "projection", "zoom", "shift", "elastic", "margins"]
CHANGING = [name for name in NAMES if name not in MOVING]


def alone(name: str) -> Augmentation:
    """One effect of the default, on every frame."""
    return replace(NONE, **{name: Effect(1.0, getattr(ULTRASOUND, name).strength)})


def scene(n: int = 8, size: int = 96) -> Tensor:
    """Grain of 4 px and mean 0.4, with a black lumen and a black border on the right."""
    torch.manual_seed(0)
    grain = torch.rand(n, 1, size // 4, size // 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    image = 0.2 + 0.4 * grain
    image[:, :, 40:56, 24:40] = 0
    image[..., 3 * size // 4 :] = 0
    return image


def test_the_default_is_the_preset_ultrasound() -> None:
    assert Augmentation() == ULTRASOUND
    assert list(PRESETS) == ["none", "paper", "ultrasound"]


def test_none_returns_the_very_same_values() -> None:
    image = scene()
    torch.testing.assert_close(augment(image, image, NONE), (image, image), rtol=0, atol=0)


def test_paper_is_rotation_flip_and_projection_only() -> None:
    assert {name for name in NAMES if getattr(PAPER, name)} == {
        "rotation_deg",
        "flip",
        "projection",
    }


def test_paper_changes_no_grey_level() -> None:
    torch.manual_seed(4)
    flat = torch.full((8, 1, 96, 96), 0.37)
    image, inside = augment(flat, torch.ones_like(flat), PAPER)
    assert float(inside.mean()) > 0.7
    torch.testing.assert_close(image, 0.37 * inside, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_effect_alone_visibly_changes_most_frames(name: str) -> None:
    image = scene(16)
    torch.manual_seed(2)
    varied, _ = augment(image, image, alone(name))
    changed = (varied - image).abs().amax(dim=(1, 2, 3)) > 4 / 255
    assert int(changed.sum()) >= 11


@pytest.mark.parametrize("name", CHANGING)
def test_a_change_of_grey_leaves_the_mask_alone(name: str) -> None:
    image = scene()
    _, mask = augment(image, image, alone(name))
    torch.testing.assert_close(mask, image, atol=0, rtol=0)


@pytest.mark.parametrize("name", MOVING)
def test_a_movement_treats_the_image_and_every_mask_plane_alike(name: str) -> None:
    image = scene()
    planes = torch.cat([image, 0.5 * image, 1 - image], dim=1)
    varied, moved = augment(image, planes, alone(name))
    torch.testing.assert_close(moved[:, :1], varied)
    torch.testing.assert_close(moved[:, 1:2], 0.5 * varied)
    # The planes that summed to one still do, but beyond the border all are zero.
    inside = moved[:, :1] + moved[:, 2:]
    assert float((inside - 1).abs().lt(1e-5).float().mean()) > 0.6
    assert float(inside.min()) >= 0
    assert float(inside.max()) <= 1 + 1e-5


def test_not_every_frame_gets_every_effect() -> None:
    assert all(0 < getattr(ULTRASOUND, name).probability < 1 for name in NAMES)
    image = torch.full((64, 1, 32, 32), 0.4)
    torch.manual_seed(0)
    varied, _ = augment(image, image, replace(NONE, gain=Effect(0.5, 0.2)))
    untouched = int((varied == image).all(dim=3).all(dim=2).sum())
    assert 16 <= untouched <= 48


def test_values_stay_from_zero_to_one_and_finite() -> None:
    image = scene(32)
    image[:8] = 0
    image[8:16] = 1
    strong = Augmentation(
        **{name: Effect(1.0, getattr(ULTRASOUND, name).strength) for name in NAMES}
    )
    for values in augment(image, image, strong):
        assert torch.isfinite(values).all()
        assert float(values.min()) >= 0
        assert float(values.max()) <= 1 + 1e-5


def test_the_seed_repeats_the_variation_and_another_does_not() -> None:
    views = []
    for seed in (1, 1, 2):
        image = scene()
        torch.manual_seed(seed)
        views.append(augment(image, image, ULTRASOUND))
    torch.testing.assert_close(views[0], views[1], rtol=0, atol=0)
    assert float((views[0][0] - views[2][0]).abs().mean()) > 0.02


def test_the_arguments_are_left_as_they_were() -> None:
    image = scene()
    before = image.clone()
    for how in (NONE, ULTRASOUND, *map(alone, NAMES)):
        augment(image, image, how)
    torch.testing.assert_close(image, before, rtol=0, atol=0)


def test_frames_need_not_be_square_nor_a_multiple_of_the_blocks() -> None:
    image = scene(4)[:, :, :50, :83]
    varied, mask = augment(image, torch.cat([image, image], dim=1), ULTRASOUND)
    assert varied.shape == (4, 1, 50, 83)
    assert mask.shape == (4, 2, 50, 83)


def test_half_precision_of_the_training_step_does_not_blunt_the_positions() -> None:
    image = scene()
    views = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            views.append(augment(image, image, ULTRASOUND))
    torch.testing.assert_close(views[0], views[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("image", "mask"),
    [((2, 3, 8, 8), (2, 1, 8, 8)), ((2, 1, 8, 8), (2, 1, 8, 9)), ((2, 8, 8), (2, 1, 8, 8))],
)
def test_shapes_that_do_not_fit_are_named(image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected an image \(N, 1, H, W\).*got") as caught:
        augment(torch.zeros(image), torch.zeros(mask), NONE)
    assert str(image) in str(caught.value)
    assert str(mask) in str(caught.value)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_a_probability_outside_zero_to_one_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 1, got {probability}"):
        Effect(probability, 0.1)


@pytest.mark.parametrize("strength", [-1.0, float("inf"), float("nan")])
def test_a_strength_that_is_no_amount_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match=f"not negative, got {strength}"):
        Effect(0.5, strength)


@pytest.mark.parametrize("name", ["elastic", "shadow", "margins", "projection"])
def test_a_strength_beyond_sense_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"strength of {name} must be at most 0\.\d+, got 0\.99"):
        replace(NONE, **{name: Effect(0.5, 0.99)})
