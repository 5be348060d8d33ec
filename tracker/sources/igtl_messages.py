"""OpenIGTLink messages: the header before each, and pictures.

Layouts are those of the OpenIGTLink specification: header of versions 1 and 2, time stamp, IMAGE
of version 2, extended header of version 3. The checksum is not looked at: TCP has its own, and
senders exist that leave it zero.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import Spacing
from veintrack.tracker.sources.scale import is_plausible

__all__ = [
    "HEADER_BYTES",
    "HEADER_LAYOUT",
    "IMAGE_LAYOUT",
    "UINT8",
    "Header",
    "Message",
    "Picture",
    "parse_header",
    "picture",
]

#: Version, type, name, seconds, fraction, size, checksum.
HEADER_LAYOUT = struct.Struct(">H12s20sIIQQ")
HEADER_BYTES = HEADER_LAYOUT.size
_EXTENDED = struct.Struct(">HHII")  # own size, metadata header, metadata, message number
#: Version, channels, type, byte order, coordinates, size, matrix by columns, part.
IMAGE_LAYOUT = struct.Struct(">HBBBBHHH12f6H")
UINT8 = 3
_TYPES = {2: "i1", UINT8: "u1", 4: "i2", 5: "u2", 6: "i4", 7: "u4", 10: "f4", 11: "f8"}
_MAX_BODY_BYTES = 1 << 27  # 4096 x 4096 in four channels of 16 bits


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before every message.

    Attributes
    ----------
    version : int
        Of the header.
    kind : str
        ``IMAGE``, ``TRANSFORM``, ...
    device : str
        Who sent it.
    sender_ns : int
        The sender's time, since 1970 as a rule; 0 where there is none.
    size_bytes : int
        Of the body.
    """

    version: int
    kind: str
    device: str
    sender_ns: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message whose body was wanted, and ``time.monotonic_ns`` when it was there."""

    header: Header
    body: bytearray
    arrival_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An IMAGE.

    Attributes
    ----------
    levels : ndarray of shape (H, W) or (H, W, C)
        In native byte order.
    spacing_mm : tuple of float or None
        ``(row_mm, col_mm)``: the lengths of the matrix's columns along y and x; None where they
        are no scale, or both exactly 1, which is what senders write that do not know.
    """

    levels: NDArray[Any]
    spacing_mm: Spacing | None


def parse_header(data: bytes | bytearray) -> Header:
    """Read a header.

    Raises
    ------
    ValueError
        If it is none.
    """
    version, kind, device, seconds, fraction, size_bytes, _ = HEADER_LAYOUT.unpack(data)
    name, sender = (_text(field) for field in (kind, device))
    if version not in (1, 2, 3) or not name:
        raise ValueError("what it sends is not OpenIGTLink")
    if size_bytes > _MAX_BODY_BYTES:
        raise ValueError(f"it announces a message of {size_bytes} bytes, over the limit of 2^27")
    return Header(version, name, sender, seconds * 10**9 + (fraction * 10**9 >> 32), size_bytes)


def _text(field: bytes) -> str:
    """Read a name that is filled up with zeros; empty where it is no text."""
    text = field.rstrip(b"\0 ").decode("ascii", "replace")
    return text if text.isprintable() and "\ufffd" not in text else ""


def picture(message: Message) -> Picture:
    """Unpack an IMAGE.

    Raises
    ------
    ValueError
        If it does not hold what it says, or not one whole picture.
    """
    content = memoryview(message.body)
    if message.header.version > 1:
        if len(content) < _EXTENDED.size:
            raise ValueError("an IMAGE without its extended header")
        own, metadata_header, metadata, _ = _EXTENDED.unpack_from(content)
        content = content[own : len(content) - metadata_header - metadata]
    if len(content) < IMAGE_LAYOUT.size:
        raise ValueError("an IMAGE without its header")
    _, channels, code, endian, _, width, height, slices, *rest = IMAGE_LAYOUT.unpack_from(content)
    matrix, part = np.reshape(rest[:12], (4, 3)), tuple(rest[12:])
    if slices != 1 or part != (0, 0, 0, width, height, slices):
        raise ValueError(f"an IMAGE that is no whole picture: {width} x {height} x {slices}")
    if code not in _TYPES or channels not in (1, 3, 4):
        raise ValueError(f"an IMAGE with levels of type {code} in {channels} channels")
    dtype = np.dtype((">" if endian == 1 else "<") + _TYPES[code])
    levels = content[IMAGE_LAYOUT.size :]
    if not width * height or len(levels) != width * height * channels * dtype.itemsize:
        raise ValueError(f"an IMAGE of {width} x {height} pixels in {len(levels)} bytes")
    shape = (height, width) if channels == 1 else (height, width, channels)
    array = np.frombuffer(levels, dtype).reshape(shape)
    return Picture(array.astype(dtype.newbyteorder("="), copy=False), _spacing(matrix))


def _spacing(columns: NDArray[Any]) -> Spacing | None:
    x_mm, y_mm = (math.hypot(*column) for column in columns[:2])
    known = is_plausible((y_mm, x_mm)) and (x_mm, y_mm) != (1, 1)
    return (y_mm, x_mm) if known else None
