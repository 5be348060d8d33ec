"""Where vessels were: remembered for two seconds, drawn darker the longer ago."""

from dataclasses import replace

import numpy as np
import pytest

from veintrack.tracker.frame import Frame, FrameResult, Timings, Track, TrackStatus
from veintrack.tracker.overlay import draw
from veintrack.tracker.overlay_canvas import Canvas
from veintrack.tracker.overlay_trails import Paths, Trails, draw_path

RATE_HZ = 25
SHAPE = (480, 640)


def track_at(x: float, y: float = 100.0, number: int = 1) -> Track:
    status = TrackStatus.CONFIRMED
    place = np.array([x, y])
    return Track(number, status, place, np.zeros(2), np.eye(2), (x - 9, y - 9, 18.0, 18.0), 0.9)


def result_of(number: float, *tracks: Track, shape: tuple[int, int] = SHAPE) -> FrameResult:
    frame = Frame(np.full(shape, 60, np.uint8), 0, round(number * 1e9 / RATE_HZ))
    return FrameResult(frame, (), tracks, Timings(0, 0, 0, 0, 0, 0, 0, 0))


def moved(trails: Trails, frames: int) -> Paths:
    """Let a vessel move by 2 px a frame; the last paths."""
    paths: Paths = {}
    for i in range(frames):
        paths = trails.follow(result_of(i, track_at(100 + 2 * i)))
    return paths


def test_a_trail_is_where_the_vessel_was() -> None:
    path = moved(Trails(), 5)[1]
    np.testing.assert_allclose(path[:, 0], [0.16, 0.12, 0.08, 0.04, 0], atol=1e-9)
    np.testing.assert_allclose(path[:, 1], [100, 102, 104, 106, 108])
    np.testing.assert_allclose(path[:, 2], 100)


def test_a_trail_is_two_seconds_long() -> None:
    path = moved(Trails(), 100)[1]
    assert path[0, 0] == pytest.approx(2.0)
    assert len(path) == 2 * RATE_HZ + 1


def test_a_vessel_that_rests_leaves_no_trail() -> None:
    trails = Trails()
    moved(trails, 10)
    for i in range(10, 70):
        paths = trails.follow(result_of(i, track_at(118 + 0.1 * (i % 2))))
    assert all(len(path) <= 2 for path in paths.values())


def test_each_vessel_has_a_trail_of_its_own_and_takes_it_along_when_it_is_lost() -> None:
    trails = Trails()
    for i in range(3):
        both = track_at(100 + 2 * i), track_at(300 - 2 * i, number=2)
        paths = trails.follow(result_of(i, *both))
    assert (paths[1][0, 1], paths[2][0, 1]) == (100, 300)
    lost = replace(track_at(106), status=TrackStatus.LOST)
    assert trails.follow(result_of(3, lost)) == {}
    assert trails.follow(result_of(4, track_at(110))) == {}


@pytest.mark.parametrize(
    "other",
    [
        result_of(20, track_at(200), shape=(240, 320)),
        replace(result_of(20, track_at(200)), changes=("layout changed",)),
        result_of(3, track_at(200)),
    ],
    ids=["size", "layout", "earlier"],
)
def test_another_picture_begins_anew(other: FrameResult) -> None:
    trails = Trails()
    moved(trails, 10)
    assert trails.follow(other) == {}


def test_what_was_given_out_stays_as_it_was() -> None:
    trails = Trails()
    path = moved(trails, 5)[1]
    before = path.copy()
    trails.follow(result_of(80, track_at(300)))
    assert np.array_equal(path, before)


def test_a_trail_is_drawn_darker_the_longer_ago() -> None:
    canvas = Canvas(np.zeros((*SHAPE, 3), np.uint8), 1, np.zeros(2))
    x = np.linspace(100, 500, 51)
    path = np.column_stack([np.linspace(2, 0, 51), x, np.full(51, 200.0)])
    draw_path(canvas, path, (200, 200, 200))
    levels = canvas.pixels[200, [120, 220, 320, 420], 0].astype(int)
    assert (np.diff(levels) > 10).all()
    assert canvas.pixels[200, 100:500, 0].min() > 0  # no gap between the pieces


def test_a_picture_without_trails_is_as_before_and_one_with_them_shows_them() -> None:
    paths = moved(Trails(), 40)
    last = result_of(39, track_at(178))
    plain, trailed = draw(last), draw(last, trails=paths)
    assert np.array_equal(plain, draw(last, trails={}))
    changed = (plain != trailed).any(axis=2).nonzero()
    assert changed[0].min() >= 98
    assert changed[0].max() <= 102
    assert changed[1].min() <= 101
