"""What the turns of the benchmark sum up to, how two records differ, what the machine tells."""

import math
from array import array
from pathlib import Path
from typing import Any

import pytest

from veintrack.tracker import machine
from veintrack.tracker.cli.bench_figures import added, memory_ratio, stages_ms, summarise
from veintrack.tracker.cli.bench_output import differences, show
from veintrack.tracker.machine import machine_facts
from veintrack.tracker.meters import Spread


def test_times_are_summed_up_in_milliseconds() -> None:
    spread = Spread.of([1_000_000 * n for n in range(1, 102)])
    assert (spread.p50, spread.p95, spread.p99, spread.max) == (51, 96, 100, 101)
    assert spread.p99_9 == pytest.approx(100.9)
    assert Spread.of([]) == Spread(0, 0, 0, 0, 0)
    assert Spread.of(array("q", [3_000_000])).p99 == 3


def test_memory_is_judged_from_three_minutes_on() -> None:
    assert memory_ratio([100.0] * 179) is None
    assert memory_ratio([500.0] * 60 + [100.0] * 60 + [999.0] * 30 + [102.0] * 60) == 1.02


def turn(fps: float, p99_ms: float, cpu_ms: float) -> dict[str, Any]:
    spread = dict.fromkeys(("p50", "p95", "p99", "p99_9", "max"), p99_ms)
    line = {"frames": 9, "fps": fps, "drops": 1, "driver_drops": 0, "left_out": {},
            "cpu_ms": cpu_ms, "own_cpu_ms": cpu_ms, "end_to_end_ms": spread,
            "memory_mib": [1.0, 7.0], "stages_ms": {"read": spread}}  # fmt: skip
    bare = {"fps": 2 * fps, "cpu_ms": cpu_ms, "latency_p50_ms": 10.0}
    return {"machine": {}, "bare": bare, "line": line}


def test_turns_are_summed_up_by_their_medians() -> None:
    turns = [turn(10, 5, 1), turn(30, 7, 3), turn(20, 6, 2)]
    found = summarise(turns, live=True)
    assert (found["fps"], found["own_cpu_ms"], found["drops"]) == (20, 2, 3)
    assert (found["p99_limit_ms"], found["memory_most_mib"]) == (23, 7)
    assert "p99_limit_ms" not in summarise(turns, live=False)
    assert summarise(turns, live=False)["fps_over_bare"] == 0.5
    assert stages_ms(turns) == {"read": dict.fromkeys(("p50", "p95", "p99", "p99_9", "max"), 6)}
    assert summarise([turn(0.12344, 1, 1)], live=True)["fps"] == 0.1234
    # Beside other engines nobody can tell whose memory it is.
    assert "memory_most_mib" not in summarise(turns, live=True, alone=False)


def test_what_a_sink_adds_is_taken_turn_by_turn() -> None:
    # Another load halves everything in the second turn: what is added stays the same.
    plain, sink = [turn(40, 5, 1), turn(20, 10, 1)], [turn(30, 6, 4), turn(15, 11, 4)]
    assert added(sink, plain) == {
        "fps_ratio": 0.75, "end_to_end_p99_ms": 1, "own_cpu_ms": 3, "cpu_ms": 3,
    }  # fmt: skip


def test_the_machine_says_what_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, said in (("nvpmodel", "NV Power Mode: MAXN\n0"), ("nvidia-smi", "Orin, 540.4")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    facts = machine_facts()
    assert facts["power_mode"] == "NV Power Mode: MAXN 0"
    assert facts["gpu"] == "Orin, 540.4"
    assert facts["cores"] >= 1
    assert math.isfinite(facts["load_average"][0])


def test_clocks_are_read_where_the_processor_tells_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, said in (
        ("devices/system/cpu/cpu10/cpufreq/scaling_cur_freq", "729600"),
        ("devices/system/cpu/cpu2/cpufreq/scaling_cur_freq", "1510400\n"),
        ("devices/system/cpu/cpu3/cpufreq/scaling_cur_freq", "<unknown>"),
        ("class/devfreq/17000000.gpu/cur_freq", "1020000000\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(said)
    monkeypatch.setattr(machine, "_SYS", tmp_path)
    facts = machine_facts()
    assert facts["clocks_mhz"] == [1510, 730]
    assert facts["device_clocks_mhz"] == {"17000000.gpu": 1020}
    monkeypatch.setattr(machine, "_SYS", tmp_path / "class")
    assert "device_clocks_mhz" not in machine_facts()


def test_what_differs_is_named() -> None:
    row = {"engine": "e", "precision": "int8", "device": "a", "slots": 3, "sinks": []}
    now = {"model_sha256": "s", "command": {"source": "demo", "frames": 3}, "rows": [row]}
    assert differences(now, now) == []
    assert differences(now, now | {"command": {"source": "demo", "frames": 9}}) == []
    other = now | {"rows": [row | {"device": "b"}], "command": {"source": "0"}}
    assert differences(now, other) == [
        "not the same device: b before, a now",
        "not the same source: 0 before, demo now",
    ]
    # In tables each row finds its like, or none; what several have in common is said once.
    exact = {**row, "precision": "fp32"}
    several = {**now, "rows": [row, exact]}
    on_b = [one | {"device": "b"} for one in (row, exact)]
    assert differences(several, now | {"rows": on_b}) == ["not the same device: b before, a now"]
    assert differences(now, several) == []
    assert differences(several, now | {"rows": [exact | {"engine": "f"}]}) == []


def test_only_rows_that_are_alike_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    def record(*rows: tuple[str, str, float]) -> dict[str, Any]:
        common = {"device": "a", "slots": 1, "sinks": [], "accuracy": {}}
        return {
            "command": {"sinks": [], "source": "demo", "pace": "asap", "repetitions": 1,
                        "minutes": None, "frames": 9, "data": None},
            "shape_px": [2, 2], "live": False, "rate_hz": 30, "not_offered": [],
            "rows": [
                {"engine": engine, "precision": precision, **common,
                 "stages_ms": stages_ms([turn(fps, 5, 1)]),
                 "summary": summarise([turn(fps, 5, 1)], live=False)}
                for engine, precision, fps in rows
            ],
        }  # fmt: skip

    one, other = ("e", "fp32", 10.0), ("f", "int8", 20.0)
    # One row among several earlier ones, and several beside a single earlier one.
    show(record(("g", "fp32", 40.0)), record(one, other))
    said = capsys.readouterr().out
    assert "%" not in said
    assert "not compared: its like is not among the earlier figures" in said
    show(record(one, other), record(("e", "fp32", 8.0)))
    compared = capsys.readouterr().out.split("compared with earlier figures")[1]
    assert "8 to 10" in compared
    assert "(+25.0 %)" in compared
    assert "20\u2502" in compared.replace(" ", "")
    assert "(not there before)" in compared
    assert "to 20" not in compared
    # A single row beside a single one, whatever it is: that is said.
    show(record(one), record(other))
    said = capsys.readouterr().out
    assert "-50.0 %" in said
    assert "not the same engine: f before, e now" in said
