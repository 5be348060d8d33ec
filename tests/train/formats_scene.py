"""One drawn scene, written in every format that training reads, and what is said of broken ones."""

import base64
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import U8
from veintrack.train.formats import LabelChoice, open_folder, survey

SHAPE_PX = (40, 60)

_Y, _X = np.mgrid[: SHAPE_PX[0], : SHAPE_PX[1]]
#: A box and a diamond, by their formulas; corners are from the picture's corner.
VEIN: U8 = ((_X >= 10) & (_X < 30) & (_Y >= 8) & (_Y < 20)).astype(np.uint8)
ARTERY: U8 = (np.abs(_X - 40) + np.abs(_Y - 25) < 8.25).astype(np.uint8)
VEIN_CORNERS = [[10, 8], [30, 8], [30, 20], [10, 20]]
ARTERY_CORNERS = [[40.5, 17.25], [48.75, 25.5], [40.5, 33.75], [32.25, 25.5]]
SPECKLE: U8 = np.random.default_rng(7).integers(0, 256, SHAPE_PX, np.uint8)
#: The second frame shows no vessel.
NAMES = ("f2", "f10")


def save(path: Path, pixels: Any, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)).save(path)


def save_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def colour(index: U8) -> U8:
    """Paint the vein red, the artery blue."""
    table = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    painted: U8 = table[index]
    return painted


INDEX: U8 = VEIN + 2 * ARTERY
EMPTY: U8 = np.zeros(SHAPE_PX, np.uint8)


def runs(mask: U8) -> list[int]:
    """Encode a mask as COCO does: lengths down the columns, of 0 and 1 in turn."""
    values = np.concatenate([[0], mask.T.ravel(), [2]])
    edges = np.flatnonzero(np.diff(values))
    lengths = np.diff(np.concatenate([[0], edges])).tolist()
    return [int(n) for n in lengths]


def compress(counts: Sequence[int]) -> str:
    """Write run lengths as COCO's text."""
    text = ""
    for i, count in enumerate(counts):
        value, more = count - (counts[i - 2] if i > 2 else 0), True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


def write_folders(folder: Path, pixels: U8 = INDEX) -> None:
    for name, mask in zip(NAMES, (pixels, np.zeros_like(pixels)), strict=True):
        save(folder / "images" / f"{name}.png", SPECKLE)
        save(folder / "masks" / f"{name}.png", mask)


def write_colours(folder: Path) -> None:
    write_folders(folder, colour(INDEX))


def write_palette(folder: Path) -> None:
    write_folders(folder)
    for name, index in zip(NAMES, (INDEX, EMPTY), strict=True):
        picture = Image.fromarray(index)
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
        picture.save(folder / "masks" / f"{name}.png")


def coco_content(vein: object) -> dict[str, Any]:
    flat = [number for corner in ARTERY_CORNERS for number in corner]
    height, width = SHAPE_PX
    return {
        "images": [
            {"id": 7 + i, "file_name": f"{name}.png", "height": height, "width": width}
            for i, name in enumerate(NAMES)
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "segmentation": vein, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 5, "segmentation": [flat], "iscrowd": 0},
        ],
        "categories": [{"id": 3, "name": "vein"}, {"id": 5, "name": "artery"}],
    }


def write_coco(folder: Path, vein: object) -> None:
    for name in NAMES:
        save(folder / "images" / f"{name}.png", SPECKLE)
    save_json(folder / "annotations" / "instances.json", coco_content(vein))


def write_coco_polygons(folder: Path) -> None:
    write_coco(folder, [[number for corner in VEIN_CORNERS for number in corner]])


def write_coco_runs(folder: Path) -> None:
    write_coco(folder, {"size": list(SHAPE_PX), "counts": runs(VEIN)})


def write_coco_compressed(folder: Path) -> None:
    write_coco(folder, {"size": list(SHAPE_PX), "counts": compress(runs(VEIN))})


def write_coco_subset(folder: Path) -> None:
    """As CVAT writes a subset of a task, of which there is one called ``default``."""
    write_coco_polygons(folder)
    for name in NAMES:
        image = folder / "images" / f"{name}.png"
        image.parent.joinpath("default").mkdir(exist_ok=True)
        image.rename(image.parent / "default" / image.name)
    file = folder / "annotations" / "instances.json"
    file.rename(file.with_name("instances_default.json"))


