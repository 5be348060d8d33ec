"""``veintrack profile``: what is always the same with one scanner, kept under a name."""

import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from veintrack.errors import OutputError
from veintrack.tracker.frame import Region, Spacing

if TYPE_CHECKING:  # imported on use: the command line starts without them
    from veintrack.tracker.frame import U8
    from veintrack.tracker.profiles import ScannerProfile
    from veintrack.tracker.ruler import Ruler

__all__ = ["device_identity", "profile"]

profile = typer.Typer(help="Keep what is always the same with one scanner.", rich_markup_mode=None)

_BY_ID = Path("/dev/v4l/by-id")
_WIDTH = 150  # of a line, at least
_HOW = {
    "given": "as given",
    "known": "as the source says",
    "found": "found in the first second",
    "not found": "all of it, as no part stands out",
}
_OUTLINE = (0, 255, 255)
_WAYS = "--spacing, --depth-mm, --tick-mm, --clicks and --window"


@profile.callback()
def _profile() -> None:
    """Keep what is always the same with one scanner: scan area, spacing, capture mode."""


@profile.command("list")
def _list() -> None:
    """List the profiles that are kept."""
    from veintrack.tracker.profile_files import list_profiles, profiles_folder

    kept = list_profiles()
    heads = ("name", "picture", "scan area", "spacing", "orientation", "mode", "source")
    table = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for one in kept:
        told = _tell(one)
        table.add_row(one.name, *(Text(told[head]) for head in heads[1:]))
    if kept:
        _echo(table)
    typer.echo(f"{len(kept)} {'profile' if len(kept) == 1 else 'profiles'} in {profiles_folder()}")


@profile.command("show")
def _show(name: Annotated[str, typer.Argument(help="Name of the profile.")]) -> None:
    """Show what a profile keeps."""
    from veintrack.tracker.profile_files import path_of, read_profile

    _print(_tell(read_profile(name)), path_of(name))


@profile.command("save")
def _save(
    name: Annotated[str, typer.Argument(help="Name of the profile.")],
    source: Annotated[
        str,
        typer.Option(help="The scanner's pictures: a device, or a file of them.", metavar="SRC"),
    ],
    crop: Annotated[
        str,
        typer.Option(help="Scan area: auto, none or X,Y,W,H in px; auto finds it."),
    ] = "auto",
    spacing: Annotated[
        str | None, typer.Option(help="Millimetres per pixel, MM or ROW_MM,COL_MM.")
    ] = None,
    depth_mm: Annotated[
        float | None,
        typer.Option(
            "--depth-mm", help="Or: depth set on the scanner; the screen's ruler is used, if any."
        ),
    ] = None,
    tick_mm: Annotated[
        float | None,
        typer.Option(
            "--tick-mm",
            help="Or: from one tick of the screen's depth ruler to the next: the small ones.",
        ),
    ] = None,
    clicks: Annotated[
        str | None,
        typer.Option(help="Or: two points and their distance, X0,Y0,X1,Y1,MM in px and mm."),
    ] = None,
    window: Annotated[
        bool, typer.Option("--window", help="Or: click the two points in a window.")
    ] = False,
    distance_mm: Annotated[
        float | None,
        typer.Option("--distance-mm", help="Of the points clicked in the window [typed there]."),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="Capture devices: WxH, WxH@FPS or WxH@FPS:FOURCC."),
    ] = None,
    orientation: Annotated[
        str,
        typer.Option(
            help="How the picture lies, kept as information: as is, mirrored, upside down, "
            "mirrored and upside down."
        ),
    ] = "as is",
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Write a PNG with the scan area's outline; what lies outside is black.",
            metavar="FILE",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a profile and a picture that exist.")
    ] = False,
) -> None:
    """Keep what is found of a scanner in the first second of its pictures."""
    from veintrack.tracker.config import parse_crop, parse_spacing
    from veintrack.tracker.furniture import furniture_of
    from veintrack.tracker.profile_files import check_free, save_profile
    from veintrack.tracker.profiles import Orientation, ScannerProfile
    from veintrack.tracker.sources import open_source
    from veintrack.tracker.survey import survey

    check_free(name, overwrite=overwrite)
    wish = _Wish(
        spacing_mm=None if spacing is None else parse_spacing(spacing),
        depth_mm=depth_mm,
        tick_mm=tick_mm,
        clicks=None if clicks is None else parse_clicks(clicks),
        window=window,
        distance_mm=distance_mm,
    )
    ways = [o.value for o in Orientation]
    if orientation not in ways:
        raise ValueError(f"orientation must be one of {', '.join(ways)}; got {orientation!r}")
    wanted = parse_crop(crop)
    if picture is not None and picture.exists() and not overwrite:
        raise OutputError(f"{picture} exists: name another --picture, or add --overwrite")

    with open_source(source, mode=mode) as opened:
        found = survey(opened, wanted)
    pixels, area_px = found.pixels, found.area_px
    if found.how == "not found" and (depth_mm is not None or picture is not None):
        raise ValueError(
            "no scan area was found, and --depth-mm and --picture need one: name it with "
            "--crop X,Y,W,H, or --crop none if the ultrasound fills the picture"
        )
    measured = _measure(pixels, area_px, wish)
    made = ScannerProfile(
        name,
        frame_shape_px=(pixels.shape[0], pixels.shape[1]),
        crop_px=area_px,
        spacing_mm=measured.spacing_mm,
        orientation=Orientation(orientation),
        mode=mode,
        source=device_identity(source),
        depth_mm=depth_mm,
        tick_px=measured.ruler.pitch_px if measured.ruler else None,
        signature=furniture_of(pixels, area_px),
    )
    path = save_profile(made, overwrite=overwrite)
    told = _tell(made)
    told["spacing"] += f": {measured.said}"
    told["scan area"] += f": {_HOW[found.how]}"
    if picture is not None:
        _write_picture(picture, pixels, area_px)
        told["outline drawn in"] = str(picture)
    _print(told, path)


