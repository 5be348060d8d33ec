"""LabelMe: a JSON file for each image, with the outlines that were drawn on it.

The fields are those that LabelMe 5 writes (github.com/wkentaro/labelme). Points are in pixels from
the picture's corner, as the program shows them: its canvas draws the top left pixel from (0, 0) to
(1, 1). A ``mask`` shape holds a picture that lies with its first pixel on its first point.
"""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import F64, U8
from veintrack.tracker.naturalorder import natural_key
from veintrack.train.formats.base import Area, LabelledFolder, LabelledFrame, Labels, Problem
from veintrack.train.formats.outlines import as_points, circle, fill_polygon
from veintrack.train.formats.pictures import find_pictures, open_picture, read_json, unique_names

__all__ = ["LabelmeTruth", "looks_like_labelme", "open_labelme"]

_WITHOUT_AREA = ("line", "linestrip", "point", "points")


@dataclass(frozen=True, slots=True)
class LabelmeTruth:
    """The shapes of one image.

    Attributes
    ----------
    path : Path
        The JSON file.
    shapes : sequence of mapping
        As they are in the file.
    size_px : tuple of int or None
        ``(H, W)`` of the image that they were drawn on, where the file says so.
    """

    path: Path
    shapes: Sequence[Mapping[str, Any]]
    size_px: tuple[int, int] | None = None

    def read(self, shape_px: tuple[int, int]) -> Labels:
        if self.size_px is not None and self.size_px != shape_px:
            raise SourceUnreadableError(
                f"{self.path} was drawn on a {self.size_px[1]}x{self.size_px[0]} image, "
                f"but its image is {shape_px[1]}x{shape_px[0]}"
            )
        areas = []
        faults: dict[str, str] = {}
        for number, shape in enumerate(self.shapes, 1):
            where = f"{self.path}, shape {number}"
            label, kind = str(shape["label"]), shape.get("shape_type") or "polygon"
            if kind in _WITHOUT_AREA:
                faults[label] = f"{where}: {label!r} is a {kind}, which has no area"
                continue
            try:
                mask = _fill(kind, shape, shape_px, self.path)
            except KeyError as error:
                raise SourceUnreadableError(f"{where}: it lacks {error}") from error
            except ValueError as error:
                raise SourceUnreadableError(f"{where}: {error}") from error
            areas.append(Area((label,), mask))
        return Labels(tuple(areas), faults=faults)


def looks_like_labelme(path: Path) -> bool:
    """Tell whether a JSON file is meant as LabelMe; looked for, not parsed."""
    try:
        return b'"shapes"' in path.read_bytes()
    except OSError:
        return False


def open_labelme(folder: Path) -> LabelledFolder:
    """Find LabelMe files and the images that they belong to.

    Raises
    ------
    SourceNotFoundError
        If there are no LabelMe files.
    SourceUnreadableError
        If none of them can be used, or none has a shape.
    """
    if not folder.is_dir():
        raise SourceNotFoundError(f"no folder {folder}: LabelMe files lie beside their images")
    pictures = find_pictures(folder)
    # A file beside an image is meant for it, whatever it holds; others may have the image inside.
    stems = {path.with_suffix("") for path in pictures}
    files = [
        path
        for path in sorted(folder.rglob("*.json"))
        if path.with_suffix("") in stems or looks_like_labelme(path)
    ]
    if not files:
        raise SourceNotFoundError(f"no LabelMe files in {folder}: a .json file beside each image")
    frames, problems = _open_files(files)
    accounted = {file.with_suffix("") for file in files}
    accounted |= {image.with_suffix("") for _, image, _ in frames}
    problems += [
        Problem(
            path,
            f"{path} has no LabelMe file; a frame without a vessel has one without shapes",
            "labels",
        )
        for path in pictures
        if path.with_suffix("") not in accounted
    ]
    labels = {str(shape["label"]) for _, _, truth in frames for shape in truth.shapes}
    if not labels:
        reason = problems[0].line if problems else "every list of shapes is empty"
        raise SourceUnreadableError(f"no label in the LabelMe files of {folder}: {reason}")
    names = unique_names([file.relative_to(folder) for file, _, _ in frames])
    return LabelledFolder(
        folder,
        "labelme",
        tuple(LabelledFrame(n, i, t) for n, (_, i, t) in zip(names, frames, strict=True)),
        {label: label for label in sorted(labels, key=natural_key)},
        tuple(problems),
    )


