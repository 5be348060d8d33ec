"""Grey levels and still pictures, from files made here."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from veintrack.errors import SourceLostError, SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import Frame
from veintrack.tracker.naturalorder import natural_key
from veintrack.tracker.sources import open_source
from veintrack.tracker.sources.grey import FULL_RANGE, choose_shift, describe, to_grey
from veintrack.tracker.sources.images import open_images

RNG = np.random.default_rng(5)


def save(path: Path, pixels: np.ndarray[Any, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix, pixels)
    assert ok
    data.tofile(path)
    return path


@given(st.integers(0, 65535))
def test_the_shift_is_the_smallest_usual_depth_that_holds_the_maximum(maximum: int) -> None:
    shift = choose_shift(np.array([[maximum, 0]], np.uint16))
    depth = shift + 8
    assert depth in (8, 10, 12, 14, 16)
    assert maximum < 2**depth
    assert depth == 8 or maximum >= 2 ** (depth - 2)


def test_levels_beyond_the_first_pictures_depth_saturate() -> None:
    grey = to_grey(np.array([[0, 4095, 4096, 65535, 16]], np.uint16), shift=4)
    assert_array_equal(grey, [[0, 255, 255, 255, 1]])


def test_equal_channels_pass_unchanged() -> None:
    grey = RNG.integers(0, 256, (7, 9), dtype=np.uint8)
    assert_array_equal(to_grey(np.dstack([grey] * 3), 8), grey)
    assert_array_equal(to_grey(np.dstack([grey] * 3 + [grey // 2]), 8), grey)


def test_colour_becomes_bt601_luma() -> None:
    bgr = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    luma = bgr @ np.array([0.114, 0.587, 0.299])
    assert np.abs(to_grey(bgr, 8) - luma).max() <= 1


def test_limited_range_is_stretched_to_the_ends() -> None:
    assert FULL_RANGE[[0, 16, 235, 255]].tolist() == [0, 0, 255, 255]
    assert (np.diff(FULL_RANGE.astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 4), np.float32), "expected grey levels of uint8 or uint16, got float32"),
        (np.zeros((4, 4, 2), np.uint8), r"expected a grey or colour picture, got shape \(4, 4, 2"),
        (np.zeros(4, np.uint8), r"expected a grey or colour picture, got shape \(4,\)"),
    ],
)
def test_other_arrays_are_refused(picture: np.ndarray[Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_grey(picture, 0)


def test_what_is_done_is_said() -> None:
    grey = np.zeros((4, 4), np.uint8)
    assert describe(grey, 8) == ()
    assert describe(np.dstack([grey] * 3), 8) == ("grey stored as colour: one channel taken",)
    assert describe(np.dstack([grey, grey, grey + 1]), 8) == (
        "colour pictures: luma taken (BT.601)",
    )
    assert describe(grey.astype(np.uint16), 4) == ("16-bit grey: 12 bits in use, scaled by 1/16",)


def test_a_folder_is_read_in_natural_order_with_assumed_times(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        save(tmp_path / f"f{number}.png", np.full((5, 7), number, np.uint8))
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.png").mkdir()
    with open_source(tmp_path) as source:
        frames = list(source)
    info = source.info
    assert [int(f.pixels[0, 0]) for f in frames] == [1, 2, 10]
    assert [f.index for f in frames] == [0, 1, 2]
    assert [f.capture_ns for f in frames] == [0, 33333333, 66666667]
    assert (info.kind, info.live, info.frame_count) == ("images", False, 3)
    assert (info.shape_px, info.rate_hz) == ((5, 7), 30.0)
    assert info.times_from == "no times in image files: 30 frames a second assumed"


def test_a_given_rate_sets_the_times(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", np.zeros((2, 2), np.uint8))
    with open_source(tmp_path, fps=10) as source:
        assert [f.capture_ns for f in source] == [0, 100_000_000, 200_000_000]
    assert source.info.times_from == "no times in image files: 10 frames a second as given"


@given(st.lists(st.text("ab01239.é", max_size=6), max_size=6))
def test_any_names_can_be_ordered(names: list[str]) -> None:
    ordered = sorted(names, key=natural_key)
    assert sorted(ordered) == sorted(names)
    numbers = sorted((f"a{n}" for n in (10, 9, 2, 100)), key=natural_key)
    assert numbers == ["a2", "a9", "a10", "a100"]


def test_a_glob_takes_the_pictures_it_matches(tmp_path: Path) -> None:
    save(tmp_path / "a/left 1.png", np.full((2, 2), 1, np.uint8))
    save(tmp_path / "b/left 2.png", np.full((2, 2), 2, np.uint8))
    save(tmp_path / "b/right 3.png", np.full((2, 2), 3, np.uint8))
    with open_source(str(tmp_path / "**/left*")) as source:
        assert [int(f.pixels[0, 0]) for f in source] == [1, 2]


@pytest.mark.parametrize("name", ["ünï çödé.png", "a [1].png", "what*.png", "-x.png", "a?.png"])
def test_odd_file_names_are_read(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / name, np.full((3, 3), 7, np.uint8))
    with open_source(path) as source:
        assert [int(f.pixels[0, 0]) for f in source] == [7]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_sixteen_bit_pictures_keep_their_depth(suffix: str, bits: int, tmp_path: Path) -> None:
    first = RNG.integers(0, 2**bits, (9, 11)).astype(np.uint16)
    first[0, 0] = 2**bits - 1
    save(tmp_path / f"0{suffix}", first)
    save(tmp_path / f"1{suffix}", first // 4)
    with open_source(tmp_path) as source:
        one, two = source
    assert_array_equal(one.pixels, first >> (bits - 8))
    assert_array_equal(two.pixels, (first // 4) >> (bits - 8))
    assert source.info.notes == (f"16-bit grey: {bits} bits in use, scaled by 1/{2 ** (bits - 8)}",)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp"])
@pytest.mark.parametrize("shape", [(1, 1), (37, 53), (64, 5, 3)])
def test_every_suffix_gives_whole_grey_pictures(
    suffix: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = save(tmp_path / f"a{suffix}", np.full(shape, 120, np.uint8))
    with open_source(path) as source:
        (frame,) = source
    assert frame.pixels.shape == shape[:2]
    assert frame.pixels.flags.c_contiguous
    assert abs(int(frame.pixels[0, 0]) - 120) <= 2


def test_a_colour_picture_with_alpha_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", RNG.integers(0, 256, (6, 6, 4), dtype=np.uint8))
    with open_source(path) as source:
        assert source.info.notes == ("colour pictures: luma taken (BT.601)", "alpha dropped")


def test_pictures_may_differ_in_size(tmp_path: Path) -> None:
    save(tmp_path / "1.png", np.zeros((4, 6), np.uint8))
    save(tmp_path / "2.png", np.zeros((8, 3), np.uint8))
    with open_source(tmp_path) as source:
        assert [f.pixels.shape for f in source] == [(4, 6), (8, 3)]
    assert source.info.shape_px == (4, 6)


def test_every_page_of_a_tiff_is_a_frame(tmp_path: Path) -> None:
    pages = [np.full((4 + i, 6), 40 * i, np.uint8) for i in range(4)]
    _, data = cv2.imencodemulti(".tif", pages)
    data.tofile(tmp_path / "2.tif")
    save(tmp_path / "1.png", np.full((4, 6), 9, np.uint8))
    save(tmp_path / "3.TIFF", np.full((4, 6), 200, np.uint8))
    with open_source(tmp_path) as source:
        frames = list(source)
    assert [int(f.pixels[0, 0]) for f in frames] == [9, 0, 40, 80, 120, 200]
    assert [f.pixels.shape[0] for f in frames] == [4, 4, 5, 6, 7, 4]
    assert [f.index for f in frames] == list(range(6))
    assert source.info.frame_count == 6
    assert "4 pages of 1 TIFF files, one after the other" in source.info.notes


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".png", "b" * 5000])
def test_a_name_that_is_too_long_is_no_file(name: str) -> None:
    with pytest.raises(SourceNotFoundError, match="no such file: "):
        open_images(name)


def test_a_bad_picture_in_the_middle_ends_the_source_and_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = save(tmp_path / "1.png", np.zeros((40, 60), np.uint8))
    (tmp_path / "2.png").write_bytes(good.read_bytes()[:40])
    shutil.copy(good, tmp_path / "3.png")
    frames: list[Frame] = []
    with (
        open_source(tmp_path) as source,
        pytest.raises(SourceLostError, match=r"after 1 of 3 pictures: .*/2\.png cannot be read"),
    ):
        frames.extend(source)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"no picture at all"])
def test_a_file_that_is_no_picture_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(SourceUnreadableError, match=r"a\.png is not a picture that can be read"):
        open_source(path)


def test_a_floating_point_picture_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.zeros((4, 4), np.float32))
    with pytest.raises(SourceUnreadableError, match="uint8 or uint16, got float32"):
        open_source(path)


def test_a_folder_without_pictures_says_what_would_be_right(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(
        SourceUnreadableError, match=r"no pictures in the folder .*: expected \.png"
    ):
        open_source(tmp_path)


def test_a_pattern_that_matches_nothing_says_what_would_be_right(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"no picture matches .*\*\.png: expected files"):
        open_source(str(tmp_path / "*.png"))


def test_closing_ends_the_iteration(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", np.zeros((2, 2), np.uint8))
    source = open_source(tmp_path)
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []
