"""What ``veintrack bench`` is asked for, and the sources and sinks that it opens for it."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported on use: the command line starts without them
    from veintrack.tracker.bench import View
    from veintrack.tracker.sinks.base import Sink
    from veintrack.tracker.sources.base import Source

__all__ = ["FILE_SINKS", "SINKS", "Wish", "no_window", "open_sinks", "open_views", "opener"]

FILE_SINKS = ("csv", "jsonl", "mot", "video")
SINKS = (*FILE_SINKS, "window")
_PICTURES = 120  # of the phantom, rendered ahead and shown again and again
_RATE_HZ = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for, as it was given; see the command's options.

    Raises
    ------
    ValueError
        If something in it makes no sense.
    """

    source: str = "demo"
    model: str = "default"
    engine: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    crop: str = "auto"
    pace: str = "asap"
    rate: float | None = None
    sinks: tuple[str, ...] = ()
    frames: int = 300
    minutes: float | None = None
    warm_up: int = 30
    repetitions: int = 3
    data: str | None = None
    label: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("frames", 1), ("repetitions", 1), ("warm_up", 0)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name.replace('_', '-')} must be at least {least}, got {value}")
        for name in ("rate", "minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be greater than 0 and finite, got {value}")
        if self.pace not in ("asap", "realtime"):
            raise ValueError(f"pace must be asap or realtime, got {self.pace!r}")
        if self.rate is not None and self.pace == "asap":
            raise ValueError("rate sets the pace of real time: leave out --pace asap")
        if self.data is None and (self.label or self.split):
            raise ValueError("label and split are of labelled frames: name these with --data")
        self._check_sinks()

    def _check_sinks(self) -> None:
        if unknown := [name for name in self.sinks if name not in (*SINKS, "all", "each")]:
            known = ", ".join((*SINKS, "all", "each"))
            raise ValueError(f"unknown sink {unknown[0]!r}; known: {known}")
        if "each" in self.sinks and len(self.sinks) > 1:
            raise ValueError("sink each opens every sink by itself: leave the others out")
        if "each" in self.sinks and self.several_engines:
            raise ValueError("sink each is for one engine and precision, not for all")
        names = self.sinks_at_once
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"sink {twice[0]} is given twice")
        if "window" in names and (lack := no_window()):
            raise ValueError(f"sink window: {lack}")

    @property
    def several_engines(self) -> bool:
        """Whether all engines or precisions are to be compared."""
        return "all" in (self.engine, self.precision)

    @property
    def each_sink(self) -> bool:
        """Whether the sinks are to be compared."""
        return "each" in self.sinks

    @property
    def sinks_at_once(self) -> tuple[str, ...]:
        """The sinks of a turn, unless each has turns of its own."""
        return tuple(
            one for name in self.sinks for one in (FILE_SINKS if name == "all" else (name,))
        )

    @property
    def most_frames(self) -> int:
        """Frames that a turn may count: those asked for, unless it goes by the clock."""
        return self.frames if self.minutes is None else sys.maxsize

    @property
    def seconds(self) -> float:
        """For how long a turn may count."""
        return math.inf if self.minutes is None else 60 * self.minutes


def no_window() -> str:
    """Say why there can be no window; nothing where there can be one."""
    from veintrack.tracker.sinks.window import has_screen

    if not has_screen():
        return "this machine has no screen"
    if not find_spec("pygame"):
        return 'it needs pygame: pip install "veintrack[window]"'
    return ""


def opener(wish: Wish) -> "Callable[[], Source]":
    """Make what opens the source for each turn. All but a camera goes on for ever."""
    name, rate = wish.source, wish.rate
    if name == "demo":
        return _demo_opener(rate, min(wish.most_frames, _PICTURES))
    from veintrack.tracker.sources import open_source
    from veintrack.tracker.sources.repeat import RepeatedSource

    reopen = partial(open_source, name)
    with reopen() as source:
        live = source.info.live
    if live and rate is not None:
        raise ValueError(f"{name} sets its own pace: leave --rate out")
    return reopen if live else partial(RepeatedSource, reopen, rate)


def _demo_opener(rate: float | None, count: int) -> "Callable[[], Source]":
    """Render the phantom's pictures once: what is measured is not the rendering."""
    from veintrack.tracker.phantom import Phantom, demo_settings
    from veintrack.tracker.sources.arrays import ArraySource

    phantom = Phantom(demo_settings())
    pictures = [phantom.render(i).pixels for i in range(count)]
    return partial(
        ArraySource,
        # There and back again, so that nothing jumps.
        pictures + pictures[-2:0:-1],
        rate or _RATE_HZ,
        frame_count=sys.maxsize,
        spacing_mm=phantom.spacing_mm,
    )


def open_sinks(names: Sequence[str], folder: Path) -> "list[Sink]":
    """Open the files among the sinks, in a folder."""
    from veintrack.tracker.sinks.tables import CsvSink, JsonlSink, MotSink
    from veintrack.tracker.sinks.video import VideoSink

    kinds: dict[str, Callable[[], Sink]] = {
        "csv": lambda: CsvSink(folder / "tracks.csv"),
        "jsonl": lambda: JsonlSink(folder / "tracks.jsonl"),
        "mot": lambda: MotSink(folder / "tracks.mot.txt"),
        "video": lambda: VideoSink(folder / "overlay.mp4"),
    }
    return [kinds[name]() for name in names if name in kinds]


def open_views(names: Sequence[str], stop: Callable[[], None]) -> "list[View]":
    """Open the window if it is among the sinks."""
    if "window" not in names:
        return []
    from veintrack.tracker.controls import Controls, ControlState
    from veintrack.tracker.sinks.window import open_window

    return [open_window(Controls(stop, ControlState(live=False, threshold=0.5)))]
