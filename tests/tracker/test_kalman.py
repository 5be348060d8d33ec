"""Properties that any correct filter has, and one answer known in closed form."""

import numpy as np
import pytest
from filterpy.common import Q_continuous_white_noise
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from veintrack.tracker.frame import F64
from veintrack.tracker.kalman import (
    Gaussian,
    Step,
    birth,
    carried,
    damped_step,
    drift,
    predict,
    step,
    update,
)

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


@given(seconds, seconds, st.floats(0.05, 5.0))
def test_two_short_steps_equal_one_long_step_while_a_velocity_fades(
    a: float, b: float, fades_s: float
) -> None:
    start = birth(np.array([320.0, 240.0]), 4 * np.eye(2), 50.0, np.array([30.0, -10.0]))
    twice = moved(moved(start, damped_step(a, 900.0, fades_s)), damped_step(b, 900.0, fades_s))
    once = moved(start, damped_step(a + b, 900.0, fades_s))
    assert_allclose(twice.mean, once.mean, atol=1e-9)
    assert_allclose(twice.cov, once.cov, rtol=1e-4, atol=1e-9)


def test_a_velocity_that_fades_slowly_is_a_constant_one() -> None:
    slow, constant = damped_step(0.04, 900.0, 1e4), step(0.04, 900.0)
    assert_allclose(slow.transition, constant.transition, rtol=1e-5)
    assert_allclose(slow.noise, constant.noise, rtol=1e-4)


def test_the_place_of_what_fades_grows_vague_with_the_time_not_its_third_power() -> None:
    place_px2 = [damped_step(t, 900.0, 0.2).noise[0, 0] for t in (4.0, 8.0)]
    assert place_px2[1] / place_px2[0] == pytest.approx(2, rel=0.1)
    assert place_px2[1] == pytest.approx(900 * 0.2**2 * 8, rel=0.05)


def test_in_a_picture_that_moves_a_state_keeps_its_velocity_against_it() -> None:
    before, now = np.array([[10.0, 0.0]]), np.array([[200.0, -50.0]])
    start = birth(np.array([100.0, 100.0]), np.eye(2), 5.0, np.array([13.0, 2.0]))
    move, known = carried(step(0.1, 900.0), 0.1, before, now, 0.04)
    (after,) = predict([start], move, known)
    assert_allclose(after.mean, [100 + 20.3, 100 - 4.8, 203, -48])
    assert_allclose(move.noise[0, 0] - step(0.1, 900.0).noise[0, 0], 0.04)
    assert_allclose(move.noise[2, 2] - step(0.1, 900.0).noise[2, 2], 0.04 / 0.1**2)


def test_the_motion_of_the_picture_teaches_a_velocity_that_is_not_known() -> None:
    unknown = birth(np.zeros(2), np.eye(2), 100.0)
    known = birth(np.zeros(2), np.eye(2), 1.0, np.array([30.0, 0.0]))
    learnt, kept = drift([unknown, known], np.array([[90.0, 10.0]] * 2), 10.0**2)
    assert_allclose(learnt.mean[2:], [90, 10], rtol=0.02)
    assert_allclose(kept.mean[2:], [30, 0], atol=1.0)
    assert learnt.cov[2, 2] < unknown.cov[2, 2]
    assert drift([], np.zeros((0, 2)), 1.0) == []


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
        damped_step(-0.1, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"dt_s must not be negative, got -0\.1"):
        step(-0.1, 1.0)
