"""The phantom on the move: turning, paths, shadows and gain, with truth that stays exact."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veintrack.tracker.frame import F64, U8
from veintrack.tracker.phantom import (
    MotionSettings,
    PassingShadow,
    Phantom,
    PhantomSettings,
    TissueSettings,
    VesselSettings,
)
from veintrack.tracker.phantom_motion import along

PLAIN = TissueSettings(nerves=0, bellies=0, planes=0, shadows=0)
VEIN = VesselSettings("vein", -4.0, 13.0, 8.0, 5.0, 0.3, (0.1, -0.15), sway_mm=0.3)
ARTERY = VesselSettings("artery", 8.0, 18.0, 6.0, 5.8, pulse_fraction=0.1)


def small(**changes: object) -> PhantomSettings:
    base = PhantomSettings(
        height_px=240, width_px=320, depth_mm=30.0, tissue=PLAIN, vessels=(VEIN, ARTERY)
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def label_centroid(labels: U8, number: int) -> F64:
    rows, columns = np.nonzero(labels == number)
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize("index", [0, 9, 20, 33])
def test_truth_is_exact_while_the_probe_turns_slides_and_presses(index: int) -> None:
    motion = MotionSettings(
        turn_amplitude_rad=0.2, turn_hz=0.7, slide_amplitude_mm=2.0, press_amplitude=0.2
    )
    path = ((0.0, 0.0, 0.0), (1.2, 3.0, -2.0))
    made = small(
        motion=motion, margins_px=(9, 5, 4, 3), vessels=(replace(VEIN, path_s_mm=path), ARTERY)
    )
    frame = Phantom(made).render(index)
    for vessel in frame.vessels:
        assert vessel.visible
        assert vessel.centroid_px == pytest.approx(label_centroid(frame.labels, vessel.id), abs=0.1)
        assert vessel.place_px == pytest.approx(vessel.centroid_px)
        own = (frame.labels == vessel.id).astype(np.uint8)
        left, top, width, height = cv2.boundingRect(own)
        assert vessel.box_px == (left - 0.5, top - 0.5, width, height)
        assert vessel.area_px2 == pytest.approx(own.sum(), rel=0.02)
        moments = cv2.moments(own, binaryImage=True)
        spread = (moments["mu20"] + moments["mu02"]) / moments["m00"]
        major, minor = vessel.axes_px
        assert (major**2 + minor**2) / 16 == pytest.approx(spread, rel=0.06)  # a little bent


def test_turning_turns_tissue_and_vessels_about_the_middle_of_the_probe() -> None:
    motion = MotionSettings(turn_amplitude_rad=0.15, turn_hz=0.5)
    phantom = Phantom(small(motion=motion, vessels=(replace(VEIN, sway_mm=0.0),)))
    rest, turned = phantom.render(0), phantom.render(15)
    middle = 159.5, -0.5
    back = cv2.getRotationMatrix2D(middle, math.degrees(0.15), 1)
    expected = back @ np.array([*rest.vessels[0].centroid_px, 1])
    assert turned.vessels[0].centroid_px == pytest.approx(expected, abs=1e-6)
    moved = cv2.warpAffine(rest.pixels, back, (320, 240)).astype(np.float32)
    inner = np.s_[70:200, 60:260]
    likeness = np.corrcoef(moved[inner].ravel(), turned.pixels[inner].ravel())[0, 1]
    assert likeness > 0.8
    still = np.corrcoef(rest.pixels[inner].ravel(), turned.pixels[inner].ravel())[0, 1]
    assert still < 0.5


@given(st.floats(-1, 12), st.floats(1e-6, 1e-3))
@settings(deadline=None)
def test_a_path_is_continuous_and_passes_through_its_stops(time_s: float, step_s: float) -> None:
    stops = ((1.0, 0.0, 0.0), (4.0, 10.0, -1.0), (5.0, 10.0, -1.0), (9.0, 2.0, 3.0))
    for at, x_mm, y_mm in stops:
        assert along(stops, at) == (x_mm, y_mm)
    here, next_ = along(stops, time_s), along(stops, time_s + step_s)
    assert math.dist(here, next_) <= 1.5 * 10.1 / 3 * step_s + 1e-9  # at most 1.5 times the mean
    assert along((), time_s) == (0.0, 0.0)


def test_a_vessel_on_a_path_leaves_the_tissue_where_it_is() -> None:
    path = ((0.0, 0.0, 0.0), (1.0, 9.0, 0.0))
    phantom = Phantom(small(vessels=(replace(VEIN, sway_mm=0.0, path_s_mm=path),)))
    rest, moved = phantom.render(0), phantom.render(30)
    assert moved.vessels[0].centroid_px[0] - rest.vessels[0].centroid_px[0] == pytest.approx(72)
    far = np.s_[170:, :]
    before, after = (frame.pixels[far].astype(float).ravel() for frame in (rest, moved))
    assert np.corrcoef(before, after)[0, 1] > 0.9


def test_the_nearer_of_two_crossing_vessels_is_whole_and_the_other_is_what_is_left() -> None:
    over = replace(ARTERY, x_mm=0.0, depth_mm=13.0)
    under = replace(VEIN, x_mm=0.0, depth_mm=16.0, sway_mm=0.0, bend=(0.0, 0.0))
    frame = Phantom(small(vessels=(over, under))).render(0)
    first, second = frame.vessels
    assert first.centroid_px == pytest.approx(first.place_px)
    assert second.centroid_px == pytest.approx(label_centroid(frame.labels, 2), abs=1e-9)
    assert second.centroid_px[1] > second.place_px[1] + 1


def test_what_is_in_the_shadow_is_not_visible_and_what_is_half_in_it_is_half_there() -> None:
    phantom = Phantom(small(shadow=PassingShadow(-24.0, 10.0, 5.0)))
    seen = [phantom.render(i).vessels[0] for i in (0, 45, 60, 105)]
    assert [v.visible for v in seen] == [True, True, False, True]
    assert seen[1].area_px2 < 0.8 * seen[0].area_px2
    assert np.isnan(seen[2].centroid_px).all()
    assert seen[2].place_px == pytest.approx(seen[0].place_px, abs=5)
    assert seen[2].box_px == (0, 0, 0, 0)
    frame = phantom.render(60)  # at -4 mm: columns 64 to 170
    assert not frame.labels[:, 70:165].any()
    assert frame.pixels[:, 75:160].mean() < 0.4 * frame.pixels[:, 200:].mean()


def test_gain_is_higher_within_its_window_only() -> None:
    made = small(gain_windows_s=((1.0, 2.0, 8.0),))
    plain = Phantom(replace(made, gain_windows_s=()))
    stepped = Phantom(made)
    for index, higher in ((29, False), (30, True), (59, True), (60, False)):
        pixels, without = (p.render(index).pixels for p in (stepped, plain))
        assert (pixels.mean() > without.mean() + 20) == higher
        assert np.array_equal(pixels, without) != higher


def test_what_is_new_changes_no_picture_where_it_does_nothing() -> None:
    frame = Phantom(small(vessels=(VEIN,))).render(7)
    new = small(
        vessels=(replace(VEIN, path_s_mm=((0.0, 0.0, 0.0),)),),
        motion=MotionSettings(turn_hz=3.0),
        shadow=PassingShadow(500.0, 0.0, 1.0),
    )
    same = Phantom(new).render(7)
    assert same.pixels.tobytes() == frame.pixels.tobytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: replace(VEIN, path_s_mm=((1.0, 0.0, 0.0), (1.0, 2.0, 0.0))),
            "path_s_mm must be in order of time",
        ),
        (lambda: PassingShadow(0.0, 1.0, 0.0), "half_width_mm must be positive, got 0.0"),
    ],
)
def test_misuse_is_named(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()
