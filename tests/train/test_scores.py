"""Scores against closed forms, and what must hold for any masks."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from tests.conftest import EMPTY, disc, square
from veintrack.train.scores import (
    marks_on_vessels,
    score_frame,
    surface_distances,
    vessels_alone,
)

Mask = NDArray[np.bool_]


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


def test_each_labelled_vessel_has_the_diameter_of_a_disc_of_its_size_and_was_found_or_not() -> None:
    scores = score_frame("a", circle(50, 50, 30) | circle(150, 150, 10), circle(150, 150, 9))
    assert scores.diameters_px == pytest.approx((60, 20), rel=0.01)
    assert scores.found == (False, True)


def test_with_an_unknown_background_only_marks_on_labelled_vessels_count() -> None:
    truth, beside = square(10) | square(60, y=45), square(50)
    marked = square(12) | beside | square(75, y=0, side=2)
    known = score_frame("a", truth, marked, min_area_px2=9)
    unknown = score_frame("a", truth, marked, min_area_px2=9, background_known=False)
    assert (known.left_out, unknown.left_out) == (None, 1)  # the speck is no detection anyway
    assert unknown.dice == score_frame("a", truth, square(12)).dice
    assert unknown.precision == pytest.approx(0.8)
    assert (unknown.marked, unknown.pixel_accuracy, unknown.tn) == (1, None, 0)
    assert unknown.hd95_px == score_frame("a", truth, square(12)).hd95_px
    assert (unknown.recall, unknown.found) == (known.recall, known.found)


def test_a_mark_that_merges_a_labelled_vessel_with_another_counts_whole() -> None:
    merged = square(10) | square(20) | square(30)
    scores = score_frame("a", square(10), merged, background_known=False)
    assert scores.precision == pytest.approx(1 / 3)
    assert scores.left_out == 0


masks_and_probabilities = st.tuples(
    masks, hnp.arrays(np.float32, (9, 12), elements=st.integers(0, 64).map(lambda k: k / 64))
)


@given(masks_and_probabilities, st.integers(1, 64))
@settings(deadline=None)
def test_vessels_alone_leaves_the_marks_on_vessels_at_every_threshold(
    drawn: tuple[Mask, NDArray[np.float32]], level: int
) -> None:
    truth, probability = drawn
    alone = vessels_alone(probability, truth) >= level / 64
    np.testing.assert_array_equal(alone, marks_on_vessels(probability >= level / 64, truth))


@given(masks, masks)
@settings(deadline=None)
def test_recall_and_the_vessels_found_do_not_depend_on_what_the_background_is(
    truth: Mask, marked: Mask
) -> None:
    known = score_frame("a", truth, marked)
    unknown = score_frame("a", truth, marked, background_known=False)
    assert known.recall == unknown.recall
    assert known.matched == unknown.matched
    assert unknown.left_out is not None
    assert known.marked == unknown.marked + unknown.left_out


@given(masks, masks, masks, st.booleans())
@settings(deadline=None)
def test_where_nothing_is_known_nothing_that_is_labelled_or_marked_matters(
    truth: Mask, marked: Mask, known: Mask, background_known: bool
) -> None:
    scores = score_frame("a", truth, marked, known=known, background_known=background_known)
    for filled in (True, False):
        same = score_frame(
            "a",
            np.where(known, truth, filled),
            np.where(known, marked, not filled),
            known=known,
            background_known=background_known,
        )
        assert same == scores
    if background_known:
        assert scores.tp + scores.fp + scores.fn + scores.tn == known.sum()


def test_nothing_of_an_evaluation_needs_torch() -> None:
    code = "import sys, veintrack.train.evaluation; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "matplotlib"} & set(done.stdout.split())
