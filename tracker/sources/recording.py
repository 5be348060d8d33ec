"""A recording of veintrack as a source: its frames, with their exact times, where they lay."""

import logging
import threading
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from time import monotonic_ns
from typing import Any
from zlib import crc32

import av
import numpy as np
from av.container import InputContainer

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import U8, Frame, Region, Spacing
from veintrack.tracker.recording_lines import FrameLine, read_lines, read_manifest, readable_lines
from veintrack.tracker.recording_names import FRAMES, MANIFEST, find_recording, part_name
from veintrack.tracker.sources.base import OneShot, SourceInfo, unused_fps
from veintrack.tracker.sources.decoder import MAX_PIXELS, silence

__all__ = ["RecordingSource", "open_recording"]

_log = logging.getLogger(__name__)
_FAR_MS = 2000


def open_recording(path: str | Path, *, fps: float | None = None) -> "RecordingSource":
    """Open a recording; `path` is its folder, or that of the run. See :class:`RecordingSource`.

    Raises
    ------
    SourceNotFoundError
        If there is none.
    SourceUnreadableError
        If it is damaged, or holds not one whole frame.
    """
    folder = find_recording(Path(path))
    if folder is None:
        raise SourceNotFoundError(f"{path} holds no recording: {MANIFEST} and {FRAMES} are missing")
    return RecordingSource(folder, fps=fps)


