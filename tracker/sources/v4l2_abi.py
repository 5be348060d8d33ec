"""The part of Linux's video interface that a capture needs: numbers, structures, system calls.

From the kernel's user-space API documentation, "Video for Linux API", and ``videodev2.h`` of
Linux 6.x. The layouts are those of 64-bit little-endian machines (x86_64, aarch64), where C's
``long`` has 8 bytes; a test compares the sizes.
"""

import ctypes
import fcntl
import glob
import mmap
import os
import select
import time
from pathlib import Path
from typing import Protocol

__all__ = [
    "BUF_FLAG_ERROR",
    "BUF_FLAG_STAMP_SOURCE_MASK",
    "BUF_FLAG_STAMP_SOURCE_START",
    "BUF_FLAG_TIMESTAMP_MASK",
    "BUF_FLAG_TIMESTAMP_MONOTONIC",
    "CAP_DEVICE_CAPS",
    "CAP_META_CAPTURE",
    "CAP_STREAMING",
    "CAP_TIMEPERFRAME",
    "CAP_VIDEO_CAPTURE",
    "CAP_VIDEO_CAPTURE_MPLANE",
    "Buffer",
    "Capability",
    "DvTimings",
    "Event",
    "EventSubscription",
    "Format",
    "FormatDescription",
    "FrameInterval",
    "FrameSize",
    "Input",
    "Kernel",
    "LinuxKernel",
    "RequestBuffers",
    "StreamParameters",
    "find_paths",
    "fourcc",
    "fourcc_name",
]

_U32, _U64 = ctypes.c_uint32, ctypes.c_uint64

BUF_TYPE_VIDEO_CAPTURE = 1
MEMORY_MMAP = 1
FIELD_NONE = 1
FIELD_ALTERNATE = 7
COLORSPACE_JPEG = 7
QUANTIZATION_FULL, QUANTIZATION_LIMITED = 1, 2

CAP_VIDEO_CAPTURE = 0x00000001
CAP_VIDEO_CAPTURE_MPLANE = 0x00001000
CAP_META_CAPTURE = 0x00800000
CAP_STREAMING = 0x04000000
CAP_DEVICE_CAPS = 0x80000000
CAP_TIMEPERFRAME = 0x1000  # of v4l2_captureparm.capability

BUF_FLAG_ERROR = 0x00000040
BUF_FLAG_TIMESTAMP_MASK = 0x0000E000
BUF_FLAG_TIMESTAMP_MONOTONIC = 0x00002000
BUF_FLAG_STAMP_SOURCE_MASK = 0x00070000
BUF_FLAG_STAMP_SOURCE_START = 0x00010000  # of the exposure; 0 is the end of the frame

SIZE_DISCRETE, SIZE_CONTINUOUS, SIZE_STEPWISE = 1, 2, 3  # FrameSize.type
INTERVAL_DISCRETE, INTERVAL_CONTINUOUS, INTERVAL_STEPWISE = 1, 2, 3  # FrameInterval.type
FORMAT_FLAG_EMULATED = 0x0002  # of FormatDescription: made by a library, not by the device

INPUT_NO_POWER, INPUT_NO_SIGNAL = 0x00000001, 0x00000002  # Input.status
INPUT_NO_LOCK, INPUT_NO_SYNC = 0x00000100, 0x00010000
EVENT_SOURCE_CHANGE = 5


class Capability(ctypes.Structure):
    """``struct v4l2_capability``."""

    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", _U32),
        ("capabilities", _U32),
        ("device_caps", _U32),
        ("reserved", _U32 * 3),
    )


