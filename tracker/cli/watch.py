"""The main job: open everything, run the pipeline, write the results, say how it went."""

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from veintrack._version import __version__
from veintrack.errors import OutputError, VeintrackError
from veintrack.tracker.cli.best import BestVein
from veintrack.tracker.cli.outcome import Outcome, report, summarise
from veintrack.tracker.cli.progress import Progress
from veintrack.tracker.cli.recorded import Recordings
from veintrack.tracker.cli.saying import as_line, let_speak
from veintrack.tracker.cli.stopping import Stop, stops_on_signal
from veintrack.tracker.cli.views import Outlet, View, open_views
from veintrack.tracker.config import RunConfig
from veintrack.tracker.controls import Controls, ControlState
from veintrack.tracker.overlay import NOTICE
from veintrack.tracker.pipeline import Pipeline, PipelineSettings, slots_for
from veintrack.tracker.profile_files import read_profile
from veintrack.tracker.profiles import ScannerProfile, check_profile
from veintrack.tracker.ruler import spacing_for_depth
from veintrack.tracker.runfolder import clock_anchor, prepare, run_record, write_record
from veintrack.tracker.segment import load_segmenter
from veintrack.tracker.sinks.base import Sink, SinkThread, problems_of
from veintrack.tracker.sinks.tables import CsvSink, JsonlSink, MotSink
from veintrack.tracker.sources import open_source
from veintrack.tracker.sources.base import Source
from veintrack.tracker.survey import survey
from veintrack.tracker.tracks import VeinTracker

if TYPE_CHECKING:
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
        recordings = Recordings(config, source)
        source = recordings.source
        line = replay.line if replay else Pipeline
        pipeline = line(source, segmenter, tracker, settings)
        notes = replay.notes(segmenter) if replay else []
        began = ControlState(source.info.live, pipeline.threshold, recording=config.record)
        controls = Controls(pipeline.stop, began)
        views = open_views(config, controls, source.info)
        stack.callback(_close, views)
        stop = stack.enter_context(stops_on_signal(pipeline.stop))
        folder = prepare(
            config.output, overwrite=config.overwrite, video=config.video, source=config.source
        )
        controls.folder = folder
        for note in notes:
            console.print(f"  {note}")
        _say_where(views)
        anchor = clock_anchor()
        record = run_record(config, source.info, segmenter, anchor)
        write_record(folder, record)
        run = _Run(pipeline, recordings, record, folder, stop)
        if config.record:
            console.print(f"  {run.record(on=True)}")
        outcome = _track(run, source, config, folder, views, controls, console, stop)
        if replay and not stop.asked:
            outcome.problems += replay.judge(folder)
        summary = summarise(outcome, pipeline, source, segmenter, tracker, folder, recordings)
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
        "recorded": recordings.in_words,
        "verified": replay.verdict.said if replay and replay.verdict else "",
    }
    report(summary, source, pipeline, extra, folder, console, as_json=as_json)
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


def _say_where(views: Sequence[View]) -> None:
    """Print the addresses of views: whole, whatever the terminal's width, and also if quiet."""
    console = Console(stderr=True, highlight=False)
    for said in filter(None, (view.said for view in views)):
        console.print(f"  {said}", soft_wrap=True, markup=False)


def _close(views: Sequence[View]) -> None:
    for view in views:
        view.close()


class _Run:
    """A run, as somebody at a view may change it."""

    def __init__(
        self,
        pipeline: Pipeline,
        recordings: Recordings,
        facts: Mapping[str, Any],
        folder: Path,
        stop: Stop,
    ) -> None:
        self.pipeline, self.recordings = pipeline, recordings
        self._facts, self._folder, self._stop = facts, folder, stop

    @property
    def stopping(self) -> bool:
        return self.pipeline.stopping

    def hold(self, on: bool) -> None:
        self.pipeline.hold(on)

    def look_from(self, threshold: float) -> None:
        self.pipeline.detect = replace(self.pipeline.detect, threshold=threshold)

    def record(self, on: bool) -> str:
        if not on:
            return self.recordings.finish()
        then: dict[str, Any] = self._facts["configuration"]
        facts = {**self._facts, "configuration": {**then, "detect": asdict(self.pipeline.detect)}}
        self.recordings.begin(self._folder, facts, self.pipeline, self._stop)
        return self.recordings.said


def _track(
    run: _Run,
    source: Source,
    config: RunConfig,
    folder: Path,
    views: Sequence[View],
    controls: Controls,
    console: Console,
    stop: Stop,
) -> Outcome:
    """Run the loop to its end, whatever that is, and close every sink and view."""
    outcome = Outcome(BestVein(config.sort_by, config.catheter_mm))
    pipeline, recordings = run.pipeline, run.recordings
    sinks = _open_sinks(config, folder, stop, patient=not pipeline.newest_only)
    outlets: list[Outlet] = [*sinks, *views, recordings]
    total = config.max_frames or source.info.frame_count
    try:
        with Progress(console, total) as progress:
            for result in pipeline:
                for outlet in outlets:
                    outlet.put(result)
                outcome.count(result)
                progress.show(result, pipeline.drops + source.driver_drops, pipeline.too_old)
                controls.obey(run)
    except (VeintrackError, ValueError) as error:
        # The source or the engine failed, or a frame fits no more; what came before stands.
        outcome.ended = as_line(str(error))
        outcome.problems.append(outcome.ended)
    finally:
        recordings.end()  # all at once: one that hangs takes no time from the others
        for sink in sinks:
            sink.end()
        for outlet in reversed(outlets):
            outlet.close()
        outcome.end()
    outcome.problems += problems_of(sinks) + recordings.problems()
    return outcome
