"""Frames in memory."""

import numpy as np
import pytest

from veintrack.tracker.sources.arrays import ArraySource

PICTURES = [np.full((4, 6), level, np.uint8) for level in (1, 2, 3)]


def test_each_picture_is_delivered_once_with_its_time() -> None:
    with ArraySource(PICTURES, 50.0, spacing_mm=(0.1, 0.2)) as source:
        frames = list(source)
    assert [(f.index, f.capture_ns, int(f.pixels[0, 0])) for f in frames] == [
        (0, 0, 1),
        (1, 20_000_000, 2),
        (2, 40_000_000, 3),
    ]
    assert frames[0].pixels is PICTURES[0]
    assert frames[0].spacing_mm == (0.1, 0.2)
    assert source.info.shape_px == (4, 6)


def test_they_begin_again_until_there_are_as_many_as_wanted() -> None:
    levels = [int(f.pixels[0, 0]) for f in ArraySource(PICTURES, frame_count=7)]
    assert levels == [1, 2, 3, 1, 2, 3, 1]


def test_closing_ends_the_iteration() -> None:
    source = ArraySource(PICTURES, frame_count=100)
    seen = []
    for frame in source:
        seen.append(frame.index)
        if frame.index == 2:
            source.close()
    assert seen == [0, 1, 2]


def test_what_is_no_grey_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="there must be at least one picture"):
        ArraySource([])
    with pytest.raises(ValueError, match=r"expected \(H, W\) uint8, got \(4, 6, 3\) uint8"):
        ArraySource([np.zeros((4, 6, 3), np.uint8)])
    with pytest.raises(ValueError, match="rate_hz must be greater than 0 and finite, got 0"):
        ArraySource(PICTURES, 0)
    with pytest.raises(ValueError, match="frame_count must be at least 1, got 0"):
        ArraySource(PICTURES, frame_count=0)
