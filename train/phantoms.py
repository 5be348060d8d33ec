"""Synthetic frames for training, rendered in threads between epochs.

Rendering is NumPy and OpenCV, which let other threads run; a frame costs about a tenth of what
training on it on the same CPU costs, and a set serves several epochs.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from veintrack.tracker.frame import U8
from veintrack.tracker.typical import still_shape_px
from veintrack.train.data import Frames, lay_on_grid

__all__ = ["render_frames"]


def render_frames(seeds: Sequence[int], size_px: int, workers: int = 1, classes: int = 1) -> Frames:
    """Render one phantom frame for each seed; the same seeds, the same frames.

    A frame is rendered at one to two times the grid's size and laid on the grid as real ones are.

    Parameters
    ----------
    seeds : sequence of int
        One for each frame, not negative.
    size_px : int
        Height and width of the grid.
    workers : int
        Threads.
    classes : int
        Channels of the masks. The phantom's vessels are the first class; it knows no other.
    """
    images = np.zeros((len(seeds), 1, size_px, size_px), np.uint8)
    masks = np.zeros((len(seeds), classes, size_px, size_px), np.uint8)
    unknown = np.zeros_like(masks)
    unknown[:, 1:] = 255
    with ThreadPoolExecutor(workers) as threads:
        rendered = threads.map(partial(_render, size_px=size_px), seeds)
        for i, (image, mask) in enumerate(rendered):
            images[i, 0], masks[i, :1] = image, mask
    return Frames(images, masks, unknown)


def _render(seed: int, size_px: int) -> tuple[U8, U8]:
    from veintrack.tracker.phantom import random_still

    pixels, mask = random_still(seed, *still_shape_px(np.random.default_rng(seed), size_px))
    return lay_on_grid(pixels, [mask], size_px)
