"""The main loop: frames in, results out. Threads only at its two ends.

A reader (:mod:`veintrack.tracker.reader`) takes frames from the source; this loop, on the caller's
thread, segments, detects and tracks them one by one; where frames come from a file, and
the engine has several slots, the next ones are in work meanwhile. Sinks write on threads of their
own (:mod:`veintrack.tracker.sinks`).
"""

import math
import queue
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from veintrack.errors import EngineError
from veintrack.tracker.detect import DetectSettings, detect
from veintrack.tracker.frame import (
    STREAMING,
    U8,
    Detection,
    Frame,
    FrameResult,
    PictureState,
    Region,
    Signal,
    SourceState,
    Timings,
    Track,
)
from veintrack.tracker.framing import Framing, Place
from veintrack.tracker.grid import fit
from veintrack.tracker.picture import Look, PictureWatch
from veintrack.tracker.reader import Arrived, Reader
from veintrack.tracker.segment import GridSegmenter, InWork
from veintrack.tracker.sources.base import Source
from veintrack.tracker.tracks import VeinTracker

__all__ = ["Pipeline", "PipelineSettings", "slots_for"]

_HELD = 64  # frames of a file's first second held back at most, until the scan area is known
_POLL_S = 0.1  # how often, while no frame comes, the source's state is looked at, and stopping
_SHOWING = (PictureState.GOOD, PictureState.FROZEN)  # ultrasound; else there is nothing to find
_UNJUDGED = Look(PictureState.GOOD, ())
_REPEAT_NS = 1_000_000_000  # how often a source that is lost is told of again
_GLANCE_S = 1e-3  # how soon an answer is seen while no frame comes


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """How frames are taken and looked at.

    Attributes
    ----------
    crop : str or tuple of int
        ``auto`` finds the scan area in the first second of frames, ``none`` looks at the whole
        frame, or ``(x, y, width, height)`` in px.
    pace : str
        ``asap`` processes every frame of a file as fast as it can. ``realtime`` hands a file's
        frames out at the times they were taken and, as a live source does, drops what comes while
        the network is busy.
    contours : bool
        Trace the outline of every detection.
    judge_pictures : bool
        Look whether a picture is good for anything, and detect nothing in one without signal or
        contact, nor learn from one that stands still.
    max_frames : int or None
        Stop after this many frames.
    duration_s : float or None
        Stop at the first frame taken this long after the first one; a live source also when none
        comes for so long.
    detect : DetectSettings
        What counts as a vessel.
    """

    crop: str | Region = "auto"
    pace: str = "asap"
    contours: bool = True
    judge_pictures: bool = True
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
class _Gap:
    """No frame, as the source fails or failed; `until_ns` is the next frame's time, if known."""

    source: SourceState
    until_ns: int | None = None


@dataclass(frozen=True, slots=True)
class _Begun:
    """A frame whose inference was started."""

    arrived: Arrived
    place: Place
    look: Look
    work: InWork
    begun_ns: int  # monotonic
    wait_ns: int
    prepare_ns: int
    started_ns: int  # perf_counter


