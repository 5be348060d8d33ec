"""What a vessel does over a few seconds: collapse, pulse, and whether it is like a vein.

One :class:`Vitals` per track keeps a window of what was seen and looks at it four times a second
of capture time, however many frames come. What each number is, where its formula comes from and
what it cannot do: ``docs/measurement.md``.
"""

import functools
import math
import operator
from array import array
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from veintrack.tracker.frame import F64, Detection, Spacing
from veintrack.tracker.measure import axes_mm
from veintrack.tracker.pulse import LEAST_SPAN_S, Pulse, find_pulse

__all__ = ["WINDOW_S", "Cues", "VitalSigns", "Vitals", "vein_likeness"]

WINDOW_S = 4.0  # holds a breath at 15 a minute, and three beats of the slowest usual heart
_LOOK_NS = 250_000_000
_LOOKS_PER_SPECTRUM = 4  # a pulse changes slowly, and costs more than all the rest
_SPREAD = 0.6180339887  # golden section: tracks of different sizes look at different times
_STEADY_S = 0.16  # over this long samples are smoothed, or extremes would be those of noise
_SPIKE = 8.0  # times the usual bow between three samples: no vessel does that
_SPELL_S = 0.4  # form and place are medians over this long: no hand is as fast as half of it
_SPELL_SAMPLES = 3  # at least
_STRAY = np.array([(0.15,), (0.05,)])  # parts of axes' ratio and depth: so far off is no vessel
_LEAST_PART = 0.5  # of the window: collapse from here on
_LIKENESS_PART = 0.7  # and likeness, as it needs the pulse
_LEAST_SAMPLES = 8
# Of a sample: time, minor axis, axes' ratio, depth, logarithm of the diameter, and how much of the
# ellipse with its axes the outline fills.
_COLUMNS = 6
_TIME, _OVAL = 0, 5
_MINOR, _RATIO, _DEPTH, _SIZE = range(4)  # of those between


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """What was found over the window; None until enough was seen.

    Attributes
    ----------
    collapse : float or None
        ``(Dmax - Dmin) / Dmax`` of the minor axis: 0 unchanged, 1 pressed flat.
    pulse_hz, pulse_strength : float or None
        Frequency of the pulse, and change of the diameter with it, from smallest to largest, as a
        part of it; None where there is none, or it cannot be told.
    vein_likeness, vein_likeness_sd : float or None
        1 like a vein, 0 like an artery, and how uncertain that is.
    """

    collapse: float | None = None
    pulse_hz: float | None = None
    pulse_strength: float | None = None
    vein_likeness: float | None = None
    vein_likeness_sd: float | None = None


class Cues(NamedTuple):
    """What tells veins from arteries, each a part of 1.

    Attributes
    ----------
    flattening : float
        Change of the minor to the major axis, from the roundest to the flattest moment. A pulse
        widens both axes alike and leaves it as it is.
    push : float
        Change of the vessel's depth: how much the tissue above it was compressed.
    pulse : float
        Change of the diameter with the pulse.
    roundness : float
        Minor to major axis at the roundest moment.
    """

    flattening: float
    push: float
    pulse: float
    roundness: float


# Logarithm of the odds for a vein, fitted to phantom vessels by benchmarks/vein_likeness.py.
_BIAS = 12.0
_WEIGHTS = Cues(flattening=20.0, push=-40.0, pulse=-30.0, roundness=-12.5)
_MOST_ODDS = 4.0  # 50 to 1: a few hundred phantom vessels bear out no more
# What a network's outlines get wrong over and above what changes from frame to frame.
_FLOOR_SD = Cues(flattening=0.05, push=0.006, pulse=0.01, roundness=0.03)
_OVAL_SD = 0.8  # of the roundness, for the root of the part of its ellipse that an outline lacks
_PULSE_UNKNOWN = 0.06, 0.04  # pulse and its deviation where nothing can be told: either kind's
_BOW_SD = 1.4826 / math.sqrt(1.5)  # standard deviation of normal noise, from its usual bow
_least, _most = np.minimum.reduce, np.maximum.reduce  # cheaper than their array methods


