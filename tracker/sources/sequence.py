"""Sequence metafiles: PLUS (``.igs.mha``, ``.mhd``, ``.nrrd``) and plain stacks of pictures."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from time import monotonic_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veintrack.errors import SourceLostError, SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import U8, Frame, Spacing
from veintrack.tracker.sources.base import OneShot, SourceInfo, unused_fps
from veintrack.tracker.sources.grey import choose_shift, describe, to_grey
from veintrack.tracker.sources.images import DEFAULT_RATE_HZ
from veintrack.tracker.sources.levels import READ_TYPES, ready
from veintrack.tracker.sources.metafile import Metafile, pictures, shown
from veintrack.tracker.sources.metaimage import read_metaimage
from veintrack.tracker.sources.nrrd import read_nrrd
from veintrack.tracker.sources.plus import (
    image_scale,
    invalid_frames,
    is_transposed,
    is_turnable,
    median_period_ns,
    stamps_ns,
    times_ns,
    to_mf,
)
from veintrack.tracker.sources.scale import is_plausible

__all__ = ["SequenceSource", "open_sequence"]

_PICTURES = ("", "BRIGHTNESS", "RGB_COLOR")  # the kinds of PLUS that are no radio frequency data


def open_sequence(path: Path, *, fps: float | None = None) -> "SequenceSource":
    """Open a sequence metafile; see :class:`SequenceSource`.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    SourceUnreadableError
        If it is none that can be read, or not one picture of it can be.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - pathlib raises for a name that is too long
        raise SourceNotFoundError(f"no such file: {path}")
    try:
        return SequenceSource(Path(path), fps)
    except SourceLostError as error:  # nothing was delivered yet
        raise SourceUnreadableError(str(error)) from error
    except SourceUnreadableError:
        raise
    except OSError as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_header(path: Path) -> Metafile:
    with path.open("rb") as file:
        is_nrrd = file.read(4) == b"NRRD"
    return read_nrrd(path) if is_nrrd else read_metaimage(path)


