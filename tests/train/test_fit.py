"""A whole training run, small enough to wait for, and everything that may stop one."""

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from veintrack.engines.model import read_model_info
from veintrack.errors import OutputError
from veintrack.tracker.cli.train import parse_labels, train
from veintrack.train.batches import prepare_data
from veintrack.train.fit import fit, load_network, resolve_precision
from veintrack.train.settings import TrainSettings
from veintrack.train.task import ema_decay, rate_factor


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark discs in noise."""
    folder = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for i in range(50):
        x, y = (int(v) for v in rng.integers(16, 48, 2))
        mask = cv2.circle(np.zeros((64, 64), np.uint8), (x, y), 10, 2, -1)
        image = rng.integers(120, 200, (64, 64), np.uint8)
        image[mask == 2] //= 6
        cv2.imwrite(str(folder / f"images/{i:02}.png"), image)
        cv2.imwrite(str(folder / f"masks/{i:02}.png"), mask)
    return folder


@pytest.fixture(scope="module")
def settings(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    return TrainSettings(
        data=discs,
        output=tmp_path_factory.mktemp("run") / "out",
        labels={"vessel": 2},
        groups=r"(\d)$",
        size_px=64,
        epochs=4,
        batch=4,
        val_fraction=0.2,
        test_fraction=0.2,
        allow_leaks=True,  # discs in noise are all alike
        ema_decay=0.8,
        accelerator="cpu",
        workers=1,
    )


@pytest.fixture(scope="module")
def trained(settings: TrainSettings) -> Path:
    return fit(settings)


def test_a_run_learns_and_writes_a_readable_model(settings: TrainSettings, trained: Path) -> None:
    info = read_model_info(trained)
    assert info.classes == ("vessel",)
    assert info.input_shape == (64, 64)
    assert info.training_data.startswith("30 frames of discs")
    assert info.metrics["val"]["dice"] > 0.5
    assert info.metrics["test"]["threshold"] == pytest.approx(info.threshold, abs=1e-4)
    written = {p.name for p in settings.output.iterdir()}
    assert written == {"model.onnx", "settings.json", "split.json", "checkpoints", "logs"}
    columns = next((settings.output / "logs").rglob("metrics.csv")).read_text().split("\n", 1)[0]
    assert {"val_dice", "val_iou", "val_pixel_accuracy", "val_loss"} <= set(columns.split(","))
    stored = json.loads((settings.output / "settings.json").read_text())
    assert stored["labels"] == {"vessel": 2}
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


def test_a_run_is_resumed_where_it_ended(
    settings: TrainSettings, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "veintrack.train"):
        fit(replace(settings, epochs=settings.epochs + 1, resume=True))
    epochs = [r.getMessage() for r in caplog.records if r.getMessage().startswith("epoch")]
    assert len(epochs) == 1
    assert epochs[0].startswith("epoch 5/5: train loss ")
    assert read_model_info(trained).metrics["val"]["dice"] > 0.5


def test_a_resumed_run_must_keep_its_split(settings: TrainSettings, trained: Path) -> None:
    assert trained.is_file()
    with pytest.raises(ValueError, match="other settings: seed was 0, is 7"):
        fit(replace(settings, resume=True, seed=7))
    with pytest.raises(ValueError, match="other settings: arch was resnet34-unet, is fcn"):
        fit(replace(settings, resume=True, arch="fcn"))


def test_another_network_can_be_trained(
    settings: TrainSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arch = "deeplabv3plus"
    with caplog.at_level(logging.INFO, "veintrack.train"):
        model = fit(replace(settings, arch=arch, size_px=32, epochs=1, output=tmp_path / "out"))
    assert read_model_info(model).input_shape == (32, 32)
    stored = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert stored["arch"] == arch
    said = f"network {arch}: {stored['parameters'] / 1e6:.2f} million parameters, "
    assert caplog.records[0].getMessage().startswith(said)


def test_a_leaking_split_is_refused_before_anything_is_written(
    settings: TrainSettings, tmp_path: Path
) -> None:
    strict = replace(settings, allow_leaks=False, output=tmp_path / "out")
    with pytest.raises(ValueError, match="pairs of near duplicates lie in different parts"):
        fit(strict)
    assert not strict.output.exists()


def test_there_must_be_a_run_to_resume(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no run to resume: .*last\.ckpt does not exist"):
        fit(replace(settings, resume=True, output=tmp_path))


def test_a_used_output_folder_is_not_written_to(settings: TrainSettings, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty: name another, or give --overwrite"):
        fit(replace(settings, output=tmp_path))
    with pytest.raises(OutputError, match="exists and is no folder"):
        fit(replace(settings, output=tmp_path / "thesis.txt"))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_checkpoint_can_be_started_from(trained: Path, tmp_path: Path) -> None:
    best = trained.parent / "checkpoints" / "best.ckpt"
    assert load_network(best, 1, "resnet34-unet").classes == 1
    with pytest.raises(ValueError, match="holds no resnet34-unet with 2 class"):
        load_network(best, 2, "resnet34-unet")
    with pytest.raises(ValueError, match="holds no fcn with 1 class"):
        load_network(best, 1, "fcn")
    (tmp_path / "x.ckpt").write_bytes(b"?")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        load_network(tmp_path / "x.ckpt", 1, "resnet34-unet")


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


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"arch": "vgg"}, "arch must be one of resnet34-unet, fcn, deeplabv3plus, got vgg"),
    ({"arch": "deeplabv3plus", "batch": 1}, "at least 2 with deeplabv3plus, got 1"),
    ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ({"lr": 0.0}, "lr must be positive, got 0.0"),
    ({"phantom": -1}, "phantom must not be negative, got -1"),
    ({"size_px": 100}, "size must be a multiple of 32, got 100"),
    ({"labels": {}}, "labels must name at least one class"),
    ({"labels": {"vessel": 0}}, "the value of label vessel must be 1 to 255, got 0"),
    ({"data": None}, "nothing to train on"),
    ({"phantom": 1, "labels": {"a": 1, "b": 2}}, "phantom frames show one class"),
    ({"resume": True, "overwrite": True}, "exclude each other"),
    ({"val_fraction": 0.0}, "val_fraction must be positive"),
    ({"ema_decay": 1.0}, "ema_decay must be at least 0 and below 1, got 1.0"),
]


@pytest.mark.parametrize(("change", "message"), BAD_SETTINGS)
def test_bad_settings_are_refused(
    settings: TrainSettings, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(settings, **change)


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_factor(step, 10, 110) for step in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[60] == pytest.approx(0.505)
    assert rates[110] == pytest.approx(0.01)


def test_the_average_forgets_its_start_and_then_lasts() -> None:
    assert ema_decay(0, 0.998) == pytest.approx(0.1)
    assert ema_decay(10**6, 0.998) == 0.998


def test_labels_are_read_from_text() -> None:
    assert parse_labels(["nerve=1", "vessel=2"]) == {"nerve": 1, "vessel": 2}


@pytest.mark.parametrize("text", ["vessel", "vessel=", "=2", "vessel=two", "vessel=-1"])
def test_a_malformed_label_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be NAME=VALUE such as vessel=2, got '"):
        parse_labels([text])


def test_a_label_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'vessel' is given twice"):
        parse_labels(["vessel=1", "vessel=2"])


def test_missing_torch_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from veintrack.errors import BackendMissingError\n"
        "from veintrack.tracker.cli.train import train\n"
        "try: train(phantom=1)\n"
        "except BackendMissingError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == (
        'training needs torch, which is not installed: pip install "veintrack[train]"'
    )


def test_importing_the_command_imports_nothing_heavy() -> None:
    code = (
        "import sys, veintrack.tracker.cli.train;"
        "heavy = {'torch', 'lightning', 'cv2', 'onnx'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_prints_the_scores(
    monkeypatch: pytest.MonkeyPatch, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    received: list[TrainSettings] = []

    def fake_fit(settings: TrainSettings) -> Path:
        received.append(settings)
        return trained

    monkeypatch.setattr("veintrack.train.fit.fit", fake_fit)
    train(data=trained.parent, label=["vessel=2"], size=64, output=trained.parent, arch="fcn")
    assert received[0].labels == {"vessel": 2}
    assert (received[0].size_px, received[0].arch) == (64, "fcn")
    out = capsys.readouterr().out
    assert "Dice" in out
    assert str(trained) in out
