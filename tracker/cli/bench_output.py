"""What ``veintrack bench`` prints, and how it reads earlier figures to compare with."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from veintrack.tracker.cli.bench_figures import P99_BARE, P99_EXTRA_MS, PARTS

__all__ = ["differences", "read", "show"]

Row = Mapping[str, Any]
Columns = list[tuple[str, Callable[[Row], str]]]
_WIDTH = 100
_OF_ALL = ("model_sha256", "input_px", "shape_px", "live")
_OF_ROW = ("engine", "precision", "device", "slots", "sinks")
# What makes figures other figures; the rest of a command is how long and how often.
_OF_COMMAND = ("source", "crop", "pace", "rate", "data", "label", "split")
_COMPARED = {"fps": "fps", "end_to_end_p99_ms": "p99 ms", "own_cpu_ms": "own ms"}


def read(path: Path) -> dict[str, Any]:
    """Read earlier figures.

    Raises
    ------
    ValueError
        If the file cannot be read, or holds no such figures.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        for row in record["rows"]:
            values = row["summary"].values()
            if not all(isinstance(value, int | float) for value in values):
                raise TypeError
            row["engine"], row["precision"], row["sinks"]
    except OSError as error:
        raise ValueError(f"compare {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"compare {path} holds no figures of `veintrack bench --json`") from error
    return dict(record)


def show(record: Mapping[str, Any], earlier: Mapping[str, Any] | None = None) -> None:
    """Print the figures: of one row all of them, of several a table."""
    console = Console(width=_WIDTH, highlight=False)
    rows: Sequence[Row] = record["rows"]
    console.print(Text(_heading(record)), soft_wrap=True)
    if len(rows) == 1:
        _show_one(console, record, rows[0], earlier)
    else:
        _show_several(console, record, earlier)
    for note in _notes(record, earlier):
        console.print(Text(note))


def _heading(record: Mapping[str, Any]) -> str:
    command, (height, width) = record["command"], record["shape_px"]
    if command["pace"] == "realtime":
        pace = f"real time at {record['rate_hz'] or 30:.4g} fps"
    else:
        pace = "live" if record["live"] else "as fast as it can"
    turns = command["repetitions"]
    length = f"{command['minutes']:g} min" if command["minutes"] else f"{command['frames']} frames"
    return f"{command['source']}, {width}x{height} px; {pace}; {turns} x {length}"


def _sinks(row: Row) -> str:
    return ", ".join(row["sinks"]) or "none"


def _show_one(
    console: Console, record: Mapping[str, Any], row: Row, earlier: Mapping[str, Any] | None
) -> None:
    about = f"{row['engine']} {row['precision']} on {row['device']}, {row['slots']} in work"
    console.print(Text(f"{about}; sinks: {_sinks(row)}"), soft_wrap=True)
    stages = Table("stage, ms", "p50", "p95", "p99", "p99.9", "max")
    for name, spread in row["stages_ms"].items():
        stages.add_row(name, *(f"{value:.3f}" for value in spread.values()))
    whole = (row["summary"][f"end_to_end_{part}_ms"] for part in PARTS)
    stages.add_row("end to end", *(f"{value:.3f}" for value in whole))
    since = "capture, or when the frame was due" if record["live"] else "prepare: no read, no wait"
    stages.caption = (
        f"medians over the turns; end to end: from {since}, to the tracks; infer: until the answer "
        "was taken, other frames being in work meanwhile; a window's drawing is in cpu only"
    )
    console.print(stages)
    before = _same_row(row, record, earlier)
    table = Table(*["", "now", *(["earlier", "change"] if before else [])])
    was = {**before["summary"], **before.get("accuracy", {})} if before else {}
    for name, value in {**row["summary"], **_numbers(row["accuracy"])}.items():
        cells = [name.replace("_", " "), f"{value:g}"]
        if before:
            cells += [f"{was[name]:g}", _change(was[name], value)] if name in was else ["", ""]
        table.add_row(*cells)
    table.caption = "medians over the turns; drops added up; cpu: processor time a frame"
    console.print(table)


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if not isinstance(value, str)}


