"""What a run can be told, and what it answers to nonsense; the rates; the command."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from veintrack.engines.model import metadata_props
from veintrack.tracker.cli.train import parse_labels, train
from veintrack.train.settings import TrainSettings
from veintrack.train.task import ema_decay, rate_factor


@pytest.fixture
def settings(tmp_path: Path) -> TrainSettings:
    return TrainSettings(data=tmp_path, output=tmp_path / "out")


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"arch": "vgg"}, "arch must be one of resnet34-unet, fcn, deeplabv3plus, got vgg"),
    ({"arch": "deeplabv3plus", "batch": 1}, "at least 2 with deeplabv3plus, got 1"),
    ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ({"lr": 0.0}, "lr must be positive, got 0.0"),
    ({"phantom": -1}, "phantom must not be negative, got -1"),
    ({"size_px": 100}, "size must be a multiple of 32, got 100"),
    ({"data": None}, "nothing to train on"),
    ({"schedule": "steps"}, "schedule must be one of cosine, one-cycle, got steps"),
    (
        {"loss": "hinge"},
        "loss must be one of bce-dice, bce, dice, bce-dice-of-frames, bce-tversky, focal-dice, "
        "got hinge",
    ),
    ({"keep": "first"}, "keep must be one of best, last, got first"),
    ({"augment": "strong"}, "augment must be one of none, paper, ultrasound, got strong"),
    ({"patience": -1}, "patience must not be negative, got -1"),
    ({"folds": 1}, "folds must be 0 or at least 2, and fold a number below it, got 1 and 0"),
    ({"folds": 3, "fold": 3}, "and fold a number below it, got 3 and 3"),
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
    rates = [rate_factor(s, steps=110, schedule="cosine", warmup=10 / 110) for s in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[60] == pytest.approx(0.505)
    assert rates[110] == pytest.approx(0.01)


def test_the_rate_goes_through_one_cycle() -> None:
    rates = [rate_factor(s, steps=100, schedule="one-cycle", warmup=0.05) for s in range(101)]
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[15] == pytest.approx((1 + 1 / 25) / 2)
    assert max(rates) == rates[30] == 1
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)
    assert rates[65] == pytest.approx(0.5, abs=1e-3)
    assert rates[100] == pytest.approx(1e-4)


def test_the_average_forgets_its_start_and_then_lasts() -> None:
    assert ema_decay(0, 0.998) == pytest.approx(0.1)
    assert ema_decay(10**6, 0.998) == 0.998


def resume(before: TrainSettings, now: TrainSettings, folder: Path, *lacking: str) -> None:
    stored = before.to_json()
    for name in lacking:
        del stored[name]
    (folder / "settings.json").write_text(json.dumps(stored))
    now.check_resumes(folder / "settings.json")


def test_a_run_goes_on_only_as_what_it_was(tmp_path: Path) -> None:
    run = TrainSettings(output=tmp_path, phantom=4, labels={"vein": "1", "nerve": "2"})
    resume(
        run, replace(run, epochs=99, workers=1, devices="2", output=tmp_path / "moved"), tmp_path
    )
    others: dict[str, Any] = {"lr": 0.5, "phantom": 8, "init": Path("a.ckpt"), "loss": "bce"}
    for name, value in others.items():
        with pytest.raises(ValueError, match=f"cannot be resumed with other settings: {name} was "):
            resume(run, replace(run, **{name: value}), tmp_path)


def test_the_order_of_the_classes_is_part_of_what_a_run_was(tmp_path: Path) -> None:
    run = TrainSettings(output=tmp_path, phantom=4, labels={"vein": "1", "nerve": "2"})
    other = replace(run, labels={"nerve": "2", "vein": "1"})
    with pytest.raises(ValueError, match="labels was {'vein': '1', 'nerve': '2'}, is {'nerve'"):
        resume(run, other, tmp_path)


def test_a_run_of_an_earlier_version_did_what_is_the_default_now(tmp_path: Path) -> None:
    run = TrainSettings(output=tmp_path, phantom=4)
    resume(run, run, tmp_path, "loss", "arch", "folds")
    with pytest.raises(ValueError, match="loss was bce-dice, is bce"):
        resume(run, replace(run, loss="bce"), tmp_path, "loss")


def test_labels_are_read_from_text() -> None:
    texts = ["nerve=1", "vessel=#ff0000", "vein"]
    assert parse_labels(texts) == {"nerve": "1", "vessel": "#ff0000", "vein": "vein"}


@pytest.mark.parametrize("text", ["vessel=", "=2", ""])
def test_a_malformed_label_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be CLASS or CLASS=VALUE such as vessel=2, got '"):
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


def test_the_command_prints_the_scores_once(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    make_model: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = {"frames": 3, "dice": 0.912, "iou": 0.8, "pixel_accuracy": 0.99}
    props = metadata_props(
        version="0", classes=("vessel",), input_shape=(64, 64), threshold=0.5,
        training_data="none", metrics={"val": scores}, licence="Apache-2.0",
    )  # fmt: skip
    model = make_model(tmp_path / "model.onnx", props=props)
    received: list[TrainSettings] = []

    def fake_fit(settings: TrainSettings) -> Path:
        received.append(settings)
        return model

    monkeypatch.setattr("veintrack.train.fit.fit", fake_fit)
    train(data=tmp_path, label=["vessel=2"], size=64, output=tmp_path, arch="fcn", patience=3)
    assert received[0].labels == {"vessel": "2"}
    assert (received[0].size_px, received[0].arch, received[0].patience) == (64, "fcn", 3)
    out = capsys.readouterr().out
    assert "Dice" in out
    assert "0.912" in out
    assert str(model) in out
    monkeypatch.setenv("RANK", "1")  # another of several processes
    train(data=tmp_path, output=tmp_path)
    assert not capsys.readouterr().out