class RecordingSource(OneShot):
    """Frames of a recording, in order.

    What was recorded of a frame lies where it lay in the source, on black. A recording that was cut
    off is read up to its last whole frame.

    Parameters
    ----------
    folder : Path
        That of the recording.
    only : collection of int, optional
        Indices of the frames to deliver; all by default.
    seek_s : float
        Where to begin, in seconds after the first frame.
    paced : bool
        Deliver each frame when it is due, by its capture time.
    spacing_mm : tuple of float, optional
        ``(row_mm, col_mm)``, millimetres per pixel, in place of what was recorded.
    fps : float, optional
        Not used: the recording has times of its own.

    Attributes
    ----------
    missing : list of int
        Indices of frames so far that have a line, and no whole picture.
    no_signal : str
        What a driver said was wrong with its input; set by whoever knows it.

    Raises
    ------
    SourceUnreadableError
        If it is damaged, or holds not one whole frame.
    """

    def __init__(
        self,
        folder: Path,
        *,
        only: Collection[int] | None = None,
        seek_s: float = 0.0,
        paced: bool = False,
        spacing_mm: Spacing | None = None,
        fps: float | None = None,
    ) -> None:
        self._folder, self._only, self._paced = folder, only, paced
        self._spacing_mm = spacing_mm
        self._closing = threading.Event()
        self.missing: list[int] = []
        self.no_signal = ""
        silence()
        manifest = read_manifest(folder)
        first, layouts = _survey(folder)
        self._from_ns = first.capture_ns + round(seek_s * 1e9)
        self._all = only is None and not seek_s
        self._pairs = self._read()
        pair = next(self._pairs, None)
        if pair is None:
            raise SourceUnreadableError(
                f"{folder} holds not one whole frame" + (f" from {seek_s:g} s on" if seek_s else "")
            )
        self._first: tuple[FrameLine, U8] | None = pair
        self._info = self._describe(manifest, pair[0], layouts, unused_fps(fps))

    def _describe(
        self,
        manifest: Mapping[str, Any],
        line: FrameLine,
        layouts: "set[tuple[tuple[int, int], Region]]",
        notes: Iterable[str],
    ) -> SourceInfo:
        recorded = manifest["source"]
        known = recorded.get("scan_area_px") if line.whole else line.crop_px
        x, y, width, height = line.crop_px
        crop = "" if line.whole else f", of which {width}x{height} px at ({x}, {y}) were recorded"
        count = manifest.get("recorded", {}).get("frames")
        return SourceInfo(
            name=str(self._folder),
            kind="recording",
            live=False,
            shape_px=line.shape_px,
            rate_hz=recorded.get("rate_hz"),
            frame_count=count if self._all else None,
            spacing_mm=self._spacing_mm or line.spacing_mm,
            times_from=f"the recording: {recorded.get('times_from', 'not said')}",
            notes=(f"recorded from {recorded.get('name', 'a source')}{crop}", *notes),
            scan_area_px=None if known is None or len(layouts) > 1 else tuple(known),
        )

    @property
    def info(self) -> SourceInfo:
        """What is known of the recording."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        start_ns: int | None = None
        pair, self._first = self._first, None
        while pair is not None:
            line, pixels = pair
            arrival_ns = monotonic_ns()
            if self._paced:
                start_ns = arrival_ns - line.capture_ns if start_ns is None else start_ns
                arrival_ns = start_ns + line.capture_ns
                self._closing.wait(max(0, arrival_ns - monotonic_ns()) * 1e-9)
            if self._closing.is_set():
                return
            yield Frame(
                _laid_out(pixels, line),
                line.index,
                line.capture_ns,
                arrival_ns,
                line.driver_sequence,
                self._spacing_mm or line.spacing_mm,
                line.stamp,
                line.sender_ns,
            )
            pair = next(self._pairs, None)
        if self.missing:
            count = len(self.missing)
            said = "1 frame of it is" if count == 1 else f"{count} frames of it are"
            _log.warning("%s: %s not whole, or not there", self._folder, said)

    def _read(self) -> Generator[tuple[FrameLine, U8], None, None]:
        for part, lines in groupby(readable_lines(self._folder), key=lambda line: line.part):
            yield from self._read_part(self._folder / part_name(part), lines)

    def _read_part(self, path: Path, lines: Iterator[FrameLine]) -> Iterator[tuple[FrameLine, U8]]:
        """Pair pictures with lines by their times: either may lack some where it was cut off."""
        with _Pictures(path) as pictures:
            for line in lines:
                if not self._wants(line):
                    continue
                pixels = pictures.at(line)
                if pixels is None or pixels.shape != line.crop_px[:1:-1]:
                    self.missing.append(line.index)
                    continue
                yield line, pixels

    def _wants(self, line: FrameLine) -> bool:
        wanted = self._only is None or line.index in self._only
        return wanted and line.capture_ns >= self._from_ns

    def close(self) -> None:
        """End the iteration before its next frame. Safe to call twice, from any thread."""
        self._closing.set()
        with suppress(ValueError):  # it is being read: it ends by itself
            self._pairs.close()


class _Pictures(Closing):
    """The pictures of one part, in order of their times."""

    def __init__(self, path: Path) -> None:
        self._container: InputContainer | None = None
        self._packets: Iterator[av.Packet[av.VideoStream]] = iter(())
        self._next: av.Packet[av.VideoStream] | None = None
        try:
            self._container = av.open(str(path), options={"max_pixels": str(MAX_PIXELS)})
            self._stream = self._container.streams.video[0]
            self._stream.thread_type = "SLICE"  # no picture waits for the next one
            self._context = self._stream.codec_context
            self._packets = self._container.demux(self._stream)
        except (av.FFmpegError, OSError, IndexError):  # cut off within its first bytes
            return
        self._next = self._take()

    def at(self, line: FrameLine) -> U8 | None:
        """Give a frame's picture; None if it is not there, or not as it was written."""
        self._go_to(line.pts_ms)
        packet = self._next
        if packet is None or (packet.pts or 0) != line.pts_ms:
            return None
        self._next = self._take()
        # Of a slice whose own checksum is wrong, FFmpeg gives the picture before.
        return self._decode(packet) if crc32(bytes(packet)) == line.crc32 else None

    def _go_to(self, pts_ms: int) -> None:
        """Take packets up to a time; what is far away is looked up, if the file has an index."""
        if self._container and self._next and (self._next.pts or 0) < pts_ms - _FAR_MS:
            with suppress(av.FFmpegError):
                self._container.seek(pts_ms, stream=self._stream)
                self._packets = self._container.demux(self._stream)
                self._next = self._take()
        while self._next is not None and (self._next.pts or 0) < pts_ms:
            self._next = self._take()

    def _take(self) -> "av.Packet[av.VideoStream] | None":
        try:
            packet = next(self._packets, None)
        except av.FFmpegError:  # it ends within a packet
            return None
        return packet if packet is not None and packet.size else None

    def _decode(self, packet: "av.Packet[av.VideoStream]") -> U8 | None:
        try:
            found = self._context.decode(packet)
        except (av.FFmpegError, ValueError):
            return None
        if not found or found[0].is_corrupt or found[0].format.name != "gray":
            return None
        return np.ascontiguousarray(found[0].to_ndarray(), np.uint8)

    def close(self) -> None:
        self._next = None
        if self._container is not None:
            self._container.close()


def _survey(folder: Path) -> tuple[FrameLine, set[tuple[tuple[int, int], Region]]]:
    """Give the first line, and every place that frames were recorded from."""
    first = next(readable_lines(folder), None)
    if first is None:
        raise SourceUnreadableError(f"{folder} holds not one whole frame")
    layouts = {(line.shape_px, line.crop_px) for line in read_lines(folder, changes_only=True)}
    return first, layouts


def _laid_out(pixels: U8, line: FrameLine) -> U8:
    """Put what was recorded back to where it lay, on black."""
    if line.whole:
        return pixels
    x, y, width, height = line.crop_px
    frame = np.zeros(line.shape_px, np.uint8)
    frame[y : y + height, x : x + width] = pixels
    return frame
