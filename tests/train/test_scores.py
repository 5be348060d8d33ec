"""Scores against closed forms, and what must hold for any masks."""

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from tests.conftest import disc
from veintrack.train.scores import (
    FrameScores,
    calibrate,
    count_levels,
    dice_by_threshold,
    score_frame,
    summarise,
    surface_distances,
)

Mask = NDArray[np.bool_]
EMPTY: Mask = np.zeros((60, 80), bool)


def square(x: int, y: int = 20, side: int = 10) -> Mask:
    mask: Mask = EMPTY.copy()
    mask[y : y + side, x : x + side] = True
    return mask


def circle(x: float, y: float, radius: float) -> Mask:
    inside: Mask = disc((200, 200), x, y, radius).astype(bool)
    return inside


def test_a_square_moved_by_three_of_ten_pixels() -> None:
    scores = score_frame("a", square(10), square(13), (0.5, 0.1))
    assert (scores.tp, scores.fp, scores.fn, scores.tn) == (70, 30, 30, 60 * 80 - 130)
    assert scores.dice == pytest.approx(0.7)
    assert scores.iou == pytest.approx(70 / 130)
    assert scores.precision == scores.recall == pytest.approx(0.7)
    assert scores.pixel_accuracy == pytest.approx(1 - 60 / 4800)
    assert scores.hd95_px == 3
    assert scores.hd95_mm == pytest.approx(0.3)  # 3 columns of 0.1 mm; rows are not crossed
    assert scores.centroid_errors_px == pytest.approx((3,))
    assert scores.centroid_errors_mm == pytest.approx((0.3,))


def test_discs_about_one_centre_are_the_difference_of_their_radii_apart() -> None:
    distances = surface_distances(circle(100, 100, 50), circle(100, 100, 60))
    assert distances is not None
    hd95, mean = distances
    assert hd95 == pytest.approx(10, abs=0.8)
    assert mean == pytest.approx(10, abs=0.3)


def test_overlap_of_discs_about_one_centre_is_the_ratio_of_their_areas() -> None:
    scores = score_frame("a", circle(100, 100, 40), circle(100, 100, 80))
    assert scores.dice == pytest.approx(2 / (1 + 4), abs=0.002)
    assert scores.iou == pytest.approx(1 / 4, abs=0.002)


def test_one_far_speck_moves_the_mean_but_not_the_95th_percentile() -> None:
    truth = square(10, side=20)
    speckled = truth.copy()
    speckled[50, 70] = True
    distances = surface_distances(truth, speckled)
    assert distances is not None
    assert distances[0] == 0
    assert distances[1] == pytest.approx(np.hypot(11, 41) / (76 + 77))


def test_a_mask_at_the_border_has_its_outline_there() -> None:
    distances = surface_distances(square(0), square(1))
    assert distances is not None
    assert distances[0] == 1


def test_surface_distances_are_undefined_where_a_mask_is_empty() -> None:
    assert surface_distances(square(10), EMPTY) is None
    scores = score_frame("a", square(10), EMPTY, (1, 1))
    assert (scores.hd95_px, scores.surface_distance_mm) == (None, None)
    assert scores.dice == 0
    assert scores.precision is None


def test_vessels_are_matched_one_to_one_for_the_highest_overlap() -> None:
    truth = square(10) | square(30) | square(60)
    # The first mark touches two vessels, the second only one; the third touches none.
    marked = EMPTY.copy()
    marked[20:30, 12:33] = True
    marked[20:30, 36:44] = True
    marked |= square(60, y=45)
    scores = score_frame("a", truth, marked)
    assert (scores.vessels, scores.marked, scores.matched) == (3, 3, 2)
    assert scores.centroid_errors_px == pytest.approx((22 - 14.5, 39.5 - 34.5))


def test_marks_that_the_tracker_would_drop_are_no_detections() -> None:
    marked = square(10) | square(50, side=3)
    assert score_frame("a", square(10), marked, min_area_px2=9).marked == 2
    scores = score_frame("a", square(10), marked, min_area_px2=9.5)
    assert (scores.marked, scores.matched, scores.fp) == (1, 1, 9)


def test_masks_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of one size, got \(60, 80\), \(3, 3\)"):
        score_frame("a", EMPTY, np.zeros((3, 3), bool))


masks = hnp.arrays(bool, (9, 12))


@given(masks, masks)
@settings(deadline=None)
def test_dice_and_surface_distances_do_not_care_which_mask_is_the_truth(a: Mask, b: Mask) -> None:
    there, back = score_frame("a", a, b), score_frame("a", b, a)
    assert there.dice == back.dice
    assert there.precision == back.recall
    assert there.hd95_px == back.hd95_px
    assert there.surface_distance_px == pytest.approx(back.surface_distance_px)
    assert there.matched == back.matched


@given(masks, masks)
@settings(deadline=None)
def test_surface_distances_are_those_between_all_pairs_of_boundary_pixels(a: Mask, b: Mask) -> None:
    def boundary(mask: Mask) -> NDArray[np.float64]:
        p = np.pad(mask, 1)
        inner = p[:-2, 1:-1] & p[2:, 1:-1] & p[1:-1, :-2] & p[1:-1, 2:]
        points: NDArray[np.float64] = np.argwhere(mask & ~inner) * np.array([0.5, 0.2])
        return points

    measured = surface_distances(a, b, (0.5, 0.2))
    if measured is None:
        return
    pairs = cdist(boundary(a), boundary(b))
    there, back = pairs.min(1), pairs.min(0)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    assert measured == pytest.approx((hd95, np.concatenate([there, back]).mean()))


