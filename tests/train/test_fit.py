"""A whole training run, small enough to wait for, and everything that may stop one."""

import errno
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from veintrack.engines.model import read_model_info
from veintrack.errors import BackendMissingError, OutputError
from veintrack.train.batches import RunData, prepare_data
from veintrack.train.checkpoints import WholeFiles, load_network, start_from
from veintrack.train.fit import evaluate, fit, resolve_precision
from veintrack.train.networks import ARCHITECTURES, make_network
from veintrack.train.settings import TrainSettings


def test_a_run_writes_a_readable_model(settings: TrainSettings, trained: Path) -> None:
    info = read_model_info(trained)
    assert info.classes == ("vessel",)
    assert info.input_shape == (64, 64)
    assert info.training_data == "20 frames of discs and 4 synthetic frames"
    assert info.metrics["val"]["frames"] == info.metrics["test"]["frames"] == 15
    assert info.metrics["test"]["threshold"] == pytest.approx(info.threshold, abs=1e-4)
    written = {p.name for p in settings.output.iterdir()}
    assert written == {"model.onnx", "settings.json", "split.json", "checkpoints", "logs"}
    columns, *rows = (settings.output / "logs" / "metrics.csv").read_text().splitlines()
    assert columns == (
        "epoch,step,learning_rate,train_loss,val_loss,val_dice,val_iou,val_pixel_accuracy"
    )
    assert [row.split(",")[0] for row in rows] == ["1", "2"]
    stored = json.loads((settings.output / "settings.json").read_text())
    assert stored["labels"] == {"vessel": "2"}
    assert stored["precision"] == resolve_precision("auto")
    assert (stored["arch"], stored["parameters"]) == ("resnet34-unet", 24_429_969)
    assert stored["multiply_adds"] == 7_702_839_296 // 4**2  # of 256 x 256


def test_the_split_that_is_written_keeps_groups_together(
    settings: TrainSettings, trained: Path
) -> None:
    split = json.loads((trained.parent / "split.json").read_text())
    assert sorted(name for part in split.values() for name in part) == [
        f"{i:02}" for i in range(50)
    ]
    assert settings.groups == r"(\d)$"
    digits = [{name[1] for name in part} for part in split.values()]
    assert sum(map(len, digits)) == len(set.union(*digits)) == 10


def test_a_resumed_run_must_keep_its_split(settings: TrainSettings, trained: Path) -> None:
    assert trained.is_file()
    with pytest.raises(ValueError, match="other settings: seed was 0, is 7"):
        fit(replace(settings, resume=True, seed=7))
    with pytest.raises(ValueError, match="other settings: arch was resnet34-unet, is fcn"):
        fit(replace(settings, resume=True, arch="fcn"))


def test_the_last_epoch_can_be_kept_even_of_a_run_that_is_over(
    settings: TrainSettings, trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.parent, run)
    (run / "checkpoints" / "best.ckpt").unlink()  # it is not needed
    kept = replace(settings, output=run, resume=True, keep="last", licence="of the last")
    info = read_model_info(fit(kept))
    assert info.licence == "of the last"
    last = load_network(run / "checkpoints" / "last.ckpt", 1, settings.arch)
    scores = evaluate(last, prepare_data(settings).val, settings.batch).best()
    assert info.threshold == pytest.approx(scores.threshold)
    assert info.metrics["val"]["dice"] == round(scores.dice, 4)


