"""How a contestant of `tracking.py` did in one run.

A vessel is to be found while at least half of it can be seen and it is a millimetre high or more.
While less of it is there - out of view, pressed flat, in a shadow - nobody is asked for it, and
what is reported within half a vessel's size of its place is left out, for every contestant, as
MOTChallenge does with what it calls distractors. Frames in which no vessel can be seen, as the
probe is off the skin, are left out altogether.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import fmean, median
from typing import Any

import numpy as np
from tracking_contest import Contestant, Report
from tracking_moments import Run

from veintrack.tracker.scoring.matching import Scene, lay_together, match
from veintrack.tracker.scoring.mot import similarity_of
from veintrack.tracker.scoring.rows import Rows, rows_of_truth
from veintrack.tracker.scoring.score import TrackScore, score_scene

__all__ = ["Result", "follow", "play", "sum_up", "truth_of"]

_LEAST_PART, _LEAST_MM = 0.5, 1.0
_SOON_S = 1.0  # after it was hidden, a vessel is followed again within this time, or not kept


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one contestant.

    Attributes
    ----------
    scenario, seed, masks, contestant : str, int, str, str
        Which it is.
    frames : int
        How many the run has.
    hota, id_f1, mota, recall : float
        As `veintrack evaluate tracking` defines them.
    switches, fragments : int
        Identity switches and fragments.
    pairs : int
        Frames in which a track follows a vessel, of all vessels; `rmse_px` and `rmse_mm` are over
        these.
    rmse_px, rmse_mm, p95_px : float
        Distance from the vessel's centroid: root mean square, and 95th percentile.
    confirm_s : float
        From the first time that a vessel can be seen to the first track on it, mean.
    false_tracks_min : float
        Tracks a minute that follow nothing most of the time.
    confirmed : int
        Pairs in which the track was seen in the frame, where it states a covariance.
    coverage_50, coverage_95, nees : float
        How often the truth lies in its 50 and 95 % region, and normalised error, of these.
    gaps, kept : int
        How often a vessel was hidden and came back, and how often with the track of before.
    update_us : float
        Processor time of an update, median.
    """

    scenario: str
    seed: int
    masks: str
    contestant: str
    frames: int
    hota: float
    id_f1: float
    mota: float
    recall: float
    switches: int
    fragments: int
    pairs: int
    rmse_px: float
    rmse_mm: float
    p95_px: float
    confirm_s: float
    false_tracks_min: float
    confirmed: int
    coverage_50: float
    coverage_95: float
    nees: float
    gaps: int
    kept: int
    update_us: float


def play(contestant: Contestant, run: Run) -> Result:
    """Let a contestant follow one run, and score it."""
    truth = truth_of(run)
    tracks, update_us = follow(contestant, run)
    there = np.unique(truth.frame[_visible(truth)])
    scene = lay_together(_only(tracks, there), _only(truth, there))
    near_px = scene.near_px
    followed = match(scene, near_px)
    score = score_scene(
        scene, followed, near_px, similarity=similarity_of(scene), spacing_mm=run.spacing_mm
    )
    whole = lay_together(tracks, truth)
    gaps, kept = _gaps(whole, match(whole, near_px))
    return Result(
        run.name,
        run.seed,
        run.masks,
        contestant.name,
        len(run.moments),
        **_figures(score),
        gaps=gaps,
        kept=kept,
        update_us=round(update_us, 1),
    )


def follow(contestant: Contestant, run: Run) -> tuple[Rows, float]:
    """Give a contestant all frames; say what it reports, and its median processor time, µs."""
    contestant.start(run.rate_hz, run.area_px, run.spacing_mm)
    reports: list[tuple[int, float, Report]] = []
    took_ns = []
    start_ns = run.moments[0].capture_ns
    for moment in run.moments:
        begun_ns = time.thread_time_ns()
        said = contestant.update(moment)
        took_ns.append(time.thread_time_ns() - begun_ns)
        at_s = (moment.capture_ns - start_ns) * 1e-9
        reports += [(moment.index, at_s, report) for report in said]
    return _rows(reports), median(took_ns) / 1e3


def truth_of(run: Run) -> Rows:
    """Gather where the vessels are, and when they are to be found."""
    start_ns = run.moments[0].capture_ns
    rows = rows_of_truth((m.index, (m.capture_ns - start_ns) * 1e-9, m.truth) for m in run.moments)
    wanted = []
    for moment in run.moments:
        for vessel in moment.truth:
            whole_px2 = np.pi / 4 * vessel.axes_px[0] * vessel.axes_px[1]
            wanted.append(
                vessel.visible
                and vessel.area_px2 >= _LEAST_PART * whole_px2
                and vessel.axes_px[1] * run.spacing_mm[0] >= _LEAST_MM
            )
    return replace(rows, visible=np.array(wanted, np.bool_))


def sum_up(results: Sequence[Result], by: Sequence[str]) -> list[dict[str, Any]]:
    """Sum up the results that agree in some fields: means, sums of counts, pooled errors.

    Parameters
    ----------
    results : sequence of Result
        What was found.
    by : sequence of str
        Names of fields.
    """

    def key(one: Result) -> tuple[Any, ...]:
        return tuple(getattr(one, name) for name in by)

    groups: dict[tuple[Any, ...], list[Result]] = {}
    for one in results:
        groups.setdefault(key(one), []).append(one)
    return [dict(zip(by, k, strict=True)) | _pool(group) for k, group in groups.items()]


