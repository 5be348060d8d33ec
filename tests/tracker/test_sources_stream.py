"""Streams from senders on loopback: read, cut, restored, stalled, and addresses that are wrong."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.tracker.stream_server import SHAPE_PX, HttpSender, RtspSender, Sender, number_of, picture
from tests.tracker.test_sources_video import encode
from veintrack.errors import (
    SourceLostError,
    SourceStalledError,
    SourceUnreadableError,
    VeintrackError,
)
from veintrack.tracker.frame import Frame, Signal, Stamp
from veintrack.tracker.sources import open_source
from veintrack.tracker.sources.persistent import PersistentSource
from veintrack.tracker.sources.stream import StreamSource, open_stream

MS = 1_000_000


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(params=["rtsp", "http"])
def sender(request: pytest.FixtureRequest) -> Iterator[Sender]:
    with RtspSender() if request.param == "rtsp" else HttpSender() as opened:
        yield opened


@pytest.fixture
def http() -> Iterator[HttpSender]:
    with HttpSender() as opened:
        yield opened


@pytest.fixture
def rtsp() -> Iterator[RtspSender]:
    with RtspSender() as opened:
        yield opened


def address(sender: Sender, login: str = "") -> str:
    live = "mjpeg" if isinstance(sender, HttpSender) else "live"
    scheme = "http" if isinstance(sender, HttpSender) else "rtsp"
    return f"{scheme}://{login}{sender.address}/{live}"


def wait_until(true: Callable[[], bool], limit_s: float = 5.0) -> float:
    """Wait, and say for how long."""
    begun_s = time.monotonic()
    while not true():
        assert time.monotonic() < begun_s + limit_s, "waited in vain"
        time.sleep(0.005)
    return time.monotonic() - begun_s


def connections() -> int:
    return sum(thread.name == "veintrack stream" for thread in threading.enumerate())


class Reader(threading.Thread):
    """Reads a source as the pipeline does, and keeps what came."""

    def __init__(self, source: StreamSource | PersistentSource) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self.error: VeintrackError | None = None
        self.ended_s = 0.0
        self._source = source
        self.start()

    def run(self) -> None:
        try:
            for frame in self._source:
                self.frames.append(frame)
        except VeintrackError as error:
            self.error = error
        self.ended_s = time.monotonic()

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.frames) >= count)


def test_a_stream_gives_the_pictures_that_were_sent(sender: Sender) -> None:
    with open_stream(address(sender)) as source:
        reader = Reader(source)
        reader.wait_for(12)
        source.close()
        reader.join()
    frames = reader.frames
    numbers = [number_of(frame.pixels) for frame in frames]
    assert numbers == list(range(numbers[0], numbers[0] + len(frames)))
    assert [frame.index for frame in frames] == list(range(len(frames)))
    for frame, number in zip(frames, numbers, strict=True):
        assert np.abs(frame.pixels.astype(int) - picture(number)).mean() < 12
    info = source.info
    assert (info.kind, info.live, info.shape_px, info.frame_count) == (
        "stream",
        True,
        SHAPE_PX,
        None,
    )
    assert (info.name, source.driver_drops) == (address(sender), 0)


def test_times_are_the_senders_where_it_stamps(rtsp: RtspSender) -> None:
    with open_stream(address(rtsp)) as source:
        reader = Reader(source)
        reader.wait_for(25)
    assert {frame.stamp for frame in reader.frames} == {Stamp.SENDER}
    steps = np.diff([frame.sender_ns or 0 for frame in reader.frames])
    assert steps == pytest.approx(20 * MS)
    steps = np.diff([frame.capture_ns for frame in reader.frames])
    assert np.median(steps) == pytest.approx(20 * MS, abs=MS)
    assert (steps > 0).all()
    assert all(frame.capture_ns <= frame.arrival_ns for frame in reader.frames)
    assert source.info.times_from.startswith("the sender's stamps")
    assert source.info.rate_hz == 50


def test_times_are_those_of_arrival_where_there_are_no_stamps(http: HttpSender) -> None:
    with open_stream(address(http)) as source:
        reader = Reader(source)
        reader.wait_for(5)
    assert {frame.stamp for frame in reader.frames} == {Stamp.ARRIVAL}
    assert all(frame.capture_ns == frame.arrival_ns for frame in reader.frames)
    assert {frame.sender_ns for frame in reader.frames} == {None}
    assert source.info.times_from == "arrival: the stream has no stamps"


def test_what_came_before_anyone_asked_is_old_and_not_lost(sender: Sender) -> None:
    with open_stream(address(sender)) as source:
        time.sleep(0.2)
        asked_ns = time.monotonic_ns()
        frame = next(iter(source))
        assert frame.arrival_ns > asked_ns
        assert (frame.index, source.driver_drops) == (0, 0)


def test_a_slow_reader_gets_the_newest_and_a_count_of_the_others(http: HttpSender) -> None:
    with open_stream(address(http)) as source:
        frames = []
        for frame in source:
            frames.append(frame)
            if len(frames) == 5:
                break
            time.sleep(0.1)
        drops = source.driver_drops
    assert time.monotonic_ns() - frames[-1].arrival_ns < 100 * MS
    numbers = [number_of(frame.pixels) for frame in frames]
    first = frames[0].index, numbers[0]
    assert [(f.index - first[0], n - first[1]) for f, n in zip(frames, numbers, strict=True)] == [
        (f.index, f.index) for f in frames
    ]
    assert frames[-1].index - 4 <= drops <= frames[-1].index  # those behind the last one count too


def test_cut_and_restored_it_is_noticed_reconnected_and_numbered_on(sender: Sender) -> None:
    with PersistentSource(open_stream(address(sender)), 20.0) as source:
        reader = Reader(source)
        reader.wait_for(10)
        sender.cut()
        assert wait_until(lambda: source.state.signal is Signal.LOST) < 1
        last = number_of(reader.frames[-1].pixels)
        before = len(reader.frames)
        time.sleep(0.3)
        assert len(reader.frames) == before
        sender.restore()
        reader.wait_for(before + 8)
        assert source.state.signal is Signal.STREAMING
        assert (source.outages, source.driver_drops) == (1, 0)
        source.close()
        reader.join(1)
    frames = reader.frames
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert all(a.capture_ns < b.capture_ns for a, b in pairwise(frames))
    numbers = [number_of(frame.pixels) for frame in frames]
    assert all(a < b for a, b in pairwise(numbers))  # each was sent, and none came twice
    assert numbers[before] - last > 0.3 * sender.rate_hz
    assert {number for number, _ in sender.sent} >= set(numbers)


def test_a_stall_is_noticed_and_told_from_a_loss(sender: Sender) -> None:
    with PersistentSource(open_stream(address(sender)), 20.0) as source:
        reader = Reader(source)
        reader.wait_for(10)
        sender.stalled = True
        assert wait_until(lambda: source.state.signal is Signal.STALLED) < 1
        assert source.state.reason == f"{address(sender)}: no frame for 0.5 s"
        before = len(reader.frames)
        sender.stalled = False
        reader.wait_for(before + 5)
        source.close()
        reader.join(1)
    assert [frame.index for frame in reader.frames] == list(range(len(reader.frames)))


def test_without_waiting_a_loss_is_raised_with_the_reason(sender: Sender) -> None:
    with open_stream(address(sender)) as source:
        reader = Reader(source)
        reader.wait_for(3)
        sender.cut()
        reader.join(1)
    assert type(reader.error) is SourceLostError
    assert str(reader.error).startswith(f"{address(sender)}: ")
    assert "\n" not in str(reader.error)


@pytest.mark.parametrize("stalled", [False, True])
def test_closing_ends_the_iteration_at_once(sender: Sender, stalled: bool) -> None:
    source = open_stream(address(sender))
    reader = Reader(source)
    reader.wait_for(3)
    sender.stalled = stalled
    time.sleep(0.1)
    begun_s = time.monotonic()
    source.close()
    source.close()
    reader.join(2)
    assert reader.error is None
    assert reader.ended_s - begun_s < 0.2
    if not stalled:
        wait_until(lambda: connections() == 0)


def test_after_a_stall_was_raised_nothing_more_is_counted(sender: Sender) -> None:
    with open_stream(address(sender)) as source:
        reader = Reader(source)
        reader.wait_for(3)
        sender.stalled = True
        reader.join(2)
        assert isinstance(reader.error, SourceStalledError)
        drops = source.driver_drops
        sender.stalled = False
        time.sleep(0.5)
        assert source.driver_drops == drops


def test_reopening_is_given_up_as_soon_as_nobody_waits(sender: Sender) -> None:
    with open_stream(address(sender)) as source:
        sender.stalled = True
        cancelled = threading.Event()
        threading.Timer(0.2, cancelled.set).start()
        begun_s = time.monotonic()
        with pytest.raises(SourceUnreadableError, match="no picture"):
            source.reopen(cancelled.is_set)
        assert time.monotonic() - begun_s < 0.5


def test_another_picture_size_is_a_loss_that_says_so_and_is_then_taken_over(
    rtsp: RtspSender, caplog: pytest.LogCaptureFixture
) -> None:
    with PersistentSource(open_stream(address(rtsp)), 20.0) as source:
        reader = Reader(source)
        reader.wait_for(3)
        rtsp.shape_px = (144, 192)
        wait_until(lambda: reader.frames[-1].pixels.shape == (144, 192))
        source.close()
        reader.join(1)
    assert f"{address(rtsp)} changed its picture to 192x144" in caplog.text
    # The picture that told of it is a gap, and counted.
    steps = [b.index - a.index for a, b in pairwise(reader.frames)]
    assert (sum(steps) - len(steps), source.driver_drops) == (1, 1)


def test_damaged_pictures_are_left_out_and_counted(http: HttpSender) -> None:
    with open_stream(address(http)) as source:
        reader = Reader(source)
        reader.wait_for(2)
        newest = http.sent[-1][0]
        http.damage = {newest + 3, newest + 4}
        reader.wait_for(12)
        drops = source.driver_drops
    numbers = [number_of(frame.pixels) for frame in reader.frames]
    assert not http.damage & set(numbers)
    assert drops == 2
    assert [frame.index for frame in reader.frames] == [n - numbers[0] for n in numbers]


def test_what_is_built_on_a_damaged_picture_is_left_out_too(rtsp: RtspSender) -> None:
    with open_stream(address(rtsp)) as source:
        reader = Reader(source)
        reader.wait_for(2)
        lost = rtsp.sent[-1][0] + 3
        rtsp.damage = set(range(lost, lost + 6))
        wait_until(lambda: source.driver_drops >= 6)
        reader.wait_for(12)
        drops = source.driver_drops
    numbers = [number_of(frame.pixels) for frame in reader.frames]
    for frame, number in zip(reader.frames, numbers, strict=True):
        assert np.abs(frame.pixels.astype(int) - picture(number)).mean() < 12
    gap = max(b - a for a, b in pairwise(numbers))
    assert drops >= gap - 1 >= 6


def test_a_file_from_a_server_is_read_whole_with_its_own_stamps(
    http: HttpSender, tmp_path: Path
) -> None:
    times = [0, 10, 50, 60, 200, 210, 400, 401, 480, 520]
    http.files["/scan.mp4"] = encode(tmp_path / "a.mp4", times_ms=times).read_bytes()
    with open_source(f"http://{http.address}/scan.mp4") as source:
        frames = []
        for frame in source:
            frames.append(frame)
            time.sleep(0.01)  # slow: nothing may be dropped
    assert [frame.index for frame in frames] == list(range(10))
    assert [frame.capture_ns / MS for frame in frames] == pytest.approx(times, abs=0.01)
    assert {frame.stamp for frame in frames} == {Stamp.FILE}
    info = source.info
    assert (info.kind, info.live, info.frame_count) == ("stream", False, 10)
    assert info.times_from == "the file's own stamps, from its first frame"


def test_closing_a_file_ends_its_connection(http: HttpSender, tmp_path: Path) -> None:
    long = encode(tmp_path / "a.mp4", levels=[i % 200 for i in range(100)])
    http.files["/scan.mp4"] = long.read_bytes()
    source = open_source(f"http://{http.address}/scan.mp4")
    assert next(iter(source)).index == 0
    source.close()
    wait_until(lambda: connections() == 0)


def test_a_password_is_sent_and_never_shown(
    sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    sender.password = "s3cret"
    caplog.set_level("DEBUG")
    with PersistentSource(open_stream(address(sender, "user:s3cret@")), 20.0) as source:
        reader = Reader(source)
        reader.wait_for(3)
        sender.cut()
        wait_until(lambda: source.state.signal is Signal.LOST)
        time.sleep(0.15)
    reader.join(1)
    assert source.info.name == address(sender, "***@")
    assert "s3cret" not in caplog.text + repr(source.info) + source.state.reason
    sender.restore()
    with pytest.raises(SourceUnreadableError) as caught:
        open_stream(address(sender, "user:wr0ng@"))
    shown = address(sender, "***@")
    assert str(caught.value) == (
        f"{shown}: user name or password missing or wrong: scheme://user:password@host"
    )
    assert caught.value.__context__ is None  # FFmpeg's error holds the whole address


def test_a_redirection_to_another_page_is_followed(http: HttpSender) -> None:
    http.answers["/live"] = b"HTTP/1.1 302 Found\r\nLocation: /mjpeg\r\n\r\n"
    with open_stream(f"http://{http.address}/live") as source:
        assert number_of(next(iter(source)).pixels) > 0


def test_a_sender_that_knows_no_tcp_is_read_through_udp(rtsp: RtspSender) -> None:
    rtsp.udp = True
    with open_stream(address(rtsp)) as source:
        reader = Reader(source)
        reader.wait_for(10)
    numbers = [number_of(frame.pixels) for frame in reader.frames]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_silent_server_is_given_up_in_time(
    http: HttpSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veintrack.tracker.sources.stream._OPEN_LIMIT_S", 0.2)
    begun_s = time.monotonic()
    with pytest.raises(SourceUnreadableError, match="no picture within 0.2 s"):
        open_stream(f"http://{http.address}/silent")
    assert time.monotonic() - begun_s < 1
    wait_until(lambda: connections() == 0)
