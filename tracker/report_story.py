"""What a run did over time, as its tables tell it."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import F64, PictureState, Signal
from veintrack.tracker.recording_lines import DAMAGE, readable_lines
from veintrack.tracker.recording_names import TRACKED, TRACKS
from veintrack.tracker.scoring.rows import I64, Flags

__all__ = ["VALUES", "Course", "Event", "Story", "read_story"]

#: What is told of a track: by name, in px and in mm. The diameter is the minor axis.
VALUES = {
    "diameter": ("minor_px", "minor_mm"),
    "depth": ("y_px", "depth_mm"),
    "area": ("area_px2", "area_mm2"),
    "collapse": ("collapse", "collapse"),
}
_COLUMNS = tuple(dict.fromkeys(column for both in VALUES.values() for column in both))
_BELIEVED = ("confirmed", "coasting")
_DAMAGE = (*DAMAGE, AttributeError, IndexError)


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """A track over time, while it was believed.

    Attributes
    ----------
    id : int
        Its identity.
    frame : ndarray of shape (N,), int64
        Index of each frame; of times between frames, that of the last one.
    time_s : ndarray of shape (N,), float64
        Since the run's first frame.
    seen, collapsed : ndarray of shape (N,), bool
        False where it was predicted; True where it was predicted as it was pressed flat.
    values : mapping of str to ndarray of shape (N,), float64
        By the names of :data:`VALUES`; NaN where not known.
    """

    id: int
    frame: I64
    time_s: F64
    seen: Flags
    collapsed: Flags
    values: Mapping[str, F64]


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to the picture or its source.

    Attributes
    ----------
    kind : str
        ``source``, ``picture`` or ``change``.
    what : str
        In words.
    frame : int
        Index of the frame with which it began; of a lost source, of the last one before.
    begin_s, end_s : float
        When; a change has no length.
    """

    kind: str
    what: str
    frame: int
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Story:
    """What a run did over time.

    Attributes
    ----------
    frame : ndarray of shape (F,), int64
        Index of every frame that was looked at.
    time_s : ndarray of shape (F,), float64
        When it was captured, since the first.
    courses : tuple of Course
        Of every track, by identity.
    events : tuple of Event
        In order of time.
    in_mm : bool
        Whether lengths and areas are in mm and mm², not in px.
    """

    frame: I64
    time_s: F64
    courses: tuple[Course, ...]
    events: tuple[Event, ...]
    in_mm: bool

    @property
    def end_s(self) -> float:
        """When the last thing happened."""
        ends = [float(course.time_s[-1]) for course in self.courses]
        ends += [event.end_s for event in self.events]
        return max([*ends, *self.time_s[-1:].tolist()], default=0.0)


@dataclass(frozen=True, slots=True)
class _Moment:
    """How a frame was looked at, or that none came."""

    frame: int
    time_s: float
    fresh: bool
    signal: str
    picture: str
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """A track in a frame."""

    id: int
    frame: int
    time_s: float
    seen: bool
    collapsed: bool
    values: tuple[float, ...]


def read_story(folder: Path) -> Story:
    """Read what a run did, up to the last whole line of each table.

    Parameters
    ----------
    folder : Path
        Of the run, or of a recording.

    Raises
    ------
    SourceNotFoundError
        If there are no tables.
    SourceUnreadableError
        If one is damaged before its last line.
    """
    try:
        return _told(*_tables(folder))
    except OverflowError as error:
        raise SourceUnreadableError(f"{folder}: a number in a table is out of range") from error


def _tables(folder: Path) -> tuple[list[_Moment], list[_Row]]:
    whole, table = folder / "tracks.jsonl", folder / TRACKS
    if whole.is_file():
        return _of_objects(whole)
    if not table.is_file():
        raise SourceNotFoundError(f"{folder} holds no tracks: {whole.name} or {TRACKS} is missing")
    rows = list(_of_table(table))
    return _of_recording(folder, rows) if (folder / TRACKED).is_file() else _bare(rows), rows


def _of_objects(path: Path) -> tuple[list[_Moment], list[_Row]]:
    moments, rows = [], []
    for row in _objects(path):
        try:
            moment = _moment(row, float(row["time_s"]), bool(row.get("fresh", True)))
            moments.append(moment)
            rows += [
                _Row(
                    int(track["id"]),
                    moment.frame,
                    moment.time_s,
                    track["status"] == "confirmed",
                    bool(track.get("collapsed")),
                    _values({**track, "y_px": track["centroid_px"][1]}),
                )
                for track in row["tracks"]
                if track["status"] in _BELIEVED
            ]
        except _DAMAGE as error:
            raise SourceUnreadableError(f"{path}: frame {row.get('frame')} is damaged") from error
    return moments, rows


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        with path.open("rb") as file:
            for line in file:
                number += 1
                if not line.endswith(b"\n"):
                    return  # it was being written
                yield dict(json.loads(line))
    except OSError as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error.strerror}") from error
    except _DAMAGE as error:
        raise SourceUnreadableError(f"{path}: line {number} is damaged") from error


