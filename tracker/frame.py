"""The values that travel from the probe to the screen.

Image coordinates are ``(x, y)`` in pixels of the frame as the source delivered it: x grows to
the right, y with depth, and the centre of the top left pixel is ``(0, 0)``. Spacing is
``(row_mm, col_mm)``, millimetres per pixel, None where it is not known. Every time is an integer
of nanoseconds.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "F32",
    "F64",
    "STREAMING",
    "U8",
    "Detection",
    "Frame",
    "FrameResult",
    "Measurement",
    "Patch",
    "PictureState",
    "ProbeMotion",
    "Region",
    "Shape",
    "Signal",
    "SourceState",
    "Spacing",
    "Stamp",
    "Timings",
    "Track",
    "TrackStatus",
]

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Spacing = tuple[float, float]
Region = tuple[int, int, int, int]  # x, y, width, height


class Stamp(str, Enum):
    """What a frame's `capture_ns` is the time of."""

    FILE = "file"  # the file's own time, counted from its first frame
    EXPOSURE_START = "start of exposure"  # the driver's, monotonic clock
    FRAME_END = "end of frame"  # the driver's, monotonic clock
    SENDER = "sender"  # the sender's time, put on the monotonic clock
    ARRIVAL = "arrival"  # when this process had the pixels

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One B-mode picture.

    Attributes
    ----------
    pixels : ndarray of shape (H, W), uint8
        Grey levels, C-contiguous. Shared by everyone downstream, never written to after capture.
    index : int
        Position in the source, from 0. Frames that were dropped leave a gap.
    capture_ns : int
        When the picture was taken: the kernel's stamp of a live source (monotonic clock), the
        file's own stamp counted from its first frame otherwise.
    arrival_ns : int
        ``time.monotonic_ns`` when this process had the pixels. Latency is counted from here where
        `capture_ns` is not on that clock.
    driver_sequence : int or None
        The driver's own counter; a gap means that the driver dropped frames.
    spacing_mm : tuple of float or None
        ``(row_mm, col_mm)``, millimetres per pixel.
    stamp : Stamp
        What `capture_ns` is the time of.
    sender_ns : int or None
        The time that the sender wrote on the frame, on the sender's clock; kept as it came.
    """

    pixels: U8
    index: int
    capture_ns: int
    arrival_ns: int = 0
    driver_sequence: int | None = None
    spacing_mm: Spacing | None = None
    stamp: Stamp = Stamp.FILE
    sender_ns: int | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.uint8 or self.pixels.size == 0:
            raise ValueError(
                "pixels must be a non-empty (H, W) array of uint8, "
                f"got {self.pixels.shape} {self.pixels.dtype}"
            )
        if self.index < 0:
            raise ValueError(f"index must not be negative, got {self.index}")
        if self.spacing_mm is not None and not all(
            math.isfinite(mm) and mm > 0 for mm in self.spacing_mm
        ):
            raise ValueError(f"spacing_mm must be positive and finite, got {self.spacing_mm}")


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """The part of a probability map that one detection was made from.

    Attributes
    ----------
    probability : ndarray of shape (H, W), float64
        Vessel probability; 0 where a pixel belongs to something else.
    threshold : float
        Probability from which a pixel belongs to a vessel.
    origin_px : tuple of float
        ``(x, y)`` in the frame of the centre of the patch's first pixel.
    step_px : tuple of float
        ``(x, y)``: frame px from one pixel of the patch to the next.
    """

    probability: F64
    threshold: float
    origin_px: tuple[float, float]
    step_px: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One vessel found in one frame.

    Attributes
    ----------
    centroid_px : ndarray of shape (2,), float64
        ``(x, y)`` of the probability-weighted centroid.
    covariance_px2 : ndarray of shape (2, 2), float64
        Uncertainty of that centroid: the Kalman filter's measurement noise.
    area_px2 : float
        Area in frame pixels, edge pixels counted in part.
    axes_px : tuple of float
        ``(major, minor)``: full axes of the ellipse with the same second moments.
    angle_rad : float
        Direction of the major axis, from +x towards +y, in ``(-pi/2, pi/2]``.
    score : float
        Mean probability inside the outline, 0 to 1.
    box_px : tuple of float
        ``(left, top, width, height)`` of the pixels' outer edges.
    contour_px : ndarray of shape (K, 2), float32, or None
        Outline, closed implicitly. None where nobody asked for it.
    patch : Patch or None
        The pixels that it was made from. None where somebody else made it.
    parts_of : tuple of Detection
        Where vessels touch, or one falls into pieces, a track sees a part of a blob, or several
        blobs as one: those, as they were found. Empty where it is as it was found.
    edge : float
        Probability on the outline by which it is measured: half of that well inside.
    """

    centroid_px: F64
    covariance_px2: F64
    area_px2: float
    axes_px: tuple[float, float]
    angle_rad: float
    score: float
    box_px: tuple[float, float, float, float]
    contour_px: F32 | None = None
    patch: Patch | None = None
    parts_of: tuple["Detection", ...] = ()
    edge: float = 0.5

    def __post_init__(self) -> None:
        if self.centroid_px.shape != (2,) or not all(map(math.isfinite, self.centroid_px)):
            raise ValueError(f"centroid_px must be two finite numbers, got {self.centroid_px}")
        if self.covariance_px2.shape != (2, 2):
            raise ValueError(f"covariance_px2 must be (2, 2), got {self.covariance_px2.shape}")


