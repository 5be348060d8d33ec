"""How the frames of a DICOM file are stored, and their decoding."""

import io
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.common import PhotometricInterpretation
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MPEGTransferSyntaxes,
    RLELossless,
)

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import U8
from veintrack.tracker.sources.dicom_file import DicomFile, code, name_of, numbers, quiet

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

__all__ = ["Decoded", "Layout", "decode", "decode_video", "read_layout"]

_LARGEST_PX = 16384  # either side of a frame
_LARGEST_BYTES = 64 << 20  # of a frame; ultrasound in 4K colour has 25 MB
_PHOTOMETRIC = {
    1: ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
    3: (
        "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT",
        "YBR_RCT",
    ),
}  # fmt: skip
_HOW_TO_READ = (
    ("JPEG-LS", 'pip install "pyjpegls>=1.5"'),
    ("High-Throughput JPEG 2000", 'pip install "pylibjpeg>=2.0" "pylibjpeg-openjpeg>=2.0"'),
    ("JPEG Lossless", 'pip install "python-gdcm>=3.0.10"'),
)
_BY_FFMPEG = {  # of 8 bits, without another library
    JPEGLossless: "mjpeg",
    JPEGLosslessSV1: "mjpeg",
    JPEGLSLossless: "jpegls",
    JPEGLSNearLossless: "jpegls",
}
_CONVERT = "write it out uncompressed first (dcmdjpeg, or gdcmconv --raw)"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels of a frame are stored (PS3.3 section C.7.6.3)."""

    syntax: UID
    rows: int
    columns: int
    samples: int
    planar: int
    allocated: int
    stored: int
    signed: int
    photometric: str
    vr: str

    @property
    def is_video(self) -> bool:
        """Whether the frames are one MPEG stream."""
        return self.syntax in MPEGTransferSyntaxes

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame that is not compressed.

        YBR_FULL_422 keeps two luma samples to one pair of chroma (C.7.6.3.1.2).
        """
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.allocated // 8


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """One frame as it is stored: its samples, and what they are after decoding."""

    samples: NDArray[Any]
    photometric: str


def read_layout(file: DicomFile) -> Layout:
    """Read how frames are stored, and refuse what cannot be.

    Raises
    ------
    SourceUnreadableError
        If a value is missing or cannot be, or nothing installed reads the transfer syntax.
    """
    found = {}
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored"):
        value = _whole(file.dataset, keyword)
        if value is None:
            raise SourceUnreadableError(f"{file.path}: its DICOM header has no valid {keyword}")
        found[keyword] = value
    layout = Layout(
        syntax=file.syntax,
        rows=found["Rows"],
        columns=found["Columns"],
        samples=found["SamplesPerPixel"],
        planar=_whole(file.dataset, "PlanarConfiguration") or 0,
        allocated=found["BitsAllocated"],
        stored=found["BitsStored"],
        signed=_whole(file.dataset, "PixelRepresentation") or 0,
        photometric=code(file.dataset, "PhotometricInterpretation", [*PhotometricInterpretation]),
        vr=file.pixel_vr,
    )
    with quiet():
        wrong = _fault(layout, file.encapsulated)
    if wrong is not None:
        raise SourceUnreadableError(f"{file.path}: {wrong}")
    return layout


def _whole(dataset: Dataset, keyword: str) -> int | None:
    values = numbers(dataset, keyword)
    return int(values[0]) if len(values) == 1 and values[0].is_integer() else None


def _fault(layout: Layout, encapsulated: bool) -> str | None:
    """Say what about a layout cannot be read, if anything."""
    rows, columns = layout.rows, layout.columns
    if not (0 < rows <= _LARGEST_PX and 0 < columns <= _LARGEST_PX):
        return f"frames of {columns}x{rows} px; expected 1 to {_LARGEST_PX} each way"
    if layout.allocated not in (8, 16) or not 1 <= layout.stored <= layout.allocated:
        return f"{layout.stored} of {layout.allocated} bits a sample; expected 8 or 16 bits"
    if layout.photometric not in _PHOTOMETRIC.get(layout.samples, ()):
        return (
            f"photometric interpretation {layout.photometric or 'unknown'} of {layout.samples} "
            "samples a pixel cannot be read"
        )
    if rows * columns * layout.samples * layout.allocated // 8 > _LARGEST_BYTES:
        return f"frames of {columns}x{rows} px and {layout.samples} samples are too large"
    if layout.planar not in (0, 1) or layout.signed not in (0, 1):
        return "its DICOM header gives an impossible planar configuration or sign"
    return _syntax_fault(layout, encapsulated)


def _syntax_fault(layout: Layout, encapsulated: bool) -> str | None:
    syntax, name = layout.syntax, name_of(layout.syntax)
    if layout.is_video:
        return None if encapsulated else f"{name}, but its pixels are not compressed"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        return f"cannot decode transfer syntax {name}; {_CONVERT}"
    if decoder.is_encapsulated != encapsulated:
        return f"transfer syntax {name}, but its pixels are stored in another way"
    if layout.photometric.startswith("YBR_PARTIAL") and not encapsulated:
        return f"{layout.photometric} that is not compressed cannot be read"
    if syntax == JPEGExtended12Bit and layout.stored > 8:
        if "pylibjpeg" in decoder.available_plugins:
            return None
        return f"cannot decode {name} of {layout.stored} bits; {_CONVERT}"
    if decoder.is_available or _is_for_ffmpeg(layout):
        return None
    how = next((how for start, how in _HOW_TO_READ if name.startswith(start)), None)
    return f"cannot decode transfer syntax {name}; {'install: ' + how if how else _CONVERT}"


