"""The page, as people use it: the real command, driven in headless Chromium."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import dark_is_vessel

if find_spec("nicegui") is None:
    pytest.skip(
        'the page\'s library is not installed: pip install "veintrack[web]"',
        allow_module_level=True,
    )
sync_api = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed: apt install chromium", allow_module_level=True)

WAIT_MS = 20_000
LEVEL = 15.0  # grey: the phantom's vessels are darker, and little else


@dataclass
class Running:
    """A run with its page."""

    process: "subprocess.Popen[bytes]"
    url: str


@contextmanager
def running(folder: Path, *options: object) -> Iterator[Running]:
    """Track the phantom at its own pace, with a page."""
    model = dark_is_vessel(folder / "rule.onnx", 192, level=LEVEL)
    told = folder / "said.txt"
    with told.open("w") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "veintrack", "--source", "demo", "--model", str(model)),
                *("--pace", "realtime", "--duration", "600", "--output", "runs/first"),
                *("--view", "web", "--port", "0", *map(str, options)),
            ],
            cwd=folder,
            env={**os.environ, "COLUMNS": "200"},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        wait_for(lambda: "page at" in told.read_text() or process.poll() is not None, 60)
        found = re.search(r"page at ([^\s;]+)", told.read_text())
        assert found, told.read_text()
        yield Running(process, found[1])
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("page")) as one:
        yield one


@pytest.fixture
def page(run: Running, chromium: Any) -> Iterator[Any]:
    """The page, open; whatever it asks for elsewhere, or says is wrong, fails the test."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(run.url)
    yield page
    context.close()
    own = urlsplit(run.url).netloc
    inside = ("data", "blob")
    assert asked
    assert [
        u for u in asked if urlsplit(u).scheme not in inside and urlsplit(u).netloc != own
    ] == []
    assert wrong == []


def wait_for(condition: Callable[[], Any], limit_s: float = WAIT_MS / 1000) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def shown(page: Any) -> int:
    """Count the pictures that were painted."""
    return int(page.locator("#vt-picture").get_attribute("data-shown") or 0)


def painted(page: Any) -> str:
    content: str = page.evaluate("document.getElementById('vt-picture').toDataURL()")
    return content


def coloured(page: Any) -> list[int]:
    """Count the coloured pixels of each plot: those of lines, not of axes."""
    counts: list[int] = page.evaluate(
        """[...document.querySelectorAll('.vt-plot canvas')].map(canvas => {
            const data = canvas.getContext('2d')
                .getImageData(0, 0, canvas.width, canvas.height).data;
            let count = 0;
            for (let i = 0; i < data.length; i += 4) {
                const [r, g, b, a] = data.slice(i, i + 4);
                if (a > 200 && Math.max(r, g, b) - Math.min(r, g, b) > 60) count += 1;
            }
            return count;
        })"""
    )
    return counts


def test_the_picture_moves_the_table_is_filled_and_the_plots_are_drawn(page: Any) -> None:
    wait_for(lambda: shown(page) > 5)
    before, count = painted(page), shown(page)
    wait_for(lambda: shown(page) > count + 5)
    assert painted(page) != before
    rows = page.locator(".q-table tbody tr")
    wait_for(lambda: rows.count() > 0)
    cells = rows.first.locator("td").all_inner_texts()
    assert cells[0].strip().isdecimal()
    assert cells[1] in ("confirmed", "coasting", "collapsed")
    wait_for(lambda: min(coloured(page)[:3]) > 20)
    longest = max(coloured(page))
    wait_for(lambda: max(coloured(page)) > 1.5 * longest)
    assert page.get_by_text("Research use only. Not a medical device.").is_visible()
    assert page.locator("[role=status]").inner_text().lower() == "playing"


@contextmanager
def paused(page: Any) -> Iterator[None]:
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Go on").wait_for()
    try:
        yield
    finally:
        page.get_by_role("button", name="Go on").click()


def test_the_table_is_sorted_by_keyboard_by_the_column_that_is_chosen(page: Any) -> None:
    wait_for(lambda: page.locator(".q-table tbody tr").count() > 1)

    def depths() -> list[float]:
        cells = page.locator(".q-table tbody tr td:nth-child(4)").all_inner_texts()
        return [float(cell) for cell in cells if cell != "-"]

    with paused(page):
        page.locator("th[tabindex]", has_text="Depth").focus()
        page.keyboard.press("Enter")
        wait_for(lambda: depths() == sorted(depths()))
        page.keyboard.press("Enter")
        wait_for(lambda: depths() == sorted(depths(), reverse=True))


