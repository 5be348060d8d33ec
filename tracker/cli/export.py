"""``veintrack export``: a run, or its recording, in a format that other programs read."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["export"]


def export(
    run: Annotated[
        Path, typer.Argument(help="The folder of a run, or a recording.", metavar="RUN")
    ],
    to: Annotated[
        Path,
        typer.Option(
            help="Frames: .igs.mha, .mha, .mhd, .nrrd, .us.dcm (DICOM); tracks: .parquet, .sr.dcm "
            "(DICOM report).",
            metavar="FILE",
        ),
    ],
    compress: Annotated[
        bool, typer.Option("--compress", help="Pack the pixels of .mha, .mhd and .nrrd.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Whole frames, and the names on them, where these were recorded."
        ),
    ] = False,
    source_dicom: Annotated[
        Path | None,
        typer.Option(
            help="For .sr.dcm: the DICOM file that was tracked, or the recording's .us.dcm.",
            metavar="FILE",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that exists.")
    ] = False,
) -> None:
    """Hand on what was recorded, or tracked, in a format that other programs read."""
    from rich.console import Console
    from rich.text import Text

    from veintrack.errors import SourceNotFoundError
    from veintrack.tracker.cli.evaluate_output import check_free
    from veintrack.tracker.exports.formats import Request, format_of

    wanted = format_of(to)
    request = Request(run, to, compress=compress, full=full, source_dicom=source_dicom)
    if not run.is_dir():
        raise SourceNotFoundError(f"no folder {run}: expected that of a run, or a recording")
    if source_dicom is not None and to.exists() and source_dicom.resolve() == to.resolve():
        raise ValueError(f"{to} is the image that is referred to: write to another file")
    check_free(request.files, overwrite=overwrite)
    said = wanted.write(request)
    console = Console(stderr=True, highlight=False)
    console.print(Text(f"written: {to}: {said}"), soft_wrap=True)  # as text: a path is no markup
