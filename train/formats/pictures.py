"""Pictures and label masks, found in folders and read from files."""

import base64
import io
import json
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import U8
from veintrack.tracker.naturalorder import natural_key
from veintrack.tracker.sources import IMAGE_SUFFIXES
from veintrack.tracker.sources.grey import to_grey

__all__ = [
    "find_pictures",
    "is_picture",
    "no_pictures",
    "open_picture",
    "read_image",
    "read_json",
    "repeated_names",
    "unique_names",
]

_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, zlib.error,
    Image.DecompressionBombError,  # a size that no picture has: the file is corrupt
)  # fmt: skip
"""What Pillow raises for files that it cannot read."""
_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".dcm")


def is_picture(path: Path) -> bool:
    """Tell whether a path names a visible file with a picture's suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def find_pictures(folder: Path) -> list[Path]:
    """List the pictures in a folder and its subfolders, in natural order of their paths."""
    found = (path for path in folder.rglob("*") if is_picture(path) and path.is_file())
    return sorted(found, key=lambda path: natural_key(path.relative_to(folder).as_posix()))


def no_pictures(folder: Path) -> SourceNotFoundError | SourceUnreadableError:
    """Make the error for a folder without pictures; it says what is there instead."""
    volume = next((p for p in sorted(folder.rglob("*")) if p.name.endswith(_VOLUMES)), None)
    if volume is not None:
        return SourceUnreadableError(
            f"{folder} holds volumes such as {volume.name}: training reads 2-D pictures, so save "
            "every frame and its mask as a PNG"
        )
    return SourceNotFoundError(f"no images ({' '.join(IMAGE_SUFFIXES)}) in {folder}")


def unique_names(paths: Sequence[PurePath]) -> list[str]:
    """Name frames by their paths: file names alone, without suffix, where these are unique."""
    count = Counter(path.stem for path in paths)
    return [p.stem if count[p.stem] == 1 else p.with_suffix("").as_posix() for p in paths]


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    SourceUnreadableError
        If it cannot be read, or ends too early, or is otherwise no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise SourceUnreadableError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            "is the file complete?"
        ) from error
    except UnicodeDecodeError as error:
        raise SourceUnreadableError(f"{path} is not valid JSON: it is no UTF-8 text") from error
    except RecursionError as error:
        raise SourceUnreadableError(f"{path} is not valid JSON: nested too deeply") from error
    except OSError as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error.strerror}") from error


def open_picture(path: Path, data: bytes | None = None) -> Image.Image:
    """Decode a picture as it is stored, from a file or from bytes that `path` holds.

    Raises
    ------
    SourceUnreadableError
        If it cannot be read as a picture, or is a stack of several.
    """
    try:
        stored = io.BytesIO(path.read_bytes() if data is None else data)
    except OSError as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error.strerror}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what cannot be read is an error below
            picture = Image.open(stored)
            picture.load()
    except _BROKEN as error:
        raise SourceUnreadableError(f"{path} cannot be read as an image") from error
    if getattr(picture, "n_frames", 1) > 1:
        raise SourceUnreadableError(f"{path} is a stack of pictures: save every frame as a PNG")
    return picture


def read_image(path: Path) -> U8:
    """Read a picture's grey levels, shape (H, W); colour becomes luma as in a source of frames.

    A JSON file is taken for a LabelMe file with the picture inside (``imageData``).

    Raises
    ------
    SourceUnreadableError
        If it cannot be read, or has more than 8 bits a pixel.
    """
    picture = open_picture(path, _embedded(path) if path.suffix.lower() == ".json" else None)
    if picture.mode.startswith(("I", "F")):
        raise SourceUnreadableError(
            f"{path} has more than 8 bits a pixel: save it with 8-bit grey levels, "
            "scaled as the scanner shows them"
        )
    pixels: NDArray[Any] = np.array(picture if picture.mode == "L" else picture.convert("RGB"))
    return to_grey(pixels if pixels.ndim == 2 else pixels[..., ::-1], 0)


def _embedded(path: Path) -> bytes:
    content = read_json(path)
    try:
        return base64.b64decode(content["imageData"])
    except (KeyError, TypeError, ValueError) as error:
        raise SourceUnreadableError(f"{path} holds no picture in imageData") from error


def repeated_names(names: Iterable[str]) -> set[str]:
    """Return the names that occur more than once."""
    return {name for name, count in Counter(names).items() if count > 1}
