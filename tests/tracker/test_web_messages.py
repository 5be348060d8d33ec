"""What the run tells its page: the scan area only, counts, and half a minute of the tracks."""

from dataclasses import replace
from multiprocessing import Pipe
from time import monotonic_ns

import numpy as np
import pytest

from veintrack.tracker.controls import ControlState
from veintrack.tracker.frame import (
    STREAMING,
    Detection,
    Frame,
    FrameResult,
    Measurement,
    Patch,
    PictureState,
    Region,
    Signal,
    SourceState,
    Timings,
    Track,
    TrackStatus,
)
from veintrack.tracker.web.messages import (
    Figures,
    News,
    Picture,
    Tally,
    TrackRow,
    picture_of,
    receive,
    rows_of,
    send_picture,
)
from veintrack.tracker.web.plots import QUANTITIES, SPAN_S, History
from veintrack.tracker.web.state import covered, state_of

NAME = 200  # the grey level of a patient's name, outside the scan area


def track(number: int = 1, status: TrackStatus = TrackStatus.CONFIRMED) -> Track:
    place, spread = np.array([60.0, 70.0]), np.eye(2)
    patch = Patch(np.ones((50, 50)), 0.5, (0.0, 0.0), (1.0, 1.0))
    found = Detection(place, spread, 300.0, (30.0, 20.0), 0.1, 0.9, (45, 60, 30, 20), None, patch)
    measured = Measurement(300.0, 30.0, 20.0, 5.0, collapse=0.2)
    return Track(number, status, place, place * 0, spread, (45, 60, 30, 20), 0.9, found, measured)


def result(
    index: int = 0, area_px: Region | None = (40, 50, 100, 80), tracks: tuple[Track, ...] = ()
) -> FrameResult:
    pixels = np.full((200, 300), NAME, np.uint8)
    pixels[50:130, 40:140] = 30
    now_ns = monotonic_ns()
    timings = Timings(0, 0, 0, 0, 0, 0, now_ns, 12_000_000)
    return FrameResult(Frame(pixels, index, index), (), tracks or (track(),), timings, area_px)


def test_only_the_scan_area_is_told() -> None:
    ours, its = Pipe()
    picture = picture_of(result())
    assert picture is not None
    send_picture(ours, picture)
    said, pixels = its.recv_bytes(), its.recv_bytes()
    assert len(pixels) == 100 * 80
    assert len(said) < 4000
    assert bytes([NAME]) * 8 not in said + pixels
    send_picture(ours, picture)
    back = receive(its)
    assert isinstance(back, Picture)
    whole = back.whole()
    assert whole.frame.pixels.shape == (200, 300)
    assert np.all(whole.frame.pixels[50:130, 40:140] == 30)
    assert whole.frame.pixels.sum() == 30 * 100 * 80
    assert whole.tracks[0].detection is not None
    assert whole.tracks[0].detection.patch is None
    ours.close()
    with pytest.raises(EOFError):
        receive(its)
    its.close()


def test_nothing_is_shown_while_the_scan_area_is_looked_for() -> None:
    assert picture_of(replace(result(), scan_area_settled=False)) is None


def test_a_frame_that_is_all_scan_area_is_told_whole() -> None:
    picture = picture_of(result(area_px=None))
    assert picture is not None
    assert picture.area_px == (0, 0, 300, 200)


def test_the_table_has_mm_where_the_spacing_is_known_and_px_where_not() -> None:
    (row,) = rows_of(result())
    assert (row.diameter, row.depth, row.area, row.collapse) == (20.0, 20.0, 300.0, 0.2)
    known = replace(
        track(),
        measurement=Measurement(300.0, 30.0, 20.0, 5.0, 3.5, 3.0, 3.1, 2.0, collapse=None),
    )
    (row,) = rows_of(result(tracks=(known,)))
    assert (row.diameter, row.depth, row.area, row.collapse) == (2.0, 3.5, 3.0, None)


