"""``veintrack evaluate segmentation``, driven as a user would."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.acceptance.conftest import COMMAND, Run, folders, squares, write
from tests.train.formats_scene import LAYOUTS, VEIN, write_folders, write_labelme
from veintrack.tracker.phantom import random_still


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six phantom frames, and one without a vessel; vessel is 2 in the masks."""
    folder = tmp_path_factory.mktemp("phantoms")
    stills = (random_still(seed, 240, 320) for seed in count())
    shown = ((pixels, mask) for pixels, mask in stills if mask.any())
    for name, (pixels, mask) in enumerate(islice(shown, 6)):
        write(folder, f"{name}", pixels, 2 * mask)
    write(folder, "none", np.full((240, 320), 90, np.uint8), np.zeros((240, 320), np.uint8))
    return folder


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
    squares(tmp_path, "a")
    (tmp_path / "masks/a2.png").unlink()
    done = evaluate("--model", rule, *folders(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Images left out for want of a mask: 1." in done.stdout


def test_intervals_over_groups_say_so(evaluate: Run, rule: Path, tmp_path: Path) -> None:
    squares(tmp_path, "abc")
    call = ("--model", rule, *folders(tmp_path), "--bootstrap", 50, "--json", "f.json")
    done = evaluate(*call, "--groups", "^([a-z])", "--output", "out")
    assert done.returncode == 0, done.stderr
    assert "over 3 groups of frames" in " ".join(done.stdout.split())
    assert "over 3 groups of frames" in (tmp_path / "out/report.html").read_text()
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["resampled"], figures["resampled_count"]) == ("groups", 3)
    assert figures["groups"] == "^([a-z])"
    assert [f["group"] for f in figures["per_frame"]] == [*"aabbcc"]
    assert evaluate(*call, "--overwrite").returncode == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["resampled"], figures["resampled_count"]) == ("frames", 6)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("groups.json", '[["a1", "a2"], ["b1", "b2"]]'),
        ("groups.csv", "a1,a\na2,a\nb1,b\nb2,b\n"),
    ],
)
def test_groups_may_be_listed_in_a_file(
    evaluate: Run, rule: Path, tmp_path: Path, name: str, content: str
) -> None:
    squares(tmp_path, "ab")
    (tmp_path / name).write_text(content)
    done = evaluate("--model", rule, *folders(tmp_path), "--groups", name)
    assert done.returncode == 0, done.stderr
    assert "over 2 groups of frames" in " ".join(done.stdout.split())


def test_with_unlabelled_unknown_a_mark_beside_the_labels_is_no_false_alarm(
    evaluate: Run, rule: Path, tmp_path: Path
) -> None:
    squares(tmp_path, "ab")
    call = ("--model", rule, *folders(tmp_path), "--json", "f.json", "--overwrite")
    assert evaluate(*call).returncode == 0
    strict = json.loads((tmp_path / "f.json").read_text())
    done = evaluate(*call, "--unlabelled", "unknown", "--output", "out")
    assert done.returncode == 0, done.stderr
    lenient = json.loads((tmp_path / "f.json").read_text())
    assert strict["pooled"]["precision"]["value"] < 0.6
    assert lenient["pooled"]["precision"]["value"] > 0.9
    assert strict["pooled"]["recall"] == lenient["pooled"]["recall"]
    assert (strict["marks_left_out"], lenient["marks_left_out"]) == (None, 4)
    assert lenient["calibration"] is None
    assert max(lenient["threshold_curve"]["dice"]) > 0.9 > max(strict["threshold_curve"]["dice"])
    said = "marks that overlap no labelled vessel, 4 in 4 frames, count in no score"
    assert said in " ".join(done.stdout.split())
    assert said in (tmp_path / "out/report.html").read_text()


