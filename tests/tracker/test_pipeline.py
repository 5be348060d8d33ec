"""The main loop with plain fakes at its ends."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import disc
from veintrack.errors import SourceLostError
from veintrack.tracker.frame import F32, U8, Frame, FrameResult, Region
from veintrack.tracker.grid import fit
from veintrack.tracker.pipeline import Pipeline, PipelineSettings
from veintrack.tracker.segment import InWork, Segmenter, load_segmenter
from veintrack.tracker.sinks.tables import CsvSink
from veintrack.tracker.sources.base import OneShot, SourceInfo
from veintrack.tracker.tracks import VeinTracker

RATE_HZ = 100
PLAIN = {"crop": "none", "judge_pictures": False}  # flat grey with a disc is no picture to judge


class FakeSource(OneShot):
    """Grey tissue with one dark disc that moves to the right, one px a frame."""

    def __init__(
        self,
        count: int = 10,
        *,
        live: bool = False,
        fails_after: int | None = None,
        endless: bool = False,
        shapes: tuple[tuple[int, int], ...] = ((120, 160),),
    ) -> None:
        self.info = SourceInfo(
            "fake", "demo", live, shapes[0], float(RATE_HZ), count, (0.1, 0.1), "the frame number"
        )
        self._count, self._fails_after, self._endless = count, fails_after, endless
        self._shapes = shapes
        self.closed = threading.Event()
        self.delivered = 0

    def __iter__(self) -> Iterator[Frame]:
        for i in range(self._count):
            if i == self._fails_after:
                raise SourceLostError(f"fake: unplugged after {i} frames")
            shape = self._shapes[i % len(self._shapes)]
            pixels = np.where(disc(shape, 50 + i, 60, 12) == 1, 10, 70).astype(np.uint8)
            self.delivered += 1
            yield Frame(pixels, i, i * 10**9 // RATE_HZ, time.monotonic_ns(), i, (0.1, 0.1))
        if self._endless:
            self.closed.wait(10)

    def close(self) -> None:
        self.closed.set()


@pytest.fixture(params=[("onnxruntime", 1), ("openvino", 3)], ids=["one-slot", "three-slots"])
def segmenter(model_file: Path, request: pytest.FixtureRequest) -> Iterator[Segmenter]:
    name, slots = request.param
    with load_segmenter(str(model_file), engine=name, precision="fp32", slots=slots) as opened:
        yield opened


def pipeline(source: FakeSource, segmenter: Segmenter, **options: object) -> Pipeline:
    settings = PipelineSettings(**{**PLAIN, **options})  # type: ignore[arg-type]
    return Pipeline(source, segmenter, VeinTracker(), settings)


def indices(results: Sequence[FrameResult]) -> list[int]:
    return [r.frame.index for r in results]


def test_every_frame_of_a_file_is_processed_in_order(segmenter: Segmenter) -> None:
    source = FakeSource(40)
    line = pipeline(source, segmenter)
    results = list(line)
    assert indices(results) == list(range(40))
    assert line.drops == 0
    assert source.closed.is_set()


def test_the_vessel_is_followed_in_pixels_and_millimetres(segmenter: Segmenter) -> None:
    (*_, last) = pipeline(FakeSource(30), segmenter)
    (track,) = last.tracks
    assert track.centroid_px == pytest.approx([79, 60], abs=0.5)
    assert track.velocity_px_s == pytest.approx([RATE_HZ, 0], abs=15)
    assert track.measurement is not None
    assert track.measurement.depth_mm == pytest.approx(6.05, abs=0.05)
    assert track.measurement.minor_mm == pytest.approx(2.4, rel=0.05)
    assert track.detection in last.detections


def test_timings_add_up(segmenter: Segmenter) -> None:
    for result in pipeline(FakeSource(5), segmenter):
        t = result.timings
        assert 0 < t.prepare_ns + t.infer_ns + t.detect_ns + t.track_ns <= t.age_ns


def test_a_failing_source_delivers_what_it_had_and_then_raises(segmenter: Segmenter) -> None:
    seen: list[int] = []

    def run() -> None:
        for result in pipeline(FakeSource(20, fails_after=7), segmenter):
            seen.append(result.frame.index)

    with pytest.raises(SourceLostError, match="unplugged after 7 frames"):
        run()
    assert seen == list(range(7))


def test_a_live_source_faster_than_the_network_loses_old_frames_and_counts_them(
    segmenter: Segmenter,
) -> None:
    source = FakeSource(50, live=True)
    line = pipeline(source, segmenter)
    results = []
    for result in line:
        results.append(result)
        time.sleep(0.002)
    assert indices(results)[-1] == 49
    assert len(results) + line.drops == 50
    assert line.drops > 0


def test_real_time_pace_takes_as_long_as_the_recording(segmenter: Segmenter) -> None:
    begun = time.monotonic()
    line = pipeline(FakeSource(20), segmenter, pace="realtime")
    results = list(line)
    assert time.monotonic() - begun >= 19 / RATE_HZ
    assert len(results) + line.drops == 20


def test_stopping_ends_the_loop_even_while_no_frame_comes(segmenter: Segmenter) -> None:
    source = FakeSource(3, endless=True)
    line = pipeline(source, segmenter)
    seen = 0
    for result in line:
        seen += 1
        if result.frame.index == 2:
            begun = time.monotonic()
            line.stop()
    assert seen == 3
    assert time.monotonic() - begun < 2
    assert source.closed.is_set()


def test_an_answer_does_not_wait_for_a_frame_that_does_not_come(segmenter: Segmenter) -> None:
    source = FakeSource(2, endless=True)
    results = iter(pipeline(source, segmenter))
    begun = time.monotonic()
    assert [next(results).frame.index for _ in range(2)] == [0, 1]
    assert time.monotonic() - begun < 5  # the source would keep it waiting for ten
    assert not source.closed.is_set()
    results.close()  # type: ignore[attr-defined]


def test_frames_before_one_that_does_not_fit_are_answered(segmenter: Segmenter) -> None:
    shapes = ((120, 160),) * 5 + ((60, 80),)
    seen: list[int] = []

    def run() -> None:
        for result in pipeline(FakeSource(6, shapes=shapes), segmenter, crop=(0, 20, 150, 90)):
            seen.append(result.frame.index)

    with pytest.raises(ValueError, match="does not lie inside the 80x60 frame"):
        run()
    assert seen == list(range(5))


def test_leaving_the_loop_early_closes_the_source_and_its_thread(segmenter: Segmenter) -> None:
    source = FakeSource(1000)
    for _ in pipeline(source, segmenter):
        break
    # The generator is closed when it is dropped.
    assert source.closed.wait(2)
    assert source.delivered < 20
    names = [t.name for t in threading.enumerate()]
    assert "veintrack-reader" not in names


@pytest.mark.parametrize(
    ("options", "expected"), [({"max_frames": 4}, 4), ({"duration_s": 0.05}, 5)]
)
def test_a_run_can_be_limited(
    segmenter: Segmenter, options: dict[str, object], expected: int
) -> None:
    assert len(list(pipeline(FakeSource(10), segmenter, **options))) == expected


def test_frames_of_changing_size_are_each_laid_anew(segmenter: Segmenter) -> None:
    line = pipeline(FakeSource(6, shapes=((120, 160), (200, 150))), segmenter)
    for result in line:
        (found,) = result.detections
        assert found.centroid_px == pytest.approx([50 + result.frame.index, 60], abs=0.6)


def test_a_crop_is_obeyed_and_must_fit(segmenter: Segmenter) -> None:
    line = pipeline(FakeSource(3), segmenter, crop=(0, 20, 40, 80))
    assert [r.detections for r in line] == [()] * 3
    assert line.region == (0, 20, 40, 80)
    with pytest.raises(ValueError, match="does not lie inside the 160x120 frame"):
        pipeline(FakeSource(3), segmenter, crop=(0, 0, 161, 80))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "some"}, "crop must be auto, none or X,Y,W,H, got 'some'"),
        ({"pace": "slow"}, "pace must be asap or realtime, got 'slow'"),
        ({"max_frames": 0}, "max_frames must be at least 1, got 0"),
        ({"duration_s": 0.0}, r"duration_s must be greater than 0 and finite, got 0\.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PipelineSettings(**options)  # type: ignore[arg-type]


class SlowSegmenter:
    """Marks dark pixels, three frames at once; says which were begun and which were answered."""

    threshold, input_shape, slots = 0.5, (120, 160), 3

    def __init__(self) -> None:
        self.begun: list[F32] = []
        self.answered = 0
        self.most_in_work = 0

    def start(self, pixels: U8, region: Region | None = None) -> InWork:
        self.begun.append((pixels < 40).astype(np.float32))
        self.most_in_work = max(self.most_in_work, len(self.begun) - self.answered)
        grid = fit((120, 160), self.input_shape, region)
        return InWork(len(self.begun) - 1, grid, pixels)

    def ready(self, work: InWork) -> bool:
        return work.slot < len(self.begun)

    def result(self, work: InWork) -> F32:
        assert work.slot == self.answered, "results must be taken in order"
        self.answered += 1
        return self.begun[work.slot]


def slow_line(source: FakeSource, segmenter: SlowSegmenter, **options: object) -> Pipeline:
    settings = PipelineSettings(**{**PLAIN, **options})  # type: ignore[arg-type]
    return Pipeline(source, segmenter, VeinTracker(), settings)


def test_frames_of_a_file_are_in_work_together_and_answered_in_order() -> None:
    segmenter = SlowSegmenter()
    results = list(slow_line(FakeSource(20), segmenter))
    assert indices(results) == list(range(20))
    assert segmenter.most_in_work == 3
    places = [r.detections[0].centroid_px[0] for r in results]
    assert places == pytest.approx(list(range(50, 70)), abs=0.5)


class SpeckleSource(FakeSource):
    """Texture that slides with its dark disc, so that the probe's motion is seen."""

    def __iter__(self) -> Iterator[Frame]:
        noise = np.random.default_rng(0).integers(45, 250, (30, 60)).astype(np.uint8)
        texture = cv2.resize(noise, (240, 120), interpolation=cv2.INTER_CUBIC).clip(41, 255)
        for frame in super().__iter__():
            pixels = texture[:, 60 - frame.index : 220 - frame.index].astype(np.uint8)
            yield replace(frame, pixels=np.where(frame.pixels < 40, 10, pixels).astype(np.uint8))


