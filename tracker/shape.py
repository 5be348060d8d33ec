"""A vessel's size and form, smoothed over time.

The state is the logarithm of the area and the elongation, ``log(major / minor)`` times
``(cos 2a, sin 2a)`` with a the angle of the major axis. Doubling the angle makes an axis one
direction, not two; a round vessel, whose angle means nothing, is the origin; and turning an ellipse
turns the vector. The logarithm keeps sizes positive and makes errors relative. Area and
elongation are each a random walk with a noise that is equal in all directions, so the Kalman
filter falls apart into two with one variance each. Theirs is arithmetic of a few numbers a track,
which a call of a matrix library would cost many times.
"""

import math
from typing import NamedTuple

from veintrack.tracker.frame import Detection, Shape

__all__ = [
    "Form",
    "birth",
    "box_at",
    "extents",
    "filling",
    "grown",
    "ragged",
    "shape_of",
    "size_noise_px2",
    "update",
]

_FLOOR = 0.02**2  # variance of a measured log area, however sharp its edge
_UNKNOWN = 1e4  # variance of a log area of which nothing is known
_FULL = 0.997  # of its ellipse, that a smooth outline of pixels fills
_ROUND = 1e-3  # least minor axis, as a part of the major one, of which a logarithm is taken


class Form(NamedTuple):
    """Mean and variance of a vessel's size and form.

    Attributes
    ----------
    log_area : float
        Natural logarithm of the area, px².
    along, aslant : float
        The elongation: towards the axes of the picture, and towards its diagonals.
    area_var, form_var : float
        Variance of `log_area`, and of each component of the elongation.
    """

    log_area: float
    along: float
    aslant: float
    area_var: float
    form_var: float


def birth(found: Detection) -> Form:
    """Start with what was seen first."""
    log_area, along, aslant, noise = _seen(found)
    return Form(log_area, along, aslant, noise, 2 * noise)


def update(
    prior: Form, found: Detection, dt_s: float, area_psd_s: float, form_psd_s: float
) -> Form:
    """Let time pass and blend in what was seen: a Kalman filter of one dimension for each part.

    Nothing is expected to change, so the mean waits for the next sighting as it is; its variance
    grows with the time, however that is divided.

    Parameters
    ----------
    prior : Form
        As it was when the vessel was seen before.
    found : Detection
        What is seen now.
    dt_s : float
        Time between the two.
    area_psd_s, form_psd_s : float
        Variance of the logarithm of the area, and of the elongation, gained in a second.
    """
    log_area, along, aslant, noise = _seen(found)
    area_var, form_var = prior.area_var + area_psd_s * dt_s, prior.form_var + form_psd_s * dt_s
    area_gain = area_var / (area_var + noise)
    form_gain = form_var / (form_var + 2 * noise)
    return Form(
        prior.log_area + area_gain * (log_area - prior.log_area),
        prior.along + form_gain * (along - prior.along),
        prior.aslant + form_gain * (aslant - prior.aslant),
        area_gain * noise,
        form_gain * 2 * noise,
    )


def shape_of(form: Form) -> Shape:
    """Give the ellipse that a state stands for."""
    ratio = math.exp(math.hypot(form.along, form.aslant))
    area = math.exp(form.log_area)
    minor = math.sqrt(4 / math.pi * area / ratio)
    angle = 0.5 * math.atan2(form.aslant, form.along)
    return Shape(area, minor * ratio, minor, angle, math.sqrt(form.area_var))


def extents(major_px: float, minor_px: float, angle_rad: float) -> tuple[float, float]:
    """Width and height of an ellipse with these full axes, px."""
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    return (
        math.hypot(major_px * cos, minor_px * sin),
        math.hypot(major_px * sin, minor_px * cos),
    )


def filling(area_px2: float, major_px: float, minor_px: float) -> float:
    """Which part of the ellipse with these full axes an area fills: 1 for an ellipse.

    With the axes of the same second moments, two discs that touch fill 0.90 of theirs, two that
    are half a radius apart 0.74.
    """
    return area_px2 / max(math.pi / 4 * major_px * minor_px, 1e-9)


def grown(expected_px2: float, found: Detection) -> float:
    """Area as a part of the expected one; a pixel more of both, so that neither is nothing."""
    return (found.area_px2 + 1) / (expected_px2 + 1)


def size_noise_px2(expected_px2: float, found: Detection) -> float:
    """Variance of the centroid that another area than expected stands for.

    What is missing or too much may lie on any side: it shifts the centroid by about its share of
    the radius.
    """
    ratio = grown(expected_px2, found)
    return (1 - min(ratio, 1 / ratio)) ** 2 * max(found.area_px2, expected_px2) / math.pi


def ragged(area_px2: float, major_px: float, minor_px: float) -> float:
    """Which part of its ellipse an outline lacks, 0 for a smooth one.

    Vessels are ellipses, nearly: where an outline is none, something is missing or too much.
    """
    return max(0.0, _FULL - filling(area_px2, major_px, minor_px))


def box_at(shape: Shape, x_px: float, y_px: float) -> tuple[float, float, float, float]:
    """``(left, top, width, height)`` of the box around a shape centred at a place."""
    width, height = extents(shape.major_px, shape.minor_px, shape.angle_rad)
    return x_px - width / 2, y_px - height / 2, width, height


def _seen(found: Detection) -> tuple[float, float, float, float]:
    """Measured state, and the variance of its log area.

    To first order, edge errors e(s) along the outline of a circle of radius r move the area A by
    the integral of e, and the centroid's x by that of x e / A. Where they are independent along
    the outline, the variance of log A is therefore the trace of the centroid's covariance over
    r²; for an ellipse the mean of its r² on the outline is near (major² + minor²) / 8. The same
    sum with cos 2s in place of 1 gives an elongation with twice that variance.
    """
    major, minor = found.axes_px
    squares = (major * major + minor * minor) / 8
    trace = found.covariance_px2.item(0) + found.covariance_px2.item(3)
    noise = _FLOOR + (min(max(trace, 0.0) / squares, _UNKNOWN) if squares > 0 else _UNKNOWN)
    length = -math.log(max(minor / major, _ROUND)) if major > 0 else 0.0
    twice = 2 * found.angle_rad
    return (
        math.log(max(found.area_px2, 1e-6)),
        length * math.cos(twice),
        length * math.sin(twice),
        noise,
    )
