"""What a source of frames is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import STREAMING, Frame, Region, SourceState, Spacing

__all__ = ["LiveSource", "OneShot", "Source", "SourceInfo", "Wrapper", "unused_fps"]


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source once it is open.

    Attributes
    ----------
    name : str
        The source as the user named it.
    kind : str
        ``demo``, ``array``, ``video``, ``images``, ``v4l2``, ``stream``, ``dicom``, ``sequence``
        or ``igtl``.
    live : bool
        True where frames come whether or not anyone is ready: the newest is processed. False
        where every frame waits to be read: each is processed, in order.
    shape_px : tuple of int
        ``(H, W)`` of the first frame; frames of a folder of images may differ from it.
    rate_hz : float or None
        Nominal frames per second; times come from the frames' own stamps, never from this.
    frame_count : int or None
        Frames in the source, where it says so.
    spacing_mm : tuple of float or None
        ``(row_mm, col_mm)``, millimetres per pixel.
    times_from : str
        In words, where `capture_ns` comes from.
    notes : tuple of str
        What was done to the pictures on the way in (colour, depth of grey), one sentence each.
    scan_area_px : tuple of int or None
        ``(x, y, width, height)`` of the ultrasound in the frame, where the source says it.
    """

    name: str
    kind: str
    live: bool
    shape_px: tuple[int, int]
    rate_hz: float | None
    frame_count: int | None
    spacing_mm: Spacing | None
    times_from: str
    notes: tuple[str, ...] = ()
    scan_area_px: Region | None = None


class Source(Protocol):
    """Anything that yields frames and can be closed.

    Opening does all the checks that can be made before the first frame, and raises
    :class:`~veintrack.errors.SourceNotFoundError` or
    :class:`~veintrack.errors.SourceUnreadableError`. Iterating ends at the end of a file, and
    raises :class:`~veintrack.errors.SourceLostError` where the source fails before its end. One
    thread iterates, once; any thread may call :meth:`close`, which ends the iteration soon (a
    live source's within half a second).
    """

    @property
    def info(self) -> SourceInfo:
        """What is known of the source; constant after opening."""
        ...

    @property
    def driver_drops(self) -> int:
        """Frames that the driver said it lost, so far; 0 for files."""
        ...

    @property
    def state(self) -> SourceState:
        """Whether it delivers; may be read by any thread."""
        ...

    @property
    def outages(self) -> int:
        """How often it was lost and waited for."""
        ...

    @property
    def last_outage(self) -> SourceState:
        """The state while it was lost last; streaming if it never was."""
        ...

    @property
    def no_signal(self) -> str:
        """What the driver says is wrong with its input; empty where nothing is, or it is mute."""
        ...

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Free the device or file. Safe to call twice, from any thread."""
        ...

    def __enter__(self) -> "Source": ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class LiveSource(Source, Protocol):
    """A source that can be opened again after it was lost."""

    def reopen(self, cancelled: Callable[[], bool]) -> "LiveSource":
        """Open the same device or sender anew, wherever it is now; this source stays lost.

        Parameters
        ----------
        cancelled : callable
            Says that nobody waits any more. Looked at every tenth of a second.

        Raises
        ------
        SourceNotFoundError, SourceUnreadableError
            If it is not there yet, or delivers nothing, or nobody waits any more.
        """
        ...


class OneShot(Closing):
    """What sources have in common that deliver until they end or fail, and never come back."""

    driver_drops = outages = 0
    state = last_outage = STREAMING
    no_signal = ""


class Wrapper(Closing):
    """What sources have in common that do something to another's frames, and own it.

    Parameters
    ----------
    source : Source
        Where frames come from; this object closes it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def driver_drops(self) -> int:
        return self._source.driver_drops

    @property
    def state(self) -> SourceState:
        return self._source.state

    @property
    def outages(self) -> int:
        return self._source.outages

    @property
    def last_outage(self) -> SourceState:
        return self._source.last_outage

    @property
    def no_signal(self) -> str:
        """What the driver says is wrong with its input."""
        return self._source.no_signal

    def close(self) -> None:
        """Free the device or file. Safe to call twice, from any thread."""
        self._source.close()


def unused_fps(fps: float | None) -> tuple[str, ...]:
    """Note that frames per second were asked for, and the file has times of its own."""
    return () if fps is None else (f"the file has times of its own: fps {fps:g} is not used",)
