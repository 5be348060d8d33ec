"""Made scenes for the scores of tracks: truth, detections with a known error, a run's files."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from veintrack.tracker.frame import F64, Detection, Frame, FrameResult, Timings
from veintrack.tracker.scoring.rows import Rows
from veintrack.tracker.sinks.tables import CsvSink, JsonlSink, MotSink
from veintrack.tracker.tracks import VeinTracker

DT_S = 0.04
AXES_PX = (30.0, 20.0)
NO_TIME = Timings(*[0] * 8)


def wandering(objects: int, frames: int, psd_px2_s3: float, seed: int = 0) -> Rows:
    """Truth of objects whose velocity is a random walk, each in its own part of the picture."""
    rng = np.random.default_rng(seed)
    q = psd_px2_s3 * np.array([[DT_S**3 / 3, DT_S**2 / 2], [DT_S**2 / 2, DT_S]])
    half = np.linalg.cholesky(q)
    xy = np.zeros((frames, objects, 2))
    place, speed = np.stack([np.arange(objects) * 400.0, np.full(objects, 200.0)], 1), 0.0
    for k in range(frames):
        xy[k] = place
        step = rng.normal(size=(objects, 2, 2)) @ half.T
        place = place + speed * DT_S + step[..., 0]
        speed = speed + step[..., 1]
    frame = np.repeat(np.arange(frames), objects)
    flat = xy.reshape(-1, 2)
    size = np.full_like(flat, AXES_PX)
    return Rows(
        frame=frame,
        id=np.tile(np.arange(objects) + 1, frames),
        time_s=(frame * DT_S).astype(np.float64),
        xy_px=flat,
        box_px=np.hstack([flat - size / 2, size]),
        major_px=size[:, 0],
        minor_px=size[:, 1],
    )


def detections(
    truth: Rows, noise_px: float, stated_px: float, bias_px: float = 0.0, seed: int = 1
) -> Iterator[tuple[int, list[Detection]]]:
    """What is found in each frame: with a noise, and an error that each object keeps."""
    rng = np.random.default_rng(seed)
    kept = {one: rng.normal(0, bias_px, 2) for one in np.unique(truth.id).tolist()}
    for frame in np.unique(truth.frame).tolist():
        here = np.flatnonzero(truth.frame == frame)
        yield (
            frame,
            [
                _found(
                    truth.xy_px[k] + kept[int(truth.id[k])] + rng.normal(0, noise_px, 2), stated_px
                )
                for k in here
            ],
        )


def _found(xy_px: F64, stated_px: float) -> Detection:
    x, y = xy_px.tolist()
    width, height = AXES_PX
    return Detection(
        centroid_px=xy_px,
        covariance_px2=np.eye(2) * stated_px**2,
        area_px2=np.pi / 4 * width * height,
        axes_px=AXES_PX,
        angle_rad=0.0,
        score=0.95,
        box_px=(x - width / 2, y - height / 2, width, height),
    )


def write_run(
    folder: Path, seen: Iterator[tuple[int, list[Detection]]], spacing: float | None = None
) -> None:
    """Track what is seen, and write a run's files as the program does."""
    folder.mkdir(exist_ok=True)
    tracker = VeinTracker()
    sinks = (
        CsvSink(folder / "tracks.csv"),
        JsonlSink(folder / "tracks.jsonl"),
        MotSink(folder / "tracks.mot.txt"),
    )
    pixels = np.zeros((4, 4), np.uint8)
    for index, found in seen:
        capture_ns = round(index * DT_S * 1e9)
        tracks = tracker.update(found, capture_ns)
        result = FrameResult(Frame(pixels, index, capture_ns), tuple(found), tuple(tracks), NO_TIME)
        for sink in sinks:
            sink.write(result)
    for sink in sinks:
        sink.close()
    known = None if spacing is None else [spacing, spacing]
    record = {"configuration": {"spacing": None, "track": {}}, "source": {"spacing_mm": known}}
    (folder / "run.json").write_text(json.dumps(record))
