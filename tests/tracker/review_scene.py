"""What the tests of reviews and reports share: a run whose every result is known, and its files."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.tracker.recording_scene import MANIFEST, NOTHING, frame_of, noise
from veintrack.tracker.frame import (
    U8,
    Detection,
    FrameResult,
    Measurement,
    Region,
    Shape,
    Signal,
    SourceState,
    Track,
    TrackStatus,
)
from veintrack.tracker.recording import Recorder, RecordSettings
from veintrack.tracker.sinks.base import Sink
from veintrack.tracker.sinks.tables import CsvSink, JsonlSink
from veintrack.tracker.sinks.tracked import TrackedSink

AREA: Region = (11, 6, 90, 70)  # of frames of 121 x 90 px
TIMINGS = replace(NOTHING, infer_ns=7_000_000, age_ns=9_000_000)
RECORD: dict[str, Any] = {
    "notice": "Research use only.",
    "versions": {"veintrack": "0"},
    "model": {"name": "default", "sha256": "00ff", "classes": ["vessel"], "threshold": 0.4},
    "engine": "onnxruntime",
    "precision": "fp32",
    "device": "a CPU",
    "configuration": {"source": "demo", "output": None, "video": None, "track": {"coast_s": 1.0}},
    "source": {"name": "demo", "live": False, "times_from": "a test"},
    "clock_anchor": {"utc": "2001-02-03T04:05:06+00:00"},
    "latency_from": "here to there",
    "outages": [],
    "ended": "done",
    "summary": {"frames": 60, "fps": 29.5, "latency_ms": {"p50": 1.0}, "output": "here"},
}


def seen(
    number: int = 1, x: float = 50.0, minor: float = 12.0, collapse: float | None = None
) -> Track:
    """A confirmed track of a vessel 20 px wide."""
    found = Detection(
        np.array([x, 40.0]),
        np.array([[0.5, 0.1], [0.1, 0.4]]),
        188.5,
        (20.0, minor),
        0.3,
        0.9,
        (x - 10, 34.0, 20.0, 12.0),
        np.array([[x - 10, 40], [x, 34], [x + 10, 40], [x, 46]], np.float32),
    )
    mm = Measurement(
        188.5, 20.0, minor, 17.25, 4.05, 1.885, 2.0, minor / 10, collapse, 1.2, 28.0, 2.8, 0.1, 0.9
    )
    return Track(
        number,
        TrackStatus.CONFIRMED,
        np.array([x + 0.25, 40.5]),
        np.array([3.0, -1.5]),
        np.array([[0.3, 0.05], [0.05, 0.2]]),
        found.box_px,
        found.score,
        found,
        mm,
        Shape(190.0, 20.5, minor, 0.3, 0.05),
        state_cov=np.eye(4),
    )


def predicted(number: int = 1, x: float = 50.0, *, collapsed: bool = False) -> Track:
    """The same track, where it is not seen."""
    return replace(
        seen(number, x),
        status=TrackStatus.COASTING,
        detection=None,
        measurement=None,
        collapsed=collapsed,
    )


def result(index: int, *tracks: Track, pixels: U8 | None = None, **more: Any) -> FrameResult:
    """The result of a frame; `more` are fields of it."""
    frame = frame_of(index, pixels)
    at_ns = more.get("between_ns") or frame.capture_ns
    own = tuple(replace(track, time_ns=at_ns) for track in tracks)
    found = tuple(t.detection for t in own if t.detection is not None)
    given: dict[str, Any] = {"scan_area_px": AREA, **more}
    return FrameResult(frame, found, own, TIMINGS, **given)


def between(index: int, after_s: float, *tracks: Track) -> FrameResult:
    """A result without a frame, so long after that of the index."""
    at_ns = frame_of(index, noise(0)).capture_ns + round(after_s * 1e9)
    lost = SourceState(Signal.LOST, at_ns, "unplugged")
    return result(index, *tracks, between_ns=at_ns, source=lost, segmented=False)


def keep(
    folder: Path,
    results: Sequence[FrameResult],
    *,
    region: Region | None = AREA,
    objects: bool = True,
    settings: RecordSettings | None = None,
) -> Path:
    """Write the files of a recorded run, its scan area only, or with no region whole frames."""
    settings = settings or RecordSettings(full=region is None)
    recorder = Recorder(
        folder,
        settings,
        {**RECORD, **MANIFEST, "whole_frames": region is None},
        region=region,
        patient=True,
    )
    for one in results:
        if one.fresh:
            recorder.put(one.frame)
    recorder.close()
    recording = folder / "recording"
    write(CsvSink(recording / "tracks.csv"), results)
    write(TrackedSink(recording / "tracked.jsonl"), results)
    return keep_tables(folder, results) if objects else folder


def keep_tables(folder: Path, results: Sequence[FrameResult], **record: Any) -> Path:
    """Write the tables of a run, and what it says of itself."""
    folder.mkdir(exist_ok=True)
    write(CsvSink(folder / "tracks.csv"), results)
    write(JsonlSink(folder / "tracks.jsonl"), results)
    (folder / "run.json").write_text(json.dumps({**RECORD, **record}))
    return folder


def write(sink: Sink, results: Iterable[FrameResult]) -> None:
    for one in results:
        sink.write(one)
    sink.close()
