"""A folder of images beside a folder of masks with the same names.

The two folders may be called otherwise than ``images/`` and ``masks/``: see `IMAGE_FOLDERS` and
`MASK_FOLDERS`; capitals do not matter. Masks may end in ``_mask`` or ``_seg``, and then may also
lie beside the images. Subfolders are searched too. CVAT's ``labelmap.txt`` gives names to colours.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.naturalorder import natural_key
from veintrack.train.formats.base import LabelledFolder, LabelledFrame, Problem
from veintrack.train.formats.masks import BLACK, MaskTruth, is_binary
from veintrack.train.formats.pictures import find_pictures, no_pictures, unique_names

__all__ = ["IMAGE_FOLDERS", "MASK_FOLDERS", "looks_like_folders", "open_folders", "pair_folders"]

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "frames", "jpegimages")
MASK_FOLDERS = ("masks", "mask", "labels", "annotations", "segmentationclass")
_ENDINGS = ("_mask", "_seg")


def looks_like_folders(folder: Path) -> bool:
    """Tell whether a folder holds images and masks, each in a folder or told by their names."""
    if _parts(folder, IMAGE_FOLDERS):
        return any(find_pictures(part) for part in _parts(folder, MASK_FOLDERS))
    return any(_is_mask(path) for path in find_pictures(folder))


def open_folders(folder: Path) -> LabelledFolder:
    """Find the folders of images and of masks in `folder`, and pair what they hold.

    Raises
    ------
    SourceNotFoundError
        If there are no images, no masks, or none that belong together.
    SourceUnreadableError
        If it cannot be told which folder is meant, or ``labelmap.txt`` cannot be read.
    """
    return replace(pair_folders(*_image_and_mask_folders(folder)), path=folder)


def pair_folders(images: Path, masks: Path) -> LabelledFolder:
    """Find images and masks of equal names.

    Parameters
    ----------
    images, masks : Path
        Two folders, whatever they are called, or twice the same. ``labelmap.txt`` lies with the
        masks, or beside their folder.

    Returns
    -------
    LabelledFolder
        Its path is `images`; its frames are in natural order of their names.

    Raises
    ------
    SourceNotFoundError
        If a folder is missing, there are no images, no masks, or none that belong together.
    SourceUnreadableError
        If ``labelmap.txt`` cannot be read.
    """
    image_of, mask_of = _find_both(images, masks)
    problems = [*_repeated(image_of), *_repeated(mask_of), *_unpaired(image_of, mask_of)]
    keys = [k for k, p in image_of.items() if len(p) == 1 and len(mask_of.get(k, ())) == 1]
    if not keys:
        raise SourceNotFoundError(
            f"no image in {images} has a mask in {masks}: their names must be equal, "
            "apart from _mask or _seg at a mask's end"
        )
    colours = _read_label_map(masks, *([] if images == masks else [masks.parent]))
    background = frozenset({colours.pop("background", "#000000")}) if colours else BLACK
    known = background.union(colours.values()) if colours else None
    paths = [mask_of[key][0] for key in keys]
    binary = not colours and is_binary(paths)
    truths = [MaskTruth(path, binary, background, known=known) for path in paths]
    names = unique_names([image_of[key][0].relative_to(images) for key in keys])
    frames = [
        LabelledFrame(n, image_of[k][0], t) for n, k, t in zip(names, keys, truths, strict=True)
    ]
    frames.sort(key=lambda frame: natural_key(frame.name))
    return LabelledFolder(images, "folders", tuple(frames), colours, tuple(problems))


def _find_both(images: Path, masks: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Find images and masks, each by what they are paired by."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise SourceNotFoundError(f"no folder {folder}")
    if images == masks:
        found = find_pictures(images)
        pictures, labels = [p for p in found if not _is_mask(p)], [p for p in found if _is_mask(p)]
    else:
        pictures, labels = _pictures_outside(images, masks), _pictures_outside(masks, images)
    if not pictures:
        raise no_pictures(images)
    return _by_key(pictures, images), _by_key(labels, masks)


def _pictures_outside(folder: Path, other: Path) -> list[Path]:
    """List a folder's pictures; if another folder lies in it, without those in there."""
    inside = other.is_relative_to(folder)
    return [p for p in find_pictures(folder) if not (inside and p.is_relative_to(other))]


def _image_and_mask_folders(folder: Path) -> tuple[Path, Path]:
    images, masks = _parts(folder, IMAGE_FOLDERS), _parts(folder, MASK_FOLDERS)
    masks = [part for part in masks if find_pictures(part)] or masks[:1]
    if not images and not masks and any(_is_mask(path) for path in find_pictures(folder)):
        return folder, folder
    for part, name in ((images, "images"), (masks, "masks")):
        if not part:
            raise SourceNotFoundError(
                f"no folder {folder / name}: training data is a folder that holds images/ and "
                "masks/ with equal names"
            )
        if len(part) > 1:
            raise SourceUnreadableError(
                f"{folder} holds {' and '.join(f'{p.name}/' for p in part)}: keep one of them, "
                "so that it is clear which is meant"
            )
    return images[0], masks[0]


def _parts(folder: Path, names: tuple[str, ...]) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name.lower() in names and p.is_dir())


def _is_mask(path: Path) -> bool:
    return path.stem.lower().endswith(_ENDINGS)


def _by_key(paths: list[Path], folder: Path) -> dict[str, list[Path]]:
    """Group files by their path in the folder, without suffix and without what masks end in."""
    found = defaultdict(list)
    for path in paths:
        key = path.relative_to(folder).with_suffix("").as_posix()
        found[key[: key.rindex("_")] if _is_mask(path) else key].append(path)
    return dict(found)


def _repeated(found: Mapping[str, list[Path]]) -> list[Problem]:
    return [
        Problem(p[0], f"{p[0].parent} holds {k!r} more than once: {', '.join(x.name for x in p)}")
        for k, p in found.items()
        if len(p) > 1
    ]


def _unpaired(images: Mapping[str, list[Path]], masks: Mapping[str, list[Path]]) -> list[Problem]:
    hint = "has no mask of its name; a frame without a vessel has an empty mask"
    alone = [p[0] for k, p in images.items() if k not in masks]
    problems = [Problem(path, f"{path} {hint}", "labels") for path in alone]
    alone = [p[0] for k, p in masks.items() if k not in images]
    return problems + [Problem(path, f"{path} has no image of its name", "image") for path in alone]


def _read_label_map(*folders: Path) -> dict[str, str]:
    """Read CVAT's names of colours: lines of ``name:r,g,b:parts:actions``, ``#`` for comments."""
    path = next((p for f in folders if (p := f / "labelmap.txt").is_file()), None)
    if path is None:
        return {}
    colours = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            red, green, blue = bytes(int(level) for level in rest.split(":")[0].split(","))
        except ValueError as error:
            raise SourceUnreadableError(
                f"{path}, line {number}: expected name:r,g,b:parts:actions, got {line!r}"
            ) from error
        colours[name.strip()] = f"#{red:02x}{green:02x}{blue:02x}"
    return colours
