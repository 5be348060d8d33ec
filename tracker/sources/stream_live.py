"""Frames of a live stream, decoded as they come."""

import threading
from collections import deque
from collections.abc import Iterator
from itertools import chain
from statistics import median
from time import monotonic_ns

import av

from veintrack.errors import SourceLostError, SourceStalledError, SourceUnreadableError
from veintrack.tracker.frame import Frame, Stamp
from veintrack.tracker.sources.base import SourceInfo
from veintrack.tracker.sources.decoder import Decoder
from veintrack.tracker.sources.senderclock import SenderClock
from veintrack.tracker.sources.video import describe, to_pixels

__all__ = ["READ_LIMIT_S", "LiveFrames"]

#: Seconds of silence after which a connection is given up, whoever is still interested.
READ_LIMIT_S = 2.0
_STALL_FRAMES, _STALL_S = 3, 0.5
_CATCH_UP_NS = 1_000_000_000  # for how long pictures that gathered during opening are expected
_WAITED_NS = 2_000_000  # a read this long had to wait: nothing had gathered
_WAITS = 3  # that many in a row prove it: one may be the scheduler's
_UNSTAMPED = ("mpjpeg", "mjpeg", "h264", "hevc", "m4v", "mpegvideo")  # FFmpeg counts 25 a second


class LiveFrames:
    """Frames of a live stream, as they come.

    Parameters
    ----------
    container : InputContainer
        Open.
    name : str
        What to call it.
    wanted : Event
        Set once somebody iterates. What comes before is decoded and forgotten, not counted.
    """

    def __init__(
        self, container: av.container.InputContainer, name: str, wanted: threading.Event
    ) -> None:
        if not container.streams.video:
            raise SourceUnreadableError(f"{name} sends no video")
        self._container, self._name, self._wanted = container, name, wanted
        self._stream = stream = container.streams.video[0]
        self._decoder = Decoder(stream, name, from_key=True)
        # One thread: with several, a frame is held back for each, and FFmpeg's H.264 decoder no
        # longer says which pictures are damaged (enable_er in libavcodec/h264_slice.c).
        context = stream.codec_context
        context.thread_count, context.thread_type = 1, "SLICE"
        context.flags |= av.codec.context.Flags.low_delay
        stamped = container.format.name not in _UNSTAMPED and stream.time_base is not None
        self._unit_ns = stream.time_base * 1_000_000_000 if stamped and stream.time_base else None
        self._clock = SenderClock()
        self._steps_ns: deque[int] = deque(maxlen=8)
        self._last_sender_ns: int | None = None
        self._last_arrival_ns = self._waited_ns = 0
        self._pictures = self._decode()
        self._first = first = self._catch_up()
        pixels = to_pixels(first[0])
        self._shape_px = pixels.shape
        rate = stream.average_rate
        self.info = SourceInfo(
            name=name,
            kind="stream",
            live=True,
            shape_px=(pixels.shape[0], pixels.shape[1]),
            rate_hz=float(rate) if rate else None,
            frame_count=None,
            spacing_mm=None,
            times_from="arrival: the stream has no stamps"
            if self._sender_ns(first[0]) is None
            else "the sender's stamps, put on the monotonic clock by the frames that came soonest",
            notes=describe(first[0]),
        )

    @property
    def left_out(self) -> int:
        """Pictures that were damaged, or built on a damaged one, since somebody iterates."""
        return self._decoder.left_out

    @property
    def patience_s(self) -> float:
        """How long a silence is a stall: 3 frame times, at least half a second."""
        if not self._steps_ns:
            return READ_LIMIT_S
        return max(_STALL_S, _STALL_FRAMES * median(self._steps_ns) * 1e-9)

    def __iter__(self) -> Iterator[Frame]:
        delivered = 0
        for picture, arrival_ns in chain([self._first], self._pictures):
            capture_ns, sender_ns = self._times(picture, arrival_ns)
            if not self._wanted.is_set():
                self._decoder.left_out = 0
                continue
            pixels = to_pixels(picture)
            if pixels.shape != self._shape_px:
                self._decoder.left_out += 1
                height, width = pixels.shape
                raise SourceLostError(f"{self._name} changed its picture to {width}x{height}")
            yield Frame(
                pixels,
                delivered + self.left_out,
                capture_ns,
                arrival_ns,
                stamp=Stamp.ARRIVAL if sender_ns is None else Stamp.SENDER,
                sender_ns=sender_ns,
            )
            delivered += 1

    def _catch_up(self) -> tuple[av.VideoFrame, int]:
        """Decode what gathered during opening, which is old, up to a picture that is new."""
        begun_ns, waits = monotonic_ns(), 0
        for picture, arrival_ns in self._pictures:
            waits = waits + 1 if self._waited_ns > _WAITED_NS else 0
            if waits == _WAITS or arrival_ns - begun_ns > _CATCH_UP_NS:
                break
            self._times(picture, arrival_ns)
        self._steps_ns.clear()
        self._decoder.left_out = 0
        return picture, arrival_ns

    def _decode(self) -> Iterator[tuple[av.VideoFrame, int]]:
        """Decode sound pictures, each with the time at which this process had it."""
        packets = self._container.demux(self._stream)
        while True:
            for picture in self._decoder.pictures(self._next_packet(packets)):
                yield picture, monotonic_ns()

    def _next_packet(
        self, packets: "Iterator[av.Packet[av.VideoStream]]"
    ) -> "av.Packet[av.VideoStream]":
        """Wait for a packet; raises SourceLostError where none will come."""
        begun_ns = monotonic_ns()
        lost: SourceLostError
        try:
            packet = next(packets)
        except StopIteration:
            lost = SourceLostError(f"{self._name}: the sender ended the stream")
        except av.ExitError:
            lost = SourceStalledError(f"{self._name}: nothing came for {READ_LIMIT_S:g} s")
        except av.FFmpegError as error:
            lost = SourceLostError(f"{self._name}: the connection failed ({error.strerror})")
        else:
            self._waited_ns = monotonic_ns() - begun_ns
            return packet
        raise lost  # not from FFmpeg's error, which holds the whole address

    def _sender_ns(self, picture: av.VideoFrame) -> int | None:
        if self._unit_ns is None or picture.pts is None:
            return None
        return round(picture.pts * self._unit_ns)

    def _times(self, picture: av.VideoFrame, arrival_ns: int) -> tuple[int, int | None]:
        """Give a picture's capture time and its sender's, and learn the frame time from them."""
        sender_ns, earlier_ns = self._sender_ns(picture), self._last_sender_ns
        step_ns = arrival_ns - self._last_arrival_ns
        if sender_ns is not None and earlier_ns is not None:
            step_ns = sender_ns - earlier_ns
        if step_ns > 0 and self._last_arrival_ns:
            self._steps_ns.append(step_ns)
        self._last_sender_ns, self._last_arrival_ns = sender_ns, arrival_ns
        return self._clock.capture_ns(sender_ns, arrival_ns), sender_ns
