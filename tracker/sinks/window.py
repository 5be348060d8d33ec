"""The window: the newest annotated picture, on a thread of its own.

Drawn with SDL (pygame), which needs nothing of the system to import; the image library's own
windows need libGL and libxcb, and would take them into every installation.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any, cast

import cv2
import numpy as np

from veintrack.errors import BackendMissingError, OutputError
from veintrack.tracker.controls import Controls
from veintrack.tracker.frame import U8, FrameResult
from veintrack.tracker.mailbox import Mailbox
from veintrack.tracker.overlay import draw
from veintrack.tracker.overlay_canvas import WARNING, Canvas, size_of
from veintrack.tracker.overlay_trails import Trails
from veintrack.tracker.sinks.window_keys import KEYS, Desk, Shown, bindings, press
from veintrack.tracker.sinks.window_status import Gauges, figures, flags, shortened

__all__ = ["STATUS_PX", "WindowView", "has_screen", "open_window"]

log = logging.getLogger(__name__)
_INSTEAD = "use --view web, or --view none"
_CAPTION = "veintrack - research use only, not a medical device"
STATUS_PX = 44  # height of the two lines of text under the picture
_EMPTY_PX = (480, 640)  # height and width of the picture before the first frame
_REFRESH_S = 0.03  # how often the window looks at its keys while no result comes
_LEAST_S = 0.02  # from one picture to the next: nobody sees more, and tracking needs the time
_JOIN_S = 0.3  # a screen that hangs is left to itself after this long


def has_screen(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether a window could be opened at all."""
    return any(environment.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"))


def open_window(controls: Controls) -> "WindowView":
    """Open the window; what its keys do is shown by the key h.

    Raises
    ------
    OutputError
        If there is no screen.
    BackendMissingError
        If the window's library is not installed.
    """
    if not has_screen():
        raise OutputError(f"there is no screen for a window: {_INSTEAD}")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ModuleNotFoundError as error:
        raise BackendMissingError(
            f'--view window needs {error.name}: pip install "veintrack[window]"'
        ) from error
    return WindowView(pygame, controls)


def _age_ms(result: FrameResult) -> float:
    """Age of a frame now."""
    return (time.monotonic_ns() - result.timings.done_ns + result.timings.age_ns) * 1e-6


class WindowView:
    """Shows the newest result and drops what it has no time for; tracking never waits for it.

    It shows the scan area only: what lies outside may name the patient.
    """

    said = ""

    def __init__(self, pygame: Any, controls: Controls) -> None:
        self._pygame = pygame
        self._keys = bindings(pygame)
        self._desk = Desk(controls)
        self._trails, self._gauges = Trails(), Gauges()
        self._results: Mailbox[FrameResult] = Mailbox(capacity=1, newest_only=True)
        self._thread = threading.Thread(target=self._run, name="veintrack-window", daemon=True)
        self._opened = threading.Event()
        self._painted: object = None  # what the picture on the screen was made from
        self._settled = False  # whether the window has the size of the scan area
        self.error: Exception | None = None
        self._thread.start()
        self._opened.wait()
        if self.error is not None:
            raise OutputError(f"the window does not open: {self.error}; {_INSTEAD}")

    def put(self, result: FrameResult) -> None:
        """Hand over one result; an older one that was not shown yet is forgotten."""
        self._gauges.count(result)
        self._results.put(result)

    def close(self) -> None:
        """Close the window; wait a moment for it. Safe to call twice."""
        self._results.close()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            self._pygame.display.init()
            self._pygame.display.set_caption(_CAPTION)
            self._resize(*_EMPTY_PX)
        except Exception as error:  # told to whoever opens the window
            self.error = error
            return
        finally:
            self._opened.set()
        try:
            self._loop()
        except Exception as error:  # whatever a screen meets, tracking goes on
            self.error = error
            log.warning("the window is closed: %s", error)
            log.debug("the window failed", exc_info=True)
        finally:
            self._pygame.display.quit()

    def _loop(self) -> None:
        while True:
            begun_s = time.monotonic()
            try:
                result = self._results.take(_REFRESH_S)
                if result is None:
                    return
                self._receive(result)
            except queue.Empty:
                pass
            self._obey()
            self._gauges.look()
            self._paint()
            time.sleep(max(0.0, begun_s + _LEAST_S - time.monotonic()))

    def _receive(self, result: FrameResult) -> None:
        first, settles = self._desk.newest is None, result.scan_area_settled and not self._settled
        self._desk.newest = Shown(result, self._trails.follow(result))
        if not self._desk.frozen:
            self._gauges.saw(_age_ms(result))
        if first or settles:
            self._settled = result.scan_area_settled
            self._resize(*self._picture().shape[:2])

    def _resize(self, height: int, width: int) -> None:
        """Make the window fit a picture, as far as the screen allows."""
        most_x, most_y = self._pygame.display.get_desktop_sizes()[0]
        room = min(1.0, 0.9 * most_x / width, (0.9 * most_y - STATUS_PX) / height)
        size = (max(1, round(width * room)), max(1, round(height * room)) + STATUS_PX)
        self._pygame.display.set_mode(size, self._pygame.RESIZABLE)

    def _paint(self) -> None:
        """Bring the screen up to date, if it is not."""
        desk, size = self._desk, self._pygame.display.get_surface().get_size()
        lines = self._lines()
        now = (desk.shown, desk.legend, desk.help, lines, size)
        if now == self._painted:
            return
        self._painted = now
        surface = self._pygame.display.get_surface()
        surface.fill((0, 0, 0))
        width, height = size
        picture = _fitted(self._picture(), width, max(1, height - STATUS_PX))
        rows, columns = picture.shape[:2]
        self._blit(picture, ((width - columns) // 2, max(0, height - STATUS_PX - rows) // 2))
        self._blit(_status(*lines, width), (0, height - STATUS_PX))
        self._pygame.display.flip()

    def _picture(self) -> U8:
        """Draw what is looked at."""
        desk, shown = self._desk, self._desk.shown
        if shown is None:
            picture = np.zeros((*_EMPTY_PX, 3), np.uint8)
        else:
            picture = draw(
                shown.result, shown.result.scan_area_px, trails=shown.trails, legend=desk.legend
            )
        if desk.help:
            _write_help(picture)
        return picture

    def _lines(self) -> tuple[str, str, str]:
        """Say how the run goes, what is out of the ordinary, and what came of the last key."""
        state = self._desk.controls.state
        if self._desk.newest is None:
            return "waiting for the first frame", flags(state, frozen=False), state.said
        frozen = self._desk.frozen is not None
        return (
            figures(self._gauges, state),
            flags(state, frozen=frozen),
            state.said or "h shows the keys",
        )

    def _blit(self, picture: U8, corner: tuple[int, int]) -> None:
        rows, columns = picture.shape[:2]
        image = self._pygame.image.frombuffer(picture, (columns, rows), "BGR")
        self._pygame.display.get_surface().blit(image, corner)

    def _obey(self) -> None:
        pygame = self._pygame
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self._desk.quit()
            elif event.type == pygame.KEYDOWN:
                shift = bool(getattr(event, "mod", 0) & pygame.KMOD_SHIFT)
                press(self._keys, self._desk, event.key, shift=shift)
            elif event.type in (pygame.WINDOWEXPOSED, pygame.WINDOWRESTORED):
                self._painted = None


def _fitted(picture: U8, width: int, height: int) -> U8:
    """Bring a picture to the largest size that fits, as high for its width as it was."""
    zoom = min(width / picture.shape[1], height / picture.shape[0])
    if zoom == 1:
        return picture
    size = (max(1, round(picture.shape[1] * zoom)), max(1, round(picture.shape[0] * zoom)))
    how = cv2.INTER_AREA if zoom < 0.5 else cv2.INTER_LINEAR  # a sixth of the work
    return cast("U8", cv2.resize(picture, size, interpolation=how))


def _status(how: str, unusual: str, said: str, width: int) -> U8:
    """Draw the lines under the picture."""
    strip = Canvas(np.full((STATUS_PX, width, 3), 40, np.uint8), 1, np.zeros(2))
    strip.write(how, (6, 17))
    strip.write(unusual, (width, 17), WARNING)
    letter_px = size_of("n" * 20)[0] / 20
    strip.write(shortened(said, int(width / letter_px)), (6, 37))
    return strip.pixels


def _write_help(picture: U8) -> None:
    """Write what the keys do on a picture, darkened there."""
    canvas = Canvas(picture, 1, np.zeros(2))
    signs = max(size_of(key.sign)[0] for key in KEYS)
    wide = signs + 16 + max(size_of(key.does)[0] for key in KEYS)
    width, height = canvas.size_px
    left, top = max(0, (width - wide) // 2), max(0, (height - 24 * len(KEYS)) // 2)
    room = picture[max(0, top - 8) : top + 24 * len(KEYS) + 8, max(0, left - 8) : left + wide + 8]
    np.copyto(room, room >> 2)
    for row, key in enumerate(KEYS):
        canvas.write_below(key.sign, (left, top + 24 * row), WARNING)
        canvas.write_below(key.does, (left + signs + 16, top + 24 * row))
