"""Compiled engines are kept whole, built once, and found again only where nothing differs."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veintrack.engines import cache
from veintrack.engines.shared_files import lock
from veintrack.errors import EngineError

ROOT = Path(__file__).parents[2]
KEY = {"library": "abacus", "version": "1.0", "model_sha256": "ab", "precision": "fp16"}
BUILDER = """
import os, sys, time
from pathlib import Path
from veintrack.engines import cache

work, seconds = Path(sys.argv[1]), float(sys.argv[2])

def build():
    (work / f"build-{os.getpid()}").touch()
    time.sleep(seconds)
    return b"compiled"

key = {"library": "abacus", "version": "1.0", "model_sha256": "ab", "precision": "fp16"}
print(cache.load_or_build(key, bytes.decode, build))
"""
STUCK_WRITER = """
import os, sys, time
from pathlib import Path
from veintrack.engines import cache

def never(handle):
    (Path(sys.argv[1]) / "writing").touch()
    time.sleep(60)

os.fsync = never
key = {"library": "abacus", "version": "1.0", "model_sha256": "ab", "precision": "fp16"}
cache.load_or_build(key, bytes.decode, lambda: b"half of it")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; its folder does not exist yet."""
    monkeypatch.setenv("VEINTRACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(happened: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline_s, "nothing happened within 20 s"
        time.sleep(0.01)


def never() -> bytes:
    raise AssertionError("this must not be built")


def suffixes(folder: Path) -> list[str]:
    return sorted("".join(p.suffixes) for p in folder.iterdir())


def build_other(key: dict[str, str], blob: bytes = b"other") -> None:
    cache.load_or_build(key, bytes.decode, lambda: blob)


def test_what_was_built_is_loaded_the_next_time() -> None:
    assert cache.load_or_build(KEY, bytes.decode, lambda: b"compiled") == "compiled"
    assert cache.load_or_build(KEY, bytes.decode, never) == "compiled"


@pytest.mark.parametrize("changed", KEY)
def test_another_value_of_anything_in_the_key_builds_anew(changed: str) -> None:
    build_other(KEY, b"before")
    other = {**KEY, changed: KEY[changed] + "x"}
    assert cache.load_or_build(other, bytes.decode, lambda: b"after") == "after"


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4))
def test_a_name_is_a_digest_of_the_key_whatever_its_order(key: dict[str, str]) -> None:
    backwards = dict(reversed(key.items()))
    assert cache._Files.of(key) == cache._Files.of(backwards)
    assert len(cache._Files.of(key).digest) == 64


def test_two_processes_at_once_build_once(tmp_path: Path, folder: Path) -> None:
    both = [start(BUILDER, tmp_path, 0.5) for _ in range(2)]
    assert [process.communicate(timeout=30)[0] for process in both] == ["compiled\n"] * 2
    assert len(list(tmp_path.glob("build-*"))) == 1
    assert suffixes(folder) == [".blob", ".json", ".lock"]


def test_kill_in_the_middle_of_a_build_leaves_neither_a_lock_nor_an_entry(
    tmp_path: Path, folder: Path
) -> None:
    with start(BUILDER, tmp_path, 60) as process:
        wait_for(lambda: list(tmp_path.glob("build-*")))
        process.send_signal(signal.SIGKILL)
    assert suffixes(folder) == [".lock"]
    assert cache.load_or_build(KEY, bytes.decode, lambda: b"compiled") == "compiled"


def test_kill_in_the_middle_of_writing_leaves_a_file_that_only_pruning_sees(
    tmp_path: Path, folder: Path
) -> None:
    with start(STUCK_WRITER, tmp_path) as process:
        wait_for((tmp_path / "writing").exists)
        assert cache.prune() == cache.Pruned(0, 0)  # a file that is being written is not left over
        process.send_signal(signal.SIGKILL)
    assert cache.load(KEY) is None
    assert cache.load_or_build(KEY, bytes.decode, lambda: b"compiled") == "compiled"
    assert len(list(folder.glob("*.tmp"))) == 1
    assert cache.prune().files == 1
    assert suffixes(folder) == [".blob", ".json", ".lock"]
    assert cache.load_or_build(KEY, bytes.decode, never) == "compiled"


def test_who_waits_for_another_process_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with start(BUILDER, tmp_path, 0.3) as process:
        wait_for(lambda: list(tmp_path.glob("build-*")))
        assert cache.load_or_build(KEY, bytes.decode, never) == "compiled"
        process.wait(20)
    assert [r.message for r in caplog.records] == [
        "another process is busy with this engine: waiting for it"
    ]


def test_a_lock_file_that_was_removed_while_somebody_waited_for_it_locks_nobody_out(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lock"
    held = lock(path, wait=True)
    assert held is not None
    with ThreadPoolExecutor(1) as waiter:
        waiting = waiter.submit(lock, path, wait=True)
        time.sleep(0.05)
        path.unlink()
        os.close(held)
        got = waiting.result(10)
    assert got is not None
    assert lock(path, wait=False) is None
    os.close(got)


def test_pruning_leaves_an_engine_alone_that_is_being_built(tmp_path: Path) -> None:
    with start(BUILDER, tmp_path, 0.5) as process:
        wait_for(lambda: list(tmp_path.glob("build-*")))
        cache.prune(everything=True)
        assert cache.load_or_build(KEY, bytes.decode, never) == "compiled"
        process.wait(20)


@pytest.mark.parametrize(
    "damage",
    [
        lambda blob: blob[: len(blob) // 2],
        lambda _: b"",
        lambda blob: bytes([blob[0] ^ 1]) + blob[1:],
    ],
    ids=["truncated", "empty", "one bit"],
)
def test_a_damaged_blob_is_put_aside_before_the_library_sees_it(
    folder: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    build_other(KEY, b"compiled")
    (blob,) = folder.glob("*.blob")
    blob.write_bytes(damage(b"compiled"))
    seen = []

    def load(blob: bytes) -> bytes:
        seen.append(blob)
        return blob

    assert cache.load_or_build(KEY, load, lambda: b"again") == b"again"
    assert seen == [b"again"]
    assert [r.message for r in caplog.records] == [
        "a kept engine does not load and is built anew: it is damaged"
    ]
    assert suffixes(folder) == [".bad", ".bad.json", ".blob", ".json", ".lock"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"sha256": 3}', b"\xff\xfe"])
def test_a_damaged_sidecar_makes_the_entry_count_as_damaged(folder: Path, content: bytes) -> None:
    build_other(KEY, b"compiled")
    (sidecar,) = folder.glob("*.json")
    sidecar.write_bytes(content)
    assert cache.entries() == ()
    assert cache.load_or_build(KEY, bytes.decode, lambda: b"again") == "again"
    assert len(list(folder.glob("*.bad"))) == 1


@pytest.mark.parametrize("answer", [None, RuntimeError("made by another driver")])
def test_an_engine_that_the_library_refuses_is_put_aside_and_built_once(
    folder: Path, answer: RuntimeError | None
) -> None:
    build_other(KEY, b"old")
    built = []

    def load(blob: bytes) -> str | None:
        if blob == b"new":
            return "works"
        if answer is not None:
            raise answer
        return None

    def build() -> bytes:
        built.append(1)
        return b"new"

    assert cache.load_or_build(KEY, load, build) == "works"
    assert cache.load_or_build(KEY, load, build) == "works"
    assert len(built) == 1
    assert [p.read_bytes() for p in folder.glob("*.bad")] == [b"old"]


def test_a_new_engine_that_does_not_load_is_an_error_and_is_not_kept(folder: Path) -> None:
    with pytest.raises(EngineError, match="the engine was built, but does not load"):
        cache.load_or_build(KEY, lambda _: None, lambda: b"useless")
    assert suffixes(folder) == [".lock"]


def test_what_a_build_raises_is_passed_on_and_the_lock_is_free_again() -> None:
    with pytest.raises(AssertionError, match="must not be built"):
        cache.load_or_build(KEY, bytes.decode, never)
    build_other(KEY)


def test_a_folder_that_cannot_be_written_is_one_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("a file where the folder should be")
    assert cache.load_or_build(KEY, bytes.decode, lambda: b"compiled") == "compiled"
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "it could not be kept" in caplog.text


def test_a_folder_that_can_only_be_read_is_used_without_a_word(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_other(KEY, b"compiled")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "open", refuse)  # root may write anywhere, so a mode would not do
    monkeypatch.setattr(os, "utime", refuse)
    assert cache.load_or_build(KEY, bytes.decode, never) == "compiled"
    assert caplog.records == []


def test_entries_say_what_is_there_and_when_it_was_used(folder: Path) -> None:
    assert cache.entries() == ()
    build_other(KEY, b"compiled")
    build_other({**KEY, "precision": "fp32"}, b"larger than that")
    (used,) = (e for e in cache.entries() if e.key == KEY)
    sidecar = folder / f"{used.name}.json"
    os.utime(sidecar, (time.time() - 500, time.time() - 500))
    first, last = cache.entries()
    assert (first.size_bytes, last.size_bytes) == (16, 8)
    assert 499 < last.unused_s < 520
    assert last.age_s < 20
    build_other(KEY)
    assert all(entry.unused_s < 20 for entry in cache.entries())


def test_facts_are_kept_beside_the_engine_and_survive_loading() -> None:
    cache.load_or_build(KEY, bytes.decode, lambda: b"compiled", {"model": "default.onnx"})
    cache.annotate(KEY, {"dice": 0.999})
    build_other(KEY)
    assert cache.facts_of(KEY) == {"model": "default.onnx", "dice": 0.999}
    (entry,) = cache.entries()
    assert entry.facts == cache.facts_of(KEY)


def test_facts_about_what_is_not_kept_are_dropped(folder: Path) -> None:
    cache.annotate(KEY, {"dice": 0.999})
    assert cache.facts_of(KEY) == {}
    assert not folder.exists()


def test_pruning_keeps_good_entries_and_removes_what_was_put_aside(folder: Path) -> None:
    build_other(KEY, b"compiled")
    cache.quarantine(KEY)
    build_other({**KEY, "precision": "fp32"})
    assert cache.prune().files == 2
    assert suffixes(folder) == [".blob", ".json", ".lock"]
    assert len(cache.entries()) == 1


def test_pruning_removes_what_was_not_used_for_long(folder: Path) -> None:
    build_other(KEY)
    build_other({**KEY, "precision": "fp32"})
    old = folder / f"{cache.entries()[0].name}.json"
    os.utime(old, (time.time() - 10 * 86_400,) * 2)
    cache.prune(unused_days=9)
    assert len(cache.entries()) == 1
    assert not old.exists()


@pytest.mark.parametrize(
    ("installed", "left"),
    [({"abacus": "1.0"}, 1), ({"abacus": "1.1"}, 0), ({}, 0), ({"abacus": "1.0", "b": "2"}, 1)],
)
def test_pruning_removes_what_other_versions_made(installed: dict[str, str], left: int) -> None:
    build_other(KEY)
    cache.prune(installed=installed)
    assert len(cache.entries()) == left


def test_pruning_everything_leaves_foreign_files_alone(folder: Path) -> None:
    assert cache.prune(everything=True) == cache.Pruned(0, 0)
    build_other(KEY, b"compiled")
    (folder / "thesis.json").write_text("{}")
    pruned = cache.prune(everything=True)
    assert pruned.files == 2
    assert pruned.size_bytes > 8
    assert suffixes(folder) == [".json"]


@pytest.mark.parametrize("days", [-1.0, float("nan")])
def test_pruning_by_a_negative_age_is_refused(days: float) -> None:
    with pytest.raises(ValueError, match="unused_days must be 0 or more, got"):
        cache.prune(unused_days=days)


def test_the_folder_belongs_to_its_owner_alone_and_the_sidecar_can_be_read(folder: Path) -> None:
    build_other(KEY, b"compiled")
    assert folder.stat().st_mode & 0o077 == 0
    (sidecar,) = folder.glob("*.json")
    assert json.loads(sidecar.read_text())["key"] == KEY
