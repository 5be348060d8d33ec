"""The best vein as a run names it at its end."""

from dataclasses import replace

import pytest

from tests.tracker.test_sinks import result_of, seen_vessel, track_of
from veintrack.tracker.cli.best import BestVein
from veintrack.tracker.frame import Track, TrackStatus


def vein(number: int, minor_mm: float | None, **measured: float) -> Track:
    track = track_of(seen_vessel(), TrackStatus.CONFIRMED, number)
    assert track.measurement is not None
    changed = replace(
        track.measurement, minor_mm=minor_mm, near_wall_px=None, near_wall_mm=None, **measured
    )
    return replace(track, measurement=changed)


def test_nothing_is_named_unless_it_is_asked_for() -> None:
    best = BestVein(None)
    best.show(result_of(0, [vein(1, 4.0)]))
    assert best.as_dict() is None
    assert best.in_words() == ""


def test_the_best_of_the_last_frame_that_had_one_is_named() -> None:
    best = BestVein("diameter")
    best.show(result_of(0, [vein(1, 4.0), vein(2, 3.0)]))
    best.show(result_of(1, [vein(2, 3.1)]))
    best.show(result_of(2, []))
    named = best.as_dict()
    assert named is not None
    assert (named["track_id"], named["by"], named["minor_mm"]) == (2, "diameter", 3.1)
    assert named["catheter_to_vein"] is None
    assert best.in_words() == "2, 3.1 mm wide (by diameter)"


def test_it_says_what_is_known_of_it_and_how_much_of_it_a_catheter_takes() -> None:
    best = BestVein("collapse", catheter_mm=1.2)
    known = vein(7, 4.0, collapse=0.52)
    assert known.measurement is not None
    walled = replace(known.measurement, near_wall_px=85.0, near_wall_mm=8.5)
    best.show(result_of(0, [replace(known, measurement=walled)]))
    assert best.in_words() == (
        "7, 4.0 mm wide, 8.5 mm deep, collapses by 52 %, the catheter takes 30 % of its width "
        "(by collapse)"
    )
    named = best.as_dict()
    assert named is not None
    assert named["catheter_to_vein"] == pytest.approx(0.3)


def test_without_spacing_it_is_told_in_pixels_and_with_no_catheter() -> None:
    best = BestVein("diameter", catheter_mm=1.2)
    best.show(result_of(0, [vein(1, None)]))
    assert best.in_words() == "1, 40 px wide (by diameter)"
    named = best.as_dict()
    assert named is not None
    assert (named["minor_mm"], named["catheter_to_vein"]) == (None, None)
