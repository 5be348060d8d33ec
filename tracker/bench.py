"""How fast the whole line is, stage by stage, beside the bare engine in the same run.

Line and bare engine take turns, so that other loads on the machine hit both: their ratio is what
to read. The first frames of every turn warm up and are not counted.
"""

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from veintrack.engines.base import Engine
from veintrack.errors import OutputError
from veintrack.tracker.frame import F32, FrameResult
from veintrack.tracker.pipeline import Pipeline, PipelineSettings
from veintrack.tracker.segment import Segmenter
from veintrack.tracker.sinks.base import Sink, SinkThread
from veintrack.tracker.sources.base import Source
from veintrack.tracker.tracks import VeinTracker

__all__ = [
    "EXTRA",
    "STAGES",
    "Line",
    "Spread",
    "Turn",
    "machine_facts",
    "measure_bare",
    "measure_line",
    "peak_mib",
    "resident_mib",
]

STAGES = ("read", "wait", "prepare", "infer", "detect", "track")
EXTRA = 16
"""Frames that a source should hold beyond those that are counted."""
_QUEUE = 4
_PARTS = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9, "max": 100.0}


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the middle and the tail of some times lie.

    Attributes
    ----------
    p50, p95, p99, p99_9, max : float
        Percentiles, in milliseconds.
    """

    p50: float
    p95: float
    p99: float
    p99_9: float
    max: float

    @classmethod
    def of(cls, times_ns: Sequence[int]) -> "Spread":
        """Sum up times in nanoseconds; zeros where there are none."""
        if not times_ns:
            return cls(*(0.0 for _ in _PARTS))
        values = np.percentile(np.asarray(times_ns), list(_PARTS.values())) * 1e-6
        return cls(*(round(float(value), 3) for value in values))


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the line.

    Attributes
    ----------
    frames : int
        Frames that were counted; fewer than asked for where the source ended before.
    fps : float
        Frames a second over them.
    drops, driver_drops : int
        Frames passed over because the line was busy, and those that the driver lost, meanwhile.
    left_out : dict
        By sink, results that it was too slow to take; none where the source waits.
    stages_ms : dict
        Times of each of `STAGES`, and of each sink as ``sink NAME``. Several frames may be in work
        at once, so ``infer`` includes waiting for earlier frames' detection and tracking.
    end_to_end_ms : Spread
        From the capture stamp (live, real time) or the start of the frame's processing to its
        tracks. Frames of a file are read ahead; that ``wait`` is not in it.
    cpu_ms : float
        Processor time of the whole process a frame: all threads of all libraries.
    own_cpu_ms : float
        Of it, what our own threads spend outside the engine's calls: reading, laying on the grid,
        detecting, tracking, writing. Threads that a decoder or encoder starts are not in it.
    memory_mib : list of float
        Resident memory, once a second.
    """

    frames: int
    fps: float
    drops: int
    driver_drops: int
    left_out: dict[str, int]
    stages_ms: dict[str, Spread]
    end_to_end_ms: Spread
    cpu_ms: float
    own_cpu_ms: float
    memory_mib: list[float]


@dataclass(frozen=True, slots=True)
class Line:
    """What a turn runs.

    Attributes
    ----------
    open_source : callable
        Opens the source anew for each turn. It should hold `EXTRA` frames more than are counted,
        so that the line is as busy when the clock stops as when it starts.
    segmenter : Segmenter
        Stays open over all turns.
    settings : PipelineSettings
        Pace, crop, contours.
    frames, warm_up : int
        Results that are counted, and those before them that are not.
    open_sinks : callable
        Opens the sinks of a turn; none by default.
    """

    open_source: Callable[[], Source]
    segmenter: Segmenter
    settings: PipelineSettings
    frames: int
    warm_up: int
    open_sinks: Callable[[], Sequence[Sink]] = tuple


