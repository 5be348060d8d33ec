"""Millimetres per pixel: from depth, from points, from rulers drawn here and on real screens."""

import math
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veintrack.tracker.frame import U8, Region
from veintrack.tracker.ruler import (
    TICKS_MM,
    Ruler,
    find_ruler,
    spacing_for_depth,
    spacing_from_clicks,
    spacing_from_depth,
    spacing_from_ruler,
)
from veintrack.tracker.sources import open_source

SETTINGS = ("PRF", "Frq", "Gn", "E/A", "Map", "D", "DR", "FR", "AO", "WF", "Clarity", "MI", "TIS")
AREA: Region = (100, 60, 400, 360)


def screen(seed: int = 0) -> U8:
    """Speckle in the scan area, black around it, a column of settings at the right."""
    x, y, width, height = AREA
    noise = np.random.default_rng(seed).rayleigh(50.0, (height, width)).astype(np.float32)
    pixels = np.zeros((480, 640), np.uint8)
    pixels[y : y + height, x : x + width] = np.clip(cv2.GaussianBlur(noise, (3, 3), 0), 0, 255)
    for row, text in enumerate(("Frq 10.0", "Gn 64", "E/A 2/2", "D 4.0 cm", "DR 67", "FR 26")):
        write(pixels, text, 540, 80 + 16 * row)
    return pixels


def write(pixels: U8, text: str, x: int, y: int) -> None:
    cv2.putText(pixels, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.35, 200, 1, cv2.LINE_AA)


def draw_ticks(
    pixels: U8, x: int, pitch_px: float, *, major: int = 5, digits: bool = True, left: bool = False
) -> None:
    """Ticks from the area's top to its bottom, every fifth longer, brighter and with its number."""
    _, top, _, height = AREA
    for tick in range(int(height / pitch_px) + 1):
        y, long = round(top + tick * pitch_px), tick % major == 0
        end = (9 if long else 4) * (-1 if left else 1)
        cv2.line(pixels, (x, y), (x + end, y), 200 if long else 70)
        if digits and long and tick:
            write(pixels, str(tick // major), x + (-20 if left else 12), y + 4)


def test_depth_over_the_rows_of_the_scan_area_is_spacing() -> None:
    assert spacing_from_depth(40, (10, 20, 300, 400)) == (0.1, 0.1)


@pytest.mark.parametrize("depth_mm", [0, -1, math.inf, math.nan])
def test_a_depth_that_cannot_be_is_refused(depth_mm: float) -> None:
    with pytest.raises(ValueError, match="depth_mm must be greater than 0 and finite, got"):
        spacing_from_depth(depth_mm, AREA)
    with pytest.raises(ValueError, match="depth_mm must be greater than 0"):
        spacing_for_depth(screen(), AREA, depth_mm)


def test_an_area_without_height_is_refused() -> None:
    with pytest.raises(ValueError, match="must have a height above 0"):
        spacing_from_depth(40, (0, 0, 10, 0))


@given(
    x=st.floats(0, 500),
    y=st.floats(0, 500),
    length_px=st.floats(11, 500),
    angle=st.floats(0, 2 * math.pi),
    mm=st.floats(0.1, 300),
)
def test_two_clicks_measure_in_every_direction(
    x: float, y: float, length_px: float, angle: float, mm: float
) -> None:
    second = (x + length_px * math.cos(angle), y + length_px * math.sin(angle))
    assert spacing_from_clicks((x, y), second, mm) == pytest.approx((mm / length_px,) * 2)


def test_clicks_next_to_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 10 px apart, got 5.0 px"):
        spacing_from_clicks((0, 0), (3, 4), 10)
    with pytest.raises(ValueError, match="at least 10 px apart"):
        spacing_from_clicks((0, 0), (math.nan, 4), 10)
    with pytest.raises(ValueError, match="distance_mm must be greater than 0"):
        spacing_from_clicks((0, 0), (30, 40), 0)


@settings(max_examples=30, deadline=None)
@given(pitch_px=st.floats(7, 70), left=st.booleans(), digits=st.booleans())
def test_a_ruler_is_found_to_a_thousandth(pitch_px: float, left: bool, digits: bool) -> None:
    pixels = screen()
    draw_ticks(pixels, 92 if left else 506, pitch_px, digits=digits, left=left)
    ruler = find_ruler(pixels, AREA)
    assert ruler is not None
    # Ticks are drawn on whole rows: a third of a pixel each, less over all of them.
    assert abs(ruler.pitch_px - pitch_px) < max(4 * ruler.pitch_sd_px, 0.001 * pitch_px)
    assert ruler.pitch_sd_px < 0.01 * pitch_px
    assert (ruler.x_px < 100) == left


def test_dots_are_a_ruler_too() -> None:
    pixels = screen()
    for tick in range(19):
        y, size = 60 + 20 * tick, 3 if tick % 5 == 0 else 2
        pixels[y : y + size, 80 : 80 + size] = 180
    ruler = find_ruler(pixels, AREA)
    assert ruler is not None
    assert len(ruler.ticks_px) == 19
    assert ruler.pitch_px == pytest.approx(20, abs=0.1)


def test_a_focus_mark_between_the_ticks_does_not_matter() -> None:
    pixels = screen()
    draw_ticks(pixels, 506, 33.8)
    pixels[240:256, 503:512] = 0
    cv2.line(pixels, (504, 243), (510, 243), 200)
    cv2.line(pixels, (504, 252), (510, 252), 200)
    ruler = find_ruler(pixels, AREA)
    assert ruler is not None
    assert ruler.pitch_px == pytest.approx(33.8, abs=0.1)


def test_a_ruler_in_compressed_video_is_found() -> None:
    pixels = screen()
    draw_ticks(pixels, 506, 24.3)
    _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])
    seen = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)
    assert seen is not None
    ruler = find_ruler(seen.astype(np.uint8), AREA)
    assert ruler is not None
    assert ruler.pitch_px == pytest.approx(24.3, abs=0.1)


