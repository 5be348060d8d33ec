"""Broken COCO, LabelMe and nnU-Net data: one clear line each."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.train.formats_scene import (
    SHAPE_PX,
    SPECKLE,
    VEIN,
    coco_content,
    labelme_content,
    problems,
    refusal,
    runs,
    save,
    save_json,
    write_coco,
    write_coco_polygons,
    write_labelme,
    write_nnunet,
)
from veintrack.train.formats import open_folder


def write_coco_file(folder: Path, content: object) -> None:
    write_coco_polygons(folder)
    save_json(folder / "annotations/instances.json", content)


def test_coco_that_is_cut_off(tmp_path: Path) -> None:
    write_coco_polygons(tmp_path)
    path = tmp_path / "annotations/instances.json"
    path.write_text(path.read_text()[:400])
    line = refusal(tmp_path)
    assert line.startswith("DATA/annotations/instances.json is not valid JSON: ")
    assert line.endswith("; is the file complete?")


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_coco_without_one_of_its_lists(key: str, tmp_path: Path) -> None:
    write_coco_file(tmp_path, {k: v for k, v in coco_content([]).items() if k != key})
    line = refusal(tmp_path / "annotations/instances.json")
    assert line == (
        f"DATA is no COCO file: it has no list '{key}'; it needs images, annotations and categories"
    )


def test_coco_with_an_empty_list_of_categories(tmp_path: Path) -> None:
    write_coco_file(tmp_path, coco_content([]) | {"categories": []})
    assert "has an empty list of categories: nothing is labelled" in refusal(tmp_path)


def test_coco_with_an_entry_of_another_form(tmp_path: Path) -> None:
    write_coco_file(tmp_path, coco_content([]) | {"images": [{"id": 7}]})
    assert refusal(tmp_path) == (
        "DATA/annotations/instances.json is no valid COCO file: an entry lacks 'file_name'"
    )


def test_several_coco_files(tmp_path: Path) -> None:
    write_coco_polygons(tmp_path)
    save_json(tmp_path / "annotations/val.json", coco_content([]))
    assert refusal(tmp_path).startswith(
        "DATA holds several COCO files (instances.json, val.json): give the one to use, such as"
    )


def test_coco_with_an_image_file_missing(tmp_path: Path) -> None:
    write_coco_polygons(tmp_path)
    (tmp_path / "images/f10.png").unlink()
    assert problems(tmp_path, vein="vein") == [
        "annotations/instances.json lists f10.png, but there is no such image beside it, in "
        "images/, in images/instances/, in data/ or in the folder above"
    ]
    (tmp_path / "images/f2.png").unlink()
    assert refusal(tmp_path).startswith("DATA/annotations/instances.json lists f2.png, but there")


def coco_line(folder: Path, vein: object) -> str:
    write_coco(folder, vein)
    (line,) = problems(folder, vein="vein")
    assert line.startswith("annotations/instances.json, annotation 1 of f2.png")
    return line.removeprefix("annotations/instances.json, annotation 1 of f2.png").lstrip(": ")


@pytest.mark.parametrize(
    ("segmentation", "expected"),
    [
        (
            {"size": list(SHAPE_PX), "counts": [*runs(VEIN), 3]},
            "its runs add up to 2403 pixels, but a 60x40 picture has 2400",
        ),
        (
            {"size": [60, 40], "counts": [2400]},
            "its size (height, width) is [60, 40], but its image's is [40, 60]",
        ),
        (
            {"size": list(SHAPE_PX), "counts": [2400.5, -1]},
            "its runs must be whole numbers, none of them negative",
        ),
        (12, "its segmentation is neither polygons nor runs of pixels"),
        ({"size": list(SHAPE_PX)}, "its segmentation lacks 'counts'"),
        ({"size": list(SHAPE_PX), "counts": "P"}, "the run lengths end inside a number"),
        (
            {"size": list(SHAPE_PX), "counts": "0 0"},
            "character ' ' cannot occur in run lengths",
        ),
        ([[1, 1, 5, 5]], "a polygon has 4 numbers: expected x, y, at least three times"),
        ([[1, 1, 5, 5, 9, float("nan")]], "its points are no pairs of numbers"),
        ([], "has no segmentation: a box or points are no outline"),
    ],
)
def test_coco_segmentations_that_cannot_be_read(
    segmentation: object, expected: str, tmp_path: Path
) -> None:
    assert coco_line(tmp_path, segmentation) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"category_id": 9}, "annotation 1 of f2.png: no category 9 in the file"),
        ({"image_id": 99}, "annotation 1: no image 99 in the file"),
    ],
)
def test_coco_annotations_that_point_nowhere(
    change: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    content = coco_content([[1, 1, 9, 1, 9, 9]])
    content["annotations"][0] |= change
    write_coco_file(tmp_path, content)
    (line,) = problems(tmp_path, vein="vein")
    assert line == f"annotations/instances.json, {expected}"


def test_coco_entries_that_are_no_objects(tmp_path: Path) -> None:
    write_coco_file(tmp_path, coco_content([]) | {"annotations": [3]})
    assert refusal(tmp_path).endswith("every image, annotation and category must be an object")


def test_coco_paths_of_another_machine(tmp_path: Path) -> None:
    content = coco_content([])
    content["annotations"] = []
    content["images"][0]["file_name"] = "C:\\scans\\f2.png"
    write_coco_file(tmp_path, content)
    assert [frame.name for frame in open_folder(tmp_path).frames] == ["f2", "f10"]
    content["images"].append({"id": 30, "file_name": "D:\\more\\f2.png"})
    write_coco_file(tmp_path, content)
    data = open_folder(tmp_path)
    assert [frame.name for frame in data.frames] == ["f10"]
    assert len(data.problems) == 2  # which of the two is f2.png cannot be told


def test_coco_images_listed_twice(tmp_path: Path) -> None:
    content = coco_content([])
    content["images"].append({"id": 30, "file_name": "f10.png"})
    content["images"].append({"id": 7, "file_name": "f3.png"})
    content["images"].append({"id": 31, "file_name": "f4.png"})
    write_coco_file(tmp_path, content)
    save(tmp_path / "images/f4.png", SPECKLE)
    lines = [p.line.split(" ", 1)[1] for p in open_folder(tmp_path).problems]
    assert lines == [
        "gives several images the id 7",
        "lists f10.png more than once",
    ]


def test_a_coco_image_of_another_size_than_it_was_drawn_on(tmp_path: Path) -> None:
    write_coco_polygons(tmp_path)
    save(tmp_path / "images/f2.png", SPECKLE[:20])
    assert problems(tmp_path, vein="vein") == [
        "annotations/instances.json says that f2.png is 60x40, but it is 60x20"
    ]


def labelme_lines(folder: Path, content: object) -> list[str]:
    write_labelme(folder)
    save_json(folder / "f10.json", content)
    return problems(folder, vein="vein")


def test_labelme_without_shapes(tmp_path: Path) -> None:
    assert labelme_lines(tmp_path, {"imagePath": "f10.png"}) == [
        "f10.json is no LabelMe file: it has no list 'shapes'; an image without labels has an "
        "empty one"
    ]


def test_labelme_without_any_label_at_all(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    save_json(tmp_path / "f2.json", labelme_content("f2", []))
    assert refusal(tmp_path) == (
        "no label in the LabelMe files of DATA: every list of shapes is empty"
    )


def test_labelme_with_an_image_that_was_not_labelled(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    save(tmp_path / "f3.png", SPECKLE)
    assert problems(tmp_path, vein="vein") == [
        "f3.png has no LabelMe file; a frame without a vessel has one without shapes"
    ]


def test_labelme_without_its_image(tmp_path: Path) -> None:
    content = labelme_content("f10", []) | {"imagePath": "..\\scans\\other.png"}
    assert labelme_lines(tmp_path, content) == [
        "f10.json names the image '../scans/other.png', which is not beside it, and has no "
        "picture inside"
    ]


def test_two_labelme_files_of_one_image(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    for name in ("f3", "f4"):
        save(tmp_path / f"{name}.png", SPECKLE)
        save_json(tmp_path / f"{name}.json", labelme_content("f3", []))
    assert problems(tmp_path, vein="vein") == [
        "f3.json is of f3.png, and so is another file: imagePath must differ",
        "f4.json is of f3.png, and so is another file: imagePath must differ",
    ]


def test_labelme_drawn_on_another_size(tmp_path: Path) -> None:
    content = labelme_content("f10", []) | {"imageHeight": 80}
    assert labelme_lines(tmp_path, content) == [
        "f10.json was drawn on a 60x80 image, but its image is 60x40"
    ]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"points": []}, "it has no label"),
        (
            {"label": "vein", "points": [[1, 1], [9, 9]], "shape_type": "line"},
            "'vein' is a line, which has no area",
        ),
        (
            {"label": "vein", "points": [[1, 1], [9, 9]]},
            "a polygon must have at least 3 points, got 2",
        ),
        ({"label": "vein", "points": [1, 2, 3]}, "its points are no pairs of numbers"),
        ({"label": "vein"}, "it lacks 'points'"),
        (
            {"label": "vein", "points": [[1, 1], [9, 9]], "shape_type": "mask", "mask": "AAAA"},
            "its mask is no picture as base64",
        ),
        (
            {"label": "vein", "points": [[1, 1], [9, 9], [3, 4]], "shape_type": "cube"},
            "unknown shape type 'cube': expected polygon, rectangle, circle or mask",
        ),
    ],
)
def test_labelme_shapes_that_cannot_be_read(shape: object, expected: str, tmp_path: Path) -> None:
    lines = labelme_lines(tmp_path, labelme_content("f10", [shape]))
    assert lines == [f"f10.json, shape 1: {expected}"]


def test_labelme_without_a_picture_in_its_picture_data(tmp_path: Path) -> None:
    content = labelme_content("gone", []) | {"imageData": "bm90aGluZw=="}
    lines = labelme_lines(tmp_path, content)
    assert "f10.json cannot be read as an image" in lines


def test_nnunet_with_a_label_file_missing(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "labelsTr/f10.png").unlink()
    assert problems(tmp_path, vein="vein") == [
        "imagesTr/f10_0000.png has no label file labelsTr/f10.png"
    ]


def test_nnunet_with_an_image_missing_or_misnamed(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "imagesTr/f10_0000.png").rename(tmp_path / "imagesTr/f10.png")
    assert problems(tmp_path, vein="vein") == [
        "imagesTr/f10.png has no channel in its name: expected NAME_0000",
        "labelsTr/f10.png has no image imagesTr/f10_0000.png",
    ]


def test_nnunet_with_volumes(tmp_path: Path) -> None:
    write_nnunet(tmp_path, {"labels": {"background": 0, "vein": 1}, "file_ending": ".nii.gz"})
    assert refusal(tmp_path) == (
        "DATA/dataset.json says that the images are .nii.gz volumes: training reads 2-D pictures, "
        'so save every frame and its mask as a PNG and set "file_ending" to ".png"'
    )


def test_volumes_where_pictures_belong(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "p1.nii.gz").touch()
    assert refusal(tmp_path) == (
        "DATA/images holds volumes such as p1.nii.gz: training reads 2-D pictures, so save every "
        "frame and its mask as a PNG"
    )


def test_nnunet_with_several_channels(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    save(tmp_path / "imagesTr/f2_0001.png", SPECKLE)
    assert refusal(tmp_path) == (
        "DATA/imagesTr has 2 channels a frame: keep the B-mode channel alone, as NAME_0000"
    )


@pytest.mark.parametrize("part", ["dataset.json", "labelsTr"])
def test_nnunet_without_one_of_its_parts(part: str, tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    (tmp_path / part).rename(tmp_path / "elsewhere")
    assert refusal(tmp_path) == (
        f"no DATA/{part}: an nnU-Net data set has dataset.json, imagesTr/ and labelsTr/"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"file_ending": ".png"}, 'has no \'labels\', such as {"background": 0, "vein": 1}'),
        (
            {"labels": {"background": 0, "vein": "one"}},
            "the label 'vein' must be a number or a list of numbers, got 'one'",
        ),
    ],
)
def test_nnunet_labels_of_another_form(
    content: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    write_nnunet(tmp_path, content)
    assert refusal(tmp_path).endswith(expected)


def test_nnunet_with_a_number_that_it_does_not_name(tmp_path: Path) -> None:
    write_nnunet(tmp_path, {"labels": {"background": 0, "vein": 1}})
    assert problems(tmp_path, vein="vein") == [
        "labelsTr/f2.png holds 2, which no class of the data stands for: expected 0, 1"
    ]


def test_json_that_is_no_text(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "dataset.json").write_bytes(json.dumps("é").encode("utf-16"))
    assert refusal(tmp_path) == "DATA/dataset.json is not valid JSON: it is no UTF-8 text"
