"""The main job: open everything, run the pipeline, write the results, say how it went."""

import json
import math
import sys
import time
from array import array
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from veintrack._version import __version__
from veintrack.errors import OutputError, VeintrackError
from veintrack.tracker.cli.best import BestVein
from veintrack.tracker.cli.progress import Progress
from veintrack.tracker.cli.saying import as_line, let_speak
from veintrack.tracker.cli.stopping import Stop, stops_on_signal
from veintrack.tracker.config import RunConfig
from veintrack.tracker.frame import STREAMING, FrameResult, Region, SourceState
from veintrack.tracker.overlay import NOTICE
from veintrack.tracker.pipeline import Pipeline, PipelineSettings, slots_for
from veintrack.tracker.profile_files import read_profile
from veintrack.tracker.profiles import ScannerProfile, check_profile
from veintrack.tracker.ruler import spacing_for_depth
from veintrack.tracker.runfolder import (
    Summary,
    clock_anchor,
    percentiles_ms,
    prepare,
    run_record,
    write_record,
)
from veintrack.tracker.segment import Segmenter, load_segmenter
from veintrack.tracker.sinks.base import Sink, SinkThread
from veintrack.tracker.sinks.tables import CsvSink, JsonlSink, MotSink
from veintrack.tracker.sinks.window import WindowView, has_screen, open_window
from veintrack.tracker.sources import open_source
from veintrack.tracker.sources.base import Source
from veintrack.tracker.survey import survey
from veintrack.tracker.tracks import VeinTracker

if TYPE_CHECKING:  # on use: without --record the file library is not needed
    from veintrack.tracker.cli.recorded import Recording
    from veintrack.tracker.cli.replay_run import Replay

__all__ = ["watch"]

_DEMO_FRAMES, _DEMO_RATE_HZ = 300, 30


def watch(
    config: RunConfig,
    *,
    quiet: bool = False,
    as_json: bool = False,
    replay: "Replay | None" = None,
) -> int:
    """Track a source as configured, or a recording again; returns the exit code.

    Nothing is written before the source, the model and the engine are open.

    Raises
    ------
    VeintrackError, ValueError
        If any of them cannot be opened, or the output folder cannot be used.
    """
    console = Console(stderr=True, quiet=quiet, highlight=False)
    console.print(f"veintrack {__version__}. {NOTICE}")
    if not quiet:  # what takes long is said: an engine that is built
        let_speak("veintrack.engines")
    profile = read_profile(config.profile) if config.profile else None
    if profile is not None or config.depth_mm is not None:
        config = _surveyed(config, profile, console)
    with ExitStack() as stack:
        source: Source = stack.enter_context(replay.open() if replay else _open(config))
        _tell(source, console)
        segmenter = stack.enter_context(
            load_segmenter(
                config.model,
                engine=config.engine,
                precision=config.precision,
                device=config.device,
                slots=replay.slots
                if replay
                else slots_for(live=source.info.live, pace=config.pace),
                limits=config.parity,
            )
        )
        tracker = VeinTracker(config.track)
        settings = _pipeline_settings(config)
        recording = _recording_of(source, config)
        source = recording.source if recording else source
        line = replay.line if replay else Pipeline
        pipeline = line(source, segmenter, tracker, settings)
        for note in replay.notes(segmenter) if replay else ():
            console.print(f"  {note}")
        views = _open_views(config, pipeline)
        for view in views:
            stack.callback(view.close)
        stop = stack.enter_context(stops_on_signal(pipeline.stop))
        folder = prepare(
            config.output, overwrite=config.overwrite, video=config.video, source=config.source
        )
        anchor = clock_anchor()
        record = run_record(config, source.info, segmenter, anchor)
        write_record(folder, record)
        if recording:
            recording.begin(folder, record, pipeline, stop)
            console.print(f"  {recording.said}")
        outcome = _track(pipeline, source, config, folder, views, console, stop, recording)
        if replay and not stop.asked:
            outcome.problems += replay.judge(folder)
        summary = _summarise(outcome, pipeline, source, segmenter, tracker, folder, recording)
        interrupted = stop.asked
        record = run_record(
            config,
            source.info,
            segmenter,
            anchor,
            region=pipeline.region,
            summary=summary,
            outages=outcome.outages,
            ended="interrupted" if interrupted else outcome.ended,
        )
        try:
            write_record(folder, record)
        except OutputError as error:
            outcome.problems.append(str(error))

    extra = {
        "best vein": outcome.best.in_words(),
        "recorded": recording.in_words if recording else "",
        "verified": replay.verdict.said if replay and replay.verdict else "",
    }
    _report(summary, source, pipeline, extra, folder, console, as_json=as_json)
    for problem in outcome.problems:
        print(f"veintrack: {as_line(problem)}", file=sys.stderr)  # noqa: T201
    if interrupted:
        return 130
    return 1 if outcome.problems else 0


def _tell(source: Source, console: Console) -> None:
    """Say what is worth knowing of a source."""
    info = source.info
    assumed = "assumed" in info.times_from and info.times_from not in info.notes
    for note in (*info.notes, *((info.times_from,) if assumed else ())):
        console.print(f"  {note}")


def _recording_of(source: Source, config: RunConfig) -> "Recording | None":
    if not config.record:
        return None
    from veintrack.tracker.cli.recorded import Recording

    return Recording(config, source)


class _Outcome:
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


