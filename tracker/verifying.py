"""Whether a run gave the same tracks as another, to the last digit."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import Region
from veintrack.tracker.replaying import Script

__all__ = ["Until", "Verdict", "comparable", "verify_tracks"]

_CUT_OFF = "the run was stopped before its end"
_PLACE = ("frame", "time_s", "track_id")  # columns that say what a row is of


@dataclass(frozen=True, slots=True)
class Until:
    """How far tracks can be the same.

    Attributes
    ----------
    frame : int or None
        Index of the first frame that cannot be compared; None if all can.
    why : str
        Why not.
    """

    frame: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found.

    Attributes
    ----------
    rows : int
        Rows that are the same.
    problem : str
        The first difference; empty where there is none.
    said : str
        What was compared, in words.
    """

    rows: int
    problem: str
    said: str


def comparable(script: Script, crops_px: Mapping[int, Region], kept: Path, *, done: bool) -> Until:
    """Say up to which frame a recording holds what was tracked.

    Parameters
    ----------
    script : Script
        What the run did.
    crops_px : mapping
        By the index of each frame that was recorded: which part of it was.
    kept : Path
        The table of its tracks.
    done : bool
        Whether the run came to its end; else either file may lack the end of what the other says.

    Raises
    ------
    SourceUnreadableError
        If `kept` is no such table.
    """
    until = Until()
    for index, turn in script.turns.items():
        crop_px = crops_px.get(index)
        if crop_px is None:
            until = Until(index, f"frame {index} was tracked and is not in the recording")
            break
        if not _holds(crop_px, turn.place.region):
            until = Until(index, f"frame {index} was looked at beyond what was recorded of it")
            break
    if done:
        return until
    cut = min(next(reversed(script.turns)), _last_frame(kept))
    return until if until.frame is not None and until.frame <= cut else Until(cut, _CUT_OFF)


def _last_frame(table: Path) -> int:
    """Give the number of the last frame that has a row; it may lack others. 0 if there is none."""
    last = 0
    for row in _rows(table, Until()):
        last = int(row[0])
    return last


def _holds(crop_px: Region, region: Region) -> bool:
    x, y, w, h = crop_px
    left, top, width, height = region
    return x <= left and y <= top and left + width <= x + w and top + height <= y + h


def verify_tracks(kept: Path, now: Path, until: Until) -> Verdict:
    """Compare two tables of tracks, ``tracks.csv``, row by row.

    Raises
    ------
    SourceUnreadableError
        If one is not such a table.
    """
    same = 0
    header, now_header = _header(kept), _header(now)
    if header != now_header:
        return Verdict(0, f"{now.name} has other columns than when it was recorded", "")
    for was, is_now in zip_longest(_rows(kept, until), _rows(now, until)):
        if was != is_now:
            return Verdict(same, _difference(header, was, is_now), "")
        same += 1
    if until.frame is None:
        return Verdict(same, "", f"{same} rows of tracks are the same, byte for byte")
    if not same:
        return Verdict(0, f"nothing can be verified: {until.why}", "")
    return Verdict(
        same,
        "",
        f"{same} rows of tracks before frame {until.frame} are the same, byte for byte; "
        f"the rest cannot be compared, as {until.why}",
    )


def _header(path: Path) -> list[str]:
    header = next(_lines(path), [])
    if not {*_PLACE} <= {*header}:
        raise SourceUnreadableError(f"{path} is no table of tracks")
    return header


def _rows(path: Path, until: Until) -> Iterator[list[str]]:
    """Rows that can be compared."""
    lines = _lines(path)
    next(lines, None)
    for row in lines:
        try:
            frame = int(row[0])
        except (IndexError, ValueError):  # it was cut off in the midst of a line
            return
        if until.frame is not None and frame >= until.frame:
            return
        yield row


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.reader(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error}") from error


def _difference(header: list[str], was: list[str] | None, is_now: list[str] | None) -> str:
    """Name frame and field of the first difference between two rows."""
    if was is None or is_now is None:
        there, when = (is_now, "now") if was is None else (was, "when it was recorded")
        frame, _, track = (there or [])[:3]
        return f"the tracks differ at frame {frame}: track {track} is there only {when}"
    if was[:3] != is_now[:3]:
        for name, a, b in zip(_PLACE, was, is_now, strict=False):
            if a != b:
                frame = min(was[0], is_now[0], key=int)
                return f"the tracks differ at frame {frame}: {name} was {a}, and is {b}"
    for name, a, b in zip_longest(header, was, is_now):
        if a != b:
            return (
                f"the tracks differ at frame {was[0]}, track {was[2]}: {name} was "
                f"{a or 'empty'}, and is {b or 'empty'}"
            )
    return f"the tracks differ at frame {was[0]}"
