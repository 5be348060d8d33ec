"""``veintrack evaluate tracking``: how good tracks are, where the truth is known."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from veintrack.tracker.cli.evaluate_output import check_free, write

__all__ = ["tracking"]

_PICTURES = (".png", ".svg", ".pdf")
_SIMILARITIES = ("auto", "box", "centroid")


def tracking(
    tracks: Annotated[
        Path,
        typer.Option(
            help="tracks.jsonl, tracks.csv, MOTChallenge rows (.txt), or a run's folder.",
            metavar="PATH",
        ),
    ],
    truth: Annotated[
        Path,
        typer.Option(
            help="Truth of the same source: CSV with frame, track_id, x_px, y_px, and more if "
            "known; MOTChallenge rows; or corrected tracks.",
            metavar="PATH",
        ),
    ],
    spacing: Annotated[
        str | None,
        typer.Option(help="Millimetres per pixel, MM or ROW_MM,COL_MM [the run's, if known]."),
    ] = None,
    near: Annotated[
        float | None,
        typer.Option(
            help="Largest distance in px of a track from the object that it follows [half the "
            "objects' usual size, else 15].",
            metavar="PX",
        ),
    ] = None,
    similarity: Annotated[
        str,
        typer.Option(
            help="What HOTA and its like compare: box, centroid, or auto: boxes where all have one."
        ),
    ] = "auto",
    confirmed_only: Annotated[
        bool, typer.Option("--confirmed-only", help="Leave out what was predicted, not seen.")
    ] = False,
    only_labelled: Annotated[
        bool,
        typer.Option("--only-labelled", help="Leave out frames in which the truth has no row."),
    ] = False,
    fit: Annotated[
        bool,
        typer.Option(
            "--fit",
            help="Estimate the tracker's noise settings from the truth; needs tracks.jsonl.",
        ),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every figure there.", metavar="FILE")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help=f"Draw errors, coverage and identities there: {', '.join(_PICTURES)}.",
            metavar="FILE",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
) -> None:
    """Score tracks against truth."""
    from rich.console import Console
    from rich.text import Text

    from veintrack.tracker.cli.evaluate_tracking_output import as_json, show, show_fit
    from veintrack.tracker.config import parse_spacing
    from veintrack.tracker.scoring.fit import fit_noise
    from veintrack.tracker.scoring.matching import lay_together, match
    from veintrack.tracker.scoring.mot import similarity_of
    from veintrack.tracker.scoring.reading import read_rows, read_spacing
    from veintrack.tracker.scoring.score import score_scene

    _check_options(near=near, similarity=similarity, plot=plot)
    _check_outputs((json_file, plot), (tracks, truth), overwrite=overwrite)
    spacing_mm = parse_spacing(spacing) if spacing is not None else read_spacing(tracks)
    reported, known = read_rows(tracks), read_rows(truth)
    if confirmed_only and reported.confirmed is not None:
        reported = reported.take(reported.confirmed)
    scene = lay_together(reported, known, only_labelled=only_labelled)
    near_px = scene.near_px if near is None else near
    followed = match(scene, near_px)
    score = score_scene(
        scene,
        followed,
        near_px,
        similarity=similarity_of(scene, None if similarity == "auto" else similarity),
        spacing_mm=spacing_mm,
    )
    fitted = fit_noise(tracks, known, near_px=near_px, spacing_mm=spacing_mm) if fit else None
    facts = {
        "tracks": str(tracks),
        "truth": str(truth),
        "spacing_mm": spacing_mm,
        "confirmed_only": confirmed_only,
        "only_labelled": only_labelled,
    }
    if json_file:
        write(json_file, json.dumps(as_json(facts, score, fitted), indent=1))
    if plot:
        from veintrack.tracker.scoring.plot import plot_score

        plot_score(plot, scene, followed, score)
    show(score, scene)
    if fitted:
        show_fit(fitted)
    console = Console(stderr=True, highlight=False)
    for path in filter(None, (json_file, plot)):
        console.print(Text(f"written: {path}"), soft_wrap=True)  # as text: a path is no markup


def _check_outputs(
    outputs: Iterable[Path | None], inputs: Iterable[Path], *, overwrite: bool
) -> None:
    """Refuse to write over what is read, or twice to one file, even where files may be replaced."""
    taken = {path.resolve() for path in inputs}
    for path in filter(None, outputs):
        if path.resolve() in taken:
            raise ValueError(f"{path} is named twice: name another file to write to")
        taken.add(path.resolve())
        check_free([path], overwrite=overwrite)


def _check_options(*, near: float | None, similarity: str, plot: Path | None) -> None:
    if near is not None and not 0 < near < float("inf"):
        raise ValueError(f"near must be greater than 0 and finite, got {near}")
    if similarity not in _SIMILARITIES:
        raise ValueError(f"similarity must be {', '.join(_SIMILARITIES)}, got {similarity!r}")
    if plot is not None and plot.suffix.lower() not in _PICTURES:
        raise ValueError(f"plot must end in {', '.join(_PICTURES)}, got {plot.name}")
