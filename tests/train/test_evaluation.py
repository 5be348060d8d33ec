"""Which frames are evaluated, and what a segmenter's answer becomes."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from tests.tracker.test_sources_video import encode
from tests.train import formats_scene
from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import F32, U8
from veintrack.train.evaluation import (
    Judging,
    check_label,
    empty_frames,
    find_labelled,
    group_files,
    score_files,
    show_frames,
)
from veintrack.train.formats import LabelChoice, LabelledFolder, open_folder, pair_folders


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Four frames, a to d; d has no mask. The vessel is label 2."""
    folder = tmp_path / "scans"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    mask = np.zeros((40, 40), np.uint8)
    mask[5:15, 5:15] = 2
    for name in "abcd":
        cv2.imwrite(str(folder / "images" / f"{name}.png"), 100 + mask)
        if name != "d":
            cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
    return folder


def found(scans: Path) -> LabelledFolder:
    return find_labelled(pair_folders(scans / "images", scans / "masks"))[0]


def judge(label: str, **more: Any) -> Judging:
    return Judging(choice=LabelChoice({"vessel": label}), classes={}, threshold=0.5, **more)


def chosen(scans: Path, split: Any, part: str = "test") -> tuple[list[str], list[str]]:
    file = scans.parent / "split.json"
    file.write_text(split if isinstance(split, str) else json.dumps(split))
    folder, without_mask = find_labelled(
        pair_folders(scans / "images", scans / "masks"), file, part, "scans"
    )
    return [f.name for f in folder.frames], [path.name for path in without_mask]


def test_without_a_split_every_frame_with_a_mask_is_taken(scans: Path) -> None:
    (scans / "masks/z.png").write_bytes(b"")  # of no image: passed over
    folder, without_mask = find_labelled(pair_folders(scans / "images", scans / "masks"))
    assert [f.name for f in folder.frames] == ["a", "b", "c"]
    assert folder.problems == ()
    assert without_mask == [scans / "images/d.png"]


def test_a_part_of_a_split_is_taken(scans: Path) -> None:
    split = {"train": ["a"], "val": ["b", "d"], "test": ["c"]}
    assert chosen(scans, split) == (["c"], [])
    assert chosen(scans, split, "val") == (["b"], ["d.png"])


