"""A run that is killed and goes on must end as if nothing had happened."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from veintrack.engines.model import read_model_info
from veintrack.train.fit import fit
from veintrack.train.settings import TrainSettings
from veintrack.train.task import SegmentationTask

# The command, held in the middle of its second epoch until it is killed.
HELD = """
import sys, time
from pathlib import Path
from veintrack.__main__ import main
from veintrack.train.task import SegmentationTask

def hold(task, batch, number):
    if task.current_epoch == 1 and number == 3:
        output = Path(sys.argv[sys.argv.index("--output") + 1])
        while not (output / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.01)
        (output / "held").touch()
        time.sleep(60)

SegmentationTask.on_train_batch_start = hold
main()
"""


def start(settings: TrainSettings, output: Path, *more: str) -> "subprocess.Popen[str]":
    """Run the command that `settings` are of, with as many threads: sums depend on that."""
    program = ["-m", "veintrack"] if "--resume" in more else ["-c", HELD]
    options = (
        f"--data {settings.data} --output {output} --groups {settings.groups} --label vessel=2 "
        f"--size {settings.size_px} --epochs {settings.epochs} --batch {settings.batch} "
        f"--val {settings.val_fraction} --test {settings.test_fraction} "
        f"--phantom {settings.phantom} --allow-leaks --accelerator cpu --workers 1"
    )
    return subprocess.Popen(
        [sys.executable, *program, "train", *options.split(), *more],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_in_the_second_epoch(run: "subprocess.Popen[str]", output: Path) -> None:
    while not (output / "held").exists():
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.communicate()


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "logs" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_killed_run_goes_on_to_the_same_end(
    settings: TrainSettings, trained: Path, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    run = start(settings, output)
    kill_in_the_second_epoch(run, output)
    assert [row["epoch"] for row in rows_of(output)] == ["1"]
    assert not (output / "model.onnx").exists()
    with (output / "logs" / "metrics.csv").open("a") as file:
        file.write("2,12,0.00")  # what a power cut may leave

    again = start(settings, output, "--resume")
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert said.count("INFO: epoch ") == 1
    assert "INFO: epoch 2/2: " in said
    assert [row["epoch"] for row in rows_of(output)] == ["1", "2"]
    assert rows_of(output) == rows_of(trained.parent)
    model, expected = read_model_info(output / "model.onnx"), read_model_info(trained)
    assert model.metrics == expected.metrics
    assert model.threshold == expected.threshold

    best = max(float(row["val_dice"]) for row in rows_of(output))
    last = torch.load(output / "checkpoints" / "last.ckpt", weights_only=True, mmap=True)
    (kept,) = (s for k, s in last["callbacks"].items() if "'monitor': 'val_dice'" in k)
    assert abs(float(kept["best_model_score"]) - best) < 1e-6


def test_an_interrupted_run_says_so_and_goes_on(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    short = replace(settings, epochs=2, output=tmp_path / "run")

    def interrupt(task: SegmentationTask, *_: object) -> None:
        if task.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "on_train_batch_start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(short)
    assert signal.getsignal(signal.SIGINT) is before
    assert fit(replace(short, resume=True)).is_file()