@dataclass(frozen=True, slots=True)
class _Wish:
    """How spacing shall be measured; one way at most."""

    spacing_mm: Spacing | None = None
    depth_mm: float | None = None
    tick_mm: float | None = None
    clicks: tuple[tuple[float, float], tuple[float, float], float] | None = None
    window: bool = False
    distance_mm: float | None = None

    def __post_init__(self) -> None:
        ways = (self.spacing_mm, self.depth_mm, self.tick_mm, self.clicks, self.window or None)
        if sum(way is not None for way in ways) > 1:
            raise ValueError(f"{_WAYS} exclude each other: give one")
        if self.distance_mm is not None and not self.window:
            raise ValueError("distance_mm is that of points clicked with --window")
        lengths = {"depth_mm": self.depth_mm, "tick_mm": self.tick_mm}
        for name, value in {**lengths, "distance_mm": self.distance_mm}.items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be greater than 0 and finite, got {value}")


@dataclass(frozen=True, slots=True)
class _Measured:
    """Spacing, what it follows from in words, and the depth ruler if one was found."""

    spacing_mm: Spacing | None
    said: str
    ruler: "Ruler | None" = None


def parse_clicks(text: str) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Read ``X0,Y0,X1,Y1,MM``."""
    try:
        x0, y0, x1, y1, mm = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"clicks must be X0,Y0,X1,Y1,MM, got {text!r}") from error
    return (x0, y0), (x1, y1), mm


def device_identity(source: str, folder: Path = _BY_ID) -> str | None:
    """Find the name that a capture device keeps when it is plugged in again.

    Parameters
    ----------
    source : str
        As the user named it.
    folder : Path
        Of the links that are named by the devices' identities.

    Returns
    -------
    str or None
        None for what is no capture device, or has no such name.
    """
    node = Path(f"/dev/video{source}" if source.isdecimal() else source)
    try:
        if not stat.S_ISCHR(node.stat().st_mode):
            return None
        links = sorted(folder.iterdir())
    except OSError:
        return None
    return next((str(link) for link in links if link.resolve() == node.resolve()), None)


def _measure(pixels: "U8", area_px: Region, wish: _Wish) -> _Measured:
    """Measure spacing in the one way that is wished for."""
    from veintrack.tracker.ruler import (
        find_ruler,
        spacing_for_depth,
        spacing_from_clicks,
        spacing_from_ruler,
    )

    if wish.depth_mm is not None:
        found = spacing_for_depth(pixels, area_px, wish.depth_mm)
        return _Measured(found.spacing_mm, found.said, found.ruler)
    ruler = find_ruler(pixels, area_px)
    if wish.tick_mm is not None:
        if ruler is None:
            raise ValueError("no depth ruler is found beside the scan area: give --clicks instead")
        spacing_mm = spacing_from_ruler(ruler, tick_mm=wish.tick_mm)
        apart = f"{ruler.pitch_px:.2f} px and {wish.tick_mm:g} mm apart"
        said = f"the depth ruler: {len(ruler.ticks_px)} ticks, {apart}"
        return _Measured(spacing_mm, said, ruler)
    if wish.spacing_mm is not None:
        return _Measured(wish.spacing_mm, "as given", ruler)
    clicks = wish.clicks
    if wish.window:
        from veintrack.tracker.cli.clicks import measure_in_window

        clicks = measure_in_window(pixels, wish.distance_mm)
        if clicks is None:
            raise ValueError("nothing was measured in the window: no profile was written")
    if clicks is None:
        return _Measured(None, "what the source says, if anything")
    first, second, mm = clicks
    height, width = pixels.shape
    for x, y in (first, second):
        if not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(
                f"clicks must lie in the picture of {width}x{height} px, got {x:g},{y:g}"
            )
    said = f"{mm:g} mm over {math.dist(first, second):.1f} px"
    return _Measured(spacing_from_clicks(first, second, mm), said, ruler)


def _write_picture(path: Path, pixels: "U8", area_px: Region) -> None:
    """Draw the outline; nothing outside of it is written: there are texts about patients."""
    import cv2
    import numpy as np

    x, y, w, h = area_px
    inside = np.zeros((*pixels.shape, 3), np.uint8)
    inside[y : y + h, x : x + w] = pixels[y : y + h, x : x + w, None]
    cv2.rectangle(inside, (x, y), (x + w - 1, y + h - 1), _OUTLINE)
    try:
        path.write_bytes(cv2.imencode(".png", inside)[1].tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _tell(one: "ScannerProfile") -> dict[str, str]:
    """Put a profile into words."""
    height, width = one.frame_shape_px
    told = {"picture": f"{width}x{height} px", "scan area": "looked for each time"}
    if one.crop_px is not None:
        x, y, w, h = one.crop_px
        told["scan area"] = f"{w}x{h} px at ({x}, {y})"
    told["spacing"] = "not kept"
    if one.spacing_mm is not None:
        row_mm, col_mm = one.spacing_mm
        both = "" if row_mm == col_mm else f" by {col_mm:.5g}"
        told["spacing"] = f"{row_mm:.5g}{both} mm"
    told["depth"] = "" if one.depth_mm is None else f"{one.depth_mm:g} mm"
    told["depth ruler"] = "" if one.tick_px is None else f"ticks {one.tick_px:.2f} px apart"
    told["orientation"] = one.orientation.value
    told["mode"] = one.mode or ""
    told["source"] = one.source or ""
    filled = sum(digit != "0" for row in one.signature for digit in row)
    told["furniture"] = f"{filled} cells of the screen around the scan area" if filled else ""
    return told


def _print(told: Mapping[str, str], path: Path) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    for name, value in {**told, "file": str(path)}.items():
        if value:
            table.add_row(name, Text(value))
    _echo(table)


def _echo(table: Table) -> None:
    """Print a table without the blanks that fill up its last column."""
    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)  # in a pipe it would be 80
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().splitlines():
        typer.echo(line.rstrip())
