"""Structures and numbers are those of C on 64-bit little-endian machines; the calls are real."""

import ctypes
import errno
import os
import select
from pathlib import Path

import pytest

from veintrack.tracker.sources import v4l2_abi as abi


@pytest.mark.parametrize(
    ("structure", "size"),
    [  # sizeof in C, on x86_64 and aarch64 alike
        (abi.Capability, 104),
        (abi.FormatDescription, 64),
        (abi.Format, 208),
        (abi.StreamParameters, 204),
        (abi.RequestBuffers, 20),
        (abi.Buffer, 88),
        (abi.FrameSize, 44),
        (abi.FrameInterval, 52),
        (abi.Input, 80),
        (abi.DvTimings, 132),
        (abi.Event, 136),
        (abi.EventSubscription, 32),
    ],
)
def test_structures_have_the_kernels_sizes(structure: type[ctypes.Structure], size: int) -> None:
    assert ctypes.sizeof(structure) == size


def test_requests_have_the_kernels_numbers() -> None:
    numbers = [abi.VIDIOC_QUERYCAP, abi.VIDIOC_S_FMT, abi.VIDIOC_DQBUF, abi.VIDIOC_STREAMON]
    assert numbers == [0x80685600, 0xC0D05605, 0xC0585611, 0x40045612]
    assert abi.VIDIOC_S_PARM == 0xC0CC5616
    assert abi.VIDIOC_REQBUFS == 0xC0145608
    assert (abi.VIDIOC_ENUM_FRAMESIZES, abi.VIDIOC_ENUM_FRAMEINTERVALS) == (0xC02C564A, 0xC034564B)
    assert (abi.VIDIOC_ENUMINPUT, abi.VIDIOC_G_INPUT) == (0xC050561A, 0x80045626)
    assert (abi.VIDIOC_SUBSCRIBE_EVENT, abi.VIDIOC_DQEVENT) == (0x4020565A, 0x80885659)
    assert abi.VIDIOC_QUERY_DV_TIMINGS == 0x80845663
    assert (abi.Format.width.offset, abi.Buffer.sequence.offset) == (8, 56)
    assert (abi.Buffer.timestamp_s.offset, abi.Buffer.length.offset) == (24, 72)
    assert (abi.Input.status.offset, abi.Event.pending.offset) == (56, 72)
    assert (abi.DvTimings.width.offset, abi.FrameSizeSteps.max_width.offset) == (4, 4)


def test_the_real_system_finds_follows_and_reads(tmp_path: Path) -> None:
    kernel = abi.LinuxKernel()
    (tmp_path / "serial").write_text("0815\n")
    (tmp_path / "link").symlink_to(tmp_path / "serial")
    assert kernel.find(f"{tmp_path}/ser*") == [f"{tmp_path}/serial"]
    assert kernel.find(f"{tmp_path}/nothing/*") == []
    assert kernel.resolve(f"{tmp_path}/link") == f"{tmp_path}/serial"
    assert kernel.read_text(f"{tmp_path}/link") == "0815"
    assert kernel.read_text(f"{tmp_path}/absent") == ""


@pytest.mark.parametrize("events", [False, True])
def test_the_real_system_waits_for_what_is_there_and_no_longer(events: bool) -> None:
    kernel = abi.LinuxKernel()
    reader, writer = os.pipe()
    try:
        assert kernel.poll(reader, 0.01, events=events) == 0
        os.write(writer, b"x")
        assert kernel.poll(reader, 5.0, events=events) == select.POLLIN
    finally:
        os.close(writer)
        os.read(reader, 1)
        assert kernel.poll(reader, 5.0, events=events) & select.POLLHUP
        kernel.close(reader)


def test_what_is_no_device_refuses_its_calls(tmp_path: Path) -> None:
    kernel = abi.LinuxKernel()
    path = tmp_path / "file"
    path.write_bytes(b"")
    fd = kernel.open(str(path))
    with pytest.raises(OSError, match="Inappropriate ioctl") as raised:
        kernel.ioctl(fd, abi.VIDIOC_QUERYCAP, abi.Capability())
    kernel.close(fd)
    assert raised.value.errno == errno.ENOTTY


def test_a_folder_that_vanishes_while_it_is_searched_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_id = tmp_path / "by-id"
    by_id.mkdir()
    scan = os.scandir

    def scan_too_late(path: str) -> object:  # udev removes the folder with its last link
        if Path(path) == by_id:
            by_id.rmdir()
        return scan(path)

    monkeypatch.setattr(os, "scandir", scan_too_late)
    assert abi.LinuxKernel().find(f"{tmp_path}/by-*/*") == []
    assert not by_id.exists()