@pytest.mark.parametrize(("width", "height"), [(960, 720), (1440, 1080)])
def test_a_ruler_scaled_with_the_screen_is_found(width: int, height: int) -> None:
    pixels, zoom = screen(), height / 480
    draw_ticks(pixels, 506, 24.3)
    large = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    x, y, w, h = (round(zoom * v) for v in AREA)
    ruler = find_ruler(large, (x, y, w, h))
    assert ruler is not None
    assert ruler.pitch_px == pytest.approx(24.3 * zoom, rel=0.002)


@pytest.mark.parametrize(("pitch_px", "ticks"), [(12.0, 5), (30.4, 1)])
def test_a_ruler_of_thin_lines_on_a_large_screen_is_found(pitch_px: float, ticks: int) -> None:
    """Faint ticks as near to the long ones as a halo are passed over: the long ones are found."""
    large = cv2.resize(screen(), (1440, 1080)).astype(np.uint8)
    for tick in range(int(810 / pitch_px) + 1):
        row, long = round(135 + tick * pitch_px), tick % 5 == 0
        large[row, 1136 : 1156 if long else 1146] = 200 if long else 80
    ruler = find_ruler(large, (225, 135, 900, 810))
    assert ruler is not None
    assert ruler.pitch_px == pytest.approx(ticks * pitch_px, rel=0.002)


@pytest.mark.parametrize("seed", range(5))
def test_tissue_and_a_column_of_text_are_no_ruler(seed: int) -> None:
    pixels, random = screen(seed), np.random.default_rng(seed)
    for row in range(60, 420, 16):
        write(pixels, f"{random.choice(SETTINGS)} {random.integers(99)}", 505 + seed, row)
    assert find_ruler(pixels, AREA) is None


@pytest.mark.parametrize("left", [0, 320])  # across the whole screen, and in the scan area alone
def test_stripes_across_the_scan_area_are_no_ruler_and_cost_little(left: int) -> None:
    pixels = np.zeros((1080, 1920), np.uint8)
    for row in range(100, 980, 16):
        pixels[row : row + 3, left : 1600 if left else 1920] = 180
    start_s = time.thread_time()
    assert find_ruler(pixels, (320, 100, 1280, 880)) is None
    assert time.thread_time() - start_s < 0.5


@pytest.mark.parametrize("shape", [(1, 1), (2, 50), (50, 2), (9, 9)])
def test_tiny_pictures_have_no_ruler(shape: tuple[int, int]) -> None:
    assert find_ruler(np.zeros(shape, np.uint8), (0, 0, shape[1], shape[0])) is None


def ruler_of(pitch_px: float, steps: int) -> Ruler:
    return Ruler(500.0, tuple(pitch_px * n for n in range(steps + 1)), pitch_px, 0.02)


