"""OpenIGTLink: against pyigtl's own server on loopback, and against senders that fail."""

import itertools
import socket
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.tracker.igtl_scene import (
    PICTURE,
    first,
    image_body,
    message,
    pyigtl_server,
    send_all,
    sending,
    stream,
)
from veintrack.errors import (
    SourceLostError,
    SourceNotFoundError,
    SourceStalledError,
    SourceUnreadableError,
)
from veintrack.tracker.frame import Frame, Signal, Stamp
from veintrack.tracker.sources import igtl, open_source
from veintrack.tracker.sources.igtl import open_igtl
from veintrack.tracker.sources.persistent import PersistentSource


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(igtl, "_FIRST_WAIT_S", 0.3)


def test_pictures_of_a_real_server_come_with_scale_and_the_sender_s_time() -> None:
    with pyigtl_server() as port, open_source(f"igtl://127.0.0.1:{port}/Probe") as source:
        frames = list(itertools.islice(source, 12))
    assert (source.info.kind, source.info.live, source.info.shape_px) == ("igtl", True, (24, 32))
    assert source.info.spacing_mm == pytest.approx((0.1, 0.2))
    assert [f.index for f in frames] == list(range(12))
    for frame in frames:
        assert frame.stamp is Stamp.SENDER
        assert frame.sender_ns is not None
        number = round((frame.sender_ns * 1e-9 - 1_700_000_000) / 0.02)
        assert_array_equal(frame.pixels, np.roll(PICTURE, number, axis=1))
        assert frame.capture_ns <= frame.arrival_ns
        assert frame.spacing_mm == source.info.spacing_mm
    assert all(a.capture_ns < b.capture_ns for a, b in itertools.pairwise(frames))


def test_a_server_that_goes_and_comes_back_is_followed_and_numbered_on() -> None:
    frames: list[Frame] = []
    states = []
    with pyigtl_server() as port:
        source = PersistentSource(open_igtl(f"igtl://127.0.0.1:{port}/Probe"), 10.0)
        iterator = iter(source)
        frames.extend(itertools.islice(iterator, 5))
    reader = threading.Thread(target=lambda: frames.extend(itertools.islice(iterator, 5000)))
    began = time.monotonic()
    reader.start()
    while source.state.signal is Signal.STREAMING and time.monotonic() - began < 3:
        time.sleep(0.005)
    noticed_s = time.monotonic() - began
    states.append(source.state)
    before = len(frames)
    with pyigtl_server(port):
        while len(frames) < before + 5 and time.monotonic() - began < 8:
            time.sleep(0.01)
        states.append(source.state)
        source.close()
        reader.join(1)
    assert not reader.is_alive()
    assert noticed_s < 1
    assert (states[0].signal, states[1].signal) == (Signal.LOST, Signal.STREAMING)
    assert "closed the connection" in states[0].reason
    assert source.outages == 1
    assert [f.index for f in frames] == list(range(len(frames)))
    assert len(frames) >= before + 5
    assert all(a.capture_ns < b.capture_ns for a, b in itertools.pairwise(frames))


@pytest.mark.usefixtures("short_wait")
def test_a_wrong_name_lists_what_the_sender_offers() -> None:
    with pyigtl_server() as port, pytest.raises(SourceUnreadableError) as caught:
        open_igtl(f"igtl://127.0.0.1:{port}/Prob")
    assert str(caught.value) == (
        f"igtl://127.0.0.1:{port}/Prob: no IMAGE named 'Prob' came within 0.3 s; "
        "the sender offers: Probe (IMAGE), Tool (TRANSFORM)"
    )


@pytest.mark.usefixtures("short_wait")
def test_a_silent_sender_is_told_apart() -> None:
    with sending(send_all(then_s=2)) as sender, pytest.raises(SourceUnreadableError) as caught:
        open_igtl(sender.url())
    assert "came within 0.3 s; the sender sent nothing" in str(caught.value)


def test_nobody_there_is_said_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(SourceNotFoundError, match="at 127.0.0.1:.*: Connection refused"):
        open_igtl(f"igtl://127.0.0.1:{port}/Probe")
    with pytest.raises(SourceNotFoundError, match="no computer named nobody.invalid is known"):
        open_igtl("igtl://nobody.invalid/Probe")


