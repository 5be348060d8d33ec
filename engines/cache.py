"""Compiled engines, kept in the user's cache folder.

A compiled form belongs to one model, device and library version. The file's name is a digest of
everything that it depends on, so a model that changes under an unchanged name can never be
answered with the old engine.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_cache_path

__all__ = ["cache_folder", "load", "quarantine", "store"]


def cache_folder() -> Path:
    """Where compiled engines lie: ``$VEINTRACK_CACHE``, or the user's cache folder."""
    named = os.environ.get("VEINTRACK_CACHE")
    return Path(named) if named else user_cache_path("veintrack") / "engines"


def _path(key: Mapping[str, str]) -> Path:
    text = json.dumps(dict(key), sort_keys=True)
    return cache_folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.blob"


def load(key: Mapping[str, str]) -> bytes | None:
    """Read the compiled form that was stored under `key`; None where there is none."""
    try:
        return _path(key).read_bytes()
    except OSError:
        return None


def store(key: Mapping[str, str], blob: bytes) -> None:
    """Keep a compiled form and, beside it, what it depends on; all of it or nothing.

    Raises
    ------
    OSError
        If the folder cannot be written: the caller goes on without a cache.
    """
    path = _path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path.with_suffix(".json"), json.dumps(dict(key), indent=2, sort_keys=True).encode())
    _write(path, blob)


def quarantine(key: Mapping[str, str]) -> None:
    """Move a compiled form that does not load out of the way."""
    path = _path(key)
    if path.exists():
        path.replace(path.with_suffix(".bad"))


def _write(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
