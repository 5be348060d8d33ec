"""Sequence metafiles for tests, made byte by byte."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import Frame
from veintrack.tracker.sources.sequence import SequenceSource, open_sequence

STACK = np.random.default_rng(0).integers(0, 255, (7, 30, 40), np.uint8)
TYPES = {"uint8": "MET_UCHAR", "uint16": "MET_USHORT", "int16": "MET_SHORT", "float32": "MET_FLOAT"}


def mha(
    path: Path,
    stack: NDArray[Any] = STACK,
    *,
    compressed: bool = False,
    data_file: str = "LOCAL",
    **fields: Any,
) -> Path:
    """Write a MetaImage with these fields; a field of None is left out."""
    colour = stack.ndim == 4
    sizes = stack.shape[2:0:-1] + stack.shape[:1] if colour else stack.shape[::-1]
    header: dict[str, Any] = {
        "ObjectType": "Image",
        "NDims": len(sizes),
        "BinaryData": True,
        "BinaryDataByteOrderMSB": stack.dtype.byteorder == ">",
        "CompressedData": compressed,
        "DimSize": " ".join(map(str, sizes)) + "   ",
        "ElementNumberOfChannels": stack.shape[3] if colour else 1,
        "ElementType": TYPES[stack.dtype.name],
        "ElementSpacing": " ".join(["1"] * len(sizes)),
    }
    header |= fields | {"ElementDataFile": data_file}
    lines = (f"{name} = {value}\n" for name, value in header.items() if value is not None)
    data = zlib.compress(stack.tobytes()) if compressed else stack.tobytes()
    if data_file == "LOCAL":
        path.write_bytes("".join(lines).encode() + data)
    else:
        path.write_bytes("".join(lines).encode())
        (path.parent / data_file).write_bytes(data)
    return path


def nrrd(path: Path, lines: str, data: bytes) -> Path:
    path.write_bytes(b"NRRD0004\n# made in a test\n" + lines.encode() + b"\n" + data)
    return path


def plus(stamps: list[str | None], **others: Any) -> dict[str, Any]:
    """Fields of PLUS: times and orientation."""
    times = {f"Seq_Frame{i:04d}_Timestamp": t for i, t in enumerate(stamps) if t is not None}
    return {"UltrasoundImageOrientation": "MF", **times, **others}


def read(path: Path, **options: Any) -> tuple[SequenceSource, list[Frame]]:
    with open_sequence(path, **options) as source:
        return source, list(source)


def stacked(frames: list[Frame]) -> NDArray[np.uint8]:
    return np.stack([frame.pixels for frame in frames])
