"""The phantom: exact truth, honest speckle, frames that depend on nothing but their index."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veintrack.tracker import phantom as phantom_module
from veintrack.tracker.frame import F64, U8
from veintrack.tracker.phantom import (
    BoneSettings,
    MotionSettings,
    Phantom,
    PhantomSettings,
    SheathSettings,
    TissueSettings,
    VesselSettings,
    demo_settings,
    random_settings,
    random_still,
)
from veintrack.tracker.phantom_field import white_noise
from veintrack.tracker.phantom_layers import lay_layers
from veintrack.tracker.phantom_lumen import Lumen, lumen_at
from veintrack.tracker.phantom_tissue import spread_points, tissue_power

PLAIN = TissueSettings(nerves=0, bellies=0, planes=0, shadows=0)
CALM = replace(PLAIN, waviness_mm=0.0, streak_db=0.0, fascia_db=-120.0)
VEIN = VesselSettings("vein", 0.0, 15.0, 9.0, 5.0, 0.3, (0.1, -0.15))
ARTERY = VesselSettings("artery", 0.0, 15.0, 7.0, 6.8, pulse_fraction=0.1)


def small(**changes: object) -> PhantomSettings:
    base = PhantomSettings(height_px=240, width_px=320, depth_mm=30.0, tissue=PLAIN)
    return replace(base, **changes)  # type: ignore[arg-type]


def label_centroid(labels: U8, number: int) -> F64:
    rows, columns = np.nonzero(labels == number)
    return np.array([columns.mean(), rows.mean()])


def bent() -> st.SearchStrategy[Lumen]:
    bend = st.floats(-0.4, 0.4)
    return st.builds(
        Lumen,
        st.tuples(st.floats(50, 60), st.floats(50, 60)),
        st.tuples(st.floats(20, 30), st.floats(8, 20)),
        st.floats(-3, 3),
        st.tuples(bend, bend),
        st.just(True),
    )


@given(bent())
@settings(deadline=None, max_examples=40)
def test_lumen_area_and_centroid_are_those_of_its_outline(lumen: Lumen) -> None:
    x, y = lumen.outline_px(4096).T
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y  # Green's theorem on a polygon
    area = cross.sum() / 2
    cx = ((x + np.roll(x, -1)) * cross).sum() / (6 * area)
    cy = ((y + np.roll(y, -1)) * cross).sum() / (6 * area)
    assert area == pytest.approx(lumen.area_px2, rel=1e-4)
    assert (cx, cy) == pytest.approx(lumen.centroid_px, abs=1e-3)


@given(bent())
@settings(deadline=None, max_examples=40)
def test_outline_lies_on_the_unit_circle(lumen: Lumen) -> None:
    p, q = lumen.to_disc(*lumen.outline_px(64).T)
    assert np.hypot(p, q) == pytest.approx(np.ones(64), abs=1e-9)


def test_white_scatterers_keep_their_variance_and_become_rayleigh() -> None:
    rng = np.random.default_rng(3)
    white = rng.standard_normal((600, 800, 2)).astype(np.float32) * np.float32(math.sqrt(0.5))
    width_px = np.linspace(1.5, 4, 600).astype(np.float32)
    field = spread_points(white, 1.2, width_px)[20:-20, 20:-20]
    envelope = np.hypot(field[..., 0], field[..., 1])
    assert np.mean(envelope**2) == pytest.approx(1, rel=0.03)
    # A Rayleigh variable's mean is 1.913 times its standard deviation.
    assert envelope.mean() / envelope.std() == pytest.approx(1.913, rel=0.03)
    for quantile in (0.1, 0.5, 0.9):
        expected = math.sqrt(-math.log(1 - quantile))
        assert np.quantile(envelope, quantile) == pytest.approx(expected, rel=0.03)


def test_point_spread_widens_away_from_the_focus() -> None:
    points = np.zeros((120, 200, 2), np.float32)
    points[60, 50, 0] = points[110, 150, 0] = 1
    lateral_px = (1.5 + 0.05 * np.abs(np.arange(120) - 60)).astype(np.float32)
    spread = spread_points(points, 1.0, lateral_px)[..., 0]
    at_focus, below = spread[60] / spread[60].max(), spread[110] / spread[110].max()
    assert (below > 0.5).sum() > 1.5 * (at_focus > 0.5).sum()


def test_speckle_of_a_rendered_frame_is_rayleigh_before_compression() -> None:
    tissue = replace(
        PLAIN, smoothing_px=0.0, noise_db=-150.0, noise_db_mm=0.0, streak_db=0.0,
        fascia_db=-120.0, waviness_mm=0.0, muscle_mm=100.0, attenuation_db_mm=0.0,
    )  # fmt: skip
    made = small(tissue=tissue, dynamic_range_db=100.0, height_px=480, width_px=640)
    pixels = Phantom(made).render(0).pixels[200:].astype(float)
    db = pixels / 255 * 100
    db -= cv2.GaussianBlur(db, (0, 0), 12)  # layers' own uneven brightness
    envelope = 10 ** (db / 20)
    assert envelope.mean() / envelope.std() == pytest.approx(1.913, rel=0.06)


@pytest.mark.parametrize("index", [0, 7, 23])
@pytest.mark.parametrize("vessel", [VEIN, ARTERY])
def test_exact_centroid_agrees_with_the_labels(vessel: VesselSettings, index: int) -> None:
    moving = replace(vessel, sway_mm=0.5)
    motion = MotionSettings(slide_amplitude_mm=2.0, slide_hz=0.4, press_amplitude=0.3)
    made = small(vessels=(moving,), motion=motion, margins_px=(17, 11, 5, 9), width_px=400)
    frame = Phantom(made).render(index)
    truth = frame.vessels[0]
    assert truth.visible
    assert truth.centroid_px == pytest.approx(label_centroid(frame.labels, 1), abs=0.1)
    assert truth.area_px2 == pytest.approx((frame.labels == 1).sum(), rel=0.01)


def test_centroid_of_a_cut_vessel_is_that_of_the_visible_part() -> None:
    made = small(vessels=(replace(VEIN, x_mm=-20.0),))
    frame = Phantom(made).render(0)
    truth = frame.vessels[0]
    assert truth.visible
    assert truth.centroid_px == pytest.approx(label_centroid(frame.labels, 1), abs=1e-9)
    assert truth.area_px2 == (frame.labels == 1).sum()


def test_vessel_out_of_view_is_not_visible() -> None:
    frame = Phantom(small(vessels=(replace(VEIN, x_mm=40.0), ARTERY))).render(0)
    assert [v.visible for v in frame.vessels] == [False, True]
    assert [v.id for v in frame.vessels] == [1, 2]
    assert np.isnan(frame.vessels[0].centroid_px).all()
    assert frame.vessels[0].area_px2 == 0
    assert set(np.unique(frame.labels)) == {0, 2}


def test_pressing_closes_a_vein_but_not_an_artery_and_letting_go_opens_it() -> None:
    vessels = (replace(VEIN, x_mm=-9.0), replace(ARTERY, x_mm=9.0))
    motion = MotionSettings(press_windows_s=((1.0, 3.0),))
    phantom = Phantom(small(vessels=vessels, motion=motion))
    seen = [[v.visible for v in phantom.render(i).vessels] for i in (0, 60, 120)]
    assert seen == [[True, True], [False, True], [True, True]]


def test_pressing_brings_deep_structures_nearer() -> None:
    motion = MotionSettings(press_amplitude=0.5, press_hz=0.5)
    phantom = Phantom(small(vessels=(ARTERY,), motion=motion))
    rest, pressed = (phantom.render(i).vessels[0].centroid_px for i in (0, 30))
    assert pressed[1] < rest[1] - 5


def test_lifting_darkens_the_picture_and_hides_the_vessels() -> None:
    motion = MotionSettings(lift_windows_s=((1.0, 3.0),))
    phantom = Phantom(small(vessels=(VEIN,), motion=motion))
    on, off = phantom.render(0), phantom.render(60)
    assert off.pixels[60:].mean() < 0.5 * on.pixels[60:].mean()
    assert off.pixels[:6].mean() > 2 * off.pixels[60:].mean()  # ringing at the face stays
    assert not off.vessels[0].visible
    assert not off.labels.any()


def test_artery_pulses_at_its_rate() -> None:
    phantom = Phantom(small(vessels=(replace(ARTERY, pulse_hz=1.5),)))
    area = np.array([phantom.render(i).vessels[0].area_px2 for i in range(60)])
    spectrum = np.abs(np.fft.rfft(area - area.mean()))
    assert np.fft.rfftfreq(60, 1 / 30)[spectrum.argmax()] == pytest.approx(1.5)
    assert 0.15 < area.max() / area.min() - 1 < 0.25  # twice the diameter's 10 %


@pytest.mark.parametrize("kind", ["slide", "press"])
def test_speckle_moves_with_the_tissue(kind: str) -> None:
    motion = (
        MotionSettings(slide_amplitude_mm=3.0, slide_hz=0.25)
        if kind == "slide"
        else MotionSettings(press_amplitude=0.4, press_hz=0.5)
    )
    phantom = Phantom(small(motion=motion))
    before, after = (phantom.render(i).pixels.astype(np.float32) for i in (0, 30))
    spacing = phantom.spacing_mm[0]
    if kind == "slide":
        expected = (-3.0 / spacing, 0.0)
    else:
        row = 120
        expected = (0.0, row / (1 + 0.15 * 0.4) - row)
    patch = before[100:140, 120:200]
    found = cv2.minMaxLoc(cv2.matchTemplate(after, patch, cv2.TM_CCOEFF_NORMED))
    assert found[1] > 0.7
    assert found[3][0] - 120 == pytest.approx(expected[0], abs=1.5)
    assert found[3][1] - 100 == pytest.approx(expected[1], abs=1.5)


def test_noise_is_fresh_in_every_frame_while_tissue_stays() -> None:
    made = small(bone=BoneSettings(depth_mm=12.0, half_width_mm=40.0, drop_mm=0.0))
    phantom = Phantom(replace(made, gain_db=15.0))
    first, second = (phantom.render(i).pixels.astype(float) for i in (0, 1))
    above, shadow = slice(20, 80), slice(150, 240)
    assert np.corrcoef(first[above].ravel(), second[above].ravel())[0, 1] > 0.95
    assert abs(np.corrcoef(first[shadow].ravel(), second[shadow].ravel())[0, 1]) < 0.3


def test_lumen_is_darker_than_what_lies_around_it() -> None:
    frame = Phantom(small(vessels=(VEIN,))).render(0)
    inside = frame.labels == 1
    ring = (cv2.dilate(frame.labels, np.ones((25, 25), np.uint8)) == 1) & ~inside
    assert frame.pixels[inside].mean() < 0.65 * frame.pixels[ring].mean()


def _greys_around(lumen: VesselSettings, seeds: int, end_mm: float) -> tuple[F64, F64]:
    """Mean grey in rings of 0.1 mm about a round lumen in even tissue; and their radii, mm."""
    lumen = replace(lumen, sheath_db=0.0, enhancement_db=0.0, haze=0.0)
    made = small(vessels=(lumen,), tissue=replace(CALM, looks=4))
    frames = [Phantom(replace(made, seed=seed)).render(0) for seed in range(seeds)]
    pixels = np.mean([frame.pixels for frame in frames], axis=0)
    (truth,) = frames[0].vessels
    rows, columns = np.indices(pixels.shape)
    off_px = np.hypot(columns - truth.centroid_px[0], rows - truth.centroid_px[1])
    off_mm = off_px * made.mm_per_px
    rings_mm = np.arange(3.0, end_mm, 0.1)
    grey = [pixels[(off_mm >= r) & (off_mm < r + 0.1)].mean() for r in rings_mm]
    return np.array(grey), rings_mm + 0.05


@pytest.mark.parametrize("edge_mm", [0.05, 0.15, 0.3, 0.4])
def test_the_picture_turns_from_tissue_to_blood_at_the_border_however_soft(edge_mm: float) -> None:
    lumen = VesselSettings("artery", 0.0, 15.0, 10.0, 10.0, edge_mm=edge_mm, wall_db=-80.0)
    grey, radii_mm = _greys_around(lumen, seeds=4, end_mm=8.0)
    half = (np.mean(grey[:10]) + np.mean(grey[-10:])) / 2
    assert np.interp(half, grey, radii_mm) == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("blood_db", [-60.0, -48.0, -40.0])
@pytest.mark.parametrize("wall", [(-80.0, 0.3, 0.0), (-12.0, 0.7, 0.0), (-20.0, 0.5, 8.0)])
@pytest.mark.parametrize("edge_mm", [0.05, 0.2, 0.4])
def test_the_border_shows_where_it_is_at_any_contrast_and_wall(
    edge_mm: float, wall: tuple[float, float, float], blood_db: float
) -> None:
    lumen = VesselSettings("artery", 0.0, 15.0, 10.0, 10.0, edge_mm=edge_mm, blood_db=blood_db)
    lumen = replace(lumen, wall_db=wall[0], wall_mm=wall[1], far_wall_db=wall[2])
    grey, radii_mm = _greys_around(lumen, seeds=3, end_mm=9.0)
    half = (np.mean(grey[:8]) + np.mean(grey[-8:])) / 2
    first = int(np.argmax(grey >= half))  # beyond a bright wall it is darker again
    beside = slice(first - 1, first + 1)
    seen_mm = np.interp(half, grey[beside], radii_mm[beside])
    assert seen_mm == pytest.approx(5.0, abs=max(0.1, 0.3 * edge_mm))


def test_bone_casts_a_shadow() -> None:
    bone = BoneSettings(depth_mm=12.0, half_width_mm=6.0, drop_mm=1.0)
    pixels = Phantom(small(bone=bone)).render(0).pixels
    behind, beside = pixels[130:220, 145:175], pixels[130:220, 10:60]
    assert behind.mean() < 0.4 * beside.mean()
    assert pixels[90:105, 145:175].max() > 200


def test_margins_are_black() -> None:
    frame = Phantom(small(margins_px=(20, 10, 30, 40), vessels=(VEIN,))).render(3)
    inner = np.zeros((240, 320), bool)
    inner[10:200, 20:290] = True
    assert frame.pixels.shape == frame.labels.shape == (240, 320)
    assert not frame.pixels[~inner].any()
    assert frame.pixels[inner].mean() > 10


def test_more_gain_is_brighter() -> None:
    dark, bright = (Phantom(small(gain_db=g)).render(0).pixels.mean() for g in (-6.0, 6.0))
    assert bright > dark + 20


def test_a_frame_depends_on_settings_and_index_alone() -> None:
    made = replace(demo_settings(seed=4), height_px=240, width_px=320)
    one, two = Phantom(made), Phantom(made)
    forward = [one.render(i) for i in (0, 5, 11)]
    backward = [two.render(i) for i in (11, 5, 0)][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert a.pixels.tobytes() == b.pixels.tobytes()
        assert a.labels.tobytes() == b.labels.tobytes()
        assert [v.centroid_px.tolist() for v in a.vessels] == [
            v.centroid_px.tolist() for v in b.vessels
        ]
    assert Phantom(replace(made, seed=5)).render(0).pixels.tobytes() != forward[0].pixels.tobytes()


@pytest.mark.parametrize("shape", [(480, 640), (480, 480)])
def test_demo_vessels_stay_open_and_whole_for_ten_seconds(shape: tuple[int, int]) -> None:
    made = demo_settings(0, *shape)
    centre = made.width_px / 2, made.height_px / 2
    for index in range(300):
        time_s = index / 30
        press, slide = made.motion.press(time_s), made.motion.slide_mm(time_s)
        for vessel in made.vessels:
            lumen = lumen_at(vessel, time_s, press, centre, 1 / made.mm_per_px)
            assert lumen.open
            assert lumen.semi_px[1] > 0.6 * vessel.minor_mm / made.mm_per_px / 2
            reach_mm = abs(vessel.x_mm) + abs(slide) + vessel.sway_mm + vessel.major_mm / 2
            assert reach_mm < made.mm_per_px * made.width_px / 2
    truths = Phantom(made).render(40).vessels
    assert sorted(v.kind for v in truths) == ["artery", "vein", "vein"]
    assert all(v.visible for v in truths)


@pytest.fixture(scope="module")
def stills() -> list[tuple[U8, U8]]:
    return [random_still(seed, 120, 160) for seed in range(60)]


def scan_area(pixels: U8) -> U8:
    return pixels[pixels.any(axis=1)][:, pixels.any(axis=0)]


def test_random_stills_are_varied_and_reproducible(stills: list[tuple[U8, U8]]) -> None:
    for pixels, mask in stills:
        assert pixels.shape == mask.shape == (120, 160)
        assert pixels.dtype == mask.dtype == np.uint8
        assert mask.max() <= 1
    counts = [cv2.connectedComponents(mask)[0] - 1 for _, mask in stills]
    assert min(counts) == 0
    assert max(counts) >= 3
    again = random_still(7, 120, 160)
    assert again[0].tobytes() == stills[7][0].tobytes()
    assert again[1].tobytes() == stills[7][1].tobytes()


@pytest.mark.parametrize("shape", [(32, 32), (48, 90), (100, 120), (300, 160)])
def test_random_stills_come_in_any_size(shape: tuple[int, int]) -> None:
    for seed in range(6):
        pixels, mask = random_still(seed, *shape)
        assert pixels.shape == mask.shape == shape
        assert pixels.any()


def overlaps(a: VesselSettings, b: VesselSettings) -> bool:
    gap_mm = math.hypot(a.x_mm - b.x_mm, a.depth_mm - b.depth_mm)
    return gap_mm <= (a.major_mm + b.major_mm) / 2


def test_random_vessels_keep_clear_of_each_other_but_for_a_branch() -> None:
    branches = 0
    for seed in range(100):
        vessels = random_settings(np.random.default_rng(seed), 480, 640).vessels
        pairs = [(a, b) for i, a in enumerate(vessels) for b in vessels[i + 1 :] if overlaps(a, b)]
        branch = {id(b) for _, b in pairs}
        assert len(branch) <= 1
        assert not branch or id(vessels[-1]) in branch
        branches += len(branch)
    assert 5 < branches < 30


def test_random_lumens_are_darker_than_around_some_clearly_some_barely(
    stills: list[tuple[U8, U8]],
) -> None:
    contrast = []
    for pixels, mask in stills:
        near = cv2.dilate(mask, np.ones((9, 9), np.uint8))
        ring = (near > mask) & (pixels > 0)
        if mask.sum() > 50:
            lumen, around = pixels[mask > 0].mean(), pixels[ring].mean()
            contrast.append((around - lumen) / (around + lumen))
    # Stills of a linear probe (usgra-seg) have quartiles of 0.3, 0.4 and 0.55.
    low, middle, high = np.quantile(contrast, (0.1, 0.5, 0.9))
    assert 0.05 < low < 0.3
    assert 0.25 < middle < 0.55
    assert high > 0.5


def test_random_lumens_are_not_always_the_darkest_part_of_the_picture(
    stills: list[tuple[U8, U8]],
) -> None:
    darker_part = [
        (scan_area(pixels) < pixels[mask > 0].mean()).mean()
        for pixels, mask in stills
        if mask.sum() > 50
    ]
    assert 0.15 < np.median(darker_part) < 0.5  # 0.35 in the same stills


def test_random_stills_are_dark_with_bright_lines_as_real_ones_are(
    stills: list[tuple[U8, U8]],
) -> None:
    scans = [scan_area(pixels) for pixels, _ in stills]
    assert 25 < np.median([np.median(scan) for scan in scans]) < 55
    assert np.median([np.quantile(scan, 0.995) for scan in scans]) > 150


def test_a_vessel_that_does_not_show_is_not_marked() -> None:
    pixels = np.full((60, 80), 40, np.uint8)
    inside = np.zeros(pixels.shape, bool)
    inside[20:40, 30:50] = True
    assert not phantom_module._stands_out(pixels, inside, inside)
    pixels[inside] = 20
    assert phantom_module._stands_out(pixels, inside, inside)


def test_averaging_looks_calms_speckle_and_keeps_its_mean() -> None:
    one, four = (
        tissue_power(replace(CALM, looks=looks), None, (200, 300), 0.1, np.random.default_rng(2))
        for looks in (1, 4)
    )
    assert four.mean() == pytest.approx(one.mean(), rel=0.1)
    one, four = (power / cv2.GaussianBlur(power, (0, 0), 8) for power in (one, four))
    assert four.std() == pytest.approx(one.std() / 2, rel=0.15)


def test_white_noise_is_gaussian_to_three_moments_and_reproducible() -> None:
    made = [white_noise((300, 400), 2.0, np.random.default_rng(1)) for _ in range(2)]
    assert made[0].tobytes() == made[1].tobytes()
    assert made[0].mean() == pytest.approx(0, abs=0.03)
    assert made[0].std() == pytest.approx(2, rel=0.01)
    assert (made[0] ** 3).mean() == pytest.approx(0, abs=0.3)


def test_compartments_divide_the_muscle_and_leave_the_fat() -> None:
    plain = replace(CALM, streak_db=0.0)
    echo = [
        lay_layers(replace(plain, compartments=n), (300, 300), 0.1, np.random.default_rng(5))[0]
        for n in (0.0, 2.0)
    ]
    changed = np.abs(echo[1] - echo[0])
    assert changed[:30].max() == pytest.approx(0, abs=1e-4)
    assert changed[150:].mean() > 1


def test_sheath_brightens_where_it_is() -> None:
    sheath = SheathSettings(0.0, 12.0, 6.0, 3.0, echo_db=8.0)
    plain, bright = (
        Phantom(small(sheaths=sheaths)).render(0).pixels for sheaths in ((), (sheath,))
    )
    gain = bright.astype(float) - plain
    assert gain[80:110, 140:180].mean() > 10
    assert abs(gain[80:110, :40].mean()) < 5


def test_haze_lies_under_the_near_wall() -> None:
    round_vein = replace(VEIN, angle_rad=0.0, minor_mm=8.0, bend=(0.0, 0.0), blood_grain=0.0)
    hazy = replace(round_vein, haze=15.0, haze_from=1.0)
    frame = Phantom(small(vessels=(hazy,), gain_db=10.0)).render(0)
    rows = np.nonzero((frame.labels == 1).any(axis=1))[0]
    near, far = rows[8:20], rows[-20:-8]
    middle = slice(150, 170)
    assert frame.pixels[near, middle].mean() > frame.pixels[far, middle].mean() + 15


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VesselSettings("lymph", 0, 5, 4, 3), "kind must be"),  # type: ignore[arg-type]
        (lambda: VesselSettings("vein", 0, 5, 3, 4), "major_mm >= minor_mm > 0, got 3, 4"),
        (lambda: replace(VEIN, bend=(0.5, 0.0)), "bend must lie between -0.4 and 0.4"),
        (lambda: replace(VEIN, closing_press=0.0), "closing_press must be positive, got 0.0"),
        (lambda: replace(VEIN, haze_from=2.0), "haze_from must lie between 0 and 1, got 2.0"),
        (lambda: TissueSettings(looks=0), "looks must be at least 1, got 0"),
        (lambda: TissueSettings(noise_grain=1.5), "noise_grain must lie between 0 and 1, got 1.5"),
        (lambda: SheathSettings(0, 9, 0, 1), "half sizes must be positive"),
        (lambda: MotionSettings(press_amplitude=2.0), "press_amplitude must lie between 0 and 1"),
        (lambda: MotionSettings(lift_windows_s=((2.0, 1.0),)), "must start before it ends"),
        (lambda: small(margins_px=(-1, 0, 0, 0)), "margins_px must not be negative"),
        (lambda: small(margins_px=(300, 0, 0, 0)), "scan area must be at least 32x32 px"),
        (lambda: small(rate_hz=0.0), "rate_hz must be positive, got 0.0"),
        (lambda: small(vessels=(VEIN,) * 256), "at most 255 vessels, got 256"),
        (lambda: Phantom(small()).render(-1), "index must not be negative, got -1"),
    ],
)
def test_misuse_is_named(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()
