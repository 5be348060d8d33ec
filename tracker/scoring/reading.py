"""Reading tracks and truth: veintrack's CSV and JSON Lines, truth as CSV, MOTChallenge rows."""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import F64, Spacing
from veintrack.tracker.scoring.rows import I64, Flags, Rows

__all__ = ["lines_of_json", "read_rows", "read_spacing", "results_of", "stacked"]

_NEEDED = ("frame", "track_id", "x_px", "y_px")
_BOX = ("left_px", "top_px", "width_px", "height_px")
_COVARIANCE = ("var_x_px2", "cov_xy_px2", "cov_xy_px2", "var_y_px2")
_SIZES = ("area_px2", "major_px", "minor_px")
_BELIEVED = ("confirmed", "coasting")
_RESULTS = ("tracks.jsonl", "tracks.csv")  # of a run's folder; the first says more
_MOT = ("frame", "id", "left", "top", "width", "height")
_LARGEST = 2**53  # whole numbers beyond are not told apart as floats
_MOT_EDGE = 1.5  # the first pixel is 1 in MOTChallenge files; its outer edge is -0.5 here

Cells = Sequence[tuple[int, list[str]]]  # number of the line, and what stands in it


def read_rows(path: Path) -> Rows:
    """Read tracks or truth.

    Confirmed and coasting tracks are taken; of rows between the frames of a lost source, none.

    Parameters
    ----------
    path : Path
        ``tracks.csv`` or a truth file with the columns frame, track_id, x_px, y_px (see
        :data:`~veintrack.tracker.scoring.rows.TRUTH_COLUMNS`), ``tracks.jsonl``, MOTChallenge rows
        ``frame,id,left,top,width,height[,...]``, or the folder of a run.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    SourceUnreadableError
        If it is none of these, or broken.
    """
    path = results_of(path)
    try:
        if path.suffix.lower() == ".jsonl":
            return _read_jsonl(path)
        lines = _cells(path)
        if lines and _is_number(lines[0][1][0]):
            return _read_mot(path, lines)
        return _read_csv(path, lines)
    except ValueError as error:
        raise SourceUnreadableError(f"{path}: {error}") from error


def read_spacing(path: Path) -> Spacing | None:
    """Millimetres per pixel that the run knew, from the ``run.json`` in or beside `path`."""
    record = (path if path.is_dir() else path.parent) / "run.json"
    try:
        run = json.loads(record.read_text(encoding="utf-8"))
        known = run["configuration"]["spacing"] or run["source"]["spacing_mm"]
        row_mm, col_mm = map(float, known)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it does not say it
    return row_mm, col_mm


