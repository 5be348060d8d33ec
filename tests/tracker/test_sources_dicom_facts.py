"""What a DICOM file says of time and of millimetres."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from tests.tracker.dicom_scene import ramps, region, save
from veintrack.tracker.sources.base import SourceInfo
from veintrack.tracker.sources.dicom import open_dicom
from veintrack.tracker.sources.dicom_regions import read_geometry
from veintrack.tracker.sources.dicom_times import read_times

MS = 1_000_000
GREY = ramps()  # 5 frames of 64x48
FRAME_TIME, VECTOR = 0x00181063, 0x00181065


def read(path: Path, **options: Any) -> tuple[SourceInfo, list[float]]:
    with open_dicom(path, **options) as source:
        return source.info, [frame.capture_ns / MS for frame in source]


def data(**tags: Any) -> Dataset:
    made = Dataset()
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


# Times.


def test_the_time_vector_gives_uneven_times(tmp_path: Path) -> None:
    tags: dict[str, Any] = {
        "FrameTimeVector": ["0", "40", "20", "60", "40"],
        "FrameIncrementPointer": VECTOR,
    }
    info, times_ms = read(save(tmp_path / "a.dcm", GREY, **tags))
    assert times_ms == [0, 40, 60, 120, 160]
    assert (info.rate_hz, info.times_from) == (25, "the file's Frame Time Vector")


@given(st.lists(st.integers(20, 10_000), min_size=1, max_size=40))
def test_the_time_vector_is_summed_from_the_first_frame(steps_us: list[int]) -> None:
    vector = ["7", *(f"{step / 1000:.3f}" for step in steps_us)]
    times = read_times(data(FrameTimeVector=vector), len(vector), None)
    right = np.cumsum([0, *steps_us]) * 1000
    assert np.abs(np.subtract(times.stamps_ns, right)).max() <= 1


def test_frames_of_equal_time_stay_in_order(tmp_path: Path) -> None:
    tags: dict[str, Any] = {"FrameTimeVector": ["0", "40", "0", "40", "40"]}
    info, times_ms = read(save(tmp_path / "a.dcm", GREY, **tags))
    assert times_ms == [0, 40, 40 + 1 / MS, 80, 120]
    assert "frames that have the time of the one before: 1" in info.notes


@pytest.mark.parametrize(
    ("pointer", "words"),
    [
        (FRAME_TIME, "the file's Frame Time, 25 ms"),
        (VECTOR, "the file's Frame Time Vector"),
        (None, "the file's Frame Time Vector"),
    ],
)
def test_the_frame_increment_pointer_decides(pointer: int | None, words: str) -> None:
    made = data(FrameTime="25", FrameTimeVector=["0", "20", "20"])
    if pointer is not None:
        made.FrameIncrementPointer = pointer
    assert read_times(made, 3, None).words == words


@pytest.mark.parametrize(
    "vector", [["0", "20"], ["0", "-20", "20"], ["0", "0", "0"], ["0", "1e30", "1e30"]]
)
def test_an_impossible_vector_is_passed_over(vector: list[str]) -> None:
    made = data(FrameTime="25", FrameTimeVector=vector, FrameIncrementPointer=VECTOR)
    assert read_times(made, 3, None).words == "the file's Frame Time, 25 ms"


@pytest.mark.parametrize("frame_time", ["0", "-5", "1e30", ""])
def test_an_impossible_frame_time_is_passed_over(frame_time: str) -> None:
    made = data(FrameTime=frame_time, CineRate="50")
    assert read_times(made, 3, None).words == "the file's Cine Rate, 50 frames a second"


def test_rates_count_where_there_is_no_frame_time(tmp_path: Path) -> None:
    info, times_ms = read(save(tmp_path / "a.dcm", GREY, RecommendedDisplayFrameRate=50))
    assert times_ms == [0, 20, 40, 60, 80]
    assert info.times_from == "the file's Recommended Display Frame Rate, 50 frames a second"
    info, times_ms = read(
        save(tmp_path / "a.dcm", GREY, RecommendedDisplayFrameRate=50, CineRate="10")
    )
    assert times_ms == [0, 100, 200, 300, 400]


def test_without_times_the_given_rate_is_taken_or_30_hz_assumed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", GREY)
    info, times_ms = read(path, fps=10)
    assert times_ms == [0, 100, 200, 300, 400]
    assert info.times_from == "no times in the file: 10 frames a second as given"
    info, times_ms = read(path)
    assert times_ms[3] == 100
    assert info.times_from == "no times in the file: 30 frames a second assumed"
    said = "no times in the file: 30 frames a second assumed; --fps says otherwise"
    assert said in info.notes
    timed = save(tmp_path / "a.dcm", GREY, FrameTime="20")
    assert read(timed, fps=10)[0].rate_hz == 50


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        (
            {"FrameTimeVector": ["0", "20"]},
            "Frame Time Vector cannot be used (2 values for 3 frames)",
        ),
        (
            {"FrameTimeVector": ["0", "-20", "20"]},
            "Frame Time Vector cannot be used (its values cannot be times between frames)",
        ),
        ({"FrameTime": "0"}, "Frame Time cannot be used (0 ms)"),
        ({"CineRate": "0"}, "Cine Rate cannot be used (0 a second)"),
    ],
)
def test_times_that_cannot_be_used_are_told_from_none(tags: dict[str, Any], why: str) -> None:
    made = data(**tags)
    assumed = read_times(made, 3, None)
    assert assumed.words == f"the file's {why}: 30 frames a second assumed"
    assert assumed.notes == (f"{assumed.words}; --fps says otherwise",)
    given_rate = read_times(made, 3, 10)
    assert given_rate.words == f"the file's {why}: 10 frames a second as given"
    assert given_rate.notes == (f"the file's {why}",)
    made.RecommendedDisplayFrameRate = 50
    assert read_times(made, 3, None).notes == (f"the file's {why}",)


def test_a_damaged_frame_time_is_told_without_its_text() -> None:
    made = data()
    made.add_new(0x00181063, "LO", "Sommer^Ada")
    words = read_times(made, 3, None).words
    assert words.startswith("the file's Frame Time cannot be used (not a number ms)")


def groups(keyword: str, seconds: list[str]) -> list[Dataset]:
    contents = [data(**{keyword: f"202405061200{second}"}) for second in seconds]
    return [data(FrameContentSequence=[content]) for content in contents]


@pytest.mark.parametrize("keyword", ["FrameAcquisitionDateTime", "FrameReferenceDateTime"])
def test_times_on_each_frame_give_only_differences(tmp_path: Path, keyword: str) -> None:
    seconds = ["07.000", "07.050", "07.090", "07.140", "07.200"]
    tags: dict[str, Any] = {
        "PerFrameFunctionalGroupsSequence": groups(keyword, seconds),
        "CineRate": "9",
    }
    info, times_ms = read(save(tmp_path / "a.dcm", GREY, **tags))
    assert times_ms == [0, 50, 90, 140, 200]
    assert info.times_from == "the times on the file's frames"
    assert "2024" not in repr(info)


@pytest.mark.parametrize(
    "seconds", [["07.0", "07.1"], ["07.0", "06.9", "07.1"], ["07.0", "", "07.1"], ["07", "99", "x"]]
)
def test_damaged_times_on_frames_are_passed_over(seconds: list[str]) -> None:
    made = data(CineRate="10")
    made.PerFrameFunctionalGroupsSequence = groups("FrameAcquisitionDateTime", [])
    for second in seconds:
        made.PerFrameFunctionalGroupsSequence.append(data(FrameContentSequence=[Dataset()]))
        moment = f"202405061200{second}" if second else ""
        content = made.PerFrameFunctionalGroupsSequence[-1].FrameContentSequence[0]
        content.add_new(0x00189074, "LO", moment)
    assert read_times(made, 3, None).rate_hz == 10


# Millimetres.


def test_a_region_gives_scan_area_and_spacing_to_every_frame(tmp_path: Path) -> None:
    regions = [region((4, 6, 53, 45), delta_cm=(0.011, 0.02))]
    path = save(tmp_path / "a.dcm", GREY, SequenceOfUltrasoundRegions=regions)
    with open_dicom(path) as source:
        spacings = {frame.spacing_mm for frame in source}
    assert source.info.scan_area_px == (4, 6, 50, 40)
    assert source.info.spacing_mm == pytest.approx((0.11, 0.2))
    assert spacings == {source.info.spacing_mm}
    assert "spacing from that region" in source.info.notes
    assert any("50x40 px at 4,6" in note for note in source.info.notes)


def geometry(*regions: Dataset, **tags: Any) -> Any:
    return read_geometry(data(SequenceOfUltrasoundRegions=list(regions), **tags), (480, 640))


def test_the_largest_region_of_tissue_in_two_dimensions_is_chosen() -> None:
    found = geometry(
        region((0, 400, 639, 479), form=4, kind=10, units=4),  # a trace
        region((0, 0, 639, 399), form=2),  # M-mode
        region((0, 0, 99, 99)),
        region((100, 0, 399, 299), delta_cm=(0.03, 0.03)),
        region((0, 0, 600, 400), kind=2),  # colour flow
    )
    assert found.scan_area_px == (100, 0, 300, 300)
    assert found.spacing_mm == pytest.approx((0.3, 0.3))
    assert "the largest ultrasound region of tissue, of 5" in found.notes[0]


def test_colour_flow_counts_where_there_is_no_tissue() -> None:
    found = geometry(region((10, 10, 109, 59), kind=2), region((0, 0, 99, 99), form=3, kind=3))
    assert found.scan_area_px == (10, 10, 100, 50)
    assert "of colour flow" in found.notes[0]


def test_a_region_that_counts_from_one_is_clipped() -> None:
    assert geometry(region((0, 0, 640, 480))).scan_area_px == (0, 0, 640, 480)


@pytest.mark.parametrize("box", [(0, 0, 800, 470), (100, 100, 639, 958), (700, 0, 900, 300)])
def test_regions_beyond_the_picture_give_neither_area_nor_spacing(
    box: tuple[int, int, int, int],
) -> None:
    found = geometry(region(box), PixelSpacing=["0.1", "0.1"])
    assert (found.scan_area_px, found.spacing_mm) == (None, None)
    assert "were cut or scaled since" in found.notes[0]


def test_the_sign_of_a_step_is_its_direction_not_its_size() -> None:
    assert geometry(region((0, 0, 99, 99), delta_cm=(-0.01, 0.02))).spacing_mm == (
        pytest.approx((0.1, 0.2))
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"delta_cm": (0.0, 0.01)},
        {"delta_cm": (float("nan"), 0.01)},
        {"delta_cm": (1e9, 0.01)},
        {"units": 4},
    ],
)
def test_a_region_without_centimetres_still_gives_the_scan_area(bad: dict[str, Any]) -> None:
    found = geometry(region((0, 0, 99, 99), **bad))
    assert (found.scan_area_px, found.spacing_mm) == ((0, 0, 100, 100), None)
    assert "it is not calibrated in centimetres" in found.notes
    found = geometry(region((0, 0, 99, 99), **bad), PixelSpacing=["0.1", "0.2"])
    assert found.spacing_mm == (0.1, 0.2)
    assert "spacing from the file's Pixel Spacing" in found.notes


def test_regions_of_other_kinds_give_nothing() -> None:
    found = geometry(region((0, 0, 99, 99), form=3, kind=3), region((0, 0, 3, 3)))
    assert (found.scan_area_px, found.spacing_mm) == (None, None)
    assert found.notes == ("no ultrasound region shows tissue in two dimensions",)


def test_a_region_without_corners_gives_nothing() -> None:
    broken = region((0, 0, 99, 99))
    del broken.RegionLocationMaxX1
    assert geometry(broken).scan_area_px is None
    assert geometry(region((99, 0, 0, 99))).scan_area_px is None


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PixelSpacing": ["0.3", "0.2"], "ImagerPixelSpacing": ["1", "1"]}, "Pixel Spacing"),
        ({"NominalScannedPixelSpacing": ["0.3", "0.2"]}, "Nominal Scanned Pixel Spacing"),
        (
            {"ImagerPixelSpacing": ["0.3", "0.2"], "PixelSpacing": ["0", "0"]},
            "Imager Pixel Spacing",
        ),
    ],
)
def test_without_regions_the_spacing_of_the_picture_is_taken(
    tags: dict[str, Any], words: str
) -> None:
    found = read_geometry(data(**tags), (480, 640))
    assert (found.scan_area_px, found.spacing_mm) == (None, (0.3, 0.2))
    assert found.notes == (f"spacing from the file's {words}",)


def test_an_enhanced_image_has_its_spacing_in_shared_groups() -> None:
    measures = data(PixelMeasuresSequence=[data(PixelSpacing=["0.3", "0.2"])])
    found = read_geometry(data(SharedFunctionalGroupsSequence=[measures]), (480, 640))
    assert found.spacing_mm == (0.3, 0.2)


def test_without_anything_there_is_no_spacing(tmp_path: Path) -> None:
    info, _ = read(save(tmp_path / "a.dcm", GREY))
    assert (info.spacing_mm, info.scan_area_px) == (None, None)
