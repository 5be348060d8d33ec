"""OpenIGTLink out: clients of every temper, on loopback."""

import itertools
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from time import monotonic_ns

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.tracker.igtl_scene import message as query
from tests.tracker.test_igtl_pack import said, scene
from veintrack.errors import OutputError
from veintrack.tracker.frame import FrameResult
from veintrack.tracker.sinks import igtl_out
from veintrack.tracker.sinks.igtl_out import IgtlOut, open_igtl_out
from veintrack.tracker.sources import open_source
from veintrack.tracker.sources.base import SourceInfo
from veintrack.tracker.sources.igtl_messages import Message
from veintrack.tracker.sources.igtl_wire import Connection, connect

LARGE = (1000, 1200)  # px: more than the kernel holds for a client that does not read


def info(*, live: bool = False) -> SourceInfo:
    return SourceInfo("scan", "array", live, (120, 161), None, None, (0.1, 0.2), "")


@pytest.fixture
def out() -> Iterator[IgtlOut]:
    with closing(open_igtl_out("0", info())) as opened:
        yield opened


def numbered(index: int, shape: tuple[int, int] | None = None) -> FrameResult:
    result = scene()
    pixels = result.frame.pixels if shape is None else np.full(shape, index % 256, np.uint8)
    frame = replace(result.frame, pixels=pixels, index=index, capture_ns=index * 40_000_000)
    return replace(result, frame=frame, scan_area_px=None if shape else result.scan_area_px)


def client(out: IgtlOut) -> Connection:
    return connect("127.0.0.1", out.port, 5.0)


def row(connection: Connection, limit_s: float = 5.0) -> dict[str, Message]:
    """Read the messages of one result, by device; none if none came."""
    devices: dict[str, Message] = {}
    while "Veintrack_tracks" not in devices:
        read = connection.next_message(lambda _: True, monotonic_ns() + round(limit_s * 1e9))
        if read is None:
            return {}
        assert isinstance(read, Message)
        devices[read.header.device] = read
    return devices


