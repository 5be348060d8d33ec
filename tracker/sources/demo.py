"""The built-in source: a synthetic scanner, for trying things out and for exact truth."""

import time
from collections.abc import Iterator

from veintrack.tracker.frame import Frame
from veintrack.tracker.phantom import Phantom, PhantomSettings, demo_settings
from veintrack.tracker.sources.base import OneShot, SourceInfo

__all__ = ["DemoSource", "open_demo"]


class DemoSource(OneShot):
    """Frames of a :class:`~veintrack.tracker.phantom.Phantom`, in order, as fast as read.

    Parameters
    ----------
    phantom : Phantom
        Renders the frames; its truth for frame ``i`` is ``phantom.render(i)``.
    frame_count : int
        How many frames to deliver.

    Raises
    ------
    ValueError
        If `frame_count` is less than 1.
    """

    def __init__(self, phantom: Phantom, frame_count: int = 300) -> None:
        if frame_count < 1:
            raise ValueError(f"frame_count must be at least 1, got {frame_count}")
        self.phantom = phantom
        settings = phantom.settings
        self._closed = False
        self._info = SourceInfo(
            name="demo",
            kind="demo",
            live=False,
            shape_px=(settings.height_px, settings.width_px),
            rate_hz=settings.rate_hz,
            frame_count=frame_count,
            spacing_mm=phantom.spacing_mm,
            times_from="the frame's index and the phantom's frame rate",
            scan_area_px=(0, 0, settings.width_px, settings.height_px),
        )

    @property
    def info(self) -> SourceInfo:
        """What is known of the source; constant after opening."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        settings = self.phantom.settings
        for index in range(self._info.frame_count or 0):
            if self._closed:
                return
            pixels = self.phantom.render(index).pixels
            yield Frame(
                pixels=pixels,
                index=index,
                capture_ns=round(index * 1e9 / settings.rate_hz),
                arrival_ns=time.monotonic_ns(),
                spacing_mm=self.phantom.spacing_mm,
            )

    def close(self) -> None:
        """End the iteration before its next frame. Safe to call twice, from any thread."""
        self._closed = True


def open_demo(settings: PhantomSettings | None = None, frame_count: int = 300) -> DemoSource:
    """Open the built-in phantom; by default three vessels under a gentle hand for ten seconds.

    Parameters
    ----------
    settings : PhantomSettings, optional
        What to show; :func:`~veintrack.tracker.phantom.demo_settings` by default.
    frame_count : int
        How many frames to deliver.
    """
    return DemoSource(Phantom(settings or demo_settings()), frame_count)
