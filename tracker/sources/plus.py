"""What PLUS writes into the header of a sequence: times, validity, orientation, scale.

The names of the fields and the meaning of the codes are those of the PLUS toolkit
(``igsioVideoFrame.h``, ``vtkIGSIOSequenceIOBase``, ``vtkIGSIONrrdSequenceIO`` and its user manual).
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import Spacing
from veintrack.tracker.sources.metafile import numbers
from veintrack.tracker.sources.scale import is_plausible

__all__ = [
    "NRRD_NAMES",
    "image_scale",
    "invalid_frames",
    "is_transposed",
    "is_turnable",
    "median_period_ns",
    "stamps_ns",
    "times_ns",
    "to_mf",
]

#: What PLUS calls two fields in an NRRD file, and in all others.
NRRD_NAMES = {
    "ultrasound image orientation": "UltrasoundImageOrientation",
    "ultrasound image type": "UltrasoundImageType",
}
_FRAME_FIELD = re.compile(r"Seq_Frame(\d{1,9})_(\w+)")
_ORIENTATION = re.compile(r"([MU][FN]|[FN][MU])[AD]?")
_LONGEST_S = 10**11
_SQUARE = 0.01  # cosine between two axes that are at right angles


def _by_frame(fields: Mapping[str, str], wanted: str) -> dict[int, str]:
    """Collect one field of all frames, by the frame's number."""
    found = ((_FRAME_FIELD.fullmatch(name), value) for name, value in fields.items())
    return {int(m[1]): value for m, value in found if m and m[2] == wanted}


def stamps_ns(fields: Mapping[str, str]) -> dict[int, int]:
    """Read the frames' times, ``Timestamp`` in seconds, in its absence the unfiltered one."""
    texts = _by_frame(fields, "UnfilteredTimestamp") | _by_frame(fields, "Timestamp")
    read = {}
    for frame, text in texts.items():
        try:
            seconds = Decimal(text)
        except InvalidOperation:
            continue
        if seconds.is_finite() and -_LONGEST_S < seconds < _LONGEST_S:
            read[frame] = round(seconds * 10**9)
    return read


def invalid_frames(fields: Mapping[str, str]) -> frozenset[int]:
    """Find the frames whose picture has a status other than ``OK``; NRRD files say ``Status``."""
    statuses = _by_frame(fields, "Status") | _by_frame(fields, "ImageStatus")
    return frozenset(frame for frame, status in statuses.items() if status.upper() != "OK")


def median_period_ns(stamps: Mapping[int, int]) -> int | None:
    """Compute the usual time between two frames; None where the stamps do not tell."""
    frames = sorted(stamps)
    steps = [
        (stamps[b] - stamps[a]) / (b - a) for a, b in pairwise(frames) if stamps[b] > stamps[a]
    ]
    return round(median(steps)) if steps else None


def times_ns(stamps: Mapping[int, int], frames: Iterable[int], period_ns: int) -> Iterator[int]:
    """Yield the times of `frames` since the first of them, strictly increasing.

    A frame without a stamp comes its number of periods after the one before; one that is stamped
    no later than the one before, a nanosecond after it.
    """
    zero_ns = last_ns = last = None
    for frame in frames:
        due_ns = 0 if last_ns is None or last is None else last_ns + (frame - last) * period_ns
        stamp = stamps.get(frame)
        if stamp is not None and zero_ns is None:
            zero_ns = stamp - due_ns
        now_ns = due_ns if stamp is None or zero_ns is None else stamp - zero_ns
        if last_ns is not None:
            now_ns = max(now_ns, last_ns + 1)
        last, last_ns = frame, now_ns
        yield now_ns


def is_turnable(code: str) -> bool:
    """Tell whether `code` says how a picture lies in its plane."""
    return _ORIENTATION.fullmatch(code) is not None


def is_transposed(code: str) -> bool:
    """Tell whether depth runs along the stored rows."""
    return code[0] in "FN"


def to_mf(picture: NDArray[Any], code: str) -> NDArray[Any]:
    """Turn a picture so that x points to the marked side of the probe and y away from it.

    The first letter of the code is the direction of the stored x axis, the second that of y:
    marked, unmarked, far, near. A third one is about the axis across the plane.

    Parameters
    ----------
    picture : ndarray of shape (H, W) or (H, W, C)
        As it is stored.
    code : str
        One for which :func:`is_turnable` holds.

    Returns
    -------
    ndarray
        A view.
    """
    if is_transposed(code):
        picture = np.swapaxes(picture, 0, 1)
    rows = -1 if "N" in code[:2] else 1
    columns = -1 if "U" in code[:2] else 1
    return picture[::rows, ::columns]


def image_scale(fields: Mapping[str, str]) -> tuple[Spacing, str] | None:
    """Find the scale of the pictures in a transform from them to something in millimetres.

    Taken are ``ImageTo...Transform`` of the whole sequence and then those of its first frames,
    if valid. The lengths of the first two columns are the millimetres per pixel along x and y;
    columns that are not at right angles say that it is no rotation with a scale.

    Returns
    -------
    tuple or None
        ``(row_mm, col_mm)`` as stored, and the name of the transform.
    """
    named = re.compile(r"(?:Seq_Frame\d+_)?(ImageTo\w+Transform)")
    for name in sorted(fields, key=lambda name: (name.startswith("Seq_"), name)):
        found = named.fullmatch(name)
        if not found or fields.get(f"{name}Status", "OK") != "OK":
            continue
        spacing = _scale(fields[name])
        if spacing is not None:
            return spacing, found[1]
    return None


def _scale(text: str) -> Spacing | None:
    try:
        values = numbers(text)
    except ValueError:
        return None
    if len(values) != 16:
        return None
    matrix = np.reshape(values, (4, 4))[:3, :2]
    x_mm, y_mm = (math.hypot(*column) for column in matrix.T)
    if not is_plausible((y_mm, x_mm)) or x_mm == y_mm == 1:
        return None
    if abs(float(matrix[:, 0] @ matrix[:, 1])) > _SQUARE * x_mm * y_mm:
        return None
    return y_mm, x_mm
