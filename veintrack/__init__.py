"""Live vein tracking in ultrasound video. Research use only, not a medical device.

The names below are the whole public surface. Each is imported when it is first used, so that
``import veintrack`` loads no engine, no codec and no image library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from veintrack._version import __version__

if TYPE_CHECKING:
    from veintrack.tracker.api import track
    from veintrack.tracker.frame import (
        Detection,
        Frame,
        FrameResult,
        Measurement,
        Timings,
        Track,
        TrackStatus,
    )
    from veintrack.tracker.segment import Segmenter, load_segmenter
    from veintrack.tracker.sources import open_source
    from veintrack.tracker.tracks import TrackSettings, VeinTracker

__all__ = [
    "Detection",
    "Frame",
    "FrameResult",
    "Measurement",
    "Segmenter",
    "Timings",
    "Track",
    "TrackSettings",
    "TrackStatus",
    "VeinTracker",
    "__version__",
    "load_segmenter",
    "open_source",
    "track",
]

_HOMES = {
    "veintrack.tracker.api": ("track",),
    "veintrack.tracker.frame": (
        "Detection",
        "Frame",
        "FrameResult",
        "Measurement",
        "Timings",
        "Track",
        "TrackStatus",
    ),
    "veintrack.tracker.segment": ("Segmenter", "load_segmenter"),
    "veintrack.tracker.sources": ("open_source",),
    "veintrack.tracker.tracks": ("TrackSettings", "VeinTracker"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'veintrack' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