class Pipeline:
    """Segment, detect and track a source's frames; iterate once for the results.

    While a live source is lost, results go on without frames (:attr:`FrameResult.fresh` is False)
    for as long as there are tracks to predict, and once a second after that. The source is closed
    at the end of the iteration; segmenter and tracker stay open.

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
        self._reader = Reader(
            source, newest_only=self.newest_only, realtime=self.settings.pace == "realtime"
        )
        self._stopping = False  # a plain flag: signal handlers set it
        self._drops = 0
        self._framing = Framing(self.settings.crop, source.info.scan_area_px)
        self._watch = PictureWatch()
        self._picture = PictureState.GOOD
        self._region: Region | None = None
        self._last: FrameResult | None = None
        self._told = STREAMING  # the last outage that a result told of
        self._failure: Exception | None = None

    @property
    def reader_cpu_ns(self) -> int:
        """Processor time of the thread that reads the source, up to the last frame it delivered."""
        return self._reader.cpu_ns

    @property
    def drops(self) -> int:
        """Frames passed over, as the network was busy, up to the last one that was looked at."""
        return self._drops

    @property
    def region(self) -> Region | None:
        """The part of the frame that is looked at; None for the whole, or before a frame came."""
        return self._region

    def stop(self) -> None:
        """End the iteration after the frame in work. Safe from any thread or signal handler."""
        self._stopping = True

    def __iter__(self) -> Iterator[FrameResult]:
        self._reader.start()
        try:
            yield from self._results()
        finally:
            self._stopping = True
            self._reader.close()

    def _results(self) -> Iterator[FrameResult]:
        begun: deque[_Begun] = deque()
        try:
            for arrived in self._ahead(self._frames(begun)):
                if isinstance(arrived, _Gap):
                    yield from self._coast(arrived)
                elif arrived is not None:
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

    def _frames(self, begun: Collection[object]) -> Iterator[Arrived | _Gap | None]:
        """Take frames until they end; where none comes, the source's state if it fails, or None.

        What went wrong is kept until all before it are answered.
        """
        taken, first_ns, begun_ns = 0, None, time.monotonic_ns()
        while not self._stopping and taken != self.settings.max_frames:
            try:
                arrived = self._reader.take(_GLANCE_S if begun else _POLL_S)
            except queue.Empty:
                since_ns = begun_ns if first_ns is None else first_ns
                if self._source.info.live and self._is_over(since_ns, time.monotonic_ns()):
                    return
                state = self._source.state
                yield None if begun or state.signal is Signal.STREAMING else _Gap(state)
                continue
            except Exception as error:  # the reader's
                self._failure = error
                return
            if arrived is None:
                return
            frame = arrived.frame
            first_ns = frame.capture_ns if first_ns is None else first_ns
            if self._is_over(first_ns, frame.capture_ns):
                return
            outage = self._source.last_outage
            if outage != self._told and frame.arrival_ns > outage.since_ns:
                yield _Gap(outage, frame.capture_ns)  # it was over before anyone looked
            self._drops = self._reader.dropped
            taken += 1
            yield arrived

    def _is_over(self, since_ns: int, now_ns: int) -> bool:
        limit_s = self.settings.duration_s
        return limit_s is not None and now_ns - since_ns >= limit_s * 1e9

    def _ahead(self, arrivals: Iterator[Arrived | _Gap | None]) -> Iterator[Arrived | _Gap | None]:
        """Hold a file's first second back until the scan area is known from it."""
        if self._framing.searches and not self.newest_only:
            held: list[Arrived] = []
            for arrived in arrivals:
                if isinstance(arrived, Arrived):
                    held.append(arrived)
                    enough = self._framing.shown_enough(held[0].frame, arrived.frame)
                    if enough or len(held) == _HELD:
                        break
            self._framing.show([one.frame for one in held])
            yield from held
        yield from arrivals

    def _begin(self, arrived: Arrived) -> _Begun:
        frame = arrived.frame
        begun_ns = time.monotonic_ns()
        place = self._framing.place(frame, usable=self._picture in _SHOWING)
        if place.region != self._region:
            self._region = place.region
            self._watch.reset()
        t0 = time.perf_counter_ns()
        work = self._segmenter.start(frame.pixels, place.region)
        t1 = time.perf_counter_ns()
        look = self._judge(work.picture, frame.capture_ns)  # while the engine computes
        self._picture = look.state
        return _Begun(arrived, place, look, work, begun_ns, t0 - arrived.put_ns, t1 - t0, t1)

    def _judge(self, picture: U8, capture_ns: int) -> Look:
        if not self.settings.judge_pictures:
            return _UNJUDGED
        look = self._watch.look(picture, capture_ns)
        return Look(PictureState.NO_SIGNAL, look.changes) if self._source.no_signal else look

    def _finish(self, begun: _Begun) -> FrameResult:
        frame, grid = begun.arrived.frame, begun.work.grid
        probability = self._segmenter.result(begun.work)
        t1 = time.perf_counter_ns()
        detections: tuple[Detection, ...] = ()
        if begun.look.state in _SHOWING:
            detections = detect(
                probability,
                grid,
                self._segmenter.threshold,
                self.settings.detect,
                contours=self.settings.contours,
            )
        t2 = time.perf_counter_ns()
        changes = begun.look.changes + (("layout changed",) if begun.place.changed else ())
        tracks = self._tracker.update(
            detections,
            frame.capture_ns,
            spacing_mm=frame.spacing_mm,
            top_px=grid.region[1],
            still=begun.look.state is PictureState.FROZEN,
            jumped=any(change.startswith(("depth", "layout")) for change in changes),
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
        self._last = FrameResult(
            frame,
            detections,
            tuple(tracks),
            timings,
            begun.place.region,
            begun.place.settled,
            picture=begun.look.state,
            changes=changes,
        )
        return self._last

    def _coast(self, gap: _Gap) -> Iterator[FrameResult]:
        """Predict the tracks while the source is lost; without any, say so once a second."""
        last, state = self._last, gap.source
        told, self._told = self._told, state
        if last is None:  # no frame ever came: there is nothing to show it on
            return
        # As late as a frame would come that shows what is now, or its time would lie before this.
        now_ns = time.monotonic_ns() - max(0, last.frame.arrival_ns - last.frame.capture_ns)
        now_ns = max(last.time_ns, now_ns if gap.until_ns is None else min(now_ns, gap.until_ns))
        tracks: tuple[Track, ...] = tuple(self._tracker.coast(now_ns))
        if not tracks and told == state and now_ns - last.time_ns < _REPEAT_NS:
            return
        self._framing.interrupted()
        done_ns = time.monotonic_ns()
        nothing = Timings(0, 0, 0, 0, 0, 0, done_ns, done_ns - last.frame.capture_ns)
        self._last = FrameResult(
            last.frame,
            (),
            tracks,
            nothing,
            last.scan_area_px,
            last.scan_area_settled,
            source=state,
            picture=last.picture,
            between_ns=now_ns,
        )
        yield self._last

    def _since_ns(self, frame: Frame, begun_ns: int) -> int:
        """From when a frame's age counts: its capture, or its turn where nobody waited for it."""
        if self._source.info.live:
            return frame.capture_ns
        return frame.arrival_ns if self.newest_only else begun_ns


def slots_for(*, live: bool, pace: str) -> int | None:
    """Say how many frames an engine should have in work: `load_segmenter`'s ``slots``.

    One where the newest frame counts, as many as keep the device busy where all of them do.
    """
    return 1 if live or pace == "realtime" else None
