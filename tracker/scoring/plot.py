"""A picture of scores: errors over time, whether uncertainty is true, and who followed whom."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from veintrack.errors import OutputError
from veintrack.tracker.frame import F64
from veintrack.tracker.scoring.matching import Scene
from veintrack.tracker.scoring.rows import I64
from veintrack.tracker.scoring.score import TrackScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_score"]

_COLOURS = "tab20"
_HIDDEN, _MISSED = "0.85", "black"
_LANE = 0.36  # half the height of an object's lane
_NO_LANE = -1  # of an object that can never be seen
_MOST_NAMED = 14  # more objects than this are not named beside their curves


def plot_score(path: Path, scene: Scene, followed: I64, score: TrackScore) -> None:
    """Draw the error of each object over time, the coverage, and a timeline of identities.

    Parameters
    ----------
    path : Path
        Its suffix says the kind of picture: .png, .svg, .pdf.
    followed : ndarray of shape (N,), int64
        Of :func:`~veintrack.tracker.scoring.matching.match`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    # Without pyplot there is no state to share and no window system to look for.
    from matplotlib.figure import Figure

    lanes = len(score.objects) + 1
    figure = Figure(figsize=(11, 4.2 + 0.3 * lanes), dpi=110, layout="constrained")
    grid = figure.add_gridspec(2, 3, height_ratios=(3.4, 0.8 + 0.3 * lanes))
    _draw_errors(figure.add_subplot(grid[0, :2]), scene, followed, score)
    _draw_coverage(figure.add_subplot(grid[0, 2]), score)
    _draw_timeline(figure.add_subplot(grid[1, :]), scene, followed, score)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror or error}") from error


def _clock(scene: Scene) -> tuple[F64, str]:
    """Choose what to draw over: times, or numbers of frames where times do not tell."""
    if np.isfinite(scene.time_s).all() and (np.diff(scene.time_s) > 0).all():
        return scene.time_s, "time, s"
    return scene.frame.astype(float), "frame"


def _draw_errors(axes: "Axes", scene: Scene, followed: I64, score: TrackScore) -> None:
    from matplotlib import colormaps

    clock, unit = _clock(scene)
    colours = colormaps[_COLOURS]
    rows = np.flatnonzero(followed >= 0)
    of = followed[rows]
    away = np.hypot(*(scene.tracks.xy_px[rows] - scene.truth.xy_px[of]).T)
    away = np.where(scene.visible[of], away, np.nan)
    for place, one in enumerate(score.objects):
        error = np.full(len(clock), np.nan)  # where it is not followed, the line is broken
        own = scene.truth.id[of] == one.id
        error[np.searchsorted(scene.frame, scene.tracks.frame[rows[own]])] = away[own]
        axes.plot(clock, error, linewidth=0.9, color=colours(place % colours.N), label=str(one.id))
    if 0 < len(score.objects) <= _MOST_NAMED:
        axes.legend(title="object", fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    axes.set(xlabel=unit, ylabel="centroid error, px", title="Error of each object")
    axes.set_ylim(bottom=0)
    axes.margins(x=0)


def _draw_coverage(axes: "Axes", score: TrackScore) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    drawn = [(score.seen, "seen")]
    if score.seen is None or score.all_rows is None or score.all_rows.count > score.seen.count:
        drawn.append((score.all_rows, "predicted too"))
    for consistency, name in drawn:
        if consistency is not None:
            (line,) = axes.plot(*np.transpose(consistency.curve), linewidth=1.4, label=name)
            for level in consistency.coverage:
                axes.plot([level.stated] * 2, [level.low, level.high], color=line.get_color())
    if score.all_rows:
        axes.legend(fontsize="small", loc="lower right")
    else:
        axes.text(0.5, 0.5, "no uncertainty stated", ha="center", va="center")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set(xlabel="stated", ylabel="measured", title="Coverage (bars: 95 % intervals)")


def _draw_timeline(axes: "Axes", scene: Scene, followed: I64, score: TrackScore) -> None:
    """Give each object a lane, coloured by the track that follows it; and one to stray tracks."""
    from matplotlib import colormaps

    clock, unit = _clock(scene)
    colours = colormaps[_COLOURS]
    lane = {one.id: place for place, one in enumerate(score.objects)}
    stray = len(lane)
    ends = np.append(clock[1:], clock[-1] + _step(clock))

    def mark(frames: I64, where: float, colour: object, height: float) -> None:
        places = np.searchsorted(scene.frame, frames)
        spans = [
            (clock[a], ends[b] - clock[a]) for a, b in ((run[0], run[-1]) for run in _runs(places))
        ]
        axes.broken_barh(spans, (where - height, 2 * height), facecolors=colour, linewidth=0)

    for number, place in lane.items():
        of = scene.truth.id == number
        mark(scene.truth.frame[of & ~scene.visible], place, _HIDDEN, _LANE)
        missed = of & scene.visible
        missed[followed[followed >= 0]] = False
        mark(scene.truth.frame[missed], place, _MISSED, 0.1 * _LANE)
    # The last place is that of no row: where a track follows nothing, its row is -1.
    lane_of_row = np.array([*(lane.get(one, _NO_LANE) for one in scene.truth.id.tolist()), stray])
    for number in np.unique(scene.tracks.id).tolist():
        own = np.flatnonzero(scene.tracks.id == number)
        on = lane_of_row[followed[own]]
        for where in np.unique(on).tolist():
            if where >= 0:
                frames = scene.tracks.frame[own[on == where]]
                mark(frames, where, colours(number % colours.N), 0.6 * _LANE)
    axes.set_yticks([*lane.values(), stray], [*map(str, lane), "none"])
    axes.set(xlabel=unit, ylabel="object", ylim=(stray + 0.5, -0.5), xlim=(clock[0], ends[-1]))
    axes.set_title("Which track follows it (colour); grey: hidden; black line: missed")


def _step(clock: F64) -> float:
    """How long the last frame is shown: as the others usually are."""
    return float(np.median(np.diff(clock))) if len(clock) > 1 else 1.0


def _runs(places: I64) -> list[I64]:
    """Split places, sorted, into those without a gap between them."""
    return np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else []
