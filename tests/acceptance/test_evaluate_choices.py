"""Which class ``veintrack evaluate segmentation`` judges, and frames in which nothing is one."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.acceptance.conftest import Run, folders, squares, write
from tests.conftest import metadata
from tests.tracker.test_sources_video import encode
from veintrack.engines.model import OUTPUT


@pytest.fixture(scope="session")
def two_classes(rule: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rule with a second class, ``nerve``, which is what is bright."""
    model = onnx.load(rule)
    nodes = model.graph.node
    nodes[-1].output[0] = "vessel"
    nodes.append(helper.make_node("Sub", ["one", "vessel"], ["nerve"]))
    nodes.append(helper.make_node("Concat", ["vessel", "nerve"], [OUTPUT], axis=1))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
    props = metadata(192) | {"classes": '["vessel", "nerve"]'}
    helper.set_model_props(model, props)
    path = tmp_path_factory.mktemp("two") / "two.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("options", "judged", "good"),
    [
        (["--label", "vessel=1"], "vessel", True),
        (["--label", "nerve=7"], "nerve", True),
        (["--label", "7"], "vessel", False),
        (["--label", "7", "--class", "nerve"], "nerve", True),
        (["--label", "carotid=1"], "vessel", True),
        (["--label", "muscle=7", "--class", "nerve"], "nerve", True),
        (["--class", "nerve"], "nerve", False),
    ],
)
def test_the_name_of_a_label_chooses_the_class_and_the_table_says_which(
    evaluate: Run, two_classes: Path, tmp_path: Path, options: list[str], judged: str, good: bool
) -> None:
    pixels, mask = np.full((96, 96), 250, np.uint8), np.full((96, 96), 7, np.uint8)
    pixels[10:50, 10:50], mask[10:50, 10:50] = 20, 1
    write(tmp_path, "a", pixels, mask)
    done = evaluate("--model", two_classes, *folders(tmp_path), *options, "--json", "f.json")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["class"], figures["pooled"]["dice"]["value"] > 0.9) == (judged, good)
    value = figures["label"]
    assert f"the model's class {judged}, the data's label {value}" in " ".join(done.stdout.split())


def test_a_label_and_a_class_that_contradict_each_other_are_refused(
    evaluate: Run, two_classes: Path, tmp_path: Path
) -> None:
    squares(tmp_path, "a")
    call = ("--model", two_classes, *folders(tmp_path))
    done = evaluate(*call, "--label", "nerve=1", "--class", "vessel")
    assert done.returncode == 2
    assert done.stderr == (
        "veintrack: --label nerve=1 is of the model's class nerve, but --class is vessel: leave "
        "one of them out\n"
    )


@pytest.mark.parametrize("video", [True, False])
def test_false_alarms_are_counted_where_nothing_is_a_vessel(
    evaluate: Run, rule: Path, tmp_path: Path, video: bool
) -> None:
    squares(tmp_path, "a")  # two marks in each of two frames
    write(tmp_path, "a3", np.full((96, 96), 250, np.uint8), np.zeros((96, 96), np.uint8))
    images = tmp_path / "images"
    if video:
        images = encode(tmp_path / "clip.mp4", [250, 20, 250], size=(96, 96))
    done = evaluate(
        "--model", rule, "--images", images, "--label", "none", "--json", "f.json",
        "--output", "out", "--bootstrap", 50,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["frames"], figures["frames_without_vessel"]) == (3, 3)
    assert figures["false_alarms"]["value"] == pytest.approx(1 / 3 if video else 4 / 3)
    assert (figures["label"], figures["masks"], figures["format"]) == ("none", None, None)
    assert figures["threshold_curve"] is None
    names = ["0", "1", "2"] if video else ["a1", "a2", "a3"]
    assert [f["name"] for f in figures["per_frame"]] == names
    rows = " ".join(done.stdout.split())
    assert "false detections a frame" in rows
    assert "Dice" not in rows
    page = (tmp_path / "out/report.html").read_text()
    assert "whatever is detected is a false alarm" in page
    assert "<img" not in page


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (["--masks", "masks", "--images", "images"], "--images alone, without --masks"),
        (["--data", "."], "--images alone, without --data"),
        (["--images", "images", "--groups", "^(a)"], "--images alone, without --groups"),
        (["--images", "images", "--unlabelled", "unknown"], "alone, without --unlabelled"),
        ([], "with --label none, name the frames with --images alone"),
    ],
)
def test_where_nothing_is_a_vessel_nothing_about_labels_is_taken(
    evaluate: Run, rule: Path, tmp_path: Path, given: list[str], answer: str
) -> None:
    squares(tmp_path, "a")
    done = evaluate("--model", rule, "--label", "none", *given)
    assert done.returncode == 2
    assert answer in done.stderr


def test_a_path_is_shown_as_it_is(evaluate: Run, rule: Path, tmp_path: Path) -> None:
    squares(tmp_path, "a")
    done = evaluate("--model", rule, *folders(tmp_path), "--json", "[exp1] :bomb:/f.json")
    assert done.stderr == "written: [exp1] :bomb:/f.json\n"
