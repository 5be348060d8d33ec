"""Other people's trackers on the same detections: norfair, roboflow's `trackers`, Stone Soup.

    pip install "veintrack[eval]" trackers stonesoup
    pip install --no-deps norfair

norfair 2.3 asks for NumPy below 2, `trackers` for NumPy above it; norfair works with either, as
`tests/benchmarks/test_tracking_peers.py` shows.

Each is given what its users would give it: boxes and scores to those that take boxes, centroids to
norfair, centroids with their covariance to Stone Soup. What its settings count in frames is made
of seconds by the run's rate; where it takes time stamps, it gets them. What it reports is what its
own call answers: norfair and Stone Soup report predicted tracks too, SORT, ByteTrack and OC-SORT
only what they matched, in the box that was detected. The place is their estimate, or the box's
centre.

The settings are chosen on the scenarios themselves (`tracking_peers_tuning.py`). What it takes to
make their input of ours is timed with them, as their users have to do it too.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
from tracking_contest import Contestant, Moment, Report

from veintrack.tracker.frame import Detection, Region, Spacing

__all__ = ["TUNED", "Norfair", "Roboflow", "StoneSoup", "make", "missing", "peers", "versions"]

_STONE_SOUP = {
    "dataassociator.neighbour": ("GNNWith2DAssignment",),
    "deleter.time": ("UpdateTimeDeleter",),
    "hypothesiser.distance": ("DistanceHypothesiser",),
    "initiator.simple": ("MultiMeasurementInitiator",),
    "measures": ("Mahalanobis",),
    "models.measurement.linear": ("LinearGaussian",),
    "models.transition.linear": ("CombinedLinearGaussianTransitionModel", "ConstantVelocity"),
    "predictor.kalman": ("KalmanPredictor",),
    "tracker.simple": ("MultiTargetTracker",),
    "types.detection": ("Detection",),
    "types.state": ("GaussianState",),
    "updater.kalman": ("KalmanUpdater",),
}


class Norfair:
    """norfair: points, matched by distance to a constant-velocity prediction, time in frames.

    Parameters
    ----------
    reach_mm : float
        Farthest that a centroid may be from where its track expects it.
    confirm_s : float
        How long a track must be seen before it is reported.
    lost_s : float
        How long one is predicted that is not seen.
    noise_px2 : float
        Variance of a measured coordinate; norfair's own default is 4.
    """

    name = "norfair"

    def __init__(
        self,
        reach_mm: float,
        confirm_s: float,
        lost_s: float,
        noise_px2: float,
    ) -> None:
        self._library = import_module("norfair")
        self._reach_mm, self._noise_px2 = reach_mm, noise_px2
        self._confirm_s, self._lost_s = confirm_s, lost_s

    def start(self, rate_hz: float, area_px: Region, spacing_mm: Spacing) -> None:
        """Begin a run."""
        del area_px
        lost = _frames(self._lost_s, rate_hz)
        self._tracker = self._library.Tracker(
            distance_function="euclidean",
            distance_threshold=self._reach_mm / float(np.mean(spacing_mm)),
            hit_counter_max=lost,
            initialization_delay=min(_frames(self._confirm_s, rate_hz), lost - 1),
            filter_factory=self._library.OptimizedKalmanFilterFactory(R=self._noise_px2),
        )

    def update(self, moment: Moment) -> list[Report]:
        """Take in one frame."""
        points = [
            self._library.Detection(points=d.centroid_px[None], data=d) for d in moment.detections
        ]
        return [_moved(one) for one in self._tracker.update(points)]


def _moved(followed: Any) -> Report:
    """Report a track of norfair's: the box is that of the last detection, moved along."""
    x, y = followed.estimate[0].tolist()
    seen: Detection = followed.last_detection.data
    left, top, width, height = seen.box_px
    dx, dy = x - float(seen.centroid_px[0]), y - float(seen.centroid_px[1])
    return Report(followed.id, (x, y), (left + dx, top + dy, width, height))


