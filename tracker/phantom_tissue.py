"""The phantom's tissue at rest: layered scatterers seen through a depth-dependent point spread.

Speckle follows the usual model (Burckhardt, IEEE Trans. Sonics Ultrason. 25, 1978; Wagner et
al., ibid. 30, 1983): many scatterers in a resolution cell add up to a circular complex Gaussian,
so its magnitude is Rayleigh distributed and its power exponentially. Scatterers are complex white
Gaussian noise times the root of the local echo, convolved with a separable Gaussian point
spread whose lateral width grows with the distance from the focus.
"""

import cv2
import numpy as np

from veintrack.tracker.frame import F32
from veintrack.tracker.phantom_settings import BoneSettings, TissueSettings

__all__ = ["spread_points", "tissue_power"]

_BAND_PX = 12  # rows that share one lateral point spread
_SKIN_MM = 1.3


def tissue_power(
    tissue: TissueSettings,
    bone: BoneSettings | None,
    shape: tuple[int, int],
    mm_per_px: float,
    rng: np.random.Generator,
) -> F32:
    """Render the echo power of a slab of tissue.

    Parameters
    ----------
    tissue : TissueSettings
        What it is made of.
    bone : BoneSettings or None
        Laterally measured from the slab's centre line.
    shape : tuple of int
        ``(H, W)`` of the slab; its top row touches the probe.
    mm_per_px : float
        Spacing.
    rng : numpy.random.Generator
        Source of speckle and of the layers' course.

    Returns
    -------
    ndarray of shape (H, W), float32
        Power; the mean over speckle is the echo of the settings.
    """
    echo_db, sheet_db = _echoes(tissue, shape, mm_per_px, rng)
    _add_planes(sheet_db, tissue, mm_per_px, rng)
    for _ in range(tissue.bellies):
        _add_belly(echo_db, sheet_db, mm_per_px, rng)
    for _ in range(tissue.nerves):
        _add_nerve(echo_db, sheet_db, mm_per_px, rng)
    for _ in range(tissue.shadows):
        _add_shadow(echo_db, sheet_db, rng)
    if bone is not None:
        _add_bone(echo_db, sheet_db, bone, mm_per_px, rng)
    scatterers = rng.standard_normal((*shape, 2), np.float32) * np.float32(np.sqrt(0.5))
    amplitude = _from_db(np.maximum(echo_db, sheet_db - 6), 20)
    scatterers *= amplitude[..., None]
    # Sheets reflect like mirrors: in phase along their length, so they show as lines, not dots.
    scatterers[..., 0] += 0.25 * _from_db(sheet_db, 20)
    depth_mm = (np.arange(shape[0], dtype=np.float32) + 0.5) * mm_per_px
    lateral_px = (
        tissue.lateral_mm
        / mm_per_px
        * np.sqrt(1 + ((depth_mm - tissue.focus_mm) / tissue.focus_length_mm) ** 2)
    )
    field = spread_points(scatterers, tissue.axial_mm / mm_per_px, lateral_px)
    power: F32 = np.einsum("ijk,ijk->ij", field, field)
    return power


def spread_points(scatterers: F32, axial_px: float, lateral_px: F32) -> F32:
    """Convolve complex scatterers with the point spread; white noise keeps its variance.

    Parameters
    ----------
    scatterers : ndarray of shape (H, W, 2), float32
        Real and imaginary part.
    axial_px : float
        Standard deviation of the point spread in depth.
    lateral_px : ndarray of shape (H,)
        Standard deviation across, row by row.

    Returns
    -------
    ndarray of shape (H, W, 2), float32
        Complex envelope.
    """
    one = np.ones(1, np.float32)
    rows = cv2.sepFilter2D(scatterers, -1, one, _kernel(axial_px))
    out = np.empty_like(scatterers)
    for start in range(0, len(rows), _BAND_PX):
        band = slice(start, start + _BAND_PX)
        kernel = _kernel(float(np.mean(lateral_px[band])))
        out[band] = cv2.sepFilter2D(rows[band], -1, kernel, one)
    return out


def _kernel(sigma_px: float) -> F32:
    """Gaussian of unit energy."""
    reach = max(1, round(3 * sigma_px))
    x = np.arange(-reach, reach + 1) / max(sigma_px, 1e-3)
    k = np.exp(-0.5 * x * x)
    kernel: F32 = (k / np.sqrt((k * k).sum())).astype(np.float32)
    return kernel


def _from_db(db: F32, per_decade: float) -> F32:
    power: F32 = cv2.exp(db * np.float32(np.log(10) / per_decade))
    return power


def _smooth_noise(
    shape: tuple[int, int], cell_px: tuple[float, float], rng: np.random.Generator
) -> F32:
    """Gaussian noise of about unit variance, smooth over cells of ``(rows, columns)`` px."""
    rows, cols = (max(2, round(n / c) + 1) for n, c in zip(shape, cell_px, strict=True))
    coarse = rng.standard_normal((rows, cols), np.float32) * np.float32(1.3)
    noise: F32 = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return noise


