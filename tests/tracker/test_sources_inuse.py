"""Closing never waits for a call that hangs, and frees nothing that is still in use."""

import threading
import time

import pytest

from veintrack.tracker.sources.inuse import InUse


def test_what_nobody_uses_is_freed_at_once() -> None:
    freed: list[int] = []
    used = InUse(lambda: freed.append(1))
    used.close()
    assert freed == [1]
    with used as is_open:
        assert not is_open


def test_closing_twice_frees_once() -> None:
    freed: list[int] = []
    used = InUse(lambda: freed.append(1))
    used.close()
    used.close()
    assert freed == [1]


def test_closing_waits_for_a_use_that_is_soon_over() -> None:
    freed: list[int] = []
    used, begun = InUse(lambda: freed.append(1)), threading.Event()

    def use() -> None:
        with used:
            begun.set()
            time.sleep(0.05)

    user = threading.Thread(target=use)
    user.start()
    begun.wait(5)
    used.close()
    assert freed == [1]
    user.join(5)


def test_closing_does_not_wait_for_a_use_that_hangs_and_frees_after_it() -> None:
    freed, over, begun = threading.Event(), threading.Event(), threading.Event()
    used = InUse(freed.set)

    def use() -> None:
        with used:
            begun.set()
            over.wait(5)

    user = threading.Thread(target=use)
    user.start()
    begun.wait(5)
    before_s = time.monotonic()
    used.close()
    assert time.monotonic() - before_s < 1
    assert not freed.is_set()
    over.set()
    assert freed.wait(5)
    user.join(5)


def test_closing_does_not_wait_for_a_freeing_that_hangs() -> None:
    over, freed = threading.Event(), threading.Event()

    def free() -> None:
        over.wait(5)
        freed.set()

    used = InUse(free)
    before_s = time.monotonic()
    used.close()
    used.close()
    assert time.monotonic() - before_s < 1
    over.set()
    assert freed.wait(5)


def test_what_is_closed_when_the_interpreter_ends_is_freed_without_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    freed: list[int] = []
    used = InUse(lambda: freed.append(1))
    monkeypatch.setattr(threading.Thread, "start", refused)
    used.close()
    used.close()
    assert freed == [1]
