"""The header of an NRRD file (``.nrrd``, ``.nhdr``).

The format is that of teem's "Definition of NRRD File Format": lines ``field: value`` and
``name:=value`` up to an empty line.
"""

import math
import re
from itertools import zip_longest
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
from veintrack.tracker.sources.plus import NRRD_NAMES

__all__ = ["read_nrrd"]

_TYPES = {
    "u1": ("unsigned char", "uchar", "uint8", "uint8_t"),
    "i1": ("signed char", "int8", "int8_t"),
    "u2": ("unsigned short", "unsigned short int", "ushort", "uint16", "uint16_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u4": ("unsigned int", "uint", "uint32", "uint32_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_CODES = {name: code for code, names in _TYPES.items() for name in names}
# The format's own fields that are read. Names of others keep their case, as PLUS wrote them.
_OWN = {
    "byte skip",
    "byteskip",
    "data file",
    "datafile",
    "dimension",
    "encoding",
    "endian",
    "kinds",
    "line skip",
    "lineskip",
    "sizes",
    "space directions",
    "space units",
    "spacings",
    "type",
    "units",
}
_IN_SPACE = ("domain", "space", "???", "none")  # kinds of an axis that is no colour
_COLOUR = re.compile(r"vector|(rgb|rgba|3|4)-.+")
_FRAMES = ("list", "time")
_NO_UNITS = ("",) * 16  # of the components behind those that are named
_UNITS_MM = {
    "": 1.0,
    "mm": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "um": 1e-3,
    "\u00b5m": 1e-3,
    "\u03bcm": 1e-3,
}
_ENCODINGS = {"raw": False, "gzip": True, "gz": True}


def read_nrrd(path: Path) -> Metafile:
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
        sizes = [integer(word) for word in fields["sizes"].split()]
        if (dimensions := integer(fields["dimension"])) != len(sizes):
            raise ValueError(f"{dimensions} dimensions with {len(sizes)} sizes")
        skip_bytes = integer(fields.get("byte skip", fields.get("byteskip", "0")))
        skip_lines = integer(fields.get("line skip", fields.get("lineskip", "0")))
        kind, encoding = fields["type"].lower(), fields["encoding"].lower()
        axis = _first_picture_axis(path, fields, sizes)
        spacing, note = _spacing(fields, len(sizes), axis)
    except KeyError as error:
        raise damaged(path, f"its header has no {error.args[0]}") from error
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if kind not in _CODES:
        raise damaged(path, f"its levels are of the unknown type {shown(kind)}")
    if encoding not in _ENCODINGS:
        raise SourceUnreadableError(
            f"{path}: its encoding is {shown(encoding)}; raw and gzip are read"
        )
    compressed = _ENCODINGS[encoding]
    if skip_lines or (compressed and skip_bytes) or skip_bytes < -1:
        raise SourceUnreadableError(f"{path}: data that begin after a skip are read only if raw")
    detached = fields.get("data file", fields.get("datafile"))
    start = 0 if detached else end_of_header
    return Metafile(
        path=path,
        data=_data_file(path, detached) if detached else path,
        offset_bytes=None if skip_bytes == -1 else start + skip_bytes,
        compressed=compressed,
        size_px=(sizes[axis], sizes[axis + 1]),
        channels=sizes[0] if axis else 1,
        frame_count=_frame_count(path, sizes[axis + 2 :]),
        dtype=np.dtype((">" if fields.get("endian", "little") == "big" else "<") + _CODES[kind]),
        spacing_mm=spacing,
        fields=fields,
        spacing_note=note,
    )


def _fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """Read the lines up to the empty one; only the format's own names are put in lower case."""
    fields: dict[str, str] = {}
    file.readline(MAX_FIELD_BYTES)  # the magic, which was looked at
    while file.tell() < MAX_HEADER_BYTES:
        line = file.readline(MAX_FIELD_BYTES).decode("utf-8", "replace")
        text = line.strip()
        if not text and (line or "data file" in fields or "datafile" in fields):
            return fields
        if not line:
            break
        if text.startswith("#"):
            continue
        found = re.match(r"([^:]+):(=?)(.*)", text)
        if not found:
            break
        name, keyed, value = found.groups()
        plain = name.strip().lower()
        if plain not in _OWN:
            fields[NRRD_NAMES.get(plain, name.strip())] = value.strip()
        elif not keyed:  # a key of that name is the writer's, and no field
            fields[plain] = value.strip()
    raise damaged(path, "its header has no end")


def _first_picture_axis(path: Path, fields: dict[str, str], sizes: list[int]) -> int:
    """Find the axis of x: the first, or the second behind an axis of colours."""
    if not 2 <= len(sizes) <= 5:
        raise SourceUnreadableError(
            f"{path} has {len(sizes)} dimensions; width, height and frames are read"
        )
    kinds = fields.get("kinds", "").lower().split() or ["domain"]
    if kinds[0] in _IN_SPACE or len(sizes) < 3:
        return 0
    if sizes[0] == 1 or (sizes[0] in (3, 4) and _COLOUR.fullmatch(kinds[0])):
        return 1
    if kinds[0] in _FRAMES:
        raise SourceUnreadableError(
            f"{path}: its {sizes[0]} frames are interleaved pixel by pixel (the first axis is a "
            f"{shown(kinds[0])}); frames one after the other are read, as PLUS writes them"
        )
    raise SourceUnreadableError(
        f"{path}: its first axis is a {shown(kinds[0])} of {sizes[0]}; grey, and red, green, "
        "blue are read"
    )


def _frame_count(path: Path, sizes: list[int]) -> int:
    """Count the frames: the third axis, or the fourth of PLUS files with slices of one picture."""
    frames = [size for size in sizes if size != 1] or [1]
    if len(frames) > 1:
        raise SourceUnreadableError(f"{path} holds volumes; pictures are read")
    if frames[0] > 1 << 31:
        raise damaged(path, f"{frames[0]} frames cannot be")
    return frames[0]


def _data_file(path: Path, name: str) -> Path:
    """Find the file with the pictures; beside the header, unless its name says otherwise."""
    if name.split()[:1] == ["LIST"] or "%" in name or "\0" in name:
        raise SourceUnreadableError(
            f"{path}: its pictures are not in one file (data file: {shown(name)}); one file is read"
        )
    return path.parent / name


def _spacing(fields: dict[str, str], dimensions: int, axis: int) -> tuple[Spacing | None, str]:
    """Read ``(row_mm, col_mm)`` of the picture whose x is `axis`; or why it is not taken."""
    if "space directions" in fields:
        words = re.findall(r"none|\([^)]*\)", fields["space directions"].lower())
        steps = [() if w == "none" else numbers(w[1:-1].replace(",", " ")) for w in words]
        units = [_units(fields.get("space units", ""))] * dimensions  # one for each component
    else:
        words = fields.get("spacings", "").lower().split()
        steps = [() if w == "nan" else numbers(w) for w in words]
        units = [[unit] for unit in _units(fields.get("units", ""))]
    if len(steps) != dimensions:
        return None, ""
    along = [
        [(part, unit) for part, unit in zip(step, [*of_step, *_NO_UNITS], strict=False) if part]
        for step, of_step in zip_longest(steps, units[:dimensions], fillvalue=())
    ][axis : axis + 2]
    unknown = sorted({unit for step in along for _, unit in step} - _UNITS_MM.keys())
    if unknown:
        return None, f"a spacing in {shown(unknown[0])} (mm, cm, m and um are known): not taken"
    x_mm, y_mm = (math.hypot(*(part * _UNITS_MM[unit] for part, unit in step)) for step in along)
    return ((y_mm, x_mm) if x_mm and y_mm else None), ""


def _units(text: str) -> list[str]:
    """Read names of units, in quotes as the format wants them, or between blanks."""
    return [name.strip().lower() for name in re.findall(r'"([^"]*)"', text) or text.split()]
