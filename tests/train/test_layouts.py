"""Data as laboratories have it, from the command to a model file; and data that is broken."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.train.formats_scene import (
    LAYOUTS,
    coco_content,
    save_json,
    write_coco_polygons,
    write_colours,
    write_folders,
    write_labelme,
    write_nnunet,
)
from veintrack.engines.model import read_model_info
from veintrack.tracker.cli.app import run

READY = ("index masks", "colour masks", "COCO polygons", "LabelMe", "nnU-Net")
TINY = (
    *("--size", "64", "--batch", "2", "--epochs", "1", "--accelerator", "cpu", "--workers", "1"),
    *("--val", "0.5", "--test", "0", "--allow-leaks", "--augment", "none"),
)


def train(data: Path, output: Path, *options: str) -> int:
    return run(["train", "--data", str(data), "--output", str(output), *TINY, *options])


def twice(folder: Path, write: Callable[[Path], None]) -> Path:
    """Write a layout twice: all vessels are in one frame. Seed 3 validates on the second's."""
    write(folder / "first")
    write(folder / "second")
    (folder / "data.yaml").write_text("- {folder: first, val: 0}\n- {folder: second}\n")
    return folder / "data.yaml"


@pytest.mark.parametrize("layout", READY)
def test_every_layout_trains(layout: str, tmp_path: Path) -> None:
    write, _, (vein, artery) = LAYOUTS[layout]
    labels = ("--label", f"vein={vein}", "--label", f"artery={artery}", "--seed", "3")
    assert train(twice(tmp_path, write), tmp_path / "run", *labels) == 0
    info = read_model_info(tmp_path / "run" / "model.onnx")
    assert info.classes == ("vein", "artery")
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert split["train"] == ["first/f2", "first/f10", "second/f10"]
    assert split["val"] == ["second/f2"]


def no_masks_folder(data: Path) -> None:
    write_folders(data)
    shutil.rmtree(data / "masks")


def no_mask(data: Path) -> None:
    write_folders(data)
    (data / "masks" / "f2.png").unlink()


def cut_image(data: Path) -> None:
    write_folders(data)
    image = data / "images" / "f2.png"
    image.write_bytes(image.read_bytes()[:100])


def other_size(data: Path) -> None:
    write_folders(data)
    shutil.copy(data / "masks" / "f2.png", data / "images" / "f2.png")
    Image.new("L", (9, 7)).save(data / "masks" / "f2.png")


def cut_json(data: Path) -> None:
    write_coco_polygons(data)
    file = next(data.rglob("*.json"))
    file.write_text(file.read_text()[:400])


def no_categories(data: Path) -> None:
    write_coco_polygons(data)
    content = coco_content([])
    del content["categories"]
    save_json(next(data.rglob("*.json")), content)


def no_shapes(data: Path) -> None:
    write_labelme(data)
    file = next(data.rglob("f2.json"))
    content = json.loads(file.read_text())
    del content["shapes"]
    save_json(file, content)


def no_label_file(data: Path) -> None:
    write_nnunet(data)
    (data / "labelsTr" / "f2.png").unlink()


def volumes(data: Path) -> None:
    write_nnunet(data)
    content = json.loads((data / "dataset.json").read_text())
    save_json(data / "dataset.json", content | {"file_ending": ".nii.gz"})


def two_formats(data: Path) -> None:
    write_folders(data)
    write_nnunet(data)


BROKEN: list[tuple[Callable[[Path], None], str, str]] = [
    (no_masks_folder, "1", "no folder .*masks: training data is a folder that holds images/ and"),
    (no_mask, "1", r"f2\.png has no mask of its name; .* leave out .* with --skip-bad"),
    (cut_image, "1", r"f2\.png cannot be read"),
    (other_size, "1", r"f2\.png is 9x7, but its image is 60x40"),
    (cut_json, "vein", r"\.json is not valid JSON"),
    (no_categories, "vein", "categories"),
    (no_shapes, "vein", r"f2\.json .*shapes"),
    (no_label_file, "vein", r"f2_0000\.png has no label file"),
    (volumes, "vein", r"\.nii\.gz"),
    (two_formats, "1", "can be read as .* say which with --format"),
    (write_folders, "7", "no frame of .* shows vein; other labels that occur there: 1, 2"),
    (write_colours, "1", "holds colours .* ask for one of them, not for the number 1"),
    (write_nnunet, "nerve", "the data has no label 'nerve'; it has .*vein"),
]


@pytest.mark.parametrize(
    ("write", "label", "message"), BROKEN, ids=[write.__name__ for write, *_ in BROKEN]
)
def test_broken_data_is_one_clear_line_and_nothing_is_written(
    write: Callable[[Path], None],
    label: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "data")
    assert train(tmp_path / "data", tmp_path / "run", "--label", f"vein={label}") == 2
    lines = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("veintrack: ")
    ]
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_used_may_be_left_out(tmp_path: Path) -> None:
    data = twice(tmp_path, write_folders)
    shutil.copy(tmp_path / "first/images/f2.png", tmp_path / "first/images/f3.png")
    (tmp_path / "first/masks/f3.png").write_bytes(b"no picture")
    options = ("--label", "vein=1", "--seed", "3", "--skip-bad")
    assert train(data, tmp_path / "run", *options) == 0
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert split["train"] == ["first/f2", "first/f10", "second/f10"]
