"""How frames are taken from a source and looked at."""

import math
from dataclasses import dataclass, field

from veintrack.tracker.detect import DetectSettings
from veintrack.tracker.frame import Region

__all__ = ["PipelineSettings"]


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """How frames are taken and looked at.

    Attributes
    ----------
    crop : str or tuple of int
        ``auto`` finds the scan area in the first second of frames, ``none`` looks at the whole
        frame, or ``(x, y, width, height)`` in px.
    pace : str
        ``asap`` processes every frame of a file as fast as it can. ``realtime`` hands a file's
        frames out at the times they were taken and, as a live source does, drops what comes while
        the network is busy.
    contours : bool
        Trace the outline of every detection.
    judge_pictures : bool
        Look whether a picture is good for anything, and detect nothing in one without signal or
        contact, nor learn from one that stands still.
    max_age_ms : float or None
        Where the newest frame counts (live sources, real-time pace): a frame that would be older
        than this when its tracks are ready is not segmented; they are predicted to it at once.
    max_frames : int or None
        Stop after this many frames.
    duration_s : float or None
        Stop at the first frame taken this long after the first one; a live source also when none
        comes for so long.
    detect : DetectSettings
        What counts as a vessel.
    """

    crop: str | Region = "auto"
    pace: str = "asap"
    contours: bool = True
    judge_pictures: bool = True
    max_age_ms: float | None = None
    max_frames: int | None = None
    duration_s: float | None = None
    detect: DetectSettings = field(default_factory=DetectSettings)

    def __post_init__(self) -> None:
        if isinstance(self.crop, str) and self.crop not in ("auto", "none"):
            raise ValueError(f"crop must be auto, none or X,Y,W,H, got {self.crop!r}")
        if self.pace not in ("asap", "realtime"):
            raise ValueError(f"pace must be asap or realtime, got {self.pace!r}")
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, got {self.max_frames}")
        for name in ("max_age_ms", "duration_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be greater than 0 and finite, got {value}")
