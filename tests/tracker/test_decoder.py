"""What the decoder refuses and leaves out: pictures that are huge, damaged, or built on damage."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.tracker.test_sources_video import MS, encode, noise_clip
from veintrack.errors import SourceLostError, SourceUnreadableError
from veintrack.tracker.frame import Frame
from veintrack.tracker.sources import open_source
from veintrack.tracker.sources.decoder import has_holes


def most_memory_kib(*, anew: bool = False) -> int:
    """Resident memory at its highest, from the start of the process or from the call `anew` on."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the mark
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.parametrize("where", ["container", "picture"])
def test_a_header_that_claims_a_huge_picture_is_refused_before_it_takes_memory(
    where: str, tmp_path: Path
) -> None:
    if where == "container":  # lossless FFV1 has its size from there
        path = encode(tmp_path / "a.avi", codec="ffv1")
        size, huge = struct.pack("<II", 64, 48), struct.pack("<II", 30000, 30000)
        problem = "; pictures of up to 16.8 million pixels are read"
    else:
        path = encode(tmp_path / "a.mp4", codec="mjpeg", pixel="yuvj420p", full_range=True)
        size, huge = struct.pack(">HH", 48, 64), struct.pack(">HH", 30000, 30000)
        problem = ""
    data = path.read_bytes()
    assert size in data
    path.write_bytes(data.replace(size, huge))
    before_kib = most_memory_kib(anew=True)
    with pytest.raises(SourceUnreadableError) as caught:
        open_source(path)
    assert most_memory_kib() - before_kib < 100 * 1024
    assert str(caught.value) == f"{path}: not one frame of it can be decoded{problem}"


def test_a_picture_above_the_limit_is_refused_with_its_size(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ts", levels=[50], size=(4096, 4112))
    with pytest.raises(SourceUnreadableError, match="declares pictures of 4112x4096 px; pictures"):
        open_source(path)


def test_zeros_in_the_middle_of_a_picture_are_seen(tmp_path: Path) -> None:
    path = noise_clip(tmp_path / "a.mp4", options={"movflags": "faststart"})
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        key = [p for p in packets if p.is_keyframe][2]
        assert key.pos is not None
        at, step = key.pos + key.size // 2, key.time_base
        first = key.pts or 0
    data = bytearray(path.read_bytes())
    data[at : at + 24] = bytes(24)  # decodes without a complaint
    path.write_bytes(data)
    frames: list[Frame] = []
    with open_source(path) as source, pytest.raises(SourceLostError, match="of 60 frames"):
        frames.extend(source)
    assert round(first * step * 1e9) not in [frame.capture_ns for frame in frames]


@pytest.mark.parametrize(
    ("packet", "holes"),
    [
        (b"\0\0\0\2ab" + b"\0\0\0\1c", False),  # lengths are no holes
        (b"\0\0\0\5a\0\0\3b", False),
        (b"\0\0\0\16a" + bytes(3) + b"b" * 10, True),
        (b"\0\0\0\6aaa" + bytes(3), False),  # at the end some programs leave them
        (b"\0\0\0\1a" + bytes(4), True),
        (bytes(40), True),
        (b"", False),
    ],
)
def test_holes_are_told_from_what_may_be(packet: bytes, holes: bool) -> None:
    assert has_holes(packet, 4) is holes


def test_half_a_jpeg_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    rng = np.random.default_rng(5)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(6):
            pixels = rng.integers(0, 256, (48, 64), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "gray").reformat(format="yuvj420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    third = [at for at in range(len(data)) if data[at : at + 4] == b"\xff\xd8\xff\xfe"][2]
    data[third + 1500 : third + 1800] = bytes(300)
    path.write_bytes(data)
    frames: list[Frame] = []
    with open_source(path) as source, pytest.raises(SourceLostError, match="5 of 6 frames"):
        frames.extend(source)
    assert [frame.capture_ns // MS for frame in frames] == [0, 40, 120, 160, 200]


def test_what_is_built_on_a_damaged_picture_is_left_out_too(tmp_path: Path) -> None:
    path = noise_clip(tmp_path / "a.mp4", options={"movflags": "faststart"})
    with open_source(path) as source:
        whole = {frame.capture_ns: frame.pixels for frame in source}
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(b ^ 0x35 for b in data[middle : middle + 3000])
    path.write_bytes(data)
    frames: list[Frame] = []
    with open_source(path) as source, pytest.raises(SourceLostError):
        frames.extend(source)
    assert 40 <= len(frames) < 60
    for frame in frames:
        assert_array_equal(frame.pixels, whole[frame.capture_ns])
