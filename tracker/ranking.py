"""Which vein to take, and which catheter goes into it."""

import math
from collections.abc import Sequence
from typing import Literal

from veintrack.tracker.frame import Measurement, Track, TrackStatus

__all__ = [
    "LARGEST_CATHETER_TO_VEIN",
    "SortBy",
    "best_vein",
    "catheter_to_vein_ratio",
    "french_to_mm",
]

SortBy = Literal["diameter", "depth", "collapse"]

LARGEST_CATHETER_TO_VEIN = 0.45
"""Largest part of a vein's diameter that a catheter should take.

Above it, symptomatic thrombosis was more frequent (Sharp et al., Int. J. Nurs. Stud. 52, 2015,
677-685; BMJ Open 11, 2021, e045895: relative risk 2.3)."""

_MM_PER_FRENCH = 1 / 3  # outer diameter: the Charriere scale


def best_vein(tracks: Sequence[Track], by: SortBy) -> Track | None:
    """Choose the best vein of one frame.

    Parameters
    ----------
    tracks : sequence of Track
        Of one frame. Only what is confirmed, and not surely like an artery, is looked at: a track
        whose vein-likeness is unknown, or within its uncertainty of 0.5, counts.
    by : {"diameter", "depth", "collapse"}
        The largest minor axis, the nearest upper wall, or the largest collapse (what can be
        pressed shut holds no clot).

    Returns
    -------
    Track or None
        A track without the value comes after all that have it. Equal ones: the larger minor axis,
        then the older track. None where there is none to choose.

    Raises
    ------
    ValueError
        If `by` is none of the three.
    """
    if by not in _MERIT:
        raise ValueError(f"by must be one of {', '.join(_MERIT)}, got {by!r}")
    merit = _MERIT[by]
    seen = [
        (merit(track.measurement), track.measurement.minor_px, -track.id, track)
        for track in tracks
        if track.status is TrackStatus.CONFIRMED
        and track.measurement is not None
        and _may_be_vein(track.measurement)
    ]
    return max(seen, key=lambda one: one[:3])[3] if seen else None


def catheter_to_vein_ratio(catheter_mm: float, vein_mm: float) -> float:
    """Part of a vein's diameter that a catheter takes.

    Parameters
    ----------
    catheter_mm : float
        Outer diameter; see :func:`french_to_mm`.
    vein_mm : float
        Diameter of the vein: its minor axis at rest, without a tourniquet.

    Returns
    -------
    float
        To be compared with :data:`LARGEST_CATHETER_TO_VEIN`. A ratio of diameters, as in the
        studies, not of areas.

    Raises
    ------
    ValueError
        If one of them is not positive and finite.
    """
    for name, value in (("catheter_mm", catheter_mm), ("vein_mm", vein_mm)):
        _check_positive(name, value)
    return catheter_mm / vein_mm


def french_to_mm(french: float) -> float:
    """Outer diameter in mm of a catheter of so many French (Charriere): a third of a mm each.

    Raises
    ------
    ValueError
        If it is not positive and finite.
    """
    _check_positive("french", french)
    return french * _MM_PER_FRENCH


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be greater than 0 and finite, got {value}")


def _may_be_vein(measured: Measurement) -> bool:
    likeness, sd = measured.vein_likeness, measured.vein_likeness_sd
    return likeness is None or likeness + (sd or 0.0) >= 0.5


def _diameter(measured: Measurement) -> float:
    return measured.minor_px if measured.minor_mm is None else measured.minor_mm


def _nearness(measured: Measurement) -> float:
    return -math.inf if measured.near_wall_px is None else -measured.near_wall_px


def _collapse(measured: Measurement) -> float:
    return -math.inf if measured.collapse is None else measured.collapse


_MERIT = {"diameter": _diameter, "depth": _nearness, "collapse": _collapse}
