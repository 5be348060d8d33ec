"""What the doctor finds of how steadily capture devices deliver."""

import threading
from pathlib import Path

import pytest

from tests.tracker.machine_scene import (
    FakeDevice,
    cheap_grabber,
    checks,
    pace,
    plain_machine,
    plug,
    usb_2,
)
from veintrack.errors import SourceUnreadableError
from veintrack.tracker import health_capture
from veintrack.tracker.health import BROKEN, Places
from veintrack.tracker.health_pace import Pace
from veintrack.tracker.sources import v4l2_abi as abi


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return plain_machine(tmp_path / "root")


def test_a_pace_is_measured_only_where_pictures_come_from(places: Places) -> None:
    asked: list[str] = []

    def measure(path: str) -> Pace:
        asked.append(path)
        return pace()

    found = checks(usb_2(places), cheap_grabber(), measure=measure)
    assert asked == [f"{places.root}/dev/video0"]
    assert found["video0 pace"].detail == (
        "30.00 Hz over 61 frames (the driver says 30), one every 33.3 ms, "
        "99 % within 0.8 ms of it, none lost, 12.0 ms old when read (at most 19.0)"
    )
    assert found["video0 pace"].mend == ""
    meta = checks(places, FakeDevice(can=abi.CAP_META_CAPTURE), measure=measure)
    assert len(asked) == 1
    assert "video0 pace" not in meta


def test_a_driver_that_stamps_what_is_still_to_come_is_told(places: Places) -> None:
    ahead = pace(age_ms=-34.3, oldest_ms=-33.2)
    found = checks(usb_2(places), cheap_grabber(), measure=lambda _: ahead)
    assert "stamped 34.3 ms ahead" in found["video0 pace"].detail


def test_a_device_that_nobody_feeds_has_no_mode(places: Places) -> None:
    found = checks(plug(places, "video0"), FakeDevice())
    assert list(found) == ["video0", "video0 mode"]
    assert found["video0 mode"].detail == "it offers no format: does anything feed it?"


def test_a_camera_that_slows_down_in_the_dark_is_told(places: Places) -> None:
    dark = pace(rate_hz=15.0, lost=3, age_ms=None, oldest_ms=None)
    found = checks(usb_2(places), cheap_grabber(), measure=lambda _: dark)
    assert found["video0 pace"].detail.endswith("of it, 3 lost")
    assert "exposure_dynamic_framerate=0" in found["video0 pace"].mend
    as_said = pace(rate_hz=5.0, said_hz=5.0)
    for device, measured in ((cheap_grabber(driver="vivid"), dark), (cheap_grabber(), as_said)):
        other = checks(places, device, measure=lambda _, measured=measured: measured)
        assert other["video0 pace"].mend == ""


def test_a_device_that_delivers_nothing_says_why(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> Pace:
        raise SourceUnreadableError(f"{path}: no picture came within 5 s")

    found = checks(usb_2(places), cheap_grabber(), measure=refuse)
    assert found["video0 pace"].state == BROKEN
    assert "no picture came within 5 s" in found["video0 pace"].detail
    monkeypatch.setattr(health_capture, "_PACE_S", 0.05)
    awake = threading.Event()

    def sleep(_: str) -> Pace:
        awake.wait()
        return pace()

    hung = checks(places, cheap_grabber(), measure=sleep)
    awake.set()
    assert "no answer within 0.05 s" in hung["video0 pace"].detail
