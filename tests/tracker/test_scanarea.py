"""The scan area on screens made here, and on real ones where they are at hand."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.tracker.screens import (
    BOX,
    SECTOR,
    compressed,
    convex_screen,
    finder_of,
    furniture,
    linear_screen,
    noisy,
    second_of_tissue,
    seconds_of,
    sides,
    speckle,
)
from veintrack.tracker.frame import U8, Region
from veintrack.tracker.phantom import Phantom, demo_settings
from veintrack.tracker.scanarea import ScanAreaFinder, find_scan_area
from veintrack.tracker.scanarea_convex import SectorShape, find_sector


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


@pytest.mark.parametrize("part", [0.7, 0.4, 0.2, 0.1])
def test_a_screen_that_fades_keeps_its_scan_area(part: float) -> None:
    faded = (part * screen()).astype(np.uint8)
    assert find_scan_area(faded) == pytest.approx((100, 80, 400, 300), abs=3)


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


# A second of frames


@pytest.fixture(scope="module")
def tissue() -> list[U8]:
    return second_of_tissue()


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("grey", [0, 45, 90])
def test_what_moves_is_told_from_panels_clipboard_clock_and_trace(
    tissue: list[U8], grey: int, trace: bool
) -> None:
    frames = [linear_screen(t, furniture(i, grey, trace=trace)) for i, t in enumerate(tissue)]
    finder = finder_of(frames)
    assert finder.area() == pytest.approx(BOX, abs=3)
    assert finder.sector is None


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda pixels, i: noisy(pixels, 2, i),
        lambda pixels, _: compressed(pixels, 60),
        lambda pixels, i: compressed(noisy(pixels, 2, i), 75),
    ],
    ids=["noise", "JPEG", "noise and JPEG"],
)
def test_noise_and_compression_change_little(
    tissue: list[U8], spoilt: Callable[[U8, int], U8]
) -> None:
    """JPEG flickers in the blocks of 8 x 8 px that the picture's edge runs through."""
    frames = [spoilt(linear_screen(t, furniture(i, 45)), i) for i, t in enumerate(tissue)]
    assert sides(finder_of(frames).area()) == pytest.approx(sides(BOX), abs=6)


def test_four_frames_are_enough_where_much_moves(tissue: list[U8]) -> None:
    frames = [linear_screen(t, furniture(i, 45)) for i, t in enumerate(tissue)]
    assert finder_of(frames[::3]).area() == pytest.approx(BOX, abs=5)


@pytest.mark.parametrize("grey", [0, 45, 90])
@pytest.mark.parametrize(
    "shape",
    [
        SECTOR,
        SectorShape((320.0, 10.0), 1.1, 1.1, 45.0, 400.0),  # an endocavity probe, cut at the sides
        SectorShape((300.0, 50.0), 0.75, 0.75, 3.0, 380.0),  # a phased array
        SectorShape((320.0, -500.0), 0.25, 0.25, 560.0, 920.0),  # a linear probe, widened
    ],
    ids=["convex", "endocavity", "phased", "widened"],
)
def test_a_sector_is_found_with_its_shape(tissue: list[U8], grey: int, shape: SectorShape) -> None:
    frames = [convex_screen(t, furniture(i, grey), shape) for i, t in enumerate(tissue)]
    finder = finder_of(frames)
    assert sides(finder.area()) == pytest.approx(sides(shape.box_px((480, 640))), abs=6)
    found = finder.sector
    assert found is not None
    assert found.apex_px == pytest.approx(shape.apex_px, abs=3)
    assert (found.left_rad, found.right_rad) == pytest.approx((shape.left_rad,) * 2, abs=0.01)
    assert (found.inner_px, found.outer_px) == pytest.approx(
        (shape.inner_px, shape.outer_px), abs=7
    )


def test_a_shadow_in_a_sector_does_not_hide_its_shape(tissue: list[U8]) -> None:
    shadowed = [t.copy() for t in tissue]
    for picture in shadowed:
        picture[40:, 240:290] = 0
    frames = [convex_screen(t, furniture(i)) for i, t in enumerate(shadowed)]
    assert finder_of(frames).area() == pytest.approx(SECTOR.box_px((480, 640)), abs=6)


def test_a_still_sector_is_found_on_black(tissue: list[U8]) -> None:
    frame = convex_screen(tissue[0], np.zeros((480, 640), np.uint8))
    finder = finder_of([frame] * 4)
    assert finder.area() == pytest.approx(SECTOR.box_px((480, 640)), abs=3)
    assert finder.sector is not None


@given(
    half=st.floats(0.2, 1.15),
    face=st.floats(0.05, 0.6),
    depth=st.floats(150, 400),
    x=st.floats(250, 390),
)
@settings(max_examples=40, deadline=None)
def test_any_sector_is_recovered_from_its_mask(
    half: float, face: float, depth: float, x: float
) -> None:
    inner = depth * face / (1 - face)
    apex = (x, 20.0 - inner * np.cos(half))
    shape = SectorShape(apex, half, half, inner, inner + depth)
    across = shape.outline_px()[:, 0]
    assume(across.min() > -40 and across.max() < 680)  # the frame may cut its corners
    mask = np.zeros((480, 640), np.uint8)
    cv2.fillPoly(mask, [np.rint(shape.outline_px()).astype(np.int32)], [1])
    found = find_sector(mask, mask)
    assert found is not None
    assert (found.left_rad, found.right_rad) == pytest.approx((half, half), abs=0.02)
    assert sides(found.box_px((480, 640))) == pytest.approx(sides(shape.box_px((480, 640))), abs=5)


