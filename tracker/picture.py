"""What a picture is good for, judged by its grey levels alone, cheaply enough for every frame.

A picture is looked at in two copies: at half size, where the noise of an analogue grabber is
averaged away and speckle is not, and at a quarter, which holds all that tells a scan from a test
card or from a probe in air.

A probe in air shows nothing but its own reverberations: bright bands parallel to its face near
the top, repeated in depth and fading, even along the probe, and noise below. Quality assurance of
probes rests on that pattern (Dudley, "The in-air reverberation pattern", Ultrasound in Medicine
and Biology 45, 2019, doi 10.1016/j.ultrasmedbio.2019.02.001; "The analysis of in-air
reverberation patterns", Ultrasound 22, 2014, doi 10.1177/1742271X13517693). Bands of a linear
probe and arcs of a convex one have in common that the picture is its own mirror image.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from veintrack.tracker.frame import U8, PictureState
from veintrack.tracker.picturestep import StepSettings, StepWatch

__all__ = ["Look", "PictureSettings", "PictureWatch"]

_SMALLEST_PX = 32  # pictures smaller than this on a side are too small to judge


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """From when on a picture is no good.

    "Clips" and "stills" are the recordings of linear probes that the tests look at where they are
    at hand: six clips, 600 stills.

    Attributes
    ----------
    lit_grey : int
        Grey levels above this are more than noise on black.
    frozen_s : float
        A picture that stays the same for so long, by its capture times, is frozen. A scanner that
        is slower than its capture repeats each picture, for less than that.
    alike_grey : int
        By more than this a pixel of the half-size copy differs. A grabber's noise of 2 grey levels
        stays below it.
    alike_part : float
        Of the lit part of the picture: if more differs, the picture moved. Noise of 2 levels on a
        frozen frame makes 0.0003 differ, a mouse pointer 0.003; from one frame of a clip to the
        next it is at least 0.0045 in 19 of 20.
    even_grey : int
        Within so many grey levels a picture, or a column of it, is one level.
    even_part : float
        Of the upper part of a picture: if as much is its column's level, it is colour bars, or one
        colour with a box of text. At most 0.44 in clips and stills that are not black.
    card_part : float
        The upper part of the height that a test card's long bars reach down to: SMPTE's end at two
        thirds.
    face_part : float
        The upper part of the height in which reverberations are expected.
    haze_grey : int
        What noise below it may reach.
    haze_part : float
        Of the part below: as much may be brighter, a stray mark on the screen.
    mirror_grey, mirror_ratio : int, float
        Grey levels, and part of the level, by which a reverberation may differ from its mirror
        image; noise below may by the levels only.
    uneven_face_part, uneven_part : float
        As much of the part above, and below, may differ by more. Of stills, at least 0.23 and 0.05
        do, of clips of tissue 0.13 and 0.39.
    step : StepSettings
        What counts as a change of gain or depth.
    """

    lit_grey: int = 16
    frozen_s: float = 0.5
    alike_grey: int = 4
    alike_part: float = 0.004
    even_grey: int = 3
    even_part: float = 0.7
    card_part: float = 0.6
    face_part: float = 0.4
    haze_grey: int = 48
    haze_part: float = 0.001
    mirror_grey: int = 6
    mirror_ratio: float = 0.25
    uneven_face_part: float = 0.2
    uneven_part: float = 0.02
    step: StepSettings = field(default_factory=StepSettings)

    def __post_init__(self) -> None:
        if not self.frozen_s > 0:
            raise ValueError(f"frozen_s must be greater than 0, got {self.frozen_s}")
        for name in ("card_part", "face_part"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a picture told.

    Attributes
    ----------
    state : PictureState
        What the picture is good for.
    changes : tuple of str
        What became different with this picture, in words: gain, depth.
    """

    state: PictureState
    changes: tuple[str, ...] = ()


