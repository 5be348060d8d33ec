"""Live frames from a capture card or camera, straight from the kernel (V4L2).

A reader of our own because nothing with a fitting licence gives all of this: the kernel's stamp
and sequence number of every frame, the flag of a damaged one, a bounded wait, and unplugging
noticed at once.
"""

import errno
import mmap
import os
import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.errors import SourceLostError, SourceUnreadableError
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import U8, Frame
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.base import SourceInfo
from veintrack.tracker.sources.grey import FULL_RANGE, choose_shift, describe, to_grey
from veintrack.tracker.sources.v4l2_device import Device, PictureFormat

__all__ = ["V4l2Source", "open_v4l2"]

_SLICE_S = 0.1  # the longest wait that close() may have to sit out
_STALL_S, _STALL_FRAMES = 0.5, 5  # the longer of the two; drivers drop a few frames in a row
_START_LIMIT_S = 5.0  # cameras take seconds to deliver their first picture


def open_v4l2(
    source: str, *, fps: float | None = None, kernel: abi.Kernel | None = None
) -> "V4l2Source":
    """Open a capture device; see :class:`V4l2Source`.

    Parameters
    ----------
    source : str
        ``0`` or ``/dev/video0`` or ``/dev/v4l/by-id/...``.
    fps : float, optional
        Frames per second to ask for.
    kernel : Kernel, optional
        System calls; those of Linux by default.

    Raises
    ------
    SourceNotFoundError
        If there is no such device.
    SourceUnreadableError
        If it cannot be read or delivers no picture; the message says what would help.
    """
    path = f"/dev/video{source}" if source.isdecimal() else source
    kernel = kernel or abi.LinuxKernel()
    device = Device(path, kernel, fps)
    try:
        return V4l2Source(source, device, kernel, fps)
    except BaseException:
        device.close()
        raise


class V4l2Source(Closing):
    """Frames of a capture device, as they come.

    Every frame is handed on, in memory of its own; to skip those that nobody has time for is the
    mailbox's part. A frame's index follows the driver's sequence number, so what the driver lost
    leaves a gap.

    Parameters
    ----------
    name : str
        The source as the user named it.
    device : Device
        Streaming; this object closes it.
    kernel : Kernel
        For its clock.
    fps : float, optional
        What was asked for, to say where the driver chose otherwise.
    """

    def __init__(
        self, name: str, device: Device, kernel: abi.Kernel, fps: float | None = None
    ) -> None:
        self._device, self._kernel = device, kernel
        self._lock = threading.Lock()  # held while the device is used, so that close() can wait
        self._closed = False
        self._shift: int | None = None
        self._index = -1
        self._last_sequence: int | None = None
        self._last_ns = -1
        self._lost = self._damaged = 0
        form = device.format
        self._stall_s = max(_STALL_S, _STALL_FRAMES / form.rate_hz if form.rate_hz else 0.0)
        self._kernel_stamps, notes = self._first_picture()
        if fps is not None and form.rate_hz is not None and abs(fps - form.rate_hz) > 0.01:
            notes = (*notes, f"{fps:g} frames a second asked for, the driver set {form.rate_hz:g}")
        self._info = SourceInfo(
            name=name,
            kind="v4l2",
            live=True,
            shape_px=(form.height_px, form.width_px),
            rate_hz=form.rate_hz,
            frame_count=None,
            spacing_mm=None,
            times_from="the kernel's stamps (monotonic clock)"
            if self._kernel_stamps
            else "arrival: the driver does not say which clock its stamps are of",
            notes=("{} ({})".format(*device.identity), *notes),
        )

    def _first_picture(self) -> tuple[bool, tuple[str, ...]]:
        """Wait for a picture, which proves that the device delivers, and look at it."""
        end_ns = self._kernel.monotonic_ns() + round(_START_LIMIT_S * 1e9)
        while self._kernel.monotonic_ns() < end_ns:
            try:
                buffer = self._device.take(_SLICE_S)
                if buffer is None:
                    continue
                raw = None if _is_damaged(buffer) else _raw(self._device.memory(buffer), buffer)
                notes = None if raw is None else self._look_at(raw)
                raw = None
                self._device.give_back(buffer)
            except OSError as error:
                raise SourceUnreadableError(f"{self._device.path}: {_words(error)}") from error
            if notes is not None:
                clock = buffer.flags & abi.BUF_FLAG_TIMESTAMP_MASK
                return clock == abi.BUF_FLAG_TIMESTAMP_MONOTONIC, notes
        raise SourceUnreadableError(
            f"{self._device.path} ({self._device.identity[0]}) opened, but no picture came within "
            f"{_START_LIMIT_S:g} s: is its input connected and switched on?"
        )

    def _look_at(self, raw: U8) -> tuple[str, ...] | None:
        """Settle how deep the grey of this run is; None if this is no whole picture."""
        form = self._device.format
        stored = _stored(raw, form)
        if stored is None:
            return None
        self._shift = choose_shift(stored)
        note = f"{form.name} pictures"
        if form.name in ("NV12", "YUYV", "UYVY"):
            note += ": luma taken"
        if form.limited:
            note += ", 16 to 235 expanded to 0 to 255"
        return (note, *describe(stored, self._shift))

    @property
    def info(self) -> SourceInfo:
        """What is known of the source."""
        return self._info

    @property
    def identity(self) -> tuple[str, str]:
        """Name of the card and where it is plugged in: how to find it again."""
        return self._device.identity

    @property
    def driver_drops(self) -> int:
        """Frames that the driver lost or marked as damaged."""
        return self._lost + self._damaged

    @property
    def damaged(self) -> int:
        """Frames that came damaged and were left out."""
        return self._damaged

    def __iter__(self) -> Iterator[Frame]:
        self._discard_waiting()
        while (frame := self._next()) is not None:
            yield frame

    def _discard_waiting(self) -> None:
        """Give back what filled the buffers between opening and now: it is old, not lost."""
        with self._lock:
            while not self._closed and (buffer := self._take(0.0)) is not None:
                self._device.give_back(buffer)

    def _next(self) -> Frame | None:
        """Wait for the next whole frame; None once closed."""
        waiting_since_ns = self._kernel.monotonic_ns()
        while True:
            with self._lock:
                if self._closed:
                    return None
                buffer = self._take(_SLICE_S)
                if buffer is not None:
                    frame = self._frame(buffer)
                    if frame is not None:
                        return frame
                    waiting_since_ns = self._kernel.monotonic_ns()
                elif self._kernel.monotonic_ns() - waiting_since_ns >= self._stall_s * 1e9:
                    self._device.close()
                    raise SourceLostError(
                        f"{self._device.path}: no frame for {self._stall_s:.1f} s"
                    )

    def _take(self, timeout_s: float) -> abi.Buffer | None:
        try:
            return self._device.take(timeout_s)
        except OSError as error:
            raise self._gone(error) from error

    def _gone(self, error: OSError) -> SourceLostError:
        """Close at once: a handle that stays open makes the card come back under a new name."""
        self._device.close()
        return SourceLostError(f"{self._device.path}: {_words(error)}")

    def _frame(self, buffer: abi.Buffer) -> Frame | None:
        """Copy a buffer's picture and give it back; None if it was damaged."""
        self._count(buffer.sequence)
        pixels = None
        if not _is_damaged(buffer):
            pixels = _pixels(
                _raw(self._device.memory(buffer), buffer), self._device.format, self._shift or 0
            )
        arrival_ns = self._kernel.monotonic_ns()
        try:
            self._device.give_back(buffer)
        except OSError as error:
            raise self._gone(error) from error
        if pixels is None:
            self._damaged += 1
            return None
        stamp_ns = buffer.timestamp_s * 1_000_000_000 + buffer.timestamp_us * 1000
        capture_ns = stamp_ns if self._kernel_stamps and stamp_ns else arrival_ns
        # Time never stands still for the tracker, whatever a driver stamps.
        self._last_ns = max(capture_ns, self._last_ns + 1)
        return Frame(pixels, self._index, self._last_ns, arrival_ns, buffer.sequence)

    def _count(self, sequence: int) -> None:
        """Advance the index by the driver's count; a count that is no count advances it by one."""
        step = 1
        if self._last_sequence is not None:
            step = (sequence - self._last_sequence) % 2**32  # the counter has 32 bits
            if step == 0 or step >= 2**31:  # never counted, or began again
                step = 1
        self._lost += step - 1
        self._index += step
        self._last_sequence = sequence

    def close(self) -> None:
        """Close the device; the iteration ends within a tenth of a second."""
        self._closed = True
        with self._lock:
            self._device.close()


