"""``veintrack profile``, and the window in which two points are clicked."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.tracker.test_profiles import CROP, screen
from veintrack.errors import BackendMissingError, OutputError
from veintrack.tracker.cli.app import run
from veintrack.tracker.cli.clicks import Measuring, measure_in_window
from veintrack.tracker.cli.profile import device_identity, parse_clicks
from veintrack.tracker.frame import U8
from veintrack.tracker.profile_files import read_profile
from veintrack.tracker.profiles import Orientation, check_profile

BLANK: U8 = np.zeros((480, 640), np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of profiles, empty."""
    monkeypatch.setenv("VEINTRACK_CONFIG", str(tmp_path / "settings"))
    return tmp_path / "settings" / "profiles"


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pictures of a scanner with a ruler: ticks of 10 mm, 80 mm deep."""
    pictures = tmp_path_factory.mktemp("scanner")
    for number in range(6):
        cv2.imwrite(str(pictures / f"{number}.png"), screen(seed=number, ruler_px=37.5))
    return str(pictures)


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command line that must fail; give its one line."""
    assert run(["profile", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err


# Save, show, list


def test_a_saved_profile_has_the_scan_area_the_ruler_and_the_furniture(
    scanner: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["profile", "save", "ours", "--source", scanner, "--depth-mm", "80"]) == 0
    said = capsys.readouterr().out
    kept = read_profile("ours")
    assert kept.frame_shape_px == (480, 640)
    assert kept.crop_px == pytest.approx(CROP, abs=6)
    assert kept.spacing_mm == pytest.approx((10 / 37.5,) * 2, rel=0.003)
    assert kept.tick_px == pytest.approx(37.5, rel=0.003)
    assert (kept.depth_mm, kept.orientation, kept.source) == (80, Orientation.AS_IS, None)
    check_profile(kept, screen(seed=99, ruler_px=37.5))
    assert "9 ticks of 10 mm" in said
    assert "found in the first second" in said
    assert str(folder / "ours.yaml") in said


def test_what_is_given_is_kept_as_it_is(scanner: str) -> None:
    options = ["--crop", "100,80,400,300", "--spacing", "0.1,0.2", "--orientation", "mirrored"]
    assert run(["profile", "save", "ours", "--source", scanner, *options]) == 0
    kept = read_profile("ours")
    assert (kept.crop_px, kept.spacing_mm) == (CROP, (0.1, 0.2))
    assert (kept.orientation, kept.depth_mm) == (Orientation.MIRRORED, None)


def test_two_clicks_and_the_ruler_s_ticks_measure_too(
    scanner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save = [
        "profile",
        "save",
        "ours",
        "--overwrite",
        "--source",
        scanner,
        "--crop",
        "100,80,400,300",
    ]
    assert run([*save, "--clicks", "10,20,10,220,50"]) == 0
    assert read_profile("ours").spacing_mm == (0.25, 0.25)
    capsys.readouterr()
    assert run([*save, "--tick-mm", "5"]) == 0
    assert re.search(r"9 ticks, 37\.[45]\d px and 5 mm apart", capsys.readouterr().out)
    assert read_profile("ours").spacing_mm == pytest.approx((5 / 37.5,) * 2, rel=0.003)
    assert run(save) == 0
    assert read_profile("ours").spacing_mm is None


def test_a_picture_shows_the_outline_and_nothing_outside_of_it(
    scanner: str, tmp_path: Path
) -> None:
    picture = tmp_path / "outline.png"
    save = ["profile", "save", "ours", "--source", scanner, "--picture", str(picture)]
    assert run([*save, "--crop", "100,80,400,300"]) == 0
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert (drawn[80, 100:500] == (0, 255, 255)).all()
    inside = drawn[80:380, 100:500].copy()
    assert inside[1:-1, 1:-1].any()
    drawn[80:380, 100:500] = 0
    assert not drawn.any()


def test_profiles_are_shown_and_listed(
    scanner: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["profile", "list"]) == 0
    assert capsys.readouterr().out == f"0 profiles in {folder}\n"
    save = ["profile", "save", "odd.x", "--source", scanner]
    assert run([*save, "--crop", "none", "--spacing", "0.1"]) == 0
    capsys.readouterr()
    assert run(["profile", "list"]) == 0
    listed = capsys.readouterr().out
    assert "640x480 px at (0, 0)" in listed
    assert all(line == line.rstrip() for line in listed.splitlines())
    assert f"1 profile in {folder}" in listed
    assert run(["profile", "show", "odd.x"]) == 0
    shown = capsys.readouterr().out
    assert "0.1 mm" in shown
    assert all(line == line.rstrip() for line in shown.splitlines())
    assert str(folder / "odd.x.yaml") in shown


def test_a_profile_and_a_picture_are_replaced_only_on_demand(
    scanner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "outline.png"
    save = ["save", "ours", "--source", scanner, "--picture", str(picture)]
    picture.write_bytes(b"mine")
    assert "outline.png exists: name another --picture" in fails(capsys, *save)
    assert run(["profile", *save, "--overwrite"]) == 0
    capsys.readouterr()
    assert "there is a profile ours already" in fails(capsys, *save)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--spacing", "0.1", "--depth-mm", "40"], "exclude each other: give one"),
        (["--clicks", "1,2,3,4,5", "--window"], "exclude each other: give one"),
        (["--distance-mm", "4"], "distance_mm is that of points clicked with --window"),
        (["--depth-mm", "0"], "depth_mm must be greater than 0"),
        (["--depth-mm", "nan"], "depth_mm must be greater than 0"),
        (["--clicks", "1,2,3,4"], "clicks must be X0,Y0,X1,Y1,MM, got '1,2,3,4'"),
        (["--clicks", "1,2,3,4,5"], "two points must be at least 10 px apart"),
        (
            ["--clicks", "10,10,10,481,5"],
            "clicks must lie in the picture of 640x480 px, got 10,481",
        ),
        (["--clicks", "-1,10,10,80,5"], "clicks must lie in the picture"),
        (["--clicks", "nan,10,10,80,5"], "clicks must lie in the picture"),
        (["--orientation", "left"], "orientation must be one of as is, mirrored"),
        (["--crop", "1,2"], "crop must be auto, none or X,Y,W,H"),
        (["--crop", "600,0,100,100"], "crop_px must lie in the frame of 640x480 px"),
        (["--crop", "100,80,400,0"], "crop_px must lie in the frame of 640x480 px"),
        (["--mode", "640x480"], "mode 640x480 is for capture devices"),
        (["--tick-mm", "10", "--crop", "none"], "no depth ruler is found beside the scan area"),
        (["--source", "/no/such/file"], "no such file"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    scanner: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    says: str,
) -> None:
    assert says in fails(capsys, "save", "ours", "--source", scanner, *options)
    assert not folder.exists()


@pytest.mark.parametrize("option", [["--depth-mm", "40"], ["--picture", "all.png"]])
def test_without_a_scan_area_nothing_is_measured_or_drawn_by_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    still = tmp_path / "still.png"
    cv2.imwrite(str(still), np.full((240, 320), 60, np.uint8))
    save = ["save", "ours", "--source", str(still)]
    assert "no scan area was found" in fails(capsys, *save, *option)
    assert run(["profile", *save]) == 0
    assert "all of it, as no part stands out" in capsys.readouterr().out


def test_a_name_that_is_none_is_refused_before_anything_is_opened(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "name must be" in fails(capsys, "save", "../up", "--source", "/no/such")
    assert "no profile other" in fails(capsys, "show", "other")


def test_the_layout_of_a_real_screen_is_kept(recordings: Path) -> None:
    source = str(recordings / "replay/brachial_artery_screen_capture.mov")
    assert run(["profile", "save", "ge", "--source", source, "--depth-mm", "25"]) == 0
    kept = read_profile("ge")
    assert kept.crop_px == pytest.approx((41, 47, 458, 340), abs=10)  # by eye, without the bar
    assert kept.spacing_mm == pytest.approx((0.0740, 0.0740), abs=0.0003)


# Devices


def test_a_device_is_kept_by_its_identity(tmp_path: Path) -> None:
    link = tmp_path / "usb-card-index0"
    link.symlink_to("/dev/null")  # a character device that is everywhere
    assert device_identity("/dev/null", tmp_path) == str(link)
    assert device_identity(str(link), tmp_path) == str(link)
    assert device_identity("/dev/zero", tmp_path) is None
    assert device_identity("/dev/null", tmp_path / "none") is None


@pytest.mark.parametrize("source", ["demo", "9876", "rtsp://user:secret@host/1", "scan.mp4"])
def test_what_is_no_device_is_not_kept(source: str, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert device_identity(source, tmp_path) is None


# Two clicks


def test_clicks_are_read() -> None:
    assert parse_clicks("1,2.5,3,4,50") == ((1, 2.5), (3, 4), 50)


def test_two_points_and_a_distance_are_an_answer() -> None:
    measuring = Measuring()
    assert "first point" in measuring.prompt()
    measuring.click((10.0, 10.0))
    assert "second point" in measuring.prompt()
    measuring.click((10.0, 110.0))
    assert "type their distance" in measuring.prompt()
    for key in ("4", "x", "", "2", ".", ".", "5"):
        measuring.type(key)
    assert measuring.typed == "42.5"
    measuring.erase()
    assert measuring.answer() == ((10.0, 10.0), (10.0, 110.0), 42.0)
    assert "Enter takes it" in measuring.prompt()
    measuring.click((0.0, 0.0))
    assert measuring.answer() is None
    assert measuring.points_px == [(0.0, 0.0)]


@pytest.mark.parametrize("typed", ["", ".", "0"])
def test_without_a_distance_there_is_no_answer(typed: str) -> None:
    assert Measuring(typed, [(0.0, 0.0), (0.0, 100.0)]).answer() is None


def test_points_next_to_each_other_are_no_answer() -> None:
    assert Measuring("5", [(0.0, 0.0), (3.0, 4.0)]).answer() is None


@pytest.fixture
def pygame(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The window's library, on a screen in memory, its events waiting to be posted."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setitem(os.environ, "PYGAME_HIDE_SUPPORT_PROMPT", "1")
    module = pytest.importorskip(
        "pygame", reason='the window\'s library is not installed: pip install "veintrack[window]"'
    )
    module.display.init()
    yield module
    module.display.quit()


def post(pygame: Any, *events: tuple[int, int] | str | None) -> None:
    """Post clicks (places), keys (their names) and the window's end (None)."""
    for event in events:
        if event is None:
            made = pygame.event.Event(pygame.QUIT)
        elif isinstance(event, tuple):
            made = pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=event)
        else:
            text = event if len(event) == 1 else ""
            key = getattr(pygame, f"K_{event}")
            made = pygame.event.Event(pygame.KEYDOWN, key=key, unicode=text)
        pygame.event.post(made)


def test_points_are_clicked_and_their_distance_is_typed(pygame: Any) -> None:
    post(pygame, (100, 50), (100, 250), "4", "1", "BACKSPACE", "0", "RETURN")
    assert measure_in_window(BLANK) == ((100, 50), (100, 250), 40)
    assert not pygame.display.get_init()


def test_a_given_distance_needs_no_typing(pygame: Any) -> None:
    post(pygame, "RETURN", (100, 50), (100, 250), "RETURN")
    assert measure_in_window(BLANK, 25) == ((100, 50), (100, 250), 25)


def test_clicks_are_in_pixels_of_the_frame_whatever_its_size_on_the_screen(pygame: Any) -> None:
    small: U8 = np.zeros((240, 160), np.uint8)  # shown as it is, in a wider window
    post(pygame, (700, 30), (20, 30), (20, 130), "RETURN")
    assert measure_in_window(small, 25) == ((20, 30), (20, 130), 25)


@pytest.mark.parametrize("way", ["ESCAPE", None])
def test_the_window_can_be_left_without_an_answer(pygame: Any, way: str | None) -> None:
    post(pygame, (100, 50), way)
    assert measure_in_window(BLANK) is None


def test_a_window_measures_for_a_profile(
    pygame: Any, scanner: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save = ["save", "ours", "--source", scanner, "--window", "--distance-mm", "20"]
    post(pygame, "ESCAPE")
    assert "no profile was written" in fails(capsys, *save)
    assert not folder.exists()
    pygame.display.init()
    post(pygame, (100, 50), (100, 250), "RETURN")
    assert run(["profile", *save]) == 0
    assert read_profile("ours").spacing_mm == pytest.approx((0.1, 0.1))


def test_without_a_screen_the_other_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OutputError, match="no screen for a window: give --clicks"):
        measure_in_window(BLANK)


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(BackendMissingError, match=r"--window needs pygame: .*veintrack\[window\]"):
        measure_in_window(BLANK)