class _MeteredEngine:
    """An engine that says how much of the calling thread's processor time its calls take."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.precision, self.device = engine.name, engine.precision, engine.device
        self.slots, self.buffer, self.ready = engine.slots, engine.buffer, engine.ready
        self.close = engine.close
        self.cpu_ns = 0
        self._engine = engine

    def start(self, slot: int) -> None:
        begun_ns = time.thread_time_ns()
        self._engine.start(slot)
        self.cpu_ns += time.thread_time_ns() - begun_ns

    def result(self, slot: int) -> F32:
        begun_ns = time.thread_time_ns()
        answer = self._engine.result(slot)
        self.cpu_ns += time.thread_time_ns() - begun_ns
        return answer


class _MeteredSink:
    """A sink whose writing is timed."""

    def __init__(self, sink: Sink) -> None:
        self.name = sink.name
        self.times_ns: list[int] = []
        self.cpu_ns = 0
        self._sink = sink

    def write(self, result: FrameResult) -> None:
        begun_ns, begun_cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        self._sink.write(result)
        self.times_ns.append(time.perf_counter_ns() - begun_ns)
        self.cpu_ns += time.thread_time_ns() - begun_cpu_ns

    def close(self) -> None:
        self._sink.close()


def measure_line(line: Line) -> Turn:
    """Run the line over its source once.

    Raises
    ------
    VeintrackError
        If the source, the engine or a sink fails.
    ValueError
        If no frame is left after the warm-up.
    """
    engine = _MeteredEngine(line.segmenter.engine)
    segmenter = Segmenter(engine, line.segmenter.model, line.segmenter.class_name)
    with ExitStack() as stack:
        source = stack.enter_context(line.open_source())
        pipeline = Pipeline(source, segmenter, VeinTracker(), line.settings)
        sinks = [_MeteredSink(sink) for sink in line.open_sinks()]
        # Short queues: what waits in a long one would pass for done.
        patient = not pipeline.newest_only
        threads = [SinkThread(sink, capacity=_QUEUE, patient=patient) for sink in sinks]
        for thread in threads:
            stack.callback(thread.close)

        def clocks() -> _Clocks:
            return _Clocks.read(pipeline, source, engine, sinks)

        taken = _take(pipeline, threads, line, clocks)
    for thread in threads:
        if thread.error is not None:
            raise OutputError(f"{thread.name}: {thread.error}") from thread.error
    frames = len(taken.ages_ns)
    if not frames:
        raise ValueError(
            f"no frame is left to measure after {line.warm_up} to warm up: give more frames"
        )
    begun, ended = taken.begun, taken.ended
    stages_ms = {name: Spread.of(times) for name, times in taken.stages_ns.items()}
    for sink in sinks:
        stages_ms[f"sink {sink.name}"] = Spread.of(sink.times_ns[line.warm_up :])
    return Turn(
        frames=frames,
        fps=round(frames / ((ended.wall_ns - begun.wall_ns) * 1e-9), 2),
        drops=ended.drops - begun.drops,
        driver_drops=ended.driver_drops - begun.driver_drops,
        left_out={thread.name: thread.left_out for thread in threads},
        stages_ms=stages_ms,
        end_to_end_ms=Spread.of(taken.ages_ns),
        cpu_ms=round((ended.process_ns - begun.process_ns) * 1e-6 / frames, 3),
        own_cpu_ms=round((ended.own_ns - begun.own_ns) * 1e-6 / frames, 3),
        memory_mib=taken.memory_mib,
    )


@dataclass(frozen=True, slots=True)
class _Clocks:
    """Times and counts, read together on the thread that iterates."""

    wall_ns: int
    process_ns: int
    own_ns: int
    drops: int
    driver_drops: int

    @classmethod
    def read(
        cls,
        pipeline: Pipeline,
        source: Source,
        engine: _MeteredEngine,
        sinks: Sequence[_MeteredSink],
    ) -> "_Clocks":
        own_ns = time.thread_time_ns() - engine.cpu_ns + pipeline.reader_cpu_ns
        return cls(
            time.perf_counter_ns(),
            time.process_time_ns(),
            own_ns + sum(sink.cpu_ns for sink in sinks),
            pipeline.drops,
            source.driver_drops,
        )


@dataclass(slots=True)
class _Taken:
    """What was read off the results of a turn."""

    begun: _Clocks
    ended: _Clocks
    stages_ns: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in STAGES})
    ages_ns: list[int] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)


def _take(
    pipeline: Pipeline, threads: Sequence[SinkThread], line: Line, clocks: Callable[[], _Clocks]
) -> _Taken:
    """Iterate as the main job does, and count the frames between warm-up and the extra ones."""
    now = clocks()
    taken = _Taken(now, now)
    for number, result in enumerate(pipeline):
        for thread in threads:
            thread.put(result)
        counted = number - line.warm_up
        if counted == -1:
            taken.begun = clocks()
        if not 0 <= counted < line.frames:
            continue
        for name, times_ns in taken.stages_ns.items():
            times_ns.append(getattr(result.timings, f"{name}_ns"))
        taken.ages_ns.append(result.timings.age_ns)
        if time.perf_counter_ns() - taken.begun.wall_ns >= len(taken.memory_mib) * 1_000_000_000:
            taken.memory_mib.append(resident_mib())
        if counted == line.frames - 1:
            taken.ended = clocks()
    if len(taken.ages_ns) < line.frames:  # the source ended before
        taken.ended = clocks()
    return taken


def measure_bare(engine: Engine, frames: int, warm_up: int) -> dict[str, float]:
    """Time an engine alone: all its slots at work, the answers not looked at.

    Parameters
    ----------
    engine : Engine
        With nothing in work; what lies in its buffers is computed.
    frames, warm_up : int
        How many are counted, and how many are computed before.

    Returns
    -------
    dict
        ``fps``, ``cpu_ms`` (processor time of the process a frame) and ``latency_p50_ms``, from a
        picture's start to its answer; with several slots in work it waits for the others.
    """
    slots = engine.slots
    started_ns = []
    for slot in range(slots):
        started_ns.append(time.perf_counter_ns())
        engine.start(slot)
    latencies_ns = []
    begun_ns = begun_cpu_ns = 0
    for number in range(warm_up + frames):
        if number == warm_up:
            begun_ns, begun_cpu_ns = time.perf_counter_ns(), time.process_time_ns()
        slot = number % slots
        engine.result(slot)
        now_ns = time.perf_counter_ns()
        latencies_ns.append(now_ns - started_ns[slot])
        started_ns[slot] = now_ns
        engine.start(slot)
    wall_ns, cpu_ns = time.perf_counter_ns() - begun_ns, time.process_time_ns() - begun_cpu_ns
    for slot in range(slots):
        engine.result(slot)
    return {
        "fps": round(frames / (wall_ns * 1e-9), 2),
        "cpu_ms": round(cpu_ns * 1e-6 / frames, 3),
        "latency_p50_ms": Spread.of(latencies_ns[-frames:]).p50,
    }


def resident_mib() -> float:
    """Memory that this process holds now, in MiB."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return peak_mib()
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def peak_mib() -> float:
    """Most memory that this process ever held, in MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def machine_facts() -> dict[str, Any]:
    """Say on what is measured, as far as the system tells: board, clocks, power mode, load."""
    facts: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "clocks_mhz": _clocks_mhz(),
    }
    for name, file in _FACTS.items():
        with suppress(OSError, UnicodeDecodeError):
            facts[name] = Path(file).read_bytes().replace(b"\0", b"").decode().strip()
    if jetson := shutil.which("nvpmodel"):
        said = subprocess.run([jetson, "-q"], capture_output=True, text=True, check=False)
        facts["power_mode"] = " ".join(said.stdout.split())
    return facts


_FACTS = {
    "board": "/proc/device-tree/model",
    "governor": "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
}


def _clocks_mhz() -> list[int]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return [round(float(line.split(":")[1])) for line in lines if line.startswith("cpu MHz")]
