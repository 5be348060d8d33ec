"""DICOM files, single and multi-frame, with their own times, scan area and spacing."""

from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from time import monotonic_ns

from pydicom.uid import RLELossless

from veintrack.errors import SourceLostError, SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import U8, Frame
from veintrack.tracker.sources.base import OneShot, SourceInfo
from veintrack.tracker.sources.dicom_file import DicomFile, Piece, code, name_of, numbers
from veintrack.tracker.sources.dicom_grey import Grey, read_grey
from veintrack.tracker.sources.dicom_pixels import decode, decode_video, read_layout
from veintrack.tracker.sources.dicom_regions import read_geometry
from veintrack.tracker.sources.dicom_times import read_times
from veintrack.tracker.sources.inuse import InUse

__all__ = ["DicomSource", "open_dicom"]

_MOST_VIDEO_BYTES = 512 << 20  # of a stream, which is read as a whole
_MOST_FRAGMENTS = 1 << 18  # whatever number of frames is declared
_MODALITIES = ("US", "IVUS", "OT", "SC", "XC", "CT", "MR", "NM", "XA")


def open_dicom(path: str | Path, *, fps: float | None = None) -> "DicomSource":
    """Open a DICOM file; see :class:`DicomSource`.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    SourceUnreadableError
        If it is no DICOM file, holds no pictures, is stored in a way that cannot be decoded, or
        not one frame of it can be decoded.
    """
    if not Path(path).is_file():
        raise SourceNotFoundError(f"no such file: {path}")
    return DicomSource(Path(path), fps)


