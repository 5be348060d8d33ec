"""How a capture device that was lost comes back: by identity, as it was set. All faked."""

import errno
import threading
from collections.abc import Callable

import numpy as np
import pytest

from tests.tracker.v4l2_fake import MONOTONIC, MS, FakeCard, FakeKernel, grey_card, waits
from veintrack.errors import (
    SourceLostError,
    SourceNotFoundError,
    SourceStalledError,
    SourceUnreadableError,
)
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.persistent import PersistentSource
from veintrack.tracker.sources.v4l2 import V4l2Source, open_v4l2
from veintrack.tracker.sources.v4l2_modes import Mode

BY_ID = "/dev/v4l/by-id/usb-scan-index0"


def unplugged(name: str, kernel: FakeKernel) -> Callable[[], V4l2Source]:
    """Open a source, lose it, and give what opens it again."""
    source = open_v4l2(name, kernel=kernel)
    card = kernel.cards[kernel.resolve(source.identity.path)]
    card.gone = True
    with pytest.raises(SourceLostError):
        list(source)
    card.gone = False
    for sequence in range(3):
        card.add(sequence)
    return lambda: source.reopen(waits)


def test_two_cards_that_swap_their_numbers_are_not_confused() -> None:
    own, other = grey_card([]), grey_card([])
    own.bus, other.bus = "usb-1.2", "usb-1.3"
    kernel = FakeKernel({"/dev/video0": own, "/dev/video1": other})
    source = open_v4l2("0", kernel=kernel)
    own.gone = True
    with pytest.raises(SourceLostError):
        list(source)
    own.gone = False
    own.add(0)
    kernel.cards = {"/dev/video0": other, "/dev/video1": own}
    with source.reopen(waits) as again:
        assert (again.identity.path, again.identity.bus) == ("/dev/video1", "usb-1.2")
        assert (again.info.name, own.is_open, other.is_open) == ("0", True, False)


def test_another_card_in_the_old_place_is_not_taken() -> None:
    kernel = FakeKernel({"/dev/video0": grey_card([])})
    reopen = unplugged("0", kernel)
    kernel.cards["/dev/video0"].card = "Web Camera"
    with pytest.raises(
        SourceNotFoundError,
        match=r"Scan Converter \(usb-1.2\) is not there; there is /dev/video0 Web Camera",
    ):
        reopen()
    assert not kernel.cards["/dev/video0"].is_open


def test_a_card_that_changes_between_looking_and_opening_is_not_taken() -> None:
    own, other = grey_card([]), grey_card([0])
    kernel = FakeKernel({"/dev/video0": own})
    reopen = unplugged("0", kernel)
    other.bus = "usb-7"
    closing = own.close

    def swap() -> None:
        closing()
        kernel.cards["/dev/video0"] = other

    own.close = swap  # type: ignore[method-assign]
    with pytest.raises(SourceNotFoundError, match=r"is not there; /dev/video0 is .*usb-7"):
        reopen()
    assert not other.is_open
    assert abi.VIDIOC_S_FMT not in other.requests


def test_a_link_is_followed_to_wherever_the_card_is_now() -> None:
    own = grey_card([])
    kernel = FakeKernel({"/dev/video0": own}, {BY_ID: "/dev/video0"})
    reopen = unplugged(BY_ID, kernel)
    own.bus = "usb-4.1"  # another socket
    kernel.cards = {"/dev/video5": own}
    kernel.links[BY_ID] = "/dev/video5"
    with reopen() as again:
        assert again.identity.path == "/dev/video5"


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.EACCES, "permission denied; run `sudo usermod"), (errno.EBUSY, "in use by another")],
)
def test_a_card_that_may_not_be_opened_again_says_why(code: int, message: str) -> None:
    kernel = FakeKernel(grey_card([]))
    reopen = unplugged("3", kernel)
    kernel.cards["/dev/video3"].open_error = code
    with pytest.raises(SourceUnreadableError, match=f"/dev/video3.*{message}"):
        reopen()


def test_reopening_ends_soon_when_nobody_waits_any_more() -> None:
    card = grey_card([])
    kernel = FakeKernel(card)
    source = open_v4l2("3", kernel=kernel)
    with pytest.raises(SourceStalledError):
        list(source)
    looks: list[int] = []

    def cancelled() -> bool:
        looks.append(card.now_ns)
        return len(looks) > 3

    with pytest.raises(SourceUnreadableError, match="nobody waits for a picture any more"):
        source.reopen(cancelled)
    assert max(np.diff(looks)) <= 100 * MS
    assert not card.is_open


def test_a_persistent_source_goes_on_with_the_card_that_came_back() -> None:
    card = grey_card([1, 2])
    kernel = FakeKernel(card)

    def come_back() -> None:
        card.gone = False
        card.add(0)
        card.add(1)
        card.on_empty = lambda: None

    def vanish() -> None:
        card.gone, card.on_empty = True, lambda: None
        threading.Timer(0.05, come_back).start()

    card.on_empty = vanish
    with PersistentSource(open_v4l2("3", kernel=kernel), 5.0) as source:
        frames = iter(source)
        assert [next(frames).index for _ in range(3)] == [0, 1, 2]
        assert source.outages == 1
    assert not card.is_open


@pytest.mark.parametrize("flags", [MONOTONIC, MONOTONIC | abi.BUF_FLAG_ERROR])
def test_what_came_just_before_the_loss_and_nobody_got_is_counted(flags: int) -> None:
    card = grey_card([1])
    card.add(2, flags=MONOTONIC | abi.BUF_FLAG_ERROR)
    card.add(5, flags=flags)
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        frames = iter(source)
        assert next(frames).index == 0
        give_back = source._device.give_back

        def unplugged_now(buffer: abi.Buffer) -> None:
            if buffer.sequence == 5:
                card.gone = True
            give_back(buffer)

        source._device.give_back = unplugged_now  # type: ignore[method-assign]
        with pytest.raises(SourceLostError, match="unplugged"):
            next(frames)
        assert source.driver_drops == 4  # of 1 to 5, one was delivered


def test_a_picture_that_an_error_still_holds_does_not_keep_the_device_open() -> None:
    card = grey_card([1])
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        held = np.frombuffer(card.memories.pop(), np.uint8)
        source.close()
    assert not card.is_open
    assert held.size


def test_a_card_that_is_back_is_set_to_what_it_was() -> None:
    offered = tuple(Mode("GREY", w, h, 25.0) for w, h in ((8, 4), (16, 8)))
    card = FakeCard(formats=("GREY",), modes=offered, size_px=(16, 8))
    card.add(1, bytes(128))
    with open_v4l2("3", kernel=FakeKernel(card)) as source:
        assert source.info.shape_px == (8, 16)
        source.close()
        card.size_px = (8, 4)  # plugged in again, it begins with its default
        card.add(0, bytes(128))
        with source.reopen(waits) as again:
            assert again.info.shape_px == (8, 16)
