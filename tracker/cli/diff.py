"""``veintrack diff``: how two runs over the same frames differ."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # imported on use: the command line starts without them
    from veintrack.tracker.rundiff import Distance, RunDiff

__all__ = ["diff"]

_PICTURES = (".png", ".svg", ".pdf")


def diff(
    run_a: Annotated[
        Path, typer.Argument(help="A run's folder, tracks.jsonl or tracks.csv.", metavar="RUN_A")
    ],
    run_b: Annotated[
        Path, typer.Argument(help="Another run over the same frames.", metavar="RUN_B")
    ],
    near: Annotated[
        float | None,
        typer.Option(
            help="Largest distance in px of tracks that belong together [half their usual size].",
            metavar="PX",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every figure there.", metavar="FILE")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help=f"Draw distances and identities there: {', '.join(_PICTURES)}.", metavar="FILE"
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
) -> None:
    """Say how two runs differ: frames, identities, distance of centroids."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.text import Text

    from veintrack.tracker.cli.evaluate_output import check_free, write
    from veintrack.tracker.rundiff import compare_runs, put_together
    from veintrack.tracker.scoring.reading import read_rows

    if near is not None and not 0 < near < float("inf"):
        raise ValueError(f"near must be greater than 0 and finite, got {near}")
    if plot is not None and plot.suffix.lower() not in _PICTURES:
        raise ValueError(f"plot must end in {', '.join(_PICTURES)}, got {plot.name}")
    check_free([p for p in (json_file, plot) if p], overwrite=overwrite)
    together = put_together(read_rows(run_a), read_rows(run_b), near)
    found = compare_runs(together)
    if json_file:
        facts = {"run_a": str(run_a), "run_b": str(run_b), "same": found.same}
        write(json_file, json.dumps({**facts, **asdict(found)}, indent=1))
    if plot:
        from veintrack.tracker.rundiff_plot import plot_diff

        plot_diff(plot, together, found)
    _show(found)
    console = Console(stderr=True, highlight=False)
    for path in filter(None, (json_file, plot)):
        console.print(Text(f"written: {path}"), soft_wrap=True)  # as text: a path is no markup


def _show(found: "RunDiff") -> None:
    """Print the differences as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    whole = Table("", "first", "second", "both", title="runs", title_justify="left")
    whole.add_row("frames", *map(str, (found.frames_a, found.frames_b, found.frames_both)))
    whole.add_row("tracks in them", *map(str, (found.rows_a, found.rows_b, found.rows_both)))
    console.print(whole)
    if found.distance is not None:
        heads = ("first", "second", "frames", "from", "to", "the same", "median", "p95", "most")
        title = "identities that belong together; distance of their centroids in px"
        table = Table(*heads, title=title, title_justify="left")
        for pair in found.pairs:
            row = (pair.a, pair.b, pair.frames, pair.first, pair.last)
            table.add_row(*map(str, row), *_cells(pair.distance))
        table.add_row("all", "", str(found.rows_both), "", "", *_cells(found.distance))
        console.print(table)
    for run, alone in (("first", found.alone_a), ("second", found.alone_b)):
        for number, frames in alone:
            console.print(f"track {number} of the {run} run has no counterpart: {frames} frames")
    if found.status:
        console.print(f"seen in one run and predicted in the other: {found.status} times")
    console.print("the runs are the same" if found.same else "the runs differ")


def _cells(distance: "Distance") -> tuple[str, ...]:
    away = (distance.median, distance.p95, distance.maximum)
    return (str(distance.same), *(f"{value:.3f}" for value in away))
