"""Recordings as sequence metafiles: read back by ourselves and by SimpleITK."""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from tests.tracker.export_scene import (
    COUNT,
    export,
    looked_at,
    read,
    recorded,
    since_first_ns,
    stacked,
)
from tests.tracker.recording_scene import SHAPE, frame_of
from veintrack.tracker.exports.frames import seconds
from veintrack.tracker.frame import Frame

ENDINGS = (".igs.mha", ".mha", ".mhd", ".nrrd")
FRAMES = [frame_of(i) for i in range(COUNT)]
AREA = (20, 10, 60, 50)


def only(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> np.ndarray:
    x, y, width, height = AREA
    shown = np.zeros_like(pixels)
    shown[..., y : y + height, x : x + width] = pixels[..., y : y + height, x : x + width]
    return shown


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("packed", [(), ("--compress",)])
def test_a_sequence_is_read_back_with_its_pixels_times_and_spacing(
    tmp_path: Path, ending: str, packed: tuple[str, ...]
) -> None:
    to = tmp_path / f"a{ending}"
    assert export(recorded(tmp_path / "run"), "--to", to, "--full", *packed) == 0
    frames, info = read(to)
    assert_array_equal(stacked(frames), stacked(FRAMES))
    assert since_first_ns(frames) == since_first_ns(FRAMES)
    assert info.spacing_mm == FRAMES[0].spacing_mm == (0.1, 0.2)
    assert info.frame_count == COUNT
    assert not any("orientation" in note for note in info.notes)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("packed", [(), ("--compress",)])
def test_simpleitk_reads_the_same_pixels_and_spacing(
    tmp_path: Path, ending: str, packed: tuple[str, ...]
) -> None:
    itk = pytest.importorskip("SimpleITK", reason="to compare: pip install SimpleITK")
    to = tmp_path / f"a{ending}"
    assert export(recorded(tmp_path / "run"), "--to", to, "--full", *packed) == 0
    image = itk.ReadImage(str(to))
    pixels = itk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:  # it takes an NRRD's axis of frames for values
        pixels = np.moveaxis(pixels, -1, 0)
    assert_array_equal(pixels, stacked(FRAMES))
    assert image.GetSpacing()[:2] == pytest.approx((0.2, 0.1))
    assert pixels.dtype == np.uint8


def test_simpleitk_reads_the_fields_of_plus(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK", reason="to compare: pip install SimpleITK")
    to = tmp_path / "a.igs.mha"
    assert export(recorded(tmp_path / "run"), "--to", to, "--full") == 0
    reader = itk.ImageFileReader()
    reader.SetFileName(str(to))
    reader.LoadPrivateTagsOn()
    reader.ReadImageInformation()
    assert reader.GetMetaData("UltrasoundImageOrientation").strip() == "MF"
    assert reader.GetMetaData("Seq_Frame0003_Timestamp").strip() == "1000.100000000"
    assert reader.GetMetaData("Seq_Frame0003_ImageStatus").strip() == "OK"


def test_the_data_s_size_is_said_where_it_is_packed_as_plus_needs_it(tmp_path: Path) -> None:
    to = tmp_path / "a.mhd"
    assert export(recorded(tmp_path / "run"), "--to", to, "--full", "--compress") == 0
    size_bytes = (tmp_path / "a.zraw").stat().st_size
    assert f"CompressedDataSize = {size_bytes}\n" in to.read_text()
    assert "ElementDataFile = a.zraw\n" in to.read_text()


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_spacing_that_is_not_known_or_changes_is_left_out(tmp_path: Path, ending: str) -> None:
    changing = [replace(f, spacing_mm=(0.1 + f.index // 6, 0.1)) for f in FRAMES]
    unknown = [replace(f, spacing_mm=None) for f in FRAMES]
    for name, frames in (("changing", changing), ("unknown", unknown)):
        to = tmp_path / f"{name}{ending}"
        assert export(recorded(tmp_path / name, frames), "--to", to, "--full") == 0
        assert read(to)[1].spacing_mm is None


def test_numbers_of_frames_that_are_missing_are_kept(tmp_path: Path) -> None:
    to = tmp_path / "a.mha"
    frames = [f for f in FRAMES if f.index not in (3, 4)]
    assert export(recorded(tmp_path / "run", frames), "--to", to, "--full") == 0
    header = to.read_bytes().split(b"ElementDataFile")[0].decode()
    assert "Seq_Frame0003_FrameNumber = 5\n" in header
    assert since_first_ns(read(to)[0]) == since_first_ns(frames)


def test_of_a_recording_of_the_scan_area_the_rest_is_black_and_places_stay(tmp_path: Path) -> None:
    to = tmp_path / "a.nrrd"
    assert export(recorded(tmp_path / "run", region=AREA), "--to", to) == 0
    assert_array_equal(stacked(read(to)[0]), only(stacked(FRAMES)))


def screens(
    folder: Path, unsure: Iterable[int] = (), changed: Iterable[int] = (), skipped: int = 7
) -> Path:
    """A recording of whole frames, and where in them the ultrasound was said to be."""
    recorded(folder, whole_frames=True)
    seen = [f for f in FRAMES if f.index != skipped]
    looked_at(folder, seen, AREA, unsure, changed)
    return folder


def test_of_whole_frames_what_lies_outside_the_scan_area_is_not_handed_on(tmp_path: Path) -> None:
    folder = screens(tmp_path / "run")
    assert export(folder, "--to", tmp_path / "a.mha") == 0
    assert_array_equal(stacked(read(tmp_path / "a.mha")[0]), only(stacked(FRAMES)))
    assert export(folder, "--to", tmp_path / "b.mha", "--full") == 0
    assert_array_equal(stacked(read(tmp_path / "b.mha")[0]), stacked(FRAMES))


@pytest.mark.parametrize(
    ("unsure", "changed", "skipped", "left_out"),
    [
        ((0, 1, 5), (), 7, (0, 1, 5)),
        ((8,), (), 7, (7, 8)),  # 7 was not tracked, and those around it do not agree
        ((), (3,), 7, (0, 1, 2)),  # the screen had changed up to two seconds before that was said
    ],
)
def test_frames_of_which_the_scan_area_is_not_certain_are_left_out_and_counted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    unsure: tuple[int, ...],
    changed: tuple[int, ...],
    skipped: int,
    left_out: tuple[int, ...],
) -> None:
    folder = screens(tmp_path / "run", unsure, changed, skipped)
    assert export(folder, "--to", tmp_path / "a.mha") == 0
    count, lost = COUNT - len(left_out), len(left_out)
    assert f"{count} frames; {lost} left out, as it is not certain" in capsys.readouterr().err
    kept = [f for f in FRAMES if f.index not in left_out]
    assert_array_equal(stacked(read(tmp_path / "a.mha")[0]), only(stacked(kept)))


def test_where_nothing_is_certain_nothing_is_handed_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = screens(tmp_path / "run", unsure=range(COUNT))
    assert export(folder, "--to", tmp_path / "a.nrrd") == 2
    assert "of not one frame it is certain where" in capsys.readouterr().err


@given(st.integers(-(10**18), 10**18))
def test_seconds_are_written_exactly(time_ns: int) -> None:
    assert Decimal(seconds(time_ns)) * 10**9 == time_ns


def test_frames_of_two_sizes_do_not_go_into_one_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    height, width = SHAPE
    small = frame_of(COUNT, np.zeros((height - 10, width), np.uint8))
    run: list[Frame] = [*FRAMES, small]
    assert export(recorded(tmp_path / "run", run), "--to", tmp_path / "a.mha", "--full") == 2
    assert f"frame 12 is {width}x{height - 10} px" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["run"]  # nothing half-written
