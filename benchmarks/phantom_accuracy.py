"""Follow three veins on the phantom, whose truth is exact.

    python benchmarks/phantom_accuracy.py --json phantom_accuracy.json

Runs the whole line twice on the same frames: with the network, and with the exact masks in its
place (what detection and tracking alone can do). Every vein must be confirmed, none may change its
identity, and the centroid's error is taken against the phantom's truth, over all frames in which
the vein is confirmed or coasting.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from veintrack.tracker.frame import F32, U8, FrameResult, Region, TrackStatus
from veintrack.tracker.grid import fit, mask_to_grid
from veintrack.tracker.phantom import (
    MotionSettings,
    Phantom,
    PhantomFrame,
    PhantomSettings,
    VesselSettings,
)
from veintrack.tracker.pipeline import Pipeline, PipelineSettings
from veintrack.tracker.segment import GridSegmenter, InWork, load_segmenter
from veintrack.tracker.sources.demo import open_demo
from veintrack.tracker.tracks import VeinTracker

NEAR_PX = 30.0  # a track farther than this from a vein does not follow it


@dataclass(frozen=True, slots=True)
class Score:
    """One run against its truth."""

    seed: int
    masks_from: str
    frames: int
    veins: int
    veins_confirmed: int
    identity_switches: int
    false_tracks: int
    coverage: float
    rmse_px: float
    rmse_mm: float
    p95_px: float


def three_veins(seed: int) -> PhantomSettings:
    """Three veins of different size and depth, a probe that slides and presses lightly."""
    return PhantomSettings(
        seed=seed,
        vessels=(
            VesselSettings("vein", -14.0, 12.0, 6.5, 4.5, sway_mm=0.3, sway_hz=0.3),
            VesselSettings("vein", 1.0, 20.0, 9.0, 6.5, 0.3, sway_mm=0.4, sway_hz=0.2),
            VesselSettings("vein", 15.0, 10.0, 5.0, 4.0, -0.2, sway_mm=0.2, sway_hz=0.4),
        ),
        motion=MotionSettings(slide_amplitude_mm=3.0, slide_hz=0.2, press_amplitude=0.25),
    )


class TruthSegmenter:
    """The phantom's own masks in place of a network; asked frame by frame, in order."""

    threshold = 0.5
    input_shape = (256, 256)
    slots = 1

    def __init__(self, frames: Sequence[PhantomFrame]) -> None:
        self._next = iter(frames)

    def start(self, pixels: U8, region: Region | None = None) -> InWork:
        grid = fit((pixels.shape[0], pixels.shape[1]), self.input_shape, region)
        return InWork(0, grid, pixels)

    def ready(self, work: InWork) -> bool:
        del work
        return True

    def result(self, work: InWork) -> F32:
        return mask_to_grid((next(self._next).labels > 0).astype(np.uint8), work.grid)


def follow(
    results: Iterator[FrameResult], truth: Sequence[PhantomFrame]
) -> Iterator[tuple[dict[int, int], dict[int, float], set[int]]]:
    """Say for each frame which track follows which vein, how far off, and which follow none."""
    for result, frame in zip(results, truth, strict=True):
        tracks = [
            t for t in result.tracks if t.status in (TrackStatus.CONFIRMED, TrackStatus.COASTING)
        ]
        veins = [v for v in frame.vessels if v.visible]
        if not tracks or not veins:
            yield {}, {}, {t.id for t in tracks}
            continue
        away = np.array(
            [[np.hypot(*(t.centroid_px - v.centroid_px)) for t in tracks] for v in veins]
        )
        pairs = [
            (v, t)
            for v, t in zip(*linear_sum_assignment(away), strict=True)
            if away[v, t] <= NEAR_PX
        ]
        taken = {tracks[t].id for _, t in pairs}
        yield (
            {veins[v].id: tracks[t].id for v, t in pairs},
            {veins[v].id: float(away[v, t]) for v, t in pairs},
            {t.id for t in tracks} - taken,
        )


def score(
    seed: int, masks_from: str, results: Iterator[FrameResult], truth: Sequence[PhantomFrame]
) -> Score:
    """Sum up one run."""
    followed: dict[int, list[int]] = {}
    errors: list[float] = []
    strangers: set[int] = set()
    for who, how_far, nobody in follow(results, truth):
        for vein, track in who.items():
            followed.setdefault(vein, []).append(track)
        errors += how_far.values()
        strangers |= nobody
    visible = sum(v.visible for frame in truth for v in frame.vessels)
    squares = np.square(errors)
    rmse_px = float(np.sqrt(squares.mean())) if errors else float("nan")
    spacing_mm = three_veins(seed).mm_per_px
    return Score(
        seed=seed,
        masks_from=masks_from,
        frames=len(truth),
        veins=len(truth[0].vessels),
        veins_confirmed=len(followed),
        identity_switches=sum(sum(a != b for a, b in pairwise(ids)) for ids in followed.values()),
        false_tracks=len(strangers - {t for ids in followed.values() for t in ids}),
        coverage=round(len(errors) / visible, 4),
        rmse_px=round(rmse_px, 3),
        rmse_mm=round(rmse_px * spacing_mm, 4),
        p95_px=round(float(np.percentile(errors, 95)) if errors else float("nan"), 3),
    )


def run(seed: int, frames: int, segmenter: GridSegmenter | None) -> Score:
    """Run the line once; without a segmenter, on the exact masks."""
    settings = three_veins(seed)
    phantom = Phantom(settings)
    truth = [phantom.render(i) for i in range(frames)]
    with open_demo(settings, frame_count=frames) as source:
        line = Pipeline(
            source,
            segmenter or TruthSegmenter(truth),
            VeinTracker(),
            PipelineSettings(crop="none", contours=False),
        )
        return score(seed, "network" if segmenter else "truth", iter(line), truth)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default="default")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    segmenter = load_segmenter(options.model, engine=options.engine, precision=options.precision)
    scores = [
        run(seed, options.frames, which) for seed in options.seeds for which in (segmenter, None)
    ]
    table = Table(title="Three veins at 30 fps, 640x480 px, 0.083 mm a pixel")
    for name in Score.__slots__:
        table.add_column(name.replace("_", " "), justify="right")
    for one in scores:
        table.add_row(*(str(value) for value in asdict(one).values()))
    Console(width=160).print(table)
    if options.json:
        record = {
            "model_sha256": segmenter.model.sha256,
            "engine": segmenter.engine.name,
            "precision": segmenter.engine.precision,
            "device": segmenter.engine.device,
            "scores": [asdict(one) for one in scores],
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
