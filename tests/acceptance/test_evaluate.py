"""``veintrack evaluate segmentation``, driven as a user would."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import dark_is_vessel
from veintrack.tracker.cli.app import run
from veintrack.tracker.phantom import random_still

COMMAND = ("evaluate", "segmentation")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the command in an empty folder; in this process, which saves starting another."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Done:
        code = run([*COMMAND, *map(str, arguments)])
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six phantom frames, and one without a vessel; vessel is 2 in the masks."""
    folder = tmp_path_factory.mktemp("phantoms")
    for name, seed in enumerate((0, 1, 2, 3, 4, 6)):  # 5 has no vessel
        pixels, mask = random_still(seed, 240, 320)
        write(folder, f"{name}", pixels, 2 * mask)
    write(folder, "none", np.full((240, 320), 90, np.uint8), np.zeros((240, 320), np.uint8))
    return folder


@pytest.fixture(scope="session")
def rule(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dark_is_vessel(tmp_path_factory.mktemp("rule") / "rule.onnx", 192)


def write(folder: Path, name: str, pixels: np.ndarray, mask: np.ndarray) -> None:
    for part, picture in (("images", pixels), ("masks", mask)):
        (folder / part).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / part / f"{name}.png"), picture)


def folders(folder: Path) -> tuple[object, ...]:
    return ("--images", folder / "images", "--masks", folder / "masks")


def test_a_rule_that_is_right_scores_as_right(evaluate: Run, rule: Path, tmp_path: Path) -> None:
    # Dark squares on grey are what the rule marks, so only resampling costs anything.
    for n, x in enumerate((40, 90)):
        pixels, mask = np.full((128, 192), 120, np.uint8), np.zeros((128, 192), np.uint8)
        pixels[40:80, x : x + 40], mask[40:80, x : x + 40] = 10, 1
        write(tmp_path, f"{n}", pixels, mask)
    done = evaluate("--model", rule, *folders(tmp_path), "--json", "f.json", "--spacing", "0.2,0.1")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["mean"]["dice"]["value"] > 0.95
    assert figures["vessels"]["detection_rate"]["value"] == 1
    assert figures["vessels"]["centroid_error_px"]["value"] < 0.5
    assert figures["mean"]["hd95_mm"]["value"] < 0.4
    nothing = figures["pooled"]["marking_nothing_accuracy"]["value"]
    assert nothing == pytest.approx(1 - 1600 / (128 * 192))


