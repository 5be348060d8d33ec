"""What must hold whatever a tracker is shown."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tests.tracker.vessel_maps import GRID, Vessel, probability
from veintrack.tracker.detect import detect
from veintrack.tracker.frame import (
    Detection,
    PictureState,
    ProbeMotion,
    Region,
    Spacing,
    Track,
    TrackStatus,
)
from veintrack.tracker.tracks import VeinTracker

AREA: Region = (0, 0, 640, 480)


def blob(
    x: float,
    y: float,
    major: float = 40.0,
    minor: float = 30.0,
    angle_rad: float = 0.0,
    noise_px2: tuple[float, float, float] = (0.3, 0.0, 0.3),
    score: float = 0.9,
) -> Detection:
    xx, xy, yy = noise_px2
    return Detection(
        centroid_px=np.array([x, y], np.float64),
        covariance_px2=np.array([[xx, xy], [xy, yy]]),
        area_px2=math.pi / 4 * major * minor,
        axes_px=(major, minor),
        angle_rad=angle_rad,
        score=score,
        box_px=(x - major / 2, y - major / 2, major, major),
    )


@dataclass(frozen=True)
class Shown:
    """One call of update, after a look between frames where `coast_s` says so."""

    found: tuple[Detection, ...]
    step_ns: int = 40_000_000
    picture: PictureState = PictureState.GOOD
    motion: ProbeMotion | None = None
    jumped: bool = False
    spacing_mm: Spacing | None = (0.08, 0.08)
    area_px: Region | None = AREA
    coast_s: float | None = None


blobs = st.builds(
    lambda x, dx, y, major, part, *rest: blob(x + dx, y, major, part * major, *rest),
    st.sampled_from([100.0, 130.0, 300.0, 635.0]),  # few places, so that tracks live
    st.floats(-8, 8),
    st.floats(100, 110),
    st.just(0.0) | st.floats(8, 120),
    st.just(0.0) | st.floats(0, 1),
    st.floats(-1.5, 1.5),
    st.tuples(st.floats(0, 1e4), st.floats(-1e4, 1e4), st.floats(0, 1e4)),
    st.floats(0.5, 1.0),
)
motions = st.builds(
    lambda turn, dx, dy, noise: ProbeMotion(turn * np.eye(2)[::-1], np.array([dx, dy]), noise),
    st.floats(-0.1, 0.1),
    st.floats(-60, 60),
    st.floats(-60, 60),
    st.floats(0, 100),
)
shows = st.builds(
    Shown,
    st.lists(blobs, max_size=4).map(tuple),
    st.sampled_from([0, 1, 8_000_000, 40_000_000, 200_000_000, 3_000_000_000, -100_000_000]),
    st.sampled_from(list(PictureState)),
    st.none() | motions,
    st.sampled_from([False, False, False, True]),
    st.sampled_from([None, (0.08, 0.08), (0.03, 0.3)]),
    st.sampled_from([None, AREA, (100, 80, 300, 200)]),
    st.none() | st.floats(-1, 10),
)


class Player:
    """A tracker and the time."""

    def __init__(self) -> None:
        self.tracker, self.now_ns = VeinTracker(), 10**9

    def show(self, one: Shown) -> list[Track]:
        if one.coast_s is not None:
            self.tracker.coast(self.now_ns + round(one.coast_s * 1e9))
        self.now_ns += one.step_ns
        return self.tracker.update(
            one.found,
            self.now_ns,
            spacing_mm=one.spacing_mm,
            area_px=one.area_px,
            picture=one.picture,
            jumped=one.jumped,
            motion=one.motion,
        )


def play(shown: Sequence[Shown]) -> list[list[Track]]:
    player = Player()
    return [player.show(one) for one in shown]


def assert_same(left: list[list[Track]], right: list[list[Track]]) -> None:
    for a_tracks, b_tracks in zip(left, right, strict=True):
        assert [(t.id, t.status, t.collapsed) for t in a_tracks] == [
            (t.id, t.status, t.collapsed) for t in b_tracks
        ]
        for a, b in zip(a_tracks, b_tracks, strict=True):
            assert_allclose(a.centroid_px, b.centroid_px, rtol=1e-9, atol=1e-9)
            assert_allclose(a.covariance_px2, b.covariance_px2, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.lists(shows, max_size=12))
def test_covariances_are_symmetric_and_non_negative_whatever_is_shown(shown: list[Shown]) -> None:
    for tracks in play(shown):
        for track in tracks:
            assert track.state_cov is not None
            assert np.isfinite(track.centroid_px).all()
            for cov in (track.covariance_px2, track.state_cov):
                assert np.isfinite(cov).all()
                assert_allclose(cov, cov.T, rtol=1e-9, atol=1e-9)
                assert np.linalg.eigvalsh(cov).min() >= -1e-9 * np.abs(cov).max()


scattered = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 5), st.floats(-6, 6), st.floats(-6, 6)),
    max_size=6,
    unique_by=lambda at: at[:2],
)  # on a raster, as each by its size: ties would be decided by the order


def placed(at: tuple[int, int, float, float]) -> Detection:
    column, row, dx, dy = at
    return blob(40 + 80 * column + dx, 40 + 80 * row + dy, 40 + column + 8 * row, 30)


@settings(deadline=None, max_examples=40)
@given(st.lists(scattered, max_size=10), st.randoms(use_true_random=False))
def test_the_order_of_detections_changes_nothing(
    frames: list[list[tuple[int, int, float, float]]], rng: random.Random
) -> None:
    found = [[placed(at) for at in frame] for frame in frames]
    shuffled = [rng.sample(frame, len(frame)) for frame in found]
    assert_same(play([Shown(tuple(f)) for f in found]), play([Shown(tuple(f)) for f in shuffled]))


@settings(deadline=None, max_examples=40)
@given(st.lists(scattered, max_size=10), st.floats(-20, 20))
def test_mirrored_frames_give_mirrored_tracks(
    frames: list[list[tuple[int, int, float, float]]], dx: float
) -> None:
    def told(sign: int) -> list[list[Track]]:
        motion = ProbeMotion(np.zeros((2, 2)), np.array([sign * dx, 1.0]), 0.01)
        tracker = VeinTracker()
        history = []
        for i, frame in enumerate(frames):
            found = [placed(at) for at in frame]
            mirrored = [
                blob(sign * d.centroid_px[0], d.centroid_px[1], *d.axes_px, sign * 0.3)
                for d in found
            ]
            history.append(tracker.update(mirrored, i * 40_000_000, motion=motion))
        return history

    for plain, mirrored in zip(told(1), told(-1), strict=True):
        assert [(t.id, t.status) for t in plain] == [(t.id, t.status) for t in mirrored]
        for a, b in zip(plain, mirrored, strict=True):
            assert_allclose(a.centroid_px, b.centroid_px * [-1, 1], rtol=1e-7, atol=1e-7)
            assert_allclose(a.covariance_px2[0, 1], -b.covariance_px2[0, 1], atol=1e-7)


# Vessels in pixels, which pass each other, touch, and are divided for a while.


@dataclass(frozen=True)
class Path:
    """A vessel and its speed, px/s."""

    start: Vessel
    speed_px_s: tuple[float, float]

    def at(self, time_s: float) -> Vessel:
        return self.start.moved(*(v * time_s for v in self.speed_px_s))


paths = st.lists(
    st.builds(
        Path,
        st.builds(
            Vessel,
            st.floats(150, 490),
            st.floats(150, 330),
            st.floats(15, 40),
            st.floats(12, 30),
            st.floats(-1.5, 1.5),
        ),
        st.tuples(st.floats(-150, 150), st.floats(-60, 60)),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda path: round(path.start.a),
)


def filmed(moving: Sequence[Path], gap_x: float, *, mirrored: bool = False) -> list[Shown]:
    """What is found in a bit more than half a second; mirrored to the last bit."""
    shown = []
    for i in range(16):
        made = probability([path.at(i * 0.04) for path in moving])
        if 5 <= i < 10:
            column = round(gap_x * GRID.scale[0])
            made[:, column - 1 : column + 2] = 0.02
        made = np.ascontiguousarray(made[:, ::-1]) if mirrored else made
        shown.append(Shown(detect(made, GRID, 0.5)))
    return shown


@settings(deadline=None, max_examples=20)
@given(paths, st.floats(200, 440), st.randoms(use_true_random=False))
def test_the_order_of_detections_changes_nothing_where_vessels_meet_and_fall_apart(
    moving: list[Path], gap_x: float, rng: random.Random
) -> None:
    shown = filmed(moving, gap_x)
    shuffled = [replace(one, found=tuple(rng.sample(one.found, len(one.found)))) for one in shown]
    assert_same(play(shown), play(shuffled))


@pytest.mark.parametrize(
    ("moving", "gap_x"),
    [
        (
            [
                Path(Vessel(250, 240, 30, 20, 0.3), (150, 20)),
                Path(Vessel(330, 235, 24, 18), (-90, 0)),
            ],
            0,
        ),
        ([Path(Vessel(250, 240, 30, 20, 0.3), (60, 0)), Path(Vessel(316, 250, 26, 22), (0, 0))], 0),
        ([Path(Vessel(300, 240, 45, 26, 0.1), (30, 0))], 312),
    ],
    ids=["cross", "touch", "divided"],
)
def test_mirrored_maps_give_mirrored_tracks(moving: list[Path], gap_x: float) -> None:
    plain, flipped = (play(filmed(moving, gap_x, mirrored=mirrored)) for mirrored in (False, True))
    assert any(t.detection and t.detection.parts_of for tracks in plain for t in tracks)
    for left, right in zip(plain, flipped, strict=True):
        assert [(t.id, t.status) for t in left] == [(t.id, t.status) for t in right]
        for a, b in zip(left, right, strict=True):
            assert_allclose([639 - b.centroid_px[0], b.centroid_px[1]], a.centroid_px, atol=0.3)
            assert_allclose(b.covariance_px2 * [[1, -1], [-1, 1]], a.covariance_px2, atol=0.3)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 150), min_size=1, max_size=6),
    st.sampled_from([PictureState.GOOD, PictureState.NO_CONTACT, PictureState.FROZEN]),
    st.booleans(),
)
def test_frames_that_show_nothing_change_no_more_than_the_time_that_they_take(
    steps_ms: list[int], picture: PictureState, comes_back: bool
) -> None:
    def told(steps: list[int]) -> list[list[Track]]:
        shown = [Shown((blob(100 + 3 * i, 100),)) for i in range(40)]
        shown += [Shown((), ms * 1_000_000, picture) for ms in steps]
        shown += [Shown((blob(230, 104),) if comes_back else ())] * 5
        history = play(shown)
        return [history[39 + len(steps)], *history[-5:]]

    assert_same(told(steps_ms), told([sum(steps_ms)]))


@settings(deadline=None, max_examples=30)
@given(st.lists(shows, max_size=8), st.lists(shows, max_size=8))
def test_other_trackers_of_the_process_change_nothing(
    mine: list[Shown], others: list[Shown]
) -> None:
    alone = play(mine)
    play(others)
    one, other, beside = Player(), Player(), []
    for shown, theirs in zip_longest(mine, others):
        if theirs is not None:
            other.show(theirs)
        if shown is not None:
            beside.append(one.show(shown))
    assert_same(alone, beside)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.001, 0.3), st.floats(0.001, 0.3))
def test_looking_between_frames_changes_nothing_and_two_short_looks_are_one_long(
    a_s: float, b_s: float
) -> None:
    def tracker() -> VeinTracker:
        made = VeinTracker()
        for i in range(6):
            made.update([blob(100 + 3 * i, 100)], i * 40_000_000)
        return made

    looked, plain = tracker(), tracker()
    start_ns = 5 * 40_000_000
    first_ns, then_ns = start_ns + int(a_s * 1e9), start_ns + int(a_s * 1e9) + int(b_s * 1e9)
    (first,) = looked.coast(first_ns)
    (second,) = looked.coast(then_ns)
    stepped = first.at(then_ns)
    assert_allclose(stepped.centroid_px, second.centroid_px)
    assert_allclose(stepped.covariance_px2, second.covariance_px2, rtol=1e-9)
    after, untouched = (t.update([blob(118, 100)], then_ns) for t in (looked, plain))
    assert_same([after], [untouched])


# A scene in millimetres, shown by scanners that differ.

RATES_HZ = (5, 15, 30, 60, 120)
SPACINGS_MM = (0.03, 0.08, 0.15, 0.3)
VEINS_MM = ((-8.0, 8.0, 4.0), (0.0, 14.0, 6.0), (9.0, 10.0, 3.0))  # x, depth, diameter


def scene(time_s: float, mm: float, rng: np.random.Generator) -> list[Detection]:
    """Three vessels under a probe that slides 3 mm to either side, as a network sees them."""
    slide_mm = 3 * math.sin(2 * math.pi * 0.2 * time_s)
    found = []
    for number, (x_mm, y_mm, size_mm) in enumerate(VEINS_MM):
        sway_mm = 0.4 * math.sin(2 * math.pi * 0.3 * time_s + number)
        sigma_px = 0.3 + 0.02 / mm
        x = (x_mm + slide_mm + sway_mm + 15) / mm + rng.normal(0, sigma_px)
        y = y_mm / mm + rng.normal(0, sigma_px)
        size = size_mm / mm
        pulse = 1 + 0.05 * math.sin(2 * math.pi * 1.2 * time_s)
        if rng.random() > 0.05:
            noise = (sigma_px**2, 0.0, sigma_px**2)
            found.append(blob(x, y, size * pulse, 0.8 * size * pulse, 0.1, noise))
    return found


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("mm", SPACINGS_MM)
@pytest.mark.parametrize("known", [True, False])
def test_the_defaults_follow_every_vessel_at_any_rate_and_spacing(
    rate_hz: int, mm: float, known: bool
) -> None:
    rng, tracker = np.random.default_rng(4), VeinTracker()
    ids, errors_mm = set(), []
    for i in range(4 * rate_hz):
        tracks = tracker.update(
            scene(i / rate_hz, mm, rng),
            round(i * 1e9 / rate_hz),
            spacing_mm=(mm, mm) if known else None,
        )
        if i > rate_hz:
            believed = [t for t in tracks if t.status is not TrackStatus.TENTATIVE]
            ids |= {t.id for t in believed}
            slide_mm = 15 + 3 * math.sin(2 * math.pi * 0.2 * i / rate_hz)
            true_mm = [(x + slide_mm, y) for x, y, _ in VEINS_MM]
            assert len(believed) == 3
            for track in believed:
                errors_mm.append(min(math.dist(track.centroid_px * mm, at) for at in true_mm))
    assert len(ids) == 3
    assert max(errors_mm) < 1.5  # of which the sway, which is not in the truth here, is 0.4
