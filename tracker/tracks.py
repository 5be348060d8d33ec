"""The tracker: vessels that keep their identity from frame to frame.

The one place of the tracking stage that holds state. Each update moves every track to the new
time, pairs tracks with detections, and lets tracks be born, confirmed, coast and end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from veintrack.tracker import kalman
from veintrack.tracker.association import associate
from veintrack.tracker.frame import Detection, Spacing, Track, TrackStatus
from veintrack.tracker.kalman import Gaussian
from veintrack.tracker.measure import measure

__all__ = ["TrackSettings", "VeinTracker"]

_USUAL_STEPS = 3  # so many times the step before is no gap: some sources are slow


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """How vessels move, and when a track is believed or given up.

    Attributes
    ----------
    accel_psd_px2_s3 : float
        White-noise acceleration, px²/s³: how quickly a vessel may change its velocity.
    birth_speed_px_s : float
        Standard deviation of the unknown velocity of a new track.
    birth_score : float
        Least score of a detection that starts a track; weaker ones only go on with one, as in
        Zhang et al., "ByteTrack", ECCV 2022, section 3. On the default model's training frames,
        93 % of the vessels found reach 0.75, and 22 % of the false alarms.
    gate : float
        Largest squared Mahalanobis distance of a pair; 13.8 is 99.9 % of chi-squared with two
        degrees of freedom.
    confirm_hits : int
        Detections that a track needs before it is believed.
    tentative_s : float
        A track that is not confirmed ends after this long unseen.
    coast_s : float
        A confirmed track that is not seen is predicted for this long, then lost.
    """

    accel_psd_px2_s3: float = 3000.0
    birth_speed_px_s: float = 60.0
    birth_score: float = 0.75
    gate: float = 13.8
    confirm_hits: int = 3
    tentative_s: float = 0.1
    coast_s: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")


@dataclass(slots=True)
class _Life:
    """One track as the tracker keeps it."""

    id: int
    state: Gaussian
    seen_ns: int
    hits: int
    last: Detection
    seen_now: bool = True
    status: TrackStatus = TrackStatus.TENTATIVE


class VeinTracker:
    """Follows vessels from detections alone; usable without the rest of veintrack.

    Not thread safe: one tracker belongs to one thread. Its answers depend on nothing but its
    settings and the updates it was given.
    """

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self.settings = settings or TrackSettings()
        self._lives: list[_Life] = []
        self._now_ns: int | None = None
        self._step_ns = 0
        self._born = 0
        self._confirmed = 0

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
        top_px: float = 0.0,
        still: bool = False,
        jumped: bool = False,
    ) -> list[Track]:
        """Take in the detections of one frame.

        Parameters
        ----------
        detections : sequence of Detection
            What was found; may be empty.
        capture_ns : int
            When the frame was taken, in nanoseconds; never earlier than the last one.
        spacing_mm : tuple of float, optional
            ``(row_mm, col_mm)``; measurements carry millimetres where it is given.
        top_px : float
            First row of the scan area, from which depth counts.
        still : bool
            The picture is that of the frame before (a scanner in freeze): vessels stand where they
            are, and what is seen of them again is no further evidence.
        jumped : bool
            The picture's scale or place on the screen is another than before: what is not seen in
            this frame is nowhere any more, and ends.

        Returns
        -------
        list of Track
            Every live track, tentative ones too, and those that ended in this frame; by id.

        Raises
        ------
        ValueError
            If time runs backwards.
        """
        if self._now_ns is not None and capture_ns < self._now_ns:
            raise ValueError(
                f"capture_ns must not run backwards: got {capture_ns} after {self._now_ns}"
            )
        ended = self._end_all() if self._is_gap(capture_ns) else []
        if still:
            self._stand(capture_ns)
        else:
            self._predict(capture_ns)
        matches = associate([life.state for life in self._lives], detections, self.settings.gate)
        pairs = [(self._lives[index], detections[found]) for index, found in matches.pairs]
        if still:
            _see_again(pairs, capture_ns)
        else:
            self._see(pairs, capture_ns)
        for index in matches.free_tracks:
            self._miss(self._lives[index], capture_ns)
            if jumped:
                self._lives[index].status = TrackStatus.LOST
        for found in () if still else matches.free_detections:
            if detections[found].score >= self.settings.birth_score:
                self._bear(detections[found], capture_ns)
        tracks = [_snapshot(life, spacing_mm, top_px) for life in (*ended, *self._lives)]
        self._lives = [life for life in self._lives if life.status is not TrackStatus.LOST]
        return tracks

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
        dt_s = 0.0 if self._now_ns is None else max(0, time_ns - self._now_ns) * 1e-9
        move = kalman.step(dt_s, self.settings.accel_psd_px2_s3)
        moved = kalman.predict([life.state for life in self._lives], move)
        tracks = []
        for life, state in zip(self._lives, moved, strict=True):
            life.seen_now = False
            self._miss(life, time_ns)
            if life.status is not TrackStatus.TENTATIVE:
                tracks.append(_snapshot(replace(life, state=state), None, 0.0))
        self._lives = [life for life in self._lives if life.status is not TrackStatus.LOST]
        return tracks

    def _is_gap(self, capture_ns: int) -> bool:
        """Whether no frame came for longer than a track may go unseen, and not by habit.

        What is found behind a gap would be near some track by chance, as all have become vague.
        """
        step_ns = 0 if self._now_ns is None else capture_ns - self._now_ns
        usual_ns, self._step_ns = self._step_ns, step_ns
        return step_ns > max(self.settings.coast_s * 1e9, _USUAL_STEPS * usual_ns)

    def _end_all(self) -> list[_Life]:
        ended, self._lives = self._lives, []
        for life in ended:
            life.status, life.seen_now = TrackStatus.LOST, False
        return ended

    def _stand(self, capture_ns: int) -> None:
        """Let time pass in which nothing moves."""
        self._now_ns = capture_ns
        for life in self._lives:
            life.seen_now = False

    def _predict(self, capture_ns: int) -> None:
        dt_s = 0.0 if self._now_ns is None else (capture_ns - self._now_ns) * 1e-9
        self._now_ns = capture_ns
        move = kalman.step(dt_s, self.settings.accel_psd_px2_s3)
        moved = kalman.predict([life.state for life in self._lives], move)
        for life, state in zip(self._lives, moved, strict=True):
            life.state, life.seen_now = state, False

    def _see(self, pairs: Sequence[tuple[_Life, Detection]], capture_ns: int) -> None:
        states = kalman.update(
            [life.state for life, _ in pairs],
            [found.centroid_px for _, found in pairs],
            [found.covariance_px2 for _, found in pairs],
        )
        for (life, found), state in zip(pairs, states, strict=True):
            life.state, life.last = state, found
            life.hits += 1
            life.seen_ns, life.seen_now = capture_ns, True
            self._promote(life)

    def _promote(self, life: _Life) -> None:
        if life.status is TrackStatus.COASTING:
            life.status = TrackStatus.CONFIRMED
        elif life.status is TrackStatus.TENTATIVE and life.hits >= self.settings.confirm_hits:
            life.status = TrackStatus.CONFIRMED
            self._confirmed += 1

    def _miss(self, life: _Life, capture_ns: int) -> None:
        unseen_s = (capture_ns - life.seen_ns) * 1e-9
        believed = life.status is not TrackStatus.TENTATIVE
        limit_s = self.settings.coast_s if believed else self.settings.tentative_s
        if unseen_s > limit_s:
            life.status = TrackStatus.LOST
        elif believed:
            life.status = TrackStatus.COASTING

    def _bear(self, found: Detection, capture_ns: int) -> None:
        self._born += 1
        state = kalman.birth(
            found.centroid_px, found.covariance_px2, self.settings.birth_speed_px_s
        )
        life = _Life(self._born, state, capture_ns, hits=1, last=found)
        self._promote(life)
        self._lives.append(life)


def _see_again(pairs: Sequence[tuple[_Life, Detection]], capture_ns: int) -> None:
    """Report what is seen in a picture that was looked at before; learn nothing from it."""
    for life, found in pairs:
        life.last, life.seen_now, life.seen_ns = found, True, capture_ns
        if life.status is TrackStatus.COASTING:
            life.status = TrackStatus.CONFIRMED


def _snapshot(life: _Life, spacing_mm: Spacing | None, top_px: float) -> Track:
    seen = life.last if life.seen_now else None
    box_px = life.last.box_px
    if seen is None:
        dx, dy = (life.state.position_px - life.last.centroid_px).tolist()
        box_px = (box_px[0] + dx, box_px[1] + dy, box_px[2], box_px[3])
    return Track(
        id=life.id,
        status=life.status,
        centroid_px=life.state.position_px,
        velocity_px_s=life.state.mean[2:],
        covariance_px2=life.state.position_cov_px2,
        box_px=box_px,
        score=life.last.score,
        detection=seen,
        measurement=measure(seen, spacing_mm, top_px) if seen else None,
    )
