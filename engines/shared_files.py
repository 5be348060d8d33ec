"""Files that several processes use at once: written whole, and locks that die with their owner."""

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

__all__ = ["lock", "write_whole"]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, whenever this process is killed.

    What a kill leaves over is named like the file, with ``.tmp`` at the end.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def lock(path: Path, *, wait: bool) -> int | None:
    """Lock a file, made if need be; the kernel frees the lock of a process that is killed.

    Parameters
    ----------
    path : Path
        A file for this alone. Whoever removes it holds the lock while doing so.
    wait : bool
        Until another process gives it back.

    Returns
    -------
    int or None
        A descriptor: closing it frees the lock. None where the lock is taken and `wait` is False.

    Raises
    ------
    OSError
        If there can be no such file, or its file system knows no locks.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(handle)):
                    return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # it was removed while we waited: take the one that is there now
