"""Structures and numbers are those of C on 64-bit little-endian machines."""

import ctypes

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
    ],
)
def test_structures_have_the_kernels_sizes(structure: type[ctypes.Structure], size: int) -> None:
    assert ctypes.sizeof(structure) == size


def test_requests_have_the_kernels_numbers() -> None:
    numbers = [abi.VIDIOC_QUERYCAP, abi.VIDIOC_S_FMT, abi.VIDIOC_DQBUF, abi.VIDIOC_STREAMON]
    assert numbers == [0x80685600, 0xC0D05605, 0xC0585611, 0x40045612]
    assert abi.VIDIOC_S_PARM == 0xC0CC5616
    assert abi.VIDIOC_REQBUFS == 0xC0145608
    assert (abi.Format.width.offset, abi.Buffer.sequence.offset) == (8, 56)
    assert (abi.Buffer.timestamp_s.offset, abi.Buffer.length.offset) == (24, 72)
