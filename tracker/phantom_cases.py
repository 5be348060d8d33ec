"""Examinations for the phantom: a demonstration, and endless random ones to learn from.

The ranges of the random ones were set so that grey levels, contrast of the lumen and grain agree
with stills of a linear probe at neck, arm and leg (the usgra-seg images, CC BY 4.0).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from veintrack.tracker.phantom_settings import (
    BoneSettings,
    MotionSettings,
    PhantomSettings,
    TissueSettings,
    VesselSettings,
)

__all__ = ["demo_settings", "random_settings"]


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
        tissue=TissueSettings(smoothing_px=1.2, attenuation_db_mm=0.25),
        gamma=1.3,
        bone=BoneSettings(x_mm=2.0, depth_mm=29.0, half_width_mm=14.0, drop_mm=3.0),
    )


def random_settings(
    rng: np.random.Generator, height_px: int = 480, width_px: int = 640
) -> PhantomSettings:
    """Choose an examination at random: body region, scanner settings, 0 to 5 vessels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of every choice.
    height_px, width_px : int
        Frame size.
    """
    margins = _random_margins(rng, height_px, width_px)
    depth_mm = float(rng.uniform(22, 55))
    rows, cols = height_px - margins[1] - margins[3], width_px - margins[0] - margins[2]
    width_mm = depth_mm * cols / rows
    tissue = _random_tissue(rng, depth_mm)
    vessels = _random_vessels(rng, depth_mm, width_mm, tissue)
    deepest_mm = max((v.depth_mm for v in vessels), default=0.3 * depth_mm)
    dynamic_range_db = float(rng.uniform(50, 75))
    # A vessel that nobody could see must not be taught: tissue around it is neither black nor
    # drowned in noise.
    seen_db = min(tissue.fat_db, tissue.muscle_db, tissue.deep_db)
    seen_db -= tissue.attenuation_db_mm * deepest_mm
    noise_db = min(tissue.noise_db, seen_db - 7 - max(0, tissue.noise_db_mm) * deepest_mm)
    return PhantomSettings(
        seed=int(rng.integers(2**31)),
        height_px=height_px,
        width_px=width_px,
        depth_mm=depth_mm,
        vessels=vessels,
        motion=MotionSettings(press_amplitude=float(max(0.0, rng.uniform(-0.4, 0.6)))),
        tissue=replace(tissue, noise_db=noise_db),
        bone=_random_bone(rng, depth_mm, width_mm, vessels),
        gain_db=max(float(rng.normal(-4, 4)), 11 - dynamic_range_db - seen_db),
        dynamic_range_db=dynamic_range_db,
        gamma=float(rng.uniform(1.1, 2.0)),
        margins_px=margins,
    )


def _random_margins(
    rng: np.random.Generator, height_px: int, width_px: int
) -> tuple[int, int, int, int]:
    if rng.random() < 0.5:
        return (0, 0, 0, 0)
    part = rng.uniform(0, 0.2, 4) * (rng.random(4) < 0.6)
    size = np.array([width_px, height_px, width_px, height_px])
    left, top, right, bottom = (part * size).astype(int).tolist()
    return left, top, right, bottom


def _random_tissue(rng: np.random.Generator, depth_mm: float) -> TissueSettings:
    fat_mm = float(rng.uniform(0.08, 0.35)) * depth_mm
    base_db = float(rng.uniform(-36, -28))
    # Points spread over pixels, not millimetres: a scanner's frequency follows the depth chosen.
    pixel_mm = depth_mm / 480
    return TissueSettings(
        fat_mm=fat_mm,
        muscle_mm=fat_mm + float(rng.uniform(0.15, 0.6)) * depth_mm,
        fat_db=base_db + float(rng.uniform(0, 5)),
        muscle_db=base_db - float(rng.uniform(-1, 10)),
        deep_db=base_db - float(rng.uniform(-3, 12)),
        fascia_db=float(rng.uniform(-20, -6)),
        streak_db=float(rng.uniform(6, 22)),
        pennation=float(rng.normal(0, 0.15)),
        waviness_mm=float(rng.uniform(0, 0.04)) * depth_mm,
        tilt=float(rng.normal(0, 0.08)),
        nerves=int(rng.integers(0, 4)),
        bellies=int(rng.integers(0, 4)),
        shadows=max(0, int(rng.integers(-2, 3))),
        planes=int(rng.integers(0, 4)),
        attenuation_db_mm=float(rng.uniform(0.1, 0.7)) * 30 / depth_mm,
        noise_db=float(rng.uniform(-66, -42)),
        noise_db_mm=float(rng.uniform(-0.1, 0.3)),
        axial_mm=float(rng.uniform(0.8, 1.6)) * pixel_mm,
        lateral_mm=float(rng.uniform(1.8, 5.0)) * pixel_mm,
        focus_mm=float(rng.uniform(0.2, 0.7)) * depth_mm,
        focus_length_mm=float(rng.uniform(0.2, 0.8)) * depth_mm,
        smoothing_px=float(rng.uniform(0.5, 2.0)),
    )


def _random_bone(
    rng: np.random.Generator, depth_mm: float, width_mm: float, vessels: Sequence[VesselSettings]
) -> BoneSettings | None:
    """Perhaps a bone, deeper than every vessel."""
    if rng.random() > 0.4:
        return None
    lowest_mm = max((v.depth_mm + 0.7 * v.major_mm for v in vessels), default=0.0)
    return BoneSettings(
        x_mm=float(rng.uniform(-0.5, 0.5)) * width_mm,
        depth_mm=max(float(rng.uniform(0.45, 0.95)) * depth_mm, lowest_mm),
        half_width_mm=float(rng.uniform(0.1, 0.6)) * width_mm,
        drop_mm=float(rng.uniform(0, 0.25)) * depth_mm,
    )


def _random_vessels(
    rng: np.random.Generator, depth_mm: float, width_mm: float, tissue: TissueSettings
) -> tuple[VesselSettings, ...]:
    """Vessels that keep clear of one another; fewer than wished where there is no room."""
    wished = int(rng.choice(6, p=(0.10, 0.32, 0.26, 0.20, 0.07, 0.05)))
    vessels: list[VesselSettings] = []
    for _ in range(8 * wished):
        if len(vessels) == wished:
            break
        new = _random_vessel(rng, depth_mm, width_mm, tissue)
        if all(
            math.hypot(new.x_mm - v.x_mm, new.depth_mm - v.depth_mm)
            > 0.58 * (new.major_mm + v.major_mm)
            for v in vessels
        ):
            vessels.append(new)
    return tuple(vessels)


def _random_vessel(
    rng: np.random.Generator, depth_mm: float, width_mm: float, tissue: TissueSettings
) -> VesselSettings:
    artery = bool(rng.random() < 0.4)
    major_mm = float(np.clip(rng.lognormal(math.log(0.2), 0.45), 0.06, 0.55)) * depth_mm
    ratio = float(rng.uniform(0.88, 1.0) if artery else rng.uniform(0.4, 0.95))
    minor_mm = major_mm * ratio
    surroundings_db = (
        tissue.fat_db + tissue.muscle_db + tissue.deep_db
    ) / 3  # the lumen is darker than any of them, by how much varies
    return VesselSettings(
        kind="artery" if artery else "vein",
        x_mm=float(rng.uniform(-0.52, 0.52)) * width_mm,
        depth_mm=float(minor_mm / 2 + rng.uniform(0.06, 0.78) * depth_mm),
        major_mm=major_mm,
        minor_mm=minor_mm,
        angle_rad=float(rng.normal(0, 0.3)),
        bend=(float(rng.uniform(-0.18, 0.18)), float(rng.uniform(-0.18, 0.18))),
        pulse_hz=float(rng.uniform(0.8, 2.5)),
        pulse_fraction=float(rng.uniform(0.04, 0.15) if artery else rng.uniform(0, 0.1)),
        pulse_phase_rad=float(rng.uniform(0, 2 * math.pi)),
        blood_db=surroundings_db - float(rng.uniform(6, 20)),
        wall_db=float(rng.uniform(-42, -10)),
        wall_mm=float(rng.uniform(0.006, 0.02)) * depth_mm,
        edge_mm=float(rng.uniform(0.4, 1.8)) * depth_mm / 480,
        sheath_db=float(max(0.0, rng.uniform(-4, 5))),
        enhancement_db=float(rng.uniform(0, 10)),
    )
