"""A DICOM file: the few tags that pictures need, and where its frames lie.

Only the tags named here are ever parsed, none of which is about the patient. What pydicom makes
of a damaged value is thrown away unseen: its messages may quote the value.
"""

import io
import logging
import re
import threading
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from pydicom.valuerep import DT

from veintrack.errors import SourceUnreadableError, VeintrackError

__all__ = ["DicomFile", "Piece", "code", "items", "moment", "name_of", "numbers", "quiet"]

Piece = tuple[int, int]  # offset and length in the file, in bytes

_KEYWORDS = (
    "SOPClassUID", "Modality", "RecommendedDisplayFrameRate", "CineRate", "FrameTime",
    "FrameTimeVector", "FrameIncrementPointer", "NumberOfFrames", "SequenceOfUltrasoundRegions",
    "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelSpacing", "SamplesPerPixel",
    "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "PixelRepresentation", "BurnedInAnnotation", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "VOILUTSequence", "RescaleIntercept", "RescaleSlope", "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue", "SegmentedRed", "SegmentedGreen", "SegmentedBlue")
        for part in ("Descriptor", "Data")
    ),
)  # fmt: skip
_TAGS: list[BaseTag | int] = [tag for k in _KEYWORDS if (tag := tag_for_keyword(k)) is not None]
_PIXEL_DATA = 0x7FE00010
_FLOAT_PIXELS = (0x7FE00008, 0x7FE00009)
_UNDEFINED = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"  # (FFFE,E000), PS3.5 section A.4
_MOST_READS = 1_000_000  # of a header; zeros would be parsed as empty elements for minutes
_STARTS = (b"\xff\xd8", b"\xff\x4f", b"\x00\x00\x00\x0c")  # JPEG and JPEG-LS, JPEG 2000, JP2


_this_thread = threading.local()


def _is_for_others(_: logging.LogRecord) -> bool:
    """Drop what is logged by a thread that reads a file here, and by no other."""
    return not getattr(_this_thread, "quiet", False)


for _name in ("pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.utils"):
    logging.getLogger(_name).addFilter(_is_for_others)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what pydicom logs of a file from the user: it may quote values of tags."""
    before = getattr(_this_thread, "quiet", False)
    _this_thread.quiet = True
    try:
        yield
    finally:
        _this_thread.quiet = before


def _ignore_warnings() -> None:
    """Ignore what pydicom warns of, which may quote too.

    Filters are those of the whole process, so they are set on opening and not for each frame, and
    only for pydicom and for what it puts down to its callers here.
    """
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)|veintrack\.tracker\.sources\.dicom")


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """Give the values of a tag as numbers; none where it is missing or damaged."""
    try:
        with quiet():
            value: Any = dataset.get(keyword)
            found = [value] if isinstance(value, (str, int, float)) else list(value)
            return tuple(float(number) for number in found)
    except Exception:  # pydicom raises what it likes on damaged values
        return ()


def code(dataset: Dataset, keyword: str, known: Collection[str]) -> str:
    """Give the value of a tag if it is one of those known; empty where it is any other."""
    try:
        with quiet():
            value = str(dataset.get(keyword) or "").strip()
    except Exception:
        return ""
    return value if value in known else ""


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Give the items of a sequence; none where it is missing or damaged."""
    try:
        with quiet():
            found = tuple(dataset.get(keyword) or ())
    except Exception:
        return ()
    return found if all(isinstance(item, Dataset) for item in found) else ()


def moment(dataset: Dataset, keyword: str) -> datetime | None:
    """Give a date and time, of use only for its difference to another."""
    try:
        with quiet():
            found = DT(str(dataset.get(keyword)))
    except Exception:
        return None
    return found if isinstance(found, datetime) else None


def name_of(uid: str) -> str:
    """Name a UID of the standard; others are given as they are, if they are UIDs at all."""
    with quiet():
        name = UID(uid).name
    is_uid = re.fullmatch(r"[012](\.[0-9]+)+", uid) is not None and len(uid) <= 64
    return name if name != uid or is_uid else "an unknown one"


class _DeflatedError(Exception):
    """The data set is compressed as a whole; small files of that kind can fill any memory."""


