"""The main loop: frames in, results out. Threads only at its two ends.

A reader thread takes frames from the source and leaves them in a mailbox; this loop, on the
caller's thread, segments, detects and tracks them one by one; where frames come from a file, and
the engine has several slots, the next ones are in work meanwhile. Sinks write on threads of their
own (:mod:`veintrack.tracker.sinks`).
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from veintrack.errors import EngineError
from veintrack.tracker.detect import DetectSettings, detect
from veintrack.tracker.frame import Frame, FrameResult, Region, Timings
from veintrack.tracker.grid import fit
from veintrack.tracker.mailbox import Mailbox
from veintrack.tracker.scanarea import find_scan_area
from veintrack.tracker.segment import GridSegmenter, InWork
from veintrack.tracker.sources.base import Source
from veintrack.tracker.tracks import VeinTracker

__all__ = ["Pipeline", "PipelineSettings", "slots_for"]

_READ_AHEAD = 4  # frames decoded ahead of the network, for files
_POLL_S = 0.2  # how soon a request to stop is seen while no frame comes
_GLANCE_S = 1e-3  # how soon an answer is seen while no frame comes


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """How frames are taken and looked at.

    Attributes
    ----------
    crop : str or tuple of int
        ``auto`` finds the scan area in the first frame, ``none`` looks at the whole frame, or
        ``(x, y, width, height)`` in px.
    pace : str
        ``asap`` processes every frame of a file as fast as it can. ``realtime`` hands a file's
        frames out at the times they were taken and, as a live source does, drops what comes while
        the network is busy.
    contours : bool
        Trace the outline of every detection.
    max_frames : int or None
        Stop after this many frames.
    duration_s : float or None
        Stop at the first frame taken this long after the first one.
    detect : DetectSettings
        What counts as a vessel.
    """

    crop: str | Region = "auto"
    pace: str = "asap"
    contours: bool = True
    max_frames: int | None = None
    duration_s: float | None = None
    detect: DetectSettings = field(default_factory=DetectSettings)

    def __post_init__(self) -> None:
        if isinstance(self.crop, str) and self.crop not in ("auto", "none"):
            raise ValueError(f"crop must be auto, none or X,Y,W,H, got {self.crop!r}")
        if self.pace not in ("asap", "realtime"):
            raise ValueError(f"pace must be asap or realtime, got {self.pace!r}")
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, got {self.max_frames}")
        if self.duration_s is not None and not 0 < self.duration_s < math.inf:
            raise ValueError(f"duration_s must be greater than 0 and finite, got {self.duration_s}")


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A frame that the source delivered."""

    frame: Frame
    read_ns: int
    put_ns: int  # perf_counter


@dataclass(frozen=True, slots=True)
class _Begun:
    """A frame whose inference was started."""

    arrived: _Arrived
    region: Region | None
    work: InWork
    begun_ns: int  # monotonic
    wait_ns: int
    prepare_ns: int
    started_ns: int  # perf_counter


