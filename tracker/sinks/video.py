"""``overlay.mp4``: the annotated picture as H.264, with the frames' own times."""

import os
from collections import deque
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from veintrack.tracker.frame import U8, FrameResult
from veintrack.tracker.overlay import draw
from veintrack.tracker.overlay_trails import Trails

__all__ = ["VideoSink"]

_TIME_BASE = Fraction(1, 90_000)  # the usual clock of video containers
_HELD_S = 2.2  # what passes at most until a change of the layout is noticed: it is looked for each
_HELD_FRAMES = 2  # second, and must be seen twice, each time at the first frame that comes then


class VideoSink:
    """Draws the scan area of each result, with trails, legend and scale, and encodes it.

    What lies outside the scan area may name the patient, and is not recorded. Therefore nothing is
    written while the scan area is a first guess; and what is encoded is held back for as long as a
    change of the screen's layout needs to be noticed. Where one is, what is held is dropped: it
    was cut out where the ultrasound had been, and may show what has come to that place.

    While it is written the file is a row of fragments, readable up to the last one should the
    machine stop; closing turns it into an ordinary MP4. After a write that failed, closing only
    lets go of the file. The file is opened by the first write.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        self._file: _File | None = None
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._held: deque[av.Packet[VideoStream]] = deque()
        self._recent: deque[int] = deque(maxlen=1 + _HELD_FRAMES)  # times of the last frames
        self._first_ns = 0
        self._last_pts = self._dropped_pts = -1
        self._trails = Trails()
        self._failed = False

    def write(self, result: FrameResult) -> None:
        try:
            self._write(result)
        except BaseException:
            self._failed = True
            raise

    def _write(self, result: FrameResult) -> None:
        trails = self._trails.follow(result)
        if "layout changed" in result.changes:
            self._dropped_pts = self._last_pts  # what the encoder still keeps, too
            self._held.clear()
        if not result.scan_area_settled:
            return
        picture = draw(result, result.scan_area_px, trails=trails, legend=True)
        if self._stream is None:
            self._first_ns = result.time_ns
            self._stream = self._open_stream(picture)
        height, width = self._stream.height, self._stream.width
        if picture.shape[:2] != (height, width):  # odd sizes, or a source that changes its size
            picture = _onto(picture, height, width)
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        if self._last_pts == self._dropped_pts:  # nothing that is shown may rest on what was not
            frame.pict_type = PictureType.I
        since_s = Fraction(result.time_ns - self._first_ns, 1_000_000_000)
        self._last_pts = max(self._last_pts + 1, round(since_s / _TIME_BASE))
        frame.pts, frame.time_base = self._last_pts, _TIME_BASE
        self._hold(self._stream.encode(frame))
        self._recent.append(self._last_pts)
        self._release(self._recent[0] - round(_HELD_S / _TIME_BASE))

    def _hold(self, packets: "Iterable[av.Packet[VideoStream]]") -> None:
        self._held += (p for p in packets if p.pts is None or p.pts > self._dropped_pts)

    def _release(self, until_pts: float) -> None:
        """Write what is as old as that."""
        while self._container and self._held and (self._held[0].pts or 0) <= until_pts:
            self._container.mux(self._held.popleft())
            self._check()

    def _open_stream(self, picture: U8) -> VideoStream:
        self._file = _File(self._path)
        self._container = av.open(
            self._file, "w", format="mp4", options={"movflags": "hybrid_fragmented"}
        )
        stream: VideoStream = self._container.add_stream("libx264", rate=30)
        stream.height = picture.shape[0] + picture.shape[0] % 2
        stream.width = picture.shape[1] + picture.shape[1] % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TIME_BASE
        # No B-frames: they would delay the first picture and shift every time stamp.
        stream.options = {"crf": "20", "preset": "veryfast", "bf": "0"}
        return stream

    def _check(self) -> None:
        if self._file is not None and self._file.error is not None:
            raise self._file.error

    def close(self) -> None:
        try:
            if self._stream is not None and not self._failed:
                self._hold(self._stream.encode(None))
                self._release(float("inf"))
        finally:
            if self._container is not None:
                self._container.close()
            if self._file is not None:
                self._file.close()
        if not self._failed:
            self._check()


class _File:
    """A file for the library to write; what goes wrong is kept, not raised in the midst of it.

    One of its own would keep every other thread from running for as long as it waits to be opened:
    for a pipe that nobody reads, for ever. It ends the process where it writes on after a failure.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.seekable = self._file.seekable
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        return self._try(lambda: self._file.write(data), len(data))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._try(lambda: self._file.seek(offset, whence), 0)

    def tell(self) -> int:
        return self._try(self._file.tell, 0)

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error

    def _try(self, act: Callable[[], int], otherwise: int) -> int:
        """Do it, or pretend to once something failed."""
        if self.error is None:
            try:
                return act()
            except OSError as error:
                self.error = error
        return otherwise


def _onto(picture: U8, height: int, width: int) -> U8:
    """Lay a picture on a canvas of the video's size: shrunk if it must be, black elsewhere."""
    scale = min(1.0, height / picture.shape[0], width / picture.shape[1])
    h, w = (
        min(limit, round(n * scale))
        for limit, n in zip((height, width), picture.shape, strict=False)
    )
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[:h, :w] = (
        picture if scale == 1 else cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
    )
    return canvas
