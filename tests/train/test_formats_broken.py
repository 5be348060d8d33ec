"""Data that cannot be read as it is: one clear line each."""

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from tests.train.formats_scene import (
    INDEX,
    SPECKLE,
    VEIN,
    problems,
    refusal,
    save,
    write_coco_polygons,
    write_colours,
    write_folders,
)
from veintrack.train.formats import open_folder


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == (
        "no folder DATA: data is a folder, or the .json file of COCO"
    )


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert refusal(tmp_path / "a.txt") == (
        "DATA is a file: give a folder, or the .json file of COCO"
    )


def test_a_format_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="auto, folders, coco, labelme, nnunet, got 'yolo'"):
        open_folder(tmp_path, "yolo")


def test_nothing_that_is_known(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith("labelsTr/; it holds nothing")
    (tmp_path / "scan.mp4").touch()
    (tmp_path / "labels").mkdir()
    assert refusal(tmp_path) == (
        "DATA holds no labelled frames in a known format: expected images/ and masks/, a COCO "
        ".json file, LabelMe .json files beside their images, or nnU-Net's dataset.json with "
        "imagesTr/ and labelsTr/; it holds labels/, scan.mp4"
    )


@pytest.mark.parametrize("form", ["coco", "labelme", "nnunet"])
def test_a_format_that_is_not_there(form: str, tmp_path: Path) -> None:
    write_folders(tmp_path)
    expected = {
        "coco": "no COCO file in DATA or DATA/annotations: a .json file with images",
        "labelme": "no LabelMe files in DATA: a .json file beside each image",
        "nnunet": "no DATA/dataset.json: an nnU-Net data set has dataset.json, imagesTr/ and",
    }
    assert refusal(tmp_path, form).startswith(expected[form])


def test_two_formats_at_once(tmp_path: Path) -> None:
    write_coco_polygons(tmp_path)
    save(tmp_path / "masks/f2.png", INDEX)
    assert refusal(tmp_path) == (
        "DATA can be read as folders and as coco: say which with --format folders or --format coco"
    )
    assert open_folder(tmp_path, "coco").format == "coco"


def test_no_masks_folder(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", SPECKLE)
    assert refusal(tmp_path) == (
        "no folder DATA/masks: training data is a folder that holds images/ and masks/ "
        "with equal names"
    )


def test_two_masks_folders(tmp_path: Path) -> None:
    write_folders(tmp_path)
    save(tmp_path / "labels/f2.png", INDEX)
    assert refusal(tmp_path).startswith("DATA holds labels/ and masks/: keep one of them")


def test_no_image_with_a_mask(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", SPECKLE)
    save(tmp_path / "masks/b.png", INDEX)
    assert refusal(tmp_path).startswith("no image in DATA/images has a mask in DATA/masks: their")


def test_a_mask_or_an_image_that_is_missing(tmp_path: Path) -> None:
    write_folders(tmp_path)
    save(tmp_path / "images/a.png", SPECKLE)
    save(tmp_path / "masks/b.png", INDEX)
    assert problems(tmp_path) == [
        "images/a.png has no mask of its name; a frame without a vessel has an empty mask",
        "masks/b.png has no image of its name",
    ]


def test_two_images_of_one_name(tmp_path: Path) -> None:
    write_folders(tmp_path)
    save(tmp_path / "images/f2.bmp", SPECKLE)
    (line,) = problems(tmp_path)
    assert line.endswith("images holds 'f2' more than once: f2.bmp, f2.png")


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    write_folders(tmp_path)
    save(tmp_path / "masks/f2.png", INDEX[:4, :6])
    assert problems(tmp_path) == ["masks/f2.png is 6x4, but its image is 60x40"]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jpg"])
def test_an_image_that_is_cut_off(suffix: str, tmp_path: Path) -> None:
    write_folders(tmp_path)
    path = tmp_path / f"images/f2.{suffix}"
    (tmp_path / "images/f2.png").unlink()
    save(path, SPECKLE)
    path.write_bytes(path.read_bytes()[:1000])
    assert problems(tmp_path) == [f"images/f2.{suffix} cannot be read as an image"]


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_png_whose_size_is_corrupt(part: str, tmp_path: Path) -> None:
    write_folders(tmp_path)
    path = tmp_path / part / "f2.png"
    stored = bytearray(path.read_bytes())
    stored[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height, in the chunk IHDR
    stored[29:33] = crc32(stored[12:29]).to_bytes(4, "big")
    path.write_bytes(stored)
    assert problems(tmp_path) == [f"{part}/f2.png cannot be read as an image"]


def test_an_image_of_16_bits(tmp_path: Path) -> None:
    write_folders(tmp_path)
    save(tmp_path / "images/f2.png", SPECKLE.astype(np.uint16) * 16)
    (line,) = problems(tmp_path)
    assert line.startswith("images/f2.png has more than 8 bits a pixel: save it with 8-bit grey")


def test_a_stack_of_images(tmp_path: Path) -> None:
    write_folders(tmp_path)
    (tmp_path / "images/f2.png").unlink()
    first = Image.fromarray(SPECKLE)
    first.save(tmp_path / "images/f2.tif", save_all=True, append_images=[first])
    assert problems(tmp_path) == ["images/f2.tif is a stack of pictures: save every frame as a PNG"]


def test_masks_that_were_compressed_as_jpeg(tmp_path: Path) -> None:
    write_folders(tmp_path)
    (tmp_path / "masks/f2.png").unlink()
    save(tmp_path / "masks/f2.jpg", VEIN * np.uint8(255))
    assert problems(tmp_path) == [
        "masks/f2.jpg is a JPEG, which smears labels at their edges: save masks as PNG"
    ]


def test_a_grey_picture_for_a_mask(tmp_path: Path) -> None:
    write_folders(tmp_path)
    save(tmp_path / "masks/f2.png", SPECKLE)
    (line,) = problems(tmp_path)
    assert line.startswith("masks/f2.png holds 256 different values, which is no label mask")


def test_a_mask_of_neither_numbers_nor_colours(tmp_path: Path) -> None:
    write_folders(tmp_path)
    (tmp_path / "masks/f2.png").unlink()
    save(tmp_path / "masks/f2.tif", VEIN.astype(np.float32))
    (line,) = problems(tmp_path)
    assert line == (
        "masks/f2.tif is no label mask: expected numbers or colours, got pixels of type F"
    )


def test_a_palette_whose_background_cannot_be_told(tmp_path: Path) -> None:
    write_folders(tmp_path)
    picture = Image.fromarray(INDEX)
    picture.putpalette([255, 0, 0, 0, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "masks/f2.png")
    (line,) = problems(tmp_path)
    assert "number 0 is #ff0000 and number 1 is black, so background cannot be told" in line


def test_colours_asked_for_by_number(tmp_path: Path) -> None:
    write_colours(tmp_path)
    message = r"f2\.png holds colours \(#0000ff, #ff0000\): .* not for the number 1$"
    with pytest.raises(ValueError, match=message):
        problems(tmp_path, vein="1")


def test_numbers_asked_for_by_colour(tmp_path: Path) -> None:
    write_folders(tmp_path)
    message = r"f2\.png holds numbers \(1, 2\): ask for one of them, not for the colour #ff0000$"
    with pytest.raises(ValueError, match=message):
        problems(tmp_path, vein="#ff0000")


def test_bare_masks_asked_for_by_name(tmp_path: Path) -> None:
    write_folders(tmp_path)
    with pytest.raises(ValueError, match="the masks carry no names such as 'vein': ask for a num"):
        problems(tmp_path, vein="vein")


def test_background_asked_for(tmp_path: Path) -> None:
    write_folders(tmp_path)
    with pytest.raises(ValueError, match="label 0 is background, which cannot be a class"):
        problems(tmp_path, vein="0")


def test_a_name_that_the_data_lacks(tmp_path: Path) -> None:
    write_coco_polygons(tmp_path)
    message = r"the data has no label 'nerve'; it has vein \(3\), artery \(5\)"
    with pytest.raises(ValueError, match=message):
        problems(tmp_path, vein="vein", nerve="nerve")


def test_a_label_map_that_cannot_be_read(tmp_path: Path) -> None:
    write_colours(tmp_path)
    (tmp_path / "labelmap.txt").write_text("vein 255 0 0\n")
    assert refusal(tmp_path) == (
        "DATA/labelmap.txt, line 1: expected name:r,g,b:parts:actions, got 'vein 255 0 0'"
    )


def test_a_colour_that_the_label_map_lacks(tmp_path: Path) -> None:
    write_colours(tmp_path)
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\nvein:255,0,0::\n")
    assert problems(tmp_path, vein="vein") == [
        "masks/f2.png holds #0000ff, which no class of the data stands for: "
        "expected #000000, #ff0000"
    ]