def vein_likeness(cues: Cues, sd: Cues) -> tuple[float, float]:
    """How much a vessel is like a vein, 0 to 1, and how uncertain that is.

    Parameters
    ----------
    cues, sd : Cues
        What was seen, and the standard deviation of each.

    Notes
    -----
    A logistic score. Direction of the cues: veins are compressible, thin-walled and oval, arteries
    round, pulsatile and hardly compressible (Troianos et al., J. Am. Soc. Echocardiogr. 24, 2011,
    section 6). The weights were fitted to the phantom, and hold there only. The odds are uncertain
    as the cues are (first-order propagation); the score is the mean of those one standard
    deviation to either side, and half their distance its uncertainty (Julier and Uhlmann, Proc.
    IEEE 92, 2004, in one dimension): what is not known pulls it towards a half, as in MacKay,
    Neural Comput. 4, 1992. It does not hold how far the phantom is from a patient.
    """
    odds = _BIAS + math.fsum(map(operator.mul, _WEIGHTS, cues))
    odds_sd = math.hypot(*map(operator.mul, _WEIGHTS, sd))
    odds = max(-_MOST_ODDS, min(_MOST_ODDS, odds))
    low, high = _logistic(odds - odds_sd), _logistic(odds + odds_sd)
    return (low + high) / 2, (high - low) / 2


def _logistic(odds: float) -> float:
    return (1 + math.tanh(odds / 2)) / 2


