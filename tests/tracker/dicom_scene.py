"""DICOM files made for the tests: every way to store a cine, with a patient to keep quiet about."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

PATIENT = ("Sommer^Ada", "ID-4711-X", "19530214", "20240506")


def ramps(
    count: int = 5, height: int = 48, width: int = 64, dtype: str = "u1", top: int = 255
) -> NDArray[Any]:
    """Smooth frames, each brighter than the one before: (count, height, width)."""
    row = np.linspace(0, 0.6, width)[None, None, :] + np.linspace(0, 0.2, height)[None, :, None]
    return np.rint((row + np.linspace(0, 0.2, count)[:, None, None]) * top).astype(dtype)


def header(frames: NDArray[Any], syntax: str, tags: dict[str, Any]) -> Dataset:
    """A data set that describes `frames`, (N, H, W) or (N, H, W, 3), changed by `tags`."""
    data = Dataset()
    data.PatientName, data.PatientID, data.PatientBirthDate, data.StudyDate = PATIENT
    data.SOPClassUID = UltrasoundMultiFrameImageStorage
    data.SOPInstanceUID = generate_uid()
    data.Modality = "US"
    data.NumberOfFrames, data.Rows, data.Columns = frames.shape[:3]
    data.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    data.PhotometricInterpretation = "RGB" if frames.ndim == 4 else "MONOCHROME2"
    if frames.ndim == 4:
        data.PlanarConfiguration = 0
    bits = 8 * frames.dtype.itemsize
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(frames.dtype.kind == "i")
    for keyword, value in tags.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    return data


def save(
    path: Path,
    frames: NDArray[Any],
    *,
    syntax: str = ExplicitVRLittleEndian,
    coded: list[bytes] | None = None,
    pixels: bytes | None = None,
    **tags: Any,
) -> Path:
    """Write a DICOM file.

    `coded` are compressed frames, one fragment each; `pixels` the pixel data as it shall stand;
    without them it is `frames` as they are. A tag of None is left out.
    """
    data = header(frames, syntax, tags)
    if coded is not None:
        pixels = encapsulate(coded)
    data.PixelData = frames.tobytes() if pixels is None else pixels
    data["PixelData"].VR = "OB" if coded is not None or frames.dtype.itemsize == 1 else "OW"
    data["PixelData"].is_undefined_length = UID(syntax).is_encapsulated
    data.save_as(path, enforce_file_format=True)
    return path


def jpeg(frame: NDArray[Any], **options: Any) -> bytes:
    """One frame as JPEG: grey, or RGB that is stored as YCbCr."""
    return _compress(frame, "JPEG", {"quality": 95, **options})


def jpeg_2000(frame: NDArray[Any], **options: Any) -> bytes:
    """One frame as a lossless JPEG 2000 codestream."""
    return _compress(frame, "JPEG2000", {"irreversible": False, "no_jp2": True, **options})


def _compress(frame: NDArray[Any], name: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, name, **options)
    return file.getvalue()


def lossless_jpeg(frame: NDArray[Any]) -> bytes:
    """One grey frame of 8 bits as JPEG process 14, selection value 1 (ITU-T T.81 annex H).

    The difference to the left neighbour, first column to the one above; a Huffman code of five
    bits for each of the categories 0 to 8.
    """
    values = frame.astype(int)
    guess = np.empty_like(values)
    guess[:, 1:], guess[1:, 0], guess[0, 0] = values[:, :-1], values[:-1, 0], 128
    bits = []
    for step in (values - guess).ravel().tolist():
        size = abs(step).bit_length()
        bits.append(f"{size:05b}")
        if size:
            bits.append(f"{step if step > 0 else step + (1 << size) - 1:0{size}b}")
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    scan = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\x00")
    height, width = (side.to_bytes(2, "big") for side in frame.shape)
    codes = bytes([0, 0, 0, 0, 9, *[0] * 11, *range(9)])
    return b"".join(
        [
            b"\xff\xd8\xff\xc3\x00\x0b\x08" + height + width + b"\x01\x01\x11\x00",
            b"\xff\xc4\x00\x1c\x00" + codes,
            b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00" + scan + b"\xff\xd9",
        ]
    )


def by_ffmpeg(frame: NDArray[Any], codec: str) -> bytes:
    """One frame, grey or RGB, as FFmpeg's ``jpegls`` or ``ljpeg`` encodes it."""
    kind = "gray" if frame.ndim == 2 else "rgb24" if codec == "jpegls" else "bgr24"
    context = cast(VideoCodecContext, av.CodecContext.create(codec, "w"))
    context.width, context.height, context.pix_fmt = frame.shape[1], frame.shape[0], kind
    context.time_base = Fraction(1, 25)
    if kind == "bgr24":
        frame = np.ascontiguousarray(frame[..., ::-1])
    picture = av.VideoFrame.from_ndarray(frame, format=kind)
    return b"".join(bytes(packet) for packet in [*context.encode(picture), *context.encode(None)])


def rle(frame: NDArray[Any]) -> bytes:
    """One frame as RLE (PS3.5 annex G)."""
    data = header(frame[None], RLELossless, {"NumberOfFrames": 1})
    del data.file_meta
    return get_encoder(RLELossless).encode(
        frame,
        rows=data.Rows,
        columns=data.Columns,
        samples_per_pixel=data.SamplesPerPixel,
        bits_allocated=data.BitsAllocated,
        bits_stored=data.BitsStored,
        pixel_representation=data.PixelRepresentation,
        photometric_interpretation=data.PhotometricInterpretation,
        number_of_frames=1,
        planar_configuration=0,
    )


def region(
    box: tuple[int, int, int, int],
    *,
    kind: int = 1,
    form: int = 1,
    delta_cm: tuple[float, float] = (0.01, 0.02),
    units: int = 3,
) -> Dataset:
    """An ultrasound region: first and last column and row, ``(row, column)`` step in cm."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = form, kind, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = box[:2]
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box[2:]
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaY, item.PhysicalDeltaX = delta_cm
    return item
