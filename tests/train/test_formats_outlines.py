"""Outlines and runs of pixels, filled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Outline

from tests.train.formats_scene import compress, runs
from veintrack.tracker.frame import F64, U8
from veintrack.train.formats.outlines import circle, decode_counts, fill_polygon, fill_runs

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))
MASKS = SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1)))


@given(MASKS)
def test_runs_are_the_mask_that_they_were_made_from(mask: U8) -> None:
    counts = runs(mask)
    np.testing.assert_array_equal(fill_runs(counts, (mask.shape[0], mask.shape[1])), mask)
    assert decode_counts(compress(counts)) == counts


@given(st.lists(st.integers(0, 10**7)))
def test_compressed_runs_are_the_runs(counts: list[int]) -> None:
    assert decode_counts(compress(counts)) == counts


def test_compressed_runs_follow_the_description() -> None:
    # By hand: 6; 1; 40 = 8 + 1 * 32 in two groups; 5 as 5 - 1; 16 as 16 - 40 = 8 - 1 * 32.
    assert decode_counts("61X14XO") == [6, 1, 40, 5, 16]


@pytest.mark.parametrize("counts", [[3], [], [2, 5]])
def test_runs_that_are_not_the_picture_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="pixels, but a 3x2 picture has 6"):
        fill_runs(counts, (2, 3))


@given(arrays(np.float64, (6, 2), elements=st.floats(-4, 16)))
def test_a_pixel_is_inside_where_its_centre_is(corners: F64) -> None:
    # Off the round numbers that are likely to be drawn, so that no centre is on an edge.
    corners = np.round(corners, 2) + np.array([0.004, 0.0013])
    y, x = np.mgrid[:12, :11]
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    inside = np.zeros(len(centres), bool)
    for corner, following in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        triangle = Outline(np.array([corners[0], corner, following, corners[0]]), closed=True)
        inside ^= triangle.contains_points(centres)
    np.testing.assert_array_equal(fill_polygon(corners, (12, 11)).ravel(), inside)


@given(st.floats(-3, 15), st.floats(-3, 15))
def test_polygons_that_share_an_edge_share_no_pixel(top: float, bottom: float) -> None:
    left = fill_polygon(np.array([[-1, -1], [top, -1], [bottom, 13], [-1, 13]]), (12, 12))
    right = fill_polygon(np.array([[top, -1], [13 + 5, -1], [13 + 5, 13], [bottom, 13]]), (12, 12))
    np.testing.assert_array_equal(left + right, 1)


def test_coordinates_count_from_the_corner_of_the_picture() -> None:
    pixel = fill_polygon(np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]), (3, 3))
    assert pixel.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_a_polygon_that_overlaps_itself_has_a_hole() -> None:
    twice = np.array(
        [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0], [3, 3], [6, 3], [6, 6], [3, 6], [3, 3]]
    )
    assert fill_polygon(twice.astype(np.float64), (9, 9)).sum() == 72


def test_a_circle_has_its_area() -> None:
    outline = circle((100.3, 90.6), (100.3, 10.6))
    assert fill_polygon(outline, (200, 200)).sum() == pytest.approx(np.pi * 80**2, rel=1e-3)
