"""How well the vessels of warped stills are followed; a part of `tracking_real.py`."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from tracking_real_line import FOUND, Gathered, MaskSegmenter, follow, grey, overlap, rms
from tracking_warps import MOVES, Moved, Place, Still, Warp, moving

from veintrack.tracker.frame import F64, U8, FrameResult, Track
from veintrack.tracker.scanarea import find_scan_area
from veintrack.tracker.segment import GridSegmenter
from veintrack.train.leaks import group_duplicates, thumbnail
from veintrack.train.splits import split_groups

__all__ = ["Sight", "read_still", "sights", "unseen_stills", "warps"]

_VESSEL = 2  # its value in the masks of the stills
_LIT = 16  # grey levels; darker is black


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """A vessel that is followed, in one frame.

    Attributes
    ----------
    vessel, track : int
        Which, and by which track.
    offset_px : ndarray of shape (2,), float64
        From its centroid to the track's, turned and stretched back as in the still.
    """

    vessel: int
    track: int
    offset_px: F64


def unseen_stills(folder: Path) -> list[Still]:
    """Read the stills that the default model was not trained on; the split is the model card's.

    Those without a whole vessel are left out.
    """
    paths = sorted((folder / "images").glob("*.png"))
    names = [path.stem for path in paths]
    groups = group_duplicates(names, np.stack([thumbnail(grey(path)) for path in paths]))
    test = split_groups(groups, val=0.1, test=0.15, seed=0).test
    stills = (read_still(folder, names[i]) for i in test)
    return [still for still in stills if still.vessels]


def read_still(folder: Path, name: str) -> Still:
    """Read one still, cut to its scan area."""
    pixels, mask = (grey(folder / kind / f"{name}.png") for kind in ("images", "masks"))
    area = _lit_area(pixels)
    return Still.of(name, np.ascontiguousarray(pixels[area]), mask[area] == _VESSEL)


def _lit_area(pixels: U8) -> tuple[slice, slice]:
    """Find the scan area without what is black at its border: what is labelled there is a guess."""
    x, y, width, height = find_scan_area(pixels)
    lit = pixels[y : y + height, x : x + width] > _LIT
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    return slice(y + rows[0], y + rows[-1] + 1), slice(x + columns[0], x + columns[-1] + 1)


def warps(
    stills: Sequence[Still],
    segmenter: GridSegmenter | None,
    rate_hz: float,
    frames: int,
    moves: Sequence[str] = tuple(MOVES),
) -> Iterator[dict[str, Any]]:
    """Follow the vessels of every still under some moves; one row a move, and one of all.

    Without a segmenter, on the labelled outlines, warped like the picture.
    """
    source = {"outlines": "network" if segmenter else "labels"}
    everything, all_seen = Gathered(), list[Sight]()
    for kind, move in enumerate(moves):
        gathered, seen = Gathered(), list[Sight]()
        for number, still in enumerate(stills):
            run = kind * len(stills) + number
            for result, made in _followed(still, move, segmenter, rate_hz, frames, run):
                seen += sights(*gathered.add(run, result, made.places), made.warp)
        everything.moments += gathered.moments
        everything.truth += gathered.truth
        all_seen += seen
        yield {"move": move, **source, **_summary(gathered, seen)}
    yield {"move": "all", **source, **_summary(everything, all_seen)}


def sights(tracks: Sequence[Track], places: Sequence[Place], warp: Warp) -> list[Sight]:
    """Pair visible vessels with the tracks whose boxes overlap theirs best, by half or more."""
    places = [place for place in places if place.visible]
    shared = overlap([p.box_px for p in places], [t.box_px for t in tracks])
    back = np.linalg.inv(warp.linear)
    return [
        Sight(places[p].vessel, tracks[t].id, back @ (tracks[t].centroid_px - places[p].xy_px))
        for p, t in np.transpose(linear_sum_assignment(-shared)).tolist()
        if shared[p, t] >= FOUND
    ]


def _followed(
    still: Still,
    move: str,
    segmenter: GridSegmenter | None,
    rate_hz: float,
    frames: int,
    seed: int,
) -> Iterator[tuple[FrameResult, Moved]]:
    made = list(moving(still, MOVES[move], rate_hz, frames, seed))
    times_s = [index / rate_hz for index in range(frames)]
    line = segmenter or MaskSegmenter(one.mask for one in made)
    return zip(follow([one.pixels for one in made], times_s, line), made, strict=True)


def _summary(gathered: Gathered, seen: Sequence[Sight]) -> dict[str, Any]:
    of = defaultdict[int, list[Sight]](list)
    for sight in seen:
        of[sight.vessel].append(sight)
    offsets = [np.array([sight.offset_px for sight in each]) for each in of.values()]
    visible = [place for *_, place in gathered.truth if place.visible]
    scores = gathered.score({sight.track for sight in seen})
    means = np.array([each.mean(axis=0) for each in offsets]).reshape(-1, 2)
    moved = [each - mean for each, mean in zip(offsets, means, strict=True)]
    steady = [len({s.track for s in each}) == 1 for each in of.values()]
    return {
        "vessels": len({place.vessel for place in visible}),
        "found": len(of),
        "found_frames": len(seen) / len(visible),
        "one_identity": float(np.mean(steady)) if steady else math.nan,
        "hota": scores.scores.hota,
        "idf1": scores.scores.id_f1,
        "rmse_px": rms(np.concatenate([np.empty((0, 2)), *offsets])),
        "outline_px": float(np.median(np.hypot(*means.T))) if steady else math.nan,
        "motion_rmse_px": rms(np.concatenate([np.empty((0, 2)), *moved])),
    }