def _open_files(
    files: Sequence[Path],
) -> tuple[list[tuple[Path, Path, LabelmeTruth]], list[Problem]]:
    """Return each file that can be used with its image and its shapes, and those that cannot."""
    frames, problems = [], []
    for file in files:
        try:
            frames.append((file, *_open(file)))
        except SourceUnreadableError as error:
            problems.append(Problem(file, str(error)))
    used = Counter(image for _, image, _ in frames)
    problems += [
        Problem(file, f"{file} is of {image}, and so is another file: imagePath must differ")
        for file, image, _ in frames
        if used[image] > 1
    ]
    return [frame for frame in frames if used[frame[1]] == 1], problems


def _open(file: Path) -> tuple[Path, LabelmeTruth]:
    """Return the image of a LabelMe file, or the file itself that has it inside, and its shapes."""
    content = read_json(file)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise SourceUnreadableError(
            f"{file} is no LabelMe file: it has no list 'shapes'; an image without labels has an "
            "empty one"
        )
    for number, shape in enumerate(shapes, 1):
        if not isinstance(shape, dict) or "label" not in shape:
            raise SourceUnreadableError(f"{file}, shape {number}: it has no label")
    # The program writes paths as its system does.
    name = PureWindowsPath(str(content.get("imagePath") or ""))
    beside = [file.parent / name.as_posix(), file.parent / name.name]
    image = next((path for path in beside if path.is_file()), None)
    if image is None and not content.get("imageData"):
        raise SourceUnreadableError(
            f"{file} names the image {name.as_posix()!r}, which is not beside it, and has no "
            "picture inside"
        )
    height, width = content.get("imageHeight"), content.get("imageWidth")
    known = type(height) is int and type(width) is int
    return image or file, LabelmeTruth(file, shapes, (height, width) if known else None)


def _fill(kind: str, shape: Mapping[str, Any], shape_px: tuple[int, int], path: Path) -> U8:
    points = as_points(shape["points"])
    least = 3 if kind == "polygon" else 2
    if len(points) < least:
        raise ValueError(f"a {kind} must have at least {least} points, got {len(points)}")
    if kind == "mask":
        return _paste(shape, points, shape_px, path)
    if kind == "circle":
        points = circle(points[0], points[1])
    elif kind == "rectangle":
        (x0, y0), (x1, y1) = points[0], points[1]
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    elif kind != "polygon":
        raise ValueError(
            f"unknown shape type {kind!r}: expected polygon, rectangle, circle or mask"
        )
    return fill_polygon(points, shape_px)


def _paste(shape: Mapping[str, Any], points: F64, shape_px: tuple[int, int], path: Path) -> U8:
    """Lay a mask shape's own small picture on the frame."""
    try:
        picture = open_picture(path, base64.b64decode(shape["mask"]))
    except (TypeError, ValueError, SourceUnreadableError) as error:
        raise ValueError("its mask is no picture as base64") from error
    small = np.asarray(picture.convert("L")) > 0
    left, top = (int(px) for px in points.min(axis=0))
    bottom, right = top + small.shape[0], left + small.shape[1]
    if left < 0 or top < 0 or bottom > shape_px[0] or right > shape_px[1]:
        raise ValueError(
            f"its mask reaches from {left},{top} to {right},{bottom}, beyond the "
            f"{shape_px[1]}x{shape_px[0]} image"
        )
    mask = np.zeros(shape_px, np.uint8)
    mask[top:bottom, left:right] = small
    return mask
