"""A first look at a source: its first second, and where the ultrasound lies in it."""

from dataclasses import dataclass

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import U8, Frame, Region
from veintrack.tracker.framing import Framing
from veintrack.tracker.sources.base import Source

__all__ = ["Survey", "survey"]

_SECOND_NS = 1_000_000_000
_MOST_FRAMES = 60


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What the first second of a source shows.

    Attributes
    ----------
    pixels : ndarray of shape (H, W), uint8
        The last frame that was looked at: a device may begin with a black one.
    area_px : tuple of int
        ``(x, y, width, height)`` of the scan area.
    how : str
        ``given``, ``known`` (the source says it), ``found``, or ``not found``: then it is the
        whole frame.
    """

    pixels: U8
    area_px: Region
    how: str


def survey(source: Source, crop: str | Region = "auto") -> Survey:
    """Look at the first second of a source, which is used up by it.

    Raises
    ------
    SourceUnreadableError
        If no frame comes.
    """
    frames: list[Frame] = []
    for frame in source:
        if frames and frame.pixels.shape != frames[0].pixels.shape:
            break
        frames.append(frame)
        if frame.capture_ns - frames[0].capture_ns >= _SECOND_NS or len(frames) == _MOST_FRAMES:
            break
    if not frames:
        raise SourceUnreadableError(f"{source.info.name}: no frame came")
    framing = Framing(crop, source.info.scan_area_px)
    framing.show(frames)
    area_px = framing.place(frames[0]).region
    height, width = frames[0].pixels.shape
    if crop != "auto":
        how = "given"
    elif source.info.scan_area_px is not None:
        how = "known"
    else:
        how = "not found" if area_px == (0, 0, width, height) else "found"
    return Survey(frames[-1].pixels, area_px, how)
