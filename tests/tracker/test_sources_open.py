"""Finding out what kind of source a name is, and saying so where it is none."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.sources import open_source


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((4, 6), 9, np.uint8))
    return path


@pytest.mark.parametrize(
    "name", ["missing.mp4", "missing", "missing.dcm", "missing.xyz", "long" * 70 + ".mp4"]
)
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=rf"^no such file: {tmp_path}/{name}$"):
        open_source(tmp_path / name)


def test_an_address_of_another_kind_says_what_can_be_read() -> None:
    with pytest.raises(
        SourceUnreadableError, match=r"^cannot read gopher:// sources; readable are: demo; 0 or"
    ):
        open_source("gopher://host/stream")


def test_an_unknown_suffix_says_what_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_bytes(b"x")
    with pytest.raises(SourceUnreadableError, match=r"cannot read \.xyz files; readable are: "):
        open_source(path)


@pytest.mark.parametrize("suffix", [".dcm", ".dicom", ".mha", ".mhd", ".nrrd", ".nhdr", ".mp4"])
def test_a_file_that_is_not_what_its_name_says_is_refused_by_name(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x")
    with pytest.raises(SourceUnreadableError, match=str(path)):
        open_source(path)


def test_dicom_is_known_by_its_mark_where_there_is_no_suffix(tmp_path: Path) -> None:
    path = tmp_path / "IM000001"
    path.write_bytes(bytes(128) + b"DICM")
    with pytest.raises(SourceUnreadableError) as caught:
        open_source(path)
    assert "readable are" not in str(caught.value)  # its reader says what is wrong with it


def test_a_file_without_suffix_says_what_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "scan"
    path.write_bytes(b"x")
    with pytest.raises(SourceUnreadableError, match="a file without a suffix; readable are: demo"):
        open_source(path)


def test_errors_are_one_line(tmp_path: Path) -> None:
    nobody_listens = "rtsp://127.0.0.1:9/a"
    for source in (tmp_path, tmp_path / "*.png", tmp_path / "a", nobody_listens, "/dev/null"):
        with pytest.raises((SourceNotFoundError, SourceUnreadableError)) as caught:
            open_source(source)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["98", "/dev/video98", "/dev/v4l/by-id/usb-none-index0"])
def test_a_missing_device_says_which_there_are(source: str) -> None:
    with pytest.raises(SourceNotFoundError, match=r"^no such device: /dev/.*video devices here: "):
        open_source(source)


def test_a_file_that_is_no_device_is_refused() -> None:
    with pytest.raises(SourceUnreadableError, match="/dev/null is not a video device"):
        open_source("/dev/null")


@pytest.mark.parametrize("spacing", [(0.0, 1.0), (1.0, -1.0), (float("nan"), 1.0), (40.0, 40.0)])
def test_a_spacing_that_is_none_is_refused(spacing: tuple[float, float], picture: Path) -> None:
    with pytest.raises(ValueError, match="spacing_mm must lie between 0.0001 and 10 mm"):
        open_source(picture, spacing_mm=spacing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_lost": "cry"}, "on_lost must be wait or exit, got 'cry'"),
        ({"mode": "640x480"}, "mode 640x480 is for capture devices, got the source "),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, str], message: str, picture: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        open_source(picture, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("fps", [0.0, -1.0, float("inf")])
def test_a_rate_that_is_none_is_refused(fps: float, picture: Path) -> None:
    with pytest.raises(ValueError, match="fps must be positive and finite, got"):
        open_source(picture, fps=fps)


def test_a_given_spacing_is_in_every_frame(picture: Path) -> None:
    with open_source(picture, spacing_mm=(0.1, 0.2)) as source:
        assert source.info.spacing_mm == (0.1, 0.2)
        assert [frame.spacing_mm for frame in source] == [(0.1, 0.2)]
        assert source.driver_drops == 0


def test_upper_case_suffixes_and_strings_are_read(picture: Path) -> None:
    upper = picture.rename(picture.with_suffix(".PNG"))
    with open_source(str(upper)) as source:
        assert source.info.kind == "images"


def test_importing_the_sources_imports_no_library_of_theirs() -> None:
    code = (
        "import sys, veintrack.tracker.sources;"
        "found = {'cv2', 'av', 'torch', 'pydicom'} & set(sys.modules);"
        "sys.exit(str(found) if found else 0)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
