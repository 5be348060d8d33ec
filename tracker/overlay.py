"""Results drawn on the picture. State is told by line style as well as by colour."""

import math
from typing import cast

import cv2
import numpy as np

from veintrack.tracker.frame import F64, U8, FrameResult, Track, TrackStatus

__all__ = ["NOTICE", "draw"]

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
_CHI2_95 = 5.991  # 95 % of chi-squared with two degrees of freedom
_MIN_HEIGHT_PX = 480  # smaller frames are enlarged, or the labels would hide them


def draw(result: FrameResult) -> U8:
    """Draw a frame with its tracks.

    Confirmed tracks have a solid outline, coasting ones a dashed ellipse where they are predicted;
    each has its centroid, the 95 % ellipse of it, its identity and, where known, its diameter.

    Returns
    -------
    ndarray of shape (K H, K W, 3), uint8
        BGR; K is the whole number that makes the picture at least 480 px high.
    """
    pixels = result.frame.pixels
    zoom = max(1, math.ceil(_MIN_HEIGHT_PX / pixels.shape[0]))
    enlarged = cv2.resize(pixels, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    canvas = cast("U8", cv2.cvtColor(enlarged if zoom > 1 else pixels, cv2.COLOR_GRAY2BGR))
    for track in result.tracks:
        if track.status in (TrackStatus.CONFIRMED, TrackStatus.COASTING):
            _draw_track(canvas, track, zoom)
    _text(canvas, f"frame {result.frame.index}", (8, 20), (200, 200, 200))
    _text(canvas, NOTICE, (8, canvas.shape[0] - 10), (200, 200, 200))
    return canvas


def _draw_track(canvas: U8, track: Track, zoom: int) -> None:
    colour = _COLOURS[(track.id - 1) % len(_COLOURS)]
    found = track.detection
    if found is not None and found.contour_px is not None:
        _line(canvas, found.contour_px.astype(np.float64), zoom, colour)
    else:
        _, _, width, height = track.box_px
        shape = np.diag([width / 2, height / 2])
        _line(canvas, track.centroid_px + _circle() @ shape, zoom, colour, dashed=True)
    values, vectors = np.linalg.eigh(track.covariance_px2)
    spread = vectors * np.sqrt(np.maximum(values, 0) * _CHI2_95)
    _line(canvas, track.centroid_px + _circle() @ spread.T, zoom, (255, 255, 255))
    x, y = _to_canvas(track.centroid_px[None], zoom)[0] // 16
    cv2.drawMarker(canvas, (int(x), int(y)), colour, cv2.MARKER_CROSS, 9, 1, cv2.LINE_AA)
    left, top = track.box_px[0] * zoom, track.box_px[1] * zoom
    _text(canvas, _label(track), (int(left), max(int(top) - 6, 14)), colour)


def _label(track: Track) -> str:
    m = track.measurement
    if track.status is TrackStatus.COASTING:
        return f"{track.id} predicted"
    if m is None or m.minor_mm is None:
        return str(track.id)
    return f"{track.id}  {m.major_mm:.1f} x {m.minor_mm:.1f} mm, {m.depth_mm:.0f} deep"


def _circle() -> F64:
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.column_stack([np.cos(turn), np.sin(turn)])


def _to_canvas(points_px: F64, zoom: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.int32]]":
    """Frame coordinates to OpenCV's fixed point: sixteenths of an enlarged pixel."""
    return np.rint(((points_px + 0.5) * zoom - 0.5) * 16).astype(np.int32)


def _line(
    canvas: U8, points_px: F64, zoom: int, colour: tuple[int, int, int], *, dashed: bool = False
) -> None:
    points = _to_canvas(points_px, zoom)
    if not dashed:
        cv2.polylines(canvas, [points[:, None]], True, colour, 1, cv2.LINE_AA, shift=4)
        return
    for start in range(0, len(points), 4):
        piece = points[start : start + 3]
        cv2.polylines(canvas, [piece[:, None]], False, colour, 1, cv2.LINE_AA, shift=4)


def _text(canvas: U8, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    # A black rim keeps it readable on bright tissue. Not a thicker line: that is set wider.
    x, y = at
    rim = [((x + dx, y + dy), (0, 0, 0)) for dx, dy in ((-1, -1), (-1, 1), (1, -1), (1, 1))]
    for place, ink in [*rim, (at, colour)]:
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, 1, cv2.LINE_AA)
