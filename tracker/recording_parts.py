"""The files of a recording: raw frames in Matroska parts, and a line for each frame.

FFV1 (RFC 9043) keeps every grey level, each frame stands for itself, and each of its slices has a
checksum. FFmpeg begins a new cluster of Matroska (RFC 9559) at each such frame, so that a file that
was cut anywhere can be read up to its last whole frame.
"""

import json
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast
from zlib import crc32

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from veintrack.tracker.frame import U8, Frame, Region
from veintrack.tracker.recording_disk import DiskFile, sync_folder
from veintrack.tracker.recording_names import FRAMES, part_name

__all__ = ["ENCODER", "ENCODER_OPTIONS", "Counts", "Parts"]

ENCODER = "ffv1"
#: Golomb-Rice codes and the small context model: the larger ones save 3 to 7 % and take 1.7 times
#: as long (``benchmarks/recording.py``).
ENCODER_OPTIONS = {
    "level": "3",
    "coder": "0",
    "context": "0",
    "g": "1",
    "slices": "4",
    "slicecrc": "1",
}
_THREADS_FROM_PX = 500_000  # smaller pictures gain nothing by several threads
_RATE_HZ = 30  # for players that ask; every frame has its own time
_NS_PER_MS = 1_000_000
_TIME_BASE = Fraction(1, 1000)  # Matroska's own


@dataclass(frozen=True, slots=True)
class Counts:
    """What had been lost when a frame was written.

    Attributes
    ----------
    driver_drops : int
        Frames that the driver lost.
    lost : int
        Frames that came and could not be recorded, as writing was too slow.
    left_out : int
        Frames that were kept out, as what lies in the scan area was not known to be ultrasound.
    """

    driver_drops: int = 0
    lost: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class _Layout:
    """What holds for a row of frames: it is written when it changes."""

    shape_px: tuple[int, int]
    crop_px: Region
    spacing_mm: tuple[float, float] | None


