"""The part of Linux's video interface that a capture needs: numbers, structures, system calls.

From the kernel's user-space API documentation, "Video for Linux API", and ``videodev2.h`` of
Linux 6.x. The layouts are those of 64-bit little-endian machines (x86_64, aarch64), where C's
``long`` has 8 bytes; a test compares the sizes.
"""

import ctypes
import fcntl
import mmap
import os
import select
import time
from typing import Protocol

__all__ = [
    "BUF_FLAG_ERROR",
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
    "Format",
    "FormatDescription",
    "Kernel",
    "LinuxKernel",
    "RequestBuffers",
    "StreamParameters",
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


def fourcc(name: str) -> int:
    """Turn a format's four letters into its number."""
    return int.from_bytes(name.encode("ascii").ljust(4), "little")


def fourcc_name(number: int) -> str:
    """Turn a format's number into its four letters."""
    return number.to_bytes(4, "little").decode("ascii", "replace").rstrip()


class Kernel(Protocol):
    """The system calls of a capture, and its clock, so that tests can stand in for a driver."""

    def open(self, path: str) -> int:
        """Open a device node without blocking."""
        ...

    def ioctl(self, fd: int, request: int, argument: "ctypes.Structure | ctypes.c_int") -> None:
        """Call the driver, which reads and writes `argument`; OSError where it refuses."""
        ...

    def mmap(self, fd: int, length: int, offset: int) -> mmap.mmap:
        """Map one of the driver's buffers."""
        ...

    def poll(self, fd: int, timeout_s: float) -> int:
        """Wait for a filled buffer; the events of ``poll(2)``, 0 when time is up."""
        ...

    def close(self, fd: int) -> None:
        """Close the device."""
        ...

    def monotonic_ns(self) -> int:
        """Read CLOCK_MONOTONIC, the clock of the driver's stamps."""
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

    def poll(self, fd: int, timeout_s: float) -> int:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        events = poller.poll(timeout_s * 1000)
        return events[0][1] if events else 0

    def close(self, fd: int) -> None:
        os.close(fd)

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()
