"""What a picture is good for: test cards, lifted probes, freeze, turned knobs; and real clips.

A probe in air is simulated after what in-air reverberation images in quality assurance show: bands
parallel to the probe's face, repeated in depth, each fainter than the one before, even along the
probe but for some per cent of sensitivity and a dead element; below, noise that rises with depth.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from veintrack.tracker.frame import F32, F64, U8, PictureState
from veintrack.tracker.phantom import MotionSettings, Phantom, demo_settings, random_still
from veintrack.tracker.picture import Look, PictureSettings, PictureWatch
from veintrack.tracker.picturestep import StepSettings, StepWatch
from veintrack.tracker.scanarea import find_scan_area

GOOD, FROZEN = PictureState.GOOD, PictureState.FROZEN
NO_SIGNAL, NO_CONTACT = PictureState.NO_SIGNAL, PictureState.NO_CONTACT
SHAPE = (192, 256)


def look_at(pictures: Iterable[U8], rate_hz: float = 30.0) -> list[Look]:
    watch = PictureWatch()
    return [watch.look(p, round(i * 1e9 / rate_hz)) for i, p in enumerate(pictures)]


def states(pictures: Iterable[U8], rate_hz: float = 30.0) -> list[PictureState]:
    return [look.state for look in look_at(pictures, rate_hz)]


def state(picture: U8) -> PictureState:
    return PictureWatch().look(picture, 0).state


def changes(pictures: Iterable[U8], rate_hz: float = 30.0) -> list[str]:
    return [words for look in look_at(pictures, rate_hz) for words in look.changes]


def on_grid(pixels: U8, region: tuple[int, int, int, int] | None = None) -> U8:
    """As `grid.image_to_grid` lays a scan area, without the black around it."""
    x, y, width, height = region or (0, 0, pixels.shape[1], pixels.shape[0])
    scale = min(SHAPE[0] / height, SHAPE[1] / width)
    small = cv2.resize(
        pixels[y : y + height, x : x + width],
        (round(width * scale), round(height * scale)),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    return small.astype(np.uint8)


def noisy(picture: U8, sigma: float, seed: int) -> U8:
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scan() -> list[U8]:
    """Two seconds of the demonstration, at the size of a screen."""
    phantom = Phantom(demo_settings())
    return [phantom.render(i).pixels for i in range(60)]


@pytest.fixture(scope="module")
def pictures(scan: list[U8]) -> list[U8]:
    return [on_grid(pixels) for pixels in scan]


# Test cards


@pytest.mark.parametrize("level", [0, 16, 29, 128, 255])
def test_a_uniform_picture_is_no_signal(level: int) -> None:
    assert state(np.full(SHAPE, level, np.uint8)) is NO_SIGNAL


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_a_uniform_picture_with_noise_is_no_signal(sigma: float) -> None:
    assert state(noisy(np.full(SHAPE, 60, np.uint8), sigma, 0)) is NO_SIGNAL


def test_a_box_of_text_on_blue_is_no_signal() -> None:
    card = np.full(SHAPE, 29, np.uint8)  # the luma of blue
    card[70:120, 60:200] = 10
    cv2.putText(card, "NO SIGNAL", (70, 100), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 235, 2)
    assert state(card) is NO_SIGNAL


def colour_bars(levels: list[int], part: float) -> U8:
    card = np.full(SHAPE, 16, np.uint8)
    rows = round(part * SHAPE[0])
    for number, columns in enumerate(np.array_split(np.arange(SHAPE[1]), len(levels))):
        card[:rows, columns] = levels[number]
    return card


#: Luma of white, yellow, cyan, green, magenta, red, blue by ITU-R BT.601, full range, at 75 %.
BARS = [191, 169, 134, 112, 79, 57, 22]


def test_ebu_bars_are_no_signal() -> None:
    assert state(colour_bars([*BARS, 0], 1.0)) is NO_SIGNAL


def test_smpte_bars_are_no_signal() -> None:
    """Engineering guideline EG 1: bars to two thirds, the castellations and the pluge below."""
    card = colour_bars(BARS, 2 / 3)
    rows = slice(round(SHAPE[0] * 2 / 3), round(SHAPE[0] * 3 / 4))
    card[rows] = colour_bars([22, 16, 79, 16, 134, 16, 191], 1.0)[rows]
    card[rows.stop :] = colour_bars([20, 255, 30, 16, 10, 16], 1.0)[rows.stop :]
    assert state(card) is NO_SIGNAL


def test_noisy_bars_with_a_caption_are_no_signal() -> None:
    card = colour_bars(BARS, 1.0)
    cv2.putText(card, "00:00:12:07", (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    assert state(noisy(card, 3, 1)) is NO_SIGNAL


# Lifted probes


def in_air(depth: F64, along: F64, period: float, seed: int, haze: float = 12.0) -> F64:
    """Grey levels of a probe in air.

    Depth is 0 at the face and 1 at the end of the picture, `along` goes from 0 to 1.
    """
    rng = np.random.default_rng(seed)
    ringing = 230.0 * np.exp(-depth / 0.03)
    for number in range(1, 6):
        ringing += 190.0 * 0.55**number * np.exp(-(((depth - number * period) / 0.012) ** 2))
    sensitivity = np.interp(along, np.linspace(0, 1, 65), 1 + 0.05 * rng.standard_normal(65))
    sensitivity = np.where(np.abs(along - 0.3) < 0.008, 0.4, sensitivity)  # a dead element
    noise = haze * depth * rng.rayleigh(0.8, depth.shape)
    return np.clip(ringing * sensitivity + noise, 0, 255)


def linear_in_air(
    seed: int, period: float = 0.06, haze: float = 12.0, shape: tuple[int, ...] = SHAPE
) -> U8:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    grey = in_air(rows / shape[0], columns / shape[1], period, seed, haze)
    return np.asarray(cv2.GaussianBlur(grey, (3, 3), 0), np.uint8)


def convex_in_air(seed: int, half_angle: float, inner: float) -> U8:
    """A sector whose face has the radius `inner`, as a part of that of the picture's end."""
    height, width = SHAPE
    top = inner * np.cos(half_angle)
    scale = min((1 - top) / height, 2 * np.sin(half_angle) / width)
    rows, columns = np.mgrid[:height, :width]
    x, y = (columns - (width - 1) / 2) * scale, top + rows * scale
    radius, angle = np.hypot(x, y), np.arctan2(x, y)
    depth, along = (radius - inner) / (1 - inner), 0.5 + angle / (2 * half_angle)
    grey = in_air(np.maximum(depth, 0), along, 0.06, seed)
    inside = (depth >= 0) & (depth <= 1) & (np.abs(angle) <= half_angle)
    return np.asarray(cv2.GaussianBlur(grey, (3, 3), 0) * inside, np.uint8)


