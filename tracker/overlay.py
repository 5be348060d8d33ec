"""Results drawn on the picture. State is told by line style as well as by colour."""

import math
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import (
    F64,
    U8,
    FrameResult,
    Measurement,
    PictureState,
    Region,
    Track,
    TrackStatus,
)

__all__ = ["NOTICE", "draw", "label"]

NOTICE = "Research use only. Not a medical device."
# Okabe and Ito's palette, told apart without full colour vision; BGR. A track keeps its colour.
_COLOURS = (
    (115, 158, 0),
    (0, 159, 230),
    (233, 180, 86),
    (167, 121, 204),
    (66, 228, 240),
    (0, 94, 213),
    (178, 114, 0),
)
_LIGHT, _WARNING = (200, 200, 200), (0, 220, 255)
_CHI2_95 = 5.991  # 95 % of chi-squared with two degrees of freedom
_CERTAIN_SD = 2.0  # so far a likeness must be from undecided to be named
_MIN_HEIGHT_PX = 480  # smaller frames are enlarged, or the labels would hide them


def draw(result: FrameResult, area_px: Region | None = None, *, age_ms: float | None = None) -> U8:
    """Draw a frame with its tracks.

    Confirmed tracks have a solid outline, coasting ones a dashed ellipse where they are predicted,
    dotted if they were pressed flat; each has its centroid, the 95 % ellipse of it, its identity
    and, where known, its axes, and what it is like where that is certain. A picture that is not a
    new, good one is darkened and says why.

    Parameters
    ----------
    result : FrameResult
        What to draw.
    area_px : tuple of int, optional
        ``(x, y, width, height)`` of the part of the frame to show; all of it by default.
    age_ms : float, optional
        Age of the frame, to be shown.

    Returns
    -------
    ndarray of shape (K H, K W, 3), uint8
        BGR; K is the whole number that makes the picture at least 480 px high.
    """
    canvas = _canvas(result.frame.pixels, area_px)
    trouble = _trouble(result)
    if not result.fresh:
        np.copyto(canvas.pixels, canvas.pixels >> 1)
    for track in result.tracks:
        if track.status in (TrackStatus.CONFIRMED, TrackStatus.COASTING):
            _draw_track(canvas, track)
    age = "" if age_ms is None else f"  {age_ms:.0f} ms old"
    _text(canvas, f"frame {result.frame.index}{age}", (8, 20), _LIGHT)
    for row, line in enumerate(trouble):
        _text(canvas, line, (8, 44 + 22 * row), _WARNING)
    _text(canvas, NOTICE, (8, canvas.pixels.shape[0] - 10), _LIGHT)
    return canvas.pixels


def _trouble(result: FrameResult) -> list[str]:
    """Say what keeps this from being a new, good picture."""
    lines = list(result.changes)
    if result.picture is not PictureState.GOOD:
        lines.insert(0, result.picture.value.upper())
    if not result.fresh:
        since_s = (result.time_ns - result.source.since_ns) * 1e-9
        lines.insert(0, f"SOURCE {result.source.signal.value.upper()} for {since_s:.1f} s")
    return lines


@dataclass(frozen=True, slots=True, eq=False)
class _Canvas:
    """A part of a frame, enlarged and in colour, to draw on."""

    pixels: U8
    zoom: int
    origin_px: F64

    def place(self, points_px: F64) -> F64:
        """Map frame coordinates, shape (..., 2), to pixels of the canvas."""
        mapped: F64 = (points_px - self.origin_px + 0.5) * self.zoom - 0.5
        return mapped


def _canvas(pixels: U8, area_px: Region | None) -> _Canvas:
    x, y, width, height = area_px or (0, 0, pixels.shape[1], pixels.shape[0])
    part = pixels[y : y + height, x : x + width]
    zoom = max(1, math.ceil(_MIN_HEIGHT_PX / height))
    if zoom > 1:
        size = (zoom * width, zoom * height)
        part = cast("U8", cv2.resize(part, size, interpolation=cv2.INTER_CUBIC))
    colour = cast("U8", cv2.cvtColor(part, cv2.COLOR_GRAY2BGR))
    return _Canvas(colour, zoom, np.array([x, y], np.float64))


