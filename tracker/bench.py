"""How fast the whole line is, stage by stage, beside the bare engine in the same run.

Line and bare engine take turns, so that other loads on the machine hit both: their ratio is what
to read. The first frames of every turn warm up and are not counted.

What the clocks include
    Frames a second: wall time from the last result of the warm-up to the last one counted, with as
    many frames in work at both. End to end: from the capture stamp of a live source, or from when a
    frame of a file was due in real time, to its tracks; as fast as possible, from the start of the
    frame's processing, as what was read ahead waits for nothing but us. Processor time: all threads
    of the process in the same span as the frames a second.
"""

import math
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Protocol

from veintrack.engines.base import Engine
from veintrack.errors import OutputError
from veintrack.tracker.frame import FrameResult
from veintrack.tracker.machine import resident_mib
from veintrack.tracker.meters import MeteredEngine, MeteredSink, Spread
from veintrack.tracker.pipeline import Pipeline, PipelineSettings
from veintrack.tracker.segment import Segmenter
from veintrack.tracker.sinks.base import Sink, SinkThread
from veintrack.tracker.sources.base import Source
from veintrack.tracker.tracks import VeinTracker

__all__ = ["STAGES", "Line", "Turn", "View", "measure_bare", "measure_line"]

STAGES = ("read", "wait", "prepare", "infer", "detect", "track")
_QUEUE = 4
_DIGITS = 4


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
        By sink, results that it was too slow to take meanwhile; none where the source waits.
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


class View(Protocol):
    """What shows the newest result, on a thread of its own: a window."""

    def put(self, result: FrameResult) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Line:
    """What a turn runs.

    Attributes
    ----------
    open_source : callable
        Opens the source anew for each turn. It should go on after the frames that are counted, so
        that the line is as busy when the clock stops as when it starts; the turn ends by itself.
    segmenter : Segmenter
        Stays open over all turns.
    settings : PipelineSettings
        Pace, crop, contours.
    frames, warm_up : int
        Results that are counted, at most, and those before them that are not.
    seconds : float
        For how long they are counted, at most.
    open_sinks : callable
        Opens the sinks of a turn; none by default.
    open_views : callable
        Opens the views of a turn, given what ends it; none by default.
    """

    open_source: Callable[[], Source]
    segmenter: Segmenter
    settings: PipelineSettings
    frames: int
    warm_up: int
    seconds: float = math.inf
    open_sinks: Callable[[], Sequence[Sink]] = tuple
    open_views: Callable[[Callable[[], None]], Sequence[View]] = lambda _: ()