def _echoes(
    tissue: TissueSettings, shape: tuple[int, int], mm_per_px: float, rng: np.random.Generator
) -> tuple[F32, F32]:
    """Echo of the layers, and of the sheets within and between them, both (H, W) in dB.

    Everything is laid out in flat layers first, then bent: `layer_mm` is the depth that each
    pixel had before the layers were bent.
    """
    height, width = shape
    px = np.float32(1 / mm_per_px)
    y_mm = (np.arange(height, dtype=np.float32)[:, None] + 0.5) * np.float32(mm_per_px)
    x_mm = (np.arange(width, dtype=np.float32) - width / 2) * np.float32(mm_per_px)
    # The probe flattens what touches it; the layers bend freely below.
    free = np.minimum(1, y_mm / 10).astype(np.float32)
    bend_mm = _smooth_noise(shape, (14 * px, 16 * px), rng) * np.float32(tissue.waviness_mm)
    layer_mm = y_mm + free * (bend_mm + tissue.tilt * x_mm)
    # A sheet that leans sends its echo past the probe.
    lean_db = 15 * np.minimum(1, np.gradient(layer_mm, mm_per_px, axis=1) ** 2 * 4)

    table_mm = np.arange(0, (height * mm_per_px + 30), 0.05, dtype=np.float32)
    index = np.clip(layer_mm * 20, 0, len(table_mm) - 1).astype(np.int32)
    edges_mm = (0, _SKIN_MM, tissue.fat_mm, tissue.muscle_mm)
    echo = (tissue.fat_db + 7, tissue.fat_db, tissue.muscle_db, tissue.deep_db)
    layer = np.clip(np.searchsorted(edges_mm, table_mm, side="right") - 1, 0, 3)
    patches = 2.5 * _smooth_noise(shape, (5 * px, 8 * px), rng)
    patches += 1.2 * _smooth_noise(shape, (0.8 * px, 1.8 * px), rng)
    echo_db = np.array(echo, np.float32)[layer][index] + patches

    sheet = np.full(len(table_mm), -99.0, np.float32)
    more_mm = rng.uniform(_SKIN_MM, tissue.muscle_mm, 4)
    for edge_mm in (*edges_mm[1:], *more_mm):
        thick_mm = float(rng.uniform(0.06, 0.16))
        near = np.abs(table_mm - np.float32(edge_mm)) / np.float32(thick_mm)
        sheet = np.maximum(sheet, tissue.fascia_db - rng.uniform(0, 8) - 6 * near**2)
    sheet_db = sheet[index] + 7 * _smooth_noise(shape, (1.5 * px, 6 * px), rng) - lean_db

    if tissue.streak_db > 0:
        slant_mm = layer_mm + (layer > 1)[index] * np.float32(tissue.pennation) * x_mm
        streaks = _streaks(shape, slant_mm * px, mm_per_px, rng)
        strength_db = np.array([0.8, 0.9, 1, 0.6], np.float32)[layer][index] * tissue.streak_db
        streaks_db = echo_db - 4 + np.minimum(streaks, 1.2) * strength_db - lean_db
        np.maximum(sheet_db, streaks_db, out=sheet_db)
    return echo_db, sheet_db


