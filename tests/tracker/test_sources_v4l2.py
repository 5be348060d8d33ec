"""The capture reader against a fake driver whose clock only moves when someone waits."""

import ctypes
import errno
import mmap
import select
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from veintrack.errors import SourceLostError, SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import Frame
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.v4l2 import V4l2Source, open_v4l2

MS = 1_000_000
MONOTONIC = abi.BUF_FLAG_TIMESTAMP_MONOTONIC
CAPTURE = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING


@dataclass
class Shot:
    """A picture that the fake driver delivers at its time."""

    sequence: int
    content: bytes
    flags: int
    at_ns: int


@dataclass
class FakeDriver:
    """A capture card of 8 x 4 pixels at 25 Hz that delivers the shots it was given."""

    formats: tuple[str, ...] = ("YUYV", "GREY")
    device_caps: int = CAPTURE
    period: tuple[int, int] = (1, 25)
    row_padding: int = 0
    quantization: int = abi.QUANTIZATION_FULL
    fail: dict[int, int] = field(default_factory=dict)  # request -> errno
    open_error: int = 0
    shots: deque[Shot] = field(default_factory=deque)
    on_empty: Callable[[], None] = lambda: None
    gone: bool = False
    stamp_offset_ns: int = -5 * MS  # the stamp is older than the arrival
    now_ns: int = 1_000_000_000

    def __post_init__(self) -> None:
        self.queued: deque[int] = deque()
        self.memories: list[mmap.mmap] = []
        self.streaming = self.is_open = False
        self.format = "RGB3"

    def add(self, sequence: int, content: bytes = bytes(range(32)), flags: int = MONOTONIC) -> None:
        """Deliver one more picture, a frame time after the one before."""
        last_ns = max([self.now_ns, *(shot.at_ns for shot in self.shots)])
        self.shots.append(Shot(sequence, content, flags, last_ns + 40 * MS))

    @property
    def size_bytes(self) -> int:
        return 4 * (8 * (1 if self.format in ("GREY", "NV12") else 2) + self.row_padding)

    def open(self, path: str) -> int:
        if self.open_error:
            raise OSError(self.open_error, "open")
        assert path == "/dev/video3"
        self.is_open = True
        return 7

    def close(self, fd: int) -> None:
        assert fd == 7
        assert self.is_open
        assert all(memory.closed for memory in self.memories)
        self.is_open = False

    def monotonic_ns(self) -> int:
        return self.now_ns

    def mmap(self, fd: int, length: int, offset: int) -> mmap.mmap:
        assert fd == 7
        assert offset == 4096 * len(self.memories)
        self.memories.append(mmap.mmap(-1, length))
        return self.memories[-1]

    def poll(self, fd: int, timeout_s: float) -> int:
        assert fd == 7
        assert self.is_open
        if self.gone:
            return select.POLLERR | select.POLLHUP
        if not self.shots:
            self.on_empty()
        end_ns = self.now_ns + round(timeout_s * 1e9)
        if self.shots and self.queued and self.shots[0].at_ns <= end_ns:
            self.now_ns = max(self.now_ns, self.shots[0].at_ns)
            return select.POLLIN
        self.now_ns = end_ns
        return 0

    def ioctl(self, fd: int, request: int, argument: "ctypes.Structure | ctypes.c_int") -> None:
        assert fd == 7
        assert self.is_open
        if self.gone:
            raise OSError(errno.ENODEV, "gone")
        if request in self.fail:
            raise OSError(self.fail[request], "told to")
        if isinstance(argument, abi.Capability):
            argument.card, argument.bus_info = b"Scan Converter", b"usb-1.2"
            argument.capabilities = abi.CAP_DEVICE_CAPS | CAPTURE | abi.CAP_META_CAPTURE
            argument.device_caps = self.device_caps
        elif isinstance(argument, abi.FormatDescription):
            if argument.index >= len(self.formats):
                raise OSError(errno.EINVAL, "end of the list")
            argument.pixelformat = abi.fourcc(self.formats[argument.index])
        elif isinstance(argument, abi.Format):
            self._format(argument, is_set=request == abi.VIDIOC_S_FMT)
        elif isinstance(argument, abi.StreamParameters):
            argument.capability = abi.CAP_TIMEPERFRAME
            argument.numerator, argument.denominator = self.period
        elif isinstance(argument, abi.Buffer):
            self._buffer(argument, request)
        elif request in (abi.VIDIOC_STREAMON, abi.VIDIOC_STREAMOFF):
            self.streaming = request == abi.VIDIOC_STREAMON

    def _format(self, form: abi.Format, is_set: bool) -> None:
        if is_set:
            assert (form.width, form.height) == (8, 4)  # the reader keeps the driver's size
            self.format = abi.fourcc_name(form.pixelformat)
        form.width, form.height = 8, 4
        form.quantization = self.quantization
        form.bytesperline, form.sizeimage = self.size_bytes // 4, self.size_bytes

    def _buffer(self, buffer: abi.Buffer, request: int) -> None:
        if request == abi.VIDIOC_QUERYBUF:
            buffer.length, buffer.offset = self.size_bytes + 64, 4096 * buffer.index
        elif request == abi.VIDIOC_QBUF:
            assert buffer.index not in self.queued
            self.queued.append(buffer.index)
        else:
            assert self.streaming
            shot, buffer.index = self.shots.popleft(), self.queued.popleft()
            self.memories[buffer.index][: len(shot.content)] = shot.content
            buffer.bytesused, buffer.flags, buffer.sequence = (
                len(shot.content),
                shot.flags,
                shot.sequence,
            )
            buffer.timestamp_s, rest = divmod(shot.at_ns + self.stamp_offset_ns, 1_000_000_000)
            buffer.timestamp_us = rest // 1000


