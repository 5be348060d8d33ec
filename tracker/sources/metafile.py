"""Sequence metafiles (MetaImage, NRRD): where their pictures lie, and reading them one by one."""

import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from veintrack.errors import SourceLostError, SourceUnreadableError
from veintrack.tracker.frame import Spacing

__all__ = [
    "MAX_FIELD_BYTES",
    "MAX_HEADER_BYTES",
    "Metafile",
    "damaged",
    "integer",
    "numbers",
    "pictures",
    "shown",
]

#: Ten minutes of PLUS at 30 Hz with six transforms a frame need about 20 MB.
MAX_HEADER_BYTES = 1 << 26
MAX_FIELD_BYTES = 1 << 16
_MAX_PIXELS = 1 << 24  # 4096 x 4096
_MAX_DEFLATE_RATIO = 1032  # what deflate can reach at most (zlib's technical notes)
_SLACK_BYTES = 4096  # padding after the data that says nothing about the header
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Metafile:
    """What a header says.

    Attributes
    ----------
    path : Path
        The file with the header.
    data : Path
        The file with the pictures, which may be the same.
    offset_bytes : int or None
        Where the pictures begin in it; None where they are its end.
    compressed : bool
        Whether they are one zlib or gzip stream.
    size_px : tuple of int
        ``(W, H)`` of a picture as it is stored.
    channels : int
        1 for grey, 3 or 4 for red, green, blue (and alpha), interleaved.
    frame_count : int
        Pictures that the header promises.
    dtype : numpy.dtype
        Type and byte order of a level.
    spacing_mm : tuple of float or None
        ``(row_mm, col_mm)`` as the header gives them.
    fields : dict
        Every other field of the header, by name.
    spacing_note : str
        Why the header's spacing was not taken; empty where it was, or where there is none.

    Raises
    ------
    SourceUnreadableError
        If such pictures cannot be, or cannot be in such a file.
    """

    path: Path
    data: Path
    offset_bytes: int | None
    compressed: bool
    size_px: tuple[int, int]
    channels: int
    frame_count: int
    dtype: np.dtype[Any]
    spacing_mm: Spacing | None
    fields: dict[str, str]
    spacing_note: str = ""

    def __post_init__(self) -> None:
        width, height = self.size_px
        if min(width, height, self.frame_count) < 1 or self.channels not in (1, 3, 4):
            raise damaged(
                self.path,
                f"{width} x {height} pixels, {self.channels} channels and {self.frame_count} "
                "frames cannot be",
            )
        if width * height > _MAX_PIXELS:
            raise damaged(
                self.path, f"a picture of {width} x {height} pixels is over the limit of 2^24"
            )
        if not self.data.is_file():
            missing = "is no ordinary file" if self.data.exists() else "is missing"
            raise SourceUnreadableError(
                f"{self.path}: the file with its pictures {missing}: {shown(str(self.data), 400)}"
            )
        size_bytes = self.data.stat().st_size
        held_bytes = size_bytes - (self.offset_bytes or 0)
        if held_bytes * (_MAX_DEFLATE_RATIO if self.compressed else 1) < self.frame_bytes:
            raise damaged(self.path, "its data end before the first picture does")
        if not self.compressed and self.surplus_bytes > _SLACK_BYTES:
            raise damaged(
                self.path,
                f"its data are {self.surplus_bytes} bytes longer than {self.frame_count} frames "
                f"of {width} x {height}",
            )

    @property
    def frame_bytes(self) -> int:
        """Size of one picture."""
        return math.prod(self.size_px) * self.channels * self.dtype.itemsize

    @property
    def surplus_bytes(self) -> int:
        """Bytes after the last picture of uncompressed data; negative if some are missing."""
        if self.offset_bytes is None:
            return min(0, self.data.stat().st_size - self.frame_count * self.frame_bytes)
        held_bytes = self.data.stat().st_size - self.offset_bytes
        return held_bytes - self.frame_count * self.frame_bytes


def damaged(path: Path, why: str) -> SourceUnreadableError:
    """Make the error of a header that cannot be true."""
    return SourceUnreadableError(f"{path} is damaged, or no sequence metafile: {why}")


def shown(text: str, limit: int = 40) -> str:
    """Quote what a file says so that it stays short and on one line."""
    return repr(text if len(text) <= limit else text[:limit] + "...")


def integer(text: str) -> int:
    """Read a whole number of at most 18 digits; the error is a ValueError."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError(f"expected a whole number, got {shown(text)}")
    return int(text)


def numbers(text: str) -> tuple[float, ...]:
    """Read finite numbers between blanks; the error is a ValueError."""
    try:
        values = tuple(map(float, text.split()))
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"expected finite numbers, got {shown(text)}")
    return values


class _Inflating:
    """A zlib or gzip stream, read by parts that never exceed what was asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._inflater = file, zlib.decompressobj(zlib.MAX_WBITS | 32)

    def read(self, size_bytes: int) -> bytearray:
        """Read as many bytes; fewer only where the stream ends."""
        read = bytearray()
        while len(read) < size_bytes and not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._file.read(_CHUNK_BYTES)
            part = self._inflater.decompress(packed, size_bytes - len(read))
            if not packed and not part:
                break
            read += part
        return read

    def finish(self) -> str:
        """Say what is wrong with the end of the stream, its checksum included; nothing if fine."""
        try:
            surplus_bytes = len(self.read(_SLACK_BYTES + 1))
        except zlib.error:
            return "its checksum does not match, so any picture may be wrong"
        if surplus_bytes > _SLACK_BYTES:
            return "its data go on after the last frame, so the header may be wrong"
        return "" if self._inflater.eof else "its end is missing"


def pictures(file: Metafile) -> Iterator[NDArray[Any]]:
    """Read picture after picture; one is held in memory at a time.

    Yields
    ------
    ndarray of shape (H, W) or (H, W, C)
        In native byte order; memory of its own.

    Raises
    ------
    SourceLostError
        If the data are damaged or end too early, after the pictures that could be read; or if
        they were all read and the checksum of the whole does not match.
    """
    width, height = file.size_px
    shape = (height, width) if file.channels == 1 else (height, width, file.channels)
    total_bytes = file.frame_count * file.frame_bytes
    read = 0
    try:
        with file.data.open("rb") as raw:
            offset_bytes = file.offset_bytes
            if offset_bytes is None:
                offset_bytes = max(0, file.data.stat().st_size - total_bytes)
            raw.seek(offset_bytes)
            stream = _Inflating(raw) if file.compressed else raw
            for read in range(file.frame_count):
                data = _read(stream, file.frame_bytes)
                if len(data) < file.frame_bytes:
                    raise _cut_short(file, read)
                levels = np.frombuffer(data, file.dtype).reshape(shape)
                yield levels.astype(file.dtype.newbyteorder("="), copy=False)
            wrong = stream.finish() if isinstance(stream, _Inflating) else ""
    except (zlib.error, OSError) as error:
        if isinstance(error, SourceLostError):
            raise
        raise _cut_short(file, read) from error
    if wrong:
        raise SourceLostError(f"{file.path} is damaged: {wrong}")


def _read(stream: _Inflating | BufferedReader, size_bytes: int) -> bytearray:
    if isinstance(stream, _Inflating):
        return stream.read(size_bytes)
    data = bytearray(size_bytes)
    del data[stream.readinto(data) :]
    return data


def _cut_short(file: Metafile, read: int) -> SourceLostError:
    return SourceLostError(
        f"{file.path} is damaged or cut short: {read} of {file.frame_count} frames could be read"
    )
