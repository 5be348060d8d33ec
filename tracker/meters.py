"""What times of many frames sum up to, and engines and sinks that note the time they take."""

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from veintrack.engines.base import Engine
from veintrack.tracker.frame import F32, FrameResult
from veintrack.tracker.sinks.base import Sink

__all__ = ["MeteredEngine", "MeteredSink", "Spread"]

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
    def of(cls, times_ns: "Sequence[int] | array[int]") -> "Spread":
        """Sum up times in nanoseconds; zeros where there are none."""
        if not len(times_ns):
            return cls(*(0.0 for _ in _PARTS))
        values = np.percentile(np.asarray(times_ns), list(_PARTS.values())) * 1e-6
        return cls(*(round(float(value), 4) for value in values))


class MeteredEngine:
    """An engine that says how much of the calling thread's processor time its calls take."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.precision, self.device = engine.name, engine.precision, engine.device
        self.key = engine.key
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


class MeteredSink:
    """A sink whose writing is timed."""

    def __init__(self, sink: Sink) -> None:
        self.name = sink.name
        self.times_ns = array("q")
        self.cpu_ns = 0
        self._sink = sink

    def write(self, result: FrameResult) -> None:
        begun_ns, begun_cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        self._sink.write(result)
        self.times_ns.append(time.perf_counter_ns() - begun_ns)
        self.cpu_ns += time.thread_time_ns() - begun_cpu_ns

    def close(self) -> None:
        self._sink.close()