class Roboflow:
    """One of roboflow's `trackers`: boxes, matched by their overlap.

    Parameters
    ----------
    name : str
        As in the table.
    tracker : str
        Its class.
    confirm_s, lost_s : float
        As in `Norfair`.
    settings : float
        What else the class takes.
    """

    def __init__(
        self, name: str, tracker: str, confirm_s: float, lost_s: float, **settings: float
    ) -> None:
        self.name = name
        self._make = getattr(import_module("trackers"), tracker)
        self._boxes = import_module("supervision").Detections
        self._confirm_s, self._lost_s, self._settings = confirm_s, lost_s, settings

    def start(self, rate_hz: float, area_px: Region, spacing_mm: Spacing) -> None:
        """Begin a run."""
        del area_px, spacing_mm
        self._tracker = self._make(
            lost_track_buffer=_frames(self._lost_s, 30.0),  # theirs is in frames at 30 Hz
            frame_rate=rate_hz,
            minimum_consecutive_frames=_frames(self._confirm_s, rate_hz),
            **self._settings,
        )

    def update(self, moment: Moment) -> list[Report]:
        """Take in one frame."""
        seen = moment.detections
        boxes = np.array([d.box_px for d in seen]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        answer = self._tracker.update(
            self._boxes(xyxy=boxes, confidence=np.array([d.score for d in seen])),
            timestamp=moment.capture_ns * 1e-9,
        )
        return [
            Report(
                number,
                ((left + right) / 2, (top + bottom) / 2),
                (left, top, right - left, bottom - top),
            )
            for (left, top, right, bottom), number in zip(
                answer.xyxy.tolist(), answer.tracker_id.tolist(), strict=True
            )
            if number >= 0
        ]


class StoneSoup:
    """Stone Soup: constant velocity, global nearest neighbour, each measurement's own covariance.

    Parameters
    ----------
    accel_psd_px2_s3 : float
        White-noise acceleration at `_REFERENCE_MM` a pixel, scaled by the spacing.
    gate : float
        Farthest Mahalanobis distance of a pair.
    noise_px2 : float
        Added to the variance of each measured coordinate, as outlines err by more than they say.
    confirm_s, lost_s : float
        As in `Norfair`.
    """

    name = "Stone Soup"
    _REFERENCE_MM = 0.08
    _SPEED_MM_S = 5.0  # standard deviation of a new track's velocity
    _TENTATIVE_S = 0.3

    def __init__(
        self,
        accel_psd_px2_s3: float,
        gate: float,
        noise_px2: float,
        confirm_s: float,
        lost_s: float,
    ) -> None:
        self._accel_psd_px2_s3, self._gate = accel_psd_px2_s3, gate
        self._noise_px2 = noise_px2 * np.eye(2)
        self._confirm_s, self._lost_s = confirm_s, lost_s
        self._part = SimpleNamespace(
            **{
                name: getattr(import_module(f"stonesoup.{module}"), name)
                for module, names in _STONE_SOUP.items()
                for name in names
            }
        )

    def start(self, rate_hz: float, area_px: Region, spacing_mm: Spacing) -> None:
        """Begin a run."""
        del area_px
        part, mm = self._part, float(np.mean(spacing_mm))
        psd = self._accel_psd_px2_s3 * (self._REFERENCE_MM / mm) ** 2
        predictor = part.KalmanPredictor(
            part.CombinedLinearGaussianTransitionModel([part.ConstantVelocity(psd)] * 2)
        )
        updater = part.KalmanUpdater(None)  # each detection brings its model
        associator = part.GNNWith2DAssignment(
            part.DistanceHypothesiser(
                predictor, updater, part.Mahalanobis(), missed_distance=self._gate
            )
        )
        speed_px_s = self._SPEED_MM_S / mm
        initiator = part.MultiMeasurementInitiator(
            prior_state=part.GaussianState([0, 0, 0, 0], np.diag([0, speed_px_s**2] * 2)),
            deleter=part.UpdateTimeDeleter(timedelta(seconds=self._TENTATIVE_S)),
            data_associator=associator,
            updater=updater,
            min_points=_frames(self._confirm_s, rate_hz),
        )
        self._tracker = part.MultiTargetTracker(
            initiator=initiator,
            deleter=part.UpdateTimeDeleter(timedelta(seconds=self._lost_s)),
            detector=None,
            data_associator=associator,
            updater=updater,
        )
        self._numbers: dict[str, int] = {}

    def update(self, moment: Moment) -> list[Report]:
        """Take in one frame."""
        now = datetime(2000, 1, 1) + timedelta(microseconds=moment.capture_ns / 1000)
        part = self._part
        seen = {
            part.Detection(
                d.centroid_px,
                timestamp=now,
                measurement_model=part.LinearGaussian(
                    4, (0, 2), d.covariance_px2 + self._noise_px2
                ),
                metadata={"box": d.box_px},
            )
            for d in moment.detections
        }
        _, tracks = self._tracker.update_tracker(now, seen)
        # Their sets have no order: new ones are numbered from left to right.
        placed = sorted(tracks, key=lambda t: (float(t.state_vector[0]), float(t.state_vector[2])))
        return [self._report(track) for track in placed]

    def _report(self, track: Any) -> Report:
        x, y = float(track.state_vector[0]), float(track.state_vector[2])
        _, _, width, height = track.metadata["box"]
        number = self._numbers.setdefault(track.id, len(self._numbers))
        covariance = np.asarray(track.covar, np.float64)[::2, ::2]
        box_px = (x - width / 2, y - height / 2, width, height)
        return Report(number, (x, y), box_px, covariance)


def _frames(seconds: float, rate_hz: float) -> int:
    return max(1, round(seconds * rate_hz))


#: The settings of each. `tracking_peers_tuning.py` found them, but for Stone Soup's, picked by hand
#: from its grid: with a tenth of the acceleration it does as well, and swaps more.
TUNED: Mapping[str, Mapping[str, float]] = {
    "norfair": {"reach_mm": 8.0, "confirm_s": 0.2, "lost_s": 1.0, "noise_px2": 1.0},
    "SORT": {
        "minimum_iou_threshold": 0.1,
        "track_activation_threshold": 0.75,
        "confirm_s": 0.08,
        "lost_s": 2.0,
    },
    "ByteTrack": {
        "minimum_iou_threshold": 0.1,
        "track_activation_threshold": 0.8,
        "high_conf_det_threshold": 0.5,
        "confirm_s": 0.08,
        "lost_s": 2.0,
    },
    "OC-SORT": {
        "minimum_iou_threshold": 0.05,
        "high_conf_det_threshold": 0.4,
        "direction_consistency_weight": 0.0,
        "confirm_s": 0.08,
        "lost_s": 2.0,
    },
    "Stone Soup": {
        "accel_psd_px2_s3": 3e4,
        "gate": 4.0,
        "noise_px2": 50.0,
        "confirm_s": 0.3,
        "lost_s": 1.0,
    },
}
_KINDS: Mapping[str, tuple[str, Callable[..., Contestant]]] = {
    "norfair": ("norfair", Norfair),
    "SORT": ("trackers", partial(Roboflow, "SORT", "SORTTracker")),
    "ByteTrack": ("trackers", partial(Roboflow, "ByteTrack", "ByteTrackTracker")),
    "OC-SORT": ("trackers", partial(Roboflow, "OC-SORT", "OCSORTTracker")),
    "Stone Soup": ("stonesoup", StoneSoup),
}


def make(name: str, **changes: float) -> Contestant:
    """Make a contestant with its tuned settings, some of them changed."""
    return _KINDS[name][1](**{**TUNED[name], **changes})


def peers() -> list[Contestant]:
    """Make every contestant whose library is installed."""
    absent = missing()
    return [make(name) for name, (library, _) in _KINDS.items() if library not in absent]


def missing() -> list[str]:
    """Name the libraries that are not installed."""
    libraries = dict.fromkeys(library for library, _ in _KINDS.values())
    return [library for library in libraries if find_spec(library) is None]


def versions() -> dict[str, str]:
    """Name the version of each library that is installed."""
    absent = missing()
    return {library: version(library) for library, _ in _KINDS.values() if library not in absent}
