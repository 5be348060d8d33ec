"""Compiled engines, kept in the user's cache folder.

A compiled form belongs to one model, device and library version. Its name is a digest of everything
that it depends on, so a model that changes under an unchanged name can never be answered with the
old engine. An entry is two files: the compiled form, ``<digest>.blob``, and beside it
``<digest>.json``, which says what it depends on and what the blob's own digest must be. The second
is written last and makes the entry count; whatever does not fit together is put aside as ``.bad``.

A compiled form is code that a library will run, so nothing is loaded from here that this module did
not write, and the folder is made for its owner alone.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_cache_path

from veintrack.engines.shared_files import lock, write_whole
from veintrack.errors import EngineError

__all__ = [
    "Entry",
    "Pruned",
    "annotate",
    "cache_folder",
    "check_writable",
    "entries",
    "facts_of",
    "load",
    "load_or_build",
    "path_of",
    "prune",
    "quarantine",
    "store",
]

log = logging.getLogger(__name__)
T = TypeVar("T")
Key = Mapping[str, str]

_OURS = re.compile(r"([0-9a-f]{64})\.")  # how the name of each of our files begins
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Entry:
    """One kept engine.

    Attributes
    ----------
    name : str
        The digest that its files are named by.
    key : dict of str
        What it depends on.
    facts : dict
        What was found out about it since, such as how far its answers are from the reference.
    size_bytes : int
        Of the compiled form.
    age_s, unused_s : float
        Time since it was built, and since it was last loaded.
    """

    name: str
    key: dict[str, str]
    facts: dict[str, Any]
    size_bytes: int
    age_s: float
    unused_s: float


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning removed.

    Attributes
    ----------
    files : int
        How many files.
    size_bytes : int
        What they took.
    """

    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Files:
    """Where the parts of one entry lie."""

    folder: Path
    digest: str

    @classmethod
    def of(cls, key: Key) -> "_Files":
        text = json.dumps(dict(key), sort_keys=True)
        return cls(cache_folder(), hashlib.sha256(text.encode()).hexdigest())

    @property
    def blob(self) -> Path:
        return self.folder / f"{self.digest}.blob"

    @property
    def sidecar(self) -> Path:
        return self.folder / f"{self.digest}.json"

    @property
    def lock(self) -> Path:
        return self.folder / f"{self.digest}.lock"


def cache_folder() -> Path:
    """Where compiled engines lie: ``$VEINTRACK_CACHE``, or the user's cache folder."""
    named = os.environ.get("VEINTRACK_CACHE")
    return Path(named) if named else user_cache_path("veintrack") / "engines"


def load_or_build(
    key: Key,
    load: Callable[[bytes], T | None],
    build: Callable[[], bytes],
    facts: Mapping[str, Any] | None = None,
    *,
    afresh: bool = False,
) -> T:
    """Load the engine kept under `key`, or build, load and keep it.

    Of several processes that ask at once, one builds and the others wait for it. A kept engine that
    does not load is put aside and built anew, once; a new one is kept after it has loaded. A folder
    that cannot be written is one warning.

    Parameters
    ----------
    key : mapping of str to str
        Everything that the compiled form depends on; by ``library`` and ``version`` in it,
        :func:`prune` knows whose it is.
    load : callable
        Makes an engine of a compiled form. None, or an exception, means that it does not load.
    build : callable
        Makes the compiled form.
    facts : mapping, optional
        Written beside a new one, but no part of its name; JSON values, such as the model's name.
    afresh : bool
        Build it, whatever is kept.

    Raises
    ------
    EngineError
        If what was just built does not load. What `build`, or `load` of a new form, raises is
        passed on.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # if nothing can be written, `store` will say so
            held.enter_context(_locked(key))
        engine = None if afresh else _load_kept(key, load)
        if engine is not None:
            return engine
        blob = build()
        engine = load(blob)
        if engine is None:
            raise EngineError("the engine was built, but does not load")
        try:
            store(key, blob, facts)
        except OSError as error:
            log.warning("the engine is built anew at each start: it could not be kept: %s", error)
        return engine


def load(key: Key) -> bytes | None:
    """Read the compiled form that was stored under `key`; None where there is no whole one."""
    files = _Files.of(key)
    record = _record(files)
    if record is None:
        return None
    try:
        blob = files.blob.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(blob).hexdigest() != record["sha256"]:
        return None
    with contextlib.suppress(OSError):  # a folder that can only be read is good enough
        os.utime(files.sidecar)  # its time says when the entry was last used
    return blob


def store(key: Key, blob: bytes, facts: Mapping[str, Any] | None = None) -> None:
    """Keep a compiled form and, beside it, what it depends on; all of it or nothing.

    Raises
    ------
    OSError
        If the folder cannot be written: the caller goes on without a cache.
    """
    files = _Files.of(key)
    _make(files.folder)
    record = {
        "key": dict(key),
        "sha256": hashlib.sha256(blob).hexdigest(),
        "size_bytes": len(blob),
        "created_s": time.time(),
        "facts": dict(facts or {}),
    }
    write_whole(files.blob, blob)
    write_whole(files.sidecar, _json(record))


def facts_of(key: Key) -> dict[str, Any]:
    """Read what was written down about an entry; empty where there is none."""
    record = _record(_Files.of(key))
    return record["facts"] if record else {}


def check_writable() -> None:
    """Raise if nothing can be kept.

    Raises
    ------
    OSError
        If the folder cannot be made, or nothing can be written there.
    """
    _make(cache_folder())
    with tempfile.TemporaryFile(dir=cache_folder()):
        pass


def path_of(key: Key) -> Path:
    """Say where the compiled form of an entry lies, or would lie."""
    return _Files.of(key).blob


def annotate(key: Key, facts: Mapping[str, Any]) -> None:
    """Write down what was found out about an entry; without an entry, nothing.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    files = _Files.of(key)
    if _record(files) is None:
        return
    with _locked(key):
        record = _record(files)
        if record is not None:
            record["facts"] |= facts
            write_whole(files.sidecar, _json(record))


