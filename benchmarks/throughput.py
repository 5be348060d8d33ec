"""Frames per second of the whole line, beside those of the bare engine in the same run.

    python benchmarks/throughput.py --json throughput.json

Frames are 640x480, rendered ahead. The bare engine gets ready frames on its own grid; the line gets
frames as a file would deliver them, resamples, segments, detects and tracks, without sinks. Both
are timed in turns, so that other loads on the machine hit both; their ratio is what to read. The
first frames of each turn are dropped as warm-up.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from veintrack.engines.base import infer, open_engine
from veintrack.engines.model import read_model_info, resolve_model
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import U8, Frame
from veintrack.tracker.grid import fit, image_to_grid
from veintrack.tracker.phantom import Phantom, demo_settings
from veintrack.tracker.pipeline import Pipeline, PipelineSettings
from veintrack.tracker.segment import Segmenter
from veintrack.tracker.sources.base import SourceInfo
from veintrack.tracker.tracks import VeinTracker

WARM_UP = 10


class Ready(Closing):
    """Frames that lie in memory."""

    driver_drops = 0

    def __init__(self, pictures: list[U8]) -> None:
        shape = (pictures[0].shape[0], pictures[0].shape[1])
        self.info = SourceInfo(
            "ready", "demo", False, shape, 30.0, len(pictures), None, "the frame number"
        )
        self._pictures = pictures

    def __iter__(self) -> Iterator[Frame]:
        for i, pixels in enumerate(self._pictures):
            yield Frame(pixels, i, i * 33_333_333, time.monotonic_ns())

    def close(self) -> None:
        """Hold nothing, free nothing."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One engine and precision."""

    engine: str
    precision: str
    device: str
    bare_fps: float
    line_fps: float
    line_over_bare: float
    prepare_ms: float
    infer_ms: float
    detect_ms: float
    track_ms: float


def spent_s(act: Callable[[], None]) -> float:
    """Wall time of one call."""
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def measure(name: str, precision: str, model: str, pictures: list[U8], turns: int) -> Figures:
    """Time the bare engine and the whole line, in turns; medians over the turns."""
    info = read_model_info(resolve_model(model))
    engine = open_engine(info, name, precision=precision)
    ready = np.zeros((1, 1, *info.input_shape), np.uint8)
    image_to_grid(pictures[0], fit(pictures[0].shape[:2], info.input_shape), ready[0, 0])
    timed = len(pictures) - WARM_UP

    def bare() -> None:
        for _ in range(timed):
            infer(engine, ready)

    stages: list[tuple[int, int, int, int]] = []

    def line() -> float:
        results = iter(
            Pipeline(
                Ready(pictures),
                Segmenter(engine, info),
                VeinTracker(),
                PipelineSettings(crop="none", contours=False),
            )
        )
        for _ in range(WARM_UP):
            next(results)
        begun = time.perf_counter()
        for result in results:
            t = result.timings
            stages.append((t.prepare_ns, t.infer_ns, t.detect_ns, t.track_ns))
        return time.perf_counter() - begun

    for _ in range(WARM_UP):
        infer(engine, ready)
    times = [(spent_s(bare), line()) for _ in range(turns)]
    bare_s, line_s = np.median(times, axis=0)
    prepare, infer_, detect, track = np.median(stages, axis=0) * 1e-6
    return Figures(
        engine=name,
        precision=engine.precision,
        device=engine.device,
        bare_fps=round(timed / bare_s, 1),
        line_fps=round(timed / line_s, 1),
        line_over_bare=round(float(np.median([b / n for b, n in times])), 3),
        prepare_ms=round(float(prepare), 2),
        infer_ms=round(float(infer_), 2),
        detect_ms=round(float(detect), 3),
        track_ms=round(float(track), 3),
    )


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    phantom = Phantom(demo_settings())
    pictures: list[U8] = []
    render_s = spent_s(
        lambda: pictures.extend(phantom.render(i).pixels for i in range(options.frames + WARM_UP))
    )
    figures = [
        measure(name, precision, options.model, pictures, options.turns)
        for name, precision in (
            ("openvino", "auto"),
            ("openvino", "fp32"),
            ("onnxruntime", "fp32"),
        )
    ]
    table = Table(title=f"640x480 frames; the phantom renders {len(pictures) / render_s:.0f} fps")
    shown = [name for name in Figures.__slots__ if name != "device"]
    for name in shown:
        table.add_column(name.replace("_", " "), justify="right")
    for one in figures:
        table.add_row(*(str(getattr(one, name)) for name in shown))
    Console(width=120).print(table)
    if options.json:
        record = {
            "device": figures[0].device,
            "model_sha256": read_model_info(resolve_model(options.model)).sha256,
            "frames": options.frames,
            "turns": options.turns,
            "phantom_render_fps": round(len(pictures) / render_s, 1),
            "figures": [asdict(one) for one in figures],
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
