"""The report of a run: one HTML file that holds everything, pictures and curves too."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import F64
from veintrack.tracker.overlay import NOTICE
from veintrack.tracker.page import as_jpeg, as_svg, page, table
from veintrack.tracker.recording_lines import read_manifest
from veintrack.tracker.recording_names import find_recording
from veintrack.tracker.report_frames import in_words, pick_frames
from veintrack.tracker.report_pictures import open_pictures
from veintrack.tracker.report_plots import draw_courses, draw_timeline, shown_courses
from veintrack.tracker.report_story import Course, Event, Story, read_story

__all__ = ["Run", "open_run", "render_report"]

_RECORD = "run.json"
_MOST_ROWS = 60  # of a table: more than anyone reads
# What may be a path: its folders may name the patient, and say nothing of the run.
_PATHS = ("source", "output", "model", "profile", "video", "name")


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What is reported.

    Attributes
    ----------
    folder : Path
        Of the run, or of a recording.
    record : mapping
        ``run.json``, or what the recording's manifest says.
    """

    folder: Path
    record: Mapping[str, Any]


def open_run(folder: Path) -> Run:
    """Find what is to be reported.

    Parameters
    ----------
    folder : Path
        Of a run, or of a recording.

    Raises
    ------
    SourceNotFoundError
        If it is neither.
    SourceUnreadableError
        If what it says of itself is damaged.
    """
    path = folder / _RECORD
    if path.is_file():
        return Run(folder, _read_record(path))
    recording = find_recording(folder)
    if recording is not None:
        return Run(recording, read_manifest(recording))
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise SourceNotFoundError(f"{folder} {what}: name the folder of a run or of a recording")
    raise SourceNotFoundError(f"{folder} holds no run and no recording: {_RECORD} is missing")


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SourceUnreadableError(f"{path} is not valid JSON") from error
    if not isinstance(record, dict):
        raise SourceUnreadableError(f"{path} must hold an object, of a run")
    return record


def render_report(run: Run) -> str:
    """Render a report as one HTML page that needs no other file.

    Raises
    ------
    VeintrackError
        If the run holds no tables of tracks, or they are damaged.
    """
    story = read_story(run.folder)
    parts = [
        f"<p class=notice>{escape(NOTICE)}</p>",
        table(_summary(run, story)),
        *_tracks(story),
        *_happened(story),
        *_key_frames(run, story),
        "<h2>Settings</h2>",
        *_settings(run.record),
        f"<p class=notice>{escape(NOTICE)}</p>",
    ]
    return page("Report of a run", "\n".join(parts))


def _summary(run: Run, story: Story) -> Iterator[tuple[str, str]]:
    """Tell what the run came to; one that was cut off has tables only."""
    record = run.record
    summary = _mapping(record.get("summary"))
    source = _mapping(record.get("source"))
    yield "source", _fact("name", source.get("name"))
    yield "began", str(_mapping(record.get("clock_anchor")).get("utc", "not known"))
    yield "ended", _fact("", record.get("ended") or "cut off: it did not come to its end")
    yield "looked at", f"{len(story.frame)} frames, {story.end_s:.1f} s"
    for name, value in summary.items():
        if name not in ("output", "latency_ms") and value is not None:
            yield name.replace("_", " "), _fact(name, value)
    latency = _mapping(summary.get("latency_ms"))
    if latency:
        figures = ", ".join(f"{name} {value} ms" for name, value in latency.items())
        yield "latency", f"{figures}: {record.get('latency_from', 'not said from where')}"
    for outage in record.get("outages") or ():
        yield "outage", _fact("", outage)


def _tracks(story: Story) -> Iterator[str]:
    yield "<h2>Tracks</h2>"
    if not story.courses:
        yield "<p>No track was confirmed.</p>"
        return
    unit = "mm" if story.in_mm else "px"
    sizes = (f"diameter, {unit}", f"depth, {unit}", f"area, {unit}²")
    head = ("track", "from, s", "to, s", "seen", *sizes, "largest collapse")
    yield from _shortened(list(map(_track_row, story.courses)), head)
    depth = "" if story.in_mm else " Depth is the centroid's y in the frame."
    yield (
        "<p>Of the frames in which a track was seen: median, and in brackets the smallest and the "
        f"largest. The diameter is the minor axis.{depth}</p>"
    )
    shown = shown_courses(story)
    if len(shown) < len(story.courses):
        yield f"<p>Drawn are the {len(shown)} tracks that were followed longest.</p>"
    yield as_svg(draw_courses(story), "diameter, depth, area and collapse of every track over time")
    yield (
        "<p>A gap, with a dotted line across it: the track was predicted, not seen. "
        "Grey: the source or the picture was in trouble; dashed: a change of the picture.</p>"
    )


