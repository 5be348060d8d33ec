"""A folder, a glob pattern or a single file of still pictures."""

import glob
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.errors import SourceLostError, SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import Frame
from veintrack.tracker.naturalorder import natural_key
from veintrack.tracker.sources import IMAGE_SUFFIXES
from veintrack.tracker.sources.base import OneShot, SourceInfo
from veintrack.tracker.sources.grey import choose_shift, describe, to_grey

__all__ = ["DEFAULT_RATE_HZ", "ImageSource", "open_images"]

DEFAULT_RATE_HZ = 30.0
_PAGED = (".tif", ".tiff")
_PNG = b"\x89PNG\r\n\x1a\n"


def open_images(source: str | Path, *, fps: float | None = None) -> "ImageSource":
    """Open a folder, a glob pattern or one picture; see :class:`ImageSource`.

    Raises
    ------
    SourceNotFoundError
        If there is no such file, folder, or match.
    SourceUnreadableError
        If a folder holds no pictures, or the first picture cannot be read.
    """
    path = Path(source).expanduser()
    suffixes = " ".join(IMAGE_SUFFIXES)
    # os.path, as pathlib raises for a name that is too long.
    if os.path.isdir(path):  # noqa: PTH112
        files = _pictures(list(path.iterdir()))
        if not files:
            raise SourceUnreadableError(f"no pictures in the folder {source}: expected {suffixes}")
    elif os.path.exists(path):  # noqa: PTH110
        files = [path]
    elif glob.has_magic(str(source)):
        matches = [Path(p) for p in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        files = _pictures(matches)
        if not files:
            raise SourceNotFoundError(
                f"no picture matches {source}: expected files {suffixes} (quote the pattern, or "
                "the shell expands it)"
            )
    else:
        raise SourceNotFoundError(f"no such file: {source}")
    return ImageSource(str(source), files, DEFAULT_RATE_HZ if fps is None else fps, fps is None)


def _pictures(paths: list[Path]) -> list[Path]:
    """Keep visible files with a picture's suffix, in natural order."""
    wanted = (
        p
        for p in paths
        if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    )
    return sorted(wanted, key=lambda path: natural_key(str(path)))


def _decode(path: Path, page: int = 0) -> NDArray[Any] | None:
    """Read one picture as it is stored; None where it cannot be read."""
    try:
        if page:
            with path.open("rb") as file:
                pages = cv2.imreadmulti(_named(file), page, 1, flags=cv2.IMREAD_UNCHANGED)[1]
            return pages[0] if pages else None
        data = path.read_bytes()  # cv2 itself cannot open every path
        if not data or _is_damaged_png(data):
            return None
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error):
        return None


def _page_count(path: Path) -> int:
    """Count the pictures in one file: the pages of a TIFF, else one."""
    if path.suffix.lower() not in _PAGED:
        return 1
    try:
        with path.open("rb") as file:
            return max(1, cv2.imcount(_named(file)))
    except (OSError, cv2.error):
        return 1


def _page_notes(counts: list[int]) -> list[str]:
    paged = [count for count in counts if count > 1]
    return [f"{sum(paged)} pages of {len(paged)} TIFF files, one after the other"] if paged else []


def _named(file: BinaryIO) -> str:
    """Name an open file so that cv2 can open it, whatever the bytes of its name are."""
    return f"/proc/self/fd/{file.fileno()}"


def _is_damaged_png(data: bytes) -> bool:
    """Tell whether a PNG is cut short or differs from its check sums (ISO/IEC 15948, 5.3).

    Asked before it is decoded: libpng would write what it finds to the terminal.
    """
    at = len(_PNG)
    if data[:at] != _PNG:
        return False
    while len(data) >= at + 12:
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return True
        if kind == b"IEND":
            return False
        at = end + 4
    return True


class ImageSource(OneShot):
    """Still pictures in natural order, a fixed time apart; the pages of a TIFF are such too.

    Parameters
    ----------
    name : str
        The source as the user named it.
    files : list of Path
        At least one.
    rate_hz : float
        Pictures per second.
    assumed : bool
        True where nobody gave that rate.
    """

    def __init__(self, name: str, files: list[Path], rate_hz: float, assumed: bool) -> None:
        if not (np.isfinite(rate_hz) and rate_hz > 0):
            raise ValueError(f"fps must be positive and finite, got {rate_hz}")
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self._rate_hz = rate_hz
        counts = [_page_count(file) for file in files]
        self._pictures = [
            (file, page) for file, n in zip(files, counts, strict=True) for page in range(n)
        ]
        self._closed = False
        first = _decode(files[0])
        if first is None:
            raise SourceUnreadableError(f"{files[0]} is not a picture that can be read")
        self._shift = choose_shift(first)
        try:
            shape_px = to_grey(first, self._shift).shape
        except ValueError as error:
            raise SourceUnreadableError(f"{files[0]}: {error}") from error
        rate = f"{rate_hz:g} frames a second {'assumed' if assumed else 'as given'}"
        self._info = SourceInfo(
            name=name,
            kind="images",
            live=False,
            shape_px=(shape_px[0], shape_px[1]),
            rate_hz=rate_hz,
            frame_count=len(self._pictures),
            spacing_mm=None,
            times_from=f"no times in image files: {rate}",
            notes=(*describe(first, self._shift), *_page_notes(counts)),
        )

    @property
    def info(self) -> SourceInfo:
        """What is known of the source."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        for index, (path, page) in enumerate(self._pictures):
            if self._closed:
                return
            yield self._read(index, path, page)

    def _read(self, index: int, path: Path, page: int) -> Frame:
        of_file = f"page {page + 1} of {path}" if page else path
        where = f"after {index} of {len(self._pictures)} pictures: {of_file}"
        picture = _decode(path, page)
        if picture is None:
            raise SourceLostError(f"{where} cannot be read")
        try:
            pixels = to_grey(picture, self._shift)
        except ValueError as error:
            raise SourceLostError(f"{where}: {error}") from error
        return Frame(pixels, index, round(index * 1e9 / self._rate_hz), monotonic_ns())

    def close(self) -> None:
        """End the iteration before its next picture."""
        self._closed = True