def test_one_part_of_a_split_is_scored(evaluate: Run, rule: Path, tmp_path: Path) -> None:
    squares(tmp_path, "abc")
    split = {"train": ["a1", "a2"], "val": ["b1"], "test": [f"{tmp_path.name}/c1", "c2"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    call = ("--model", rule, *folders(tmp_path), "--json", "f.json", "--overwrite")
    for arguments, part, names in (([], "test", ["c1", "c2"]), (["--part", "val"], "val", ["b1"])):
        done = evaluate(*call, "--split", "split.json", *arguments)
        assert done.returncode == 0, done.stderr
        figures = json.loads((tmp_path / "f.json").read_text())
        assert [f["name"] for f in figures["per_frame"]] == names
        assert figures["split"] == f"{part} of split.json"


def test_the_class_and_the_device_are_chosen_and_said(
    evaluate: Run, rule: Path, tmp_path: Path
) -> None:
    squares(tmp_path, "a")
    call = ("--model", rule, *folders(tmp_path), "--json", "f.json")
    done = evaluate(*call, "--class", "vessel", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["class"], figures["images_without_mask"]) == ("vessel", 0)


@pytest.mark.parametrize("layout", ["index masks", "COCO runs", "LabelMe", "nnU-Net"])
def test_every_format_of_labelled_frames_gives_the_same_scores(
    evaluate: Run, rule: Path, tmp_path: Path, layout: str
) -> None:
    write_layout, form, (vein, _) = LAYOUTS[layout]
    write_layout(tmp_path / "data")
    (tmp_path / "split.json").write_text('{"test": ["data/f2", "f10"]}')
    done = evaluate(
        "--model", rule, "--data", "data", "--label", f"vessel={vein}", "--json", "f.json",
        "--split", "split.json", "--groups", "(f2|f10)", "--output", "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["data"], figures["format"]) == ("data", form)
    assert (figures["images"], figures["masks"]) == (None, None)
    assert figures["unknown_share"] == 0
    first, second = figures["per_frame"]
    assert (first["name"], first["tp"] + first["fn"], first["group"]) == ("f2", VEIN.sum(), "f2")
    assert (second["name"], second["vessels"]) == ("f10", 0)
    write_folders(tmp_path / "same")
    call = ("--model", rule, *folders(tmp_path / "same"), "--json", "same.json")
    assert evaluate(*call, "--groups", "(f2|f10)").returncode == 0
    assert json.loads((tmp_path / "same.json").read_text())["per_frame"] == [first, second]


def test_the_datas_own_name_is_enough_for_a_label(
    evaluate: Run, rule: Path, tmp_path: Path
) -> None:
    write_labelme(tmp_path / "data")
    call = ("--model", rule, "--data", "data", "--format", "labelme")
    done = evaluate(*call, "--label", "vein", "--json", "f.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "f.json").read_text())["label"] == "vein"
    done = evaluate(*call, "--label", "vessel=nerve")
    assert done.returncode == 2
    assert "no label 'nerve'; it has artery, vein" in done.stderr


def test_what_is_ignored_counts_nowhere_and_is_said(
    evaluate: Run, rule: Path, tmp_path: Path
) -> None:
    squares(tmp_path, "ab")
    for path in (tmp_path / "masks").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert mask is not None
        mask[50:, 50:] = 7  # the square that is not labelled, and around it
        cv2.imwrite(str(path), mask)
    call = ("--model", rule, *folders(tmp_path), "--json", "f.json", "--overwrite")
    assert evaluate(*call).returncode == 0
    strict = json.loads((tmp_path / "f.json").read_text())
    done = evaluate(*call, "--ignore", 7, "--ignore", 8, "--output", "out")
    assert done.returncode == 0, done.stderr
    lenient = json.loads((tmp_path / "f.json").read_text())
    assert strict["pooled"]["precision"]["value"] < 0.6
    assert lenient["pooled"]["precision"]["value"] > 0.9
    assert strict["pooled"]["recall"] == lenient["pooled"]["recall"]
    assert lenient["unknown_share"] == pytest.approx(46**2 / 96**2)
    assert lenient["ignore"] == ["7", "8"]
    assert "Unknown, counted nowhere: 23.0% of the pixels." in done.stdout
    assert "<td>ignore</td><td>7, 8</td>" in (tmp_path / "out/report.html").read_text()


def _no_folder(folder: Path) -> list[object]:
    return ["--images", folder / "nowhere", "--masks", folder / "masks"]


def _no_common_name(folder: Path) -> list[object]:
    (folder / "masks/a.png").rename(folder / "masks/b.png")
    return []


def _another_size(folder: Path) -> list[object]:
    cv2.imwrite(str(folder / "masks/a.png"), np.ones((4, 6), np.uint8))
    return []


def _images_alone(folder: Path) -> list[object]:
    return ["--images", folder / "images"]


def _data_and_images(folder: Path) -> list[object]:
    return ["--data", folder, "--images", folder / "images"]


def _unknown_format(folder: Path) -> list[object]:
    return ["--data", folder, "--format", "paper"]


def _format_of_folders(folder: Path) -> list[object]:
    return [*folders(folder), "--format", "coco"]


def _broken_outlines(folder: Path) -> list[object]:
    (folder / "data").mkdir()
    write_labelme(folder / "data")
    (folder / "data/f10.json").write_text("{")
    return ["--data", folder / "data", "--label", "vein"]


def _file_for_a_folder(folder: Path) -> list[object]:
    (folder / "file").write_text("")
    return ["--output", folder / "file"]


def _no_such_part(folder: Path) -> list[object]:
    (folder / "split.json").write_text('{"test": ["a"]}')
    return ["--split", "split.json", "--part", "exam"]


def _no_such_frame(folder: Path) -> list[object]:
    (folder / "split.json").write_text('{"test": ["a", "z"]}')
    return ["--split", "split.json"]


@pytest.mark.parametrize(
    ("mistake", "answer"),
    [
        (_no_folder, "no folder "),
        (_no_common_name, "no image in "),
        (_another_size, "is 6x4, but its image is 30x20"),
        (["--label", "vessel=7"], "shows the label 7; other labels that occur there: 1"),
        (["--label", "vessel"], "the masks carry no names such as 'vessel': ask for a number"),
        (["--label", "vessel="], "a label must be CLASS or CLASS=VALUE such as vessel=2"),
        (["--label", "#ff0000"], "holds numbers (1): ask for one of them"),
        (_images_alone, "either with --images and --masks, or with --data"),
        (_data_and_images, "either with --images and --masks, or with --data"),
        (_unknown_format, "format must be one of auto, folders, coco, labelme, nnunet"),
        (_format_of_folders, "format is that of --data"),
        (_broken_outlines, "f10.json is not valid JSON"),
        (["--model", "better"], "no model 'better'"),
        (["--engine", "abacus"], "unknown engine 'abacus'"),
        (["--threshold", "1.5"], "threshold must lie between 0 and 1, got 1.5"),
        (["--spacing", "wide"], "spacing must be"),
        (["--bootstrap", "0"], "bootstrap must be at least 1, got 0"),
        (_file_for_a_folder, "is not a folder"),
        (["--class", "artery"], "has no class 'artery'; it has vessel"),
        (["--device", "abacus", "--engine", "onnxruntime"], "abacus"),
        (["--unlabelled", "nerve"], "unlabelled must be background or unknown, got 'nerve'"),
        (["--part", "val"], "name its file with --split"),
        (["--split", "nowhere.json"], "split file nowhere.json cannot be read"),
        (_no_such_part, "part must be one of train, val, test, got 'exam'"),
        (_no_such_frame, "1 of 2 frames of part test of split.json are not in"),
        (["--groups", "^(S.)"], "does not match the frame 'a'"),
        (["--groups", "^(a)"], "intervals over groups need at least 2 groups, got 1 frames in 'a'"),
    ],
)
def test_a_mistake_is_answered_with_one_line_and_leaves_nothing_behind(
    evaluate: Run,
    tmp_path: Path,
    mistake: list[str] | Callable[[Path], list[object]],
    answer: str,
) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 5:10] = 1
    write(tmp_path, "a", 100 - mask, mask)
    given = mistake(tmp_path) if callable(mistake) else mistake
    before = sorted(tmp_path.rglob("*"))
    where = () if {"--images", "--data"} & {*map(str, given)} else folders(tmp_path)
    arguments = [*where, *given]
    if "--output" not in given:
        arguments = [*arguments, "--output", tmp_path / "out", "--json", tmp_path / "f.json"]
    done = evaluate(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("veintrack: ")
    assert answer in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("given", [(), ("--masks", "masks")])
def test_missing_folders_are_asked_for(evaluate: Run, given: tuple[str, ...]) -> None:
    done = evaluate(*given)
    assert done.returncode == 2
    assert "--images and --masks, or with --data" in done.stderr
