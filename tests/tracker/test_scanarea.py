"""The scan area on screens made here, and on real ones where they are at hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from veintrack.tracker.frame import U8
from veintrack.tracker.scanarea import find_scan_area


def speckle(height: int, width: int, seed: int = 0) -> U8:
    """Tissue: Rayleigh speckle, as broad as a pixel or two, around a mid grey."""
    noise = np.random.default_rng(seed).rayleigh(60.0, (height, width)).astype(np.float32)
    return np.clip(cv2.GaussianBlur(noise, (3, 3), 0), 0, 255).astype(np.uint8)


def screen() -> U8:
    """A captured screen: tissue at (100, 80) of 400 x 300, text, a grey bar and a logo."""
    pixels = np.zeros((480, 640), np.uint8)
    pixels[80:380, 100:500] = speckle(300, 400)
    for row in range(60, 400, 16):
        cv2.putText(pixels, "Frq 10 MHz", (530, row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 220, 1)
    cv2.putText(pixels, "Hospital 2024", (90, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 220, 1)
    pixels[100:200, 50:60] = np.linspace(255, 0, 100, dtype=np.uint8)[:, None]
    cv2.circle(pixels, (40, 40), 16, 200, -1)
    return pixels


def test_text_bar_and_logo_are_left_out() -> None:
    assert find_scan_area(screen()) == pytest.approx((100, 80, 400, 300), abs=3)


def test_faint_noise_on_black_changes_nothing() -> None:
    noise = np.random.default_rng(1).integers(0, 4, (480, 640)).astype(np.uint8)
    assert find_scan_area(np.maximum(screen(), noise)) == pytest.approx((100, 80, 400, 300), abs=3)


def test_a_picture_that_fills_the_frame_is_kept_whole() -> None:
    assert find_scan_area(speckle(301, 403)) == (0, 0, 403, 301)


def test_shadow_at_the_bottom_belongs_to_the_scan_area() -> None:
    depth, lateral = np.mgrid[0:400, 0:400] / 400
    fade = np.clip(1.6 - (1.9 + 0.4 * np.sin(12 * lateral)) * depth, 0, 1)
    pixels = np.zeros((400, 500), np.uint8)
    pixels[:, 50:450] = (speckle(400, 400) * fade).astype(np.uint8)
    assert find_scan_area(pixels) == pytest.approx((50, 0, 400, 400), abs=3)


def test_a_wide_vessel_does_not_split_the_scan_area() -> None:
    pixels = screen()
    pixels[200:260, 100:500] = 0
    assert find_scan_area(pixels) == pytest.approx((100, 80, 400, 300), abs=3)


@pytest.mark.parametrize("level", [0, 3, 255])
def test_an_even_frame_has_no_scan_area_of_its_own(level: int) -> None:
    assert find_scan_area(np.full((120, 160), level, np.uint8)) == (0, 0, 160, 120)


def test_a_small_patch_is_no_scan_area() -> None:
    pixels = np.zeros((480, 640), np.uint8)
    pixels[100:200, 100:200] = speckle(100, 100)
    assert find_scan_area(pixels) == (0, 0, 640, 480)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (7, 3), (33, 1)])
def test_tiny_frames_are_kept_whole(shape: tuple[int, int]) -> None:
    x, y, width, height = find_scan_area(np.full(shape, 100, np.uint8))
    assert (x, y, width, height) == (0, 0, shape[1], shape[0])


@pytest.mark.parametrize(("folder", "label"), [("vessels", 2), ("carotid", 1)])
def test_labelled_vessels_of_real_pictures_lie_inside(
    recordings: Path, folder: str, label: int
) -> None:
    inside = total = 0
    for path in sorted((recordings / folder / "images").glob("*.png"))[::10]:
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        mask = cv2.imread(str(recordings / folder / "masks" / path.name), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None
        assert mask is not None
        x, y, width, height = find_scan_area(pixels.astype(np.uint8))
        inside += int((mask[y : y + height, x : x + width] == label).sum())
        total += int((mask == label).sum())
    assert inside >= 0.999 * total > 0


def test_a_real_captured_screen_loses_its_text(recordings: Path) -> None:
    from veintrack.tracker.sources import open_source

    with open_source(recordings / "replay/brachial_artery_screen_capture.mov") as source:
        first = next(iter(source))
    assert find_scan_area(first.pixels) == pytest.approx((26, 46, 474, 342), abs=4)
