"""How fast the whole line is, stage by stage, beside the bare engine in the same run.

Line and bare engine take turns, so that other loads on the machine hit both: their ratio is what
to read. The first frames of every turn warm up and are not counted.
"""

import os
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from veintrack.engines.base import Engine
from veintrack.tracker.frame import FrameResult
from veintrack.tracker.pipeline import Pipeline, PipelineSettings
from veintrack.tracker.segment import Segmenter
from veintrack.tracker.sinks.base import Sink, SinkThread
from veintrack.tracker.sources.base import Source
from veintrack.tracker.tracks import VeinTracker

__all__ = [
    "STAGES",
    "Line",
    "Spread",
    "Turn",
    "machine_facts",
    "measure_bare",
    "measure_line",
    "resident_mib",
]

STAGES = ("read", "wait", "prepare", "infer", "detect", "track")
_PARTS = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9, "max": 100.0}


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the middle and the tail of some times lie, in milliseconds."""

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
        Frames that were counted.
    fps : float
        Frames a second over them.
    drops, driver_drops : int
        Frames passed over because the line was busy, and those that the driver lost; of the whole
        turn.
    stages_ms : dict
        Times of each of `STAGES`, and of each sink as ``sink NAME``.
    end_to_end_ms : Spread
        From the capture stamp (live, real time) or the start of the frame's processing to its
        tracks.
    cpu_ms : float
        Processor time of the whole process a frame: all threads, the engine's too.
    other_cpu_ms : float
        Of it, what is not the engine's: reading, laying on the grid, detecting, tracking, sinks.
    memory_mib : list of float
        Resident memory, once a second.
    """

    frames: int
    fps: float
    drops: int
    driver_drops: int
    stages_ms: dict[str, Spread]
    end_to_end_ms: Spread
    cpu_ms: float
    other_cpu_ms: float
    memory_mib: list[float]


@dataclass(frozen=True, slots=True)
class Line:
    """What a turn runs.

    Attributes
    ----------
    open_source : callable
        Opens the source anew for each turn.
    segmenter : Segmenter
        Stays open over all turns.
    settings : PipelineSettings
        Pace, crop, contours.
    open_sinks : callable
        Opens the sinks of a turn; none by default.
    warm_up : int
        Results at the start of a turn that are not counted.
    """

    open_source: Callable[[], Source]
    segmenter: Segmenter
    settings: PipelineSettings
    open_sinks: Callable[[], Sequence[Sink]] = tuple
    warm_up: int = 30


class _Timed:
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
    sinks = [_Timed(sink) for sink in line.open_sinks()]
    process_cpu_ns = time.process_time_ns()
    with ExitStack() as stack:
        source = stack.enter_context(line.open_source())
        pipeline = Pipeline(source, line.segmenter, VeinTracker(), line.settings)
        patient = not source.info.live and line.settings.pace == "asap"
        threads = [SinkThread(sink, capacity=128, patient=patient) for sink in sinks]
        for thread in threads:
            stack.callback(thread.close)
        taken = _take(pipeline, threads, line.warm_up)
    for thread in threads:
        if thread.error is not None:
            raise thread.error
    frames = len(taken.ages_ns)
    if not frames:
        raise ValueError(
            f"no frame is left to measure after {line.warm_up} to warm up: give more frames"
        )
    other_ns = taken.own_cpu_ns + pipeline.reader_cpu_ns + sum(sink.cpu_ns for sink in sinks)
    stages_ms = {name: Spread.of(times) for name, times in taken.stages_ns.items()}
    for sink in sinks:
        stages_ms[f"sink {sink.name}"] = Spread.of(sink.times_ns[line.warm_up :])
    everything = frames + line.warm_up
    return Turn(
        frames=frames,
        fps=round(frames / taken.wall_s, 2),
        drops=pipeline.drops,
        driver_drops=source.driver_drops,
        stages_ms=stages_ms,
        end_to_end_ms=Spread.of(taken.ages_ns),
        cpu_ms=round((time.process_time_ns() - process_cpu_ns) * 1e-6 / everything, 3),
        other_cpu_ms=round(other_ns * 1e-6 / everything, 3),
        memory_mib=taken.memory_mib,
    )


@dataclass(slots=True)
class _Taken:
    """What was read off the results of a turn."""

    stages_ns: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in STAGES})
    ages_ns: list[int] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    own_cpu_ns: int = 0


def _take(pipeline: Pipeline, threads: Sequence[SinkThread], warm_up: int) -> _Taken:
    """Iterate as the main job does; warm-up results go to the sinks, but are not counted."""
    taken = _Taken()
    own_cpu_ns, begun_ns = time.thread_time_ns(), time.perf_counter_ns()
    for number, result in enumerate(pipeline):
        for thread in threads:
            thread.put(result)
        if number < warm_up:
            begun_ns = time.perf_counter_ns()
            continue
        for name, times_ns in taken.stages_ns.items():
            times_ns.append(getattr(result.timings, f"{name}_ns"))
        taken.ages_ns.append(result.timings.age_ns)
        taken.wall_s = (time.perf_counter_ns() - begun_ns) * 1e-9
        if taken.wall_s >= len(taken.memory_mib):
            taken.memory_mib.append(resident_mib())
    taken.own_cpu_ns = time.thread_time_ns() - own_cpu_ns
    return taken


@dataclass(frozen=True, slots=True)
class _Clocks:
    """Wall time and processor time of the process, read together."""

    wall_ns: int
    process_ns: int

    @classmethod
    def now(cls) -> "_Clocks":
        return cls(time.perf_counter_ns(), time.process_time_ns())


def measure_bare(engine: Engine, frames: int, warm_up: int = 30) -> dict[str, float]:
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
        ``fps``, ``cpu_ms`` (processor time of the process a frame) and ``latency_p50_ms``.
    """
    slots = engine.slots
    started_ns = [0] * slots
    for slot in range(slots):
        engine.start(slot)
    begun = _Clocks.now()
    latencies_ns = []
    for number in range(warm_up + frames):
        if number == warm_up:
            begun = _Clocks.now()
        slot = number % slots
        engine.result(slot)
        if started_ns[slot]:
            latencies_ns.append(time.perf_counter_ns() - started_ns[slot])
        started_ns[slot] = time.perf_counter_ns()
        engine.start(slot)
    ended = _Clocks.now()
    for slot in range(slots):
        engine.result(slot)
    return {
        "fps": round(frames / ((ended.wall_ns - begun.wall_ns) * 1e-9), 2),
        "cpu_ms": round((ended.process_ns - begun.process_ns) * 1e-6 / frames, 3),
        "latency_p50_ms": Spread.of(latencies_ns[-frames:]).p50,
    }


def resident_mib() -> float:
    """Memory that this process holds now, in MiB."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def machine_facts() -> dict[str, Any]:
    """Say on what was measured, as far as the system tells: processor, clocks, power mode."""
    facts: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "clocks_mhz": _clocks_mhz(),
    }
    for name, file in _FACTS.items():
        try:
            text = Path(file).read_bytes().replace(b"\0", b"").decode().strip()
        except (OSError, UnicodeDecodeError):
            continue
        facts[name] = text
    return facts


_FACTS = {
    "board": "/proc/device-tree/model",
    "governor": "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
}


def _clocks_mhz() -> list[float]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return [round(float(line.split(":")[1])) for line in lines if line.startswith("cpu MHz")]
