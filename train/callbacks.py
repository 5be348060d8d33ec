"""What happens around the epochs of a run: its log, its end, and frames that are counted once."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from torch import Tensor

from veintrack.errors import OutputError
from veintrack.train.runlog import EpochTable, say_duration

__all__ = ["Checkpoints", "CountOnce", "EpochLog", "Patience", "RunProgress"]

_SHOWN = ("train_loss", "val_loss", "val_dice", "val_iou", "val_pixel_accuracy")
_log = logging.getLogger(__name__)


class EpochLog(Callback):
    """Logs a line for each epoch (scores, speed, time left), and adds a row to a table.

    Parameters
    ----------
    batch : int
        Images in a step of one process.
    classes : sequence of str
        What the network marks; where there are several, each has its Dice.
    table : Path
        A CSV file.
    """

    def __init__(self, batch: int, classes: Sequence[str], table: Path) -> None:
        self._batch = batch
        self._classes = [f"val_dice_{name}" for name in classes] if len(classes) > 1 else []
        self._table = EpochTable(table, ("step", "learning_rate", *_SHOWN, *self._classes))
        self._pace = _Pace()
        self._began_s = 0.0
        self._trained_s = 0.0

    def on_fit_start(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.num_training_batches == 0:
            raise ValueError(
                f"an epoch has too few frames for a batch of {self._batch} on each of "
                f"{trainer.world_size} devices: give a smaller --batch"
            )

    def on_train_start(self, trainer: pl.Trainer, *_: object) -> None:
        self._pace.begin(trainer)
        if trainer.is_global_zero:
            with _told():
                self._table.begin(trainer.current_epoch + 1)

    def on_train_epoch_start(self, *_: object) -> None:
        self._began_s = perf_counter()

    def on_validation_start(self, *_: object) -> None:
        self._trained_s = perf_counter() - self._began_s

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if not trainer.is_global_zero:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        figures = values | {"step": trainer.global_step, "learning_rate": rate}
        with _told():
            self._table.add(trainer.current_epoch + 1, figures)
        if not math.isfinite(values["train_loss"]):
            raise ValueError(
                f"training diverged in epoch {trainer.current_epoch + 1} (the loss is "
                f"{values['train_loss']}): give a smaller --lr"
            )
        if trainer.progress_bar_callback is not None:
            return  # it shows the same, and a line would tear it
        images = trainer.num_training_batches * self._batch * trainer.world_size
        of_classes = [
            f", {name.removeprefix('val_')} {values[name]:.4f}"
            for name in self._classes
            if not math.isnan(values[name])
        ]
        _log.info(
            "epoch %d/%d: train loss %.3f, val loss %.3f, val dice %.4f, iou %.4f, "
            "pixel accuracy %.4f%s; rate %.1e; %.1f images/s, %.0f s%s",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            *(values[name] for name in _SHOWN),
            "".join(of_classes),
            rate,
            images / self._trained_s,
            perf_counter() - self._began_s,
            f", {left} left" if (left := self._pace.left(trainer)) else "",
        )


@contextmanager
def _told() -> Iterator[None]:
    """Say in a line that the table cannot be written."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{error.filename} cannot be written: {error.strerror}") from error


class Checkpoints(ModelCheckpoint):
    """Lightning's own, which also knows its best epoch after the run's folder was moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(str(self.dirpath))

        def moved(path: str) -> str:
            return str(folder / Path(path).name) if path else path

        paths = {
            name: moved(state_dict[name])
            for name in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(
            state_dict | paths | {"best_k_models": best, "dirpath": self.dirpath}
        )


class Patience(EarlyStopping):
    """Ends a run whose Dice on the validation frames has long not risen, and says so.

    Parameters
    ----------
    epochs : int
        How long is long.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__("val_dice", mode="max", patience=epochs, check_finite=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, *_: object) -> None:
        # A run that was cut off between its end and the export does not begin again.
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self.wait_count >= self.patience and trainer.is_global_zero:
            # On a terminal too, where nothing else would say why the progress ends here.
            _log.warning(
                "stopped early, after epoch %d of %d: val dice has not risen above %.4f for "
                "%d epochs",
                trainer.current_epoch + 1,
                trainer.max_epochs,
                float(self.best_score),
                self.wait_count,
            )


class CountOnce(Callback):
    """Hides the validation frames that are there twice from the scores.

    Where several processes share the frames, each must have as many as the others, and the first
    ones are dealt out again to fill up; see `torch.utils.data.DistributedSampler`.

    Parameters
    ----------
    frames, batch : int
        Validation frames in all, and in a step of one process.
    """

    def __init__(self, frames: int, batch: int) -> None:
        self._frames, self._batch = frames, batch

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002  # the hook's signature
        batch: Sequence[Tensor],
        batch_idx: int,
        *_: object,
    ) -> None:
        unknown = batch[2]
        for row in range(len(unknown)):
            dealt = (batch_idx * self._batch + row) * trainer.world_size + trainer.global_rank
            if dealt >= self._frames:
                unknown[row] = 255


class RunProgress(RichProgressBar):
    """The progress of an epoch, and the time left of the whole run."""

    def __init__(self) -> None:
        super().__init__()
        self._pace = _Pace()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._pace.begin(trainer)

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics | {"left": self._pace.left(trainer)}


class _Pace:
    """How fast this process has gone: what an earlier one did before a resume says nothing."""

    def begin(self, trainer: pl.Trainer) -> None:
        self._began_s, self._first = perf_counter(), trainer.global_step

    def left(self, trainer: pl.Trainer) -> str:
        """Say the time to the end; nothing where it is not known, or nothing is left."""
        done = trainer.global_step - self._first
        to_do = trainer.estimated_stepping_batches - trainer.global_step
        if done <= 0 or to_do <= 0:
            return ""
        return say_duration((perf_counter() - self._began_s) / done * to_do)