def test_names_behind_their_data_folder_are_taken_and_those_behind_another_are_not(
    scans: Path,
) -> None:
    assert chosen(scans, {"test": ["scans/a", "b", "others/c"]}) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("split", "part", "answer"),
    [
        ("no JSON", "test", "split.json cannot be read as JSON"),
        ([["a"]], "test", "split.json must hold lists of names: train, val, test"),
        ({"train": ["a"]}, "test", "split.json must hold lists of names"),
        ({"test": [1]}, "test", "split.json must hold lists of names"),
        ({"test": []}, "test", "part test of .*split.json names no frame of .* scans"),
        ({"test": ["others/a"]}, "test", "names no frame of the data folder scans"),
        ({"val": ["a", "y", "x"]}, "val", "2 of 3 frames of part val of .* first 'x'"),
        ({"train": ["b", "scans/a"], "test": ["scans/a", "c"]}, "test", "'a', which is in train"),
        ({"train": ["scans/a"], "test": ["a"]}, "test", "test of .*split.json names 'a', which is"),
        ({"test": ["a"]}, "exam", "part must be one of train, val, test, got 'exam'"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(
    scans: Path, split: Any, part: str, answer: str
) -> None:
    with pytest.raises(ValueError, match=answer):
        chosen(scans, split, part)


def test_a_split_that_is_not_there_is_refused(scans: Path) -> None:
    with pytest.raises(ValueError, match="nowhere.json cannot be read"):
        find_labelled(open_folder(scans), scans / "nowhere.json")


def test_frames_without_any_mask_are_refused(scans: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no frame of part test .* the first is d.png"):
        chosen(scans, {"test": ["d"]})


def test_frames_are_grouped_by_their_names_and_one_group_is_refused(scans: Path) -> None:
    files = found(scans).frames
    assert group_files(files, "([ab]|c)") == ["a", "b", "c"]
    with pytest.raises(ValueError, match="need at least 2 groups, got 3 frames in ''"):
        group_files(files, "^()")


def test_a_label_that_occurs_nowhere_is_refused(scans: Path) -> None:
    assert check_label(found(scans), LabelChoice({"vessel": "2"})).frames == 3
    with pytest.raises(
        ValueError, match="the label 1; other labels that occur there: 2; if nothing"
    ):
        check_label(found(scans), LabelChoice({"vessel": "1"}))


def test_a_frame_that_cannot_be_read_is_refused(scans: Path) -> None:
    for name in "bc":
        cv2.imwrite(str(scans / f"masks/{name}.png"), np.ones((4, 6), np.uint8))
    with pytest.raises(SourceUnreadableError, match=r"b.png is 6x4, .* is 40x40 \(and 1 more\)"):
        check_label(found(scans), LabelChoice({"vessel": "2"}))


def test_a_file_that_cannot_be_used_is_refused_unless_the_split_does_without_it(
    scans: Path,
) -> None:
    (scans / "images/c.jpg").write_bytes(b"")
    with pytest.raises(SourceUnreadableError, match="holds 'c' more than once"):
        find_labelled(open_folder(scans))
    assert chosen(scans, {"test": ["a", "d"]}) == (["a"], ["d.png"])
    with pytest.raises(ValueError, match="1 of 2 frames of part test .* first 'c'"):
        chosen(scans, {"test": ["a", "c"]})


def test_names_of_frames_in_subfolders_may_stand_in_a_split(scans: Path) -> None:
    for part in ("images", "masks"):
        (scans / part / "p1").mkdir()
        (scans / part / "p1/a.png").write_bytes((scans / part / "a.png").read_bytes())
    split = {"test": ["a", "p1/a"], "val": ["b", "others/a"]}
    assert chosen(scans, split) == (["a", "p1/a"], [])
    split = {"test": ["others/a"], "val": ["scans/p1/a", "others/p1/a"]}
    assert chosen(scans, split, "val") == (["p1/a"], [])


@pytest.mark.parametrize(
    ("write", "left", "right"),
    [
        (formats_scene.write_folders, "masks/f10.png", "images/f10.png"),
        (formats_scene.write_labelme, "f10.json", "f10.png"),
        (formats_scene.write_nnunet, "labelsTr/f10.png", "imagesTr/f10_0000.png"),
    ],
)
def test_images_without_labels_are_told_from_files_that_cannot_be_used(
    tmp_path: Path, write: Any, left: str, right: str
) -> None:
    write(tmp_path)
    (tmp_path / left).unlink()
    folder, without_labels = find_labelled(open_folder(tmp_path))
    assert [f.name for f in folder.frames] == ["f2"]
    assert without_labels == [tmp_path / right]


@pytest.mark.parametrize(
    ("write", "lost"),
    [
        (formats_scene.write_folders, "images/f10.png"),
        (formats_scene.write_nnunet, "imagesTr/f10_0000.png"),
    ],
)
def test_labels_without_an_image_are_passed_over(tmp_path: Path, write: Any, lost: str) -> None:
    write(tmp_path)
    (tmp_path / lost).unlink()
    assert find_labelled(open_folder(tmp_path))[1] == []


def test_only_one_class_is_judged() -> None:
    with pytest.raises(ValueError, match="expected one class to judge, got vein, artery"):
        Judging(choice=LabelChoice({"vein": "1", "artery": "2"}), classes={}, threshold=0.5)


def answering(answer: F32) -> Any:
    """Stand in for a segmenter: the same answer to any frame."""

    def segment(pixels: U8) -> F32:
        assert pixels.shape == answer.shape
        return answer

    return type("Fake", (SimpleNamespace,), {"__call__": staticmethod(segment)})(
        input_shape=answer.shape
    )


def half_right() -> F32:
    """Mark the vessel, and as much beside it."""
    answer = np.zeros((40, 40), np.float32)
    answer[5:15, 5:15] = 0.75
    answer[25:35, 25:35] = 0.5
    return answer


@pytest.mark.parametrize(("background_known", "precision"), [(True, 0.5), (False, 1)])
def test_marks_beside_the_labels_count_only_if_the_background_is_known(
    scans: Path, background_known: bool, precision: float
) -> None:
    files = found(scans).frames
    judging = judge("2", background_known=background_known)
    frames, levels = score_files(answering(half_right()), files, judging)
    assert [f.precision for f in frames] == [precision] * 3
    assert levels[0, 128] == (300 if background_known else 0)
    (example,) = show_frames(answering(half_right()), files, [("best", frames[1])], judging)
    assert example.left_out is not None
    assert example.marked.sum() + example.left_out.sum() == 200
    assert example.left_out.any() != background_known


def test_frames_without_a_vessel_need_no_labels(scans: Path) -> None:
    (scans / "images/p1").mkdir()
    (scans / "images/a.png").rename(scans / "images/p1/a2.png")
    frames, levels = score_files(
        answering(half_right()), empty_frames(scans / "images"), judge("none")
    )
    assert [(f.name, f.vessels, f.marked) for f in frames] == [
        (name, 0, 2) for name in ("b", "c", "d", "a2")
    ]
    assert (levels[0].sum(), levels[1].sum()) == (4 * 1600, 0)


def test_a_video_shows_frames_without_a_vessel(
    scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encode(scans / "demo.mp4", [30, 200], size=(40, 64))
    file.rename(scans / "demo.avi")
    monkeypatch.chdir(scans)
    frames = list(empty_frames(Path("demo.avi")))
    assert [(f.name, f.pixels.shape) for f in frames] == [("0", (40, 64)), ("1", (40, 64))]
    assert [int(f.pixels.mean().round(-1)) for f in frames] == [20, 210]


def test_frames_without_a_vessel_that_are_not_there_are_refused(scans: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no folder or file .*nowhere"):
        empty_frames(scans / "nowhere")
    (scans / "none").mkdir()
    with pytest.raises(SourceNotFoundError, match="no images .* in .*none"):
        empty_frames(scans / "none")
    (scans / "scan.doc").touch()
    with pytest.raises(SourceUnreadableError, match="cannot read .doc files; readable are"):
        empty_frames(scans / "scan.doc")


def test_marks_that_the_tracker_would_drop_are_no_detections(scans: Path) -> None:
    answer = half_right()
    answer[38, 38] = 1
    frames, _ = score_files(answering(answer), found(scans).frames, judge("2"))
    assert [f.marked for f in frames] == [2, 2, 2]


@pytest.mark.parametrize("background_known", [True, False])
def test_pixels_of_which_nothing_is_known_count_nowhere(
    tmp_path: Path, background_known: bool
) -> None:
    # Label 3 hides what is wrongly marked, and covers a part of what was labelled.
    mask = np.zeros((40, 40), np.uint8)
    mask[5:15, 5:15], mask[10:35, 10:35] = 2, 3
    formats_scene.save(tmp_path / "images/a.png", mask)
    formats_scene.save(tmp_path / "masks/a.png", mask)
    choice = LabelChoice({"vessel": "2"}, ("3",))
    judging = Judging(choice=choice, classes={}, threshold=0.5, background_known=background_known)
    folder = open_folder(tmp_path)
    assert check_label(folder, choice).unknown == pytest.approx(625 / 1600)
    (frame,), levels = score_files(answering(half_right()), folder.frames, judging)
    assert (frame.tp, frame.fp, frame.fn) == (75, 0, 0)
    assert frame.tn == (1600 - 625 - 75 if background_known else 0)
    assert (frame.dice, frame.vessels, frame.marked) == (1, 1, 1)
    assert levels[:2].sum() == 1600 - 625
    assert (levels[0, 1:].sum(), levels[1, 192]) == (0, 75)
    (example,) = show_frames(answering(half_right()), folder.frames, [("best", frame)], judging)
    assert example.left_out is not None
    assert (example.marked.sum(), example.left_out.sum()) == (75, 125)
