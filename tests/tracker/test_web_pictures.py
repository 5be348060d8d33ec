"""Pictures for several viewers, some of them slow or dead."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest

from veintrack.tracker.web.pictures import Pictures, as_jpeg, show


class GoneError(Exception):
    """As a websocket that was closed raises it."""


class Viewer:
    """Takes pictures; says that it showed one after `takes_s`, up to `shows` of them."""

    def __init__(self, shows: int = 10**9, takes_s: float = 0.0, leaves_after: int = 10**9) -> None:
        self.got: list[bytes] = []
        self._shows, self._takes_s, self._leaves_after = shows, takes_s, leaves_after
        self._shown: asyncio.Queue[None] = asyncio.Queue()

    async def send_bytes(self, data: bytes) -> None:
        self.got.append(data)
        if len(self.got) <= self._shows:
            asyncio.get_running_loop().call_later(self._takes_s, self._shown.put_nowait, None)

    async def receive_text(self) -> str:
        await self._shown.get()
        if len(self.got) >= self._leaves_after:
            raise GoneError
        return "shown"


class Stuck(Viewer):
    """Takes nothing: its network is gone."""

    async def send_bytes(self, data: bytes) -> None:
        self.got.append(data)
        await asyncio.Event().wait()


@contextmanager
def drawing(render: Callable[[int], bytes] = lambda n: b"%d" % n) -> Iterator[Pictures[int]]:
    pictures = Pictures(render)
    try:
        yield pictures
    finally:
        pictures.close()


async def feed(pictures: Pictures[int], count: int, every_s: float = 0.002) -> None:
    for number in range(1, count + 1):
        pictures.show(number)
        await asyncio.sleep(every_s)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


def test_each_viewer_gets_the_newest_picture_when_it_is_ready_for_one() -> None:
    async def work() -> None:
        with drawing() as pictures:
            quick, slow = Viewer(), Viewer(takes_s=0.05)
            tasks = [asyncio.ensure_future(show(pictures, v)) for v in (quick, slow)]
            await feed(pictures, 200)
            await asyncio.sleep(0.15)
            for viewer in (quick, slow):
                assert viewer.got[-1] == b"200"
                numbers = [int(n) for n in viewer.got]
                assert numbers == sorted(set(numbers))
            assert len(quick.got) > 2 * len(slow.got)
            for task in tasks:
                task.cancel()

    run(work())


def test_a_dead_viewer_gets_two_pictures_and_delays_nobody() -> None:
    async def work() -> None:
        with drawing() as pictures:
            quick, dead = Viewer(), Viewer(shows=0)
            tasks = [asyncio.ensure_future(show(pictures, v)) for v in (dead, quick)]
            await feed(pictures, 100)
            await asyncio.sleep(0.05)
            assert len(dead.got) == 2
            assert len(quick.got) > 40
            for task in tasks:
                task.cancel()

    run(work())


def test_a_viewer_whose_network_is_stuck_is_given_up() -> None:
    async def work() -> None:
        with drawing() as pictures:
            stuck = Stuck()
            pictures.show(1)
            begun_s = time.monotonic()
            await show(pictures, stuck, stuck_s=0.1)
            assert stuck.got == [b"1"]
            assert time.monotonic() - begun_s < 1

    run(work())


def test_a_viewer_that_leaves_is_forgotten() -> None:
    async def work() -> None:
        with drawing() as pictures:
            leaving = Viewer(leaves_after=3)
            fed = asyncio.ensure_future(feed(pictures, 50))
            await show(pictures, leaving)
            assert 3 <= len(leaving.got) <= 5
            await fed

    run(work())


def test_a_picture_is_drawn_once_for_all_and_not_at_all_for_nobody() -> None:
    drawn: list[int] = []

    def render(number: int) -> bytes:
        drawn.append(number)
        return b"%d" % number

    async def work() -> None:
        with drawing(render) as pictures:
            await feed(pictures, 20)
            assert drawn == []
            assert await asyncio.gather(*(pictures.next(0) for _ in range(3))) == [(20, b"20")] * 3
            assert drawn == [20]

    run(work())


def test_who_comes_late_gets_what_stands_still_and_not_what_was_drawn_long_ago() -> None:
    async def work() -> None:
        with drawing() as pictures:
            pictures.show(1)
            assert await pictures.next(0) == (1, b"1")
            pictures.show(2)
            assert await pictures.next(0) == (2, b"2")
            assert await pictures.next(0) == (2, b"2")

    run(work())


def test_a_picture_that_cannot_be_drawn_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    def render(number: int) -> bytes:
        if number == 1:
            raise ValueError("no such picture")
        return b"%d" % number

    async def work() -> None:
        with drawing(render) as pictures:
            pictures.show(1)
            waiting = asyncio.ensure_future(pictures.next(0))
            await asyncio.sleep(0.05)
            pictures.show(2)
            assert await waiting == (2, b"2")

    run(work())
    assert "a picture cannot be drawn" in caplog.text


def test_a_picture_survives_being_encoded() -> None:
    pixels = np.full((48, 64, 3), (30, 120, 200), np.uint8)
    back = cv2.imdecode(np.frombuffer(as_jpeg(pixels), np.uint8), cv2.IMREAD_COLOR)
    assert back is not None
    assert np.abs(back.astype(int) - pixels).max() < 8
