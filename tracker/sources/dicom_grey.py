"""Stored samples of a DICOM file to 8-bit grey, the same way for all of its frames."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi,
    apply_windowing,
)

from veintrack.tracker.frame import U8
from veintrack.tracker.sources.dicom_file import items, name_of, numbers, quiet
from veintrack.tracker.sources.dicom_pixels import Decoded, Layout
from veintrack.tracker.sources.grey import FULL_RANGE, choose_shift, to_grey

__all__ = ["Grey", "read_grey"]


@dataclass(frozen=True, slots=True, eq=False)
class Grey:
    """How stored samples become grey levels; chosen on the first frame, kept for all.

    Attributes
    ----------
    notes : tuple of str
        What is done, in words.
    table : ndarray of shape (N,), uint8, or None
        Grey level of each stored value, from `lowest` on.
    lowest : int
        The lowest value that can be stored.
    shift : int
        For samples of 16 bits without a table: bits that are dropped.
    inverted : bool
        Whether the lowest value is white (MONOCHROME1).
    """

    notes: tuple[str, ...]
    table: U8 | None = None
    lowest: int = 0
    shift: int = 8
    inverted: bool = False

    def __call__(self, decoded: Decoded) -> U8:
        """Convert one frame to (H, W) uint8."""
        samples = _native(decoded.samples)
        if self.table is not None:
            grey: U8 = self.table.take(samples.astype(np.int32) - self.lowest, mode="clip")
        elif decoded.photometric == "RGB":
            grey = to_grey(np.ascontiguousarray(samples[..., ::-1]), self.shift)
        else:
            luma = samples[..., 0] if samples.ndim == 3 else samples
            grey = to_grey(luma, self.shift)
            if decoded.photometric.startswith("YBR_PARTIAL"):
                grey = FULL_RANGE[grey]
        return np.ascontiguousarray(255 - grey if self.inverted else grey)


def _native(samples: NDArray[Any]) -> NDArray[Any]:
    """Bring samples into the byte order of the machine."""
    return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def read_grey(dataset: Dataset, layout: Layout, first: Decoded) -> Grey:
    """Choose how samples become grey levels, from the header and the first frame.

    Grey: the Modality LUT or rescaling, then the VOI LUT or the first window (PS3.3 sections
    C.11.1 and C.11.2), where there is one; otherwise all of the range that is in use. Palette:
    the luma of its colours. Colour: luma, taken where it is stored, computed from RGB.

    Raises
    ------
    ValueError
        If the palette is missing or damaged; the message says so.
    """
    inverted = layout.photometric == "MONOCHROME1"
    low = -(1 << layout.stored - 1) if layout.signed else 0
    values = np.arange(low, low + (1 << layout.stored), dtype=np.int32)
    notes = [f"stored as {layout.photometric}, {layout.stored} bits, {name_of(layout.syntax)}"]
    if layout.samples > 1:
        words = "luma computed (BT.601)" if first.photometric == "RGB" else "luma taken"
        notes.append(f"colour pictures: {words}")
        return Grey(tuple(notes), shift=choose_shift(_native(first.samples)))
    try:
        with quiet():
            if layout.photometric == "PALETTE COLOR":
                words = "palette colours: luma computed (BT.601)"
                table: U8 | None = _palette(dataset, values)
            else:
                table, words = _presented(dataset, values)
    except Exception:
        if layout.photometric == "PALETTE COLOR":
            raise ValueError("its palette is missing or damaged") from None
        table, words = None, "its grey scale tables are damaged and ignored"
    if words:
        notes.append(words)
    if table is None and (layout.signed or layout.stored < 8):
        table, words = _spread(values, first.samples)
        notes.append(words)
    if inverted:
        notes.append("inverted: low values are white")
    shift = 8
    if table is None and layout.allocated == 16:
        shift = choose_shift(_native(first.samples))
        notes.append(f"16-bit grey: {shift + 8} bits in use, scaled by 1/{1 << shift}")
    return Grey(tuple(notes), table, low, shift, inverted)


def _scaled(values: NDArray[Any], darkest: float, brightest: float) -> U8:
    scaled = (values - darkest) * (255 / (brightest - darkest))
    grey: U8 = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return grey


def _spread(values: NDArray[Any], first: NDArray[Any]) -> tuple[U8, str]:
    """Give grey levels over the smallest depth that holds the first frame, like `choose_shift`.

    Negative values are black where the first frame has none.
    """
    sizes = np.abs(first.astype(np.int32)).astype(np.uint16)
    top = min(int(values[-1]), (256 << choose_shift(sizes)) - 1)
    low = -top - 1 if first.min() < 0 else 0
    return _scaled(values, low, top), f"values of {low} to {top} shown"


def _palette(dataset: Dataset, values: NDArray[Any]) -> U8:
    """Give the luma of each value's colour; tables of 16 bits keep their high byte."""
    colours = apply_color_lut(values.astype(np.uint16), dataset)
    if colours.dtype == np.uint16 and colours.max() > 255:  # or 8 bits, declared as 16
        colours >>= 8
    bgr = colours[None, :, 2::-1].astype(np.uint8)
    grey: U8 = to_grey(np.ascontiguousarray(bgr), 8)[0]
    return grey


def _presented(dataset: Dataset, values: NDArray[Any]) -> tuple[U8 | None, str]:
    """Give the grey level of each stored value where the file says it; None where it does not."""
    # Rescaling alone changes nothing in a picture, unless it turns it into its negative.
    negative = any(slope < 0 for slope in numbers(dataset, "RescaleSlope"))
    modality = items(dataset, "ModalityLUTSequence")
    voi = items(dataset, "VOILUTSequence")
    window = numbers(dataset, "WindowWidth")
    if not (negative or modality or voi or window):
        return None, ""
    measured = apply_modality_lut(values, dataset)
    if voi:
        return _scaled(apply_voi(measured, dataset), 0, _top(voi[0])), "the file's VOI LUT applied"
    ends = (0.0, _top(modality[0])) if modality else (float(measured[0]), float(measured[-1]))
    if window:
        words = f"the file's window applied, {window[0]:g} wide"
        return _scaled(apply_windowing(measured, dataset), *ends), words
    return _scaled(measured, min(ends), max(ends)), "the file's modality LUT applied"


def _top(table: Dataset) -> float:
    """Give the highest output of a lookup table, from the bits in its descriptor."""
    return float((1 << int(numbers(table, "LUTDescriptor")[2])) - 1)
