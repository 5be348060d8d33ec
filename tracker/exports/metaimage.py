"""PLUS sequence metafiles (``.igs.mha``, ``.mha``, ``.mhd`` with its pixels beside it).

The fields are those that the PLUS toolkit writes and asks for when it reads
(``vtkIGSIOMetaImageSequenceIO``), on top of ITK's MetaIO format.
"""

from collections.abc import Iterator
from shutil import copyfileobj
from tempfile import TemporaryFile

from veintrack.tracker.exports.formats import Request
from veintrack.tracker.exports.frames import RAW, ZLIB, RecordedFrames, Stack, seconds, store
from veintrack.tracker.exports.placing import placing

__all__ = ["header", "write"]


def write(request: Request) -> str:
    """Write the frames of a recording; see :meth:`Format.write`."""
    pack = ZLIB if request.compress else RAW
    with RecordedFrames(request.run, full=request.full) as frames:
        if request.pixel_file is not None:
            with placing(request.to) as head, placing(request.pixel_file) as pixels:
                with pixels.open("wb") as file:
                    stack = store(frames, file, pack)
                    size_bytes = file.tell() if request.compress else None
                name = request.pixel_file.name
                head.write_text(header(stack, size_bytes, name), encoding="utf-8")
            return stack.in_words(frames)
        with placing(request.to) as partial, TemporaryFile(dir=partial.parent) as pixels:
            stack = store(frames, pixels, pack)
            size_bytes = pixels.tell() if request.compress else None
            pixels.seek(0)
            with partial.open("wb") as file:
                file.write(header(stack, size_bytes, "LOCAL").encode())
                copyfileobj(pixels, file, 1 << 20)
        return stack.in_words(frames)


def header(stack: Stack, packed_bytes: int | None, data_file: str) -> str:
    """Write the header.

    A spacing that is not known is 1, as PLUS writes it; ours knows that for a placeholder.

    Parameters
    ----------
    stack : Stack
        The frames.
    packed_bytes : int or None
        Size of the pixels if they are packed; None if they are not.
    data_file : str
        Name of the file with the pixels; ``LOCAL`` where they follow.
    """
    height, width = stack.shape_px
    row_mm, col_mm = stack.spacing_mm or (1, 1)
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "AnatomicalOrientation": "RAI",
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CenterOfRotation": "0 0 0",
        "CompressedData": packed_bytes is not None,
        **({} if packed_bytes is None else {"CompressedDataSize": packed_bytes}),
        "DimSize": f"{width} {height} {len(stack)}",
        "ElementNumberOfChannels": 1,
        "ElementSpacing": f"{col_mm!r} {row_mm!r} 1",
        "ElementType": "MET_UCHAR",
        "Kinds": "domain domain list",
        "Offset": "0 0 0",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "UltrasoundImageOrientation": "MF",
        "UltrasoundImageType": "BRIGHTNESS",
        **dict(_of_frames(stack)),
        "ElementDataFile": data_file,
    }
    return "".join(f"{name} = {value}\n" for name, value in fields.items())


def _of_frames(stack: Stack) -> Iterator[tuple[str, str | int]]:
    for number, (index, time_ns) in enumerate(zip(stack.indices, stack.times_ns, strict=True)):
        frame = f"Seq_Frame{number:04d}"
        yield f"{frame}_FrameNumber", index
        yield f"{frame}_Timestamp", seconds(time_ns)
        yield f"{frame}_ImageStatus", "OK"