def _open(config: RunConfig) -> Source:
    frames = _DEMO_FRAMES
    if config.duration is not None:
        frames = math.ceil(config.duration * _DEMO_RATE_HZ)
    return open_source(
        config.source,
        spacing_mm=config.spacing,
        fps=config.fps,
        mode=config.mode,
        on_lost=config.on_lost,
        lost_timeout_s=config.lost_timeout,
        demo_frames=config.max_frames or frames,
    )


def _surveyed(config: RunConfig, profile: ScannerProfile | None, console: Console) -> RunConfig:
    """Hold the source's first second against the profile, and work out spacing from the depth.

    Raises
    ------
    VeintrackError, ValueError
        If the picture is not the profile's, or there is no scan area whose depth could be meant.
    """
    with _open(config) as source:
        seen = survey(source, config.crop)
    if profile is not None:
        own = config.spacing is not None and config.spacing == profile.spacing_mm
        check_profile(profile, seen.pixels, spacing_used=own)
    if config.depth_mm is None:
        return config
    if seen.how == "not found":
        raise ValueError(
            "no scan area was found, and --depth-mm is that of one: name it with --crop X,Y,W,H, "
            "or --crop none if the ultrasound fills the picture"
        )
    found = spacing_for_depth(seen.pixels, seen.area_px, config.depth_mm)
    console.print(f"  {found.spacing_mm[0]:.5g} mm a pixel, from {found.said}")
    crop = seen.area_px if config.crop == "auto" else config.crop
    return replace(config, crop=crop, spacing=found.spacing_mm, depth_mm=None)


def _pipeline_settings(config: RunConfig) -> PipelineSettings:
    return PipelineSettings(
        crop=config.crop,
        pace=config.pace,
        contours=True,
        judge_pictures=config.judge_pictures,
        max_age_ms=config.max_age_ms,
        max_frames=config.max_frames,
        duration_s=config.duration,
        detect=config.detect,
    )


def _open_views(config: RunConfig, pipeline: Pipeline) -> list[WindowView]:
    """Open the window if it is asked for, or, for ``auto``, if that is possible."""
    if config.view == "window":
        return [open_window(pipeline.stop)]
    if config.view == "auto" and has_screen() and find_spec("pygame"):
        with suppress(OutputError):  # a screen that is named but refuses: nobody insisted on it
            return [open_window(pipeline.stop)]
    return []


def _open_sinks(config: RunConfig, folder: Path, stop: Stop, *, patient: bool) -> list[SinkThread]:
    sinks: list[Sink] = [
        CsvSink(folder / "tracks.csv"),
        JsonlSink(folder / "tracks.jsonl", config.sort_by),
        MotSink(folder / "tracks.mot.txt"),
    ]
    if config.video is not None:
        from veintrack.tracker.sinks.video import VideoSink

        sinks.append(VideoSink(folder / config.video))
    return [
        SinkThread(sink, capacity=128, patient=patient, due_s=lambda: stop.by_s) for sink in sinks
    ]


def _track(
    pipeline: Pipeline,
    source: Source,
    config: RunConfig,
    folder: Path,
    views: list[WindowView],
    console: Console,
    stop: Stop,
    recording: "Recording | None",
) -> _Outcome:
    """Run the loop to its end, whatever that is, and close every sink and view."""
    outcome = _Outcome(BestVein(config.sort_by, config.catheter_mm))
    sinks = _open_sinks(config, folder, stop, patient=not pipeline.newest_only)
    outlets: list[SinkThread | WindowView | Recording] = [*sinks, *views]
    if recording:
        sinks += recording.sinks
        outlets += [*recording.sinks, recording]
    total = config.max_frames or source.info.frame_count
    try:
        with Progress(console, total) as progress:
            for result in pipeline:
                for outlet in outlets:
                    outlet.put(result)
                outcome.count(result)
                progress.show(result, pipeline.drops + source.driver_drops, pipeline.too_old)
    except (VeintrackError, ValueError) as error:
        # The source or the engine failed, or a frame fits no more; what came before stands.
        outcome.ended = as_line(str(error))
        outcome.problems.append(outcome.ended)
    finally:
        for sink in (*sinks, *([recording] if recording else ())):
            sink.end()  # all at once: one that hangs takes no time from the others
        for outlet in reversed(outlets):
            outlet.close()
        outcome.end()
    outcome.problems += _sink_problems(sinks) + (recording.problems() if recording else [])
    return outcome


def _sink_problems(sinks: list[SinkThread]) -> list[str]:
    failed = [
        f"{s.name} is incomplete: {getattr(s.error, 'strerror', None) or s.error}"
        for s in sinks
        if s.error
    ]
    late = [
        f"{s.name} lacks {s.left_out} frames: writing was slower than the source"
        for s in sinks
        if s.left_out
    ]
    unwritten = [
        f"{s.name} lacks the last {s.unwritten} frames: the run was stopped before their turn"
        for s in sinks
        if s.unwritten and not s.error
    ]
    return failed + late + unwritten


def _summarise(
    outcome: _Outcome,
    pipeline: Pipeline,
    source: Source,
    segmenter: Segmenter,
    tracker: VeinTracker,
    folder: Path,
    recording: "Recording | None",
) -> Summary:
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
        recorded=recording.facts if recording else None,
    )


def _report(
    summary: Summary,
    source: Source,
    pipeline: Pipeline,
    extra: dict[str, str],
    folder: Path,
    console: Console,
    *,
    as_json: bool,
) -> None:
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