def grey_card(sequences: list[int], first: int = 0) -> FakeDriver:
    """A card with one picture for opening, then the given ones."""
    card = FakeDriver(formats=("GREY",))
    card.add(first)
    for sequence in sequences:
        card.add(sequence)
    return card


def take(source: V4l2Source, count: int) -> list[Frame]:
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == count:
            break
    return frames


def test_frames_come_with_the_kernels_stamp_and_sequence() -> None:
    card = grey_card([1, 2, 3])
    with open_v4l2("3", kernel=card) as source:
        frames = take(source, 3)
        info = source.info
        assert source.identity == ("Scan Converter", "usb-1.2")
    assert [f.driver_sequence for f in frames] == [1, 2, 3]
    assert [f.index for f in frames] == [0, 1, 2]
    assert [f.capture_ns for f in frames] == [995 * MS + 40 * MS * n for n in (2, 3, 4)]
    assert [f.arrival_ns for f in frames] == [1000 * MS + 40 * MS * n for n in (2, 3, 4)]
    assert_array_equal(frames[0].pixels, np.arange(32).reshape(4, 8))
    assert all(f.pixels.flags.owndata for f in frames)
    assert (info.kind, info.live, info.shape_px, info.rate_hz) == ("v4l2", True, (4, 8), 25.0)
    assert info.times_from == "the kernel's stamps (monotonic clock)"
    assert info.notes == ("Scan Converter (usb-1.2)", "GREY pictures")
    assert not card.is_open


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("GREY", bytes(range(32))),
        ("NV12", bytes(range(32)) + bytes(16)),
        ("YUYV", bytes(b for n in range(32) for b in (n, 128))),
        ("UYVY", bytes(b for n in range(32) for b in (128, n))),
        ("Y16", bytes(b for n in range(32) for b in (0, n))),
    ],
)
@pytest.mark.parametrize("padding", [0, 6])
def test_each_format_becomes_grey(name: str, content: bytes, padding: int) -> None:
    row = len(content[:64]) // 4 if name != "NV12" else 8
    rows = [content[i : i + row] for i in range(0, 4 * row, row)]
    card = FakeDriver(formats=(name,), row_padding=padding)
    padded = b"".join(r + bytes(padding) for r in rows)
    for sequence in range(2):
        card.add(sequence, padded)
    with open_v4l2("/dev/video3", kernel=card) as source:
        (frame,) = take(source, 1)
    depth_shift = 3 if name == "Y16" else 0  # 31 << 8 needs 13 bits, so 14 are taken
    expected = np.arange(32).reshape(4, 8)
    if depth_shift:
        expected = expected * 256 >> 6
    assert_array_equal(frame.pixels, np.minimum(expected, 255))


def test_compressed_pictures_are_decoded() -> None:
    import cv2

    even = np.full((4, 8), 90, np.uint8)
    data = cv2.imencode(".jpg", even)[1].tobytes()
    card = FakeDriver(formats=("MJPG",), row_padding=500)
    card.add(0, data)
    card.add(1, b"no picture")
    card.add(2, data)
    with open_v4l2("3", kernel=card) as source:
        (frame,) = take(source, 1)
    assert np.abs(frame.pixels.astype(int) - 90).max() <= 2
    assert (frame.driver_sequence, source.damaged) == (2, 1)


