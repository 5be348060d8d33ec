"""What the phantom's tissue holds besides its layers: things that are no vessels, and sheaths.

Each function changes two maps of shape (H, W) in dB, in place: the echo of speckled tissue, and
that of sheets, which reflect like mirrors.
"""

import math

import numpy as np

from veintrack.tracker.frame import F32
from veintrack.tracker.phantom_field import oval, place, smooth_noise
from veintrack.tracker.phantom_settings import BoneSettings, SheathSettings, TissueSettings

__all__ = [
    "add_belly",
    "add_bone",
    "add_muscle",
    "add_nerve",
    "add_planes",
    "add_shadow",
    "add_sheath",
]


def add_belly(echo_db: F32, sheet_db: F32, mm_per_px: float, rng: np.random.Generator) -> None:
    """Add a dark fat lobule: shaped a little like a vessel, grained like tissue, softly bounded."""
    size_px = rng.uniform(2, 12) / mm_per_px
    at, q = oval(
        echo_db.shape, place(echo_db.shape, 0.1, 0.9, rng),
        (size_px * rng.uniform(0.25, 0.7), size_px), rng,
    )  # fmt: skip
    inside = np.clip((1.1 - q) * rng.uniform(1, 4), 0, 1)
    drop_db = rng.uniform(3, 11)
    echo_db[at] -= drop_db * inside
    sheet_db[at] -= (drop_db + 3) * inside
    rim_db = rng.uniform(-10, 10)
    np.maximum(sheet_db[at], echo_db[at] + rim_db - 40 * (q - 1.1) ** 2, out=sheet_db[at])


def add_muscle(echo_db: F32, sheet_db: F32, mm_per_px: float, rng: np.random.Generator) -> None:
    """Add a muscle, cut across: as dark and as sharp as a vessel may be, but with septa in it."""
    px = 1 / mm_per_px
    centre, radius_px = place(echo_db.shape, 0.15, 0.9, rng), rng.uniform(2.5, 12) * px
    at, q = oval(echo_db.shape, centre, (radius_px * rng.uniform(0.3, 0.8), radius_px), rng)
    if not q.size:
        return
    side = (np.arange(at[1].start, at[1].stop, dtype=np.float32) - centre[1]) / radius_px
    patchy_db = 5 * smooth_noise(q.shape, (2 * px, 4 * px), rng)
    border_db = echo_db[at] + rng.uniform(-4, 18) + patchy_db - 14 * side**2
    border_db -= rng.uniform(40, 150) * (q - 1.1) ** 2

    inside = np.clip((1.1 - q) * math.exp(rng.uniform(0.7, 2.7)), 0, 1)
    drop_db = rng.uniform(4, 15)
    echo_db[at] -= drop_db * inside
    sheet_db[at] -= (drop_db + 6) * inside
    septum_px = rng.uniform(0.2, 0.5) * px, rng.uniform(0.8, 3) * px
    over = np.minimum(smooth_noise(q.shape, septum_px, rng) - rng.uniform(0.8, 1.8), 0.8)
    septa_db = echo_db[at] + rng.uniform(0, 18) + 16 * over - 40 * (1 - inside)
    np.maximum(sheet_db[at], np.maximum(septa_db, border_db), out=sheet_db[at])


def add_nerve(
    echo_db: F32,
    sheet_db: F32,
    mm_per_px: float,
    rng: np.random.Generator,
    centre_px: tuple[float, float] | None = None,
) -> None:
    """Add a nerve, cut across: a bright oval sponge with dark fascicles.

    It lies anywhere, unless its ``(row, column)`` is given.
    """
    size_px = rng.uniform(1.2, 4) / mm_per_px
    centre_px = centre_px or place(echo_db.shape, 0.12, 0.8, rng)
    at, q = oval(echo_db.shape, centre_px, (size_px * rng.uniform(0.35, 0.8), size_px), rng)
    if not q.size:
        return
    inside = np.clip((1 - q) * 4, 0, 1)
    cell_px = rng.uniform(0.35, 0.8) / mm_per_px
    holes = np.clip(smooth_noise(q.shape, (cell_px, cell_px * 1.3), rng) - 0.2, 0, 1.2)
    echo_db[at] += inside * (rng.uniform(3, 10) - rng.uniform(8, 18) * holes)
    sheet_db[at] -= inside * 12 * holes