class SequenceSource(OneShot):
    """Frames of a metafile, read one by one, with the times that PLUS wrote beside them.

    The third axis is time. Pictures are brought into the orientation MF of PLUS (x towards the
    marked side of the probe, y away from the probe); all coordinates are those of the turned
    picture. Frames marked invalid are left out and leave a gap in the index.

    Parameters
    ----------
    path : Path
        An existing file.
    fps : float, optional
        Frames per second, used only for frames that have no stamp.
    """

    def __init__(self, path: Path, fps: float | None = None) -> None:
        file = self._file = _read_header(path)
        self._closed = False
        self._code = _orientation(file)
        self._invalid = invalid_frames(file.fields)
        self._stamps = stamps_ns(file.fields)
        measured_ns = median_period_ns(self._stamps)
        rate_hz = 1e9 / measured_ns if measured_ns else fps or DEFAULT_RATE_HZ
        self._period_ns = measured_ns or round(1e9 / rate_hz)
        _check_kind(file)
        picture = self._first_picture()
        self._shift = choose_shift(picture)
        self._spacing_mm, scale_notes = _spacing(file, self._code)
        invalid_count = sum(frame < file.frame_count for frame in self._invalid)
        self._info = SourceInfo(
            name=str(path),
            kind="sequence",
            live=False,
            shape_px=(picture.shape[0], picture.shape[1]),
            rate_hz=rate_hz,
            frame_count=file.frame_count - invalid_count,
            spacing_mm=self._spacing_mm,
            times_from=self._times_from(fps, rate_hz),
            notes=(
                *describe(picture, self._shift),
                *_orientation_notes(file, self._code),
                *scale_notes,
                *([f"{invalid_count} frames marked invalid left out"] if invalid_count else []),
                *self._stamp_notes(),
                *(unused_fps(fps) if measured_ns else ()),
            ),
        )

    @property
    def info(self) -> SourceInfo:
        """What is known of the source."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        times = times_ns(self._stamps, self._valid_frames(), self._period_ns)
        for index, stored in enumerate(pictures(self._file)):
            if self._closed:
                return
            if index in self._invalid:
                continue
            pixels = self._to_pixels(stored)
            yield Frame(pixels, index, next(times), monotonic_ns(), spacing_mm=self._spacing_mm)

    def _valid_frames(self) -> Iterator[int]:
        return (i for i in range(self._file.frame_count) if i not in self._invalid)

    def _upright(self, stored: NDArray[Any]) -> NDArray[Any]:
        picture = ready(stored)
        return to_mf(picture, self._code) if self._code else picture

    def _to_pixels(self, stored: NDArray[Any]) -> U8:
        return to_grey(np.ascontiguousarray(self._upright(stored)), self._shift)

    def _first_picture(self) -> NDArray[Any]:
        """Read the first valid picture, upright."""
        for index, stored in enumerate(pictures(self._file)):
            if index not in self._invalid:
                return self._upright(stored)
        raise SourceUnreadableError(
            f"{self._file.path}: all {self._file.frame_count} frames are marked invalid"
        )

    def _times_from(self, fps: float | None, rate_hz: float) -> str:
        if self._stamps:
            return "the file's own stamps, from its first frame"
        said = "assumed" if fps is None else "as given"
        return f"no stamps in the file: {rate_hz:g} frames a second {said}"

    def _stamp_notes(self) -> list[str]:
        stamped = [self._stamps[i] for i in sorted(self._stamps)]
        late = sum(b <= a for a, b in pairwise(stamped))
        missing = self._file.frame_count - len(stamped) if stamped else 0
        notes = []
        if late:
            notes.append(f"{late} stamps are no later than the one before: moved behind it")
        if missing > 0:
            notes.append(f"{missing} frames without a stamp: placed by the usual time between two")
        return notes

    def close(self) -> None:
        """End the iteration before its next frame."""
        self._closed = True


def _check_kind(file: Metafile) -> None:
    """Refuse what is no picture."""
    kind = file.fields.get("UltrasoundImageType", "")
    if kind not in _PICTURES:
        raise SourceUnreadableError(
            f"{file.path}: holds {shown(kind)} data (UltrasoundImageType); "
            "BRIGHTNESS and RGB_COLOR are pictures that can be read"
        )
    if file.dtype.newbyteorder("=") not in READ_TYPES:
        raise SourceUnreadableError(
            f"{file.path}: its levels are of {file.dtype.name}, whose range is not known; "
            "integers of 8 or 16 bits are read"
        )


def _orientation(file: Metafile) -> str:
    """Read the code of the stored orientation; empty where there is none."""
    code = file.fields.get("UltrasoundImageOrientation", "").upper()
    if code in ("", "XX"):
        return ""
    if not is_turnable(code):
        raise SourceUnreadableError(
            f"{file.path}: UltrasoundImageOrientation is {shown(code)}; expected two letters of "
            "MF, MN, UF, UN, FM, FU, NM, NU, and A or D after them"
        )
    return code


def _orientation_notes(file: Metafile, code: str) -> list[str]:
    if code[:2] == "MF":
        return []
    if code:
        return [f"stored in orientation {code}: turned to MF, depth downwards"]
    if any(name.startswith("Seq_Frame") for name in file.fields):
        return ["no UltrasoundImageOrientation in the file: pictures as they are stored"]
    return []


def _spacing(file: Metafile, code: str) -> tuple[Spacing | None, list[str]]:
    """Take the header's spacing, or else the scale of a transform, for the turned picture."""
    spacing, notes = file.spacing_mm, [file.spacing_note] if file.spacing_note else []
    if spacing == (1, 1):
        spacing, notes = None, ["a spacing of exactly 1 mm per pixel is a placeholder: not taken"]
    elif spacing is not None and not is_plausible(spacing):
        row_mm, col_mm = spacing
        said = f"a spacing of {row_mm:g} by {col_mm:g} mm per pixel"
        spacing, notes = None, [f"{said} cannot be: not taken"]
    if spacing is None and (scale := image_scale(file.fields)) is not None:
        spacing, notes = scale[0], [f"spacing from {scale[1]}"]
    if spacing is not None and code and is_transposed(code):
        spacing = (spacing[1], spacing[0])
    return spacing, notes
