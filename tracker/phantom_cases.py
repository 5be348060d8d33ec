"""Examinations for the phantom: a demonstration, and endless random ones to learn from.

The ranges of the random ones were set so that their statistics agree with those of stills of a
linear probe at neck, arm and leg (the usgra-seg images, CC BY 4.0): grey levels over depth, grain,
number, size, place and contrast of the lumens, and how much of a picture is darker than they are.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from veintrack.tracker.phantom_settings import (
    BoneSettings,
    MotionSettings,
    PhantomSettings,
    SheathSettings,
    TissueSettings,
    VesselSettings,
)

__all__ = ["demo_settings", "random_settings"]

_MARGIN_FROM_PX = 80  # smaller frames have no pixels to spare


def demo_settings(seed: int = 0, height_px: int = 480, width_px: int = 640) -> PhantomSettings:
    """Two veins and an artery under a gentle hand; all stay in view and open for ten seconds."""
    vessels = (
        VesselSettings(
            "vein", -12.5, 12.5, 8.6, 5.4, 0.12, (0.10, -0.08), 0.3, 0.10, 0.0, 0.25, 0.23
        ),
        VesselSettings(
            "artery", 1.0, 17.5, 6.2, 6.0, 0.0, (0.02, 0.02), 1.2, 0.10, 0.0, 0.15, 0.31,
            wall_db=-10.0, wall_mm=0.45, blood_db=-48.0,
        ),
        VesselSettings(
            "vein", 14.5, 13.5, 7.2, 4.6, -0.25, (-0.08, 0.12), 1.2, 0.06, 1.0, 0.25, 0.19
        ),
    )  # fmt: skip
    return PhantomSettings(
        seed=seed,
        height_px=height_px,
        width_px=width_px,
        depth_mm=36.0 * max(1.0, (4 / 3) * height_px / width_px),
        vessels=vessels,
        motion=MotionSettings(
            slide_amplitude_mm=1.5, slide_hz=0.15, press_amplitude=0.3, press_hz=0.2
        ),
        tissue=TissueSettings(
            smoothing_px=1.2,
            attenuation_db_mm=0.25,
            ripple_mm=0.12,
            sheets=6,
            compartments=0.4,
            compartment_mm=12.0,
            flecks=0.5,
            muscles=1,
        ),
        gamma=1.3,
        bone=BoneSettings(x_mm=2.0, depth_mm=29.0, half_width_mm=14.0, drop_mm=3.0),
    )


def random_settings(
    rng: np.random.Generator, height_px: int = 480, width_px: int = 640
) -> PhantomSettings:
    """Choose an examination at random: body region, scanner settings, 0 to 4 vessels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of every choice.
    height_px, width_px : int
        Frame size.
    """
    margins = _random_margins(rng, height_px, width_px)
    rows, cols = height_px - margins[1] - margins[3], width_px - margins[0] - margins[2]
    # The width is the probe's; how deep one sees follows from the picture's shape.
    width_mm = float(rng.uniform(26, 50)) * min(1.0, 1.4 * cols / rows)
    depth_mm = width_mm * rows / cols
    tissue = _random_tissue(rng, depth_mm, width_mm / cols, cols)
    vessels = _random_vessels(rng, depth_mm, width_mm, tissue)
    deepest_mm = max((v.depth_mm for v in vessels), default=0.3 * depth_mm)
    dynamic_range_db = float(rng.uniform(50, 75))
    # Tissue above a vessel is not black.
    seen_db = min(tissue.fat_db, tissue.muscle_db)
    seen_db -= tissue.attenuation_db_mm * deepest_mm
    gain_db = max(float(rng.normal(-5, 4)), float(rng.uniform(3, 9)) - dynamic_range_db - seen_db)
    grey_db = -0.72 * dynamic_range_db - gain_db  # noise above this would not look like haze
    return PhantomSettings(
        seed=int(rng.integers(2**31)),
        height_px=height_px,
        width_px=width_px,
        depth_mm=depth_mm,
        vessels=vessels,
        motion=MotionSettings(press_amplitude=float(max(0.0, rng.uniform(-0.4, 0.6)))),
        tissue=_add_noise(rng, tissue, seen_db, grey_db, (deepest_mm, depth_mm)),
        bone=_random_bone(rng, depth_mm, width_mm, vessels),
        sheaths=_random_sheaths(rng, depth_mm, width_mm, vessels),
        gain_db=gain_db,
        dynamic_range_db=dynamic_range_db,
        gamma=float(rng.uniform(1.1, 2.0)),
        margins_px=margins,
    )


def _add_noise(
    rng: np.random.Generator,
    tissue: TissueSettings,
    seen_db: float,
    grey_db: float,
    depths_mm: tuple[float, float],
) -> TissueSettings:
    """Choose the noise: a vessel's surroundings drown in it barely, if at all."""
    slope_db_mm = float(rng.uniform(-0.1, 0.3))
    at_vessel_db, at_bottom_db = (max(0, slope_db_mm) * depth_mm for depth_mm in depths_mm)
    limit_db = min(seen_db + 2 - at_vessel_db, grey_db - at_bottom_db)
    if rng.random() < 0.3:  # haze down there, smooth because it is averaged
        noise_db, grain = limit_db - rng.uniform(0, 6), rng.uniform(0.08, 0.4)
    else:
        noise_db, grain = min(limit_db, rng.uniform(-60, -40)), rng.uniform(0.15, 0.8)
    return replace(
        tissue, noise_db=float(noise_db), noise_db_mm=slope_db_mm, noise_grain=float(grain)
    )