def test_limited_range_is_expanded_and_said() -> None:
    card = FakeDriver(formats=("NV12",), quantization=0)
    for sequence in range(2):
        card.add(sequence, bytes([16] * 16 + [235] * 16) + bytes(16))
    with open_v4l2("3", kernel=card) as source:
        (frame,) = take(source, 1)
    assert (frame.pixels[0, 0], frame.pixels[3, 7]) == (0, 255)
    assert source.info.notes[1] == "NV12 pictures: luma taken, 16 to 235 expanded to 0 to 255"


def test_the_cheapest_readable_format_is_chosen() -> None:
    card = FakeDriver(formats=("RGB3", "MJPG", "YUYV", "GREY"))
    card.add(0)
    open_v4l2("3", kernel=card).close()
    assert card.format == "GREY"


def test_frames_that_the_driver_lost_are_counted_and_leave_a_gap() -> None:
    with open_v4l2("3", kernel=grey_card([1, 2, 5, 6])) as source:
        assert [f.index for f in take(source, 4)] == [0, 1, 4, 5]
        assert source.driver_drops == 2


def test_the_counter_may_overflow() -> None:
    card = FakeDriver(formats=("GREY",))
    for sequence in (2**32 - 2, 2**32 - 1, 1):
        card.add(sequence)
    with open_v4l2("3", kernel=card) as source:
        assert [f.index for f in take(source, 2)] == [0, 2]
        assert source.driver_drops == 1


def test_a_false_first_sequence_number_is_no_loss() -> None:
    with open_v4l2("3", kernel=grey_card([57, 58], first=0)) as source:
        card_frames = iter(source)
        assert [next(card_frames).index for _ in range(2)] == [0, 1]
        assert source.driver_drops == 0


def test_a_counter_that_does_not_count_or_restarts_loses_nothing() -> None:
    card = FakeDriver(formats=("GREY",))
    for sequence in (0, 7, 7, 0, 1):
        card.add(sequence)
    with open_v4l2("3", kernel=card) as source:
        assert [f.index for f in take(source, 4)] == [0, 1, 2, 3]
        assert source.driver_drops == 0


def test_damaged_frames_are_left_out_and_counted() -> None:
    card = grey_card([1])
    card.add(2, flags=MONOTONIC | abi.BUF_FLAG_ERROR)
    card.add(3, content=bytes(5))
    card.add(4)
    with open_v4l2("3", kernel=card) as source:
        assert [f.driver_sequence for f in take(source, 2)] == [1, 4]
        assert (source.driver_drops, source.damaged) == (2, 2)


def test_an_undeclared_clock_means_arrival_times() -> None:
    card = FakeDriver(formats=("GREY",))
    for sequence in range(3):
        card.add(sequence, flags=0)
    with open_v4l2("3", kernel=card) as source:
        frames = take(source, 2)
    assert [f.capture_ns for f in frames] == [f.arrival_ns for f in frames]
    assert source.info.times_from.startswith("arrival: the driver does not say which clock")


def test_times_always_grow() -> None:
    card = grey_card([1, 2])
    card.shots[2].at_ns = card.shots[1].at_ns
    with open_v4l2("3", kernel=card) as source:
        first, second = take(source, 2)
    assert second.capture_ns == first.capture_ns + 1


def test_a_stall_ends_the_source_after_half_a_second() -> None:
    card = grey_card([1])
    with open_v4l2("3", kernel=card) as source:
        frames = iter(source)
        next(frames)
        before_ns = card.now_ns
        with pytest.raises(SourceLostError, match=r"/dev/video3: no frame for 0\.5 s"):
            next(frames)
    assert card.now_ns - before_ns == pytest.approx(500 * MS, abs=100 * MS)
    assert not card.is_open


def test_a_slow_source_is_given_five_frame_times() -> None:
    card = FakeDriver(formats=("GREY",), period=(1, 2))
    card.add(0)
    with (
        open_v4l2("3", kernel=card) as source,
        pytest.raises(SourceLostError, match=r"no frame for 2\.5 s"),
    ):
        next(iter(source))


def test_unplugging_ends_the_source_at_once_and_closes_the_device() -> None:
    card = grey_card([1])
    with open_v4l2("3", kernel=card) as source:
        frames = iter(source)
        next(frames)
        card.gone = True
        before_ns = card.now_ns
        with pytest.raises(SourceLostError, match="/dev/video3: the device was unplugged"):
            next(frames)
        assert card.now_ns == before_ns
        assert not card.is_open


