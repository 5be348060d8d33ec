"""Frames of the capture reader: times, numbers, counts, modes. The driver is a fake."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from tests.tracker.v4l2_fake import (
    MONOTONIC,
    MS,
    START,
    FakeCard,
    FakeKernel,
    grey_card,
    take,
)
from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import Frame, Stamp
from veintrack.tracker.mailbox import Mailbox
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.v4l2 import open_v4l2
from veintrack.tracker.sources.v4l2_modes import Mode

MODES = (
    Mode("YUYV", 16, 8, 30.0),
    Mode("YUYV", 8, 4, 30.0),
    Mode("GREY", 8, 4, 50.0),
    Mode("GREY", 8, 4, 25.0),
)


def test_frames_come_with_the_kernels_stamp_and_sequence() -> None:
    card = grey_card([1, 2, 3])
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = take(source, 3)
        info = source.info
        assert (source.identity.card, source.identity.bus) == ("Scan Converter", "usb-1.2")
    assert [f.driver_sequence for f in frames] == [1, 2, 3]
    assert [f.index for f in frames] == [0, 1, 2]
    assert [f.capture_ns for f in frames] == [995 * MS + 40 * MS * n for n in (2, 3, 4)]
    assert [f.arrival_ns for f in frames] == [1000 * MS + 40 * MS * n for n in (2, 3, 4)]
    assert_array_equal(frames[0].pixels, np.arange(32).reshape(4, 8))
    assert all(f.pixels.flags.owndata for f in frames)
    assert (info.name, info.kind, info.live) == ("3", "v4l2", True)
    assert (info.shape_px, info.rate_hz) == ((4, 8), 25.0)
    assert info.notes == (
        "Scan Converter (usb-1.2)",
        "mode 8x4@25:GREY, the only one",
        "GREY pictures",
    )
    assert not card.is_open


@pytest.mark.parametrize(
    ("flags", "stamp", "words"),
    [
        (MONOTONIC, Stamp.FRAME_END, "the kernel's stamps (monotonic clock, end of frame)"),
        (START, Stamp.EXPOSURE_START, "the kernel's stamps (monotonic clock, start of exposure)"),
        (0, Stamp.ARRIVAL, "arrival: the driver does not say which clock its stamps are of"),
        (0x4000, Stamp.ARRIVAL, "arrival: the driver does not say which clock its stamps are of"),
    ],
)
def test_each_frame_says_what_its_stamp_is_the_time_of(
    flags: int, stamp: Stamp, words: str
) -> None:
    card = FakeCard(formats=("GREY",))
    for sequence in range(3):
        card.add(sequence, flags=flags)
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = take(source, 2)
    assert {f.stamp for f in frames} == {stamp}
    late_ns = 0 if stamp is Stamp.ARRIVAL else 5 * MS
    assert [f.arrival_ns - f.capture_ns for f in frames] == [late_ns] * 2
    assert source.info.times_from == words


def test_a_stamp_in_the_future_stays_as_the_kernel_gave_it() -> None:
    card = grey_card([1, 2])
    card.stamp_offset_ns = 30 * MS
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        assert [f.capture_ns - f.arrival_ns for f in take(source, 2)] == [30 * MS] * 2


def test_times_always_grow() -> None:
    card = grey_card([1, 2])
    card.shots[2].at_ns = card.shots[1].at_ns
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        first, second = take(source, 2)
    assert second.capture_ns == first.capture_ns + 1


def test_frames_that_the_driver_lost_are_counted_and_leave_a_gap() -> None:
    with open_v4l2("3", kernel=FakeKernel(grey_card([1, 2, 5, 6]))) as source:
        assert [f.index for f in take(source, 4)] == [0, 1, 4, 5]
        assert source.driver_drops == 2


@given(
    start=st.integers(0, 2**32 - 1),
    shots=st.lists(st.tuples(st.integers(1, 10), st.booleans()), min_size=1, max_size=20),
)
def test_every_number_of_the_driver_is_a_frame_a_loss_or_damage(
    start: int, shots: list[tuple[int, bool]]
) -> None:
    card = FakeCard(formats=("GREY",))
    card.add(start)
    sequence, whole = start, [start]
    card.add(sequence)
    for step, damaged in shots:
        sequence = (sequence + step) % 2**32
        card.add(sequence, flags=MONOTONIC | (abi.BUF_FLAG_ERROR if damaged else 0))
        whole += [] if damaged else [sequence]
    card.add(sequence := (sequence + 1) % 2**32)
    whole.append(sequence)
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = take(source, len(whole))
        assert [f.driver_sequence for f in frames] == whole
        assert [f.index for f in frames] == [(number - start) % 2**32 for number in whole]
        assert len(frames) + source.driver_drops == frames[-1].index + 1
        assert source.damaged == sum(damaged for _, damaged in shots)


def test_the_counter_may_overflow() -> None:
    card = FakeCard(formats=("GREY",))
    for sequence in (2**32 - 2, 2**32 - 1, 1):
        card.add(sequence)
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        assert [f.index for f in take(source, 2)] == [0, 2]
        assert source.driver_drops == 1


def test_a_false_first_sequence_number_is_no_loss() -> None:
    with open_v4l2("3", kernel=FakeKernel(grey_card([57, 58], first=0))) as source:
        assert [f.index for f in take(source, 2)] == [0, 1]
        assert source.driver_drops == 0


def test_a_counter_that_does_not_count_or_restarts_loses_nothing() -> None:
    card = FakeCard(formats=("GREY",))
    for sequence in (0, 7, 7, 0, 1):
        card.add(sequence)
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        assert [f.index for f in take(source, 4)] == [0, 1, 2, 3]
        assert source.driver_drops == 0


def test_damaged_frames_are_left_out_and_counted() -> None:
    card = grey_card([1])
    card.add(2, flags=MONOTONIC | abi.BUF_FLAG_ERROR)
    card.add(3, content=bytes(5))
    card.add(4)
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = take(source, 2)
        assert [(f.driver_sequence, f.index) for f in frames] == [(1, 0), (4, 3)]
        assert (source.driver_drops, source.damaged) == (2, 2)


def test_what_came_between_opening_and_reading_is_neither_given_nor_counted_as_lost() -> None:
    card = grey_card([1, 2, 3])
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        card.now_ns += 10_000 * MS  # the model takes its time to load; three buffers fill
        card.add(250)
        (frame,) = take(source, 1)
        assert (frame.driver_sequence, frame.index, source.driver_drops) == (250, 0, 0)


def test_a_slow_consumer_gets_the_newest_frame_and_every_other_is_counted() -> None:
    mailbox: Mailbox[Frame] = Mailbox(1, newest_only=True)
    taken = []
    with open_v4l2("3", kernel=FakeKernel(grey_card([*range(1, 9), *range(11, 31)]))) as source:
        for frame in source:
            mailbox.put(frame)
            if frame.driver_sequence in (10, 20, 30):  # ten frame times for each; 10 never comes
                taken.append(mailbox.take())
            if frame.driver_sequence == 30:
                break
        assert [frame.driver_sequence for frame in taken if frame] == [20, 30]
        assert (mailbox.dropped, source.driver_drops) == (26, 2)
        assert source.driver_drops + mailbox.dropped + len(taken) == frame.index + 1


def test_the_best_mode_is_taken_and_said() -> None:
    card = FakeCard(modes=MODES[1:], rates=True)
    card.add(0)
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        info = source.info
    assert (card.format, info.shape_px, info.rate_hz) == ("GREY", (4, 8), 25.0)
    assert info.notes[1] == "mode 8x4@25:GREY, the best of 3 modes"


def test_the_mode_that_is_asked_for_is_taken() -> None:
    card = FakeCard(modes=MODES, rates=True)
    card.add(0, bytes(256))
    with open_v4l2("3", mode="16x8@30:YUYV", kernel=FakeKernel(card)) as source:
        info = source.info
    assert (card.format, info.shape_px, info.rate_hz) == ("YUYV", (8, 16), 30.0)
    assert info.notes[1] == "mode 16x8@30:YUYV, as asked for"


def test_a_mode_that_is_not_offered_is_refused_with_those_that_are() -> None:
    card = FakeCard(modes=MODES)
    with pytest.raises(SourceUnreadableError, match=r"/dev/video3 \(Scan Converter\).*8x4@50:GREY"):
        open_v4l2("3", mode="640x480", kernel=FakeKernel(card))
    assert not card.is_open


def test_a_mode_that_is_none_is_refused_before_anything_is_opened() -> None:
    card = FakeCard(modes=MODES)
    with pytest.raises(ValueError, match="mode must be WxH"):
        open_v4l2("3", mode="large", kernel=FakeKernel(card))
    assert card.opened == 0


def test_another_rate_than_asked_for_is_said() -> None:
    card = grey_card([])
    with open_v4l2("3", fps=30.0, kernel=FakeKernel(card)) as source:
        assert source.info.rate_hz == 25.0
        assert source.info.notes[2] == "30 frames a second asked for, the driver set 25"


def test_a_digital_input_is_set_up_for_the_signal_that_is_there() -> None:
    card = grey_card([])
    card.signal_px, card.set_for_px = (8, 4), (4, 4)
    open_v4l2("3", kernel=FakeKernel(card)).close()
    assert card.set_for_px == (8, 4)


def test_the_number_of_a_damaged_frame_that_makes_no_sense_is_not_believed() -> None:
    card = FakeCard(formats=("GREY",))
    for sequence, flags in ((1001, 0), (0, abi.BUF_FLAG_ERROR), (1003, 0)):
        card.add(sequence, flags=MONOTONIC | flags)
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = take(source, 1)
        assert [f.driver_sequence for f in frames] == [1003]
        assert source.driver_drops == source.damaged


@pytest.mark.parametrize("offset_s", [5, -60])
def test_a_stamp_that_cannot_be_is_replaced_by_the_arrival(offset_s: int) -> None:
    card = FakeCard(formats=("GREY",))
    for sequence in range(1, 5):
        card.add(sequence)
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = iter(source)
        first = next(frames)
        card.stamp_offset_ns = offset_s * 10**9
        second = next(frames)
        card.stamp_offset_ns = -5 * MS
        third = next(frames)
    assert first.stamp is third.stamp is not Stamp.ARRIVAL
    assert second.stamp is Stamp.ARRIVAL
    assert second.capture_ns == second.arrival_ns
    assert 0 < third.capture_ns - second.capture_ns < 60 * MS
