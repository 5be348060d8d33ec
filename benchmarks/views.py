"""What the web page costs the tracking: frames a second headless, with one page and with three.

    python benchmarks/views.py [--rounds N] [--seconds S] [--engine NAME] [--precision P]
                               [--json FILE]

The phantom's frames lie in memory and are tracked as fast as possible. Headless, one page and three
take turns in one run, so that other loads on the machine hit all; what counts is the ratio to the
headless turn of the same round. A viewer is a program that does what a browser does on the network:
it loads the page, keeps its websocket, and asks for each picture when it has the last one. Viewers
run on the same machine and take processor time from the tracking, too.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table

from veintrack.tracker.bench import Line, View, measure_line
from veintrack.tracker.controls import Controls, ControlState
from veintrack.tracker.pipeline import PipelineSettings
from veintrack.tracker.segment import load_segmenter
from veintrack.tracker.sinks.web import open_web
from veintrack.tracker.sources import open_source
from veintrack.tracker.sources.arrays import ArraySource

PAGES = (0, 1, 3)
ASKED = {1: 0.85, 3: 0.75}  # of the headless frames a second
_PICTURES = 240
_WARM_UP = 300  # frames: until then the viewers are there


@dataclass(frozen=True, slots=True)
class Cost:
    """What some pages cost.

    Attributes
    ----------
    pages : int
        How many are open.
    fps : list of float
        Frames a second of the tracking, by round.
    ratios : list of float
        These over those of the headless turn of the round.
    pictures_hz : list of float
        Pictures a second that each viewer got, over all rounds.
    """

    pages: int
    fps: list[float]
    ratios: list[float]
    pictures_hz: list[float]


def measure(given: argparse.Namespace) -> list[Cost]:
    """Take turns."""
    with open_source("demo", demo_frames=_PICTURES) as source:
        pictures = [frame.pixels for frame in islice(source, _PICTURES)]
        spacing_mm, rate_hz = source.info.spacing_mm, source.info.rate_hz or 30.0
    many = 10**7

    def frames() -> ArraySource:
        return ArraySource(pictures, rate_hz, frame_count=many, spacing_mm=spacing_mm)

    fps: dict[int, list[float]] = {pages: [] for pages in PAGES}
    hz: dict[int, list[float]] = {pages: [] for pages in PAGES}
    with load_segmenter("default", engine=given.engine, precision=given.precision) as segmenter:
        for _ in range(given.rounds):
            for pages in PAGES:
                with ExitStack() as stack:
                    viewers = _Viewers(pages, given.seconds)
                    stack.callback(viewers.close)
                    line = Line(
                        frames,
                        segmenter,
                        PipelineSettings(crop="none", contours=True),
                        frames=many,
                        warm_up=_WARM_UP,
                        seconds=given.seconds,
                        open_views=viewers.open,
                    )
                    fps[pages].append(measure_line(line).fps)
                    hz[pages] += viewers.close()
    return [
        Cost(
            pages,
            fps[pages],
            [one / bare for one, bare in zip(fps[pages], fps[0], strict=True)],
            hz[pages],
        )
        for pages in PAGES
    ]


class _Viewers:
    """A page and those who look at it, in a process of their own."""

    def __init__(self, count: int, seconds: float) -> None:
        self._count, self._seconds = count, seconds
        self._process: subprocess.Popen[str] | None = None

    def open(self, stop: Callable[[], None]) -> Sequence[View]:
        """Open the page, and begin to look at it."""
        if not self._count:
            return ()
        controls = Controls(stop, ControlState(live=False, threshold=0.5))
        info = ArraySource([_grey()]).info
        runs = Path(tempfile.gettempdir())
        view = open_web(controls, info, host="127.0.0.1", port=0, runs=runs / "no-runs")
        url = view.said.removeprefix("page at ")
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--look", url, str(self._count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return (view,)

    def close(self) -> list[float]:
        """Look away; give the pictures a second that each got."""
        process, self._process = self._process, None
        if process is None:
            return []
        told, _ = process.communicate("", timeout=30)
        return [float(one) for one in json.loads(told)]


def _grey() -> Any:
    import numpy as np

    return np.zeros((480, 640), np.uint8)


async def look(url: str, count: int) -> list[float]:
    """Be some viewers until nobody holds our input; give the pictures a second of each."""
    viewers = [asyncio.ensure_future(_be_viewer(url)) for _ in range(count)]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    return [await viewer for viewer in viewers]


async def _be_viewer(url: str) -> float:
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    loop = asyncio.get_running_loop()
    page = await loop.run_in_executor(None, lambda: urlopen(url).read().decode())
    identity = re.search(r"[\"']client_id[\"']\s*:\s*[\"']([0-9a-f-]+)", page)
    if identity is None:
        raise ValueError("the page names no client")
    base = url.replace("http", "ws", 1).rstrip("/")
    keeping = asyncio.ensure_future(_keep_page(base, identity[1]))
    times_s: list[float] = []
    with suppress(ConnectionClosed):
        async with connect(f"{base}/pictures", compression=None) as socket:
            while True:
                await socket.recv()
                times_s.append(loop.time())
                await socket.send("shown")
    keeping.cancel()
    if len(times_s) < 2:
        return 0.0
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])


async def _keep_page(base: str, identity: str) -> None:
    """Keep the page's own websocket, as its script does: Socket.IO 5 over Engine.IO 4."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    hello = {
        "client_id": identity,
        "tab_id": identity,
        "document_id": identity,
        "next_message_id": 0,
    }
    query = urlencode({"EIO": 4, "transport": "websocket", **hello, "implicit_handshake": "true"})
    with suppress(ConnectionClosed):
        async with connect(
            f"{base}/_nicegui_ws/socket.io/?{query}", compression=None, max_size=None
        ) as socket:
            async for message in socket:
                if str(message).startswith("0"):
                    await socket.send("40")
                elif message == "2":
                    await socket.send("3")


def show(costs: Sequence[Cost], console: Console) -> None:
    """Print a table."""
    table = Table(title="Tracking with the page open; median (least to most) over rounds")
    for head in ("pages", "tracking fps", "of headless", "asked", "pictures a second"):
        table.add_column(head, justify="right")
    for cost in costs:
        table.add_row(
            str(cost.pages),
            _spread(cost.fps, 1),
            _spread(cost.ratios, 2),
            f"{ASKED[cost.pages]:.2f}" if cost.pages in ASKED else "",
            _spread(cost.pictures_hz, 1) if cost.pictures_hz else "",
        )
    console.print(table)


def _spread(values: Sequence[float], digits: int) -> str:
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each turn")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--look", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.look:
        print(json.dumps(asyncio.run(look(given.look[0], int(given.look[1])))))
        return
    costs = measure(given)
    show(costs, Console(width=110))
    if given.json:
        given.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")


if __name__ == "__main__":
    main()
