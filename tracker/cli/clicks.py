"""Two clicks on a picture and the distance between them: spacing, measured by eye."""

import os
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from veintrack.errors import BackendMissingError, OutputError
from veintrack.tracker.frame import U8
from veintrack.tracker.ruler import spacing_from_clicks
from veintrack.tracker.sinks.window import has_screen

__all__ = ["Clicks", "Measuring", "measure_in_window"]

Point = tuple[float, float]
Clicks = tuple[Point, Point, float]  # (x, y) and (x, y) in px, and mm between them

_CAPTION = "veintrack - click two points a known distance apart"
_SMALLEST_PX = 640  # width of the window, at least: its line of text must fit
_STRIP_PX = 26  # height of that line
_COLOUR = (0, 255, 255)
_WAIT_MS = 200


@dataclass(slots=True)
class Measuring:
    """What was clicked and typed so far.

    Attributes
    ----------
    typed : str
        Distance of the points in mm, as it was typed.
    points_px : list of tuple
        ``(x, y)`` of up to two clicks. A third one begins anew.
    """

    typed: str = ""
    points_px: list[Point] = field(default_factory=list)

    def click(self, point_px: Point) -> None:
        """Take a click on the picture."""
        self.points_px = [*(self.points_px if len(self.points_px) < 2 else ()), point_px]

    def type(self, text: str) -> None:
        """Take what a key writes; what is no part of a number is passed over."""
        if text.isdecimal() or (text == "." and "." not in self.typed):
            self.typed += text

    def erase(self) -> None:
        """Take back the last sign that was typed."""
        self.typed = self.typed[:-1]

    def answer(self) -> Clicks | None:
        """Two points and their distance; None while something is missing, or cannot be."""
        if len(self.points_px) < 2 or not self.typed.strip("."):
            return None
        first, second, mm = *self.points_px, float(self.typed)
        try:
            spacing_from_clicks(first, second, mm)
        except ValueError:
            return None
        return first, second, mm

    def prompt(self) -> str:
        """Say what is to be done next."""
        if len(self.points_px) < 2:
            return f"click the {('first', 'second')[len(self.points_px)]} point; Esc gives up"
        if self.answer() is None:
            return f"type their distance: {self.typed}_ mm; or click anew, 10 px apart or more"
        return f"{self.typed} mm apart: Enter takes it; click anew to correct"


def measure_in_window(pixels: U8, distance_mm: float | None = None) -> Clicks | None:
    """Show a picture and let two points be clicked and their distance be typed.

    Parameters
    ----------
    pixels : ndarray of shape (H, W), uint8
        A whole frame.
    distance_mm : float, optional
        The distance, if it is known before.

    Returns
    -------
    tuple or None
        The points in px of the frame and their distance in mm; None where the user gave up.

    Raises
    ------
    OutputError
        If there is no screen, or the window does not open.
    BackendMissingError
        If the window's library is not installed.
    """
    if not has_screen():
        raise OutputError("there is no screen for a window: give --clicks X0,Y0,X1,Y1,MM")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ModuleNotFoundError as error:
        raise BackendMissingError(
            f'--window needs {error.name}: pip install "veintrack[window]"'
        ) from error
    try:
        pygame.display.init()
        pygame.display.set_caption(_CAPTION)
        size = (max(_SMALLEST_PX, pixels.shape[1]), pixels.shape[0] + _STRIP_PX)
        pygame.display.set_mode(size, pygame.RESIZABLE)
    except pygame.error as error:
        raise OutputError(
            f"the window does not open: {error}; give --clicks X0,Y0,X1,Y1,MM"
        ) from error
    try:
        return _loop(pygame, pixels, Measuring("" if distance_mm is None else f"{distance_mm:g}"))
    finally:
        pygame.display.quit()


def _loop(pygame: Any, pixels: U8, measuring: Measuring) -> Clicks | None:
    while True:
        place = _show(pygame, pixels, measuring)
        event = pygame.event.wait(_WAIT_MS)
        if event.type == pygame.QUIT:
            return None
        if event.type == pygame.MOUSEBUTTONDOWN and event.button == 1:
            point_px = place.on_frame(event.pos)
            if point_px is not None:
                measuring.click(point_px)
        if event.type != pygame.KEYDOWN:
            continue
        if event.key == pygame.K_ESCAPE:
            return None
        if event.key == pygame.K_BACKSPACE:
            measuring.erase()
        elif event.key in (pygame.K_RETURN, pygame.K_KP_ENTER):
            if (answer := measuring.answer()) is not None:
                return answer
        else:
            measuring.type(event.unicode)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a frame of `width_px` and `height_px` is shown in the window, `zoom` times as large."""

    width_px: int
    height_px: int
    zoom: float

    def on_frame(self, at: tuple[int, int]) -> Point | None:
        """Turn a place in the window into one on the frame; edges map to edges."""
        x, y = ((v + 0.5) / self.zoom - 0.5 for v in at)
        inside = -0.5 <= x < self.width_px - 0.5 and -0.5 <= y < self.height_px - 0.5
        return (x, y) if inside else None


def _show(pygame: Any, pixels: U8, measuring: Measuring) -> _Place:
    surface = pygame.display.get_surface()
    width, height = surface.get_size()
    rows, columns = pixels.shape
    zoom = max(0.1, min(width / columns, (height - _STRIP_PX) / rows))
    place = _Place(columns, rows, zoom)
    shown = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), None, fx=zoom, fy=zoom)
    marks = [(round(zoom * x), round(zoom * y)) for x, y in measuring.points_px]
    for mark in marks:
        cv2.drawMarker(shown, mark, _COLOUR, cv2.MARKER_CROSS, 15)
    if len(marks) == 2:
        cv2.line(shown, marks[0], marks[1], _COLOUR)
    strip = np.zeros((_STRIP_PX, width, 3), np.uint8)
    cv2.putText(
        strip, measuring.prompt(), (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _COLOUR, 1, cv2.LINE_AA
    )
    surface.fill((0, 0, 0))
    for picture, top in ((shown, 0), (strip, height - _STRIP_PX)):
        size = (picture.shape[1], picture.shape[0])
        surface.blit(pygame.image.frombuffer(picture.tobytes(), size, "BGR"), (0, top))
    pygame.display.flip()
    return place
