"""Where frames come from: one :func:`open_source` for every kind of source."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import Frame, Spacing
from veintrack.tracker.sources.base import Source, SourceInfo

__all__ = ["IMAGE_SUFFIXES", "READABLE", "Source", "SourceInfo", "open_source"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".webp")
_VIDEO = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv")

#: What :func:`open_source` reads, in one line.
READABLE = (
    f"demo; 0 or /dev/video0; a video file ({' '.join(_VIDEO)}); "
    f"a picture, a folder or a glob of pictures ({' '.join(IMAGE_SUFFIXES)})"
)


def open_source(
    source: str | Path,
    *,
    spacing_mm: Spacing | None = None,
    fps: float | None = None,
    demo_frames: int = 300,
) -> Source:
    """Open a source of frames of any kind.

    Parameters
    ----------
    source : str or Path
        ``demo``, a capture device (``0``, ``/dev/video0``, ``/dev/v4l/by-id/...``), a video file,
        or a picture, a folder or a glob pattern of pictures.
    spacing_mm : tuple of float, optional
        ``(row_mm, col_mm)``, millimetres per pixel, put into every frame.
    fps : float, optional
        Frames per second: asked of a device, taken for pictures and for videos without times.
    demo_frames : int
        Length of ``demo``, which has no end of its own.

    Raises
    ------
    ValueError
        If `spacing_mm` or `fps` is not positive and finite.
    SourceNotFoundError
        If there is no such file or device.
    SourceUnreadableError
        If frames cannot be read from it; the message says what can be read.
    """
    if spacing_mm is not None and not all(math.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise ValueError(f"spacing_mm must be positive and finite, got {spacing_mm}")
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be positive and finite, got {fps}")
    opened = _open(source, fps, demo_frames)
    return opened if spacing_mm is None else _Spaced(opened, spacing_mm)


def _open(source: str | Path, fps: float | None, demo_frames: int) -> Source:
    """Find the kind of a source; what reads it is imported only now."""
    text = str(source)
    if text == "demo":
        from veintrack.tracker.sources.demo import open_demo

        return open_demo(frame_count=demo_frames)
    if text.isdecimal() or text.startswith("/dev/"):
        from veintrack.tracker.sources.v4l2 import open_v4l2

        return open_v4l2(text, fps=fps)
    if "://" in text:
        scheme = text.split("://", 1)[0]
        raise SourceUnreadableError(f"cannot read {scheme}:// sources; readable are: {READABLE}")

    path = Path(source).expanduser()
    suffix = path.suffix.lower()
    is_pattern = not path.exists() and any(c in text for c in "*?[")
    if path.is_dir() or is_pattern or (suffix in IMAGE_SUFFIXES and path.exists()):
        from veintrack.tracker.sources.images import open_images

        return open_images(source, fps=fps)
    if not path.exists():
        raise SourceNotFoundError(f"no such file: {source}")
    if suffix in _VIDEO:
        from veintrack.tracker.sources.video import open_video

        return open_video(path, fps=fps)
    what = f"{suffix} files" if suffix else "a file without a suffix"
    raise SourceUnreadableError(f"{source}: cannot read {what}; readable are: {READABLE}")


class _Spaced(Closing):
    """A source whose frames all get the spacing that the user gave."""

    def __init__(self, source: Source, spacing_mm: Spacing) -> None:
        self._source, self._spacing_mm = source, spacing_mm
        self.info = replace(source.info, spacing_mm=spacing_mm)

    @property
    def driver_drops(self) -> int:
        return self._source.driver_drops

    def __iter__(self) -> Iterator[Frame]:
        return (replace(frame, spacing_mm=self._spacing_mm) for frame in self._source)

    def close(self) -> None:
        self._source.close()
