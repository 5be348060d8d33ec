"""Fifty ways to damage a file: a clear line or a correct partial read, within limits."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, RLELossless

from tests.tracker.dicom_scene import (
    PATIENT,
    jpeg,
    jpeg_2000,
    lossless_jpeg,
    ramps,
    region,
    rle,
    save,
)
from tests.tracker.read_limited import MEMORY

READER = Path(__file__).with_name("read_limited.py")
FRAMES = ramps(12, 96, 128)
TAGS: dict[str, Any] = {
    "FrameTime": "40",
    "FrameIncrementPointer": 0x00181063,
    "SequenceOfUltrasoundRegions": [region((8, 8, 119, 87))],
}


def damage(data: bytes, rng: np.random.Generator, header: int) -> bytes:
    """One random damage: to single bytes, a block, the length, or the first `header` bytes."""
    raw = bytearray(data)
    way = rng.integers(4)
    if way == 0:
        for at in rng.integers(0, len(raw), rng.integers(1, 40)):
            raw[at] ^= int(rng.integers(1, 256))
    elif way == 1:
        start = int(rng.integers(0, len(raw)))
        block = raw[start : start + int(rng.integers(1, 4000))]
        raw[start : start + len(block)] = bytes(len(block))
    elif way == 2:
        del raw[int(rng.integers(0, len(raw))) :]
    else:
        for at in rng.integers(0, header, rng.integers(1, 8)):
            raw[at] = int(rng.integers(0, 256))
    return bytes(raw)


def read_all(paths: list[Path]) -> list[dict[str, Any]]:
    """Read files in a process that may not take more than 1 GB, and where a warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(READER), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stderr == ""
    *told, last = map(json.loads, done.stdout.splitlines())
    assert last["memory"] < MEMORY
    assert len(told) == len(paths)
    return told


def check(told: dict[str, Any], count: int) -> None:
    """What holds for every damaged file: one of our lines, or frames in order."""
    assert told["error"] in (None, "SourceUnreadableError", "SourceLostError"), told
    assert "\n" not in told["message"]
    assert not any(word in told["message"] for tag in PATIENT for word in tag.split("^"))
    indices, times = ([frame[i] for frame in told["frames"]] for i in (0, 1))
    assert indices == sorted(set(indices))
    assert times == sorted(set(times))
    if told["error"] is None:
        assert told["frames"]
    elif told["error"] == "SourceLostError":
        assert len(indices) < count or f"of {count}" not in told["message"], told
        assert "damaged or cut short" in told["message"] or "cannot be read" in told["message"]


def fifty(path: Path, seed: int, header: int) -> list[Path]:
    rng, data = np.random.default_rng(seed), path.read_bytes()
    paths = []
    for i in range(50):
        paths.append(path.with_name(f"{i:02d}-{path.name}"))
        paths[-1].write_bytes(damage(data, rng, header))
    return paths


def sums(frames: NDArray[Any]) -> list[int]:
    return [crc32(frame.tobytes()) for frame in frames]


STORED: dict[str, dict[str, Any]] = {
    "native": {},
    "jpeg": {"syntax": JPEGBaseline8Bit, "coded": [jpeg(f) for f in FRAMES]},
    "jpeg2000": {"syntax": JPEG2000Lossless, "coded": [jpeg_2000(f) for f in FRAMES]},
    "lossless": {"syntax": JPEGLosslessSV1, "coded": [lossless_jpeg(f) for f in FRAMES]},
    "rle": {"syntax": RLELossless, "coded": [rle(f) for f in FRAMES]},
}


@pytest.mark.parametrize("how", STORED)
def test_fifty_damaged_dicom_files(tmp_path: Path, how: str) -> None:
    whole = save(tmp_path / "cine.dcm", FRAMES, **STORED[how], **TAGS)
    header = whole.read_bytes().index(b"\xe0\x7f\x10\x00")
    outcomes = read_all(fifty(whole, 5, header + 20))
    for told in outcomes:
        check(told, len(FRAMES))
    assert {told["error"] for told in outcomes} >= {"SourceUnreadableError", "SourceLostError"}


@pytest.mark.parametrize("how", ["native", "jpeg2000", "lossless", "rle"])
def test_what_is_left_of_a_truncated_cine_is_exact(tmp_path: Path, how: str) -> None:
    data = save(tmp_path / "cine.dcm", FRAMES, **STORED[how], **TAGS).read_bytes()
    start = data.index(b"\xe0\x7f\x10\x00")
    paths = []
    for i, end in enumerate(np.linspace(start, len(data) - 20, 25).astype(int)):
        paths.append(tmp_path / f"{i:02d}.dcm")
        paths[-1].write_bytes(data[:end])
    right, counts = sums(FRAMES), []
    for told in read_all(paths):
        check(told, len(FRAMES))
        counts.append(len(told["frames"]))
        assert [frame[3] for frame in told["frames"]] == right[: counts[-1]]
        if counts[-1]:
            assert told["message"].endswith(f"{counts[-1]} of 12 frames could be read")
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 11


def test_fifty_damaged_png_files(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (96, 128), dtype=np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 2)
    whole = tmp_path / "picture.png"
    whole.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    paths = fifty(whole, 7, 60)
    outcomes = read_all(paths)
    for path, told in zip(paths, outcomes, strict=True):
        check(told, 1)
        if told["error"] is None and path.read_bytes() != whole.read_bytes():
            assert told["frames"][0][3] == crc32(picture.tobytes()), path.name
    assert "SourceUnreadableError" in {told["error"] for told in outcomes}