class Pipeline:
    """Segment, detect and track a source's frames; iterate once for the results.

    The pipeline uses what it is given and closes none of it.

    Parameters
    ----------
    source : Source
        Where frames come from. Read on a thread of the pipeline's own.
    segmenter : GridSegmenter
        The network. Used on the iterating thread.
    tracker : VeinTracker
        The tracker. Used on the iterating thread.
    settings : PipelineSettings
        How frames are taken and looked at.

    Attributes
    ----------
    newest_only : bool
        Whether frames that come while the network is busy are passed over; else all are processed.

    Raises
    ------
    SourceLostError
        While iterating, where the source fails before its end; every earlier frame was delivered.
    """

    def __init__(
        self,
        source: Source,
        segmenter: GridSegmenter,
        tracker: VeinTracker,
        settings: PipelineSettings | None = None,
    ) -> None:
        self.settings = settings or PipelineSettings()
        self._source, self._segmenter, self._tracker = source, segmenter, tracker
        if isinstance(self.settings.crop, tuple):  # a crop that cannot fit is told at once
            fit(source.info.shape_px, segmenter.input_shape, self.settings.crop)
        self.newest_only = slots_for(live=source.info.live, pace=self.settings.pace) == 1
        # What is newest is answered before anything newer is looked at.
        self._in_work = 1 if self.newest_only else segmenter.slots
        self._mailbox: Mailbox[_Arrived] = Mailbox(
            capacity=1 if self.newest_only else _READ_AHEAD, newest_only=self.newest_only
        )
        self._stopping = threading.Event()
        self._shape: tuple[int, ...] | None = None
        self._region: Region | None = None
        self._failure: Exception | None = None
        self._reader_cpu_ns = 0

    @property
    def reader_cpu_ns(self) -> int:
        """Processor time of the thread that reads the source, up to the last frame it delivered."""
        return self._reader_cpu_ns

    @property
    def drops(self) -> int:
        """Frames that arrived while the network was busy and were passed over."""
        return self._mailbox.dropped

    @property
    def region(self) -> Region | None:
        """The part of the frame that is looked at; None for the whole, or before a frame came."""
        return self._region

    def stop(self) -> None:
        """End the iteration after the frame in work. Safe from any thread or signal handler."""
        self._stopping.set()

    def __iter__(self) -> Iterator[FrameResult]:
        reader = threading.Thread(target=self._read, name="veintrack-reader", daemon=True)
        reader.start()
        try:
            yield from self._results()
        finally:
            self._stopping.set()
            self._mailbox.close()
            self._source.close()
            reader.join()

    def _read(self) -> None:
        """Fill the mailbox from the source; runs on the reader thread."""
        take_turns = _pacer() if self.settings.pace == "realtime" else None
        asked_ns = time.perf_counter_ns()
        try:
            for frame in self._source:
                read_ns = time.perf_counter_ns() - asked_ns
                due = take_turns(frame, self._stopping) if take_turns else frame
                arrived = _Arrived(due, read_ns, time.perf_counter_ns())
                self._reader_cpu_ns = time.thread_time_ns()
                if self._stopping.is_set() or not self._mailbox.put(arrived):
                    return
                asked_ns = time.perf_counter_ns()
        except Exception as error:  # handed to the thread that iterates, which raises it
            self._mailbox.fail(error)
        else:
            self._mailbox.close()

    def _results(self) -> Iterator[FrameResult]:
        begun: deque[_Begun] = deque()
        try:
            for arrived in self._frames(begun):
                if arrived is not None:
                    try:
                        begun.append(self._begin(arrived))
                    except (EngineError, ValueError) as error:  # told when all before it is
                        self._failure = error
                        break
                elif begun and self._segmenter.ready(begun[0].work):
                    yield self._finish(begun.popleft())
                while len(begun) >= self._in_work:
                    yield self._finish(begun.popleft())
            while begun:
                yield self._finish(begun.popleft())
        finally:
            for left in begun:  # the engine must not write where nobody looks any more
                with suppress(EngineError):
                    self._segmenter.result(left.work)
        if self._failure is not None:
            raise self._failure

    def _frames(self, begun: Collection[object]) -> Iterator[_Arrived | None]:
        """Take frames until they end; None where one is in work and no further one comes.

        What went wrong is kept until all before it are answered.
        """
        taken, first_ns = 0, None
        while not self._stopping.is_set() and taken != self.settings.max_frames:
            try:
                arrived = self._mailbox.take(_GLANCE_S if begun else _POLL_S)
            except TimeoutError:
                yield None
                continue
            except Exception as error:  # the reader's
                self._failure = error
                return
            if arrived is None:
                return
            frame = arrived.frame
            first_ns = frame.capture_ns if first_ns is None else first_ns
            limit_s = self.settings.duration_s
            if limit_s is not None and frame.capture_ns - first_ns >= limit_s * 1e9:
                return
            taken += 1
            yield arrived

    def _begin(self, arrived: _Arrived) -> _Begun:
        frame = arrived.frame
        begun_ns = time.monotonic_ns()
        if frame.pixels.shape != self._shape:  # the first frame, or pictures of another size
            self._shape, self._region = frame.pixels.shape, self._scan_area(frame)
        t0 = time.perf_counter_ns()
        work = self._segmenter.start(frame.pixels, self._region)
        t1 = time.perf_counter_ns()
        return _Begun(arrived, self._region, work, begun_ns, t0 - arrived.put_ns, t1 - t0, t1)

    def _finish(self, begun: _Begun) -> FrameResult:
        frame, grid = begun.arrived.frame, begun.work.grid
        probability = self._segmenter.result(begun.work)
        t1 = time.perf_counter_ns()
        detections = detect(
            probability,
            grid,
            self._segmenter.threshold,
            self.settings.detect,
            contours=self.settings.contours,
        )
        t2 = time.perf_counter_ns()
        tracks = self._tracker.update(
            detections,
            frame.capture_ns,
            spacing_mm=frame.spacing_mm,
            top_px=grid.region[1],
        )
        t3 = time.perf_counter_ns()
        done_ns = time.monotonic_ns()
        timings = Timings(
            read_ns=begun.arrived.read_ns,
            wait_ns=begun.wait_ns,
            prepare_ns=begun.prepare_ns,
            infer_ns=t1 - begun.started_ns,
            detect_ns=t2 - t1,
            track_ns=t3 - t2,
            done_ns=done_ns,
            age_ns=done_ns - self._since_ns(frame, begun.begun_ns),
        )
        return FrameResult(frame, detections, tuple(tracks), timings, begun.region)

    def _since_ns(self, frame: Frame, begun_ns: int) -> int:
        """From when a frame's age counts: its capture, or its turn where nobody waited for it."""
        if self._source.info.live:
            return frame.capture_ns
        return frame.arrival_ns if self.newest_only else begun_ns

    def _scan_area(self, frame: Frame) -> Region:
        if isinstance(self.settings.crop, tuple):
            return self.settings.crop
        if self.settings.crop == "auto":
            return find_scan_area(frame.pixels)
        height, width = frame.pixels.shape
        return (0, 0, width, height)


def slots_for(*, live: bool, pace: str) -> int | None:
    """Say how many frames an engine should have in work: `load_segmenter`'s ``slots``.

    One where the newest frame counts, as many as keep the device busy where all of them do.
    """
    return 1 if live or pace == "realtime" else None


def _pacer() -> Callable[[Frame, threading.Event], Frame]:
    """Hand frames out at the times they were taken, counted from the first."""
    start_ns: int | None = None

    def take_turns(frame: Frame, stopping: threading.Event) -> Frame:
        nonlocal start_ns
        if start_ns is None:
            start_ns = time.monotonic_ns() - frame.capture_ns
        due_ns = start_ns + frame.capture_ns
        stopping.wait(max(0, due_ns - time.monotonic_ns()) * 1e-9)
        return replace(frame, arrival_ns=due_ns)

    return take_turns
