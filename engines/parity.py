"""How far one engine's answers are from another's: the gate that a built engine has to pass.

The reference is ONNX Runtime in FP32. What counts is what the tracker makes of an answer: the mask,
and where the vessels in it lie.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from veintrack.engines.base import F32, U8, Engine, infer

__all__ = ["DEFAULT_LIMITS", "Answer", "Parity", "ParityLimits", "compare"]

Answer = Callable[[U8], F32]
"""Frames (1, 1, H, W) of uint8 to probabilities (1, C, H, W) of float32."""


@dataclass(frozen=True, slots=True)
class ParityLimits:
    """What an engine may differ by.

    Attributes
    ----------
    dice : float
        Least agreement of the masks, in every class.
    centroid_shift_px : float
        Farthest that a vessel may lie from where the reference sees it, in px of the grid.
    sure : float
        Mean probability in a vessel from which the reference is sure enough of it for its place to
        count. The tracker starts no track from a vaguer one, and the place of such a blob is at
        the mercy of any rounding: on real frames, BF16 moves one by 1.5 px, and none of those of
        which the network is sure by more than 0.7.

    Raises
    ------
    ValueError
        If `dice` or `sure` is not between 0 and 1, or `centroid_shift_px` is negative.
    """

    dice: float = 0.99
    centroid_shift_px: float = 0.5
    sure: float = 0.75

    def __post_init__(self) -> None:
        for name, value in (("dice", self.dice), ("sure", self.sure)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {value}")
        if not self.centroid_shift_px >= 0:
            raise ValueError(f"centroid_shift_px must be 0 or more, got {self.centroid_shift_px}")


DEFAULT_LIMITS = ParityLimits()
_BLIND = 0.1  # largest difference of a probability where there is no vessel to judge by


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an engine's answers are from the reference's.

    Attributes
    ----------
    dice : tuple of float
        Agreement of the masks, ``2 |A and B| / (|A| + |B|)`` (Dice, Ecology 26, 1945), for each
        class, pixels of all frames pooled: where a class has a handful of pixels in a frame, one
        of them at the threshold says nothing of the engine. 1 where neither marks any pixel.
    probability_max, probability_mean : float
        Largest and mean absolute difference of a probability. Infinite if an answer holds
        something that is not a number.
    centroid_shift_px : float
        Farthest distance between the centroids of a vessel that both see and the reference is sure
        of (see :class:`ParityLimits`), in px of the grid; 0 where there is none.
    centroid_shift_mean_px : float
        The mean of these distances.
    matched, gained, lost : int
        Vessels that both see, that only the engine sees, and that only the reference sees, over all
        frames and classes. Told, but no part of the gate: a vessel of just the least area comes
        and goes with a pixel.
    frames : int
        How many frames were judged.
    """

    dice: tuple[float, ...]
    probability_max: float
    probability_mean: float
    centroid_shift_px: float
    centroid_shift_mean_px: float
    matched: int
    gained: int
    lost: int
    frames: int

    def passes(self, limits: ParityLimits = DEFAULT_LIMITS) -> bool:
        """Whether the engine may stand in for the reference."""
        return not self._faults(limits)

    def reason(self, limits: ParityLimits = DEFAULT_LIMITS) -> str:
        """Say in one line why it passes or does not."""
        faults = self._faults(limits)
        if faults:
            return "; ".join(faults)
        return (
            f"Dice {min(self.dice):.4f}, largest centroid shift {self.centroid_shift_px:.2f} px, "
            f"largest probability difference {self.probability_max:.4f}, vessels {self.matched} "
            f"matched, {self.gained} gained, {self.lost} lost, in {self.frames} frames"
        )

    def to_json(self) -> dict[str, Any]:
        """Give the fields as JSON values; None for what is infinite."""
        fields = asdict(self) | {"dice": list(self.dice)}
        return {k: None if v == math.inf else v for k, v in fields.items()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Parity":
        """Read what :meth:`to_json` gave.

        Raises
        ------
        KeyError, TypeError
            If fields are missing, or are none of ours.
        """
        read: dict[str, Any] = {k: math.inf if v is None else v for k, v in fields.items()}
        return cls(**read | {"dice": tuple(read["dice"])})

    def _faults(self, limits: ParityLimits) -> list[str]:
        faults = []
        if not math.isfinite(self.probability_max):
            faults.append("its answers hold what is not a number")
        elif not self.matched + self.lost and self.probability_max > _BLIND:
            faults.append(
                f"a probability differs by {self.probability_max:.2f}, more than {_BLIND}, in "
                "pictures in which the reference sees no vessel: judge on others"
            )
        if min(self.dice) < limits.dice:
            number = self.dice.index(min(self.dice))
            faults.append(f"Dice {min(self.dice):.4f} of class {number} is below {limits.dice}")
        if self.centroid_shift_px > limits.centroid_shift_px:
            faults.append(
                f"a centroid lies {self.centroid_shift_px:.2f} px off, "
                f"more than {limits.centroid_shift_px}"
            )
        return faults


def compare(
    reference: Engine | Answer,
    candidate: Engine | Answer,
    frames: Iterable[U8],
    *,
    threshold: float,
    min_area_px: int = 20,
    sure: float = 0.75,
) -> Parity:
    """Hold an engine's answers against the reference's.

    Parameters
    ----------
    reference, candidate : Engine or callable
        The two, answering one frame at a time.
    frames : iterable of ndarray of shape (1, 1, H, W), uint8
        Pictures with vessels, on the network's grid.
    threshold : float
        Probability from which a pixel counts as vessel.
    min_area_px : int
        Smaller blobs of the mask are no vessels; the tracker leaves them out, too.
    sure : float
        See :class:`ParityLimits`.

    Raises
    ------
    ValueError
        If there are no frames, or the two answer in different shapes.
    EngineError
        If a device failed.
    """
    first, second = _answer(reference), _answer(candidate)
    tally: _Tally | None = None
    for frame in frames:
        expected = first(frame).copy()  # the engine's own buffer, and both may be one engine
        got = second(frame)
        if expected.shape != got.shape:
            raise ValueError(f"expected an answer of shape {expected.shape}, got {got.shape}")
        tally = tally or _Tally.empty(expected.shape[1])
        tally.add(expected[0], got[0], threshold, min_area_px, sure)
    if tally is None:
        raise ValueError("frames must hold at least one picture, got none")
    return tally.sum_up()


def _answer(engine: Engine | Answer) -> Answer:
    return engine if callable(engine) else lambda frame: infer(engine, frame)


@dataclass(slots=True)
class _Tally:
    """What was seen so far."""

    both: NDArray[np.int64]  # pixels of each class in both masks, and in one plus the other
    either: NDArray[np.int64]
    difference_sum: float = 0.0
    difference_max: float = 0.0
    values: int = 0
    shifts_px: list[float] = field(default_factory=list)
    matched: int = 0
    gained: int = 0
    lost: int = 0
    frames: int = 0

    @classmethod
    def empty(cls, classes: int) -> "_Tally":
        return cls(np.zeros(classes, np.int64), np.zeros(classes, np.int64))

    def add(self, expected: F32, got: F32, threshold: float, min_area_px: int, sure: float) -> None:
        self.frames += 1
        with np.errstate(invalid="ignore"):  # infinite less infinite
            difference = np.abs(np.subtract(expected, got, dtype=np.float64))
        difference[~np.isfinite(difference)] = math.inf
        self.difference_max = max(self.difference_max, float(difference.max()))
        self.difference_sum += float(difference.sum())
        self.values += difference.size
        masks = expected >= threshold, got >= threshold
        self.both += np.count_nonzero(masks[0] & masks[1], axis=(1, 2))
        self.either += sum(np.count_nonzero(mask, axis=(1, 2)) for mask in masks)
        for number in range(len(expected)):
            self._match(
                _vessels(expected[number], masks[0][number], min_area_px),
                _vessels(got[number], masks[1][number], min_area_px),
                sure,
            )

    def _match(self, expected: "_Vessels", got: "_Vessels", sure: float) -> None:
        """Pair the vessels, one with one, so that they share as many pixels as possible.

        Of ways that share as many, the one with the most pairs: their number is then the same
        whichever side is the reference.
        """
        shared = _shared_px(expected, got)
        pairing = (shared > 0) / (1 + min(shared.shape))  # less than a pixel, all together
        rows, columns = linear_sum_assignment(shared + pairing, maximize=True)
        pairs = [(i, j) for i, j in zip(rows, columns, strict=True) if shared[i, j] > 0]
        self.matched += len(pairs)
        self.lost += shared.shape[0] - len(pairs)
        self.gained += shared.shape[1] - len(pairs)
        self.shifts_px += [
            float(np.hypot(*(expected.centroids_px[i] - got.centroids_px[j])))
            for i, j in pairs
            if expected.scores[i] >= sure
        ]

    def sum_up(self) -> Parity:
        pairs = zip(self.both, self.either, strict=True)
        return Parity(
            dice=tuple(float(2 * both / either) if either else 1.0 for both, either in pairs),
            probability_max=self.difference_max,
            probability_mean=self.difference_sum / self.values,
            centroid_shift_px=max(self.shifts_px, default=0.0),
            centroid_shift_mean_px=float(np.mean(self.shifts_px)) if self.shifts_px else 0.0,
            matched=self.matched,
            gained=self.gained,
            lost=self.lost,
            frames=self.frames,
        )


@dataclass(frozen=True, slots=True)
class _Vessels:
    """The blobs of a mask that are large enough."""

    labels: NDArray[np.int64]  # of the pixels
    which: list[int]  # of the labels
    centroids_px: NDArray[np.float64]
    scores: NDArray[np.float64]  # mean probability


def _vessels(probability: F32, mask: NDArray[np.bool_], min_area_px: int) -> _Vessels:
    """Find the blobs of a mask that are large enough, with their centroids weighted by probability.

    Pixels that touch along an edge belong together, as in the tracker.
    """
    labels, count = ndimage.label(mask)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    large = [label for label in range(1, count + 1) if areas[label] >= min_area_px]
    weight = np.where(np.isfinite(probability), probability, 1).astype(np.float64)
    centroids = np.array(ndimage.center_of_mass(weight, labels, large), np.float64)
    scores = np.asarray(ndimage.mean(weight, labels, large), np.float64)
    return _Vessels(labels.astype(np.int64), large, centroids.reshape(-1, 2), scores)


def _shared_px(expected: _Vessels, got: _Vessels) -> NDArray[np.int64]:
    """Count the pixels that each vessel shares with each of the other answer."""
    rows, columns = int(expected.labels.max()) + 1, int(got.labels.max()) + 1
    together = expected.labels * columns + got.labels
    counts = np.bincount(together.ravel(), minlength=rows * columns).reshape(rows, columns)
    shared: NDArray[np.int64] = counts[np.ix_(expected.which, got.which)]
    return shared
