"""Any still picture to 8-bit grey, the same way for a whole run."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import U8

__all__ = ["FULL_RANGE", "choose_shift", "describe", "to_grey"]

_DEPTHS = (8, 10, 12, 14, 16)

#: Limited-range luma (16 to 235, ITU-R BT.601-7 section 2.5.3) to 0 to 255, as a table.
FULL_RANGE: U8 = np.clip(np.rint((np.arange(256) - 16.0) * (255 / 219)), 0, 255).astype(np.uint8)


def choose_shift(picture: NDArray[Any]) -> int:
    """Choose how far 16-bit grey levels are shifted down; done once, on a run's first picture.

    Containers of 16 bits hold 8 to 16 bits of signal and do not say how many. The smallest usual
    depth that holds the first picture's maximum is taken, and kept: a shift that followed each
    picture would make the brightness jump.

    Returns
    -------
    int
        0 to 8; 8 for an 8-bit picture, so that a 16-bit one after it is taken at full scale.
    """
    if picture.dtype != np.uint16:
        return 8
    bits = max(8, int(picture.max()).bit_length())
    return next(depth for depth in _DEPTHS if depth >= bits) - 8


def to_grey(picture: NDArray[Any], shift: int) -> U8:
    """Convert a picture to grey levels.

    Colour becomes luma, ``0.299 R + 0.587 G + 0.114 B`` (ITU-R BT.601-7 section 2.5.1), which
    leaves equal channels as they are; alpha is dropped. 16-bit levels are shifted down and
    saturate.

    Parameters
    ----------
    picture : ndarray of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or uint16
        Channels in the order blue, green, red, alpha.
    shift : int
        What :func:`choose_shift` said of the first picture.

    Returns
    -------
    ndarray of shape (H, W), uint8
        C-contiguous; `picture` itself where there was nothing to do.

    Raises
    ------
    ValueError
        If the shape or type is another.
    """
    channels = picture.shape[2] if picture.ndim == 3 else 1
    if picture.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected grey levels of uint8 or uint16, got {picture.dtype}")
    if picture.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(f"expected a grey or colour picture, got shape {picture.shape}")
    if channels > 1:
        picture = cv2.cvtColor(
            picture, cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY
        )
    grey = np.ascontiguousarray(picture.reshape(picture.shape[:2]))
    if grey.dtype == np.uint16:
        grey = np.minimum(grey >> shift, 255).astype(np.uint8)
    return grey


def describe(picture: NDArray[Any], shift: int) -> tuple[str, ...]:
    """Say in words what :func:`to_grey` does to pictures like this one."""
    notes = []
    if picture.ndim == 3 and picture.shape[2] > 1:
        blue, green, red = (picture[..., i] for i in range(3))
        equal = np.array_equal(blue, green) and np.array_equal(green, red)
        notes.append(
            "grey stored as colour: one channel taken"
            if equal
            else "colour pictures: luma taken (BT.601)"
        )
        if picture.shape[2] == 4:
            notes.append("alpha dropped")
    if picture.dtype == np.uint16:
        notes.append(f"16-bit grey: {shift + 8} bits in use, scaled by 1/{1 << shift}")
    return tuple(notes)
