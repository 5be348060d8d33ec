"""The measuring of the line: what is counted, what is said, what is refused."""

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.conftest import disc
from veintrack.engines import base
from veintrack.errors import EngineError, OutputError
from veintrack.tracker import bench as measuring
from veintrack.tracker.bench import STAGES, Line, measure_bare, measure_line
from veintrack.tracker.cli.app import run
from veintrack.tracker.cli.bench_figures import summarise
from veintrack.tracker.frame import FrameResult
from veintrack.tracker.machine import resident_mib
from veintrack.tracker.pipeline import PipelineSettings
from veintrack.tracker.segment import Segmenter, load_segmenter
from veintrack.tracker.sources import open_source
from veintrack.tracker.sources.arrays import ArraySource
from veintrack.tracker.sources.repeat import RepeatedSource


@pytest.fixture
def segmenter(model_file: Path) -> Segmenter:
    return load_segmenter(str(model_file), slots=2, limits=None)


def pictures(count: int) -> list["np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 64), dtype=np.uint8) for _ in range(count)]


class Counting:
    """A sink that keeps the indices of what it was given."""

    name = "counting"

    def __init__(self) -> None:
        self.seen: list[int] = []

    def write(self, result: FrameResult) -> None:
        self.seen.append(result.frame.index)

    def close(self) -> None:
        self.seen.append(-1)


def line(segmenter: Segmenter, frames: int, warm_up: int, *sinks: Counting) -> Line:
    return Line(
        lambda: ArraySource(pictures(5), 100.0, frame_count=10**9),
        segmenter,
        PipelineSettings(crop="none"),
        frames,
        warm_up,
        open_sinks=lambda: list(sinks),
    )


def test_all_frames_reach_the_sinks_but_only_those_in_the_middle_are_counted(
    segmenter: Segmenter,
) -> None:
    sink = Counting()
    turn = measure_line(line(segmenter, 8, 4, sink))
    assert turn.frames == 8
    # The line is as busy at the end as it was at the start, and ends by itself.
    assert sink.seen == [*range(len(sink.seen) - 1), -1]
    assert 8 + 4 <= len(sink.seen) - 1 <= 8 + 4 + segmenter.slots
    assert set(turn.stages_ms) == {*STAGES, "sink counting"}
    assert turn.drops == turn.driver_drops == 0
    assert turn.left_out == {"counting": 0}
    assert turn.fps > 0


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_the_parts_of_a_turn_fit_together(
    make_model: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    model = str(make_model(tmp_path / "m.onnx", 512))
    with load_segmenter(model, engine=name, limits=None) as segmenter:
        turn = measure_line(line(segmenter, 40, 10))
    parts_ms = [turn.stages_ms[part].p50 for part in ("prepare", "infer", "detect", "track")]
    assert min(parts_ms) > 0
    assert sum(parts_ms) < 2 * turn.end_to_end_ms.p50
    assert turn.memory_mib[0] == pytest.approx(resident_mib(), rel=0.5)
    # What the engine computes on the calling thread is not ours.
    assert 0 < turn.own_cpu_ms < turn.cpu_ms


def test_a_sink_that_fails_is_told(segmenter: Segmenter) -> None:
    class Full(Counting):
        def write(self, result: FrameResult) -> None:
            raise OSError(28, f"No space left on device for frame {result.frame.index}")

    with pytest.raises(OutputError, match=r"counting: .*No space left"):
        measure_line(line(segmenter, 4, 2, Full()))


def test_what_a_slow_sink_leaves_out_in_the_warm_up_is_not_counted(segmenter: Segmenter) -> None:
    class Slow(Counting):
        def write(self, result: FrameResult) -> None:
            if not self.seen:
                time.sleep(0.5)
            super().write(result)

    class Noting:
        def put(self, result: FrameResult) -> None:
            shown.append(result.frame.index)

        def close(self) -> None:
            pass

    shown: list[int] = []
    sink, warm_up, frames = Slow(), 20, 60
    live = replace(
        line(segmenter, frames, warm_up, sink),
        settings=PipelineSettings(crop="none", pace="realtime"),
        open_views=lambda _: [Noting()],
    )
    turn = measure_line(live)
    early, counted = shown[:warm_up], shown[warm_up : warm_up + frames]
    assert set(early) - set(sink.seen)
    assert turn.left_out == {"counting": len(set(counted) - set(sink.seen))}
    # Of the warm-up's results only those that were taken have a time to leave away.
    assert turn.stages_ms["sink counting"].max < 500


def test_a_source_shorter_than_the_warm_up_is_told(segmenter: Segmenter) -> None:
    short = replace(line(segmenter, 5, 9), open_source=lambda: ArraySource(pictures(5)))
    with pytest.raises(ValueError, match="no frame is left to measure after 9 to warm up"):
        measure_line(short)
    assert measure_line(replace(short, warm_up=2)).frames == 3


def test_the_bare_engine_is_left_with_nothing_in_work(segmenter: Segmenter) -> None:
    bare = measure_bare(segmenter.engine, 20, 5)
    assert bare["fps"] > 0
    assert bare["latency_p50_ms"] > 0
    begun_s = time.monotonic()
    measure_bare(segmenter.engine, 10**9, 5, seconds=0.2)
    assert 0.2 <= time.monotonic() - begun_s < 5
    assert measure_line(line(segmenter, 6, 2)).frames == 6


class Window:
    """A view that burns processor time on a thread of its own."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self.stop = stop
        self._results: list[FrameResult] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def put(self, result: FrameResult) -> None:
        self._results.append(result)
        if len(self._results) == 30:
            self.stop()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            sum(range(30_000))
            time.sleep(1e-3)


def test_what_a_view_draws_is_our_processor_time_and_it_may_end_the_turn(
    segmenter: Segmenter,
) -> None:
    alone_ms = min(measure_line(line(segmenter, 20, 5)).own_cpu_ms for _ in range(3))
    seen = replace(line(segmenter, 1000, 5), open_views=lambda stop: [Window(stop)])
    turn = measure_line(seen)
    assert 25 <= turn.frames <= 25 + segmenter.slots
    assert turn.own_cpu_ms > alone_ms
    assert set(turn.stages_ms) == set(STAGES)


def test_a_turn_may_go_by_the_clock(segmenter: Segmenter) -> None:
    begun_s = time.monotonic()
    turn = measure_line(replace(line(segmenter, 10**9, 2), seconds=1.2))
    assert 1.2 <= time.monotonic() - begun_s < 5
    assert turn.frames > 10
    assert len(turn.memory_mib) == 2


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in range(3):
        still = np.full((48, 64), 90 + number, np.uint8)
        still[disc((48, 64), 20, 20, 8) > 0] = 20
        cv2.imwrite(str(folder / f"{number}.png"), still)
    return folder


def test_a_file_begins_again_and_its_times_go_on(clip: Path) -> None:
    with RepeatedSource(lambda: open_source(clip)) as source:
        frames = list(islice(source, 7))
    assert [frame.index for frame in frames] == list(range(7))
    assert [frame.pixels[0, 0] for frame in frames] == [90, 91, 92] * 2 + [90]
    steps_ns = np.diff([frame.capture_ns for frame in frames])
    np.testing.assert_allclose(steps_ns, 1e9 / 30, atol=1)
    with RepeatedSource(lambda: open_source(clip), 100.0) as source:
        assert [frame.capture_ns for frame in islice(source, 4)] == [0, 10**7, 2 * 10**7, 3 * 10**7]
        assert source.info.rate_hz == 100
        source.close()
        assert list(source) == []


@pytest.fixture
def command(model_file: Path, tmp_path: Path) -> Callable[..., int]:
    def bench(*more: str) -> int:
        files = ["--model", str(model_file), "--json", str(tmp_path / "bench.json")]
        few = ["--frames", "6", "--warm-up", "2", "--repetitions", "2", "--engine", "openvino"]
        return run(["bench", *files, *few, *more])

    return bench


def test_the_command_prints_a_table_and_writes_what_it_measured(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--sink", "csv", "--sink", "jsonl") == 0
    said = capsys.readouterr().out
    assert "sinks: csv, jsonl" in said
    assert "sink tracks.jsonl" in said
    record = json.loads((tmp_path / "bench.json").read_text())
    (row,) = record["rows"]
    assert [turn["line"]["frames"] for turn in row["turns"]] == [6, 6]
    assert row["summary"] == summarise(row["turns"], live=False)
    assert row["sinks"] == ["csv", "jsonl"]
    assert set(row["stages_ms"]) == set(row["turns"][0]["line"]["stages_ms"])
    assert row["summary"]["memory_most_mib"] > 1
    assert record["shape_px"] == [480, 640]

    assert command("--compare", str(tmp_path / "bench.json")) == 0
    said = capsys.readouterr().out
    assert "earlier" in said
    assert "%" in said
    assert "not the same sinks: ['csv', 'jsonl'] before, [] now" in said


def test_the_bare_engine_is_timed_for_as_long_as_the_line_but_not_for_ever(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def note(engine: Any, frames: int, warm_up: int, seconds: float) -> dict[str, float]:
        asked.append((frames, seconds))
        return measure_bare(engine, 3, warm_up)

    monkeypatch.setattr(measuring, "measure_bare", note)
    few = ["--model", str(model_file), "--warm-up", "2", "--repetitions", "1"]
    for words in (["--frames", "6"], ["--minutes", "0.002"]):
        assert run(["bench", *few, "--engine", "openvino", *words]) == 0
    assert asked == [(6, 20.0), (sys.maxsize, 60 * 0.002)]


def test_real_time_is_kept_with_any_source(
    command: Callable[..., int], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--rate", "40"], ["--source", str(clip), "--pace", "realtime"]):
        begun = time.monotonic()
        assert command(*words, "--repetitions", "1", "--frames", "10") == 0
        assert time.monotonic() - begun >= (10 + 2 - 1) / 40
        (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
        assert row["slots"] == 1
        summary = row["summary"]
        assert "fps_over_bare" not in summary
        limit_ms = 2 * summary["bare_latency_p50_ms"] + 3
        assert summary["p99_limit_ms"] == pytest.approx(limit_ms, abs=1e-3)
        assert "0 frames dropped by us; p99 end to end" in " ".join(capsys.readouterr().out.split())


def test_all_engines_and_precisions_stand_in_one_table(
    command: Callable[..., int],
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Making a model INT8 takes longer than a test should.
    monkeypatch.setattr(base, "PRECISIONS", ("fp32", "bf16", "fp16"))
    masks = tmp_path / "data" / "masks"
    masks.mkdir(parents=True)
    for path in clip.iterdir():
        cv2.imwrite(str(masks / path.name), 2 * disc((48, 64), 20, 20, 8))
    clip.rename(masks.with_name("images"))
    data = ["--data", str(masks.parent), "--label", "vessel=2"]
    assert command("--engine", "all", "--precision", "all", *data) == 0
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "bench.json").read_text())
    rows = {(row["engine"], row["precision"]): row for row in record["rows"]}
    assert {("openvino", "fp32"), ("onnxruntime", "fp32")} <= set(rows)
    for row in rows.values():
        assert row["accuracy"]["fp32_dice"] > 0.9
        assert row["accuracy"]["truth_dice"] > 0.9
        assert len(row["turns"]) == 2
        assert "memory_most_mib" not in row["summary"]
    reference = rows["onnxruntime", "fp32"]["accuracy"]
    assert (reference["fp32_dice"], reference["fp32_centroid_shift_px"]) == (1, 0)
    # Nothing is left out in silence.
    missing = {(one["engine"], one["precision"]): one["reason"] for one in record["not_offered"]}
    assert len(rows) + len(missing) == 4 * 3
    assert missing["onnxruntime", "bf16"] in " ".join(said.split())
    assert all(head in said for head in ("bare", "ratio", "like", "shift", "Dice"))

    assert command("--engine", "all", "--compare", str(tmp_path / "bench.json")) == 0
    assert "compared with earlier figures" in capsys.readouterr().out
    single = ["--engine", "openvino", "--precision", "fp32"]
    assert command(*single) == 0
    assert command(*single, "--compare", str(tmp_path / "bench.json")) == 0
    assert "earlier" in capsys.readouterr().out


def test_one_engine_that_fails_does_not_end_the_table(
    command: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(engine: Any, *how_long: Any) -> dict[str, float]:
        if engine.name == "onnxruntime":
            raise EngineError("the device was lost")
        return measure_bare(engine, *how_long)

    monkeypatch.setattr(measuring, "measure_bare", fail)
    assert command("--engine", "all", "--precision", "fp32") == 0
    said = capsys.readouterr().out
    assert "not measured: onnxruntime fp32 none: the device was lost" in " ".join(said.split())
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert row["engine"] == "openvino"


def test_each_sink_is_measured_alone_beside_none(
    command: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    assert command("--sink", "each", "--precision", "fp32") == 0
    record = json.loads((tmp_path / "bench.json").read_text())
    assert [row["sinks"] for row in record["rows"]] == [[], ["csv"], ["jsonl"], ["mot"], ["video"]]
    assert record["rows"][0]["added"] == {}
    assert record["rows"][4]["accuracy"]["fp32_dice"] == 1
    assert record["rows"][4]["added"]["cpu_ms"] > 0
    assert "not measured: sink window: this machine has no screen" in capsys.readouterr().out
    assert command("--sink", "window") == 2
    assert "sink window: this machine has no screen" in capsys.readouterr().err


def test_all_files_at_once_and_a_window(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pygame", reason='the window: pip install "veintrack[window]"')
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert command("--sink", "all", "--sink", "window", "--repetitions", "1") == 0
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert row["sinks"] == ["csv", "jsonl", "mot", "video", "window"]
    assert [name for name in row["turns"][0]["line"]["stages_ms"] if "sink" in name] == [
        "sink tracks.csv",
        "sink tracks.jsonl",
        "sink tracks.mot.txt",
        "sink overlay.mp4",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "0"], "frames must be at least 1, got 0"),
        (["--rate", "-1"], "rate must be greater than 0 and finite, got -1"),
        (["--warm-up", "-1"], "warm-up must be at least 0, got -1"),
        (["--sink", "csv", "--sink", "csv"], "sink csv is given twice"),
        (["--json", "pyproject.toml/x.json"], "cannot write to pyproject.toml/x.json"),
        (["--sink", "tape"], "unknown sink 'tape'; known: csv, jsonl, mot, video, window, all, "),
        (["--sink", "all", "--sink", "mot"], "sink mot is given twice"),
        (["--sink", "each", "--sink", "mot"], "sink each opens every sink by itself"),
        (["--sink", "each", "--engine", "all"], "sink each is for one engine"),
        (["--rate", "30", "--pace", "asap"], "rate sets the pace of real time"),
        (["--pace", "slow"], "pace must be asap or realtime, got 'slow'"),
        (["--minutes", "1"], "frames and minutes both say how long a turn is"),
        (["--label", "vessel=2"], "name these with --data"),
        (["--data", "gone", "--label", "vessel=2"], "gone"),
        (["--engine", "all", "--device", "tpu"], "no engine to measure: unknown device 'tpu'"),
        (["--compare", "gone.json"], "compare gone.json: No such file"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    command: Callable[..., int],
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(*options) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1


def test_other_files_are_no_figures_to_compare_with(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.json").write_text('{"fps": 3}')
    assert command("--compare", str(tmp_path / "other.json")) == 2
    assert "holds no figures of `veintrack bench --json`" in capsys.readouterr().err
