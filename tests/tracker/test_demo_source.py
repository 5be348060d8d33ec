"""The demo source: the phantom's frames with exact times, closable at any moment."""

from dataclasses import replace

import numpy as np
import pytest

from veintrack.tracker.phantom import Phantom, demo_settings
from veintrack.tracker.sources.base import Source
from veintrack.tracker.sources.demo import open_demo

SMALL = replace(demo_settings(), height_px=120, width_px=160)


def test_info_says_what_it_is() -> None:
    source: Source = open_demo()
    info = source.info
    assert (info.name, info.kind, info.live) == ("demo", "demo", False)
    assert (info.shape_px, info.rate_hz, info.frame_count) == ((480, 640), 30.0, 300)
    assert info.spacing_mm == (36 / 480, 36 / 480)
    assert source.driver_drops == 0


def test_frames_are_the_phantoms_with_times_from_their_index() -> None:
    with open_demo(SMALL, 5) as source:
        frames = list(source)
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert [f.capture_ns for f in frames] == [0, 33333333, 66666667, 100000000, 133333333]
    assert all(f.arrival_ns > 0 and f.spacing_mm == source.phantom.spacing_mm for f in frames)
    np.testing.assert_array_equal(frames[3].pixels, Phantom(SMALL).render(3).pixels)


def test_truth_of_a_frame_is_at_hand() -> None:
    source = open_demo(SMALL, 2)
    truth = source.phantom.render(1)
    assert [v.id for v in truth.vessels] == [1, 2, 3]
    np.testing.assert_array_equal(list(source)[1].pixels, truth.pixels)


def test_closing_ends_the_iteration_and_may_be_repeated() -> None:
    source = open_demo(SMALL, 100)
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


def test_a_source_without_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="frame_count must be at least 1, got 0"):
        open_demo(SMALL, 0)
