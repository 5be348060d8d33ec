"""What the tracker's filter makes of the detections of known objects."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from veintrack.errors import SourceUnreadableError
from veintrack.tracker import kalman
from veintrack.tracker.frame import F64
from veintrack.tracker.kalman import Gaussian
from veintrack.tracker.scoring.errors import nees_of
from veintrack.tracker.scoring.matching import Scene, lay_together, match
from veintrack.tracker.scoring.reading import lines_of_json, results_of, stacked
from veintrack.tracker.scoring.rows import I64, Rows
from veintrack.tracker.shape import ragged
from veintrack.tracker.tracksettings import TrackSettings

__all__ = ["Replayed", "Seen", "read_settings", "replay", "see"]

_LEAST_STEP_S = 2e-3  # as in the tracker: a motion over less says nothing of a velocity
_SETTLED_S = 0.5  # the filter's start says nothing of how it goes on
_GROSS = 4.2  # times the median distance: 5 standard deviations, if distances are Rayleigh's


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Detections of known objects, in the order of time.

    Attributes
    ----------
    scene : Scene
        Truth, and as its tracks all detections, each of a number of its own.
    row : ndarray of shape (N,), int64
        Which detections.
    object : ndarray of shape (N,), int64
        Of which object each is.
    true_px : ndarray of shape (N, 2), float64
        Where that was.
    angle_rad : ndarray of shape (N,), float64
        Direction of the detection's major axis.
    left_out : int
        Detections that are of several objects at once, or far off.
    motion : tuple
        How the picture moved before each frame, at its centre: ``(x, y)`` and the variance of
        each, px and px²; None where that is not known.
    """

    scene: Scene
    row: I64
    object: I64
    true_px: F64
    angle_rad: F64
    left_out: int
    motion: tuple[tuple[F64, float] | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """What the filter states after each detection, once it has settled.

    Attributes
    ----------
    offset_px : ndarray of shape (N, 2)
        From the truth to the filter's place.
    cov_px2 : ndarray of shape (N, 2, 2)
        The filter's covariance.
    nis, innovation_log_det : ndarray of shape (N,)
        Normalised innovations squared, and the logarithm of their covariance's determinant.
    axes_px2, ragged_px2 : ndarray of shape (N, 2, 2)
        Squared lengths of the axes, in their directions; and times the square of what the outline
        lacks of its ellipse.
    """

    offset_px: F64
    cov_px2: F64
    nis: F64
    innovation_log_det: F64
    axes_px2: F64
    ragged_px2: F64

    def stated(self, scale: float, bias_px: float, axes: float, ragged: float) -> F64:
        """Add what is wrong in every frame alike to the filter's covariances, scaled."""
        stated: F64 = (
            scale * self.cov_px2
            + bias_px**2 * np.eye(2)
            + axes**2 * self.axes_px2
            + ragged**2 * self.ragged_px2
        )
        return stated


def read_settings(path: Path) -> TrackSettings:
    """Take the tracker's settings from the ``run.json`` in or beside `path`, else the defaults."""
    record = (path if path.is_dir() else path.parent) / "run.json"
    known = {f.name for f in fields(TrackSettings)}
    try:
        used = json.loads(record.read_text(encoding="utf-8"))["configuration"]["track"]
        return TrackSettings(**{k: v for k, v in used.items() if k in known})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return TrackSettings()


def see(path: Path, truth: Rows, near_px: float) -> Seen:
    """Read all detections of a run, and find which object each is of.

    Parameters
    ----------
    path : Path
        ``tracks.jsonl``, or a run's folder with one.
    near_px : float
        Largest distance of a detection from its object.

    Raises
    ------
    SourceUnreadableError
        If there are none.
    """
    found, angle_rad, motion = _read_detections(results_of(path))
    scene = lay_together(found, truth)
    followed = match(scene, near_px)
    row = np.flatnonzero(followed >= 0)
    row = row[scene.visible[followed[row]]]
    true_px = scene.truth.xy_px[followed[row]]
    away = np.hypot(*(scene.tracks.xy_px[row] - true_px).T)
    good = away <= _GROSS * (np.median(away) if len(row) else 0.0)
    good &= np.array([_holds_one(scene, one) for one in row.tolist()], bool)
    kept = row[good]
    return Seen(
        scene,
        kept,
        scene.truth.id[followed[kept]],
        true_px[good],
        angle_rad[scene.tracks.id[kept]],
        int((~good).sum()),
        tuple(motion.get(frame) for frame in scene.frame.tolist()),
    )


def _read_detections(path: Path) -> tuple[Rows, F64, dict[int, tuple[F64, float]]]:
    """Read what was detected, numbered in the order of the file; the angles; the motion."""
    if path.suffix.lower() != ".jsonl":
        raise SourceUnreadableError(f"{path} holds no detections: --fit needs tracks.jsonl")
    frames: list[tuple[int, float]] = []
    rows: list[tuple[int, float, dict[str, Any]]] = []
    motion: dict[int, tuple[F64, float]] = {}
    for number, line in lines_of_json(path):
        try:
            if line.get("fresh", True):
                frames.append((int(line["frame"]), float(line["time_s"])))
                rows += [(*frames[-1], found) for found in line["detections"]]
                if moved := line.get("probe_motion"):
                    motion[frames[-1][0]] = _read_motion(moved)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SourceUnreadableError(
                f"{path}: line {number} must have frame, time_s and detections"
            ) from error
    try:
        found = [one for *_, one in rows]
        axes = stacked([one["axes_px"] for one in found], 2, "axes_px")
        cov = stacked([one["covariance_px2"] for one in found], 4, "covariance_px2")
        area_px2 = np.array([one["area_px2"] for one in found], float)
        detections = Rows(
            frame=np.array([frame for frame, *_ in rows], np.int64),
            id=np.arange(len(rows)),
            time_s=np.array([time_s for _, time_s, _ in rows], float),
            xy_px=np.array([one["centroid_px"] for one in found], float).reshape(-1, 2),
            box_px=stacked([one["box_px"] for one in found], 4, "box_px"),
            cov_px2=None if cov is None else cov.reshape(-1, 2, 2),
            area_px2=area_px2,
            major_px=None if axes is None else axes[:, 0],
            minor_px=None if axes is None else axes[:, 1],
            all_frames=np.array([frame for frame, _ in frames], np.int64),
            all_time_s=np.array([time_s for _, time_s in frames], float),
        )
        angle_rad = np.array([one["angle_rad"] for one in found], float)
        if found and not _are_usable(axes, cov, np.stack([angle_rad, area_px2])):
            raise ValueError
        return detections, angle_rad, motion
    except (KeyError, TypeError, ValueError) as error:
        raise SourceUnreadableError(
            f"{path}: each detection must have centroid_px, covariance_px2 (positive definite), "
            "area_px2, axes_px, angle_rad and box_px"
        ) from error


def _read_motion(moved: dict[str, Any]) -> tuple[F64, float]:
    shift_px, noise_px2 = np.array(moved["shift_px"], float).reshape(2), float(moved["noise_px2"])
    if not (np.isfinite([*shift_px, noise_px2]).all() and noise_px2 >= 0):
        raise ValueError
    return shift_px, noise_px2


def _are_usable(axes_px: F64 | None, cov_px2: F64 | None, others: F64) -> bool:
    """Whether all is known, and every covariance has an inverse."""
    if axes_px is None or cov_px2 is None:
        return False
    known = bool(np.isfinite(np.column_stack([axes_px, cov_px2, others.T])).all())
    a, b, _, c = cov_px2.T
    return known and bool(((a > 0) & (a * c > b * b)).all())


def _holds_one(scene: Scene, row: int) -> bool:
    """Whether no second object lies in a detection's box."""
    box = scene.tracks.box_px
    if box is None:
        return True
    at = scene.truth_at[int(np.searchsorted(scene.frame, scene.tracks.frame[row]))]
    low, size = box[row, :2], box[row, 2:]
    inside = ((scene.truth.xy_px[at] >= low) & (scene.truth.xy_px[at] <= low + size)).all(axis=1)
    return int(inside.sum()) <= 1


def replay(
    seen: Seen,
    accel_psd_px2_s3: float,
    noise_scale: float,
    *,
    birth_speed_px_s: float,
    own_part: float,
    own_s: float,
) -> Replayed:
    """Run the tracker's filter over the detections of each object.

    Parameters
    ----------
    accel_psd_px2_s3, noise_scale, birth_speed_px_s, own_part, own_s : float
        As in :class:`~veintrack.tracker.tracksettings.TrackSettings`, in px of this picture.
    """
    scene, tracks = seen.scene, seen.scene.tracks
    noise_px2 = noise_scale * _covariances(tracks)
    frames = tracks.frame[seen.row]
    starts = np.searchsorted(frames, scene.frame).tolist()
    ends = np.searchsorted(frames, scene.frame, "right").tolist()
    states: dict[int, Gaussian] = {}
    since_s: dict[int, float] = {}
    kept: list[tuple[int, Gaussian, Gaussian]] = []
    glide = _Glide(accel_psd_px2_s3, own_part, own_s)
    before_s = float(scene.time_s[0])
    for now_s, motion, start, end in zip(
        scene.time_s.tolist(), seen.motion, starts, ends, strict=True
    ):
        moved = glide.predict(list(states.values()), max(0.0, now_s - before_s), motion)
        states = dict(zip(states, moved, strict=True))
        before_s = now_s
        here = {int(seen.object[k]): k for k in range(start, end)}
        again = [one for one in here if one in states]
        rows = seen.row[[here[one] for one in again]] if again else seen.row[:0]
        priors = [states[one] for one in again]
        posts = kalman.update(priors, tracks.xy_px[rows], noise_px2[rows])
        for one, prior, post in zip(again, priors, posts, strict=True):
            states[one] = post
            if now_s - since_s[one] >= _SETTLED_S:
                kept.append((here[one], prior, post))
        for one in [one for one in here if one not in states]:
            row = seen.row[here[one]]
            states[one] = kalman.birth(tracks.xy_px[row], noise_px2[row], birth_speed_px_s)
            since_s[one] = now_s
    return _replayed(seen, kept, noise_px2)


class _Glide:
    """Predicts as the tracker does: free, or within a picture whose motion is known."""

    def __init__(self, accel_psd_px2_s3: float, own_part: float, own_s: float) -> None:
        self._psd, self._own_s = accel_psd_px2_s3, own_s
        self._own_psd = accel_psd_px2_s3 * own_part
        self._before_px_s: F64 | None = None

    def predict(
        self, states: list[Gaussian], dt_s: float, motion: tuple[F64, float] | None
    ) -> list[Gaussian]:
        before_px_s, self._before_px_s = self._before_px_s, None
        if motion is None or dt_s < _LEAST_STEP_S:
            return kalman.predict(states, kalman.step(dt_s, self._psd))
        shift_px, noise_px2 = motion
        self._before_px_s = now_px_s = shift_px / dt_s
        if not states:
            return []
        before = np.tile(now_px_s if before_px_s is None else before_px_s, (len(states), 1))
        now = np.tile(now_px_s, (len(states), 1))
        move = kalman.damped_step(dt_s, self._own_psd, self._own_s)
        return kalman.predict(states, *kalman.carried(move, dt_s, before, now, noise_px2))


def _covariances(detections: Rows) -> F64:
    if detections.cov_px2 is None:  # there are no detections
        return np.zeros((len(detections), 2, 2))
    return detections.cov_px2


def _replayed(seen: Seen, kept: list[tuple[int, Gaussian, Gaussian]], noise_px2: F64) -> Replayed:
    at = np.array([k for k, *_ in kept], np.int64)
    row = seen.row[at]
    tracks = seen.scene.tracks
    prior_px = np.array([prior.position_px for _, prior, _ in kept]).reshape(-1, 2)
    prior_px2 = np.array([prior.position_cov_px2 for _, prior, _ in kept]).reshape(-1, 2, 2)
    expected_px2 = prior_px2 + noise_px2[row]
    post_px = np.array([post.position_px for *_, post in kept]).reshape(-1, 2)
    post_px2 = np.array([post.position_cov_px2 for *_, post in kept]).reshape(-1, 2, 2)
    angle = seen.angle_rad[at]
    major = np.stack([np.cos(angle), np.sin(angle)], axis=1) * _column(tracks.major_px, row)
    minor = np.stack([-np.sin(angle), np.cos(angle)], axis=1) * _column(tracks.minor_px, row)
    axes_px2 = major[:, :, None] * major[:, None] + minor[:, :, None] * minor[:, None]
    sizes = (tracks.area_px2, tracks.major_px, tracks.minor_px)
    lacking = list(map(ragged, *(_column(size, row).ravel().tolist() for size in sizes)))
    return Replayed(
        offset_px=post_px - seen.true_px[at],
        cov_px2=post_px2,
        nis=nees_of(tracks.xy_px[row] - prior_px, expected_px2),
        innovation_log_det=np.log(np.linalg.det(expected_px2)),
        axes_px2=axes_px2,
        ragged_px2=np.array(lacking).reshape(-1, 1, 1) ** 2 * axes_px2,
    )


def _column(values: F64 | None, rows: I64) -> F64:
    return np.zeros((len(rows), 1)) if values is None else values[rows][:, None]
