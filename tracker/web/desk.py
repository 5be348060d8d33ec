"""What the page's process knows of the run, for all pages together, and how it asks for things."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from time import monotonic_ns
from typing import Any, Literal

import numpy as np

from veintrack.tracker.frame import FrameResult
from veintrack.tracker.overlay import draw
from veintrack.tracker.overlay_trails import Trails
from veintrack.tracker.web.messages import Ask, News, Picture, Setting, receive
from veintrack.tracker.web.pictures import Pictures, as_jpeg
from veintrack.tracker.web.plots import QUANTITIES, History

__all__ = ["Desk", "ViewSettings", "drawn"]


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """What is drawn on the picture, for all who look.

    Attributes
    ----------
    tracks, trails, legend : bool
        The tracks, where they were, and what the lines mean.
    """

    tracks: bool = True
    trails: bool = True
    legend: bool = False


class Desk:
    """Takes in the run's news. Used by the event loop's thread, but for the drawing.

    Parameters
    ----------
    pipe : Connection
        To the run.
    setting : Setting
        What it said at first.

    Attributes
    ----------
    news : News or None
        The newest.
    view : ViewSettings
        What is drawn; may be replaced.
    """

    def __init__(self, pipe: "Connection[Ask, News | Picture]", setting: Setting) -> None:
        self.setting = setting
        self.news: News | None = None
        self.view = ViewSettings()
        self.pictures: Pictures[Picture] = Pictures(self._render)
        self._history, self._trails = History(), Trails()
        self._plots: list[dict[str, Any]] = []
        self._pipe, self._looking = pipe, 0
        self._last: Picture | None = None

    def begin(self) -> None:
        """Take news in from here on; the process ends when the run hangs up."""
        loop = asyncio.get_running_loop()
        threading.Thread(
            target=self._listen, args=(loop,), name="veintrack-listening", daemon=True
        ).start()

    def ask(
        self,
        what: Literal["looking", "record", "snapshot", "pause", "step", "threshold"],
        value: bool | float | None = None,
    ) -> None:
        """Ask something of the run."""
        with suppress(OSError):  # it is over
            self._pipe.send((what, value))

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """Have the run send pictures for as long as somebody looks."""
        self._looking += 1
        if self._looking == 1:
            self.ask("looking", True)
        try:
            yield
        finally:
            self._looking -= 1
            if not self._looking:
                self.ask("looking", False)

    def draw_with(self, **changes: bool) -> None:
        """Change what is drawn, for all who look."""
        self.view = replace(self.view, **changes)
        if self._last is not None:
            self.pictures.show(self._last)

    def plots(self) -> list[dict[str, Any]]:
        """Give the plots' options; shared by all pages, not to be changed."""
        if not self._plots:
            mm = self.news is None or self.news.millimetres
            self._plots = [
                self._history.options(name, title, unit_mm if mm else unit_px)
                for name, title, unit_mm, unit_px in QUANTITIES
            ]
        return self._plots

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while True:
                told = receive(self._pipe)
                if isinstance(told, News):
                    loop.call_soon_threadsafe(self._take, told)
                else:
                    self._last = told
                    self.pictures.show(told)
        finally:
            os._exit(0)  # the run is over; whoever looks is told by the connection's end

    def _take(self, news: News) -> None:
        self.news = news
        if news.time_ns and self._history.add(news.time_ns, news.rows):
            self._plots = []

    def _render(self, picture: Picture) -> bytes:
        result, view = picture.whole(), self.view
        paths = self._trails.follow(result)
        if not view.tracks:
            result = replace(result, tracks=())
        age_ms = (monotonic_ns() - result.timings.done_ns + result.timings.age_ns) * 1e-6
        pixels = draw(
            result,
            picture.area_px,
            age_ms=age_ms,
            trails=paths if view.tracks and view.trails else None,
            legend=view.legend,
        )
        return as_jpeg(pixels)


def drawn(result: FrameResult) -> bytes:
    """Draw the scan area of a result that is not of now; black where it is not known."""
    if not result.scan_area_settled:
        black = np.zeros_like(result.frame.pixels)
        result = replace(result, frame=replace(result.frame, pixels=black))
    return as_jpeg(draw(result, result.scan_area_px))
