"""One track as the tracker keeps it, and the rules by which it is believed and given up."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from veintrack.tracker import edges, shape
from veintrack.tracker.frame import F64, Detection, ProbeMotion, Region, Shape, TrackStatus
from veintrack.tracker.kalman import Gaussian
from veintrack.tracker.shape import Form
from veintrack.tracker.tracksettings import TrackSettings
from veintrack.tracker.vitals import Vitals, VitalSigns

__all__ = ["Life", "press_together"]

_FLATTER = 0.85  # a pressed vessel loses more of its height than of its width: at most so much
_LOWER = 0.95  # part of its usual height that a vessel has no more as it is pressed
_STAYS = 0.8  # a smoothed height above this part of the usual was not falling: a mere miss
_WHOLE = 0.8  # with less than this part of its usual area, some of a vessel is hidden
_FADES = 0.95  # a smoothed area above this part of the usual was not falling
_LIKELY = 0.4  # what is weak must have this part of the usual area to be a vessel that is back
_WAITING_SD = 1.0  # of the logarithm of the area of what is hidden
_DOUBTFUL = 0.03  # weight of the time in which something doubtful is seen
_ODD = 2.0  # times the variance that an unusual size stands for: it lasts
_LACK = 4.0  # the same for what an outline lacks of its ellipse, squared, times both axes
_STRAY = 0.1  # of its squared distance from what is seen beyond the gate, the track's own doubt
_AS_LARGE = 2.0  # most by which the area of a vessel that is found again differs from its usual
_ROUNDING_S = 1e-6  # by which a sum of steps may miss a time
_SLOWER = 3.0  # so many times as slowly as it rises, a usual size falls


@dataclass(slots=True, eq=False)
class Life:
    """One track, from its first sighting to its end.

    Attributes
    ----------
    id : int
        Its identity.
    state : Gaussian
        Place and velocity.
    form : Form
        Size and elongation, as they were when it was seen.
    shape : Shape
        The same as an ellipse.
    last : Detection
        What was seen of it last.
    usual_px : tuple of float
        ``(width, height)`` that it had over the last while.
    usual_px2 : float
        Area that it had over the last while.
    seen_px : ndarray of shape (2,)
        Where it was seen last, carried along with the picture since.
    hits : int
        How often it was seen.
    evidence_s : float
        For how long it was seen, before it was believed: in full where what was seen is strong and
        lies whole in the picture, a little of it where not. Less for how long it was not seen.
    credit_s : float
        For how long it was seen, less for how long it was not; at most `coast_s`. Hidden vessels
        use it up more slowly.
    alone_s : float
        For how long it was seen as a blob of its own, less for how long in a blob with others or
        in pieces: a track of a mere piece ends when the vessel has been whole for as long.
    missed_s : float
        Since when it is not seen, as far as the picture showed anything.
    held_s : float
        For how long the picture showed nothing since it was seen.
    seen_now : bool
        Whether it is seen in this frame.
    jumped : bool
        Whether it is seen, in this frame, farther from where it was expected than it would move.
    status : TrackStatus
        Tentative, confirmed, coasting or lost.
    collapsed : bool
        Whether it vanished as it was pressed flat.
    covered : bool
        Whether it vanished as something, a shadow perhaps, spread over it.
    home_px : ndarray of shape (2,), or None
        Where its centre was when less of it than usual was first seen; None while it is whole.
    vitals : Vitals or None
        How its size changed; None before it is believed.
    signs : VitalSigns or None
        What that told when it was last looked at.
    """

    id: int
    state: Gaussian
    form: Form
    shape: Shape
    last: Detection
    usual_px: tuple[float, float]
    usual_px2: float
    seen_px: F64
    hits: int = 1
    evidence_s: float = 0.0
    credit_s: float = 0.0
    alone_s: float = 0.0
    missed_s: float = 0.0
    held_s: float = 0.0
    seen_now: bool = True
    jumped: bool = False
    status: TrackStatus = TrackStatus.TENTATIVE
    collapsed: bool = False
    covered: bool = False
    home_px: F64 | None = None
    vitals: Vitals | None = field(default=None, repr=False)
    signs: VitalSigns | None = None

    @classmethod
    def born(cls, number: int, state: Gaussian, found: Detection) -> "Life":
        """Begin with a first sighting."""
        form = shape.birth(found)
        size, seen_px = _size(found), found.centroid_px
        return cls(number, state, form, shape.shape_of(form), found, size, found.area_px2, seen_px)

    @property
    def waits(self) -> bool:
        """Whether it is hidden, not missed: pressed flat, covered, or under a lifted probe."""
        return self.collapsed or self.covered or self.held_s > 0

    @property
    def believed(self) -> bool:
        """Whether it is, or was, more than tentative."""
        return self.vitals is not None

    @property
    def unseen_s(self) -> float:
        """How long ago it was seen."""
        return self.missed_s + self.held_s

    def shape_after(self, unseen_s: float, settings: TrackSettings) -> Shape:
        """Give its size and form so long after it was seen."""
        if not unseen_s:
            return self.shape
        return replace(self.shape, area_sd=self.area_sd_after(unseen_s, settings))

    def area_sd_after(self, unseen_s: float, settings: TrackSettings) -> float:
        """Say how uncertain the logarithm of its area is so long after it was seen."""
        area_sd = math.sqrt(self.form.area_var + settings.area_psd_s * unseen_s)
        # What waits comes back gradually, and may be met at any moment of that.
        return max(area_sd, _WAITING_SD) if self.waits else area_sd

    def extra_px2(self, settings: TrackSettings) -> float:
        """Variance by which its place is vaguer than the filter says.

        A vessel that opens again, or is found again after the probe was lifted, is within
        `reopen_sizes` of its usual diameters.
        """
        if not self.waits:
            return 0.0
        width, height = self.usual_px
        return settings.reopen_sizes**2 * width * height / settings.gate

    def doubt_px2(self, found: Detection, settings: TrackSettings) -> float:
        """Variance of its place when something was found of it.

        Where that lies beyond the gate, either may be wrong: what is seen may be a part, and the
        track may have gone astray. So it is drawn there slowly, and comes back if that goes on.
        """
        if not self.jumped:
            return self.extra_px2(settings)
        dx, dy = (found.centroid_px - self.state.position_px).tolist()
        return _STRAY * float(dx * dx + dy * dy)

    def odd_px2(
        self,
        found: Detection,
        area_px: Region | None = None,
        motion: Callable[[F64], F64] | None = None,
    ) -> float:
        """Variance of the centroid of an outline that is not what this vessel's usually is.

        An outline that flickers loses a part in one frame and has it again in the next. A
        network's may also lack a part, or hold too much, for as long as the picture lies just so
        on its grid: compared with the last frames that is nothing new.

        Parameters
        ----------
        found : Detection
            What was found of it.
        area_px : tuple of int or None
            The scan area. What comes in at its edge, or goes out, changes its size for that.
        motion : callable, optional
            Velocity of the picture at a place, px/s, where it is known. Then there is something
            else than the outline to go by, so its usual size and a vessel's form count too.
        """
        if not self.believed:
            return 0.0
        lately_px2 = shape.size_noise_px2(self.shape.area_px2, found)
        if motion is None:
            return lately_px2
        if area_px is not None and edges.crosses(found, area_px, motion):
            return 0.0
        major, minor = found.axes_px
        lack = shape.ragged(found.area_px2, major, minor)
        usually_px2 = shape.size_noise_px2(self.usual_px2, found)
        return lately_px2 + _ODD * usually_px2 + _LACK * lack * lack * major * minor

    def holds(self, found: Detection) -> bool:
        """Whether something lies within what is seen of it, and so is no vessel of its own."""
        if not (self.believed and self.seen_now):
            return False
        home = self.state.position_px if self.home_px is None else self.home_px
        return self._radii(found.centroid_px - home) < 1

    def off(self, found: Detection) -> float:
        """How far something lies from where it was seen last, in its usual radii."""
        return self._radii(found.centroid_px - self.seen_px)

    def fits(self, found: Detection) -> bool:
        """Whether something lies where it was seen last, and is about as large as it usually is."""
        width, height = self.usual_px
        ratio = found.area_px2 / (math.pi / 4 * width * height)
        return self.off(found) < 1 and 1 / _AS_LARGE < ratio < _AS_LARGE

    def _radii(self, away_px: F64) -> float:
        """Length of a vector, in the radii of its usual ellipse."""
        (dx, dy), (width, height) = away_px.tolist(), self.usual_px
        return math.hypot(2 * dx / width, 2 * dy / height)

    def doubts(self, found: Detection, settings: TrackSettings) -> bool:
        """Whether something is too weak and too small to be a hidden vessel that is back."""
        if not self.waits or found.score >= settings.birth_score:
            return False
        width, height = self.usual_px
        return found.area_px2 < _LIKELY * math.pi / 4 * width * height

    def see(
        self,
        found: Detection,
        state: Gaussian,
        dt_s: float,
        settings: TrackSettings,
        area_px: Region | None,
        motion: Callable[[F64], F64] | None = None,
    ) -> bool:
        """Take in what was found of it in a new picture, and say whether it is now first believed.

        Parameters
        ----------
        found : Detection
            What was found.
        state : Gaussian
            Its state, `found` taken in.
        dt_s : float
            Time since the picture before.
        settings : TrackSettings
            When it is believed.
        area_px : tuple of int or None
            The scan area.
        motion : callable, optional
            Velocity of the picture at a place, px/s, where it is known.
        """
        gone_s = self.unseen_s + dt_s
        self.form = shape.update(self.form, found, gone_s, settings.area_psd_s, settings.form_psd_s)
        self.shape = shape.shape_of(self.form)
        (width, height), usual = _size(found), self.usual_px
        if width * height >= _WHOLE * usual[0] * usual[1]:
            self.home_px = None
        elif self.home_px is None:
            self.home_px = self.state.position_px
        # First-order low pass, backward Euler: it never oversteps, however long the step.
        rise = gone_s / (gone_s + settings.usual_s)
        fall = gone_s / (gone_s + _SLOWER * settings.usual_s)
        self.usual_px = (
            usual[0] + (rise if width > usual[0] else fall) * (width - usual[0]),
            usual[1] + (rise if height > usual[1] else fall) * (height - usual[1]),
        )
        more = found.area_px2 - self.usual_px2
        self.usual_px2 += (rise if more > 0 else fall) * more
        self.state = state
        self.hits += 1
        if not self.believed:
            self.evidence_s += dt_s * _weight(found, settings, area_px, motion)
        self.credit_s = min(self.credit_s + dt_s, settings.coast_s)
        self.alone_s = max(0.0, self.alone_s + (-dt_s if found.parts_of else dt_s))
        self.see_again(found)
        enough = self.hits >= settings.confirm_hits and self.evidence_s >= settings.confirm_s
        if self.believed or not enough:
            return False
        self.status = TrackStatus.CONFIRMED
        self.vitals = Vitals(settings.window_s)
        return True

    def return_as(
        self, found: Detection, state: Gaussian, dt_s: float, settings: TrackSettings
    ) -> None:
        """Go on, after it was lost, with what was found in its place."""
        self.status, self.credit_s = TrackStatus.COASTING, 0.0
        self.state, self.home_px = state, None  # where it was before it was lost means nothing now
        self.see(found, state, dt_s, settings, None)

    def is_missed(self, area_px: Region | None) -> bool:
        """Whether it was believed, and did not leave the scan area: it may be seen again."""
        return self.believed and (area_px is None or edges.holds(area_px, self.state.position_px))

    def carry_home(self, motion: ProbeMotion) -> None:
        """Let the place that it had when it was whole move with the picture."""
        if self.home_px is not None:
            self.home_px = self.home_px + motion.displacement(self.home_px)

    def carry_sighting(self, motion: ProbeMotion) -> None:
        """Let the place where it was seen last move with the picture."""
        self.seen_px = self.seen_px + motion.displacement(self.seen_px)

    def see_again(self, found: Detection) -> None:
        """Report what is seen of it, and learn nothing."""
        self.last, self.seen_now = found, True
        self.seen_px = found.centroid_px
        self.missed_s = self.held_s = 0.0
        self.collapsed = self.covered = False
        if self.status is TrackStatus.COASTING:
            self.status = TrackStatus.CONFIRMED

    def miss(
        self,
        dt_s: float,
        settings: TrackSettings,
        area_px: Region | None,
        motion: Callable[[F64], F64] | None = None,
        *,
        squeezed: bool = False,
    ) -> None:
        """Take in that nothing was found of it in a picture.

        Parameters
        ----------
        dt_s : float
            Time since the picture before.
        settings : TrackSettings
            When it is given up.
        area_px : tuple of int or None
            The scan area.
        motion : callable, optional
            Velocity of the picture at a place, px/s, where it is known.
        squeezed : bool
            Whether the tissue was just pressed together in depth.
        """
        if self.believed and not self.unseen_s:
            self._vanish(settings, area_px, squeezed)
        if self.covered and not self.unseen_s and self.home_px is not None:
            # What was visible of it last moved with the edge of the shadow.
            mean = np.zeros(4)
            mean[:2] = self.home_px
            mean[2:] = 0.0 if motion is None else motion(self.home_px)
            self.state = Gaussian(mean, self.state.cov)
        self.seen_now = False
        self.evidence_s -= dt_s
        self.credit_s -= self._cost(settings) * dt_s
        self.missed_s += dt_s
        self.judge(0.0, settings, area_px)

    def hold(self, dt_s: float, settings: TrackSettings, area_px: Region | None) -> None:
        """Take in that the picture showed nothing at all."""
        if not self.believed:
            self.missed_s += dt_s
        else:
            if not self.held_s:  # when the picture is back, it has all its time again, but once
                self.credit_s += self._cost(settings) * self.missed_s
                self.missed_s = 0.0
            self.held_s += dt_s
        self.seen_now = self.collapsed = self.covered = False
        self.judge(0.0, settings, area_px)

    def judge(self, later_s: float, settings: TrackSettings, area_px: Region | None) -> None:
        """Say what has become of it, `later_s` after the last picture."""
        missed_s = self.missed_s + later_s
        if not self.believed:
            over = missed_s > settings.tentative_s
        elif area_px is not None and not edges.holds(area_px, self.state.position_px):
            over = missed_s > settings.left_s
        else:
            # While no picture comes, nothing speaks against it: its own time does not count.
            limit_s = settings.coast_s / self._cost(settings)
            over = self.credit_s < -_ROUNDING_S or missed_s > limit_s + _ROUNDING_S
        if over or self.held_s > settings.lifted_s:
            self.status = TrackStatus.LOST
        elif self.believed:
            self.status = TrackStatus.COASTING

    def end(self) -> None:
        """Give it up."""
        self.status, self.seen_now = TrackStatus.LOST, False

    def _cost(self, settings: TrackSettings) -> float:
        """Credit that a second unseen costs: all that there can be lasts the time of each rule."""
        if self.collapsed:
            return settings.coast_s / settings.collapsed_s
        return settings.coast_s / settings.covered_s if self.covered else 1.0

    def _vanish(self, settings: TrackSettings, area_px: Region | None, squeezed: bool) -> None:
        """Say why it is not seen, as it was seen before.

        The probe presses downwards: the tissue is pressed together, and a vessel loses height. One
        that a shadow covers loses width. One that leaves the scan area touches its edge, and is
        neither.
        """
        if area_px is not None and edges.touches(self.last.box_px, area_px):
            return
        now, (usual_width, usual_height) = self.shape, self.usual_px
        width, height = _size(self.last)
        smooth = shape.extents(now.major_px, now.minor_px, now.angle_rad)
        narrow, flat = width / usual_width, height / usual_height
        self.collapsed = (squeezed and flat < _LOWER) or (
            flat < settings.flat and flat < _FLATTER * narrow and smooth[1] < _STAYS * usual_height
        )
        self.covered = (
            not self.collapsed
            and self.home_px is not None
            and narrow * flat < _WHOLE
            and smooth[0] * smooth[1] < _FADES * usual_width * usual_height
        )


def press_together(missed: Sequence[Life], lives: Sequence[Life], settings: TrackSettings) -> None:
    """Take for pressed what vanishes while another vessel is pressed flat, and was losing height.

    Parameters
    ----------
    missed, lives : sequence of Life
        Tracks of which nothing is seen now, and all tracks.
    settings : TrackSettings
        How soon after each other.
    """
    if not any(life.collapsed for life in lives):
        return
    for life in missed:
        if life.believed and not life.held_s and life.missed_s <= settings.together_s:
            life.collapsed |= _size(life.last)[1] < _STAYS * life.usual_px[1]
            life.covered &= not life.collapsed


def _weight(
    found: Detection,
    settings: TrackSettings,
    area_px: Region | None,
    motion: Callable[[F64], F64] | None,
) -> float:
    """How much of the time in which a new track is seen speaks for it, 0 to 1.

    False alarms are weaker than vessels. Many lie at the edge of the scan area, where a network
    sees half of things; a vessel that is cut off there has come in with the picture.
    """
    if area_px is not None and edges.lingers(found, area_px, motion):
        return _DOUBTFUL
    span = max(settings.sure_score - settings.birth_score, 1e-6)
    return min(1.0, max(_DOUBTFUL, (found.score - settings.birth_score) / span))


def _size(found: Detection) -> tuple[float, float]:
    """Width and height of the ellipse of a detection, greater than 0."""
    width, height = shape.extents(*found.axes_px, found.angle_rad)
    return max(width, 1e-3), max(height, 1e-3)
