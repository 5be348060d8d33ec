"""The guest's video drivers: loading, faults, feeding, and the kernel's own record of buffers."""

import itertools
import multiprocessing
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from veintrack.tracker.frame import U8
from veintrack.tracker.sources import v4l2_abi as abi

__all__ = ["Buffer", "BufferTrace", "bind", "control", "feed", "load", "unbind", "unload"]

_MODULES = Path("/run/machine/modules")
_TRACING = Path("/sys/kernel/tracing")
_OUTPUT = 2  # V4L2_BUF_TYPE_VIDEO_OUTPUT


def load(driver: str, *parameters: str) -> None:
    """Load a driver."""
    subprocess.run(["insmod", str(_MODULES / f"{driver}.ko"), *parameters], check=True)


def unload(driver: str) -> None:
    """Take a driver out, if it is loaded; its devices are gone."""
    if Path("/sys/module", driver).exists():
        subprocess.run(["rmmod", driver], check=True)


def control(node: Path, name: str, value: int) -> None:
    """Set a control of a device."""
    subprocess.run(["v4l2-ctl", "-d", str(node), "-c", f"{name}={value}"], check=True)


def unbind(device: str) -> None:
    """Take a vivid device from its driver: it is gone, as if unplugged."""
    Path("/sys/bus/platform/drivers/vivid/unbind").write_text(device)


def bind(device: str) -> None:
    """Give it back."""
    Path("/sys/bus/platform/drivers/vivid/bind").write_text(device)


@dataclass(frozen=True, slots=True)
class Buffer:
    """A buffer that a reader was given, as the kernel recorded it.

    Attributes
    ----------
    sequence, capture_ns : int
        What the driver wrote on it.
    damaged : bool
        Whether the driver marked it so.
    """

    sequence: int
    capture_ns: int
    damaged: bool


class BufferTrace:
    """Records every video buffer that any reader takes, in the kernel (its trace event v4l2_dqbuf).

    This is the reading that others are compared with: it is neither ours nor v4l2-ctl's.
    """

    _LINE = re.compile(
        r" v4l2_dqbuf: .* flags = (\S*), .* timestamp = (\d+), .* sequence = (\d+)", re.MULTILINE
    )

    def __enter__(self) -> "BufferTrace":
        (_TRACING / "buffer_size_kb").write_text("8192")
        (_TRACING / "trace").write_text("")
        self._switch("1")
        return self

    def __exit__(self, *failure: object) -> None:
        self._switch("0")
        self._record = (_TRACING / "trace").read_text()

    def _switch(self, state: str) -> None:
        (_TRACING / "events/v4l2/v4l2_dqbuf/enable").write_text(state)

    def buffers(self) -> list[Buffer]:
        """Give what was recorded between entering and leaving, in order."""
        return [
            Buffer(int(sequence), int(capture_ns), "ERROR" in flags)
            for flags, capture_ns, sequence in self._LINE.findall(self._record)
        ]


def feed(node: Path, pictures: U8, rate_hz: float) -> None:
    """Write pictures (N, H, W) into a loopback device, again and again, in a process of its own."""
    fork = multiprocessing.get_context("fork")
    fork.Process(target=_feed, args=(node, pictures, rate_hz), daemon=True).start()


def _feed(node: Path, pictures: U8, rate_hz: float) -> None:
    _, height, width = pictures.shape
    form = abi.Format(type=_OUTPUT, width=width, height=height, field=abi.FIELD_NONE)
    form.pixelformat = abi.fourcc("GREY")
    form.bytesperline, form.sizeimage = width, width * height
    device = os.open(node, os.O_RDWR)
    abi.LinuxKernel().ioctl(device, abi.VIDIOC_S_FMT, form)
    start_s = time.monotonic()
    for number in itertools.count():
        time.sleep(max(0.0, start_s + number / rate_hz - time.monotonic()))
        os.write(device, pictures[number % len(pictures)].tobytes())
