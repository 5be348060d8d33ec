"""The window: the newest annotated picture, on a thread of its own.

Drawn with SDL (pygame), which needs nothing of the system to import; the image library's own
windows need libGL and libxcb, and would take them into every installation.
"""

import os
import queue
import threading
from collections.abc import Callable, Mapping
from time import monotonic_ns
from typing import Any

import cv2

from veintrack.errors import BackendMissingError, OutputError
from veintrack.tracker.controls import Controls
from veintrack.tracker.frame import U8, FrameResult
from veintrack.tracker.mailbox import Mailbox
from veintrack.tracker.overlay import draw

__all__ = ["WindowView", "has_screen", "open_window"]

_REFRESH_S = 0.03  # how often the window looks at its keys while no result comes
_JOIN_S = 0.3  # a screen that hangs is left to itself after this long


def has_screen(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether a window could be opened at all."""
    return any(environment.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"))


def open_window(controls: Controls) -> "WindowView":
    """Open the window; the run is stopped when the user closes it, or presses q or Escape.

    Raises
    ------
    OutputError
        If there is no screen.
    BackendMissingError
        If the window's library is not installed.
    """
    if not has_screen():
        raise OutputError("there is no screen for a window: use --view none")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ModuleNotFoundError as error:
        raise BackendMissingError(
            f'--view window needs {error.name}: pip install "veintrack[window]"'
        ) from error
    return WindowView(pygame, controls.stop)


def _age_ms(result: FrameResult) -> float:
    """Age of a frame now."""
    return (monotonic_ns() - result.timings.done_ns + result.timings.age_ns) * 1e-6


class WindowView:
    """Shows the newest result and drops what it has no time for; tracking never waits for it."""

    def __init__(self, pygame: Any, stop: Callable[[], None]) -> None:
        self._pygame = pygame
        self._stop = stop
        self._results: Mailbox[FrameResult] = Mailbox(capacity=1, newest_only=True)
        self._thread = threading.Thread(target=self._run, name="veintrack-window", daemon=True)
        self._opened = threading.Event()
        self.error: Exception | None = None
        self._thread.start()
        self._opened.wait()
        if self.error is not None:
            raise OutputError(f"the window does not open: {self.error}; use --view none")

    said = ""

    def put(self, result: FrameResult) -> None:
        """Hand over one result; an older one that was not shown yet is forgotten."""
        self._results.put(result)

    def close(self) -> None:
        """Close the window; wait a moment for it. Safe to call twice."""
        self._results.close()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            self._pygame.display.init()
            self._pygame.display.set_caption("veintrack - research use only, not a medical device")
            self._pygame.display.set_mode((640, 480), self._pygame.RESIZABLE)
        except Exception as error:  # told to whoever opens the window
            self.error = error
            return
        finally:
            self._opened.set()
        try:
            self._loop()
        finally:
            self._pygame.display.quit()

    def _loop(self) -> None:
        sized = False
        while True:
            try:
                result = self._results.take(_REFRESH_S)
            except queue.Empty:
                self._obey()
                continue
            if result is None:
                return
            picture = draw(result, age_ms=_age_ms(result))
            if not sized:
                size = (picture.shape[1], picture.shape[0])
                self._pygame.display.set_mode(size, self._pygame.RESIZABLE)
                sized = True
            self._show(picture)
            self._obey()

    def _show(self, picture: U8) -> None:
        surface = self._pygame.display.get_surface()
        width, height = surface.get_size()
        zoom = min(width / picture.shape[1], height / picture.shape[0])
        if zoom != 1:
            picture = cv2.resize(picture, None, fx=zoom, fy=zoom)  # type: ignore[assignment]
        rows, columns = picture.shape[:2]
        image = self._pygame.image.frombuffer(picture.tobytes(), (columns, rows), "BGR")
        surface.fill((0, 0, 0))
        surface.blit(image, ((width - columns) // 2, (height - rows) // 2))
        self._pygame.display.flip()

    def _obey(self) -> None:
        for event in self._pygame.event.get():
            quits = event.type == self._pygame.QUIT
            if event.type == self._pygame.KEYDOWN:
                quits = event.key in (self._pygame.K_q, self._pygame.K_ESCAPE)
            if quits:
                self._stop()
