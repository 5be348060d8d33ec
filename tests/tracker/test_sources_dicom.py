"""DICOM: every way to store frames, with made files; then the files that pydicom brings along."""

import io
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.tracker.dicom_scene import (
    by_ffmpeg,
    jpeg,
    jpeg_2000,
    lossless_jpeg,
    ramps,
    rle,
    save,
)
from veintrack.errors import SourceLostError
from veintrack.tracker.frame import Frame
from veintrack.tracker.sources import SourceInfo, open_source
from veintrack.tracker.sources.dicom import open_dicom
from veintrack.tracker.sources.dicom_file import DicomFile, Piece

MS = 1_000_000
GREY = ramps()
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)
LUMA = COLOUR @ np.array([0.299, 0.587, 0.114])


def read(path: Path, **options: Any) -> tuple[SourceInfo, list[Frame]]:
    with open_dicom(path, **options) as source:
        return source.info, list(source)


def pixels(path: Path) -> NDArray[Any]:
    return np.stack([frame.pixels for frame in read(path)[1]])


def test_frames_come_as_they_are_stored_with_index_time_and_facts(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", GREY, FrameTime="20", FrameIncrementPointer=0x00181063)
    with open_source(path) as source:
        frames = list(source)
    assert_array_equal([f.pixels for f in frames], GREY)
    assert [(f.index, f.capture_ns) for f in frames] == [(i, 20 * MS * i) for i in range(5)]
    assert all(f.pixels.flags.c_contiguous and f.spacing_mm is None for f in frames)
    info = source.info
    assert (info.kind, info.live, info.shape_px) == ("dicom", False, (48, 64))
    assert (info.frame_count, info.rate_hz, info.name) == (5, 50.0, str(path))
    assert info.times_from == "the file's Frame Time, 20 ms"
    assert info.notes == (
        "modality US",
        "stored as MONOCHROME2, 8 bits, Explicit VR Little Endian",
    )


def test_a_single_frame_needs_no_number_of_frames(tmp_path: Path) -> None:
    info, frames = read(save(tmp_path / "a.dcm", GREY[:1], NumberOfFrames=None))
    assert info.frame_count == len(frames) == 1


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_uncompressed_syntaxes_give_the_same(tmp_path: Path, syntax: str) -> None:
    deep = ramps(dtype="u2", top=65535)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    path = save(tmp_path / "a.dcm", deep, syntax=syntax, pixels=deep.astype(f"{order}u2").tobytes())
    assert_array_equal(pixels(path), deep >> 8)


@pytest.mark.parametrize(
    ("syntax", "code", "error"),
    [
        (RLELossless, rle, 0),
        (JPEG2000Lossless, jpeg_2000, 0),
        (JPEGBaseline8Bit, jpeg, 2),
        (JPEGExtended12Bit, jpeg, 2),
        (JPEGLosslessSV1, lossless_jpeg, 0),
        (JPEGLSLossless, partial(by_ffmpeg, codec="jpegls"), 0),
    ],
)
def test_compressed_grey_frames_are_decoded(
    tmp_path: Path, syntax: str, code: Callable[[NDArray[Any]], bytes], error: int
) -> None:
    path = save(tmp_path / "a.dcm", GREY, syntax=syntax, coded=[code(f) for f in GREY])
    assert np.abs(pixels(path).astype(int) - GREY).max() <= error


@pytest.mark.parametrize("code", [rle, jpeg_2000])
def test_compressed_frames_of_16_bits_are_decoded(
    tmp_path: Path, code: Callable[[NDArray[Any]], bytes]
) -> None:
    deep = ramps(dtype="u2", top=4095)
    syntax = RLELossless if code is rle else JPEG2000Lossless
    path = save(tmp_path / "a.dcm", deep, syntax=syntax, coded=[code(f) for f in deep])
    assert_array_equal(pixels(path), deep >> 4)


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb_becomes_luma_in_either_planar_configuration(tmp_path: Path, planar: int) -> None:
    stored = COLOUR.transpose(0, 3, 1, 2) if planar else COLOUR
    path = save(tmp_path / "a.dcm", COLOUR, pixels=stored.tobytes(), PlanarConfiguration=planar)
    assert np.abs(pixels(path) - LUMA).max() <= 1
    assert "colour pictures: luma computed (BT.601)" in read(path)[0].notes


def test_the_luma_of_ybr_is_taken_as_it_is(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", COLOUR, PhotometricInterpretation="YBR_FULL")
    assert_array_equal(pixels(path), COLOUR[..., 0])
    assert "colour pictures: luma taken" in read(path)[0].notes


def test_the_luma_of_subsampled_ybr_is_taken_as_it_is(tmp_path: Path) -> None:
    pairs = GREY.reshape(len(GREY), -1, 2)
    stored = np.concatenate([pairs, np.full_like(pairs, 90)], axis=-1)  # Y Y Cb Cr
    path = save(
        tmp_path / "a.dcm",
        COLOUR,
        pixels=stored.tobytes(),
        PhotometricInterpretation="YBR_FULL_422",
    )
    assert_array_equal(pixels(path), GREY)


@pytest.mark.parametrize(
    ("photometric", "syntax", "coded", "error"),
    [
        ("YBR_FULL_422", JPEGBaseline8Bit, [jpeg(f) for f in COLOUR], 2),
        ("YBR_FULL", JPEGBaseline8Bit, [jpeg(f, subsampling=0) for f in COLOUR], 2),
        ("RGB", JPEGBaseline8Bit, [jpeg(f, subsampling=0, keep_rgb=True) for f in COLOUR], 3),
        ("RGB", RLELossless, [rle(f) for f in COLOUR], 1),
        ("RGB", JPEG2000Lossless, [jpeg_2000(f, mct=0) for f in COLOUR], 1),
        ("RGB", JPEGLosslessSV1, [by_ffmpeg(f, "ljpeg") for f in COLOUR], 1),
        ("RGB", JPEGLSLossless, [by_ffmpeg(f, "jpegls") for f in COLOUR], 1),
        ("YBR_RCT", JPEG2000Lossless, [jpeg_2000(f, mct=1) for f in COLOUR], 1),
    ],
)
def test_compressed_colour_becomes_luma(
    tmp_path: Path, photometric: str, syntax: str, coded: list[bytes], error: int
) -> None:
    path = save(
        tmp_path / "a.dcm",
        COLOUR,
        syntax=syntax,
        coded=coded,
        PhotometricInterpretation=photometric,
    )
    assert np.abs(pixels(path) - LUMA).max() <= error


def with_adobe_marker(data: bytes, transform: int) -> bytes:
    """The same JPEG with an Adobe segment in place of its JFIF one."""
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
    return data[:2] + adobe + data[20:]


def test_a_jpeg_that_an_adobe_marker_calls_ycc_gives_the_same_luma(tmp_path: Path) -> None:
    coded = [with_adobe_marker(jpeg(f), 1) for f in COLOUR]
    tags: dict[str, Any] = {
        "syntax": JPEGBaseline8Bit,
        "coded": coded,
        "PhotometricInterpretation": "YBR_FULL_422",
    }
    assert np.abs(pixels(save(tmp_path / "a.dcm", COLOUR, **tags)) - LUMA).max() <= 2


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", GREY, PhotometricInterpretation="MONOCHROME1")
    assert_array_equal(pixels(path), 255 - GREY)
    assert "inverted: low values are white" in read(path)[0].notes


@pytest.mark.parametrize(
    ("bits", "dtype", "factor"), [(16, "<u2", 257), (8, "u1", 1), (16, "<u2", 1)]
)
def test_palette_colours_become_luma(tmp_path: Path, bits: int, dtype: str, factor: int) -> None:
    rng = np.random.default_rng(3)
    table = rng.integers(0, 256, (3, 256))
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, levels in zip(("Red", "Green", "Blue"), table, strict=True):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        tags[f"{colour}PaletteColorLookupTableData"] = (levels * factor).astype(dtype).tobytes()
    path = save(tmp_path / "a.dcm", GREY, **tags)
    luma = np.array([0.299, 0.587, 0.114]) @ table
    assert np.abs(pixels(path) - luma[GREY]).max() <= 1


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_16_bit_grey_is_scaled_by_the_depth_in_use(tmp_path: Path, bits: int) -> None:
    deep = ramps(dtype="u2", top=2**bits - 1)
    path = save(tmp_path / "a.dcm", deep, BitsStored=bits, HighBit=bits - 1)
    assert_array_equal(pixels(path), deep[:] >> (bits - 8))
    assert f"16-bit grey: {bits} bits in use, scaled by 1/{2 ** (bits - 8)}" in read(path)[0].notes


def test_unused_high_bits_do_not_count(tmp_path: Path) -> None:
    deep = ramps(dtype="u2", top=4095)
    path = save(tmp_path / "a.dcm", deep | 0xF000, BitsStored=12, HighBit=11)
    assert_array_equal(pixels(path), deep >> 4)


def test_fewer_bits_than_eight_are_stretched(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", GREY >> 2, BitsStored=6, HighBit=5)
    assert_array_equal(pixels(path), np.rint((GREY >> 2) * (255 / 63)))


def test_signed_values_keep_their_order(tmp_path: Path) -> None:
    signed = ramps(dtype="i2", top=1000) - np.int16(500)
    grey = pixels(save(tmp_path / "a.dcm", signed))
    assert_array_equal(grey, np.rint((signed + 1024.0) * (255 / 2047)))
    assert "values of -1024 to 1023 shown" in read(tmp_path / "a.dcm")[0].notes
    positive = ramps(dtype="i2", top=1000)
    assert_array_equal(pixels(save(tmp_path / "a.dcm", positive)), np.rint(positive * (255 / 1023)))


def test_the_first_window_is_applied(tmp_path: Path) -> None:
    deep = ramps(dtype="u2", top=4095)
    tags: dict[str, Any] = {
        "BitsStored": 12,
        "WindowCenter": ["1000", "9"],
        "WindowWidth": ["500", "9"],
    }
    path = save(tmp_path / "a.dcm", deep, **tags)
    right = np.clip(((deep - 999.5) / 499 + 0.5), 0, 1) * 255  # PS3.3 section C.11.2.1.2.1
    assert np.abs(pixels(path) - right).max() <= 0.5 + 1e-9
    assert "the file's window applied, 500 wide" in read(path)[0].notes


def test_the_window_is_in_rescaled_values(tmp_path: Path) -> None:
    deep = ramps(dtype="u2", top=4095)
    tags: dict[str, Any] = {"RescaleSlope": "2", "RescaleIntercept": "-1000", "BitsStored": 12}
    window: dict[str, Any] = {"WindowCenter": "1000", "WindowWidth": "500"}
    path = save(tmp_path / "a.dcm", deep, **tags, **window)
    right = np.clip(((2.0 * deep - 1000 - 999.5) / 499 + 0.5), 0, 1) * 255
    assert np.abs(pixels(path) - right).max() <= 0.5 + 1e-9
    alone = save(tmp_path / "b.dcm", deep, **tags)
    assert_array_equal(pixels(alone), deep >> 4)
    negative = save(tmp_path / "c.dcm", GREY, RescaleSlope="-1", RescaleIntercept="255")
    assert_array_equal(pixels(negative), 255 - GREY)


def lut(levels: NDArray[Any], bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(levels), 0, bits]
    item.LUTData = levels.astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    item["LUTDescriptor"].VR = "US"
    return item


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_lookup_tables_are_applied(tmp_path: Path, keyword: str) -> None:
    levels = np.rint(np.sqrt(np.arange(256) / 255) * 4095)
    tables: dict[str, Any] = {keyword: [lut(levels, 16 if keyword[0] == "M" else 12)]}
    top = 65535 if keyword[0] == "M" else 4095
    path = save(tmp_path / "a.dcm", GREY, **tables)
    assert_array_equal(pixels(path), np.rint(levels[GREY] * (255 / top)))


def test_a_damaged_table_is_ignored_and_told(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", GREY, WindowCenter="100", WindowWidth="0")
    assert_array_equal(pixels(path), GREY)
    assert "its grey scale tables are damaged and ignored" in read(path)[0].notes


def test_a_frame_in_several_fragments_is_joined(tmp_path: Path) -> None:
    coded = [jpeg_2000(f) for f in GREY]
    pieces = [p for c in coded for p in (c[:90], c[90:] + b"\0" * (len(c) % 2))]
    path = save(tmp_path / "a.dcm", GREY, syntax=JPEG2000Lossless, coded=pieces)
    assert_array_equal(pixels(path), GREY)
    single = save(
        tmp_path / "b.dcm", GREY[:1], syntax=JPEG2000Lossless, coded=pieces[:2], NumberOfFrames=None
    )
    assert_array_equal(pixels(single), GREY[:1])


def test_offset_tables_do_not_matter(tmp_path: Path) -> None:
    coded = [rle(f) for f in GREY]
    for has_table in (True, False):
        data = encapsulate(coded, has_bot=has_table)
        path = save(tmp_path / "a.dcm", GREY, syntax=RLELossless, pixels=data)
        assert_array_equal(pixels(path), GREY)


@pytest.mark.parametrize("container", ["mpegts", "mp4", "h264"])
def test_mpeg_streams_are_decoded(tmp_path: Path, container: str) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "5", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in GREY:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        output.mux(stream.encode(None))
    data = file.getvalue() + b"\0" * (len(file.getvalue()) % 2)
    tags: dict[str, Any] = {"PhotometricInterpretation": "YBR_PARTIAL_420", "CineRate": "25"}
    path = save(tmp_path / "a.dcm", COLOUR, syntax=MPEG4HP41, coded=[data], **tags)
    info, frames = read(path)
    assert (info.frame_count, info.rate_hz) == (5, 25)
    assert [f.capture_ns for f in frames] == [40 * MS * i for i in range(5)]
    assert np.abs(np.stack([f.pixels for f in frames]).astype(int) - GREY).max() <= 6
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 2 // 3])
    if container != "mp4":  # whose index is at its end
        with open_dicom(path) as source, pytest.raises(SourceLostError, match="cut short"):
            list(source)


def test_a_long_cine_does_not_fill_the_memory(tmp_path: Path) -> None:
    cine = ramps(200, 200, 300)
    coded: dict[str, Any] = {"syntax": RLELossless, "coded": [rle(f) for f in cine]}
    for how in ({}, coded):
        path = save(tmp_path / "a.dcm", cine, **how)
        tracemalloc.start()
        with open_dicom(path) as source:
            count = sum(1 for _ in source)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 200
        assert peak < 20 * cine[0].size


def test_closing_ends_the_iteration(tmp_path: Path) -> None:
    with open_dicom(save(tmp_path / "a.dcm", GREY)) as source:
        frames = iter(source)
        next(frames)
        source.close()
        source.close()
        assert next(frames, None) is None


def test_closing_does_not_wait_for_a_frame_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_dicom(save(tmp_path / "a.dcm", GREY))
    inside, over = threading.Event(), threading.Event()
    reading = DicomFile.read

    def slow(file: DicomFile, pieces: Iterable[Piece]) -> bytes:
        inside.set()
        over.wait(5)
        return reading(file, pieces)

    monkeypatch.setattr(DicomFile, "read", slow)
    frames: list[Frame] = []
    reader = threading.Thread(target=lambda: frames.extend(source))
    reader.start()
    inside.wait(5)
    before_s = time.monotonic()
    source.close()
    assert time.monotonic() - before_s < 1
    over.set()
    reader.join(5)
    assert len(frames) == 2


def test_a_file_without_suffix_is_known_by_its_mark(tmp_path: Path) -> None:
    save(tmp_path / "a.dcm", GREY).rename(tmp_path / "IM0001")
    with open_source(tmp_path / "IM0001") as source:
        assert source.info.kind == "dicom"


def test_pydicom_is_imported_only_for_dicom_and_brings_no_other_reader(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", GREY)
    program = (
        "import sys; from veintrack.tracker.sources import open_source;"
        "assert 'pydicom' not in sys.modules;"
        f"open_source({str(path)!r}).close();"
        "assert 'pydicom' in sys.modules;"
        "assert not {'av', 'SimpleITK', 'pyigtl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


# The examples that pydicom brings along, all of ultrasound.


def example(name: str) -> Path:
    from pydicom.data import get_testdata_file

    path = get_testdata_file(f"examples_{name}.dcm", download=False)
    assert isinstance(path, str)
    return Path(path)


def test_the_ybr_example_gives_thirty_frames_at_its_frame_time() -> None:
    info, frames = read(example("ybr_color"))
    assert (info.frame_count, info.shape_px) == (30, (240, 320))
    assert [f.capture_ns for f in frames] == [33_333_000 * i for i in range(30)]
    # The picture was halved after its header was written: the regions are those of 640x480.
    assert (info.scan_area_px, info.spacing_mm) == (None, None)
    assert any("reach beyond its pictures" in note for note in info.notes)
    heart = frames[0].pixels[20:200, 80:260]
    assert heart.mean() > 1.5 * frames[0].pixels.mean() > 5


@pytest.mark.parametrize(
    ("name", "shape"), [("palette", (350, 800)), ("rgb_color", (240, 320)), ("jpeg2k", (480, 640))]
)
def test_the_single_examples_agree_with_pydicoms_own_conversion(
    name: str, shape: tuple[int, int]
) -> None:
    from pydicom import dcmread
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    info, frames = read(example(name))
    assert (info.shape_px, info.frame_count, len(frames)) == (shape, 1, 1)
    data = dcmread(example(name))
    colours = pixel_array(data)
    if name == "palette":
        colours = (apply_color_lut(colours, data) >> 8).astype(np.uint8)
    luma = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
    assert np.abs(frames[0].pixels.astype(int) - luma).max() <= 1