def _track_row(course: Course) -> tuple[str, ...]:
    seen = course.values
    collapse = seen["collapse"][np.isfinite(seen["collapse"])]
    return (
        str(course.id),
        f"{course.time_s[0]:.2f}",
        f"{course.time_s[-1]:.2f}",
        f"{course.seen.mean():.0%}",
        *(_range(seen[name][course.seen]) for name in ("diameter", "depth", "area")),
        f"{collapse.max():.2f}" if len(collapse) else "",
    )


def _range(values: F64) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    return f"{np.median(values):.1f} ({values.min():.1f} to {values.max():.1f})"


def _happened(story: Story) -> Iterator[str]:
    yield "<h2>What happened</h2>"
    if story.courses or story.events:
        yield as_svg(draw_timeline(story), "when each track was seen, and what happened meanwhile")
        yield "<p>Thick: seen. Thin: predicted. Hollow: predicted, as it was pressed flat.</p>"
    if not story.events:
        yield "<p>The source delivered throughout, and the picture was good.</p>"
        return
    rows = [(f"{e.begin_s:.2f}", str(e.frame), in_words(e), _length(e)) for e in story.events]
    yield from _shortened(rows, ("time, s", "frame", "what", "for, s"))


def _shortened(rows: Sequence[Sequence[str]], head: Sequence[str]) -> Iterator[str]:
    yield table(rows[:_MOST_ROWS], head)
    if len(rows) > _MOST_ROWS:
        yield f"<p>And {len(rows) - _MOST_ROWS} more.</p>"


def _length(event: Event) -> str:
    return "" if event.kind == "change" else f"{event.end_s - event.begin_s:.2f}"


def _key_frames(run: Run, story: Story) -> Iterator[str]:
    yield "<h2>Key frames</h2>"
    video = _mapping(run.record.get("configuration")).get("video") or "overlay.mp4"
    with closing(open_pictures(run.folder, story, run.folder / str(video))) as pictures:
        yield f"<p>{escape(pictures.said)}</p>"
        yield "<div class=pictures>"
        for wanted in pick_frames(story):
            shown = pictures.near(wanted)
            if shown is None:
                continue
            text = f"{wanted.time_s:.2f} s, frame {wanted.frame}: {wanted.why}"
            if shown.frame not in (None, wanted.frame):
                text += f" (shown: frame {shown.frame})"
            yield (
                f"<figure>{as_jpeg(shown.jpeg, text)}"
                f"<figcaption>{escape(text)}</figcaption></figure>"
            )
        yield "</div>"


def _settings(record: Mapping[str, Any]) -> Iterator[str]:
    """Everything that must be known to make the run again, but for the folders of files."""
    model = _mapping(record.get("model"))
    yield "<h3>Network</h3>"
    engine = {name: record.get(name) for name in ("engine", "precision", "device")}
    yield table(_rows({**{f"model {k}": v for k, v in model.items()}, **engine}))
    yield "<h3>Source</h3>"
    notes = ("notes",)  # they may repeat its folders
    source = {k: v for k, v in _mapping(record.get("source")).items() if k not in notes}
    yield table(_rows(source))
    for title, name in (("Configuration", "configuration"), ("Versions", "versions")):
        yield f"<details><summary>{title}</summary>"
        yield table(_rows(_mapping(record.get(name))))
        yield "</details>"


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Write facts as rows; what has parts has them in rows of their own, set under it."""
    for name, value in facts.items():
        words = name.replace("_", " ")
        if isinstance(value, Mapping):
            yield words, ""
            yield from ((f"  {part}", text) for part, text in _rows(value))
        elif value is not None:
            yield words, _fact(name, value)


def _fact(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k.replace('_', ' ')} {_fact(k, v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(name, one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    is_path = name in _PATHS and "://" not in text and not text.startswith("/dev/")
    return Path(text).name if is_path else text


def _mapping(value: Any) -> Mapping[str, Any]:
    """Take what should have parts; nothing where a file says otherwise."""
    return value if isinstance(value, Mapping) else {}
