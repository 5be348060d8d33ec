"""Training data in the formats that laboratories have it in."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.formats_scene import (
    ARTERY,
    ARTERY_CORNERS,
    EMPTY,
    INDEX,
    LAYOUTS,
    SHAPE_PX,
    SPECKLE,
    VEIN,
    coco_content,
    labelme_content,
    runs,
    save,
    save_json,
    write_coco,
    write_coco_polygons,
    write_coco_subset,
    write_colours,
    write_folders,
    write_labelme,
    write_nnunet,
)
from veintrack.errors import SourceNotFoundError
from veintrack.tracker.frame import U8
from veintrack.train.formats import (
    LabelChoice,
    describe,
    open_folder,
    pair_folders,
    read_truth,
    survey,
    values_of,
)

BOTH = LabelChoice({"vein": "1", "artery": "2"})


def read(folder: Path, choice: LabelChoice, name: str = "f2") -> tuple[U8, U8, U8]:
    data = open_folder(folder)
    frame = next(frame for frame in data.frames if frame.name == name)
    return read_truth(frame, choice, data.classes)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_format_gives_the_same_truth(layout: str, tmp_path: Path) -> None:
    write, form, (vein, artery) = LAYOUTS[layout]
    write(tmp_path)
    data = open_folder(tmp_path)
    assert (data.format, data.problems) == (form, ())
    assert [frame.name for frame in data.frames] == ["f2", "f10"]
    choice = LabelChoice({"vein": vein, "artery": artery})
    for name, expected in (("f2", (VEIN, ARTERY)), ("f10", (EMPTY, EMPTY))):
        image, masks, unknown = read(tmp_path, choice, name)
        np.testing.assert_array_equal(image, SPECKLE)
        np.testing.assert_array_equal(masks, expected)
        assert masks.dtype == unknown.dtype == np.uint8
        assert unknown.shape == masks.shape
        assert not unknown.any()


def test_a_coco_file_may_be_given_itself(tmp_path: Path) -> None:
    write_coco_polygons(tmp_path)
    data = open_folder(tmp_path / "annotations" / "instances.json")
    assert data.format == "coco"
    assert data.classes == {"vein": "3", "artery": "5"}


def test_a_coco_file_is_of_the_images_of_its_own_subset(tmp_path: Path) -> None:
    write_coco_subset(tmp_path)
    save(tmp_path / "images/test/f2.png", EMPTY)
    save_json(tmp_path / "annotations/instances_test.json", coco_content([]))
    for subset, names in (("default", ["f2", "f10"]), ("test", ["f2"])):
        data = open_folder(tmp_path / f"annotations/instances_{subset}.json")
        assert [frame.name for frame in data.frames] == names
        assert {frame.image.parent.name for frame in data.frames} == {subset}


def test_several_labels_make_one_class(tmp_path: Path) -> None:
    write_folders(tmp_path)
    _, masks, _ = read(tmp_path, LabelChoice({"vessel": "1+2"}))
    np.testing.assert_array_equal(masks[0], VEIN | ARTERY)


def test_ignored_labels_are_unknown_to_every_class(tmp_path: Path) -> None:
    write_folders(tmp_path)
    _, masks, unknown = read(tmp_path, LabelChoice({"vein": "1"}, ignore=("2",)))
    np.testing.assert_array_equal(masks[0], VEIN)
    np.testing.assert_array_equal(unknown[0], ARTERY)


def test_another_label_is_known_where_the_unlabelled_is_not(tmp_path: Path) -> None:
    write_folders(tmp_path)
    _, masks, unknown = read(tmp_path, LabelChoice({"vein": "1"}, unlabelled="unknown"))
    np.testing.assert_array_equal(unknown[0], 1 - (VEIN | ARTERY))
    assert masks[0][ARTERY == 1].max() == 0


def test_overlapping_outlines_are_of_both_classes(tmp_path: Path) -> None:
    write_coco(tmp_path, [[35, 20, 45, 20, 45, 30, 35, 30]])
    _, masks, _ = read(tmp_path, LabelChoice({"vein": "vein", "artery": "artery"}))
    assert masks[0].sum() == 100
    np.testing.assert_array_equal(masks[1], ARTERY)
    assert (masks[0] & masks[1]).any()


def test_a_crowd_is_unknown_save_for_what_it_surrounds(tmp_path: Path) -> None:
    write_coco_polygons(tmp_path)
    content = coco_content({"size": list(SHAPE_PX), "counts": runs(1 - EMPTY)})
    content["annotations"][0]["iscrowd"] = 1
    save_json(tmp_path / "annotations" / "instances.json", content)
    _, masks, unknown = read(tmp_path, LabelChoice({"vein": "vein", "artery": "artery"}))
    assert not masks[0].any()
    np.testing.assert_array_equal(masks[1], ARTERY)
    np.testing.assert_array_equal(unknown[1], 1 - ARTERY)


def test_the_label_that_nnunet_ignores_is_unknown(tmp_path: Path) -> None:
    write_nnunet(tmp_path, {"labels": {"background": 0, "vein": 1, "ignore": 2}})
    _, masks, unknown = read(tmp_path, LabelChoice({"vein": "vein"}))
    np.testing.assert_array_equal(masks[0], VEIN)
    np.testing.assert_array_equal(unknown[0], ARTERY)


def test_a_region_of_nnunet_joins_its_labels(tmp_path: Path) -> None:
    write_nnunet(tmp_path, {"labels": {"background": 0, "vessel": [1, 2], "artery": 2}})
    _, masks, _ = read(tmp_path, LabelChoice({"vessel": "vessel"}))
    np.testing.assert_array_equal(masks[0], VEIN | ARTERY)


@pytest.mark.parametrize("value", ["1", "255"])
def test_black_and_white_masks_are_asked_for_by_1_or_255(value: str, tmp_path: Path) -> None:
    write_folders(tmp_path, VEIN * np.uint8(255))
    _, masks, _ = read(tmp_path, LabelChoice({"vein": value}))
    np.testing.assert_array_equal(masks[0], VEIN)


def test_255_is_another_label_where_masks_hold_1_too(tmp_path: Path) -> None:
    write_folders(tmp_path, VEIN * np.uint8(255))
    save(tmp_path / "masks/f10.png", INDEX)
    _, masks, _ = read(tmp_path, LabelChoice({"vein": "1"}))
    assert not masks.any()


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA"])
def test_black_and_white_may_be_stored_in_any_way(mode: str, tmp_path: Path) -> None:
    write_folders(tmp_path)
    for name, mask in (("f2", VEIN), ("f10", EMPTY)):
        save(tmp_path / f"masks/{name}.png", mask * np.uint8(255), mode)
    _, masks, _ = read(tmp_path, LabelChoice({"vein": "1"}))
    np.testing.assert_array_equal(masks[0], VEIN)


def test_numbers_may_have_16_bits(tmp_path: Path) -> None:
    write_folders(tmp_path)
    save(tmp_path / "masks/f2.png", INDEX.astype(np.uint16) * 300)
    _, masks, _ = read(tmp_path, LabelChoice({"artery": "600"}))
    np.testing.assert_array_equal(masks[0], ARTERY)


def test_black_padding_of_a_palette_is_a_label_like_others(tmp_path: Path) -> None:
    write_folders(tmp_path)
    picture = Image.fromarray(INDEX)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0])  # number 2 has no colour of its own
    picture.save(tmp_path / "masks/f2.png")
    _, masks, _ = read(tmp_path, BOTH)
    np.testing.assert_array_equal(masks, (VEIN, ARTERY))


def test_a_label_map_names_the_colours(tmp_path: Path) -> None:
    write_colours(tmp_path)
    (tmp_path / "images").rename(tmp_path / "JPEGImages")
    (tmp_path / "masks").rename(tmp_path / "SegmentationClass")
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nvein:255,0,0::\nartery:0,0,255::\n"
    )
    assert open_folder(tmp_path).classes == {"vein": "#ff0000", "artery": "#0000ff"}
    _, masks, _ = read(tmp_path, LabelChoice({"vein": "vein", "artery": "artery"}))
    np.testing.assert_array_equal(masks, (VEIN, ARTERY))


def test_masks_may_lie_beside_the_images(tmp_path: Path) -> None:
    save(tmp_path / "patient 1/f2.png", SPECKLE)
    save(tmp_path / "patient 1/f2_mask.png", INDEX)
    _, masks, _ = read(tmp_path, BOTH)
    np.testing.assert_array_equal(masks, (VEIN, ARTERY))


def test_frames_of_one_name_in_two_subfolders_are_told_apart(tmp_path: Path) -> None:
    for name in ("p2/f1", "p10/f1", "p2/f2"):
        save(tmp_path / f"Images/{name}.png", SPECKLE)
        save(tmp_path / f"Masks/{name}_seg.png", INDEX)
    assert [f.name for f in open_folder(tmp_path).frames] == ["f2", "p2/f1", "p10/f1"]


def test_two_folders_may_be_called_anything_and_lie_anywhere(tmp_path: Path) -> None:
    write_folders(tmp_path / "data")
    (tmp_path / "data/images").rename(tmp_path / "bmode")
    (tmp_path / "data/masks").rename(tmp_path / "truth")
    data = pair_folders(tmp_path / "bmode", tmp_path / "truth")
    assert (data.path, data.format, data.problems) == (tmp_path / "bmode", "folders", ())
    assert [frame.name for frame in data.frames] == ["f2", "f10"]
    _, masks, _ = read_truth(data.frames[0], BOTH, data.classes)
    np.testing.assert_array_equal(masks, (VEIN, ARTERY))


@pytest.mark.parametrize(("images", "masks"), [("", "masks"), ("images", ""), ("", "")])
def test_one_of_two_folders_may_lie_in_the_other(images: str, masks: str, tmp_path: Path) -> None:
    for part, ending, picture in ((images, "", SPECKLE), (masks, "_mask", INDEX)):
        save(tmp_path / part / f"f2{ending}.png", picture)
    data = pair_folders(tmp_path / images, tmp_path / masks)
    assert ([frame.name for frame in data.frames], data.problems) == (["f2"], ())


@pytest.mark.parametrize("place", ["masks", "."])
def test_a_label_map_lies_with_the_masks_or_beside_their_folder(place: str, tmp_path: Path) -> None:
    write_colours(tmp_path)
    (tmp_path / place / "labelmap.txt").write_text("vein:255,0,0::\nartery:0,0,255::\n")
    data = pair_folders(tmp_path / "images", tmp_path / "masks")
    assert data.classes == {"vein": "#ff0000", "artery": "#0000ff"}


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_folders(tmp_path)
    with pytest.raises(SourceNotFoundError, match="no folder .*/nowhere$"):
        pair_folders(tmp_path / "images", tmp_path / "nowhere")


def test_colour_pictures_become_luma(tmp_path: Path) -> None:
    write_folders(tmp_path)
    green = np.zeros((*SHAPE_PX, 3), np.uint8)
    green[..., 1] = 200
    save(tmp_path / "images/f2.png", green)
    image, _, _ = read(tmp_path, BOTH)
    assert np.unique(image).tolist() == [117]  # 0.587 of 200


def test_a_labelme_circle_has_its_area(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    disc = {"label": "vein", "points": [[30, 20], [30, 32]], "shape_type": "circle"}
    save_json(tmp_path / "f2.json", labelme_content("f2", [disc]))
    _, masks, _ = read(tmp_path, LabelChoice({"vein": "vein"}))
    assert masks[0].sum() == pytest.approx(np.pi * 144, rel=0.01)


def test_lines_do_no_harm_where_their_label_is_not_chosen(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    caliper = {"label": "caliper", "points": [[1, 1], [9, 9]], "shape_type": "line"}
    diamond = {"label": "artery", "points": ARTERY_CORNERS}
    save_json(tmp_path / "f2.json", labelme_content("f2", [caliper, diamond]))
    _, masks, _ = read(tmp_path, LabelChoice({"artery": "artery"}))
    np.testing.assert_array_equal(masks[0], ARTERY)


def test_names_may_hold_a_plus() -> None:
    assert values_of("a+b", {"a+b": "a+b", "a": "a"}) == {"a+b"}
    assert values_of(" a + c ", {"a": "4", "c": "1+2"}) == {"4", "1", "2"}


def test_a_survey_counts_what_is_there(tmp_path: Path) -> None:
    write_folders(tmp_path)
    save(tmp_path / "images/wide.png", np.zeros((40, 80), np.uint8))
    two = np.zeros((40, 80), np.uint8)
    two[2:4, 2:4] = two[20:22, 20:22] = 1
    save(tmp_path / "masks/wide.png", two)
    (tmp_path / "masks/alone.png").write_bytes(b"")
    save(tmp_path / "images/cut.png", SPECKLE)
    (tmp_path / "masks/cut.png").write_bytes((tmp_path / "masks/f2.png").read_bytes()[:60])
    taken = []
    found = survey(
        open_folder(tmp_path), LabelChoice({"vein": "1"}), lambda frame, *_: taken.append(frame)
    )
    assert found.frames == 3
    assert [frame.name for frame in taken] == ["f2", "f10", "wide"]
    assert found.sizes == {"60x40": 2, "80x40": 1}
    (vein,) = found.classes
    assert (vein.frames, vein.areas) == (2, 3)
    assert vein.share == pytest.approx((240 + 8) / (2 * 2400 + 3200))
    assert found.empty == ("f10",)
    assert found.others == {"2": 1}
    assert [problem.path.name for problem in found.problems] == ["alone.png", "cut.png"]
    assert found.rows()[1] == ("vein", "1", "2 of 3", "3.10%", "3")
    text = describe(found)
    assert "3 frames (folders format), 60x40 to 80x40 pixels" in text
    assert "Frames without any class: 1 of 3 (f10)." in text
    assert "Labels that were not chosen: 2 (in 1 of 3 frames)." in text
    assert "masks/cut.png cannot be read as an image" in text


def test_a_survey_says_which_class_occurs_nowhere(tmp_path: Path) -> None:
    write_nnunet(
        tmp_path, {"labels": {"background": 0, "vein": 1, "artery": 2, "nerve": 3, "bone": 4}}
    )
    choice = LabelChoice({"vein": "vein", "nerve": "nerve"}, unlabelled="unknown")
    found = survey(open_folder(tmp_path), choice)
    assert found.absent == ("nerve",)
    assert found.others == {"artery": 1}
    assert found.unknown == pytest.approx(1 - (VEIN | ARTERY).sum() / 4800)
    assert "No frame shows nerve." in describe(found)


def test_formats_need_no_torch() -> None:
    code = "import sys, veintrack.train.formats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