class FormatDescription(ctypes.Structure):
    """``struct v4l2_fmtdesc``."""

    _fields_ = (
        ("index", _U32),
        ("type", _U32),
        ("flags", _U32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", _U32),
        ("mbus_code", _U32),
        ("reserved", _U32 * 3),
    )


class Format(ctypes.Structure):
    """``struct v4l2_format`` holding a ``struct v4l2_pix_format``."""

    _fields_ = (
        ("type", _U32),
        ("padding", _U32),  # the union after it holds pointers, and is aligned like one
        ("width", _U32),
        ("height", _U32),
        ("pixelformat", _U32),
        ("field", _U32),
        ("bytesperline", _U32),
        ("sizeimage", _U32),
        ("colorspace", _U32),
        ("priv", _U32),
        ("flags", _U32),
        ("ycbcr_enc", _U32),
        ("quantization", _U32),
        ("xfer_func", _U32),
        ("rest", ctypes.c_uint8 * (200 - 48)),
    )


class StreamParameters(ctypes.Structure):
    """``struct v4l2_streamparm`` holding a ``struct v4l2_captureparm``."""

    _fields_ = (
        ("type", _U32),
        ("capability", _U32),
        ("capturemode", _U32),
        ("numerator", _U32),
        ("denominator", _U32),
        ("extendedmode", _U32),
        ("readbuffers", _U32),
        ("reserved", _U32 * 4),
        ("rest", ctypes.c_uint8 * (200 - 40)),
    )


class RequestBuffers(ctypes.Structure):
    """``struct v4l2_requestbuffers``."""

    _fields_ = (
        ("count", _U32),
        ("type", _U32),
        ("memory", _U32),
        ("capabilities", _U32),
        ("flags", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 3),
    )


class Buffer(ctypes.Structure):
    """``struct v4l2_buffer``, for memory of the driver that is mapped."""

    _fields_ = (
        ("index", _U32),
        ("type", _U32),
        ("bytesused", _U32),
        ("flags", _U32),
        ("field", _U32),
        ("padding", _U32),
        ("timestamp_s", ctypes.c_int64),
        ("timestamp_us", ctypes.c_int64),
        ("timecode", ctypes.c_uint8 * 16),
        ("sequence", _U32),
        ("memory", _U32),
        ("offset", _U64),  # a union with pointers; the offset is its lower half
        ("length", _U32),
        ("reserved", _U32 * 2),
        ("padding_end", _U32),
    )


class FrameSizeSteps(ctypes.Structure):
    """``struct v4l2_frmsize_stepwise``, in pixels."""

    _fields_ = tuple(
        (f"{what}_{side}", _U32) for side in ("width", "height") for what in ("min", "max", "step")
    )


class Size(ctypes.Structure):
    """``struct v4l2_frmsize_discrete``, in pixels."""

    _fields_ = (("width", _U32), ("height", _U32))


class _Sizes(ctypes.Union):
    _fields_ = (("discrete", Size), ("stepwise", FrameSizeSteps))


class FrameSize(ctypes.Structure):
    """``struct v4l2_frmsizeenum``: `discrete` or `stepwise` holds, as `type` says."""

    _anonymous_ = ("sizes",)
    _fields_ = (
        ("index", _U32),
        ("pixelformat", _U32),
        ("type", _U32),
        ("sizes", _Sizes),
        ("reserved", _U32 * 2),
    )


class Fraction(ctypes.Structure):
    """``struct v4l2_fract``, here of seconds."""

    _fields_ = (("numerator", _U32), ("denominator", _U32))


class FrameIntervalSteps(ctypes.Structure):
    """``struct v4l2_frmival_stepwise``."""

    _fields_ = (("min", Fraction), ("max", Fraction), ("step", Fraction))


class _Intervals(ctypes.Union):
    _fields_ = (("discrete", Fraction), ("stepwise", FrameIntervalSteps))


class FrameInterval(ctypes.Structure):
    """``struct v4l2_frmivalenum``: `discrete` or `stepwise` holds, as `type` says."""

    _anonymous_ = ("intervals",)
    _fields_ = (
        ("index", _U32),
        ("pixelformat", _U32),
        ("width", _U32),
        ("height", _U32),
        ("type", _U32),
        ("intervals", _Intervals),
        ("reserved", _U32 * 2),
    )


class Input(ctypes.Structure):
    """``struct v4l2_input``."""

    _fields_ = (
        ("index", _U32),
        ("name", ctypes.c_char * 32),
        ("type", _U32),
        ("audioset", _U32),
        ("tuner", _U32),
        ("std", _U64),
        ("status", _U32),
        ("capabilities", _U32),
        ("reserved", _U32 * 3),
        ("padding", _U32),
    )


class DvTimings(ctypes.Structure):
    """``struct v4l2_dv_timings`` holding the start of a ``struct v4l2_bt_timings``."""

    _fields_ = (
        ("type", _U32),
        ("width", _U32),
        ("height", _U32),
        ("interlaced", _U32),
        ("polarities", _U32),
        ("rest", ctypes.c_uint8 * (128 - 16)),
    )


class EventSubscription(ctypes.Structure):
    """``struct v4l2_event_subscription``."""

    _fields_ = (("type", _U32), ("id", _U32), ("flags", _U32), ("reserved", _U32 * 5))


class Event(ctypes.Structure):
    """``struct v4l2_event``."""

    _fields_ = (
        ("type", _U32),
        ("padding", _U32),  # the union after it holds 64-bit numbers
        ("data", ctypes.c_uint8 * 64),
        ("pending", _U32),
        ("sequence", _U32),
        ("timestamp_s", ctypes.c_int64),
        ("timestamp_ns", ctypes.c_int64),
        ("id", _U32),
        ("reserved", _U32 * 8),
        ("padding_end", _U32),
    )


def _ioc(direction: int, number: int, size: int) -> int:
    """Compose an ioctl's number, as in ``asm-generic/ioctl.h``: direction 1 writes, 2 reads."""
    return direction << 30 | size << 16 | ord("V") << 8 | number


VIDIOC_QUERYCAP = _ioc(2, 0, ctypes.sizeof(Capability))
VIDIOC_ENUM_FMT = _ioc(3, 2, ctypes.sizeof(FormatDescription))
VIDIOC_G_FMT = _ioc(3, 4, ctypes.sizeof(Format))
VIDIOC_S_FMT = _ioc(3, 5, ctypes.sizeof(Format))
VIDIOC_REQBUFS = _ioc(3, 8, ctypes.sizeof(RequestBuffers))
VIDIOC_QUERYBUF = _ioc(3, 9, ctypes.sizeof(Buffer))
VIDIOC_QBUF = _ioc(3, 15, ctypes.sizeof(Buffer))
VIDIOC_DQBUF = _ioc(3, 17, ctypes.sizeof(Buffer))
VIDIOC_STREAMON = _ioc(1, 18, ctypes.sizeof(ctypes.c_int))
VIDIOC_STREAMOFF = _ioc(1, 19, ctypes.sizeof(ctypes.c_int))
VIDIOC_G_PARM = _ioc(3, 21, ctypes.sizeof(StreamParameters))
VIDIOC_S_PARM = _ioc(3, 22, ctypes.sizeof(StreamParameters))
VIDIOC_ENUMINPUT = _ioc(3, 26, ctypes.sizeof(Input))
VIDIOC_G_INPUT = _ioc(2, 38, ctypes.sizeof(ctypes.c_int))
VIDIOC_ENUM_FRAMESIZES = _ioc(3, 74, ctypes.sizeof(FrameSize))
VIDIOC_ENUM_FRAMEINTERVALS = _ioc(3, 75, ctypes.sizeof(FrameInterval))
VIDIOC_DQEVENT = _ioc(2, 89, ctypes.sizeof(Event))
VIDIOC_S_DV_TIMINGS = _ioc(3, 87, ctypes.sizeof(DvTimings))
VIDIOC_G_DV_TIMINGS = _ioc(3, 88, ctypes.sizeof(DvTimings))
VIDIOC_SUBSCRIBE_EVENT = _ioc(1, 90, ctypes.sizeof(EventSubscription))
VIDIOC_QUERY_DV_TIMINGS = _ioc(2, 99, ctypes.sizeof(DvTimings))


def fourcc(name: str) -> int:
    """Turn a format's four letters into its number."""
    return int.from_bytes(name.encode("ascii").ljust(4), "little")


def fourcc_name(number: int) -> str:
    """Turn a format's number into its four letters."""
    return number.to_bytes(4, "little").decode("ascii", "replace").rstrip()


def find_paths(pattern: str) -> list[str]:
    """Find paths by a glob pattern; a folder that vanishes meanwhile is not there."""
    return glob.glob(pattern)  # noqa: PTH207  pathlib's raises then


class Kernel(Protocol):
    """The calls to the system that a capture makes, so that tests can stand in for a driver."""

    def open(self, path: str) -> int:
        """Open a device node without blocking."""
        ...

    def ioctl(self, fd: int, request: int, argument: "ctypes.Structure | ctypes.c_int") -> None:
        """Call the driver, which reads and writes `argument`; OSError where it refuses."""
        ...

    def mmap(self, fd: int, length: int, offset: int) -> mmap.mmap:
        """Map one of the driver's buffers."""
        ...

    def poll(self, fd: int, timeout_s: float, *, events: bool = False) -> int:
        """Wait for a filled buffer, or an event; what ``poll(2)`` says, 0 when time is up."""
        ...

    def close(self, fd: int) -> None:
        """Close the device."""
        ...

    def monotonic_ns(self) -> int:
        """Read CLOCK_MONOTONIC, the clock of the driver's stamps."""
        ...

    def find(self, pattern: str) -> list[str]:
        """Find paths by a glob pattern."""
        ...

    def resolve(self, path: str) -> str:
        """Follow symbolic links to the end, as far as there is something."""
        ...

    def read_text(self, path: str) -> str:
        """Read a file of sysfs; empty where it cannot be read."""
        ...


class LinuxKernel:
    """The real one."""

    def open(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def ioctl(self, fd: int, request: int, argument: "ctypes.Structure | ctypes.c_int") -> None:
        while True:
            try:
                fcntl.ioctl(fd, request, argument)
            except InterruptedError:  # a signal came; the call is to be made again
                continue
            return

    def mmap(self, fd: int, length: int, offset: int) -> mmap.mmap:
        return mmap.mmap(fd, length, offset=offset)

    def poll(self, fd: int, timeout_s: float, *, events: bool = False) -> int:
        poller = select.poll()
        poller.register(fd, select.POLLIN | select.POLLPRI if events else select.POLLIN)
        ready = poller.poll(timeout_s * 1000)
        return ready[0][1] if ready else 0

    def close(self, fd: int) -> None:
        os.close(fd)

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def find(self, pattern: str) -> list[str]:
        return find_paths(pattern)

    def resolve(self, path: str) -> str:
        return os.path.realpath(path)

    def read_text(self, path: str) -> str:
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""
