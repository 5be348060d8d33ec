"""What ``veintrack evaluate tracking`` gives: figures as JSON, and tables on the terminal."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from veintrack._version import __version__

if TYPE_CHECKING:  # imported on use: the command line starts without them
    from veintrack.tracker.scoring.errors import Consistency, Errors
    from veintrack.tracker.scoring.fit import Fit
    from veintrack.tracker.scoring.matching import Scene
    from veintrack.tracker.scoring.score import TrackScore

__all__ = ["as_json", "show", "show_fit"]

_ERRORS = (
    ("mean", "mean"),
    ("SD", "sd"),
    ("RMSE", "rmse"),
    ("95th percentile", "p95"),
    ("maximum", "maximum"),
)
_MANY_UNLABELLED = 0.5  # from this part on, it is said that frames have no truth


def as_json(facts: dict[str, Any], score: "TrackScore", fitted: "Fit | None") -> dict[str, Any]:
    """Gather every figure."""
    from veintrack.tracker.overlay import NOTICE

    figures = {"notice": NOTICE, "veintrack": __version__, **facts, **asdict(score)}
    figures["fit"] = None if fitted is None else {**asdict(fitted), "yaml": fitted.as_yaml()}
    finite: dict[str, Any] = _finite(figures)
    return finite


def _finite(value: Any) -> Any:
    """Put null where a number is not finite: JSON knows none."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(score: "TrackScore", scene: "Scene") -> None:
    """Print the scores, and what must be known to read them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from veintrack.tracker.overlay import NOTICE

    console = Console(highlight=False)
    for title, head, rows in (
        ("found and told apart", ("score", "value"), _score_rows(score)),
        ("centroid error", ("", "px", "mm"), _error_rows(score)),
        ("stated uncertainty", ("", "seen", "predicted too"), _consistency_rows(score)),
    ):
        if rows:
            table = Table(*head, title=title, title_justify="left")
            for row in rows:
                table.add_row(*map(Text, row))
            console.print(table)
    for note in (*_notes(score, scene), NOTICE):
        console.print(Text(note))


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else f"{value:{form}}"


def _score_rows(score: "TrackScore") -> list[tuple[str, str]]:
    s = score.scores
    found = sum(bool(one.tracks) for one in score.objects)
    rows = [
        ("HOTA", _number(s.hota)),
        ("DetA", _number(s.det_a)),
        ("AssA", _number(s.ass_a)),
        ("MOTA", _number(s.mota)),
        ("IDF1", _number(s.id_f1)),
        ("identity switches", str(s.switches)),
        ("fragments", str(s.fragments)),
        ("objects found", f"{found} of {len(score.objects)}"),
        ("one track all the time", _number(score.identity_kept, ".1%")),
        ("part of the truth followed", _number(score.recall, ".1%")),
        ("time to confirm, s", _number(score.confirm_s, ".2f")),
        ("false tracks", str(score.false_tracks)),
        ("false tracks a minute", _number(score.false_tracks_min, ".2f")),
        ("frames with a stray track", _number(score.false_frames, ".1%")),
    ]
    sizes = (("area", score.area), ("major axis", score.major), ("minor axis", score.minor))
    for name, error in sizes:
        if error:
            rows.append((f"{name}, mean error", f"{error.mean:.1%} (bias {error.bias:+.1%})"))
    return rows


def _error_rows(score: "TrackScore") -> list[tuple[str, str, str]]:
    def cell(errors: "Errors | None", name: str) -> str:
        return "-" if errors is None else f"{getattr(errors, name):.3f}"

    if score.error_px is None:
        return []
    return [
        (title, cell(score.error_px, name), cell(score.error_mm, name)) for title, name in _ERRORS
    ]


def _consistency_rows(score: "TrackScore") -> list[tuple[str, str, str]]:
    if score.all_rows is None:
        return []

    def row(title: str, cell: "Callable[[Consistency], str]") -> tuple[str, str, str]:
        both = (score.seen, score.all_rows)
        return title, *("-" if c is None else cell(c) for c in both)  # type: ignore[return-value]

    def covered(place: int) -> "Callable[[Consistency], str]":
        def cell(c: "Consistency") -> str:
            one = c.coverage[place]
            return f"{one.measured:.1%} [{one.low:.1%}, {one.high:.1%}]"

        return cell

    return [
        *(
            row(f"{level.stated:.0%} region holds the truth", covered(place))
            for place, level in enumerate(score.all_rows.coverage)
        ),
        row(
            "NEES, 2 if true",
            lambda c: f"{c.nees:.2f} [{c.nees_low:.2f}, {c.nees_high:.2f}]",
        ),
        row(
            "NEES, accepted at 95 %",
            lambda c: f"{c.nees_accepted[0]:.2f} to {c.nees_accepted[1]:.2f}",
        ),
        row("samples (independent)", lambda c: f"{c.count} ({c.effective_count:.0f})"),
    ]


def _notes(score: "TrackScore", scene: "Scene") -> list[str]:
    import numpy as np

    lasts = "" if score.seconds is None else f", {score.seconds:.1f} s"
    compared = (
        "overlap of boxes"
        if score.similarity == "box"
        else f"distance of centroids, 0.5 at {score.near_px:.3g} px"
    )
    notes = [
        f"{score.frames} frames{lasts}. A track follows an object within {score.near_px:.3g} px. "
        f"HOTA and its like: {compared}."
    ]
    bare = 1 - len(np.intersect1d(scene.truth.frame, scene.frame)) / len(scene.frame)
    if bare > _MANY_UNLABELLED:
        notes.append(
            f"{bare:.0%} of the frames have no truth, and every track in them counts as false; "
            "if they were not looked at, add --only-labelled."
        )
    if score.seconds is None:
        notes.append("No file holds times: what needs them is left out.")
    if score.error_px and score.error_mm is None:
        notes.append("Millimetres need --spacing.")
    return notes


def show_fit(fitted: "Fit") -> None:
    """Print what the fit found, and its settings as a part of a configuration file."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in fitted.in_words():
        console.print(Text(line))
    console.print(Text(fitted.as_yaml()), soft_wrap=True)
