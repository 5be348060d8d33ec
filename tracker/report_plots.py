"""Figures of a report: every track over time, and what happened meanwhile."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from veintrack.tracker.frame import F64
from veintrack.tracker.page import YELLOW, new_figure
from veintrack.tracker.report_story import VALUES, Course, Event, Story
from veintrack.tracker.scoring.rows import I64, Flags

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_courses", "draw_timeline", "shown_courses", "thinned"]

# Those of the overlay, in its order: a track has one colour in pictures and curves.
_COLOURS = ("#009e73", "#e69f00", "#56b4e9", "#cc79a7", YELLOW, "#d55e00", "#0072b2")
_STYLES = ("-", (0, (6, 1)), (0, (6, 1, 1, 1)))  # once all colours are taken
_MOST = 12  # tracks that are figure: those that were believed longest
_BINS = 500  # over the whole time, each with its extremes: more than a page has room for
_UNITS = {"diameter": ("px", "mm"), "depth": ("px", "mm"), "area": ("px²", "mm²")}
_COLUMNS = 7  # of the legend, which fills them one by one
_TROUBLE = "#8a8a8a"
_KINDS = ("source", "picture", "change")
_NAMED = 8  # events whose words are written beside them: more would cover each other


def shown_courses(story: Story) -> tuple[Course, ...]:
    """Choose what is figure: all tracks, or of many those that were believed longest."""
    longest = sorted(story.courses, key=lambda course: -len(course.time_s))[:_MOST]
    return tuple(sorted(longest, key=lambda course: course.id))


def thinned(time_s: F64, values: F64, step_s: float) -> I64:
    """Choose points that draw the same curve: the smallest and the largest of each step, the ends.

    Parameters
    ----------
    time_s, values : ndarray of shape (N,), float64
        The curve; times rise, values are finite.
    step_s : float
        Length of a step.

    Returns
    -------
    ndarray, int64
        Places of the points, rising.
    """
    if not len(time_s):
        return np.empty(0, np.int64)
    step = np.floor((time_s - time_s[0]) / step_s).astype(np.int64)
    order = np.lexsort((values, step))
    begins = np.flatnonzero(np.diff(step[order], prepend=-1))
    ends = np.append(begins[1:], len(order)) - 1
    return np.unique(np.concatenate([order[begins], order[ends], [0, len(time_s) - 1]]))


def draw_courses(story: Story) -> "Figure":
    """Draw diameter, depth, area and collapse over time; a gap where a track was not seen."""
    courses = shown_courses(story)
    figure = new_figure(10, 9.5)
    every = figure.subplots(len(VALUES), 1, sharex=True)
    for axes, name in zip(every, VALUES, strict=True):
        _mark_events(axes, story)
        for course in courses:
            _draw_curve(axes, course, name, max(story.end_s, 1e-9) / _BINS)
        axes.set_ylabel(_title(name, story.in_mm))
        axes.grid(linewidth=0.4, alpha=0.5)
        axes.set_xlim(0, max(story.end_s, 0.1))
    every[list(VALUES).index("depth")].invert_yaxis()  # as in the picture
    every[list(VALUES).index("collapse")].set_ylim(-0.02, 1.02)
    every[-1].set_xlabel("time, s")
    if courses:
        handles, _ = every[0].get_legend_handles_labels()
        by_rows = [one for column in range(_COLUMNS) for one in handles[column::_COLUMNS]]
        figure.legend(handles=by_rows, loc="outside upper center", ncols=_COLUMNS, frameon=False)
    return figure


def _title(name: str, in_mm: bool) -> str:
    units = _UNITS.get(name)
    return name if units is None else f"{name}, {units[in_mm]}"


def _ink(course: Course) -> tuple[str, Any]:
    """Colour and line style of a track."""
    turn, place = divmod(course.id - 1, len(_COLOURS))
    return _COLOURS[place], _STYLES[turn % len(_STYLES)]


def _draw_curve(axes: "Axes", course: Course, name: str, step_s: float) -> None:
    colour, style = _ink(course)
    values = course.values[name]
    pieces = [_piece(course.time_s[p], values[p], step_s) for p in _runs(course.seen, values)]
    axes.plot(
        *_joined(pieces), color=colour, linestyle=style, linewidth=1.3, label=f"track {course.id}"
    )
    bridges = [np.stack([a[:, -1], b[:, 0]], axis=1) for a, b in pairwise(pieces)]
    axes.plot(*_joined(bridges), color=colour, linestyle=":", linewidth=0.9)


def _runs(seen: Flags, values: F64) -> list[I64]:
    """Split rows where the track was not seen, or the value is not known."""
    places = np.flatnonzero(seen & np.isfinite(values))
    return [p for p in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(p)]


def _piece(time_s: F64, values: F64, step_s: float) -> F64:
    kept = thinned(time_s, values, step_s)
    return np.stack([time_s[kept], values[kept]])


def _joined(pieces: Sequence[F64]) -> F64:
    """Put pieces of a curve, each of shape (2, N), into one with gaps between them."""
    gap = np.full((2, 1), np.nan)
    return np.concatenate([part for piece in pieces for part in (piece, gap)] or [gap], axis=1)


def _mark_events(axes: "Axes", story: Story) -> None:
    for event in story.events:
        if event.kind == "change":
            axes.axvline(event.begin_s, color=_TROUBLE, linewidth=0.8, linestyle="--")
        else:
            axes.axvspan(event.begin_s, event.end_s, color=_TROUBLE, alpha=0.25, linewidth=0)


def draw_timeline(story: Story) -> "Figure":
    """Draw a lane for each track, and for what happened to the source and the picture."""
    courses = shown_courses(story)
    kinds = [k for k in _KINDS if any(event.kind == k for event in story.events)]
    names = [f"track {course.id}" for course in courses] + kinds
    figure = new_figure(10, 0.9 + 0.28 * len(names))
    axes = figure.subplots()
    for lane, course in enumerate(courses):
        _draw_lane(axes, course, lane)
    for lane, kind in enumerate(kinds, len(courses)):
        _draw_events(axes, [event for event in story.events if event.kind == kind], lane)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="time, s", ylim=(len(names) - 0.4, -0.6), xlim=(0, max(story.end_s, 0.1)))
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    return figure


def _draw_lane(axes: "Axes", course: Course, lane: int) -> None:
    """Draw when a track was seen (thick), predicted (thin) and pressed flat (hollow)."""
    colour, _ = _ink(course)
    state = np.where(course.seen, 0, np.where(course.collapsed, 2, 1))
    begins = np.flatnonzero(np.diff(state, prepend=-1))
    ends = course.time_s[np.append(begins[1:], len(state) - 1)]
    spans = np.stack([course.time_s[begins], ends - course.time_s[begins]], axis=1)
    for kind, (height, face, edge) in enumerate(
        ((0.62, colour, "none"), (0.14, colour, "none"), (0.4, "none", colour))
    ):
        own = [(begin, width) for begin, width in spans[state[begins] == kind].tolist()]
        axes.broken_barh(own, (lane - height / 2, height), facecolor=face, edgecolor=edge)


def _draw_events(axes: "Axes", events: Sequence[Event], lane: int) -> None:
    spans = [(e.begin_s, e.end_s - e.begin_s) for e in events if e.kind != "change"]
    axes.broken_barh(spans, (lane - 0.3, 0.6), facecolor=_TROUBLE)
    at = [e.begin_s for e in events if e.kind == "change"]
    axes.plot(at, [lane] * len(at), "v", color=_TROUBLE, markersize=6)
    for event in events[:_NAMED]:
        axes.annotate(
            event.what, (event.begin_s, lane), (6, -3), textcoords="offset points", parse_math=False
        )
