"""Properties that any correct filter has, and one answer known in closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from veintrack.tracker.frame import F64
from veintrack.tracker.kalman import Gaussian, birth, predict, step, update

seconds = st.floats(0.0, 1.0)
points = st.tuples(st.floats(0, 640), st.floats(0, 480)).map(np.array)


def vague() -> Gaussian:
    return birth(np.zeros(2), 1e8 * np.eye(2), 1e4)


@given(seconds, seconds)
def test_two_short_steps_equal_one_long_step(a: float, b: float) -> None:
    start = birth(np.array([320.0, 240.0]), 4 * np.eye(2), 50.0)
    twice = predict(predict(start, step(a, 900.0)), step(b, 900.0))
    once = predict(start, step(a + b, 900.0))
    assert_allclose(twice.mean, once.mean)
    assert_allclose(twice.cov, once.cov, atol=1e-9)


@given(st.lists(st.tuples(seconds, points), min_size=1, max_size=30))
def test_covariance_stays_symmetric_and_non_negative(moves: list[tuple[float, F64]]) -> None:
    state = birth(np.zeros(2), 4 * np.eye(2), 50.0)
    for dt_s, xy in moves:
        state = update(predict(state, step(dt_s, 900.0)), xy, np.eye(2))
        assert_allclose(state.cov, state.cov.T, rtol=1e-9, atol=1e-12)
        assert np.linalg.eigvalsh(state.cov).min() > -1e-9


def test_without_process_noise_it_equals_least_squares_over_all_frames() -> None:
    rng = np.random.default_rng(7)
    t = np.cumsum(rng.uniform(0.01, 0.09, size=40))  # uneven, as with dropped frames
    true = np.array([30.0, 40.0, 12.0, -5.0])
    xy = true[:2] + t[:, None] * true[2:] + rng.normal(0.0, 1.5, size=(40, 2))

    state = vague()
    for dt_s, z in zip(np.diff(t, prepend=0.0), xy, strict=True):
        state = update(predict(state, step(dt_s, 0.0)), z, 1.5**2 * np.eye(2))

    design = np.column_stack([np.ones_like(t), t - t[-1]])  # position at the last frame
    (position, velocity), *_ = np.linalg.lstsq(design, xy, rcond=None)
    assert_allclose(state.mean, [*position, *velocity], rtol=1e-4)


def test_the_noise_of_a_step_is_the_integral_of_white_acceleration() -> None:
    dt_s, psd = 0.25, 900.0
    expected = psd * np.array([[dt_s**3 / 3, dt_s**2 / 2], [dt_s**2 / 2, dt_s]])
    noise = step(dt_s, psd).noise
    assert_allclose(noise[np.ix_([0, 2], [0, 2])], expected)
    assert_allclose(noise[np.ix_([1, 3], [1, 3])], expected)
    assert_allclose(noise[np.ix_([0, 2], [1, 3])], 0)


def test_covariance_survives_a_vague_prior_and_sharp_measurements() -> None:
    state = vague()
    for _ in range(50):
        state = update(predict(state, step(0.033, 1e-6)), np.ones(2), 1e-6 * np.eye(2))
    assert np.abs(state.cov - state.cov.T).max() < 1e-12 * np.abs(state.cov).max()
    assert np.linalg.eigvalsh(state.cov).min() >= 0


def test_time_cannot_run_backwards() -> None:
    with pytest.raises(ValueError, match=r"dt_s must not be negative, got -0\.1"):
        step(-0.1, 1.0)