def wait_for(condition: Callable[[], bool], limit_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def connected(out: IgtlOut, count: int) -> None:
    wait_for(lambda: len(out._clients) == count)


def test_every_client_gets_every_result_that_it_is_ready_for(out: IgtlOut) -> None:
    with closing(client(out)) as one, closing(client(out)) as other:
        connected(out, 2)
        for index in range(5):
            out.put(numbered(index))
            for each in (one, other):
                devices = row(each)
                assert list(devices) == ["Veintrack_mm", "Vein_1_mm", "Veintrack_tracks"]
                assert said(devices)["frame"] == index


def test_whoever_connects_late_gets_the_newest_result_at_once(out: IgtlOut) -> None:
    out.put(numbered(1))
    out.put(numbered(2))
    with closing(client(out)) as late:
        assert said(row(late))["frame"] == 2


def test_our_own_source_reads_what_is_sent(out: IgtlOut) -> None:
    result = scene()
    out.put(result)
    with open_source(f"igtl://127.0.0.1:{out.port}/Veintrack_mm") as source:
        frame = next(iter(source))
    assert_array_equal(frame.pixels, result.frame.pixels[20:100, 30:131])
    assert frame.spacing_mm == pytest.approx((0.1, 0.2))


def test_nothing_is_sent_before_the_scan_area_is_settled(out: IgtlOut) -> None:
    with closing(client(out)) as waiting:
        connected(out, 1)
        out.put(replace(scene(), scan_area_settled=False))
        assert not row(waiting, 0.3)


def test_a_screen_that_moves_is_not_sent_until_its_area_is_known_again(out: IgtlOut) -> None:
    out.put(numbered(1))
    out.put(replace(numbered(2), scan_area_settled=False))
    with closing(client(out)) as late:
        assert said(row(late))["frame"] == 1
        out.put(numbered(3))
        assert said(row(late))["frame"] == 3


def test_a_slow_client_misses_results_and_never_lags(out: IgtlOut) -> None:
    with closing(client(out)) as slow:
        connected(out, 1)
        seen = []
        for index in range(40):
            out.put(numbered(index, LARGE))
            time.sleep(0.01)
            if index % 10 == 9:
                seen.append(said(row(slow))["frame"])
    assert seen == sorted(set(seen))
    assert seen[-1] >= 10  # what the kernel held when it began to read comes first; of a queue, 3


def test_a_client_that_reads_nothing_costs_the_others_nothing(
    out: IgtlOut, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(igtl_out, "_PATIENCE_S", 0.4)
    with closing(client(out)) as good, socket.create_connection(("127.0.0.1", out.port)) as dead:
        connected(out, 2)
        begun_s = time.monotonic()
        for index in itertools.count():
            out.put(numbered(index, LARGE))
            assert said(row(good))["frame"] == index
            if len(out._clients) == 1:
                break
            assert time.monotonic() - begun_s < 10
        assert index > 3
        assert dead.fileno() >= 0
    assert [r.message for r in caplog.records] == [
        "OpenIGTLink: a client read nothing for 0.4 s: dropped"
    ]


@pytest.mark.parametrize(
    "words",
    [query("GET_IMAGE", "Veintrack_mm"), query("STT_TDATA", "x", bytes(36)), b"GET / HTTP/1.1\r\n"],
)
def test_a_client_may_ask_for_anything(out: IgtlOut, words: bytes) -> None:
    with socket.create_connection(("127.0.0.1", out.port)) as opened:
        asking = Connection(opened, "")
        for index in range(3):
            opened.sendall(words)
            out.put(numbered(index))
            assert said(row(asking))["frame"] == index


def test_clients_may_vanish_at_any_moment(out: IgtlOut, caplog: pytest.LogCaptureFixture) -> None:
    with closing(client(out)) as good:
        for index in range(20):
            gone = socket.create_connection(("127.0.0.1", out.port))
            if index % 2:  # with a reset
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            out.put(numbered(index, LARGE))
            gone.close()
            assert said(row(good))["frame"] == index
        connected(out, 1)
    assert not caplog.records


def test_there_is_a_limit_to_clients(
    out: IgtlOut, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(igtl_out, "_MOST_CLIENTS", 1)
    with closing(client(out)) as first:
        connected(out, 1)
        with socket.create_connection(("127.0.0.1", out.port), 5) as second:
            assert second.recv(1) == b""
        out.put(numbered(1))
        assert said(row(first))["frame"] == 1
    assert [r.message for r in caplog.records] == ["OpenIGTLink: a client was refused, there are 1"]


def test_the_last_result_arrives_before_the_end(out: IgtlOut) -> None:
    with closing(client(out)) as reading:
        connected(out, 1)
        found: list[int] = []

        def read() -> None:
            found.append(said(row(reading))["frame"])

        reader = threading.Thread(target=read)
        reader.start()
        out.put(numbered(9, LARGE))
        out.close()
        reader.join(5)
    assert found == [9]


def test_closing_waits_for_nobody(out: IgtlOut) -> None:
    with socket.create_connection(("127.0.0.1", out.port)):
        connected(out, 1)
        for index in range(10):
            out.put(numbered(index, LARGE))
            time.sleep(0.01)
        begun_s = time.monotonic()
        out.close()
        assert time.monotonic() - begun_s < 0.5  # 0.3 and what a busy machine adds
        wait_for(lambda: not out._thread.is_alive())
    out.close()
    out.put(numbered(11))
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", out.port))


def test_times_of_a_live_source_are_those_of_the_day() -> None:
    with closing(open_igtl_out("0", info(live=True))) as out, closing(client(out)) as reading:
        taken_s, taken_ns = time.time() - 1, monotonic_ns() - 10**9
        result = scene()
        out.put(replace(result, frame=replace(result.frame, capture_ns=taken_ns)))
        stamp_ns = row(reading)["Veintrack_mm"].header.sender_ns
    assert stamp_ns * 1e-9 == pytest.approx(taken_s, abs=0.01)


def test_times_of_a_file_begin_with_the_run_and_follow_the_file(out: IgtlOut) -> None:
    now_s = time.time()
    with closing(client(out)) as reading:
        stamps_ns = []
        for index in (10, 11, 20):
            out.put(numbered(index))
            stamps_ns.append(row(reading)["Veintrack_mm"].header.sender_ns)
    assert stamps_ns[0] * 1e-9 == pytest.approx(now_s, abs=1)
    assert np.diff(stamps_ns).tolist() == [40_000_000, 360_000_000]


def test_what_cannot_be_packed_ends_the_sending_and_nothing_else(
    out: IgtlOut, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(client(out)):
        connected(out, 1)
        with caplog.at_level(logging.WARNING):
            out.put(numbered(0, (1, 70_000)))  # wider than a picture can be there
            wait_for(lambda: not out._thread.is_alive())
        out.put(numbered(1))
    (record,) = caplog.records
    assert record.message.startswith("OpenIGTLink goes out no more: ")


def test_a_port_in_use_is_one_clear_line(out: IgtlOut) -> None:
    with pytest.raises(OutputError) as caught:
        open_igtl_out(str(out.port), info())
    assert str(caught.value) == (
        f"OpenIGTLink cannot go out on 127.0.0.1:{out.port}: another program listens there; "
        "name another with --igtl-out [HOST:]PORT, port 0 takes any that is free"
    )


def test_an_address_of_another_computer_is_one_clear_line() -> None:
    with pytest.raises(OutputError, match="on 192.0.2.1:18944: Cannot assign requested address;"):
        open_igtl_out("192.0.2.1:18944", info())
    with pytest.raises(OutputError, match="no computer of this name is known"):
        open_igtl_out(f"{'x' * 80}:18944", info())


@pytest.mark.parametrize("address", ["", "x", ":18944", "70000", "localhost:", "a:b", "-1", "²"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"igtl_out must be PORT or HOST:PORT, .*, got "):
        open_igtl_out(address, info())


def test_it_says_where_what_is_sent(out: IgtlOut) -> None:
    assert out.said == (
        f"OpenIGTLink on 127.0.0.1:{out.port}: Veintrack_mm, Vein_N_mm, Veintrack_tracks"
    )
    with closing(open_igtl_out("0.0.0.0:0", replace(info(), spacing_mm=None))) as everywhere:
        assert everywhere.said == (
            f"OpenIGTLink on 0.0.0.0:{everywhere.port}: Veintrack_px, Vein_N_px, Veintrack_tracks; "
            "whoever reaches this address sees the picture, and nothing is encrypted"
        )


def test_a_version_6_address_is_understood() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this computer has no IPv6: switch it on to test addresses of it")
    with closing(open_igtl_out("[::1]:0", info())) as out:
        assert out.said.startswith(f"OpenIGTLink on [::1]:{out.port}: ")