def _random_margins(
    rng: np.random.Generator, height_px: int, width_px: int
) -> tuple[int, int, int, int]:
    """Black borders: mostly below, seldom at the sides."""
    if rng.random() < 0.3 or min(height_px, width_px) < _MARGIN_FROM_PX:
        return (0, 0, 0, 0)
    part = rng.uniform(0, (0.12, 0.15, 0.12, 0.35), 4) * (rng.random(4) < (0.2, 0.6, 0.4, 0.7))
    size = np.array([width_px, height_px, width_px, height_px])
    left, top, right, bottom = (part * size).astype(int).tolist()
    return left, top, right, bottom


def _random_tissue(
    rng: np.random.Generator, depth_mm: float, mm_per_px: float, width_px: int
) -> TissueSettings:
    fat_mm = float(rng.uniform(0.08, 0.35)) * depth_mm
    base_db = float(rng.uniform(-36, -28))
    # Scanners draw about this finely; a smaller picture is a larger one, scaled down.
    pixel_mm = mm_per_px * width_px / 540
    return TissueSettings(
        skin_mm=float(rng.uniform(0.6, 3)),
        fat_mm=max(fat_mm, 3.5),
        muscle_mm=max(fat_mm, 3.5) + float(rng.uniform(0.15, 0.6)) * depth_mm,
        skin_db=float(rng.uniform(-3, 7)),
        fat_db=base_db + float(rng.uniform(0, 5)),
        muscle_db=base_db - float(rng.uniform(-1, 8)),
        deep_db=base_db
        - float(rng.uniform(10, 24) if rng.random() < 0.25 else rng.uniform(-3, 10)),
        fascia_db=float(rng.uniform(-18, -3)),
        streak_db=float(rng.uniform(4, 20)),
        pennation=float(rng.normal(0, 0.15)),
        waviness_mm=float(rng.uniform(0, 1.6)),
        ripple_mm=float(rng.uniform(0, 0.3)),
        tilt=float(rng.normal(0, 0.08)),
        sheets=int(rng.integers(2, 9)),
        compartments=max(0.0, float(rng.uniform(-0.2, 0.9))),
        compartment_mm=float(rng.uniform(8, 26)),
        flecks=max(0.0, float(rng.uniform(-0.3, 1.2))),
        nerves=int(rng.integers(0, 3)),
        bellies=int(rng.integers(0, 3)),
        muscles=int(rng.integers(0, 5)),
        shadows=max(0, int(rng.integers(-2, 3))),
        planes=int(rng.integers(0, 3)),
        attenuation_db_mm=float(rng.uniform(0.1, 0.9)) * 30 / depth_mm,
        axial_mm=float(rng.uniform(0.7, 1.6)) * pixel_mm,
        lateral_mm=float(rng.uniform(1.6, 4.0)) * pixel_mm,
        focus_mm=float(rng.uniform(0.2, 0.7)) * depth_mm,
        focus_length_mm=float(rng.uniform(0.5, 1.2)) * depth_mm,
        smoothing_px=float(rng.uniform(0.1, 1.0)) * width_px / 540,
        looks=int(rng.integers(1, 5 if width_px < 300 else 3)),
        uneven_db=max(0.0, float(rng.uniform(-1, 5))),
    )


