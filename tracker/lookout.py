"""What is told of a picture beside the network: its place, what it is good for, its motion."""

from dataclasses import dataclass

from veintrack.tracker.frame import Frame, PictureState, ProbeMotion, Region
from veintrack.tracker.framing import Framing, Place
from veintrack.tracker.picture import Look, PictureWatch
from veintrack.tracker.probemotion import MotionWatch
from veintrack.tracker.segment import InWork
from veintrack.tracker.sources.base import Source

__all__ = ["SHOWING", "Lookout", "Sight"]

SHOWING = (PictureState.GOOD, PictureState.FROZEN)  # ultrasound; else there is nothing to find


@dataclass(frozen=True, slots=True)
class Sight:
    """What was told of one picture.

    Attributes
    ----------
    picture : PictureState
        What it is good for.
    changes : tuple of str
        What became different with it, in words: gain, depth, layout.
    jumped : bool
        Its scale or place on the screen is another than before.
    motion : ProbeMotion or None
        How it moved since the picture before; None where that is not known.
    """

    picture: PictureState
    changes: tuple[str, ...]
    jumped: bool
    motion: ProbeMotion | None


class Lookout:
    """Watches the pictures of a run, in order.

    Parameters
    ----------
    source : Source
        Where they come from.
    framing : Framing
        Where the ultrasound lies in them.
    judge : bool
        Whether frozen and empty pictures are recognised.

    Attributes
    ----------
    region : tuple of int or None
        Where the ultrasound lies, by the last frame; None before the first.
    picture : PictureState
        What the last picture that was looked at is good for.
    """

    def __init__(self, source: Source, framing: Framing, *, judge: bool) -> None:
        self.region: Region | None = None
        self.picture = PictureState.GOOD
        self._source, self._framing, self._judges = source, framing, judge
        self._watch, self._motion = PictureWatch(), MotionWatch()

    def place(self, frame: Frame) -> Place:
        """Say where the ultrasound lies in a frame; ask for every frame, in order."""
        place = self._framing.place(frame, usable=self.picture in SHOWING)
        if place.region != self.region:
            self.region = place.region
            self._watch.reset()
            self._motion.reset()
        return place

    def look(self, work: InWork, frame: Frame, place: Place) -> Sight:
        """Look at a frame that lies on the network's grid, best while the engine computes."""
        look = self._judge(work, frame.capture_ns)
        self.picture = look.state
        changes = look.changes + (("layout changed",) if place.changed else ())
        jumped = any(change.startswith(("depth", "layout")) for change in changes)
        return Sight(look.state, changes, jumped, self._moved(work, frame, place, jumped))

    def interrupted(self) -> None:
        """Take note that the source was lost: the next picture may be of another place."""
        self._framing.interrupted()
        self._motion.reset()

    def _judge(self, work: InWork, capture_ns: int) -> Look:
        if not self._judges:
            return Look(PictureState.GOOD)
        look = self._watch.look(work.picture, capture_ns)
        return Look(PictureState.NO_SIGNAL, look.changes) if self._source.no_signal else look

    def _moved(self, work: InWork, frame: Frame, place: Place, jumped: bool) -> ProbeMotion | None:
        if self.picture not in SHOWING or jumped:
            self._motion.reset()
        if self.picture not in SHOWING:
            return None
        motion = self._motion.look(work.picture, work.grid, frame.capture_ns)
        return motion if place.settled else None  # a first guess may be mostly furniture
