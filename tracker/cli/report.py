"""``veintrack report``: one page that shows what a run came to."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]

_PAGES = (".html", ".htm")


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a recording.", metavar="RUN")],
    output: Annotated[
        Path | None,
        typer.Option(help="The page [report.html in the folder of the run].", metavar="FILE"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the page if it exists.")
    ] = False,
) -> None:
    """Write one HTML page of a run: summary, curves, key frames, what happened, settings."""
    from veintrack.tracker.cli.evaluate_output import check_free, write
    from veintrack.tracker.report import open_run, render_report

    path = run / "report.html" if output is None else output
    if path.suffix.lower() not in _PAGES:
        raise ValueError(f"output must end in {' or '.join(_PAGES)}, got {path.name}")
    found = open_run(run)
    check_free([path], overwrite=overwrite)
    write(path, render_report(found))
    typer.echo(f"written: {path}")