def _words(error: OSError) -> str:
    """Say what a system call's failure in mid-stream means."""
    if error.errno in (errno.ENODEV, errno.ENXIO):
        return "the device was unplugged"
    return f"the device failed ({os.strerror(error.errno or errno.EIO)})"


def _is_damaged(buffer: abi.Buffer) -> bool:
    return bool(buffer.flags & abi.BUF_FLAG_ERROR) or not buffer.bytesused


def _raw(memory: mmap.mmap, buffer: abi.Buffer) -> U8:
    """View the filled part of a buffer; to be gone before the buffer is given back."""
    return np.frombuffer(memory, np.uint8, min(buffer.bytesused, len(memory)))


def _stored(raw: U8, form: PictureFormat) -> NDArray[Any] | None:
    """View the grey levels in a buffer, (H, W) of uint8 or uint16; None if it holds too little.

    Only compressed pictures are in memory of their own.
    """
    if form.name == "MJPG":
        try:
            return cv2.imdecode(raw, cv2.IMREAD_GRAYSCALE)
        except cv2.error:
            return None
    height, width, stride = form.height_px, form.width_px, form.stride_bytes
    if raw.size < stride * height:
        return None
    rows = raw[: stride * height].reshape(height, stride)
    if form.name == "Y16":
        return rows[:, : 2 * width].view("<u2")
    if form.name in ("GREY", "NV12"):
        return rows[:, :width]
    first = 0 if form.name == "YUYV" else 1  # UYVY has its luma in the odd bytes
    return rows[:, first : 2 * width : 2]


def _pixels(raw: U8, form: PictureFormat, shift: int) -> U8 | None:
    """Copy the grey levels out of a buffer; None if it holds no whole picture."""
    stored = _stored(raw, form)
    if stored is None or stored.shape != (form.height_px, form.width_px):
        return None
    if stored.dtype == np.uint16:
        return to_grey(stored, shift)
    pixels: U8 = cv2.LUT(stored, FULL_RANGE) if form.limited else stored.copy()  # type: ignore[assignment]
    return pixels