class TrackStatus(str, Enum):
    """The life of a track.

    The end may not be final: one that was confirmed, then lost, and is found again in its place
    within the tracker's `remembered_s` (3 s by default) is confirmed again under its number.
    """

    TENTATIVE = "tentative"  # seen, not yet often enough to be believed
    CONFIRMED = "confirmed"  # believed, and seen in this frame
    COASTING = "coasting"  # believed, not seen in this frame: predicted
    LOST = "lost"  # given up: reported once, in the frame in which it ends

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class ProbeMotion:
    """How the whole picture moved since the frame before: ``xy + linear @ xy + shift_px``.

    Attributes
    ----------
    linear : ndarray of shape (2, 2), float64
        Turning and stretching, less the unit matrix: 0 where the picture only shifts.
    shift_px : ndarray of shape (2,), float64
        ``(x, y)`` by which the frame's first pixel moved.
    noise_px2 : float
        Variance of the displacement in each direction: how far it is to be trusted.
    """

    linear: F64
    shift_px: F64
    noise_px2: float

    def displacement(self, xy_px: F64) -> F64:
        """By how much what was at `xy_px`, shape (..., 2), in the frame before has moved, px."""
        moved: F64 = xy_px @ self.linear.T + self.shift_px
        return moved


@dataclass(frozen=True, slots=True)
class Shape:
    """Size and form of a track, smoothed over the frames in which it was seen.

    Attributes
    ----------
    area_px2, major_px, minor_px, angle_rad : float
        As in :class:`Detection`.
    area_sd : float
        Standard deviation of the area, as a part of it.
    """

    area_px2: float
    major_px: float
    minor_px: float
    angle_rad: float
    area_sd: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """Size and place of a vessel in one frame, in pixels and, where spacing is known, in mm.

    Attributes
    ----------
    area_px2, major_px, minor_px, angle_deg : float
        Shape of the outline; the angle is that of the major axis, from +x towards +y.
    depth_mm, area_mm2, major_mm, minor_mm : float or None
        The same and the centroid's depth below the top of the scan area; None without spacing.
    near_wall_px, near_wall_mm : float or None
        Depth of the vessel's upper wall below the top of the scan area, along its centre line.
    collapse, pulse_hz : float or None
        Change of the minor axis and pulsation over a window of time; None until enough was seen.
    pulse_strength : float or None
        Change of the diameter with the pulse, from smallest to largest, as a part of it.
    vein_likeness, vein_likeness_sd : float or None
        1 like a vein, 0 like an artery, and how uncertain that is.
    """

    area_px2: float
    major_px: float
    minor_px: float
    angle_deg: float
    depth_mm: float | None = None
    area_mm2: float | None = None
    major_mm: float | None = None
    minor_mm: float | None = None
    collapse: float | None = None
    pulse_hz: float | None = None
    near_wall_px: float | None = None
    near_wall_mm: float | None = None
    pulse_strength: float | None = None
    vein_likeness: float | None = None
    vein_likeness_sd: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One vessel followed over time, as it stands after one frame.

    Attributes
    ----------
    id : int
        Its identity, from 1. No other vessel gets it; the same one may, after it was lost
        (:class:`TrackStatus`).
    status : TrackStatus
        Tentative, confirmed, coasting or lost.
    centroid_px, velocity_px_s : ndarray of shape (2,), float64
        ``(x, y)`` position and velocity after this frame.
    covariance_px2 : ndarray of shape (2, 2), float64
        Uncertainty of `centroid_px`.
    box_px : tuple of float
        ``(left, top, width, height)`` of what was seen; while coasting, of its `shape`, as far as
        that lies in the scan area.
    score : float
        Score of the last detection.
    detection : Detection or None
        What was seen of it in this frame; None while it is predicted.
    measurement : Measurement or None
        Its size in this frame; None while it is predicted.
    shape : Shape or None
        Its size and form, smoothed over the frames in which it was seen; also while it is
        predicted.
    collapsed : bool
        It coasts because it was pressed flat, and is expected to open again.
    time_ns : int
        When all this holds, on the clock of `capture_ns`.
    state_cov : ndarray of shape (4, 4), float64, or None
        Covariance of ``(x, y, vx, vy)`` in the filter, px and px/s. `covariance_px2` is larger
        than its first block by what no number of frames averages away.
    accel_psd_px2_s3 : float
        How quickly the velocity may change: power spectral density of the acceleration.
    fades_s : float or None
        The velocity of what is hidden (pressed flat, covered, under a lifted probe) is expected to
        fall to 1/e within this time; None where it is expected to stay as it is.
    """

    id: int
    status: TrackStatus
    centroid_px: F64
    velocity_px_s: F64
    covariance_px2: F64
    box_px: tuple[float, float, float, float]
    score: float
    detection: Detection | None = None
    measurement: Measurement | None = None
    shape: Shape | None = None
    collapsed: bool = False
    time_ns: int = 0
    state_cov: F64 | None = None
    accel_psd_px2_s3: float = 0.0
    fades_s: float | None = None

    def at(self, time_ns: int) -> "Track":
        """Predict the track to a later time.

        Parameters
        ----------
        time_ns : int
            On the clock of `capture_ns`, not before :attr:`time_ns`.

        Returns
        -------
        Track
            Moved on as :meth:`VeinTracker.coast` does, with its covariance grown; a confirmed one
            coasts, as nothing was seen of it then. However late, it does not end.

        Raises
        ------
        ValueError
            If `time_ns` is earlier than :attr:`time_ns`.
        """
        if time_ns < self.time_ns:
            raise ValueError(f"time_ns must be at least {self.time_ns}, got {time_ns}")
        if time_ns == self.time_ns:
            return self
        from veintrack.tracker import kalman  # which needs this module

        dt_s, psd = (time_ns - self.time_ns) * 1e-9, self.accel_psd_px2_s3
        step = (
            kalman.step(dt_s, psd)
            if self.fades_s is None
            else kalman.damped_step(dt_s, psd, self.fades_s)
        )
        cov = np.zeros((4, 4)) if self.state_cov is None else self.state_cov
        now = kalman.Gaussian(np.concatenate([self.centroid_px, self.velocity_px_s]), cov)
        (later,) = kalman.predict([now], step)
        dx, dy = (later.position_px - self.centroid_px).tolist()
        left, top, width, height = self.box_px
        seen = self.status is TrackStatus.CONFIRMED
        return replace(
            self,
            status=TrackStatus.COASTING if seen else self.status,
            centroid_px=later.mean[:2],
            velocity_px_s=later.mean[2:],
            covariance_px2=self.covariance_px2 + (later.cov - cov)[:2, :2],
            box_px=(left + dx, top + dy, width, height),
            detection=None,
            measurement=None,
            time_ns=time_ns,
            state_cov=later.cov,
        )


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one frame went, in nanoseconds.

    Attributes
    ----------
    read_ns : int
        What the source took to deliver the frame; for a live one, mostly waiting for it.
    wait_ns : int
        From there until its turn came.
    prepare_ns, detect_ns, track_ns : int
        Time spent on laying the frame on the network's grid, on finding vessels and on tracking.
    infer_ns : int
        From the start of the network's work to the time its answer was taken; several frames may
        be in work at once.
    done_ns : int
        ``time.monotonic_ns`` when the tracks were ready.
    age_ns : int
        From the capture stamp (live sources, real-time pace) or from the start of the frame's
        processing (files as fast as possible) to `done_ns`.
    """

    read_ns: int
    wait_ns: int
    prepare_ns: int
    infer_ns: int
    detect_ns: int
    track_ns: int
    done_ns: int
    age_ns: int

    def ages_ms(self) -> dict[str, float]:
        """Age of the frame at each station, ms: from where `age_ns` counts, to the station.

        A frame of a file has no age before its turn: the first stations are then below 0.
        """
        detected = self.age_ns - self.track_ns
        segmented = detected - self.detect_ns
        begun = segmented - self.infer_ns - self.prepare_ns
        stations = {
            "arrived": begun - self.wait_ns,
            "begun": begun,
            "segmented": segmented,
            "detected": detected,
            "tracked": self.age_ns,
        }
        return {name: age_ns * 1e-6 for name, age_ns in stations.items()}


