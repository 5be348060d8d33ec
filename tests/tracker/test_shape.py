"""A vessel's smoothed size and form."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veintrack.tracker import shape
from veintrack.tracker.frame import Detection
from veintrack.tracker.shape import Form

AREA_PSD_S, FORM_PSD_S = 0.03, 0.06


def ellipse(
    major: float, minor: float, angle_rad: float = 0.0, *, sigma_px: float = 0.5
) -> Detection:
    return Detection(
        centroid_px=np.array([100.0, 80.0]),
        covariance_px2=sigma_px**2 * np.eye(2),
        area_px2=math.pi / 4 * major * minor,
        axes_px=(major, minor),
        angle_rad=angle_rad,
        score=0.9,
        box_px=(0.0, 0.0, major, major),
    )


def smoothed(form: Form, found: Detection, dt_s: float = 0.04) -> Form:
    return shape.update(form, found, dt_s, AREA_PSD_S, FORM_PSD_S)


@given(st.floats(2.0, 300.0), st.floats(0.1, 0.99), st.floats(-1.5, 1.5))
def test_one_ellipse_comes_back_as_it_was(major: float, ratio: float, angle: float) -> None:
    now = shape.shape_of(shape.birth(ellipse(major, ratio * major, angle)))
    assert now.major_px == pytest.approx(major)
    assert now.minor_px == pytest.approx(ratio * major)
    assert now.angle_rad == pytest.approx(angle, abs=1e-6)
    assert now.area_px2 == pytest.approx(math.pi / 4 * ratio * major**2)


def test_it_settles_on_what_is_seen_again_and_again_and_says_so() -> None:
    rng = np.random.default_rng(5)
    form = shape.birth(ellipse(42, 21))
    first_sd = shape.shape_of(form).area_sd
    for _ in range(100):
        factor = math.exp(rng.normal(0, 0.03))
        form = smoothed(form, ellipse(40 * factor, 20 * factor, 0.3))
    now = shape.shape_of(form)
    assert (now.major_px, now.minor_px) == pytest.approx((40, 20), rel=0.05)
    assert now.angle_rad == pytest.approx(0.3, abs=0.02)
    assert now.area_sd < first_sd


def test_an_axis_that_turns_past_the_vertical_does_not_jump() -> None:
    form = shape.birth(ellipse(40, 20, math.radians(88)))
    for _ in range(30):
        form = smoothed(form, ellipse(40, 20, math.radians(-88)))
    now = shape.shape_of(form)
    assert abs(math.degrees(now.angle_rad)) == pytest.approx(88, abs=1)
    assert now.minor_px == pytest.approx(20, rel=0.02)


def test_a_blurred_sighting_counts_less_than_a_sharp_one() -> None:
    start = shape.birth(ellipse(40, 20))
    sharp, blurred = (smoothed(start, ellipse(50, 25, sigma_px=s)) for s in (0.3, 6.0))
    assert sharp.log_area > blurred.log_area > start.log_area
    assert blurred.area_var > sharp.area_var


@given(st.floats(0, 2), st.floats(0, 2))
def test_waiting_twice_is_waiting_once(a_s: float, b_s: float) -> None:
    # As nothing is seen in between, only the sum of the waits can count.
    start, found = shape.birth(ellipse(40, 20)), ellipse(44, 25, 0.2)
    later = start._replace(
        area_var=start.area_var + AREA_PSD_S * a_s, form_var=start.form_var + FORM_PSD_S * a_s
    )
    twice, once = smoothed(later, found, b_s), smoothed(start, found, a_s + b_s)
    assert twice == pytest.approx(once)


@given(st.floats(-1.5, 1.5), st.floats(1, 100), st.floats(0.05, 1.0))
def test_mirrored_sightings_make_a_mirrored_form(angle: float, major: float, ratio: float) -> None:
    forms = []
    for sign in (1, -1):
        form = shape.birth(ellipse(40, 20, sign * 0.4))
        forms.append(smoothed(form, ellipse(major, ratio * major, sign * angle)))
    plain, mirrored = forms
    assert mirrored.aslant == pytest.approx(-plain.aslant)
    assert mirrored.along == pytest.approx(plain.along)
    assert mirrored.log_area == plain.log_area


def test_the_stated_error_of_an_area_is_that_of_its_edge() -> None:
    # A circle of radius r whose outline errs by e, independently in n places.
    rng = np.random.default_rng(2)
    r, n, e = 30.0, 64, 0.8
    around = 2 * math.pi * np.arange(n) / n
    radii = r + rng.normal(0, e, (4000, n))
    areas = (radii**2).mean(axis=1) * math.pi
    cubes = (radii**3).mean(axis=1, keepdims=True)
    xy = np.stack([(radii**3 * f(around)).mean(axis=1) for f in (np.cos, np.sin)], axis=1)
    centroids = xy / cubes * r * 2 / 3
    found = replace(ellipse(2 * r, 2 * r), covariance_px2=np.cov(centroids.T))
    stated = math.sqrt(shape.birth(found).area_var - 0.02**2)
    assert stated == pytest.approx(np.log(areas).std(), rel=0.1)


def test_the_box_of_a_slanted_ellipse_touches_it() -> None:
    now = shape.shape_of(shape.birth(ellipse(40, 20, 0.5)))
    along = np.linspace(0, 2 * math.pi, 2000)
    x = 20 * np.cos(along) * math.cos(0.5) - 10 * np.sin(along) * math.sin(0.5)
    y = 20 * np.cos(along) * math.sin(0.5) + 10 * np.sin(along) * math.cos(0.5)
    left, top, width, height = shape.box_at(now, 100.0, 50.0)
    assert (left, top) == pytest.approx((100 + x.min(), 50 + y.min()), abs=1e-3)
    assert (width, height) == pytest.approx((np.ptp(x), np.ptp(y)), abs=1e-3)


@given(
    st.floats(0, 1e6),
    st.floats(0, 1e4),
    st.floats(0, 1),
    st.floats(-10, 10),
    st.floats(0, 1e6),
    st.floats(0, 1e5),
)
def test_no_sighting_breaks_it(
    area: float, major: float, ratio: float, angle: float, noise: float, dt_s: float
) -> None:
    found = replace(
        ellipse(major, ratio * major, angle), area_px2=area, covariance_px2=noise * np.eye(2)
    )
    for form in (shape.birth(found), smoothed(shape.birth(ellipse(40, 20)), found, dt_s)):
        now = shape.shape_of(form)
        for name in now.__slots__:
            assert math.isfinite(getattr(now, name))
        assert now.major_px >= now.minor_px > 0
        assert now.area_sd > 0
