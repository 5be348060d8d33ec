"""What the terminal says of a run: at once what is wrong, never much, and nothing left behind."""

import io
import logging
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from tests.tracker.test_sinks import result_of, seen_vessel, track_of
from veintrack.tracker.cli import progress as module
from veintrack.tracker.cli.progress import Progress
from veintrack.tracker.frame import (
    FrameResult,
    PictureState,
    Signal,
    SourceState,
    Track,
    TrackStatus,
)

_CONTROL = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|(\r?\n)|(\r)")


class Terminal:
    """What a terminal of a size shows of what is written to it, as far as rich uses one."""

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self.width, self.height = width, height
        self._rows = [""]
        self._row = self._column = 0
        self.cursor_shown = True
        self.drawings = 0  # how often something was erased, to be drawn anew

    def feed(self, text: str) -> None:
        place = 0
        for found in _CONTROL.finditer(text):
            self._write(text[place : found.start()])
            place = found.end()
            self._obey(found)
        self._write(text[place:])

    def _obey(self, found: re.Match[str]) -> None:
        private, number, letter, newline, _ = found.groups()
        if private:
            assert number == "25", found[0]
            self.cursor_shown = letter == "h"
        elif letter == "A":
            self._row = max(self._row - int(number or 1), len(self._rows) - self.height, 0)
        elif letter == "K":
            self._rows[self._row] = ""
        elif letter is None:
            self._column = 0
            self.drawings += not newline
            self._row += bool(newline)
            self._rows += [""] * (self._row - len(self._rows) + 1)
        else:
            assert letter == "m", found[0]

    def _write(self, text: str) -> None:
        for character in text:
            assert character.isprintable(), repr(character)
            if self._column == self.width:
                self._row, self._column = self._row + 1, 0
                self._rows += [""] * (self._row - len(self._rows) + 1)
            row = self._rows[self._row].ljust(self._column)
            self._rows[self._row] = row[: self._column] + character + row[self._column + 1 :]
            self._column += 1

    @property
    def lines(self) -> list[str]:
        """What it shows, scrolled off or not, without empty lines."""
        return [line.rstrip() for line in self._rows if line.strip()]


