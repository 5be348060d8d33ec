"""Vessel masks for `tracking.py`: exact ones, and ones as wrong as a network's.

What goes wrong with a mask comes and goes, and is a function of the time alone: it lasts as long at
120 frames a second as at five. How often each happens is in :class:`Faults`, with the reason.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import cv2
import numpy as np

from veintrack.tracker.frame import F32, F64, U8
from veintrack.tracker.grid import Grid, mask_to_grid
from veintrack.tracker.phantom import VesselTruth

__all__ = ["THRESHOLD", "Corruption", "Fault", "Faults", "exact"]

THRESHOLD = 0.5
_MARGIN_PX = 16  # around a vessel, for its soft and wavering edge
_MODES = 5  # waves around an outline: size, place, and three of shape
_WAVES = 6  # sinusoids in time that make up one mode


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that comes and goes.

    Attributes
    ----------
    rate_hz : float
        How often it begins.
    mean_s : float
        How long it lasts on average; exponentially distributed.
    """

    rate_hz: float
    mean_s: float

    def windows(self, until_s: float, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
        """Draw the windows ``(start, end)`` of a run; they may overlap."""
        count = rng.poisson(self.rate_hz * until_s)
        starts = np.sort(rng.uniform(0, until_s, count))
        lengths = rng.exponential(self.mean_s, count)
        return tuple((float(s), float(s + n)) for s, n in zip(starts, lengths, strict=True))


@dataclass(frozen=True, slots=True)
class Faults:
    """How often what goes wrong; each vessel by itself where nothing else is said.

    The measure is the shipped model on real frames (its model card): on stills it finds 0.84 of the
    vessels and makes 0.41 false alarms a frame, on clips without vessels 0.05 to 0.20; 22 % of its
    false alarms reach a score of 0.75. On frames of the carotid its Dice is 0.92, which is an
    outline that errs by 0.08 of the radius on average, or a standard deviation of 0.1: a disc of
    radius r and one whose edge errs by e differ in 2 pi r e, so 1 - Dice = e / r. How long an error
    lasts is known from no clip with truth; the times are guesses, a few frames each.

    Attributes
    ----------
    missed : Fault
        A vessel is not found; with `blinks`, one frame in ten.
    blinks : float
        Part of the frames in which a vessel is not found, each by itself.
    weak : Fault
        It is found with a score below that from which tracks start.
    split : Fault
        A thin dark column divides it.
    merged : Fault
        Two vessels whose boxes are less than `merge_mm` apart are joined; for each pair.
    false : Fault
        A blob where no vessel is; for the whole picture, a quarter of a blob a frame.
    strong_part : float
        Of those, as many have a score like a vessel's.
    outline : tuple of float
        Standard deviation, in radii, of each mode of an outline: size, place, and waves with two,
        three and four crests; 0.1 together, slowly varying.
    outline_hz : float
        How fast they vary: standard deviation of the frequencies.
    shiver : float
        As `outline`, new in every frame, for every mode.
    """

    missed: Fault = field(default_factory=lambda: Fault(0.4, 0.2))
    blinks: float = 0.02
    weak: Fault = field(default_factory=lambda: Fault(0.3, 0.4))
    split: Fault = field(default_factory=lambda: Fault(0.2, 0.2))
    merged: Fault = field(default_factory=lambda: Fault(0.5, 0.3))
    merge_mm: float = 1.5
    false: Fault = field(default_factory=lambda: Fault(1.0, 0.25))
    strong_part: float = 0.22
    outline: tuple[float, ...] = (0.045, 0.04, 0.06, 0.045, 0.03)
    outline_hz: float = 0.8
    shiver: float = 0.01


def exact(labels: U8, grid: Grid) -> F32:
    """Lay the phantom's labels on the grid: the part of each grid pixel that is vessel."""
    return mask_to_grid((labels > 0).astype(np.uint8), grid)


class Corruption:
    """What goes wrong in one run.

    Parameters
    ----------
    vessels : int
        How many there are.
    mm_per_px : float
        Spacing.
    area_px : tuple of int
        ``(x, y, width, height)`` of the scan area.
    until_s : float
        How long the run lasts.
    seed : int
        Chooses everything.
    faults : Faults
        How often what goes wrong.
    """

    def __init__(
        self,
        vessels: int,
        mm_per_px: float,
        area_px: tuple[int, int, int, int],
        until_s: float,
        seed: int,
        faults: Faults | None = None,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.faults = faults = faults or Faults()
        self._mm, self._area_px, self._seed = mm_per_px, area_px, seed
        self._each = [_Vessel.draw(faults, until_s, rng) for _ in range(vessels)]
        self._merged = {
            pair: faults.merged.windows(until_s, rng) for pair in combinations(range(vessels), 2)
        }
        self._blobs = [
            _Blob.draw(window, area_px, mm_per_px, faults.strong_part, rng)
            for window in faults.false.windows(until_s, rng)
        ]

    def probability(
        self, labels: U8, truth: Sequence[VesselTruth], time_s: float, index: int, grid: Grid
    ) -> F32:
        """Make the probability map of one frame.

        Parameters
        ----------
        labels : ndarray of shape (H, W), uint8
            The phantom's.
        truth : sequence of VesselTruth
            Of the same frame.
        time_s : float
            Time since the first frame.
        index : int
            Number of the frame: chooses what is new in every frame.
        grid : Grid
            How the frame lies on the network's grid.
        """
        rng = np.random.default_rng((self._seed, index))
        made = np.zeros(labels.shape, np.float32)
        shown = []
        for number, (vessel, fault) in enumerate(zip(truth, self._each, strict=True)):
            blinks = rng.random() < self.faults.blinks
            shiver = rng.normal(0, self.faults.shiver, (_MODES, 2))
            if vessel.visible and not blinks and not _during(fault.missed, time_s):
                self._draw(made, labels, vessel, fault, time_s, shiver)
                shown.append(number)
        for a, b in combinations(shown, 2):
            if _during(self._merged[a, b], time_s):
                self._join(made, truth[a], truth[b])
        for blob in self._blobs:
            if blob.window[0] <= time_s < blob.window[1]:
                blob.draw_on(made, truth, time_s, 3 / self._mm)
        x, y, w, h = grid.region
        laid = np.zeros(grid.shape, np.float32)
        left, top, width, height = grid.inner
        how = cv2.INTER_AREA if width < w or height < h else cv2.INTER_LINEAR
        shown_part = cv2.resize(made[y : y + h, x : x + w], (width, height), interpolation=how)
        laid[top : top + height, left : left + width] = np.minimum(shown_part, 1)
        return laid

    def _draw(
        self,
        made: F32,
        labels: U8,
        vessel: VesselTruth,
        fault: "_Vessel",
        time_s: float,
        shiver: F64,
    ) -> None:
        """Draw one vessel with a soft outline that wavers."""
        at, inside = _cut_out(labels, vessel, self._area_px)
        inner = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
        outer = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
        depth_px = (inner - outer)[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX]
        rows = np.arange(at[0].start, at[0].stop)[:, None] - vessel.centroid_px[1]
        columns = np.arange(at[1].start, at[1].stop) - vessel.centroid_px[0]
        modes = fault.modes(time_s, self.faults.outline) + shiver
        waver = _around(modes, np.arctan2(rows, columns))
        radius_px = np.sqrt(vessel.area_px2 / np.pi)
        softness_px = 0.1 / self._mm  # about one pixel of the grid
        p = 1 / (1 + np.exp(-np.clip((depth_px + radius_px * waver) / softness_px, -30, 30)))
        if _during(fault.weak, time_s):
            p *= fault.weak_peak
        if _during(fault.split, time_s):
            width = max(0.1 * vessel.axes_px[0], 2 * softness_px)
            off = columns - fault.split_at * vessel.axes_px[0] / 2
            p = p * (1 - 0.85 * np.exp(-((off / width) ** 4)))
        made[at] = np.maximum(made[at], p.astype(np.float32))

    def _join(self, made: F32, one: VesselTruth, other: VesselTruth) -> None:
        """Fill the gap between two vessels that are close."""
        if _gap_px(one, other) * self._mm > self.faults.merge_mm:
            return
        thick = max(3, round(0.5 * min(one.axes_px[1], other.axes_px[1])))
        ends = [tuple(round(float(v)) for v in t.centroid_px) for t in (one, other)]
        bridge = np.zeros(made.shape, np.uint8)
        cv2.line(bridge, ends[0], ends[1], 255, thick)
        soft = cv2.GaussianBlur(bridge, (0, 0), 0.08 / self._mm)
        np.maximum(made, soft * np.float32(0.85 / 255), out=made)


@dataclass(frozen=True, slots=True, eq=False)
class _Vessel:
    """What goes wrong with one vessel."""

    missed: tuple[tuple[float, float], ...]
    weak: tuple[tuple[float, float], ...]
    split: tuple[tuple[float, float], ...]
    weak_peak: float
    split_at: float
    turn_hz: F64  # (modes, 2, waves): of cosine and sine around the outline
    phase: F64

    @classmethod
    def draw(cls, faults: Faults, until_s: float, rng: np.random.Generator) -> "_Vessel":
        shape = (_MODES, 2, _WAVES)
        return cls(
            missed=faults.missed.windows(until_s, rng),
            weak=faults.weak.windows(until_s, rng),
            split=faults.split.windows(until_s, rng),
            weak_peak=float(rng.uniform(0.58, 0.72)),
            split_at=float(rng.uniform(-0.3, 0.3)),
            turn_hz=rng.normal(0, faults.outline_hz, shape),
            phase=rng.uniform(0, 2 * np.pi, shape),
        )

    def modes(self, time_s: float, sd: Sequence[float]) -> F64:
        """Say how large each mode is now, cosine and sine, shape (modes, 2), in radii."""
        waves = np.cos(2 * np.pi * self.turn_hz * time_s + self.phase)
        modes: F64 = waves.sum(axis=2) * np.sqrt(2 / _WAVES) * np.asarray(sd)[:, None]
        return modes


@dataclass(frozen=True, slots=True)
class _Blob:
    """A false alarm."""

    window: tuple[float, float]
    place_px: tuple[float, float]
    speed_px_s: tuple[float, float]
    semi_px: tuple[float, float]
    angle_deg: float
    peak: float

    @classmethod
    def draw(
        cls,
        window: tuple[float, float],
        area_px: tuple[int, int, int, int],
        mm_per_px: float,
        strong_part: float,
        rng: np.random.Generator,
    ) -> "_Blob":
        x, y, width, height = area_px
        major = rng.uniform(1.0, 3.0) / mm_per_px
        strong = rng.random() < strong_part
        return cls(
            window=window,
            place_px=(float(rng.uniform(x, x + width)), float(y + height * rng.uniform(0.1, 0.9))),
            speed_px_s=tuple((rng.normal(0, 2, 2) / mm_per_px).tolist()),
            semi_px=(float(major), float(major * rng.uniform(0.4, 0.9))),
            angle_deg=float(rng.uniform(-30, 30)),
            peak=float(rng.uniform(0.85, 0.97) if strong else rng.uniform(0.55, 0.73)),
        )

    def draw_on(
        self, made: F32, truth: Sequence[VesselTruth], time_s: float, clear_px: float
    ) -> None:
        """Draw it, unless it has come too close to a vessel to be told from it."""
        lasted_s = time_s - self.window[0]
        x, y = (p + v * lasted_s for p, v in zip(self.place_px, self.speed_px_s, strict=True))
        semi = self.semi_px
        box_px = (x - semi[0], y - semi[0], 2 * semi[0], 2 * semi[0])
        if any(t.visible and _apart_px(t.box_px, box_px) < clear_px for t in truth):
            return
        oval = np.zeros(made.shape, np.uint8)
        cv2.ellipse(oval, ((x, y), (2 * semi[0], 2 * semi[1]), self.angle_deg), 255, -1)
        soft = cv2.GaussianBlur(oval, (0, 0), 1.5)
        np.maximum(made, soft * np.float32(self.peak / 255), out=made)


def _during(windows: Sequence[tuple[float, float]], time_s: float) -> bool:
    return any(start <= time_s < end for start, end in windows)


def _cut_out(
    labels: U8, vessel: VesselTruth, area_px: tuple[int, int, int, int]
) -> tuple[tuple[slice, slice], U8]:
    """Cut a vessel's mask out of the scan area, as if it went on beyond the borders.

    Returns
    -------
    at : tuple of slice
        Rows and columns: the vessel's box and a margin, within the scan area.
    inside : ndarray, uint8
        1 in the vessel; a margin larger than `at` on every side.
    """
    left, top, width, height = (math.floor(v + 0.5) for v in vessel.box_px)
    x, y, w, h = area_px
    rows = slice(max(y, top - _MARGIN_PX), min(y + h, top + height + _MARGIN_PX))
    columns = slice(max(x, left - _MARGIN_PX), min(x + w, left + width + _MARGIN_PX))
    inside = (labels[rows, columns] == vessel.id).astype(np.uint8)
    return (rows, columns), np.pad(inside, _MARGIN_PX, mode="edge")


def _around(modes: F64, angle: F64) -> F64:
    """Add up an outline's modes at each angle."""
    waver = np.full(angle.shape, modes[0, 0])
    for k in range(1, _MODES):
        waver += modes[k, 0] * np.cos(k * angle) + modes[k, 1] * np.sin(k * angle)
    return waver


def _gap_px(one: VesselTruth, other: VesselTruth) -> float:
    return _apart_px(one.box_px, other.box_px)


def _apart_px(one: Sequence[float], other: Sequence[float]) -> float:
    """Distance of two boxes ``(left, top, width, height)``; 0 where they overlap."""
    right = max(0.0, one[0] - other[0] - other[2], other[0] - one[0] - one[2])
    down = max(0.0, one[1] - other[1] - other[3], other[1] - one[1] - one[3])
    return float(np.hypot(right, down))
