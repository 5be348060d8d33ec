"""What the doctor finds of capture devices: what they deliver, and what is in the way."""

import errno
import json
import os
import threading
from dataclasses import replace
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
    write,
)
from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker import health_capture
from veintrack.tracker.cli import doctor as command
from veintrack.tracker.cli.app import run
from veintrack.tracker.health import BROKEN, MISSING, NOT_NEEDED, OK, Check, Places
from veintrack.tracker.health_capture import answer_within, capture_checks, check_device, holders
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.v4l2_link import usb_link


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return plain_machine(tmp_path / "root")


def hold(places: Places, pid: int, name: str, node: str) -> None:
    write(places.root, {f"proc/{pid}/comm": f"{name}\n"})
    fds = places.root / f"proc/{pid}/fd"
    fds.mkdir()
    (fds / "0").symlink_to("/dev/null")
    (fds / "5").symlink_to(node)
    (fds / "6").symlink_to(node)


# Which there are


def test_without_video_devices_none_is_needed_and_it_says_what_to_check(places: Places) -> None:
    (only,) = capture_checks(places, FakeDevice())
    assert only.state == NOT_NEEDED
    assert "lsusb" in only.mend
    assert "--device /dev/video0" in only.mend


def test_a_container_that_was_given_none_names_those_of_the_machine(places: Places) -> None:
    write(places.root, {".dockerenv": ""})
    for name in ("video10", "video2", "v4l-subdev0"):
        write(places.root, {f"sys/class/video4linux/{name}/name": "Card\n"})
    (only,) = capture_checks(places, FakeDevice())
    assert only.state == MISSING
    assert "has video2, video10, this container none" in only.detail
    assert only.mend.endswith("--device /dev/video2")


def test_a_camera_that_no_driver_serves_is_noticed(places: Places) -> None:
    usb = "sys/bus/usb/devices"
    write(
        places.root,
        {f"{usb}/1-2/product": "Grabber\n", f"{usb}/1-2:1.0/bInterfaceClass": "0e\n"},
    )
    (only,) = capture_checks(places, FakeDevice())
    assert only == Check(
        "video devices",
        MISSING,
        "Grabber is plugged in at USB 1-2, and no driver serves it",
        "sudo modprobe uvcvideo",
    )
    (places.root / usb / "1-2:1.0/driver").mkdir()
    assert next(iter(capture_checks(places, FakeDevice()))).state == NOT_NEEDED


def test_devices_come_by_number_with_driver_place_and_lasting_names(places: Places) -> None:
    plug(places, "video10", "video2")
    by_id = places.root / "dev/v4l/by-id"
    by_id.mkdir(parents=True)
    (by_id / "usb-Card-0").symlink_to("../../video2")
    found = checks(places, FakeDevice({"GREY": [(640, 480)]}, [(1, 30)]))
    assert [name for name in found if " " not in name] == ["video2", "video10"]
    assert found["video2"].detail == (
        f"Card; driver uvcvideo 6.12.43 at usb-1; {by_id / 'usb-Card-0'}"
    )


def test_a_module_that_is_called_otherwise_is_named(places: Places) -> None:
    plug(places, "video0")
    module = places.root / "sys/module/uvc_of_a_maker"
    module.mkdir(parents=True)
    driver = places.root / "sys/class/video4linux/video0/device/driver"
    driver.mkdir(parents=True)
    (driver / "module").symlink_to(module)
    found = checks(places, FakeDevice({"GREY": [(640, 480)]}, [(1, 30)]))
    assert "driver uvcvideo 6.12.43 (module uvc_of_a_maker) at" in found["video0"].detail


