"""What the phantom shows and how it moves, as plain values.

Lateral positions are millimetres to the right of the scan area's centre line, depths are
millimetres below its top, both for a probe at rest.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from veintrack.tracker.phantom_motion import MotionSettings, PassingShadow, along

__all__ = [
    "BoneSettings",
    "MotionSettings",
    "PassingShadow",
    "PhantomSettings",
    "SheathSettings",
    "TissueSettings",
    "VesselSettings",
]


@dataclass(frozen=True, slots=True)
class VesselSettings:
    """One vessel, cut across.

    Attributes
    ----------
    kind : {"vein", "artery"}
        A vein flattens under the probe, an artery hardly does.
    x_mm, depth_mm : float
        Centroid of the lumen at rest.
    major_mm, minor_mm : float
        Full axes of the lumen at rest.
    angle_rad : float
        Direction of the major axis, from +x towards +y.
    bend : tuple of float
        How far the ellipse is bent along its two axes, in semi-axes; (0, 0) is a plain ellipse.
    pulse_hz, pulse_fraction, pulse_phase_rad : float
        Heart rate, relative change of the diameter from smallest to largest, and start.
    sway_mm, sway_hz : float
        Slow motion of the centre of its own, amplitude and rate.
    closing_press : float
        Press (0 to 1) at which a vein is flat.
    blood_db : float
        Echo of the lumen, on the scale of :class:`TissueSettings`.
    wall_db : float
        Echo of the wall where the beam meets it squarely.
    wall_mm : float
        Thickness of the wall.
    edge_mm : float
        Softness of the lumen's border: about half the way from tissue to blood. The picture shows
        the border where the lumen ends, whatever its softness, wall and contrast.
    sheath_db : float
        How much brighter the tissue close around the vessel is.
    enhancement_db : float
        How much brighter the tissue behind the vessel is.
    far_wall_db : float
        How much brighter the far wall is than the near one.
    haze, haze_from : float
        Late echoes of the near wall, as a part of the lumen's echo, and where they end: 0 in the
        middle of the lumen, 1 at the far wall.
    blood_grain : float
        Contrast of the blood's speckle: 1 as it is in a single frame, less where the scanner
        averages frames.
    path_s_mm : tuple of (time, right, down)
        Where it is off its place at these times, s and mm; smoothly from one to the next. It
        moves through the tissue and leaves it where it is, as a vessel does that runs obliquely
        through the picture while the probe moves along it.
    """

    kind: Literal["vein", "artery"]
    x_mm: float
    depth_mm: float
    major_mm: float
    minor_mm: float
    angle_rad: float = 0.0
    bend: tuple[float, float] = (0.0, 0.0)
    pulse_hz: float = 1.2
    pulse_fraction: float = 0.0
    pulse_phase_rad: float = 0.0
    sway_mm: float = 0.0
    sway_hz: float = 0.25
    closing_press: float = 0.75
    blood_db: float = -45.0
    wall_db: float = -12.0
    wall_mm: float = 0.35
    edge_mm: float = 0.06
    sheath_db: float = 1.0
    enhancement_db: float = 5.0
    far_wall_db: float = 0.0
    haze: float = 3.0
    haze_from: float = 0.0
    blood_grain: float = 1.0
    path_s_mm: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("vein", "artery"):
            raise ValueError(f"kind must be 'vein' or 'artery', got {self.kind!r}")
        if not self.major_mm >= self.minor_mm > 0:
            raise ValueError(
                f"axes must satisfy major_mm >= minor_mm > 0, got {self.major_mm}, {self.minor_mm}"
            )
        if max(abs(b) for b in self.bend) > 0.4:
            raise ValueError(f"bend must lie between -0.4 and 0.4, got {self.bend}")
        if self.closing_press <= 0:
            raise ValueError(f"closing_press must be positive, got {self.closing_press}")
        if not 0 <= self.haze_from <= 1:
            raise ValueError(f"haze_from must lie between 0 and 1, got {self.haze_from}")
        if any(not a[0] < b[0] for a, b in pairwise(self.path_s_mm)):
            raise ValueError(f"path_s_mm must be in order of time, got {self.path_s_mm}")

    def off_mm(self, time_s: float) -> tuple[float, float]:
        """By how much it is off its place at rest, to the right and down."""
        return along(self.path_s_mm, time_s)


@dataclass(frozen=True, slots=True)
class BoneSettings:
    """A bone: a bright surface, and nothing but shadow behind it.

    Attributes
    ----------
    x_mm, depth_mm : float
        Where its surface comes closest to the probe.
    half_width_mm : float
        Half its lateral extent.
    drop_mm : float
        How much deeper the surface lies at its ends.
    thick_mm, echo_db : float
        How thick and how bright the surface shows.
    """

    x_mm: float = 0.0
    depth_mm: float = 30.0
    half_width_mm: float = 10.0
    drop_mm: float = 4.0
    thick_mm: float = 0.25
    echo_db: float = -6.0


@dataclass(frozen=True, slots=True)
class SheathSettings:
    """The bright connective tissue that vessels and nerves run in.

    Attributes
    ----------
    x_mm, depth_mm : float
        Its middle.
    half_width_mm, half_height_mm : float
        Half its size.
    echo_db : float
        How much brighter than the tissue around it it is.
    nerves : int
        Nerves in it.
    """

    x_mm: float
    depth_mm: float
    half_width_mm: float
    half_height_mm: float
    echo_db: float = 4.0
    nerves: int = 0

    def __post_init__(self) -> None:
        size_mm = self.half_width_mm, self.half_height_mm
        if not min(size_mm) > 0:
            raise ValueError(f"a sheath's half sizes must be positive, got {size_mm}")


@dataclass(frozen=True, slots=True)
class TissueSettings:
    """Tissue and beam. Echoes are mean powers in dB; 0 dB at 0 dB gain is nearly white.

    Attributes
    ----------
    skin_mm, fat_mm, muscle_mm : float
        Depths at which skin, fat and muscle end.
    skin_db : float
        How much brighter than fat skin is.
    fat_db, muscle_db, deep_db : float
        Mean echo of each layer below it.
    fascia_db, streak_db : float
        Brightness of the sheets between layers, and how far septa and fibres within them stand
        out (0 for none).
    pennation : float
        Slope of the muscle fibres against the layers.
    waviness_mm, ripple_mm, tilt : float
        How much the layers undulate, widely and finely, and their common slope.
    sheets : int
        Sheets besides those between the layers.
    compartments, compartment_mm : float
        Bellies that the muscle is divided into: how many from its darkest to its brightest part
        (0 for none), and how wide they are.
    flecks : float
        Short bright lines: 0 for none, 1 for many.
    nerves, bellies, muscles, shadows, planes : int
        Things that are no vessels: honeycombs, soft dark ovals, sharp dark ovals with septa in
        them, dark columns, oblique sheets.
    attenuation_db_mm : float
        Loss of echo with depth that time gain compensation leaves over, two-way.
    noise_db, noise_db_mm : float
        Electronic noise at the top, and its rise with depth under time gain compensation.
    noise_grain : float
        Its contrast: 1 as in a single frame, less where the scanner averages.
    axial_mm, lateral_mm : float
        Standard deviation of the point spread's amplitude, in depth and, at the focus, across.
    focus_mm, focus_length_mm : float
        Depth of the focus, and the distance from it at which the beam is 1.4 times as wide.
    smoothing_px : float
        Speckle reduction: standard deviation of the blur of the compressed picture.
    looks : int
        Independent pictures that are averaged (compounding); speckle fades with their number.
    uneven_db : float
        How much the echo varies from place to place: contact, shadows, gain.
    """

    skin_mm: float = 1.3
    fat_mm: float = 7.0
    muscle_mm: float = 22.0
    skin_db: float = 7.0
    fat_db: float = -30.0
    muscle_db: float = -34.0
    deep_db: float = -36.0
    fascia_db: float = -10.0
    streak_db: float = 12.0
    pennation: float = 0.08
    waviness_mm: float = 1.2
    ripple_mm: float = 0.0
    tilt: float = 0.0
    sheets: int = 4
    compartments: float = 0.0
    compartment_mm: float = 14.0
    flecks: float = 0.0
    nerves: int = 1
    bellies: int = 1
    muscles: int = 0
    shadows: int = 0
    planes: int = 1
    attenuation_db_mm: float = 0.15
    noise_db: float = -62.0
    noise_db_mm: float = 0.25
    noise_grain: float = 1.0
    axial_mm: float = 0.08
    lateral_mm: float = 0.16
    focus_mm: float = 15.0
    focus_length_mm: float = 14.0
    smoothing_px: float = 0.7
    looks: int = 1
    uneven_db: float = 0.0

    def __post_init__(self) -> None:
        if self.looks < 1:
            raise ValueError(f"looks must be at least 1, got {self.looks}")
        if not 0 <= self.noise_grain <= 1:
            raise ValueError(f"noise_grain must lie between 0 and 1, got {self.noise_grain}")


@dataclass(frozen=True, slots=True)
class PhantomSettings:
    """A whole examination.

    Attributes
    ----------
    seed : int
        Chooses speckle, layers' course and noise.
    height_px, width_px : int
        Frame, margins included.
    rate_hz : float
        Frames per second.
    depth_mm : float
        Depth of the scan area. Pixels are square, so its width follows.
    vessels : tuple of VesselSettings
        At most 255; they should not overlap.
    motion : MotionSettings
        What the probe does.
    tissue : TissueSettings
        What lies around the vessels.
    bone : BoneSettings or None
        A bone.
    sheaths : tuple of SheathSettings
        Connective tissue around vessels and nerves.
    shadow : PassingShadow or None
        What hides vessels for a while.
    gain_windows_s : tuple of (start, end, dB)
        Times in which the gain is higher by so much.
    gain_db, dynamic_range_db : float
        Overall gain, and the range of echoes between black and white.
    gamma : float
        Exponent of the grey map after log compression.
    margins_px : tuple of int
        Black ``(left, top, right, bottom)`` around the scan area.
    """

    seed: int = 0
    height_px: int = 480
    width_px: int = 640
    rate_hz: float = 30.0
    depth_mm: float = 40.0
    vessels: tuple[VesselSettings, ...] = ()
    motion: MotionSettings = field(default_factory=MotionSettings)
    tissue: TissueSettings = field(default_factory=TissueSettings)
    bone: BoneSettings | None = None
    sheaths: tuple[SheathSettings, ...] = ()
    gain_db: float = 0.0
    dynamic_range_db: float = 60.0
    gamma: float = 1.0
    margins_px: tuple[int, int, int, int] = (0, 0, 0, 0)
    shadow: PassingShadow | None = None
    gain_windows_s: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        left, top, right, bottom = self.margins_px
        if min(self.margins_px) < 0:
            raise ValueError(f"margins_px must not be negative, got {self.margins_px}")
        if self.height_px - top - bottom < 32 or self.width_px - left - right < 32:
            raise ValueError(
                f"the scan area must be at least 32x32 px, got a {self.width_px}x{self.height_px} "
                f"frame with margins {self.margins_px}"
            )
        for name in ("rate_hz", "depth_mm", "dynamic_range_db", "gamma"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if len(self.vessels) > 255:
            raise ValueError(f"expected at most 255 vessels, got {len(self.vessels)}")

    @property
    def scan_shape_px(self) -> tuple[int, int]:
        """``(H, W)`` of the scan area."""
        left, top, right, bottom = self.margins_px
        return self.height_px - top - bottom, self.width_px - left - right

    @property
    def mm_per_px(self) -> float:
        """Spacing, the same along both axes."""
        return self.depth_mm / self.scan_shape_px[0]

    def gain_db_at(self, time_s: float) -> float:
        """Overall gain at one moment."""
        more = sum(db for start, end, db in self.gain_windows_s if start <= time_s < end)
        return self.gain_db + more
