"""The best vein of a run, as it is named at the end."""

from dataclasses import dataclass
from typing import Any

from veintrack.tracker.frame import FrameResult, Measurement, Track
from veintrack.tracker.ranking import SortBy, best_vein, catheter_to_vein_ratio

__all__ = ["BestVein"]


@dataclass(slots=True)
class BestVein:
    """Keeps the best vein of the last frame that had one.

    Attributes
    ----------
    by : str or None
        ``diameter``, ``depth`` or ``collapse``; None keeps nothing.
    catheter_mm : float or None
        Outer diameter of a catheter, to be compared with it.
    """

    by: SortBy | None
    catheter_mm: float | None = None
    _best: Track | None = None

    def show(self, result: FrameResult) -> None:
        """Take in one result."""
        if self.by is not None:
            self._best = best_vein(result.tracks, self.by) or self._best

    def as_dict(self) -> dict[str, Any] | None:
        """Plain values for the summary; None where there was none."""
        track, m = self._best, self._measurement
        if track is None or m is None:
            return None
        return {
            "track_id": track.id,
            "by": self.by,
            "minor_px": round(m.minor_px, 3),
            "minor_mm": _rounded(m.minor_mm),
            "near_wall_px": _rounded(m.near_wall_px),
            "near_wall_mm": _rounded(m.near_wall_mm),
            "collapse": _rounded(m.collapse),
            "catheter_to_vein": _rounded(self._ratio(m)),
        }

    def in_words(self) -> str:
        """One line for people; empty where there was none."""
        track, m = self._best, self._measurement
        if track is None or m is None:
            return ""
        words = [f"{track.id}", f"{_length(m.minor_px, m.minor_mm)} wide"]
        if m.near_wall_px is not None:
            words.append(f"{_length(m.near_wall_px, m.near_wall_mm)} deep")
        if m.collapse is not None:
            words.append(f"collapses by {100 * m.collapse:.0f} %")
        ratio = self._ratio(m)
        if ratio is not None:
            words.append(f"the catheter takes {100 * ratio:.0f} % of its width")
        return f"{', '.join(words)} (by {self.by})"

    @property
    def _measurement(self) -> Measurement | None:
        return self._best.measurement if self._best else None

    def _ratio(self, m: Measurement) -> float | None:
        if self.catheter_mm is None or not m.minor_mm:
            return None
        return catheter_to_vein_ratio(self.catheter_mm, m.minor_mm)


def _length(px: float, mm: float | None) -> str:
    return f"{px:.0f} px" if mm is None else f"{mm:.1f} mm"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
