"""What the tests of exports share: recordings, a run with tracks, and what was written of them."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tracker.recording_scene import MANIFEST, SHAPE, frame_of, moving_disc, result_of
from tests.tracker.replay_scene import recorder_of
from veintrack.tracker.cli.app import run
from veintrack.tracker.frame import Frame, Region
from veintrack.tracker.recording import Recorder, RecordSettings
from veintrack.tracker.recording_names import FOLDER, TRACKED
from veintrack.tracker.sinks.tracked import TrackedSink
from veintrack.tracker.sources import open_source
from veintrack.tracker.sources.arrays import ArraySource

COUNT = 12
#: What a manifest says of what made the tracks, beside what all manifests of tests say.
FACTS: dict[str, Any] = {
    "clock_anchor": {"utc": "2026-01-02T03:04:05+00:00", "monotonic_ns": 17},
    "model": {"name": "default", "sha256": "ab" * 32},
    "versions": {"veintrack": "1.2"},
    "notice": "Research use only.",
    "engine": "openvino",
    "precision": "fp32",
    "source": {"name": "a test", "live": False, "times_from": "a test", "shape_px": SHAPE},
}


def recorded(
    folder: Path,
    frames: Iterable[Frame] | None = None,
    region: Region | None = None,
    **manifest: Any,
) -> Path:
    """Make a run's folder with a recording of these frames; of the whole of them by default."""
    frames = [frame_of(i) for i in range(COUNT)] if frames is None else frames
    settings = RecordSettings(full=region is None)
    recorder = Recorder(folder, settings, MANIFEST | manifest, region=region, patient=True)
    for frame in frames:
        recorder.put(frame)
    recorder.close()
    assert not recorder.problems()
    return folder


def looked_at(
    folder: Path,
    frames: Iterable[Frame],
    region: Region,
    unsure: Iterable[int] = (),
    changed: Iterable[int] = (),
) -> None:
    """Note what the run said of each frame: where the ultrasound lies, and whether that is sure."""
    sink = TrackedSink(folder / FOLDER / TRACKED)
    for frame in frames:
        said = ("layout changed",) if frame.index in changed else ()
        sink.write(result_of(frame, region, settled=frame.index not in unsure, changes=said))
    sink.close()


class Scan(ArraySource):
    """A vessel that moves, in a calibrated picture that is ultrasound from edge to edge."""

    def __init__(self, count: int = 40, *, spacing_mm: tuple[float, float] | None = (0.1, 0.2)):
        super().__init__(moving_disc(count), spacing_mm=spacing_mm)
        self.info = replace(self.info, scan_area_px=(0, 0, 160, 120))


def tracked(model_file: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    """Track and record a scan into the folder ``run``."""
    return recorder_of(model_file, monkeypatch)(Scan(**options))


def export(*arguments: object) -> int:
    return run(["export", *map(str, arguments)])


def read(path: Path) -> tuple[list[Frame], Any]:
    """Frames of a file as veintrack reads it, and what it knows of them."""
    with open_source(str(path)) as source:
        return list(source), source.info


def stacked(frames: Iterable[Frame]) -> NDArray[np.uint8]:
    return np.stack([frame.pixels for frame in frames])


def since_first_ns(frames: list[Frame]) -> list[int]:
    return [frame.capture_ns - frames[0].capture_ns for frame in frames]
