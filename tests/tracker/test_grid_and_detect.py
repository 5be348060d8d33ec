"""Where a vessel is must survive the way to the network's grid and back."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from veintrack.tracker.detect import DetectSettings, axes_of, describe, detect, moments_of
from veintrack.tracker.frame import F32, F64, U8, Patch
from veintrack.tracker.grid import (
    fit,
    image_to_grid,
    mask_to_grid,
    probability_to_frame,
)

sizes = st.integers(60, 1200)


def ellipse(shape: tuple[int, int], x: float, y: float, a: float, b: float, angle_rad: float) -> U8:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    dx, dy = columns - x, rows - y
    u = dx * math.cos(angle_rad) + dy * math.sin(angle_rad)
    v = -dx * math.sin(angle_rad) + dy * math.cos(angle_rad)
    mask: U8 = ((u / a) ** 2 + (v / b) ** 2 <= 1).astype(np.uint8)
    return mask


@st.composite
def placed_ellipses(draw: st.DrawFn) -> tuple[tuple[int, int], float, float, float, float, float]:
    height, width = draw(sizes), draw(sizes)
    short = min(height, width)
    # A vessel that the grid can hold: at least some 8 grid px across.
    per_grid_px = max(height, width) / 256
    least = max(5.0, 4 * per_grid_px)
    a = draw(st.floats(least, max(least, short / 4)))
    b = draw(st.floats(max(least, a / 3), a))
    x = draw(st.floats(a + 1, max(a + 1, width - a - 2)))
    y = draw(st.floats(a + 1, max(a + 1, height - a - 2)))
    return (height, width), x, y, a, b, draw(st.floats(-math.pi / 2, math.pi / 2))


@settings(max_examples=150, deadline=None)
@given(placed_ellipses())
def test_a_known_ellipse_comes_back_within_three_tenths_of_a_pixel(
    placed: tuple[tuple[int, int], float, float, float, float, float],
) -> None:
    shape, x, y, a, b, angle = placed
    mask = ellipse(shape, x, y, a, b, angle)
    grid = fit(shape, (256, 256))
    (found,) = detect(mask_to_grid(mask, grid), grid, 0.5)

    rows, columns = np.nonzero(mask)
    assert_allclose(found.centroid_px, [columns.mean(), rows.mean()], atol=0.3)
    if b >= 8:  # the mask of a smaller one, in whole pixels, is itself up to 0.27 px off
        assert_allclose(found.centroid_px, [x, y], atol=0.3)
    assert found.area_px2 == pytest.approx(math.pi * a * b, rel=0.08)


def test_axes_angle_box_and_contour_of_a_tilted_ellipse() -> None:
    mask = ellipse((480, 640), 200.3, 150.7, 60, 25, math.radians(30))
    grid = fit((480, 640), (256, 256))
    (found,) = detect(mask_to_grid(mask, grid), grid, 0.5, contours=True)

    assert found.axes_px == pytest.approx((120, 50), abs=1.5)
    assert math.degrees(found.angle_rad) == pytest.approx(30, abs=1)
    left, top, width, height = found.box_px
    rows, columns = np.nonzero(mask)
    step = 640 / 256
    assert left == pytest.approx(columns.min() - 0.5, abs=step)
    assert top == pytest.approx(rows.min() - 0.5, abs=step)
    assert left + width == pytest.approx(columns.max() + 0.5, abs=step)
    assert top + height == pytest.approx(rows.max() + 0.5, abs=step)
    assert found.contour_px is not None
    dx, dy = (found.contour_px - found.centroid_px).T
    u = dx * math.cos(math.radians(30)) + dy * math.sin(math.radians(30))
    v = -dx * math.sin(math.radians(30)) + dy * math.cos(math.radians(30))
    assert_allclose(np.hypot(u / 60, v / 25), 1.0, atol=0.06)


@given(sizes, sizes, st.integers(1, 16), st.integers(1, 16))
def test_mapping_to_the_grid_and_back_is_the_identity(
    height: int, width: int, rows: int, columns: int
) -> None:
    grid = fit((height, width), (32 * rows, 32 * columns))
    x, y = np.array([0.0, width - 1.0, width / 3]), np.array([0.0, height - 1.0, height / 7])
    assert_allclose(grid.to_frame(*grid.to_grid(x, y)), (x, y), atol=1e-9)
    left, top, w, h = grid.inner
    assert grid.to_grid(-0.5, -0.5) == (left - 0.5, top - 0.5)
    assert_allclose(grid.to_frame(left + w - 0.5, top + h - 0.5), (width - 0.5, height - 0.5))


def test_a_crop_moves_nothing() -> None:
    mask = ellipse((480, 640), 300, 200, 40, 30, 0)
    grid = fit((480, 640), (256, 256), (150, 90, 333, 301))
    (found,) = detect(mask_to_grid(mask, grid), grid, 0.5)
    assert_allclose(found.centroid_px, [300, 200], atol=0.1)


def test_a_crop_outside_the_frame_is_refused() -> None:
    with pytest.raises(ValueError, match=r"crop 600,0,100,100 .* inside the 640x480 frame"):
        fit((480, 640), (256, 256), (600, 0, 100, 100))


def test_the_picture_is_written_inside_and_stays_black_outside() -> None:
    frame = np.full((100, 400), 200, np.uint8)
    grid = fit(frame.shape, (64, 64))
    out = np.zeros((64, 64), np.uint8)
    image_to_grid(frame, grid, out)
    x, y, w, h = grid.inner
    assert (w, h) == (64, 16)
    assert (out[y : y + h, x : x + w] == 200).all()
    assert out.sum() == 200 * w * h


def test_probability_comes_back_in_the_frames_own_pixels() -> None:
    mask = ellipse((480, 640), 320, 240, 80, 60, 0.4)
    grid = fit((480, 640), (256, 256), (100, 50, 500, 400))
    back = probability_to_frame(mask_to_grid(mask, grid), grid, (480, 640)) >= 0.5
    both, either = (back & (mask == 1)).sum(), (back | (mask == 1)).sum()
    assert both / either > 0.97


def test_blobs_are_told_apart_sorted_by_size_and_small_ones_left_out() -> None:
    mask = ellipse((256, 256), 60, 60, 10, 10, 0) | ellipse((256, 256), 150, 150, 30, 30, 0)
    mask[200:203, 10:13] = 1
    grid = fit((256, 256), (256, 256))
    found = detect(mask_to_grid(mask, grid), grid, 0.5, DetectSettings(min_area_grid_px2=12))
    assert [round(d.area_px2, -2) for d in found] == [2800, 300]


@given(arrays(np.bool_, (24, 32)))
def test_blobs_are_those_that_labelling_the_whole_map_finds(mask: NDArray[np.bool_]) -> None:
    grid = fit((24, 32), (32, 32))
    probability = np.zeros((32, 32), np.float32)
    probability[4:28] = mask
    found = detect(probability, grid, 0.5, DetectSettings(min_area_grid_px2=4))
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    boxes = [
        (left - 0.5, top - 0.5, width, height)
        for left, top, width, height, area in stats[1:count].tolist()
        if area >= 4
    ]
    assert sorted(d.box_px for d in found) == sorted(boxes)


def test_more_blobs_than_a_byte_can_tell_apart_are_found_each() -> None:
    """Each is 3 x 3 px and touches four others by a corner."""
    tile = np.kron(np.array([[1, 0], [0, 1]]), np.ones((3, 3)))
    probability = np.zeros((256, 256), np.float32)
    probability[2:248, 2:248] = np.tile(tile, (41, 41))
    grid = fit((256, 256), (256, 256))
    found = detect(probability, grid, 0.5, DetectSettings(min_area_grid_px2=9))
    assert len(found) == 2 * 41 * 41
    assert {d.box_px[2:] for d in found} == {(3, 3)}
    at = np.array([d.centroid_px for d in found])
    assert_allclose(at, np.rint(at), atol=1e-9)


def test_the_centroid_and_its_covariance_are_sums_over_the_pixels() -> None:
    rows, columns = np.mgrid[:256, :256].astype(np.float64)
    distance = np.hypot((columns - 180.3) / 1.7, rows - 60.8) - 15
    p = (1 / (1 + np.exp(distance / 1.5))).astype(np.float32)
    p[p < 0.3] = 0  # so that all of it lies within a pixel of the blob
    (found,) = detect(p, fit((512, 512), (256, 256)), 0.31)

    inside = p[p >= p[p >= 0.31].mean()].mean()
    assert found.edge == pytest.approx(inside / 2)
    weight = np.minimum(p / inside, 1.0)
    xy = np.stack([columns, rows])
    centroid = (weight * xy).sum((1, 2)) / weight.sum()
    assert_allclose(found.centroid_px, 2 * (centroid + 0.5) - 0.5, rtol=1e-6)
    d = xy - centroid[:, None, None]
    moment = np.einsum("ihw,jhw,hw->ij", d, d, p * (1 - p))
    expected = 4 * 16 * moment / weight.sum() ** 2 + 0.3**2 * np.eye(2)
    assert_allclose(found.covariance_px2, expected, rtol=1e-5, atol=1e-8)


def test_a_neighbours_soft_edge_does_not_pull_the_centroid() -> None:
    alone = ellipse((256, 256), 100, 100, 20, 20, 0).astype(np.float32)
    beside = alone.copy()
    beside[ellipse((256, 256), 142, 100, 20, 20, 0) == 1] = 1
    grid = fit((256, 256), (256, 256))
    (single,) = detect(alone, grid, 0.5)
    pair = detect(beside, grid, 0.5)
    nearest = min(pair, key=lambda d: float(d.centroid_px[0]))
    assert_allclose(nearest.centroid_px, single.centroid_px, atol=0.05)


def test_a_blurred_edge_makes_the_centroid_less_certain() -> None:
    rows, columns = np.mgrid[:256, :256]
    distance = np.hypot(columns - 120, rows - 130) - 25
    grid = fit((256, 256), (256, 256))

    def spread(width_px: float) -> float:
        p = (1 / (1 + np.exp(distance / width_px))).astype(np.float32)
        (found,) = detect(p, grid, 0.5)
        return float(np.trace(found.covariance_px2))

    assert spread(0.3) < spread(1.0) < spread(3.0)


@given(st.floats(1, 100), st.floats(1, 100), st.floats(-1.5, 1.5))
def test_axes_of_second_moments_in_closed_form(a: float, b: float, angle: float) -> None:
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    moments: F64 = turn @ np.diag([a**2 / 4, b**2 / 4]) @ turn.T
    major, minor, found_angle = axes_of(moments[0, 0], moments[1, 1], moments[0, 1])
    assert (major, minor) == pytest.approx((2 * max(a, b), 2 * min(a, b)), rel=1e-6, abs=1e-3)
    if a > 1.01 * b:
        assert math.cos(2 * (found_angle - angle)) == pytest.approx(1, abs=1e-4)


@given(st.floats(1, 100), st.floats(0.01, 1), st.floats(-1.5, 1.5))
def test_moments_and_axes_turn_each_other_back(major: float, ratio: float, angle: float) -> None:
    xx, yy, xy = moments_of(major, ratio * major, angle)
    assert axes_of(xx, yy, xy)[:2] == pytest.approx((major, ratio * major), rel=1e-4)


def test_a_detection_keeps_the_pixels_that_it_was_made_from() -> None:
    p = ellipse((256, 256), 100, 90, 20, 12, 0.3).astype(np.float32)
    p[ellipse((256, 256), 125, 90, 4, 4, 0) == 1] = 0.9  # a neighbour, one pixel away at most
    grid = fit((512, 640), (256, 256), (40, 20, 500, 400))
    large, small = detect(p, grid, 0.31)
    assert large.patch is not None
    assert small.patch is not None
    assert large.patch.threshold == np.float32(0.31)
    assert large.patch.step_px == pytest.approx((500 / 256, 400 / 205))
    for found in (large, small):
        patch = found.patch
        assert patch is not None
        rows, columns = np.mgrid[: patch.probability.shape[0], : patch.probability.shape[1]]
        weight = np.minimum(patch.probability / (2 * found.edge), 1)
        x = patch.origin_px[0] + patch.step_px[0] * (weight * columns).sum() / weight.sum()
        y = patch.origin_px[1] + patch.step_px[1] * (weight * rows).sum() / weight.sum()
        assert_allclose(found.centroid_px, [x, y])
        assert patch.probability.dtype == np.float64
        assert patch.probability.base is None  # not a view that keeps the whole map alive
    assert (large.patch.probability[:, -2:] == 0).sum() > 0  # the neighbour's pixels


@pytest.mark.parametrize("semi_px", [(60, 40), (25, 20), (25, 10), (20, 6)])
def test_a_mask_that_covers_pixels_in_part_has_the_axes_of_its_ellipse(
    semi_px: tuple[int, int],
) -> None:
    grid = fit((480, 640), (256, 256))
    off = []
    for x, y in ((200.0, 150.0), (300.7, 221.3), (401.4, 333.9), (260.3, 180.6)):
        mask = mask_to_grid(ellipse((480, 640), x, y, *semi_px, 0.15), grid)
        (found,) = detect(mask, grid, 0.5)
        off.append(np.subtract(found.axes_px, np.multiply(2, semi_px)))
    assert_allclose(np.mean(off, axis=0), 0, atol=0.15)


def blurred(semi_px: tuple[float, float], blur_px: float, sure: float = 0.98) -> F32:
    """An upright ellipse in the middle of a 256x256 map, its edge logistic with this scale."""
    rows, columns = np.mgrid[:256, :256] - 127.6
    radius = np.hypot(columns / semi_px[0], rows / semi_px[1])
    out_px = (radius - 1) * np.hypot(columns, rows) / np.maximum(radius, 1e-6)
    made: F32 = (sure / (1 + np.exp(np.clip(out_px / blur_px, -40, 40)))).astype(np.float32)
    return made


@pytest.mark.parametrize("blur_px", [0.25, 0.5])
@pytest.mark.parametrize("semi_px", [(20.0, 14.0), (14.0, 6.0), (10.0, 4.0)])
def test_a_blurred_edge_makes_no_vessel_larger(
    semi_px: tuple[float, float], blur_px: float
) -> None:
    grid = fit((256, 256), (256, 256))
    (found,) = detect(blurred(semi_px, blur_px), grid, 0.4)
    assert found.axes_px == pytest.approx(np.multiply(2, semi_px).tolist(), rel=0.015, abs=0.15)
    assert found.area_px2 == pytest.approx(np.pi * np.prod(semi_px), rel=0.03)


def test_a_vessel_of_which_the_network_is_unsure_is_as_large_as_one_of_which_it_is_sure() -> None:
    grid = fit((256, 256), (256, 256))
    (sure,), (unsure,) = (detect(blurred((18, 12), 0.5, p), grid, 0.4) for p in (0.99, 0.6))
    assert unsure.score < 0.6 < sure.score
    assert unsure.area_px2 == pytest.approx(sure.area_px2, rel=0.03)
    assert unsure.axes_px == pytest.approx(sure.axes_px, rel=0.02)


@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.6, 0.8])
def test_the_threshold_says_what_is_found_and_not_how_large_it_is(threshold: float) -> None:
    grid = fit((256, 256), (256, 256))
    (found,) = detect(blurred((18, 12), 0.5), grid, threshold, contours=True)
    assert found.area_px2 == pytest.approx(np.pi * 18 * 12, rel=0.02)
    assert found.axes_px == pytest.approx((36, 24), rel=0.015)
    assert found.contour_px is not None
    x, y = (found.contour_px - found.centroid_px).T
    assert_allclose(np.hypot(x / 18, y / 12), 1.0, atol=0.05)


def test_nothing_is_thinner_than_a_pixel() -> None:
    line, dot = np.zeros((2, 64, 64), np.float32)
    line[30, 10:50] = 0.9
    dot[30, 10] = 0.9
    grid = fit((64, 64), (64, 64))
    (found,) = detect(line, grid, 0.5)
    assert found.axes_px == pytest.approx((4 * math.sqrt(40**2 / 12), 4 / math.sqrt(12)), rel=1e-3)
    (found,) = detect(dot, grid, 0.5, DetectSettings(min_area_grid_px2=1))
    assert found.axes_px == pytest.approx((4 / math.sqrt(12),) * 2)


def test_a_patch_without_a_vessel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must have pixels at its threshold 0.5, got none"):
        describe(Patch(np.full((3, 4), 0.4), 0.5, (0.0, 0.0), (1.0, 1.0)))


def test_negative_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"noise_floor_px must not be negative, got -1"):
        DetectSettings(noise_floor_px=-1)


def test_a_line_of_pixels_that_barely_reach_the_threshold_has_an_outline() -> None:
    probability = np.zeros((64, 64), np.float32)
    probability[30, 5:60] = 0.51
    (found,) = detect(probability, fit((480, 640), (64, 64)), 0.5, contours=True)
    assert found.contour_px is not None
    assert np.abs(found.contour_px.mean(axis=0) - found.centroid_px).max() < 30
