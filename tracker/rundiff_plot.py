"""A picture of how two runs differ: distances over time, and who followed what in either."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veintrack.errors import OutputError
from veintrack.tracker.frame import F64
from veintrack.tracker.rundiff import RunDiff, Together
from veintrack.tracker.scoring.rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_diff"]

_COLOURS = "tab20"
_ALONE = "0.75"
_LEAST_PX = 1e-3  # what is the same is drawn here: a logarithm knows no zero


def plot_diff(path: Path, together: Together, found: RunDiff) -> None:
    """Draw the distance of each pair of identities over time, and a lane for each identity.

    Parameters
    ----------
    path : Path
        Its suffix says the kind of picture: .png, .svg, .pdf.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    # Without pyplot there is no state to share and no window system to look for.
    from matplotlib.figure import Figure

    scene = together.scene
    known = bool(np.isfinite(scene.time_s).all())
    clock = scene.time_s if known else scene.frame.astype(float)
    lanes = len(np.unique(scene.truth.id)) + len(np.unique(scene.tracks.id))
    figure = Figure(figsize=(11, 4.2 + 0.25 * lanes), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 0.6 + 0.25 * lanes))
    _draw_distances(above, together, found, clock)
    _draw_lanes(below, together, found, clock)
    below.set_xlabel("time, s" if known else "frame")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror or error}") from error


def _draw_distances(axes: "Axes", together: Together, found: RunDiff, clock: F64) -> None:
    from matplotlib import colormaps

    colours = colormaps[_COLOURS]
    scene, (first, second) = together.scene, together.rows
    away = np.maximum(together.away_px, _LEAST_PX)
    for place, pair in enumerate(found.pairs):
        own = (scene.truth.id[first] == pair.a) & (scene.tracks.id[second] == pair.b)
        at = clock[np.searchsorted(scene.frame, scene.tracks.frame[second[own]])]
        colour = colours(place % colours.N)
        axes.plot(at, away[own], ".", markersize=3, color=colour, label=f"{pair.a} and {pair.b}")
    if found.pairs:
        axes.legend(title="identities", fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
        axes.set_yscale("log")
        axes.set_ylim(bottom=_LEAST_PX / 2)
    axes.set(
        ylabel="distance of centroids, px",
        title=f"Distance of what belongs together ({_LEAST_PX:g}: the same)",
    )
    axes.margins(x=0)


def _draw_lanes(axes: "Axes", together: Together, found: RunDiff, clock: F64) -> None:
    """Mark when each identity was there, in the colour of the pair it belongs to."""
    from matplotlib import colormaps

    colours = colormaps[_COLOURS]
    scene, (first, second) = together.scene, together.rows
    colour_of = {(p.a, p.b): colours(i % colours.N) for i, p in enumerate(found.pairs)}
    names: list[str] = []

    def draw(rows: Rows, run: str, own: dict[int, tuple[int, int]]) -> None:
        for number in np.unique(rows.id).tolist():
            places = np.flatnonzero(rows.id == number)
            at = clock[np.searchsorted(scene.frame, rows.frame[places])]
            colour = [
                colour_of[own[place]] if place in own else _ALONE for place in places.tolist()
            ]
            axes.scatter(at, np.full(len(at), len(names)), s=9, marker="|", c=colour)
            names.append(f"{run}: {number}")

    pairs = list(zip(scene.truth.id[first].tolist(), scene.tracks.id[second].tolist(), strict=True))
    draw(scene.truth, "first", dict(zip(first.tolist(), pairs, strict=True)))
    draw(scene.tracks, "second", dict(zip(second.tolist(), pairs, strict=True)))
    axes.set_yticks(range(len(names)), names)
    axes.set(ylabel="run: identity", ylim=(len(names) - 0.5, -0.5))
    axes.set_title("Who was followed (grey: without a counterpart)")
