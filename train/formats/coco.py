"""COCO: one JSON file with images, categories and annotations.

Described at cocodataset.org, "Data format", section "Object Detection". Outlines are in pixels
from the picture's corner. A crowd (``iscrowd``) is a region in which COCO judges nothing: unknown
here, except where something in it has an outline of its own.

Images lie beside the file, in ``images/`` or in ``data/``, there or in the folder above. CVAT has
folders for its subsets: those of ``annotations/instances_default.json`` lie in
``images/default/``, and the file names them without it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import U8
from veintrack.train.formats.base import Area, LabelledFolder, LabelledFrame, Labels, Problem
from veintrack.train.formats.outlines import as_points, decode_counts, fill_polygon, fill_runs
from veintrack.train.formats.pictures import read_json, repeated_names, unique_names

__all__ = ["CocoTruth", "find_coco", "open_coco"]


_Found = tuple[str, Path, tuple[Any, Any] | None]
"""An image's name in the file, where it is, and the size ``(H, W)`` that the file says."""


@dataclass(frozen=True, slots=True)
class CocoTruth:
    """The annotations of one image.

    Attributes
    ----------
    path : Path
        The JSON file.
    name : str
        The image's name in it.
    annotations : sequence of mapping
        As they are in the file.
    size_px : tuple or None
        ``(H, W)`` of the image according to the file, where it says so.
    """

    path: Path
    name: str
    annotations: Sequence[Mapping[str, Any]]
    size_px: tuple[Any, Any] | None = None

    def read(self, shape_px: tuple[int, int]) -> Labels:
        if self.size_px is not None and self.size_px != shape_px:
            height, width = self.size_px
            raise SourceUnreadableError(
                f"{self.path} says that {self.name} is {width}x{height}, "
                f"but it is {shape_px[1]}x{shape_px[0]}"
            )
        areas: list[Area] = []
        faults: dict[str, str] = {}
        crowd, labelled = np.zeros(shape_px, np.uint8), np.zeros(shape_px, np.uint8)
        for annotation in self.annotations:
            where = f"{self.path}, annotation {annotation.get('id')} of {self.name}"
            category = str(annotation["category_id"])
            if not annotation.get("segmentation"):
                faults[category] = f"{where} has no segmentation: a box or points are no outline"
                continue
            mask = _fill(annotation["segmentation"], shape_px, where)
            if annotation.get("iscrowd"):
                crowd |= mask
            else:
                labelled |= mask
                areas.append(Area((category,), mask))
        return Labels(tuple(areas), crowd & (1 - labelled), faults)


def find_coco(folder: Path) -> list[Path]:
    """List the JSON files of a folder and of its ``annotations/`` that look like COCO.

    They are not parsed: a file that was cut off is still meant as COCO, and is named as broken
    where it is opened.
    """
    files = sorted(folder.glob("*.json")) + sorted(folder.glob("annotations/*.json"))
    return [path for path in files if _looks_like_coco(path)]


