"""What a run says while it runs, for logs that are no terminal."""

import logging
from time import perf_counter

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

__all__ = ["EpochLog"]

_SHOWN = ("train_loss", "val_loss", "val_dice", "val_iou", "val_pixel_accuracy")
_log = logging.getLogger(__name__)


class EpochLog(Callback):
    """Logs one line for each epoch: scores, and how fast it was.

    Parameters
    ----------
    batch : int
        Images in a step.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._began_s = 0.0
        self._trained_s = 0.0

    def on_train_epoch_start(self, *_: object) -> None:
        self._began_s = perf_counter()

    def on_validation_start(self, *_: object) -> None:
        self._trained_s = perf_counter() - self._began_s

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: object) -> None:
        values = trainer.callback_metrics
        images = trainer.num_training_batches * self._batch
        _log.info(
            "epoch %d/%d: train loss %.3f, val loss %.3f, val dice %.4f, iou %.4f, "
            "pixel accuracy %.4f; %.1f images/s, %.0f s",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            *(float(values[name]) for name in _SHOWN),
            images / self._trained_s,
            perf_counter() - self._began_s,
        )
