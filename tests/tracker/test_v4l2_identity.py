"""Which capture devices there are, and which is the one from before."""

import errno
from dataclasses import replace

import pytest

from tests.tracker.v4l2_fake import FakeCard, FakeKernel, grey_card
from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.v4l2 import open_v4l2
from veintrack.tracker.sources.v4l2_identity import (
    CaptureDevice,
    find_again,
    is_same,
    list_devices,
    without_shared_serial,
)

BY_ID = "/dev/v4l/by-id/usb-scan_0815-video-index0"
BY_PATH = "/dev/v4l/by-path/pci-0000:00:14.0-usb-0:2:1.0-video-index0"
CARD = CaptureDevice("/dev/video0", "Scan", "uvcvideo", "usb-2", "0815", "1.0/0")


def sysfs(name: str, serial: str = "", index: int = 0) -> dict[str, str]:
    place = f"/sys/class/video4linux/{name}"
    return {f"{place}/device/../serial": serial, f"{place}/index": str(index)}


def test_every_node_is_listed_with_what_is_known_of_it() -> None:
    metadata = FakeCard(device_caps=abi.CAP_META_CAPTURE)
    kernel = FakeKernel(
        {
            "/dev/video10": FakeCard(open_error=errno.EACCES),
            "/dev/video2": metadata,
            "/dev/video0": FakeCard(),
        },
        {
            "/dev/video-of-mine": "/dev/video0",
            BY_ID: "/dev/video0",
            BY_PATH: "/dev/video0",
            "/sys/class/video4linux/video0/device": "/sys/devices/usb1/1-2/1-2:1.0",
        },
        {**sysfs("video0", "0815"), **sysfs("video2", "0815", 1), **sysfs("video10", "4711")},
    )
    first, second, third = list_devices(kernel)
    assert first == CaptureDevice(
        "/dev/video0", "Scan Converter", "fake", "usb-1.2", "0815", "1.0/0", (BY_ID, BY_PATH)
    )
    assert first.can_capture
    assert str(first) == "Scan Converter (usb-1.2)"
    assert (second.node, second.can_capture) == ("/1", False)
    assert second.fault.startswith("/dev/video2 (Scan Converter) carries metadata only")
    assert (third.path, third.card, third.serial) == ("/dev/video10", "", "4711")
    assert "permission denied" in third.fault
    assert not any(card.is_open for card in kernel.cards.values())


def test_a_machine_without_devices_lists_none() -> None:
    assert list_devices(FakeKernel({})) == ()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"path": "/dev/video4"}, True),
        ({"bus": "usb-3"}, True),  # the serial number tells
        ({"serial": "4711"}, False),
        ({"serial": ""}, False),
        ({"card": "Web"}, False),
        ({"driver": "vivid"}, False),
        ({"node": "1.0/1"}, False),
    ],
)
def test_a_card_is_known_by_its_serial_number(change: dict[str, str], same: bool) -> None:
    assert is_same(CARD, replace(CARD, **change)) is same  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "found", "name", "same"),
    [
        ({}, {"path": "/dev/video4"}, "0", True),
        ({}, {"bus": "usb-3"}, "0", False),
        ({}, {"bus": "usb-3", "links": (BY_ID,)}, BY_ID, True),
        ({}, {"bus": "usb-3", "links": (BY_PATH,)}, BY_PATH, False),
        ({}, {"bus": "usb-3"}, BY_ID, False),
        ({}, {"bus": "usb-3", "links": (BY_ID,), "card": "Web"}, BY_ID, False),
        ({"bus": ""}, {"bus": ""}, "0", True),
        ({"bus": ""}, {"bus": "", "path": "/dev/video4"}, "0", False),
    ],
)
def test_a_card_without_a_serial_number_is_known_by_its_place(
    known: dict[str, str], found: dict[str, str], name: str, same: bool
) -> None:
    before = replace(CARD, serial="", **known)  # type: ignore[arg-type]
    assert is_same(before, replace(CARD, serial="", **found), name) is same  # type: ignore[arg-type]


def two_of_a_kind() -> FakeKernel:
    """Two cards of the same serial number."""
    own, twin = grey_card([]), grey_card([])
    own.bus, twin.bus = "usb-1", "usb-2"
    files = {**sysfs("video0", "123"), **sysfs("video1", "123")}
    return FakeKernel({"/dev/video0": own, "/dev/video1": twin}, files=files)


def test_a_serial_number_that_two_cards_share_tells_nothing() -> None:
    kernel = two_of_a_kind()
    own, twin = list_devices(kernel)
    assert own.serial == "123"
    known = without_shared_serial(own, kernel)
    assert known.serial == ""
    del kernel.cards["/dev/video0"]
    with pytest.raises(SourceNotFoundError, match=r"\(usb-1\) is not there; there is /dev/video1"):
        find_again(known, "0", kernel)
    assert without_shared_serial(twin, kernel).serial == "123"


def test_of_cards_that_may_be_it_the_one_in_the_old_place_is_taken() -> None:
    kernel = two_of_a_kind()
    _, twin = list_devices(kernel)
    assert find_again(twin, "0", kernel) == "/dev/video1"
    with pytest.raises(SourceNotFoundError, match="is not there"):
        find_again(replace(twin, bus="usb-9"), "0", kernel)


def test_a_card_that_cannot_be_opened_may_be_it() -> None:
    kernel = two_of_a_kind()
    known = list_devices(kernel)[0]
    kernel.cards["/dev/video1"].open_error = kernel.cards["/dev/video0"].open_error = errno.EACCES
    with pytest.raises(SourceUnreadableError, match="/dev/video0: permission denied"):
        find_again(known, "0", kernel)
    with pytest.raises(SourceNotFoundError, match="there is no device"):
        find_again(replace(known, path="/dev/video7", serial="4711"), "7", kernel)


def test_a_source_knows_its_card() -> None:
    kernel = FakeKernel({"/dev/video0": grey_card([])}, {BY_ID: "/dev/video0"})
    with open_v4l2(BY_ID, kernel=kernel) as source:
        assert (source.identity.path, source.identity.links) == ("/dev/video0", (BY_ID,))


def test_a_node_that_vanishes_while_it_is_looked_at_is_not_there() -> None:
    kernel = FakeKernel({"/dev/video0": grey_card([]), "/dev/video1": grey_card([])})
    opening = kernel.open

    def open_too_late(path: str) -> int:
        kernel.cards.pop("/dev/video1", None)
        return opening(path)

    kernel.open = open_too_late  # type: ignore[method-assign]
    assert [device.path for device in list_devices(kernel)] == ["/dev/video0"]
