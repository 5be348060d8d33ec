"""One open capture device: found, set up, streaming, and let go again."""

import contextlib
import ctypes
import errno
import mmap
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.sources import v4l2_abi as abi

__all__ = ["PIXEL_FORMATS", "Device", "PictureFormat", "explain"]

#: Formats that are read, the cheapest way to grey first.
PIXEL_FORMATS = ("GREY", "Y16", "NV12", "YUYV", "UYVY", "MJPG")
_BUFFERS = 4


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """What the device delivers.

    Attributes
    ----------
    name : str
        One of :data:`PIXEL_FORMATS`.
    width_px, height_px : int
        Size of a picture.
    stride_bytes : int
        From one row to the next; 0 for compressed pictures.
    limited : bool
        True where luma lies at 16 to 235.
    rate_hz : float or None
        Frames per second that the driver says it delivers.
    """

    name: str
    width_px: int
    height_px: int
    stride_bytes: int
    limited: bool
    rate_hz: float | None


def explain(path: str, error: OSError) -> SourceNotFoundError | SourceUnreadableError:
    """Put a failed opening into one line that says what would help."""
    code = error.errno
    if code in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        there = " ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
        return SourceNotFoundError(f"no such device: {path} (video devices here: {there})")
    if code in (errno.EACCES, errno.EPERM):
        return SourceUnreadableError(
            f"{path}: permission denied; run `sudo usermod -aG video $USER` and log in again"
        )
    if code == errno.EBUSY:
        return SourceUnreadableError(
            f"{path} is in use by another program; `fuser -v {path}` names it"
        )
    if code in (errno.ENOTTY, errno.EISDIR, errno.ENOTDIR):
        return SourceUnreadableError(f"{path} is not a video device")
    return SourceUnreadableError(f"{path} cannot be read: {os.strerror(code or errno.EIO)}")