def test_a_failing_device_ends_the_source_instead_of_spinning() -> None:
    card = grey_card([1])
    with open_v4l2("3", kernel=card) as source:
        card.fail[abi.VIDIOC_DQBUF] = errno.EIO
        with pytest.raises(SourceLostError, match="the device failed"):
            next(iter(source))
    assert not card.is_open


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.EACCES, SourceUnreadableError, r"permission denied; run `sudo usermod -aG video"),
        (errno.EBUSY, SourceUnreadableError, "/dev/video3 is in use by another program"),
        (errno.ENOENT, SourceNotFoundError, "no such device: /dev/video3"),
        (errno.EISDIR, SourceUnreadableError, "/dev/video3 is not a video device"),
        (errno.EMFILE, SourceUnreadableError, "/dev/video3 cannot be read: Too many open files"),
    ],
)
def test_a_refused_opening_says_what_helps(code: int, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        open_v4l2("3", kernel=FakeDriver(open_error=code))


@pytest.mark.parametrize("request_", [abi.VIDIOC_S_FMT, abi.VIDIOC_REQBUFS, abi.VIDIOC_STREAMON])
def test_a_device_that_another_program_uses_is_closed_again(request_: int) -> None:
    card = FakeDriver(fail={request_: errno.EBUSY})
    with pytest.raises(SourceUnreadableError, match="is in use by another program"):
        open_v4l2("3", kernel=card)
    assert not card.is_open


@pytest.mark.parametrize("code", [errno.ENOTTY, errno.EINVAL])
def test_what_is_no_video_device_is_refused(code: int) -> None:
    card = FakeDriver(fail={abi.VIDIOC_QUERYCAP: code})
    with pytest.raises(SourceUnreadableError, match="/dev/video3 is not a video device"):
        open_v4l2("3", kernel=card)
    assert not card.is_open


@pytest.mark.parametrize(
    ("caps", "message"),
    [
        (abi.CAP_META_CAPTURE | abi.CAP_STREAMING, "carries metadata only; its pictures come from"),
        (abi.CAP_VIDEO_CAPTURE_MPLANE | abi.CAP_STREAMING, "multi-planar pictures, which are not"),
        (abi.CAP_STREAMING, "does not capture"),
        (abi.CAP_VIDEO_CAPTURE, "cannot stream into mapped buffers"),
    ],
)
def test_a_node_without_pictures_says_so(caps: int, message: str) -> None:
    with pytest.raises(SourceUnreadableError, match=rf"/dev/video3 \(Scan Converter\) .*{message}"):
        open_v4l2("3", kernel=FakeDriver(device_caps=caps))


def test_a_device_without_a_readable_format_lists_what_it_offers() -> None:
    with pytest.raises(SourceUnreadableError, match="offers H264, RGB3; readable are GREY, Y16"):
        open_v4l2("3", kernel=FakeDriver(formats=("H264", "RGB3")))


def test_a_device_that_delivers_nothing_is_not_opened() -> None:
    card = FakeDriver()
    with pytest.raises(SourceUnreadableError, match=r"no picture came within 5 s: is its input"):
        open_v4l2("3", kernel=card)
    assert not card.is_open


def test_another_rate_than_asked_for_is_said() -> None:
    card = grey_card([])
    with open_v4l2("3", fps=30.0, kernel=card) as source:
        assert source.info.notes[-1] == "30 frames a second asked for, the driver set 25"


def test_what_came_between_opening_and_reading_is_neither_given_nor_counted_as_lost() -> None:
    card = grey_card([1, 2, 3])
    with open_v4l2("3", kernel=card) as source:
        card.now_ns += 10_000 * MS  # the model takes its time to load; three buffers fill
        card.add(250)
        (frame,) = take(source, 1)
        assert (frame.driver_sequence, frame.index, source.driver_drops) == (250, 0, 0)


def test_closing_while_a_frame_is_awaited_ends_the_iteration() -> None:
    waiting = threading.Event()
    card = grey_card([1])
    source = open_v4l2("3", kernel=card)

    def close_then() -> None:
        waiting.wait(5)
        source.close()

    closer = threading.Thread(target=close_then)

    def someone_waits() -> None:
        card.now_ns -= 100 * MS  # time stands still, so that only close() can end it
        waiting.set()

    card.on_empty = someone_waits
    closer.start()
    assert len(list(source)) == 1
    closer.join(5)
    assert not card.is_open
    source.close()
