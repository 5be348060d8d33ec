"""Scanners' screens made here: furniture with a picture in it, straight or bent to a sector."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from veintrack.tracker.frame import U8, Region
from veintrack.tracker.phantom import Phantom, demo_settings
from veintrack.tracker.scanarea import ScanAreaFinder
from veintrack.tracker.scanarea_convex import SectorShape

BOX: Region = (110, 60, 380, 320)
SECTOR = SectorShape((310.0, -40.0), 0.6, 0.6, 100.0, 440.0)


def speckle(height: int, width: int, seed: int = 0) -> U8:
    """Tissue: Rayleigh speckle, as broad as a pixel or two, around a mid grey."""
    noise = np.random.default_rng(seed).rayleigh(60.0, (height, width)).astype(np.float32)
    return np.clip(cv2.GaussianBlur(noise, (3, 3), 0), 0, 255).astype(np.uint8)


def furniture(number: int, grey: int = 0, *, trace: bool = False) -> U8:
    """A scanner's screen without its picture: a clock runs, an electrocardiogram may."""
    pixels = np.full((480, 640), grey, np.uint8)
    clock = f"Hospital  12:34:{number:02d}"
    cv2.putText(pixels, clock, (90, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 220, 1)
    for row in range(60, 420, 16):
        cv2.putText(pixels, "Frq 10 MHz", (540, row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 220, 1)
    pixels[100:200, 14:26] = np.linspace(255, 0, 100, dtype=np.uint8)[:, None]
    for column in range(60, 480, 110):  # pictures in the clipboard
        pixels[405:470, column : column + 80] = speckle(65, 80, seed=1) // 2
    if trace:
        beats = np.arange(60, 520)
        heights = 440 - 25 * np.exp(-((((beats % 90) - 40) / 4.0) ** 2))
        pixels[400:475, 60:520] = grey
        pixels[heights.astype(int), beats] = 230
        pixels[400:475, 60 + 4 * number : 72 + 4 * number] = 0
    return pixels


def linear_screen(tissue: U8, ground: U8, box: Region = BOX) -> U8:
    x, y, width, height = box
    pixels: U8 = ground.copy()
    pixels[y - 1 : y + height + 1, x - 1 : x + width + 1] = 0
    pixels[y : y + height, x : x + width] = cv2.resize(tissue, (width, height))
    return pixels


def convex_screen(tissue: U8, ground: U8, shape: SectorShape = SECTOR) -> U8:
    """Bend a picture into a sector, black around it."""
    rows, columns = np.mgrid[: ground.shape[0], : ground.shape[1]]
    x, y = columns - shape.apex_px[0], rows - shape.apex_px[1]
    depth = (np.hypot(x, y) - shape.inner_px) / (shape.outer_px - shape.inner_px)
    across = (np.arctan2(x, y) + shape.left_rad) / (shape.left_rad + shape.right_rad)
    inside = (depth >= 0) & (depth <= 1) & (across >= 0) & (across <= 1)
    bent = cv2.remap(
        tissue,
        (across * (tissue.shape[1] - 1)).astype(np.float32),
        (depth * (tissue.shape[0] - 1)).astype(np.float32),
        cv2.INTER_LINEAR,
    )
    around = cv2.dilate(inside.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    return np.where(inside, bent, np.where(around, 0, ground)).astype(np.uint8)


def second_of_tissue() -> list[U8]:
    """A second of the demonstration in ten frames."""
    phantom = Phantom(demo_settings(0, 320, 380))
    return [phantom.render(3 * i).pixels for i in range(10)]


def sides(region: Region) -> tuple[int, int, int, int]:
    """Left, top, right and bottom."""
    x, y, width, height = region
    return x, y, x + width, y + height


def finder_of(frames: Sequence[U8]) -> ScanAreaFinder:
    finder = ScanAreaFinder((frames[0].shape[0], frames[0].shape[1]))
    for pixels in frames:
        finder.add(pixels)
    return finder


def noisy(pixels: U8, sigma: float, seed: int) -> U8:
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def compressed(pixels: U8, quality: int) -> U8:
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def seconds_of(path: Path, every_s: float = 1.0) -> list[list[U8]]:
    """Ten frames out of each second, every so often."""
    from veintrack.tracker.sources import open_source

    with open_source(path) as source:
        frames = list(source)
    starts = np.arange(0, frames[-1].capture_ns - 1_000_000_000, every_s * 1e9)
    return [
        [
            next(f for f in frames if f.capture_ns >= start + i * 100_000_000).pixels
            for i in range(10)
        ]
        for start in starts
    ]
