"""Every way in which a capture device fails its reader. All faked."""

import errno
import logging
import select
import threading
import time
from typing import Any

import cv2
import numpy as np
import pytest

from tests.tracker.v4l2_fake import MONOTONIC, MS, FakeCard, FakeKernel, grey_card, take, waits
from veintrack.errors import (
    SourceLostError,
    SourceNotFoundError,
    SourceStalledError,
    SourceUnreadableError,
)
from veintrack.tracker.frame import STREAMING
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.v4l2 import open_v4l2


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.EACCES, SourceUnreadableError, r"permission denied; run `sudo usermod -aG video"),
        (errno.EBUSY, SourceUnreadableError, "/dev/video3 is in use by another program"),
        (errno.ENOENT, SourceNotFoundError, "no such device: /dev/video3"),
        (errno.EISDIR, SourceUnreadableError, "/dev/video3 is not a video device"),
        (errno.EMFILE, SourceUnreadableError, "/dev/video3 cannot be read: Too many open files"),
    ],
)
def test_a_refused_opening_says_what_helps(code: int, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        open_v4l2("3", kernel=FakeKernel(FakeCard(open_error=code)))


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (abi.VIDIOC_S_FMT, errno.EBUSY, "is in use by another program"),
        (abi.VIDIOC_REQBUFS, errno.EBUSY, "is in use by another program"),
        (abi.VIDIOC_STREAMON, errno.EBUSY, "is in use by another program"),
        (abi.VIDIOC_STREAMON, errno.ENOSPC, "the USB link has no room for these pictures"),
        (abi.VIDIOC_QUERYCAP, errno.ENOTTY, "/dev/video3 is not a video device"),
        (abi.VIDIOC_QUERYCAP, errno.EINVAL, "/dev/video3 is not a video device"),
    ],
)
def test_a_device_that_refuses_is_closed_again(request_: int, code: int, message: str) -> None:
    card = FakeCard(fail={request_: code})
    with pytest.raises(SourceUnreadableError, match=message):
        open_v4l2("3", kernel=FakeKernel(card))
    assert not card.is_open


@pytest.mark.parametrize(
    ("caps", "message"),
    [
        (abi.CAP_META_CAPTURE | abi.CAP_STREAMING, "carries metadata only; its pictures come from"),
        (abi.CAP_VIDEO_CAPTURE_MPLANE | abi.CAP_STREAMING, "multi-planar pictures, which are not"),
        (abi.CAP_STREAMING, "does not capture"),
        (abi.CAP_VIDEO_CAPTURE, "cannot stream into mapped buffers"),
    ],
)
def test_a_node_without_pictures_says_so(caps: int, message: str) -> None:
    with pytest.raises(SourceUnreadableError, match=rf"/dev/video3 \(Scan Converter\) .*{message}"):
        open_v4l2("3", kernel=FakeKernel(FakeCard(device_caps=caps)))


def test_a_device_without_a_readable_format_lists_what_it_offers() -> None:
    with pytest.raises(SourceUnreadableError, match="offers H264, S561; readable are GREY"):
        open_v4l2("3", kernel=FakeKernel(FakeCard(formats=("H264", "S561"))))


@pytest.mark.parametrize(
    ("status", "why"),
    [(0, "is its input connected and switched on"), (abi.INPUT_NO_SIGNAL, "no signal at the")],
)
def test_a_device_that_delivers_nothing_is_not_opened(status: int, why: str) -> None:
    card = FakeCard(input_status=status)
    with pytest.raises(SourceUnreadableError, match=rf"no picture came within 5 s: {why}"):
        open_v4l2("3", kernel=FakeKernel(card))
    assert not card.is_open


def test_a_stall_ends_the_source_after_half_a_second() -> None:
    card = grey_card([1])
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = iter(source)
        next(frames)
        before_ns = card.now_ns
        with pytest.raises(SourceStalledError, match=r"/dev/video3: no frame for 0\.5 s"):
            next(frames)
    assert card.now_ns - before_ns == pytest.approx(500 * MS, abs=100 * MS)
    assert not card.is_open


