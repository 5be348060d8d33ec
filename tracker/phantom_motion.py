"""How the phantom moves: the hand that holds the probe, shadows that pass, paths of vessels."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MotionSettings", "PassingShadow", "along"]

_RAMP_S = 0.4  # how long a hand takes to press, and to lift


@dataclass(frozen=True, slots=True)
class MotionSettings:
    """What the hand that holds the probe does.

    Attributes
    ----------
    slide_amplitude_mm, slide_hz : float
        The probe slides to and fro along x.
    turn_amplitude_rad, turn_hz : float
        The probe rocks in the plane of the picture, about the middle of its face.
    press_amplitude, press_hz : float
        Rhythmic compression from 0 to this, 1 being as hard as it gets.
    press_windows_s, lift_windows_s : tuple of (start, end)
        Times in which the probe is pressed fully, and in which it has left the skin.
    """

    slide_amplitude_mm: float = 0.0
    slide_hz: float = 0.1
    press_amplitude: float = 0.0
    press_hz: float = 0.2
    press_windows_s: tuple[tuple[float, float], ...] = ()
    lift_windows_s: tuple[tuple[float, float], ...] = ()
    turn_amplitude_rad: float = 0.0
    turn_hz: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.press_amplitude <= 1:
            raise ValueError(
                f"press_amplitude must lie between 0 and 1, got {self.press_amplitude}"
            )
        for start, end in self.press_windows_s + self.lift_windows_s:
            if not start < end:
                raise ValueError(f"a window must start before it ends, got {(start, end)}")

    def slide_mm(self, time_s: float) -> float:
        """Displacement of the probe to the right."""
        return self.slide_amplitude_mm * math.sin(2 * math.pi * self.slide_hz * time_s)

    def turn_rad(self, time_s: float) -> float:
        """Angle by which the picture is turned, from +y towards +x."""
        return self.turn_amplitude_rad * math.sin(2 * math.pi * self.turn_hz * time_s)

    def press(self, time_s: float) -> float:
        """Compression, 0 to 1."""
        rhythm = self.press_amplitude * math.sin(math.pi * self.press_hz * time_s) ** 2
        return max(rhythm, _inside(self.press_windows_s, time_s))

    def lift(self, time_s: float) -> float:
        """Loss of contact, 0 to 1."""
        return _inside(self.lift_windows_s, time_s)


@dataclass(frozen=True, slots=True)
class PassingShadow:
    """A hair or a bubble between probe and skin that moves along: a column without echoes.

    Attributes
    ----------
    x_mm, speed_mm_s : float
        Its middle in the first frame, and how fast it moves to the right.
    half_width_mm : float
        Half its width, to where half the power gets through.
    """

    x_mm: float
    speed_mm_s: float
    half_width_mm: float

    def __post_init__(self) -> None:
        if not self.half_width_mm > 0:
            raise ValueError(f"half_width_mm must be positive, got {self.half_width_mm}")


def along(path_s_mm: Sequence[tuple[float, float, float]], time_s: float) -> tuple[float, float]:
    """Find the place on a path, mm.

    Parameters
    ----------
    path_s_mm : sequence of (time, x, y)
        Stops, in order of time; between two of them it starts and ends gently.
    time_s : float
        Before the first stop, and after the last, it stays there.
    """
    if not path_s_mm:
        return 0.0, 0.0
    later = bisect_right(path_s_mm, time_s, key=lambda stop: stop[0])
    start, x_mm, y_mm = path_s_mm[max(0, later - 1)]
    end, to_x_mm, to_y_mm = path_s_mm[min(later, len(path_s_mm) - 1)]
    part = _smooth((time_s - start) / (end - start)) if start < end else 0.0
    return x_mm + part * (to_x_mm - x_mm), y_mm + part * (to_y_mm - y_mm)


def _inside(windows_s: Sequence[tuple[float, float]], time_s: float) -> float:
    """1 inside a window, 0 outside, with smooth ramps within its ends."""
    level = 0.0
    for start, end in windows_s:
        ramp = min(_RAMP_S, (end - start) / 2)
        level = max(level, _smooth(min(time_s - start, end - time_s) / ramp))
    return level


def _smooth(x: float) -> float:
    x = min(1.0, max(0.0, x))
    return x * x * (3 - 2 * x)
