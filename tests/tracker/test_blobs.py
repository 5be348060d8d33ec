"""What several vessels share, and what one vessel fell into, is described as vessels are."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tests.tracker.vessel_maps import Vessel, seen
from veintrack.tracker.blobs import covered, cut, facing, filling, join, radius
from veintrack.tracker.detect import describe
from veintrack.tracker.frame import Detection

LEFT, RIGHT = Vessel(280, 240, 24, 18, 0.2), Vessel(327, 240, 24, 18, -0.2)


def parts(blob: Detection, *vessels: Vessel) -> list[Detection]:
    return [part.seen for part in cut(blob, [v.place for v in vessels]) if part is not None]


def blind(detection: Detection) -> Detection:
    return replace(detection, patch=None)


def test_a_patch_is_described_as_the_blob_that_it_was_cut_from() -> None:
    (found,) = seen([LEFT])
    assert found.patch is not None
    again = describe(found.patch)
    assert_allclose(again.centroid_px, found.centroid_px)
    assert (again.box_px, again.axes_px, again.score) == (
        found.box_px,
        found.axes_px,
        found.score,
    )


def test_two_vessels_that_touch_are_cut_where_they_do() -> None:
    (blob,) = seen([LEFT, RIGHT])
    for part, vessel in zip(parts(blob, LEFT, RIGHT), (LEFT, RIGHT), strict=True):
        assert_allclose(part.centroid_px, vessel.xy_px, atol=0.3)
        assert part.area_px2 == pytest.approx(vessel.area_px2, rel=0.04)
        assert part.axes_px == pytest.approx((2 * vessel.a, 2 * vessel.b), rel=0.05)
        assert part.parts_of == (blob,)
        (alone,) = seen([vessel])
        assert np.trace(part.covariance_px2) > np.trace(alone.covariance_px2)


@pytest.mark.parametrize("off", [(8, 0), (-8, 5), (0, 10), (12, 3)])
def test_where_the_cut_lies_hardly_depends_on_where_the_vessels_were_expected(
    off: tuple[float, float],
) -> None:
    (blob,) = seen([LEFT, RIGHT])
    found = parts(blob, LEFT.moved(*off), RIGHT.moved(*off))
    for part, vessel in zip(found, (LEFT, RIGHT), strict=True):
        assert_allclose(part.centroid_px, vessel.xy_px, atol=2.5)


def test_what_a_vessel_hides_of_another_is_given_back_to_its_part() -> None:
    near = RIGHT.moved(-14, 0)  # a third of each radius overlaps
    (blob,) = seen([LEFT, near])
    assert blob.area_px2 < 0.92 * (LEFT.area_px2 + near.area_px2)
    found = cut(blob, [LEFT.place, near.place])
    for part, vessel in zip(found, (LEFT, near), strict=True):
        assert part is not None
        assert part.shown < 0.96
        assert_allclose(part.seen.centroid_px, vessel.xy_px, atol=0.6)
        assert part.seen.area_px2 == pytest.approx(vessel.area_px2, rel=0.05)
        assert part.seen.axes_px == pytest.approx((2 * vessel.a, 2 * vessel.b), rel=0.08)


def test_the_more_is_hidden_the_less_certain_is_the_part() -> None:
    spreads = []
    for overlap_px in (0, 8, 16, 24):
        near = RIGHT.moved(-overlap_px, 0)
        (blob,) = seen([LEFT, near])
        spreads.append(float(np.trace(parts(blob, LEFT, near)[0].covariance_px2)))
    assert spreads == sorted(spreads)
    assert spreads[-1] > 4 * spreads[0]


def test_a_blob_without_pixels_is_cut_by_the_ellipse_of_its_moments() -> None:
    (blob,) = seen([LEFT, RIGHT])
    for part, vessel in zip(parts(blind(blob), LEFT, RIGHT), (LEFT, RIGHT), strict=True):
        assert_allclose(part.centroid_px, vessel.xy_px, atol=4)
        assert part.area_px2 == pytest.approx(vessel.area_px2, rel=0.2)
        assert part.patch is None
        assert np.trace(part.covariance_px2) > np.trace(blob.covariance_px2)


def test_a_vessel_alone_in_a_blob_gets_all_of_it_and_one_that_is_elsewhere_nothing() -> None:
    (blob,) = seen([LEFT])
    (whole,) = parts(blob, LEFT)
    assert_allclose(whole.centroid_px, blob.centroid_px, atol=0.1)
    assert whole.area_px2 == pytest.approx(blob.area_px2, rel=1e-3)
    near, far = cut(blob, [LEFT.place, RIGHT.moved(60, 0).place])
    assert near is not None
    assert far is None


def test_three_vessels_in_a_row_are_told_apart() -> None:
    row = [Vessel(250 + 45 * i, 240, 23, 17) for i in range(3)]
    (blob,) = seen(row)
    for part, vessel in zip(parts(blob, *row), row, strict=True):
        assert_allclose(part.centroid_px, vessel.xy_px, atol=0.5)


def test_a_cut_is_narrow_where_vessels_touch_and_wide_where_one_is_divided() -> None:
    (pair,) = seen([LEFT, RIGHT])
    (one,) = seen([Vessel(300, 240, 44, 20)])
    halves = [Vessel(280, 240, 22, 20).place, Vessel(322, 240, 22, 20).place]
    waists = [
        [part.waist for part in cut(*args) if part]
        for args in (
            (pair, [LEFT.place, RIGHT.place]),
            (one, halves),
        )
    ]
    assert max(waists[0]) < 0.6
    assert min(waists[1]) > 0.9


@settings(max_examples=20, deadline=None)
@given(st.floats(-6, 6), st.floats(-6, 6), st.floats(0, 12), st.floats(-1.2, 1.2), st.booleans())
def test_a_mirrored_blob_is_cut_into_mirrored_parts(
    dx: float, dy: float, overlap_px: float, angle_rad: float, pixels: bool
) -> None:
    one = replace(LEFT, angle_rad=angle_rad)
    two = Vessel(one.x + 42 - overlap_px, 240, 20, 16)
    (blob, *_), (mirror, *_) = seen([one, two]), seen([one.mirrored(), two.mirrored()])
    if not pixels:
        blob, mirror = blind(blob), blind(mirror)
    expected = (one.moved(dx, dy), two.moved(dx, dy))
    plain = parts(blob, *expected)
    flipped = parts(mirror, *(v.mirrored() for v in expected))
    for a, b in zip(plain, flipped, strict=True):
        assert_allclose(b.centroid_px, [639 - a.centroid_px[0], a.centroid_px[1]], atol=1e-3)
        assert b.area_px2 == pytest.approx(a.area_px2, rel=1e-4)
        assert_allclose(b.covariance_px2 * [[1, -1], [-1, 1]], a.covariance_px2, rtol=1e-3)


@pytest.mark.parametrize("pixels", [True, False])
def test_pieces_are_joined_to_the_vessel_that_they_were(pixels: bool) -> None:
    vessel = Vessel(300, 240, 40, 26, 0.1)
    pieces = seen([vessel], gap_px=(306, 8))
    assert len(pieces) == 2
    whole = join(pieces if pixels else [blind(p) for p in pieces])
    assert_allclose(whole.centroid_px, vessel.xy_px, atol=1.0)
    assert whole.axes_px == pytest.approx((80, 52), rel=0.08)
    assert whole.area_px2 == pytest.approx(sum(p.area_px2 for p in pieces), rel=0.05)
    left, top, width, height = whole.box_px
    assert (left, left + width) == pytest.approx((260, 340), abs=3)
    assert (top, top + height) == pytest.approx((214, 266), abs=3)
    assert whole.parts_of[0].centroid_px is pieces[0].centroid_px
    assert (whole.patch is not None) is pixels


def test_a_gap_leaves_the_joined_vessel_less_certain() -> None:
    vessel = Vessel(300, 240, 40, 26)
    spreads = [
        float(np.trace(join(seen([vessel], gap_px=(300, gap))).covariance_px2))
        for gap in (0.0, 8.0, 16.0)
    ]
    assert spreads == sorted(spreads)


def test_joining_does_not_depend_on_the_order() -> None:
    pieces = seen([Vessel(300, 240, 40, 26, 0.4)], gap_px=(306, 8))
    one, other = join(pieces), join(pieces[::-1])
    assert_allclose(one.centroid_px, other.centroid_px)
    assert one.box_px == pytest.approx(other.box_px)


def test_detections_of_two_different_maps_are_joined_by_their_moments() -> None:
    one, other = seen([LEFT])[0], seen([RIGHT.moved(30, 0)])[0]
    assert other.patch is not None
    shifted = replace(other, patch=replace(other.patch, origin_px=(1.3, 2.7)))
    whole = join([one, shifted])
    assert whole.patch is None
    assert whole.area_px2 == pytest.approx(one.area_px2 + other.area_px2)


def test_the_banks_of_a_gap_face_each_other_and_two_discs_do_not() -> None:
    divided = seen([Vessel(300, 240, 40, 26)], gap_px=(306, 8))
    beside = seen([Vessel(270, 240, 25, 25), Vessel(328, 240, 25, 25)])
    assert facing(*divided) > 0.8
    assert facing(*beside) < 0.5
    assert facing(blind(divided[0]), divided[1]) == 0


def test_far_banks_do_not_face_each_other() -> None:
    assert facing(*seen([Vessel(300, 240, 80, 20)], gap_px=(300, 60))) == 0


def test_how_much_of_a_place_is_covered() -> None:
    (found,) = seen([LEFT])
    assert covered(LEFT.place, found) == pytest.approx(1, abs=0.03)
    assert covered(LEFT.moved(200, 0).place, found) == 0
    larger = replace(LEFT, a=2 * LEFT.a)
    assert covered(larger.place, found) == pytest.approx(0.5, abs=0.03)
    assert covered(LEFT.place, blind(found)) > 0.95


@given(st.floats(0, 2 * math.pi), st.floats(-1.5, 1.5))
def test_the_radius_is_one_on_the_outline(at_rad: float, angle_rad: float) -> None:
    vessel = replace(LEFT, angle_rad=angle_rad)
    u, v = vessel.a * math.cos(at_rad), vessel.b * math.sin(at_rad)
    x = vessel.x + u * math.cos(angle_rad) - v * math.sin(angle_rad)
    y = vessel.y + u * math.sin(angle_rad) + v * math.cos(angle_rad)
    assert radius(vessel.place, x, y) == pytest.approx(1)


def test_an_ellipse_fills_its_own_and_two_discs_that_touch_nine_tenths() -> None:
    (one,) = seen([LEFT])
    exact = replace(one, area_px2=LEFT.area_px2, axes_px=(2 * LEFT.a, 2 * LEFT.b))
    assert filling(exact) == pytest.approx(1)
    discs = seen([Vessel(270, 240, 25, 25), Vessel(325, 240, 25, 25)])
    touching = [replace(blind(d), axes_px=(50, 50), area_px2=math.pi * 25**2) for d in discs]
    touching[1] = replace(touching[1], centroid_px=touching[0].centroid_px + np.array([50, 0]))
    assert filling(join(touching)) == pytest.approx(0.9, abs=0.01)


def test_nothing_can_be_cut_for_nobody_nor_joined_from_nothing() -> None:
    (found,) = seen([LEFT])
    with pytest.raises(ValueError, match=r"places must be at least one, got none"):
        cut(found, [])
    with pytest.raises(ValueError, match=r"detections must be at least one, got none"):
        join([])
