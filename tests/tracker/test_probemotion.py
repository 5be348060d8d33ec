"""How the picture moved: exact warps, the phantom's hand, and pictures that tell nothing."""

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from veintrack.tracker.frame import F64, U8, ProbeMotion
from veintrack.tracker.grid import Grid, fit, image_to_grid
from veintrack.tracker.phantom import MotionSettings, Phantom, PhantomSettings, VesselSettings
from veintrack.tracker.probemotion import MotionWatch, ProbeMotionSettings

SHAPE = (480, 640)
GRID = fit(SHAPE, (256, 256))
CENTRE = np.array([319.5, 239.5])
PLACES = np.array([[160.0, 120.0], [480.0, 120.0], [320.0, 240.0], [200.0, 360.0]])
STEP_NS = 33_000_000
STILL = np.eye(2)


@pytest.fixture(scope="module")
def tissue() -> U8:
    """Something that looks like tissue in that it is grained everywhere, larger than a frame."""
    return grained(0)


def grained(seed: int) -> U8:
    rng = np.random.default_rng(seed)
    fine = cv2.GaussianBlur(rng.standard_normal((880, 1040), np.float32), (0, 0), 4, sigmaY=2.5)
    wide = cv2.resize(rng.standard_normal((44, 17), np.float32), (1040, 880), None, 0, 0, 2)
    grey = 90 + 28 * fine / fine.std() + 20 * wide / wide.std()
    return np.asarray(np.clip(np.rint(grey), 0, 255), np.uint8)


def warped(tissue: U8, linear: F64 = STILL, shift: tuple[float, float] = (0.0, 0.0)) -> U8:
    """Cut a frame out of the tissue, moved to ``centre + linear @ (xy - centre) + shift``."""
    margin = np.array([200.0, 200.0])
    start = CENTRE + shift - linear @ (CENTRE + margin)
    moved = cv2.warpAffine(
        tissue, np.column_stack([linear, start]), SHAPE[::-1], flags=cv2.INTER_CUBIC
    )
    return moved.astype(np.uint8)


def displacement(linear: F64 = STILL, shift: tuple[float, float] = (0.0, 0.0)) -> F64:
    moved: F64 = (PLACES - CENTRE) @ (linear - STILL).T + shift
    return moved


def laid(pixels: U8, grid: Grid = GRID) -> U8:
    out = np.zeros(grid.shape, np.uint8)
    image_to_grid(pixels, grid, out)
    return out


def noisy(pixels: U8, sigma: float, seed: int) -> U8:
    """Add noise of the size of speckle."""
    noise = np.random.default_rng(seed).standard_normal(pixels.shape, np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 1.5) * (sigma * 2 * math.sqrt(math.pi) * 1.5)
    return np.asarray(np.clip(np.rint(pixels + noise), 0, 255), np.uint8)


def motion(before: U8, now: U8, grid: Grid = GRID) -> ProbeMotion | None:
    """Look at two frames one after the other."""
    watch = MotionWatch()
    assert watch.look(laid(before, grid), grid, 0) is None
    return watch.look(laid(now, grid), grid, STEP_NS)


def told(before: U8, now: U8, grid: Grid = GRID) -> ProbeMotion:
    answer = motion(before, now, grid)
    assert answer is not None
    return answer


def turned(degrees: float) -> F64:
    a = math.radians(degrees)
    return np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])


# Exact warps


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(x=st.floats(-40, 40), y=st.floats(-40, 40))
def test_a_shift_is_found_to_a_fifth_of_a_pixel(tissue: U8, x: float, y: float) -> None:
    found = told(warped(tissue), noisy(warped(tissue, shift=(x, y)), 3, 0))
    np.testing.assert_allclose(found.displacement(PLACES), displacement(shift=(x, y)), atol=0.2)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    degrees=st.floats(-2, 2),
    wider=st.floats(0.97, 1.03),
    deeper=st.floats(0.97, 1.03),
    x=st.floats(-10, 10),
    y=st.floats(-10, 10),
)
def test_turning_and_stretching_are_found(
    tissue: U8, degrees: float, wider: float, deeper: float, x: float, y: float
) -> None:
    linear = turned(degrees) @ np.diag([wider, deeper])
    found = told(warped(tissue), warped(tissue, linear, (x, y)))
    true = displacement(linear, (x, y))
    np.testing.assert_allclose(found.displacement(PLACES), true, atol=0.5)
    np.testing.assert_allclose(found.linear, linear - STILL, atol=0.005)


