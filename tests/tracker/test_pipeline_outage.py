"""The main loop while its live source fails and comes back."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from tests.tracker.faulty_source import (
    Fails,
    FaultySource,
    Frames,
    Hangs,
    Refuses,
    Script,
    Stalls,
    Step,
)
from veintrack.errors import SourceLostError
from veintrack.tracker.frame import F32, U8, FrameResult, Region, Signal, TrackStatus
from veintrack.tracker.grid import fit
from veintrack.tracker.pipeline import Pipeline, PipelineSettings
from veintrack.tracker.segment import InWork
from veintrack.tracker.sinks.base import Sink
from veintrack.tracker.sinks.tables import CsvSink, JsonlSink, MotSink
from veintrack.tracker.sources.persistent import PersistentSource
from veintrack.tracker.tracks import TrackSettings, VeinTracker


class DarkIsVessel:
    """A segmenter without a network."""

    threshold, input_shape, slots = 0.5, (120, 160), 1

    def start(self, pixels: U8, region: Region | None = None) -> InWork:
        self._answer = (pixels < 40).astype(np.float32)
        return InWork(0, fit((120, 160), self.input_shape, region), pixels)

    def ready(self, work: InWork) -> bool:
        del work
        return True

    def result(self, work: InWork) -> F32:
        del work
        return self._answer


def line(
    *steps: Step, timeout_s: float = 5.0, coast_s: float = 0.25, duration_s: float | None = None
) -> Pipeline:
    return Pipeline(
        PersistentSource(FaultySource(Script(list(steps))), timeout_s),
        DarkIsVessel(),
        VeinTracker(TrackSettings(coast_s=coast_s, confirm_s=0.01)),
        PipelineSettings(crop="none", judge_pictures=False, duration_s=duration_s),
    )


def until_lost(results: list[FrameResult]) -> int:
    return next(i for i, r in enumerate(results) if not r.fresh)


def outage() -> list[FrameResult]:
    """Ten frames, unplugged for good, until the run's time is over."""
    return list(line(Frames(10), Fails("ENODEV"), Hangs(), duration_s=0.8))


def test_the_loss_is_told_at_once_and_the_tracks_coast_then_end() -> None:
    results = outage()
    first = until_lost(results)
    silent = results[first:]
    assert not any(r.fresh for r in silent)
    assert {r.source.signal for r in silent} == {Signal.LOST}
    assert {r.source.reason for r in silent} == {"ENODEV"}
    assert silent[0].time_ns - results[first - 1].frame.capture_ns < 0.5e9
    statuses = [r.tracks[0].status for r in silent if r.tracks]
    assert statuses[:-1] == [TrackStatus.COASTING] * (len(statuses) - 1)
    assert statuses[-1] is TrackStatus.LOST
    assert len(statuses) >= 3
    assert all(r.detections == () for r in silent)


def test_no_frame_is_invented() -> None:
    script = Script([Frames(6), Fails(), Frames(6), Stalls(), Frames(6), Hangs()])
    source = PersistentSource(FaultySource(script), 5.0)
    settings = PipelineSettings(crop="none", judge_pictures=False, duration_s=1.0)
    results = list(Pipeline(source, DarkIsVessel(), VeinTracker(), settings))
    fresh = [r.frame for r in results if r.fresh]
    assert {(f.driver_sequence, f.capture_ns) for f in fresh} <= set(script.made)
    assert len({f.index for f in fresh}) == len(fresh)
    shown = {r.frame.index for r in results if not r.fresh}
    assert shown <= {f.index for f in fresh}


def test_the_same_track_goes_on_after_a_short_outage() -> None:
    results = []
    run = line(Frames(10), Fails(), Frames(10), Hangs(), coast_s=1.0)
    for result in run:
        results.append(result)
        if result.frame.index == 19:
            run.stop()
    assert {t.id for r in results for t in r.tracks} == {1}
    assert results[-1].tracks[0].status is TrackStatus.CONFIRMED
    assert results[-1].source.signal is Signal.STREAMING