def test_another_network_can_be_trained(
    settings: TrainSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arch = "deeplabv3plus"
    few = replace(settings, phantom=0, val_fraction=0.4, test_fraction=0.4, epochs=1)
    with caplog.at_level(logging.INFO, "veintrack.train"):
        model = fit(replace(few, arch=arch, size_px=32, output=tmp_path / "out"))
    assert read_model_info(model).input_shape == (32, 32)
    stored = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert stored["arch"] == arch
    said = f"network {arch}: {stored['parameters'] / 1e6:.2f} million parameters, "
    assert any(message.startswith(said) for message in caplog.messages)


def test_a_leaking_split_is_refused_before_anything_is_written(
    settings: TrainSettings, tmp_path: Path
) -> None:
    strict = replace(settings, allow_leaks=False, output=tmp_path / "out")
    with pytest.raises(ValueError, match="pairs of near duplicates lie in different parts"):
        fit(strict)
    assert not strict.output.exists()


def test_there_must_be_a_run_to_resume(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no run to resume: .*settings\.json cannot be read"):
        fit(replace(settings, resume=True, output=tmp_path))


def test_a_run_killed_in_its_first_epoch_starts_from_the_beginning(
    settings: TrainSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed = replace(settings, output=tmp_path, resume=True, epochs=1, phantom=0, tensorboard=True)
    (tmp_path / "settings.json").write_text(json.dumps(killed.to_json()))
    with caplog.at_level(logging.INFO, "veintrack.train"):
        assert fit(killed).is_file()
    assert "no epoch was finished, so the run starts from the beginning" in caplog.text
    assert list((tmp_path / "logs").glob("events.out.tfevents.*"))


def test_a_run_whose_data_changed_is_not_resumed(settings: TrainSettings, trained: Path) -> None:
    split = trained.parent / "split.json"
    before = split.read_text()
    parts = json.loads(before)
    parts["train"].append(parts["test"].pop(0))
    moved = parts["train"][-1]
    split.write_text(json.dumps(parts))
    try:
        with pytest.raises(
            ValueError, match=rf"data changed: {moved} was train, is test \(1 frames"
        ):
            fit(replace(settings, resume=True))
        assert json.loads(split.read_text()) == parts
    finally:
        split.write_text(before)


def test_what_the_machine_lacks_is_told_before_a_run_is_replaced(
    settings: TrainSettings, trained: Path
) -> None:
    with pytest.raises(ValueError, match=r"does not offer accelerator cpu, devices 0, .*: "):
        fit(replace(settings, overwrite=True, accelerator="cpu", devices="0"))
    with pytest.raises(ValueError, match="does not offer accelerator tpu, "):
        fit(replace(settings, overwrite=True, accelerator="tpu"))
    assert trained.is_file()


def test_what_is_no_run_is_not_replaced(settings: TrainSettings, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="something else than a training run, which --overwrite"):
        fit(replace(settings, output=tmp_path, overwrite=True))
    assert [p.name for p in tmp_path.rglob("*.txt")] == ["mine.txt"]


def test_a_cpu_has_its_own_precision_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    of_cpu = resolve_precision("auto", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert resolve_precision("auto", "cpu") == of_cpu
    assert resolve_precision("auto", "gpu") == "16-mixed"
    assert resolve_precision("32-true", "gpu") == "32-true"


def test_a_used_output_folder_is_not_written_to(settings: TrainSettings, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty: name another, or give --overwrite"):
        fit(replace(settings, output=tmp_path))
    with pytest.raises(OutputError, match="exists and is no folder"):
        fit(replace(settings, output=tmp_path / "thesis.txt"))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_checkpoint_is_read_as_what_it_is(trained: Path, tmp_path: Path) -> None:
    best = trained.parent / "checkpoints" / "best.ckpt"
    assert load_network(best, 1, "resnet34-unet").classes == 1
    with pytest.raises(ValueError, match="holds no resnet34-unet with 2 class"):
        load_network(best, 2, "resnet34-unet")
    with pytest.raises(ValueError, match="holds no fcn with 1 class"):
        load_network(best, 1, "fcn")
    with pytest.raises(ValueError, match="holds another network than FCN8s"):
        start_from(make_network("fcn"), best)
    (tmp_path / "x.ckpt").write_bytes(b"?")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        load_network(tmp_path / "x.ckpt", 1, "resnet34-unet")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_network_of_one_class_starts_one_of_two(arch: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    old, new = make_network(arch, 1), make_network(arch, 2)
    own = {name: value.clone() for name, value in new.state_dict().items()}
    averaged = {f"averaged.{name}": value for name, value in old.state_dict().items()}
    torch.save({"state_dict": averaged}, tmp_path / "old.ckpt")
    start_from(new, tmp_path / "old.ckpt")
    kept = []
    for name, value in new.state_dict().items():
        before = old.state_dict()[name]
        if before.shape == value.shape:
            assert torch.equal(value, before), name
        else:
            assert torch.equal(value, own[name]), name
            kept.append(name.split(".")[0])
    assert set(kept) == ({"scores", "doublings"} if arch == "fcn" else {"head"})


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeFiles().save_checkpoint({"epoch": 1}, path)

    def fill_the_disk(_: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(OutputError, match=r"last\.ckpt cannot be written: .*No space left"):
        WholeFiles().save_checkpoint({"epoch": 2}, path)
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
    assert torch.load(path, weights_only=True) == {"epoch": 1}


def test_logs_for_tensorboard_need_its_package(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veintrack.train.fit.find_spec", lambda _: None)
    wanted = replace(settings, tensorboard=True, output=tmp_path / "out")
    with pytest.raises(BackendMissingError, match=r"pip install .veintrack\[train\]"):
        fit(wanted)
    assert not wanted.output.exists()


def test_too_few_frames_for_every_process_are_refused(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunData, "train_dataloader", lambda _: DataLoader([]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="too few frames for a batch of 4 on each of 1 devices"):
        fit(replace(settings, output=tmp_path / "out"))


def fake_still(seed: int, height_px: int, width_px: int) -> tuple[Any, Any]:
    mask = np.zeros((height_px, width_px), np.uint8)
    mask[: height_px // 2] = 1
    return mask * 100 + np.uint8(seed % 50), mask


def test_phantom_frames_are_fresh_and_repeatable(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veintrack.tracker.phantom.random_still", fake_still)
    with_phantoms = replace(settings, phantom=3, phantom_epochs=2)
    data, again = prepare_data(with_phantoms), prepare_data(with_phantoms)
    epochs = [data.epoch(i) for i in range(4)]
    assert len(epochs[0]) == len(data.train) + 3
    same = [np.array_equal(epochs[0].images, e.images) for e in epochs]
    assert same == [True, True, False, False]
    np.testing.assert_array_equal(again.epoch(3).images, epochs[3].images)


def test_without_data_phantom_frames_judge_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veintrack.tracker.phantom.random_still", fake_still)
    data = prepare_data(TrainSettings(output=tmp_path, phantom=20, size_px=32, workers=1))
    assert [len(data.train), len(data.val), len(data.test)] == [0, 3, 3]
    assert len(data.epoch(0)) == 20
