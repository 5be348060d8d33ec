"""The measuring of the line: what is counted, what is said, what is refused."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from veintrack.errors import OutputError
from veintrack.tracker.bench import (
    EXTRA,
    STAGES,
    Line,
    Spread,
    measure_bare,
    measure_line,
    resident_mib,
)
from veintrack.tracker.cli.app import run
from veintrack.tracker.cli.bench import differences, summarise
from veintrack.tracker.frame import FrameResult
from veintrack.tracker.pipeline import PipelineSettings
from veintrack.tracker.segment import Segmenter, load_segmenter
from veintrack.tracker.sources.arrays import ArraySource


@pytest.fixture
def segmenter(model_file: Path) -> Segmenter:
    return load_segmenter(str(model_file), slots=2)


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
        lambda: ArraySource(pictures(5), 100.0, frame_count=warm_up + frames + EXTRA),
        segmenter,
        PipelineSettings(crop="none"),
        frames,
        warm_up,
        lambda: list(sinks),
    )


def test_times_are_summed_up_in_milliseconds() -> None:
    spread = Spread.of([1_000_000 * n for n in range(1, 102)])
    assert (spread.p50, spread.p95, spread.p99, spread.max) == (51, 96, 100, 101)
    assert spread.p99_9 == pytest.approx(100.9)
    assert Spread.of([]) == Spread(0, 0, 0, 0, 0)


def test_all_frames_reach_the_sinks_but_only_those_in_the_middle_are_counted(
    segmenter: Segmenter,
) -> None:
    sink = Counting()
    turn = measure_line(line(segmenter, 8, 4, sink))
    assert turn.frames == 8
    assert sink.seen == [*range(8 + 4 + EXTRA), -1]
    assert set(turn.stages_ms) == {*STAGES, "sink counting"}
    assert turn.drops == turn.driver_drops == 0
    assert turn.left_out == {"counting": 0}
    assert turn.fps > 0


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_the_parts_of_a_turn_fit_together(
    make_model: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    with load_segmenter(str(make_model(tmp_path / "m.onnx", 512)), engine=name) as segmenter:
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


def test_a_source_shorter_than_the_warm_up_is_told(segmenter: Segmenter) -> None:
    short = replace(line(segmenter, 5, 9), open_source=lambda: ArraySource(pictures(5)))
    with pytest.raises(ValueError, match="no frame is left to measure after 9 to warm up"):
        measure_line(short)
    assert measure_line(replace(short, warm_up=2)).frames == 3


def test_the_bare_engine_is_left_with_nothing_in_work(segmenter: Segmenter) -> None:
    bare = measure_bare(segmenter.engine, 20, 5)
    assert bare["fps"] > 0
    assert bare["latency_p50_ms"] > 0
    assert measure_line(line(segmenter, 6, 2)).frames == 6


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
    assert [turn["line"]["frames"] for turn in record["turns"]] == [6, 6]
    assert record["summary"] == summarise(record["turns"], live=False)
    assert record["shape_px"] == [480, 640]

    assert command("--compare", str(tmp_path / "bench.json")) == 0
    said = capsys.readouterr().out
    assert "earlier" in said
    assert "%" in said
    assert "not the same command" in said


def test_real_time_is_kept(command: Callable[..., int], tmp_path: Path) -> None:
    begun = time.monotonic()
    assert command("--rate", "40", "--repetitions", "1") == 0
    assert time.monotonic() - begun >= (6 + 2 + EXTRA - 1) / 40
    record = json.loads((tmp_path / "bench.json").read_text())
    assert record["slots"] == 1
    assert "fps_over_bare" not in record["summary"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "0"], "frames must be at least 1, got 0"),
        (["--rate", "-1"], "rate must be greater than 0 and finite, got -1"),
        (["--warm-up", "-1"], "warm-up must be at least 0, got -1"),
        (["--sink", "csv", "--sink", "csv"], "sink csv is given twice"),
        (["--json", "pyproject.toml/x.json"], "cannot write to pyproject.toml/x.json"),
        (["--sink", "tape"], "unknown sink 'tape'; known: csv, jsonl, mot, video"),
        (["--source", "x.mp4", "--rate", "30"], "rate is for the demo"),
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


def test_what_differs_is_named() -> None:
    now = {"device": "a", "engine": "e", "precision": "int8", "slots": 3, "model_sha256": "s",
           "input_px": [1, 2], "shape_px": [3, 4], "command": {}}  # fmt: skip
    assert differences(now, now) == []
    assert differences(now, now | {"device": "b"}) == ["not the same device: b before, a now"]