def test_a_run_is_paused_stepped_and_goes_on(page: Any) -> None:
    wait_for(lambda: shown(page) > 3)
    with paused(page):
        time.sleep(1)
        count = shown(page)
        time.sleep(0.5)
        assert shown(page) == count
        page.keyboard.press(".")
        wait_for(lambda: shown(page) == count + 1)
    wait_for(lambda: shown(page) > count + 5)


def test_a_recording_is_made_found_and_replayed(page: Any) -> None:
    wait_for(lambda: shown(page) > 3)
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_role("button", name="Stop recording").wait_for()
    count = shown(page)
    wait_for(lambda: shown(page) > count + 10)
    page.get_by_role("button", name="Stop recording").click()
    page.get_by_role("button", name="Record", exact=True).wait_for()
    page.get_by_role("tab", name="Recordings").click()
    page.get_by_role("button", name="first/recording").first.click()
    picture = page.get_by_alt_text("Recorded frame with its tracks")
    page.get_by_text("frame 1 of").wait_for()
    wait_for(lambda: picture.evaluate("one => one.naturalWidth") > 100)
    page.get_by_role("button", name="Frame on").click()
    page.get_by_text("frame 2 of").wait_for()
    bar = page.get_by_role("slider", name="Position in the recording")
    bar.locator("[tabindex]").press("ArrowRight")
    page.get_by_text("frame 3 of").wait_for()
    before = picture.get_attribute("src")
    box = bar.bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2)
    wait_for(lambda: picture.get_attribute("src") != before)
    wait_for(lambda: picture.evaluate("one => one.complete && one.naturalWidth") > 100)


def test_a_snapshot_is_written(page: Any) -> None:
    wait_for(lambda: shown(page) > 3)
    page.get_by_role("button", name="Snapshot").click()
    page.get_by_text("wrote runs/first/snapshots/").wait_for()


def test_the_threshold_is_set_by_keyboard_and_told_to_the_others(page: Any, run: Running) -> None:
    other = page.context.new_page()
    other.goto(run.url)
    slider = page.get_by_role("slider", name="Threshold")
    slider.locator("[tabindex]").focus()
    before = float(slider.get_attribute("aria-valuenow"))
    page.keyboard.press("ArrowRight")
    elsewhere = other.get_by_role("slider", name="Threshold")
    wait_for(lambda: float(elsewhere.get_attribute("aria-valuenow")) > before)


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [
        ("light", (1400, 1000), "light"),
        ("dark", (1400, 1000), "dark"),
        ("tablet", (820, 1180), "light"),
    ],
)
def test_it_fits_the_screen(
    page: Any, tmp_path: Path, name: str, size: tuple[int, int], scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    wait_for(lambda: shown(page) > 3)
    wait_for(lambda: min(coloured(page)[:3]) > 20)
    page.screenshot(path=tmp_path / f"{name}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.evaluate("document.body.classList.contains('body--dark')") is (scheme == "dark")


def test_ctrl_c_ends_the_run_in_a_second_while_somebody_looks(
    tmp_path: Path, chromium: Any
) -> None:
    with running(tmp_path) as one:
        page = chromium.new_page()
        page.goto(one.url)
        wait_for(lambda: shown(page) > 3)
        asked_s = time.monotonic()
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(10) == 130
        assert time.monotonic() - asked_s < 2  # 1 s on a machine that has nothing else to do
        page.get_by_text("No connection").wait_for()
        page.close()


def test_with_a_host_only_the_first_browser_with_the_token_gets_in(
    tmp_path: Path, chromium: Any
) -> None:
    with running(tmp_path, "--host", "0.0.0.0") as one:
        base = f"http://127.0.0.1:{urlsplit(one.url).port}/"
        query = urlsplit(one.url).query
        mine, other = chromium.new_context(), chromium.new_context()
        page = mine.new_page()
        assert page.goto(f"{base}?token=wrong").status == 403
        assert page.goto(base).status == 403
        page.goto(f"{base}?{query}")
        wait_for(lambda: shown(page) > 3)
        assert page.url == base
        stranger = other.new_page()
        assert stranger.goto(f"{base}?{query}").status == 403
        assert page.reload().status == 200
        mine.close()
        other.close()
