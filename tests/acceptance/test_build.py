"""``veintrack build``: what it keeps, what it writes, what it refuses."""

import json
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest

from tests.acceptance.conftest import Done, Run
from tests.conftest import dark_is_vessel
from veintrack.engines.cache import entries
from veintrack.engines.model import read_model_info
from veintrack.tracker.cli.app import run
from veintrack.tracker.phantom import random_still

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason='needs pip install "veintrack[tensorrt]"'
)


@pytest.fixture
def build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the command in an empty folder with an empty cache, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VEINTRACK_CACHE", str(tmp_path / "cache"))

    def call(*arguments: object) -> Done:
        code = run(["build", *map(str, arguments)])
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return dark_is_vessel(tmp_path / "rule.onnx", 64)


def facts(path: Path) -> dict[str, object]:
    read: dict[str, object] = json.loads(path.with_name(f"{path.name}.json").read_text())
    return read


def test_what_it_builds_is_kept_and_judged_for_live_and_for_files(build: Run, model: Path) -> None:
    done = build("--model", model, "--precision", "fp32")
    assert done.returncode == 0
    assert [row.split()[1] for row in done.stdout.splitlines() if "openvino" in row] == [
        "live",
        "files",
    ]
    kept = [entry for entry in entries() if entry.key["library"] == "openvino"]
    assert {entry.key["PERFORMANCE_HINT"] for entry in kept} == {"LATENCY", "THROUGHPUT"}
    assert all(fact["parity"]["dice"] == [1.0] for entry in kept for fact in judged(entry.facts))


def judged(found: dict[str, object]) -> list[dict[str, dict[str, object]]]:
    return [value for value in found.values() if isinstance(value, dict)]


def test_a_second_build_of_the_same_compiles_nothing(build: Run, model: Path) -> None:
    build("--model", model, "--precision", "fp32")
    ages_s = {entry.name: entry.age_s for entry in entries()}
    build("--model", model, "--precision", "fp32")
    assert {entry.name: entry.age_s >= ages_s[entry.name] for entry in entries()} == dict.fromkeys(
        ages_s, True
    )


def test_the_list_names_model_library_precision_and_parity(build: Run, model: Path) -> None:
    build("--model", model, "--precision", "fp32")
    listed = build("--list").stdout
    assert "rule.onnx" in listed
    assert "openvino" in listed
    assert "Dice 1.0000, 0.00 px" in listed
    assert "2 entries" in listed


def test_pruning_removes_what_is_damaged_and_keeps_the_rest(build: Run, model: Path) -> None:
    build("--model", model, "--precision", "fp32")
    damaged = entries()[0]
    (next((Path("cache")).glob(f"{damaged.name}.blob"))).write_bytes(b"cut")
    done = build("--prune")
    assert done.returncode == 0
    assert "1 entries stay" in done.stdout
    assert damaged.name not in [entry.name for entry in entries()]


def test_pruning_by_days_removes_what_was_not_used(build: Run, model: Path) -> None:
    build("--model", model, "--precision", "fp32")
    assert "0 entries stay" in build("--prune", "--unused", 0).stdout


def test_a_model_for_another_grid_works_in_the_main_job(
    build: Run, model: Path, tmp_path: Path
) -> None:
    assert build("--model", model, "--shape", "1,32,96", "--output", "wide.onnx").returncode == 0
    assert read_model_info(tmp_path / "wide.onnx").input_shape == (32, 96)
    assert facts(tmp_path / "wide.onnx")["precision"] == "fp32"
    job = ["--source", "demo", "--max-frames", "2", "--model", "wide.onnx", "--view", "none"]
    assert run([*job, "--precision", "fp32", "--quiet"]) == 0


def test_an_fp16_model_says_how_far_its_answers_and_numbers_go(
    build: Run, model: Path, tmp_path: Path
) -> None:
    done = build("--model", model, "--precision", "fp16", "--output", "half.onnx")
    assert "fp16" in done.stdout
    written = facts(tmp_path / "half.onnx")
    assert written["parity"]["dice"][0] > 0.99  # type: ignore[index]
    assert 0 < written["largest_activation"]["value"] < 65504  # type: ignore[index]