class Signal(str, Enum):
    """Whether a source delivers."""

    STREAMING = "streaming"
    STALLED = "stalled"  # the device is there and no frame comes
    LOST = "lost"  # the device or the connection is gone

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class SourceState:
    """Whether a source delivers, since when, and why not.

    Attributes
    ----------
    signal : Signal
        Streaming, stalled or lost.
    since_ns : int
        ``time.monotonic_ns`` from which it holds; 0 for a source that never failed.
    reason : str
        What went wrong, in one line.
    """

    signal: Signal = Signal.STREAMING
    since_ns: int = 0
    reason: str = ""


#: The state of a source that delivers, or that cannot tell.
STREAMING = SourceState()


class PictureState(str, Enum):
    """What a picture is good for, judged by its grey levels alone."""

    GOOD = "good"
    FROZEN = "frozen"  # the same picture again and again: the scanner is in freeze
    NO_SIGNAL = "no signal"  # uniform, or colour bars: what cards show without an input
    NO_CONTACT = "no contact"  # dark, or reverberation only: the probe is lifted

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """What one frame produced; or, between frames of a source that was lost, where tracks are.

    Attributes
    ----------
    frame : Frame
        The frame itself, not a copy.
    detections : tuple of Detection
        Vessels found in it.
    tracks : tuple of Track
        Every live track, tentative ones too, and those lost in this frame; sorted by id.
    timings : Timings
        Where the time went.
    scan_area_px : tuple of int or None
        ``(x, y, width, height)`` of the part of the frame that was looked at; None for all of it.
    scan_area_settled : bool
        False while the scan area is a first guess, or its place on the screen has changed: what
        lies outside the ultrasound may then be inside it.
    source : SourceState
        Other than streaming, there is no new frame: `frame` is the last one that came, nothing is
        detected, and the tracks are predicted to `time_ns`.
    picture : PictureState
        What the picture is good for.
    changes : tuple of str
        What changed in the picture with this frame, in words: gain, depth, layout.
    between_ns : int or None
        Where there is no new frame, when the tracks hold, on the clock of `capture_ns`.
    motion : ProbeMotion or None
        How the picture moved since the last one that was segmented; None where that is not known.
    segmented : bool
        False where the network was not asked: the frame was too old, or none came.
    """

    frame: Frame
    detections: tuple[Detection, ...]
    tracks: tuple[Track, ...]
    timings: Timings
    scan_area_px: Region | None = None
    scan_area_settled: bool = True
    source: SourceState = STREAMING
    picture: PictureState = PictureState.GOOD
    changes: tuple[str, ...] = ()
    between_ns: int | None = None
    motion: ProbeMotion | None = None
    segmented: bool = True

    @property
    def fresh(self) -> bool:
        """Whether `frame` is new, not the last one before the source was lost."""
        return self.between_ns is None

    @property
    def time_ns(self) -> int:
        """When the tracks hold, on the clock of `capture_ns`."""
        return self.frame.capture_ns if self.between_ns is None else self.between_ns