def labelme_content(name: str, shapes: Sequence[object]) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{name}.png",
        "imageData": None,
        "imageHeight": SHAPE_PX[0],
        "imageWidth": SHAPE_PX[1],
    }


def write_labelme(folder: Path) -> None:
    box = {"label": "vein", "points": [[30, 20], [10, 8]], "shape_type": "rectangle"}
    diamond = {"label": "artery", "points": ARTERY_CORNERS, "shape_type": "polygon"}
    for name, shapes in zip(NAMES, ([box, diamond], []), strict=True):
        save(folder / f"{name}.png", SPECKLE)
        save_json(folder / f"{name}.json", labelme_content(name, shapes))


def write_labelme_masks(folder: Path) -> None:
    """Shapes painted with the brush, and the picture inside the file."""
    stored = io.BytesIO()
    Image.fromarray((VEIN[8:20, 10:30] * 255).astype(np.uint8)).convert("1").save(stored, "PNG")
    brush = {
        "label": "vein",
        "points": [[10, 8], [29, 19]],
        "shape_type": "mask",
        "mask": base64.b64encode(stored.getvalue()).decode(),
    }
    write_labelme(folder)
    inside = base64.b64encode((folder / "f2.png").read_bytes()).decode()
    diamond = {"label": "artery", "points": ARTERY_CORNERS, "shape_type": "polygon"}
    content = labelme_content("f2", [brush, diamond]) | {"imageData": inside}
    save_json(folder / "f2.json", content)
    (folder / "f2.png").unlink()


def write_nnunet(folder: Path, content: object = None) -> None:
    for name, index in zip(NAMES, (INDEX, EMPTY), strict=True):
        save(folder / "imagesTr" / f"{name}_0000.png", SPECKLE)
        save(folder / "labelsTr" / f"{name}.png", index)
    save_json(
        folder / "dataset.json",
        content
        or {
            "channel_names": {"0": "B-mode"},
            "labels": {"background": 0, "vein": 1, "artery": 2},
            "numTraining": 2,
            "file_ending": ".png",
        },
    )


def write_nnunet_v1(folder: Path) -> None:
    write_nnunet(folder, {"labels": {"0": "background", "1": "vein", "2": "artery"}})


#: Every layout: how it is written, its format, and what vein and artery are called in it.
LAYOUTS: dict[str, tuple[Callable[[Path], None], str, tuple[str, str]]] = {
    "index masks": (write_folders, "folders", ("1", "2")),
    "colour masks": (write_colours, "folders", ("#ff0000", "#0000FF")),
    "palette by number": (write_palette, "folders", ("1", "2")),
    "palette by colour": (write_palette, "folders", ("#ff0000", "#0000ff")),
    "COCO polygons": (write_coco_polygons, "coco", ("vein", "artery")),
    "COCO runs": (write_coco_runs, "coco", ("3", "5")),
    "COCO compressed runs": (write_coco_compressed, "coco", ("vein", "5")),
    "COCO of CVAT": (write_coco_subset, "coco", ("vein", "artery")),
    "LabelMe": (write_labelme, "labelme", ("vein", "artery")),
    "LabelMe brush": (write_labelme_masks, "labelme", ("vein", "artery")),
    "nnU-Net": (write_nnunet, "nnunet", ("vein", "artery")),
    "nnU-Net version 1": (write_nnunet_v1, "nnunet", ("vein", "2")),
}


def problems(folder: Path, **labels: str) -> list[str]:
    """Everything that a survey says cannot be used; each a single line."""
    found = survey(open_folder(folder), LabelChoice(labels or {"vein": "1"}))
    lines = [problem.line for problem in found.problems]
    assert not any("\n" in line for line in lines)
    return [line.replace(f"{folder}/", "") for line in lines]


def refusal(folder: Path, form: str = "auto") -> str:
    """Say why a folder is refused as a whole; a single line."""
    with pytest.raises((SourceNotFoundError, SourceUnreadableError)) as caught:
        open_folder(folder, form)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder), "DATA")