class DicomSource(OneShot):
    """Frames of a DICOM file, decoded one at a time.

    Only what is needed of the header is read; nothing about the patient is. Damaged frames are
    left out, and what a damaged or truncated file still holds is delivered before the error.

    Parameters
    ----------
    path : Path
        An existing file.
    fps : float, optional
        Frames per second, used only where the file says nothing of time.
    """

    def __init__(self, path: Path, fps: float | None = None) -> None:
        self._path = path
        self._read = self._held = 0
        self._count: int | None = None
        self._cut = False
        self._file = DicomFile(path)
        self._in_use = InUse(self._release)
        try:
            self._open(fps)
        except BaseException:
            self._file.close()
            raise

    def _open(self, fps: float | None) -> None:
        self._layout = read_layout(self._file)
        self._grey: Grey | None = None
        self._pictures = self._video() if self._layout.is_video else self._stills()
        try:
            first = next(self._pictures, None)
        except ValueError as error:
            raise SourceUnreadableError(f"{self._path}: {error}") from None
        if first is None:
            raise SourceUnreadableError(f"{self._path}: {self._why_nothing()}")
        self._first: tuple[int, U8] | None = first
        dataset, shape_px = self._file.dataset, (first[1].shape[0], first[1].shape[1])
        geometry = read_geometry(dataset, shape_px)
        self._times = read_times(dataset, self._count or 0, fps)
        self._info = SourceInfo(
            name=str(self._path),
            kind="dicom",
            live=False,
            shape_px=shape_px,
            rate_hz=self._times.rate_hz,
            frame_count=self._count,
            spacing_mm=geometry.spacing_mm,
            times_from=self._times.words,
            notes=(*self._facts(), *geometry.notes, *self._times.notes),
            scan_area_px=geometry.scan_area_px,
        )

    def _why_nothing(self) -> str:
        layout, length = self._layout, self._file.pixels[1]
        if self._file.encapsulated or length >= layout.frame_bytes:
            return "not one frame of it can be decoded"
        size = f"{layout.columns}x{layout.rows} px"
        return f"{length} bytes of pixels, less than one frame of {size} ({layout.frame_bytes})"

    @property
    def info(self) -> SourceInfo:
        """What is known of the source."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        with self._in_use as is_open:
            if not is_open:
                return None
            picture, self._first = self._first or next(self._pictures, None), None
            if picture is None:
                self._check_complete()
                return None
            self._read += 1
            index, pixels = picture
            return Frame(
                pixels,
                index,
                self._times.at(index),
                monotonic_ns(),
                spacing_mm=self._info.spacing_mm,
            )

    def _check_complete(self) -> None:
        """Raise if the header or the data promised more than they gave."""
        if self._cut or (self._count is not None and self._read < self._count):
            read = f"{self._read} of {self._count}" if self._count else f"{self._read}"
            raise SourceLostError(
                f"{self._path} is damaged or cut short: {read} frames could be read"
            )

    def _stills(self) -> Generator[tuple[int, U8], None, None]:
        """Decode frames one at a time; those that are damaged are left out."""
        for index, pieces in enumerate(self._places()):
            length = sum(n for _, n in pieces)
            if not length:  # a damaged file may hold millions of them
                continue
            data = self._file.read(pieces)
            decoded = None if len(data) < length else decode(data, self._layout)
            if decoded is not None:
                if self._grey is None:
                    self._grey = read_grey(self._file.dataset, self._layout, decoded)
                yield index, self._grey(decoded)

    def _places(self) -> Iterator[tuple[Piece, ...]]:
        """Tell where each frame lies in the file, as far as the file goes."""
        declared, step = self._declared(), self._layout.frame_bytes
        if self._file.encapsulated:
            fragments = self._fragments(declared)
            single = self._layout.syntax == RLELossless
            groups = self._file.group(fragments, declared, single)
            self._held, self._count = len(groups), declared or len(groups)
            return iter(groups[: self._count])
        offset, length = self._file.pixels
        self._held = length // step
        self._count = declared or self._held
        return (((offset + index * step, step),) for index in range(min(self._count, self._held)))

    def _video(self) -> Generator[tuple[int, U8], None, None]:
        """Decode the one stream that all frames are in."""
        self._count = self._declared()
        fragments = self._fragments(self._count)
        length = sum(n for _, n in fragments)
        if min(length, self._file.pixels[1]) > _MOST_VIDEO_BYTES:
            raise SourceUnreadableError(
                f"{self._path}: its video has {length >> 20} MiB; "
                f"up to {_MOST_VIDEO_BYTES >> 20} MiB are read"
            )
        data = self._file.read(fragments)
        self._cut = self._cut or len(data) < length
        try:
            with closing(decode_video(data)) as pictures:
                yield from enumerate(islice(pictures, self._count))
        except EOFError:
            self._cut = True

    def _fragments(self, declared: int | None) -> list[Piece]:
        """Find the fragments; more than any encoder makes of these frames are damage."""
        most = max(4096, min(64 * (declared or 0), _MOST_FRAGMENTS))
        fragments = self._file.fragments(most)
        self._cut = declared is None and len(fragments) >= most
        return fragments

    def _declared(self) -> int | None:
        """Give the Number of Frames of the header; without it a picture is single or unknown."""
        declared = numbers(self._file.dataset, "NumberOfFrames")
        return int(declared[0]) if declared and 1 <= declared[0] < 1 << 31 else None

    def _facts(self) -> tuple[str, ...]:
        """Say what is worth knowing of the file; nothing about the patient."""
        dataset, notes = self._file.dataset, []
        if modality := code(dataset, "Modality", _MODALITIES):
            notes.append(f"modality {modality}")
        if self._grey is not None:
            notes += self._grey.notes
        else:
            notes.append(f"one stream, {name_of(self._layout.syntax)}: luma taken")
        if self._held > (self._count or self._held):
            notes.append(f"{self._held} frames are there, {self._count} declared and read")
        if code(dataset, "BurnedInAnnotation", ["YES"]):
            notes.append("text is burnt into the pictures; keep it out with the scan area")
        return tuple(notes)

    def _release(self) -> None:
        self._pictures.close()
        self._file.close()

    def close(self) -> None:
        """Close the file, as soon as the frame that is being decoded is done."""
        self._in_use.close()