def test_the_table_has_what_is_believed_and_says_why_it_is_not_seen() -> None:
    hidden = replace(track(3, TrackStatus.COASTING), detection=None, measurement=None)
    rows = rows_of(
        result(
            tracks=(
                track(1, TrackStatus.TENTATIVE),
                hidden,
                replace(hidden, id=4, collapsed=True),
            )
        )
    )
    assert rows == (TrackRow(3, "coasting"), TrackRow(4, "collapsed"))


def test_frames_that_never_came_are_counted() -> None:
    tally = Tally()
    assert tally.figures().frames == 0
    for index in (0, 1, 2, 5, 6):
        tally.count(result(index))
    tally.count(replace(result(7), segmented=False))
    tally.count(replace(result(7), between_ns=1))
    figures = tally.figures()
    assert (figures.frames, figures.drops, figures.too_old) == (6, 2, 1)
    assert figures.age_ms == pytest.approx(12.0)


def test_fps_are_those_of_the_last_second() -> None:
    tally, now_ns = Tally(), monotonic_ns()
    for index in range(120):
        done_ns = now_ns - (119 - index) * 40_000_000  # 25 a second
        tally.count(replace(result(index), timings=Timings(0, 0, 0, 0, 0, 0, done_ns, 1_000_000)))
    assert tally.figures().fps == pytest.approx(25, abs=1.5)


def row(number: int, value: float | None) -> TrackRow:
    return TrackRow(number, "confirmed", value, value, value, None)


def test_the_plots_hold_half_a_minute() -> None:
    history = History()
    for step in range(1200):  # 40 s at 30 fps
        history.add(round(step / 30 * 1e9), [row(1, 5.0)])
    points = history.series("diameter", 1)
    assert points[-1][0] == 0
    assert points[0][0] == pytest.approx(-SPAN_S, abs=0.3)
    assert 120 <= len(points) <= 160


def test_a_plot_has_a_gap_where_a_track_was_not_seen() -> None:
    history = History()
    for step, value in enumerate([5.0, 5.123456, None, None, 6.0]):
        history.add(step * 10**9, [row(2, value)])
    values = [value for _, value in history.series("depth", 2)]
    assert values == [5.0, 5.123, None, 6.0]


def test_each_quantity_has_a_plot_of_the_tracks_that_were_seen() -> None:
    history = History()
    history.add(0, [row(1, 5.0), row(9, None), row(12, 4.0)])
    for name, title, unit, _ in QUANTITIES:
        options = history.options(name, title, unit)
        assert [line["name"] for line in options["series"]] == ["vein 1", "vein 12"]
        assert title in options["title"]["text"]


def test_a_source_that_begins_anew_begins_new_plots() -> None:
    history = History()
    history.add(10**10, [row(1, 5.0)])
    history.add(0, [row(1, 6.0)])
    assert history.series("diameter", 1) == [(0.0, 6.0)]


def news(
    source: SourceState = STREAMING,
    picture: PictureState = PictureState.GOOD,
    *,
    time_ns: int = 1,
    live: bool = True,
    paused: bool = False,
    settled: bool = True,
) -> News:
    control = ControlState(live, 0.5, paused)
    return News(time_ns, (), True, Figures(), control, source, picture, settled)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (news(), "live "),
        (news(live=False), "playing "),
        (news(live=False, paused=True), "paused the run stands still"),
        (news(time_ns=0), "waiting for the first frame"),
        (
            news(picture=PictureState.FROZEN),
            "frozen the same picture comes again and again",
        ),
        (news(picture=PictureState.NO_SIGNAL), "no signal there is no picture at the input"),
        (news(picture=PictureState.NO_CONTACT), "no contact the probe touches nothing"),
        (news(SourceState(Signal.LOST, 10**9, "no such device")), "lost for 4 s: no such device"),
        (news(SourceState(Signal.STALLED, 10**9, "no frame")), "stalled for 4 s: no frame"),
    ],
)
def test_how_the_source_is_is_said_with_the_reason(one: News, said: str) -> None:
    word, colour, why = state_of(one, now_ns=5 * 10**9)
    assert f"{word} {why}" == said
    assert (colour == "positive") is (not why)


def test_why_there_is_no_picture_is_said() -> None:
    assert covered(news()) == ""
    assert "first frame" in covered(news(time_ns=0))
    assert "scan area is looked for" in covered(news(settled=False))