@pytest.mark.usefixtures("short_wait")
def test_a_sender_that_never_answers_is_given_up() -> None:
    """A full backlog drops further requests, as an unreachable computer does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as held:
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        with pytest.raises(SourceNotFoundError, match="no answer within 0.3 s"):
            open_igtl(f"igtl://127.0.0.1:{full.getsockname()[1]}/Probe")


@pytest.mark.parametrize(
    "url", ["igtl:///Probe", "igtl://host:99999/Probe", "igtl://host:x/Probe", "http://host/Probe"]
)
def test_an_address_that_cannot_be_is_refused_with_the_right_form(url: str) -> None:
    with pytest.raises(SourceUnreadableError, match="expected igtl://host.*DeviceName"):
        open_igtl(url)


def test_without_a_name_the_first_device_with_pictures_is_taken() -> None:
    other = message(kind="STATUS", device="Server", body=b"x" * 30)
    with sending(send_all(other, message(device="B-mode", body=image_body()))) as sender:
        source, frame = first(sender, "")
    assert_array_equal(frame.pixels, PICTURE)
    assert "pictures of the device 'B-mode'" in source.info.notes


def test_messages_that_come_in_small_parts_are_put_together() -> None:
    def trickle(connection: socket.socket) -> None:
        whole = message(body=image_body()) * 2
        for start in range(0, len(whole), 97):
            connection.sendall(whole[start : start + 97])
            time.sleep(0.001)

    with sending(trickle) as sender, open_igtl(sender.url()) as source:
        frames = list(itertools.islice(source, 2))
    assert_array_equal(frames[1].pixels, PICTURE)


def test_a_sender_that_falls_silent_is_noticed_within_a_second() -> None:
    with sending(stream(40, 8, then_s=5)) as sender, open_igtl(sender.url()) as source:
        iterator = iter(source)
        for _ in range(8):
            next(iterator)
        began = time.monotonic()
        with pytest.raises(SourceStalledError, match=r"no picture for 0\.5 s"):
            next(iterator)
        assert 0.45 < time.monotonic() - began < 1


def test_a_connection_that_breaks_is_noticed_at_once() -> None:
    with sending(stream(100, 6)) as sender, open_igtl(sender.url()) as source:
        began = time.monotonic()
        with pytest.raises(SourceLostError, match="closed the connection"):
            list(source)
        assert time.monotonic() - began < 0.5


def test_a_picture_that_trickles_for_ever_is_a_stall() -> None:
    def trickle(connection: socket.socket) -> None:
        stream(40, 8)(connection)
        for byte in message(body=image_body()):
            if not sender.stop.wait(0.02):
                connection.sendall(bytes([byte]))

    with sending(trickle) as sender, open_igtl(sender.url()) as source:
        began = time.monotonic()
        with pytest.raises(SourceStalledError):
            list(source)
        assert time.monotonic() - began < 1.5


def test_another_size_of_picture_is_a_loss_so_that_it_is_opened_anew() -> None:
    small = message(body=image_body(PICTURE[:20, :30]))
    script = send_all(message(body=image_body()), small)
    with sending(script, send_all(small)) as sender, open_igtl(sender.url()) as source:
        with pytest.raises(SourceLostError, match="changed its picture to 30x20"):
            list(source)
        source.close()
        with source.reopen(lambda: False) as again:
            assert next(iter(again)).pixels.shape == (20, 30)


def test_close_ends_the_iteration_and_no_thread_is_left() -> None:
    threads = threading.active_count()
    with sending(stream(100, 6, then_s=5)) as sender:
        source = open_igtl(sender.url())
        reader = threading.Thread(target=lambda: list(source))
        reader.start()
        time.sleep(0.15)
        began = time.monotonic()
        source.close()
        reader.join(1)
        assert time.monotonic() - began < 0.2
        assert not reader.is_alive()
        source.close()
    assert threading.active_count() == threads


def test_reopening_ends_soon_when_nobody_waits_any_more() -> None:
    with sending(send_all(message(body=image_body())), send_all(then_s=5)) as sender:
        source, _ = first(sender)
        cancelled = threading.Event()
        threading.Timer(0.1, cancelled.set).start()
        began = time.monotonic()
        with pytest.raises(SourceUnreadableError):
            source.reopen(cancelled.is_set)
        assert time.monotonic() - began < 0.5


def test_what_gathered_between_opening_and_reading_is_old_and_not_lost() -> None:
    with sending(stream(50, 200)) as sender, open_igtl(sender.url()) as source:
        time.sleep(0.7)  # a model is loaded
        frames = list(itertools.islice(source, 5))
        assert source.driver_drops == 0
    assert [f.index for f in frames] == list(range(5))
    numbers = [round(((f.sender_ns or 0) * 1e-9 - 1000) * 50) for f in frames]
    assert numbers[0] >= 10
    steps_ms = [(b.arrival_ns - a.arrival_ns) * 1e-6 for a, b in itertools.pairwise(frames)]
    assert np.median(steps_ms) > 10


def test_a_picture_that_cannot_be_read_is_counted_before_the_loss() -> None:
    damaged = message(body=image_body()[:-1])
    script = send_all(message(body=image_body()), damaged)
    with sending(script) as sender, open_igtl(sender.url()) as source:
        with pytest.raises(SourceLostError, match="an IMAGE of 32 x 24 pixels in 767 bytes"):
            list(source)
        assert source.driver_drops == 1


def test_a_password_in_an_address_that_cannot_be_is_not_shown() -> None:
    with pytest.raises(SourceUnreadableError) as caught:
        open_igtl("igtl://me:secret/x@host/Probe")
    assert "secret" not in str(caught.value)
