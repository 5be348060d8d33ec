"""Which key of the window does what."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from veintrack.tracker.controls import Controls
from veintrack.tracker.frame import FrameResult
from veintrack.tracker.overlay_trails import Paths

__all__ = ["KEYS", "Bindings", "Desk", "Key", "Shown", "bindings", "press"]

_STEPS = 20  # of the threshold, from 0 to 1


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A result as it is looked at.

    Attributes
    ----------
    result : FrameResult
        The result.
    trails : mapping
        Where its vessels were.
    """

    result: FrameResult
    trails: Paths


@dataclass(slots=True)
class Desk:
    """What a person at the window looks at, and has chosen.

    Attributes
    ----------
    controls : Controls
        Of the run.
    newest, frozen : Shown or None
        The newest result, and the one that is to stay while others come.
    legend, help : bool
        Whether the legend and the list of keys are shown.
    """

    controls: Controls
    newest: Shown | None = None
    frozen: Shown | None = None
    legend: bool = True
    help: bool = False

    @property
    def shown(self) -> Shown | None:
        """What is seen."""
        return self.frozen or self.newest

    def pause(self) -> None:
        self.controls.pause(not self.controls.state.paused)

    def step(self) -> None:
        self.frozen = None  # or the step would not be seen
        if not self.controls.state.paused:
            self.controls.pause(True)
        self.controls.step()

    def freeze(self) -> None:
        self.frozen = None if self.frozen else self.newest

    def record(self) -> None:
        self.controls.record(not self.controls.state.recording)

    def snapshot(self) -> None:
        if self.shown is not None:
            self.controls.snapshot(self.shown.result)

    def lower(self) -> None:
        self._look_from(-1)

    def higher(self) -> None:
        self._look_from(1)

    def _look_from(self, steps: int) -> None:
        """Move the threshold to the next whole step."""
        now = self.controls.state.threshold * _STEPS
        # A hair aside, so that a threshold on a step moves by a whole one.
        to = round(now + steps * (0.5 + 1e-6))
        if 0 < to < _STEPS:
            self.controls.look_from(to / _STEPS)

    def show_legend(self) -> None:
        self.legend = not self.legend

    def show_help(self) -> None:
        self.help = not self.help

    def quit(self) -> None:
        self.controls.stop()


@dataclass(frozen=True, slots=True)
class Key:
    """What keys do.

    Attributes
    ----------
    sign, does : str
        What is written on them, and what they do.
    act : callable
        Does it.
    names : tuple of str
        What pygame calls them; ``shift`` before it where that is held down.
    """

    sign: str
    does: str
    act: Callable[[Desk], None]
    names: tuple[str, ...]


KEYS = (
    Key("space", "stand still, go on (files)", Desk.pause, ("K_SPACE",)),
    Key(". or right", "one frame further (files)", Desk.step, ("K_PERIOD", "K_RIGHT")),
    Key("f", "freeze the picture; tracking goes on", Desk.freeze, ("K_f",)),
    Key("r", "begin or end a recording", Desk.record, ("K_r",)),
    Key("s", "screenshot, into the run's folder", Desk.snapshot, ("K_s",)),
    Key("t or -", "lower threshold: more is vessel", Desk.lower, ("K_t", "K_MINUS", "K_KP_MINUS")),
    Key(
        "shift-t or +",
        "higher threshold: less is vessel",
        Desk.higher,
        ("shift K_t", "K_PLUS", "K_EQUALS", "K_KP_PLUS"),
    ),
    Key("l", "legend and scale", Desk.show_legend, ("K_l",)),
    Key("h or F1", "these keys", Desk.show_help, ("K_h", "K_F1")),
    Key("q or Esc", "end the run", Desk.quit, ("K_q", "K_ESCAPE")),
)


Bindings = dict[tuple[int, bool], Callable[[Desk], None]]


def bindings(pygame: Any) -> Bindings:
    """Say what each key does, by the library's number of it and whether shift is held down."""
    return {
        (getattr(pygame, name.removeprefix("shift ")), name.startswith("shift ")): key.act
        for key in KEYS
        for name in key.names
    }


def press(known: Bindings, desk: Desk, key: int, *, shift: bool) -> None:
    """Do what a key is for; one that is for nothing is passed over."""
    act = known.get((key, shift)) or known.get((key, False))
    if act is not None:
        act(desk)
