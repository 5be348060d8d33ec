"""The threshold curve against scores at each threshold; calibration against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from veintrack.train.curves import calibrate, count_levels, dice_by_threshold
from veintrack.train.scores import score_frame

Mask = NDArray[np.bool_]

masks = hnp.arrays(bool, (9, 12))
probabilities = hnp.arrays(np.float32, (9, 12), elements=st.floats(0, 1, width=32))


@given(probabilities, masks, st.integers(1, 255))
@settings(deadline=None)
def test_the_threshold_curve_is_dice_at_each_threshold(
    probability: NDArray[np.float32], truth: Mask, level: int
) -> None:
    truth[0, 0] = True
    thresholds, dice = dice_by_threshold(count_levels(probability, truth))
    assert thresholds[level - 1] == level / 256
    direct = score_frame("a", truth, probability >= thresholds[level - 1]).dice
    assert dice[level - 1] == pytest.approx(direct)


def test_probabilities_that_come_true_as_often_as_they_say_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random((500, 500)).astype(np.float32)
    truth = rng.random((500, 500)) < probability
    calibration = calibrate(count_levels(probability, truth))
    assert calibration.error < 0.006
    assert calibration.share.sum() == pytest.approx(1)
    np.testing.assert_allclose(calibration.confidence, calibration.frequency, atol=0.02)


def test_the_calibration_error_is_the_distance_of_word_and_deed() -> None:
    # A quarter of the pixels: 0.9 said, half true. The rest: 0 said, none true.
    probability = np.zeros((4, 4), np.float32)
    probability[0] = 0.9
    truth = np.zeros((4, 4), bool)
    truth[0, :2] = True
    calibration = calibrate(count_levels(probability, truth))
    assert calibration.error == pytest.approx(0.25 * 0.4)
    assert calibration.frequency.tolist() == [0, 0.5]
