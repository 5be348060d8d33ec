"""Whether a vessel's size beats, how fast and how much: a spectrum of uneven samples.

Frames come unevenly and some are missing, so the spectrum is one of least squares: at each
frequency a sine is fitted together with a slow drift, and its power is what it takes off the
residual (Lomb, Astrophys. Space Sci. 39, 1976; Scargle, ApJ 263, 1982; with the mean in the fit
rather than removed before it, Zechmeister and Kuerster, A&A 496, 2009). The drift is for the hand
that presses: it changes a vein by more than its pulse does, and more slowly.
"""

import math
from dataclasses import dataclass

import numpy as np

from veintrack.tracker.frame import F32, F64

__all__ = ["LEAST_RATE_HZ", "LEAST_SPAN_S", "PULSE_HZ", "Pulse", "find_pulse", "tells_pulse"]

PULSE_HZ = (0.7, 3.5)  # heart rates that are looked for: 42 to 210; below, breath has harmonics
LEAST_RATE_HZ = 2 * PULSE_HZ[1]  # slower samples could not tell all of these apart (Nyquist)
LEAST_SPAN_S = 2.9  # over less, a slow pulse cannot be told from drift
_LEAST_SAMPLES = 20
_STEP_HZ = 0.1  # two fifths of a peak's half width in four seconds; a parabola does the rest
_GRID_HZ = np.arange(PULSE_HZ[0] - _STEP_HZ, PULSE_HZ[1] + 1.5 * _STEP_HZ, _STEP_HZ)
_GRID: list[float] = _GRID_HZ.tolist()
_TURNS = (2 * math.pi * _GRID_HZ).astype(np.float32)
_DRIFT = 4  # order of the polynomial: over four seconds it follows what is slower than 0.5 Hz
_MOST_DRIFT = 0.45  # in the logarithm: whoever presses harder distorts more than can be fitted
_FALSE_ALARM = 0.001  # probability of taking noise for a pulse
_HIDDEN_SD = 8.0  # of a strength: about half of the pulses so strong stand out from normal noise
_NEAR_HZ = 1.0  # noise is judged by what is left so near to the peak: it is stronger at slow ones


@dataclass(frozen=True, slots=True)
class Pulse:
    """What in a vessel's size is most like a pulse.

    Attributes
    ----------
    hz : float
        Its frequency.
    strength : float
        Change of the diameter from smallest to largest, as a part of it.
    strength_sd : float
        Standard deviation of `strength`.
    false_alarm : float
        Probability that noise alone shows a peak as high as this.
    """

    hz: float
    strength: float
    strength_sd: float
    false_alarm: float

    @property
    def stands_out(self) -> bool:
        """Whether it is more than noise shows."""
        return self.false_alarm <= _FALSE_ALARM

    @property
    def hidden_strength(self) -> float:
        """How strong a pulse may be that does not stand out from the noise here."""
        return _HIDDEN_SD * self.strength_sd


