"""Where vessels were over the last seconds."""

import math
from collections import deque
from collections.abc import Mapping

import numpy as np

from veintrack.tracker.frame import F64, FrameResult, TrackStatus
from veintrack.tracker.overlay_canvas import Canvas, Colour

__all__ = ["TRAIL_S", "Paths", "Trails", "draw_path"]

TRAIL_S = 2.0
_STEP_PX = 0.5  # a vessel that rests leaves no points
_LIGHTS = (0.35, 0.5, 0.7, 0.9)  # of the oldest quarter of a trail, and of the next ones

#: By a track's identity: where it was, shape (N, 3), ``(seconds ago, x_px, y_px)``, oldest first.
Paths = Mapping[int, F64]


class Trails:
    """Remembers where the vessels were; belongs to one view, which shows it what it draws.

    Parameters
    ----------
    seconds : float
        How far back, on the clock of the frames.
    """

    def __init__(self, seconds: float = TRAIL_S) -> None:
        self._limit_ns = round(seconds * 1e9)
        self._points: dict[int, deque[tuple[int, float, float]]] = {}
        self._shape: tuple[int, ...] = ()
        self._last_ns = 0

    def follow(self, result: FrameResult) -> Paths:
        """Take note of where the vessels are, and say where they were.

        All is forgotten where the picture is another one: its size, its layout, or an earlier time.
        """
        now_ns, shape = result.time_ns, result.frame.pixels.shape
        another = shape != self._shape or "layout changed" in result.changes
        if another or now_ns < self._last_ns:
            self._points = {}
        self._shape, self._last_ns = shape, now_ns
        alive = [track for track in result.tracks if track.status is not TrackStatus.LOST]
        self._points = {track.id: self._points.get(track.id, deque()) for track in alive}
        paths: dict[int, F64] = {}
        for track in alive:
            points = self._points[track.id]
            x, y = track.centroid_px.tolist()
            while points and points[0][0] < now_ns - self._limit_ns:
                points.popleft()
            now = (now_ns, x, y)
            if points and points[-1] != now:
                path = np.array([*points, now], np.float64)
                path[:, 0] = (now_ns - path[:, 0]) * 1e-9
                paths[track.id] = path
            if not points or math.dist(points[-1][1:], (x, y)) >= _STEP_PX:
                points.append(now)
        return paths


def draw_path(canvas: Canvas, path: F64, colour: Colour, seconds: float = TRAIL_S) -> None:
    """Draw where a vessel was, shape (N, 3) as in :data:`Paths`, the darker the longer ago."""
    parts = len(_LIGHTS)
    ages = -path[:, 0]
    ends = np.searchsorted(ages, [-seconds * (parts - k) / parts for k in range(parts)])
    for first, last, light in zip(ends, [*ends[1:], len(path)], _LIGHTS, strict=True):
        piece = path[first : last + 1, 1:]  # up to the first point of the next one
        if len(piece) > 1:
            blue, green, red = colour
            faded = round(blue * light), round(green * light), round(red * light)
            canvas.line(piece, faded, closed=False)
