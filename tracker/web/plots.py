"""What the tracks did in the last half a minute, and how it is drawn: options for ECharts."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from veintrack.tracker.web.messages import TrackRow

__all__ = ["QUANTITIES", "SPAN_S", "History", "colour_of"]

SPAN_S = 30.0
_STEP_S = 0.2  # between two points: a plot of 30 s is some 300 px wide
#: Attribute of a row, its title, its units in mm and in px, and its least range.
QUANTITIES: tuple[tuple[str, str, str, str], ...] = (
    ("diameter", "Diameter", "mm", "px"),
    ("depth", "Depth", "mm", "px"),
    ("area", "Area", "mm²", "px²"),
    ("collapse", "Collapse", "", ""),
)
# Those of the overlay: a track has one colour everywhere. Okabe and Ito's palette.
_COLOURS = ("#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
_LINES = ("solid", "dashed", "dotted")  # told apart without colours, too
_INK = "#888888"  # readable on light and on dark
_MOST = 12  # tracks in one plot, those with the newest identities


def colour_of(track_id: int) -> str:
    """Name the colour of a track."""
    return _COLOURS[(track_id - 1) % len(_COLOURS)]


class History:
    """The tracks of the last 30 s, five times a second of the source's time."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[int, TrackRow]]] = deque()

    def add(self, time_ns: int, rows: Sequence[TrackRow]) -> bool:
        """Take in the tracks of one result; says whether a point was added."""
        time_s = time_ns * 1e-9
        if self._samples and time_s < self._samples[-1][0]:
            self._samples.clear()  # the time began anew
        if self._samples and time_s - self._samples[-1][0] < _STEP_S * 0.9:
            return False
        self._samples.append((time_s, {row.id: row for row in rows}))
        while self._samples[0][0] < time_s - SPAN_S:
            self._samples.popleft()
        return True

    def ids(self) -> list[int]:
        """Give the tracks that were seen, those that are plotted."""
        seen = {track for _, rows in self._samples for track, row in rows.items() if row.diameter}
        return sorted(seen)[-_MOST:]

    def series(self, quantity: str, track: int) -> list[tuple[float, float | None]]:
        """Give one quantity of a track: seconds from now, and the value, None where not seen."""
        now_s = self._samples[-1][0] if self._samples else 0.0
        points: list[tuple[float, float | None]] = []
        for time_s, rows in self._samples:
            value = getattr(rows.get(track), quantity, None)
            if value is not None or (points and points[-1][1] is not None):
                points.append((round(time_s - now_s, 1), _short(value)))
        return points

    def options(self, quantity: str, title: str, unit: str) -> dict[str, Any]:
        """Describe the plot of one quantity."""
        axis = {
            "axisLabel": {"color": _INK},
            "axisLine": {"onZero": False, "lineStyle": {"color": _INK}},
            "splitLine": {"lineStyle": {"color": _INK, "opacity": 0.2}},
        }
        return {
            "animation": False,
            "title": {
                "text": f"{title} ({unit})" if unit else title,
                "textStyle": {"color": _INK, "fontSize": 13},
                "left": 0,
                "top": 0,
            },
            "grid": {"left": 40, "right": 26, "top": 30, "bottom": 24},
            "tooltip": {"trigger": "axis"},
            "aria": {"enabled": True},
            "xAxis": {"type": "value", "min": -SPAN_S, "max": 0, **axis},
            "yAxis": {"type": "value", "scale": True, "min": 0, **axis},
            "series": [self._line(quantity, track) for track in self.ids()],
        }

    def _line(self, quantity: str, track: int) -> dict[str, Any]:
        style = _LINES[(track - 1) // len(_COLOURS) % len(_LINES)]
        return {
            "type": "line",
            "name": f"vein {track}",
            "data": self.series(quantity, track),
            "showSymbol": False,
            "lineStyle": {"type": style, "width": 2},
            "color": colour_of(track),
            "endLabel": {"show": True, "formatter": str(track), "color": _INK, "distance": 4},
        }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