def quarantine(key: Key) -> None:
    """Move an entry that does not load out of the way, what it depends on with it."""
    files = _Files.of(key)
    for path, aside in ((files.blob, ".bad"), (files.sidecar, ".bad.json")):
        with contextlib.suppress(FileNotFoundError):
            path.replace(path.with_suffix(aside))


def entries() -> tuple[Entry, ...]:
    """List what is kept, the most recently used first."""
    found = (_entry(files) for files in _groups())
    return tuple(sorted((e for e in found if e is not None), key=lambda e: e.unused_s))


def prune(
    *,
    unused_days: float | None = None,
    installed: Mapping[str, str] | None = None,
    everything: bool = False,
) -> Pruned:
    """Remove what was put aside or left over by a kill, and the entries that are asked for.

    An entry that a process is building or loading is left alone, and so are files of other kinds.

    Parameters
    ----------
    unused_days : float, optional
        Remove entries that were not loaded for so long.
    installed : mapping of str to str, optional
        Version by library: entries that none of these made are removed.
    everything : bool
        Remove all entries.

    Raises
    ------
    ValueError
        If `unused_days` is negative.
    OSError
        If a file cannot be removed.
    """
    if unused_days is not None and not unused_days >= 0:
        raise ValueError(f"unused_days must be 0 or more, got {unused_days}")

    def wanted(entry: Entry) -> bool:
        made_by = entry.key.get("library"), entry.key.get("version")
        return not (
            everything
            or (unused_days is not None and entry.unused_s >= unused_days * _DAY_S)
            or (installed is not None and made_by not in installed.items())
        )

    count = size_bytes = 0
    for files in _groups():
        handle = lock(files.lock, wait=False)
        if handle is None:
            continue
        try:
            entry = _entry(files)
            kept = {files.blob, files.sidecar, files.lock} if entry and wanted(entry) else set()
            for path in files.folder.glob(f"{files.digest}.*"):
                if path not in kept:
                    counts = path != files.lock  # empty, and there only while it is held
                    count, size_bytes = count + counts, size_bytes + path.stat().st_size
                    path.unlink()
        finally:
            os.close(handle)
    return Pruned(count, size_bytes)


def _load_kept(key: Key, make: Callable[[bytes], T | None]) -> T | None:
    files = _Files.of(key)
    blob = load(key)
    if blob is None and not (files.blob.exists() and files.sidecar.exists()):
        return None  # never built, or killed between the two files
    why: object = "it is damaged"
    if blob is not None:
        try:
            engine = make(blob)
        except Exception as error:  # a new one's exceptions are passed on, so none is hidden
            engine, why = None, error
        else:
            why = "the library refused it"
        if engine is not None:
            return engine
    log.warning("a kept engine does not load and is built anew: %s", why)
    with contextlib.suppress(OSError):
        quarantine(key)
    return None


def _record(files: _Files) -> dict[str, Any] | None:
    """Read an entry's sidecar; None unless it is complete and its blob has the size it says."""
    try:
        record = json.loads(files.sidecar.read_bytes())
        size_bytes = files.blob.stat().st_size
    except (OSError, ValueError):
        return None
    expected = {"key": dict, "sha256": str, "size_bytes": int, "created_s": float, "facts": dict}
    if not isinstance(record, dict) or any(
        not isinstance(record.get(name), kind) for name, kind in expected.items()
    ):
        return None
    return record if record["size_bytes"] == size_bytes else None


def _entry(files: _Files) -> Entry | None:
    record = _record(files)
    if record is None:
        return None
    try:
        used_s = files.sidecar.stat().st_mtime
    except OSError:  # pruned just now
        return None
    now_s = time.time()
    return Entry(
        name=files.digest,
        key=record["key"],
        facts=record["facts"],
        size_bytes=record["size_bytes"],
        age_s=max(0.0, now_s - record["created_s"]),
        unused_s=max(0.0, now_s - used_s),
    )


def _groups() -> list[_Files]:
    folder = cache_folder()
    matches = (_OURS.match(p.name) for p in folder.glob("*.*")) if folder.is_dir() else ()
    return [_Files(folder, digest) for digest in sorted({m[1] for m in matches if m})]


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=2, sort_keys=True).encode()


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def _locked(key: Key) -> Iterator[None]:
    """Be the only process that builds this entry; the kernel frees the lock of a killed one."""
    files = _Files.of(key)
    _make(files.folder)
    handle = lock(files.lock, wait=False)
    if handle is None:
        log.info("another process is busy with this engine: waiting for it")
        handle = lock(files.lock, wait=True)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