def test_a_rectangle_is_no_sector() -> None:
    mask = np.zeros((200, 300), np.uint8)
    mask[20:180, 40:260] = 1
    assert find_sector(mask, mask) is None


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (64, 64)])
def test_an_empty_mask_is_no_sector(shape: tuple[int, int]) -> None:
    assert find_sector(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)) is None


def test_a_still_picture_falls_back_to_its_texture() -> None:
    assert finder_of([screen()] * 5).area() == find_scan_area(screen())


def test_frames_that_fade_to_black_are_found_by_the_brightest(tissue: list[U8]) -> None:
    frames = [linear_screen(t, furniture(0)) for t in tissue]
    faded = [(f * max(0.0, 1 - i / 6)).astype(np.uint8) for i, f in enumerate(frames)]
    inwards = np.array([1, 1, -1, -1]) * np.subtract(sides(finder_of(faded).area()), sides(BOX))
    assert inwards.max() <= 3


def test_a_picture_without_a_screen_is_kept_whole() -> None:
    phantom = Phantom(demo_settings())
    frames = [phantom.render(3 * i).pixels for i in range(10)]
    assert finder_of(frames).area() == (0, 0, 640, 480)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (7, 3), (33, 1), (20, 20)])
def test_a_second_of_tiny_frames_is_kept_whole(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, shape).astype(np.uint8) for _ in range(5)]
    finder = finder_of(frames)
    assert finder.area() == (0, 0, shape[1], shape[0])
    assert not finder.layout_changed(frames[0])


def test_a_finder_without_frames_says_the_whole_frame() -> None:
    assert ScanAreaFinder((120, 160)).area() == (0, 0, 160, 120)


def test_a_frame_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(10, 20\), got \(20, 10\)"):
        ScanAreaFinder((10, 20)).add(np.zeros((20, 10), np.uint8))


def test_a_frame_after_the_area_was_found_is_refused() -> None:
    finder = ScanAreaFinder((10, 20))
    finder.area()
    with pytest.raises(ValueError, match="was found"):
        finder.add(np.zeros((10, 20), np.uint8))


# Real screens


#: By eye, on an enlargement, before the finder was run: the tissue's first column and row with
#: grey, and the first without. The colour bar is drawn over the picture's left edge, up to column
#: 40: the picture without it is what is left of (28, 47, 471, 340).
SCREEN_CAPTURE: Region = (41, 47, 458, 340)


def test_every_second_of_a_real_captured_screen_has_the_box_that_one_draws_by_eye(
    recordings: Path,
) -> None:
    seconds = seconds_of(recordings / "replay/brachial_artery_screen_capture.mov", 2.0)
    assert len(seconds) >= 6
    for frames in seconds:
        found = sides(finder_of(frames).area())
        assert found == pytest.approx(sides(SCREEN_CAPTURE), abs=10)
        assert found[2] < 512  # where the column of text begins
        assert found[1] > 34  # where the lines of text end
        assert found[0] > 40  # where the colour bar ends


@pytest.mark.parametrize("side", [1, -1])
def test_a_bar_over_the_side_of_the_picture_is_left_out(tissue: list[U8], side: int) -> None:
    frames = [linear_screen(t, furniture(i, 45)) for i, t in enumerate(tissue)]
    x, y, width, height = BOX
    broad = frames[0].shape[1] // 40
    bar = np.linspace(250, 40, height // 3).astype(np.uint8)[:, None]
    for frame in frames:
        inside = frame[y : y + height, x : x + width][:, ::side]
        inside[height // 4 : height // 4 + len(bar), :broad] = bar
    left, right = (broad, 0) if side == 1 else (0, broad)
    found = finder_of(frames).area()
    assert sides(found) == pytest.approx(sides((x + left, y, width - left - right, height)), abs=5)
    assert found[0] >= x + left - 1
    assert found[0] + found[2] <= x + width - right + 1


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("Reg_Image_181206_crop.mp4", (3, 0, 202, 234)),
        ("Reg_Image_18122_crop.mp4", (3, 0, 202, 208)),
    ],
)
def test_lung_clips_keep_their_whole_picture(recordings: Path, name: str, box: Region) -> None:
    """Boxes by eye. Compression flickers in the narrow margins."""
    for frames in seconds_of(recordings / "replay" / name, 3.0):
        assert sides(finder_of(frames).area()) == pytest.approx(sides(box), abs=5)


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("BoneUltrasound_L14.igs.mha", (176, 0, 467, 616)),  # by eye
        # Echoes of wires in a water bath and black: nobody can see where the picture ends.
        ("NwirePhantomFreehand.igs.mha", (0, 0, 820, 616)),
        ("USTC_FrameGrabber_ProbeTranslationData.igs.mha", (0, 0, 640, 480)),
    ],
)
def test_sequences_with_black_around_the_picture(recordings: Path, name: str, box: Region) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="needs pip install SimpleITK")
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(recordings / "replay" / name)))
    finder = finder_of(frames[:20:2])
    assert sides(finder.area()) == pytest.approx(sides(box), abs=4)
    assert finder.sector is None
