"""Looking at a recording: any frame of it, with its tracks as they were when it was recorded."""

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import av
import numpy as np
from av.container import InputContainer

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.closing import Closing
from veintrack.tracker.exports.frames import Sure
from veintrack.tracker.frame import F64, U8, Frame, FrameResult, PictureState, Region, Timings
from veintrack.tracker.recording_lines import DAMAGE, FrameLine, read_manifest, readable_lines
from veintrack.tracker.recording_names import (
    FRAMES,
    MANIFEST,
    TRACKED,
    TRACKS,
    find_recording,
    part_name,
)
from veintrack.tracker.review_rows import ObjectLines, TableLines
from veintrack.tracker.scoring.rows import I64
from veintrack.tracker.sources.decoder import MAX_PIXELS, silence

__all__ = ["Review"]

_OBJECTS = "tracks.jsonl"  # of the run: it says more than what lies in the recording
_NOTHING = Timings(0, 0, 0, 0, 0, 0, 0, 0)


class Review(Closing):
    """Frames of a recording with their tracks, in any order. Any thread may ask.

    Of each track all is there that the run's ``tracks.jsonl`` kept. Where the recording lies
    alone, it is what its own ``tracks.csv`` kept: an ellipse in place of the outline, and no
    tentative tracks. How the picture moved, and the network's answer, were kept in neither.

    Parameters
    ----------
    folder : Path
        Of the recording; :meth:`open` takes that of a run, too.

    Attributes
    ----------
    folder : Path
        Of the recording.
    manifest : mapping
        What is known of the run that was recorded.
    count : int
        Frames that can be looked at.
    time_s : ndarray of shape (N,), float64
        When each was captured, since the first of them.
    index : ndarray of shape (N,), int64
        Of each in its source, rising; what was not recorded is missing.

    Raises
    ------
    SourceUnreadableError
        If it is damaged, or holds not one whole frame.
    """

    def __init__(self, folder: Path) -> None:
        silence()
        self.folder, self.manifest = folder, read_manifest(folder)
        self._lock = threading.Lock()
        self._closed = False
        with ExitStack() as opened:
            self._parts = opened.enter_context(_Parts(folder))
            self._lines = self._readable()
            self._looks = opened.enter_context(ObjectLines(folder / TRACKED))
            self._objects = opened.enter_context(ObjectLines(folder.parent / _OBJECTS))
            self._table = opened.enter_context(TableLines(folder / TRACKS))
            self._whole = bool(self.manifest.get("whole_frames", True))
            told = self._whole and (folder / TRACKED).is_file()
            self._sure = Sure(folder) if told else None
            self.count = len(self._lines)
            self.index: I64 = self._column("index")
            captured_ns = self._column("capture_ns")
            self.time_s: F64 = (captured_ns - captured_ns[0]) * 1e-9
            self._opened = opened.pop_all()

    def _column(self, name: str) -> I64:
        try:
            return np.array([getattr(line, name) for line in self._lines], np.int64)
        except OverflowError as error:
            path = self.folder / FRAMES
            raise SourceUnreadableError(f"{path} is damaged: {name} is out of range") from error

    @classmethod
    def open(cls, path: str | Path) -> "Review":
        """Open a recording by its folder, or the first one of a run by that of the run.

        Raises
        ------
        SourceNotFoundError
            If there is none.
        SourceUnreadableError
            If it is damaged, or holds not one whole frame.
        """
        folder = find_recording(Path(path))
        if folder is None:
            raise SourceNotFoundError(
                f"{path} holds no recording: {MANIFEST} and {FRAMES} are missing"
            )
        return cls(folder)

    def _readable(self) -> list[FrameLine]:
        """List the frames; where writing was cut off, the last of them lack their pictures."""
        lines = list(readable_lines(self.folder))
        while lines and self._parts.picture(lines[-1]) is None:
            lines.pop()
        if not lines:
            raise SourceUnreadableError(f"{self.folder} holds not one whole frame")
        return lines

    def result(self, position: int) -> FrameResult:
        """Give a frame with what was found in it.

        Parameters
        ----------
        position : int
            From 0 to :attr:`count` - 1.

        Returns
        -------
        FrameResult
            In the coordinates of the source's frame; what was not recorded of it is black. Its
            scan area is not settled, and not named, where whole frames were recorded and it is
            not certain where in this one the ultrasound lies: such a picture may name the patient.

        Raises
        ------
        ValueError
            If there is no such position, or the review is closed.
        SourceUnreadableError
            If this frame, or what was kept of it, is damaged.
        """
        if not 0 <= position < self.count:
            raise ValueError(f"position must be 0 to {self.count - 1}, got {position}")
        line = self._lines[position]
        with self._lock:
            if self._closed:
                raise ValueError("the review is closed")
            pixels = self._parts.picture(line)
            if pixels is None:
                path = self.folder / part_name(line.part)
                raise SourceUnreadableError(f"{path}: the picture of frame {line.index} is damaged")
            return self._with_tracks(line, _frame(line, pixels))

    def _with_tracks(self, line: FrameLine, frame: Frame) -> FrameResult:
        look, row = self._looks.at(line.index), self._objects.at(line.index)
        if row is None or row.get("capture_ns") != line.capture_ns:  # it is of another run
            tracks = self._table.tracks(line.index, line.capture_ns)
            result, row = FrameResult(frame, (), tracks, _NOTHING), {}
        else:
            result = FrameResult(frame, *self._objects.found(row))
        try:
            return _as_looked_at(result, self._certain_px(line), look or row)
        except DAMAGE as error:
            raise self._looks.damaged(line.index) from error

    def _certain_px(self, line: FrameLine) -> Region | None:
        """Say where the ultrasound certainly lies; None in doubt."""
        if not self._whole:  # nothing else was recorded
            return line.crop_px
        return None if self._sure is None else self._sure.region(line.index)

    def close(self) -> None:
        """Close the files. Safe to call twice, from any thread."""
        with self._lock:
            self._closed = True
            self._opened.close()


