"""A fake driver whose clock only moves when someone waits, and a machine with several of them."""

import ctypes
import errno
import mmap
import select
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import singledispatchmethod
from typing import TypeVar

from veintrack.tracker.frame import Frame
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.v4l2 import V4l2Source
from veintrack.tracker.sources.v4l2_modes import Mode

T = TypeVar("T")

MS = 1_000_000
MONOTONIC = abi.BUF_FLAG_TIMESTAMP_MONOTONIC
START = MONOTONIC | abi.BUF_FLAG_STAMP_SOURCE_START
CAPTURE = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING


@dataclass
class Shot:
    """A picture that the fake driver delivers at its time."""

    sequence: int
    content: bytes
    flags: int
    at_ns: int


@dataclass
class Clock:
    now_ns: int = 1_000_000_000


@dataclass
class FakeCard:
    """A capture card of 8 x 4 pixels at 25 Hz that delivers the shots it was given."""

    formats: tuple[str, ...] = ("YUYV", "GREY")
    modes: tuple[Mode, ...] = ()  # what it enumerates; else only its formats
    size_px: tuple[int, int] = (8, 4)
    card: str = "Scan Converter"
    bus: str = "usb-1.2"
    device_caps: int = CAPTURE
    period: tuple[int, int] = (1, 25)
    rates: bool = False  # whether another rate can be set
    row_padding: int = 0
    quantization: int = abi.QUANTIZATION_FULL
    fail: dict[int, int] = field(default_factory=dict)  # request -> errno
    open_error: int = 0
    shots: deque[Shot] = field(default_factory=deque)
    on_empty: Callable[[], None] = lambda: None
    gone: bool = False
    stamp_offset_ns: int = -5 * MS  # the stamp is older than the arrival
    signal_px: tuple[int, int] | None = None  # what a digital input gets; None: it has none
    signal_error: int = 0  # of the question for it
    input_status: int = 0
    has_events: bool = False
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.queued: deque[int] = deque()
        self.memories: list[mmap.mmap] = []
        self.streaming = self.is_open = False
        self.opened = 0
        self.format = "RGB3"
        self.events = 0
        self.set_for_px = self.signal_px
        self.requests: list[int] = []

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns

    @now_ns.setter
    def now_ns(self, value: int) -> None:
        self.clock.now_ns = value

    def add(
        self,
        sequence: int,
        content: bytes = bytes(range(32)),
        flags: int = MONOTONIC,
        after_ms: int = 40,
    ) -> None:
        """Deliver one more picture, a frame time after the one before."""
        last_ns = max([self.now_ns, *(shot.at_ns for shot in self.shots)])
        self.shots.append(Shot(sequence, content, flags, last_ns + after_ms * MS))

    @property
    def size_bytes(self) -> int:
        width, height = self.size_px
        return height * (width * (1 if self.format in ("GREY", "NV12") else 2) + self.row_padding)

    def open(self) -> None:
        if self.open_error or self.gone:
            raise OSError(self.open_error or errno.ENODEV, "open")
        self.is_open = True
        self.opened += 1
        self.streaming = False
        self.queued.clear()
        self.memories = []

    def close(self) -> None:
        assert self.is_open
        assert all(memory.closed for memory in self.memories)
        self.is_open = False

    def mmap(self, length: int, offset: int) -> mmap.mmap:
        assert offset == 4096 * len(self.memories)
        self.memories.append(mmap.mmap(-1, length))
        return self.memories[-1]

    def poll(self, timeout_s: float, events: bool) -> int:
        assert self.is_open
        if self.gone:
            return select.POLLERR | select.POLLHUP | select.POLLPRI
        if events and self.events:
            return select.POLLPRI
        if not self.shots:
            self.on_empty()
        end_ns = self.now_ns + round(timeout_s * 1e9)
        if self.shots and self.queued and self.shots[0].at_ns <= end_ns:
            self.now_ns = max(self.now_ns, self.shots[0].at_ns)
            return select.POLLIN
        self.now_ns = end_ns
        return 0

    def ioctl(self, request: int, argument: "ctypes.Structure | ctypes.c_int") -> None:
        assert self.is_open
        self.requests.append(request)
        if self.gone:
            raise OSError(errno.ENODEV, "gone")
        if request in self.fail:
            raise OSError(self.fail[request], "told to")
        if request in (abi.VIDIOC_STREAMON, abi.VIDIOC_STREAMOFF):
            self.streaming = request == abi.VIDIOC_STREAMON
        elif isinstance(argument, ctypes.Structure):
            self._answer(argument, request)

    @singledispatchmethod
    def _answer(self, _: ctypes.Structure, request: int) -> None:
        raise AssertionError(f"{request:#x} is not known")

    @_answer.register
    def _answer_describe(self, caps: abi.Capability, _: int) -> None:
        caps.card, caps.bus_info, caps.driver = self.card.encode(), self.bus.encode(), b"fake"
        caps.capabilities = abi.CAP_DEVICE_CAPS | CAPTURE | abi.CAP_META_CAPTURE
        caps.device_caps = self.device_caps

    @_answer.register
    def _answer_name_format(self, entry: abi.FormatDescription, _: int) -> None:
        names = list(dict.fromkeys(mode.fourcc for mode in self.modes)) or list(self.formats)
        entry.pixelformat = abi.fourcc(_entry(names, entry.index))

    @_answer.register
    def _answer_rate(self, parameters: abi.StreamParameters, request: int) -> None:
        if request == abi.VIDIOC_S_PARM and self.rates:
            self.period = (parameters.numerator, parameters.denominator)
        parameters.capability = abi.CAP_TIMEPERFRAME
        parameters.numerator, parameters.denominator = self.period

    @_answer.register
    def _answer_buffers(self, request: abi.RequestBuffers, _: int) -> None:
        assert request.count >= 2

    @_answer.register
    def _answer_input(self, entry: abi.Input, _: int) -> None:
        entry.status = self.input_status

    @_answer.register
    def _answer_subscribe(self, _: abi.EventSubscription, __: int) -> None:
        if not self.has_events:
            raise OSError(errno.ENOTTY, "no events")

    @_answer.register
    def _answer_event(self, event: abi.Event, _: int) -> None:
        self.events -= 1
        event.type, event.pending = abi.EVENT_SOURCE_CHANGE, self.events

    @_answer.register
    def _answer_frame_size(self, entry: abi.FrameSize, _: int) -> None:
        name = abi.fourcc_name(entry.pixelformat)
        sizes = [(m.width_px, m.height_px) for m in self.modes if m.fourcc == name]
        size_px = _entry(list(dict.fromkeys(sizes)), entry.index)
        entry.type = abi.SIZE_DISCRETE
        entry.discrete.width, entry.discrete.height = size_px

    @_answer.register
    def _answer_interval(self, entry: abi.FrameInterval, _: int) -> None:
        asked = (abi.fourcc_name(entry.pixelformat), entry.width, entry.height)
        fits = (m for m in self.modes if (m.fourcc, m.width_px, m.height_px) == asked)
        rate_hz = _entry([m.rate_hz for m in fits if m.rate_hz], entry.index)
        entry.type = abi.INTERVAL_DISCRETE
        entry.discrete.numerator, entry.discrete.denominator = 1000, round(1000 * rate_hz)

    @_answer.register
    def _answer_picture(self, form: abi.Format, request: int) -> None:
        if request == abi.VIDIOC_S_FMT:
            self.format = abi.fourcc_name(form.pixelformat)
            if self.modes:
                self.size_px = form.width, form.height
        form.pixelformat = abi.fourcc(self.format)
        form.width, form.height = self.size_px
        form.quantization = self.quantization
        form.bytesperline = self.size_bytes // form.height
        form.sizeimage = self.size_bytes

    @_answer.register
    def _answer_timings(self, timings: abi.DvTimings, request: int) -> None:
        if self.signal_px is None:
            raise OSError(errno.ENODATA, "no digital input")
        if request == abi.VIDIOC_S_DV_TIMINGS:
            self.set_for_px = timings.width, timings.height
        elif request == abi.VIDIOC_QUERY_DV_TIMINGS:
            if self.signal_error:
                raise OSError(self.signal_error, "no signal")
            timings.width, timings.height = self.signal_px
        else:
            timings.width, timings.height = self.set_for_px or (0, 0)

    @_answer.register
    def _answer_buffer(self, buffer: abi.Buffer, request: int) -> None:
        if request == abi.VIDIOC_QUERYBUF:
            buffer.length, buffer.offset = 2 * self.size_bytes + 64, 4096 * buffer.index
        elif request == abi.VIDIOC_QBUF:
            assert buffer.index not in self.queued
            self.queued.append(buffer.index)
        else:
            assert self.streaming
            shot, buffer.index = self.shots.popleft(), self.queued.popleft()
            self.memories[buffer.index][: len(shot.content)] = shot.content
            buffer.bytesused, buffer.flags = len(shot.content), shot.flags
            buffer.sequence = shot.sequence
            buffer.timestamp_s, rest = divmod(shot.at_ns + self.stamp_offset_ns, 1_000_000_000)
            buffer.timestamp_us = rest // 1000


