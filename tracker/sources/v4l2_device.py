"""One open capture device: found, set up, streaming, and let go again."""

import contextlib
import ctypes
import errno
import mmap
import os
import select
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePath

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.v4l2_identity import (
    CaptureDevice,
    explain,
    identify,
    is_same,
    without_shared_serial,
)
from veintrack.tracker.sources.v4l2_link import usb_link
from veintrack.tracker.sources.v4l2_modes import (
    Mode,
    ModeWish,
    choose_mode,
    current_mode,
    is_same_rate,
    list_modes,
)
from veintrack.tracker.sources.v4l2_pictures import PictureFormat, picture_format

__all__ = ["Device", "InputState", "Request"]

_BUFFERS = 4
_INPUT_FAULTS = {  # of VIDIOC_QUERY_DV_TIMINGS
    errno.ENOLINK: "no signal at the input",
    errno.ENOLCK: "the signal at the input is unstable",
    errno.ERANGE: "the signal at the input is one that the device cannot take",
}
_STATUS_FAULTS = {  # of VIDIOC_ENUMINPUT
    abi.INPUT_NO_POWER: "what is connected to the input is switched off",
    abi.INPUT_NO_SIGNAL: "no signal at the input",
    abi.INPUT_NO_LOCK | abi.INPUT_NO_SYNC: "the signal at the input is unstable",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes
    ----------
    name : str
        The source as the user named it.
    fps : float or None
        Frames per second.
    wish : ModeWish or None
        What to set the device to.
    """

    name: str
    fps: float | None = None
    wish: ModeWish | None = None


@dataclass(frozen=True, slots=True)
class InputState:
    """What is connected to the device, as far as its driver can tell.

    Attributes
    ----------
    fault : str
        Why no picture comes from there, though frames do; empty if one does.
    changed_px : tuple of int or None
        ``(W, H)`` that it sends now, where that is not what the device was set up for.
    """

    fault: str = ""
    changed_px: tuple[int, int] | None = None


class Device:
    """A device that streams into mapped buffers of the driver.

    Used by one thread at a time. Whoever takes a buffer gives it back before the next. Priority
    and controls stay as they are.

    Parameters
    ----------
    path : str
        Its node.
    kernel : Kernel
        System calls.
    request : Request
        What to set it to.
    known : CaptureDevice, optional
        The card that it must be.
    before : Mode, optional
        What it was set to before it was lost: plugged in again, it has forgotten that. An input
        that says its own size is not asked to be what it was.

    Raises
    ------
    SourceNotFoundError, SourceUnreadableError
        If there is no such device, it is another one, or it cannot be read; it is closed again.
    """

    def __init__(
        self,
        path: str,
        kernel: abi.Kernel,
        request: Request,
        known: CaptureDevice | None = None,
        before: Mode | None = None,
    ) -> None:
        self.path, self._kernel = path, kernel
        self._maps: list[mmap.mmap] = []
        self._fd = -1
        #: Whether the driver said that the input changed since :meth:`look` was last asked.
        self.input_changed = False
        try:
            self._fd = kernel.open(path)
            self.card = self._identify(known, request.name)
            self._input = self._selected_input()
            self._input_px = self._follow_input()
            self._has_events = self._subscribe()
            self.format, self.notes = self._set_mode(request, before)
            self._start()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and not isinstance(
                error, (SourceNotFoundError, SourceUnreadableError)
            ):
                raise explain(path, error) from error
            raise

    def _identify(self, known: CaptureDevice | None, name: str) -> CaptureDevice:
        card = identify(self.path, self._fd, self._kernel)
        if known and not is_same(known, card, name):
            raise SourceNotFoundError(f"{known} is not there; {self.path} is {card}")
        if card.fault:
            raise SourceUnreadableError(card.fault)
        return without_shared_serial(card, self._kernel)

    def _selected_input(self) -> int:
        number = ctypes.c_int(0)
        with contextlib.suppress(OSError):  # a driver need not have inputs
            self._kernel.ioctl(self._fd, abi.VIDIOC_G_INPUT, number)
        return number.value

    def _follow_input(self) -> tuple[int, int] | None:
        """Set up a digital input for the signal that is there, as the API leaves to programs.

        Returns
        -------
        tuple of int or None
            ``(W, H)`` of the signal, or of the one expected where there is none; None where the
            device has no such input.
        """
        timings = abi.DvTimings()
        try:
            self._kernel.ioctl(self._fd, abi.VIDIOC_QUERY_DV_TIMINGS, timings)
            with contextlib.suppress(OSError):  # then it follows by itself, or cannot
                self._kernel.ioctl(self._fd, abi.VIDIOC_S_DV_TIMINGS, timings)
        except OSError:
            try:
                self._kernel.ioctl(self._fd, abi.VIDIOC_G_DV_TIMINGS, timings)
            except OSError:
                return None
        return timings.width, timings.height

    def _subscribe(self) -> bool:
        """Ask to be told when the input changes; False where the driver does not tell."""
        told = False
        for number in {0, self._input}:
            with contextlib.suppress(OSError):
                wanted = abi.EventSubscription(type=abi.EVENT_SOURCE_CHANGE, id=number)
                self._kernel.ioctl(self._fd, abi.VIDIOC_SUBSCRIBE_EVENT, wanted)
                told = True
        return told

    def _set_mode(
        self, request: Request, before: Mode | None
    ) -> tuple[PictureFormat, tuple[str, ...]]:
        """Choose a mode, set it, and read back what the driver made of it."""
        modes = list_modes(self._fd, self._kernel, request.wish)
        current = before if self._input_px is None else None
        current = current or current_mode(self._fd, self._kernel)
        link = usb_link(PurePath(self._kernel.resolve(self.path)).name)
        link_bytes_s = link.usable_bytes_s if link else None
        try:
            mode = choose_mode(modes, current, request.wish, request.fps, link_bytes_s=link_bytes_s)
        except ValueError as error:
            raise SourceUnreadableError(f"{self.path} ({self.card.card}): {error}") from error
        form = abi.Format(type=abi.BUF_TYPE_VIDEO_CAPTURE)
        self._kernel.ioctl(self._fd, abi.VIDIOC_G_FMT, form)
        form.pixelformat, form.field = abi.fourcc(mode.fourcc), abi.FIELD_NONE
        form.width, form.height = mode.width_px, mode.height_px
        form.bytesperline = form.sizeimage = 0  # the driver fills them in
        self._kernel.ioctl(self._fd, abi.VIDIOC_S_FMT, form)
        name = abi.fourcc_name(form.pixelformat)
        size_px = (form.width, form.height)
        if name != mode.fourcc or (request.wish and size_px != (mode.width_px, mode.height_px)):
            raise SourceUnreadableError(
                f"{self.path} ({self.card.card}): asked for {mode}, "
                f"the driver set {form.width}x{form.height}:{name}"
            )
        if form.field == abi.FIELD_ALTERNATE:
            raise SourceUnreadableError(f"{self.path} delivers half pictures (single fields)")
        rate_hz = self._set_rate(mode.rate_hz)
        is_set = Mode(name, form.width, form.height, rate_hz)
        return picture_format(form, rate_hz), _mode_notes(is_set, mode, modes, request)

    def _set_rate(self, wanted_hz: float | None) -> float | None:
        """Set a rate and read back what the driver made of it."""
        parameters = abi.StreamParameters(type=abi.BUF_TYPE_VIDEO_CAPTURE)
        with contextlib.suppress(OSError):  # a driver need not know its rate
            self._kernel.ioctl(self._fd, abi.VIDIOC_G_PARM, parameters)
            if wanted_hz is not None and parameters.capability & abi.CAP_TIMEPERFRAME:
                period = 1 / Fraction(wanted_hz).limit_denominator(1001)
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

    @property
    def buffers(self) -> int:
        """How many buffers there are."""
        return len(self._maps)

    def take(self, timeout_s: float) -> abi.Buffer | None:
        """Wait for a filled buffer; None when time is up, or when the input changed.

        Raises
        ------
        OSError
            If the device is gone or failed.
        """
        ready = self._kernel.poll(self._fd, timeout_s, events=self._has_events)
        if self._has_events and ready & select.POLLPRI:
            self._take_events()
        if not ready & ~select.POLLPRI:
            return None
        buffer = _new_buffer(0)
        try:
            self._kernel.ioctl(self._fd, abi.VIDIOC_DQBUF, buffer)
        except BlockingIOError:
            if ready & (select.POLLERR | select.POLLHUP):  # it would report that for ever
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
            return None
        return buffer

    def _take_events(self) -> None:
        """Take what the driver tells, which it would repeat otherwise."""
        event = abi.Event(pending=1)
        while event.pending:
            self._kernel.ioctl(self._fd, abi.VIDIOC_DQEVENT, event)
            self.input_changed = True  # nothing else was subscribed to

    def memory(self, buffer: abi.Buffer) -> mmap.mmap:
        """Give the bytes of a taken buffer; they are the driver's again after :meth:`give_back`."""
        return self._maps[int(buffer.index)]

    def give_back(self, buffer: abi.Buffer) -> None:
        """Let the driver fill a buffer again."""
        self._kernel.ioctl(self._fd, abi.VIDIOC_QBUF, _new_buffer(buffer.index))

    def look(self) -> InputState:
        """Ask what is connected to the device; frames keep coming when that is switched off.

        Raises
        ------
        OSError
            If the device is gone.
        """
        self.input_changed = False
        timings = abi.DvTimings()
        try:
            self._kernel.ioctl(self._fd, abi.VIDIOC_QUERY_DV_TIMINGS, timings)
            return InputState(changed_px=_other((timings.width, timings.height), self._input_px))
        except OSError as error:
            if error.errno in _INPUT_FAULTS:
                return InputState(_INPUT_FAULTS[error.errno])
            if error.errno in (errno.ENODEV, errno.ENXIO):
                raise
        status = abi.Input(index=self._input)
        form = abi.Format(type=abi.BUF_TYPE_VIDEO_CAPTURE, width=self.format.width_px)
        form.height = self.format.height_px
        with contextlib.suppress(OSError):  # a driver need not have inputs
            self._kernel.ioctl(self._fd, abi.VIDIOC_ENUMINPUT, status)
        with contextlib.suppress(OSError):
            self._kernel.ioctl(self._fd, abi.VIDIOC_G_FMT, form)
        faults = (text for bits, text in _STATUS_FAULTS.items() if status.status & bits)
        own_px = (self.format.width_px, self.format.height_px)
        return InputState(next(faults, ""), _other((form.width, form.height), own_px))

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
            with contextlib.suppress(BufferError):  # an error's traceback still holds a picture
                mapped.close()
        self._maps.clear()
        with contextlib.suppress(OSError):
            self._kernel.close(fd)


def _new_buffer(index: int) -> abi.Buffer:
    return abi.Buffer(index=index, type=abi.BUF_TYPE_VIDEO_CAPTURE, memory=abi.MEMORY_MMAP)


def _other(now_px: tuple[int, int], expected_px: tuple[int, int] | None) -> tuple[int, int] | None:
    """Give a size where it is not the expected one."""
    return now_px if expected_px and now_px != expected_px else None


def _mode_notes(
    is_set: Mode, chosen: Mode, modes: Sequence[Mode], request: Request
) -> tuple[str, ...]:
    """Say which mode was taken and why, and where the driver chose otherwise."""
    why = "as asked for" if request.wish else f"the best of {len(modes)} modes"
    notes = [f"mode {is_set}, {'the only one' if len(modes) == 1 else why}"]
    asked_hz = (request.wish and request.wish.rate_hz) or request.fps or chosen.rate_hz
    if asked_hz and is_set.rate_hz and not is_same_rate(asked_hz, is_set.rate_hz):
        notes.append(
            f"{asked_hz:g} frames a second asked for, the driver set {round(is_set.rate_hz, 3):g}"
        )
    return tuple(notes)