class Parts:
    """Writes frames into parts, one after another, on one thread.

    Parameters
    ----------
    folder : Path
        Exists, and is empty but for the manifest.
    part_ns : int
        Length of a part, by the frames' times.
    part_bytes : int or None
        Size of a part.
    most_ns, most_bytes : int or None
        What is kept at most: the oldest parts are removed. The newest one always stays.

    Attributes
    ----------
    frames : int
        Frames in the parts that are kept.
    count : int
        Parts that are kept.
    removed : int
        Frames in parts that were removed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        part_ns: int,
        part_bytes: int | None = None,
        most_ns: int | None = None,
        most_bytes: int | None = None,
    ) -> None:
        self._folder, self._part_ns, self._part_bytes = folder, part_ns, part_bytes
        self._most_ns, self._most_bytes = most_ns, most_bytes
        self._lines = DiskFile(folder / FRAMES)
        self._part: _Part | None = None
        self._done: list[_Part] = []
        self._layout: _Layout | None = None
        self._number = self.removed = 0
        self._first_ns: int | None = None
        self._last_pts = -1

    @property
    def frames(self) -> int:
        return sum(part.frames for part in self._kept())

    @property
    def count(self) -> int:
        return len(self._kept())

    @property
    def size_bytes(self) -> int:
        """Bytes of the parts that are kept."""
        return sum(part.size_bytes for part in self._kept())

    def _kept(self) -> "list[_Part]":
        return [*self._done, self._part] if self._part else self._done

    def write(self, frame: Frame, crop_px: Region, counts: Counts) -> None:
        """Write the crop of a frame, then its line.

        Raises
        ------
        OSError
            If it cannot be written. Nothing more can be, then.
        """
        x, y, width, height = crop_px
        pixels = frame.pixels[y : y + height, x : x + width]
        shape = (frame.pixels.shape[0], frame.pixels.shape[1])
        layout = _Layout(shape, crop_px, frame.spacing_mm)
        part = self._part
        if part is None or part.shape != pixels.shape or self._is_full(part, frame.capture_ns):
            part = self._next_part(frame.capture_ns, pixels)
        pts_ms = self._pts_ms(frame.capture_ns)
        crc = part.write(pixels, pts_ms)
        line: dict[str, Any] = {
            "part": part.number,
            "pts_ms": pts_ms,
            "index": frame.index,
            "capture_ns": frame.capture_ns,
            "arrival_ns": frame.arrival_ns,
            "driver_sequence": frame.driver_sequence,
            "stamp": frame.stamp.value,
            "sender_ns": frame.sender_ns,
            "driver_drops": counts.driver_drops,
            "lost": counts.lost,
            "left_out": counts.left_out,
            "crc32": crc,
        }
        if layout != self._layout:
            self._layout = layout
            line |= {
                "shape_px": shape,
                "crop_px": crop_px,
                "spacing_mm": frame.spacing_mm,
            }
        self._lines.write(f"{json.dumps(line)}\n".encode())
        self._lines.check()

    def _pts_ms(self, capture_ns: int) -> int:
        """Give the time in the file: in ms since the first frame, which is all it holds."""
        if self._first_ns is None:
            self._first_ns = capture_ns
        since_ms = (capture_ns - self._first_ns + _NS_PER_MS // 2) // _NS_PER_MS
        self._last_pts = max(self._last_pts + 1, since_ms)
        return self._last_pts

    def _next_part(self, capture_ns: int, pixels: U8) -> "_Part":
        if self._part is not None:
            part, self._part = self._part, None
            self._done.append(part)
            part.close()
        self._make_room(capture_ns)
        self._number += 1
        self._layout = None  # each part can be read without those before it
        path = self._folder / part_name(self._number)
        self._part = _Part(path, self._number, pixels.shape, capture_ns)
        sync_folder(self._folder)
        return self._part

    def _is_full(self, part: "_Part", now_ns: int) -> bool:
        over = self._part_bytes is not None and part.size_bytes >= self._part_bytes
        return over or now_ns - part.begun_ns >= self._part_ns

    def _make_room(self, now_ns: int) -> None:
        """Remove the oldest parts, so that with another one no limit is passed."""
        while self._done and self._too_much(now_ns):
            oldest = self._done.pop(0)
            self.removed += oldest.frames
            oldest.path.unlink()

    def _too_much(self, now_ns: int) -> bool:
        will_last_ns = now_ns + self._part_ns - self._done[0].begun_ns
        if self._most_ns is not None and will_last_ns > self._most_ns:
            return True
        will_take = sum(part.size_bytes for part in self._done) + (self._part_bytes or 0)
        return self._most_bytes is not None and will_take > self._most_bytes

    def sync(self) -> None:
        """Have what was written put onto the disk. Any thread may call it; it may take long."""
        for file in (self._part and self._part.file, self._lines):
            if file:
                file.sync()

    def close(self) -> None:
        """Finish the files: all of them, whatever fails.

        Raises
        ------
        OSError
            If the end could not be written.
        """
        if self._part is not None:
            self._part.close()
        self._lines.close()
        for file in (self._part and self._part.file, self._lines):
            if file:
                file.check()


class _Part:
    """One Matroska file."""

    def __init__(
        self,
        path: Path,
        number: int,
        shape: tuple[int, ...],
        begun_ns: int,
    ) -> None:
        self.path, self.number, self.shape, self.begun_ns = path, number, shape, begun_ns
        self.file = DiskFile(path)
        self.frames = 0
        self._container: OutputContainer = av.open(
            self.file, "w", format="matroska", options={"fflags": "+flush_packets+bitexact"}
        )
        self._stream = cast("VideoStream", self._container.add_stream(ENCODER, rate=_RATE_HZ))
        self._stream.height, self._stream.width = shape
        self._stream.pix_fmt = "gray"
        context = self._stream.codec_context
        context.time_base = self._stream.time_base = _TIME_BASE
        context.thread_type = "SLICE"  # no frame waits for the next one
        large = shape[0] * shape[1] >= _THREADS_FROM_PX
        context.thread_count = min(4, os.cpu_count() or 1) if large else 1
        self._stream.options = {**ENCODER_OPTIONS}

    @property
    def size_bytes(self) -> int:
        return self.file.size_bytes

    def write(self, pixels: U8, pts_ms: int) -> int:
        """Encode a picture; returns the CRC-32 of what it became."""
        picture = av.VideoFrame.from_ndarray(pixels, format="gray")
        picture.pts, picture.time_base = pts_ms, self._stream.time_base
        crc = 0
        for packet in self._stream.encode(picture):
            crc = crc32(bytes(packet), crc)
            self._container.mux(packet)
        self.file.check()
        self.frames += 1
        return crc

    def close(self) -> None:
        self._container.close()  # it has every frame: the encoder holds none back
        del self._container, self._stream  # 8 MB of buffers, in every part that is kept
        self.file.close()
