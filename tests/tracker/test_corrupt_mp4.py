"""Fifty damaged copies of an MP4: a clear line or a correct partial read, in bounded memory."""

import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

_FRAMES, _SHAPE_PX = 40, (96, 128)
_MEMORY = 1024**3

# Handles every file in one process, so that what one leaves behind would show in the next. Prints
# a line of JSON for each: the frames' indices, times, and how it ended.
_READ_ALL = """
import json, logging, resource, sys
from veintrack.errors import SourceLostError, SourceUnreadableError
from veintrack.tracker.sources.video import open_video
logging.disable()
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[2:]:
    frames, ended, message = [], "whole", ""
    try:
        with open_video(path) as source:
            for frame in source:
                frames.append((frame.index, frame.capture_ns, frame.pixels.shape,
                               int(frame.pixels[2::8, 2::8].sum())))
    except (SourceUnreadableError, SourceLostError) as error:
        ended, message = type(error).__name__, str(error)
    except BaseException as error:
        ended, message = "traceback", repr(error)
    status = open("/proc/self/status").read()  # not ru_maxrss: it remembers who started this
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps([frames, ended, message, peak]), flush=True)
"""


def clip(path: Path, options: dict[str, str]) -> bytes:
    """Write a clip with texture, reordered frames and a key frame every 10."""
    rng = np.random.default_rng(3)
    speckle = rng.integers(60, 190, _SHAPE_PX, np.uint8)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10", "bf": "2"})
        stream.height, stream.width = _SHAPE_PX
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
        for number in range(_FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(speckle, number, axis=1), "gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


def flipped(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 3, 20, 200])):
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def zeroed(data: bytes, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(data)), rng.choice([16, 512, 4096])
    return (data[:start] + bytes(length) + data[start + length :])[: len(data)]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def header_flipped(data: bytes, rng: random.Random) -> bytes:
    """Damage the index (moov), where sizes, counts, offsets and the codec's set-up are."""
    start = data.index(b"moov")
    end = min(start + int.from_bytes(data[start - 4 : start], "big"), len(data))
    damaged = bytearray(data)
    for _ in range(rng.choice([1, 4, 16])):
        damaged[rng.randrange(start, end)] = rng.choice([0, 0xFF, 0x7F, 0x80, rng.randrange(256)])
    return bytes(damaged)


def box_enlarged(data: bytes, rng: random.Random) -> bytes:
    """Write a huge number into a table of the index, where its number of entries is."""
    name = rng.choice([b"stts", b"stsz", b"stsc", b"stco", b"ctts", b"stss", b"stsd", b"elst"])
    at = data.index(name) + rng.choice([-4, 8, 12])
    return data[:at] + struct.pack(">I", rng.choice([2**31, 2**32 - 1, 10**8])) + data[at + 4 :]


_DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flipped,
    zeroed,
    cut,
    header_flipped,
    box_enlarged,
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """What reading the whole clip and its fifty damaged copies came to."""
    folder = tmp_path_factory.mktemp("corrupt")
    rng = random.Random(20)
    wholes = [clip(folder / "a.mp4", {}), clip(folder / "b.mp4", {"movflags": "faststart"})]
    paths = [folder / "a.mp4"]
    for number in range(50):
        damaged = _DAMAGES[number % 5](wholes[number // 5 % 2], rng)
        path = folder / f"damaged_{number:02}.mp4"
        path.write_bytes(damaged)
        paths.append(path)
    ran = subprocess.run(
        [sys.executable, "-c", _READ_ALL, str(_MEMORY), *map(str, paths)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.returncode == 0
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_every_damaged_file_ends_in_a_line_or_a_partial_read(outcomes: list[list[Any]]) -> None:
    assert len(outcomes) == 51
    for frames, ended, message, _ in outcomes:
        assert ended in ("whole", "SourceUnreadableError", "SourceLostError"), message
        assert "\n" not in message
        assert (ended == "SourceUnreadableError") == (not frames)


def test_both_ends_are_met_and_most_damage_is_said(outcomes: list[list[Any]]) -> None:
    ends = [ended for _, ended, _, _ in outcomes]
    assert ends[0] == "whole"
    assert min(ends.count("SourceUnreadableError"), ends.count("SourceLostError")) >= 10


def test_memory_stays_bounded(outcomes: list[list[Any]]) -> None:
    assert max(peak for _, _, _, peak in outcomes) < _MEMORY


def test_what_is_delivered_has_growing_times_and_no_gap(outcomes: list[list[Any]]) -> None:
    for frames, _, _, _ in outcomes:
        assert [index for index, _, _, _ in frames] == list(range(len(frames)))
        times = [capture_ns for _, capture_ns, _, _ in frames]
        assert times == sorted(set(times))


def test_cut_or_zeroed_files_give_pictures_of_the_whole_one_only(outcomes: list[list[Any]]) -> None:
    whole = [frame[2:] for frame in outcomes[0][0]]
    kinds = [_DAMAGES[number % 5] for number in range(50)]
    some = [o for o, kind in zip(outcomes[1:], kinds, strict=True) if kind in (cut, zeroed)]
    assert any(frames for frames, *_ in some)
    for frames, *_ in some:
        assert all(frame[2:] in whole for frame in frames)
