"""Sizes and depths against closed forms, and against the phantom's truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veintrack.tracker.detect import detect
from veintrack.tracker.frame import Detection, Patch
from veintrack.tracker.grid import fit, mask_to_grid
from veintrack.tracker.measure import axes_mm, measure, near_wall_y
from veintrack.tracker.phantom import Phantom, demo_settings
from veintrack.tracker.vitals import VitalSigns


def ellipse(
    x: float = 100.0,
    y: float = 80.0,
    axes: tuple[float, float] = (40.0, 20.0),
    angle_rad: float = 0.0,
    patch: Patch | None = None,
) -> Detection:
    major, minor = axes
    return Detection(
        centroid_px=np.array([x, y]),
        covariance_px2=np.eye(2),
        area_px2=math.pi * major * minor / 4,
        axes_px=axes,
        angle_rad=angle_rad,
        score=0.9,
        box_px=(x - major / 2, y - minor / 2, major, minor),
        patch=patch,
    )


def test_without_spacing_there_are_pixels_and_no_millimetres() -> None:
    sized = measure(ellipse(), None, top_px=10)
    assert sized.near_wall_px == pytest.approx(80 - 10 + 0.5 - 10)
    assert (sized.minor_px, sized.major_px) == (20, 40)
    assert sized.near_wall_mm is sized.depth_mm is sized.area_mm2 is sized.minor_mm is None


def test_rows_and_columns_may_differ_in_spacing() -> None:
    # 40 px of 0.1 mm across, 20 px of 0.4 mm down: the minor axis in px is the major one in mm.
    sized = measure(ellipse(), (0.4, 0.1), top_px=10)
    assert (sized.major_mm, sized.minor_mm) == pytest.approx((8.0, 4.0))
    assert sized.area_mm2 == pytest.approx(math.pi * 8 * 4 / 4)
    assert sized.depth_mm == pytest.approx((80.5 - 10) * 0.4)
    assert sized.near_wall_mm == pytest.approx((80.5 - 10 - 10) * 0.4)


@given(
    axes=st.tuples(st.floats(1, 100), st.floats(1, 100)),
    angle=st.floats(-math.pi / 2, math.pi / 2),
    spacing=st.tuples(st.floats(0.03, 0.3), st.floats(0.03, 0.3)),
)
def test_axes_in_mm_enclose_the_area_in_mm2(
    axes: tuple[float, float], angle: float, spacing: tuple[float, float]
) -> None:
    vessel = ellipse(axes=(max(axes), min(axes)), angle_rad=angle)
    major, minor = axes_mm(vessel, spacing)
    assert major >= minor
    assert math.pi * major * minor / 4 == pytest.approx(vessel.area_px2 * math.prod(spacing))


@given(angle=st.floats(-math.pi / 2, math.pi / 2))
def test_the_ellipses_upper_wall_lies_on_the_ellipse_above_the_centroid(angle: float) -> None:
    up = 80.0 - near_wall_y(ellipse(angle_rad=angle))
    along, across = -up * math.sin(angle), -up * math.cos(angle)
    assert (along / 20) ** 2 + (across / 10) ** 2 == pytest.approx(1.0)


def column(values: list[float], step_px: tuple[float, float] = (2.0, 4.0)) -> Patch:
    """Three columns of the same probabilities, the middle one at x = 100 px."""
    return Patch(np.array([values] * 3).T, 0.5, (100.0 - step_px[0], 60.0), step_px)


def test_the_near_wall_is_where_the_probability_crosses_that_of_the_edge() -> None:
    vessel = ellipse(patch=column([0.0, 0.2, 0.6, 1.0, 1.0, 0.0]))
    # 0.5 lies three quarters of the way from row 1 (0.2) to row 2 (0.6), rows 4 px apart.
    assert near_wall_y(vessel) == pytest.approx(60 + 1.75 * 4)
    assert near_wall_y(replace(vessel, edge=0.3)) == pytest.approx(60 + 1.25 * 4)


def test_between_two_columns_probabilities_are_interpolated() -> None:
    patch = Patch(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), 0.5, (99.0, 0.0), (2.0, 1.0))
    # x = 100 is half way between the columns: 0, 1/2, 1.
    assert near_wall_y(ellipse(patch=patch)) == pytest.approx(1.0)


def test_a_vessel_cut_by_the_maps_edge_begins_at_that_edge() -> None:
    assert near_wall_y(ellipse(patch=column([0.9, 1.0, 0.0]))) == pytest.approx(60 - 2)


def test_where_the_centre_line_misses_the_vessel_the_ellipse_is_taken() -> None:
    nothing = near_wall_y(ellipse(patch=column([0.0, 0.1, 0.0])))
    aside = near_wall_y(ellipse(x=500.0, patch=column([0.0, 1.0, 0.0])))
    assert nothing == aside == pytest.approx(70.0)


def test_signs_are_carried_into_the_measurement() -> None:
    signs = VitalSigns(0.3, 1.2, 0.05, 0.9, 0.1)
    sized = measure(ellipse(), None, signs=signs)
    assert (sized.collapse, sized.pulse_hz, sized.pulse_strength) == (0.3, 1.2, 0.05)
    assert (sized.vein_likeness, sized.vein_likeness_sd) == (0.9, 0.1)
    assert measure(ellipse(), None).collapse is None


def test_diameter_area_and_near_wall_agree_with_the_phantom() -> None:
    settings = demo_settings()
    phantom = Phantom(settings)
    grid = fit((settings.height_px, settings.width_px), (256, 256))
    for index in (0, 40, 75):
        frame = phantom.render(index)
        for vessel in frame.vessels:
            inside = frame.labels == vessel.id
            (seen,) = detect(mask_to_grid(inside.astype(np.uint8), grid), grid, 0.5)
            sized = measure(seen, phantom.spacing_mm)
            assert sized.minor_px == pytest.approx(vessel.axes_px[1], rel=0.05, abs=1.0)
            assert sized.major_px == pytest.approx(vessel.axes_px[0], rel=0.05, abs=1.0)
            assert sized.area_px2 == pytest.approx(vessel.area_px2, rel=0.05)
            top = int(inside[:, round(float(vessel.centroid_px[0]))].argmax())
            assert sized.near_wall_px == pytest.approx(top, abs=1.0)
