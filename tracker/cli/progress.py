"""How a run goes: on a terminal a status line and a table of tracks, elsewhere a line at times."""

import logging
import sys
from collections import deque
from collections.abc import Sequence
from time import monotonic, monotonic_ns

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style

from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import FrameResult, PictureState, Track, TrackStatus

__all__ = ["Progress"]

_EVERY_S = 0.25  # a person reads no faster, and drawing costs time
_LINE_EVERY_S = 10.0
_OVER_S = 1.0  # what fps and age are taken over
_MOST_ROWS = 16
_BELIEVED = (TrackStatus.CONFIRMED, TrackStatus.COASTING)
_COLUMNS = ("id", "state", "diameter", "depth", "collapse", "likeness")
_WIDTHS = (4, 9, 9, 9, 8, 14)
_WARNING, _HEADING = Style(bold=True, reverse=True), Style(bold=True)


class Progress(Closing):
    """Shows the state of the source, fps, age, drops and tracks while a run goes on.

    On a terminal, what is shown is drawn over four times a second, and gone at the end. Elsewhere
    a line is written every ten seconds, and when the source is lost or back. A console that is
    quiet stays so.

    Parameters
    ----------
    console : Console
        Where to show it.
    total : int or None
        How many frames there will be.
    """

    def __init__(self, console: Console, total: int | None) -> None:
        self._console, self._total = console, total
        self._recent = _Recent()
        self._signal: object = None
        self._live = None if console.quiet or not _can_draw(console) else _Live(console)
        self._every_s = _EVERY_S if self._live else _LINE_EVERY_S
        self._shown_s = monotonic() - (self._every_s if self._live else 0.0)
        if self._live:
            self._live.show([("waiting for the first frame", None)])

    def show(self, result: FrameResult, drops: int, too_old: int = 0) -> None:
        """Take in one result, and show how things stand when it is time, or the source changed."""
        now_s = monotonic()
        if result.fresh:
            self._recent.count(now_s, result.timings.age_ns)
        same = self._signal in (None, result.source.signal)
        self._signal = result.source.signal
        if (same and now_s - self._shown_s < self._every_s) or self._console.quiet:
            return
        self._shown_s = now_s
        trouble = _trouble(result)
        of = f"/{self._total}" if self._total else ""
        status = [
            trouble or "streaming",
            *self._recent.in_words(),
            f"frame {self._recent.frames}{of}",
            f"{drops} dropped" + (f", {too_old} too old" if too_old else ""),
        ]
        tracks = [t for t in result.tracks if t.status in _BELIEVED]
        if self._live:
            width, height = self._console.size
            top_px = result.scan_area_px[1] if result.scan_area_px else 0
            table = _table(tracks, top_px, width, height - 2)
            self._live.show([(_fitting(status, width), _WARNING if trouble else None), *table])
        else:
            line = "  ".join([*status, _counted(tracks)])
            self._console.print(line, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Take it off the terminal."""
        if self._live:
            self._live.close()


def _can_draw(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


class _Recent:
    """Frames of the last second, or the last two."""

    def __init__(self) -> None:
        self.frames = 0
        self._seen: deque[tuple[float, int]] = deque()

    def count(self, now_s: float, age_ns: int) -> None:
        self.frames += 1
        self._seen.append((now_s, age_ns))
        while len(self._seen) > 2 and now_s - self._seen[0][0] > _OVER_S:
            self._seen.popleft()

    def in_words(self) -> tuple[str, ...]:
        """Say the rate, and the age in the middle."""
        if not self._seen:
            return ("no frame yet",)
        span_s = self._seen[-1][0] - self._seen[0][0]
        rate = (f"{(len(self._seen) - 1) / span_s:.1f} fps",) if span_s else ()
        ages_ns = sorted(age_ns for _, age_ns in self._seen)
        return (*rate, f"{ages_ns[len(ages_ns) // 2] * 1e-6:.0f} ms old")


def _trouble(result: FrameResult) -> str:
    """Name what is wrong with the source or the picture; empty where nothing is."""
    if not result.fresh:
        lost_s = (monotonic_ns() - result.source.since_ns) * 1e-9
        return f"SOURCE {result.source.signal.value.upper()} for {lost_s:.0f} s"
    return "" if result.picture is PictureState.GOOD else str(result.picture).upper()


def _counted(tracks: Sequence[Track]) -> str:
    coasting = sum(t.status is TrackStatus.COASTING for t in tracks)
    return f"{len(tracks) - coasting} tracks, {coasting} coasting"


_Line = tuple[str, Style | None]


def _table(tracks: Sequence[Track], top_px: int, width: int, height: int) -> list[_Line]:
    """Lay out a row for each track, as many and as much of each as there is room for."""
    if height < 2 or not tracks:
        return []
    most = min(height - 1, _MOST_ROWS)
    shown = tracks if len(tracks) <= most else tracks[: most - 1]
    lines: list[_Line] = [(_row(_COLUMNS, width), _HEADING)]
    lines += [(_row(_cells(track, top_px), width), None) for track in shown]
    if len(shown) < len(tracks):
        lines.append((f"and {len(tracks) - len(shown)} more", None))
    return lines


def _row(cells: Sequence[str], width: int) -> str:
    padded = [f"{cell:>{wide}}" for cell, wide in zip(cells, _WIDTHS, strict=True)]
    return _fitting(padded, width)


def _fitting(parts: Sequence[str], width: int) -> str:
    """Join what fits side by side: a number that is cut would be another."""
    line = parts[0]
    for part in parts[1:]:
        if len(line) + 2 + len(part) > width:
            break
        line += f"  {part}"
    return line


def _cells(track: Track, top_px: int) -> tuple[str, ...]:
    m = track.measurement
    state = "collapsed" if track.collapsed else track.status.value
    if m is None:
        return (str(track.id), state, "-", "-", "-", "-")
    likely = m.vein_likeness is not None and m.vein_likeness_sd is not None
    return (
        str(track.id),
        state,
        _length(m.minor_mm, m.minor_px),
        _length(m.depth_mm, float(track.centroid_px[1]) - top_px),
        "-" if m.collapse is None else f"{100 * m.collapse:.0f} %",
        f"{m.vein_likeness:.2f} (sd {m.vein_likeness_sd:.2f})" if likely else "-",
    )


def _length(length_mm: float | None, length_px: float) -> str:
    return f"{length_px:.0f} px" if length_mm is None else f"{length_mm:.1f} mm"


class _Live(Closing):
    """Lines on a terminal that are drawn over; what is logged meanwhile goes above them."""

    def __init__(self, console: Console) -> None:
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False
        )
        before = sys.stderr
        self._live.start()
        self._moved = [
            handler
            for handler in logging.getLogger().handlers
            if isinstance(handler, logging.StreamHandler) and handler.stream is before
        ]
        self._before = before
        for handler in self._moved:
            handler.setStream(sys.stderr)  # now that of the console, which knows of the lines

    def show(self, lines: Sequence[_Line]) -> None:
        self._live.update(_Lines(lines), refresh=True)

    def close(self) -> None:
        for handler in self._moved:
            handler.setStream(self._before)
        self._live.stop()


class _Lines:
    """Lines for rich, which cuts them at the terminal's edge; laying out a table costs it more."""

    def __init__(self, lines: Sequence[_Line]) -> None:
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console, options
        for text, style in self._lines:
            yield Segment(text, style)
            yield Segment.line()