def _moment(row: Mapping[str, Any], time_s: float, fresh: bool) -> _Moment:
    signal = Signal.STREAMING.value if fresh else str(row["source"]["state"])
    return _Moment(
        int(row["frame"]),
        time_s,
        fresh,
        signal,
        str(row.get("picture", PictureState.GOOD.value)),
        tuple(map(str, row.get("changes", ()))),
    )


def _values(cells: Mapping[str, Any]) -> tuple[float, ...]:
    found = (cells.get(name) for name in _COLUMNS)
    return tuple(math.nan if cell in (None, "") else float(cell) for cell in found)


def _of_table(path: Path) -> Iterator[_Row]:
    """Read ``tracks.csv``; it does not tell what was pressed flat."""
    number = 1
    try:
        with path.open(encoding="utf-8", newline="") as file:
            whole = (line for line in file if line.endswith("\n"))
            for cells in csv.DictReader(whole):
                number += 1
                yield _Row(
                    int(cells["track_id"]),
                    int(cells["frame"]),
                    float(cells["time_s"]),
                    cells["status"] == "confirmed",
                    False,
                    _values(cells),
                )
    except OSError as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error.strerror}") from error
    except (*_DAMAGE, csv.Error) as error:
        raise SourceUnreadableError(f"{path}: line {number} is damaged") from error


def _of_recording(folder: Path, rows: Sequence[_Row]) -> list[_Moment]:
    """Read how a recording's frames were looked at, on the clock of its tracks."""
    captured_ns = {line.index: line.capture_ns for line in readable_lines(folder)}
    known = ((captured_ns[r.frame], r.time_s) for r in rows if r.frame in captured_ns)
    at_ns, time_s = next(known, (min(captured_ns.values(), default=0), 0.0))
    moments = []
    for row in _objects(folder / TRACKED):
        try:
            between_ns = row["between_ns"]
            now_ns = captured_ns.get(row["frame"]) if between_ns is None else int(between_ns)
            if now_ns is not None:  # else it was not recorded, and when it came is not known
                since_s = (now_ns - at_ns) * 1e-9 + time_s
                moments.append(_moment(row, since_s, between_ns is None))
        except _DAMAGE as error:
            path = folder / TRACKED
            raise SourceUnreadableError(f"{path}: frame {row.get('frame')} is damaged") from error
    return moments


def _bare(rows: Iterable[_Row]) -> list[_Moment]:
    """Take the frames that have a track, where nothing else is known."""
    good, streaming = PictureState.GOOD.value, Signal.STREAMING.value
    first = {row.frame: row.time_s for row in reversed([*rows])}
    return [_Moment(f, first[f], True, streaming, good, ()) for f in sorted(first)]


def _told(moments: Sequence[_Moment], rows: Sequence[_Row]) -> Story:
    fresh = [moment for moment in moments if moment.fresh]
    by_id: dict[int, list[_Row]] = {}
    for row in rows:
        by_id.setdefault(row.id, []).append(row)
    in_px, in_mm = zip(*VALUES.values(), strict=True)
    place = _COLUMNS.index("minor_mm")
    sized = any(math.isfinite(row.values[place]) for row in rows)
    events = [
        *_spans("source", moments, [m.signal for m in moments], Signal.STREAMING.value),
        *_spans("picture", fresh, [m.picture for m in fresh], PictureState.GOOD.value),
        *(Event("change", c, m.frame, m.time_s, m.time_s) for m in fresh for c in m.changes),
    ]
    return Story(
        np.array([moment.frame for moment in fresh], np.int64),
        np.array([moment.time_s for moment in fresh], np.float64),
        tuple(_course(by_id[number], in_mm if sized else in_px) for number in sorted(by_id)),
        tuple(sorted(events, key=lambda event: event.begin_s)),
        sized,
    )


def _course(rows: Sequence[_Row], columns: Sequence[str]) -> Course:
    values = np.array([row.values for row in rows], np.float64)
    return Course(
        rows[0].id,
        np.array([row.frame for row in rows], np.int64),
        np.array([row.time_s for row in rows], np.float64),
        np.array([row.seen for row in rows], np.bool_),
        np.array([row.collapsed for row in rows], np.bool_),
        {
            name: values[:, _COLUMNS.index(column)]
            for name, column in zip(VALUES, columns, strict=True)
        },
    )


def _spans(
    kind: str, moments: Sequence[_Moment], states: Sequence[str], usual: str
) -> Iterator[Event]:
    """Find when something was not as usual, each time up to the next that was."""
    for state, places in groupby(range(len(moments)), key=states.__getitem__):
        span = list(places)
        if state != usual:
            begin, end = moments[span[0]], moments[min(span[-1] + 1, len(moments) - 1)]
            yield Event(kind, state, begin.frame, begin.time_s, end.time_s)
