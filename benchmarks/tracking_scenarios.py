"""The scenarios of `tracking.py`: ten seconds of the phantom each, with exact truth.

A scenario is chosen by its name and a seed. The seed varies tissue, noise, and places, sizes and
rhythms of the vessels by as much as examinations of one kind differ; what happens stays the same.
Frames are 480x400 px at 0.1 mm a pixel and 25 a second where nothing else is said.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from veintrack.tracker.phantom import (
    MotionSettings,
    PassingShadow,
    PhantomSettings,
    VesselSettings,
    demo_settings,
)

__all__ = ["DURATION_S", "SCENARIOS", "Scenario", "scenario"]

DURATION_S = 10.0
_SHUT_S, _OFF_S = 0.52, 0.46  # what a window for pressing, or lifting, is longer than its effect
_TISSUE = demo_settings().tissue


@dataclass(frozen=True, slots=True)
class Scenario:
    """Ten seconds.

    Attributes
    ----------
    name : str
        As it stands in the table.
    settings : PhantomSettings
        What there is to see.
    indices : tuple of int
        Which frames of the phantom are captured.
    stamps_ns : tuple of int
        The capture time of each, as the source says it.
    rate_hz : float
        Nominal frames a second.
    """

    name: str
    settings: PhantomSettings
    indices: tuple[int, ...]
    stamps_ns: tuple[int, ...]
    rate_hz: float


def scenario(name: str, seed: int, duration_s: float = DURATION_S) -> Scenario:
    """Make a scenario.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    if name not in SCENARIOS:
        raise ValueError(f"no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    rng = np.random.default_rng((seed, list(SCENARIOS).index(name)))
    settings = replace(SCENARIOS[name](rng), seed=int(rng.integers(2**31)))
    captured = _CAPTURES.get(name, _all_frames)
    indices, stamps_s, rate_hz = captured(settings.rate_hz, duration_s, rng)
    stamps_ns = tuple(round(float(s) * 1e9) for s in stamps_s)
    return Scenario(name, settings, tuple(int(i) for i in indices), stamps_ns, rate_hz)


def _settings(*vessels: VesselSettings, **changes: Any) -> PhantomSettings:
    plain = PhantomSettings(
        height_px=400,
        width_px=480,
        rate_hz=25.0,
        depth_mm=40.0,
        vessels=vessels,
        tissue=_TISSUE,
        gamma=1.3,
    )
    return replace(plain, **changes)


def _vessel(
    rng: np.random.Generator,
    kind: Any,
    place_mm: tuple[float, float],
    size_mm: tuple[float, float],
    **more: Any,
) -> VesselSettings:
    """Make a vessel that differs a little from seed to seed."""
    size = rng.uniform(0.9, 1.1)
    pulse = (0.08, 0.12) if kind == "artery" else (0.0, 0.03)
    varied: dict[str, Any] = {
        "x_mm": place_mm[0] + rng.uniform(-0.5, 0.5),
        "depth_mm": place_mm[1] + rng.uniform(-0.3, 0.3),
        "major_mm": size * size_mm[0],
        "minor_mm": size * size_mm[1],
        "angle_rad": rng.uniform(-0.2, 0.2),
        "bend": (rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)),
        "pulse_hz": rng.uniform(0.8, 2.5),
        "pulse_fraction": rng.uniform(*pulse),
        "pulse_phase_rad": rng.uniform(0, 2 * np.pi),
        "sway_mm": rng.uniform(0.1, 0.3),
        "sway_hz": rng.uniform(0.15, 0.35),
        "blood_db": rng.uniform(-48, -43),
    }
    numbers = {name: v if isinstance(v, tuple) else float(v) for name, v in varied.items()}
    return VesselSettings(kind, **(numbers | more))


def _three(rng: np.random.Generator) -> tuple[VesselSettings, ...]:
    return (
        _vessel(rng, "vein", (-12, 12), (7.0, 5.0)),
        _vessel(rng, "artery", (0, 18), (6.3, 6.2)),
        _vessel(rng, "vein", (12, 11), (6.0, 4.4)),
    )


def _steady(rng: np.random.Generator) -> PhantomSettings:
    """Show a quiet hand: three vessels sway by a few tenths of a millimetre."""
    return _settings(*_three(rng))


def _slide(rng: np.random.Generator) -> PhantomSettings:
    """Slide by 4 mm to either side, at up to 6 mm/s."""
    move = MotionSettings(slide_amplitude_mm=4.0, slide_hz=0.25)
    return _settings(*_three(rng), motion=move)


def _fast_slide(rng: np.random.Generator) -> PhantomSettings:
    """Show five vessels 9 mm apart; slide by 5 mm to either side, at up to 25 mm/s."""
    vessels = (
        _vessel(rng, "artery" if x == 0 else "vein", (x, 12 + 3 * (i % 2)), (4.8, 4.0))
        for i, x in enumerate((-18, -9, 0, 9, 18))
    )
    move = MotionSettings(slide_amplitude_mm=5.0, slide_hz=0.8)
    return _settings(*vessels, motion=move)


