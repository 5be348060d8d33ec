"""The log, the end and the counting of a run, on a network of one weight."""

import logging
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from veintrack.errors import OutputError
from veintrack.train.callbacks import Checkpoints, CountOnce, EpochLog, Patience, RunProgress
from veintrack.train.checkpoints import WholeFiles
from veintrack.train.runlog import EpochTable, say_duration


class OneWeight(pl.LightningModule):
    """Whatever it learns, its scores are what the test says."""

    def __init__(self, dice: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.dice = dice

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        loss = (self.weight - batch[0].mean()).square().mean()
        if self.dice[self.current_epoch] < 0:
            loss = loss * float("nan")
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, *_: object) -> None:
        dice = self.dice[self.current_epoch]
        scores = {"val_loss": 1.0, "val_iou": 0.5, "val_pixel_accuracy": 0.9, "val_dice": dice}
        self.log_dict(scores | {"val_dice_vein": dice + 0.1, "val_dice_artery": float("nan")})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def train(
    folder: Path, dice: list[float], *callbacks: pl.Callback, resume: bool = False
) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=len(dice), logger=False, num_sanity_val_steps=0,
        enable_progress_bar=any(isinstance(c, RunProgress) for c in callbacks),
        enable_model_summary=False, plugins=[WholeFiles()], callbacks=[
            *callbacks, Checkpoints(folder, "last", enable_version_counter=False)
        ],
    )  # fmt: skip
    frames = DataLoader(TensorDataset(torch.ones(6, 1)), 2)
    path = folder / "last.ckpt" if resume else None
    trainer.fit(OneWeight(dice), frames, frames, ckpt_path=path, weights_only=True)
    return trainer


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*treespec"),
]


def said_by_us(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("veintrack")]


def test_each_epoch_is_said_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "veintrack.train"):
        train(tmp_path, [0.25, 0.5], EpochLog(2, ("vein", "artery"), tmp_path / "metrics.csv"))
    first, last = said_by_us(caplog)
    assert first.startswith("epoch 1/2: train loss ")
    assert (
        "val dice 0.2500, iou 0.5000, pixel accuracy 0.9000, dice_vein 0.3500; rate 1.0e-01; "
        in first
    )
    assert first.endswith(" s left")
    assert not last.endswith("left")
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header == (
        "epoch,step,learning_rate,train_loss,val_loss,val_dice,val_iou,val_pixel_accuracy,"
        "val_dice_vein,val_dice_artery"
    )
    assert [row.split(",")[:3] for row in rows] == [["1", "3", "0.1"], ["2", "6", "0.1"]]
    assert rows[1].endswith(",1,0.5,0.5,0.9,0.6,")  # nothing is known of the artery


def test_a_run_that_no_longer_rises_ends_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dice = [0.1, 0.6, 0.5, 0.6, 0.4, 0.9]
    trainer = train(tmp_path, dice, Patience(3))
    assert trainer.current_epoch == 5
    assert said_by_us(caplog) == [
        "stopped early, after epoch 5 of 6: val dice has not risen above 0.6000 for 3 epochs"
    ]
    again = train(tmp_path, dice, Patience(3), resume=True)
    assert again.global_step == trainer.global_step  # it had ended; only the export was to come
    longer = train(tmp_path, dice, Patience(4), resume=True)
    assert longer.current_epoch == 6


def test_a_run_that_diverges_ends_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"diverged in epoch 2 \(the loss is nan\): give a smaller"
    ):
        train(tmp_path, [0.1, -1.0, 0.3], EpochLog(2, ("vein",), tmp_path / "metrics.csv"))


def test_where_a_bar_is_shown_no_line_tears_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "metrics.csv"
    with caplog.at_level(logging.INFO, "veintrack.train"):
        train(tmp_path, [0.1, 0.2], RunProgress(), EpochLog(2, ("vein",), table))
    assert said_by_us(caplog) == []
    assert len(table.read_text().splitlines()) == 3


def test_a_table_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(OutputError, match=r"logs.* cannot be written: "):
        train(tmp_path, [0.1], EpochLog(2, ("vein",), tmp_path / "logs" / "metrics.csv"))


def test_a_run_knows_its_best_epoch_after_its_folder_was_moved(tmp_path: Path) -> None:
    def best(folder: Path) -> Checkpoints:
        return Checkpoints(
            folder, "best", monitor="val_dice", mode="max", enable_version_counter=False
        )

    old, new = tmp_path / "old", tmp_path / "new"
    train(old, [0.1, 0.8], best(old))
    kept = (old / "best.ckpt").read_bytes()
    shutil.copytree(old, new)
    train(new, [0.1, 0.8, 0.3], best(new), resume=True)
    assert (new / "best.ckpt").read_bytes() == kept
    train(new, [0.1, 0.8, 0.3, 0.9], best(new), resume=True)
    assert (new / "best.ckpt").read_bytes() != kept
    assert (old / "best.ckpt").read_bytes() == kept


def test_the_progress_bar_shows_the_time_left_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = RunProgress()
    shown: list[dict[str, Any]] = []
    get = progress.get_metrics

    def spy(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        shown.append(get(trainer, pl_module))
        return shown[-1]

    monkeypatch.setattr(progress, "get_metrics", spy)
    train(tmp_path, [0.1, 0.2], progress)
    assert shown[0]["left"].endswith(" s")
    assert shown[-1]["left"] == ""


def test_frames_that_fill_up_a_share_are_hidden() -> None:
    """5 frames for 3 processes, in steps of 1: the last of them repeats one."""

    class Rank:
        world_size = 3
        global_rank = 0

    for rank, step, hidden in ((0, 0, 0), (1, 1, 0), (2, 0, 0), (2, 1, 255)):
        Rank.global_rank = rank
        batch = [torch.zeros(1, 1, 2, 2, dtype=torch.uint8) for _ in range(3)]
        CountOnce(5, 1).on_validation_batch_start(Rank, None, batch, step)  # type: ignore[arg-type]
        assert [int(part.max()) for part in batch] == [0, 0, hidden]


def test_a_table_goes_on_before_the_epoch_that_was_not_finished(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "metrics.csv"
    table = EpochTable(path, ("loss", "a, b"))
    table.begin(1)
    for epoch in (1, 2, 3):
        table.add(epoch, {"loss": epoch / 3, "a, b": float("nan"), "other": 1.0})
    whole = path.read_text()
    assert whole == 'epoch,loss,"a, b"\n1,0.333333,\n2,0.666667,\n3,1,\n'
    path.write_text(whole + "4,0.1")  # torn
    table.begin(5)
    assert path.read_text() == whole
    table.begin(3)
    table.add(3, {"loss": 1.0, "a, b": float("nan")})
    assert path.read_text() == whole
    EpochTable(path, ("loss",)).begin(2)  # of another kind of run
    assert path.read_text() == "epoch,loss\n"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (720, "12 min"), (12_000, "3 h 20 min")]
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert say_duration(seconds) == said
