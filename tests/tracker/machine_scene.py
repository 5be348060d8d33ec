"""A machine made of files, for the tests that look at one."""

import ctypes
import errno
import os
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from veintrack.tracker.health import Check, Places
from veintrack.tracker.health_capture import capture_checks
from veintrack.tracker.health_pace import Pace
from veintrack.tracker.sources import v4l2_abi as abi

__all__ = [
    "FakeDevice",
    "cheap_grabber",
    "checks",
    "find",
    "plain_machine",
    "plug",
    "usb_2",
    "write",
]

Interval = tuple[int, int]


def write(root: Path, files: dict[str, str]) -> Places:
    """Lay files under a root, by their path."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Places(root)


def plain_machine(root: Path) -> Places:
    """Write what a machine without a GPU and without video devices says of itself."""
    files = {
        "proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n",
        "proc/cpuinfo": "processor : 0\nmodel name\t: CPU Z\n",
        "etc/os-release": 'ID=z\nPRETTY_NAME="Linux Z"\n',
    }
    return write(root, files)


def find(checks: list[Check], name: str) -> Check:
    """Find the finding of a name."""
    return next(check for check in checks if check.name == name)


@dataclass
class FakeDevice(abi.LinuxKernel):
    """A device that says what it is and what it delivers; nothing comes from it.

    A size of six numbers is a range; so is a pair of intervals that is no list. Intervals may be
    given by format and size.
    """

    sizes: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    intervals: (
        list[Interval] | tuple[Interval, Interval] | dict[tuple[str, int, int], list[Interval]]
    ) = field(default_factory=list)
    now: tuple[str, int, int] | None = None
    period: Interval | None = (1, 30)
    unasked: tuple[int, ...] = ()  # requests that the driver does not know
    endless: bool = False
    gone: bool = False
    card: str = "Card"
    driver: str = "uvcvideo"
    can: int = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING
    open_error: int = 0
    asleep: threading.Event | None = None  # it answers once this is set
    calls: int = 0
    opened: int = 0

    def open(self, path: str) -> int:
        if self.open_error:
            raise OSError(self.open_error, os.strerror(self.open_error), path)
        if self.asleep:
            self.asleep.wait()
        self.opened += 1
        return 3

    def close(self, fd: int) -> None:
        assert fd == 3
        self.opened -= 1

    def ioctl(self, fd: int, request: int, argument: "ctypes.Structure | ctypes.c_int") -> None:
        assert fd == 3
        self.calls += 1
        if self.gone:
            raise OSError(errno.ENODEV, "gone")
        if request in self.unasked:
            raise OSError(errno.ENOTTY, "what?")
        try:
            self.answer(argument)
        except (IndexError, KeyError, TypeError):
            raise OSError(errno.EINVAL, "no more") from None

    def answer(self, argument: Any) -> None:
        index = 0 if self.endless else getattr(argument, "index", 0)
        if isinstance(argument, abi.Capability):
            argument.card, argument.driver = self.card.encode(), self.driver.encode()
            argument.bus_info, argument.version = b"usb-1", 6 << 16 | 12 << 8 | 43
            argument.capabilities = self.can | abi.CAP_META_CAPTURE | abi.CAP_DEVICE_CAPS
            argument.device_caps = self.can
        elif isinstance(argument, abi.FormatDescription):
            argument.pixelformat = abi.fourcc(list(self.sizes)[index])
        elif isinstance(argument, abi.FrameSize):
            self.answer_size(argument, self.sizes[abi.fourcc_name(argument.pixelformat)][index])
        elif isinstance(argument, abi.FrameInterval):
            self.answer_interval(argument, index)
        elif isinstance(argument, abi.Format):
            name, argument.width, argument.height = self.now  # type: ignore[misc]
            argument.pixelformat = abi.fourcc(name)
        elif isinstance(argument, abi.StreamParameters):
            argument.numerator, argument.denominator = self.period  # type: ignore[misc]

    def answer_size(self, argument: abi.FrameSize, size: tuple[int, ...]) -> None:
        if len(size) == 2:
            argument.type = abi.SIZE_DISCRETE
            argument.discrete.width, argument.discrete.height = size
            return
        argument.type, steps = abi.SIZE_STEPWISE, argument.stepwise
        steps.min_width, steps.max_width, steps.step_width = size[:3]
        steps.min_height, steps.max_height, steps.step_height = size[3:]

    def answer_interval(self, argument: abi.FrameInterval, index: int) -> None:
        if isinstance(self.intervals, tuple):
            argument.type = abi.INTERVAL_CONTINUOUS
            for place, (numerator, denominator) in zip(
                (argument.stepwise.min, argument.stepwise.max), self.intervals, strict=True
            ):
                place.numerator, place.denominator = numerator, denominator
            return
        listed = self.intervals
        if isinstance(listed, dict):
            name = abi.fourcc_name(argument.pixelformat)
            listed = listed[name, argument.width, argument.height]
        argument.type = abi.INTERVAL_DISCRETE
        argument.discrete.numerator, argument.discrete.denominator = listed[index]


def cheap_grabber(**other: Any) -> FakeDevice:
    """A grabber of HDMI on USB 2, set to what is too much for its link."""
    return FakeDevice(
        sizes={
            "MJPG": [(1920, 1080), (1280, 720), (640, 480)],
            "YUYV": [(1920, 1080), (1280, 720), (640, 480), (320, 240)],
            "H264": [(1920, 1080)],
        },
        intervals={
            ("MJPG", 1920, 1080): [(1, 30)],
            ("MJPG", 1280, 720): [(1, 60), (1, 30)],
            ("MJPG", 640, 480): [(1, 30)],
            ("YUYV", 1920, 1080): [(1, 5)],
            ("YUYV", 1280, 720): [(1, 10), (1, 5)],
            ("YUYV", 640, 480): [(1, 30)],
            ("YUYV", 320, 240): [(1, 30)],
        },
        now=("YUYV", 1280, 720),
        period=(1, 10),
        **other,
    )


def usb_2(places: Places, name: str = "video0", **files: str) -> Places:
    """Plug a card into a USB 2 port: its node, and what sysfs says of it."""
    device = places.root / "sys/devices/pci/usb1/1-2"
    said = {"speed": "480\n", "idVendor": "534d\n", "power/control": "on\n", **files}
    write(device, said)
    streaming = device / "1-2:1.1"
    write(streaming, {"bInterfaceClass": "0e\n", "bInterfaceSubClass": "02\n"})
    entry = device / f"1-2:1.0/video4linux/{name}"
    write(entry, {"name": "USB Video\n"})
    (entry / "device").symlink_to("../..")
    at = places.root / "sys/class/video4linux"
    at.mkdir(parents=True, exist_ok=True)
    (at / name).symlink_to(entry)
    return write(places.root, {f"dev/{name}": ""})


def checks(places: Places, device: FakeDevice, **options: Any) -> dict[str, Check]:
    """Look, and give the findings by their name below the root."""
    found = list(capture_checks(places, device, **options))
    assert device.opened == 0
    assert all("\n" not in check.detail + check.mend for check in found)
    return {check.name.removeprefix(f"{places.root}/dev/"): check for check in found}


def plug(places: Places, *names: str) -> Places:
    for name in names:
        write(places.root, {f"dev/{name}": "", f"sys/class/video4linux/{name}/name": "Card\n"})
    return places


def pace(**other: Any) -> Pace:
    return replace(Pace(61, 30.0, 30.0, 33.3, 0.8, 0, 12.0, 19.0), **other)
