"""Whether what is said of stated uncertainties is true, on errors whose law is known."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from veintrack.tracker.frame import F64
from veintrack.tracker.scoring.errors import (
    Consistency,
    consistency_of,
    effective_count,
    errors_of,
    nees_of,
)


def correlated(rng: np.random.Generator, runs: int, length: int, phi: float) -> F64:
    """Standard normal errors of a first-order autoregression, shape (runs, length, 2)."""
    steps = rng.normal(0, math.sqrt(1 - phi**2), (runs, length, 2))
    steps[:, 0] /= math.sqrt(1 - phi**2)
    errors: F64 = lfilter([1.0], [1.0, -phi], steps, axis=1)
    return errors


def judged(errors: F64, stated_px2: float = 1.0) -> Consistency:
    runs, length, _ = errors.shape
    nees = np.sum(errors**2, axis=2).reshape(-1) / stated_px2
    got = consistency_of(nees, np.repeat(np.arange(runs), length))
    assert got is not None
    return got


def test_nees_is_the_mahalanobis_distance_squared() -> None:
    rng = np.random.default_rng(0)
    offset = rng.normal(size=(20, 2))
    half = rng.normal(size=(20, 2, 2))
    cov = half @ half.transpose(0, 2, 1) + np.eye(2)
    by_inverse = np.einsum("ni,nij,nj->n", offset, np.linalg.inv(cov), offset)
    np.testing.assert_allclose(nees_of(offset, cov), by_inverse)


def test_a_region_without_size_holds_nothing() -> None:
    nees = nees_of(np.zeros((3, 2)), np.zeros((3, 2, 2)))
    got = consistency_of(nees, np.zeros(3, np.int64))
    assert got is not None
    assert [one.measured for one in got.coverage] == [0, 0, 0]
    assert got.nees == math.inf


def test_true_covariances_are_found_true() -> None:
    got = judged(correlated(np.random.default_rng(1), 6, 500, 0.0))
    for one in got.coverage:
        assert one.measured == pytest.approx(one.stated, abs=0.02)
        assert one.low < one.stated < one.high
    assert got.nees == pytest.approx(2, abs=0.1)
    assert got.nees_accepted[0] < got.nees < got.nees_accepted[1]
    stated, measured = np.transpose(got.curve)
    assert np.abs(stated - measured).max() < 0.04


@pytest.mark.parametrize(("stated_px2", "nees"), [(0.5, 4.0), (2.0, 1.0)])
def test_false_covariances_are_found_false(stated_px2: float, nees: float) -> None:
    got = judged(correlated(np.random.default_rng(2), 6, 500, 0.0), stated_px2)
    assert got.nees == pytest.approx(nees, rel=0.1)
    assert not got.nees_accepted[0] < got.nees < got.nees_accepted[1]
    # The region of a share p with the covariance off by k holds 1 - (1 - p)^k of the truth.
    for one in got.coverage:
        assert one.measured == pytest.approx(1 - (1 - one.stated) ** stated_px2, abs=0.03)
        assert not one.low < one.stated < one.high


def test_independent_samples_count_in_full() -> None:
    values = np.random.default_rng(3).normal(size=4000)
    assert effective_count(values, np.zeros(4000, np.int64)) == pytest.approx(4000, rel=0.1)


@pytest.mark.parametrize("phi", [0.5, 0.9])
def test_correlated_samples_count_as_their_closed_form_says(phi: float) -> None:
    # An autoregression's mean has (1 + phi) / (1 - phi) times the variance of independent values.
    values = correlated(np.random.default_rng(4), 8, 4000, phi)[:, :, 0].reshape(-1)
    got = effective_count(values, np.repeat(np.arange(8), 4000))
    assert got == pytest.approx(len(values) * (1 - phi) / (1 + phi), rel=0.2)


def test_errors_that_stay_count_once_for_each_object() -> None:
    values = np.repeat(np.random.default_rng(5).normal(size=20), 100)
    assert effective_count(values, np.repeat(np.arange(20), 100)) == pytest.approx(20, rel=0.1)
    assert effective_count(np.ones(50), np.repeat(np.arange(5), 10)) == 5


def test_errors_that_alternate_count_in_full() -> None:
    values = np.tile([0.5, 1.5], 25)
    assert effective_count(values, np.zeros(50, np.int64)) == 50
    assert effective_count(values, np.repeat(np.arange(25), 2)) == 50


def test_runs_may_be_mixed_and_of_any_length() -> None:
    rng = np.random.default_rng(6)
    runs = rng.integers(0, 7, 500)
    values = rng.normal(size=500)
    order = np.argsort(runs, kind="stable")
    assert effective_count(values, runs) == pytest.approx(
        effective_count(values[order], runs[order])
    )
    assert effective_count(np.array([1.0, 2.0]), np.array([0, 1])) == 2


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(7)
    held = np.zeros((3, 200), bool)
    accepted = np.zeros(200, bool)
    for n in range(200):
        got = judged(correlated(rng, 4, 250, 0.8))
        held[:, n] = [one.low <= one.stated <= one.high for one in got.coverage]
        accepted[n] = got.nees_low <= 2 <= got.nees_high
    least = stats.binom.ppf(0.001, 200, 0.93) / 200
    assert (held.mean(axis=1) > least).all(), held.mean(axis=1)
    assert accepted.mean() > 0.88


def test_nothing_to_judge_gives_nothing() -> None:
    assert consistency_of(np.ones(1), np.zeros(1, np.int64)) is None
    assert errors_of(np.zeros((0, 2))) is None
    single = errors_of(np.array([[3.0, 4.0]]))
    assert single is not None
    assert (single.mean, single.sd) == (5, 0)
