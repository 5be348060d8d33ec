"""What the phantom's tissue is drawn with: smooth random fields, lumpy ovals, decibels.

All of it works on maps of shape (H, W), float32, at the picture's own spacing.
"""

from statistics import NormalDist

import cv2
import numpy as np

from veintrack.tracker.frame import F32

__all__ = ["Window", "fibres", "from_db", "oval", "place", "smooth_noise", "white_noise"]

Window = tuple[slice, slice]

_SAMPLES = 4  # pixels across a cell that show it well enough; finer ones are filled in


def from_db(db: F32, per_decade: float) -> F32:
    """Power (10 a decade) or amplitude (20 a decade) of decibels."""
    return np.asarray(cv2.exp(db * np.float32(np.log(10) / per_decade)), np.float32)


def white_noise(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> F32:
    """Gaussian white noise of standard deviation `scale`, as 256 equally likely levels.

    Sums of a few such values are as good as Gaussian, and a byte is soon drawn.
    """
    levels = np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8)
    noise = cv2.LUT(levels.reshape(-1, 1), _QUANTILES * np.float32(scale))
    return np.asarray(noise, np.float32).reshape(shape)


def _normal_quantiles() -> F32:
    """Middle of each of 256 equally likely parts of the normal distribution."""
    quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])
    return np.asarray(quantiles / quantiles.std(), np.float32)


_QUANTILES = _normal_quantiles()


def smooth_noise(
    shape: tuple[int, int], cell_px: tuple[float, float], rng: np.random.Generator
) -> F32:
    """Gaussian noise of about unit variance, smooth over cells of ``(rows, columns)`` px."""
    rows, cols = (max(2, round(n / c) + 1) for n, c in zip(shape, cell_px, strict=True))
    coarse = rng.standard_normal((rows, cols), np.float32) * np.float32(1.3)
    height, width = shape
    step = int(min(cell_px) / _SAMPLES)
    if step > 1:
        part = max(2, width // step), max(2, height // step)
        coarse = cv2.resize(coarse, part, interpolation=cv2.INTER_CUBIC)
    how = cv2.INTER_LINEAR if step > 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=how), np.float32)


def fibres(
    shape: tuple[int, int],
    row_px: F32,
    thin_px: float,
    length_px: float,
    rng: np.random.Generator,
) -> F32:
    """Noise that is long across and thin in depth, about unit variance.

    Parameters
    ----------
    shape : tuple of int
        ``(H, W)``.
    row_px : ndarray of shape (H, W)
        The row that each pixel had before its layer was bent.
    thin_px, length_px : float
        Size of one fibre.
    rng : numpy.random.Generator
        Source of their places.
    """
    height, width = shape
    tall = (height + height // 2, width)
    flat = smooth_noise(tall, (thin_px, length_px), rng)
    flat += 0.5 * smooth_noise(tall, (8 * thin_px, length_px), rng)
    columns = np.broadcast_to(np.arange(width, dtype=np.float32), shape)
    rows = row_px + np.float32(height // 4)
    bent = cv2.remap(
        flat, np.ascontiguousarray(columns), rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(bent, np.float32)


def oval(
    shape: tuple[int, int],
    centre: tuple[float, float],
    axes: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[Window, F32]:
    """Squared distance from a lumpy oval's centre, 1 on its outline, in the window it fills."""
    (cy, cx), (ry, rx) = centre, axes
    y0, y1 = max(0, int(cy - 1.6 * ry)), min(shape[0], int(cy + 1.6 * ry) + 1)
    x0, x1 = max(0, int(cx - 1.6 * rx)), min(shape[1], int(cx + 1.6 * rx) + 1)
    y = (np.arange(y0, y1, dtype=np.float32)[:, None] - cy) / ry
    x = (np.arange(x0, x1, dtype=np.float32) - cx) / rx
    y = y + np.float32(rng.uniform(-0.4, 0.4)) * x * x + np.float32(rng.normal(0, 0.3)) * x
    q = (x * x + y * y).astype(np.float32)
    if q.size:
        q = q + 0.3 * smooth_noise((y1 - y0, x1 - x0), (0.8 * ry, 0.8 * rx), rng)
    return (slice(y0, max(y0, y1)), slice(x0, max(x0, x1))), q


def place(
    shape: tuple[int, int], low: float, high: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Draw a ``(row, column)`` anywhere across, between two parts of the depth."""
    return float(rng.uniform(low, high)) * shape[0], float(rng.uniform(0, 1)) * shape[1]
