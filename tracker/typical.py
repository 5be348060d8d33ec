"""Typical pictures, made on the spot: to judge an engine by, and to make a model INT8 with.

Half of what a network is asked lies between vessel and not; so these are the phantom's random
stills, which are as hard as real frames, and some frames of the demo, which are clear.
"""

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import islice

import numpy as np

from veintrack.engines.base import Pictures
from veintrack.tracker.frame import U8, Region
from veintrack.tracker.grid import fit, image_to_grid
from veintrack.tracker.scanarea import find_scan_area

__all__ = [
    "calibration_pictures",
    "judging_pictures",
    "lay",
    "pictures_of",
    "still_pictures",
    "still_shape_px",
]

_SMALLEST_PX = 32  # scan area that the phantom draws
_MOST = 200  # pictures of a source: more would tell no more


def judging_pictures(shape_px: tuple[int, int]) -> Pictures:
    """Give the pictures that engines are judged by: 12 stills and 4 frames of the demo.

    Parameters
    ----------
    shape_px : tuple of int
        ``(H, W)`` of the network's grid.
    """
    return Pictures("phantom", partial(_judging, shape_px))


def calibration_pictures(shape_px: tuple[int, int]) -> Pictures:
    """Give the pictures that a model is made INT8 with: 40 stills and 20 frames like the demo's.

    None of them is among those of :func:`judging_pictures`.

    Parameters
    ----------
    shape_px : tuple of int
        ``(H, W)`` of the network's grid.
    """
    return Pictures("phantom", partial(_calibration, shape_px))


def pictures_of(source: str, shape_px: tuple[int, int]) -> Pictures:
    """Give frames of a video, a folder or a glob, evenly taken, at most 200.

    Each is cropped to its scan area, as in the main job.

    Parameters
    ----------
    source : str
        See :func:`veintrack.tracker.sources.open_source`.
    shape_px : tuple of int
        ``(H, W)`` of the network's grid.

    Raises
    ------
    ValueError
        If the source is live.
    SourceNotFoundError, SourceUnreadableError
        If it cannot be opened.
    """
    from veintrack.tracker.sources import open_source

    with open_source(source) as opened:  # a wrong name is told at once
        if opened.info.live:
            raise ValueError(f"{source} is live: give a video, a folder or a glob of images")
    # Not by the source's name: files are called by patients, and this is logged and kept.
    return Pictures("your own", partial(_read, source, shape_px))


def still_pictures(shape_px: tuple[int, int], seeds: Sequence[int]) -> list[U8]:
    """Render random stills of the phantom, one for each seed, on the grid."""
    from veintrack.tracker.phantom import random_still

    sizes = (still_shape_px(np.random.default_rng(seed), max(shape_px)) for seed in seeds)
    return [
        lay(random_still(seed, *size)[0], shape_px) for seed, size in zip(seeds, sizes, strict=True)
    ]


def lay(pixels: U8, shape_px: tuple[int, int], region: Region | None = None) -> U8:
    """Lay a frame, or a region of it, on a network's grid: ``(1, 1, H, W)``."""
    grey = np.zeros((1, 1, *shape_px), np.uint8)
    grid = fit((pixels.shape[0], pixels.shape[1]), shape_px, region)
    image_to_grid(pixels, grid, grey[0, 0])
    return grey


def still_shape_px(rng: np.random.Generator, size_px: int) -> tuple[int, int]:
    """Draw the size of a still: one to two times the grid's, about square or wide, seldom tall.

    So its speckle is as fine, and its margins are as wide, as those of real frames may be.
    """
    width_px = rng.uniform(1, 2) * size_px
    height_px = width_px * (rng.uniform(0.6, 1.05) if rng.random() < 0.85 else rng.uniform(1, 1.6))
    return max(_SMALLEST_PX, round(height_px)), max(_SMALLEST_PX, round(width_px))


@lru_cache(maxsize=2)  # engines are judged one after the other
def _judging(shape_px: tuple[int, int]) -> tuple[U8, ...]:
    return (*still_pictures(shape_px, range(12)), *_demos(shape_px, (0,) * 4))


def _calibration(shape_px: tuple[int, int]) -> list[U8]:
    return [*still_pictures(shape_px, range(1000, 1040)), *_demos(shape_px, range(1, 21))]


def _demos(shape_px: tuple[int, int], seeds: Sequence[int]) -> list[U8]:
    """Render frames like the demo's, one for each seed, a second of it apart."""
    from veintrack.tracker.phantom import Phantom, demo_settings

    return [
        lay(Phantom(demo_settings(seed)).render(30 * number % 300).pixels, shape_px)
        for number, seed in enumerate(seeds, 1)
    ]


def _read(source: str, shape_px: tuple[int, int]) -> list[U8]:
    from veintrack.tracker.sources import open_source

    with open_source(source) as opened:
        every = math.ceil((opened.info.frame_count or _MOST) / _MOST)
        taken = islice(opened, 0, every * _MOST, every)
        return [lay(frame.pixels, shape_px, find_scan_area(frame.pixels)) for frame in taken]
