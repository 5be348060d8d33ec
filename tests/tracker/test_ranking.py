"""Which vein is best, and how much of it a catheter takes."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from veintrack.tracker.frame import Measurement, Track, TrackStatus
from veintrack.tracker.ranking import (
    LARGEST_CATHETER_TO_VEIN,
    best_vein,
    catheter_to_vein_ratio,
    french_to_mm,
)


def vein(number: int, minor_px: float = 40.0, **measured: Any) -> Track:
    return Track(
        id=number,
        status=TrackStatus.CONFIRMED,
        centroid_px=np.zeros(2),
        velocity_px_s=np.zeros(2),
        covariance_px2=np.eye(2),
        box_px=(0.0, 0.0, 1.0, 1.0),
        score=0.9,
        measurement=Measurement(1000.0, 2 * minor_px, minor_px, 0.0, **measured),
    )


def best(*tracks: Track, by: Any = "diameter") -> int | None:
    chosen = best_vein(tracks, by)
    return chosen.id if chosen else None


def test_by_diameter_the_largest_minor_axis_is_best() -> None:
    assert best(vein(1, 30), vein(2, 50), vein(3, 40)) == 2
    assert best(vein(1, 50, minor_mm=3.0), vein(2, 40, minor_mm=3.5)) == 2


def test_by_depth_the_nearest_upper_wall_is_best() -> None:
    assert best(vein(1, near_wall_px=90.0), vein(2, near_wall_px=60.0), by="depth") == 2


def test_by_collapse_the_most_compressible_is_best() -> None:
    assert best(vein(1, collapse=0.1), vein(2, collapse=0.7), by="collapse") == 2


def test_a_missing_value_comes_last_and_ties_go_to_the_larger_then_the_older() -> None:
    assert best(vein(1), vein(2, 10, collapse=0.0), by="collapse") == 2
    assert best(vein(1, 30), vein(2, 50), by="collapse") == 2
    assert best(vein(7, 50), vein(2, 50)) == 2


def test_arteries_are_left_out_and_the_undecided_are_not() -> None:
    artery = vein(1, 90, vein_likeness=0.1, vein_likeness_sd=0.1)
    undecided = vein(2, 50, vein_likeness=0.45, vein_likeness_sd=0.2)
    assert best(artery, undecided, vein(3, 40)) == 2
    assert best(artery) is None


def test_only_confirmed_tracks_count() -> None:
    coasting = replace(vein(1, 90), status=TrackStatus.COASTING, measurement=None)
    tentative = replace(vein(2, 90), status=TrackStatus.TENTATIVE)
    assert best(coasting, tentative, vein(3, 20)) == 3
    assert best() is None


def test_the_order_of_the_tracks_does_not_matter() -> None:
    tracks = [vein(1, 30, collapse=0.2), vein(2, 30, collapse=0.2), vein(3, 10)]
    assert {best(*order, by="collapse") for order in (tracks, tracks[::-1])} == {1}


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match="by must be one of diameter, depth, collapse, got 'size'"):
        best(vein(1), by="size")


def test_a_catheter_of_four_french_takes_a_third_of_a_vein_of_four_millimetres() -> None:
    assert french_to_mm(3) == pytest.approx(1.0)
    ratio = catheter_to_vein_ratio(french_to_mm(4), 4.0)
    assert ratio == pytest.approx(1 / 3)
    assert ratio < LARGEST_CATHETER_TO_VEIN < catheter_to_vein_ratio(french_to_mm(6), 4.0)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_sizes_must_be_positive(wrong: float) -> None:
    with pytest.raises(ValueError, match="catheter_mm must be greater than 0 and finite"):
        catheter_to_vein_ratio(wrong, 4.0)
    with pytest.raises(ValueError, match="vein_mm must be greater than 0 and finite"):
        catheter_to_vein_ratio(1.0, wrong)
    with pytest.raises(ValueError, match="french must be greater than 0 and finite"):
        french_to_mm(wrong)