def _rotate(rng: np.random.Generator) -> PhantomSettings:
    """Rock the probe by 10 degrees to either side: at 18 mm depth, 6 mm/s."""
    move = MotionSettings(turn_amplitude_rad=0.18, turn_hz=0.3)
    return _settings(*_three(rng), motion=move)


def _press(rng: np.random.Generator) -> PhantomSettings:
    """Press both veins flat twice, for one second each; the artery stays open."""
    windows = tuple((start, start + 1.0 + _SHUT_S) for start in (2.0, 6.0))
    return _settings(*_three(rng), motion=MotionSettings(press_windows_s=windows))


def _compress(rng: np.random.Generator) -> PhantomSettings:
    """Press lightly and rhythmically: veins lose up to half their height, and open again."""
    move = MotionSettings(press_amplitude=0.48, press_hz=0.4)
    return _settings(*_three(rng), motion=move)


def _crossing(rng: np.random.Generator) -> PhantomSettings:
    """Let an artery pass over a vein and back; where they cross, their walls touch."""
    there = ((1.0, 0.0, 0.0), (4.5, 15.0, 0.0), (5.5, 15.0, 0.0), (9.0, 0.0, 0.0))
    back = tuple((at, -x, y) for at, x, y in there)
    return _settings(
        _vessel(rng, "artery", (-7.5, 13), (5.6, 5.4), path_s_mm=there),
        _vessel(rng, "vein", (7.5, 18), (6.6, 4.6), path_s_mm=back),
        _vessel(rng, "vein", (17, 10), (4.8, 3.6)),
    )


def _touching(rng: np.random.Generator) -> PhantomSettings:
    """Bring two veins together until they touch, for a second, and part them; twice."""
    stops = ((1.0, 0.0), (2.5, 1.0), (3.5, 1.0), (5.0, 0.0), (5.5, 0.0), (7.0, 1.0), (8.0, 1.0))
    left = _vessel(rng, "vein", (-7, 14), (6.6, 4.8), sway_mm=0.0, angle_rad=0.05)
    right = _vessel(rng, "vein", (5, 14.5), (6.0, 4.6), sway_mm=0.0, angle_rad=-0.05)
    gap_mm = right.x_mm - left.x_mm - (left.major_mm + right.major_mm) / 2
    to_right = tuple((at, part * (gap_mm + 0.3) / 2, 0.0) for at, part in stops)
    to_left = tuple((at, -x, y) for at, x, y in to_right)
    return _settings(
        replace(left, path_s_mm=(*to_right, (9.5, 0.0, 0.0))),
        replace(right, path_s_mm=(*to_left, (9.5, 0.0, 0.0))),
        _vessel(rng, "artery", (15, 20), (5.6, 5.4)),
    )


def _enter_leave(rng: np.random.Generator) -> PhantomSettings:
    """Slide on by 30 mm: vessels leave at one edge and enter at the other."""
    places = ((-17, 12), (-6, 17), (6, 11), (18, 15), (30, 11), (41, 17))
    vessels = (
        _vessel(rng, "artery" if i % 3 == 1 else "vein", place, (6.0, 4.8))
        for i, place in enumerate(places)
    )
    move = MotionSettings(slide_amplitude_mm=30.0, slide_hz=0.025)
    return _settings(*vessels, motion=move)


def _artery_beside_vein(rng: np.random.Generator) -> PhantomSettings:
    """Show a strongly pulsing artery, a vein 1 mm from it, another vein; press lightly.

    No closer: between the two lumens lie two walls, and an artery's alone is 0.6 mm and more.
    """
    artery = _vessel(rng, "artery", (-3.3, 15), (6.4, 6.2), pulse_fraction=0.14, sway_mm=0.0)
    vein = _vessel(rng, "vein", (0, 15), (7.4, 5.0), sway_mm=0.0, angle_rad=0.0)
    beside_mm = artery.x_mm + (1.07 * artery.major_mm + vein.major_mm) / 2 + 1.0
    return _settings(
        artery,
        replace(vein, x_mm=beside_mm),
        _vessel(rng, "vein", (15, 10), (5.0, 3.8)),
        motion=MotionSettings(press_amplitude=0.25, press_hz=0.3, slide_amplitude_mm=1.0),
    )


def _slow_frames(rng: np.random.Generator) -> PhantomSettings:
    """Take five frames a second, while the probe slides 3 mm to either side."""
    move = MotionSettings(slide_amplitude_mm=3.0, slide_hz=0.2)
    return _settings(*_three(rng), motion=move, rate_hz=5.0)


def _jitter(rng: np.random.Generator) -> PhantomSettings:
    """Take frames 40 ms apart, give or take 10, with stamps that err by 3; slide."""
    return replace(_slide(rng), rate_hz=1000.0)


def _dropped(rng: np.random.Generator) -> PhantomSettings:
    """Lose three frames of ten, often several in a row; slide."""
    return _slide(rng)


