"""How vessels move, when a track is believed, and when it is given up: all that can be set."""

import math
from dataclasses import dataclass

from veintrack.tracker.frame import Spacing

__all__ = ["TrackSettings"]

_MAY_BE_ZERO = ("bias_px", "bias_axes", "bias_ragged")


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """How vessels move, and when a track is believed or given up.

    Rules are in seconds, none in frames. Speeds and accelerations are in px of a picture with
    `reference_mm` a pixel: where the spacing is known they are scaled to it, so that they mean the
    same motion in mm; where it is not, they are taken as they are.

    Attributes
    ----------
    reference_mm : float
        Millimetres a pixel for which speeds and accelerations are given.
    accel_psd_px2_s3 : float
        White-noise acceleration, px²/s³: how quickly a vessel may change its velocity.
    birth_speed_px_s : float
        Standard deviation of the unknown velocity of a new track.
    own_speed_px_s : float
        Standard deviation of a vessel's velocity against that of the whole picture, where the
        latter is known.
    own_part : float
        Part of `accel_psd_px2_s3` that is a vessel's own, against the whole picture, where the
        motion of the latter is known: most of what moves a vessel moves all of the picture.
    own_s : float
        Within this time a vessel's own velocity, against that of the whole picture, falls to 1/e
        where the latter is known: pulsation and sway go to and fro.
    birth_score : float
        Least score of a detection that starts a track; weaker ones only go on with one, as in
        Zhang et al., "ByteTrack", ECCV 2022, section 3. On the default model's training frames,
        94 % of the vessels found reach 0.75, and 48 % of the false alarms.
    sure_score : float
        Score from which the time in which a new track is seen counts in full; at `birth_score` and
        below, 3 % of it do. There, 82 % of the vessels reach 0.93, and 9 % of the false alarms.
    gate : float
        Largest squared Mahalanobis distance of a pair; 13.8 is 99.9 % of chi-squared with two
        degrees of freedom.
    noise_scale : float
        By how much the covariance of a detection's centroid is multiplied before it is used.
    bias_px, bias_axes, bias_ragged : float
        Standard deviation of what is wrong with the centroid in every frame alike, and so is not
        averaged away: in px; as a part of each axis, along it; and as a part of each axis for all
        of its ellipse that the outline does not fill. It is in the reported covariance only.
    area_psd_s, form_psd_s : float
        How quickly the logarithm of a vessel's area, and its elongation, may change: variance
        gained in a second.
    confirm_hits : int
        Detections that a track needs at least before it is believed.
    confirm_s : float
        Seconds that it was seen for, less those in which it was not, before it is believed. They
        count in full where what was seen is strong (`sure_score`) and whole; 3 % of them
        where it is cut off by an edge of the scan area at which the picture does not come in.
    tentative_s : float
        A track that is not confirmed ends after this long unseen.
    coast_s : float
        A confirmed track that is not seen is predicted for this long, then lost; and for no longer
        than it was seen, less the times in which it was not.
    left_s : float
        The same for a track that has left the scan area.
    collapsed_s : float
        The same for a vessel that was pressed flat.
    covered_s : float
        The same for a vessel that lost area before it vanished: a shadow passes over it.
    lifted_s : float
        Tracks are held for this long while the probe is off the skin, then lost.
    remembered_s : float
        One that was lost and is found within this time, in its place and with about its size, is
        confirmed again under its number.
    settled_s : float
        What was seen as a blob of its own for this much longer than in a blob with others, or in
        pieces, is no mere piece of a vessel beside it.
    flat : float
        A vessel counts as pressed flat if it vanished when its height was below this part of
        what it usually was.
    squeezed, squeeze_s : float
        Also if it had only begun to lose height, where the motion of the picture says that the
        tissue was pressed together in depth by at least this part within about this time.
        Breathing makes less than 0.007 in 0.4 s.
    together_s : float
        Within this time after it vanished, a vessel that was losing height counts as pressed flat
        too if another one is.
    usual_s : float
        Time over which a usual size is averaged; what is smaller counts a third of that.
    reopen_sizes : float
        How far from its predicted place a vessel may open again, or be found again when the probe
        is put back, in its usual diameters.
    damped_s : float
        Within this time the velocity of a pressed vessel, and of all while the probe is lifted,
        falls to 1/e.
    window_s : float
        Time over which collapse and pulsation are judged.
    """

    reference_mm: float = 0.08
    accel_psd_px2_s3: float = 3000.0
    birth_speed_px_s: float = 120.0
    own_speed_px_s: float = 15.0
    own_part: float = 0.1
    own_s: float = 0.5
    birth_score: float = 0.75
    sure_score: float = 0.93
    gate: float = 13.8
    noise_scale: float = 0.25
    bias_px: float = 0.25
    bias_axes: float = 0.01
    bias_ragged: float = 1.3
    area_psd_s: float = 0.03
    form_psd_s: float = 0.06
    confirm_hits: int = 3
    confirm_s: float = 0.08
    tentative_s: float = 0.1
    coast_s: float = 1.0
    left_s: float = 0.3
    collapsed_s: float = 5.0
    covered_s: float = 3.0
    lifted_s: float = 3.0
    remembered_s: float = 3.0
    settled_s: float = 1.0
    flat: float = 0.65
    squeezed: float = 0.02
    squeeze_s: float = 0.4
    together_s: float = 0.4
    usual_s: float = 1.0
    reopen_sizes: float = 1.0
    damped_s: float = 0.2
    window_s: float = 4.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if name in _MAY_BE_ZERO:
                if not 0 <= value < math.inf:
                    raise ValueError(f"{name} must be finite and not negative, got {value}")
            elif not 0 < value < math.inf:
                raise ValueError(f"{name} must be greater than 0 and finite, got {value}")

    def px_per_reference(self, spacing_mm: Spacing | None) -> float:
        """Pixels of a picture for one pixel of `reference_mm`; 1 where the spacing is unknown."""
        if spacing_mm is None:
            return 1.0
        return self.reference_mm / math.sqrt(spacing_mm[0] * spacing_mm[1])