def _show_several(
    console: Console, record: Mapping[str, Any], earlier: Mapping[str, Any] | None
) -> None:
    rows: Sequence[Row] = record["rows"]
    by_sink = record["command"]["sinks"] == ["each"]
    columns = _sink_columns() if by_sink else _engine_columns(record)
    if by_sink:
        about = f"{rows[0]['engine']} {rows[0]['precision']} on {rows[0]['device']}"
        console.print(Text(f"{about}, {rows[0]['slots']} in work"), soft_wrap=True)
    else:
        devices = " and ".join(dict.fromkeys(row["device"] for row in rows))
        console.print(Text(f"{devices}; sinks: {_sinks(rows[0])}"), soft_wrap=True)
    table = Table(padding=(0, 1, 0, 0))
    cells = [[cell(row) for row in rows] for _, cell in columns]
    for (head, _), column in zip(columns, cells, strict=True):  # a heading may break, no figure
        table.add_column(head, min_width=max(map(len, column)))
    for row_cells in zip(*cells, strict=True):
        table.add_row(*map(Text, row_cells))
    table.caption = (
        "medians over the turns, in which the rows alternate; p50, p99: end to end; own: processor "
        "time a frame outside the engine; "
    )
    table.caption += (
        "CPU: all of it; times, +: beside the row without sinks, turn by turn"
        if by_sink
        else "like FP32, shift: Dice of the mask, and the largest shift of a centroid in px of the "
        "grid, beside ONNX Runtime in FP32 on pictures of the phantom"
        + ("; Dice: on the labelled frames" if record["command"]["data"] else "")
    )
    console.print(table)
    if earlier:
        console.print(_comparison(record, earlier))


def _engine_columns(record: Mapping[str, Any]) -> Columns:
    columns: Columns = [("engine", lambda row: row["engine"]), ("", lambda row: row["precision"])]
    if record["live"]:
        columns += [
            ("fps", _figure("fps", ".1f")),
            ("drops", _figure("drops", "g")),
            ("bare p50 ms", _figure("bare_latency_p50_ms", ".1f")),
        ]
    else:
        columns += [
            ("bare fps", _figure("bare_fps", ".1f")),
            ("line fps", _figure("fps", ".1f")),
            ("ratio", _figure("fps_over_bare", ".2f")),
        ]
    columns += [
        ("p50 ms", _figure("end_to_end_p50_ms", ".1f")),
        ("p99 ms", _figure("end_to_end_p99_ms", ".1f")),
        ("own ms", _figure("own_cpu_ms", ".2f")),
        ("like FP32", _figure("fp32_dice", ".4f", "accuracy")),
        ("shift px", _figure("fp32_centroid_shift_px", ".2f", "accuracy")),
    ]
    if record["command"]["data"]:
        columns.append(("Dice", _figure("truth_dice", ".4f", "accuracy")))
    return columns


def _sink_columns() -> Columns:
    return [
        ("sink", _sinks),
        ("fps", _figure("fps", ".1f")),
        ("times", _figure("fps_ratio", ".3f", "added")),
        ("p99 ms", _figure("end_to_end_p99_ms", ".1f")),
        ("+", _figure("end_to_end_p99_ms", "+.1f", "added")),
        ("own ms", _figure("own_cpu_ms", ".2f")),
        ("+", _figure("own_cpu_ms", "+.2f", "added")),
        ("CPU ms", _figure("cpu_ms", ".2f")),
        ("+", _figure("cpu_ms", "+.2f", "added")),
        ("drops", _figure("drops", "g")),
        ("left out", _figure("left_out_by_sinks", "g")),
    ]


def _figure(name: str, form: str, part: str = "summary") -> Callable[[Row], str]:
    """Make what writes one figure of a row; nothing where it has none."""
    return lambda row: format(row[part][name], form) if name in row[part] else ""