def _streaks(
    shape: tuple[int, int], row_px: F32, mm_per_px: float, rng: np.random.Generator
) -> F32:
    """Septa and fibres: long across, thin in depth; below 0 between them, about 1 on them."""
    height, width = shape
    length_px = rng.uniform(1.5, 5) / mm_per_px
    thin_px = max(1.2, rng.uniform(0.12, 0.32) / mm_per_px)
    tall = (height + height // 2, width)
    flat = _smooth_noise(tall, (thin_px, length_px), rng) - 1.1
    flat += 0.5 * _smooth_noise(tall, (8 * thin_px, length_px), rng)
    columns = np.broadcast_to(np.arange(width, dtype=np.float32), shape)
    rows = row_px + np.float32(height // 4)
    streaks = cv2.remap(
        flat, np.ascontiguousarray(columns), rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(streaks, np.float32)


def _oval(
    shape: tuple[int, int],
    centre: tuple[float, float],
    axes: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[tuple[slice, slice], F32]:
    """Squared distance from a lumpy oval's centre, 1 on its outline, in the window it fills."""
    (cy, cx), (ry, rx) = centre, axes
    y0, y1 = max(0, int(cy - 1.6 * ry)), min(shape[0], int(cy + 1.6 * ry) + 1)
    x0, x1 = max(0, int(cx - 1.6 * rx)), min(shape[1], int(cx + 1.6 * rx) + 1)
    y = (np.arange(y0, y1, dtype=np.float32)[:, None] - cy) / ry
    x = (np.arange(x0, x1, dtype=np.float32) - cx) / rx
    y = y + np.float32(rng.uniform(-0.4, 0.4)) * x * x + np.float32(rng.normal(0, 0.3)) * x
    q = (x * x + y * y).astype(np.float32)
    if q.size:
        q = q + 0.3 * _smooth_noise((y1 - y0, x1 - x0), (0.8 * ry, 0.8 * rx), rng)
    return (slice(y0, y1), slice(x0, x1)), q


def _place(
    shape: tuple[int, int], low: float, high: float, rng: np.random.Generator
) -> tuple[float, float]:
    return float(rng.uniform(low, high)) * shape[0], float(rng.uniform(0, 1)) * shape[1]


def _add_belly(echo_db: F32, sheet_db: F32, mm_per_px: float, rng: np.random.Generator) -> None:
    """Add a dark muscle or fat lobule: shaped a little like a vessel, grained like tissue."""
    size_px = rng.uniform(2, 12) / mm_per_px
    at, q = _oval(
        echo_db.shape, _place(echo_db.shape, 0.1, 0.9, rng),
        (size_px * rng.uniform(0.25, 0.7), size_px), rng,
    )  # fmt: skip
    inside = np.clip((1.1 - q) * rng.uniform(1, 4), 0, 1)
    drop_db = rng.uniform(3, 11)
    echo_db[at] -= drop_db * inside
    sheet_db[at] -= (drop_db + 3) * inside
    rim_db = rng.uniform(-10, 10)
    np.maximum(sheet_db[at], echo_db[at] + rim_db - 40 * (q - 1.1) ** 2, out=sheet_db[at])


def _add_nerve(echo_db: F32, sheet_db: F32, mm_per_px: float, rng: np.random.Generator) -> None:
    """Add a nerve, cut across: a bright oval sponge with dark fascicles."""
    size_px = rng.uniform(1.2, 4) / mm_per_px
    at, q = _oval(
        echo_db.shape, _place(echo_db.shape, 0.12, 0.8, rng),
        (size_px * rng.uniform(0.35, 0.8), size_px), rng,
    )  # fmt: skip
    if not q.size:
        return
    inside = np.clip((1 - q) * 4, 0, 1)
    cell_px = rng.uniform(0.35, 0.8) / mm_per_px
    holes = np.clip(_smooth_noise(q.shape, (cell_px, cell_px * 1.3), rng) - 0.2, 0, 1.2)
    echo_db[at] += inside * (rng.uniform(3, 10) - rng.uniform(8, 18) * holes)
    sheet_db[at] -= inside * 12 * holes


def _add_planes(
    sheet_db: F32, tissue: TissueSettings, mm_per_px: float, rng: np.random.Generator
) -> None:
    """Fascia that runs obliquely between muscles."""
    height, width = sheet_db.shape
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    for _ in range(tissue.planes):
        (cy, cx), slope = _place(sheet_db.shape, 0.25, 0.9, rng), rng.normal(0, 0.35)
        curve = rng.normal(0, 0.5) / width
        course = cy + slope * (x - cx) + curve * (x - cx) ** 2
        reach = ((x - cx) / (rng.uniform(0.1, 0.4) * width)) ** 2
        thick_px = rng.uniform(0.1, 0.3) / mm_per_px
        wobble = _smooth_noise((1, width), (1, 4 / mm_per_px), rng)
        bright = tissue.fascia_db - 10 * slope**2 - 12 * reach + 3 * wobble
        line = bright - 6 * ((y - course - 0.6 * thick_px * wobble) / thick_px) ** 2
        np.maximum(sheet_db, np.maximum(line, -99), out=sheet_db)


def _add_shadow(echo_db: F32, sheet_db: F32, rng: np.random.Generator) -> None:
    """Add a dark column under a hair or an air bubble."""
    height, width = echo_db.shape
    x = (np.arange(width) - rng.uniform(0, width)) / (rng.uniform(0.01, 0.08) * width)
    y = np.arange(height)[:, None] / (0.15 * height)
    loss = (rng.uniform(4, 14) * np.exp(-(x**2)) * np.minimum(1, y)).astype(np.float32)
    echo_db -= loss
    sheet_db -= loss


def _add_bone(
    echo_db: F32, sheet_db: F32, bone: BoneSettings, mm_per_px: float, rng: np.random.Generator
) -> None:
    height, width = echo_db.shape
    x_mm = (np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)) * np.float32(
        mm_per_px
    )
    part = (x_mm - np.float32(bone.x_mm)) / np.float32(bone.half_width_mm)
    rough = _smooth_noise((1, width), (1, 3 / mm_per_px), rng)
    course_mm = bone.depth_mm + np.float32(bone.drop_mm) * part * part + 0.3 * rough
    below_mm = (np.arange(height, dtype=np.float32)[:, None] + 0.5) * np.float32(mm_per_px)
    below_mm = below_mm - course_mm
    present = np.clip((1.1 - np.abs(part)) * 4, 0, 1)
    behind = np.clip(below_mm / 0.5, 0, 1) * present
    echo_db -= 30 * behind
    sheet_db -= 60 * behind
    surface = 4 * rough - 6 - 25 * (1 - present) - 8 * np.abs(part) - 6 * (below_mm / 0.25) ** 2
    np.maximum(sheet_db, np.maximum(surface, -99), out=sheet_db)
