"""What the main loop hands to the tracker, and how it treats frames that are too old."""

import time
from collections.abc import Iterator, Sequence
from threading import Semaphore
from typing import Any

import numpy as np
import pytest

from tests.tracker.test_pipeline_outage import DarkIsVessel
from veintrack.tracker.frame import (
    Detection,
    Frame,
    FrameResult,
    PictureState,
    ProbeMotion,
    Track,
    TrackStatus,
)
from veintrack.tracker.framing import Framing, Place
from veintrack.tracker.grid import Grid
from veintrack.tracker.lookout import Lookout, Sight
from veintrack.tracker.pipeline import Pipeline, PipelineSettings
from veintrack.tracker.sources.base import OneShot, Source, SourceInfo
from veintrack.tracker.tracks import VeinTracker

SHAPE = (120, 160)
SPEED_PX_S = 100.0
MOVED = ProbeMotion(np.zeros((2, 2)), np.array([1.0, 0.0]), 0.01)


class Clock:
    """A monotonic clock that stands until it is moved on."""

    def __init__(self) -> None:
        self.now_ns = 10**9

    def __call__(self) -> int:
        return self.now_ns

    def pass_ms(self, ms: float) -> None:
        self.now_ns += round(ms * 1e6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    scripted = Clock()
    monkeypatch.setattr(time, "monotonic_ns", scripted)
    return scripted


class LateSource(OneShot):
    """Each frame arrives as many milliseconds after it was taken as the script says.

    It waits for the answer to one frame before it takes the next, so nothing depends on how
    quickly the test runs.
    """

    def __init__(self, clock: Clock, *late_ms: int, live: bool = True) -> None:
        self.info = SourceInfo(
            "late", "demo", live, SHAPE, 100.0, len(late_ms), (0.1, 0.1), "the clock"
        )
        self.answered = Semaphore(1)
        self._clock, self._late_ms = clock, late_ms

    def __iter__(self) -> Iterator[Frame]:
        for i, late_ms in enumerate(self._late_ms):
            self.answered.acquire(timeout=10)
            self._clock.pass_ms(10)
            taken_ns = self._clock()
            self._clock.pass_ms(late_ms)
            pixels = np.full(SHAPE, 70, np.uint8)
            left = 40 + round(5 * 1e-9 * taken_ns)
            pixels[50:70, left : left + 20] = 10
            yield Frame(pixels, i, taken_ns, self._clock(), i, (0.1, 0.1))

    def close(self) -> None:
        pass


class Recorder(VeinTracker):
    """Answers with one track at a known speed, and one that ended; notes what it is told."""

    def __init__(self, clock: Clock | None = None, work_ms: float = 0.0) -> None:
        super().__init__()
        self.told: list[dict[str, Any]] = []
        self._clock, self._work_ms = clock, work_ms

    def update(self, detections: Sequence[Detection], capture_ns: int, **told: Any) -> list[Track]:
        if self._clock is not None:
            self._clock.pass_ms(self._work_ms)
        self.told.append({**told, "detections": detections, "capture_ns": capture_ns})
        return [
            self._track(1, TrackStatus.CONFIRMED, capture_ns, next(iter(detections), None)),
            self._track(2, TrackStatus.LOST, capture_ns, None),
        ]

    @staticmethod
    def _track(number: int, status: TrackStatus, time_ns: int, found: Detection | None) -> Track:
        return Track(
            number,
            status,
            np.array([50.0, 60.0]),
            np.array([SPEED_PX_S, 0.0]),
            np.eye(2),
            (40.0, 50.0, 20.0, 20.0),
            0.9,
            found,
            time_ns=time_ns,
            state_cov=np.eye(4),
        )


class ScriptedMotion:
    """Says that every picture but the first moved; notes when it is told to forget."""

    def __init__(self) -> None:
        self.resets = 0
        self.seen = 0

    def look(self, picture: object, grid: Grid, capture_ns: int) -> ProbeMotion | None:
        del picture, grid, capture_ns
        self.seen += 1
        return MOVED if self.seen > 1 else None

    def reset(self) -> None:
        self.resets += 1
        self.seen = 0


@pytest.fixture
def motion(monkeypatch: pytest.MonkeyPatch) -> ScriptedMotion:
    scripted = ScriptedMotion()
    monkeypatch.setattr("veintrack.tracker.lookout.MotionWatch", lambda: scripted)
    return scripted


def line(source: Source, tracker: VeinTracker | None = None, **options: object) -> Pipeline:
    settings = PipelineSettings(**{"crop": "none", "judge_pictures": False, **options})  # type: ignore[arg-type]
    return Pipeline(source, DarkIsVessel(), tracker or Recorder(), settings)


def answers(run: Pipeline, source: LateSource) -> list[FrameResult]:
    results = []
    for result in run:
        results.append(result)
        source.answered.release()
    return results


def test_the_tracker_is_told_where_how_good_and_how_the_picture_moved(
    clock: Clock, motion: ScriptedMotion
) -> None:
    source, tracker, area = LateSource(clock, 0, 0, 0), Recorder(), (10, 20, 100, 80)
    results = answers(line(source, tracker, crop=area), source)
    assert [told["area_px"] for told in tracker.told] == [area] * 3
    assert [told["picture"] for told in tracker.told] == [PictureState.GOOD] * 3
    assert [told["motion"] for told in tracker.told] == [None, MOVED, MOVED]
    assert [told["jumped"] for told in tracker.told] == [False] * 3
    assert [told["spacing_mm"] for told in tracker.told] == [(0.1, 0.1)] * 3
    assert [r.motion for r in results] == [None, MOVED, MOVED]
    assert motion.resets == 1  # the area was not known before


def test_a_frame_that_came_too_late_is_predicted_by_its_tracks_and_counted(clock: Clock) -> None:
    source, tracker = LateSource(clock, 0, 0, 60, 60, 0), Recorder()
    run = line(source, tracker, max_age_ms=40.0)
    results = answers(run, source)
    assert [r.segmented for r in results] == [True, True, False, False, True]
    assert run.too_old == 2
    assert run.drops == 0
    assert len(tracker.told) == 3
    for result, passed_s in zip(results[2:4], (0.01, 0.08), strict=True):
        (track,) = result.tracks  # the one that ended before is not told of again
        assert track.status is TrackStatus.COASTING
        assert track.detection is None
        assert track.centroid_px == pytest.approx([50 + SPEED_PX_S * passed_s, 60])
        assert track.covariance_px2[0, 0] > 1
        assert result.fresh
        assert (result.detections, result.timings.infer_ns) == ((), 0)
        assert result.timings.age_ns == 60 * 10**6


def test_what_the_network_needs_counts_too(clock: Clock) -> None:
    source, tracker = LateSource(clock, *[0, 0, 0, 15, 0, 30, 15]), Recorder(clock, work_ms=30)
    run = line(source, tracker, max_age_ms=50.0)
    results = answers(run, source)
    assert [r.segmented for r in results] == [True] * 5 + [False, True]
    assert max(r.timings.age_ns for r in results if r.segmented) <= 50 * 10**6


def test_a_limit_that_nothing_meets_leaves_frames_to_be_looked_at_now_and_then(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    source, tracker = LateSource(clock, *[30] * 100), Recorder(clock, work_ms=20)
    run = line(source, tracker, max_age_ms=5.0)
    results = answers(run, source)
    looks_ns = [r.frame.capture_ns for r in results if r.segmented]
    assert max(np.diff(looks_ns)) <= 0.3e9
    assert run.too_old + len(looks_ns) == 100
    assert run.too_old > 80
    (said,) = caplog.messages
    assert "no frame is in time for an age of 5 ms" in said


def test_tracks_outlive_frames_that_nobody_looked_at(clock: Clock) -> None:
    source, tracker = LateSource(clock, *[0] * 30, *[50] * 100, *[0] * 10), VeinTracker()
    run = line(source, tracker, max_age_ms=20.0)
    results = answers(run, source)
    assert run.too_old > 70
    assert {t.id for r in results for t in r.tracks} == {1}
    assert not any(t.status is TrackStatus.LOST for r in results for t in r.tracks)
    predicted = [t.status for r in results if not r.segmented for t in r.tracks]
    assert set(predicted) == {TrackStatus.COASTING}
    assert results[-1].tracks[0].status is TrackStatus.CONFIRMED


def test_in_a_frozen_picture_nothing_is_moved_on(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = Sight(PictureState.FROZEN, (), jumped=False, motion=None)

    def look(self: Lookout, *_: object) -> Sight:
        self.picture = PictureState.FROZEN
        return frozen

    monkeypatch.setattr(Lookout, "look", look)
    source = LateSource(clock, 0, 60, 60)
    seen, *late = answers(line(source, max_age_ms=40.0), source)
    assert [r.segmented for r in late] == [False, False]
    for result in late:
        (track,) = result.tracks
        assert track.centroid_px == pytest.approx(seen.tracks[0].centroid_px)
        assert (track.status, track.detection) == (TrackStatus.COASTING, None)
        assert track.time_ns == result.time_ns
        assert result.picture is PictureState.FROZEN


def test_without_a_limit_nothing_is_too_old(clock: Clock) -> None:
    source = LateSource(clock, 0, 600, 600, 0)
    run = line(source)
    assert [r.segmented for r in answers(run, source)] == [True] * 4
    assert run.too_old == 0


def test_a_file_at_the_pace_of_its_frames_may_have_a_limit_and_one_read_ahead_not(
    clock: Clock,
) -> None:
    source = LateSource(clock, 0, live=False)
    run = line(source, max_age_ms=1000.0, pace="realtime")
    assert [r.segmented for r in answers(run, source)] == [True]
    with pytest.raises(ValueError, match="leave --max-age out, or add --pace realtime"):
        line(LateSource(clock, 0, live=False), max_age_ms=1000.0)


@pytest.mark.parametrize("limit_ms", [0.0, -1.0, float("inf"), float("nan")])
def test_a_limit_that_makes_no_sense_is_refused(limit_ms: float) -> None:
    with pytest.raises(ValueError, match="max_age_ms must be greater than 0 and finite, got"):
        PipelineSettings(max_age_ms=limit_ms)


class Changing:
    """A framing whose area is another from the second frame on, as the layout changed."""

    searches = False

    def place(self, frame: Frame, *, usable: bool = True) -> Place:
        del usable
        if frame.index == 0:
            return Place((0, 0, 160, 120))
        return Place((0, 0, 80, 60), changed=frame.index == 1)


def test_a_change_of_the_layout_is_looked_at_whatever_its_age_and_ends_all_motion(
    clock: Clock, motion: ScriptedMotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veintrack.tracker.pipeline.Framing", lambda *_: Changing())
    source, tracker = LateSource(clock, 0, 60, 60), Recorder()
    results = answers(line(source, tracker, max_age_ms=30.0), source)
    assert [r.segmented for r in results] == [True, True, False]
    assert results[1].changes == ("layout changed",)
    assert [told["jumped"] for told in tracker.told] == [False, True]
    assert tracker.told[1]["motion"] is None
    assert motion.resets >= 2


class Doubtful:
    """A framing that is sure of its area in every second frame only."""

    searches = False

    def place(self, frame: Frame, *, usable: bool = True) -> Place:
        del usable
        return Place((0, 0, 160, 120), settled=frame.index % 2 == 1)


def test_motion_is_not_told_while_the_scan_area_is_a_guess(
    clock: Clock, motion: ScriptedMotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veintrack.tracker.pipeline.Framing", lambda *_: Doubtful())
    source, tracker = LateSource(clock, 0, 0, 0, 0), Recorder()
    answers(line(source, tracker), source)
    assert [told["motion"] for told in tracker.told] == [None, MOVED, None, MOVED]
    assert motion.resets == 1  # nothing is forgotten: it goes on where the area is known again


def test_pictures_without_a_signal_have_no_motion(clock: Clock, motion: ScriptedMotion) -> None:
    class Dark(LateSource):
        no_signal = "no cable"

    source = Dark(clock, 0, 0, 0)
    lookout, segmenter = Lookout(source, Framing("none"), judge=True), DarkIsVessel()
    for frame in source:
        place = lookout.place(frame)
        sight = lookout.look(segmenter.start(frame.pixels), frame, place)
        assert sight.picture is PictureState.NO_SIGNAL
        assert sight.motion is None
        source.answered.release()
    assert motion.seen == 0
