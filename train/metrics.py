"""The scores that training reports.

They are pooled: pixels of all frames are counted together, so that frames without a vessel,
whose own Dice is undefined, count by their false alarms. One histogram of probabilities for each
class and truth holds the counts at every threshold at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["BINS", "PooledScores", "Scores"]

BINS = 256
"""Thresholds are multiples of 1/256: exact in binary floating point."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Pooled scores at one threshold, each from 0 to 1, the mean over classes.

    A class of which no pixel is known counts in no mean.

    Attributes
    ----------
    threshold : float
        Probability from which a pixel counts as found.
    dice, iou : float
        Overlap; 1 where there is nothing to find and nothing was found.
    pixel_accuracy : float
        Part of all pixels that are right.
    dice_of_classes : tuple of (float or None)
        Dice of each class; None where no pixel of it is known.
    """

    threshold: float
    dice: float
    iou: float
    pixel_accuracy: float
    dice_of_classes: tuple[float | None, ...]


class PooledScores(Metric):
    """Pixel counts over an epoch, at every threshold; adds up over devices.

    Parameters
    ----------
    classes : int
        Channels C.

    Attributes
    ----------
    names : sequence of str
        What the classes are called; their numbers, unless they are given names.
    """

    full_state_update = False
    histogram: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.names: Sequence[str] = tuple(map(str, range(classes)))
        empty = torch.zeros(classes, 2, BINS, dtype=torch.int64)
        self.add_state("histogram", empty, dist_reduce_fx="sum")

    def update(self, probability: Tensor, target: Tensor, unknown: Tensor | None = None) -> None:
        """Count a batch.

        Parameters
        ----------
        probability, target : Tensor of shape (N, C, H, W), float
            From 0 to 1; a pixel belongs to a class from a target of one half.
        unknown : Tensor of shape (N, C, H, W), float or bool, or None
            Pixels where this is not zero are not counted.
        """
        classes = self.histogram.shape[0]
        level = (probability.float() * BINS).long().clamp(0, BINS - 1)
        offset = torch.arange(classes, device=level.device).view(1, -1, 1, 1)
        cell = (2 * offset + (target >= 0.5)) * BINS + level
        counted = cell.flatten() if unknown is None else cell[unknown == 0]
        counts = torch.bincount(counted, minlength=classes * 2 * BINS)
        self.histogram += counts.view_as(self.histogram)

    def compute(self) -> dict[str, Tensor]:
        """Return pooled Dice, IoU and pixel accuracy at one half, each the mean over classes.

        With several classes, the Dice of each follows, as ``dice_NAME``; NaN where no pixel of it
        is known.
        """
        curves = [curve[:, BINS // 2] for curve in self._overlap()]
        names = ("dice", "iou", "pixel_accuracy")
        means = {n: _mean(c) for n, c in zip(names, curves, strict=True)}
        if len(self.names) == 1:
            return means
        return means | {f"dice_{n}": d for n, d in zip(self.names, curves[0], strict=True)}

    def at(self, threshold: float) -> Scores:
        """Return every score at a threshold, which is rounded to a multiple of 1/256."""
        index = min(max(round(threshold * BINS), 0), BINS - 1)
        dice, iou, accuracy = (curve[:, index] for curve in self._overlap())
        of_classes = tuple(None if math.isnan(d) else d for d in dice.tolist())
        means = [float(_mean(curve)) for curve in (dice, iou, accuracy)]
        return Scores(index / BINS, means[0], means[1], means[2], of_classes)

    def best(self) -> Scores:
        """Return the scores at the threshold of highest Dice; the middle of a tie's plateau."""
        dice = _mean(self._overlap()[0][:, 1:])
        plateau = torch.nonzero(dice == dice.max()).flatten() + 1
        return self.at(float(plateau[len(plateau) // 2]) / BINS)

    def _overlap(self) -> tuple[Tensor, Tensor, Tensor]:
        """Dice, IoU and accuracy of (C, BINS) classes and thresholds; NaN if nothing is known."""
        # A pixel is found at threshold k where its level is k or more: sums from the right.
        found = self.histogram.double().flip(-1).cumsum(-1).flip(-1)
        false, true = found[:, 0], found[:, 1]
        pixels = found[:, :, 0].sum(dim=1, keepdim=True)
        missed = found[:, 1, :1] - true
        wrong = false + missed
        dice = torch.where(wrong + true > 0, 2 * true / (2 * true + wrong).clamp(min=1), 1.0)
        iou = torch.where(wrong + true > 0, true / (true + wrong).clamp(min=1), 1.0)
        accuracy = 1 - wrong / pixels.clamp(min=1)
        unknown = (pixels == 0).expand_as(dice)
        return tuple(c.masked_fill(unknown, torch.nan) for c in (dice, iou, accuracy))  # type: ignore[return-value]


def _mean(of_classes: Tensor) -> Tensor:
    """Mean over the first axis of what is known; 0 where nothing is."""
    return of_classes.nanmean(dim=0).nan_to_num(0.0)