@pytest.mark.parametrize("asked", ["2", "/dev/video2", "dev/video2", "/dev/v4l/by-id/usb-Card-0"])
def test_one_device_may_be_looked_at_alone(places: Places, asked: str) -> None:
    plug(places, "video1", "video2")
    by_id = places.root / "dev/v4l/by-id"
    by_id.mkdir(parents=True)
    (by_id / "usb-Card-0").symlink_to("../../video2")
    found = checks(places, FakeDevice({"GREY": [(640, 480)]}, [(1, 30)]), only=asked)
    assert [name for name in found if " " not in name] == ["video2"]


@pytest.mark.parametrize("asked", ["7", "/dev/video7", "/dev/v4l/by-id/usb-Gone-0", "a" * 300])
def test_a_device_that_is_not_there_names_those_that_are(places: Places, asked: str) -> None:
    with pytest.raises(SourceNotFoundError) as caught:
        check_device(places, asked)
    assert str(caught.value) == f"no such device: {asked} (video devices here: none)"
    plug(places, "video10", "video1")
    check_device(places, "1")
    with pytest.raises(
        SourceNotFoundError, match=r"\(video devices here: \S*/video1 \S*/video10\)"
    ):
        check_device(places, asked)


def test_a_name_that_is_no_video_device_is_refused(places: Places) -> None:
    write(places.root, {"etc/notes": "x"})
    with pytest.raises(SourceUnreadableError, match="/etc/notes is not a video device"):
        check_device(places, "/etc/notes")
    with pytest.raises(SourceUnreadableError, match="/dev/null is not a video device"):
        check_device(Places(), "/dev/null")


@pytest.mark.parametrize(
    ("can", "said"),
    [
        (abi.CAP_META_CAPTURE, "metadata only"),
        (0x2, "an output"),
        (0x8000, "a converter"),
        (abi.CAP_VIDEO_CAPTURE_MPLANE, "several planes"),
        (abi.CAP_VIDEO_CAPTURE, "cannot stream"),
        (0, "delivers no pictures"),
    ],
)
def test_nodes_without_pictures_are_named_as_what_they_are(
    places: Places, can: int, said: str
) -> None:
    found = checks(plug(places, "video0"), FakeDevice(can=can))
    assert list(found) == ["video0"]
    assert found["video0"].state == NOT_NEEDED
    assert said in found["video0"].detail


# What is in the way


@pytest.mark.parametrize(
    ("code", "state", "detail", "mend"),
    [
        (errno.EACCES, MISSING, "you may not read it", "sudo usermod -aG video $USER"),
        (errno.EPERM, MISSING, "the container may not", "start the container with --device"),
        (errno.EBUSY, OK, "in use", "fuser -v"),
        (errno.ENODEV, BROKEN, "the device is gone", "unplug it and plug it in again"),
        (errno.EIO, BROKEN, "Input/output error", ""),
    ],
)
def test_a_device_that_does_not_open_says_what_mends_it(
    places: Places, code: int, state: str, detail: str, mend: str
) -> None:
    (only,) = checks(plug(places, "video0"), FakeDevice(open_error=code)).values()
    assert only.state == state
    assert detail in only.detail
    assert mend in only.mend


def test_programs_that_have_a_device_open_are_named_with_their_process(places: Places) -> None:
    plug(places, "video0", "video1")
    hold(places, 4711, "obs", "/dev/video0")
    hold(places, 12, "viewer", "/dev/video0")
    assert holders(places) == {"video0": ("viewer (pid 12)", "obs (pid 4711)")}
    found = checks(places, FakeDevice({"GREY": [(640, 480)]}, [(1, 30)]))
    assert found["video0 users"].detail == "open in viewer (pid 12), obs (pid 4711)"
    assert "video1 users" not in found
    (busy,) = checks(places, FakeDevice(open_error=errno.EBUSY), only="0").values()
    assert "in use by viewer (pid 12), obs (pid 4711)" in busy.detail
    (gone,) = checks(places, FakeDevice(open_error=errno.ENODEV), only="0").values()
    assert gone.mend == "end the program that has it open"


