"""Scores of a set: what counts where, and how wide the intervals are."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import EMPTY, square
from veintrack.train.scores import FrameScores, score_frame
from veintrack.train.summary import Summary, summarise


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


def width(summary: Summary) -> float:
    dice = summary.mean["dice"]
    assert dice is not None
    return dice.high - dice.low


def test_frames_that_are_copies_count_once_if_they_are_of_one_group() -> None:
    frames = some_frames(20)
    names = [f.name for f in frames]
    grouped = summarise(frames * 4, names * 4)
    once, alone = summarise(frames), summarise(frames * 4)
    assert (grouped.resampled, grouped.resampled_count) == ("groups", 20)
    assert (alone.resampled, alone.resampled_count) == ("frames", 80)
    for part in ("pooled", "mean", "vessels"):
        for name, estimate in getattr(once, part).items():
            same = getattr(grouped, part)[name]
            assert (estimate and (estimate.low, estimate.high)) == (
                same and pytest.approx((same.low, same.high))
            )
    assert width(alone) == pytest.approx(width(grouped) / 2, rel=0.2)  # as if they were 80


def test_groups_of_one_frame_are_the_frames() -> None:
    frames = some_frames(9)
    grouped, alone = summarise(frames, list("abcdefghi")), summarise(frames)
    assert grouped.mean == alone.mean


def test_the_vessels_found_are_counted_by_thirds_of_their_size() -> None:
    truth = square(5, 5, 4) | square(20, 5, 8) | square(40, 5, 16)
    frames = [
        score_frame("a", truth, square(20, 5, 8) | square(40, 5, 16)),
        score_frame("b", truth, square(40, 5, 16)),
        score_frame("c", EMPTY, EMPTY),
    ]
    summary = summarise(frames)
    rates = {k: v and v.value for k, v in summary.detection_rate_by_size.items()}
    assert rates == {"small": 0, "medium": 0.5, "large": 1}
    sides = np.array(summary.size_limits_px) * np.sqrt(np.pi / 4)
    assert 4 < sides[0] <= 8 < sides[1] <= 16


def test_without_a_vessel_there_is_no_rate_by_size() -> None:
    summary = summarise([score_frame("a", EMPTY, EMPTY)])
    assert set(summary.detection_rate_by_size.values()) == {None}
    assert summary.size_limits_px == ()


def test_detections_are_counted_in_all_frames_and_false_ones_apart() -> None:
    frames = [
        score_frame("a", square(20), square(20) | square(40)),
        score_frame("b", EMPTY, square(40)),
        score_frame("c", EMPTY, EMPTY),
    ]
    summary = summarise(frames)
    detections, false = summary.vessels["detections"], summary.vessels["false_detections"]
    assert detections is not None
    assert (detections.value, detections.frames) == (1, 3)
    assert false is not None
    assert (false.value, false.frames) == (1, 1)
    assert summary.false_alarms is not None
    assert (summary.false_alarms.value, summary.false_alarms.frames) == (0.5, 2)


def test_with_an_unknown_background_what_needs_it_is_undefined() -> None:
    frames = [
        score_frame("a", square(20), square(20) | square(40), background_known=False),
        score_frame("b", EMPTY, square(40), background_known=False),
    ]
    summary = summarise(frames)
    assert summary.marks_left_out == 2
    assert summary.pooled["pixel_accuracy"] is None
    assert summary.pooled["marking_nothing_accuracy"] is None
    assert summary.mean["pixel_accuracy"] is None
    assert summary.false_alarms is None
    dice = summary.pooled["dice"]
    assert dice is not None
    assert dice.value == 1


def test_groups_that_give_no_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 groups, got 3 frames in 'x'"):
        summarise(some_frames(3), ["x"] * 3)
    with pytest.raises(ValueError, match="expected a group for each of 3 frames, got 2"):
        summarise(some_frames(3), ["x", "y"])