def rows(path: Path, segmenter: SlowSegmenter) -> bytes:
    sink = CsvSink(path)
    moved = 0
    for result in slow_line(SpeckleSource(40), segmenter):
        moved += result.motion is not None
        sink.write(result)
    sink.close()
    assert moved > 30
    return path.read_bytes()


def test_the_same_frames_give_the_same_rows_however_many_are_in_work(tmp_path: Path) -> None:
    one = SlowSegmenter()
    one.slots = 1
    written = {rows(tmp_path / "t.csv", line) for line in (SlowSegmenter(), SlowSegmenter(), one)}
    assert len(written) == 1
    assert written.pop().count(b",confirmed,") > 20


def test_a_live_frame_is_answered_before_the_next_is_begun() -> None:
    segmenter = SlowSegmenter()
    results = list(slow_line(FakeSource(20, live=True), segmenter))
    assert results
    assert segmenter.most_in_work == 1


def test_what_is_in_work_is_answered_before_a_failure_is_told() -> None:
    segmenter, seen = SlowSegmenter(), []

    def run() -> None:
        for result in slow_line(FakeSource(20, fails_after=7), segmenter):
            seen.append(result.frame.index)

    with pytest.raises(SourceLostError, match="unplugged after 7 frames"):
        run()
    assert seen == list(range(7))


def test_stopping_early_leaves_nothing_in_work() -> None:
    segmenter = SlowSegmenter()
    for _ in slow_line(FakeSource(20), segmenter):
        break
    assert segmenter.answered == len(segmenter.begun) == 3
