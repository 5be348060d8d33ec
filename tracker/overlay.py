"""Results drawn on the picture. State is told by line style as well as by colour."""

import math
from collections.abc import Sequence

import numpy as np

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
from veintrack.tracker.overlay_canvas import (
    WARNING,
    Box,
    Canvas,
    Colour,
    canvas_of,
    size_of,
)
from veintrack.tracker.overlay_labels import place_labels
from veintrack.tracker.overlay_legend import draw_legend, draw_scale
from veintrack.tracker.overlay_trails import Paths, draw_path

__all__ = ["NOTICE", "draw", "label"]

NOTICE = "Research use only. Not a medical device."
# Okabe and Ito's palette, told apart without full colour vision; BGR. A track keeps its colour.
_COLOURS: tuple[Colour, ...] = (
    (115, 158, 0),
    (0, 159, 230),
    (233, 180, 86),
    (167, 121, 204),
    (66, 228, 240),
    (0, 94, 213),
    (178, 114, 0),
)
_GREY = 170  # towards which the colour of what is not seen is mixed
_WHITE: Colour = (255, 255, 255)
_CHI2_95 = 5.991  # 95 % of chi-squared with two degrees of freedom
_CERTAIN_SD = 2.0  # so far a likeness must be from undecided to be named
_DRAWN = (TrackStatus.CONFIRMED, TrackStatus.COASTING)
_TURN = np.linspace(0, 2 * np.pi, 64, endpoint=False)
_CIRCLE: F64 = np.column_stack([np.cos(_TURN), np.sin(_TURN)])


def draw(
    result: FrameResult,
    area_px: Region | None = None,
    *,
    age_ms: float | None = None,
    trails: Paths | None = None,
    legend: bool = False,
) -> U8:
    """Draw a frame with its tracks.

    Confirmed tracks have a solid outline in a colour of their own, coasting ones, paler, a dashed
    ellipse where they are predicted, dotted if they were pressed flat; each has its centroid, the
    95 % ellipse of it, its identity and, where known, its axes and depth, and what it is like
    where that is certain. A picture that is not a new, good one is darkened and says why. While
    the scan area is not known the picture is left out: it may name the patient.

    Parameters
    ----------
    result : FrameResult
        What to draw.
    area_px : tuple of int, optional
        ``(x, y, width, height)`` of the part of the frame to show; all of it by default.
    age_ms : float, optional
        Age of the frame, to be shown.
    trails : mapping, optional
        Where the vessels were, as :meth:`.Trails.follow` says.
    legend : bool
        Whether to say what the lines mean, and, where spacing is known, how long a mm is.

    Returns
    -------
    ndarray of shape (K H, K W, 3), uint8
        BGR; K is the whole number that makes the picture at least 480 px high.
    """
    canvas = canvas_of(result.frame.pixels, area_px, hidden=not result.scan_area_settled)
    if not result.fresh:
        np.copyto(canvas.pixels, canvas.pixels >> 1)
    tracks = [track for track in result.tracks if track.status in _DRAWN]
    for track in tracks:
        if trails and track.id in trails:
            draw_path(canvas, trails[track.id], _colour(track))
    for track in tracks:
        _draw_track(canvas, track)
    age = "" if age_ms is None else f"  {age_ms:.0f} ms old"
    taken = [canvas.write(f"frame {result.frame.index}{age}", (6, 20))]
    for row, line in enumerate(_trouble(result)):
        taken.append(canvas.write(line, (6, 44 + 22 * row), WARNING))
    taken += _draw_foot(canvas, result, legend=legend)
    _draw_labels(canvas, tracks, taken)
    return canvas.pixels


def _draw_foot(canvas: Canvas, result: FrameResult, *, legend: bool) -> list[Box]:
    """Write the notice and, if asked for, the legend and the scale; say where they are."""
    bottom = canvas.size_px[1] - 10
    taken = [canvas.write(NOTICE, (6, bottom))]
    if not legend:
        return taken
    spacing_mm = result.frame.spacing_mm
    if spacing_mm is not None:
        taken += draw_scale(canvas, spacing_mm, bottom - 4)
    return taken + draw_legend(canvas, bottom - 15)


def _trouble(result: FrameResult) -> list[str]:
    """Say what keeps this from being a new, good picture."""
    lines = list(result.changes)
    if not result.scan_area_settled:
        lines.insert(0, "LOOKING FOR THE SCAN AREA (--crop names it)")
    if result.picture is not PictureState.GOOD:
        lines.insert(0, result.picture.value.upper())
    if not result.fresh:
        since_s = (result.time_ns - result.source.since_ns) * 1e-9
        lines.insert(0, f"SOURCE {result.source.signal.value.upper()} for {since_s:.1f} s")
    return lines


def _colour(track: Track) -> Colour:
    """Colour of a track: its own, paler while it is not seen."""
    blue, green, red = _COLOURS[(track.id - 1) % len(_COLOURS)]
    if track.status is not TrackStatus.COASTING:
        return blue, green, red
    return (blue + _GREY) // 2, (green + _GREY) // 2, (red + _GREY) // 2


def _draw_track(canvas: Canvas, track: Track) -> None:
    colour = _colour(track)
    _draw_outline(canvas, track, colour)
    values, vectors = np.linalg.eigh(track.covariance_px2)
    spread = vectors * np.sqrt(np.maximum(values, 0) * _CHI2_95)
    canvas.line(track.centroid_px + _CIRCLE @ spread.T, _WHITE)
    canvas.cross(track.centroid_px, colour)


def _draw_outline(canvas: Canvas, track: Track, colour: Colour) -> None:
    """Draw what was seen of a track, or the ellipse that is expected where nothing was."""
    seen = track.detection
    if seen is not None and seen.contour_px is not None:
        canvas.line(seen.contour_px.astype(np.float64), colour)
        return
    if seen is not None:
        ellipse = seen.centroid_px + _ellipse(seen.axes_px, seen.angle_rad)
    elif track.shape is not None:
        axes_px = (track.shape.major_px, track.shape.minor_px)
        ellipse = track.centroid_px + _ellipse(axes_px, track.shape.angle_rad)
    else:
        ellipse = track.centroid_px + _ellipse(track.box_px[2:], 0.0)
    if track.collapsed:
        canvas.dots(ellipse[::2], colour)
    else:
        canvas.line(ellipse, colour, dashed=seen is None)


def _draw_labels(canvas: Canvas, tracks: Sequence[Track], taken: Sequence[Box]) -> None:
    """Write each track's label where it hides no vessel, as far as there is room."""
    texts = [label(track) for track in tracks]
    vessels = [_box(canvas, track) for track in tracks]
    sizes = [size_of(text) for text in texts]
    boxes = place_labels(sizes, vessels, taken, canvas.size_px)
    for track, text, box in zip(tracks, texts, boxes, strict=True):
        canvas.write_below(text, box[:2], _colour(track))


def _box(canvas: Canvas, track: Track) -> Box:
    """Where a vessel is on the canvas."""
    left, top, width, height = track.box_px
    corners = np.array([[left, top], [left + width, top + height]])
    (x0, y0), (x1, y1) = canvas.place(corners).astype(int).tolist()
    return x0, y0, x1, y1


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
    points: F64 = _CIRCLE @ np.diag(axes_px) @ np.array([[cos, sin], [-sin, cos]]) / 2
    return points