class _Bounded(io.BufferedReader):
    """A file that reads no further than its end, and not for ever.

    Without it, a damaged length makes a buffer of up to 4 GB.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.size = self.seek(0, io.SEEK_END)
        self.seek(0)
        self.reads_left = _MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:  # pydicom asks for all of it only to inflate it
            raise _DeflatedError
        self.reads_left -= 1
        if self.reads_left < 0:
            raise OverflowError("the header does not end")
        try:
            return super().read(min(size, max(0, self.size - self.tell())))
        except OSError:  # a disk that fails reads like a file that ends
            return b""


class DicomFile:
    """An open DICOM file, up to and without its pixels.

    Parameters
    ----------
    path : Path
        An existing file.

    Attributes
    ----------
    dataset : Dataset
        The tags that pictures need.
    syntax : UID
        Its transfer syntax.
    pixels : Piece
        Where the value of its pixel data lies, clipped at the file's end.
    pixel_vr : str
        Its value representation.

    Raises
    ------
    SourceUnreadableError
        If it is no DICOM file, holds no pictures, or its header is damaged.
    """

    dataset: Dataset
    syntax: UID
    pixels: Piece
    pixel_vr: str

    def __init__(self, path: Path) -> None:
        self.path = path
        _ignore_warnings()
        try:
            self._file = _Bounded(path)
        except OSError as error:
            raise SourceUnreadableError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        try:
            with quiet():
                self._parse()
        except VeintrackError:
            raise
        except Exception:
            raise SourceUnreadableError(f"{self.path}: its DICOM header is damaged") from None
        self._file.reads_left = 1 << 62

    def _parse(self) -> None:
        self._check_mark()
        at: list[int] = []  # tag, offset and length of the pixel data

        def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
            if tag in (_PIXEL_DATA, *_FLOAT_PIXELS):
                at.extend((int(tag), self._file.tell(), length))
                self.pixel_vr = vr or "OW"
            return bool(at)

        try:
            read = read_partial(self._file, stop, force=True, specific_tags=_TAGS)
        except _DeflatedError:
            raise SourceUnreadableError(
                f"{self.path}: cannot read a deflated data set "
                f"({name_of(DeflatedExplicitVRLittleEndian)}); write it out with dcmconv +te"
            ) from None
        kind = str(read.file_meta.get("MediaStorageSOPClassUID") or read.get("SOPClassUID") or "")
        if kind == MediaStorageDirectoryStorage:
            raise SourceUnreadableError(
                f"{self.path} is a DICOMDIR, a list of other files: name one of those"
            )
        if not at or at[0] in _FLOAT_PIXELS:
            what = f" ({name_of(kind)})" if kind else ""
            raise SourceUnreadableError(f"{self.path} is DICOM without pictures{what}")
        self.dataset = read
        self._length = at[2]
        left = max(0, self._file.size - at[1])
        self.pixels = (at[1], left if at[2] == _UNDEFINED else min(at[2], left))
        self.syntax = self._find_syntax(read)

    def _check_mark(self) -> None:
        """Refuse what does not begin like DICOM (PS3.10 section 7.1), with its preamble or not."""
        if not self._file.size:
            raise SourceUnreadableError(f"{self.path} is empty")
        head = self._file.read(132)
        self._file.seek(0)
        if head[128:] == b"DICM":
            return
        # A bare data set begins with group 0002 or 0008; only a file that is called DICOM is tried.
        bare = head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")
        if not bare or self.path.suffix.lower() not in (".dcm", ".dicom"):
            raise SourceUnreadableError(f"{self.path} is not a DICOM file")

    def _find_syntax(self, read: Dataset) -> UID:
        named = read.file_meta.get("TransferSyntaxUID")
        if named is not None:
            return UID(named)
        implicit, little = read.original_encoding
        if self._length == _UNDEFINED:
            raise SourceUnreadableError(
                f"{self.path}: its pictures are compressed, and no transfer syntax says how"
            )
        if implicit:
            return ImplicitVRLittleEndian
        return ExplicitVRLittleEndian if little else ExplicitVRBigEndian

    @property
    def encapsulated(self) -> bool:
        """Whether the pixel data is a list of fragments, not one run of bytes."""
        return self._length == _UNDEFINED

    def read(self, pieces: Iterable[Piece]) -> bytes:
        """Read and join parts of the file; less than they say where it ends before they do."""
        parts = []
        for offset, length in pieces:
            self._file.seek(offset)
            parts.append(self._file.read(length))
        return b"".join(parts)

    def fragments(self, most: int) -> list[Piece]:
        """Find the fragments of encapsulated pixel data, up to its end or the first damage.

        The items of PS3.5 section A.4, without the first, the offset table: it may be empty, and
        where it is damaged it leads astray.

        Parameters
        ----------
        most : int
            Where to stop: a damaged file can hold millions of empty ones.
        """
        found: list[Piece] = []
        at, end = self.pixels[0], sum(self.pixels)
        while at + 8 <= end and len(found) <= most:
            self._file.seek(at)
            head = self._file.read(8)
            if head[:4] != _ITEM:
                break
            length = int.from_bytes(head[4:], "little")
            found.append((at + 8, length))
            at += 8 + length
        return found[1:]

    def group(
        self, fragments: list[Piece], count: int | None, one_each: bool
    ) -> list[tuple[Piece, ...]]:
        """Tell which fragments make which frame.

        A frame begins with a fragment of its own (PS3.5 section A.4), and a compressed picture
        with its start marker.

        Parameters
        ----------
        fragments : list of Piece
            Those of the file.
        count : int or None
            Frames that the header promises.
        one_each : bool
            Whether the transfer syntax allows one fragment a frame only.
        """
        if one_each or len(fragments) == count:
            return [(piece,) for piece in fragments]
        if count == 1:
            return [tuple(fragments)] if fragments else []
        frames: list[list[Piece]] = []
        for piece in fragments:
            self._file.seek(piece[0])
            if not frames or self._file.read(4).startswith(_STARTS):
                frames.append([])
            frames[-1].append(piece)
        return [tuple(pieces) for pieces in frames]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