def _entry(entries: list[T], index: int) -> T:
    """Answer as a driver does that is asked for one entry of a list after the other."""
    if index >= len(entries):
        raise OSError(errno.EINVAL, "end of the list")
    return entries[index]


class FakeKernel:
    """A machine with one card, or with several.

    Cards are given by their path, and links and files of sysfs as they would be found there.
    """

    def __init__(
        self,
        cards: FakeCard | dict[str, FakeCard],
        links: dict[str, str] | None = None,
        files: dict[str, str] | None = None,
    ) -> None:
        self.cards = {"/dev/video3": cards} if isinstance(cards, FakeCard) else cards
        self.links, self.files = links or {}, files or {}
        self.clock = next(iter(self.cards.values())).clock if self.cards else Clock()
        self._open: dict[int, FakeCard] = {}

    def open(self, path: str) -> int:
        card = self.cards.get(self.resolve(path))
        if card is None:
            raise OSError(errno.ENOENT, "open")
        card.clock = self.clock
        card.open()
        fd = 7 + len(self._open)
        self._open[fd] = card
        return fd

    def close(self, fd: int) -> None:
        self._open[fd].close()

    def ioctl(self, fd: int, request: int, argument: "ctypes.Structure | ctypes.c_int") -> None:
        self._open[fd].ioctl(request, argument)

    def mmap(self, fd: int, length: int, offset: int) -> mmap.mmap:
        return self._open[fd].mmap(length, offset)

    def poll(self, fd: int, timeout_s: float, *, events: bool = False) -> int:
        return self._open[fd].poll(timeout_s, events)

    def monotonic_ns(self) -> int:
        return self.clock.now_ns

    def find(self, pattern: str) -> list[str]:
        there = [*self.cards, *self.links]
        there += [f"/sys/class/video4linux/{path.rpartition('/')[2]}" for path in self.cards]
        return [path for path in there if fnmatch(path, pattern)]

    def resolve(self, path: str) -> str:
        return self.links.get(path, path)

    def read_text(self, path: str) -> str:
        return self.files.get(path, "")


def grey_card(sequences: list[int], first: int = 0) -> FakeCard:
    """A card with one picture for opening, then the given ones."""
    card = FakeCard(formats=("GREY",))
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


def waits() -> bool:
    """Tell whoever reopens a source whether to give up: somebody still waits."""
    return False
