"""Grey levels vary as in a scan; the black around it stays black."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from veintrack.train.augment import PRESETS, Augmentation, Effect
from veintrack.train.augment_appearance import scan_area, vary_appearance

NONE, ULTRASOUND = PRESETS["none"], PRESETS["ultrasound"]
NAMES = [field.name for field in fields(Augmentation)]
MOVING = {"flip", "rotation_deg", "projection", "zoom", "shift", "elastic", "margins"}
EFFECTS = [name for name in NAMES if name not in MOVING]


def alone(name: str, strength: float | None = None) -> Augmentation:
    """One effect on every frame, by default as strong as in the default."""
    limit = getattr(ULTRASOUND, name).strength if strength is None else strength
    return replace(NONE, **{name: Effect(1.0, limit)})


def tissue(n: int = 16, size: int = 96) -> Tensor:
    """A slanted scan area of 0.4 with grain, a black lumen of 30 px in it, black around it."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    inside = (x > 10 + y // 4) & (y < size - 12)
    lumen = (x - 60).square() + (y - 40).square() < 15**2
    image = 0.3 + 0.2 * torch.rand(n, 1, size, size)
    return image * (inside & ~lumen)


def outside(size: int = 96) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return ~((x > 10 + y // 4) & (y < size - 12))


def mean_over_tissue(image: Tensor) -> Tensor:
    return image[:, 0, 60:80, 50:90].mean(dim=(1, 2))


@pytest.mark.parametrize("name", EFFECTS)
def test_black_outside_the_scan_area_stays_black(name: str) -> None:
    varied = vary_appearance(tissue(), alone(name))
    assert not varied[:, 0, outside()].any()


def test_black_outside_stays_black_when_all_effects_meet() -> None:
    every = Augmentation(**{n: Effect(1.0, getattr(ULTRASOUND, n).strength) for n in NAMES})
    varied = vary_appearance(tissue(), every)
    assert not varied[:, 0, outside()].any()
    assert not vary_appearance(torch.zeros(4, 1, 40, 40), every).any()


def test_the_scan_area_holds_its_lumen_and_nothing_around_it() -> None:
    area = scan_area(tissue(1))[0, 0]
    assert float(area[28:52, 48:72].min()) > 0.2
    assert float(area[40, 60]) == 1
    assert not area[outside()].any()
    assert torch.equal(scan_area(torch.full((1, 1, 20, 50), 0.5)), torch.ones(1, 1, 20, 50))


def test_what_a_codec_left_of_black_counts_as_black() -> None:
    codec = torch.full((1, 1, 64, 64), 2 / 255)
    assert float(scan_area(codec).max()) < 0.1


@pytest.mark.parametrize(
    "name", ["gain", "depth_gain", "gain_field", "contrast", "gamma", "speckle", "noise"]
)
def test_the_mean_grey_over_many_frames_hardly_changes(name: str) -> None:
    image = tissue(256, 48).clone()
    image[:] = 0.2 + 0.3 * torch.rand(256, 1, 48, 48)
    varied = vary_appearance(image, alone(name))
    assert float(varied.mean()) == pytest.approx(float(image.mean()), rel=0.07)


@pytest.mark.parametrize("name", ["blur_px", "coarsen", "sharpen"])
def test_a_filter_keeps_the_grey_level_of_tissue(name: str) -> None:
    image = tissue()
    varied = vary_appearance(image, alone(name))
    torch.testing.assert_close(mean_over_tissue(varied), mean_over_tissue(image), atol=0.01, rtol=0)


@pytest.mark.parametrize(("name", "larger"), [("blur_px", False), ("sharpen", True)])
def test_blur_takes_detail_and_sharpening_adds_it(name: str, larger: bool) -> None:
    image = tissue()
    varied = vary_appearance(image, alone(name, 1.0))

    def detail(frames: Tensor) -> Tensor:
        return frames[:, 0, 60:80, 50:90].diff(dim=2).abs().mean(dim=(1, 2))

    change = detail(varied) - detail(image)
    assert ((change >= -1e-4) if larger else (change <= 1e-4)).all()
    assert float(change.abs().mean()) > 0.01


@pytest.mark.parametrize("name", ["shadow", "attenuation"])
def test_shadow_and_attenuation_only_darken_and_never_to_black(name: str) -> None:
    image = tissue(64)
    varied = vary_appearance(image, alone(name))
    assert (varied <= image + 1e-6).all()
    lit = image > 0
    largest = getattr(ULTRASOUND, name).strength
    assert (varied[lit] >= (1 - largest) * image[lit] - 1e-6).all()


def test_attenuation_grows_with_depth() -> None:
    varied = vary_appearance(torch.full((8, 1, 64, 64), 0.5), alone("attenuation"))
    assert (varied.diff(dim=2) < 0).all()


def test_haze_lifts_a_dark_lumen_and_nothing_is_darker() -> None:
    image = tissue(32)
    varied = vary_appearance(image, alone("haze"))
    assert (varied >= image - 1e-6).all()
    assert float(varied[:, 0, 30:50, 50:70].mean()) > 0.02


def test_depth_gain_is_a_ramp_either_way() -> None:
    varied = vary_appearance(torch.full((64, 1, 32, 32), 0.5), alone("depth_gain"))
    slopes = varied[:, 0].mean(dim=2).diff(dim=1)
    rising, falling = (slopes > 0).all(dim=1), (slopes < 0).all(dim=1)
    assert (rising | falling).all()
    assert 16 < int(rising.sum()) < 48


def test_speckle_is_weaker_in_darker_tissue() -> None:
    halves = torch.full((16, 1, 64, 64), 0.64)
    halves[..., 32:] = 0.16
    varied = vary_appearance(halves, alone("speckle"))
    bright, dark = varied[..., :24].std(dim=(1, 2, 3)), varied[..., 40:].std(dim=(1, 2, 3))
    # The root of four, a few grains more or less.
    assert 1.9 < float((bright / dark).median()) < 2.1


def test_writing_is_one_line_of_letters_of_one_level() -> None:
    image = torch.full((32, 1, 64, 64), 0.5)
    written = vary_appearance(image, alone("marks")) != image
    heights = written.any(dim=3).sum(dim=2).flatten()
    assert int(heights.max()) <= 5
    assert float(heights.float().mean()) > 4