def test_two_lost_frames_of_a_slow_source_are_a_gap_and_three_a_stall() -> None:
    card = FakeCard(formats=("GREY",), period=(1, 5))
    card.add(0)
    card.add(1)
    card.add(4, after_ms=610)  # a little late, too
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = iter(source)
        assert [next(frames).index for _ in range(2)] == [0, 3]
        assert source.driver_drops == 2
        with pytest.raises(SourceStalledError, match=r"no frame for 0\.7 s"):
            next(frames)


def test_frames_that_wait_for_a_process_that_was_stopped_are_no_stall() -> None:
    card = grey_card([1, 2, 3])
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = iter(source)
        next(frames)
        card.now_ns += 60_000 * MS
        assert [next(frames).index for _ in range(2)] == [1, 2]


def test_the_time_for_which_a_process_was_stopped_is_no_waiting() -> None:
    card = grey_card([1])
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = iter(source)
        next(frames)

        def stopped() -> None:
            card.now_ns += 60_000 * MS
            card.on_empty = lambda: None
            card.add(2, after_ms=300)

        card.on_empty = stopped
        assert next(frames).index == 1


def test_a_source_that_was_lost_ends_when_it_is_read_again() -> None:
    card = grey_card([])
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        card.gone = True
        with pytest.raises(SourceLostError):
            list(source)
        assert list(source) == []


def test_nothing_but_damaged_frames_is_a_stall() -> None:
    card = grey_card([1])
    for sequence in range(2, 40):
        card.add(sequence, flags=MONOTONIC | abi.BUF_FLAG_ERROR)
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        with pytest.raises(SourceStalledError, match=r"nothing but damaged frames for 0\.5 s"):
            take(source, 2)
        assert source.damaged == 13


def test_unplugging_ends_the_source_at_once_and_closes_the_device() -> None:
    card = grey_card([1])
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = iter(source)
        next(frames)
        card.gone = True
        before_ns = card.now_ns
        with pytest.raises(SourceLostError, match="/dev/video3: the device was unplugged"):
            next(frames)
        assert card.now_ns == before_ns
        assert not card.is_open


def test_a_failing_device_ends_the_source_instead_of_spinning() -> None:
    card = grey_card([1])
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        card.fail[abi.VIDIOC_DQBUF] = errno.EIO
        with pytest.raises(SourceLostError, match="the device failed"):
            next(iter(source))
    assert not card.is_open


def test_a_device_that_reports_an_error_and_has_no_frame_ends_the_source() -> None:
    card = grey_card([1])
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        card.fail[abi.VIDIOC_DQBUF] = errno.EAGAIN
        card.poll = lambda *_: select.POLLERR  # type: ignore[method-assign]
        with pytest.raises(SourceLostError, match="the device failed"):
            next(iter(source))
    assert not card.is_open


def test_another_signal_at_the_input_ends_the_source_and_reopening_takes_it() -> None:
    card = grey_card([1, 2])
    card.signal_px, card.has_events = (8, 4), True
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = iter(source)
        next(frames)
        card.signal_px, card.events = (6, 5), 2
        before_ns = card.now_ns
        with pytest.raises(SourceLostError, match="the device changed its picture to 6x5"):
            next(frames)
        assert card.now_ns == before_ns
        assert not card.is_open
        card.add(0, bytes(30))
        card.size_px = (6, 5)
        with source.reopen(waits) as again:
            assert again.info.shape_px == (5, 6)
    assert card.set_for_px == (6, 5)


def test_an_input_that_cannot_be_set_up_for_its_signal_is_not_lost_again_and_again() -> None:
    card = grey_card([1])
    card.signal_px, card.set_for_px = (6, 5), (8, 4)
    card.fail[abi.VIDIOC_S_DV_TIMINGS] = errno.EINVAL
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        assert len(take(source, 1)) == 1


def test_another_picture_without_an_event_is_noticed_by_its_buffers() -> None:
    card = grey_card([1])
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = iter(source)
        next(frames)
        card.add(2, bytes(24))
        card.size_px = (6, 4)
        with pytest.raises(SourceLostError, match="the device changed its picture to 6x4"):
            next(frames)


