"""Two processes train one network, and leave one run."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from veintrack.errors import SourceNotFoundError
from veintrack.train.batches import prepare_data
from veintrack.train.checkpoints import load_network
from veintrack.train.fit import evaluate, fit
from veintrack.train.settings import TrainSettings

EPOCHS = 2
LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SPY = '''
"""The command, and besides a file of which frames each process has trained on."""
import json, os, sys, zlib
from veintrack.__main__ import main
from veintrack.train.task import SegmentationTask

step, seen = SegmentationTask.training_step, {}

def spy(self, batch, index):
    seen.setdefault(self.current_epoch, []).extend(zlib.crc32(i.numpy()) for i in batch[0])
    return step(self, batch, index)

SegmentationTask.training_step = spy
code = main()
open(f"seen{os.environ['RANK']}.json", "w").write(json.dumps(list(seen.values())))
sys.exit(code)
'''


def arguments(discs: Path) -> list[str]:
    return (
        f"train --data {discs} --label vessel=2 --size 32 --batch 4 --epochs {EPOCHS} --val 0.3 "
        "--test 0.38 --allow-leaks --precision 32-true --accelerator cpu --devices 2 "
        "--strategy ddp --output out"
    ).split()


def run_in(folder: Path, *command: str) -> str:
    run = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


def is_one_run(output: Path, said: str) -> None:
    written = {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()}
    kept = {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    assert written == kept | {"logs/metrics.csv", "model.onnx", "settings.json", "split.json"}
    assert said.count("50 frames") == said.count("million parameters") == 1
    assert said.count("INFO: epoch ") == EPOCHS
    assert said.count("pooled over pixels") == 1
    assert "Initializing" not in said


def test_two_processes_share_the_frames_and_leave_one_run(discs: Path, tmp_path: Path) -> None:
    (tmp_path / "spy.py").write_text(SPY)
    said = run_in(tmp_path, *LAUNCHER, "spy.py", *arguments(discs))
    output = tmp_path / "out"
    is_one_run(output, said)
    shares = [json.loads((tmp_path / f"seen{rank}.json").read_text()) for rank in (0, 1)]
    for first, second in zip(*shares, strict=True):
        assert len(first) == len(second) == len(set(first)) == 8
        assert not set(first) & set(second)
    assert shares[0][0] != shares[0][1]  # each epoch deals anew

    settings = TrainSettings(
        data=discs, labels={"vessel": "2"}, size_px=32, val_fraction=0.3, test_fraction=0.38,
        allow_leaks=True, output=output,
    )  # fmt: skip
    data = prepare_data(settings)
    assert len(data.val) % 2 == 1  # one process has a frame less, and repeats one
    network = load_network(output / "checkpoints" / "last.ckpt", 1, "resnet34-unet")
    judged = evaluate(network, data.val).at(0.5)
    *_, last = csv.DictReader((output / "logs" / "metrics.csv").read_text().splitlines())
    assert float(last["val_dice"]) == pytest.approx(judged.dice, abs=1e-5)
    assert float(last["val_pixel_accuracy"]) == pytest.approx(judged.pixel_accuracy, abs=1e-5)


def test_only_the_first_process_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    nowhere = TrainSettings(data=tmp_path / "nowhere", output=tmp_path / "out")
    with pytest.raises(SourceNotFoundError):
        fit(nowhere)
    assert not waited
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SourceNotFoundError):
        fit(nowhere)
    assert waited == [30.0]  # the launcher ends it meanwhile
