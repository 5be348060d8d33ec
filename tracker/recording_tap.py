"""A source whose frames are recorded as they come, whoever takes them and however late."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from veintrack.tracker.frame import Frame
from veintrack.tracker.sources.base import Source, Wrapper

if TYPE_CHECKING:  # on use: a run that records nothing needs no file library
    from veintrack.tracker.recording import Recorder

__all__ = ["Tap"]

_SECOND_NS = 1_000_000_000
_LOOK_NS = 90_000_000  # between frames that are kept to find the scan area
_MOST_HELD = 64  # frames of a file


class Tap(Wrapper):
    """Hands every frame to a recorder before anyone else gets it.

    Parameters
    ----------
    source : Source
        Where frames come from; this object closes it.
    first_look : callable, optional
        Is shown frames of the first second, before any frame is delivered, to find the scan area:
        a run that is to be repeated must know it from its first frame. A live source's first
        second is used up by that, a file's is delivered after it.

    Attributes
    ----------
    recorder : Recorder or None
        May be set at any time. None records nothing.
    """

    def __init__(
        self, source: Source, first_look: Callable[[Sequence[Frame]], None] | None = None
    ) -> None:
        super().__init__(source)
        self.first_look = first_look
        self.recorder: Recorder | None = None

    def __iter__(self) -> Iterator[Frame]:
        frames = iter(self._source)
        if self.first_look is not None:
            held = self._look(frames)
            yield from () if self.info.live else map(self._recorded, held)
        yield from map(self._recorded, frames)

    def _recorded(self, frame: Frame) -> Frame:
        recorder = self.recorder  # another thread may set it meanwhile
        if recorder is not None:
            recorder.put(frame)
        return frame

    def _look(self, frames: Iterator[Frame]) -> list[Frame]:
        """Show the first second."""
        held: list[Frame] = []
        begun_ns: int | None = None
        for frame in frames:
            begun_ns = frame.capture_ns if begun_ns is None else begun_ns
            if not (self.info.live and held) or frame.capture_ns - held[-1].capture_ns >= _LOOK_NS:
                held.append(frame)
            over = frame.capture_ns - begun_ns >= _SECOND_NS
            if over or frame.pixels.shape != held[0].pixels.shape or len(held) == _MOST_HELD:
                break
        if self.first_look is not None:
            self.first_look(held)
        if self.recorder is not None:
            self.recorder.learn(held)
        return held
