"""DICOM files that are damaged, cut short, of another kind, or that talk about a patient."""

import io
import logging
import threading
import time
import warnings
from inspect import GEN_CLOSED, getgeneratorstate
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    MPEG4HP41,
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
    SMPTEST211020UncompressedProgressiveActiveVideo,
)

from tests.tracker.dicom_scene import (
    PATIENT,
    header,
    jpeg,
    jpeg_2000,
    ramps,
    rle,
    save,
)
from veintrack.errors import SourceLostError, SourceUnreadableError
from veintrack.tracker.frame import Frame
from veintrack.tracker.sources import SourceInfo
from veintrack.tracker.sources.dicom import open_dicom
from veintrack.tracker.sources.dicom_file import DicomFile, quiet
from veintrack.tracker.sources.dicom_pixels import decode_video

MS = 1_000_000
GREY = ramps()
COLOUR = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)


def read(path: Path, **options: Any) -> tuple[SourceInfo, list[Frame]]:
    with open_dicom(path, **options) as source:
        return source.info, list(source)


def pixels(path: Path) -> NDArray[Any]:
    return np.stack([frame.pixels for frame in read(path)[1]])


def refused(path: Path) -> str:
    with pytest.raises(SourceUnreadableError) as caught:
        open_dicom(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_truncated_cine_gives_its_whole_frames_and_then_the_count(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", GREY)
    data = path.read_bytes()
    path.write_bytes(data[: -GREY[0].size - 100])
    frames: list[Frame] = []
    with (
        open_dicom(path) as source,
        pytest.raises(SourceLostError, match=r"a\.dcm is damaged or cut short: 3 of 5 frames"),
    ):
        frames.extend(source)
    assert source.info.frame_count == 5
    assert_array_equal([f.pixels for f in frames], GREY[:3])


def test_a_damaged_frame_is_left_out_and_leaves_a_gap(tmp_path: Path) -> None:
    coded = [jpeg_2000(f) for f in GREY]
    coded[2] = coded[2][:4] + bytes(len(coded[2]) - 4)
    path = save(tmp_path / "a.dcm", GREY, syntax=JPEG2000Lossless, coded=coded, FrameTime="10")
    frames: list[Frame] = []
    with open_dicom(path) as source, pytest.raises(SourceLostError, match="4 of 5 frames"):
        frames.extend(source)
    assert [(f.index, f.capture_ns // MS) for f in frames] == [(0, 0), (1, 10), (3, 30), (4, 40)]


def test_a_damaged_first_frame_is_left_out(tmp_path: Path) -> None:
    coded = [b"\0" * 20, *(rle(f) for f in GREY[1:])]
    path = save(tmp_path / "a.dcm", GREY, syntax=RLELossless, coded=coded)
    frames: list[Frame] = []
    with open_dicom(path) as source, pytest.raises(SourceLostError, match="4 of 5 frames"):
        frames.extend(source)
    assert_array_equal([f.pixels for f in frames], GREY[1:])
    assert frames[0].index == 1


def test_a_frame_of_subsampled_colour_among_grey_ones_is_left_out(tmp_path: Path) -> None:
    coded = [jpeg(GREY[0]), jpeg(COLOUR[1]), jpeg(GREY[2])]
    path = save(tmp_path / "a.dcm", GREY[:3], syntax=JPEGLosslessSV1, coded=coded)
    frames: list[Frame] = []
    with open_dicom(path) as source, pytest.raises(SourceLostError, match="2 of 3 frames"):
        frames.extend(source)
    assert [frame.index for frame in frames] == [0, 2]


def test_a_session_description_for_a_stream_opens_no_socket(tmp_path: Path) -> None:
    text = (
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        b"m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    )
    coded = [text + b"\n" * (len(text) % 2)]
    tags: dict[str, Any] = {"PhotometricInterpretation": "YBR_PARTIAL_420"}
    path = save(tmp_path / "a.dcm", COLOUR, syntax=MPEG4HP41, coded=coded, **tags)
    before_s = time.monotonic()
    assert "not one frame of it can be decoded" in refused(path)
    assert time.monotonic() - before_s < 5  # FFmpeg waits 10 s and more for a stream


def test_a_stream_that_is_too_long_is_refused_with_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veintrack.tracker.sources.dicom._MOST_VIDEO_BYTES", 1 << 20)
    tags: dict[str, Any] = {"PhotometricInterpretation": "YBR_PARTIAL_420"}
    coded = [bytes(1 << 20)] * 3
    path = save(tmp_path / "a.dcm", COLOUR, syntax=MPEG4HP41, coded=coded, **tags)
    assert refused(path).endswith("a.dcm: its video has 3 MiB; up to 1 MiB are read")


def test_closing_lets_go_of_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as output:
        stream = output.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in GREY:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        output.mux(stream.encode(None))
    made = []

    def watched(data: bytes) -> Any:
        made.append(decode_video(data))
        return made[-1]

    monkeypatch.setattr("veintrack.tracker.sources.dicom.decode_video", watched)
    tags: dict[str, Any] = {"PhotometricInterpretation": "YBR_PARTIAL_420"}
    coded = [file.getvalue()]
    path = save(tmp_path / "a.dcm", COLOUR, syntax=MPEG4HP41, coded=coded, **tags)
    open_dicom(path).close()
    assert getgeneratorstate(made[0]) == GEN_CLOSED
    with open_dicom(save(path, COLOUR[:3], syntax=MPEG4HP41, coded=coded, **tags)) as source:
        assert len(list(source)) == 3
        assert getgeneratorstate(made[1]) == GEN_CLOSED


def test_millions_of_empty_fragments_do_not_take_time(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", GREY, syntax=RLELossless, coded=[rle(f) for f in GREY])
    data = path.read_bytes()[:-8]  # without the end of the sequence
    start = data.rindex(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff") + 12
    empty = b"\xfe\xff\x00\xe0\0\0\0\0" * 1_000_000
    path.write_bytes(data[:start] + empty)
    before_s = time.process_time()
    assert "not one frame of it can be decoded" in refused(path)
    assert time.process_time() - before_s < 0.3
    path.write_bytes(data + empty)
    assert_array_equal(pixels(path), GREY)
    many = save(
        tmp_path / "c.dcm",
        GREY,
        syntax=RLELossless,
        coded=[rle(GREY[0])],
        NumberOfFrames=2_000_000_000,
    )
    file = DicomFile(many)
    file.close()
    many.write_bytes(many.read_bytes()[: file.pixels[0]] + empty)
    before_s = time.process_time()
    assert "not one frame of it can be decoded" in refused(many)
    assert time.process_time() - before_s < 2
    unknown = save(
        tmp_path / "b.dcm",
        GREY,
        syntax=RLELossless,
        coded=[rle(f) for f in GREY],
        NumberOfFrames=None,
    )
    unknown.write_bytes(unknown.read_bytes()[:-8] + empty)
    frames: list[Frame] = []
    with open_dicom(unknown) as source, pytest.raises(SourceLostError):
        frames.extend(source)
    assert_array_equal([f.pixels for f in frames], GREY)


def test_other_threads_and_later_readers_keep_their_warnings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    level = logging.getLogger("pydicom").level
    with open_dicom(save(tmp_path / "a.dcm", GREY)) as source:
        list(source)
    inside, over = threading.Event(), threading.Event()

    def reading() -> None:
        with quiet():
            logging.getLogger("pydicom").warning("read here")
            inside.set()
            over.wait(5)

    reader = threading.Thread(target=reading)
    reader.start()
    inside.wait(5)
    with pytest.warns(UserWarning, match="of another"):
        warnings.warn("of another", stacklevel=1)
    logging.getLogger("pydicom").warning("read elsewhere")
    over.set()
    reader.join(5)
    assert logging.getLogger("pydicom").level == level != logging.CRITICAL + 1
    assert caplog.messages == ["read elsewhere"]


def test_more_frames_than_declared_are_told(tmp_path: Path) -> None:
    info, frames = read(save(tmp_path / "a.dcm", GREY, NumberOfFrames=3))
    assert len(frames) == info.frame_count == 3
    assert "5 frames are there, 3 declared and read" in info.notes
    info, frames = read(save(tmp_path / "a.dcm", GREY, NumberOfFrames=None))
    assert len(frames) == info.frame_count == 5


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Rows": 20000}, "frames of 64x20000 px; expected 1 to 16384 each way"),
        ({"Columns": 0}, "frames of 0x48 px; expected 1 to 16384 each way"),
        ({"Rows": 16384, "Columns": 16384}, "frames of 16384x16384 px and 1 samples are too large"),
        ({"Rows": 4000}, "15360 bytes of pixels, less than one frame of 64x4000 px (256000)"),
        ({"Rows": None}, "its DICOM header has no valid Rows"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 of 32 bits a sample; expected 8 or 16 bits"),
        ({"BitsAllocated": 1, "BitsStored": 1}, "1 of 1 bits a sample; expected 8 or 16 bits"),
        (
            {"PhotometricInterpretation": "HSV"},
            "photometric interpretation HSV of 1 samples a pixel cannot be read",
        ),
        ({"PixelRepresentation": 7}, "its DICOM header gives an impossible planar configuration"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "its palette is missing or damaged"),
    ],
)
def test_impossible_headers_are_refused(tmp_path: Path, tags: dict[str, Any], message: str) -> None:
    assert message in refused(save(tmp_path / "a.dcm", GREY, **tags))


def test_partial_range_ybr_without_compression_is_refused(tmp_path: Path) -> None:
    tags: dict[str, Any] = {"PhotometricInterpretation": "YBR_PARTIAL_420"}
    assert "YBR_PARTIAL_420 that is not compressed cannot be read" in refused(
        save(tmp_path / "a.dcm", COLOUR, **tags)
    )


@pytest.mark.parametrize(
    ("syntax", "message"),
    [
        (
            JPEGLSLossless,
            'JPEG-LS Lossless Image Compression; install: pip install "pyjpegls>=1.5"',
        ),
        (JPEGLosslessSV1, '(Process 14 [Selection Value 1]); install: pip install "python-gdcm'),
        (HTJ2KLossless, 'pip install "pylibjpeg>=2.0" "pylibjpeg-openjpeg>=2.0"'),
        (
            JPEGExtended12Bit,
            "JPEG Extended (Process 2 and 4) of 12 bits; write it out uncompressed",
        ),
        (SMPTEST211020UncompressedProgressiveActiveVideo, "write it out uncompressed first"),
        ("1.2.3.4", "cannot decode transfer syntax 1.2.3.4; write it out"),
    ],
)
def test_what_cannot_be_decoded_is_named_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str, message: str
) -> None:
    for known in (JPEGLSLossless, JPEGLosslessSV1, HTJ2KLossless):
        monkeypatch.setattr(get_decoder(known), "_available", {})
    extended = get_decoder(JPEGExtended12Bit)
    pillow = {k: v for k, v in extended._available.items() if k == "pillow"}
    monkeypatch.setattr(extended, "_available", pillow)
    deep = ramps(dtype="u2", top=4095)
    path = save(tmp_path / "a.dcm", deep, syntax=ExplicitVRLittleEndian, BitsStored=12)
    data = save(tmp_path / "b.dcm", deep, syntax=RLELossless, coded=[rle(f) for f in deep])
    raw = data.read_bytes()
    # The syntax is changed in the written file: pydicom does not write what it cannot read.
    old, new = RLELossless.encode(), syntax.encode()
    at = raw.index(old)
    length = len(new) + len(new) % 2
    old_length = len(old) + len(old) % 2
    head = bytearray(raw[: at - 2]) + length.to_bytes(2, "little") + new.ljust(length, b"\0")
    group = head.index(b"\x02\x00\x00\x00UL\x04\x00") + 8
    size = int.from_bytes(head[group : group + 4], "little") + length - old_length
    head[group : group + 4] = size.to_bytes(4, "little")
    path.write_bytes(bytes(head) + raw[at + old_length :])
    if syntax == JPEGExtended12Bit:
        stored = b"\x28\x00\x01\x01US\x02\x00"
        path.write_bytes(path.read_bytes().replace(stored + b"\x10", stored + b"\x0c"))
    assert message in refused(path)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty.dcm"
    empty.touch()
    assert refused(empty).endswith("empty.dcm is empty")
    for name, data in (
        ("zeros.dcm", bytes(9000)),
        ("text.dcm", b"hello " * 99),
        ("a", b"\x08\0" * 99),
    ):
        (tmp_path / name).write_bytes(data)
        assert refused(tmp_path / name).endswith(f"{name} is not a DICOM file")


def test_dicom_without_pictures_is_named(tmp_path: Path) -> None:
    report = header(GREY, ExplicitVRLittleEndian, {})
    report.SOPClassUID = BasicTextSRStorage
    report.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert "is DICOM without pictures (Basic Text SR Storage)" in refused(tmp_path / "a.dcm")
    report.SOPClassUID = MediaStorageDirectoryStorage
    report.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    assert "is a DICOMDIR, a list of other files" in refused(tmp_path / "DICOMDIR")


def test_a_deflated_data_set_is_refused_with_what_helps(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", GREY, syntax=DeflatedExplicitVRLittleEndian)
    assert "cannot read a deflated data set" in refused(path)
    assert "dcmconv +te" in refused(path)


def test_a_bare_data_set_is_read_where_the_name_says_dicom(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.dcm", GREY, syntax=ImplicitVRLittleEndian)
    data = whole.read_bytes()
    start = data.index(b"\x08\x00\x16\x00")  # SOP Class UID, the first of the data set
    (tmp_path / "bare.dcm").write_bytes(data[start:])
    (tmp_path / "bare.xyz").write_bytes(data[start:])
    assert_array_equal(pixels(tmp_path / "bare.dcm"), GREY)
    assert "is not a DICOM file" in refused(tmp_path / "bare.xyz")


def test_a_file_that_calls_plain_pixels_compressed_is_refused(tmp_path: Path) -> None:
    data = header(GREY, RLELossless, {})
    data.PixelData = GREY.tobytes()
    data["PixelData"].VR = "OB"
    meta = FileMetaDataset()
    meta.update(data.file_meta)
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    raw = (tmp_path / "a.dcm").read_bytes()
    plain = ExplicitVRLittleEndian.encode() + b"\0"
    (tmp_path / "a.dcm").write_bytes(raw.replace(plain, b"1.2.840.10008.1.2.5\0"))
    assert "RLE Lossless, but its pixels are stored in another way" in refused(tmp_path / "a.dcm")


def test_nothing_about_the_patient_gets_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    path = save(tmp_path / "a.dcm", GREY, BurnedInAnnotation="YES")
    with open_dicom(path) as source:
        list(source)
        said = repr(source.info) + str(source._file.dataset)
    data = path.read_bytes()
    names = b"".join(tag.encode() for tag in PATIENT)
    for cut in (200, 300, 400, 500, 600):
        path.write_bytes(data[:cut] + names + data[cut:])
        try:
            said += repr(read(path)[0])
        except (SourceUnreadableError, SourceLostError) as error:
            said += str(error)
    said += caplog.text + "".join(capfd.readouterr())
    assert not any(word in said for tag in PATIENT for word in tag.split("^"))
    assert "text is burnt into the pictures; keep it out with the scan area" in said
