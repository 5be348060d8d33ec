"""Writing so that what was written stays: past the end of the process, and past a power cut."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

from veintrack.errors import OutputError
from veintrack.tracker.recording_names import MANIFEST

__all__ = ["DiskFile", "sync_file", "sync_folder", "write_manifest"]

T = TypeVar("T")


class DiskFile:
    """A file for a library to write; what goes wrong is kept, not raised in the midst of it.

    Nothing is held back: what was written survives the end of the process.
    """

    def __init__(self, path: Path) -> None:
        self._file = FileIO(path, "w")
        self.seekable = self._file.seekable
        self.size_bytes = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        return self._try(lambda: self._write(memoryview(data)), len(data))

    def _write(self, data: memoryview) -> int:
        size = done = len(data)
        while data:  # a disk that is nearly full takes a part
            done = self._file.write(data) or 0
            self.size_bytes += done
            data = data[done:]
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._try(lambda: self._file.seek(offset, whence), 0)

    def tell(self) -> int:
        return self._try(self._file.tell, 0)

    def sync(self) -> None:
        with suppress(ValueError):  # closed meanwhile
            self._try(lambda: os.fsync(self._file.fileno()), None)

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        if not self._file.closed:
            self.sync()
            self._try(self._file.close, None)

    def _try(self, act: Callable[[], T], otherwise: T) -> T:
        """Do it, or pretend to once something failed."""
        if self.error is None:
            try:
                return act()
            except OSError as error:
                self.error = error
        return otherwise


def sync_file(path: Path) -> None:
    """Have what others wrote to a file put onto the disk; nothing where there is none."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_folder(folder: Path) -> None:
    """Have the folder's own entries put onto the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot
            os.fsync(handle)
    finally:
        os.close(handle)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``manifest.json``, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path, partial = folder / MANIFEST, folder / f".{MANIFEST}.partial"
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(manifest, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(folder)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        where = f"{folder.name}/{MANIFEST}"
        raise OutputError(f"cannot write {where}: {error.strerror or error}") from error