class Vitals:
    """Collapse, pulse and vein-likeness of one track.

    Its answers depend on nothing but what it was given.

    Parameters
    ----------
    window_s : float
        How far it looks back, seconds.

    Raises
    ------
    ValueError
        If the window is not positive.
    """

    def __init__(self, window_s: float = WINDOW_S) -> None:
        if not window_s > 0:
            raise ValueError(f"window_s must be greater than 0, got {window_s}")
        self._window_s = window_s
        self._samples = array("d")
        self._in_mm: bool | None = None
        self._begun = False
        self._first_ns = 0
        self._now_ns = 0
        self._due_ns = 0
        self._looks = 0
        self._depth = 0.0
        self._pulse: Pulse | None = None
        self._signs = VitalSigns()
        self._cues: tuple[Cues, Cues] | None = None

    @property
    def cues(self) -> tuple[Cues, Cues] | None:
        """What the last likeness was made of, and the standard deviations; None before one."""
        return self._cues

    def add(
        self, time_ns: int, seen: Detection, spacing_mm: Spacing | None, top_px: float = 0.0
    ) -> None:
        """Take in what was seen of the vessel in one frame.

        Parameters
        ----------
        time_ns : int
            When; what is not later than the last one is the same evidence again, and left out.
        seen : Detection
            The vessel.
        spacing_mm : tuple of float or None
            ``(row_mm, col_mm)``. Where it becomes known, or is no longer, the window begins anew.
        top_px : float
            First row of the scan area.
        """
        if self._in_mm is not (spacing_mm is not None):
            self._in_mm = spacing_mm is not None
            self._samples = array("d")
        if not self._advance(time_ns, seen.area_px2):
            return
        (row, column), axes = (1.0, 1.0), seen.axes_px
        if spacing_mm is not None:
            (row, column), axes = spacing_mm, axes_mm(seen, spacing_mm)
        major, minor = axes
        if not (minor > 0 and seen.area_px2 > 0):
            return
        self._depth = (float(seen.centroid_px[1]) + 0.5 - top_px) * row
        oval = seen.area_px2 / (math.pi / 4 * seen.axes_px[0] * seen.axes_px[1])
        self._append(minor, minor / major, 0.5 * math.log(seen.area_px2 * row * column), oval)

    def miss(self, time_ns: int, collapsed: bool) -> None:
        """Take in that it was not seen in one frame.

        Parameters
        ----------
        time_ns : int
            When.
        collapsed : bool
            Whether it was pressed flat, which is a diameter of 0; else nothing is known.
        """
        if self._advance(time_ns, 0.0) and collapsed:
            self._append(0.0, 0.0, math.nan, 1.0)

    def signs(self) -> VitalSigns:
        """Say what the window says; at most a quarter of a second of capture time old."""
        if self._begun and self._now_ns >= self._due_ns:
            behind = (self._now_ns - self._due_ns) // _LOOK_NS + 1
            self._due_ns += behind * _LOOK_NS
            self._signs = self._look()
        return self._signs

    def _advance(self, time_ns: int, size: float) -> bool:
        """Move on in time; False where it does not."""
        if not self._begun:
            self._begun, self._first_ns = True, time_ns
            turn = size * _SPREAD % 1
            self._due_ns = time_ns + int(turn * _LOOK_NS)
            self._looks = int(turn * 97) % _LOOKS_PER_SPECTRUM
        elif time_ns <= self._now_ns:
            return False
        self._now_ns = time_ns
        return True

    def _append(self, minor: float, ratio: float, log_size: float, oval: float) -> None:
        time_s = (self._now_ns - self._first_ns) * 1e-9
        self._samples.extend((time_s, minor, ratio, self._depth, log_size, oval))

    def _look(self) -> VitalSigns:
        rows = self._recent()
        count = rows.shape[1]
        span_s = float(rows[_TIME, -1] - rows[_TIME, 0]) if count >= _LEAST_SAMPLES else 0.0
        self._looks += 1
        if span_s < _LEAST_PART * self._window_s:
            self._pulse = self._cues = None
            return VitalSigns()
        clean, bow = _despiked(rows[1:_OVAL])
        rate_hz = count / span_s
        levels, stray = _levelled(clean[_RATIO:_SIZE], rate_hz)
        if self._looks % _LOOKS_PER_SPECTRUM == 0 or span_s < LEAST_SPAN_S:
            sized = np.isfinite(clean[_SIZE]) & ~stray
            self._pulse = find_pulse(rows[_TIME, 1:-1][sized], clean[_SIZE, sized])
        minor = clean[_MINOR]
        if np.count_nonzero(stray):  # seldom
            minor = minor[~stray | (minor == 0)]  # pressed flat was no other outline
        steady = _steadied(minor, rate_hz)
        # A parabola overshoots where something jumps.
        low, high = max(_least(steady), _least(minor)), min(_most(steady), _most(minor))
        collapse = float(1 - low / high) if high > 0 else 1.0
        pulse = self._pulse if self._pulse and self._pulse.stands_out else None
        hz, strength = (pulse.hz, pulse.strength) if pulse else (None, None)
        if span_s < _LIKENESS_PART * self._window_s:
            return VitalSigns(collapse, hz, strength)
        jitter = float(bow[_RATIO]) * _BOW_SD / math.sqrt(max(1.0, _STEADY_S * rate_hz))
        self._cues = self._weigh(levels, jitter, _lack(rows[_OVAL, 1:-1]))
        return VitalSigns(collapse, hz, strength, *vein_likeness(*self._cues))

    def _recent(self) -> F64:
        """Drop what is older than the window, and copy the rest, shape (6, N)."""
        since_s = (self._now_ns - self._first_ns) * 1e-9 - self._window_s
        samples, old = self._samples, 0
        while old < len(samples) and samples[old] < since_s:
            old += _COLUMNS
        del samples[:old]
        rows: F64 = np.array(samples).reshape(-1, _COLUMNS).T.copy()
        return rows

    def _weigh(self, levels: F64, jitter: float, lack: float) -> tuple[Cues, Cues]:
        """Make cues, and their standard deviations, of what form, place and size did."""
        pulse, pulse_sd = _PULSE_UNKNOWN
        if self._pulse and self._pulse.stands_out:
            pulse, pulse_sd = self._pulse.strength, self._pulse.strength_sd
        elif self._pulse:  # anything from none to what the noise hides, or what either kind has
            hidden = self._pulse.hidden_strength
            pulse, pulse_sd = min(pulse, hidden / 2), min(pulse_sd, hidden / math.sqrt(12))
        flattest, shallowest = _least(levels, axis=1).tolist()
        roundest, deepest = _most(levels, axis=1).tolist()
        cues = Cues(
            flattening=1 - flattest / roundest if roundest > 0 else 1.0,
            push=max(0.0, 1 - shallowest / deepest) if deepest > 0 else 0.0,
            pulse=pulse,
            roundness=roundest,
        )
        floor = _FLOOR_SD
        sd = Cues(
            flattening=math.hypot(jitter / max(roundest, 0.1), floor.flattening),
            push=floor.push,
            pulse=math.hypot(pulse_sd, floor.pulse),
            roundness=math.hypot(jitter, _OVAL_SD * math.sqrt(lack), floor.roundness),
        )
        return cues, sd