@pytest.mark.parametrize("period", [0.03, 0.06, 0.075])
@pytest.mark.parametrize("haze", [0.0, 12.0, 40.0])
def test_a_linear_probe_in_air_has_no_contact(period: float, haze: float) -> None:
    assert state(linear_in_air(0, period, haze)) is NO_CONTACT


@pytest.mark.parametrize(("half_angle", "inner"), [(0.5, 0.3), (0.6, 0.45), (1.1, 0.12)])
def test_a_convex_probe_in_air_has_no_contact(half_angle: float, inner: float) -> None:
    assert state(convex_in_air(0, half_angle, inner)) is NO_CONTACT


def test_a_dark_picture_with_noise_has_no_contact() -> None:
    dark = cv2.GaussianBlur(noisy(np.zeros(SHAPE, np.uint8), 12, 0), (5, 5), 0)
    assert state(dark.astype(np.uint8)) is NO_CONTACT


def test_the_phantom_has_no_contact_while_it_is_lifted_and_only_then() -> None:
    lifted = MotionSettings(lift_windows_s=((0.2, 2.2),))
    phantom = Phantom(replace(demo_settings(), motion=lifted))
    seen = {i: state(on_grid(phantom.render(i).pixels)) for i in (0, 5, 20, 35, 50, 66, 70)}
    assert [i for i, s in seen.items() if s is NO_CONTACT] == [20, 35, 50]
    assert set(seen.values()) == {GOOD, NO_CONTACT}