def test_compressed_pictures_of_another_size_are_damaged() -> None:
    def jpeg(width: int) -> bytes:
        return cv2.imencode(".jpg", np.full((4, width), 90, np.uint8))[1].tobytes()

    card = FakeCard(formats=("MJPG",), row_padding=500)
    for sequence, content in enumerate((jpeg(8), jpeg(8), jpeg(16), b"no picture", jpeg(8))):
        card.add(sequence, content)
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        assert [f.driver_sequence for f in take(source, 2)] == [1, 4]
        assert source.damaged == 2


@pytest.mark.parametrize(
    ("lose", "why"),
    [
        ({"signal_error": errno.ENOLINK}, "no signal at the input"),
        ({"signal_error": errno.ENOLCK}, "the signal at the input is unstable"),
        ({"signal_error": errno.ERANGE}, "the signal at the input is one that the device cannot"),
        ({"signal_px": None, "input_status": abi.INPUT_NO_SIGNAL}, "no signal at the input"),
        ({"signal_px": None, "input_status": abi.INPUT_NO_POWER}, "is switched off"),
    ],
)
def test_a_lost_signal_is_told_though_frames_keep_coming(
    lose: dict[str, int], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    card = grey_card(list(range(1, 80)))
    card.signal_px = (8, 4)
    with open_v4l2("3", kernel=FakeKernel(card)) as source, caplog.at_level(logging.WARNING):
        take(source, 1)
        assert source.no_signal == ""
        for name, value in lose.items():
            setattr(card, name, value)
        take(source, 26)
        assert why in source.no_signal
        assert source.state is STREAMING
        card.signal_px, card.signal_error, card.input_status = (8, 4), 0, 0
        take(source, 26)
        assert source.no_signal == ""
    assert [record.getMessage().count(why) for record in caplog.records] == [1, 0]
    assert "the signal is back" in caplog.text


def test_what_is_at_the_input_is_asked_once_a_second() -> None:
    card = grey_card(list(range(1, 101)))
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        before = card.requests.count(abi.VIDIOC_QUERY_DV_TIMINGS)
        take(source, 100)
        assert card.requests.count(abi.VIDIOC_QUERY_DV_TIMINGS) - before in (3, 4)


def test_priority_and_controls_are_left_alone() -> None:
    card = grey_card([1])
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        take(source, 1)
    changing = {abi.VIDIOC_S_FMT, abi.VIDIOC_S_PARM, abi.VIDIOC_S_DV_TIMINGS}
    numbers = {request & 0xFF for request in card.requests if request not in changing}
    assert not numbers & {28, 68, 72}  # VIDIOC_S_CTRL, S_PRIORITY, S_EXT_CTRLS


def test_closing_while_a_frame_is_awaited_ends_the_iteration() -> None:
    waiting = threading.Event()
    card = grey_card([1])
    source = open_v4l2("3", kernel=FakeKernel(card))

    def close_then() -> None:
        waiting.wait(5)
        source.close()

    closer = threading.Thread(target=close_then)

    def someone_waits() -> None:
        card.now_ns -= 100 * MS  # time stands still, so that only close() can end it
        waiting.set()

    card.on_empty = someone_waits
    closer.start()
    assert len(list(source)) == 1
    closer.join(5)
    assert not card.is_open
    source.close()


@pytest.mark.parametrize("request_", [abi.VIDIOC_DQBUF, abi.VIDIOC_STREAMOFF])
def test_closing_does_not_wait_for_a_call_that_hangs_in_the_kernel(request_: int) -> None:
    inside, over = threading.Event(), threading.Event()
    card = grey_card([1, 2])
    answering = card.ioctl

    def wedged(request: int, argument: Any) -> None:
        if request == request_:
            inside.set()
            over.wait(5)
            assert not any(memory.closed for memory in card.memories)
        answering(request, argument)

    source = open_v4l2("3", kernel=FakeKernel(card))
    card.ioctl = wedged  # type: ignore[method-assign]
    reader = threading.Thread(target=lambda: list(source))
    if request_ == abi.VIDIOC_DQBUF:
        reader.start()
        inside.wait(5)
    before_s = time.monotonic()
    source.close()
    assert time.monotonic() - before_s < 1
    assert card.is_open
    over.set()
    if request_ == abi.VIDIOC_DQBUF:
        reader.join(5)
        assert not reader.is_alive()
    end_s = time.monotonic() + 5
    while card.is_open and time.monotonic() < end_s:
        time.sleep(0.01)
    assert not card.is_open
