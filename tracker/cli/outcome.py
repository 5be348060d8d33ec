"""How a run went: counted while it goes on, summed up and told at its end."""

import json
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from veintrack.tracker.cli.best import BestVein
from veintrack.tracker.cli.recorded import Recordings
from veintrack.tracker.cli.saying import as_line
from veintrack.tracker.frame import STREAMING, FrameResult, Region, SourceState
from veintrack.tracker.pipeline import Pipeline
from veintrack.tracker.runfolder import Summary, percentiles_ms
from veintrack.tracker.segment import Segmenter
from veintrack.tracker.sources.base import Source
from veintrack.tracker.tracks import VeinTracker

__all__ = ["Outcome", "report", "summarise"]


class Outcome:
    """How the loop went, filled in while it runs."""

    def __init__(self, best: BestVein) -> None:
        self.best = best
        self.ages_ns = array("q")  # 8 bytes a frame, so that days fit
        self.begun_ns = time.monotonic_ns()
        self.done_ns = self.begun_ns
        self.ended = "done"
        self.problems: list[str] = []
        self.outages: list[dict[str, Any]] = []
        self._told = STREAMING

    def count(self, result: FrameResult) -> None:
        """Take in one result."""
        state = STREAMING if result.fresh else result.source
        if state.since_ns != self._told.since_ns:
            self._end_outage(result.time_ns)
            if not result.fresh:
                self.outages.append(_outage(state))
            self._told = state
        if not result.fresh:
            return
        if not self.ages_ns:
            self.begun_ns = result.timings.done_ns - result.timings.age_ns
        self.ages_ns.append(result.timings.age_ns)
        self.best.show(result)
        self.done_ns = result.timings.done_ns

    def end(self) -> None:
        """Close what is still open: an outage that lasts."""
        self._end_outage(time.monotonic_ns())

    def _end_outage(self, now_ns: int) -> None:
        if not self._told.since_ns:
            return
        self.outages[-1]["duration_s"] = round((now_ns - self._told.since_ns) * 1e-9, 3)


def _outage(state: SourceState) -> dict[str, Any]:
    return {"state": state.signal.value, "reason": as_line(state.reason), "duration_s": 0.0}


def summarise(
    outcome: Outcome,
    pipeline: Pipeline,
    source: Source,
    segmenter: Segmenter,
    tracker: VeinTracker,
    folder: Path,
    recordings: Recordings,
) -> Summary:
    """Sum up a run that has ended."""
    seconds = (outcome.done_ns - outcome.begun_ns) * 1e-9
    frames = len(outcome.ages_ns)
    return Summary(
        frames=frames,
        driver_drops=source.driver_drops,
        drops=pipeline.drops,
        fps=round(frames / seconds, 2) if seconds > 0 else 0.0,
        latency_ms=percentiles_ms(np.array(outcome.ages_ns, np.int64)),
        engine=segmenter.engine.name,
        precision=segmenter.engine.precision,
        device=segmenter.engine.device,
        tracks_confirmed=tracker.confirmed_count,
        output=str(folder),
        outages=source.outages,  # it sees those during which no result came, too
        too_old=pipeline.too_old,
        best=outcome.best.as_dict(),
        recorded=recordings.facts,
    )


def report(
    summary: Summary,
    source: Source,
    pipeline: Pipeline,
    extra: dict[str, str],
    folder: Path,
    console: Console,
    *,
    as_json: bool,
) -> None:
    """Print how a run went, and where its files are; as one JSON object if asked for."""
    if as_json:
        print(json.dumps(summary.as_dict()))  # noqa: T201
    if console.quiet or as_json:
        return
    expected = source.info.frame_count
    latency = ", ".join(f"{name} {ms:.1f}" for name, ms in summary.latency_ms.items())
    times = "once" if summary.outages == 1 else f"{summary.outages} times"
    rows = {
        "frames": f"{summary.frames}" + (f" of {expected}" if expected else ""),
        "dropped": f"{summary.driver_drops} by the driver, {summary.drops} by us",
        "too old": f"{summary.too_old}, predicted only" if summary.too_old else "",
        "source lost": f"{times}, and waited for" if summary.outages else "",
        "scan area": _area_in_words(pipeline.region),
        "sustained": f"{summary.fps:.1f} fps",
        "latency": f"{latency} ms",
        "engine": f"{summary.engine} {summary.precision} on {summary.device}",
        "tracks confirmed": f"{summary.tracks_confirmed}",
        **extra,
        "files": f"{folder}/: {', '.join(sorted(p.name for p in folder.iterdir()))}",
    }
    for name, value in rows.items():
        if value:
            print(f"{name:17} {value}")  # noqa: T201


def _area_in_words(area_px: Region | None) -> str:
    if area_px is None:
        return "no frame came"
    x, y, width, height = area_px
    return f"{width}x{height} px at ({x}, {y})"
