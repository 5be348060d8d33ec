"""Synthetic frames for training, rendered in threads between epochs.

Rendering is NumPy and OpenCV, which let other threads run; a frame costs about a tenth of what
training on it on the same CPU costs, and a set serves several epochs.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from veintrack.tracker.frame import U8
from veintrack.train.data import Frames, lay_on_grid

__all__ = ["render_frames"]


def render_frames(seeds: Sequence[int], size_px: int, workers: int = 1) -> Frames:
    """Render one phantom frame for each seed; the same seeds, the same frames.

    A frame is rendered at one to two times the grid's size and laid on the grid as real ones are,
    so that its speckle is as fine, and its margins are as wide, as theirs may be.

    Parameters
    ----------
    seeds : sequence of int
        One for each frame, not negative.
    size_px : int
        Height and width of the grid.
    workers : int
        Threads.
    """
    if not seeds:
        empty = np.zeros((0, 1, size_px, size_px), np.uint8)
        return Frames(empty, empty)
    with ThreadPoolExecutor(workers) as threads:
        images, masks = zip(*threads.map(partial(_render, size_px=size_px), seeds), strict=True)
    return Frames(np.stack(images)[:, None], np.stack(masks))


def _render(seed: int, size_px: int) -> tuple[U8, U8]:
    from veintrack.tracker.phantom import random_still

    height_px, width_px = np.random.default_rng(seed).integers(size_px, 2 * size_px, 2)
    pixels, mask = random_still(seed, int(height_px), int(width_px))
    return lay_on_grid(pixels, [mask], size_px)
