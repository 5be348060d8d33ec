"""Opens what a run is looked at with: a window, a page."""

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from veintrack.errors import OutputError
from veintrack.tracker.config import RunConfig
from veintrack.tracker.controls import Controls
from veintrack.tracker.frame import FrameResult
from veintrack.tracker.sinks.window import has_screen, open_window
from veintrack.tracker.sources.base import SourceInfo

__all__ = ["Outlet", "View", "open_views"]


class Outlet(Protocol):
    """Where results go."""

    def put(self, result: FrameResult) -> None:
        """Hand over one result."""
        ...

    def close(self) -> None:
        """End. Safe to call twice."""
        ...


class View(Outlet, Protocol):
    """Shows results, the newest at best; tracking never waits for it."""

    @property
    def said(self) -> str:
        """What a user must know to look at it; empty if nothing."""
        ...


def open_views(config: RunConfig, controls: Controls, info: SourceInfo) -> list[View]:
    """Open what is asked for, or, for ``auto``, the window, if that is possible.

    Raises
    ------
    VeintrackError
        If what was asked for by name cannot be opened.
    """
    others: list[View] = []
    if config.igtl_out is not None:
        from veintrack.tracker.sinks.igtl_out import open_igtl_out

        others.append(open_igtl_out(config.igtl_out, info))
    try:
        return [*_open_view(config, controls, info), *others]
    except Exception:
        for view in others:
            view.close()
        raise


def _open_view(config: RunConfig, controls: Controls, info: SourceInfo) -> list[View]:
    if config.view == "web":
        from veintrack.tracker.sinks.web import open_web

        runs = Path(config.output).parent if config.output else Path("runs")
        return [open_web(controls, info, host=config.host, port=config.port, runs=runs)]
    if config.view == "window":
        return [open_window(controls)]
    if config.view == "auto" and has_screen() and find_spec("pygame"):
        with suppress(OutputError):  # a screen that is named but refuses: nobody insisted on it
            return [open_window(controls)]
    return []