def lines_of_json(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the objects of a JSON Lines file, each with the number of its line, from 1."""
    for number, line in enumerate(_text(path).splitlines(), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceUnreadableError(f"{path}: line {number} is not valid JSON") from error
        if not isinstance(row, dict):
            raise SourceUnreadableError(f"{path}: line {number} must be an object, got {line:.40}")
        yield number, row


def results_of(path: Path) -> Path:
    """Find the file of tracks where `path` is the folder of a run; else it is the file.

    Raises
    ------
    SourceNotFoundError
        If there is none.
    """
    if path.is_dir():
        found = [path / name for name in _RESULTS if (path / name).is_file()]
        if not found:
            raise SourceNotFoundError(
                f"{path} holds no tracks: a run's folder has {' or '.join(_RESULTS)}"
            )
        return found[0]
    if not path.exists():
        raise SourceNotFoundError(f"no file {path}")
    return path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceUnreadableError(f"{path} is no text: {_WANTED}") from error
    except OSError as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error.strerror}") from error


_WANTED = "tracks and truth are read from .csv, .jsonl and MOTChallenge .txt"


def _cells(path: Path) -> Cells:
    """Split a file at its commas; empty lines are left out."""
    try:
        rows = enumerate(csv.reader(_text(path).splitlines(), strict=True), 1)
        return [(n, [cell.strip() for cell in row]) for n, row in rows if any(row)]
    except csv.Error as error:
        raise SourceUnreadableError(f"{path} is no CSV: {error}; {_WANTED}") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


class _Table:
    """Columns of text by name; a cell that is wrong is said with its line."""

    def __init__(self, header: Sequence[str], lines: Cells) -> None:
        for number, cells in lines:
            if len(cells) != len(header):
                raise ValueError(f"line {number} must have {len(header)} values, got {len(cells)}")
        self.header, self._lines = header, lines

    def __len__(self) -> int:
        return len(self._lines)

    def text(self, name: str) -> list[str]:
        at = self.header.index(name)
        return [cells[at] for _, cells in self._lines]

    def numbers(self, name: str, *, blank: bool = True) -> F64:
        """One column; NaN where a cell is empty, which `blank` allows."""
        at = self.header.index(name)
        return np.array([_number(n, name, cells[at], blank) for n, cells in self._lines], float)

    def whole(self, name: str) -> I64:
        values = self.numbers(name, blank=False)
        for (number, _), value in zip(self._lines, values.tolist(), strict=True):
            if not value.is_integer() or abs(value) > _LARGEST:
                raise ValueError(f"line {number}: {name} must be a whole number, got {value:g}")
        return values.astype(np.int64)

    def checked_boxes(self, box: F64) -> F64:
        """Refuse boxes that are turned inside out: corners in place of sizes."""
        wrong = np.flatnonzero((box[:, 2:] < 0).any(axis=1))
        if len(wrong):
            raise ValueError(
                f"line {self._lines[wrong[0]][0]}: a box must have a width and height of 0 or more"
            )
        return box

    def several(self, names: Sequence[str]) -> F64 | None:
        """Several columns side by side; None unless all are there."""
        if not set(names) <= set(self.header):
            return None
        return np.stack([self.numbers(name) for name in names], axis=1)


def _number(line: int, name: str, cell: str, blank: bool) -> float:
    if not cell and blank:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"line {line}: {name} must be a number, got {cell!r}")
    return value


def _read_csv(path: Path, lines: Cells) -> Rows:
    header = lines[0][1] if lines else []
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        raise SourceUnreadableError(
            f"{path} has no column {missing[0]}: tracks and truth need {', '.join(_NEEDED)}; "
            "MOTChallenge rows have no header"
        )
    table = _Table(header, lines[1:])
    xy = np.stack([table.numbers("x_px"), table.numbers("y_px")], axis=1)
    visible = table.numbers("visible") != 0 if "visible" in header else np.ones(len(table), bool)
    known = np.isfinite(xy).all(axis=1)
    if (visible & ~known).any():
        number = lines[1:][int(np.argmax(visible & ~known))][0]
        raise ValueError(f"line {number}: x_px and y_px may be empty only where visible is 0")
    time_s = table.numbers("time_s") if "time_s" in header else np.full(len(table), math.nan)
    frame = table.whole("frame")
    columns: dict[str, Any] = {
        "frame": frame,
        "id": table.whole("track_id"),
        "time_s": time_s,
        "xy_px": xy,
        "visible": visible,
        **{name: table.numbers(name) for name in _SIZES if name in header},
    }
    if (box := table.several(_BOX)) is not None:
        columns["box_px"] = table.checked_boxes(box)
    if (cov := table.several(_COVARIANCE)) is not None:
        columns["cov_px2"] = cov.reshape(-1, 2, 2)
    if "status" in header:
        columns["confirmed"] = np.array([s == "confirmed" for s in table.text("status")], bool)
    kept = known & _of_frames(frame, time_s)
    return Rows(**{name: column[kept] for name, column in columns.items()})


def _of_frames(frame: I64, time_s: F64) -> Flags:
    """Which rows are of the frame itself: those after it, of a lost source, have a later time."""
    first_s: dict[int, float] = {}
    return np.array(
        [
            math.isnan(at) or at <= first_s.setdefault(number, at)
            for number, at in zip(frame.tolist(), time_s.tolist(), strict=True)
        ],
        bool,
    )


def _read_mot(path: Path, lines: Cells) -> Rows:
    """Read ``frame,id,left,top,width,height[,conf,...]``; truth of conf 0 is not to be scored."""
    shortest = min(len(cells) for _, cells in lines)
    if shortest < len(_MOT):
        number = next(n for n, cells in lines if len(cells) == shortest)
        raise SourceUnreadableError(
            f"{path}: line {number} must start with {','.join(_MOT)}, got {shortest} values"
        )
    wide = len(_MOT) + (shortest > len(_MOT))
    header = [*_MOT, "conf"][:wide]
    table = _Table(header, [(number, cells[:wide]) for number, cells in lines])
    box = np.stack([table.numbers(name, blank=False) for name in _MOT[2:]], axis=1)
    box = table.checked_boxes(box)
    box[:, :2] -= _MOT_EDGE
    frame = table.whole("frame") - 1
    if (frame < 0).any():
        raise ValueError("MOTChallenge rows count frames from 1, got 0 or less")
    return Rows(
        frame=frame,
        id=table.whole("id"),
        time_s=np.full(len(table), math.nan),
        xy_px=box[:, :2] + box[:, 2:] / 2,
        box_px=box,
        visible=table.numbers("conf") != 0 if "conf" in header else None,
    )


def _read_jsonl(path: Path) -> Rows:
    frames: list[tuple[int, float]] = []
    tracks: list[tuple[int, float, dict[str, Any]]] = []
    for number, row in lines_of_json(path):
        if row.get("fresh", True):
            try:
                frame, time_s = _whole(row["frame"]), float(row.get("time_s", math.nan))
                believed = [t for t in row["tracks"] if t.get("status", "confirmed") in _BELIEVED]
                tracks += [(frame, time_s, _checked(track)) for track in believed]
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise SourceUnreadableError(
                    f"{path}: line {number} must have frame, time_s and tracks, each with id and "
                    "centroid_px [x, y]"
                ) from error
            frames.append((frame, time_s))
    return Rows(
        frame=np.array([frame for frame, *_ in tracks], np.int64),
        id=np.array([track["id"] for *_, track in tracks], np.int64),
        time_s=np.array([time_s for _, time_s, _ in tracks], float),
        xy_px=np.array([track["centroid_px"] for *_, track in tracks], float).reshape(-1, 2),
        box_px=_column(tracks, "box_px", 4),
        cov_px2=_reshaped(_column(tracks, "covariance_px2", 4)),
        confirmed=np.array([t.get("status", "confirmed") == "confirmed" for *_, t in tracks], bool),
        visible=np.array([bool(t.get("visible", True)) for *_, t in tracks], bool),
        **{name: _sizes(tracks, name) for name in _SIZES},
        all_frames=np.array([frame for frame, _ in frames], np.int64),
        all_time_s=np.array([time_s for _, time_s in frames], float),
    )


def _checked(track: dict[str, Any]) -> dict[str, Any]:
    """Refuse a track without what a row needs."""
    x, y = track["centroid_px"]
    _whole(track["id"])
    if not math.isfinite(x + y):
        raise ValueError
    return track


def _whole(value: Any) -> int:
    """Refuse what is no whole number that fits into a column."""
    if not isinstance(value, (int, float)) or not abs(value) <= _LARGEST or value != int(value):
        raise ValueError
    return int(value)


def _column(
    tracks: Sequence[tuple[int, float, dict[str, Any]]], name: str, width: int
) -> F64 | None:
    return stacked([track.get(name) for *_, track in tracks], width, name)


def _sizes(tracks: Sequence[tuple[int, float, dict[str, Any]]], name: str) -> F64 | None:
    found = stacked([[track[name]] if track.get(name) else None for *_, track in tracks], 1, name)
    return None if found is None else found[:, 0]


def stacked(values: Sequence[Any], width: int, name: str) -> F64 | None:
    """Stack lists of numbers, NaN where one is not known; None where there are none at all.

    Raises
    ------
    ValueError
        If they are not lists of so many numbers.
    """
    if all(value is None for value in values):
        return None
    try:
        table = np.array([[math.nan] * width if v is None else v for v in values], float)
    except (TypeError, ValueError):
        table = np.empty(0)
    if table.shape != (len(values), width):
        raise ValueError(f"{name} must hold {width} number{'s' * (width > 1)} wherever it stands")
    return np.where(np.isfinite(table), table, math.nan)


def _reshaped(cov: F64 | None) -> F64 | None:
    return None if cov is None else cov.reshape(-1, 2, 2)
