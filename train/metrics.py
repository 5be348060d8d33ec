"""The loss that is minimised and the scores that are reported.

Scores are pooled: pixels of all frames are counted together, so that frames without a vessel,
whose own Dice is undefined, count by their false alarms. One histogram of probabilities for each
class and truth holds the counts at every threshold at once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics import Metric

__all__ = ["BINS", "PooledScores", "Scores", "bce_dice_loss"]

BINS = 256
"""Thresholds are multiples of 1/256: exact in binary floating point."""


def bce_dice_loss(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Binary cross-entropy plus one minus the soft Dice coefficient, pooled over the batch.

    Dice as in Milletari et al., "V-Net", 3DV 2016, section 3, with its sum of squares in the
    denominator replaced by plain sums, and `smooth` pixels added so that an empty target has a
    gradient too.

    Parameters
    ----------
    logits, target : Tensor of shape (N, C, H, W), float
        Network output, and the truth from 0 to 1.
    smooth : float
        In pixels.

    Returns
    -------
    Tensor
        A scalar: the mean over classes.
    """
    if logits.shape != target.shape:
        raise ValueError(
            "logits and target must have one shape, "
            f"got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    logits = logits.float()
    bce = binary_cross_entropy_with_logits(logits, target)
    probability = torch.sigmoid(logits)
    shared = (probability * target).sum(dim=(0, 2, 3))
    total = probability.sum(dim=(0, 2, 3)) + target.sum(dim=(0, 2, 3))
    dice = (2 * shared + smooth) / (total + smooth)
    return bce + (1 - dice).mean()


@dataclass(frozen=True, slots=True)
class Scores:
    """Pooled scores at one threshold, each from 0 to 1, the mean over classes.

    Attributes
    ----------
    threshold : float
        Probability from which a pixel counts as found.
    dice, iou : float
        Overlap; 1 where there is nothing to find and nothing was found.
    pixel_accuracy : float
        Part of all pixels that are right.
    """

    threshold: float
    dice: float
    iou: float
    pixel_accuracy: float


class PooledScores(Metric):
    """Pixel counts over an epoch, at every threshold; adds up over devices.

    Parameters
    ----------
    classes : int
        Channels C.
    """

    full_state_update = False
    histogram: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        empty = torch.zeros(classes, 2, BINS, dtype=torch.int64)
        self.add_state("histogram", empty, dist_reduce_fx="sum")

    def update(self, probability: Tensor, target: Tensor) -> None:
        """Count a batch.

        Parameters
        ----------
        probability, target : Tensor of shape (N, C, H, W), float
            From 0 to 1; a pixel belongs to a class from a target of one half.
        """
        classes = self.histogram.shape[0]
        level = (probability.float() * BINS).long().clamp(0, BINS - 1)
        offset = torch.arange(classes, device=level.device).view(1, -1, 1, 1)
        cell = (2 * offset + (target >= 0.5)) * BINS + level
        counts = torch.bincount(cell.flatten(), minlength=classes * 2 * BINS)
        self.histogram += counts.view_as(self.histogram)

    def compute(self) -> dict[str, Tensor]:
        """Return pooled Dice, IoU and pixel accuracy at one half, each the mean over classes."""
        names = ("dice", "iou", "pixel_accuracy")
        return {n: c[BINS // 2] for n, c in zip(names, self._overlap(), strict=True)}

    def at(self, threshold: float) -> Scores:
        """Return every score at a threshold, which is rounded to a multiple of 1/256."""
        index = min(max(round(threshold * BINS), 0), BINS - 1)
        dice, iou, accuracy = (float(curve[index]) for curve in self._overlap())
        return Scores(index / BINS, dice, iou, accuracy)

    def best(self) -> Scores:
        """Return the scores at the threshold of highest Dice; the middle of a tie's plateau."""
        dice = self._overlap()[0][1:]
        plateau = torch.nonzero(dice == dice.max()).flatten() + 1
        return self.at(float(plateau[len(plateau) // 2]) / BINS)

    def _overlap(self) -> tuple[Tensor, Tensor, Tensor]:
        """Dice, IoU and accuracy at each threshold, shape (BINS,), the mean over classes."""
        # A pixel is found at threshold k where its level is k or more: sums from the right.
        found = self.histogram.double().flip(-1).cumsum(-1).flip(-1)
        false, true = found[:, 0], found[:, 1]
        pixels = found[:, :, 0].sum(dim=1, keepdim=True)
        missed = found[:, 1, :1] - true
        wrong = false + missed
        dice = torch.where(wrong + true > 0, 2 * true / (2 * true + wrong).clamp(min=1), 1.0)
        iou = torch.where(wrong + true > 0, true / (true + wrong).clamp(min=1), 1.0)
        accuracy = 1 - wrong / pixels.clamp(min=1)
        return dice.mean(dim=0), iou.mean(dim=0), accuracy.mean(dim=0)
