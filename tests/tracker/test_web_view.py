"""The page's process: who is let in, how it begins and how it ends."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from veintrack.errors import BackendMissingError, OutputError
from veintrack.tracker.controls import Controls, ControlState
from veintrack.tracker.frame import Frame, FrameResult, Timings
from veintrack.tracker.sinks.web import WebView, open_web
from veintrack.tracker.sources.base import SourceInfo

INFO = SourceInfo("folder/of/somebody/scan.mp4", "video", False, (400, 500), 30, None, None, "file")


def controls() -> Controls:
    return Controls(lambda: None, ControlState(live=False, threshold=0.5))


def result(index: int) -> FrameResult:
    frame = Frame(np.full((400, 500), index % 250, np.uint8), index, index)
    return FrameResult(frame, (), (), Timings(0, 0, 0, 0, 0, 0, time.monotonic_ns(), 0))


@pytest.fixture
def _nicegui() -> None:
    if find_spec("nicegui") is None:
        pytest.skip('the page\'s library is not installed: pip install "veintrack[web]"')


@contextmanager
def page(tmp_path: Path, host: str = "127.0.0.1", port: int = 0) -> Iterator[WebView]:
    view = open_web(controls(), INFO, host=host, port=port, runs=tmp_path)
    try:
        yield view
    finally:
        view.close()


def address(view: WebView) -> str:
    return view.said.removeprefix("page at ").split(";")[0]


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request("GET", f"{parts.path or '/'}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def wait_for(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def upgrade(url: str, path: str, **headers: str) -> int:
    """Ask for a websocket; give the answer's status."""
    return get(
        f"{url.split('?')[0].rstrip('/')}{path}",
        **{
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            **headers,
        },
    )[0]


@pytest.mark.usefixtures("_nicegui")
def test_on_this_machine_the_page_is_open_but_for_strange_names(tmp_path: Path) -> None:
    with page(tmp_path) as view:
        url = address(view)
        assert view.said == f"page at {url}"
        status, headers, body = get(url)
        assert status == 200
        assert b"Research use only. Not a medical device." in body
        assert b"somebody" not in body
        assert "set-cookie" not in headers
        port = urlsplit(url).port
        assert get(url, Host=f"evil.example:{port}")[0] == 403
        assert upgrade(url, "/pictures", Origin="http://evil.example") == 403
        assert upgrade(url, "/pictures", Host=f"evil.example:{port}") == 403


@pytest.mark.usefixtures("_nicegui")
def test_for_others_every_path_needs_the_token_and_it_is_good_once(tmp_path: Path) -> None:
    with page(tmp_path, "0.0.0.0") as view:
        secret = address(view)
        port = urlsplit(secret).port
        url = f"http://127.0.0.1:{port}/"
        assert view.said.endswith("; the address is good for one browser")
        paths = ("", "pictures", "review/0/0", "_nicegui/client", "docs", "?token=wrong")
        for path in paths:
            status, _, body = get(url + path)
            assert status == 403
            assert b"nicegui" not in body
        for path in ("/pictures", "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"):
            assert upgrade(url, path) == 403
        status, headers, _ = get(f"{url}?{urlsplit(secret).query}")
        assert status == 200
        cookie = headers["set-cookie"].split(";")[0]
        assert get(f"{url}?{urlsplit(secret).query}")[0] == 403
        assert get(url, Cookie=cookie)[0] == 200


@pytest.mark.usefixtures("_nicegui")
def test_the_page_ends_at_once_and_frees_its_port(tmp_path: Path) -> None:
    with page(tmp_path) as view:
        port = urlsplit(address(view)).port or 0
        with socket.create_connection(("127.0.0.1", port), timeout=5) as idle:
            for index in range(5):
                view.put(result(index))
            begun_s = time.monotonic()
            view.close()
            assert time.monotonic() - begun_s < 0.5
            with suppress(ConnectionResetError):
                assert idle.recv(1) == b""
        with page(tmp_path, port=port):
            pass


@pytest.mark.usefixtures("_nicegui")
def test_a_page_that_ends_by_itself_is_told_and_the_tracking_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with page(tmp_path) as view:
        view._process.kill()
        view._process.wait()
        for index in range(20):
            view.put(result(index))
        wait_for(lambda: "the page ended by itself" in caplog.text)


@pytest.mark.usefixtures("_nicegui")
def test_handing_over_results_waits_for_nothing(tmp_path: Path) -> None:
    with page(tmp_path) as view:
        results = [result(index) for index in range(500)]
        begun_s = time.perf_counter()
        for one in results:
            view.put(one)
        assert (time.perf_counter() - begun_s) / len(results) < 1e-3


@pytest.mark.usefixtures("_nicegui")
def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OutputError, match=f"port {port} is taken: name another with --port"):
            open_web(controls(), INFO, host="127.0.0.1", port=port, runs=tmp_path)


@pytest.mark.usefixtures("_nicegui")
@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_one_clear_line(tmp_path: Path, host: str) -> None:
    with pytest.raises(OutputError, match=f"cannot listen on {host}: .*--host"):
        open_web(controls(), INFO, host=host, port=0, runs=tmp_path)


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veintrack.tracker.sinks.web.find_spec", lambda _: None)
    with pytest.raises(BackendMissingError, match=r"pip install \"veintrack\[web\]\""):
        open_web(controls(), INFO, host="127.0.0.1", port=0, runs=tmp_path)


@pytest.mark.usefixtures("_nicegui")
def test_a_page_that_does_not_start_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veintrack.tracker.sinks.web._SERVER", "veintrack.no_such_module")
    with pytest.raises(OutputError, match="the page does not start"):
        open_web(controls(), INFO, host="127.0.0.1", port=0, runs=tmp_path)


def test_the_run_never_imports_the_page_s_library() -> None:
    code = "import sys, veintrack.tracker.sinks.web; sys.exit('nicegui' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