@pytest.mark.parametrize("tick_mm", TICKS_MM)
@pytest.mark.parametrize("wrong", [0.93, 1.0, 1.07])
def test_the_usual_step_that_agrees_with_the_depth_is_taken(tick_mm: float, wrong: float) -> None:
    true_mm, steps = 0.08, 10
    depth_mm = steps * tick_mm
    area = (0, 0, 400, round(wrong * depth_mm / true_mm))
    ruler = ruler_of(tick_mm / true_mm, steps)
    spacing = spacing_from_ruler(ruler, depth_mm=depth_mm, area_px=area)
    assert spacing == pytest.approx((true_mm, true_mm))


def test_a_ruler_with_known_ticks_needs_no_depth() -> None:
    assert spacing_from_ruler(ruler_of(25.0, 8), tick_mm=5) == pytest.approx((0.2, 0.2))


def test_a_ruler_that_fits_no_depth_is_refused() -> None:
    with pytest.raises(ValueError, match=r"puts the ruler's ticks 3.33 mm apart: expected 1, 2"):
        spacing_from_ruler(ruler_of(33.3, 8), depth_mm=40, area_px=(0, 0, 400, 400))
    with pytest.raises(ValueError, match="tick_mm, or depth_mm and area_px, must be given"):
        spacing_from_ruler(ruler_of(33.3, 8), depth_mm=40)
    with pytest.raises(ValueError, match="tick_mm must be greater than 0"):
        spacing_from_ruler(ruler_of(33.3, 8), tick_mm=-1)


def test_the_ruler_mends_an_outline_that_is_some_rows_off() -> None:
    pixels = screen()
    draw_ticks(pixels, 506, 36)  # 5 mm each, 50 mm over the area's 360 rows
    x, y, width, height = AREA
    found = spacing_for_depth(pixels, (x, y + 6, width, height - 15), 50)
    assert found.ruler is not None
    assert found.spacing_mm == pytest.approx((5 / 36, 5 / 36), rel=0.002)
    assert "11 ticks of 5 mm, 36.0" in found.said


def test_without_a_ruler_the_depth_is_laid_over_the_scan_area_and_that_is_said() -> None:
    found = spacing_for_depth(screen(), AREA, 36)
    assert (found.ruler, found.spacing_mm) == (None, (0.1, 0.1))
    assert found.said == "36 mm over the scan area's 360 rows; no depth ruler was found"


def test_a_ruler_that_disagrees_with_the_depth_is_left_and_that_is_said() -> None:
    pixels = screen()
    draw_ticks(pixels, 506, 36)
    found = spacing_for_depth(pixels, AREA, 33)
    assert (found.ruler, found.spacing_mm) == (None, (33 / 360, 33 / 360))
    assert found.said.endswith("what looks like a ruler disagrees with it")


def test_the_ruler_of_a_real_screen_gives_its_depth(recordings: Path) -> None:
    with open_source(recordings / "replay/brachial_artery_screen_capture.mov") as source:
        first = next(iter(source))
    found = spacing_for_depth(first.pixels, (26, 46, 474, 342), 25)  # "D 2.5 cm" on the screen
    assert found.ruler is not None
    assert found.ruler.pitch_px == pytest.approx(33.76, abs=0.1)
    assert found.spacing_mm == pytest.approx((0.0740, 0.0740), abs=0.0003)


def test_the_ruler_of_a_dicom_example_agrees_with_its_own_region() -> None:
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
    dataset = pydicom.dcmread(pydicom.examples.get_path("ybr_color"))
    luma = np.ascontiguousarray(dataset.pixel_array[0, ..., 0])
    # Its region was measured at 640 columns; the example is half as large.
    mm = 10 * dataset.SequenceOfUltrasoundRegions[0].PhysicalDeltaY * 640 / dataset.Columns
    found = spacing_for_depth(luma, (45, 15, 250, 185), 190)
    assert found.ruler is not None
    assert found.spacing_mm[0] == pytest.approx(mm, rel=0.001)


def test_pictures_without_a_ruler_have_none(recordings: Path) -> None:
    for path in sorted((recordings / "carotid" / "images").glob("*.png"))[::40]:
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None
        height, width = pixels.shape
        assert find_ruler(pixels.astype(np.uint8), (0, 0, width, height)) is None
