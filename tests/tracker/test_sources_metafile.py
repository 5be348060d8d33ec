"""MetaImage and NRRD: every branch of their headers, and what they must not be believed."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.tracker.metafile_scene import STACK, mha, nrrd, read, stacked
from veintrack.errors import SourceLostError, SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import Frame
from veintrack.tracker.sources.sequence import open_sequence


@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_with_its_pictures_in_another_file_is_read(
    tmp_path: Path, compressed: bool
) -> None:
    name = "a.zraw" if compressed else "a.raw"
    path = mha(tmp_path / "a.mhd", compressed=compressed, data_file=name)
    assert_array_equal(stacked(read(path)[1]), STACK)


def test_pictures_behind_a_foreign_header_are_found_from_the_end(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mhd", data_file="a.raw", HeaderSize=-1)
    (tmp_path / "a.raw").write_bytes(b"x" * 999 + STACK.tobytes())
    assert_array_equal(stacked(read(path)[1]), STACK)


@pytest.mark.parametrize("shape", [(30, 40), (7, 1, 30, 40), (1, 7, 30, 40)])
def test_a_single_picture_and_an_axis_of_length_one_are_read(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    stack = STACK.reshape(shape) if len(shape) == 4 else STACK[0]
    sizes = " ".join(map(str, shape[::-1]))
    path = mha(tmp_path / "a.mha", stack.reshape(-1, 30, 40), NDims=len(shape), DimSize=sizes)
    assert_array_equal(stacked(read(path)[1]), stack.reshape(-1, 30, 40))


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize(
    "axes",
    [
        "dimension: 3\nsizes: 40 30 7\nkinds: domain domain list\nspacings: 0.1 0.2 nan\n",
        "dimension: 3\nsizes: 40 30 7\nspacings: 0.1 0.2 1\n",
        "dimension: 3\nsizes: 40 30 7\nspace directions: (0.06,0.08) (0.2,0) none\n",
        "dimension: 4\nsizes: 40 30 1 7\nkinds: domain domain domain list\n"
        "space directions: (0.1,0,0) (0,0.2,0) (0,0,1) none\n",
        "dimension: 4\nsizes: 1 40 30 7\nkinds: vector domain domain time\n"
        "spacings: nan 0.1 0.2 nan\n",
    ],
)
def test_nrrd_is_read_with_the_same_fields(tmp_path: Path, encoding: str, axes: str) -> None:
    data = gzip.compress(STACK.tobytes()) if encoding == "gzip" else STACK.tobytes()
    fields = "UltrasoundImageOrientation:=MN\nSeq_Frame0001_Timestamp:=0.25\n"
    fields += "Seq_Frame0000_Timestamp:=0.0\n"
    head = f"type: unsigned char\n{axes}endian: little\nencoding: {encoding}\n{fields}"
    source, frames = read(nrrd(tmp_path / "a.nrrd", head, data))
    assert_array_equal(stacked(frames), STACK[:, ::-1])
    assert frames[1].capture_ns == 250_000_000
    assert source.info.spacing_mm == pytest.approx((0.2, 0.1))


PLUS_NRRD = (
    "dimension: 3\nencoding: raw\nendian: little\nkinds: domain domain list\nsizes: 40 30 7\n"
    "space dimension: 2\nspace directions: (1,0) (0,1) none\nspace origin: (0,0)\n"
    "type: unsigned char\nImageToProbeTransform: 0.1 0 0 0 0 0.2 0 0 0 0 1 0 0 0 0 1\n"
    "ultrasound image orientation:=UN\nultrasound image type:=BRIGHTNESS\n"
    + "".join(f"Seq_Frame{i:04d}_Timestamp:={i / 4}\n" for i in range(7))
    + "".join(f"Seq_Frame{i:04d}_Status:={'INVALID' if i == 2 else 'OK'}\n" for i in range(7))
)


def test_an_nrrd_is_read_with_the_names_that_plus_gives_its_fields(tmp_path: Path) -> None:
    source, frames = read(nrrd(tmp_path / "a.nrrd", PLUS_NRRD, STACK.tobytes()))
    assert_array_equal(stacked(frames), STACK[[0, 1, 3, 4, 5, 6], ::-1, ::-1])
    assert source.info.spacing_mm == pytest.approx((0.2, 0.1))
    assert "spacing from ImageToProbeTransform" in source.info.notes


def test_radio_frequency_data_in_an_nrrd_of_plus_are_refused(tmp_path: Path) -> None:
    head = PLUS_NRRD.replace("BRIGHTNESS", "RF_REAL")
    with pytest.raises(SourceUnreadableError, match="holds 'RF_REAL' data"):
        open_sequence(nrrd(tmp_path / "a.nrrd", head, STACK.tobytes()))


def test_a_key_with_the_name_of_a_field_does_not_replace_it(tmp_path: Path) -> None:
    head = PLUS_NRRD + "sizes:=1 1 1\ntype:=float\n"
    assert len(read(nrrd(tmp_path / "a.nrrd", head, STACK.tobytes()))[1]) == 6


@pytest.mark.parametrize(
    ("lines", "spacing"),
    [
        ('spacings: 0.02 0.01 nan\nunits: "cm" "cm" ""\n', (0.1, 0.2)),
        ('spacings: 0.2 0.1 0.5\nunits: "mm" "mm" "s"\n', (0.1, 0.2)),
        ("spacings: 200 100 nan\nunits: um \u00b5m s\n", (0.1, 0.2)),
        ('spacings: 2e-4 1e-4 nan\nunits: "m" "M"\n', (0.1, 0.2)),
        ('spacings: 0.2 0.1 nan\nunits: "" ""\n', (0.1, 0.2)),
        ('spacings: 0.2 0.1 nan\nunits: "pixel" "mm"\n', "a spacing in 'pixel'"),
        ('space directions: (0.02,0) (0,0.01) none\nspace units: "cm" "cm"\n', (0.1, 0.2)),
        ('space directions: (0.2,0) (0,0.01) none\nspace units: "mm" "cm"\n', (0.1, 0.2)),
        ('space directions: (0.2,0) (0,0.1) none\nspace units: "mm" "s"\n', "a spacing in 's'"),
        ("spacings: 20 0.1 nan\n", "a spacing of 0.1 by 20 mm per pixel cannot be"),
    ],
)
def test_the_units_of_an_nrrd_are_heeded(
    tmp_path: Path, lines: str, spacing: tuple[float, float] | str
) -> None:
    head = f"type: uchar\ndimension: 3\nsizes: 40 30 7\nencoding: raw\n{lines}"
    source, _ = read(nrrd(tmp_path / "a.nrrd", head, STACK.tobytes()))
    if isinstance(spacing, str):
        assert source.info.spacing_mm is None
        assert spacing in " ".join(source.info.notes)
    else:
        assert source.info.spacing_mm == pytest.approx(spacing)


@pytest.mark.parametrize("kind", ["vector", "RGB-color", "3-color", "3-vector"])
def test_a_first_axis_of_colours_is_colour(tmp_path: Path, kind: str) -> None:
    red = np.zeros((2, 30, 40, 3), np.uint8)
    red[..., 0] = 200
    head = f"type: uchar\ndimension: 4\nsizes: 3 40 30 2\nkinds: {kind} domain domain list\n"
    _, frames = read(nrrd(tmp_path / "a.nrrd", head + "encoding: raw\n", red.tobytes()))
    assert [f.pixels.max() for f in frames] == [round(0.299 * 200)] * 2


def test_a_detached_nrrd_is_read(tmp_path: Path) -> None:
    head = "type: ushort\ndimension: 3\nsizes: 40 30 7\nendian: big\nencoding: raw\n"
    path = nrrd(tmp_path / "a.nhdr", head + "byte skip: -1\ndata file: a.raw\n", b"")
    (tmp_path / "a.raw").write_bytes(b"xyz" + STACK.astype(">u2").tobytes())
    assert_array_equal(stacked(read(path)[1]), STACK)


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
def test_files_of_simpleitk_are_read_as_it_reads_them(
    tmp_path: Path, suffix: str, compressed: bool
) -> None:
    itk = pytest.importorskip("SimpleITK", reason="to compare: pip install SimpleITK")
    image = itk.GetImageFromArray(STACK.astype(np.int16))
    image.SetSpacing((0.1, 0.2, 1.0))
    path = tmp_path / f"a{suffix}"
    itk.WriteImage(image, str(path), compressed)
    source, frames = read(path)
    assert_array_equal(stacked(frames), itk.GetArrayFromImage(itk.ReadImage(str(path))))
    assert source.info.spacing_mm == pytest.approx((0.2, 0.1))


def test_what_a_cut_file_still_holds_comes_before_the_error(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mha")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 2 * 1200 - 5])
    frames: list[Frame] = []
    with open_sequence(path) as source, pytest.raises(SourceLostError) as caught:
        frames.extend(source)
    assert_array_equal(stacked(frames), STACK[:4])
    assert str(caught.value) == f"{path} is damaged or cut short: 4 of 7 frames could be read"


def test_a_wrong_checksum_is_told_at_the_end(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mha", compressed=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with open_sequence(path) as source, pytest.raises(SourceLostError, match="checksum"):
        list(source)


def test_a_stream_that_goes_on_after_the_last_frame_is_told(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mha", compressed=True, DimSize="40 30 2")
    with open_sequence(path) as source, pytest.raises(SourceLostError, match="go on after"):
        list(source)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"NDims": -1}, "-1 dimensions with 3 sizes"),
        ({"NDims": None}, "no NDims"),
        ({"DimSize": None}, "no DimSize"),
        ({"DimSize": "40 30 -7"}, "-7 frames cannot be"),
        ({"DimSize": "0 30 7"}, "0 x 30 pixels"),
        ({"DimSize": "40 30 many"}, "expected a whole number, got 'many'"),
        ({"DimSize": "9" * 5000 + " 30 7"}, "whole number"),
        ({"DimSize": "60000 60000 7"}, "over the limit"),
        ({"DimSize": "4000 4000 7"}, "end before the first picture"),
        ({"DimSize": "20 15 7"}, "bytes longer than 7 frames of 20 x 15"),
        ({"DimSize": "40 30 3 9", "NDims": 4}, "4 dimensions"),
        ({"ElementNumberOfChannels": 10**9}, "channels"),
        ({"ElementType": "MET_STRING"}, "unknown type 'MET_STRING'"),
        ({"ElementType": "MET_FLOAT", "DimSize": "40 30 1"}, "float32, whose range is not known"),
        ({"BinaryData": False}, "written as text"),
        ({"data_file": "LIST"}, "not in one file"),
        ({"data_file": "a%s%n.raw 1 10 1"}, "not in one file"),
        ({"UltrasoundImageType": "RF_REAL"}, "'RF_REAL' data"),
        ({"UltrasoundImageOrientation": "AMF"}, "expected two letters of MF, MN"),
        ({"ElementSpacing": "nan inf 1"}, "finite"),
        (
            {f"Seq_Frame{i:04d}_ImageStatus": "INVALID" for i in range(7)},
            "all 7 frames are marked invalid",
        ),
    ],
)
def test_a_header_that_cannot_be_true_is_refused_in_one_line(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(SourceUnreadableError) as caught:
        open_sequence(mha(tmp_path / "a.mha", **fields))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 250


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("type: uchar\ndimension: 3\nsizes: 40 30 7\nencoding: bzip2\n", "raw and gzip are read"),
        ("type: block\ndimension: 3\nsizes: 40 30 7\nencoding: raw\n", "unknown type"),
        ("dimension: 3\nsizes: 40 30 7\nencoding: raw\n", "no type"),
        ("type: uchar\ndimension: 2\nsizes: 40 30 7\nencoding: raw\n", "2 dimensions with 3"),
        (f"type: uchar\ndimension: {10**15}\nsizes: 9\nencoding: raw\n", "dimensions with 1"),
        ("type: uchar\ndimension: 4\nsizes: 40 30 7 2\nencoding: raw\n", "holds volumes"),
        *(
            (
                f"type: uchar\ndimension: 3\nsizes: {count} 40 30\nkinds: {kind} domain domain\n"
                "encoding: raw\n",
                f"its {count} frames are interleaved pixel by pixel",
            )
            for kind, count in (("list", 7), ("list", 3), ("time", 4))
        ),
        (
            "type: uchar\ndimension: 3\nsizes: 2 40 30\nkinds: complex domain domain\n"
            "encoding: raw\n",
            "its first axis is a 'complex' of 2",
        ),
        (
            "type: uchar\ndimension: 3\nsizes: 40 30 7\nencoding: raw\nline skip: 3\n",
            "read only if raw",
        ),
        ("nonsense\n", "no end"),
    ],
)
def test_an_nrrd_that_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, head: str, words: str
) -> None:
    with pytest.raises(SourceUnreadableError, match=words):
        open_sequence(nrrd(tmp_path / "a.nrrd", head, STACK.tobytes()))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no such file"):
        open_sequence(tmp_path / "a.mha")
    path = mha(tmp_path / "a.mhd", data_file="gone.raw")
    (tmp_path / "gone.raw").unlink()
    with pytest.raises(SourceUnreadableError, match="with its pictures is missing: .*gone.raw"):
        open_sequence(path)
    (tmp_path / "gone.raw").mkdir()
    with pytest.raises(SourceUnreadableError, match="is no ordinary file"):
        open_sequence(path)