def _same_row(row: Row, record: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> Row | None:
    """Find the earlier row to compare with: of the same engine, precision and sinks.

    A single row is compared with a single one whatever it is; what differs is said.
    """
    rows: Sequence[Row] = earlier["rows"] if earlier else []
    for one in rows:
        if all(one[name] == row[name] for name in ("engine", "precision", "sinks")):
            return one
    return rows[0] if len(rows) == len(record["rows"]) == 1 else None


def _comparison(record: Mapping[str, Any], earlier: Mapping[str, Any]) -> Table:
    table = Table("engine", "", "sinks", title="compared with earlier figures", width=_WIDTH)
    for head in _COMPARED.values():
        table.add_column(head)
    for row in record["rows"]:
        now, before = row["summary"], _same_row(row, record, earlier)
        was = before["summary"] if before else {}
        cells = [
            f"{was[name]:.4g} to {now[name]:.4g}\n({_change(was[name], now[name])})"
            if name in was
            else f"{now[name]:.4g}\n(not there before)"
            for name in _COMPARED
        ]
        table.add_row(*map(Text, (row["engine"], row["precision"], _sinks(row), *cells)))
    return table


def _change(before: float, now: float) -> str:
    return f"{100 * (now / before - 1):+.1f} %" if before else ""


def _notes(record: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> list[str]:
    """Say what must be known to read the figures."""
    command, rows = record["command"], record["rows"]
    notes = [
        f"{row['engine']} {row['precision']}: only {row['summary']['frames']} frames were there "
        "to be counted"
        for row in rows
        if not command["minutes"] and row["summary"]["frames"] < command["frames"]
    ]
    if record["live"]:
        notes += [f"{row['engine']} {row['precision']}: {_verdict(row['summary'])}" for row in rows]
    notes += [
        f"{row['engine']} {row['precision']} is refused by the main job: {reason}"
        for row in rows
        if (reason := row["accuracy"].get("refused"))
    ]
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in record["not_offered"]:
        what = " ".join(filter(None, (one.get("precision"), one.get("sinks"))))
        reasons.setdefault((one.get("engine", "sink"), one["reason"]), []).append(what)
    notes += [
        f"not measured: {engine} {', '.join(which)}: {' '.join(reason.split())}"
        for (engine, reason), which in reasons.items()
    ]
    if earlier:
        if len(rows) == 1 and _same_row(rows[0], record, earlier) is None:
            notes.append("not compared: its like is not among the earlier figures")
        notes += differences(record, earlier)
    return notes


def _verdict(summary: Mapping[str, float]) -> str:
    """Say whether real time was kept, and memory, where it was long enough to tell."""
    p99_ms, limit_ms = summary["end_to_end_p99_ms"], summary["p99_limit_ms"]
    within = "within" if p99_ms <= limit_ms else "ABOVE"
    said = (
        f"{summary['drops']:g} frames dropped by us; p99 end to end {p99_ms:.1f} ms, {within} its "
        f"limit of {limit_ms:.1f} ms ({P99_BARE:g} x the bare engine's p50 + {P99_EXTRA_MS:g} ms)"
    )
    if (ratio := summary.get("memory_last_over_second_minute")) is not None:
        said += f"; memory of the last minute over that of the second {ratio:.3f}"
    return said


def differences(record: Mapping[str, Any], earlier: Mapping[str, Any]) -> list[str]:
    """Say what makes two records hard to compare: another device, model, engine or command."""
    command, was = record["command"], earlier.get("command", {})
    pairs = [(name, earlier.get(name), record.get(name)) for name in _OF_ALL]
    for row in record["rows"]:
        if before := _same_row(row, record, earlier):
            pairs += [(name, before.get(name), row.get(name)) for name in _OF_ROW]
    pairs += [(name, was.get(name), command.get(name)) for name in _OF_COMMAND]
    said = [
        f"not the same {name.replace('_', ' ')}: {before} before, {now} now"
        for name, before, now in pairs
        if before != now
    ]
    return list(dict.fromkeys(said))  # rows of one device differ alike
