"""How far frames are varied in training: every effect by its odds and its strength, and presets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

__all__ = ["PRESETS", "Augmentation", "Effect"]


@dataclass(frozen=True, slots=True)
class Effect:
    """How often a frame is varied in one way, and how much at most.

    Attributes
    ----------
    probability : float
        Share of the frames, 0 to 1.
    strength : float
        The largest amount, in the unit that `Augmentation` names; a frame's own amount is uniform
        between 0 and this.

    Raises
    ------
    ValueError
        If the probability lies outside 0 to 1, or the strength is negative or not finite.
    """

    probability: float
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be from 0 to 1, got {self.probability}")
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise ValueError(f"strength must be finite and not negative, got {self.strength}")

    def __bool__(self) -> bool:
        return self.probability > 0 and self.strength > 0


_LARGEST = {
    "rotation_deg": 180.0,
    "projection": 0.2,  # beyond it the corners may form a quadrilateral that is not convex
    "shift": 0.5,
    "elastic": 0.04,  # beyond it the field may fold
    "attenuation": 0.95,
    "shadow": 0.95,
    "haze": 0.95,
    "margins": 0.45,
}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What may happen to a training frame; the default is the preset "ultrasound".

    "Fraction of the size" is of the frame's width along x and of its height along y; "full scale"
    is the step from black to white.

    Attributes
    ----------
    flip : Effect
        Left and right exchanged; the strength is not looked at.
    rotation_deg : Effect
        Turn about the middle, either way, in degrees.
    projection : Effect
        Shift of each corner by itself, either way, as a fraction of the size.
    zoom : Effect
        Magnification or reduction: 0.3 is up to 1.3 times larger or smaller.
    shift : Effect
        Translation, either way, as a fraction of the size.
    elastic : Effect
        Smooth displacement that varies over the frame, as a fraction of the size.
    haze : Effect
        Veil of reverberation that lifts what is dark, as a fraction of full scale.
    attenuation : Effect
        Share of the grey level that is lost at the bottom of the frame.
    shadow : Effect
        Share of the grey level that is lost in an acoustic shadow.
    gain_field : Effect
        Slow variation of the gain over the frame, either way, as a fraction of full scale.
    speckle : Effect
        Standard deviation of grain in white; in darker grey it falls with the square root.
    noise : Effect
        Standard deviation of added noise, as a fraction of full scale.
    blur_px : Effect
        Standard deviation of a Gaussian blur, in px.
    coarsen : Effect
        Loss of resolution: 2 is pixels that are up to 3 times larger.
    sharpen : Effect
        Share of the detail that is added once more (unsharp masking).
    gain : Effect
        Brightness offset, either way, as a fraction of full scale.
    depth_gain : Effect
        The same as a ramp over depth: up at the top and down at the bottom, or the reverse.
    contrast : Effect
        Factor of the grey level: 0.3 is up to 1.3 times more or less.
    gamma : Effect
        Exponent of the grey level: 0.3 is from 1 / 1.3 to 1.3.
    marks : Effect
        Writing laid over the frame: its brightness, as a fraction of full scale.
    margins : Effect
        Width of a black border on some of the sides, as a fraction of the size.

    Raises
    ------
    ValueError
        If a strength is larger than makes sense.
    """

    flip: Effect = Effect(0.5)
    rotation_deg: Effect = Effect(0.8, 25.0)
    projection: Effect = Effect(0.7, 0.12)
    zoom: Effect = Effect(0.7, 0.4)
    shift: Effect = Effect(0.7, 0.15)
    elastic: Effect = Effect(0.5, 0.03)
    haze: Effect = Effect(0.3, 0.3)
    attenuation: Effect = Effect(0.25, 0.6)
    shadow: Effect = Effect(0.3, 0.7)
    gain_field: Effect = Effect(0.3, 0.1)
    speckle: Effect = Effect(0.3, 0.1)
    noise: Effect = Effect(0.3, 0.04)
    blur_px: Effect = Effect(0.25, 1.5)
    coarsen: Effect = Effect(0.2, 2.0)
    sharpen: Effect = Effect(0.2, 1.0)
    gain: Effect = Effect(0.5, 0.08)
    depth_gain: Effect = Effect(0.4, 0.1)
    contrast: Effect = Effect(0.5, 0.35)
    gamma: Effect = Effect(0.5, 0.4)
    marks: Effect = Effect(0.1, 1.0)
    margins: Effect = Effect(0.25, 0.25)

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            strength = getattr(self, name).strength
            # An effect that never happens may keep any strength.
            if getattr(self, name) and strength > largest:
                raise ValueError(f"strength of {name} must be at most {largest:g}, got {strength}")


_NONE = {field.name: Effect(0.0, 0.0) for field in fields(Augmentation)}

PRESETS: Mapping[str, Augmentation] = MappingProxyType(
    {
        "none": Augmentation(**_NONE),
        # Qin et al. 2022: rotation, flip and projection, and no change of grey.
        "paper": Augmentation(
            **_NONE
            | {
                "flip": Effect(0.5),
                "rotation_deg": Effect(1.0, 20.0),
                "projection": Effect(1.0, 0.1),
            }
        ),
        "ultrasound": Augmentation(),
    }
)
"""Named ways to vary frames."""
