"""Take frames from a capture device: the processor time of one, for every format.

    python benchmarks/capture.py --json capture.json

The reader of the main job reads from a driver of memory, which hands out the same few buffers, all
written before the start, and is always ready. What is counted is what the reader does: take a
buffer, make it grey in memory of its own, give it back. Processor time of the process, the median
over the frames; the rounds go through all formats in turn, and the median of the rounds is shown
with the least and the most. The calls of the driver of memory are in it, and do almost nothing.
"""

import argparse
import ctypes
import errno
import json
import mmap
import select
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import process_time_ns

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from veintrack.tracker.frame import U8
from veintrack.tracker.machine import machine_facts
from veintrack.tracker.sources import v4l2_abi as abi
from veintrack.tracker.sources.demo import open_demo
from veintrack.tracker.sources.v4l2 import open_v4l2
from veintrack.tracker.sources.v4l2_modes import READABLE

SIZES_PX = ((1280, 720), (640, 480))
FRAME_US = 16_667
ROW_BYTES = {"GREY": 1, "NV12": 1, "YU12": 1, "RGB3": 3, "BGR3": 3}


@dataclass(frozen=True, slots=True)
class Score:
    """What one format costs."""

    fourcc: str
    width_px: int
    height_px: int
    luma: str
    frame_ms: float
    least_ms: float
    most_ms: float


class Memory(abi.LinuxKernel):
    """A capture device whose pictures are there already."""

    def __init__(self, name: str, size_px: tuple[int, int], content: bytes, limited: bool) -> None:
        self.name, self.size_px, self.content = name, size_px, content
        self.quantization = abi.QUANTIZATION_LIMITED if limited else abi.QUANTIZATION_FULL
        self.queued: deque[int] = deque()
        self.sequence = 0

    def open(self, path: str) -> int:
        del path
        return 0

    def close(self, fd: int) -> None:
        del fd

    def poll(self, fd: int, timeout_s: float, *, events: bool = False) -> int:
        del fd, timeout_s, events
        return select.POLLIN if self.queued else 0

    def mmap(self, fd: int, length: int, offset: int) -> mmap.mmap:
        del fd, offset
        memory = mmap.mmap(-1, length)
        memory[: len(self.content)] = self.content
        return memory

    def ioctl(self, fd: int, request: int, argument: "ctypes.Structure | ctypes.c_int") -> None:
        del fd
        if isinstance(argument, abi.Buffer):
            self._buffer(argument, request)
        elif isinstance(argument, abi.Capability):
            argument.card = b"memory"
            argument.capabilities = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING
        elif isinstance(argument, abi.FormatDescription) and not argument.index:
            argument.pixelformat = abi.fourcc(self.name)
        elif isinstance(argument, abi.Format):
            argument.pixelformat, argument.quantization = abi.fourcc(self.name), self.quantization
            argument.width, argument.height = self.size_px
            argument.bytesperline = self.size_px[0] * ROW_BYTES.get(self.name, 2)
        elif request not in (abi.VIDIOC_REQBUFS, abi.VIDIOC_STREAMON, abi.VIDIOC_STREAMOFF):
            raise OSError(errno.EINVAL, "not known")

    def _buffer(self, buffer: abi.Buffer, request: int) -> None:
        if request == abi.VIDIOC_QUERYBUF:
            buffer.length = len(self.content)
        elif request == abi.VIDIOC_QBUF:
            self.queued.append(buffer.index)
        else:
            buffer.index, buffer.bytesused = self.queued.popleft(), len(self.content)
            buffer.flags, buffer.sequence = abi.BUF_FLAG_TIMESTAMP_MONOTONIC, self.sequence
            self.sequence += 1
            buffer.timestamp_s, buffer.timestamp_us = divmod(self.sequence * FRAME_US, 10**6)


def content(name: str, grey: U8) -> bytes:
    """Write a picture as a device does; chroma is without colour."""
    if name == "MJPG":
        return bytes(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])
    if name in ("NV12", "YU12"):
        return grey.tobytes() + bytes([128]) * (grey.size // 2)
    if name in ("RGB3", "BGR3"):
        return np.repeat(grey, 3).tobytes()
    if name in ("YUYV", "UYVY"):
        pair = [grey, np.full_like(grey, 128)]
        return np.stack(pair if name == "YUYV" else pair[::-1], axis=-1).tobytes()
    if name == "GREY":
        return grey.tobytes()
    return (grey.astype("<u2") << {"Y10": 2, "Y12": 4}.get(name, 8)).tobytes()


def frame_ms(kernel: Memory, frames: int) -> float:
    """Measure the processor time of a frame."""
    spent_ns = []
    with open_v4l2("0", kernel=kernel) as source:
        reader = iter(source)
        for _ in range(frames):
            begun_ns = process_time_ns()
            next(reader)
            spent_ns.append(process_time_ns() - begun_ns)
    return median(spent_ns) * 1e-6


def devices() -> list[Memory]:
    """Make a device for each format, size and range of luma that there is."""
    with open_demo(frame_count=1) as demo:
        picture = next(iter(demo)).pixels
    made = []
    for size_px in SIZES_PX:
        grey = np.asarray(cv2.resize(picture, size_px), np.uint8)
        for name in READABLE:
            data = content(name, grey)
            ranges = (True, False) if name in ("NV12", "YU12", "YUYV", "UYVY") else (False,)
            made += [Memory(name, size_px, data, limited) for limited in ranges]
    return made


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.frames < 1 or options.rounds < 1:
        raise SystemExit("capture: --frames and --rounds must be at least 1")

    kernels = devices()
    found: list[list[float]] = [[] for _ in kernels]
    for _ in range(options.rounds):
        for kernel, times_ms in zip(kernels, found, strict=True):
            times_ms.append(frame_ms(kernel, options.frames))
    scores = [
        Score(
            kernel.name,
            *kernel.size_px,
            "16 to 235" if kernel.quantization == abi.QUANTIZATION_LIMITED else "0 to 255",
            *(round(of(times_ms), 3) for of in (median, min, max)),
        )
        for kernel, times_ms in zip(kernels, found, strict=True)
    ]
    table = Table(title="Processor time of one frame, from the driver's buffer to grey")
    for name in Score.__slots__:
        table.add_column(name.replace("_", " "), justify="right")
    for score in scores:
        table.add_row(*(str(value) for value in asdict(score).values()))
    Console().print(table)
    if options.json:
        record = {
            "machine": machine_facts(),
            "opencv": cv2.__version__,
            "numpy": np.__version__,
            "frames": options.frames,
            "rounds": options.rounds,
            "scores": [asdict(score) for score in scores],
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