class Device:
    """A device that streams into mapped buffers of the driver.

    Used by one thread at a time. Whoever takes a buffer gives it back before the next.

    Parameters
    ----------
    path : str
        Its node.
    kernel : Kernel
        System calls.
    fps : float, optional
        Frames per second to ask for; the driver may choose another.

    Raises
    ------
    SourceNotFoundError, SourceUnreadableError
        If there is no such device, or it cannot be read; it is closed again.
    """

    def __init__(self, path: str, kernel: abi.Kernel, fps: float | None = None) -> None:
        self.path, self._kernel = path, kernel
        self._maps: list[mmap.mmap] = []
        self._fd = -1
        try:
            self._fd = kernel.open(path)
            #: Name of the card and where it is plugged in: the same after unplugging and back.
            self.identity = self._identify()
            self.format = self._set_format(fps)
            self._start()
        except OSError as error:
            self.close()
            if isinstance(error, (SourceNotFoundError, SourceUnreadableError)):
                raise
            raise explain(path, error) from error

    def _identify(self) -> tuple[str, str]:
        caps = abi.Capability()
        try:
            self._kernel.ioctl(self._fd, abi.VIDIOC_QUERYCAP, caps)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise SourceUnreadableError(f"{self.path} is not a video device") from error
            raise
        card = caps.card.decode(errors="replace")
        # A driver with several nodes says under device_caps what this one can do.
        whole = not caps.capabilities & abi.CAP_DEVICE_CAPS
        can = caps.capabilities if whole else caps.device_caps
        if not can & abi.CAP_VIDEO_CAPTURE:
            what = "does not capture"
            if can & abi.CAP_META_CAPTURE:
                what = "carries metadata only; its pictures come from another node"
            elif can & abi.CAP_VIDEO_CAPTURE_MPLANE:
                what = "delivers multi-planar pictures, which are not read"
            raise SourceUnreadableError(f"{self.path} ({card}) {what}")
        if not can & abi.CAP_STREAMING:
            raise SourceUnreadableError(f"{self.path} ({card}) cannot stream into mapped buffers")
        return card, caps.bus_info.decode(errors="replace")

    def _offered(self) -> Iterator[str]:
        """Names of the pixel formats that the device offers."""
        for index in range(256):
            entry = abi.FormatDescription(index=index, type=abi.BUF_TYPE_VIDEO_CAPTURE)
            try:
                self._kernel.ioctl(self._fd, abi.VIDIOC_ENUM_FMT, entry)
            except OSError as error:
                if error.errno == errno.EINVAL:  # the end of the list
                    return
                raise
            yield abi.fourcc_name(entry.pixelformat)

    def _set_format(self, fps: float | None) -> PictureFormat:
        """Choose a pixel format; the size stays as the driver has it."""
        offered = list(self._offered())
        name = next((n for n in PIXEL_FORMATS if n in offered), None)
        if name is None:
            raise SourceUnreadableError(
                f"{self.path} ({self.identity[0]}) offers {', '.join(offered) or 'no format'}; "
                f"readable are {', '.join(PIXEL_FORMATS)}"
            )
        form = abi.Format(type=abi.BUF_TYPE_VIDEO_CAPTURE)
        self._kernel.ioctl(self._fd, abi.VIDIOC_G_FMT, form)
        form.pixelformat, form.field = abi.fourcc(name), abi.FIELD_NONE
        form.bytesperline = form.sizeimage = 0  # the driver fills them in
        self._kernel.ioctl(self._fd, abi.VIDIOC_S_FMT, form)
        if form.pixelformat != abi.fourcc(name):
            got = abi.fourcc_name(form.pixelformat)
            raise SourceUnreadableError(f"{self.path}: asked for {name}, the driver set {got}")
        if form.field == abi.FIELD_ALTERNATE:
            raise SourceUnreadableError(f"{self.path} delivers half pictures (single fields)")
        row_bytes = form.width * {"GREY": 1, "NV12": 1, "MJPG": 0}.get(name, 2)
        return PictureFormat(
            name,
            form.width,
            form.height,
            max(form.bytesperline, row_bytes) if row_bytes else 0,
            _is_limited(name, form),
            self._set_rate(fps),
        )

    def _set_rate(self, fps: float | None) -> float | None:
        """Ask for a rate, if one is wanted, and read back what the driver made of it."""
        parameters = abi.StreamParameters(type=abi.BUF_TYPE_VIDEO_CAPTURE)
        with contextlib.suppress(OSError):  # a driver need not know its rate
            self._kernel.ioctl(self._fd, abi.VIDIOC_G_PARM, parameters)
            if fps is not None and parameters.capability & abi.CAP_TIMEPERFRAME:
                period = 1 / Fraction(fps).limit_denominator(1001)
                parameters.numerator, parameters.denominator = period.as_integer_ratio()
                self._kernel.ioctl(self._fd, abi.VIDIOC_S_PARM, parameters)
                self._kernel.ioctl(self._fd, abi.VIDIOC_G_PARM, parameters)
            if parameters.numerator and parameters.denominator:
                return float(parameters.denominator / parameters.numerator)
        return None

    def _start(self) -> None:
        """Map the driver's buffers, hand them all over, and let the frames come."""
        request = abi.RequestBuffers(
            count=_BUFFERS, type=abi.BUF_TYPE_VIDEO_CAPTURE, memory=abi.MEMORY_MMAP
        )
        self._kernel.ioctl(self._fd, abi.VIDIOC_REQBUFS, request)
        for index in range(request.count):
            buffer = _new_buffer(index)
            self._kernel.ioctl(self._fd, abi.VIDIOC_QUERYBUF, buffer)
            self._maps.append(
                self._kernel.mmap(self._fd, buffer.length, buffer.offset & 0xFFFFFFFF)
            )
            self.give_back(buffer)
        kind = ctypes.c_int(abi.BUF_TYPE_VIDEO_CAPTURE)
        self._kernel.ioctl(self._fd, abi.VIDIOC_STREAMON, kind)

    def take(self, timeout_s: float) -> abi.Buffer | None:
        """Wait for a filled buffer; None when time is up.

        Raises
        ------
        OSError
            If the device is gone or failed.
        """
        events = self._kernel.poll(self._fd, timeout_s)
        if not events:
            return None
        buffer = _new_buffer(0)
        try:
            self._kernel.ioctl(self._fd, abi.VIDIOC_DQBUF, buffer)
        except BlockingIOError:
            if events & (select.POLLERR | select.POLLHUP):  # it would report that for ever
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
            return None
        return buffer

    def memory(self, buffer: abi.Buffer) -> mmap.mmap:
        """Give the bytes of a taken buffer; they are the driver's again after :meth:`give_back`."""
        return self._maps[int(buffer.index)]

    def give_back(self, buffer: abi.Buffer) -> None:
        """Let the driver fill a buffer again."""
        self._kernel.ioctl(self._fd, abi.VIDIOC_QBUF, _new_buffer(buffer.index))

    def close(self) -> None:
        """Stop and close. Safe to call twice; never fails, least of all on an unplugged device."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        kind = ctypes.c_int(abi.BUF_TYPE_VIDEO_CAPTURE)
        with contextlib.suppress(OSError):
            self._kernel.ioctl(fd, abi.VIDIOC_STREAMOFF, kind)
        # Each map holds the device open as well: a card that is plugged in again gets its old
        # name only when all are gone.
        for mapped in self._maps:
            mapped.close()
        self._maps.clear()
        with contextlib.suppress(OSError):
            self._kernel.close(fd)


def _new_buffer(index: int) -> abi.Buffer:
    return abi.Buffer(index=index, type=abi.BUF_TYPE_VIDEO_CAPTURE, memory=abi.MEMORY_MMAP)


def _is_limited(name: str, form: abi.Format) -> bool:
    """Tell whether luma lies at 16 to 235, by the rule of V4L2_MAP_QUANTIZATION_DEFAULT."""
    if name == "MJPG":
        return False
    if form.quantization == abi.QUANTIZATION_FULL:
        return False
    if form.quantization == abi.QUANTIZATION_LIMITED:
        return True
    return name in ("NV12", "YUYV", "UYVY") and form.colorspace != abi.COLORSPACE_JPEG
