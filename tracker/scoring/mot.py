"""The scores of multiple object tracking, as trackeval computes them."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from veintrack.errors import BackendMissingError
from veintrack.tracker.frame import F64
from veintrack.tracker.scoring.matching import Scene
from veintrack.tracker.scoring.rows import I64

__all__ = ["Similarity", "TrackingScores", "score_tracking", "similarity_of"]

Similarity = Literal["box", "centroid"]

_ALIKE = 0.5  # from here on CLEAR and Identity take a pair for the same object


@dataclass(frozen=True, slots=True)
class TrackingScores:
    """How well objects are found and told apart, over all frames together.

    Attributes
    ----------
    hota, det_a, ass_a, loc_a : float or None
        Higher order tracking accuracy, its parts for detection and association, and the mean
        similarity of pairs, over similarities from 0.05 to 0.95 (Luiten et al., Int. J. Comput.
        Vis. 129, 2021). None where there is nothing to find; `loc_a` also where nothing is found.
    mota : float or None
        Multiple object tracking accuracy (Bernardin and Stiefelhagen, EURASIP J. Image Video
        Process., 2008).
    id_f1 : float or None
        F1 of the identities (Ristani et al., ECCV workshops, 2016).
    switches : int
        Times that an object is followed by another track than before.
    fragments : int
        Times that a visible object is found again after it was lost. Counted here: trackeval's
        CLEAR overlooks a gap in which there is no track at all, and takes the time in which an
        object is hidden for one.
    """

    hota: float | None
    det_a: float | None
    ass_a: float | None
    loc_a: float | None
    mota: float | None
    id_f1: float | None
    switches: int
    fragments: int


def similarity_of(scene: Scene, wanted: str | None = None) -> Similarity:
    """Choose what to compare: by default boxes where all rows have one, else centroids.

    Raises
    ------
    ValueError
        If boxes are wanted, and rows have none.
    """
    if wanted == "centroid":
        return "centroid"
    boxes = _all_have_boxes(scene)
    if wanted == "box" and not boxes:
        raise ValueError("similarity box needs a box in every row of tracks and truth")
    return "box" if boxes else "centroid"


def _all_have_boxes(scene: Scene) -> bool:
    of_truth, of_tracks = scene.truth.box_px, scene.tracks.box_px
    if of_truth is None or of_tracks is None:
        return False
    return bool(np.isfinite(of_truth[scene.visible]).all() and np.isfinite(of_tracks).all())


def score_tracking(
    scene: Scene, followed: I64, near_px: float, similarity: Similarity
) -> TrackingScores:
    """Compute HOTA, CLEAR and Identity.

    What follows an object that cannot be seen is neither right nor wrong, and left out, as
    MOTChallenge does with its distractors (Milan et al., "MOT16", arXiv:1603.00831).

    Parameters
    ----------
    followed : ndarray of shape (N,), int64
        Of :func:`~veintrack.tracker.scoring.matching.match`.
    near_px : float
        Distance at which the similarity of two centroids is 0.5.
    similarity : str
        Of :func:`similarity_of`, or as is wanted.

    Raises
    ------
    BackendMissingError
        If trackeval is not installed.
    """
    metrics = _metrics()
    data = _as_data(scene, followed, near_px, similarity)
    if not data["num_gt_dets"]:
        return TrackingScores(None, None, None, None, None, None, switches=0, fragments=0)
    quiet = {"THRESHOLD": _ALIKE, "PRINT_CONFIG": False}
    hota = metrics.HOTA().eval_sequence(data)
    clear = metrics.CLEAR(quiet).eval_sequence(data)
    identity = metrics.Identity(quiet).eval_sequence(data)
    return TrackingScores(
        hota=float(np.mean(hota["HOTA"])),
        det_a=float(np.mean(hota["DetA"])),
        ass_a=float(np.mean(hota["AssA"])),
        loc_a=float(np.mean(hota["LocA"])) if hota["HOTA_TP"].any() else None,
        mota=float(clear["MOTA"]),
        id_f1=float(identity["IDF1"]),
        switches=int(clear["IDSW"]),
        fragments=_fragments(scene, followed),
    )


def _fragments(scene: Scene, followed: I64) -> int:
    found = np.zeros(len(scene.truth), bool)
    found[followed[followed >= 0]] = True
    seen, of = found[scene.visible], scene.truth.id[scene.visible]
    runs = [seen[of == one] for one in np.unique(of)]
    begun = [np.count_nonzero(run[1:] & ~run[:-1]) + bool(run[0]) for run in runs]
    return sum(max(0, count - 1) for count in begun)


def _metrics() -> Any:
    try:
        # Its import prints what its readers of files miss; none of them is used here.
        with redirect_stdout(io.StringIO()):
            from trackeval import metrics
    except ModuleNotFoundError as error:
        raise BackendMissingError(
            f'evaluate tracking needs {error.name}: pip install "veintrack[eval]"'
        ) from error
    return metrics


def _as_data(scene: Scene, followed: I64, near_px: float, similarity: Similarity) -> dict[str, Any]:
    """Lay a scene out as trackeval's metrics want one sequence: lists with an entry a frame."""
    visible = scene.visible
    counted = (followed < 0) | visible[followed] if len(visible) else followed < 0
    objects, object_index = np.unique(scene.truth.id[visible], return_inverse=True)
    tracks, track_index = np.unique(scene.tracks.id[counted], return_inverse=True)
    of_object = np.zeros(len(visible), np.int64)
    of_object[visible] = object_index
    of_track = np.zeros(len(counted), np.int64)
    of_track[counted] = track_index
    parts = [
        (np.arange(at.start, at.stop)[visible[at]], np.arange(seen.start, seen.stop)[counted[seen]])
        for at, seen in zip(scene.truth_at, scene.tracks_at, strict=True)
    ]
    return {
        "num_timesteps": len(scene.frame),
        "num_gt_ids": len(objects),
        "num_tracker_ids": len(tracks),
        "num_gt_dets": int(visible.sum()),
        "num_tracker_dets": int(counted.sum()),
        "gt_ids": [of_object[truth] for truth, _ in parts],
        "tracker_ids": [of_track[seen] for _, seen in parts],
        "similarity_scores": _similarities(scene, parts, near_px, similarity),
    }


def _similarities(
    scene: Scene, parts: Sequence[tuple[I64, I64]], near_px: float, similarity: Similarity
) -> list[F64]:
    truth, tracks = scene.truth, scene.tracks
    if similarity == "box" and truth.box_px is not None and tracks.box_px is not None:
        return [_overlap(truth.box_px[a], tracks.box_px[b]) for a, b in parts]
    return [_nearness(truth.xy_px[a], tracks.xy_px[b], near_px) for a, b in parts]


def _nearness(first: F64, second: F64, near_px: float) -> F64:
    """1 at the same place, 0.5 at `near_px`, 0 at twice that and beyond."""
    away = np.hypot(*(first[:, None] - second[None]).transpose(2, 0, 1))
    near: F64 = np.maximum(0.0, 1 - away / (2 * near_px))
    return near


def _overlap(first: F64, second: F64) -> F64:
    """Intersection over union of each of the first boxes with each of the second."""
    a, b = first[:, None], second[None]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    both = np.prod(np.maximum(high - low, 0.0), axis=-1)
    either = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - both
    share: F64 = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return share
