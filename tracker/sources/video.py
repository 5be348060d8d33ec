"""Video files, every frame in order, with the file's own times."""

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from time import monotonic_ns
from typing import cast

import av
import cv2
import numpy as np

from veintrack.errors import SourceLostError, SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import U8, Frame
from veintrack.tracker.sources.base import OneShot, SourceInfo, unused_fps
from veintrack.tracker.sources.decoder import MAX_PIXELS, SIZE_LIMIT, Decoder, silence
from veintrack.tracker.sources.grey import FULL_RANGE
from veintrack.tracker.sources.inuse import InUse

__all__ = ["StampClock", "VideoSource", "describe", "open_video", "to_pixels"]

_log = logging.getLogger(__name__)
_FALLBACK_RATE_HZ = 30
_LIMITED, _FULL = 1, 2  # AVColorRange in libavutil/pixfmt.h


def open_video(path: str | Path, *, fps: float | None = None) -> "VideoSource":
    """Open a video file; see :class:`VideoSource`.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    SourceUnreadableError
        If it is no video file, holds no video, or not one frame of it can be decoded.
    """
    if not Path(path).is_file():
        raise SourceNotFoundError(f"no such file: {path}")
    silence()
    # "file:" and the white list keep a name or a playlist from reaching the network.
    options = {"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
    try:
        container = av.open(f"file:{path}", options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceUnreadableError(f"{path} is not a video file that can be read") from error
    return VideoSource(container, str(path), fps)


class StampClock:
    """Turns a file's stamps into nanoseconds since its first frame, strictly increasing.

    Parameters
    ----------
    time_base : Fraction
        Seconds per unit of the stamps.
    period_ns : int
        Nominal time between frames, for frames without a stamp.
    """

    def __init__(self, time_base: Fraction, period_ns: int) -> None:
        self._unit_ns = time_base * 1_000_000_000
        self._period_ns = period_ns
        self._zero_ns: int | None = None
        self._last_ns: int | None = None
        self.missing = 0
        self.disordered = 0

    def stamp_ns(self, stamp: int | None) -> int:
        """Give the time of the next frame, from its stamp or, without one, from the period."""
        expected_ns = 0 if self._last_ns is None else self._last_ns + self._period_ns
        if stamp is None:
            self.missing += 1
            now_ns = expected_ns
        else:
            file_ns = round(stamp * self._unit_ns)
            if self._zero_ns is None:
                self._zero_ns = file_ns - expected_ns
            now_ns = file_ns - self._zero_ns
        if self._last_ns is not None and now_ns <= self._last_ns:
            self.disordered += 1
            now_ns = self._last_ns + 1
        self._last_ns = now_ns
        return now_ns


class VideoSource(OneShot):
    """Frames of a video file, as FFmpeg's libraries decode them.

    Luma is taken as it is stored and expanded to 0 to 255 where the file keeps it at 16 to 235.
    What a damaged or truncated file still holds is delivered before the error.

    Parameters
    ----------
    container : InputContainer
        The file, open; this object closes it.
    name : str
        What to call it.
    fps : float, optional
        Frames per second, used only for frames that have no stamp.

    Raises
    ------
    SourceUnreadableError
        If it holds no video, or not one frame of it can be decoded.
    """

    def __init__(
        self, container: av.container.InputContainer, name: str, fps: float | None = None
    ) -> None:
        self._container, self._name = container, name
        # So that close() cannot pull the file away under the decoder.
        self._in_use = InUse(self._container.close)
        self._read = 0
        self._last_stamp: int | None = None
        try:
            self._open(fps)
        except BaseException:
            self._container.close()
            raise

    def _open(self, fps: float | None) -> None:
        if not self._container.streams.video:
            raise SourceUnreadableError(f"{self._name} holds no video")
        stream = self._stream = self._container.streams.video[0]
        self._decoder = Decoder(stream, self._name)
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.guessed_rate or Fraction(_FALLBACK_RATE_HZ)
        if fps is not None:
            rate = Fraction(fps) if not stream.average_rate else rate
        self._rate = rate
        # AVI stores no presentation times; what FFmpeg derives is out of order with B-frames.
        self._by_dts = self._container.format.name == "avi"
        self._clock = StampClock(stream.time_base or 1 / rate, round(10**9 / rate))
        self._pictures = self._decode()
        first = next(self._pictures, None)
        if first is None:
            # FFmpeg forgets a declared size that is above the limit.
            hint = "" if stream.codec_context.width else f"; {SIZE_LIMIT}"
            raise SourceUnreadableError(f"{self._name}: not one frame of it can be decoded{hint}")
        self._first: av.VideoFrame | None = first
        pixels = to_pixels(first)
        stamped = self._stamp(first) is not None
        self._info = SourceInfo(
            name=self._name,
            kind="video",
            live=False,
            shape_px=(pixels.shape[0], pixels.shape[1]),
            rate_hz=float(rate),
            frame_count=self._declared_count(),
            spacing_mm=None,
            times_from="the file's own stamps, from its first frame"
            if stamped
            else f"no stamps in the file: {float(rate):g} frames a second assumed",
            notes=(*describe(first), *(unused_fps(fps) if stamped else ())),
        )

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
            index, self._read = self._read, self._read + 1
            stamp = self._stamp(picture)
            if stamp is not None:
                self._last_stamp = stamp
            capture_ns = self._clock.stamp_ns(stamp)
            if self._clock.disordered == 1:
                self._clock.disordered += 1  # say it once
                _log.warning("%s: frame %d is no later than the one before", self._name, index)
            return Frame(to_pixels(picture), index, capture_ns, monotonic_ns())

    def _stamp(self, picture: av.VideoFrame) -> int | None:
        return picture.dts if self._by_dts else picture.pts

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Decode whatever can be decoded."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:  # the file ends inside what its index promises
                self._decoder.left_out += 1
                packet = None
            yield from self._decoder.pictures(packet)
            if packet is None:
                return

    def _declared_count(self) -> int | None:
        """Frames that the container declares, where its duration says the same.

        It does not where an edit list hides some of them.
        """
        stream = self._stream
        if not stream.frames or stream.duration is None or stream.time_base is None:
            return None
        by_time = stream.duration * stream.time_base * self._rate
        return stream.frames if abs(by_time - stream.frames) <= 1.5 else None

    def _missing_s(self) -> Fraction:
        """Seconds between the end of the last frame and the end that the container declares."""
        stream, unit = self._stream, self._stream.time_base
        if unit is None or self._last_stamp is None:
            return Fraction(0)
        start = stream.start_time or 0
        if stream.duration is not None:
            length_s = stream.duration * unit
        elif self._container.duration is not None and len(self._container.streams) == 1:
            start = 0  # Matroska's duration counts from there, whenever its first frame comes
            length_s = Fraction(self._container.duration, av.time_base)
        else:
            return Fraction(0)
        return length_s - (self._last_stamp - start) * unit - 1 / self._rate

    def _check_complete(self) -> None:
        """Raise if the file promised more than it gave."""
        count = self._declared_count()
        slack_s = 2 / self._rate + Fraction(1, 2)  # a declared duration is only roughly true
        if count is None:
            short = self._missing_s() > slack_s
        else:
            short = self._read < count and self._missing_s() > Fraction(1, 2) / self._rate
        if not short and not self._decoder.left_out:
            return
        read = f"{self._read} of {count} frames" if count is not None else f"{self._read} frames"
        raise SourceLostError(f"{self._name} is damaged or cut short: {read} could be read")

    def close(self) -> None:
        """Close the file, as soon as the frame that is being decoded is done."""
        self._in_use.close()


def _has_luma_plane(picture: av.VideoFrame) -> bool:
    """Tell whether the first plane holds the luma, one byte a pixel."""
    pixel = picture.format
    return (
        pixel.name.startswith(("yuv", "nv", "gray"))
        and (pixel.is_planar or pixel.name == "gray")
        and pixel.components[0].bits == 8
        and picture.planes[0].line_size >= picture.width
    )


def _is_limited(picture: av.VideoFrame) -> bool:
    """Tell whether luma lies at 16 to 235; undeclared YUV does, by the convention of FFmpeg."""
    if picture.color_range == _FULL or picture.format.name.startswith("yuvj"):
        return False
    return picture.color_range == _LIMITED or picture.format.name != "gray"


def to_pixels(picture: av.VideoFrame) -> U8:
    """Take the grey levels of a decoded picture, upright, in memory of their own."""
    by_plane = _has_luma_plane(picture)
    try:
        plane = (picture if by_plane else picture.reformat(format="gray")).planes[0]
    except (av.FFmpegError, ValueError) as error:
        raise SourceUnreadableError(
            f"{picture.format.name} pictures cannot be made grey"
        ) from error
    raw = np.frombuffer(cast("memoryview[int]", plane), np.uint8, plane.line_size * plane.height)
    luma: U8 = raw.reshape(plane.height, plane.line_size)[:, : plane.width]
    limited = by_plane and _is_limited(picture)
    if limited:
        luma = cv2.LUT(luma, FULL_RANGE)  # type: ignore[assignment]
    turns = round(picture.rotation / 90) % 4
    if turns or not limited:  # still a view of FFmpeg's memory, or turned in stride only
        luma = np.rot90(luma, turns).copy()
    return luma


def describe(picture: av.VideoFrame) -> tuple[str, ...]:
    """Say in words what :func:`to_pixels` does to pictures like this one."""
    name, notes = picture.format.name, []
    if not _has_luma_plane(picture):
        notes.append(f"{name} pictures: luma computed by FFmpeg")
    elif _is_limited(picture):
        declared = "" if picture.color_range == _LIMITED else " (range not declared)"
        notes.append(f"{name} pictures: luma of 16 to 235{declared} expanded to 0 to 255")
    elif name != "gray":
        notes.append(f"{name} pictures: luma taken")
    if turns := round(picture.rotation / 90) % 4:
        notes.append(f"turned by {turns * 90} degrees anticlockwise, as the file asks")
    return tuple(notes)
