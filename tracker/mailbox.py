"""Hands frames from the thread that reads them to the thread that works on them."""

import queue
import threading
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A short queue between one writer and one reader.

    Two ways to be full. A live source cannot wait: the oldest item makes room for the newest and
    is counted, so a slow reader skips frames and never lags. A file can: the writer waits until
    half of the room is free.

    Parameters
    ----------
    capacity : int
        Items held at most.
    newest_only : bool
        True to overwrite the oldest item when full, False to make the writer wait.

    Raises
    ------
    ValueError
        If `capacity` is less than 1.
    """

    def __init__(self, capacity: int, newest_only: bool) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._newest_only = newest_only
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._closed = False
        self._error: BaseException | None = None
        self._dropped = self._dropped_before = 0

    @property
    def dropped(self) -> int:
        """Items that were overwritten before anyone took them."""
        return self._dropped

    @property
    def dropped_before(self) -> int:
        """Those of them that were older than the item taken last."""
        return self._dropped_before

    def put(self, item: T) -> bool:
        """Store `item`; while full, overwrite the oldest or wait, as chosen at the start.

        Returns
        -------
        bool
            False, and the item is not stored, once the mailbox is closed: stop reading.
        """
        with self._changed:
            if not self._newest_only:
                self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            if self._closed:
                return False
            if len(self._items) == self._capacity:
                self._items.popleft()
                self._dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float | None = None) -> T | None:
        """Wait for an item, then hand over the oldest one.

        Returns
        -------
        object or None
            None once the mailbox is closed and empty.

        Raises
        ------
        queue.Empty
            If nothing arrived within `timeout_s` seconds.
        BaseException
            The writer's error, if it gave one to :meth:`fail`, once the mailbox is empty.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or bool(self._items), timeout_s):
                raise queue.Empty(f"nothing arrived within {timeout_s} s")
            if not self._items:
                if self._error is not None:
                    raise self._error
                return None
            item = self._items.popleft()
            self._dropped_before = self._dropped
            # Waking a thread costs more than storing an item: let it store several in one go.
            if len(self._items) <= self._capacity // 2:
                self._changed.notify_all()
            return item

    def close(self) -> None:
        """End it, from either side: a waiting writer gets False, the reader what is left."""
        self._end(None)

    def fail(self, error: BaseException) -> None:
        """End it because the writer failed: the reader gets what is left, then `error`."""
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
                self._changed.notify_all()
