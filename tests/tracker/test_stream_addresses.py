"""Addresses that are wrong, that lead astray, and what is shown of those with a password."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracker.stream_server import HttpSender
from tests.tracker.test_sources_video import encode
from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.sources.address import host_of, masked
from veintrack.tracker.sources.stream import open_stream


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def http() -> Iterator[HttpSender]:
    with HttpSender() as opened:
        yield opened


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://u:p@h/x", "rtsp://***@h/x"),
        ("rtsp://u:p@ss@h:554/x", "rtsp://***@h:554/x"),
        ("rtsp://u:p/a@h:554/x", "rtsp://***@h:554/x"),
        ("rtsp://u:p?a#b@h:554/x", "rtsp://***@h:554/x"),
        ("rtsp://u:@h/a@b", "rtsp://***@h/a@b"),
        ("rtsp://:p@h/a", "rtsp://***@h/a"),
        ("rtsp://TOKEN@h/x", "rtsp://***@h/x"),
        ("RTSP:/u:p@h/x", "RTSP:/***@h/x"),
        ("rtsp:u:p@h/x", "rtsp:***@h/x"),
        ("srt://u:p@h", "srt://***@h"),
        ("http://h:80/a@b:c", "http://h:80/a@b:c"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("http://h/v?user=a&password=b&x=1", "http://h/v?user=***&password=***&x=***"),
        ("http://h/v?pw=a;psw=b&sig=c/d=e", "http://h/v?pw=***;psw=***&sig=***"),
        ("http://h/v?TOKEN#t=1", "http://h/v?***#t=***"),
        ("http://h?a=b", "http://h?a=***"),
        ("rtsp://h/user=a_Password=b_c.sdp?t", "rtsp://h/user=***?***"),
        ("rtsp://h/loginpas=a/sig=b;pw=c/x", "rtsp://h/loginpas=***/sig=***;pw=***/x"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("igtl://host:18944/Probe", "igtl://host:18944/Probe"),
    ],
)
def test_passwords_in_addresses_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    "path",
    [
        "/data/a:b@c/run?1=2.mp4",
        "clips/*.png",
        "frame_[0-9]?=x.png",
        "0",
        "/dev/video0",
        "demo",
        "scan:1@2=3.mp4",
        "https.mp4",
    ],
)
def test_what_is_no_address_is_shown_as_it_is(path: str) -> None:
    assert masked(path) == path


@given(
    st.sampled_from(["rtsp", "http", "igtl"]),
    st.text("Sä0%._~!$'()*+,:@", min_size=1),
    st.text("Sä0%._~!$'()*+,:@/", min_size=1),
)
def test_neither_userinfo_nor_a_value_is_ever_shown(scheme: str, user: str, value: str) -> None:
    shown = masked(f"{scheme}://Q{user}Q@host/video?x=Q{value}Q")
    assert shown == f"{scheme}://***@host/video?x=***"
    assert masked(shown) == shown


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("rtsp://u:p@h:554/x", "h"),
        ("http://[::1]:80/a", "::1"),
        ("rtsp:///x", None),
        ("rtsp://h:port/", None),
        ("rtsp://h/a b", None),
        ("http://[::1/", None),
    ],
)
def test_the_host_of_an_address(url: str, host: str | None) -> None:
    assert host_of(url) == host


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert isinstance(port, int)
        return port


@pytest.mark.parametrize("scheme", ["rtsp", "http", "RTSP"])
def test_a_port_where_nobody_listens_is_said(scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{unused_port()}/x"
    with pytest.raises(SourceUnreadableError, match=f"^{url}: nobody listens there$"):
        open_stream(url)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_an_unknown_host_is_said(scheme: str) -> None:
    with pytest.raises(
        SourceNotFoundError, match=f"^{scheme}://no.invalid/x: no such host: no.inv"
    ):
        open_stream(f"{scheme}://no.invalid/x")


@pytest.mark.parametrize("url", ["rtsp://", "http:///x", "rtsp://a:b", "rtsp://h/a\nb"])
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(SourceUnreadableError, match="is no address, as rtsp://host:port/path is"):
        open_stream(url)


def test_a_missing_page_is_said(http: HttpSender) -> None:
    with pytest.raises(SourceNotFoundError, match="/x: the server has nothing under this address"):
        open_stream(f"http://{http.address}/x")


def test_what_is_no_video_is_said(http: HttpSender) -> None:
    http.files["/text"] = b"<html>hello</html>" * 100
    with pytest.raises(SourceUnreadableError, match="/text: what it sends is no video$"):
        open_stream(f"http://{http.address}/text")


@pytest.mark.parametrize(
    "playlist",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://PATH\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile file://PATH\n",
        b"ffconcat version 1.0\nfile concat:PATH\n",
    ],
)
def test_a_playlist_cannot_name_files_of_this_computer(
    playlist: bytes, http: HttpSender, tmp_path: Path
) -> None:
    local = encode(tmp_path / "a.ts")
    http.files["/live"] = playlist.replace(b"PATH", str(local).encode())
    with pytest.raises((SourceUnreadableError, SourceNotFoundError)) as caught:
        open_stream(f"http://{http.address}/live")
    assert "\n" not in str(caught.value)


def test_a_redirection_cannot_name_files_of_this_computer(http: HttpSender, tmp_path: Path) -> None:
    local = encode(tmp_path / "a.ts")
    http.answers["/live"] = f"HTTP/1.1 302 Found\r\nLocation: file://{local}\r\n\r\n".encode()
    with pytest.raises(SourceUnreadableError) as caught:
        open_stream(f"http://{http.address}/live")
    assert "\n" not in str(caught.value)
