"""The pictures that engines are judged by, and made INT8 with."""

from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veintrack.errors import SourceNotFoundError
from veintrack.tracker.frame import U8
from veintrack.tracker.phantom import random_still
from veintrack.tracker.typical import (
    calibration_pictures,
    judging_pictures,
    lay,
    pictures_of,
    still_shape_px,
)

SHAPE = (48, 64)


@pytest.fixture(scope="module")
def judging() -> list[U8]:
    return list(judging_pictures(SHAPE).make())


@pytest.fixture(scope="module")
def calibration() -> list[U8]:
    return list(calibration_pictures(SHAPE).make())


def test_there_are_sixteen_to_judge_and_sixty_to_calibrate(
    judging: list[U8], calibration: list[U8]
) -> None:
    assert (len(judging), len(calibration)) == (16, 60)
    for picture in judging + calibration:
        assert picture.shape == (1, 1, *SHAPE)
        assert picture.dtype == np.uint8


def test_each_has_tissue_with_dark_and_bright_in_it(
    judging: list[U8], calibration: list[U8]
) -> None:
    for picture in judging + calibration:
        lit = picture[picture > 0]
        assert lit.size > 0.3 * picture.size
        assert np.ptp(lit) > 80


def test_no_picture_comes_twice_nor_on_both_sides(judging: list[U8], calibration: list[U8]) -> None:
    everything = judging + calibration
    assert len({picture.tobytes() for picture in everything}) == len(everything)
    nearest = min(np.abs(a.astype(float) - b).mean() for a, b in product(judging, calibration))
    assert nearest > 5  # grey levels: no frame of a scene that the other side has


def test_most_of_the_stills_that_are_judged_hold_vessels(judging: list[U8]) -> None:
    with_vessels = 0
    for seed in range(12):
        size = still_shape_px(np.random.default_rng(seed), max(SHAPE))
        pixels, mask = random_still(seed, *size)
        np.testing.assert_array_equal(judging[seed], lay(pixels, SHAPE))
        with_vessels += bool(mask.any())
    assert 8 <= with_vessels < 12  # and some hold none


def test_the_same_pictures_come_each_time(judging: list[U8], calibration: list[U8]) -> None:
    for before, pictures in ((judging, judging_pictures), (calibration, calibration_pictures)):
        np.testing.assert_array_equal(before, list(pictures(SHAPE).make()))


@pytest.mark.parametrize("shape_px", [(8, 8), (16, 40), (33, 31)])
def test_any_grid_has_its_pictures(shape_px: tuple[int, int]) -> None:
    assert {p.shape for p in judging_pictures(shape_px).make()} == {(1, 1, *shape_px)}


def test_nothing_is_rendered_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veintrack.tracker.typical.lay", None)
    assert judging_pictures(SHAPE).name == calibration_pictures(SHAPE).name == "phantom"


@given(st.integers(0, 2**32 - 1), st.integers(1, 512))
def test_a_still_is_one_to_two_times_as_wide_as_the_grid(seed: int, size_px: int) -> None:
    height_px, width_px = still_shape_px(np.random.default_rng(seed), size_px)
    assert min(height_px, width_px) >= 32
    if size_px >= 64:
        assert size_px <= width_px <= 2 * size_px
        assert 0.59 * width_px <= height_px <= 1.61 * width_px


def test_a_frame_lies_whole_and_undistorted_on_the_grid() -> None:
    grid = lay(np.full((100, 50), 200, np.uint8), (40, 40))
    assert grid.shape == (1, 1, 40, 40)
    rows, columns = np.nonzero(grid[0, 0])
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (40, 20)


def test_a_part_of_a_frame_fills_the_grid_alone() -> None:
    frame = np.full((100, 50), 200, np.uint8)
    frame[20:60, 10:50] = 90
    assert set(np.unique(lay(frame, (40, 40), (10, 20, 40, 40)))) == {90}


def test_frames_of_ones_own_are_cropped_and_laid_on_the_grid(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        frame = np.zeros((120, 160), np.uint8)
        frame[20:100, 40:120] = rng.integers(60, 200, (80, 80)) + number
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame)
    pictures = pictures_of(str(tmp_path), (64, 64))
    assert pictures.name == "your own"
    made = pictures.make()
    assert [p.shape for p in made] == [(1, 1, 64, 64)] * 3
    assert all((p > 0).mean() > 0.95 for p in made)  # the margins are gone


def test_of_many_frames_at_most_200_are_taken_evenly(tmp_path: Path) -> None:
    for number in range(410):
        frame = np.full((40, 40), number // 2, np.uint8)
        frame[::2] += 16  # what lies between two rows is then a whole grey level
        cv2.imwrite(str(tmp_path / f"{number:03}.png"), frame)
    made = pictures_of(str(tmp_path), (32, 32)).make()
    assert len(made) == 137
    means = [float(p.mean()) for p in made]
    assert np.diff(means).max() - np.diff(means).min() <= 1  # every third, two of a grey
    assert means[-1] - means[0] > 200


def test_a_source_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        pictures_of(str(tmp_path / "none.mp4"), SHAPE)
