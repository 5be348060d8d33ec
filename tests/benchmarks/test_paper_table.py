"""The paper's comparison: what is trained, what is taken up again, and what the table says."""

import importlib
import json
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="module")
def table() -> Any:
    return importlib.import_module("paper_table")


@pytest.fixture(scope="module")
def report() -> Any:
    return importlib.import_module("paper_report")


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark discs in noise."""
    folder = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for i in range(10):
        x, y = (int(v) for v in rng.integers(10, 22, 2))
        mask = cv2.circle(np.zeros((32, 32), np.uint8), (x, y), 6, 2, -1)
        image = rng.integers(120, 200, (32, 32), np.uint8)
        image[mask == 2] //= 6
        cv2.imwrite(str(folder / f"images/{i}.png"), image)
        cv2.imwrite(str(folder / f"masks/{i}.png"), mask)
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def read(table: Any, discs: Path, work: Path, *more: str) -> Any:
    words = f"--data {discs} --label vessel=2 --work {work} --size 32 --epochs 1".split()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["paper_table.py", *words, *more])
        return table.read_options()


TINY = ("--options", "allow_leaks=True", "batch=3", "accelerator=cpu")


def test_networks_share_the_split_of_a_seed(table: Any, discs: Path, work: Path) -> None:
    runs = table.plan(read(table, discs, work, "--seeds", "0", "4", *TINY))
    assert len(runs) == 2 * 2 * 3
    assert {settings.output.name for settings in runs.values()} >= {"paper-fcn-0", "ours-fcn-4"}
    split = ("val_fraction", "test_fraction", "groups", "data")
    for (_, _, seed), settings in runs.items():
        assert settings.seed == seed
        assert len({tuple(getattr(s, name) for name in split) for s in runs.values()}) == 1


def test_a_recipe_has_its_own_options(table: Any, discs: Path, work: Path) -> None:
    more = ("--ours-options", "schedule=one-cycle", "lr=2e-3", "phantom=7")
    runs = table.plan(read(table, discs, work, "--seeds", "0", *TINY, *more))
    paper, ours = runs["paper", "fcn", 0], runs["ours", "fcn", 0]
    assert (paper.augment, paper.phantom, paper.schedule) == ("paper", 0, "cosine")
    assert (ours.augment, ours.phantom, ours.schedule, ours.lr) == (
        "ultrasound", 7, "one-cycle", 2e-3,
    )  # fmt: skip
    assert (paper.batch, ours.batch) == (3, 3)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lr", "must be NAME=VALUE such as lr=1e-3, got 'lr'"),
        ("speed=3", "no such option of TrainSettings"),
        ("arch=fcn", "arch is not free to choose"),
        ("batch=0", "batch must be at least 1, got 0"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    table: Any, discs: Path, work: Path, word: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        table.plan(read(table, discs, work, "--options", word))


def test_a_run_is_trained_once_and_judged_on_its_test_part(
    table: Any,
    discs: Path,
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = work / "table.json"
    options = read(
        table, discs, work, "--seeds", "3", "--recipes", "paper", "--json", str(written), *TINY
    )
    runs = table.plan(options)
    settings = runs["paper", "fcn", 3]
    assert not table.is_finished(settings)
    table.check([settings])
    with pytest.raises(ValueError, match="shows the label 9"):
        table.check([replace(settings, labels={"vessel": "9"})])
    table.train(settings)
    assert table.is_finished(settings)
    with pytest.raises(ValueError, match="a run with other settings.*batch was 3, is 4"):
        table.is_finished(replace(settings, batch=4))
    (settings.output / "model.onnx").rename(settings.output / "away.onnx")
    assert not table.is_finished(settings)  # as if it had been cut off
    (settings.output / "away.onnx").rename(settings.output / "model.onnx")

    monkeypatch.setattr(table, "_TURNS", 1)
    table.report(runs, options)
    out = capsys.readouterr().out
    assert "| paper | FCN | 21.3 |" in out
    assert "Not finished: paper-resnet34-unet-3, paper-deeplabv3plus-3." in out
    record = json.loads(written.read_text())
    (run,) = record["runs"]
    test = json.loads((settings.output / "split.json").read_text())["test"]
    assert (run["seed"], run["test_frames"]) == (3, len(test))
    assert 0 <= run["scores"]["pixel_accuracy"] <= 1
    assert record["fps"]["fcn"] > 0
    assert record["recipes"]["paper"]["augment"] == "paper"
    assert str(discs) not in json.dumps(record["recipes"])


class FakeProcess:
    """Stands for a training in a process of its own."""

    exitcode = 0
    ends: BaseException | None = None
    started: list[Any] = []  # noqa: RUF012

    def __init__(self, *, args: tuple[Any, ...], **_: object) -> None:
        self.started.extend(args)

    def start(self) -> None: ...

    def join(self, _: float | None = None) -> None:
        if self.ends is not None:
            raise self.ends


@pytest.fixture
def process(table: Any, monkeypatch: pytest.MonkeyPatch) -> type[FakeProcess]:
    class Own(FakeProcess):
        started: list[Any] = []  # noqa: RUF012

    monkeypatch.setattr(table, "get_context", lambda _: type("", (), {"Process": Own}))
    return Own


@pytest.mark.parametrize("cut_off", [True, False])
def test_a_run_that_was_cut_off_goes_on(
    table: Any, discs: Path, tmp_path: Path, process: type[FakeProcess], cut_off: bool
) -> None:
    settings = table.plan(read(table, discs, tmp_path, *TINY))["ours", "fcn", 0]
    (settings.output / "checkpoints").mkdir(parents=True)
    if cut_off:
        (settings.output / "checkpoints" / "last.ckpt").touch()
    table.train(settings)
    assert [(s.resume, s.overwrite) for s in process.started] == [(cut_off, not cut_off)]


def test_a_training_that_fails_stops_the_comparison(
    table: Any, discs: Path, tmp_path: Path, process: type[FakeProcess]
) -> None:
    process.exitcode = 1
    settings = table.plan(read(table, discs, tmp_path, *TINY))["ours", "fcn", 0]
    with pytest.raises(SystemExit, match="ours-fcn-0: training failed; the same command tries"):
        table.train(settings)


def test_an_interrupt_leaves_no_process(
    table: Any,
    discs: Path,
    tmp_path: Path,
    process: type[FakeProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped: list[object] = []
    process.ends = KeyboardInterrupt()
    monkeypatch.setattr(table, "_stop", stopped.append)
    settings = table.plan(read(table, discs, tmp_path, *TINY))["ours", "fcn", 0]
    with pytest.raises(KeyboardInterrupt):
        table.train(settings)
    assert len(stopped) == 1


def test_a_process_that_does_not_end_is_ended(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_PATIENCE_S", 0.1)
    sleeping = get_context("spawn").Process(target=time.sleep, args=(60,))
    sleeping.start()
    table._stop(sleeping)
    assert not sleeping.is_alive()


def run_of(report: Any, recipe: str, arch: str, seed: int, accuracy: float, **more: Any) -> Any:
    scores: dict[str, float | None] = dict.fromkeys(report.COLUMNS, 0.5)
    scores |= {"pixel_accuracy": accuracy, "dice": accuracy - 0.2}
    values: dict[str, Any] = {"nothing": 0.95 + seed / 100, "unmarked": 0, "test_frames": 9} | more
    return report.Run(
        recipe, arch, seed, 24_000_000, 7_700_000_000, "32-true", 20, **values, scores=scores
    )


def both_seeds(report: Any, **accuracies: tuple[float, float]) -> list[Any]:
    names = {"unet": "resnet34-unet", "deeplab": "deeplabv3plus", "fcn": "fcn"}
    return [
        run_of(report, "paper", names[name], seed, accuracy)
        for name, pair in accuracies.items()
        for seed, accuracy in enumerate(pair)
    ]


def test_a_line_is_mean_and_deviation_over_seeds(report: Any) -> None:
    runs = both_seeds(report, unet=(0.96, 0.98), deeplab=(0.95, 0.95), fcn=(0.9, 0.91))
    rows = report.make_rows(runs, {"resnet34-unet": 41.6})
    assert [row.network for row in rows[:3]] == ["ResNet34-UNet", "DeepLab v3+", "FCN"]
    mean, deviation = rows[0].scores["pixel_accuracy"]
    assert (mean, deviation) == (pytest.approx(0.97), pytest.approx(0.02 / 2**0.5))
    text = report.markdown(rows, report.say(runs))
    assert (
        "| paper | ResNet34-UNet | 24.0 | 7.7 | 97.0 ± 1.4 | 0.770 ± 0.014 | 0.500 ± 0.000" in text
    )
    assert "| - | marks nothing |  |  | 95.5 ± 0.7 | 0.000 |" in text
    assert "| Qin et al. 2022 | FCN |  |  | 90.4 |  |" in text
    assert text.splitlines()[2].endswith(" | 42 |")
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_differences_are_taken_within_a_seed(report: Any) -> None:
    runs = both_seeds(report, unet=(0.96, 0.98), deeplab=(0.95, 0.96), fcn=(0.9, 0.99))
    (accuracy, dice) = (text for text in report.say(runs) if text.startswith("Recipe 'paper'"))
    assert "minus DeepLab v3+ is +1.5 points (+1.0 to +2.0; the paper has +5.2" in accuracy
    assert "minus FCN is +2.5 points (-1.0 to +6.0; the paper has +5.9, reached with 1 of 2" in (
        accuracy
    )
    assert accuracy.endswith("holds with 1 of 2 seeds.")
    assert "the paper has" not in dice


def test_it_says_why_dice_is_the_score_to_read(report: Any) -> None:
    said = report.say(both_seeds(report, unet=(0.96, 0.98)))
    assert any("Vessels are 4.5 % of the pixels" in text and "Dice" in text for text in said)
    assert any("DeepLab v3+ (91.1 %) and FCN (90.4 %)" in text for text in said)
    assert not any(text.startswith("Recipe") for text in said)  # one network alone


def test_frames_without_a_mark_are_told(report: Any) -> None:
    said = report.say([run_of(report, "ours", "fcn", seed, 0.9, unmarked=seed) for seed in (1, 2)])
    assert said[-1].endswith("in which nothing was marked: 3 of 18 (ours, FCN).")


def test_runs_of_one_seed_must_be_judged_on_the_same_frames(report: Any) -> None:
    runs = [
        run_of(report, "ours", "fcn", 1, 0.9),
        run_of(report, "paper", "fcn", 1, 0.9, nothing=0.5),
    ]
    with pytest.raises(ValueError, match="seed 1 were not judged on the same frames"):
        report.make_rows(runs, {})
