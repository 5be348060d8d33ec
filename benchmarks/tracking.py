"""Follow vessels through nineteen scenarios: veintrack, and what users would otherwise take.

    pip install "veintrack[eval]" trackers stonesoup
    pip install --no-deps norfair
    python benchmarks/tracking.py --masks corrupted --json tracking.json

Every contestant is given the same detections, from one of three sorts of masks: the phantom's own
(`truth`), ones as wrong as a network's may be (`corrupted`, see `tracking_masks.py`), and the
shipped model's (`network`). What is asked for, and what is not, is said in `tracking_scores.py`;
the scenarios are in `tracking_scenarios.py`. What is not installed is told and left out.

Rendering and segmenting take minutes, tracking seconds: what was made is kept in the folder
`--cache`. `prepare` only fills it.

`kept` is how often a vessel that was hidden - pressed flat, behind a shadow, while the probe was
lifted - had its track again within a second. Coverage is of tracks that were seen in the frame.
"""

import argparse
import json
import multiprocessing
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table
from tracking_contest import Contestant, Veintrack
from tracking_moments import MASKS, Run, prepare
from tracking_scenarios import DURATION_S, SCENARIOS, scenario
from tracking_scores import Result, play, sum_up

from veintrack.errors import VeintrackError
from veintrack.tracker.machine import machine_facts

_COLUMNS: Mapping[str, tuple[str, str]] = {
    "HOTA": ("hota", ".3f"),
    "IDF1": ("id_f1", ".3f"),
    "switches": ("switches", "d"),
    "kept": ("kept", "s"),
    "RMSE px": ("rmse_px", ".2f"),
    "mm": ("rmse_mm", ".3f"),
    "found": ("recall", ".3f"),
    "confirm s": ("confirm_s", ".2f"),
    "false/min": ("false_tracks_min", ".1f"),
    "in 50 %": ("coverage_50", ".2f"),
    "in 95 %": ("coverage_95", ".3f"),
    "µs": ("update_us", ".0f"),
}


def contestants(names: Sequence[str] | None) -> tuple[list[Contestant], list[str]]:
    """Make the contestants, ours first, and say what is not installed."""
    found: list[Contestant] = [Veintrack()]
    absent: list[str] = []
    if names is None or set(names) - {Veintrack.name}:
        import tracking_peers

        found += tracking_peers.peers()
        absent = tracking_peers.missing()
    there = {one.name for one in found}
    if names is not None and (unknown := set(names) - there):
        raise ValueError(
            f"no contestant {', '.join(sorted(unknown))}; there are {', '.join(sorted(there))}"
        )
    return [one for one in found if names is None or one.name in names], absent


def runs(options: argparse.Namespace) -> Iterator[Run]:
    """Make all runs that were asked for."""
    for name in options.scenarios:
        for seed in options.seeds:
            for masks in options.masks:
                yield prepare(scenario(name, seed, options.seconds), seed, masks, options.cache)


def fill(options: argparse.Namespace) -> None:
    """Fill the cache, in several processes; each does all that rests on one rendering."""
    say = Console(stderr=True)
    jobs = [(name, seed, options) for name in options.scenarios for seed in options.seeds]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        for done, what in enumerate(pool.map(_fill_one, jobs), start=1):
            say.print(f"{done} of {len(jobs)}: {what}")


def _fill_one(job: tuple[str, int, argparse.Namespace]) -> str:
    name, seed, options = job
    for masks in options.masks:
        prepare(scenario(name, seed, options.seconds), seed, masks, options.cache)
    return f"{name}, seed {seed}"


def show(results: Sequence[Result], masks: Sequence[str]) -> None:
    """Print a table for each sort of masks: scenarios, and the mean over them."""
    console = Console(width=150)
    names = list(dict.fromkeys(r.contestant for r in results))
    for sort in masks:
        own = [r for r in results if r.masks == sort]
        table = Table("scenario", *(("contestant",) if len(names) > 1 else ()))
        table.title = f"{sort} masks"
        for title in _COLUMNS:
            table.add_column(title, justify="right")
        for row in sum_up(own, ("scenario", "contestant")):
            last = row["contestant"] == names[-1]
            table.add_row(*_cells(row, names), end_section=last and len(names) > 1)
        table.add_section()
        for row in sum_up(own, ("contestant",)):
            table.add_row(*_cells({"scenario": "all", **row}, names), style="bold")
        console.print(table)


def _cells(row: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    yield row["scenario"]
    if len(names) > 1:
        yield row["contestant"]
    for field, form in _COLUMNS.values():
        if field == "kept":
            yield f"{row['kept']}/{row['gaps']}" if row["gaps"] else ""
        else:
            yield "" if row[field] != row[field] else format(row[field], form)


def _plain(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put None for what is not a number: JSON knows no other way."""
    return [{name: None if value != value else value for name, value in r.items()} for r in rows]


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Let the user choose masks, scenarios and seeds, and where things are kept."""
    parser.add_argument("--masks", nargs="+", choices=MASKS, default=list(MASKS))
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=DURATION_S, help="that a scenario lasts")
    parser.add_argument(
        "--cache", type=Path, default=user_cache_path("veintrack") / "tracking-scenarios"
    )
    parser.add_argument("--json", type=Path)


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", nargs="?", choices=("prepare", "run"), default="run")
    add_choices(parser)
    parser.add_argument("--contestants", nargs="+", help="by default all that are installed")
    parser.add_argument("--jobs", type=int, default=2, help="processes that prepare")
    return parser.parse_args(words)


def main() -> None:
    """Prepare, run, print the tables."""
    options = read_options()
    try:
        if options.stage == "prepare":
            fill(options)
            return
        if find_spec("trackeval") is None:
            raise SystemExit('tracking: trackeval is missing: pip install "veintrack[eval]"')
        taking_part, absent = contestants(options.contestants)
        results = [play(one, run) for run in runs(options) for one in taking_part]
    except (ValueError, VeintrackError) as error:
        raise SystemExit(f"tracking: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    show(results, options.masks)
    for name in absent:
        print(f"left out, not installed: {name}")
    if options.json:
        record = {
            "machine": machine_facts(),
            "command": shlex.join(["python", "benchmarks/tracking.py", *sys.argv[1:]]),
            "left_out": absent,
            "summary": _plain(sum_up(results, ("masks", "contestant"))),
            "scenarios": _plain(sum_up(results, ("masks", "scenario", "contestant"))),
            "runs": _plain(asdict(one) for one in results),
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