def test_the_answer_is_in_frame_pixels_wherever_the_scan_area_lies(tissue: U8) -> None:
    region = (60, 30, 500, 420)
    shift = (7.0, -4.0)
    grid = fit(SHAPE, (256, 256), region)
    found = told(warped(tissue), warped(tissue, turned(1), shift), grid)
    true = displacement(turned(1), shift)
    np.testing.assert_allclose(found.displacement(PLACES), true, atol=0.3)


@pytest.mark.parametrize("side", [64, 128, 512])
def test_grids_of_other_sizes_do_as_well(tissue: U8, side: int) -> None:
    grid = fit(SHAPE, (side, side))
    found = told(warped(tissue), warped(tissue, shift=(6.0, 3.0)), grid)
    true = displacement(shift=(6.0, 3.0))
    np.testing.assert_allclose(found.displacement(PLACES), true, atol=0.5)


def test_the_inner_part_is_as_good_as_the_whole_grid(tissue: U8) -> None:
    x, y, width, height = GRID.inner
    pictures = [laid(warped(tissue)), laid(warped(tissue, shift=(5.0, 2.0)))]
    watch = MotionWatch()
    watch.look(pictures[0], GRID, 0)
    inner = watch.look(pictures[1][y : y + height, x : x + width], GRID, STEP_NS)
    whole = motion(warped(tissue), warped(tissue, shift=(5.0, 2.0)))
    assert inner is not None
    assert whole is not None
    np.testing.assert_array_equal(inner.shift_px, whole.shift_px)


def test_a_mirrored_picture_moves_mirrored(tissue: U8) -> None:
    before, now = warped(tissue), warped(tissue, turned(0.5), (9.0, 4.0))
    there = told(before, now).displacement(PLACES)
    mirrored_places = np.array([SHAPE[1] - 1, 0]) + PLACES * [-1, 1]
    back = told(before[:, ::-1], now[:, ::-1]).displacement(mirrored_places) * [-1, 1]
    np.testing.assert_allclose(there, back, atol=0.2)


def test_the_stated_variance_is_true() -> None:
    squares = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        tissue, shift = grained(seed), (rng.uniform(-9, 9), rng.uniform(-9, 9))
        before, now = warped(tissue), warped(tissue, shift=shift)
        found = told(noisy(before, 12, seed), noisy(now, 12, seed + 99))
        off = found.displacement(PLACES) - displacement(shift=shift)
        squares.append(np.mean(off**2) / found.noise_px2)
    assert 0.1 < np.mean(squares) < 1.5
    assert np.max(squares) < 9


def test_what_is_vaguer_is_stated_as_vaguer(tissue: U8) -> None:
    before, now = warped(tissue), warped(tissue, shift=(4.0, 1.0))
    sharp = told(before, now).noise_px2
    vague = told(noisy(before, 20, 0), noisy(now, 20, 1)).noise_px2
    assert vague > 2 * sharp


# What moves otherwise


