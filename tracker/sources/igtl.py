"""Pictures from an OpenIGTLink sender (PLUS, 3D Slicer, a scanner): ``igtl://host:port/Device``."""

from collections import deque
from collections.abc import Callable, Iterator
from statistics import median
from time import monotonic_ns
from urllib.parse import unquote, urlsplit

from veintrack.errors import (
    SourceLostError,
    SourceStalledError,
    SourceUnreadableError,
)
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import STREAMING, Frame, Stamp
from veintrack.tracker.sources.address import masked
from veintrack.tracker.sources.base import SourceInfo
from veintrack.tracker.sources.grey import choose_shift, describe, to_grey
from veintrack.tracker.sources.igtl_messages import Header, Message, Picture, picture
from veintrack.tracker.sources.igtl_wire import connect
from veintrack.tracker.sources.levels import ready
from veintrack.tracker.sources.senderclock import SenderClock

__all__ = ["IgtlSource", "open_igtl"]

_PORT = 18944
_FIRST_WAIT_S = 5.0
_STALL_S, _STALL_FRAMES = 0.5, 3
_USUAL_FROM = 4  # intervals from which on the sender's rate is known
_MAX_NAMES = 20
_FRESH_NS = 50_000_000  # so soon after opening nothing has gathered
_CATCH_UP_NS = 1_000_000_000  # for how long pictures that gathered are expected
_WAITED_NS, _WAITS = 2_000_000, 3  # reads that had to wait, that many in a row: none is left


def open_igtl(url: str) -> "IgtlSource":
    """Connect to an OpenIGTLink sender and wait for its first picture; see :class:`IgtlSource`.

    Raises
    ------
    SourceNotFoundError
        If nobody answers there.
    SourceUnreadableError
        If the address cannot be, no such picture comes, or it is none that can be read.
    """
    return IgtlSource(url)


