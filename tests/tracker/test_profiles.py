"""Scanner profiles: written and read as they were, and refused where the picture is another."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from veintrack.errors import OutputError, SourceUnreadableError
from veintrack.tracker.frame import U8, Region
from veintrack.tracker.furniture import agreement, furniture_of, map_shape, offset_px
from veintrack.tracker.profile_files import (
    list_profiles,
    profile_names,
    profiles_folder,
    read_profile,
    save_profile,
)
from veintrack.tracker.profiles import (
    Orientation,
    ScannerProfile,
    check_profile,
    profile_options,
)
from veintrack.tracker.sources import open_source

CROP: Region = (100, 80, 400, 300)
FULL = ScannerProfile(
    "portable 2",
    (480, 640),
    crop_px=CROP,
    spacing_mm=(0.1, 0.125),
    orientation=Orientation.MIRRORED,
    mode="640x480@30:YUYV",
    source="/dev/v4l/by-id/usb-card-video-index0",
    depth_mm=30.0,
    tick_px=50.5,
    signature=("0" * 19 + "1",) * 15,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of profiles, empty."""
    monkeypatch.setenv("VEINTRACK_CONFIG", str(tmp_path / "settings"))
    return tmp_path / "settings" / "profiles"


def screen(
    name: str = "Hospital, J.", number: int = 10, seed: int = 0, ruler_px: float | None = None
) -> U8:
    """A scanner's screen: tissue, a header, a column of settings with numbers, a grey bar."""
    x, y, width, height = CROP
    noise = np.random.default_rng(seed).rayleigh(50.0, (height, width)).astype(np.float32)
    pixels = np.zeros((480, 640), np.uint8)
    pixels[y : y + height, x : x + width] = np.clip(cv2.GaussianBlur(noise, (3, 3), 0), 0, 255)
    for row, word in enumerate(("B", "Frq", "Gn", "E/A", "Map", "D", "DR", "FR", "AO", "XBeam")):
        write(pixels, f"{word} {number + row}", 530, 90 + 18 * row)
    write(pixels, name, 90, 30)
    pixels[100:220, 40:60] = np.linspace(255, 0, 120, dtype=np.uint8)[:, None]
    if ruler_px is not None:
        for tick in range(int(height / ruler_px) + 1):
            row = round(y + tick * ruler_px)
            pixels[row, x + width + 4 : x + width + (13 if tick % 5 == 0 else 9)] = 180
    return pixels


def write(pixels: U8, text: str, x: int, y: int) -> None:
    cv2.putText(pixels, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 220, 1, cv2.LINE_AA)


def profile_of(pixels: U8, crop_px: Region = CROP, **others: Any) -> ScannerProfile:
    shape = (pixels.shape[0], pixels.shape[1])
    signature = furniture_of(pixels, crop_px)
    return ScannerProfile("this one", shape, crop_px, signature=signature, **others)


# Files


def test_a_profile_is_read_as_it_was_saved(folder: Path) -> None:
    assert save_profile(FULL) == folder / "portable 2.yaml"
    assert read_profile("portable 2") == FULL
    bare = ScannerProfile("bare", (1, 1))
    save_profile(bare)
    assert read_profile("bare") == bare
    assert list_profiles() == (bare, FULL)
    assert [p.name for p in folder.iterdir() if p.suffix != ".yaml"] == []


@given(
    st.builds(
        ScannerProfile,
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,20}", fullmatch=True),
        st.just((480, 640)),
        crop_px=st.none() | st.just(CROP),
        spacing_mm=st.none() | st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6)),
        orientation=st.sampled_from(Orientation),
        source=st.none() | st.text(),
        depth_mm=st.none() | st.floats(1e-6, 1e6),
        signature=st.just(()) | st.lists(
            st.text("0123", min_size=20, max_size=20), min_size=15, max_size=15
        ).map(tuple),
    )
)  # fmt: skip
def test_every_profile_survives_its_file(profile: ScannerProfile) -> None:
    save_profile(profile, overwrite=True)
    assert read_profile(profile.name) == profile


