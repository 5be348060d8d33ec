"""Properties that any correct filter has, and one answer known in closed form."""

import numpy as np
import pytest
from filterpy.common import Q_continuous_white_noise
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from veintrack.tracker.frame import F64
from veintrack.tracker.kalman import Gaussian, Step, birth, predict, step, update

seconds = st.floats(0.0, 1.0)
points = st.tuples(st.floats(0, 640), st.floats(0, 480)).map(np.array)


def moved(state: Gaussian, move: Step) -> Gaussian:
    return predict([state], move)[0]


def seen(state: Gaussian, xy_px: F64, noise_px2: F64) -> Gaussian:
    return update([state], [xy_px], [noise_px2])[0]


def vague() -> Gaussian:
    return birth(np.zeros(2), 1e8 * np.eye(2), 1e4)


@given(seconds, seconds)
def test_two_short_steps_equal_one_long_step(a: float, b: float) -> None:
    start = birth(np.array([320.0, 240.0]), 4 * np.eye(2), 50.0)
    twice = moved(moved(start, step(a, 900.0)), step(b, 900.0))
    once = moved(start, step(a + b, 900.0))
    assert_allclose(twice.mean, once.mean)
    assert_allclose(twice.cov, once.cov, atol=1e-9)


@given(st.lists(st.tuples(seconds, points), min_size=1, max_size=30))
def test_covariance_stays_symmetric_and_non_negative(moves: list[tuple[float, F64]]) -> None:
    state = birth(np.zeros(2), 4 * np.eye(2), 50.0)
    for dt_s, xy in moves:
        state = seen(moved(state, step(dt_s, 900.0)), xy, np.eye(2))
        assert_allclose(state.cov, state.cov.T, rtol=1e-9, atol=1e-12)
        assert np.linalg.eigvalsh(state.cov).min() > -1e-9


def test_without_process_noise_it_equals_least_squares_over_all_frames() -> None:
    rng = np.random.default_rng(7)
    t = np.cumsum(rng.uniform(0.01, 0.09, size=40))  # uneven, as with dropped frames
    true = np.array([30.0, 40.0, 12.0, -5.0])
    xy = true[:2] + t[:, None] * true[2:] + rng.normal(0.0, 1.5, size=(40, 2))

    state = vague()
    for dt_s, z in zip(np.diff(t, prepend=0.0), xy, strict=True):
        state = seen(moved(state, step(dt_s, 0.0)), z, 1.5**2 * np.eye(2))

    design = np.column_stack([np.ones_like(t), t - t[-1]])  # position at the last frame
    (position, velocity), *_ = np.linalg.lstsq(design, xy, rcond=None)
    assert_allclose(state.mean, [*position, *velocity], rtol=1e-4)


@given(seconds, st.floats(0.0, 1e4))
def test_the_noise_of_a_step_is_the_integral_of_white_acceleration(dt_s: float, psd: float) -> None:
    expected = Q_continuous_white_noise(2, dt_s, psd, block_size=2, order_by_dim=False)
    assert_allclose(step(dt_s, psd).noise, expected, rtol=1e-12)


def test_covariance_survives_a_vague_prior_and_sharp_measurements() -> None:
    state = vague()
    for _ in range(50):
        state = seen(moved(state, step(0.033, 1e-6)), np.ones(2), 1e-6 * np.eye(2))
    assert np.abs(state.cov - state.cov.T).max() < 1e-12 * np.abs(state.cov).max()
    assert np.linalg.eigvalsh(state.cov).min() >= 0


def test_states_that_are_moved_and_updated_together_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(11)
    factors = rng.normal(size=(19, 2, 2))
    at, noise = rng.uniform(0, 640, size=(19, 2)), factors @ factors.transpose(0, 2, 1) + np.eye(2)
    z = at + rng.normal(0.0, 3.0, size=(19, 2))
    states = [birth(xy, 2 * n, 10.0 + i) for i, (xy, n) in enumerate(zip(at, noise, strict=True))]
    move = step(0.04, 900.0)
    together = update(predict(states, move), list(z), list(noise))
    assert len(together) == len(states)
    for i, state in enumerate(states):
        alone = seen(moved(state, move), z[i], noise[i])
        assert_allclose(together[i].mean, alone.mean, rtol=1e-12)
        assert_allclose(together[i].cov, alone.cov, rtol=1e-12, atol=1e-12)
    assert predict([], move) == update([], [], []) == []


def test_time_cannot_run_backwards() -> None:
    with pytest.raises(ValueError, match=r"dt_s must not be negative, got -0\.1"):
        step(-0.1, 1.0)
