"""Files that are there whole, or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veintrack.errors import OutputError, VeintrackError
from veintrack.tracker.recording_disk import sync_file

__all__ = ["placing"]


@contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Give the name to write to; what is written there is put in place if all went well.

    Parameters
    ----------
    path : Path
        Where the file belongs. Its folder is made if need be.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        sync_file(partial)
        partial.replace(path)
    except VeintrackError:  # some of them are OSErrors, and say what is wrong
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