def test_a_frame_that_was_taken_before_the_last_look_is_no_step_back_in_time() -> None:
    tracker = VeinTracker()
    assert tracker.coast(10**9) == []
    tracker.update([], 5 * 10**8)


def test_duration_ends_a_run_in_which_no_frame_comes() -> None:
    begun_s = time.monotonic()
    list(line(Frames(1), Hangs(), duration_s=0.3))
    assert 0.2 < time.monotonic() - begun_s < 2.0


@pytest.mark.parametrize("state", [Fails(), Stalls()])
def test_stopping_while_it_is_lost_ends_the_loop_within_a_second(state: Step) -> None:
    run = line(Frames(5), state, Hangs())
    stopped_s = 0.0
    for result in run:
        if not result.fresh and not stopped_s:
            stopped_s = time.monotonic()
            run.stop()
    assert stopped_s
    assert time.monotonic() - stopped_s < 1.0


def test_what_does_not_come_back_ends_the_run_with_all_before_it_answered() -> None:
    seen: list[int] = []

    def run() -> None:
        for result in line(Frames(8), Fails("ENODEV"), Refuses(10**6), timeout_s=0.15):
            if result.fresh:
                seen.append(result.frame.index)

    with pytest.raises(SourceLostError, match="ENODEV; not back within"):
        run()
    assert seen[-1] == 7


def test_the_tables_tell_rows_between_frames_apart(tmp_path: Path) -> None:
    results = outage()
    sinks: list[Sink] = [
        CsvSink(tmp_path / "tracks.csv"),
        JsonlSink(tmp_path / "tracks.jsonl"),
        MotSink(tmp_path / "tracks.mot.txt"),
    ]
    for sink in sinks:
        for result in results:
            sink.write(result)
        sink.close()
    last = max(r.frame.index for r in results)

    rows = [json.loads(text) for text in (tmp_path / "tracks.jsonl").read_text().splitlines()]
    between = [row for row in rows if not row["fresh"]]
    assert {row["source"]["state"] for row in between} == {"lost"}
    assert {row["source"]["reason"] for row in between} == {"ENODEV"}
    assert {row["frame"] for row in between} == {last}
    assert [row["time_s"] for row in rows] == sorted({row["time_s"] for row in rows})
    assert rows[0]["stamp"] == "start of exposure"
    ages = rows[0]["ages_ms"]
    stations = ("arrived", "begun", "segmented", "detected", "tracked", "written")
    assert [ages[name] for name in stations] == sorted(ages.values())

    coasting = [
        text.split(",")
        for text in (tmp_path / "tracks.csv").read_text().splitlines()[1:]
        if ",coasting," in text
    ]
    assert len(coasting) >= 2
    assert {row[0] for row in coasting} == {str(last)}
    times = [float(row[1]) for row in coasting]
    assert times == sorted(set(times))
    marked = [t.split(",")[0] for t in (tmp_path / "tracks.mot.txt").read_text().splitlines()]
    assert marked[-1] == str(last + 1)
    assert len(marked) == len(set(marked))  # one track, so no frame has two rows


def test_an_outage_that_is_over_before_anyone_looks_is_told_all_the_same() -> None:
    results = []
    run = line(Frames(3), Fails("ENODEV"), Frames(30), Hangs(), duration_s=3.0)
    for result in run:
        results.append(result)
        time.sleep(0.05)  # far slower than frames come, and than the source is away
        if result.frame.index > 25:
            run.stop()
    told = [r for r in results if not r.fresh]
    assert [r.source.reason for r in told[:1]] == ["ENODEV"]
    times = [r.time_ns for r in results]
    assert times == sorted(times)


def test_frames_and_drops_make_up_every_number_up_to_the_last() -> None:
    run = line(Frames(40, withheld=3), Hangs(), duration_s=1.0)
    results = []
    for result in run:
        results.append(result)
        time.sleep(0.01)
    fresh = [r.frame.index for r in results if r.fresh]
    assert len(fresh) + run.drops + 3 == fresh[-1] + 1
