"""Where the ultrasound is in a DICOM picture, and how large its pixels are."""

from dataclasses import dataclass

from pydicom.dataset import Dataset

from veintrack.tracker.frame import Region, Spacing
from veintrack.tracker.sources.dicom_file import items, numbers
from veintrack.tracker.sources.scale import is_plausible

__all__ = ["Geometry", "read_geometry"]

_TWO_D = 1  # Region Spatial Format, PS3.3 section C.8.5.5.1
_TISSUE, _COLOUR_FLOW = 1, 2  # Region Data Type
_CENTIMETRES = 3  # Physical Units X and Y Direction
_SLACK_PX = 2  # some scanners count the last column or row from 1
_SMALLEST_PX = 8  # either side of a region; less is damage
_OUTSIDE = (
    "the file's ultrasound regions reach beyond its pictures, which were cut or scaled since: "
    "scan area and spacing are not taken from it"
)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the ultrasound is and how large its pixels are, as far as the file says.

    Attributes
    ----------
    scan_area_px : tuple of int or None
        ``(x, y, width, height)``.
    spacing_mm : tuple of float or None
        ``(row_mm, col_mm)``.
    notes : tuple of str
        What was chosen, and from what.
    """

    scan_area_px: Region | None
    spacing_mm: Spacing | None
    notes: tuple[str, ...]


def read_geometry(dataset: Dataset, shape_px: tuple[int, int]) -> Geometry:
    """Choose the largest two-dimensional region of tissue, and its calibration.

    Sequence of Ultrasound Regions, PS3.3 section C.8.5.5. Where no such region is calibrated in
    centimetres, the spacing of the whole picture is taken if the file gives one (PS3.3 sections
    10.7.1.1 and C.7.6.16.2.1). Regions that do not fit the picture mean that it was cut or scaled
    after the header was written: then no spacing of that header is believed.

    Parameters
    ----------
    dataset : Dataset
        The file's header.
    shape_px : tuple of int
        ``(H, W)`` of its frames.
    """
    listed = items(dataset, "SequenceOfUltrasoundRegions")
    placed = [(_corners(region), region) for region in listed if _is_flat(region)]
    if any(corners is None or _beyond(corners, shape_px) for corners, _ in placed):
        # A note and no spacing: the wrong one of a picture that was scaled looks as good.
        return Geometry(None, None, (_OUTSIDE,))
    areas = [(_area(corners, shape_px), region) for corners, region in placed if corners]
    for kind, words in ((_TISSUE, "of tissue"), (_COLOUR_FLOW, "of colour flow")):
        candidates = [
            (area, region) for area, region in areas
            if _number(region, "RegionDataType") == kind and min(area[2:]) >= _SMALLEST_PX
        ]  # fmt: skip
        if candidates:
            area, chosen = max(candidates, key=lambda pair: pair[0][2] * pair[0][3])
            return _calibrated(dataset, chosen, area, f"{words}, of {len(listed)}")
    spacing_mm, notes = _whole_picture(dataset)
    if listed:
        notes = ("no ultrasound region shows tissue in two dimensions", *notes)
    return Geometry(None, spacing_mm, notes)


def _calibrated(dataset: Dataset, chosen: Dataset, area: Region, which: str) -> Geometry:
    x, y, width, height = area
    note = f"scan area: the largest ultrasound region {which}, {width}x{height} px at {x},{y}"
    spacing_mm = _calibration(chosen)
    if spacing_mm is not None:
        return Geometry(area, spacing_mm, (note, "spacing from that region"))
    spacing_mm, words = _whole_picture(dataset)
    return Geometry(area, spacing_mm, (note, "it is not calibrated in centimetres", *words))


def _number(dataset: Dataset, keyword: str) -> float | None:
    found = numbers(dataset, keyword)
    return found[0] if found else None


def _is_flat(region: Dataset) -> bool:
    return _number(region, "RegionSpatialFormat") == _TWO_D


def _corners(region: Dataset) -> Region | None:
    """Give first and last column and row of a region, ``(x0, y0, x1, y1)``; None for damage."""
    names = ("MinX0", "MinY0", "MaxX1", "MaxY1")
    found = [_number(region, f"RegionLocation{name}") for name in names]
    x0, y0, x1, y1 = (-1 if corner is None else int(corner) for corner in found)
    return (x0, y0, x1, y1) if 0 <= x0 < x1 and 0 <= y0 < y1 else None


def _beyond(corners: Region, shape_px: tuple[int, int]) -> bool:
    return corners[2] >= shape_px[1] + _SLACK_PX or corners[3] >= shape_px[0] + _SLACK_PX


def _area(corners: Region, shape_px: tuple[int, int]) -> Region:
    """Clip a region to the picture; its last column and row belong to it."""
    x0, y0, x1, y1 = corners
    return x0, y0, min(x1 + 1, shape_px[1]) - x0, min(y1 + 1, shape_px[0]) - y0


def _calibration(region: Dataset) -> Spacing | None:
    """Give a region's spacing; the sign of a Physical Delta is the direction of its axis."""
    axes = []
    for axis in "YX":
        delta_cm = _number(region, f"PhysicalDelta{axis}")
        units = _number(region, f"PhysicalUnits{axis}Direction")
        if units != _CENTIMETRES or delta_cm is None:
            return None
        axes.append(abs(delta_cm) * 10)
    return _plausible(tuple(axes))


def _plausible(values_mm: tuple[float, ...]) -> Spacing | None:
    if len(values_mm) != 2:
        return None
    spacing_mm = values_mm[0], values_mm[1]
    return spacing_mm if is_plausible(spacing_mm) else None


def _whole_picture(dataset: Dataset) -> tuple[Spacing | None, tuple[str, ...]]:
    """Find a spacing of the whole picture: row, then column, in mm."""
    shared = items(dataset, "SharedFunctionalGroupsSequence")
    measures = [items(group, "PixelMeasuresSequence") for group in shared[:1]]
    for holder in (dataset, *(m[0] for m in measures if m)):
        for keyword, words in (
            ("PixelSpacing", "Pixel Spacing"),
            ("NominalScannedPixelSpacing", "Nominal Scanned Pixel Spacing"),
            ("ImagerPixelSpacing", "Imager Pixel Spacing"),
        ):
            spacing_mm = _plausible(numbers(holder, keyword))
            if spacing_mm is not None:
                return spacing_mm, (f"spacing from the file's {words}",)
    return None, ()