def measure_line(line: Line) -> Turn:
    """Run the line over its source once.

    Raises
    ------
    VeintrackError
        If the source, the engine or a sink fails.
    ValueError
        If no frame is left after the warm-up.
    """
    engine = MeteredEngine(line.segmenter.engine)
    segmenter = Segmenter(engine, line.segmenter.model, line.segmenter.class_name)
    with ExitStack() as stack:
        source = stack.enter_context(line.open_source())
        pipeline = Pipeline(source, segmenter, VeinTracker(), line.settings)
        sinks = [MeteredSink(sink) for sink in line.open_sinks()]
        # Short queues: what waits in a long one would pass for done.
        patient = not pipeline.newest_only
        threads = [SinkThread(sink, capacity=_QUEUE, patient=patient) for sink in sinks]
        others = set(threading.enumerate())
        views = line.open_views(pipeline.stop)
        view_threads = [one.ident or 0 for one in threading.enumerate() if one not in others]
        view_clocks = [time.pthread_getcpuclockid(ident) for ident in view_threads]
        for outlet in (*threads, *views):
            stack.callback(outlet.close)

        def clocks() -> _Clocks:
            return _Clocks.read(pipeline, source, engine, sinks, threads, view_clocks)

        taken = _take(pipeline, (*threads, *views), line, clocks)
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
    for sink, left_out in zip(sinks, begun.left_out, strict=True):
        written = line.warm_up - left_out  # of the warm-up's results
        stages_ms[f"sink {sink.name}"] = Spread.of(sink.times_ns[written:])
    return Turn(
        frames=frames,
        fps=round(frames / ((ended.wall_ns - begun.wall_ns) * 1e-9), _DIGITS),
        drops=ended.drops - begun.drops,
        driver_drops=ended.driver_drops - begun.driver_drops,
        left_out={
            thread.name: after - before
            for thread, before, after in zip(threads, begun.left_out, ended.left_out, strict=True)
        },
        stages_ms=stages_ms,
        end_to_end_ms=Spread.of(taken.ages_ns),
        cpu_ms=round((ended.process_ns - begun.process_ns) * 1e-6 / frames, _DIGITS),
        own_cpu_ms=round((ended.own_ns - begun.own_ns) * 1e-6 / frames, _DIGITS),
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
    left_out: tuple[int, ...]

    @classmethod
    def read(
        cls,
        pipeline: Pipeline,
        source: Source,
        engine: MeteredEngine,
        sinks: Sequence[MeteredSink],
        threads: Sequence[SinkThread],
        view_clocks: Sequence[int],
    ) -> "_Clocks":
        own_ns = time.thread_time_ns() - engine.cpu_ns + pipeline.reader_cpu_ns
        with suppress(OSError):  # the thread of a view that failed is gone
            own_ns += sum(map(time.clock_gettime_ns, view_clocks))
        return cls(
            time.perf_counter_ns(),
            time.process_time_ns(),
            own_ns + sum(sink.cpu_ns for sink in sinks),
            pipeline.drops,
            source.driver_drops,
            tuple(thread.left_out for thread in threads),
        )


def _no_times() -> "dict[str, array[int]]":
    return {name: array("q") for name in STAGES}


@dataclass(slots=True)
class _Taken:
    """What was read off the results of a turn; 8 bytes a time, so that hours of frames fit."""

    begun: _Clocks
    ended: _Clocks
    stages_ns: "dict[str, array[int]]" = field(default_factory=_no_times)
    ages_ns: "array[int]" = field(default_factory=lambda: array("q"))
    memory_mib: list[float] = field(default_factory=list)


def _take(
    pipeline: Pipeline,
    outlets: Sequence[SinkThread | View],
    line: Line,
    clocks: Callable[[], _Clocks],
) -> _Taken:
    """Iterate as the main job does, count frames after the warm-up, and end when that is enough."""
    now = clocks()
    taken = _Taken(now, now)
    enough = False
    for number, result in enumerate(pipeline):
        for outlet in outlets:
            outlet.put(result)
        counted = number - line.warm_up
        if counted == -1:
            taken.begun = clocks()
        if counted < 0 or enough:
            continue
        for name, times_ns in taken.stages_ns.items():
            times_ns.append(getattr(result.timings, f"{name}_ns"))
        taken.ages_ns.append(result.timings.age_ns)
        passed_s = (time.perf_counter_ns() - taken.begun.wall_ns) * 1e-9
        if passed_s >= len(taken.memory_mib):
            taken.memory_mib.append(resident_mib())
        enough = counted + 1 >= line.frames or passed_s >= line.seconds
        if enough:
            taken.ended = clocks()
            pipeline.stop()  # what is in work is still answered
    if not enough:  # the source ended before
        taken.ended = clocks()
    return taken


def measure_bare(
    engine: Engine, frames: int, warm_up: int, seconds: float = math.inf
) -> dict[str, float]:
    """Time an engine alone: all its slots at work, the answers not looked at.

    Parameters
    ----------
    engine : Engine
        With nothing in work; what lies in its buffers is computed.
    frames, warm_up : int
        How many are counted, at most, and how many are computed before.
    seconds : float
        For how long they are counted, at most.

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
    latencies_ns = array("q")
    begun_ns = begun_cpu_ns = now_ns = 0
    for number in range(warm_up + frames):
        if number == warm_up:
            begun_ns, begun_cpu_ns = time.perf_counter_ns(), time.process_time_ns()
        slot = number % slots
        engine.result(slot)
        now_ns = time.perf_counter_ns()
        if number >= warm_up:
            latencies_ns.append(now_ns - started_ns[slot])
        started_ns[slot] = now_ns
        engine.start(slot)
        if number >= warm_up and now_ns - begun_ns >= seconds * 1e9:
            break
    wall_ns, cpu_ns = now_ns - begun_ns, time.process_time_ns() - begun_cpu_ns
    for slot in range(slots):
        engine.result(slot)
    counted = len(latencies_ns)
    return {
        "fps": round(counted / (wall_ns * 1e-9), _DIGITS),
        "cpu_ms": round(cpu_ns * 1e-6 / counted, _DIGITS),
        "latency_p50_ms": Spread.of(latencies_ns).p50,
    }
