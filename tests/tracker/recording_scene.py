"""What the tests of recordings share: frames that are told apart, and a live source of them."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from tests.conftest import disc
from veintrack.tracker.frame import U8, Frame, FrameResult, Region, Stamp, Timings
from veintrack.tracker.recording import Recorder, RecordSettings
from veintrack.tracker.recording_names import FOLDER, FORMAT
from veintrack.tracker.sources.arrays import ArraySource
from veintrack.tracker.sources.base import OneShot, SourceInfo

SHAPE = (90, 121)  # an odd width: chroma would need an even one
RATE_HZ = 30
MANIFEST = {"format": FORMAT, "source": {"name": "a test", "live": False, "times_from": "a test"}}
NOTHING = Timings(0, 0, 0, 0, 0, 0, 0, 0)


def noise(seed: int, shape: tuple[int, int] = SHAPE) -> U8:
    """Every grey level, in no order: what no encoder can guess."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def frame_of(index: int, pixels: U8 | None = None, **more: object) -> Frame:
    """The `index`-th frame of 30 a second."""
    frame = Frame(
        noise(index) if pixels is None else pixels,
        index,
        10**12 + index * 10**9 // RATE_HZ,
        10**12 + index * 10**9 // RATE_HZ + 5_000_000,
        100 + index,
        (0.1, 0.2),
        Stamp.EXPOSURE_START,
        7 * index,
    )
    return replace(frame, **more)  # type: ignore[arg-type]


def result_of(
    frame: Frame,
    region: Region | None = None,
    *,
    settled: bool = True,
    changes: tuple[str, ...] = (),
) -> FrameResult:
    return FrameResult(frame, (), (), NOTHING, region, scan_area_settled=settled, changes=changes)


def record(
    folder: Path,
    frames: Iterable[Frame],
    settings: RecordSettings | None = None,
    *,
    region: Region | None = None,
) -> Recorder:
    """Record frames as those of a file, to the end."""
    settings = settings or RecordSettings(full=region is None)
    recorder = Recorder(folder, settings, MANIFEST, region=region, patient=True)
    for frame in frames:
        recorder.put(frame)
    recorder.close()
    return recorder


def part(folder: Path, number: int = 1) -> Path:
    return folder / FOLDER / f"part-{number:05d}.mkv"


class LiveScene(OneShot):
    """A live source whose frames are given; they come one after another.

    Parameters
    ----------
    pictures : sequence of ndarray
        Tissue.
    period_s : float
        Pause before each frame.
    """

    def __init__(self, pictures: Sequence[U8], period_s: float) -> None:
        self._pictures, self._period_s = pictures, period_s
        shape = pictures[0].shape
        self.info = SourceInfo(
            "a card", "v4l2", True, (shape[0], shape[1]), 30.0, None, (0.1, 0.1), "the driver"
        )
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        for index, pixels in enumerate(self._pictures):
            if self._closed.wait(self._period_s):
                return
            now_ns = time.monotonic_ns()
            yield Frame(pixels, index, now_ns, now_ns, index, (0.1, 0.1), Stamp.FRAME_END)

    def close(self) -> None:
        self._closed.set()


class Ultrasound(ArraySource):
    """Pictures that are known to be ultrasound from edge to edge."""

    def __init__(self, pictures: Sequence[U8]) -> None:
        super().__init__(pictures)
        height, width = pictures[0].shape
        self.info = replace(self.info, scan_area_px=(0, 0, width, height))


def moving_disc(count: int, shape: tuple[int, int] = (120, 160)) -> list[U8]:
    """Tissue that flows to the left, with a dark disc that moves to the right."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(60, 220, (shape[0] // 8, shape[1] // 8), dtype=np.uint8)
    tissue = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    dark = rng.integers(4, 16, shape, dtype=np.uint8)
    return [
        np.where(
            disc(shape, 50 + 0.3 * i, 60, 14) == 1,
            dark,
            np.clip(np.roll(tissue, -2 * i, 1), 60, 220),
        ).astype(np.uint8)
        for i in range(count)
    ]
