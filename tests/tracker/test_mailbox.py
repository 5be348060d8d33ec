"""The queue between reading and working, with one thread on either side and no sleeps."""

import queue
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veintrack.tracker.mailbox import Mailbox

LIMIT_S = 5.0


def drain(box: Mailbox[int]) -> list[int]:
    taken = []
    while (item := box.take(LIMIT_S)) is not None:
        taken.append(item)
    return taken


@given(capacity=st.integers(1, 5), count=st.integers(0, 20))
def test_a_live_mailbox_keeps_the_newest_and_counts_the_rest(capacity: int, count: int) -> None:
    box = Mailbox[int](capacity, newest_only=True)
    assert all(box.put(item) for item in range(count))
    box.close()
    kept = list(range(count))[-capacity:]
    assert drain(box) == kept
    assert box.dropped == count - len(kept)


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_a_file_mailbox_loses_nothing_and_keeps_the_order(capacity: int) -> None:
    box = Mailbox[int](capacity, newest_only=False)

    def write() -> None:
        for item in range(500):
            box.put(item)
        box.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert drain(box) == list(range(500))
    writer.join(LIMIT_S)
    assert (box.dropped, writer.is_alive()) == (0, False)


def test_a_writer_that_waits_for_room_goes_on_when_an_item_is_taken() -> None:
    box = Mailbox[int](1, newest_only=False)
    box.put(0)
    stored = threading.Event()

    def write() -> None:
        box.put(1)
        stored.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert not stored.is_set()
    assert box.take(LIMIT_S) == 0
    assert stored.wait(LIMIT_S)
    assert box.take(LIMIT_S) == 1
    writer.join(LIMIT_S)


def test_a_writer_that_waits_for_room_is_freed_when_the_reader_closes() -> None:
    box = Mailbox[int](1, newest_only=False)
    box.put(0)
    answers: list[bool] = []
    writer = threading.Thread(target=lambda: answers.append(box.put(1)))
    writer.start()
    box.close()
    writer.join(LIMIT_S)
    assert answers == [False]


@pytest.mark.parametrize("newest_only", [True, False])
def test_nothing_is_stored_after_closing(newest_only: bool) -> None:
    box = Mailbox[int](2, newest_only)
    box.close()
    assert not box.put(1)
    assert box.take(LIMIT_S) is None
    assert box.dropped == 0


def test_a_reader_that_waits_is_woken_by_closing() -> None:
    box = Mailbox[int](1, newest_only=True)
    answers: list[int | None] = []
    reader = threading.Thread(target=lambda: answers.append(box.take()))
    reader.start()
    box.close()
    reader.join(LIMIT_S)
    assert answers == [None]


def test_the_writers_error_reaches_the_reader_after_the_last_item() -> None:
    box = Mailbox[int](3, newest_only=True)
    box.put(1)
    box.put(2)
    box.fail(OSError("unplugged"))
    assert (box.take(), box.take()) == (1, 2)
    with pytest.raises(OSError, match="unplugged"):
        box.take()


def test_an_error_after_closing_is_not_the_readers_business() -> None:
    box = Mailbox[int](1, newest_only=True)
    box.close()
    box.fail(OSError("closed under my hands"))
    assert box.take() is None


def test_waiting_is_bounded() -> None:
    with pytest.raises(queue.Empty, match=r"nothing arrived within 0\.0 s"):
        Mailbox[int](1, newest_only=True).take(0.0)


def test_a_mailbox_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        Mailbox[int](0, newest_only=True)
