"""Where the ultrasound lies in a run's frames: given, or found in the first second and kept."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from veintrack.tracker.frame import Frame, Region
from veintrack.tracker.scanarea import ScanAreaFinder, find_scan_area

__all__ = ["Framing", "Place"]

log = logging.getLogger(__name__)
_SECOND_NS = 1_000_000_000
_LOOKS = 10  # frames of the first second that are looked at
_LEAST_LOOKS = 4  # before the area is believed: of fewer, too little moves
_QUICK_NS = 100_000_000  # between looks at the layout after an outage


@dataclass(frozen=True, slots=True)
class Place:
    """Where the ultrasound lies in one frame.

    Attributes
    ----------
    region : tuple of int
        ``(x, y, width, height)`` in px.
    settled : bool
        False while it is a first guess, or nothing was found but the whole screen.
    changed : bool
        The screen's layout is another than before: what was found before holds no more.
    """

    region: Region
    settled: bool = True
    changed: bool = False


class Framing:
    """Keeps the scan area of a run, and notices when the screen changes.

    The area is a first guess, from one frame, until a second of frames was seen. Frames of a file
    can be shown ahead, so that the guess is never used.

    Parameters
    ----------
    crop : str or tuple of int
        ``auto``, ``none``, or the area itself.
    known : tuple of int, optional
        What the source says of the area; ``auto`` takes it.
    """

    def __init__(self, crop: str | Region, known: Region | None = None) -> None:
        self._given = crop if isinstance(crop, tuple) else None
        if crop == "auto":
            self._given = known
        self.searches = crop == "auto" and known is None
        self._shape: tuple[int, ...] | None = None
        self._region: Region = (0, 0, 0, 0)
        self._finder: ScanAreaFinder | None = None
        self._settled = self._waits = False
        self._begun_ns = self._look_ns = 0
        self._looks = self._doubts = 0

    def shown_enough(self, first: Frame, last: Frame) -> bool:
        """Whether what was shown ahead, from `first` to `last`, settles the area."""
        same = first.pixels.shape == last.pixels.shape
        return not same or last.capture_ns - first.capture_ns >= _SECOND_NS

    def interrupted(self) -> None:
        """Take note that the source was lost: the screen may be another one when it is back."""
        self._doubts = 2 if self._settled else 0
        self._look_ns = 0

    def show(self, ahead: Sequence[Frame]) -> None:
        """Settle the area by frames that come before the first one that is looked at."""
        if not ahead:
            return
        self._begin(ahead[0])
        shape = ahead[0].pixels.shape
        alike = [frame for frame in ahead if frame.pixels.shape == shape]
        for frame in alike[1 :: max(1, len(alike) // _LOOKS)]:
            self._look(frame)
        self._settle()

    def place(self, frame: Frame, *, usable: bool = True) -> Place:
        """Say where the ultrasound lies in a frame; ask for every frame, in order.

        Parameters
        ----------
        frame : Frame
            The frame.
        usable : bool
            False while the pictures show no ultrasound (no signal, no contact): the second from
            which the area is settled begins after them.
        """
        height, width = frame.pixels.shape
        if not self.searches:
            return Place(self._given or (0, 0, width, height))
        changed = False
        if frame.pixels.shape != self._shape:
            self._begin(frame)
        elif not self._settled and not usable:
            self._waits = True
        elif self._waits:
            self._begin(frame)
        elif not self._settled:
            if frame.capture_ns >= self._look_ns:
                self._look(frame)
                self._look_ns += _SECOND_NS // _LOOKS
            long_enough = frame.capture_ns - self._begun_ns >= _SECOND_NS
            if long_enough and self._looks >= _LEAST_LOOKS:
                self._settle()
        elif frame.capture_ns >= self._look_ns:
            self._doubts = max(0, self._doubts - 1)
            self._look_ns = frame.capture_ns + (_QUICK_NS if self._doubts else _SECOND_NS)
            changed = self._finder is not None and self._finder.layout_changed(frame.pixels)
            if changed:
                log.warning("the screen's layout changed: the scan area is looked for anew")
                self._begin(frame)
        return Place(self._region, self._settled and not self._doubts, changed)

    def _begin(self, frame: Frame) -> None:
        self._shape = frame.pixels.shape
        self._finder = ScanAreaFinder((frame.pixels.shape[0], frame.pixels.shape[1]))
        self._looks = 0
        self._look(frame)
        self._region = find_scan_area(frame.pixels)
        self._settled = self._waits = False
        self._begun_ns = frame.capture_ns
        self._look_ns = frame.capture_ns + _SECOND_NS // _LOOKS

    def _look(self, frame: Frame) -> None:
        if self._finder is not None:
            self._finder.add(frame.pixels)
            self._looks += 1

    def _settle(self) -> None:
        """Take the area that was found; look for another second where none was.

        A screen on which nothing moves and no part stands out may be one of text.
        """
        if self._finder is not None:
            self._region = self._finder.area()
            self._settled = self._finder.found
        self._waits = not self._settled
