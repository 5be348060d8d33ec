"""The phantom's layers: skin, fat, muscle and the sheets, fibres and compartments in them.

Everything is laid out in flat layers first, then bent. Maps are (H, W) in dB: the echo of
speckled tissue, and that of sheets, which reflect like mirrors.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F32, U8
from veintrack.tracker.phantom_field import fibres, smooth_noise
from veintrack.tracker.phantom_settings import TissueSettings

__all__ = ["lay_layers"]

_TABLE_MM = 0.05  # layers are tabulated this finely


@dataclass(frozen=True, slots=True, eq=False)
class _Bent:
    """Where the layers lie: the depth that each pixel had before they were bent, and more.

    `lean_db` is what a sheet loses by leaning, `entry` the place in a table over depth.
    """

    shape: tuple[int, int]
    mm_per_px: float
    layer_mm: F32
    lean_db: F32
    entry: NDArray[np.intp]

    @property
    def px(self) -> float:
        """Pixels per millimetre."""
        return float(np.float32(1 / self.mm_per_px))

    def look_up(self, table: F32) -> F32:
        """Spread a table over depth, at `_TABLE_MM`, over the picture."""
        return table.take(self.entry, mode="clip")


def lay_layers(
    tissue: TissueSettings, shape: tuple[int, int], mm_per_px: float, rng: np.random.Generator
) -> tuple[F32, F32]:
    """Lay out the layers.

    Parameters
    ----------
    tissue : TissueSettings
        What they are made of.
    shape : tuple of int
        ``(H, W)`` of the slab; its top row touches the probe.
    mm_per_px : float
        Spacing.
    rng : numpy.random.Generator
        Source of their course.

    Returns
    -------
    echo_db, sheet_db : ndarray of shape (H, W), float32
        Echo of speckled tissue, and of sheets.
    """
    bent = _bend(tissue, shape, mm_per_px, rng)
    edges_mm = (0, tissue.skin_mm, tissue.fat_mm, tissue.muscle_mm)
    table_mm = np.arange(0, shape[0] * mm_per_px + 30, _TABLE_MM, dtype=np.float32)
    layer = np.clip(np.searchsorted(edges_mm, table_mm, side="right") - 1, 0, 3)
    echo = np.array(
        (tissue.fat_db + tissue.skin_db, tissue.fat_db, tissue.muscle_db, tissue.deep_db),
        np.float32,
    )
    patches = 2.5 * smooth_noise(shape, (5 * bent.px, 8 * bent.px), rng)
    patches += 1.2 * smooth_noise(shape, (0.8 * bent.px, 1.8 * bent.px), rng)
    echo_db = bent.look_up(echo[layer]) + patches
    sheet_db = _sheets(tissue, bent, table_mm, edges_mm, rng)
    strength = bent.look_up(np.array([0.8, 0.9, 1, 0.6], np.float32)[layer])
    if tissue.compartments > 0:
        strength *= _divide(echo_db, sheet_db, tissue, bent, rng)
    if tissue.streak_db > 0:
        slope = bent.look_up((layer > 1).astype(np.float32) * np.float32(tissue.pennation))
        _add_streaks(echo_db, sheet_db, tissue, bent, slope, strength, rng)
    if tissue.flecks > 0:
        _add_flecks(sheet_db, tissue, bent, rng)
    if tissue.uneven_db > 0:
        loss = np.float32(tissue.uneven_db) * smooth_noise(shape, (14 * bent.px, 7 * bent.px), rng)
        echo_db += loss
        sheet_db += loss
    return echo_db, sheet_db


def _bend(
    tissue: TissueSettings, shape: tuple[int, int], mm_per_px: float, rng: np.random.Generator
) -> _Bent:
    height, width = shape
    px = float(np.float32(1 / mm_per_px))
    y_mm = (np.arange(height, dtype=np.float32)[:, None] + 0.5) * np.float32(mm_per_px)
    x_mm = (np.arange(width, dtype=np.float32) - width / 2) * np.float32(mm_per_px)
    # The probe flattens what touches it; the layers bend freely below.
    free = np.minimum(1, y_mm / 10).astype(np.float32)
    bend_mm = smooth_noise(shape, (14 * px, 16 * px), rng) * np.float32(tissue.waviness_mm)
    if tissue.ripple_mm > 0:
        bend_mm += smooth_noise(shape, (4 * px, 5 * px), rng) * np.float32(tissue.ripple_mm)
    layer_mm = y_mm + free * (bend_mm + np.float32(tissue.tilt) * x_mm)
    # A sheet that leans sends its echo past the probe.
    lean_db = 15 * np.minimum(1, _slope(layer_mm, across=True) ** 2 * np.float32(4 * px * px))
    entry = (layer_mm * np.float32(1 / _TABLE_MM)).astype(np.intp)
    return _Bent(shape, mm_per_px, layer_mm, lean_db, entry)


def _slope(field: F32, across: bool) -> F32:
    """Central difference per pixel."""
    step = np.array([-0.5, 0, 0.5], np.float32)
    slope = cv2.filter2D(
        field, cv2.CV_32F, step[None] if across else step[:, None], borderType=cv2.BORDER_REPLICATE
    )
    return np.asarray(slope, np.float32)


def _sheets(
    tissue: TissueSettings,
    bent: _Bent,
    table_mm: F32,
    edges_mm: tuple[float, ...],
    rng: np.random.Generator,
) -> F32:
    """Fascia between the layers and within them."""
    sheet = np.full(len(table_mm), -99.0, np.float32)
    more_mm = rng.uniform(tissue.skin_mm, tissue.muscle_mm, tissue.sheets)
    for edge_mm in (*edges_mm[1:], *more_mm):
        thick_mm = float(rng.uniform(0.06, 0.16))
        near = np.abs(table_mm - np.float32(edge_mm)) / np.float32(thick_mm)
        sheet = np.maximum(sheet, tissue.fascia_db - rng.uniform(0, 8) - 6 * near**2)
    patchy_db = 7 * smooth_noise(bent.shape, (1.5 * bent.px, 6 * bent.px), rng)
    return np.asarray(bent.look_up(sheet) + patchy_db - bent.lean_db, np.float32)


def _divide(
    echo_db: F32,
    sheet_db: F32,
    tissue: TissueSettings,
    bent: _Bent,
    rng: np.random.Generator,
) -> F32:
    """Divide the muscle into bellies, each with an echo of its own, and sheets between them.

    Bellies are what lies between the contours of a smooth field, so they are ovals, wedges and
    bands that nest in one another. Returns how far fibres stand out in each.
    """
    cell_px = 0.5 * tissue.compartment_mm * bent.px, tissue.compartment_mm * bent.px
    field = smooth_noise(bent.shape, cell_px, rng) * np.float32(tissue.compartments)
    field += np.float32(rng.uniform(0, 1))
    number = np.floor(field)
    lowest = int(number.min())
    count = int(number.max()) - lowest + 1
    index = (number - lowest).astype(np.uint8)
    below = np.clip((bent.layer_mm - np.float32(tissue.fat_mm)) / 0.5, 0, 1)
    drop_db = rng.uniform(-14, 2, count).astype(np.float32)
    echo_db += _pick(drop_db, index) * below

    across, down = _slope(field, across=True), _slope(field, across=False)
    across *= across
    down *= down
    steep = across + down + np.float32(1e-9)
    off = np.abs(field - number - np.float32(0.5)) - np.float32(0.5)  # from the next contour
    thick_px = max(0.6, rng.uniform(0.06, 0.16) * bent.px)
    line = 9 * smooth_noise(bent.shape, (3 * bent.px, 6 * bent.px), rng)
    line += np.float32(tissue.fascia_db - rng.uniform(2, 12) - 60)
    # Sheets that lean are dim; lines are as thick wherever the field is steep or flat.
    line -= (24 * across + np.float32(6 / thick_px**2) * off * off) / steep
    line += 60 * below
    np.maximum(sheet_db, line, out=sheet_db)
    strength = rng.uniform(0.2, 1.2, count).astype(np.float32)
    return _pick(strength, index)


def _pick(values: F32, index: U8) -> F32:
    """``values[index]``, fast."""
    table = np.zeros(256, np.float32)
    table[: len(values)] = values[:256]
    return np.asarray(cv2.LUT(index, table), np.float32)


def _add_streaks(
    echo_db: F32,
    sheet_db: F32,
    tissue: TissueSettings,
    bent: _Bent,
    slope: F32,
    strength: F32,
    rng: np.random.Generator,
) -> None:
    """Septa and fibres, in muscle at an angle to the layers."""
    x_mm = (np.arange(bent.shape[1], dtype=np.float32) - bent.shape[1] / 2) * np.float32(
        bent.mm_per_px
    )
    length_px = rng.uniform(1.5, 5) * bent.px
    thin_px = max(1.2, rng.uniform(0.12, 0.32) * bent.px)
    rows = (bent.layer_mm + slope * x_mm) * np.float32(bent.px)
    streaks = fibres(bent.shape, rows, thin_px, length_px, rng) - 1.1
    streaks_db = echo_db - 4 + np.minimum(streaks, 1.2) * strength * tissue.streak_db
    np.maximum(sheet_db, streaks_db - bent.lean_db, out=sheet_db)


def _add_flecks(
    sheet_db: F32, tissue: TissueSettings, bent: _Bent, rng: np.random.Generator
) -> None:
    """Short, thin, bright lines with tapered ends, here more and there fewer."""
    thin_px = max(1.0, rng.uniform(0.13, 0.28) * bent.px)
    length_px = rng.uniform(1, 4) * bent.px
    rows = bent.layer_mm * np.float32(bent.px)
    flecks = fibres(bent.shape, rows, thin_px, length_px, rng)
    flecks += 0.6 * smooth_noise(bent.shape, (4 * bent.px, 7 * bent.px), rng)
    over = np.minimum(flecks - np.float32(2.8 - tissue.flecks), 1)
    np.maximum(sheet_db, tissue.fascia_db - 12 + 14 * over - bent.lean_db, out=sheet_db)