def _plugin(layout: Layout) -> str:
    """Name the decoder, so that everybody gets the same pixels; empty for what there is.

    Pillow is always there. It has no 12-bit JPEG and no colour of more than 8 bits.
    """
    if layout.syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        return "pillow" if layout.stored <= 8 else ""
    if layout.syntax in JPEG2000TransferSyntaxes[:2]:
        return "pillow" if layout.samples == 1 or layout.stored <= 8 else ""
    return ""


def decode(data: bytes, layout: Layout) -> Decoded | None:
    """Decode one frame; None where it is damaged.

    Parameters
    ----------
    data : bytes
        One frame, whole: samples, or a compressed picture.
    layout : Layout
        How it is stored.
    """
    compressed = layout.syntax.is_encapsulated
    if compressed and not _fits(data, layout):
        return None
    if _is_for_ffmpeg(layout) and (decoded := _decode_by_ffmpeg(data, layout)) is not None:
        return decoded
    try:
        with quiet():
            samples, found = get_decoder(layout.syntax).as_array(
                encapsulate([data], has_bot=False) if compressed else data,
                index=0,
                raw=True,
                decoding_plugin=_plugin(layout),
                **_options(layout),
            )
    except Exception:  # whatever the decoders raise on damaged data
        return None
    photometric = str(found["photometric_interpretation"])
    if layout.syntax in (JPEGBaseline8Bit, JPEGExtended12Bit) and _adobe_ycc(data):
        photometric = "RGB"  # Pillow has converted it
    return Decoded(samples, photometric)


def _options(layout: Layout) -> dict[str, Any]:
    return {
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "planar_configuration": layout.planar,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": layout.signed,
        "photometric_interpretation": layout.photometric,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "pixel_vr": layout.vr,
    }


def _fits(data: bytes, layout: Layout) -> bool:
    """Tell whether a compressed picture has the size that the header promises.

    Asked before it is decoded: a damaged size makes decoders ask for gigabytes.
    """
    if layout.syntax == RLELossless:
        return len(data) > 64  # its header, which tells no size (PS3.5 section G.5)
    return _coded_size(data) == (layout.columns, layout.rows)


def _coded_size(data: bytes) -> tuple[int, int] | None:
    """Read width and height from a JPEG, JPEG-LS or JPEG 2000 codestream.

    JPEG: the frame header SOF (ITU-T T.81 section B.2.2; marker F7 in T.87). JPEG 2000: the SIZ
    segment, which follows the start (T.800 section A.5.1); size less offset.
    """
    start = data.find(b"\xff\x4f\xff\x51")
    if 0 <= start < 1024 and len(data) >= start + 24:
        size = [int.from_bytes(data[i : i + 4], "big") for i in range(start + 8, start + 24, 4)]
        return size[0] - size[2], size[1] - size[3]
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = data[at + 5 : at + 7], data[at + 7 : at + 9]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        # A fill byte (T.81 section B.1.1.2) stands alone; any other marker has a length.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _is_for_ffmpeg(layout: Layout) -> bool:
    return layout.syntax in _BY_FFMPEG and layout.allocated == 8


def _decode_by_ffmpeg(data: bytes, layout: Layout) -> Decoded | None:
    """Decode lossless JPEG and JPEG-LS of 8 bits; None where it is damaged or of a rare kind."""
    import av

    av.logging.set_level(None)
    try:
        codec = cast("VideoCodecContext", av.CodecContext.create(_BY_FFMPEG[layout.syntax], "r"))
        codec.options, codec.thread_count = {"err_detect": "explode"}, 1
        pictures = [*codec.decode(av.Packet(data)), *codec.decode(None)]
        samples, kind = pictures[0].to_ndarray(), pictures[0].format.name
        if kind.startswith("yuv"):  # three planes: samples as stored, whatever they mean
            samples = samples.transpose(1, 2, 0)  # ValueError where colour is subsampled
        elif kind == "bgr24":
            samples = samples[..., ::-1]
    except (av.FFmpegError, ValueError, IndexError):
        return None
    sizes = (layout.rows, layout.columns, *((3,) if layout.samples == 3 else ()))
    return Decoded(samples, layout.photometric) if samples.shape == sizes else None


def _adobe_ycc(data: bytes) -> bool:
    """Tell whether an Adobe marker says YCbCr: Pillow converts such a picture to RGB."""
    at = data.find(b"\xff\xee\x00\x0eAdobe", 0, 4096)
    return at >= 0 and data[at + 15 : at + 16] == b"\x01"


def decode_video(data: bytes) -> Generator[U8, None, None]:
    """Decode the grey levels of an MPEG stream up to its first damage.

    What comes behind it would get the wrong index and time. The generator holds the stream open
    until it ends or is closed.

    Parameters
    ----------
    data : bytes
        All fragments, joined (PS3.5 section 8.2.5 and following).

    Raises
    ------
    EOFError
        At the damage.
    """
    import av

    from veintrack.tracker.sources.decoder import MAX_PIXELS, silence
    from veintrack.tracker.sources.video import to_pixels

    silence()
    # The white list keeps a playlist or a session description from reaching the network.
    options = {"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
    try:
        with av.open(io.BytesIO(data), options=options) as container:
            context: VideoCodecContext | None = container.streams.video[0].codec_context
            if context is None:  # there is no decoder for it here
                raise EOFError
            context.options = {"max_pixels": str(MAX_PIXELS)}
            for picture in container.decode(video=0):
                if picture.is_corrupt:
                    raise EOFError
                yield to_pixels(picture)
    except (av.FFmpegError, ValueError, IndexError):
        raise EOFError from None