def _draw_track(canvas: _Canvas, track: Track) -> None:
    colour = _COLOURS[(track.id - 1) % len(_COLOURS)]
    left, top = track.box_px[:2]
    _draw_outline(canvas, track, colour)
    values, vectors = np.linalg.eigh(track.covariance_px2)
    spread = vectors * np.sqrt(np.maximum(values, 0) * _CHI2_95)
    _line(canvas, track.centroid_px + _circle() @ spread.T, (255, 255, 255))
    x, y = np.rint(canvas.place(track.centroid_px)).astype(int)
    cv2.drawMarker(canvas.pixels, (int(x), int(y)), colour, cv2.MARKER_CROSS, 9, 1, cv2.LINE_AA)
    x, y = canvas.place(np.array([left, top])).astype(int)
    _text(canvas, label(track), (int(x), max(int(y) - 6, 14)), colour)


def _draw_outline(canvas: _Canvas, track: Track, colour: tuple[int, int, int]) -> None:
    """Draw what was seen of a track, or the ellipse that is expected where nothing was."""
    seen = track.detection
    if seen is not None and seen.contour_px is not None:
        _line(canvas, seen.contour_px.astype(np.float64), colour)
        return
    if seen is not None:
        ellipse = seen.centroid_px + _ellipse(seen.axes_px, seen.angle_rad)
    elif track.shape is not None:
        axes_px = (track.shape.major_px, track.shape.minor_px)
        ellipse = track.centroid_px + _ellipse(axes_px, track.shape.angle_rad)
    else:
        ellipse = track.centroid_px + _ellipse(track.box_px[2:], 0.0)
    if track.collapsed:
        _dots(canvas, ellipse[::2], colour)
    else:
        _line(canvas, ellipse, colour, dashed=seen is None)


def label(track: Track) -> str:
    """Name a track: its identity, and its size, or why it is not seen."""
    m = track.measurement
    if track.status is TrackStatus.COASTING:
        return f"{track.id} {'collapsed' if track.collapsed else 'predicted'}"
    if m is None:
        return str(track.id)
    sized = m.minor_mm is not None
    size = f"  {m.major_mm:.1f} x {m.minor_mm:.1f} mm, {m.depth_mm:.0f} deep" if sized else ""
    return f"{track.id}{size}{_likeness(m)}"


def _likeness(m: Measurement) -> str:
    """Say what a vessel is like, where that is certain."""
    if m.vein_likeness is None or m.vein_likeness_sd is None:
        return ""
    beyond = m.vein_likeness - 0.5
    if abs(beyond) < _CERTAIN_SD * m.vein_likeness_sd:
        return ""
    return "  vein-like" if beyond > 0 else "  artery-like"


def _ellipse(axes_px: tuple[float, float], angle_rad: float) -> F64:
    """Points of an ellipse about (0, 0), shape (64, 2), from its full axes and its direction."""
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    points: F64 = _circle() @ np.diag(axes_px) @ np.array([[cos, sin], [-sin, cos]]) / 2
    return points


def _circle() -> F64:
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.column_stack([np.cos(turn), np.sin(turn)])


def _line(
    canvas: _Canvas, points_px: F64, colour: tuple[int, int, int], *, dashed: bool = False
) -> None:
    points = _fixed(canvas, points_px)
    pieces = [points[k : k + 3] for k in range(0, len(points), 4)] if dashed else [points]
    for piece in pieces:
        cv2.polylines(canvas.pixels, [piece[:, None]], not dashed, colour, 1, cv2.LINE_AA, shift=4)


def _dots(canvas: _Canvas, points_px: F64, colour: tuple[int, int, int]) -> None:
    for x, y in _fixed(canvas, points_px).tolist():
        cv2.circle(canvas.pixels, (x, y), 24, colour, cv2.FILLED, cv2.LINE_AA, shift=4)


def _fixed(canvas: _Canvas, points_px: F64) -> NDArray[np.int32]:
    """Map frame coordinates to sixteenths of the canvas's pixels, as OpenCV draws them."""
    return np.rint(canvas.place(points_px) * 16).astype(np.int32)


def _text(canvas: _Canvas, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    x, y = max(2, min(at[0], canvas.pixels.shape[1] - width - 2)), at[1]
    # A black rim keeps it readable on bright tissue. Not a thicker line: that is set wider.
    rim = [((x + dx, y + dy), (0, 0, 0)) for dx, dy in ((-1, -1), (-1, 1), (1, -1), (1, 1))]
    for place, ink in [*rim, ((x, y), colour)]:
        cv2.putText(canvas.pixels, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, 1, cv2.LINE_AA)