def add_sheath(
    echo_db: F32,
    sheet_db: F32,
    sheath: SheathSettings,
    mm_per_px: float,
    rng: np.random.Generator,
) -> None:
    """Add the bright fat and connective tissue that vessels and nerves run in, and its nerves."""
    px = 1 / mm_per_px
    centre = sheath.depth_mm * px - 0.5, sheath.x_mm * px + echo_db.shape[1] / 2 - 0.5
    axes = sheath.half_height_mm * px, sheath.half_width_mm * px
    at, q = oval(echo_db.shape, centre, axes, rng)
    if q.size:
        inside = np.clip((1.2 - q) * 1.5, 0, 1)
        wisps = 3 * smooth_noise(q.shape, (0.5 * px, 2.5 * px), rng)
        echo_db[at] += inside * (sheath.echo_db + wisps)
    for _ in range(sheath.nerves):
        turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1)
        beside = (
            centre[0] + far * axes[0] * float(np.sin(turn)),
            centre[1] + far * axes[1] * float(np.cos(turn)),
        )
        add_nerve(echo_db, sheet_db, mm_per_px, rng, beside)


def add_planes(
    sheet_db: F32, tissue: TissueSettings, mm_per_px: float, rng: np.random.Generator
) -> None:
    """Fascia that runs obliquely between muscles."""
    height, width = sheet_db.shape
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    for _ in range(tissue.planes):
        (cy, cx), slope = place(sheet_db.shape, 0.25, 0.9, rng), rng.normal(0, 0.35)
        curve = rng.normal(0, 0.5) / width
        course = cy + slope * (x - cx) + curve * (x - cx) ** 2
        reach = ((x - cx) / (rng.uniform(0.1, 0.4) * width)) ** 2
        thick_px = rng.uniform(0.1, 0.3) / mm_per_px
        wobble = smooth_noise((1, width), (1, 4 / mm_per_px), rng)
        bright = tissue.fascia_db - 10 * slope**2 - 12 * reach + 3 * wobble
        line = bright - 6 * ((y - course - 0.6 * thick_px * wobble) / thick_px) ** 2
        np.maximum(sheet_db, np.maximum(line, -99), out=sheet_db)


def add_shadow(echo_db: F32, sheet_db: F32, rng: np.random.Generator) -> None:
    """Add a dark column under a hair or an air bubble."""
    height, width = echo_db.shape
    x = (np.arange(width) - rng.uniform(0, width)) / (rng.uniform(0.01, 0.08) * width)
    y = np.arange(height)[:, None] / (0.15 * height)
    loss = (rng.uniform(4, 14) * np.exp(-(x**2)) * np.minimum(1, y)).astype(np.float32)
    echo_db -= loss
    sheet_db -= loss


def add_bone(
    echo_db: F32, sheet_db: F32, bone: BoneSettings, mm_per_px: float, rng: np.random.Generator
) -> None:
    """Add a bright surface, and nothing behind it."""
    height, width = echo_db.shape
    x_mm = (np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)) * np.float32(
        mm_per_px
    )
    part = (x_mm - np.float32(bone.x_mm)) / np.float32(bone.half_width_mm)
    rough = smooth_noise((1, width), (1, 3 / mm_per_px), rng)
    course_mm = bone.depth_mm + np.float32(bone.drop_mm) * part * part + 0.3 * rough
    below_mm = (np.arange(height, dtype=np.float32)[:, None] + 0.5) * np.float32(mm_per_px)
    below_mm = below_mm - course_mm
    present = np.clip((1.1 - np.abs(part)) * 4, 0, 1)
    behind = np.clip(below_mm / 0.5, 0, 1) * present
    echo_db -= 30 * behind
    sheet_db -= 60 * behind
    near = below_mm / np.float32(bone.thick_mm)
    surface = bone.echo_db + 4 * rough - 25 * (1 - present) - 8 * np.abs(part) - 6 * near**2
    np.maximum(sheet_db, np.maximum(surface, -99), out=sheet_db)