def tells_pulse(time_s: F64) -> bool:
    """Whether samples at these times, ascending, are enough to tell any pulse in the band."""
    count = len(time_s)
    if count < _LEAST_SAMPLES or time_s[-1] - time_s[0] < LEAST_SPAN_S:
        return False
    usual_s = np.partition(time_s[1:] - time_s[:-1], count // 2)[count // 2]
    return bool(usual_s * LEAST_RATE_HZ <= 1)


def find_pulse(time_s: F64, size: F64) -> Pulse | None:
    """Find what in the size of one vessel is most like a pulse, and whether it is one.

    Parameters
    ----------
    time_s : ndarray of shape (N,)
        When it was seen, ascending, seconds; spacing and gaps are as they come.
    size : ndarray of shape (N,)
        Logarithm of its diameter: pulse and pressing then add up, and amplitudes are relative.

    Returns
    -------
    Pulse or None
        None where nothing can be told: too little was seen, it changes too much otherwise, or the
        samples come more slowly than at :data:`LEAST_RATE_HZ`.

    Notes
    -----
    A false alarm is the largest of so many independent peaks as span and band hold (Horne and
    Baliunas, ApJ 302, 1986; VanderPlas, ApJS 236:16, 2018, section 7.4). A network's errors last
    over several frames, so their level is not taken from the samples' spread but from the spectrum
    of what is left beside the peak, as the mean of m independent powers: noise then has z times
    that power with the probability ``(1 + z / m)**-m`` (the F distribution with 2 and 2 m degrees
    of freedom).
    """
    if not tells_pulse(time_s):
        return None
    t = time_s - (time_s[0] + time_s[-1]) / 2
    drift = np.linalg.qr(np.vander(t / t[-1], _DRIFT + 1))[0]
    slow = drift @ (drift.T @ size)
    if slow.max() - slow.min() > _MOST_DRIFT:
        return None
    y = size - slow
    spectrum = _Spectrum(t, drift)
    power = spectrum.of(y)
    peaks = np.where((power[1:-1] >= power[:-2]) & (power[1:-1] > power[2:]), power[1:-1], 0)
    at = int(peaks.argmax()) + 1
    if not peaks[at - 1] > 0:  # only the flanks of something slower or faster
        return None
    before, peak, after = power[at - 1 : at + 2].tolist()
    hz = _GRID[at] + _STEP_HZ * (before - after) / (2 * (before - 2 * peak + after))

    beat = _fit(t, y, drift, hz)
    noise, count = _around(spectrum.of(beat.rest), hz, 2 * float(t[-1]))
    if count < 1 or not noise > 0:
        return None
    independent = 2 * float(t[-1]) * (PULSE_HZ[1] - PULSE_HZ[0])
    chance = (1 + peak / (count * noise)) ** -count
    false_alarm = -math.expm1(independent * math.log1p(-chance))
    return Pulse(hz, beat.swing, math.sqrt(noise / 2 * beat.swing_factor), false_alarm)


class _Spectrum:
    """Power of sizes seen at the same times, each frequency fitted together with the drift."""

    def __init__(self, t: F64, drift: F64) -> None:
        count, basis = len(_TURNS), drift.astype(np.float32)
        phase = np.multiply.outer(_TURNS, t.astype(np.float32))
        waves = np.empty((2 * count, len(t)), np.float32)
        np.cos(phase, out=waves[:count])
        np.sin(phase, out=waves[count:])
        waves -= (waves @ basis) @ basis.T
        self._waves = waves
        squares = np.einsum("fn,fn->f", waves, waves)
        cross = np.einsum("fn,fn->f", waves[:count], waves[count:])
        whole = squares[:count] * squares[count:] - cross * cross
        self._cc, self._ss = squares[:count] / whole, squares[count:] / whole
        self._cs = 2 * cross / whole

    def of(self, y: F64) -> F32:
        """By how much a sine at each frequency of the grid lowers the sum of squares."""
        c, s = (self._waves @ y.astype(np.float32)).reshape(2, -1)
        power: F32 = self._ss * c * c - self._cs * c * s + self._cc * s * s
        return power


@dataclass(frozen=True, slots=True)
class _Beat:
    """A beat that was fitted: what is left, its swing, and the swing's variance per noise."""

    rest: F64
    swing: float
    swing_factor: float


def _fit(t: F64, y: F64, drift: F64, hz: float) -> _Beat:
    """Fit a beat of two harmonics; of one, where the samples are too far apart for two."""
    harmonics = 2 if 4 * hz * 2 * t[-1] <= len(t) else 1
    waves = _waves(2 * math.pi * hz * t, harmonics)
    waves -= (waves @ drift) @ drift.T
    inverse = np.linalg.inv(waves @ waves.T)
    parts = inverse @ (waves @ y)
    beat = _BEATS[harmonics]
    shape = parts @ beat
    low, high = int(shape.argmin()), int(shape.argmax())
    lever = beat[:, high] - beat[:, low]
    swing = float(shape[high] - shape[low])
    return _Beat(y - parts @ waves, swing, float(lever @ inverse @ lever))


def _waves(phase: F64, harmonics: int) -> F64:
    """Cosines, then sines, of the first harmonics, shape (2 * harmonics, N)."""
    turns = np.multiply.outer(np.arange(1.0, harmonics + 1), phase)
    return np.concatenate([np.cos(turns), np.sin(turns)])


def _around(power: F32, hz: float, span_s: float) -> tuple[float, float]:
    """Mean power near a frequency, without what the fit took away, and of how many peaks."""
    gone_hz = 0.5 / span_s
    left = [
        p
        for f, p in zip(_GRID, power.tolist(), strict=True)
        if gone_hz < abs(f - hz) <= _NEAR_HZ and abs(f - 2 * hz) > gone_hz
    ]
    return sum(left) / max(1, len(left)), len(left) * _STEP_HZ * span_s


# One beat, on which the swing is looked up: of so many harmonics.
_BEATS = {count: _waves(2 * math.pi * np.arange(24) / 24, count) for count in (1, 2)}