def _random_bone(
    rng: np.random.Generator, depth_mm: float, width_mm: float, vessels: Sequence[VesselSettings]
) -> BoneSettings | None:
    """Perhaps a bone, deeper than every vessel."""
    if rng.random() > 0.4:
        return None
    lowest_mm = max((v.depth_mm + 0.7 * v.major_mm for v in vessels), default=0.0)
    return BoneSettings(
        x_mm=float(rng.uniform(-0.6, 0.6)) * width_mm,
        depth_mm=max(float(rng.uniform(0.45, 0.95)) * depth_mm, lowest_mm),
        half_width_mm=float(rng.uniform(0.1, 0.6)) * width_mm,
        drop_mm=float(rng.uniform(0, 0.3)) * depth_mm,
        thick_mm=float(rng.uniform(0.2, 0.7)),
        echo_db=float(rng.uniform(-24, -6)),
    )


def _random_sheaths(
    rng: np.random.Generator, depth_mm: float, width_mm: float, vessels: Sequence[VesselSettings]
) -> tuple[SheathSettings, ...]:
    """Around most vessels, and sometimes where there is none."""
    centres = [(v.x_mm, v.depth_mm, v.major_mm) for v in vessels if rng.random() < 0.7]
    if rng.random() < 0.3:
        x_mm, down_mm = rng.uniform(-0.5, 0.5) * width_mm, rng.uniform(0.2, 0.8) * depth_mm
        centres.append((float(x_mm), float(down_mm), float(rng.uniform(3, 8))))
    return tuple(
        SheathSettings(
            x_mm=x_mm + float(rng.normal(0, 0.3)) * size_mm,
            depth_mm=down_mm + float(rng.normal(-0.2, 0.3)) * size_mm,
            half_width_mm=size_mm * float(rng.uniform(0.7, 1.8)),
            half_height_mm=size_mm * float(rng.uniform(0.5, 1.1)),
            echo_db=float(rng.uniform(0, 8)),
            nerves=int(rng.choice(3, p=(0.35, 0.45, 0.2))),
        )
        for x_mm, down_mm, size_mm in centres
    )


def _random_vessels(
    rng: np.random.Generator, depth_mm: float, width_mm: float, tissue: TissueSettings
) -> tuple[VesselSettings, ...]:
    """Vessels that keep clear of one another, often side by side; fewer where there is no room."""
    wished = int(rng.choice(5, p=(0.12, 0.50, 0.27, 0.08, 0.03)))
    vessels: list[VesselSettings] = []
    for _ in range(8 * wished):
        if len(vessels) == wished:
            break
        new = _random_vessel(rng, depth_mm, width_mm, tissue)
        if vessels and rng.random() < 0.6:
            new = _beside(rng, new, vessels[0])
        if all(
            math.hypot(new.x_mm - v.x_mm, new.depth_mm - v.depth_mm)
            > 0.52 * (new.major_mm + v.major_mm)
            for v in vessels
        ):
            vessels.append(new)
    if vessels and rng.random() < 0.15:
        vessels.append(_branch(rng, vessels[0]))
    return tuple(vessels)


