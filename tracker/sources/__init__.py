"""Where frames come from: one :func:`open_source` for every kind of source."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import Frame, Spacing
from veintrack.tracker.recording_names import find_recording
from veintrack.tracker.sources.address import masked
from veintrack.tracker.sources.base import LiveSource, Source, SourceInfo, Wrapper
from veintrack.tracker.sources.scale import COARSEST_MM, FINEST_MM, is_plausible

__all__ = ["IMAGE_SUFFIXES", "READABLE", "Source", "SourceInfo", "open_source"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".webp")
_VIDEO = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv")
_DICOM = (".dcm", ".dicom")
_SEQUENCE = (".mha", ".mhd", ".nrrd", ".nhdr")
_STREAMS = ("rtsp", "rtsps", "http", "https")

#: What :func:`open_source` reads, in one line.
READABLE = (
    f"demo; 0 or /dev/video0; a video file ({' '.join(_VIDEO)}); "
    f"a picture, a folder or a glob of pictures ({' '.join(IMAGE_SUFFIXES)}); "
    f"DICOM ({' '.join(_DICOM)}); a sequence metafile ({' '.join(_SEQUENCE)}); "
    "a recording, or the folder of a run that has one; "
    f"{'://, '.join(_STREAMS)}://; igtl://host:port/device"
)


def open_source(
    source: str | Path,
    *,
    spacing_mm: Spacing | None = None,
    fps: float | None = None,
    mode: str | None = None,
    on_lost: str = "exit",
    lost_timeout_s: float = math.inf,
    demo_frames: int = 300,
) -> Source:
    """Open a source of frames of any kind.

    Parameters
    ----------
    source : str or Path
        ``demo``, a capture device (``0``, ``/dev/video0``, ``/dev/v4l/by-id/...``), a video file,
        a picture, a folder or a glob pattern of pictures, a DICOM file, a sequence metafile
        (``.mha``, ``.mhd``, ``.nrrd``), the folder of a recording, or of a run that has one, or
        the address of a stream (``rtsp://``, ``http://``, ``igtl://host:18944/Device``).
    spacing_mm : tuple of float, optional
        ``(row_mm, col_mm)``, millimetres per pixel, put into every frame in place of the source's.
    fps : float, optional
        Frames per second: asked of a device, taken for pictures and for files without times.
    mode : str, optional
        What to set a capture device to: ``WxH``, ``WxH@FPS`` or ``WxH@FPS:FOURCC``.
    on_lost : str
        What a live source does that is lost, or silent for half a second: ``exit`` raises
        :class:`~veintrack.errors.SourceLostError`, ``wait`` looks for it and goes on when it is
        back.
    lost_timeout_s : float
        For how long it is looked for.
    demo_frames : int
        Length of ``demo``, which has no end of its own.

    Raises
    ------
    ValueError
        If an option has a value that cannot be, or `mode` is given to what is no capture device.
    SourceNotFoundError
        If there is no such file or device.
    SourceUnreadableError
        If frames cannot be read from it; the message says what can be read.
    """
    if spacing_mm is not None and not is_plausible(spacing_mm):
        raise ValueError(
            f"spacing_mm must lie between {FINEST_MM} and {COARSEST_MM:g} mm a pixel, "
            f"got {spacing_mm}"
        )
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be positive and finite, got {fps}")
    if on_lost not in ("wait", "exit"):
        raise ValueError(f"on_lost must be wait or exit, got {on_lost!r}")
    if mode is not None and not _is_device(str(source)):
        raise ValueError(
            f"mode {mode} is for capture devices, got the source {masked(str(source))}"
        )
    opened = _open_live(str(source), fps, mode)
    if opened is not None and opened.info.live and on_lost == "wait":
        from veintrack.tracker.sources.persistent import PersistentSource

        fixed = None if spacing_mm is None else "the spacing"
        waiting = PersistentSource(opened, lost_timeout_s, same_size=fixed)
        return waiting if spacing_mm is None else _Spaced(waiting, spacing_mm)
    found = opened or _open_file(source, fps, demo_frames)
    return found if spacing_mm is None else _Spaced(found, spacing_mm)


def _is_device(text: str) -> bool:
    return text.isdecimal() or text.startswith("/dev/")


def _open_live(text: str, fps: float | None, mode: str | None) -> LiveSource | None:
    """Open a device or a sender; None where the source is none. Imports only what reads it."""
    if _is_device(text):
        from veintrack.tracker.sources.v4l2 import open_v4l2

        return open_v4l2(text, fps=fps, mode=mode)
    if "://" not in text:
        return None
    scheme = text.split("://", 1)[0].lower()
    if scheme in _STREAMS:
        from veintrack.tracker.sources.stream import open_stream

        return open_stream(text)
    if scheme == "igtl":
        from veintrack.tracker.sources.igtl import open_igtl

        return open_igtl(text)
    raise SourceUnreadableError(f"cannot read {scheme}:// sources; readable are: {READABLE}")


def _open_file(source: str | Path, fps: float | None, demo_frames: int) -> Source:
    """Find the kind of a file; what reads it is imported only now."""
    text = str(source)
    if text == "demo":
        from veintrack.tracker.sources.demo import open_demo

        return open_demo(frame_count=demo_frames)
    path = Path(source).expanduser()
    suffix = path.suffix.lower()
    exists = _exists(path)
    if not exists and not any(c in text for c in "*?["):
        raise SourceNotFoundError(f"no such file: {source}")
    if exists and find_recording(path):
        from veintrack.tracker.sources.recording import open_recording

        return open_recording(path, fps=fps)
    if not exists or path.is_dir() or suffix in IMAGE_SUFFIXES:
        from veintrack.tracker.sources.images import open_images

        return open_images(source, fps=fps)
    if suffix in _VIDEO:
        from veintrack.tracker.sources.video import open_video

        return open_video(path, fps=fps)
    if suffix in _SEQUENCE:
        from veintrack.tracker.sources.sequence import open_sequence

        return open_sequence(path, fps=fps)
    if suffix in _DICOM or _looks_like_dicom(path):
        from veintrack.tracker.sources.dicom import open_dicom

        return open_dicom(path, fps=fps)
    what = f"{suffix} files" if suffix else "a file without a suffix"
    raise SourceUnreadableError(f"{source}: cannot read {what}; readable are: {READABLE}")


def _exists(path: Path) -> bool:
    """Whether there is such a file or folder; also of names that the system refuses."""
    try:
        return path.exists()
    except OSError:  # too long, or behind a folder that may not be looked into
        return False


def _looks_like_dicom(path: Path) -> bool:
    """Look for the mark of DICOM (PS3.10 section 7.1): scanners write files without a suffix."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


class _Spaced(Wrapper):
    """A source whose frames all get the spacing that the user gave."""

    def __init__(self, source: Source, spacing_mm: Spacing) -> None:
        super().__init__(source)
        self._spacing_mm = spacing_mm
        self._info = replace(source.info, spacing_mm=spacing_mm)

    @property
    def info(self) -> SourceInfo:
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        return (replace(frame, spacing_mm=self._spacing_mm) for frame in self._source)
