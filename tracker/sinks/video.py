"""``overlay.mp4``: the annotated picture as H.264, with the frames' own times."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from veintrack.tracker.frame import U8, FrameResult
from veintrack.tracker.overlay import draw

__all__ = ["VideoSink"]

_TIME_BASE = Fraction(1, 90_000)  # the usual clock of video containers


class VideoSink:
    """Draws the scan area of each result and encodes it.

    While it is written the file is a row of fragments, readable up to the last one should the
    machine stop; closing turns it into an ordinary MP4. While a live source's scan area is a first
    guess, nothing is written.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._container = av.open(
            str(path), "w", format="mp4", options={"movflags": "hybrid_fragmented"}
        )
        self._stream: VideoStream | None = None
        self._first_ns = 0
        self._last_pts = -1

    def write(self, result: FrameResult) -> None:
        # What lies outside the scan area may name the patient: it is not recorded, and nothing is
        # before the area is known.
        if not result.scan_area_settled:
            return
        picture = draw(result, result.scan_area_px)
        if self._stream is None:
            self._first_ns = result.time_ns
            self._stream = self._open_stream(picture)
        height, width = self._stream.height, self._stream.width
        if picture.shape[:2] != (height, width):  # odd sizes, or a source that changes its size
            picture = _onto(picture, height, width)
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        since_s = Fraction(result.time_ns - self._first_ns, 1_000_000_000)
        self._last_pts = max(self._last_pts + 1, round(since_s / _TIME_BASE))
        frame.pts, frame.time_base = self._last_pts, _TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def _open_stream(self, picture: U8) -> VideoStream:
        stream: VideoStream = self._container.add_stream("libx264", rate=30)
        stream.height = picture.shape[0] + picture.shape[0] % 2
        stream.width = picture.shape[1] + picture.shape[1] % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TIME_BASE
        # No B-frames: they would delay the first picture and shift every time stamp.
        stream.options = {"crf": "20", "preset": "veryfast", "bf": "0"}
        return stream

    def close(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()


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
