"""Live frames from a capture card or camera, straight from the kernel (V4L2).

A reader of our own because nothing with a fitting licence gives all of this: the kernel's stamp
and sequence number of every frame, the flag of a damaged one, a bounded wait, and unplugging
noticed at once.
"""

import errno
import logging
import mmap
import os
from collections.abc import Callable, Iterator

import numpy as np

from veintrack.errors import SourceLostError, SourceStalledError, SourceUnreadableError
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import STREAMING, U8, Frame, Stamp
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.base import SourceInfo
from veintrack.tracker.sources.inuse import InUse
from veintrack.tracker.sources.v4l2_device import Device, Request
from veintrack.tracker.sources.v4l2_identity import CaptureDevice, find_again
from veintrack.tracker.sources.v4l2_modes import Mode, parse_mode
from veintrack.tracker.sources.v4l2_pictures import GreyPictures

__all__ = ["V4l2Source", "open_v4l2"]

log = logging.getLogger(__name__)

_SLICE_S = 0.1  # the longest wait that close() may have to sit out
# The longer of the two. The half is for jitter: two frames that a driver lost are no stall.
_LATE_NS, _OLD_NS = 10**9, 10**10  # how far a stamp may lie after its arrival, and before
_STALL_S, _STALL_FRAMES = 0.5, 3.5
_START_LIMIT_S = 5.0  # cameras take seconds to deliver their first picture
_LOOK_EVERY_NS = 1_000_000_000  # at what is connected to the device
_STAMPS = {
    Stamp.EXPOSURE_START: "the kernel's stamps (monotonic clock, start of exposure)",
    Stamp.FRAME_END: "the kernel's stamps (monotonic clock, end of frame)",
    Stamp.ARRIVAL: "arrival: the driver does not say which clock its stamps are of",
}


def open_v4l2(
    source: str,
    *,
    fps: float | None = None,
    mode: str | None = None,
    kernel: abi.Kernel | None = None,
) -> "V4l2Source":
    """Open a capture device; see :class:`V4l2Source`.

    Parameters
    ----------
    source : str
        ``0`` or ``/dev/video0`` or ``/dev/v4l/by-id/...``.
    fps : float, optional
        Frames per second to ask for.
    mode : str, optional
        What to set it to, as :func:`~veintrack.tracker.sources.v4l2_modes.parse_mode` reads it;
        otherwise the best that it offers is taken.
    kernel : Kernel, optional
        System calls; those of Linux by default.

    Raises
    ------
    ValueError
        If `mode` is none.
    SourceNotFoundError
        If there is no such device.
    SourceUnreadableError
        If it cannot be read, does not offer `mode` or delivers no picture; the message says what
        would help.
    """
    request = Request(source, fps, parse_mode(mode) if mode is not None else None)
    path = f"/dev/video{source}" if source.isdecimal() else source
    return _open(request, path, kernel or abi.LinuxKernel())


def _open(
    request: Request,
    path: str,
    kernel: abi.Kernel,
    cancelled: Callable[[], bool] = lambda: False,
    earlier: "V4l2Source | None" = None,
) -> "V4l2Source":
    known, before = (earlier.identity, earlier.mode) if earlier else (None, None)
    device = Device(path, kernel, request, known, before)
    try:
        return V4l2Source(request, device, kernel, cancelled, earlier)
    except BaseException:
        device.close()
        raise


