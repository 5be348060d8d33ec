"""Which frames a report shows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from veintrack.tracker.report_story import Course, Event, Story

__all__ = ["Wanted", "in_words", "pick_frames"]

_MOST = 6
_FIRST = 3  # of these at most show where tracks were confirmed first
_WINDOW_S = 4.0  # over which collapse is measured: the smallest diameter lies in it


@dataclass(frozen=True, slots=True)
class Wanted:
    """A frame to show.

    Attributes
    ----------
    frame : int
        Its index.
    time_s : float
        When, since the run's first frame.
    why : str
        What is seen in it.
    """

    frame: int
    time_s: float
    why: str


def pick_frames(story: Story) -> list[Wanted]:
    """Pick about six frames: first sightings, the largest collapse, what happened to the picture.

    Returns
    -------
    list of Wanted
        In order of time, each frame once; where less happened, some in between.
    """
    firsts = _first_seen(story.courses)
    order = [
        *firsts[:_FIRST],
        *_largest_collapse(story.courses),
        *_events(story.events),
        *firsts[_FIRST:],
    ]
    chosen: dict[int, Wanted] = {}
    for one in order:
        same = chosen.get(one.frame)
        if same is not None:
            chosen[one.frame] = replace(same, why=f"{same.why}; {one.why}")
        elif len(chosen) < _MOST:
            chosen[one.frame] = one
    while len(chosen) < min(_MOST, len(story.frame)):
        between = _between(story, sorted(chosen))
        chosen[between.frame] = between
    return sorted(chosen.values(), key=lambda one: one.frame)


def _first_seen(courses: Sequence[Course]) -> list[Wanted]:
    """Where tracks were confirmed first; those of the tracks that were believed longest first."""
    together: dict[int, list[Course]] = {}
    for course in sorted(courses, key=lambda course: -len(course.time_s)):
        together.setdefault(int(course.frame[0]), []).append(course)
    found = []
    for frame, group in together.items():
        ids = ", ".join(str(course.id) for course in sorted(group, key=lambda c: c.id))
        name = "track" if len(group) == 1 else "tracks"
        found.append(Wanted(frame, float(group[0].time_s[0]), f"{name} {ids} confirmed first"))
    return found


def _largest_collapse(courses: Sequence[Course]) -> list[Wanted]:
    """Where a vessel was smallest within the time over which the largest collapse was found."""
    known = [c for c in courses if np.isfinite(c.values["collapse"]).any()]
    if not known:
        return []
    course = max(known, key=lambda c: float(np.nanmax(c.values["collapse"])))
    collapse = course.values["collapse"]
    at = int(np.nanargmax(collapse))
    since_s = course.time_s[at] - course.time_s
    diameter = np.where((since_s >= 0) & (since_s <= _WINDOW_S), course.values["diameter"], np.nan)
    place = at if np.isnan(diameter).all() else int(np.nanargmin(diameter))
    why = f"largest collapse: {collapse[at]:.2f}, of track {course.id}"
    return [Wanted(int(course.frame[place]), float(course.time_s[place]), why)]


def _between(story: Story, frames: Sequence[int]) -> Wanted:
    """Take the middle of the longest stretch of which nothing is shown yet."""
    taken = np.searchsorted(story.frame, frames)
    bounds = np.concatenate([[-1], taken, [len(story.frame)]])
    longest = int(np.argmax(np.diff(bounds)))
    place = int(bounds[longest] + bounds[longest + 1]) // 2
    return Wanted(int(story.frame[place]), float(story.time_s[place]), "in between")


def _events(events: Sequence[Event]) -> list[Wanted]:
    """Where something happened: each kind of it once, before any of it again."""
    before: Counter[str] = Counter()
    ranked = []
    for event in events:
        ranked.append((before[event.what], event))
        before[event.what] += 1
    ranked.sort(key=lambda one: one[0])
    return [Wanted(e.frame, e.begin_s, in_words(e)) for _, e in ranked]


def in_words(event: Event) -> str:
    """Say what happened."""
    return f"{event.kind}: {event.what}" if event.kind != "change" else event.what
