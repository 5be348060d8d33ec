"""The main loop: frames in, results out. Threads only at its two ends.

A reader (:mod:`veintrack.tracker.reader`) takes frames from the source; this loop, on the caller's
thread, segments, detects and tracks them one by one; where frames come from a file, and
the engine has several slots, the next ones are in work meanwhile. Sinks write on threads of their
own (:mod:`veintrack.tracker.sinks`).
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from veintrack.errors import EngineError
from veintrack.tracker.agelimit import AgeLimit
from veintrack.tracker.detect import detect
from veintrack.tracker.frame import (
    STREAMING,
    Detection,
    Frame,
    FrameResult,
    PictureState,
    Region,
    Signal,
    SourceState,
    Timings,
    Track,
    TrackStatus,
)
from veintrack.tracker.framing import Framing, Place
from veintrack.tracker.grid import fit
from veintrack.tracker.lookout import SHOWING, Lookout, Sight
from veintrack.tracker.pipelinesettings import PipelineSettings
from veintrack.tracker.reader import Arrived, Reader
from veintrack.tracker.segment import GridSegmenter, InWork
from veintrack.tracker.sources.base import Source
from veintrack.tracker.tracks import VeinTracker

__all__ = ["Arrivals", "Gap", "Pipeline", "PipelineSettings", "slots_for"]

_HELD = 64  # frames of a file's first second held back at most, until the scan area is known
_POLL_S = 0.1  # how often, while no frame comes, the source's state is looked at, and stopping
_REPEAT_NS = 1_000_000_000  # how often a source that is lost is told of again
_GLANCE_S = 1e-3  # how soon an answer is seen while no frame comes


@dataclass(frozen=True, slots=True)
class Gap:
    """No frame, as the source fails or failed.

    Attributes
    ----------
    source : SourceState
        What is wrong with it.
    until_ns : int or None
        The next frame's time, if known.
    at_ns : int or None
        When the result that stands for it holds; None for now, if there is one to be given.
    """

    source: SourceState
    until_ns: int | None = None
    at_ns: int | None = None


#: What a pipeline takes in: frames, times without one, and None where there is no news.
Arrivals = Iterator["Arrived | Gap | None"]


@dataclass(frozen=True, slots=True)
class _Begun:
    """A frame whose inference was started."""

    arrived: Arrived
    place: Place
    sight: Sight
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
    framing : Framing, optional
        Where the ultrasound lies; by the settings and the source by default.
    limit : AgeLimit, optional
        Which frames are too old; by the settings by default.
    arrange : callable, optional
        What frames and times without one go through, in order, before they are looked at.

    Attributes
    ----------
    detect : DetectSettings
        What counts as a vessel; may be replaced between two results.
    newest_only : bool
        Whether frames that come while the network is busy are passed over; else all are processed.

    Raises
    ------
    ValueError
        If the settings do not fit the source.
    SourceLostError
        While iterating, where the source fails before its end; every earlier frame was delivered.
    """

    def __init__(
        self,
        source: Source,
        segmenter: GridSegmenter,
        tracker: VeinTracker,
        settings: PipelineSettings | None = None,
        *,
        framing: Framing | None = None,
        limit: AgeLimit | None = None,
        arrange: Callable[[Arrivals], Arrivals] = iter,
    ) -> None:
        self.settings = settings or PipelineSettings()
        self.detect = self.settings.detect
        self._source, self._segmenter, self._tracker = source, segmenter, tracker
        if isinstance(self.settings.crop, tuple):  # a crop that cannot fit is told at once
            fit(source.info.shape_px, segmenter.input_shape, self.settings.crop)
        self.newest_only = slots_for(live=source.info.live, pace=self.settings.pace) == 1
        if self.settings.max_age_ms is not None and not self.newest_only:
            raise ValueError(
                "a largest age has no meaning for a file that is read as fast as possible: "
                "leave --max-age out, or add --pace realtime"
            )
        # What is newest is answered before anything newer is looked at.
        self._in_work = 1 if self.newest_only else segmenter.slots
        self._reader = Reader(
            source, newest_only=self.newest_only, realtime=self.settings.pace == "realtime"
        )
        self._stopping = False  # a plain flag: signal handlers set it
        self._drops = 0
        self._arrange = arrange
        self._framing = framing or Framing(self.settings.crop, source.info.scan_area_px)
        self._lookout = Lookout(source, self._framing, judge=self.settings.judge_pictures)
        self._limit = limit or AgeLimit(self.settings.max_age_ms)
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
    def too_old(self) -> int:
        """Frames whose tracks were predicted, as they were too old to be segmented."""
        return self._limit.refused

    @property
    def threshold(self) -> float:
        """Probability from which a pixel belongs to a vessel."""
        own = self.detect.threshold
        return self._segmenter.threshold if own is None else own

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stopping

    @property
    def region(self) -> Region | None:
        """The part of the frame that is looked at; None before a frame came."""
        return self._lookout.region

    def show(self, ahead: Sequence[Frame]) -> None:
        """Settle the scan area, if it is looked for, by frames that come before the first one."""
        if self._framing.searches:
            self._framing.show(ahead)

    def hold(self, on: bool) -> None:
        """Let the time of a file that comes in real time stand still, or go on."""
        self._reader.hold(on)

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
            for arrived in self._arrange(self._ahead(self._frames(begun))):
                if isinstance(arrived, Gap):
                    yield from self._coast(arrived)
                elif arrived is not None:
                    turn_ns = time.monotonic_ns()
                    place = self._lookout.place(arrived.frame)
                    age_ns = turn_ns - self._since_ns(arrived.frame, turn_ns)
                    if not place.changed and self._limit.refuses(age_ns, turn_ns):
                        yield self._predict(arrived, place)
                        continue
                    try:
                        begun.append(self._begin(arrived, place, turn_ns))
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
            self._abandon(begun)
        if self._failure is not None:
            raise self._failure

    def _abandon(self, begun: Collection[_Begun]) -> None:
        """Wait for what is in work: the engine must not write where nobody looks any more."""
        for left in begun:
            with suppress(EngineError):
                self._segmenter.result(left.work)

    def _frames(self, begun: Collection[object]) -> Arrivals:
        """Take frames until they end; where none comes, the source's state if it fails, or None.

        What went wrong is kept until all before it are answered.
        """
        taken, first_ns, begun_ns = 0, None, time.monotonic_ns()
        while not self._stopping and taken != self.settings.max_frames:
            self._tracker.reflect()  # the next frame is waited for, as a rule
            try:
                arrived = self._reader.take(_GLANCE_S if begun else _POLL_S)
            except queue.Empty:
                since_ns = begun_ns if first_ns is None else first_ns
                if self._source.info.live and self._is_over(since_ns, time.monotonic_ns()):
                    return
                state = self._source.state
                yield None if begun or state.signal is Signal.STREAMING else Gap(state)
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
                yield Gap(outage, frame.capture_ns)  # it was over before anyone looked
            self._drops = self._reader.dropped
            taken += 1
            yield arrived

    def _is_over(self, since_ns: int, now_ns: int) -> bool:
        limit_s = self.settings.duration_s
        return limit_s is not None and now_ns - since_ns >= limit_s * 1e9

    def _ahead(self, arrivals: Arrivals) -> Arrivals:
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

    def _predict(self, arrived: Arrived, place: Place) -> FrameResult:
        """Say where the tracks are in a frame that is not looked at.

        The tracker is not asked: where nobody looked nothing was missed, and no track ends.
        """
        frame, t0 = arrived.frame, time.perf_counter_ns()
        picture = self._lookout.picture
        tracks = tuple(
            _predicted(track, frame.capture_ns, still=picture is PictureState.FROZEN)
            for track in (self._last.tracks if self._last else ())
            if track.status is not TrackStatus.LOST
        )
        t1, done_ns = time.perf_counter_ns(), time.monotonic_ns()
        age_ns, wait_ns = done_ns - self._since_ns(frame, done_ns), t0 - arrived.put_ns
        self._last = FrameResult(
            frame,
            (),
            tracks,
            Timings(arrived.read_ns, wait_ns, 0, 0, 0, t1 - t0, done_ns, age_ns),
            place.region,
            place.settled,
            picture=picture,
            segmented=False,
        )
        return self._last

    def _begin(self, arrived: Arrived, place: Place, begun_ns: int) -> _Begun:
        frame = arrived.frame
        t0 = time.perf_counter_ns()
        work = self._segmenter.start(frame.pixels, place.region)
        t1 = time.perf_counter_ns()
        sight = self._lookout.look(work, frame, place)  # while the engine computes
        return _Begun(arrived, place, sight, work, begun_ns, t0 - arrived.put_ns, t1 - t0, t1)

    def _finish(self, begun: _Begun) -> FrameResult:
        frame, grid, sight = begun.arrived.frame, begun.work.grid, begun.sight
        probability = self._segmenter.result(begun.work)
        t1 = time.perf_counter_ns()
        detections: tuple[Detection, ...] = ()
        if sight.picture in SHOWING:
            detections = detect(
                probability,
                grid,
                self.threshold,
                self.detect,
                contours=self.settings.contours,
            )
        t2 = time.perf_counter_ns()
        tracks = self._tracker.update(
            detections,
            frame.capture_ns,
            spacing_mm=frame.spacing_mm,
            area_px=grid.region,
            picture=sight.picture,
            jumped=sight.jumped,
            motion=sight.motion,
        )
        t3 = time.perf_counter_ns()
        done_ns = time.monotonic_ns()
        self._limit.took(done_ns - begun.begun_ns)
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
            picture=sight.picture,
            changes=sight.changes,
            motion=sight.motion,
        )
        return self._last

    def _coast(self, gap: Gap) -> Iterator[FrameResult]:
        """Predict the tracks while the source is lost; without any, say so once a second."""
        last, state = self._last, gap.source
        told = self._told
        if gap.at_ns is None:
            self._told = state
        if last is None:  # no frame ever came: there is nothing to show it on
            return
        now_ns = self._now_ns(last, gap)
        tracks: tuple[Track, ...] = tuple(self._tracker.coast(now_ns))
        repeated = told == state and now_ns - last.time_ns < _REPEAT_NS
        if not tracks and repeated and gap.at_ns is None:
            return
        self._lookout.interrupted()
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
            segmented=False,
        )
        yield self._last

    def _now_ns(self, last: FrameResult, gap: Gap) -> int:
        """Say when a result without a frame holds."""
        if gap.at_ns is not None:
            return gap.at_ns
        # As late as a frame would come that shows what is now, or its time would lie before this.
        now_ns = time.monotonic_ns() - max(0, last.frame.arrival_ns - last.frame.capture_ns)
        return max(last.time_ns, now_ns if gap.until_ns is None else min(now_ns, gap.until_ns))

    def _since_ns(self, frame: Frame, begun_ns: int) -> int:
        """From when a frame's age counts: its capture, or its turn where nobody waited for it."""
        if self._source.info.live:
            return frame.capture_ns
        return frame.arrival_ns if self.newest_only else begun_ns


def _predicted(track: Track, time_ns: int, *, still: bool) -> Track:
    """Move a track on to a frame that is not looked at; in a picture that is still it stays."""
    later = track.at(max(track.time_ns, time_ns))
    standing = replace(track, detection=None, measurement=None, time_ns=later.time_ns)
    return replace(standing, status=later.status) if still else later


def slots_for(*, live: bool, pace: str) -> int | None:
    """Say how many frames an engine should have in work: `load_segmenter`'s ``slots``.

    One where the newest frame counts, as many as keep the device busy where all of them do.
    """
    return 1 if live or pace == "realtime" else None
