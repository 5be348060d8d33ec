"""Recordings as DICOM cines: read back by pydicom and by ourselves."""

from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_array_equal
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from tests.tracker.export_scene import (
    FACTS,
    export,
    read,
    recorded,
    since_first_ns,
    stacked,
)
from tests.tracker.recording_scene import frame_of
from veintrack.tracker.exports.dicom_image import describe
from veintrack.tracker.exports.frames import Stack
from veintrack.tracker.exports.record import RunFacts

AREA = (20, 10, 60, 50)


def cine(folder: Path, count: int = 12, **more: Any) -> Path:
    """A recording that says what made it."""
    return recorded(folder, [frame_of(i) for i in range(count)], **FACTS, **more)


def test_the_cine_is_read_back_with_pixels_times_scan_area_and_spacing(tmp_path: Path) -> None:
    to = tmp_path / "a.us.dcm"
    assert export(cine(tmp_path / "run", region=AREA), "--to", to) == 0
    frames, info = read(to)
    whole = [frame_of(i) for i in range(12)]
    x, y, width, height = AREA
    shown = stacked(frames)[:, y : y + height, x : x + width]
    assert_array_equal(shown, stacked(whole)[:, y : y + height, x : x + width])
    assert since_first_ns(frames) == since_first_ns(whole)
    assert (info.scan_area_px, info.spacing_mm) == (AREA, pytest.approx((0.1, 0.2)))
    assert info.times_from == "the file's Frame Time Vector"


def test_pydicom_reads_the_cine(tmp_path: Path) -> None:
    to = tmp_path / "a.us.dcm"
    assert export(cine(tmp_path / "run"), "--to", to, "--full") == 0
    data = dcmread(to)
    assert_array_equal(data.pixel_array, stacked(frame_of(i) for i in range(12)))
    assert data.SOPClassUID.name == "Ultrasound Multi-frame Image Storage"
    assert [float(ms) for ms in data.FrameTimeVector[:2]] == [0, 33.333333]
    region = data.SequenceOfUltrasoundRegions[0]
    assert (region.PhysicalDeltaX, region.PhysicalDeltaY) == (0.02, 0.01)


def test_burnt_in_text_is_denied_only_where_the_scan_area_was_cut_out(tmp_path: Path) -> None:
    assert export(cine(tmp_path / "cut", region=AREA), "--to", tmp_path / "a.us.dcm") == 0
    assert export(cine(tmp_path / "whole"), "--to", tmp_path / "b.us.dcm", "--full") == 0
    assert dcmread(tmp_path / "a.us.dcm").BurnedInAnnotation == "NO"
    assert "BurnedInAnnotation" not in dcmread(tmp_path / "b.us.dcm")


def test_a_long_cine_is_written_so_that_its_times_fit() -> None:
    times = tuple(i * 33_333_333 for i in range(20_000))
    facts = RunFacts("now", "", "1", "default", "ab", "openvino", "fp32", "", (4, 6), None)
    data = describe(Stack((4, 6), None, tuple(range(20_000)), times), (0, 0, 6, 4), facts)
    assert data.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert sum(data.FrameTimeVector) == pytest.approx(times[-1] * 1e-6)
    assert data.SequenceOfUltrasoundRegions[0].PhysicalUnitsXDirection == 0
