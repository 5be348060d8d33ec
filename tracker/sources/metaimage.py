"""The header of a MetaImage file (``.mha``, ``.mhd``).

The format is that of ITK's MetaIO documentation: lines ``Name = value``, of which
``ElementDataFile`` is the last.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import Spacing
from veintrack.tracker.sources.metafile import (
    MAX_FIELD_BYTES,
    MAX_HEADER_BYTES,
    Metafile,
    damaged,
    integer,
    numbers,
    shown,
)

__all__ = ["read_metaimage"]

_TYPES = {
    "MET_UCHAR": "u1",
    "MET_CHAR": "i1",
    "MET_USHORT": "u2",
    "MET_SHORT": "i2",
    "MET_UINT": "u4",
    "MET_INT": "i4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def read_metaimage(path: Path) -> Metafile:
    """Read a header.

    Raises
    ------
    SourceUnreadableError
        If it cannot be read, or describes what is no sequence of pictures in one file.
    """
    with path.open("rb") as file:
        fields = _fields(path, file)
        end_of_header = file.tell()
    try:
        sizes = [integer(word) for word in fields["DimSize"].split()]
        dimensions = integer(fields["NDims"])
        channels = integer(fields.get("ElementNumberOfChannels", "1"))
        skip_bytes = integer(fields.get("HeaderSize", "0"))
        kind = fields["ElementType"]
        spacing = numbers(fields.get("ElementSpacing", fields.get("ElementSize", "")))
    except KeyError as error:
        raise damaged(path, f"its header has no {error.args[0]}") from error
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if dimensions != len(sizes):
        raise damaged(path, f"{dimensions} dimensions with {len(sizes)} sizes")
    if kind.removesuffix("_ARRAY") not in _TYPES:
        raise damaged(path, f"its levels are of the unknown type {shown(kind)}")
    if not _is_true(fields.get("BinaryData", "True")):
        raise SourceUnreadableError(f"{path}: its levels are written as text; binary is read")
    big_endian = _is_true(
        fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    )
    compressed = _is_true(fields.get("CompressedData", "False"))
    name = fields["ElementDataFile"]
    local = name.upper() == "LOCAL"
    at_end = skip_bytes == -1 and not compressed and not local
    return Metafile(
        path=path,
        data=path if local else _data_file(path, name),
        offset_bytes=None if at_end else end_of_header if local else max(0, skip_bytes),
        compressed=compressed,
        size_px=_size_px(path, sizes),
        channels=channels,
        frame_count=_frame_count(path, sizes),
        dtype=np.dtype((">" if big_endian else "<") + _TYPES[kind.removesuffix("_ARRAY")]),
        spacing_mm=_spacing(spacing),
        fields=fields,
    )


def _fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """Read the lines up to the one that says where the pictures are."""
    fields: dict[str, str] = {}
    while file.tell() < MAX_HEADER_BYTES:
        line = file.readline(MAX_FIELD_BYTES)
        if line.isspace():
            continue
        name, equals, value = line.decode("utf-8", "replace").partition("=")
        if not equals:
            break
        fields[name.strip()] = value.strip()
        if name.strip() == "ElementDataFile":
            return fields
    raise damaged(path, "its header has no ElementDataFile")


def _is_true(value: str) -> bool:
    return value[:1] in ("T", "t", "1")  # as MetaIO reads it


def _data_file(path: Path, name: str) -> Path:
    """Find the file with the pictures; beside the header, unless its name says otherwise."""
    if name.split()[:1] == ["LIST"] or "%" in name or not name or "\0" in name:
        raise SourceUnreadableError(
            f"{path}: its pictures are not in one file (ElementDataFile = {shown(name)}); "
            "LOCAL or one file is read"
        )
    return path.parent / name


def _size_px(path: Path, sizes: list[int]) -> tuple[int, int]:
    if not 2 <= len(sizes) <= 4 or (len(sizes) == 4 and 1 not in sizes[2:]):
        raise SourceUnreadableError(
            f"{path} has {len(sizes)} dimensions; width, height and frames are read"
        )
    return sizes[0], sizes[1]


def _frame_count(path: Path, sizes: list[int]) -> int:
    """Count the frames: the third axis, or the fourth of PLUS files with slices of one picture."""
    frames = [size for size in sizes[2:] if size != 1] or [1]
    if frames[0] > 1 << 31:
        raise damaged(path, f"{frames[0]} frames cannot be")
    return frames[0]


def _spacing(values: tuple[float, ...]) -> Spacing | None:
    """Turn ``x y z`` into ``(row_mm, col_mm)``."""
    return (values[1], values[0]) if len(values) >= 2 and min(values[:2]) > 0 else None
