"""Closing what another thread may be using."""

import threading
from collections.abc import Callable

__all__ = ["InUse"]

_PATIENCE_S = 0.15  # longer than a reader that is not stuck takes to notice


class InUse:
    """Guards something that one thread uses and any may close, at any time.

    Surround each use by ``with guard as is_open``. Closing frees it once nobody uses it, and is
    not held up by a call that hangs, in the use or in the freeing: a kernel may take seconds to
    answer for a device that does not.

    Parameters
    ----------
    free : callable
        Frees it.
    """

    def __init__(self, free: Callable[[], None]) -> None:
        self._free = free
        self._lock = threading.Lock()  # held for each use, and to free it
        self._start = threading.Lock()
        self._freeing: threading.Thread | None = None
        self.closed = False

    def __enter__(self) -> bool:
        self._lock.acquire()
        return not self.closed

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def close(self) -> None:
        """Free it as soon as it is not in use; wait for that a moment. Safe to call twice."""
        self.closed = True
        with self._start:
            if self._freeing is None:
                self._freeing = threading.Thread(
                    target=self._free_unused, name="veintrack close", daemon=True
                )
                try:
                    self._freeing.start()
                except RuntimeError:  # no thread starts any more when the interpreter ends
                    self._free_unused(_PATIENCE_S)
        if self._freeing.ident is not None:
            self._freeing.join(_PATIENCE_S)

    def _free_unused(self, patience_s: float = -1) -> None:
        if self._lock.acquire(timeout=patience_s):
            try:
                self._free()
            finally:
                self._lock.release()
