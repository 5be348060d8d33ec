"""Steps in gain and depth: the scanner's knobs were turned.

A step is what is left after motion: two looks from before and after, both settled, show the same
structure at another brightness or at another scale. Looks are taken a few times a second.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from veintrack.tracker.frame import F32, U8

__all__ = ["StepSettings", "StepWatch"]


@dataclass(frozen=True, slots=True)
class StepSettings:
    """What counts as a step.

    Attributes
    ----------
    every_s : float
        Time between looks.
    within_s : float
        A step takes no longer than this: a scanner may go black while it changes its depth.
    settled_ratio, settled_likeness : float
        Two looks in a row whose brightness differs by no more than this factor, and whose structure
        correlates by no less, are settled.
    gain_ratio, gain_likeness, gain_part : float
        Brightness changes by this factor at least, while structure correlates by so much, and in
        so much of the lit picture it changes by a third of that at least. Clips of linear probes
        change by up to 1.08 between two looks, other than by gain.
    lit_grey, white_grey : int
        Grey levels between which brightness is compared: not noise, not clipped.
    zoom_least, zoom_most, zoom_step : float
        Scales that are tried, and the factor from one to the next.
    zoom_likeness, zoom_better : float
        Correlation at the right scale, and by how much more than unscaled that must be.
    """

    every_s: float = 0.15
    within_s: float = 1.0
    settled_ratio: float = 1.08
    settled_likeness: float = 0.6
    gain_ratio: float = 1.2
    gain_likeness: float = 0.8
    gain_part: float = 0.8
    lit_grey: int = 16
    white_grey: int = 240
    zoom_least: float = 1.08
    zoom_most: float = 2.5
    zoom_step: float = 1.04
    zoom_likeness: float = 0.65
    zoom_better: float = 0.25

    def __post_init__(self) -> None:
        for name in ("settled_ratio", "gain_ratio", "zoom_least", "zoom_step"):
            if not getattr(self, name) > 1:
                raise ValueError(f"{name} must be greater than 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A picture at a moment: grey levels, structure of length 1, mean level."""

    grey: F32
    structure: F32
    mean: float
    time_ns: int


class StepWatch:
    """Tells steps in gain and depth from motion.

    Parameters
    ----------
    settings : StepSettings
        What counts as a step.
    """

    def __init__(self, settings: StepSettings | None = None) -> None:
        self.settings = settings or StepSettings()
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self._last: _View | None = None
        self._before: _View | None = None  # the last one before it was unsettled

    def look(self, small: U8, capture_ns: int) -> tuple[str, ...]:
        """Take a look, if it is time for one.

        Parameters
        ----------
        small : ndarray of shape (H, W), uint8
            The picture, reduced to some 50 x 60 px.
        capture_ns : int
            When it was taken.

        Returns
        -------
        tuple of str
            The step that is complete with this look, in words.
        """
        last = self._last
        if last is None or last.grey.shape != small.shape or capture_ns < last.time_ns:
            self._last, self._before = _view(small, capture_ns), None
            return ()
        if capture_ns - last.time_ns < self.settings.every_s * 1e9:
            return ()
        now = self._last = _view(small, capture_ns)
        if not self._settled(last, now):
            self._before = self._before or last
            return ()
        before, self._before = self._before, None
        if before is None or now.time_ns - before.time_ns > self.settings.within_s * 1e9:
            return ()
        return self._step(before, now)

    def _settled(self, last: _View, now: _View) -> bool:
        settings = self.settings
        return (
            abs(math.log(now.mean / last.mean)) <= math.log(settings.settled_ratio)
            and _likeness(last.structure, now.structure) >= settings.settled_likeness
        )

    def _step(self, before: _View, now: _View) -> tuple[str, ...]:
        likeness = _likeness(before.structure, now.structure)
        if likeness >= self.settings.gain_likeness:
            ratio = self._gain(before.grey, now.grey)
            if ratio is None:
                return ()
            return (f"gain up {ratio:.1f} x" if ratio > 1 else f"gain down {1 / ratio:.1f} x",)
        scale = self._zoom(before, now, likeness + self.settings.zoom_better)
        return () if scale is None else (f"depth changed, {scale:.2f} x",)

    def _gain(self, before: F32, now: F32) -> float | None:
        """Find the factor by which brightness changed everywhere; None if it did not."""
        settings = self.settings
        lit = (before > settings.lit_grey) & (np.maximum(before, now) < settings.white_grey)
        if np.count_nonzero(lit) < 0.05 * lit.size:
            return None
        change = np.log(np.maximum(now[lit], 1) / before[lit])
        middle = float(np.median(change))
        if abs(middle) < math.log(settings.gain_ratio):
            return None
        agree = np.count_nonzero(change / middle > 1 / 3)
        return math.exp(middle) if agree >= settings.gain_part * change.size else None

    def _zoom(self, before: _View, now: _View, least: float) -> float | None:
        """Find how much deeper one sees now; None if the structure is not the same, scaled."""
        settings = self.settings
        best, least = None, max(least, settings.zoom_likeness)
        count = math.log(settings.zoom_most / settings.zoom_least) / math.log(settings.zoom_step)
        for step in range(math.ceil(count) + 1):
            scale = settings.zoom_least * settings.zoom_step**step
            for deep, shallow, deeper in ((now, before, scale), (before, now, 1 / scale)):
                likeness = _likeness(_structure(_enlarged(deep.grey, scale)), shallow.structure)
                if likeness >= least:
                    best, least = deeper, likeness
        return best


def _view(small: U8, capture_ns: int) -> _View:
    grey = small.astype(np.float32)
    return _View(grey, _structure(grey), max(1.0, float(grey.mean())), capture_ns)


def _structure(grey: F32) -> F32:
    """Take away what varies slowly (brightness falls with depth in any picture), scale to 1."""
    size = max(3, grey.shape[0] // 4)
    fine: F32 = grey - cv2.blur(grey, (size, size))
    fine -= fine.mean()
    fine *= 1 / max(1e-6, float(cv2.norm(fine)))
    return fine


def _likeness(a: F32, b: F32) -> float:
    return float(np.dot(a.ravel(), b.ravel()))


def _enlarged(grey: F32, scale: float) -> F32:
    """Enlarge a picture about the middle of its top, where the probe is."""
    height, width = grey.shape
    middle = (width - 1) / 2
    back = np.array([[1 / scale, 0, middle - middle / scale], [0, 1 / scale, (1 / scale - 1) / 2]])
    enlarged: F32 = cv2.warpAffine(  # type: ignore[assignment]
        grey, back, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    return enlarged
