"""One training step, one validation step, and the averaged weights, for Lightning to run."""

import math
from copy import deepcopy
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from veintrack.train.augment import PRESETS, augment
from veintrack.train.losses import segmentation_loss
from veintrack.train.metrics import PooledScores
from veintrack.train.resnet34_unet import SegmentationNetwork
from veintrack.train.settings import TrainSettings

__all__ = ["Batch", "SegmentationTask", "ema_decay", "rate_factor"]

Batch = tuple[Tensor, Tensor, Tensor]
"""Images (N, 1, H, W), masks (N, C, H, W) and where these are unknown, uint8, 0 to 255."""


class SegmentationTask(pl.LightningModule):
    """Trains a network and keeps the moving average of its weights, which is what is judged.

    Averaging: Polyak and Juditsky 1992; exponential, as in Tarvainen and Valpola, "Mean teachers",
    NeurIPS 2017.

    Parameters
    ----------
    network : SegmentationNetwork
        What to train; its weights are changed in place.
    settings : TrainSettings
        Rates and ranges.
    """

    def __init__(self, network: SegmentationNetwork, settings: TrainSettings) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = deepcopy(network).requires_grad_(False)
        self.scores = PooledScores(network.classes)
        self._settings = settings
        self._augmentation = PRESETS[settings.augment]

    def on_train_epoch_start(self) -> None:
        # A resumed run draws what an uninterrupted one would have drawn.
        torch.manual_seed(
            (self._settings.seed * 100_003 + self.current_epoch) * 1009 + self.global_rank
        )

    def vary(self, batch: Batch) -> Batch:
        """Augment a batch: from 0 to 1, the images channels last."""
        image, mask, unknown = _unit(batch)
        # What is unknown moves along with the masks; beyond the border nothing is.
        image, both = augment(image, torch.cat([mask, unknown], 1), self._augmentation)
        mask, unknown = both.chunk(2, 1)
        return image.contiguous(memory_format=torch.channels_last), mask, unknown

    def loss(self, logits: Tensor, mask: Tensor, unknown: Tensor) -> Tensor:
        """Compute the loss that the settings name."""
        return segmentation_loss(self._settings.loss, logits, mask, unknown)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        image, mask, unknown = self.vary(batch)
        logits = self.network(image)
        loss = self.loss(logits, mask, unknown)
        self.log(
            "train_loss", loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(image)
        )
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        update_average(
            self.averaged, self.network, ema_decay(self.global_step, self._settings.ema_decay)
        )

    def validation_step(self, batch: Batch, _: int) -> None:
        image, mask, unknown = _unit(batch)
        self.averaged.eval()
        logits = self.averaged(image.contiguous(memory_format=torch.channels_last))
        self.scores.update(torch.sigmoid(logits.float()), mask, unknown)
        loss = self.loss(logits, mask, unknown)
        self.log("val_loss", loss, batch_size=len(image), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        for name, value in self.scores.compute().items():
            self.log(f"val_{name}", value, prog_bar=name == "dice")
        self.scores.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        settings = self._settings
        optimiser = torch.optim.AdamW(
            _decay_groups(self.network, settings.weight_decay), settings.lr
        )
        steps = int(self.trainer.estimated_stepping_batches)
        factor = partial(rate_factor, steps=steps, schedule=settings.schedule)
        schedule = LambdaLR(optimiser, partial(factor, warmup=settings.warmup))
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _unit(batch: Batch) -> Batch:
    image, mask, unknown = batch
    return image.float() / 255, mask.float() / 255, unknown.float() / 255


def _decay_groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Decay the kernels only: scales and offsets have nothing to shrink towards."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def rate_factor(step: int, *, steps: int, schedule: str = "cosine", warmup: float = 0.05) -> float:
    """Say which part of the peak rate a step takes.

    ``cosine``: linearly up over a part `warmup` of the steps, then along half a cosine down to a
    hundredth (Loshchilov and Hutter, "SGDR", ICLR 2017, equation 5, without restarts).
    ``one-cycle``: from 1/25 along half a cosine up over 30 % of the steps, then along another down
    to nearly nothing (Smith and Topin, "Super-convergence", 2018, with cosine annealing).
    """
    if schedule == "one-cycle":
        rise = max(1, round(0.3 * steps))
        if step < rise:
            return _half_cosine(step / rise, 1 / 25, 1.0)
        return _half_cosine((step - rise) / max(1, steps - rise), 1.0, 1e-4)
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return _half_cosine((step - rise) / max(1, steps - rise), 1.0, 0.01)


def _half_cosine(progress: float, start: float, end: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def ema_decay(step: int, limit: float) -> float:
    """Share that the average keeps: small at first, so that it soon forgets the first weights."""
    return min(limit, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Move an average towards a network: weights and running statistics alike."""
    new = network.state_dict()
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            value.lerp_(new[name], 1 - decay)
        else:
            value.copy_(new[name])
