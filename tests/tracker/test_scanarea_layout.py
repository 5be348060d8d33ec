"""Whether a screen is still laid out as it was: told of furniture and size, not of the picture."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.tracker.screens import (
    convex_screen,
    finder_of,
    furniture,
    linear_screen,
    noisy,
    second_of_tissue,
    seconds_of,
    speckle,
)
from veintrack.tracker.frame import U8, Region
from veintrack.tracker.scanarea import ScanAreaFinder


@pytest.fixture(scope="module")
def tissue() -> list[U8]:
    return second_of_tissue()


def changed(finder: ScanAreaFinder, frames: Sequence[U8]) -> list[bool]:
    return [finder.layout_changed(pixels) for pixels in frames]


@pytest.fixture
def kept(tissue: list[U8]) -> ScanAreaFinder:
    return finder_of([linear_screen(t, furniture(i)) for i, t in enumerate(tissue)])


@pytest.mark.parametrize("level", [0, 255])
def test_a_picture_that_turns_even_is_the_same_layout(kept: ScanAreaFinder, level: int) -> None:
    even = np.full((320, 380), level, np.uint8)
    assert not any(changed(kept, [linear_screen(even, furniture(i)) for i in range(20, 30)]))


def test_other_tissue_noise_and_a_running_clock_are_the_same_layout(kept: ScanAreaFinder) -> None:
    other = [linear_screen(speckle(320, 380, i), furniture(20 + i)) for i in range(8)]
    assert not any(changed(kept, other))
    assert not any(changed(kept, [noisy(f, 3, i) for i, f in enumerate(other)]))


def test_a_lifted_probe_is_the_same_layout(kept: ScanAreaFinder) -> None:
    air = np.zeros((320, 380), np.uint8)
    air[:20] = 150
    assert not any(changed(kept, [linear_screen(air, furniture(i)) for i in range(20, 25)]))


@pytest.mark.parametrize("level", [0, 29, 255])
def test_a_screen_that_shows_nothing_is_no_other_layout(kept: ScanAreaFinder, level: int) -> None:
    assert not any(changed(kept, [np.full((480, 640), level, np.uint8)] * 4))


@pytest.mark.parametrize(
    "box",
    [(60, 60, 480, 320), (170, 60, 260, 320), (140, 60, 380, 320)],
    ids=["wider", "narrower", "moved"],
)
def test_another_place_of_the_picture_is_told_at_the_second_look(
    kept: ScanAreaFinder, tissue: list[U8], box: Region
) -> None:
    after = [linear_screen(t, furniture(20 + i), box) for i, t in enumerate(tissue[:4])]
    assert changed(kept, after) == [False, True, True, True]


def test_another_screen_is_told(kept: ScanAreaFinder, tissue: list[U8]) -> None:
    after = [convex_screen(t, furniture(20, 45)) for t in tissue[:3]]
    assert changed(kept, after) == [False, True, True]


def test_a_menu_for_a_moment_is_no_other_layout(kept: ScanAreaFinder, tissue: list[U8]) -> None:
    screens = [linear_screen(tissue[0], furniture(20)) for _ in range(4)]
    screens[1][300:480, 0:200] = 160
    assert not any(changed(kept, screens))


def test_another_size_is_told_at_once(kept: ScanAreaFinder) -> None:
    assert kept.layout_changed(np.zeros((720, 1280), np.uint8))


def test_a_picture_after_a_black_screen_is_told(tissue: list[U8]) -> None:
    finder = finder_of([np.zeros((480, 640), np.uint8)] * 10)
    after = [linear_screen(t, furniture(i)) for i, t in enumerate(tissue[:3])]
    assert changed(finder, after) == [False, True, True]


def test_looking_at_the_layout_costs_little(kept: ScanAreaFinder) -> None:
    """About 40 µs of processor time at 640 x 480; the limit leaves room for slower processors."""
    seen = linear_screen(speckle(320, 380), furniture(30))
    kept.layout_changed(seen)
    cheapest_s = np.inf
    for _ in range(20):
        start_s = time.thread_time()
        kept.layout_changed(seen)
        cheapest_s = min(cheapest_s, time.thread_time() - start_s)
    assert cheapest_s < 500e-6


def test_the_layout_of_a_real_captured_screen_stays(recordings: Path) -> None:
    first, *later = seconds_of(recordings / "replay/brachial_artery_screen_capture.mov")
    finder = finder_of(first)
    finder.area()
    assert not any(changed(finder, [frames[0] for frames in later]))
