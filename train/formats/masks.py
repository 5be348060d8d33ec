"""Labels kept as pictures: one number or one colour a pixel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import U8
from veintrack.tracker.naturalorder import natural_key
from veintrack.train.formats.base import Area, Labels, show_some
from veintrack.train.formats.pictures import open_picture

__all__ = ["BLACK", "MaskTruth", "is_binary"]

#: What background is called where nothing else is said.
BLACK = frozenset({"0", "#000000"})

_MOST_LABELS = 64
"""A mask with more different values is a grey picture, or was smeared by compression."""


@dataclass(frozen=True, slots=True)
class MaskTruth:
    """A picture whose pixels are labels.

    Attributes
    ----------
    path : Path
        The mask.
    binary : bool
        All masks of the data hold nothing but 0 and 255, so that 255 is called 1 as well.
    background : frozenset of str
        The numbers and colours that mean that nothing is labelled.
    ignored : frozenset of str
        Those of which the data says that nothing is known.
    known : frozenset of str or None
        All that may occur; None where the data does not say.
    """

    path: Path
    binary: bool = False
    background: frozenset[str] = BLACK
    ignored: frozenset[str] = frozenset()
    known: frozenset[str] | None = None

    def read(self, shape_px: tuple[int, int]) -> Labels:
        codes, names = _read_codes(self.path)
        if codes.shape != shape_px:
            raise SourceUnreadableError(
                f"{self.path} is {codes.shape[1]}x{codes.shape[0]}, "
                f"but its image is {shape_px[1]}x{shape_px[0]}"
            )
        if self.known is not None:
            self._check_known(names, self.known)
        areas: list[Area] = []
        unknown: U8 | None = None
        for code, called in names.items():
            if self.background.intersection(called):
                continue
            mask = (codes == code).view(np.uint8)
            if self.ignored.intersection(called):
                unknown = mask if unknown is None else unknown | mask
            else:
                areas.append(Area(("1", *called) if self.binary else called, mask))
        return Labels(tuple(areas), unknown)

    def _check_known(self, names: Mapping[int, tuple[str, ...]], known: frozenset[str]) -> None:
        strange = [called[0] for called in names.values() if known.isdisjoint(called)]
        if strange:
            raise SourceUnreadableError(
                f"{self.path} holds {show_some(strange)}, which no class of the data stands for: "
                f"expected {show_some(sorted(known, key=natural_key))}"
            )


def is_binary(paths: list[Path]) -> bool:
    """Tell whether the masks hold nothing but 0 and 255; reads on only while they do."""
    shows = False
    for path in paths:
        try:
            _, names = _read_codes(path)
        except SourceUnreadableError:
            continue  # said when the frame is read
        values = {called[0] for called in names.values()}
        if not values <= {"0", "255"}:
            return False
        shows |= "255" in values
    return shows


def _read_codes(path: Path) -> tuple[NDArray[Any], dict[int, tuple[str, ...]]]:
    """Read a mask, shape (H, W), and what the data calls each value that occurs in it."""
    picture = open_picture(path)
    if picture.format in ("JPEG", "MPO"):
        raise SourceUnreadableError(
            f"{path} is a JPEG, which smears labels at their edges: save masks as PNG"
        )
    codes, call = _codes(path, picture)
    present = _values(codes)
    if len(present) > _MOST_LABELS:
        raise SourceUnreadableError(
            f"{path} holds {len(present)} different values, which is no label mask: expected a "
            "few numbers or colours, with sharp edges"
        )
    names = {int(value): call(int(value)) for value in present}
    return codes, names if picture.mode != "P" else _without_padding(path, names, call(0))


def _values(codes: NDArray[Any]) -> NDArray[Any]:
    if codes.dtype != np.uint8:
        return np.unique(codes)
    # Counting is many times faster than sorting.
    return np.flatnonzero(cv2.calcHist([codes], [0], None, [256], [0, 256]))


def _codes(
    path: Path, picture: Image.Image
) -> tuple[NDArray[Any], Callable[[int], tuple[str, ...]]]:
    """Return the pixels as numbers, and a function that names a number."""
    mode = picture.mode
    if mode == "P":
        palette = bytes(picture.getpalette("RGB") or b"")
        return np.asarray(picture), lambda v: (str(v), f"#{palette[3 * v : 3 * v + 3].hex():0<6}")
    if mode == "1":
        return np.asarray(picture.convert("L")), lambda v: (str(v),)
    if mode == "L" or mode.startswith("I"):
        return np.asarray(picture), lambda v: (str(v),)
    if mode in ("LA", "RGB", "RGBA"):
        return _colours(picture)
    raise SourceUnreadableError(
        f"{path} is no label mask: expected numbers or colours, got pixels of type {mode}"
    )


def _colours(picture: Image.Image) -> tuple[NDArray[Any], Callable[[int], tuple[str, ...]]]:
    """Turn colours into numbers; where all are grey, the grey level is a label's number too."""
    rgba = np.asarray(picture.convert("RGBA"))
    rgb = rgba[..., :3] * (rgba[..., 3:] > 0)  # what nobody sees is not labelled
    red, green, blue = (rgb[..., i] for i in range(3))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return red, lambda v: (str(v), f"#{v:02x}{v:02x}{v:02x}")
    return (rgb.astype(np.int32) @ (1 << 16, 1 << 8, 1)), lambda v: (f"#{v:06x}",)


def _without_padding(
    path: Path, names: dict[int, tuple[str, ...]], zero: tuple[str, ...]
) -> dict[int, tuple[str, ...]]:
    """Keep a palette's black for background: other black entries are numbers without a colour."""
    black = [value for value, called in names.items() if value and "#000000" in called]
    if "#000000" in zero:
        return names | {value: (str(value),) for value in black}
    if black and 0 in names:
        raise SourceUnreadableError(
            f"{path}: number 0 is {zero[1]} and number {black[0]} is black, so background "
            "cannot be told: save the mask as plain numbers, 0 for background"
        )
    return names