class Shown:
    """A progress on a terminal in memory; `wait` lets time pass for it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, width: int = 80, height: int = 24, **console: bool
    ) -> None:
        self._now_s = 100.0
        monkeypatch.setattr(module, "monotonic", lambda: self._now_s)
        self.file = io.StringIO()
        on = Console(
            file=self.file,
            **{"force_terminal": True, **console},  # type: ignore[arg-type]
            width=width,
            height=height,
            legacy_windows=False,
        )
        self._terminal = (width, height)
        self.progress = Progress(on, 900)

    def wait(self, seconds: float) -> None:
        self._now_s += seconds

    def show(self, *results: FrameResult, drops: int = 0, too_old: int = 0) -> None:
        """Show results a second apart."""
        for result in results:
            self.wait(1.0)
            self.progress.show(result, drops, too_old)

    @property
    def terminal(self) -> Terminal:
        terminal = Terminal(*self._terminal)
        terminal.feed(self.file.getvalue())
        return terminal


Show = Callable[..., Shown]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Show:
    monkeypatch.setenv("TERM", "xterm")
    return lambda *size, **console: Shown(monkeypatch, *size, **console)


def lost(for_s: float) -> FrameResult:
    since_ns = time.monotonic_ns() - round(for_s * 1e9)
    state = SourceState(Signal.LOST, since_ns, "unplugged")
    return replace(result_of(1, []), source=state, between_ns=time.monotonic_ns())


def vessel(track_id: int = 1, *, spaced: bool = True, **measured: float) -> Track:
    track = track_of(seen_vessel(), TrackStatus.CONFIRMED, track_id, spaced)
    assert track.measurement is not None
    return replace(track, measurement=replace(track.measurement, **measured))


def coasting(track_id: int, *, collapsed: bool = False) -> Track:
    return replace(track_of(None, TrackStatus.COASTING, track_id), collapsed=collapsed)


def crowd(count: int) -> Sequence[Track]:
    return [coasting(n) for n in range(1, count + 1)]


def test_a_terminal_shows_how_the_run_goes_and_its_tracks(shown: Show) -> None:
    seen = shown()
    sure = vessel(1, collapse=0.423, vein_likeness=0.934, vein_likeness_sd=0.051)
    unbelieved = track_of(seen_vessel(), TrackStatus.TENTATIVE, 4)
    tracks = [sure, coasting(2), coasting(3, collapsed=True), unbelieved]
    seen.show(result_of(0, tracks), result_of(1, tracks), drops=3, too_old=12)
    assert seen.terminal.lines == [
        "streaming  1.0 fps  5 ms old  frame 2/900  3 dropped, 12 too old",
        "  id      state   diameter      depth  collapse        likeness",
        "   1  confirmed     4.0 mm     5.1 mm      42 %  0.93 (sd 0.05)",
        "   2   coasting          -          -         -               -",
        "   3  collapsed          -          -         -               -",
    ]


def test_without_a_scale_sizes_and_depths_are_in_pixels_of_the_scan_area(shown: Show) -> None:
    seen = shown()
    seen.show(replace(result_of(0, [vessel(spaced=False)]), scan_area_px=(10, 15, 140, 100)))
    assert seen.terminal.lines[-1].split() == ["1", "confirmed", "40", "px", "35", "px", "-", "-"]


def test_the_age_is_the_middle_one_of_the_last_second(shown: Show) -> None:
    seen = shown()
    for age_ms in (500, 500, 500, 20, 30, 90, 40, 25):
        seen.wait(0.24)
        result = result_of(0, [])
        timings = replace(result.timings, age_ns=age_ms * 10**6)
        seen.progress.show(replace(result, timings=timings), 0)
    seen.show(result_of(9, []))
    assert "  30 ms old  " in seen.terminal.lines[0] or "  25 ms old  " in seen.terminal.lines[0]


def test_it_is_drawn_four_times_a_second_however_fast_results_come(shown: Show) -> None:
    seen = shown()
    before = seen.terminal.drawings
    for index in range(340):
        seen.wait(1 / 170)
        seen.progress.show(result_of(index, []), 0)
    assert 7 <= seen.terminal.drawings - before <= 9
    assert "170.0 fps" in seen.terminal.lines[0]


def test_a_lost_source_and_one_that_is_back_are_shown_at_once(shown: Show) -> None:
    seen = shown()
    seen.show(result_of(0, []))
    seen.progress.show(lost(7.1), 0)
    assert seen.terminal.lines[0].startswith("SOURCE LOST for 7 s  ")
    seen.progress.show(result_of(1, []), 0)
    assert seen.terminal.lines[0].startswith("streaming  ")


def test_a_picture_that_is_worth_nothing_is_named(shown: Show) -> None:
    seen = shown()
    seen.show(replace(result_of(1, []), picture=PictureState.FROZEN))
    assert seen.terminal.lines[0].startswith("FROZEN  ")


def test_nothing_is_left_on_the_terminal(shown: Show) -> None:
    seen = shown()
    assert seen.terminal.lines == ["waiting for the first frame"]
    assert not seen.terminal.cursor_shown
    with seen.progress:
        seen.show(result_of(0, crowd(5)), result_of(1, crowd(1)), result_of(2, crowd(30)))
        assert len(seen.terminal.lines) == 18
    assert seen.terminal.lines == []
    assert seen.terminal.cursor_shown
    seen.progress.close()


@pytest.mark.parametrize("width", [1, 10, 30, 64, 65, 80])
@pytest.mark.parametrize("height", [2, 3, 4, 5, 24])
def test_a_small_terminal_shows_no_rubbish(shown: Show, width: int, height: int) -> None:
    seen = shown(width, height)
    with seen.progress:
        for index in range(3):
            seen.show(result_of(index, crowd(6)), drops=3, too_old=12)
            assert seen.terminal.lines[0].startswith("streaming"[:width])
            assert len(seen.terminal.lines) <= height - 1
    assert seen.terminal.lines == []


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (
            63,
            [
                "streaming  1.0 fps  5 ms old  frame 2/900",
                "  id      state   diameter      depth  collapse        likeness",
                "   1  confirmed     4.0 mm     5.1 mm      42 %  0.93 (sd 0.05)",
            ],
        ),
        (
            40,
            [
                "streaming  1.0 fps  5 ms old",
                "  id      state   diameter      depth",
                "   1  confirmed     4.0 mm     5.1 mm",
            ],
        ),
    ],
)
def test_a_narrow_terminal_shows_whole_numbers_or_none(
    shown: Show, width: int, lines: list[str]
) -> None:
    seen = shown(width)
    sure = vessel(1, collapse=0.423, vein_likeness=0.934, vein_likeness_sd=0.051)
    seen.show(result_of(0, [sure]), drops=1000, too_old=12)
    seen.show(result_of(1, [sure]), drops=1000, too_old=12)
    assert seen.terminal.lines == lines


def test_a_short_terminal_says_how_many_tracks_it_has_no_room_for(shown: Show) -> None:
    seen = shown(80, 6)
    seen.show(result_of(0, crowd(6)))
    assert [line.split()[0] for line in seen.terminal.lines] == ["streaming", "id", "1", "2", "and"]
    assert seen.terminal.lines[-1] == "and 4 more"


def test_what_is_logged_meanwhile_stands_above(shown: Show) -> None:
    log = logging.getLogger()
    handler = logging.StreamHandler(sys.stderr)
    log.addHandler(handler)
    try:
        seen = shown()
        with seen.progress:
            seen.show(result_of(0, crowd(2)))
            log.warning("the screen's layout changed [1, 2]")
            lines = seen.terminal.lines
            assert lines[0] == "the screen's layout changed [1, 2]"
            assert lines[1].startswith("streaming")
            seen.show(result_of(1, crowd(1)))
            assert len(seen.terminal.lines) == 4
        assert seen.terminal.lines == ["the screen's layout changed [1, 2]"]
        assert handler.stream is sys.stderr
    finally:
        log.removeHandler(handler)


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_elsewhere_a_line_is_written_every_ten_seconds(
    shown: Show, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    seen = shown(80, 24, force_terminal=term == "dumb")
    with seen.progress:
        for index in range(25):
            seen.show(result_of(index, crowd(2)), drops=4)
    first, second = seen.file.getvalue().splitlines()
    assert first == "streaming  1.0 fps  5 ms old  frame 10/900  4 dropped  0 tracks, 2 coasting"
    assert "frame 20/900" in second


def test_elsewhere_a_lost_source_is_a_line_at_once_and_so_is_its_return(shown: Show) -> None:
    seen = shown(40, 24, force_terminal=False)
    seen.show(result_of(0, []), lost(0.1), lost(1.1), lost(2.1), result_of(1, []))
    lines = [line.split("  ")[0] for line in seen.file.getvalue().splitlines()]
    assert lines == ["SOURCE LOST for 0 s", "streaming"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_quiet_run_says_nothing(shown: Show, terminal: bool) -> None:
    seen = shown(80, 24, force_terminal=terminal, quiet=True)
    with seen.progress:
        for index in range(25):
            seen.show(result_of(index, crowd(2)))
        seen.show(lost(1))
    assert seen.file.getvalue() == ""