def _branch(rng: np.random.Generator, trunk: VesselSettings) -> VesselSettings:
    """Join a branch to a vessel: their lumens run into one another."""
    size = float(rng.uniform(0.5, 0.95))
    apart_mm = float(rng.uniform(0.4, 0.6)) * trunk.major_mm
    turn = trunk.angle_rad + (math.pi if rng.random() < 0.5 else 0) + float(rng.normal(0, 0.4))
    return replace(
        trunk,
        x_mm=trunk.x_mm + apart_mm * math.cos(turn),
        depth_mm=max(trunk.depth_mm + apart_mm * math.sin(turn), trunk.minor_mm / 2 + 1.5),
        major_mm=size * trunk.major_mm,
        minor_mm=size * trunk.minor_mm * float(rng.uniform(0.7, 1)),
        angle_rad=float(rng.normal(0, 0.6)),
        wall_db=trunk.wall_db - 15,
    )


def _beside(
    rng: np.random.Generator, vessel: VesselSettings, other: VesselSettings
) -> VesselSettings:
    """Put a vessel where it nearly touches another."""
    gap_mm = float(rng.uniform(0.53, 0.75)) * (vessel.major_mm + other.major_mm)
    turn = float(rng.uniform(-1, 1)) + (math.pi if rng.random() < 0.5 else 0.0)
    down_mm = other.depth_mm + gap_mm * math.sin(turn)
    return replace(
        vessel,
        x_mm=other.x_mm + gap_mm * math.cos(turn),
        depth_mm=max(down_mm, vessel.minor_mm / 2 + 1.5),
    )


def _random_vessel(
    rng: np.random.Generator, depth_mm: float, width_mm: float, tissue: TissueSettings
) -> VesselSettings:
    artery = bool(rng.random() < 0.4)
    largest_mm = min(0.5 * depth_mm, 18.0)
    major_mm = min(float(np.clip(rng.lognormal(math.log(8.5), 0.44), 2.0, 18.0)), largest_mm)
    ratio = float(rng.uniform(0.85, 1.0) if artery else rng.uniform(0.35, 0.95))
    minor_mm = major_mm * ratio
    # Dark depths are not what a lumen is compared with.
    deep_db = max(tissue.deep_db, tissue.muscle_db - 4)
    surroundings_db = (tissue.fat_db + tissue.muscle_db + deep_db) / 3
    haze = float(rng.uniform(0, 8))
    return VesselSettings(
        kind="artery" if artery else "vein",
        x_mm=float(np.clip(rng.normal(0, 0.24), -0.52, 0.52)) * width_mm,
        depth_mm=float(minor_mm / 2 + rng.uniform(0.08, 0.65) * depth_mm),
        major_mm=major_mm,
        minor_mm=minor_mm,
        angle_rad=float(rng.normal(0, 0.3)),
        bend=(_clip(rng.normal(0, 0.14), 0.4), _clip(rng.normal(0, 0.16), 0.4)),
        pulse_hz=float(rng.uniform(0.8, 2.5)),
        pulse_fraction=float(rng.uniform(0.04, 0.15) if artery else rng.uniform(0, 0.1)),
        pulse_phase_rad=float(rng.uniform(0, 2 * math.pi)),
        # Darker than what lies around it, haze and all; by how much varies.
        blood_db=surroundings_db - float(rng.uniform(4, 18)) - 5 * math.log10(1 + haze),
        wall_db=float(rng.uniform(-42, -10)),
        wall_mm=float(rng.uniform(0.2, 0.7)),
        edge_mm=float(rng.uniform(0.05, 0.4)),
        sheath_db=float(max(0.0, rng.uniform(-4, 4))),
        enhancement_db=float(max(0.0, rng.uniform(-2, 9))),
        far_wall_db=float(rng.uniform(-6, 10)),
        haze=haze,
        haze_from=float(rng.uniform(0, 1)),
        blood_grain=float(rng.uniform(0.1, 0.7)),
    )


def _clip(value: float, limit: float) -> float:
    return min(limit, max(-limit, float(value)))