def test_a_node_that_is_gone_but_held_is_told(places: Places) -> None:
    hold(places, 4711, "obs", "/dev/video0 (deleted)")
    *_, last = capture_checks(plug(places, "video1"), FakeDevice())
    assert (last.name, last.state) == ("/dev/video0", OK)
    assert last.detail.startswith("gone, but open in obs (pid 4711)")


def test_this_process_is_no_holder(places: Places) -> None:
    hold(places, os.getpid(), "veintrack", "/dev/video0")
    assert holders(places) == {}


def test_a_driver_that_never_answers_holds_nobody_up(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_capture, "_ANSWER_S", 0.05)
    awake = threading.Event()
    device = FakeDevice(asleep=awake)
    (only,) = checks(plug(places, "video0"), device).values()
    awake.set()
    assert only.state == BROKEN
    assert "no answer within 0.05 s" in only.detail
    assert "unplug it" in only.mend


def test_what_is_raised_in_time_is_raised_here() -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        answer_within(5.0, fail)
    assert answer_within(5.0, lambda: 7) == 7


def test_a_device_that_breaks_off_is_a_finding_and_the_next_is_looked_at(places: Places) -> None:
    class Odd(FakeDevice):
        def open(self, path: str) -> int:
            if path.endswith("video0"):
                raise RuntimeError("strange")
            return super().open(path)

    found = checks(plug(places, "video0", "video1"), Odd({"GREY": [(640, 480)]}, [(1, 30)]))
    assert found["video0"].state == BROKEN
    assert found["video1"].state == OK


def test_a_file_that_is_no_device_is_broken(places: Places) -> None:
    (only,) = capture_checks(plug(places, "video0"), abi.LinuxKernel())
    assert only.state == BROKEN
    assert "ioctl" in only.detail


@pytest.mark.parametrize(
    ("caps", "numbers", "told"),
    [
        ("N,N,N", "10,-1,-1", True),
        ("Y,N,N", "10,-1,-1", False),
        ("Y,N,N", "10,11,-1", True),
        ("N,N,N", "-1,-1,-1", True),
        ("Y,N,N", "-1,-1,-1", False),
        ("", "", False),
    ],
)
def test_a_loopback_that_looks_like_a_camera_is_told(
    places: Places, caps: str, numbers: str, told: bool
) -> None:
    at = "sys/module/v4l2loopback/parameters"
    write(places.root, {f"{at}/exclusive_caps": caps, f"{at}/video_nr": numbers})
    found = {check.name: check for check in capture_checks(places, FakeDevice())}
    assert ("v4l2loopback" in found) == told
    if told:
        assert "exclusive_caps=1" in found["v4l2loopback"].mend


# What they deliver


def test_five_hertz_over_usb_2_is_explained_and_the_mode_to_take_is_named(places: Places) -> None:
    found = checks(usb_2(places), cheap_grabber())
    assert found["video0 link"].detail == "USB at 480 Mbit/s: 24.6 MB/s for one stream"
    assert "USB 3" in found["video0 link"].mend
    assert found["video0 YUYV"].detail == (
        "1280x720@10 (18.4 MB/s), 1920x1080@5 (20.7 MB/s), 640x480@30 (18.4 MB/s), and 1 more size"
    )
    assert found["video0 MJPG"].detail == (
        "1280x720@60 (about 13.8 MB/s), 1920x1080@30 (about 15.6 MB/s), 640x480@30 (about 2.3 MB/s)"
    )
    assert found["video0 others"] == Check(
        f"{places.root}/dev/video0 others", NOT_NEEDED, "not read: H264"
    )
    slow = found["video0 rate"]
    assert slow.detail == (
        "YUYV at 1280x720 comes at 10 Hz only: 30 Hz would put 55.3 MB/s on a link of 24.6 MB/s"
    )
    assert slow.mend.endswith("/dev/video0 --mode 1280x720@30:MJPG")
    taken = found["video0 mode"].detail
    assert taken == ("1280x720@30:MJPG is what veintrack takes; now it is set to 1280x720@10:YUYV")
    assert "video0 power" not in found