def test_a_refused_precision_is_said_and_the_next_one_written(
    build: Run, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = ("--min-dice", 1, "--max-shift", 0)
    build("--model", model, "--precision", "fp16", "--output", "strict.onnx", *limits)
    assert "fp16 is refused" in caplog.text
    assert facts(tmp_path / "strict.onnx")["precision"] == "fp32"


def test_frames_of_the_users_are_judged_on(build: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for seed in (1, 2, 3):
        cv2.imwrite(str(tmp_path / "mine" / f"{seed}.png"), random_still(seed, 96, 128)[0])
    arguments = ("--model", model, "--precision", "fp16", "--output", "h.onnx")
    assert build(*arguments, "--frames", "mine").returncode == 0
    written = facts(tmp_path / "h.onnx")
    assert written["frames"] == "your own"  # no names of files: patients have them
    assert written["parity"]["frames"] == 3  # type: ignore[index]


def test_neither_a_file_nor_what_lies_beside_it_is_replaced_unasked(
    build: Run, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.onnx.json").write_text("mine")
    done = build("--model", model, "--output", "a.onnx")
    assert done.returncode == 2
    assert "a.onnx.json exists" in done.stderr
    assert (tmp_path / "a.onnx.json").read_text() == "mine"
    assert build("--model", model, "--output", "a.onnx", "--overwrite").returncode == 0
    assert len(str(facts(tmp_path / "a.onnx")["sha256"])) == 64


@needs_rtx
def test_engines_for_other_gpus_are_written_one_a_file_and_the_same_each_time(
    build: Run, model: Path, tmp_path: Path
) -> None:
    order = ("--model", model, "--engine", "tensorrt-rtx", "--output", "p.plan", "--overwrite")
    targets = ("--target", "sm_86", "--target", "sm_89")
    assert build(*order, *targets).returncode == 0
    files = [tmp_path / "p.sm_86.plan", tmp_path / "p.sm_89.plan"]
    first = [file.read_bytes() for file in files]
    assert facts(files[0])["built_for"] == "compute capability 8.6"
    build(*order, *targets)
    assert [file.read_bytes() for file in files] == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shape", "1,64,64"), "shape goes with --output"),
        (("--shape", "1,64", "--output", "a.onnx"), "shape must be N,H,W"),
        (("--shape", "2,64,64", "--output", "a.onnx"), "takes any number of pictures"),
        (("--target", "sm_86", "--output", "a.onnx"), "an .onnx file fits any device"),
        (("--target", "ampere", "--output", "a.plan"), "such as sm_86, got 'ampere'"),
        (("--output", "a.txt"), "output must end in .onnx or .plan, got a.txt"),
        (("--output", "rule.onnx"), "rule.onnx exists: name another, or add --overwrite"),
        (("--precision", "bf16", "--output", "a.onnx"), "a file can be int8, fp16, fp32, got bf16"),
        (("--engine", "openvino", "--output", "a.plan"), "openvino reads .onnx files"),
        (("--engine", "tensorrt", "--output", "a.onnx"), "tensorrt has .plan files"),
        (("--frames", "nothing"), "no such file: nothing"),
        (("--engine", "abacus", "--output", "a.onnx"), "unknown engine 'abacus'"),
        (("--device", "cuda:1", "--output", "a.onnx"), "device is for a .plan without --target"),
        (("--calibration", "demo", "--output", "a.onnx"), "add --precision int8"),
        (("--unused", "3"), "unused goes with --prune"),
        (("--precision", "fp4"), "unknown precision 'fp4'"),
        (("--min-dice", "2"), "dice must lie between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_nothing_written(
    build: Run, model: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = build("--model", model, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"rule.onnx", "cache"}
