"""The tracker: vessels that keep their identity from frame to frame.

The one place of the tracking stage that holds state. Each update moves every track to the new
time, pairs tracks with detections, and lets tracks be born, confirmed, coast and end.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from veintrack.tracker import kalman
from veintrack.tracker.association import (
    Expected,
    associate,
    clear_pairs,
    doubt_size,
)
from veintrack.tracker.frame import (
    Detection,
    PictureState,
    ProbeMotion,
    Region,
    Spacing,
    Track,
    TrackStatus,
)
from veintrack.tracker.kalman import Gaussian
from veintrack.tracker.life import Life, press_together
from veintrack.tracker.memory import Memory
from veintrack.tracker.necks import apart
from veintrack.tracker.probe import Probe, moved_with
from veintrack.tracker.reporting import report
from veintrack.tracker.soundness import check_picture, sound
from veintrack.tracker.tracksettings import TrackSettings

__all__ = ["TrackSettings", "VeinTracker"]

_USUAL_STEPS = 3  # so many times the step before is no gap: some sources are slow
_EMPTY = (PictureState.NO_CONTACT, PictureState.NO_SIGNAL)  # pictures that show no tissue
_PLACE = np.diag([1.0, 1.0, 0.0, 0.0])
_EVEN = np.eye(2)  # a covariance that is the same in all directions
_LEAST_STEP_S = 2e-3  # a motion over less says nothing of a velocity


class VeinTracker:
    """Follows vessels from detections alone; usable without the rest of veintrack.

    Not thread safe: one tracker belongs to one thread. Its answers depend on nothing but its
    settings and the updates it was given; the arrays in them are the caller's own.

    Parameters
    ----------
    settings : TrackSettings, optional
        How vessels move, and when a track is believed and given up.
    """

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self.settings = settings or TrackSettings()
        self._lives: list[Life] = []
        self._memory = Memory()
        self._now_ns: int | None = None
        self._step_ns = 0
        self._area_px: Region | None = None
        self._spacing_mm: Spacing | None = None
        self._probe: Probe | None = None  # in the step to the last frame
        self._strain = 0.0  # of the tissue in depth, over the last moments
        self._born = 0
        self._confirmed = 0

    @property
    def _time_ns(self) -> int:
        return self._now_ns or 0

    @property
    def confirmed_count(self) -> int:
        """Tracks that were ever confirmed."""
        return self._confirmed

    def update(
        self,
        detections: Sequence[Detection],
        capture_ns: int,
        *,
        spacing_mm: Spacing | None = None,
        area_px: Region | None = None,
        picture: PictureState = PictureState.GOOD,
        jumped: bool = False,
        motion: ProbeMotion | None = None,
    ) -> list[Track]:
        """Take in the detections of one frame.

        Parameters
        ----------
        detections : sequence of Detection
            What was found; may be empty.
        capture_ns : int
            When the frame was taken, in nanoseconds. A frame that was taken before the last one is
            passed over: the tracks are returned as they stand. One that lies back by more than a
            track may go unseen means that the clock was set anew: every track ends.
        spacing_mm : tuple of float, optional
            ``(row_mm, col_mm)``; measurements carry millimetres where it is given, and motion is
            judged in them.
        area_px : tuple of int, optional
            ``(x, y, width, height)`` of the scan area: depth counts from its top, and vessels come
            and go at its edges. None where it is not known.
        picture : PictureState
            What the picture is good for. In a frozen one vessels stand where they are, and what
            is seen of them again is no further evidence. In one without tissue nothing is
            looked for, and tracks are held.
        jumped : bool
            The picture's scale or place on the screen is another than before: what is not seen in
            this frame is nowhere any more, and ends.
        motion : ProbeMotion, optional
            How the picture moved since the frame of the last update; None where that is unknown.

        Returns
        -------
        list of Track
            Every live track, tentative ones too, and those that ended in this frame; by id.

        Raises
        ------
        ValueError
            If a detection's covariance or size is not finite, or a picture can have no such spacing
            or scan area.
        """
        check_picture(spacing_mm, area_px)
        self.reflect()
        detections = [part for found in detections for part in apart(sound(found))]
        elapsed_ns = 0 if self._now_ns is None else capture_ns - self._now_ns
        if -self.settings.coast_s * 1e9 <= elapsed_ns < 0:
            return self._report(self._lives)
        self._spacing_mm, self._area_px = spacing_mm, area_px
        ended = self._end_all() if elapsed_ns < 0 or self._is_gap(elapsed_ns) else []
        step_ns = max(elapsed_ns, 0)
        self._now_ns, self._step_ns = capture_ns, step_ns or self._step_ns
        dt_s = step_ns * 1e-9
        if jumped:
            self._memory.forget()
        if picture in _EMPTY:
            self._hold(dt_s)
        elif picture is PictureState.FROZEN:
            self._look_again(detections, dt_s)
        else:
            self._predict(dt_s, None if jumped else motion)
            self._look(detections, dt_s)
        if jumped:
            for life in self._lives:
                if not life.seen_now:
                    life.end()
        tracks = self._report([*ended, *self._lives])
        self._drop_lost(remembered=not jumped)
        return tracks

    def reflect(self) -> None:
        """Work out collapse, pulse and likeness, where it is time to, from what was seen so far.

        An update tells them as they were before it, and does this first: who waits for the next
        frame has the time now.
        """
        for life in self._lives:
            if life.vitals is not None:
                life.signs = life.vitals.signs()

    def coast(self, time_ns: int) -> list[Track]:
        """Say where the tracks are while no frame comes.

        Nothing is taken in: the next update predicts from the last frame. A track that is not
        seen for too long ends, and a tentative one is not reported.

        Parameters
        ----------
        time_ns : int
            On the clock of `capture_ns`.

        Returns
        -------
        list of Track
            Every believed track, and those that end now; by id.
        """
        later_ns = 0 if self._now_ns is None else max(0, time_ns - self._now_ns)
        dt_s = later_ns * 1e-9
        for life in self._lives:
            life.seen_now = False
            life.judge(dt_s, self.settings, self._area_px)
        told = [life for life in self._lives if life.status is not TrackStatus.TENTATIVE]
        moved = zip(told, self._moved(told, dt_s), strict=True)
        tracks = self._report(
            [replace(life, state=state) for life, state in moved], self._time_ns + later_ns
        )
        self._drop_lost()
        return tracks

    def _is_gap(self, step_ns: int) -> bool:
        """Whether no frame came for longer than a track may go unseen, and not by habit.

        What is found behind a gap would be near some track by chance, as all have become vague.
        """
        return step_ns > max(self.settings.coast_s * 1e9, _USUAL_STEPS * self._step_ns)

    def _end_all(self) -> list[Life]:
        ended, self._lives, self._probe = self._lives, [], None
        self._memory.forget()
        for life in ended:
            life.end()
        return ended

    def _drop_lost(self, *, remembered: bool = True) -> None:
        lost = [life for life in self._lives if life.status is TrackStatus.LOST]
        if not lost:
            return
        self._lives = [life for life in self._lives if life.status is not TrackStatus.LOST]
        if remembered:
            missed = (life for life in lost if life.is_missed(self._area_px))
            self._memory.keep(missed, self._time_ns)

    def _hold(self, dt_s: float) -> None:
        """Let time pass in which nothing is seen."""
        for life in self._lives:
            life.hold(dt_s, self.settings, self._area_px)
        self._predict(dt_s, None)

    def _look_again(self, detections: Sequence[Detection], dt_s: float) -> None:
        """Report what is seen in a picture that was looked at before."""
        seen, missed, _ = self._matched(detections, dt_s)
        self._probe = None
        for life, found in seen:
            life.see_again(found)
        for life in missed:
            life.miss(dt_s, self.settings, self._area_px)

    def _look(self, detections: Sequence[Detection], dt_s: float) -> None:
        """Take in what is seen in a new picture."""
        rules = self.settings
        motion = None if self._probe is None else self._probe.at
        seen, missed, new = self._matched(detections, dt_s)
        top_px = 0.0 if self._area_px is None else float(self._area_px[1])
        for (life, found), state in zip(seen, self._updated(seen), strict=True):
            self._confirmed += life.see(found, state, dt_s, rules, self._area_px, motion)
            if life.vitals is not None:
                life.vitals.add(self._time_ns, found, self._spacing_mm, top_px)
        squeezed = self._strain < -rules.squeezed
        for life in missed:
            if self._probe is not None:
                life.carry_sighting(self._probe.motion)
            life.miss(dt_s, rules, self._area_px, motion, squeezed=squeezed)
        self._memory.forget(self._time_ns - round(rules.remembered_s * 1e9))
        press_together(missed, self._lives, rules)
        for life in missed:
            if life.vitals is not None:
                life.vitals.miss(self._time_ns, life.collapsed)
        for found in sorted(new, key=_order):
            if found.score >= rules.birth_score and not any(
                life.holds(found) for life in self._lives
            ):
                self._bear(found, dt_s)

    def _matched(
        self, detections: Sequence[Detection], dt_s: float
    ) -> tuple[list[tuple[Life, Detection]], list[Life], list[Detection]]:
        """Say which tracks are seen, and as what, which are not, and what belongs to none."""
        rules, lives = self.settings, self._lives
        # The picture's motion may be wrong, or not the vessel's: what moves freely is met too.
        free_px2 = 0.0
        if self._probe is not None:
            free_px2 = self._accel_psd_px2_s3 * rules.own_s / 2 * dt_s**2
        extra_px2 = [life.extra_px2(rules) + free_px2 for life in lives]
        clear = clear_pairs([life.state for life in lives], extra_px2, detections, rules.gate)
        if clear is not None:
            own = zip(lives, [detections[d] for d in clear], strict=True)
            seen = [(life, doubt_size(life.shape, found)) for life, found in own]
            if not any(life.doubts(found, rules) for life, found in seen):
                return seen, [], []
        expected = [
            Expected(
                life.state,
                life.shape,
                life.area_sd_after(life.unseen_s + dt_s, rules),
                extra,
                life.believed,
                life.alone_s >= rules.settled_s,
            )
            for life, extra in zip(lives, extra_px2, strict=True)
        ]
        matches = associate(expected, detections, rules.gate)
        seen = [(lives[index], found) for index, found in matches.pairs]
        if doubted := [found for life, found in seen if life.doubts(found, rules)]:
            others = [found for life, found in seen if not life.doubts(found, rules)]
            detections = [d for d in detections if _is_any(d, others) or not _is_any(d, doubted)]
            matches = associate(expected, detections, rules.gate)
            seen = [(lives[index], found) for index, found in matches.pairs]
            seen = [(life, found) for life, found in seen if not life.doubts(found, rules)]
        for index in matches.jumped:
            lives[index].jumped = True
        ids = {id(life) for life, _ in seen}
        missed = [life for life in lives if id(life) not in ids]
        return seen, missed, [detections[index] for index in matches.free_detections]

    def _updated(self, seen: Sequence[tuple[Life, Detection]]) -> list[Gaussian]:
        """Filter what was seen of each track into its state."""
        if not seen:
            return []
        motion = None if self._probe is None else self._probe.at
        odd_px2 = [life.odd_px2(found, self._area_px, motion) for life, found in seen]
        noise_px2 = np.array([found.covariance_px2 for _, found in seen])
        noise_px2 += np.multiply.outer(odd_px2, _EVEN)
        return kalman.update(
            [_widened(life.state, life.doubt_px2(found, self.settings)) for life, found in seen],
            np.array([found.centroid_px for _, found in seen]),
            noise_px2 * self.settings.noise_scale,
        )

    def _bear(self, found: Detection, dt_s: float) -> None:
        """Begin a track, or go on with one that was lost here."""
        noise_px2 = found.covariance_px2 * self.settings.noise_scale
        xy_px, probe = found.centroid_px, self._probe
        if probe is None:
            speed_px_s = self.settings.birth_speed_px_s * self._scale
            state = kalman.birth(xy_px, noise_px2, speed_px_s)
        else:
            speed_px_s = math.sqrt(self._own_px2_s2 + probe.noise_px2_s2)
            state = kalman.birth(xy_px, noise_px2, speed_px_s, probe.at(xy_px))
        life = self._memory.recall(found)
        if life is None:
            self._born += 1
            self._lives.append(Life.born(self._born, state, found))
        else:
            life.return_as(found, state, dt_s, self.settings)
            self._lives.append(life)
            self._lives.sort(key=lambda each: each.id)

    def _predict(self, dt_s: float, motion: ProbeMotion | None) -> None:
        """Move every track to the time of this frame."""
        before, now = self._probe, None
        self._strain *= math.exp(-dt_s / self.settings.squeeze_s)
        if motion is not None and dt_s > _LEAST_STEP_S:
            self._strain += float(motion.linear[1, 1])
            now = Probe(motion, dt_s)
            for life in self._lives:
                life.carry_home(motion)
            self._memory.carry(motion)
        if now is not None and before is None:
            self._learn_velocity(now)
        self._probe = now
        states = self._moved(self._lives, dt_s, before or now, now)
        for life, state in zip(self._lives, states, strict=True):
            life.state, life.seen_now, life.jumped = state, False, False

    def _learn_velocity(self, now: Probe) -> None:
        """Let the motion of the picture, not known before, say how quickly its vessels move."""
        if not self._lives:
            return
        states = [life.state for life in self._lives]
        at_px = np.array([state.mean[:2] for state in states])
        states = kalman.drift(states, now.at(at_px), self._own_px2_s2 + now.noise_px2_s2)
        for life, state in zip(self._lives, states, strict=True):
            life.state = state

    def _moved(
        self,
        lives: Sequence[Life],
        dt_s: float,
        before: Probe | None = None,
        now: Probe | None = None,
    ) -> list[Gaussian]:
        """Predict states: free ones by their velocity, hidden ones by less and less of it.

        Where the motion of the picture is known, both in the step before and now, velocities are
        taken against it, and fade.
        """
        rules, psd = self.settings, self._accel_psd_px2_s3
        states = [life.state for life in lives]
        if now is None:
            free = kalman.step(dt_s, psd)
        else:
            free = kalman.damped_step(dt_s, psd * rules.own_part, rules.own_s)
        moved = moved_with(states, free, dt_s, before, now)
        if hidden := [i for i, life in enumerate(lives) if life.waits]:
            damped = kalman.damped_step(dt_s, psd, rules.damped_s)
            held = moved_with([states[i] for i in hidden], damped, dt_s, before, now)
            for i, state in zip(hidden, held, strict=True):
                moved[i] = state
        return moved

    @property
    def _scale(self) -> float:
        """Pixels of the picture for one for which the settings hold."""
        return self.settings.px_per_reference(self._spacing_mm)

    @property
    def _accel_psd_px2_s3(self) -> float:
        return self.settings.accel_psd_px2_s3 * self._scale**2

    @property
    def _own_px2_s2(self) -> float:
        """Variance of a vessel's velocity against the picture's."""
        return (self.settings.own_speed_px_s * self._scale) ** 2

    def _report(self, lives: Sequence[Life], time_ns: int | None = None) -> list[Track]:
        return report(
            lives,
            self._time_ns if time_ns is None else time_ns,
            self.settings,
            spacing_mm=self._spacing_mm,
            area_px=self._area_px,
            accel_psd_px2_s3=self._accel_psd_px2_s3,
        )


def _order(found: Detection) -> tuple[float, float, float]:
    """Rank new tracks for their numbers, so that the order of detections changes nothing.

    Left and right do not count: a mirrored picture has the same numbers.
    """
    return -found.area_px2, -found.score, float(found.centroid_px[1])


def _is_any(detection: Detection, seen: Sequence[Detection]) -> bool:
    """Whether a detection is what some track was seen as, with another covariance, or of that."""
    return any(
        np.array_equal(part.centroid_px, detection.centroid_px)
        for found in seen
        for part in (found, *found.parts_of)
    )


def _widened(state: Gaussian, extra_px2: float) -> Gaussian:
    """Let a place be vaguer than the filter says."""
    if not extra_px2:
        return state
    return Gaussian(state.mean, state.cov + extra_px2 * _PLACE)