class V4l2Source(Closing):
    """Frames of a capture device, as they come.

    Every frame is handed on, in memory of its own; to skip those that nobody has time for is the
    mailbox's part. A frame's index follows the driver's sequence number, so what the driver lost
    leaves a gap. A stamp is the kernel's own; that of a frame's end may lie in the future when the
    frame is read.

    Parameters
    ----------
    request : Request
        What the user asked for.
    device : Device
        Streaming; this object closes it.
    kernel : Kernel
        For its clock, and to open the device again.
    cancelled : callable
        Says that nobody waits for the first picture any more.
    earlier : V4l2Source, optional
        The same card before it was lost.
    """

    state = last_outage = STREAMING  # or an error is raised: a device does not come back by itself
    outages = 0

    def __init__(
        self,
        request: Request,
        device: Device,
        kernel: abi.Kernel,
        cancelled: Callable[[], bool] = lambda: False,
        earlier: "V4l2Source | None" = None,
    ) -> None:
        self._request, self._device, self._kernel = request, device, kernel
        self._in_use = InUse(device.close)
        self._pictures: GreyPictures = GreyPictures(
            device.format, earlier._pictures if earlier else None
        )
        self._index = -1
        self._last_sequence: int | None = None
        self._last_ns = -1
        self._lost = self._damaged = 0
        self._no_signal = ""
        self._changed = False
        self._next_look_ns = 0
        form = device.format
        frames_s = _STALL_FRAMES / form.rate_hz if form.rate_hz else 0.0
        self._stall_ns = round(max(_STALL_S, frames_s) * 1e9)
        stamp, notes = self._first_picture(cancelled)
        self._info = SourceInfo(
            name=request.name,
            kind="v4l2",
            live=True,
            shape_px=(form.height_px, form.width_px),
            rate_hz=form.rate_hz,
            frame_count=None,
            spacing_mm=None,
            times_from=_STAMPS[stamp],
            notes=(str(device.card), *device.notes, *notes),
        )

    def _first_picture(self, cancelled: Callable[[], bool]) -> tuple[Stamp, tuple[str, ...]]:
        """Wait for a picture, which proves that the device delivers, and look at it."""
        path = self._device.path
        end_ns = self._kernel.monotonic_ns() + round(_START_LIMIT_S * 1e9)
        while self._kernel.monotonic_ns() < end_ns:
            if cancelled():
                raise SourceUnreadableError(f"{path}: nobody waits for a picture any more")
            try:
                self._look()
                buffer = self._device.take(_SLICE_S)
                if buffer is None:
                    continue
                notes = None if _is_damaged(buffer) else self._pictures.look_at(self._raw(buffer))
                self._device.give_back(buffer)
            except OSError as error:
                raise SourceUnreadableError(f"{path}: {_words(error)}") from error
            if notes is not None:
                return _stamp(buffer), notes
        why = self._no_signal or "is its input connected and switched on?"
        raise SourceUnreadableError(
            f"{path} ({self._device.card.card}) opened, but no picture came within "
            f"{_START_LIMIT_S:g} s: {why}"
        )

    @property
    def info(self) -> SourceInfo:
        """What is known of the source."""
        return self._info

    @property
    def identity(self) -> CaptureDevice:
        """Which device it is: how to find it again."""
        return self._device.card

    @property
    def driver_drops(self) -> int:
        """Frames that the driver lost or marked as damaged."""
        return self._lost + self._damaged

    @property
    def damaged(self) -> int:
        """Frames that came damaged and were left out."""
        return self._damaged

    @property
    def no_signal(self) -> str:
        """Why what comes is no picture of the scanner, where the driver can tell; else empty."""
        return self._no_signal

    def __iter__(self) -> Iterator[Frame]:
        self._discard_waiting()
        while (frame := self._next()) is not None:
            yield frame

    def _discard_waiting(self) -> None:
        """Give back what filled the buffers between opening and now: it is old, not lost."""
        with self._in_use as is_open:
            for _ in range(self._device.buffers):
                if not is_open or (buffer := self._take(0.0)) is None:
                    return
                try:
                    self._device.give_back(buffer)
                except OSError as error:
                    raise self._ended(_words(error)) from error

    def _next(self) -> Frame | None:
        """Wait for the next whole frame; None once closed."""
        left_ns = self._stall_ns
        while True:
            with self._in_use as is_open:
                if not is_open:
                    return None
                begun_ns = self._kernel.monotonic_ns()
                self._check_input()
                buffer = self._take(_SLICE_S)
                frame = None if buffer is None else self._frame(buffer)
                if frame is not None:
                    return frame
                # A process that was stopped meanwhile has not waited for the device.
                left_ns -= min(self._kernel.monotonic_ns() - begun_ns, round(_SLICE_S * 1e9))
                if left_ns <= 0:
                    what = "no frame" if buffer is None else "nothing but damaged frames"
                    why = f"{what} for {self._stall_ns * 1e-9:.3g} s"
                    raise self._ended(why, SourceStalledError)

    @property
    def mode(self) -> Mode | None:
        """What the device is set to; None where its picture changed under us."""
        form = self._device.format
        if self._changed:
            return None
        return Mode(form.name, form.width_px, form.height_px, form.rate_hz)

    def _check_input(self) -> None:
        """Notice that the picture's size changed under us."""
        try:
            changed_px = self._look()
        except OSError as error:
            raise self._ended(_words(error)) from error
        if changed_px:
            self._changed = True
            width, height = changed_px
            raise self._ended(f"the device changed its picture to {width}x{height}")

    def _look(self) -> tuple[int, int] | None:
        """See, now and then, what is connected to the device; its size if that is another."""
        now_ns = self._kernel.monotonic_ns()
        if now_ns < self._next_look_ns and not self._device.input_changed:
            return None
        self._next_look_ns = now_ns + _LOOK_EVERY_NS
        found = self._device.look()
        if found.fault != self._no_signal:
            log.warning("%s: %s", self._device.path, found.fault or "the signal is back")
            self._no_signal = found.fault
        return found.changed_px

    def _take(self, timeout_s: float) -> abi.Buffer | None:
        try:
            return self._device.take(timeout_s)
        except OSError as error:
            raise self._ended(_words(error)) from error

    def _ended(self, why: str, kind: type[SourceLostError] = SourceLostError) -> SourceLostError:
        """Close at once: a handle that stays open makes the card come back under a new name."""
        self._in_use.closed = True
        self._device.close()
        return kind(f"{self._device.path}: {why}")

    def _frame(self, buffer: abi.Buffer) -> Frame | None:
        """Copy a buffer's picture and give it back; None if it was damaged."""
        damaged = _is_damaged(buffer)
        self._count(buffer.sequence, believed=not damaged)
        pixels = None if damaged else self._pictures.grey(self._raw(buffer))
        arrival_ns = self._kernel.monotonic_ns()
        form = self._device.format
        whole = pixels is not None and pixels.shape == (form.height_px, form.width_px)
        self._damaged += not whole
        try:
            self._device.give_back(buffer)
        except OSError as error:
            self._lost += whole  # it came, and nobody gets it
            raise self._ended(_words(error)) from error
        if pixels is None or not whole:
            self._next_look_ns = 0  # is it the format that changed?
            return None
        stamp, capture_ns = _stamp(buffer), _stamp_ns(buffer)
        if stamp is not Stamp.ARRIVAL and not -_LATE_NS < arrival_ns - capture_ns < _OLD_NS:
            stamp = (
                Stamp.ARRIVAL
            )  # a driver's slip, or time would stand still until it is caught up
        if stamp is Stamp.ARRIVAL:
            capture_ns = arrival_ns
        # Time never stands still for the tracker, whatever a driver stamps.
        self._last_ns = max(capture_ns, self._last_ns + 1)
        return Frame(pixels, self._index, self._last_ns, arrival_ns, buffer.sequence, stamp=stamp)

    def _raw(self, buffer: abi.Buffer) -> U8:
        """View the filled part of a buffer; to be gone before the buffer is given back."""
        memory: mmap.mmap = self._device.memory(buffer)
        return np.frombuffer(memory, np.uint8, min(buffer.bytesused, len(memory)))

    def _count(self, sequence: int, *, believed: bool) -> None:
        """Advance the index by the driver's count; a count that is no count advances it by one.

        That of a damaged buffer is `believed` only if it goes on from the last.
        """
        step, goes_on = 1, self._last_sequence is not None
        if self._last_sequence is not None:
            step = (sequence - self._last_sequence) % 2**32  # the counter has 32 bits
            if step == 0 or step >= 2**31:  # never counted, or began again
                step, goes_on = 1, False
        self._lost += step - 1
        self._index += step
        if believed or goes_on:
            self._last_sequence = sequence
        elif self._last_sequence is not None:
            self._last_sequence = (self._last_sequence + 1) % 2**32

    def reopen(self, cancelled: Callable[[], bool]) -> "V4l2Source":
        """Open the same card anew, under whatever number it is now; this source stays closed.

        Parameters
        ----------
        cancelled : callable
            Says that nobody waits any more. Looked at every tenth of a second.

        Raises
        ------
        SourceNotFoundError
            If the card is not there; another one in its place is not taken.
        SourceUnreadableError
            If it cannot be opened or delivers no picture.
        """
        path = find_again(self.identity, self._request.name, self._kernel)
        found = _open(self._request, path, self._kernel, cancelled, earlier=self)
        if found.identity.bus != self.identity.bus:
            log.warning("%s is in another socket than before: %s", path, found.identity.bus)
        return found

    def close(self) -> None:
        """Close the device; the iteration ends within a tenth of a second.

        Where the kernel does not answer, the device is closed when it does.
        """
        self._in_use.close()


def _words(error: OSError) -> str:
    """Say what a system call's failure in mid-stream means."""
    if error.errno in (errno.ENODEV, errno.ENXIO):
        return "the device was unplugged"
    return f"the device failed ({os.strerror(error.errno or errno.EIO)})"


def _is_damaged(buffer: abi.Buffer) -> bool:
    return bool(buffer.flags & abi.BUF_FLAG_ERROR) or not buffer.bytesused


def _stamp_ns(buffer: abi.Buffer) -> int:
    return int(buffer.timestamp_s * 1_000_000_000 + buffer.timestamp_us * 1000)


def _stamp(buffer: abi.Buffer) -> Stamp:
    """Tell what a buffer's stamp is the time of; arrival where it is of no use."""
    clock = buffer.flags & abi.BUF_FLAG_TIMESTAMP_MASK
    if clock != abi.BUF_FLAG_TIMESTAMP_MONOTONIC or not _stamp_ns(buffer):
        return Stamp.ARRIVAL
    where = buffer.flags & abi.BUF_FLAG_STAMP_SOURCE_MASK
    return Stamp.EXPOSURE_START if where == abi.BUF_FLAG_STAMP_SOURCE_START else Stamp.FRAME_END