def test_the_table_the_figures_and_the_report_are_complete(
    evaluate: Run, rule: Path, phantoms: Path, tmp_path: Path
) -> None:
    done = evaluate(
        "--model", rule, *folders(phantoms), "--label", "2", "--json", "f.json",
        "--output", "out", "--engine", "onnxruntime", "--threshold", 0.4, "--bootstrap", 50,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    for text in ("Dice", "HD95, px", "if nothing were marked", "1 without", "Research use only"):
        assert text in words
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["model_sha256"] == hashlib.sha256(rule.read_bytes()).hexdigest()
    assert (figures["engine"], figures["precision"]) == ("onnxruntime", "fp32")
    assert figures["device"]
    assert (figures["threshold"], figures["bootstrap"]) == (0.4, 50)
    assert (figures["frames"], figures["frames_without_vessel"]) == (7, 1)
    assert figures["mean"]["dice"]["frames"] == 6
    assert figures["mean"]["hd95_mm"] is None
    assert [f["name"] for f in figures["per_frame"]] == [*"012345", "none"]
    assert len(figures["threshold_curve"]["dice"]) == 255
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["report.html"]
    assert "Research use only" in (tmp_path / "out/report.html").read_text()


def test_the_shipped_model_finds_the_phantoms_vessels(phantoms: Path, tmp_path: Path) -> None:
    arguments = (*folders(phantoms), "--label", "vessel=2", "--json", "f.json")
    done = subprocess.run(
        [sys.executable, "-m", "veintrack", *COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["pooled"]["dice"]["value"] > 0.8
    assert figures["mean"]["dice"]["value"] > 0.8


def test_files_are_replaced_only_when_asked(evaluate: Run, rule: Path, phantoms: Path) -> None:
    call = ("--model", rule, *folders(phantoms), "--label", 2, "--bootstrap", 9, "--json", "f.json")
    assert evaluate(*call).returncode == 0
    again = evaluate(*call)
    assert again.returncode == 2
    assert "f.json exists: name another, or add --overwrite" in again.stderr
    assert evaluate(*call, "--overwrite").returncode == 0


def test_images_without_a_mask_are_left_out_and_said_so(
    evaluate: Run, rule: Path, tmp_path: Path
) -> None:
    write(tmp_path, "a", *random_still(1, 100, 120))
    write(tmp_path, "b", *random_still(2, 100, 120))
    (tmp_path / "masks/b.png").unlink()
    done = evaluate("--model", rule, *folders(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Images left out for want of a mask: 1." in done.stdout


def _no_folder(folder: Path) -> list[object]:
    return ["--images", folder / "nowhere", "--masks", folder / "masks"]


def _no_common_name(folder: Path) -> list[object]:
    (folder / "masks/a.png").rename(folder / "masks/b.png")
    return []


def _another_size(folder: Path) -> list[object]:
    cv2.imwrite(str(folder / "masks/a.png"), np.ones((4, 6), np.uint8))
    return []


def _absent_label(folder: Path) -> list[object]:
    del folder
    return ["--label", "vessel=7"]


def _no_label(folder: Path) -> list[object]:
    del folder
    return ["--label", "vessel"]


def _unknown_model(folder: Path) -> list[object]:
    del folder
    return ["--model", "better"]


def _unknown_engine(folder: Path) -> list[object]:
    del folder
    return ["--engine", "abacus"]


def _impossible_threshold(folder: Path) -> list[object]:
    del folder
    return ["--threshold", "1.5"]


def _no_spacing(folder: Path) -> list[object]:
    del folder
    return ["--spacing", "wide"]


def _no_bootstrap(folder: Path) -> list[object]:
    del folder
    return ["--bootstrap", "0"]


def _file_for_a_folder(folder: Path) -> list[object]:
    (folder / "file").write_text("")
    return ["--output", folder / "file"]


@pytest.mark.parametrize(
    ("mistake", "answer"),
    [
        (_no_folder, "no folder "),
        (_no_common_name, "has a mask of its name"),
        (_another_size, "is 6x4, but its image is 30x20"),
        (_absent_label, "label vessel=7 occurs in no mask; the masks hold the values 0, 1"),
        (_no_label, "a label must be NAME=VALUE such as vessel=2, got 'vessel'"),
        (_unknown_model, "no model 'better'"),
        (_unknown_engine, "unknown engine 'abacus'"),
        (_impossible_threshold, "threshold must lie between 0 and 1, got 1.5"),
        (_no_spacing, "spacing must be"),
        (_no_bootstrap, "bootstrap must be at least 1, got 0"),
        (_file_for_a_folder, "is not a folder"),
    ],
)
def test_a_mistake_is_answered_with_one_line_and_leaves_nothing_behind(
    evaluate: Run, tmp_path: Path, mistake: Callable[[Path], list[object]], answer: str
) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 5:10] = 1
    write(tmp_path, "a", 100 - mask, mask)
    given = mistake(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    arguments = given if "--images" in given else [*folders(tmp_path), *given]
    if "--output" not in given:
        arguments = [*arguments, "--output", tmp_path / "out", "--json", tmp_path / "f.json"]
    done = evaluate(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("veintrack: ")
    assert answer in line
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_folders_are_asked_for(evaluate: Run) -> None:
    done = evaluate("--masks", "masks")
    assert done.returncode == 2
    assert "--images" in done.stderr
