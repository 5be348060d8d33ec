"""Fifty random corruptions of a MetaImage: a clear line or a correct partial read.

One process reads them all, with 1 GB of address space.
"""

import json
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from tests.tracker.read_limited import MEMORY
from veintrack.tracker.sources import open_source

COUNT = 50
STACK = np.random.default_rng(0).integers(0, 40, (12, 48, 64), np.uint8)  # 3 kB a frame
ABSURD = ("-1", "0", "7", "4294967302", "99999999999999999999", "1e9", "nan", "%s%n", "", "x" * 999)

READER = Path(__file__).with_name("read_limited.py")


def header(compressed: bool) -> bytes:
    times = "".join(
        f"Seq_Frame{i:04d}_Timestamp = {i / 25:.3f}\nSeq_Frame{i:04d}_ImageStatus = OK\n"
        for i in range(len(STACK))
    )
    return (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"CompressedData = {compressed}\nDimSize = 64 48 12\nElementNumberOfChannels = 1\n"
        "ElementSpacing = 0.1 0.1 1\nElementType = MET_UCHAR\nUltrasoundImageOrientation = MF\n"
        f"{times}ElementDataFile = LOCAL\n"
    ).encode()


def flip(random: Random, start: int, end: int, data: bytes) -> bytes:
    flipped = bytearray(data)
    for _ in range(random.randint(1, 8)):
        flipped[random.randrange(start, end)] ^= random.randint(1, 255)
    return bytes(flipped)


def flip_header(random: Random, head: bytes, data: bytes) -> bytes:
    return flip(random, 0, len(head), head + data)


def flip_data(random: Random, head: bytes, data: bytes) -> bytes:
    return flip(random, len(head), len(head) + len(data), head + data)


def zero_block(random: Random, head: bytes, data: bytes) -> bytes:
    whole = head + data
    start = random.randrange(len(whole))
    size = min(random.choice((16, 512, 4096)), len(whole) - start)
    return whole[:start] + bytes(size) + whole[start + size :]


def truncate(random: Random, head: bytes, data: bytes) -> bytes:
    whole = head + data
    return whole[: random.randrange(len(whole))]


def absurd_field(random: Random, head: bytes, data: bytes) -> bytes:
    lines = head.decode().split("\n")
    row = random.choice([i for i, line in enumerate(lines) if "=" in line and "Seq_" not in line])
    name, _, value = lines[row].partition(" = ")
    words = value.split(" ")
    words[random.randrange(len(words))] = random.choice(ABSURD)
    lines[row] = f"{name} = {' '.join(words)}"
    return "\n".join(lines).encode() + data


KINDS: tuple[Callable[[Random, bytes, bytes], bytes], ...] = (
    flip_header,
    flip_data,
    zero_block,
    truncate,
    absurd_field,
)


def corrupted(number: int) -> tuple[bytes, bytes]:
    """Give the file and the data before it was damaged; half of the files are compressed."""
    random = Random(number)
    compressed = number // len(KINDS) % 2 == 1
    data = zlib.compress(STACK.tobytes()) if compressed else STACK.tobytes()
    return KINDS[number % len(KINDS)](random, header(compressed), data), data


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("corrupt")
    paths = [folder / f"{number}.mha" for number in range(COUNT)]
    for number, path in enumerate(paths):
        path.write_bytes(corrupted(number)[0])
    done = subprocess.run(
        [sys.executable, "-W", "error", READER, *paths],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *told, last = map(json.loads, done.stdout.splitlines())
    assert last["memory"] < MEMORY
    return told


def test_every_corruption_ends_in_one_clear_line_or_without_an_error(
    outcomes: list[dict[str, Any]],
) -> None:
    assert len(outcomes) == COUNT
    for outcome in outcomes:
        assert outcome["error"] in (None, "SourceUnreadableError", "SourceLostError"), outcome
        assert "\n" not in outcome["message"]
        assert len(re.sub(r"/\S*/", "", outcome["message"])) < 250
        assert outcome["cpu_s"] < 2
    # Both outcomes, or the damage was too mild or too rough to say anything.
    whole = sum(outcome["error"] is None for outcome in outcomes)
    assert 5 <= whole <= COUNT - 20


def test_no_frame_is_invented_where_the_header_is_whole(outcomes: list[dict[str, Any]]) -> None:
    """Frames are those that an independent reading of the damaged data gives, in order."""
    judged = 0
    for number, outcome in enumerate(outcomes):
        file, data = corrupted(number)
        head = header(compressed=number // len(KINDS) % 2 == 1)
        if not file.startswith(head):
            continue
        found = file[len(head) :]
        if b"CompressedData = True" in head:
            unpacker, plain = zlib.decompressobj(), b""
            try:
                for byte in found:  # one by one, so that all before the damage comes out
                    plain += unpacker.decompress(bytes([byte]))
            except zlib.error:
                pass
            if found != data:
                assert outcome["error"] is not None, number  # the checksum tells
        else:
            plain = found
        truth = [
            crc32(plain[i : i + STACK[0].size])
            for i in range(0, len(plain) - STACK[0].size + 1, STACK[0].size)
        ]
        got = [checksum for *_, checksum in outcome["frames"]]
        assert [index for index, *_ in outcome["frames"]] == list(range(len(got)))
        assert got == truth[: len(got)]
        assert len(truth) - len(got) <= 1  # the frame in which the stream breaks
        judged += 1
    assert judged >= 20


def test_the_same_file_undamaged_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    path.write_bytes(header(compressed=True) + zlib.compress(STACK.tobytes()))
    with open_source(path) as source:
        np.testing.assert_array_equal([frame.pixels for frame in source], STACK)