def _despiked(values: F64) -> tuple[F64, F64]:
    """Replace single bad frames by the median of themselves and their neighbours, in rows.

    What the first and the last frame show is not known before another one agrees.

    Returns
    -------
    clean : ndarray of shape (K, N - 2)
        Without the first and the last.
    bow : ndarray of shape (K,)
        Usual distance of a sample from the middle of its neighbours.
    """
    a, b, c = values[:, :-2], values[:, 1:-1], values[:, 2:]
    steps = values[:, 1:] - values[:, :-1]
    bows = np.abs(steps[:, 1:] - steps[:, :-1])
    half = bows.shape[1] // 2
    bows.partition(half, axis=1)
    bow = bows[:, half] / 2
    lengths = np.abs(steps)
    far = np.minimum(lengths[:, 1:], lengths[:, :-1]) > _SPIKE * bow[:, None]
    if not np.count_nonzero(far):  # as a rule
        return b, bow
    middle = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
    return np.where(far, middle, b), bow


def _levelled(values: F64, rate_hz: float) -> tuple[F64, NDArray[np.bool_]]:
    """Follow form and place, in rows, by medians over short spells: a beat leaves both alone.

    Returns
    -------
    levels : ndarray of shape (2, P)
        The medians, of spells that overlap by half.
    stray : ndarray of shape (N,)
        Whether form or place are far from the median around them: now and then an outline takes in
        a neighbour, or only a part of the vessel.
    """
    count = values.shape[1]
    spells, nearest = _spells(count, max(_SPELL_SAMPLES, round(_SPELL_S * rate_hz)))
    sorted_spells = values.take(spells, axis=1)
    sorted_spells.sort(axis=2)  # for so few faster than to part them
    levels = sorted_spells[:, :, spells.shape[1] // 2].copy()
    away = np.abs(values - levels.take(nearest, axis=1))
    return levels, np.logical_or.reduce(away > _STRAY * _most(levels, axis=1, keepdims=True))


@functools.lru_cache(maxsize=64)
def _spells(count: int, length: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """List the samples of each spell, and for each sample the spell whose middle is nearest."""
    length = min(count, length)
    starts = np.linspace(0, count - length, max(1, round(2 * count / length) - 1))
    middles = starts.round() + (length - 1) / 2
    nearest = np.abs(np.arange(count)[:, None] - middles).argmin(axis=1)
    return starts.round().astype(np.intp)[:, None] + np.arange(length), nearest


def _lack(ovals: F64) -> float:
    """Usual part of its ellipse that an outline lacks."""
    half = len(ovals) // 2
    return max(0.0, 1 - float(np.partition(ovals, half)[half]))


def _steadied(values: F64, rate_hz: float) -> F64:
    """Fit a parabola around each sample, which leaves the height of a beat as it is.

    Savitzky and Golay, Anal. Chem. 36, 1964; the weights as of evenly spaced samples.
    """
    reach = round(_STEADY_S * rate_hz / 2)
    if reach < 2 or len(values) <= 2 * reach:
        return values
    steady: F64 = np.correlate(values, _parabola(reach), "same")
    steady[:reach] = values[:reach]  # no parabola fits around these
    steady[-reach:] = values[-reach:]
    return steady


@functools.cache
def _parabola(reach: int) -> F64:
    """Weights of the samples around one, `reach` on either side; the same forwards and back."""
    at, m = np.arange(-reach, reach + 1), 2 * reach + 1
    weights: F64 = (3 * m * m - 7 - 20 * at * at) * 3 / (4 * m * (m * m - 4))
    return weights
