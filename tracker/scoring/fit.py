"""Noise settings of the tracker, estimated from what it saw and where the objects truly were.

The tracker's own filter is run over the detections of each object. Its settings are chosen so that
two things are as likely as can be under what it states: each detection, before it is taken in
(Schweppe, IEEE Trans. Inf. Theory 11, 1965), and the truth, after it was (Abbeel, Coates,
Montemerlo, Ng and Thrun, "Discriminative training of Kalman filters", Robotics: Science and
Systems, 2005). The first tells noise, which comes and goes from frame to frame, from what is wrong
in all of them alike. The second is a proper score (Gneiting and Raftery, J. Am. Stat. Assoc. 102,
2007): best where errors are small and their stated size is true.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from scipy.optimize import minimize, minimize_scalar

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import F64, Spacing
from veintrack.tracker.scoring.errors import nees_of
from veintrack.tracker.scoring.replay import Replayed, read_settings, replay, see
from veintrack.tracker.scoring.rows import Rows
from veintrack.tracker.tracksettings import TrackSettings

__all__ = ["Fit", "Noise", "fit_noise"]

_LEAST = 50  # sightings; fewer tell nothing
_SPAN = math.log(1e4)  # settings are looked for within this factor of what they were
_FAR = 0.95 * _SPAN
_VAGUE = math.log(10.0)  # what the data cannot tell stays about what it was
_TINY = 1e-3  # in place of 0, whose logarithm would be infinite
_INSIDE_95 = 5.991  # 95 % of chi-squared with two degrees of freedom


@dataclass(frozen=True, slots=True)
class Noise:
    """The settings that are estimated; as in :class:`~veintrack.tracker.tracks.TrackSettings`."""

    accel_psd_px2_s3: float
    noise_scale: float
    bias_px: float
    bias_axes: float
    bias_ragged: float

    @classmethod
    def of(cls, settings: TrackSettings) -> "Noise":
        """Take them out of all settings."""
        return cls(**{f.name: getattr(settings, f.name) for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class Fit:
    """What the fit found.

    Attributes
    ----------
    before, after : Noise
        The settings of the run, and the better ones.
    sightings : int
        Detections of an object that were used.
    left_out : int
        Those that were not: of several objects in one, or far off.
    gain : float
        By how much the logarithm of the likelihood has grown, in the mean over the detections.
    coverage_before, coverage_after : float
        Part of the truth within the 95 % region.
    rmse_before_px, rmse_after_px : float
        Centroid error of the filter.
    nis_before, nis_after : float
        Mean normalised innovation squared: 2 where the filter expects its detections as they come
        (Bar-Shalom, Li and Kirubarajan, 2001, section 5.4.2). An error that is alike in all
        frames does not show in it.
    """

    before: Noise
    after: Noise
    sightings: int
    left_out: int
    gain: float
    coverage_before: float
    coverage_after: float
    rmse_before_px: float
    rmse_after_px: float
    nis_before: float
    nis_after: float

    def as_yaml(self) -> str:
        """Write the settings as a part of a configuration file."""
        settings = {name: float(f"{value:.3g}") for name, value in asdict(self.after).items()}
        return yaml.safe_dump({"track": settings}, sort_keys=False).strip()

    def in_words(self) -> tuple[str, ...]:
        """Lines that say what was gained."""
        return (
            f"Fitted to {self.sightings} detections of known objects; {self.left_out} left out. "
            f"Mean log-likelihood: {self.gain:+.3f}.",
            f"95 % region holds {self.coverage_before:.1%} before, {self.coverage_after:.1%} "
            f"after; RMSE {self.rmse_before_px:.3f} and {self.rmse_after_px:.3f} px; "
            f"NIS (2 if true) {self.nis_before:.2f} and {self.nis_after:.2f}.",
            *self._doubts(),
        )

    def _doubts(self) -> tuple[str, ...]:
        """Say which settings went as far as they may: nothing held them."""
        pairs = (
            (f.name, *(getattr(n, f.name) for n in (self.before, self.after)))
            for f in fields(Noise)
        )
        far = [name for name, was, now in pairs if abs(math.log(now / max(was, _TINY))) > _FAR]
        if not far:
            return ()
        return (
            f"These detections do not tell {', '.join(far)}: do not take what is given for it.",
        )


def fit_noise(path: Path, truth: Rows, *, near_px: float, spacing_mm: Spacing | None = None) -> Fit:
    """Estimate the noise settings of the tracker.

    Parameters
    ----------
    path : Path
        ``tracks.jsonl``, or a run's folder with one: the detections.
    truth : Rows
        Where the objects were.
    near_px : float
        Largest distance of a detection from its object.
    spacing_mm : tuple of float, optional
        ``(row_mm, col_mm)``; the settings' accelerations are scaled by it.

    Raises
    ------
    SourceUnreadableError
        If the file holds no detections with times, or too few of known objects.
    """
    seen = see(path, truth, near_px)
    if not np.isfinite(seen.scene.time_s).all():
        raise SourceUnreadableError(f"{path}: --fit needs the time of every frame")
    settings = read_settings(path)
    px = settings.px_per_reference(spacing_mm)
    run = partial(
        replay,
        seen,
        birth_speed_px_s=settings.birth_speed_px_s * px,
        own_part=settings.own_part,
        own_s=settings.own_s,
    )
    before = Noise.of(settings)
    was = run(before.accel_psd_px2_s3 * px**2, before.noise_scale)
    if len(was.nis) < _LEAST:
        raise SourceUnreadableError(
            f"{path} has {len(was.nis)} detections of known objects, once each was seen for half a "
            f"second: --fit needs at least {_LEAST}"
        )

    # Means depend on the ratio of both noises alone, and covariances grow with both together: so
    # one number is looked for by running the filter, and the others on what it said.
    def fitted(log_ratio: float) -> tuple[float, Noise]:
        ratio = math.exp(log_ratio)
        worth, (scale, *bias) = _fit_scales(run(ratio, 1.0), before)
        return worth, Noise(ratio * scale / px**2, scale, *bias)

    start = math.log(before.accel_psd_px2_s3 * px**2 / before.noise_scale)
    coarse = start + np.linspace(-_SPAN, _SPAN, 9)
    best = int(np.argmax([fitted(at)[0] for at in coarse]))
    found = minimize_scalar(
        lambda at: -fitted(at)[0],
        bounds=(coarse[max(best - 1, 0)], coarse[min(best + 1, len(coarse) - 1)]),
        method="bounded",
        options={"xatol": 0.02},
    )
    after = fitted(float(found.x))[1]
    is_now = run(after.accel_psd_px2_s3 * px**2, after.noise_scale)
    said_before, said_after = _Said.of(was, before), _Said.of(is_now, after)
    return Fit(
        before=before,
        after=after,
        sightings=len(seen.row),
        left_out=seen.left_out,
        gain=said_after.log_likelihood - said_before.log_likelihood,
        coverage_before=said_before.coverage,
        coverage_after=said_after.coverage,
        rmse_before_px=said_before.rmse_px,
        rmse_after_px=said_after.rmse_px,
        nis_before=float(was.nis.mean()),
        nis_after=float(is_now.nis.mean()),
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """How good what the filter said was."""

    log_likelihood: float
    coverage: float
    rmse_px: float

    @classmethod
    def of(cls, said: Replayed, noise: Noise) -> "_Said":
        stated = said.stated(1.0, noise.bias_px, noise.bias_axes, noise.bias_ragged)
        return cls(
            _log_likelihood(said, 1.0, stated),
            float(np.mean(nees_of(said.offset_px, stated) <= _INSIDE_95)),
            float(np.sqrt(np.mean(np.sum(said.offset_px**2, axis=1)))),
        )


def _log_likelihood(said: Replayed, scale: float, stated_px2: F64) -> float:
    """Mean logarithm of the density of a detection and of the truth, but for what is constant.

    The filter's covariances are those of `said`, times `scale`.
    """
    seen = said.nis / scale + said.innovation_log_det + 2 * math.log(scale)
    true = nees_of(said.offset_px, stated_px2) + np.log(np.linalg.det(stated_px2))
    return -0.5 * float(np.mean(seen + true))


def _fit_scales(said: Replayed, before: Noise) -> tuple[float, Sequence[float]]:
    """Find how large the filter's covariance and what is always wrong are; and how good that is.

    Their logarithms are pulled towards what they were, with the weight of one sighting in all: of
    what is constant and what grows with the object, objects of one size do not tell which is which.
    """
    was = (before.noise_scale, before.bias_px, before.bias_axes, before.bias_ragged)
    start = np.log(np.maximum(was, _TINY))

    def cost(at: F64) -> float:
        away = float(np.sum((at - start) ** 2)) / (2 * _VAGUE**2 * len(said.offset_px))
        scale, *bias = np.exp(at).tolist()
        return away - _log_likelihood(said, scale, said.stated(scale, *bias))

    found = minimize(
        cost, start, method="L-BFGS-B", bounds=[(at - _SPAN, at + _SPAN) for at in start]
    )
    return -float(found.fun), np.exp(found.x).tolist()