class _Parts(Closing):
    """The pictures of a recording in any order; of its parts, one is open at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._container: InputContainer | None = None

    def picture(self, line: FrameLine) -> U8 | None:
        """Give a frame's picture; None if it is not there, or not as it was written."""
        if line.part != self._number:
            self._open(line.part)
        packet = self._packet(line.pts_ms)
        # Of a slice whose own checksum is wrong, FFmpeg gives the picture before.
        if packet is None or crc32(bytes(packet)) != line.crc32:
            return None
        try:
            found = self._stream.codec_context.decode(packet)
        except (av.FFmpegError, ValueError):
            return None
        if not found or found[0].is_corrupt or found[0].format.name != "gray":
            return None
        pixels = np.ascontiguousarray(found[0].to_ndarray(), np.uint8)
        return pixels if pixels.shape == line.crop_px[:1:-1] else None

    def _open(self, number: int) -> None:
        self.close()
        path = self._folder / part_name(number)
        try:
            self._container = av.open(str(path), options={"max_pixels": str(MAX_PIXELS)})
            self._stream = self._container.streams.video[0]
            self._stream.thread_type = "SLICE"  # no picture waits for the next one
        except (av.FFmpegError, OSError, IndexError):  # cut off within its first bytes
            self.close()
        self._number = number  # what does not open is not tried again

    def _packet(self, pts_ms: int) -> "av.Packet[av.VideoStream] | None":
        """Look a frame up by its time in the file: each is a key frame."""
        if self._container is None:
            return None
        try:
            self._container.seek(pts_ms, stream=self._stream)
            for packet in self._container.demux(self._stream):
                if packet.pts is None or packet.pts >= pts_ms:
                    return packet if packet.pts == pts_ms else None
        except (av.FFmpegError, OSError, OverflowError):  # it ends before, or within the packet
            pass
        return None

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = None


def _frame(line: FrameLine, pixels: U8) -> Frame:
    """Put what was recorded back to where it lay, on black."""
    if not line.whole:
        x, y, width, height = line.crop_px
        part, pixels = pixels, np.zeros(line.shape_px, np.uint8)
        pixels[y : y + height, x : x + width] = part
    return Frame(
        pixels,
        line.index,
        line.capture_ns,
        line.arrival_ns,
        line.driver_sequence,
        line.spacing_mm,
        line.stamp,
        line.sender_ns,
    )


def _as_looked_at(
    result: FrameResult, area_px: Region | None, look: Mapping[str, Any]
) -> FrameResult:
    """Add how a frame was looked at; nothing may be known of it."""
    return replace(
        result,
        scan_area_px=area_px,
        scan_area_settled=area_px is not None,
        picture=PictureState(look.get("picture", PictureState.GOOD.value)),
        changes=tuple(map(str, look.get("changes", ()))),
        segmented=bool(look.get("segmented", True)),
    )
