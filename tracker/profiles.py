"""Scanner profiles: what is always the same with one scanner, and whether a picture is from it.

A profile holds no pixel of a picture and no text of a screen; of the screen it keeps the coarse map
of :mod:`veintrack.tracker.furniture`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import U8, Region, Spacing
from veintrack.tracker.furniture import LEVELS, Furniture, agreement, furniture_of, map_shape
from veintrack.tracker.furniture import offset_px as furniture_offset_px
from veintrack.tracker.ruler import find_ruler
from veintrack.tracker.sources.v4l2_modes import parse_mode

__all__ = [
    "Orientation",
    "ScannerProfile",
    "check_name",
    "check_profile",
    "profile_options",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_ALIKE = 0.5  # agreement of two maps of one screen: texts come and go with the scanner's mode
_SLACK = 12  # levels of difference that say nothing yet: four full cells
_MOVED = 1 / 64  # of the longer side: a screen that is further away than this was moved
_CLEARER = 0.1  # by which agreement must be better there
_PITCH = 0.03  # by which the ruler's ticks may change


class Orientation(str, Enum):
    """Which flips bring a picture into the usual form: probe's marker left, depth downwards.

    It is kept with a run as information: pixels and coordinates stay those of the frame.
    """

    AS_IS = "as is"
    MIRRORED = "mirrored"
    UPSIDE_DOWN = "upside down"
    BOTH = "mirrored and upside down"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class ScannerProfile:
    """What is kept of a scanner.

    Attributes
    ----------
    name : str
        What it is called: letters, digits, blanks and ``._-``; the name of its file.
    frame_shape_px : tuple of int
        ``(H, W)`` of its pictures.
    crop_px : tuple of int or None
        ``(x, y, width, height)`` of the scan area; None to look for it each time.
    spacing_mm : tuple of float or None
        ``(row_mm, col_mm)``, millimetres per pixel; None for what the source says.
    orientation : Orientation
        How the picture lies.
    mode : str or None
        What the capture device is set to: ``WxH``, ``WxH@FPS`` or ``WxH@FPS:FOURCC``.
    source : str or None
        The device, by its identity (``/dev/v4l/by-id/...``).
    depth_mm : float or None
        Depth set on the scanner when `spacing_mm` was measured.
    tick_px : float or None
        Distance of the depth ruler's ticks at that time. When it differs, so does the spacing.
    signature : tuple of str
        The screen's furniture, by which a picture is known to fit; empty where nothing is compared.
        It holds no text, because a cell of many letters is two bits: see
        :mod:`veintrack.tracker.furniture`.

    Raises
    ------
    ValueError
        If a value cannot be; the message begins with its name.
    """

    name: str
    frame_shape_px: tuple[int, int]
    crop_px: Region | None = None
    spacing_mm: Spacing | None = None
    orientation: Orientation = Orientation.AS_IS
    mode: str | None = None
    source: str | None = None
    depth_mm: float | None = None
    tick_px: float | None = None
    signature: Furniture = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        height, width = self.frame_shape_px
        if height < 1 or width < 1:
            raise ValueError(f"frame_shape_px must be H, W above 0, got {self.frame_shape_px}")
        if self.crop_px is not None:
            x, y, w, h = self.crop_px
            if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
                raise ValueError(
                    f"crop_px must lie in the frame of {width}x{height} px, got {self.crop_px}"
                )
        lengths = {"depth_mm": self.depth_mm, "tick_px": self.tick_px}
        for name, value in (
            *lengths.items(),
            *(("spacing_mm", mm) for mm in self.spacing_mm or ()),
        ):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be greater than 0 and finite, got {value}")
        if self.mode is not None:
            parse_mode(self.mode)
        if self.signature:
            _check_signature(self.signature, self.frame_shape_px)


def check_name(name: str) -> None:
    """Refuse a name that could not be that of a file, with ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a profile's name must be up to 64 letters, digits, blanks and ._- after a letter or "
            f"digit, got {name!r}"
        )


