"""The phantom's tissue at rest: layered scatterers seen through a depth-dependent point spread.

Speckle follows the usual model (Burckhardt, IEEE Trans. Sonics Ultrason. 25, 1978; Wagner et
al., ibid. 30, 1983): many scatterers in a resolution cell add up to a circular complex Gaussian,
so its magnitude is Rayleigh distributed and its power exponentially. Scatterers are complex white
Gaussian noise times the root of the local echo, convolved with a separable Gaussian point
spread whose lateral width grows with the distance from the focus.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from veintrack.tracker.frame import F32
from veintrack.tracker.phantom_field import from_db, white_noise
from veintrack.tracker.phantom_layers import lay_layers
from veintrack.tracker.phantom_settings import BoneSettings, SheathSettings, TissueSettings
from veintrack.tracker.phantom_things import (
    add_belly,
    add_bone,
    add_muscle,
    add_nerve,
    add_planes,
    add_shadow,
    add_sheath,
)

__all__ = ["spread_points", "tissue_power"]

_BAND_PX = 12  # rows that share one lateral point spread


def tissue_power(
    tissue: TissueSettings,
    bone: BoneSettings | None,
    shape: tuple[int, int],
    mm_per_px: float,
    rng: np.random.Generator,
    sheaths: Sequence[SheathSettings] = (),
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
    sheaths : sequence of SheathSettings
        Connective tissue around vessels and nerves; laterally as the bone.

    Returns
    -------
    ndarray of shape (H, W), float32
        Power; the mean over speckle is the echo of the settings.
    """
    echo_db, sheet_db = lay_layers(tissue, shape, mm_per_px, rng)
    add_planes(sheet_db, tissue, mm_per_px, rng)
    for _ in range(tissue.muscles):
        add_muscle(echo_db, sheet_db, mm_per_px, rng)
    for _ in range(tissue.bellies):
        add_belly(echo_db, sheet_db, mm_per_px, rng)
    for sheath in sheaths:
        add_sheath(echo_db, sheet_db, sheath, mm_per_px, rng)
    for _ in range(tissue.nerves):
        add_nerve(echo_db, sheet_db, mm_per_px, rng)
    for _ in range(tissue.shadows):
        add_shadow(echo_db, sheet_db, rng)
    if bone is not None:
        add_bone(echo_db, sheet_db, bone, mm_per_px, rng)
    return _speckle(echo_db, sheet_db, tissue, mm_per_px, rng)


def _speckle(
    echo_db: F32, sheet_db: F32, tissue: TissueSettings, mm_per_px: float, rng: np.random.Generator
) -> F32:
    """Power of the scatterers seen through the point spread, the mean over all looks."""
    shape, looks = echo_db.shape, tissue.looks
    amplitude = from_db(np.maximum(echo_db, sheet_db - 6), 20)
    scatterers = white_noise((*shape, 2 * looks), np.sqrt(0.5), rng)
    scatterers *= amplitude[..., None]
    # Sheets reflect like mirrors: in phase along their length, so they show as lines, not dots.
    scatterers[..., ::2] += (np.float32(0.25) * from_db(sheet_db, 20))[..., None]
    depth_mm = (np.arange(shape[0], dtype=np.float32) + 0.5) * mm_per_px
    lateral_px = (
        tissue.lateral_mm
        / mm_per_px
        * np.sqrt(1 + ((depth_mm - tissue.focus_mm) / tissue.focus_length_mm) ** 2)
    )
    field = spread_points(scatterers, tissue.axial_mm / mm_per_px, lateral_px)
    cv2.multiply(field, field, dst=field)
    power = cv2.transform(field, np.full((1, 2 * looks), 1 / looks, np.float32))
    return np.asarray(power, np.float32)


def spread_points(scatterers: F32, axial_px: float, lateral_px: F32) -> F32:
    """Convolve complex scatterers with the point spread; white noise keeps its variance.

    Parameters
    ----------
    scatterers : ndarray of shape (H, W, C), float32
        Real and imaginary parts.
    axial_px : float
        Standard deviation of the point spread in depth.
    lateral_px : ndarray of shape (H,)
        Standard deviation across, row by row.

    Returns
    -------
    ndarray of shape (H, W, C), float32
        Complex envelopes.
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