def test_a_profile_is_replaced_only_on_demand() -> None:
    save_profile(FULL)
    with pytest.raises(OutputError, match=r"a profile portable 2 already: .* add --overwrite"):
        save_profile(replace(FULL, depth_mm=None))
    save_profile(replace(FULL, depth_mm=None), overwrite=True)
    assert read_profile("portable 2").depth_mm is None


def test_a_folder_that_cannot_be_written_is_one_line(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("a file in its place")
    with pytest.raises(OutputError, match=r"cannot write .*portable 2.yaml: "):
        save_profile(FULL)


def test_the_users_folder_is_taken_where_nothing_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VEINTRACK_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/of/the/user")
    assert profiles_folder() == Path("/of/the/user/veintrack/profiles")


def test_a_profile_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no profile other; there are: none; .* save"):
        read_profile("other")
    save_profile(FULL)
    with pytest.raises(ValueError, match="no profile other; there are: portable 2;"):
        read_profile("other")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65, "line\nbreak", "ä"])
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a profile's name must be up to 64 letters"):
        ScannerProfile(name, (480, 640))
    with pytest.raises(ValueError, match="a profile's name must be"):
        read_profile(name)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("frame_shape_px", None, "frame_shape_px is missing"),
        ("frame_shape_px", [480], "frame_shape_px must be a list of 2 whole numbers"),
        ("frame_shape_px", [480.0, 640], "frame_shape_px must be a list of 2 whole numbers"),
        ("frame_shape_px", [True, 640], "frame_shape_px must be a list of 2 whole numbers"),
        ("frame_shape_px", [0, 640], "frame_shape_px must be H, W above 0"),
        ("crop_px", "auto", "crop_px must be a list of 4 whole numbers, got 'auto'"),
        ("crop_px", [0, 0, 641, 10], "crop_px must lie in the frame of 640x480 px"),
        ("crop_px", [-1, 0, 10, 10], "crop_px must lie in the frame"),
        ("crop_px", [0, 0, 0, 10], "crop_px must lie in the frame"),
        ("spacing_mm", 0.1, "spacing_mm must be a list of 2 numbers"),
        ("spacing_mm", [0.1, "b"], "spacing_mm must be a number, got 'b'"),
        ("spacing_mm", [0.1, 0], "spacing_mm must be greater than 0 and finite"),
        ("orientation", "left", "orientation must be one of as is, mirrored, upside down"),
        ("orientation", ["as is"], "orientation must be one of"),
        ("mode", 5, "mode must be text, got 5"),
        ("mode", "large", "mode must be WxH, WxH@FPS"),
        ("source", [1], "source must be text"),
        ("depth_mm", "deep", "depth_mm must be a number"),
        ("depth_mm", float("inf"), "depth_mm must be greater than 0 and finite"),
        ("depth_mm", int("9" * 400), "depth_mm must be a number below 1e308, got a greater one"),
        ("tick_px", -3, "tick_px must be greater than 0 and finite"),
        ("signature", "0011", "signature must be a list of texts of digits"),
        ("signature", [11, 22], "signature must be a list of texts of digits"),
        ("signature", ["0" * 20], "signature must be 15 rows of 20 digits from 0 to 3"),
        ("signature", ["4" * 20] * 15, "signature must be 15 rows of 20 digits"),
        ("name", "x", "unknown value 'name'; known: frame_shape_px, crop_px"),
    ],
)
def test_a_wrong_value_in_the_file_is_one_line(key: str, value: Any, says: str) -> None:
    path = save_profile(FULL)
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, key: value}))
    with pytest.raises(ValueError, match=says) as caught:
        read_profile(FULL.name)
    assert str(caught.value).startswith(f"profile {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"- 1\n", b"a: [\n", b"\xff\xfe\xfa", b"text", b"a: " + b"9" * 5000, b"[" * 3000],
)
def test_a_file_that_is_no_profile_is_one_line(folder: Path, content: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "odd.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"profile .*odd.yaml") as caught:
        read_profile("odd")
    assert "\n" not in str(caught.value)


def test_the_list_goes_on_after_a_broken_file(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_profile(FULL)
    (folder / "broken.yaml").write_text("crop_px: 3")
    with caplog.at_level(logging.WARNING):
        assert list_profiles() == (FULL,)
    assert "broken.yaml: frame_shape_px is missing" in caplog.text
    assert profile_names() == ("broken", "portable 2")


# Options of a run


def test_a_profile_stands_for_options_of_the_command_line() -> None:
    assert profile_options(FULL) == {
        "source": FULL.source,
        "crop": CROP,
        "spacing": (0.1, 0.125),
        "mode": FULL.mode,
    }
    assert profile_options(ScannerProfile("bare", (480, 640))) == {}
    deep = ScannerProfile("deep", (480, 640), depth_mm=40)
    assert profile_options(deep) == {"depth_mm": 40}


@pytest.mark.parametrize(
    ("given", "adds"),
    [
        ({"source": "0", "crop": "auto"}, {"spacing", "mode"}),
        ({"source": "/dev/video2", "fps": None}, {"crop", "spacing", "mode"}),
        ({"source": "recorded.mp4"}, {"crop", "spacing"}),
        ({"spacing": "0.2", "mode": "640x480"}, {"source", "crop"}),
        ({"depth_mm": 50}, {"source", "crop", "mode"}),
    ],
)
def test_what_is_given_wins_over_the_profile(given: dict[str, Any], adds: set[str]) -> None:
    assert set(profile_options(FULL, given)) == adds


# The picture


def test_the_same_screen_with_other_tissue_numbers_and_names_fits() -> None:
    profile = profile_of(screen())
    for seed in range(1, 6):
        check_profile(profile, screen("Somebody Else, A.", 10 + 13 * seed, seed))


@pytest.mark.parametrize("level", [0, 255])
def test_what_is_in_the_scan_area_does_not_matter(level: int) -> None:
    profile, pixels = profile_of(screen()), screen()
    x, y, width, height = CROP
    pixels[y : y + height, x : x + width] = level
    check_profile(profile, pixels)


def test_brightness_and_noise_of_a_grabber_do_not_matter() -> None:
    profile = profile_of(screen())
    noise = np.random.default_rng(3).normal(0, 4, (480, 640))
    for gain in (0.8, 1.2):
        check_profile(profile, np.clip(screen() * gain + noise, 0, 255).astype(np.uint8))


def test_another_size_is_refused() -> None:
    with pytest.raises(SourceUnreadableError) as caught:
        check_profile(profile_of(screen()), np.zeros((720, 1280), np.uint8))
    assert str(caught.value) == (
        "profile this one is for 640x480 pictures, the source delivers 1280x720"
    )


@pytest.mark.parametrize("shift", [(20, 0), (-20, 0), (0, 20), (0, -20), (15, -15)])
def test_a_screen_that_is_moved_is_refused_and_by_how_much_is_said(shift: tuple[int, int]) -> None:
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    moved = cv2.warpAffine(screen(number=20), matrix, (640, 480)).astype(np.uint8)
    profile = profile_of(screen())
    with pytest.raises(SourceUnreadableError, match=r"layout is moved by about .* this one --over"):
        check_profile(profile, moved)
    x_px, y_px, _ = offset_px(profile.signature, moved, CROP)
    assert (x_px, y_px) == pytest.approx(shift, abs=4)


def mirrored(pixels: U8) -> U8:
    return np.ascontiguousarray(pixels[:, ::-1])


def upside_down(pixels: U8) -> U8:
    return np.ascontiguousarray(pixels[::-1])


def half_as_large(pixels: U8) -> U8:
    small = np.zeros_like(pixels)
    small[:240, :320] = cv2.resize(pixels, (320, 240), interpolation=cv2.INTER_AREA)
    return small


@pytest.mark.parametrize("other", [mirrored, upside_down, half_as_large])
def test_another_layout_is_refused(other: Callable[[U8], U8]) -> None:
    with pytest.raises(SourceUnreadableError, match=r"layout differs from that of profile this"):
        check_profile(profile_of(screen()), other(screen()))


def test_a_screen_that_is_off_is_told_apart() -> None:
    with pytest.raises(SourceUnreadableError, match="the screen is empty where profile this one"):
        check_profile(profile_of(screen()), np.full((480, 640), 16, np.uint8))


def test_a_profile_without_scan_area_or_furniture_is_held_against_the_size_alone() -> None:
    check_profile(ScannerProfile("free", (480, 640)), screen())
    whole = profile_of(screen(), (0, 0, 640, 480))
    check_profile(whole, screen(seed=9))
    check_profile(replace(profile_of(screen()), signature=()), np.zeros((480, 640), np.uint8))


def test_spacing_of_another_depth_is_refused() -> None:
    profile = profile_of(screen(ruler_px=25), spacing_mm=(0.1, 0.1), depth_mm=30, tick_px=25.0)
    check_profile(profile, screen(ruler_px=25.2))
    check_profile(profile, screen())  # no ruler: nothing can be said
    deeper = screen(ruler_px=18.75)
    with pytest.raises(SourceUnreadableError, match=r"18.[78] px apart, .* to 30 mm, or"):
        check_profile(profile, deeper)
    check_profile(profile, deeper, spacing_used=False)


# The map


def test_a_map_holds_no_text() -> None:
    """A cell of several letters is one digit of four: hundreds of names make a few maps."""
    random = np.random.default_rng(5)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    names = ["".join(random.choice(letters, 11)).title() for _ in range(300)]
    assert len({furniture_of(screen(name), CROP) for name in names}) <= 12
    for height, width in ((480, 640), (720, 1280), (1080, 1920), (1024, 768), (100, 100), (1, 1)):
        rows, columns = map_shape((height, width))
        assert rows * 16 < height + 16
        assert columns * 16 < width + 16
        assert max(rows, columns) <= 20


@given(st.lists(st.text("0123", min_size=4, max_size=4), min_size=3, max_size=3).map(tuple))
def test_a_map_agrees_with_itself(one: tuple[str, ...]) -> None:
    assert agreement(one, one) == (1.0, 0)


def test_maps_that_share_nothing_do_not_agree() -> None:
    assert agreement(("03", "00"), ("10", "02")) == (0.0, 6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (33, 7), (2000, 3)])
def test_pictures_of_any_size_have_a_map(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    profile = profile_of(pixels, (0, 0, 1, 1))
    check_profile(profile, pixels)


def test_every_frame_of_a_real_screen_fits_the_profile_of_its_first(recordings: Path) -> None:
    with open_source(recordings / "replay/brachial_artery_screen_capture.mov") as source:
        frames = [frame.pixels for frame in source]
    profile = profile_of(frames[0], (26, 46, 474, 342), spacing_mm=(0.074, 0.074), tick_px=33.77)
    for pixels in frames[::18]:
        check_profile(profile, pixels)
    for shift in ((20, 0), (-20, 0), (0, 20), (0, -20)):
        with pytest.raises(SourceUnreadableError, match="layout is moved"):
            check_profile(profile, np.roll(frames[100], shift, (1, 0)))
    for path in sorted((recordings / "vessels" / "images").glob("*.png"))[::40]:
        other = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert other is not None
        with pytest.raises(SourceUnreadableError, match="layout differs"):
            check_profile(profile, cv2.resize(other, (640, 480)).astype(np.uint8))