def marked(pixels: U8) -> U8:
    """Write on a frame what a scanner writes: two lines of text, a centre line, a scale."""
    marked = np.array(pixels)
    height, width = marked.shape
    cv2.putText(marked, "DIST 1  2.34 cm", (60, 80), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    cv2.putText(marked, "R FEM V", (width // 2, 430), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 2)
    cv2.line(marked, (width // 2, 0), (width // 2, height), 200, 1)
    for y in range(0, height, height // 8):
        cv2.line(marked, (width - 14, y), (width - 2, y), 220, 1)
    return marked


def test_text_and_marks_on_the_screen_do_not_hold_the_answer_back(tissue: U8) -> None:
    shift = (12.0, 5.0)
    found = told(marked(warped(tissue)), marked(warped(tissue, shift=shift)))
    np.testing.assert_allclose(found.displacement(PLACES), displacement(shift=shift), atol=0.6)


def test_a_part_that_goes_its_own_way_has_no_say(tissue: U8) -> None:
    before, now = warped(tissue), warped(tissue, shift=(6.0, 2.0))
    own = warped(tissue, shift=(-8.0, -5.0))
    now[150:330, 260:420] = own[150:330, 260:420]
    found = told(before, now)
    corners = PLACES[[0, 1, 3]]
    np.testing.assert_allclose(found.displacement(corners), [[6.0, 2.0]] * 3, atol=0.5)


def test_half_a_picture_in_shadow_is_no_hindrance(tissue: U8) -> None:
    before, now = warped(tissue), warped(tissue, shift=(6.0, 2.0))
    for picture in (before, now):
        picture[260:] = 0
    found = told(before, now)
    np.testing.assert_allclose(found.displacement(PLACES[:2]), [[6.0, 2.0]] * 2, atol=0.3)


def beside(still: U8, live: U8, part: float) -> U8:
    """Put a live picture to the right of what stands, on so much of the screen."""
    cut = round(SHAPE[1] * (1 - part))
    return np.hstack([still[: SHAPE[0], :cut], live[:, cut:]])


def text_everywhere() -> U8:
    rng, pixels = np.random.default_rng(0), np.zeros(SHAPE, np.uint8)
    for x, y in rng.integers((-60, 0), SHAPE[::-1], (160, 2)).tolist():
        cv2.putText(pixels, "Frq 10 MHz 12:34", (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 200, 1)
    return pixels


@pytest.mark.parametrize("part", [0.2, 0.3, 0.4])
@pytest.mark.parametrize("shift", [(6.0, 2.0), (2.0, 0.0)])
def test_a_screen_that_mostly_stands_does_not_pass_for_a_still_probe(
    tissue: U8, part: float, shift: tuple[float, float]
) -> None:
    for still in (text_everywhere(), grained(5)):
        before, now = noisy(warped(tissue), 3, 0), noisy(warped(tissue, shift=shift), 3, 1)
        assert motion(beside(still, before, part), beside(still, now, part)) is None


def test_furniture_on_a_third_of_the_screen_does_no_harm(tissue: U8) -> None:
    shift, still = (6.0, 2.0), text_everywhere()
    found = told(
        beside(still, warped(tissue), 0.7), beside(still, warped(tissue, shift=shift), 0.7)
    )
    np.testing.assert_allclose(found.displacement(PLACES[1]), shift, atol=0.3)


def test_a_still_probe_is_told_though_places_shimmer(tissue: U8) -> None:
    """A fifth of the picture is new each time, as lung and fast flow are."""
    before, now = warped(tissue), warped(tissue)
    now[:, :128] = warped(grained(7))[:, :128]
    np.testing.assert_allclose(told(before, now).displacement(PLACES), 0, atol=0.3)


# The phantom's hand

HANDS = {
    "steady": MotionSettings(),
    "slide": MotionSettings(slide_amplitude_mm=4.0, slide_hz=0.25),
    "fast slide": MotionSettings(slide_amplitude_mm=6.0, slide_hz=0.8),
    "press": MotionSettings(press_amplitude=0.6, press_hz=0.5),
    "turn": MotionSettings(turn_amplitude_rad=0.2, turn_hz=0.4),
}


@pytest.mark.parametrize("hand", HANDS)
def test_the_hand_of_the_phantom_is_followed(hand: str) -> None:
    vessels = (
        VesselSettings("vein", -11.0, 12.0, 6.0, 4.5),
        VesselSettings("artery", 6.0, 20.0, 6.0, 6.0),
    )
    phantom = Phantom(PhantomSettings(seed=3, vessels=vessels, motion=HANDS[hand]))
    watch, before, squares, squared_sds = MotionWatch(), None, [], []
    for index in range(20):
        frame = phantom.render(index)
        found = watch.look(laid(frame.pixels), GRID, round(frame.time_s * 1e9))
        places = np.array([vessel.centroid_px for vessel in frame.vessels])
        if before is not None:
            assert found is not None
            squares.append((found.displacement(before) - (places - before)) ** 2)
            squared_sds.append(found.noise_px2)
        before = places
    assert math.sqrt(np.mean(squares)) < 0.1
    assert np.mean(squares) < 1.5 * np.mean(squared_sds)


# Nothing to tell


def test_the_first_picture_tells_nothing(tissue: U8) -> None:
    assert MotionWatch().look(laid(warped(tissue)), GRID, 0) is None


def test_after_a_reset_the_next_picture_is_the_first(tissue: U8) -> None:
    watch, picture = MotionWatch(), laid(warped(tissue))
    watch.look(picture, GRID, 0)
    watch.reset()
    assert watch.look(picture, GRID, STEP_NS) is None
    assert watch.look(picture, GRID, 2 * STEP_NS) is not None


@pytest.mark.parametrize("later_ns", [0, -1, 500_000_001, 10**12])
def test_without_time_between_or_with_too_much_nothing_is_told(tissue: U8, later_ns: int) -> None:
    watch, picture = MotionWatch(), laid(warped(tissue))
    watch.look(picture, GRID, 10**9)
    assert watch.look(picture, GRID, 10**9 + later_ns) is None
    assert watch.look(picture, GRID, 10**9 + later_ns + STEP_NS) is not None


def test_on_another_grid_the_watch_starts_anew(tissue: U8) -> None:
    watch, pixels = MotionWatch(), warped(tissue)
    other = fit(SHAPE, (256, 256), (60, 30, 500, 420))
    watch.look(laid(pixels), GRID, 0)
    assert watch.look(laid(pixels, other), other, STEP_NS) is None
    assert watch.look(laid(pixels, other), other, 2 * STEP_NS) is not None


def test_a_picture_that_comes_twice_did_not_move(tissue: U8) -> None:
    found = told(warped(tissue), warped(tissue))
    assert np.abs(found.displacement(PLACES)).max() < 1e-9


def black(_: int) -> U8:
    return np.zeros(SHAPE, np.uint8)


def even(_: int) -> U8:
    return np.full(SHAPE, 77, np.uint8)


def pixel_noise(seed: int) -> U8:
    return noisy(np.full(SHAPE, 30, np.uint8), 12, seed)


def text_on_noise(seed: int) -> U8:
    return marked(noisy(np.full(SHAPE, 60, np.uint8), 40, seed))


@pytest.mark.parametrize("make", [black, even, grained, pixel_noise, text_on_noise])
def test_pictures_that_have_nothing_in_common_tell_nothing(make: Callable[[int], U8]) -> None:
    answers = [motion(make(2 * i)[:480, :640], make(2 * i + 1)[:480, :640]) for i in range(10)]
    assert answers == [None] * 10


def test_a_step_of_depth_tells_nothing(tissue: U8) -> None:
    for scale in (0.7, 1.3, 1.6):
        assert motion(warped(tissue), warped(tissue, scale * STILL)) is None


@pytest.mark.parametrize("factor", [0.6, 0.8, 1.25, 1.5])
def test_a_step_of_gain_tells_nothing_or_the_truth(tissue: U8, factor: float) -> None:
    now = np.clip(warped(tissue, shift=(6.0, 3.0)) * factor, 0, 255).astype(np.uint8)
    found = motion(warped(tissue), now)
    if found is not None:
        off = np.abs(found.displacement(PLACES) - [6.0, 3.0])
        assert off.max() < 4 * math.sqrt(found.noise_px2)


@settings(max_examples=60, deadline=None)
@given(
    frame=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    grid=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    seed=st.integers(0, 9),
    contrast=st.sampled_from([0, 1, 8, 255]),
)
def test_no_picture_makes_it_fail(
    frame: tuple[int, int], grid: tuple[int, int], seed: int, contrast: int
) -> None:
    rng = np.random.default_rng(seed)
    layout, watch = fit(frame, grid), MotionWatch()
    for index in range(4):
        picture = rng.integers(0, contrast + 1, grid, np.uint8)
        found = watch.look(picture, layout, index * STEP_NS)
        if found is not None:
            assert np.isfinite(found.shift_px).all()
            assert np.isfinite(found.linear).all()
            assert 0 < found.noise_px2 < math.inf


def test_a_picture_that_is_not_the_grids_tells_nothing(tissue: U8) -> None:
    watch, picture = MotionWatch(), laid(warped(tissue))
    watch.look(picture, GRID, 0)
    assert watch.look(picture[:100, :90], GRID, STEP_NS) is None
    assert watch.look(picture, GRID, 2 * STEP_NS) is None
    assert watch.look(picture, GRID, 3 * STEP_NS) is not None


# As an object


def test_the_picture_is_only_read_and_not_kept(tissue: U8) -> None:
    buffer = laid(warped(tissue))
    watch = MotionWatch()
    buffer.flags.writeable = False
    watch.look(buffer, GRID, 0)
    buffer.flags.writeable = True
    buffer[:] = laid(warped(tissue, shift=(8.0, 0.0)))
    found = watch.look(buffer, GRID, STEP_NS)
    assert found is not None
    np.testing.assert_allclose(found.displacement(PLACES), [[8.0, 0.0]] * 4, atol=0.2)


def test_answers_depend_on_nothing_but_the_pictures(tissue: U8) -> None:
    pictures = [laid(warped(tissue, shift=(3.0 * i, -i))) for i in range(4)]
    alone, beside, other = MotionWatch(), MotionWatch(), MotionWatch()
    for index, picture in enumerate(pictures):
        other.look(pictures[-1 - index], GRID, index * STEP_NS)
        first = alone.look(picture, GRID, index * STEP_NS)
        second = beside.look(picture, GRID, index * STEP_NS)
        if first is not None:
            assert second is not None
            np.testing.assert_array_equal(first.linear, second.linear)
            np.testing.assert_array_equal(first.shift_px, second.shift_px)


@pytest.mark.parametrize(
    ("name", "value"),
    [("gap_s", 0.0), ("scatter_px", -1.0), ("floor_px", math.nan), ("points", 5), ("window_px", 2)],
)
def test_settings_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        ProbeMotionSettings(**{name: value})  # type: ignore[arg-type]


# Real pictures


def test_real_stills_under_new_speckle_are_followed(recordings: Path) -> None:
    """Layers run across these: along them a picture slips more easily than in depth."""
    squares, squared_sds = [], []
    for seed, path in enumerate(sorted((recordings / "vessels" / "images").glob("*.png"))[::20]):
        still = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)
        height, width = still.shape
        grid = fit((height, width), (256, 256))
        rng = np.random.default_rng(seed)
        shift = rng.uniform(-8, 8, 2)
        move = np.column_stack([STILL, shift])
        moved = np.asarray(cv2.warpAffine(still, move, (width, height)), np.uint8)
        found = motion(noisy(still, 8, 2 * seed), noisy(moved, 8, 2 * seed + 1), grid)
        if found is not None:
            middle = np.array([width / 2, height / 2])
            squares.append((found.displacement(middle) - shift) ** 2)
            squared_sds.append(found.noise_px2)
    assert len(squares) >= 9  # of 10
    assert math.sqrt(np.mean(squares)) < 0.6
    assert np.median(np.max(squares, axis=1) / squared_sds) < 2