class PictureWatch:
    """Looks at every picture of a source, in order.

    Parameters
    ----------
    settings : PictureSettings
        From when on a picture is no good.
    """

    def __init__(self, settings: PictureSettings | None = None) -> None:
        self.settings = settings or PictureSettings()
        self._steps = StepWatch(self.settings.step)
        self._same: U8 | None = None  # the half-size copy that later ones are compared with
        self._same_since_ns = 0

    def reset(self) -> None:
        """Forget what was seen: the picture's place on the screen changed."""
        self._same = None
        self._steps.reset()

    def look(self, picture: U8, capture_ns: int) -> Look:
        """Judge a picture.

        Parameters
        ----------
        picture : ndarray of shape (H, W), uint8
            The scan area as it lies on the network's grid. Only read, and not kept; rows may be
            apart, as in a part of a larger array. One smaller than 32 px on a side is good.
        capture_ns : int
            When it was taken.
        """
        height, width = picture.shape
        if min(height, width) < _SMALLEST_PX:
            return Look(PictureState.GOOD)
        half = _halved(picture)
        small = _halved(half)
        frozen = self._is_frozen(half, capture_ns)
        if _is_card(small, self.settings):
            return Look(PictureState.NO_SIGNAL)
        if _is_air(small, self.settings):
            return Look(PictureState.NO_CONTACT)
        changes = self._steps.look(small, capture_ns)
        return Look(PictureState.FROZEN if frozen else PictureState.GOOD, changes)

    def _is_frozen(self, half: U8, capture_ns: int) -> bool:
        """Whether the picture has been the same for long enough."""
        same, lasted_ns = self._same, capture_ns - self._same_since_ns
        if (
            same is None
            or same.shape != half.shape
            or lasted_ns < 0
            or _differs(half, same, self.settings)
        ):
            self._same, self._same_since_ns = half, capture_ns
            return False
        return lasted_ns >= self.settings.frozen_s * 1e9


def _halved(picture: U8) -> U8:
    """Average blocks of 2 x 2 px. Whole blocks: OpenCV is ten times faster at these."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    half: U8 = cv2.resize(  # type: ignore[assignment]
        picture[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA
    )
    return half


def _differs(half: U8, same: U8, settings: PictureSettings) -> bool:
    differing = np.count_nonzero(cv2.absdiff(half, same) > settings.alike_grey)
    lit = np.count_nonzero(half > settings.lit_grey) if differing else 0
    return bool(differing > settings.alike_part * lit)


def _is_card(small: U8, settings: PictureSettings) -> bool:
    """Whether it is one level throughout, or made of columns of one lit level each."""
    if int(small.max()) - int(small.min()) <= settings.even_grey:
        return True
    upper = small[: round(settings.card_part * small.shape[0])]
    enough = settings.even_part * upper.size
    steps = cv2.absdiff(upper[1:], upper[:-1])
    if np.count_nonzero(steps <= settings.even_grey) < enough - upper.shape[1]:
        return False
    levels = np.sort(upper, axis=0)[upper.shape[0] // 2]  # the median of each column
    even = cv2.absdiff(upper, np.broadcast_to(levels, upper.shape).copy()) <= settings.even_grey
    # Of black with a few echoes in it, as in a water bath, the same can be said.
    return bool(np.median(levels) > settings.lit_grey and np.count_nonzero(even) >= enough)


def _is_air(small: U8, settings: PictureSettings) -> bool:
    """Whether nothing but reverberations shows: even bands or arcs, and at most haze below."""
    cut = round(settings.face_part * small.shape[0])
    face, below = small[:cut], small[cut:]
    if np.count_nonzero(below > settings.haze_grey) > settings.haze_part * below.size:
        return False
    coarse = _mirrored(_halved(below))  # noise is no mirror image of itself: it is averaged away
    if np.count_nonzero(coarse > settings.mirror_grey) > settings.uneven_part * coarse.size:
        return False
    allowed = np.maximum(settings.mirror_ratio * face, settings.mirror_grey)
    uneven = np.count_nonzero(_mirrored(face) > allowed)
    return bool(uneven <= settings.uneven_face_part * face.size)


def _mirrored(picture: U8) -> U8:
    """By how much a picture differs from its mirror image."""
    difference: U8 = cv2.absdiff(picture, cv2.flip(picture, 1))  # type: ignore[assignment]
    return difference