def _lift(rng: np.random.Generator) -> PhantomSettings:
    """Lift the probe off the skin twice, for half a second, sliding on meanwhile."""
    windows = tuple((start, start + 0.5 + _OFF_S) for start in (2.5, 6.5))
    move = MotionSettings(slide_amplitude_mm=2.0, slide_hz=0.15, lift_windows_s=windows)
    return _settings(*_three(rng), motion=move)


def _gain_jump(rng: np.random.Generator) -> PhantomSettings:
    """Turn the gain: 10 dB up from three to five seconds, and 8 dB down from seven."""
    return _settings(*_three(rng), gain_windows_s=((3.0, 5.0, 10.0), (7.0, 99.0, -8.0)))


def _twelve(rng: np.random.Generator) -> PhantomSettings:
    """Show twelve vessels of three to four millimetres, 10 mm apart, and slide."""
    vessels = (
        _vessel(rng, "artery" if (row + column) % 3 == 0 else "vein", (x, depth), (3.6, 3.0))
        for row, depth in enumerate((8, 16, 24))
        for column, x in enumerate((-15, -5, 5, 15))
    )
    move = MotionSettings(slide_amplitude_mm=3.0, slide_hz=0.3)
    return _settings(*vessels, motion=move)


def _shadow(rng: np.random.Generator) -> PhantomSettings:
    """Let a shadow pass, 7 mm wide, at 8 mm/s, that hides one vessel after another."""
    return _settings(*_three(rng), shadow=PassingShadow(-30.0, 8.0, 3.5))


def _fast_frames(rng: np.random.Generator) -> PhantomSettings:
    """Take a hundred and twenty frames a second; slide."""
    return replace(_slide(rng), rate_hz=120.0)


def _coarse(rng: np.random.Generator) -> PhantomSettings:
    """Show a deep picture at 0.25 mm a pixel in a black margin, 15 frames a second."""
    vessels = (
        _vessel(rng, "vein", (-25, 26), (12.0, 8.0)),
        _vessel(rng, "artery", (-2, 36), (10.0, 9.8)),
        _vessel(rng, "vein", (24, 24), (11.0, 8.5)),
    )
    tissue = replace(
        _TISSUE, fat_mm=14.0, muscle_mm=42.0, axial_mm=0.2, lateral_mm=0.45, focus_mm=30.0,
        focus_length_mm=30.0, attenuation_db_mm=0.12, noise_db_mm=0.1, waviness_mm=2.5,
        ripple_mm=0.3, smoothing_px=0.7,
    )  # fmt: skip
    return _settings(
        *vessels,
        motion=MotionSettings(slide_amplitude_mm=6.0, slide_hz=0.2),
        tissue=tissue,
        depth_mm=70.0,
        height_px=310,
        width_px=420,
        rate_hz=15.0,
        margins_px=(25, 10, 35, 20),
    )


SCENARIOS: Mapping[str, Callable[[np.random.Generator], PhantomSettings]] = {
    "steady": _steady,
    "slide": _slide,
    "fast slide": _fast_slide,
    "rotate": _rotate,
    "press": _press,
    "compress": _compress,
    "crossing": _crossing,
    "touching": _touching,
    "enter and leave": _enter_leave,
    "artery beside vein": _artery_beside_vein,
    "5 fps": _slow_frames,
    "jitter": _jitter,
    "30 % dropped": _dropped,
    "lift": _lift,
    "gain jump": _gain_jump,
    "twelve": _twelve,
    "shadow": _shadow,
    "120 fps": _fast_frames,
    "coarse": _coarse,
}
"""By name: what makes the phantom's settings; its docstring says what happens."""

_Captured = tuple[Any, Any, float]  # indices of the phantom, stamps in seconds, nominal rate


def _all_frames(rate_hz: float, duration_s: float, rng: np.random.Generator) -> _Captured:
    del rng
    indices = np.arange(round(duration_s * rate_hz))
    return indices, indices / rate_hz, rate_hz


def _some_frames(rate_hz: float, duration_s: float, rng: np.random.Generator) -> _Captured:
    """Lose three of ten, in runs of two on average."""
    kept = np.ones(round(duration_s * rate_hz), bool)
    at = 1
    while at < len(kept):
        lost = int(rng.geometric(1 / 2))
        kept[at : at + lost] = False
        at += lost + int(rng.geometric(3 / 14))
    (indices,) = np.nonzero(kept)
    return indices, indices / rate_hz, rate_hz


def _irregular_frames(rate_hz: float, duration_s: float, rng: np.random.Generator) -> _Captured:
    """Take of a millisecond's raster what comes about every 40 ms; stamps are not quite true."""
    steps_ms = np.clip(rng.normal(40, 10, round(duration_s * 25) - 1), 15, 90).round()
    indices = np.concatenate([[0], np.cumsum(steps_ms)]).astype(int)
    stamps_s = indices / rate_hz + np.clip(rng.normal(0, 0.003, len(indices)), -0.007, 0.007)
    return indices, np.maximum(stamps_s, 0.0), 25.0


_CAPTURES: Mapping[str, Callable[[float, float, np.random.Generator], _Captured]] = {
    "30 % dropped": _some_frames,
    "jitter": _irregular_frames,
}