@given(masks)
@settings(deadline=None)
def test_a_perfect_mask_scores_one_and_zero(mask: Mask) -> None:
    scores = score_frame("a", mask, mask, (0.1, 0.2))
    assert scores.pixel_accuracy == 1
    assert scores.matched == scores.vessels == scores.marked
    if mask.any():
        assert scores.dice == scores.iou == scores.precision == scores.recall == 1
        assert scores.hd95_px == scores.surface_distance_mm == 0
        assert set(scores.centroid_errors_px) == {0.0}


@given(masks, masks)
@settings(deadline=None)
def test_millimetres_are_pixels_times_an_even_spacing(a: Mask, b: Mask) -> None:
    px, mm = surface_distances(a, b), surface_distances(a, b, (0.25, 0.25))
    assert (px is None) == (mm is None)
    if px and mm:
        assert mm == pytest.approx(tuple(0.25 * d for d in px))


def some_frames(n: int, seed: int = 0) -> list[FrameScores]:
    shifts = np.random.default_rng(seed).integers(0, 12, n).tolist()
    return [score_frame(f"{i}", square(20), square(20 + shift)) for i, shift in enumerate(shifts)]


@given(st.permutations([*some_frames(8), score_frame("e", EMPTY, square(3))]))
@settings(deadline=None, max_examples=20)
def test_the_order_of_frames_does_not_matter(frames: Sequence[FrameScores]) -> None:
    ours = summarise(frames, replicates=1)
    other = summarise(sorted(frames, key=lambda f: f.name), replicates=1)
    for part in ("pooled", "mean", "vessels"):
        for name, estimate in getattr(ours, part).items():
            same = getattr(other, part)[name]
            assert (estimate and estimate.value) == pytest.approx(same and same.value)
    assert ours.centroid_error_px == pytest.approx(other.centroid_error_px)


def test_intervals_hold_the_estimate_and_shrink_with_the_frames() -> None:
    width = []
    for n in (20, 320):
        summary = summarise(some_frames(n))
        for estimate in (summary.pooled["dice"], summary.mean["dice"], summary.mean["hd95_px"]):
            assert estimate is not None
            assert estimate.low < estimate.value < estimate.high
        dice = summary.mean["dice"]
        assert dice is not None
        width.append(dice.high - dice.low)
    assert width[1] == pytest.approx(width[0] / 4, rel=0.4)  # as one over the root of n


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    frames = some_frames(400)
    dice = summarise(frames).mean["dice"]
    assert dice is not None
    error = np.std([f.dice for f in frames if f.dice is not None]) / 20
    assert (dice.low, dice.high) == pytest.approx(
        (dice.value - 1.96 * error, dice.value + 1.96 * error), abs=0.2 * error
    )


def test_the_same_seed_gives_the_same_intervals() -> None:
    assert summarise(some_frames(9)) == summarise(some_frames(9))


def test_frames_without_a_vessel_count_in_the_pool_and_apart_but_not_in_the_means() -> None:
    frames = [
        score_frame("whole", square(20), square(20)),
        score_frame("missed", square(20), EMPTY),
        score_frame("quiet", EMPTY, EMPTY),
        score_frame("alarm", EMPTY, square(20) | square(40)),
    ]
    summary = summarise(frames)
    assert (summary.frames_with_vessel, summary.frames_without_vessel) == (2, 2)
    assert summary.frames_without_surface == 1
    dice, pooled, hd95 = summary.mean["dice"], summary.pooled["dice"], summary.mean["hd95_px"]
    assert dice is not None
    assert (dice.value, dice.frames) == (0.5, 2)
    assert pooled is not None
    assert pooled.value == pytest.approx(200 / (200 + 200 + 100))
    assert hd95 is not None
    assert (hd95.value, hd95.frames) == (0, 1)
    assert summary.false_alarms is not None
    assert (summary.false_alarms.value, summary.false_alarms.frames) == (1, 2)
    detected, false = summary.vessels["detection_rate"], summary.vessels["false_detections"]
    assert detected is not None
    assert detected.value == 0.5
    assert false is not None
    assert false.value == 0
    nothing = summary.pooled["marking_nothing_accuracy"]
    assert nothing is not None
    assert nothing.value == pytest.approx(1 - 200 / (4 * 4800))


def test_what_no_frame_defines_is_undefined_in_the_set() -> None:
    summary = summarise([score_frame("missed", square(20), EMPTY)])
    assert summary.mean["hd95_px"] is None
    assert summary.pooled["precision"] is None
    assert summary.vessels["centroid_error_px"] is None
    assert summary.centroid_error_px == {}
    assert summary.false_alarms is None


def test_a_summary_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0 frames, 2000 replicates"):
        summarise([])
    with pytest.raises(ValueError, match="0 replicates"):
        summarise(some_frames(1), replicates=0)


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


def test_scores_and_report_need_no_torch() -> None:
    code = "import sys, veintrack.train.report, veintrack.train.scores; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "matplotlib"} & set(done.stdout.split())
