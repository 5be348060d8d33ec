"""Pictures for all who look: drawn and encoded once, on a thread; each takes the newest one.

A viewer says when it has shown a picture, and gets two at most before that. So nothing piles up on
the way to a slow one, and a dead one costs nothing.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import cv2

from veintrack.tracker.frame import U8

__all__ = ["Pictures", "Viewer", "as_jpeg", "show"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_QUALITY = 85  # of 100: no blocks can be seen
_ON_THE_WAY = 2  # pictures: the next one travels while one is shown
_STUCK_S = 5.0  # for which one picture may be on its way into the network


class Pictures(Generic[T]):
    """Draws the newest subject, if somebody waits for it.

    Parameters
    ----------
    render : callable
        Makes a picture of a subject; called on a thread of its own.
    """

    def __init__(self, render: Callable[[T], bytes]) -> None:
        self._render = render
        self._changed = threading.Condition()
        self._subject: T | None = None
        self._number = self._drawn = 0  # of the newest subject, and of the last one drawn
        self._waiting = 0
        self._closed = False
        # What follows belongs to the thread of the event loop.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._newest: tuple[int, bytes] = (0, b"")
        self._futures: set[asyncio.Future[None]] = set()
        self._thread = threading.Thread(target=self._draw, name="veintrack-drawing", daemon=True)
        self._thread.start()

    def show(self, subject: T) -> None:
        """Take the newest subject; one that was not drawn yet is forgotten."""
        with self._changed:
            self._subject, self._number = subject, self._number + 1
            self._changed.notify_all()

    async def next(self, seen: int) -> tuple[int, bytes]:
        """Wait for the picture of the newest subject.

        Parameters
        ----------
        seen : int
            Number of the last picture that was had, which is not given again; 0 for none.

        Returns
        -------
        tuple of int and bytes
            Its number, from 1, and the picture.
        """
        self._loop = asyncio.get_running_loop()
        wanted = max(seen + 1, self._number)
        while self._newest[0] < wanted:
            future: asyncio.Future[None] = self._loop.create_future()
            self._futures.add(future)
            self._wait(+1)
            try:
                await future
            finally:
                self._futures.discard(future)
                self._wait(-1)
        return self._newest

    def close(self) -> None:
        """End the drawing. Safe to call twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _wait(self, more: int) -> None:
        with self._changed:
            self._waiting += more
            self._changed.notify_all()

    def _draw(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._is_due)
                if self._closed or self._subject is None or self._loop is None:
                    return
                subject, number = self._subject, self._number
                self._drawn = number
            try:
                picture = self._render(subject)
            except Exception:  # whatever it is, the next one may be fine
                log.warning("a picture cannot be drawn", exc_info=True)
                continue
            with suppress(RuntimeError):  # the loop is over
                self._loop.call_soon_threadsafe(self._publish, number, picture)

    def _is_due(self) -> bool:
        return self._closed or (self._waiting > 0 and self._number > self._drawn)

    def _publish(self, number: int, picture: bytes) -> None:
        self._newest = (number, picture)
        for future in self._futures:
            if not future.done():
                future.set_result(None)


class Viewer(Protocol):
    """One who looks: a websocket."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a picture."""
        ...

    async def receive_text(self) -> str:
        """Wait until a picture was shown; raises once the viewer is gone."""
        ...


async def show(pictures: Pictures[T], viewer: Viewer, *, stuck_s: float = _STUCK_S) -> None:
    """Send a viewer the newest picture whenever it is ready for one, until it is gone or stuck."""
    ready: asyncio.Queue[None] = asyncio.Queue(_ON_THE_WAY)
    tasks = [
        asyncio.ensure_future(work)
        for work in (_hear(viewer, ready), _send(pictures, viewer, ready, stuck_s))
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _hear(viewer: Viewer, ready: "asyncio.Queue[None]") -> None:
    for _ in range(_ON_THE_WAY):
        ready.put_nowait(None)
    while True:
        await viewer.receive_text()
        with suppress(asyncio.QueueFull):  # it says more than it was asked
            ready.put_nowait(None)


async def _send(
    pictures: Pictures[T], viewer: Viewer, ready: "asyncio.Queue[None]", stuck_s: float
) -> None:
    seen = 0
    while True:
        await ready.get()
        seen, picture = await pictures.next(seen)
        await asyncio.wait_for(viewer.send_bytes(picture), stuck_s)


def as_jpeg(pixels: U8) -> bytes:
    """Encode a picture of shape (H, W, 3), BGR.

    Raises
    ------
    ValueError
        If it cannot be encoded.
    """
    made, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not made:
        raise ValueError(f"pixels must be a picture of shape (H, W, 3), got {pixels.shape}")
    return data.tobytes()
