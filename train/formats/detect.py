"""Finding out which format a laboratory's data is in."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.naturalorder import natural_key
from veintrack.train.formats.base import FORMATS, LabelledFolder, show_some
from veintrack.train.formats.coco import find_coco, open_coco
from veintrack.train.formats.folders import looks_like_folders, open_folders
from veintrack.train.formats.labelme import looks_like_labelme, open_labelme
from veintrack.train.formats.nnunet import open_nnunet

__all__ = ["open_folder"]

_OPENERS: dict[str, Callable[[Path], LabelledFolder]] = {
    "folders": open_folders,
    "coco": open_coco,
    "labelme": open_labelme,
    "nnunet": open_nnunet,
}


def open_folder(path: Path, form: str = "auto") -> LabelledFolder:
    """Find the labelled frames of a folder, whatever format they are in.

    Parameters
    ----------
    path : Path
        A folder, or the JSON file of COCO data.
    form : str
        One of `FORMATS`; ``auto`` looks at what is there.

    Returns
    -------
    LabelledFolder
        The frames, in natural order of their names, and the files that cannot be used.

    Raises
    ------
    SourceNotFoundError
        If `path`, or a part of the data as a whole, does not exist.
    SourceUnreadableError
        If the data cannot be understood, or could be of several formats.
    ValueError
        If there is no such format.
    """
    if form not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {form!r}")
    if not path.exists():
        raise SourceNotFoundError(f"no folder {path}: data is a folder, or the .json file of COCO")
    if form == "auto":
        form = "coco" if path.is_file() else _detect(path)
    if path.is_file() and (form != "coco" or path.suffix.lower() != ".json"):
        raise SourceUnreadableError(f"{path} is a file: give a folder, or the .json file of COCO")
    folder = _OPENERS[form](path)
    return replace(folder, frames=tuple(sorted(folder.frames, key=lambda f: natural_key(f.name))))


def _detect(folder: Path) -> str:
    signs = {
        "nnunet": (folder / "imagesTr").is_dir() or (folder / "labelsTr").is_dir(),
        "folders": looks_like_folders(folder),
        "coco": bool(find_coco(folder)),
        "labelme": any(looks_like_labelme(path) for path in folder.rglob("*.json")),
    }
    found = [form for form, there in signs.items() if there]
    if len(found) > 1:
        raise SourceUnreadableError(
            f"{folder} can be read as {' and as '.join(found)}: say which with "
            f"{' or '.join(f'--format {form}' for form in found)}"
        )
    if found:
        return found[0]
    # The commonest layout, half there: its own reader says which half is missing.
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir() if p.name[0] != ".")
    if "masks/" in names or ("images/" in names and "annotations/" not in names):
        return "folders"
    raise SourceUnreadableError(
        f"{folder} holds no labelled frames in a known format: expected images/ and masks/, a COCO "
        ".json file, LabelMe .json files beside their images, or nnU-Net's dataset.json with "
        f"imagesTr/ and labelsTr/; it holds {show_some(names) or 'nothing'}"
    )