class IgtlSource(Closing):
    """The IMAGE messages of one device, as they are sent.

    Frames carry the sender's time as it came, and `capture_ns` on the monotonic clock. No
    thread of its own: whoever iterates reads the connection.

    Parameters
    ----------
    url : str
        ``igtl://host[:18944]/Device``; without a device, the first that sends pictures.
    cancelled : callable, optional
        Says that nobody waits any more.
    device : str, optional
        Whose pictures are taken, where the address names none.
    """

    state = last_outage = STREAMING
    outages = 0
    no_signal = ""

    def __init__(
        self,
        url: str,
        cancelled: Callable[[], bool] = lambda: False,
        device: str | None = None,
    ) -> None:
        self._url, self._name = url, masked(url)
        self._unreadable = 0
        host, port, named = _parse(url)
        self._device = named or device
        self._connection = connect(host, port, _FIRST_WAIT_S, cancelled)
        try:
            self._first = self._wait_for_first()
            self._take_first(self._first)
        except SourceLostError as error:
            self._connection.close()
            raise SourceUnreadableError(str(error)) from error
        except ValueError as error:
            self._connection.close()
            raise SourceUnreadableError(f"{self._name}: {error}") from error
        except BaseException:
            self._connection.close()
            raise

    def _wait_for_first(self) -> Message:
        until_ns = monotonic_ns() + round(_FIRST_WAIT_S * 1e9)
        offers: dict[str, str] = {}
        while (message := self._connection.next_message(self._is_wanted, until_ns)) is not None:
            if isinstance(message, Message):
                return message
            if len(offers) < _MAX_NAMES:
                offers[message.device] = message.kind
            if monotonic_ns() >= until_ns:
                break
        named = "IMAGE" if self._device is None else f"IMAGE named {self._device!r}"
        sent = ", ".join(f"{name} ({kind})" for name, kind in sorted(offers.items()))
        raise SourceUnreadableError(
            f"{self._name}: no {named} came within {_FIRST_WAIT_S:g} s; the sender "
            + (f"offers: {sent}" if sent else "sent nothing")
        )

    def _is_wanted(self, header: Header) -> bool:
        return header.kind == "IMAGE" and self._device in (None, header.device)

    def _take_first(self, message: Message) -> None:
        """Learn from the first picture what all must be like."""
        first = picture(message)
        notes = [] if self._device else [f"pictures of the device {message.header.device!r}"]
        self._device = message.header.device
        levels = ready(first.levels)
        self._like = (first.levels.shape, first.levels.dtype)
        self._shift = choose_shift(levels)
        if first.spacing_mm is None:
            notes.append("no scale in the sender's matrix: spacing not known")
        height, width = first.levels.shape[:2]
        self._info = SourceInfo(
            name=self._name,
            kind="igtl",
            live=True,
            shape_px=(height, width),
            rate_hz=None,
            frame_count=None,
            spacing_mm=first.spacing_mm,
            times_from="the sender's times, put on this computer's monotonic clock"
            if message.header.sender_ns
            else "arrival here: the sender gives no times",
            notes=(*describe(levels, self._shift), *notes),
        )

    @property
    def info(self) -> SourceInfo:
        """What is known of the source."""
        return self._info

    @property
    def driver_drops(self) -> int:
        """Pictures that came and could not be read; what a sender leaves out it does not say."""
        return self._unreadable

    def __iter__(self) -> Iterator[Frame]:
        clock, intervals_s = SenderClock(), deque[float](maxlen=8)
        message, index = self._catch_up(), 0
        while message is not None:
            last_ns = message.arrival_ns
            yield self._frame(message, index, clock)
            message = self._next_image(_stall_limit_s(intervals_s))
            if message is not None:
                intervals_s.append((message.arrival_ns - last_ns) * 1e-9)
                index += 1

    def _catch_up(self) -> Message | None:
        """Read what gathered since opening, which is old, up to a picture that is new."""
        begun_ns, waits = monotonic_ns(), 0
        if begun_ns - self._first.arrival_ns < _FRESH_NS:
            return self._first
        message: Message | None = self._first
        while message and waits < _WAITS and monotonic_ns() - begun_ns < _CATCH_UP_NS:
            waited_ns = self._connection.waited_ns
            message = self._next_image(_FIRST_WAIT_S)
            had_to_wait = self._connection.waited_ns - waited_ns > _WAITED_NS
            waits = waits + 1 if had_to_wait else 0
        return message

    def _next_image(self, limit_s: float) -> Message | None:
        """Wait for the next picture; None if closed here."""
        until_ns = monotonic_ns() + round(limit_s * 1e9)
        while (message := self._connection.next_message(self._is_wanted, until_ns)) is not None:
            if isinstance(message, Message):
                return message
            if monotonic_ns() >= until_ns:
                break
        if self._connection.is_closed:
            return None
        raise SourceStalledError(f"{self._name}: no picture for {limit_s:.1f} s")

    def _frame(self, message: Message, index: int, clock: SenderClock) -> Frame:
        try:
            got = self._checked(message)
        except SourceLostError:
            self._unreadable += 1
            raise
        sender_ns, arrival_ns = message.header.sender_ns or None, message.arrival_ns
        return Frame(
            to_grey(ready(got.levels), self._shift),
            index,
            clock.capture_ns(sender_ns, arrival_ns),
            arrival_ns,
            spacing_mm=got.spacing_mm,
            stamp=Stamp.ARRIVAL if sender_ns is None else Stamp.SENDER,
            sender_ns=sender_ns,
        )

    def _checked(self, message: Message) -> Picture:
        try:
            got = picture(message)
        except ValueError as error:
            raise SourceLostError(f"{self._name}: {error}") from error
        if (got.levels.shape, got.levels.dtype) != self._like:
            height, width = got.levels.shape[:2]
            raise SourceLostError(
                f"{self._name}: the sender changed its picture to {width}x{height} of "
                f"{got.levels.dtype}"
            )
        return got

    def reopen(self, cancelled: Callable[[], bool]) -> "IgtlSource":
        """Connect anew to the same sender, for the same device."""
        return IgtlSource(self._url, cancelled, self._device)

    def close(self) -> None:
        """Close the connection, which ends the iteration at once."""
        self._connection.close()


def _stall_limit_s(intervals_s: deque[float]) -> float:
    """Say for how long no picture may come: three frame times, at least half a second."""
    if len(intervals_s) < _USUAL_FROM:
        return _FIRST_WAIT_S
    return max(_STALL_S, _STALL_FRAMES * median(intervals_s))


def _parse(url: str) -> tuple[str, int, str | None]:
    """Split an address into host, port and device."""
    expected = f"expected igtl://host[:{_PORT}]/DeviceName"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its words may hold a password
        raise SourceUnreadableError(f"{masked(url)} is no address; {expected}") from None
    if parts.scheme.lower() != "igtl" or not host or parts.query or parts.fragment:
        raise SourceUnreadableError(
            f"{masked(url)} is no address of an OpenIGTLink sender; {expected}"
        )
    return host, port or _PORT, unquote(parts.path.strip("/")) or None
