"""What the trackers of `tracking.py` are given, frame by frame, and what they answer.

All contestants see the same detections at the same times; each takes of them what its users would
give it. A contestant is made once and started afresh for every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from veintrack.tracker.frame import (
    F64,
    Detection,
    PictureState,
    ProbeMotion,
    Region,
    Spacing,
    TrackStatus,
)
from veintrack.tracker.phantom import VesselTruth
from veintrack.tracker.tracks import VeinTracker

__all__ = ["Contestant", "Moment", "Report", "Veintrack"]


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One frame of a scenario, ready for any tracker.

    Attributes
    ----------
    index : int
        Number of the frame in the run, from 0; frames that were dropped leave no gap.
    capture_ns : int
        When it was taken, as a source would say it.
    detections : tuple of Detection
        What was found in it, largest first; empty where the picture shows no ultrasound.
    picture : PictureState
        What the picture is good for.
    motion : ProbeMotion or None
        How the picture moved since the moment before; None where that is not known.
    truth : tuple of VesselTruth
        Where the vessels are; for the scores only.
    """

    index: int
    capture_ns: int
    detections: tuple[Detection, ...]
    picture: PictureState
    motion: ProbeMotion | None
    truth: tuple[VesselTruth, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What a tracker shows its user of one track, in frame px.

    Attributes
    ----------
    id : int
        Identity of the track within the run.
    xy_px : tuple of float
        ``(x, y)`` of its centroid.
    box_px : tuple of float
        ``(left, top, width, height)``.
    cov_px2 : ndarray of shape (2, 2), float64, or None
        Uncertainty of `xy_px`, where the tracker states one.
    confirmed : bool
        Seen in this frame; False where it is predicted.
    """

    id: int
    xy_px: tuple[float, float]
    box_px: tuple[float, float, float, float]
    cov_px2: F64 | None = None
    confirmed: bool = True


class Contestant(Protocol):
    """A tracker that takes part."""

    @property
    def name(self) -> str:
        """As it stands in the table."""
        ...

    def start(self, rate_hz: float, area_px: Region, spacing_mm: Spacing) -> None:
        """Begin a run with a fresh tracker.

        Parameters
        ----------
        rate_hz : float
            Nominal frames per second, for those that count frames.
        area_px : tuple of int
            ``(x, y, width, height)`` of the scan area.
        spacing_mm : tuple of float
            ``(row_mm, col_mm)``.
        """
        ...

    def update(self, moment: Moment) -> Sequence[Report]:
        """Take in one frame; say which tracks are believed now. Only this call is timed."""
        ...


class Veintrack:
    """Our own: every track that is confirmed or coasting."""

    name = "veintrack"

    def __init__(self) -> None:
        self.start(25.0, (0, 0, 1, 1), (1.0, 1.0))

    def start(self, rate_hz: float, area_px: Region, spacing_mm: Spacing) -> None:
        """Begin a run; the rate is not needed, as every frame has its time."""
        del rate_hz
        self._tracker = VeinTracker()
        self._area_px, self._spacing_mm = area_px, spacing_mm

    def update(self, moment: Moment) -> list[Report]:
        """Take in one frame."""
        tracks = self._tracker.update(
            moment.detections,
            moment.capture_ns,
            spacing_mm=self._spacing_mm,
            area_px=self._area_px,
            picture=moment.picture,
            motion=moment.motion,
        )
        return [
            Report(
                track.id,
                (float(track.centroid_px[0]), float(track.centroid_px[1])),
                track.box_px,
                track.covariance_px2,
                track.status is TrackStatus.CONFIRMED,
            )
            for track in tracks
            if track.status in (TrackStatus.CONFIRMED, TrackStatus.COASTING)
        ]