def test_a_slow_size_that_is_not_set_is_explained_too(places: Places) -> None:
    found = checks(usb_2(places), replace(cheap_grabber(), now=("MJPG", 640, 480), period=(1, 30)))
    assert found["video0 rate"].mend.endswith("--mode 1920x1080@30:MJPG")


def test_a_device_that_is_never_fast_enough_says_so(places: Places) -> None:
    device = FakeDevice({"YUYV": [(1280, 720)]}, [(1, 10)], now=("YUYV", 1280, 720))
    found = checks(plug(places, "video0"), device)
    assert found["video0 rate"].detail.endswith("comes at 10 Hz only; no mode reaches 25 Hz")
    assert found["video0 rate"].mend == ""
    assert "video0 link" not in found


def test_what_the_link_does_not_carry_is_marked_and_not_taken(places: Places) -> None:
    device = FakeDevice({"YUYV": [(1280, 720)], "MJPG": [(1280, 720)]}, [(1, 30)])
    found = checks(usb_2(places), device)
    assert found["video0 YUYV"].detail == "1280x720@30 (55.3 MB/s, more than the link)"
    assert found["video0 mode"].detail == "1280x720@30:MJPG is what veintrack takes"


def test_a_device_without_a_format_that_is_read_names_what_it_has(places: Places) -> None:
    found = checks(plug(places, "video0"), FakeDevice({"H264": [(640, 480)]}, [(1, 30)]))
    assert found["video0 mode"].state == NOT_NEEDED
    assert "the device offers H264; readable are" in found["video0 mode"].detail


def test_a_device_that_may_be_put_to_sleep_is_told(places: Places) -> None:
    found = checks(usb_2(places, **{"power/control": "auto\n"}), cheap_grabber())
    assert found["video0 power"].mend.startswith("echo on | sudo tee ")
    assert "1-2/power/control" in found["video0 power"].mend


@pytest.mark.parametrize(
    ("speed", "endpoint", "bytes_s"),
    [
        ("12", "Isoc", 1_023_000),
        ("480", "Isoc", 24_576_000),
        ("480", "Bulk", 53_248_000),
        ("5000", "Isoc", 393_216_000),
        ("10000", "Isoc", 393_216_000),
    ],
)
def test_a_link_carries_what_its_specification_says(
    places: Places, speed: str, endpoint: str, bytes_s: float
) -> None:
    usb_2(places, speed=f"{speed}\n", **{"1-2:1.1/ep_81/type": f"{endpoint}\n"})
    link = usb_link("video0", places.root)
    assert link is not None
    assert link.usable_bytes_s == bytes_s
    assert link.bulk == (endpoint == "Bulk")


def test_a_device_that_is_on_no_usb_has_no_link(places: Places) -> None:
    assert usb_link("video0", plug(places, "video0").root) is None
    assert usb_link("video9", places.root) is None


# The command


def test_the_command_looks_at_devices_as_asked_and_prints_the_same_as_json(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = usb_2(places)
    monkeypatch.setattr(command, "Places", lambda: machine)
    monkeypatch.setattr(command, "ask", lambda _: {"error": "not asked here"})
    monkeypatch.setattr(abi, "LinuxKernel", cheap_grabber)
    monkeypatch.setattr(command, "_measure", lambda _: pace())
    assert run(["doctor", "--probe", "/dev/video7"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("veintrack: no such device: /dev/video7 (video devices here: ")
    run(["doctor", "--json", "--probe", "/dev/video0"])
    video = json.loads(capsys.readouterr().out)["sections"]["video"]
    names = [check["name"].removeprefix(f"{places.root}/dev/") for check in video]
    assert names[0] == "video0"
    assert {"video0 link", "video0 YUYV", "video0 rate", "video0 mode", "video0 pace"} <= set(names)
