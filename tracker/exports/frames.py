"""The frames of a recording as they are handed on: what lies outside the ultrasound is black."""

import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import U8, Frame, Region, Spacing
from veintrack.tracker.recording_lines import read_lines, read_manifest, readable_lines
from veintrack.tracker.recording_names import find_recording
from veintrack.tracker.replaying import read_script
from veintrack.tracker.sources.recording import RecordingSource

__all__ = ["GZIP", "RAW", "ZLIB", "RecordedFrames", "Stack", "recording_of", "seconds", "store"]

RAW, ZLIB, GZIP = None, 15, 31  # windowBits of zlib: its own header, and that of gzip
# So late a change of the screen's layout is noticed: it is looked for each second, and must be seen
# twice, each time at the first frame that comes then.
_NOTICED_NS, _NOTICED_FRAMES = 2_200_000_000, 2


def recording_of(run: Path) -> Path:
    """Find the recording in a run's folder, or `run` itself.

    Raises
    ------
    SourceNotFoundError
        If there is none.
    """
    folder = find_recording(run)
    if folder is None:
        raise SourceNotFoundError(
            f"{run} holds no recording, and frames come from one: track with --record"
        )
    return folder


class RecordedFrames(Closing):
    """Frames of a recording, where they lay in the source.

    Of a recording of the scan area nothing else is known: the rest is black. Of one of whole frames
    the same is made by default, by what the run said of each frame; frames of which it is not
    certain where the ultrasound lies are left out.

    Parameters
    ----------
    run : Path
        Folder of a run, or of a recording.
    full : bool
        Hand on all that was recorded.

    Attributes
    ----------
    left_out : int
        Frames so far that were left out.

    Raises
    ------
    SourceNotFoundError, SourceUnreadableError
        If there is no recording, or it is damaged.
    """

    def __init__(self, run: Path, *, full: bool = False) -> None:
        folder = recording_of(run)
        self.left_out = 0
        self._sure: Sure | None = None
        self._region: Region | None = None
        if read_manifest(folder).get("whole_frames") and not full:
            self._sure = Sure(folder)
        else:
            for line in read_lines(folder, changes_only=True):
                self._region = _around(self._region or line.crop_px, line.crop_px)
        self._source = RecordingSource(folder)

    @property
    def region_px(self) -> Region:
        """``(x, y, width, height)`` beyond which all frames so far are black."""
        height, width = self._source.info.shape_px
        return self._region or (0, 0, width, height)

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            if self._sure is None:
                yield frame
                continue
            region = self._sure.region(frame.index)
            if region is None:
                self.left_out += 1
                continue
            self._region = _around(self._region or region, region)
            yield replace(frame, pixels=_only(frame.pixels, region))

    def close(self) -> None:
        self._source.close()


class Sure:
    """Where the ultrasound certainly lies in frames that were recorded whole.

    Parameters
    ----------
    recording : Path
        Its folder.

    Raises
    ------
    SourceUnreadableError
        If what the run said of its frames is missing, or damaged.
    """

    def __init__(self, recording: Path) -> None:
        self._turns = read_script(recording).turns
        self._tracked = list(self._turns)
        lines = list(readable_lines(recording))
        indices, times_ns = [one.index for one in lines], [one.capture_ns for one in lines]
        self._doubtful: set[int] = set()
        for index, turn in self._turns.items():
            if turn.place.changed:
                at = min(bisect_left(indices, index), len(lines) - 1)
                since = bisect_left(times_ns, times_ns[at] - _NOTICED_NS)
                self._doubtful.update(indices[max(0, min(since, at - _NOTICED_FRAMES)) : at])

    def region(self, index: int) -> Region | None:
        """Give the place of the ultrasound in a frame, ``(x, y, width, height)``; None in doubt.

        A frame that was not tracked lies between two that were, which have to agree.
        """
        at = bisect_left(self._tracked, index)
        known = [index] if index in self._turns else self._tracked[max(0, at - 1) : at + 1]
        places = {self._turns[one].place for one in known}
        place = places.pop() if len(places) == 1 and index not in self._doubtful else None
        return place.region if place is not None and place.settled else None


def _around(a: Region, b: Region) -> Region:
    """Give the smallest region that holds both."""
    left, top = min(a[0], b[0]), min(a[1], b[1])
    right, bottom = max(a[0] + a[2], b[0] + b[2]), max(a[1] + a[3], b[1] + b[3])
    return left, top, right - left, bottom - top


def _only(pixels: U8, region: Region) -> U8:
    """Make all but a region black."""
    x, y, width, height = region
    shown = np.zeros_like(pixels)
    shown[y : y + height, x : x + width] = pixels[y : y + height, x : x + width]
    return shown


@dataclass(frozen=True, slots=True)
class Stack:
    """Frames that were stored one after the other.

    Attributes
    ----------
    shape_px : tuple of int
        ``(H, W)`` of all of them.
    spacing_mm : tuple of float or None
        ``(row_mm, col_mm)``; None where it is not known, or is not the same in all.
    indices : tuple of int
        Their places in the source.
    times_ns : tuple of int
        When they were captured.
    """

    shape_px: tuple[int, int]
    spacing_mm: Spacing | None
    indices: tuple[int, ...]
    times_ns: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def in_words(self, frames: RecordedFrames) -> str:
        """Say what was stored."""
        said = f"{len(self)} frames"
        if frames.left_out:
            said += (
                f"; {frames.left_out} left out, as it is not certain where in them the ultrasound "
                "is (--full hands on all, names too)"
            )
        return said


def store(frames: Iterable[Frame], file: BinaryIO, window_bits: int | None = RAW) -> Stack:
    """Write the pixels of frames, and note what else is known of them.

    Parameters
    ----------
    frames : iterable of Frame
        Taken one by one.
    file : binary file
        Where they go.
    window_bits : int, optional
        Of zlib, to pack them; by default they are not.

    Raises
    ------
    SourceUnreadableError
        If there are none, or they are not all of one size.
    """
    packer = None if window_bits is None else zlib.compressobj(wbits=window_bits)
    shape: tuple[int, int] | None = None
    spacings: set[Spacing | None] = set()
    indices, times_ns = [], []
    for frame in frames:
        height, width = frame.pixels.shape
        shape = shape or (height, width)
        if shape != (height, width):
            raise SourceUnreadableError(
                f"frame {frame.index} is {width}x{height} px, and those before it are "
                f"{shape[1]}x{shape[0]}: such a file holds frames of one size"
            )
        data = np.ascontiguousarray(frame.pixels).data
        file.write(packer.compress(data) if packer else data)
        spacings.add(frame.spacing_mm)
        indices.append(frame.index)
        times_ns.append(frame.capture_ns)
    if packer:
        file.write(packer.flush())
    if shape is None:
        raise SourceUnreadableError(
            "of not one frame it is certain where in it the ultrasound is: nothing is handed on "
            "(with --full all is, names too)"
        )
    spacing = spacings.pop() if len(spacings) == 1 else None
    return Stack(shape, spacing, tuple(indices), tuple(times_ns))


def seconds(time_ns: int) -> str:
    """Write nanoseconds as seconds, exactly."""
    return f"{'-' if time_ns < 0 else ''}{abs(time_ns) // 10**9}.{abs(time_ns) % 10**9:09d}"