def profile_options(
    profile: ScannerProfile, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Options of a run that a profile adds to those that are given, named as they are.

    Parameters
    ----------
    profile : ScannerProfile
        What to take them from.
    given : mapping, optional
        Options of the command line and of a configuration file, which win; None is not given. A
        depth wins over the profile's spacing, and with a source that is no capture device the
        profile's mode is left out.

    Returns
    -------
    dict
        Some of ``source``, ``crop``, ``spacing``, ``depth_mm`` and ``mode``; none that is given.
    """
    said = {name for name, value in (given or {}).items() if value is not None}
    source = str((given or {}).get("source") or profile.source or "")
    measures = not said & {"spacing", "depth_mm"}
    options = {
        "source": profile.source,
        "crop": profile.crop_px,
        "spacing": profile.spacing_mm if measures else None,
        "depth_mm": profile.depth_mm if measures and profile.spacing_mm is None else None,
        "mode": profile.mode if source.isdecimal() or source.startswith("/dev/") else None,
    }
    return {name: v for name, v in options.items() if v is not None and name not in said}


def check_profile(profile: ScannerProfile, pixels: U8, *, spacing_used: bool = True) -> None:
    """Refuse a picture that is not of the profile's screen.

    What is in the scan area does not matter, nor what texts say. Where the screen shows a depth
    ruler, its ticks must be as far apart as they were, or the profile's spacing would be wrong.

    Parameters
    ----------
    profile : ScannerProfile
        To be used with the picture.
    pixels : ndarray of shape (H, W), uint8
        A whole frame.
    spacing_used : bool
        False where the spacing is not the profile's: then the ruler is not looked at.

    Raises
    ------
    SourceUnreadableError
        If its size, its furniture or its ruler is another.
    """
    height, width = profile.frame_shape_px
    if pixels.shape != profile.frame_shape_px:
        raise SourceUnreadableError(
            f"profile {profile.name} is for {width}x{height} pictures, "
            f"the source delivers {pixels.shape[1]}x{pixels.shape[0]}"
        )
    if profile.crop_px is None:
        return
    if profile.signature:
        _check_furniture(profile, profile.crop_px, pixels)
    if profile.tick_px is None or profile.spacing_mm is None or not spacing_used:
        return
    ruler = find_ruler(pixels, profile.crop_px)
    if ruler is not None and abs(ruler.pitch_px / profile.tick_px - 1) > _PITCH:
        raise SourceUnreadableError(
            f"the ticks of the depth ruler are {ruler.pitch_px:.1f} px apart, in profile "
            f"{profile.name} {profile.tick_px:.1f} px: set the scanner's depth back"
            f"{f' to {profile.depth_mm:g} mm' if profile.depth_mm else ''}, or give the depth "
            "with --depth-mm"
        )


def _check_furniture(profile: ScannerProfile, crop_px: Region, pixels: U8) -> None:
    saved, seen = profile.signature, furniture_of(pixels, crop_px)
    share, apart = agreement(saved, seen)
    if apart <= _SLACK:
        return
    if not any(set(row) - {"0"} for row in seen):
        raise SourceUnreadableError(
            f"the screen is empty where profile {profile.name} has texts and marks: "
            "is the scanner on, and its picture arriving?"
        )
    x_px, y_px, moved_share = furniture_offset_px(saved, pixels, crop_px)
    far = max(abs(x_px), abs(y_px)) > _MOVED * max(pixels.shape)
    moved = far and moved_share >= _ALIKE and moved_share - share > _CLEARER
    if share >= _ALIKE and not moved:
        return
    x, y, w, h = crop_px
    how = f"is moved by about {x_px}, {y_px} px against" if moved else "differs from"
    raise SourceUnreadableError(
        f"the screen's layout {how} that of profile {profile.name} (scan area {w}x{h} px at "
        f"({x}, {y})): run `veintrack profile save {profile.name} --overwrite --source ...` anew, "
        "or track without --profile"
    )


def _check_signature(signature: Furniture, shape_px: tuple[int, int]) -> None:
    rows, columns = map_shape(shape_px)
    digits = set("0123456789"[:LEVELS])
    if len(signature) != rows or any(len(r) != columns or set(r) - digits for r in signature):
        raise ValueError(
            f"signature must be {rows} rows of {columns} digits from 0 to {LEVELS - 1} for "
            f"pictures of {shape_px[1]}x{shape_px[0]} px"
        )
