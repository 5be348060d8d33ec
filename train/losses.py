"""The losses to choose from: each is a sum of terms, one per pixel and one per region.

A term gets logits and targets of shape (N, C, H, W), and which pixels are known (1) or not (0);
what is not known counts for nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

__all__ = ["LOSSES", "segmentation_loss"]

Term = Callable[[Tensor, Tensor, Tensor], Tensor]

_SMOOTH_PX = 1.0  # so that an empty target has a gradient too
_FOCUS = 2.0
_FALSE_ALARM, _MISS = 0.3, 0.7
_BATCH, _IMAGE = (0, 2, 3), (2, 3)


def segmentation_loss(
    name: str, logits: Tensor, target: Tensor, unknown: Tensor | None = None
) -> Tensor:
    """Compute a loss by its name.

    Parameters
    ----------
    name : str
        A name in `LOSSES`.
    logits, target : Tensor of shape (N, C, H, W), float
        Network output, and the truth from 0 to 1.
    unknown : Tensor of shape (N, C, H, W), float or bool, or None
        Pixels where this is not zero count for nothing.

    Returns
    -------
    Tensor
        A scalar: the mean over classes.

    Raises
    ------
    ValueError
        If the shapes differ, or there is no such loss.
    """
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {name}")
    if logits.shape != target.shape:
        raise ValueError(
            "logits and target must have one shape, "
            f"got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    logits = logits.float()
    known = torch.ones_like(logits) if unknown is None else (unknown == 0).float()
    terms = [term(logits, target, known) for term in LOSSES[name]]
    return torch.stack(terms).sum()


def _cross_entropy(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy, the mean over known pixels."""
    total = binary_cross_entropy_with_logits(logits, target, known, reduction="sum")
    return total / known.sum().clamp(min=1)


def _focal(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy in which what is nearly right counts little (Lin et al., ICCV 2017, eq. 4)."""
    each = binary_cross_entropy_with_logits(logits, target, known, reduction="none")
    wrong = (torch.sigmoid(logits) - target).abs()
    return (wrong**_FOCUS * each).sum() / known.sum().clamp(min=1)


def _dice(logits: Tensor, target: Tensor, known: Tensor, over: tuple[int, ...] = _BATCH) -> Tensor:
    """One minus the soft Dice coefficient, pooled over the batch.

    As in Milletari et al., "V-Net", 3DV 2016, section 3, with plain sums in the denominator in
    place of its sums of squares.
    """
    probability, target = torch.sigmoid(logits) * known, target * known
    shared = (probability * target).sum(over)
    total = probability.sum(over) + target.sum(over)
    return (1 - (2 * shared + _SMOOTH_PX) / (total + _SMOOTH_PX)).mean()


def _dice_of_frames(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """One minus the soft Dice coefficient of each frame, so that small vessels count as large."""
    return _dice(logits, target, known, _IMAGE)


def _tversky(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """One minus the Tversky index (Salehi et al., MLMI 2017, eq. 4): a miss weighs most."""
    probability, target = torch.sigmoid(logits) * known, target * known
    shared = (probability * target).sum(_BATCH)
    alarm, missed = probability.sum(_BATCH) - shared, target.sum(_BATCH) - shared
    index = (shared + _SMOOTH_PX) / (shared + _FALSE_ALARM * alarm + _MISS * missed + _SMOOTH_PX)
    return (1 - index).mean()


LOSSES: dict[str, tuple[Term, ...]] = {
    "bce-dice": (_cross_entropy, _dice),
    "bce": (_cross_entropy,),
    "dice": (_dice,),
    "bce-dice-of-frames": (_cross_entropy, _dice_of_frames),
    "bce-tversky": (_cross_entropy, _tversky),
    "focal-dice": (_focal, _dice),
}
"""What ``--loss`` takes, and the terms that are summed."""