def _pool(group: Sequence[Result]) -> dict[str, Any]:
    summed = ("switches", "fragments", "gaps", "kept", "pairs", "confirmed")
    meant = ("hota", "id_f1", "mota", "recall", "p95_px", "confirm_s", "false_tracks_min")
    pooled: dict[str, Any] = {name: sum(getattr(r, name) for r in group) for name in summed}
    for name in meant:
        known = [v for r in group if np.isfinite(v := getattr(r, name))]
        pooled[name] = fmean(known) if known else float("nan")
    for name in ("rmse_px", "rmse_mm"):
        pooled[name] = float(np.sqrt(_weighted(group, name, "pairs", square=True)))
    for name in ("coverage_50", "coverage_95", "nees"):
        pooled[name] = _weighted(group, name, "confirmed")
    pooled["update_us"] = median(r.update_us for r in group)
    return pooled


def _weighted(group: Iterable[Result], name: str, weight: str, *, square: bool = False) -> float:
    """Mean over pairs, each for the time of its frame.

    What is wrong stays so for seconds: of two runs that last equally long, the one with more frames
    tells no more.
    """
    parts = [(getattr(r, name), getattr(r, weight) / r.frames) for r in group]
    parts = [(v * v if square else v, w) for v, w in parts if w and np.isfinite(v)]
    total = sum(w for _, w in parts)
    return sum(v * w for v, w in parts) / total if total else float("nan")


def _figures(score: TrackScore) -> Mapping[str, Any]:
    scores, seen = score.scores, score.seen
    px, mm = score.error_px, score.error_mm
    nan = float("nan")

    def known(value: float | None) -> float:
        return nan if value is None else round(value, 5)

    levels = {c.stated: c.measured for c in seen.coverage} if seen else {}
    return {
        "hota": known(scores.hota),
        "id_f1": known(scores.id_f1),
        "mota": known(scores.mota),
        "recall": known(score.recall),
        "switches": scores.switches,
        "fragments": int(scores.fragments),
        "pairs": px.count if px else 0,
        "rmse_px": known(px.rmse if px else None),
        "rmse_mm": known(mm.rmse if mm else None),
        "p95_px": known(px.p95 if px else None),
        "confirm_s": known(score.confirm_s),
        "false_tracks_min": known(score.false_tracks_min),
        "confirmed": seen.count if seen else 0,
        "coverage_50": known(levels.get(0.5)),
        "coverage_95": known(levels.get(0.95)),
        "nees": known(seen.nees if seen else None),
    }


def _gaps(scene: Scene, followed: Any) -> tuple[int, int]:
    """Count how often a vessel was hidden and came back, and how often with its track."""
    frame, rows = scene.truth.frame, np.arange(len(scene.truth))
    track_of = np.full(len(rows), -1)
    track_of[followed[followed >= 0]] = scene.tracks.id[followed >= 0]
    gaps = kept = 0
    for number in np.unique(scene.truth.id):
        own = rows[scene.truth.id == number]
        spans = [
            (seen, np.array(list(part)))
            for seen, part in groupby(own, key=lambda row: bool(scene.visible[row]))
        ]
        shown = [span for seen, span in spans if seen]
        for before, after in pairwise(shown):
            start_s = scene.time_of(frame[after[:1]])[0]
            soon = after[scene.time_of(frame[after]) <= start_s + _SOON_S]
            old, new = track_of[before], track_of[soon]
            if (old >= 0).any():
                gaps += 1
                kept += bool((new >= 0).any() and new[new >= 0][-1] == old[old >= 0][-1])
    return gaps, kept


def _rows(reports: Sequence[tuple[int, float, Report]]) -> Rows:
    stated = all(r.cov_px2 is not None for *_, r in reports)
    return Rows(
        frame=np.array([i for i, *_ in reports], np.int64),
        id=np.array([r.id for *_, r in reports], np.int64),
        time_s=np.array([s for _, s, _ in reports], np.float64),
        xy_px=np.array([r.xy_px for *_, r in reports], np.float64).reshape(-1, 2),
        box_px=np.array([r.box_px for *_, r in reports], np.float64).reshape(-1, 4),
        cov_px2=np.array([r.cov_px2 for *_, r in reports], np.float64).reshape(-1, 2, 2)
        if stated
        else None,
        confirmed=np.array([r.confirmed for *_, r in reports], np.bool_),
    )


def _visible(rows: Rows) -> Any:
    return np.ones(len(rows), np.bool_) if rows.visible is None else rows.visible


def _only(rows: Rows, frames: Any) -> Rows:
    """Take some frames of a table."""
    kept = rows.take(np.isin(rows.frame, frames))
    if rows.all_frames is None or rows.all_time_s is None:
        return kept
    which = np.isin(rows.all_frames, frames)
    return replace(kept, all_frames=rows.all_frames[which], all_time_s=rows.all_time_s[which])
