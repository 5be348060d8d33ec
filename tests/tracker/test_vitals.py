"""Collapse, pulse and likeness over time: closed forms, bad frames, gaps, the phantom's truth."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veintrack.tracker.detect import detect
from veintrack.tracker.frame import Detection, Spacing
from veintrack.tracker.grid import fit, mask_to_grid
from veintrack.tracker.phantom import MotionSettings, Phantom, PhantomSettings, VesselSettings
from veintrack.tracker.vitals import Cues, Vitals, VitalSigns, vein_likeness

NONE = VitalSigns()
Size = Callable[[float], tuple[float, float]]  # time -> major and minor axis


def seen(major: float, minor: float, y: float = 120.0, oval: float = 1.0) -> Detection:
    """See an outline, which fills so much of the ellipse with its axes."""
    return Detection(
        centroid_px=np.array([100.0, y]),
        covariance_px2=np.eye(2),
        area_px2=oval * math.pi * major * minor / 4,
        axes_px=(major, minor),
        angle_rad=0.0,
        score=0.9,
        box_px=(60.0, 90.0, 80.0, 60.0),
    )


def watch(
    size: Size,
    seconds: float = 5.0,
    rate_hz: float = 25.0,
    vitals: Vitals | None = None,
    spacing_mm: Spacing | None = (0.1, 0.1),
    start_s: float = 0.0,
) -> VitalSigns:
    """Watch a vessel; a minor axis of 0 is one that is pressed flat, below 0 one not seen."""
    vitals, signs = vitals or Vitals(), NONE
    for i in range(round(seconds * rate_hz) + 1):
        time_s = start_s + i / rate_hz
        major, minor = size(time_s)
        if minor > 0:
            vitals.add(round(time_s * 1e9), seen(major, minor), spacing_mm)
        else:
            vitals.miss(round(time_s * 1e9), collapsed=minor == 0)
        signs = vitals.signs()
    return signs


def breathing(depth: float, hz: float = 0.3) -> Size:
    return lambda t: (60.0, 40 * (1 - depth * (1 - math.cos(2 * math.pi * hz * t)) / 2))


def pulsing(hz: float, strength: float) -> Size:
    def size(t: float) -> tuple[float, float]:
        k = 1 + strength / 2 * math.sin(2 * math.pi * hz * t)
        return 42 * k, 40 * k

    return size


def test_before_enough_was_seen_nothing_is_said() -> None:
    assert watch(breathing(0.5), seconds=1.8) == NONE
    early = watch(breathing(0.5), seconds=2.5)
    assert early.collapse is not None
    assert early.vein_likeness is None
    assert watch(breathing(0.5), seconds=4.0).vein_likeness is not None
    assert Vitals().signs() == NONE


@given(depth=st.floats(0.05, 0.95), rate=st.floats(10, 120), start=st.floats(0, 1e6))
@settings(max_examples=25, deadline=None)
def test_collapse_is_the_change_of_the_minor_axis_as_a_part_of_the_largest(
    depth: float, rate: float, start: float
) -> None:
    signs = watch(breathing(depth), rate_hz=rate, start_s=start)
    assert signs.collapse == pytest.approx(depth, abs=0.02)


def test_collapse_does_not_depend_on_units() -> None:
    in_px = watch(breathing(0.4), spacing_mm=None)
    assert in_px.collapse == pytest.approx(watch(breathing(0.4)).collapse)


def test_in_unequal_spacing_the_axes_in_millimetres_count() -> None:
    # Rows are four times as far apart: what is the minor axis in px is the major one in mm.
    signs = watch(breathing(0.4), spacing_mm=(0.4, 0.1))
    assert signs.collapse == pytest.approx(0.0, abs=0.01)


def test_single_bad_frames_make_no_collapse() -> None:
    def size(t: float) -> tuple[float, float]:
        bad = round(t * 25) % 20 == 7
        return (60.0, 15.0 if bad else 40 + 0.2 * math.sin(40 * t))

    assert watch(size).collapse == pytest.approx(0.01, abs=0.01)


def test_an_outline_that_now_and_then_is_another_changes_nothing() -> None:
    """A sixth of the time it takes in a neighbour, or is only a part, for a few frames."""

    def look(strays: bool) -> tuple[VitalSigns, Cues]:
        vitals = Vitals()
        for i in range(110):
            t, turn = i / 25, i % 36
            k = 1 + 0.03 * math.sin(2 * math.pi * 1.2 * t)
            major, minor, y = 44 * k, 40 * k, 120.0
            if strays and turn < 3:
                major, minor, y = 90 * k, 45 * k, 140.0
            elif strays and 18 <= turn < 21:
                major, minor, y = 42 * k, 18 * k, 110.0
            vitals.add(i * 40_000_000, seen(major, minor, y), None)
            signs = vitals.signs()
        assert vitals.cues is not None
        return signs, vitals.cues[0]

    (signs, cues), (quiet, usual) = look(True), look(False)
    assert quiet.pulse_hz is not None
    assert signs.collapse == pytest.approx(quiet.collapse, abs=0.005)
    assert signs.pulse_hz == pytest.approx(quiet.pulse_hz, abs=0.02)
    assert cues == pytest.approx(usual, abs=0.01)
    assert signs.vein_likeness == pytest.approx(quiet.vein_likeness, abs=0.05)


@pytest.mark.parametrize("start_s", [1.0, 1.13, 2.07, 2.5])
@pytest.mark.parametrize(("base_s", "least"), [(0.7, 0.38), (1.0, 0.44), (2.0, 0.5)])
def test_one_squeeze_of_a_still_vessel_is_no_stray_outline(
    start_s: float, base_s: float, least: float
) -> None:
    vitals = Vitals()
    for i in range(110):
        part = (i / 25 - start_s) / base_s
        press = math.sin(math.pi * part) ** 2 if 0 < part < 1 else 0.0
        one = seen(60 * (1 + 0.06 * press), 40 * (1 - 0.5 * press), 120 * (1 - 0.06 * press))
        vitals.add(i * 40_000_000, one, None)
        signs = vitals.signs()
    assert signs.collapse == pytest.approx(0.5, abs=0.03)
    assert vitals.cues is not None
    assert vitals.cues[0].flattening > least  # of 0.53: form is a median over 0.4 s


def test_an_outline_that_is_no_oval_leaves_doubt() -> None:
    def look(oval: float) -> tuple[float, float]:
        vitals, signs = Vitals(), NONE
        for i in range(110):
            k = 1 + 0.02 * math.sin(2 * math.pi * 1.2 * i / 25)
            vitals.add(i * 40_000_000, seen(60 * k, 33 * k, oval=oval), None)
            signs = vitals.signs()
        assert signs.vein_likeness is not None
        assert signs.vein_likeness_sd is not None
        return signs.vein_likeness, signs.vein_likeness_sd

    (clear, little), (unclear, much) = look(1.0), look(0.9)
    assert 0.5 < unclear < clear
    assert much > 2 * little


def test_a_pulse_that_noise_may_hide_is_unknown_and_not_none() -> None:
    def look(noise: float) -> tuple[Cues, Cues]:
        rng, vitals, signs = np.random.default_rng(3), Vitals(), NONE
        for i in range(110):
            k = 1 + rng.normal(0, noise)
            vitals.add(i * 40_000_000, seen(60 * k, 40 * k), None)
            signs = vitals.signs()
        assert signs.pulse_hz is None
        assert vitals.cues is not None
        return vitals.cues

    (quiet, quiet_sd), (noisy, noisy_sd) = look(0.0005), look(0.1)
    assert quiet.pulse == pytest.approx(0.0, abs=0.005)
    assert noisy.pulse == pytest.approx(0.06)
    assert noisy_sd.pulse > 3 * quiet_sd.pulse


def test_pressed_flat_is_a_collapse_of_one_and_merely_unseen_is_none() -> None:
    assert watch(lambda t: (60.0, 0.0 if 3 < t < 3.5 else 40.0)).collapse == pytest.approx(1.0)
    assert watch(lambda t: (60.0, -1.0 if 3 < t < 3.5 else 40.0)).collapse == pytest.approx(0.0)


@pytest.mark.parametrize("hz", [0.8, 1.2, 1.9, 2.5])
@pytest.mark.parametrize("rate", [15.0, 25.0, 60.0])
def test_a_pulse_is_found_with_its_strength(hz: float, rate: float) -> None:
    signs = watch(pulsing(hz, 0.08), rate_hz=rate)
    assert signs.pulse_hz == pytest.approx(hz, abs=0.1)
    assert signs.pulse_strength == pytest.approx(0.08, abs=0.01)
    assert signs.collapse == pytest.approx(0.08 / 1.04, abs=0.01)


def test_at_five_frames_a_second_there_is_collapse_and_no_pulse() -> None:
    signs = watch(pulsing(1.2, 0.1), rate_hz=5, seconds=8)
    assert signs.pulse_hz is None
    assert signs.collapse == pytest.approx(0.095, abs=0.01)
    assert signs.vein_likeness_sd is not None
    told = watch(pulsing(1.2, 0.1), seconds=8).vein_likeness_sd
    assert told is not None
    assert signs.vein_likeness_sd > told


def test_what_is_older_than_the_window_is_forgotten() -> None:
    vitals = Vitals()
    assert watch(breathing(0.6), vitals=vitals).collapse == pytest.approx(0.6, abs=0.02)
    signs = watch(breathing(0), vitals=vitals, start_s=5.1)
    assert signs.collapse == pytest.approx(0.0, abs=0.01)
    assert signs.pulse_hz is None
    unseen = watch(lambda _: (60.0, -1.0), vitals=vitals, start_s=10.2, seconds=6)
    assert unseen == NONE


def test_a_window_of_another_length_is_kept() -> None:
    signs = watch(lambda t: (60.0, 30.0 if t < 1 else 40.0), seconds=8, vitals=Vitals(10.0))
    assert signs.collapse == pytest.approx(0.25)
    with pytest.raises(ValueError, match="window_s must be greater than 0, got 0"):
        Vitals(0)


def test_a_frame_that_is_repeated_or_late_is_no_further_evidence() -> None:
    once, twice = Vitals(), Vitals()
    for i in range(120):
        one = seen(60, 40 + (i % 7))
        once.add(i * 40_000_000, one, None)
        twice.add(i * 40_000_000, one, None)
        twice.add(i * 40_000_000, seen(60, 10), None)
        twice.miss(max(0, i - 3) * 40_000_000, collapsed=True)
        assert once.signs() == twice.signs()


def test_where_spacing_becomes_known_the_window_begins_anew() -> None:
    vitals = Vitals()
    watch(breathing(0.3), vitals=vitals, spacing_mm=None)
    assert watch(breathing(0.3), vitals=vitals, start_s=5.1, seconds=1.5) == NONE


def test_a_vessel_that_flattens_is_a_vein_and_one_that_keeps_round_under_the_hand_is_not() -> None:
    def look(pressed: Callable[[float], tuple[float, float, float]]) -> float:
        vitals, signs = Vitals(), NONE
        for i in range(110):
            major, minor, y = pressed((1 - math.cos(2 * math.pi * 0.3 * i / 25)) / 2)
            k = 1 + 0.03 * math.sin(2 * math.pi * 1.2 * i / 25)
            vitals.add(i * 40_000_000, seen(k * major, k * minor, y), None)
            signs = vitals.signs()
        assert signs.vein_likeness is not None
        assert signs.vein_likeness_sd is not None
        assert 0 <= signs.vein_likeness_sd <= 0.5
        return signs.vein_likeness

    assert look(lambda p: (44 * (1 + 0.06 * p), 40 * (1 - 0.3 * p), 120 * (1 - 0.045 * p))) > 0.9
    assert look(lambda p: (42, 40 * (1 - 0.03 * p), 120 * (1 - 0.045 * p))) < 0.1


def test_each_cue_counts_in_its_direction_and_doubt_grows_with_the_cues() -> None:
    usual = Cues(flattening=0.08, push=0.02, pulse=0.05, roundness=0.8)
    sd = Cues(0.02, 0.005, 0.01, 0.05)
    score, _ = vein_likeness(usual, sd)
    assert vein_likeness(usual._replace(flattening=0.2), sd)[0] > score
    for name, more in (("push", 0.05), ("pulse", 0.1), ("roundness", 0.95)):
        assert vein_likeness(usual._replace(**{name: more}), sd)[0] < score
    certain, none = vein_likeness(usual, Cues(0, 0, 0, 0))
    assert none == 0
    # As far as the odds bend little, doubt is that of the cues times their weights.
    little = [vein_likeness(usual, Cues(*(k * s for s in sd)))[1] for k in (0.01, 0.02)]
    assert little[1] == pytest.approx(2 * little[0], rel=1e-3)
    before = abs(certain - 0.5)
    for k in (0.5, 1, 2, 4):
        score, more = vein_likeness(usual, Cues(*(k * s for s in sd)))
        assert more > none
        assert 0 < score - more < score + more < 1
        assert abs(score - 0.5) < before  # and pulls the score towards undecided
        none, before = more, abs(score - 0.5)


def test_looking_often_changes_nothing() -> None:
    often, seldom = Vitals(), Vitals()
    for i in range(130):
        major, minor = pulsing(1.1, 0.1)(i / 25)
        for vitals in (often, seldom):
            vitals.add(i * 40_000_000, seen(major, minor), None)
        for _ in range(3):
            last = often.signs()
        assert last == seldom.signs()


def test_tracks_that_are_born_together_do_not_all_look_in_one_frame() -> None:
    tracks = [Vitals() for _ in range(8)]
    said = [vitals.signs() for vitals in tracks]
    looks = []
    for i in range(200):
        for k, vitals in enumerate(tracks):
            vitals.add(i * 40_000_000, seen(50 + 3 * k, 30 + 5 * math.sin(i)), None)
        now = [vitals.signs() for vitals in tracks]
        looks.append(sum(a is not b for a, b in zip(now, said, strict=True)))
        said = now
    assert sum(looks) == pytest.approx(8 * 200 / 6.25, abs=8)
    assert max(looks) <= 4


def test_on_the_phantom_collapse_is_within_five_percent_or_a_pixel_and_the_kinds_are_told() -> None:
    vessels = (
        VesselSettings("vein", -10.0, 12.0, 8.0, 6.4, pulse_hz=1.1, pulse_fraction=0.05),
        VesselSettings("artery", 8.0, 14.0, 6.4, 6.0, pulse_hz=1.1, pulse_fraction=0.10),
    )
    phantom = Phantom(
        PhantomSettings(
            height_px=240,
            width_px=320,
            rate_hz=12.5,
            vessels=vessels,
            motion=MotionSettings(press_amplitude=0.3, press_hz=0.25),
        )
    )
    grid = fit((240, 320), (256, 256))
    watched = [Vitals(), Vitals()]
    truth: list[list[float]] = [[], []]
    for index in range(55):
        frame = phantom.render(index)
        for vessel, vitals, minor_px in zip(frame.vessels, watched, truth, strict=True):
            mask = mask_to_grid((frame.labels == vessel.id).astype(np.uint8), grid)
            vitals.add(round(frame.time_s * 1e9), detect(mask, grid, 0.5)[0], phantom.spacing_mm)
            vitals.signs()
            minor_px.append(vessel.axes_px[1])
    for settled, vitals, minor_px in zip(vessels, watched, truth, strict=True):
        signs, largest = vitals.signs(), max(minor_px)
        true = 1 - min(minor_px) / largest
        assert signs.collapse == pytest.approx(true, rel=0.05, abs=1 / largest)
        assert signs.pulse_hz == pytest.approx(1.1, abs=0.1)
        assert signs.pulse_strength == pytest.approx(settled.pulse_fraction, abs=0.015)
        assert signs.vein_likeness is not None
        assert (signs.vein_likeness > 0.5) is (settled.kind == "vein")
