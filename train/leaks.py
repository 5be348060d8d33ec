"""Frames so alike that one in training and one in the test would make the test a memory game.

Re-exports and neighbours of one recording keep their texture under another size, gain or margin.
So each frame's scan area is shrunk to a thumbnail, slow changes of brightness are taken out, and
thumbnails are compared by normalised cross-correlation (Lewis, "Fast Normalized
Cross-Correlation", Vision Interface 1995, equation 1, at zero shift).
"""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from veintrack.tracker.frame import F32, U8
from veintrack.tracker.scanarea import find_scan_area
from veintrack.train.splits import Split

__all__ = ["LEAST_CORRELATION", "check_split", "group_duplicates", "near_duplicates", "thumbnail"]

LEAST_CORRELATION = 0.65
"""Found by measurement: of 34 clusters of near duplicates among 200 real frames, listed by eye, it
finds all, and no pair beside them; at 0.7 one is missed, at 0.6 one is added. On grids of 128 to
512 px it is the same; at 64 px too little is left, so thumbnails are made of whole frames."""
_SIDE_PX = 32
_BLOCK = 1024


def near_duplicates(
    thumbnails: F32, least: float = LEAST_CORRELATION
) -> list[tuple[int, int, float]]:
    """Find the pairs of frames that are nearly the same picture.

    Parameters
    ----------
    thumbnails : ndarray of shape (N, K), float32
        One of each frame, from `thumbnail`.
    least : float
        Smallest correlation of a pair, up to 1.

    Returns
    -------
    list of (int, int, float)
        Both indices, the smaller first, and the correlation; the most alike pair first.
    """
    pairs: list[tuple[int, int, float]] = []
    for start in range(0, len(thumbnails), _BLOCK):  # all at once would take gigabytes
        alike = np.triu(thumbnails[start : start + _BLOCK] @ thumbnails[start:].T, 1)
        first, second = np.nonzero(alike >= least)
        correlations = alike[first, second].tolist()
        first, second = first + start, second + start
        pairs += zip(first.tolist(), second.tolist(), correlations, strict=True)
    return sorted(pairs, key=lambda p: -p[2])


def thumbnail(pixels: U8) -> F32:
    """Shrink a frame's scan area to a vector of mean 0 and length 1; of zeros where nothing shows.

    Parameters
    ----------
    pixels : ndarray of shape (H, W), uint8
        The frame.

    Returns
    -------
    ndarray of shape (1024,), float32
        32 x 32 pixels, row by row.
    """
    x, y, width, height = find_scan_area(pixels)
    small = cv2.resize(
        pixels[y : y + height, x : x + width],
        (_SIDE_PX, _SIDE_PX),
        interpolation=cv2.INTER_AREA,
    ).astype(np.float32)
    texture = (small - cv2.GaussianBlur(small, (0, 0), _SIDE_PX / 8)).ravel()
    texture -= texture.mean()
    length = float(np.linalg.norm(texture))
    vector: F32 = texture / length if length > 1e-3 else np.zeros_like(texture)
    return vector


def group_duplicates(names: Sequence[str], thumbnails: F32) -> list[str]:
    """Say which group each frame belongs to, near duplicates together; the others stand alone.

    Parameters
    ----------
    names : sequence of str
        The frames' names.
    thumbnails : ndarray of shape (N, K), float32
        One of each frame, from `thumbnail`.
    """
    first, second = (
        np.array([pair[:2] for pair in near_duplicates(thumbnails)], np.int64).reshape(-1, 2).T
    )
    count = len(names)
    links = coo_array((np.ones(len(first), np.int8), (first, second)), (count, count))
    _, component_of = connected_components(links, directed=False)
    sizes = np.bincount(component_of, minlength=1)
    # Clusters are numbered by their first frames.
    numbers = {
        int(c): str(i) for i, c in enumerate(dict.fromkeys(component_of[sizes[component_of] > 1]))
    }
    return [
        f"cluster {numbers[int(c)]}" if int(c) in numbers else name
        for name, c in zip(names, component_of, strict=True)
    ]


def check_split(names: Sequence[str], thumbnails: F32, split: Split) -> None:
    """Check that no near duplicates lie in different parts of a split.

    Parameters
    ----------
    names : sequence of str
        The frames' names.
    thumbnails : ndarray of shape (N, K), float32
        One of each frame, from `thumbnail`.
    split : Split
        Which frame is used for what.

    Raises
    ------
    ValueError
        If some do; the message names the most alike pair and the way out.
    """
    part_of = {i: p for p in ("train", "val", "test") for i in getattr(split, p)}
    across = [(a, b, c) for a, b, c in near_duplicates(thumbnails) if part_of[a] != part_of[b]]
    if across:
        a, b, correlation = across[0]
        raise ValueError(
            f"{len(across)} pairs of near duplicates lie in different parts of the split, first "
            f"{names[a]} ({part_of[a]}) and {names[b]} ({part_of[b]}), correlation "
            f"{correlation:.2f}: name what belongs together with --groups, or add --allow-leaks"
        )
