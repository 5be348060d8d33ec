"""Levels as medical formats store them, made ready for :mod:`veintrack.tracker.sources.grey`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["READ_TYPES", "ready"]

#: Types of levels that have a range: a picture of real numbers does not say what is white.
READ_TYPES = (np.uint8, np.uint16, np.int16)


def ready(picture: NDArray[Any]) -> NDArray[Any]:
    """Put colour into the order blue, green, red, and signed levels into unsigned ones.

    Parameters
    ----------
    picture : ndarray of shape (H, W) or (H, W, C)
        One of `READ_TYPES`; colour in the order red, green, blue, alpha. What is below 0 counts
        as 0.

    Raises
    ------
    ValueError
        If the type is another.
    """
    if picture.dtype not in READ_TYPES:
        raise ValueError(
            f"its levels are of {picture.dtype}, whose range is not known; "
            "8 or 16 bits an integer are read"
        )
    if picture.dtype == np.int16:
        picture = np.maximum(picture, 0).astype(np.uint16)
    if picture.ndim == 3 and picture.shape[2] >= 3:
        picture = np.concatenate((picture[..., 2::-1], picture[..., 3:]), axis=2)
    return picture