def test_a_probe_half_in_air_still_has_contact(pictures: list[U8]) -> None:
    half = linear_in_air(0, shape=pictures[0].shape)
    half[:, half.shape[1] // 2 :] = pictures[0][:, half.shape[1] // 2 :]
    assert state(half) is GOOD


# Freeze


def test_the_phantom_is_good(pictures: list[U8]) -> None:
    assert set(states(pictures)) == {GOOD}


@pytest.mark.parametrize("seed", range(8))
def test_random_phantoms_are_good(seed: int) -> None:
    assert state(on_grid(random_still(seed)[0])) is GOOD


def test_a_still_hand_over_tissue_without_vessels_is_not_frozen() -> None:
    still = replace(demo_settings(), motion=MotionSettings(), vessels=())
    phantom = Phantom(still)
    assert set(states(on_grid(phantom.render(i).pixels) for i in range(30))) == {GOOD}


def test_the_same_picture_is_frozen_after_half_a_second(pictures: list[U8]) -> None:
    seen = states([pictures[0]] * 30, rate_hz=20)
    assert seen == [GOOD] * 10 + [FROZEN] * 20


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_a_grabbers_noise_does_not_hide_a_freeze(scan: list[U8], sigma: float) -> None:
    seen = states(on_grid(noisy(scan[0], sigma, i)) for i in range(20))
    assert seen == [GOOD] * 15 + [FROZEN] * 5


def test_a_pointer_over_a_frozen_picture_does_not_hide_the_freeze(scan: list[U8]) -> None:
    frames = []
    for i in range(20):
        pixels = scan[0].copy()
        pixels[200 + 4 * i : 212 + 4 * i, 300:310] = 255
        frames.append(on_grid(pixels))
    assert states(frames)[-1] is FROZEN


def test_a_freeze_ends_with_the_first_other_picture(pictures: list[U8]) -> None:
    seen = states([*[pictures[0]] * 20, *pictures[1:5]])
    assert seen[19:] == [FROZEN, GOOD, GOOD, GOOD, GOOD]


@pytest.mark.parametrize("times", [2, 4])
def test_a_scanner_slower_than_its_capture_is_not_frozen(pictures: list[U8], times: int) -> None:
    doubled = [p for p in pictures[:30] for _ in range(times)]
    assert set(states(doubled, rate_hz=30.0 * times)) == {GOOD}


def test_a_frozen_test_card_is_no_signal() -> None:
    assert set(states([colour_bars(BARS, 1.0)] * 40)) == {NO_SIGNAL}


def test_capture_times_that_start_again_do_not_freeze(pictures: list[U8]) -> None:
    watch = PictureWatch()
    times_s = [10.0, 10.3, 0.0, 0.3, 0.6]
    seen = [watch.look(pictures[0], round(t * 1e9)).state for t in times_s]
    assert seen == [GOOD, GOOD, GOOD, GOOD, FROZEN]


def test_reset_forgets_the_freeze(pictures: list[U8]) -> None:
    watch = PictureWatch()
    for i in range(20):
        watch.look(pictures[0], i * 33_000_000)
    watch.reset()
    assert watch.look(pictures[0], 20 * 33_000_000).state is GOOD


def test_pictures_of_another_size_start_anew(pictures: list[U8]) -> None:
    frames = [pictures[0]] * 20 + [np.ascontiguousarray(pictures[0][:100])] * 3
    assert states(frames)[19:] == [FROZEN, GOOD, GOOD, GOOD]


@pytest.mark.parametrize("shape", [(1, 1), (1, 256), (192, 3), (31, 200), (32, 32), (33, 47)])
def test_small_pictures_do_no_harm(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    assert set(states([picture, 255 - picture] * 4)) == {GOOD}


# Knobs


def zoomed(picture: U8, depth: float) -> U8:
    """What the same probe shows at `depth` times the depth: nothing new comes into view."""
    height, width = picture.shape
    middle = (width - 1) / 2
    back: F32 = np.array(
        [[depth, 0, middle * (1 - depth)], [0, depth, (depth - 1) / 2]], np.float32
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, back, (width, height), flags=flags), np.uint8)


def brighter(picture: U8, ratio: float) -> U8:
    return np.clip(ratio * picture.astype(float), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("ratio", "words"), [(1.4, "gain up 1.4 x"), (0.5, "gain down 2.0 x"), (0.7, "gain down 1.4 x")]
)
def test_a_step_in_gain_is_told_once(pictures: list[U8], ratio: float, words: str) -> None:
    after = [brighter(p, ratio) for p in pictures[30:]]
    assert changes([*pictures[:30], *after]) == [words]


def test_decibels_that_are_added_to_all_are_a_step_in_gain(pictures: list[U8]) -> None:
    """Gain before log compression adds to the grey levels."""
    after = [np.clip(p.astype(int) + 30 * (p > 3), 0, 255).astype(np.uint8) for p in pictures[30:]]
    (words,) = changes([*pictures[:30], *after])
    assert words.startswith("gain up")


def test_a_step_in_gain_over_ten_frames_is_told_whole(pictures: list[U8]) -> None:
    ratios = np.clip(1 + 0.06 * (np.arange(60) - 20), 1, 1.6)
    steps = changes(brighter(p, r) for p, r in zip(pictures, ratios, strict=True))
    assert steps == ["gain up 1.6 x"]


def test_a_small_step_in_gain_is_not_worth_telling(pictures: list[U8]) -> None:
    assert changes([*pictures[:30], *(brighter(p, 1.1) for p in pictures[30:])]) == []


@pytest.mark.parametrize("depth", [0.5, 0.8, 1.25, 1.6])
def test_a_step_in_depth_is_told_once(pictures: list[U8], depth: float) -> None:
    (words,) = changes([*pictures[:30], *(zoomed(p, depth) for p in pictures[30:])])
    assert words.startswith("depth changed, ")
    assert float(words.split()[2]) == pytest.approx(depth, rel=0.03)


def test_a_step_in_depth_through_black_is_told(pictures: list[U8]) -> None:
    black = [np.zeros_like(pictures[0])] * 8
    (words,) = changes([*pictures[:20], *black, *(zoomed(p, 1.25) for p in pictures[28:])])
    assert words.startswith("depth changed, 1.2")


def test_a_place_elsewhere_on_the_body_is_no_step(pictures: list[U8]) -> None:
    elsewhere = on_grid(random_still(3)[0])
    after = [noisy(elsewhere, 3, i) for i in range(30)]
    assert changes([*pictures[:30], *after]) == []


def test_a_pulsating_brightness_is_no_step(pictures: list[U8]) -> None:
    pulse = 1 + 0.08 * np.sin(2 * np.pi * 1.2 * np.arange(60) / 30)
    assert changes(brighter(p, r) for p, r in zip(pictures, pulse, strict=True)) == []


# Settings, cost


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_freeze_takes_time(seconds: float) -> None:
    with pytest.raises(ValueError, match=f"frozen_s must be greater than 0, got {seconds}"):
        PictureSettings(frozen_s=seconds)


@pytest.mark.parametrize("part", [0.0, 1.0])
def test_parts_of_the_height_lie_between_nothing_and_all(part: float) -> None:
    with pytest.raises(ValueError, match=f"card_part must lie between 0 and 1, got {part}"):
        PictureSettings(card_part=part)
    with pytest.raises(ValueError, match=f"face_part must lie between 0 and 1, got {part}"):
        PictureSettings(face_part=part)


def test_ratios_must_exceed_one() -> None:
    with pytest.raises(ValueError, match=r"gain_ratio must be greater than 1, got 1\.0"):
        StepSettings(gain_ratio=1.0)


def test_a_step_watch_takes_few_looks(pictures: list[U8]) -> None:
    watch, small = StepWatch(), pictures[0][:48, :64]
    assert [watch.look(small, i * 1_000_000) for i in range(5)] == [()] * 5


def test_a_look_costs_little(pictures: list[U8]) -> None:
    """About 30 µs of processor time on two slow cores; the limit leaves room for slower ones."""
    watch, cheapest_s = PictureWatch(), np.inf
    framed = [np.pad(p, 3)[3:-3, 3:-3] for p in pictures]  # rows apart, as on the grid
    for turn in range(5):
        start_s = time.thread_time()
        for i, picture in enumerate(framed):
            watch.look(picture, (turn * 60 + i) * 33_000_000)
        cheapest_s = min(cheapest_s, (time.thread_time() - start_s) / len(framed))
    assert cheapest_s < 250e-6


# Real pictures


def test_real_stills_are_good(recordings: Path) -> None:
    paths = [p for name in ("vessels", "carotid") for p in (recordings / name).glob("images/*.png")]
    bad = []
    for path in sorted(paths)[::5]:
        pixels = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)
        if state(on_grid(pixels, find_scan_area(pixels))) is not GOOD:
            bad.append(path.name)
    assert bad == []


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("brachial_artery_screen_capture.mov", (28, 47, 471, 340)),
        ("Reg_Image_181206_crop.mp4", (3, 0, 202, 234)),
        ("Reg_Image_18122_crop.mp4", (3, 0, 202, 208)),
    ],
)
def test_real_clips_are_good_and_nobody_turns_a_knob(
    recordings: Path, name: str, region: tuple[int, int, int, int]
) -> None:
    from veintrack.tracker.sources import open_source

    watch = PictureWatch()
    with open_source(recordings / "replay" / name) as source:
        looks = [watch.look(on_grid(f.pixels, region), f.capture_ns) for f in source]
    assert set(looks) == {Look(GOOD)}


@pytest.mark.parametrize(
    "name",
    [
        "BoneUltrasound_L14.igs.mha",
        "NwirePhantomFreehand.igs.mha",
        "USTC_FrameGrabber_ProbeTranslationData.igs.mha",
    ],
)
def test_real_sequences_of_bone_and_wires_are_good(recordings: Path, name: str) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="needs pip install SimpleITK")
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(recordings / "replay" / name)))
    assert set(look_at((on_grid(pixels) for pixels in frames), rate_hz=20)) == {Look(GOOD)}