def open_coco(path: Path) -> LabelledFolder:
    """Find the images of a COCO file.

    Parameters
    ----------
    path : Path
        The file, or a folder that holds one, there or in ``annotations/``.

    Raises
    ------
    SourceNotFoundError
        If there is no COCO file, or none of its images.
    SourceUnreadableError
        If there are several, or it is no valid COCO file.
    """
    file = _choose(path) if path.is_dir() else path
    content = read_json(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise SourceUnreadableError(
                f"{file} is no COCO file: it has no list {key!r}; it needs images, annotations "
                "and categories"
            )
    try:
        return _open(path, file, content)
    except KeyError as error:
        raise SourceUnreadableError(
            f"{file} is no valid COCO file: an entry lacks {error}"
        ) from error
    except (TypeError, AttributeError) as error:
        raise SourceUnreadableError(
            f"{file} is no valid COCO file: every image, annotation and category must be an object"
        ) from error


def _open(path: Path, file: Path, content: Mapping[str, Any]) -> LabelledFolder:
    ids = {str(category["id"]) for category in content["categories"]}
    if not ids:
        raise SourceUnreadableError(f"{file} has an empty list of categories: nothing is labelled")
    found, problems = _find_images(file, content["images"])
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[str(annotation["image_id"])].append(annotation)
    names = unique_names([PurePosixPath(name) for name, _, _ in found.values()])
    frames = []
    for name, (image_id, (file_name, image, size_px)) in zip(names, found.items(), strict=True):
        mine = annotations.get(image_id, [])
        strange = [a for a in mine if str(a["category_id"]) not in ids]
        if strange:
            line = f"{file}, annotation {strange[0].get('id')} of {file_name}: no category "
            problems.append(Problem(image, f"{line}{strange[0]['category_id']} in the file"))
        else:
            frames.append(LabelledFrame(name, image, CocoTruth(file, file_name, mine, size_px)))
    listed = {str(image["id"]) for image in content["images"]}
    problems += [
        Problem(file, f"{file}, annotation {a.get('id')}: no image {a['image_id']} in the file")
        for a in content["annotations"]
        if str(a["image_id"]) not in listed
    ]
    if not frames:
        raise SourceNotFoundError(problems[0].line if problems else f"{file} lists no images")
    return LabelledFolder(
        path, "coco", tuple(frames), _classes(content["categories"]), tuple(problems)
    )


def _choose(folder: Path) -> Path:
    files = find_coco(folder)
    if not files:
        raise SourceNotFoundError(
            f"no COCO file in {folder} or {folder / 'annotations'}: a .json file with images, "
            "annotations and categories"
        )
    if len(files) > 1:
        raise SourceUnreadableError(
            f"{folder} holds several COCO files ({', '.join(f.name for f in files)}): "
            f"give the one to use, such as {files[0]}"
        )
    return files[0]


def _looks_like_coco(path: Path) -> bool:
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return b'"images"' in data and b'"annotations"' in data


def _find_images(
    file: Path, images: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, _Found], list[Problem]]:
    """Find the image files, by image id."""
    ids = [str(image["id"]) for image in images]
    names = [str(image["file_name"]).replace("\\", "/") for image in images]
    same_id, same_name = repeated_names(ids), repeated_names(names)
    lines = [f"gives several images the id {i}" for i in dict.fromkeys(ids) if i in same_id]
    lines += [f"lists {n} more than once" for n in dict.fromkeys(names) if n in same_name]
    ambiguous = repeated_names(PurePosixPath(name).name for name in names)
    found: dict[str, _Found] = {}
    for image, key, name in zip(images, ids, names, strict=True):
        if key in same_id or name in same_name:
            continue
        path = _find_image(file, name, ambiguous)
        if path is None:
            lines.append(
                f"lists {name}, but there is no such image beside it, in images/, in "
                f"images/{_subset(file)}/, in data/ or in the folder above"
            )
        else:
            size_px = (image.get("height"), image.get("width"))
            found[key] = (name, path, None if None in size_px else size_px)
    return found, [Problem(file, f"{file} {line}") for line in lines]


def _find_image(file: Path, name: str, ambiguous: set[str]) -> Path | None:
    parts = (f"images/{_subset(file)}", "", "images", "data")
    around = [base / part for base in (file.parent, file.parent.parent) for part in parts]
    tried = [base / name for base in around]
    # Tools write paths of the machine that they ran on: then the file's own name must do.
    if (bare := PurePosixPath(name).name) not in ambiguous:
        tried += [base / bare for base in around]
    return next((path for path in tried if path.is_file()), None)


def _subset(file: Path) -> str:
    """Name the subset that CVAT writes to a file such as ``instances_default.json``."""
    return file.stem.removeprefix("instances_")


def _classes(categories: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    classes: dict[str, str] = {}
    for category in categories:
        name, value = str(category["name"]), str(category["id"])
        classes[name] = f"{classes[name]}+{value}" if name in classes else value
    return classes


def _fill(segmentation: Any, shape_px: tuple[int, int], where: str) -> U8:
    """Fill a segmentation: a list of polygons, or runs of pixels, compressed or not."""
    try:
        if isinstance(segmentation, Mapping):
            return _fill_rle(segmentation, shape_px)
        mask = np.zeros(shape_px, np.uint8)
        for numbers in segmentation:
            if len(numbers) < 6 or len(numbers) % 2:
                raise ValueError(
                    f"a polygon has {len(numbers)} numbers: expected x, y, at least three times"
                )
            pairs = [numbers[i : i + 2] for i in range(0, len(numbers), 2)]
            mask |= fill_polygon(as_points(pairs), shape_px)
        return mask
    except KeyError as error:
        raise SourceUnreadableError(f"{where}: its segmentation lacks {error}") from error
    except TypeError as error:
        raise SourceUnreadableError(
            f"{where}: its segmentation is neither polygons nor runs of pixels"
        ) from error
    except ValueError as error:
        raise SourceUnreadableError(f"{where}: {error}") from error


def _fill_rle(segmentation: Mapping[str, Any], shape_px: tuple[int, int]) -> U8:
    if segmentation["size"] != [*shape_px]:
        raise ValueError(
            f"its size (height, width) is {segmentation['size']}, but its image's is {[*shape_px]}"
        )
    counts = segmentation["counts"]
    return fill_runs(decode_counts(counts) if isinstance(counts, str) else counts, shape_px)
