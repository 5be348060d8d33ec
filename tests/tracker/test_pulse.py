"""Pulses that were put in come out; what is none is not taken for one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veintrack.tracker.frame import F64
from veintrack.tracker.pulse import find_pulse, tells_pulse

SPAN_S = 4.0


def times(rate_hz: float, rng: np.random.Generator, kept: float = 1.0) -> F64:
    """Stamps that jitter by a tenth of a frame, some left out."""
    t = np.arange(round(SPAN_S * rate_hz)) / rate_hz
    t = np.sort(t + rng.normal(0, 0.1 / rate_hz, len(t)))
    left: F64 = t[rng.random(len(t)) < kept]
    return left


def beat(t: F64, hz: float, strength: float, phase: float = 0.0) -> F64:
    """Logarithm of a diameter with the phantom's pulse: two harmonics, `strength` in all."""
    turn = 2 * math.pi * hz * t + phase
    size: F64 = np.log1p(strength * (np.sin(turn) + 0.35 * np.sin(2 * turn + 0.6)) / 2.4)
    return size


def found(t: F64, size: F64) -> bool:
    pulse = find_pulse(t, size)
    return pulse is not None and pulse.stands_out


def pressed(t: F64, how_hard: float) -> F64:
    """Logarithm of a diameter under a hand that presses every five seconds."""
    opening: F64 = np.log(1 - how_hard * np.sin(math.pi * 0.2 * t) ** 2) / 2
    return opening


@pytest.mark.parametrize("hz", np.arange(0.8, 2.55, 0.1).round(1).tolist())
def test_at_25_fps_a_pulse_is_found_within_a_tenth_of_a_hertz(hz: float) -> None:
    rng = np.random.default_rng(round(hz * 10))
    for _ in range(4):
        t = times(25, rng)
        pulse = find_pulse(t, beat(t, hz, 0.06, rng.uniform(0, 6)) + rng.normal(0, 0.005, len(t)))
        assert pulse is not None
        assert pulse.stands_out
        assert pulse.hz == pytest.approx(hz, abs=0.1)
        assert pulse.strength == pytest.approx(0.06, abs=0.01)
        assert pulse.strength == pytest.approx(0.06, abs=4 * pulse.strength_sd + 0.003)


@given(
    hz=st.floats(0.8, 2.5),
    strength=st.floats(0.05, 0.15),
    phase=st.floats(0, 6),
    rate=st.floats(20, 60),
    press=st.floats(0, 0.2),
    kept=st.floats(0.7, 1),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_pressing_uneven_stamps_and_lost_frames_change_nothing(
    hz: float, strength: float, phase: float, rate: float, press: float, kept: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    t = times(rate, rng, kept)
    pulse = find_pulse(
        t, beat(t, hz, strength, phase) + pressed(t, press) + rng.normal(0, 0.002, len(t))
    )
    assert pulse is not None
    assert pulse.stands_out
    assert pulse.hz == pytest.approx(hz, abs=0.1)
    assert pulse.strength == pytest.approx(strength, abs=0.02)


def test_a_gap_of_a_second_does_not_hide_a_pulse() -> None:
    t = np.arange(100) / 25
    t = t[(t < 1.2) | (t > 2.2)]
    pulse = find_pulse(t, beat(t, 1.3, 0.05))
    assert pulse is not None
    assert pulse.stands_out
    assert pulse.hz == pytest.approx(1.3, abs=0.05)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("press", [0.0, 0.4])
def test_noise_is_seldom_taken_for_a_pulse_also_where_it_lasts(memory: float, press: float) -> None:
    rng, t = np.random.default_rng(7), np.arange(100) / 25
    alarms = 0
    for _ in range(150):
        noise = rng.normal(0, 1, len(t))
        for i in range(1, len(t)):
            noise[i] = memory * noise[i - 1] + math.sqrt(1 - memory**2) * noise[i]
        shift = rng.uniform(0, 5)
        alarms += found(t, pressed(t + shift, press) + 0.01 * noise)
    assert alarms <= 3  # one in a thousand is meant


@pytest.mark.parametrize("noise", [0.002, 0.01, 0.05])
def test_what_does_not_stand_out_is_weaker_than_what_the_noise_is_said_to_hide(
    noise: float,
) -> None:
    rng, t = np.random.default_rng(11), np.arange(100) / 25
    faint = strong = 0
    for _ in range(100):
        scatter = rng.normal(0, noise, len(t))
        quiet = find_pulse(t, scatter)
        assert quiet is not None
        faint += found(t, scatter + beat(t, 1.3, 0.5 * quiet.hidden_strength))
        strong += found(t, scatter + beat(t, 1.3, 1.5 * quiet.hidden_strength))
    assert faint <= 20
    assert strong >= 80


def test_a_vessel_that_does_not_change_has_no_pulse() -> None:
    t = np.arange(100) / 25
    assert not found(t, np.full(100, 3.0))


def test_a_vessel_that_is_nearly_shut_is_no_place_to_look_for_a_pulse() -> None:
    t = np.arange(100) / 25
    assert find_pulse(t, beat(t, 1.2, 0.1) + pressed(t, 0.9)) is None


@pytest.mark.parametrize(
    ("t", "enough"),
    [
        (np.arange(100) / 25, True),
        (np.arange(30) / 7.5, True),
        (np.arange(40) / 6.0, False),  # 210 beats a minute would look like 150
        (np.arange(60) / 25, False),  # 2.4 s
        (np.linspace(0, 4, 15), False),
    ],
)
def test_too_short_too_few_or_too_slow_says_so(t: F64, enough: bool) -> None:
    assert tells_pulse(t) is enough
    assert found(t, beat(t, 1.2, 0.1)) is enough
