"""A real epoch against its bare steps: that all is timed, and how it is summed up."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def speed() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("training_speed")


def start(speed: Any, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["training_speed.py", *words])
    speed.main()


def test_every_part_of_an_epoch_is_timed(
    speed: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = tmp_path / "speed.json"
    words = "--phantom 8 --size 64 --batch 4 --epochs 2 --arch fcn".split()  # noqa: SIM905
    start(speed, monkeypatch, *words, "--json", str(written))
    record = json.loads(written.read_text())
    assert [epoch["images"] for epoch in record["epochs_s"]] == [8, 8]
    for epoch in record["epochs_s"]:
        assert all(seconds > 0 for seconds in epoch.values())
        assert epoch["real"] > epoch["checkpoints"]
    assert record["rounds"] == 1
    assert record["ratio"] > 0
    ms = record["ms_per_image"]
    assert ms["real"] == pytest.approx(sum(v for k, v in ms.items() if k != "real"), abs=0.01)
    assert "phantom frames" in capsys.readouterr().out


def test_figures_are_medians_over_rounds(speed: Any) -> None:
    def epoch(real: float, ready: float) -> Any:
        return speed.Epoch(images=10, real=real, ready=ready, augmentation=0.1)

    # In a round of two epochs one renders; alone they would have ratios of 1/2 and 1.
    epochs = [epoch(2, 1), epoch(1, 1), epoch(4, 2), epoch(2, 2), epoch(9, 1), epoch(1, 1)]
    found = speed.sum_up(epochs, 2)
    assert found["rounds"] == 3
    assert found["ratio"] == pytest.approx(0.667, abs=1e-3)
    assert found["ratio_range"] == [0.2, 0.667]
    assert found["ms_per_image"]["real"] == pytest.approx(300)
    assert found["ms_per_image"]["augmentation"] == pytest.approx(10)
    assert found["real_images_per_s"] == pytest.approx(3.33)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--phantom 8 --epochs 3", "epochs must be a multiple of 2"),
        ("--epochs 2", "there is nothing to train on"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    speed: Any, monkeypatch: pytest.MonkeyPatch, words: str, message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        start(speed, monkeypatch, *words.split())
