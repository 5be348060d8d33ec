"""Who is who where vessels touch, hide each other, and fall into pieces."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import linear_sum_assignment

from tests.tracker.association_scene import GATE, expected, found, track_of
from tests.tracker.vessel_maps import Vessel, seen
from veintrack.tracker import kalman
from veintrack.tracker.association import (
    Expected,
    Matches,
    associate,
    mahalanobis2,
)
from veintrack.tracker.frame import F64, Detection, Shape
from veintrack.tracker.kalman import Gaussian

RATE_HZ = 30.0
ACCEL_PSD_PX2_S3 = 3000.0
Moves = Callable[[float], list[Vessel]]


def blind(detections: Sequence[Detection]) -> list[Detection]:
    return [replace(d, patch=None) for d in detections]


def indices(matches: Matches, detections: Sequence[Detection]) -> list[tuple[int, int]]:
    """Pairs by number; only where all was seen as it was found."""
    return [(t, [d is o for o in detections].index(True)) for t, d in matches.pairs]


def centroids_only(
    tracks: Sequence[Expected], detections: Sequence[Detection], gate: float
) -> Matches:
    """Pair by the distance of centroids alone, one detection a track at most."""
    if not detections:
        return Matches([], list(range(len(tracks))), [])
    distance2, log_det = mahalanobis2([t.state for t in tracks], detections)
    cost = np.where(distance2 <= gate, distance2 + log_det, 1e6)
    pairs = [
        (int(t), int(d))
        for t, d in zip(*linear_sum_assignment(cost), strict=True)
        if cost[t, d] < 1e6
    ]
    tracks_left, found_left = (
        sorted(set(range(n)) - {p[i] for p in pairs}) for i, n in enumerate(cost.shape)
    )
    return Matches([(t, detections[d]) for t, d in pairs], tracks_left, found_left)


def follow(
    moves: Moves,
    until_s: float,
    pair: Callable[[Sequence[Expected], Sequence[Detection], float], Matches] = associate,
    see: Callable[[list[Vessel], float], list[Detection]] = lambda vessels, _: seen(vessels),
    rate_hz: float = RATE_HZ,
) -> tuple[F64, list[Matches]]:
    """Follow vessels that are known at first; how far each track is off its vessel, (N, T)."""
    start = moves(0.0)
    states = [kalman.birth(v.xy_px, np.eye(2), 60.0) for v in start]
    move = kalman.step(1 / rate_hz, ACCEL_PSD_PX2_S3)
    off_px, all_matches = [], []
    for i in range(1, round(until_s * rate_hz)):
        vessels = moves(i / rate_hz)
        states = kalman.predict(states, move)
        tracks = [
            Expected(s, v.place.shape, v.place.shape.area_sd)
            for s, v in zip(states, start, strict=True)
        ]
        matches = pair(tracks, see(vessels, i / rate_hz), GATE)
        states = updated(states, matches)
        off_px.append(
            [math.dist(s.position_px, v.xy_px) for s, v in zip(states, vessels, strict=True)]
        )
        all_matches.append(matches)
    return np.array(off_px), all_matches


def updated(states: Sequence[Gaussian], matches: Matches) -> list[Gaussian]:
    after = list(states)
    if matches.pairs:
        tracks = [t for t, _ in matches.pairs]
        blended = kalman.update(
            [states[t] for t in tracks],
            np.array([d.centroid_px for _, d in matches.pairs]),
            np.array([d.covariance_px2 for _, d in matches.pairs]),
        )
        for t, state in zip(tracks, blended, strict=True):
            after[t] = state
    return after


def rms(off_px: F64) -> float:
    return float(np.sqrt(np.mean(off_px**2)))


# Pairs.


def test_the_gate_forbids_pairs_and_its_distance_is_chi_squared() -> None:
    track, near = expected(10, 10, sigma_px=math.sqrt(3)), found(12, 10)
    distance2, log_det = mahalanobis2([track.state], [near])
    assert distance2[0, 0] == pytest.approx(4 / 4)
    assert log_det[0, 0] == pytest.approx(np.log(16))
    far = found(60, 10)
    assert associate([track], [near], 2.0).pairs == [(0, near)]
    assert associate([track], [far], 2.0)[:3] == ([], [0], [0])


def test_nothing_expected_or_nothing_found_leaves_all_free() -> None:
    assert associate([], [found(1, 1)], GATE)[:3] == ([], [], [0])
    assert associate([expected(1, 1)], [], GATE)[:3] == ([], [0], [])


def test_the_assignment_is_best_as_a_whole_not_pair_by_pair() -> None:
    tracks = [expected(x, 0) for x in (0.0, 3.0)]
    # The nearest pair is (1, 0); taking it would leave track 0 without its only candidate.
    both = [found(2.5, 0), found(6, 0)]
    assert indices(associate(tracks, both, 8.0), both) == [(0, 0), (1, 1)]


def test_a_vague_track_takes_no_detection_from_a_certain_one() -> None:
    tracks, one = [expected(0, 0, sigma_px=20.0), expected(4, 0)], [found(2, 0)]
    assert [t for t, _ in associate(tracks, one, GATE).pairs] == [1]


def test_of_two_as_near_the_one_of_the_expected_size_is_taken() -> None:
    both = [found(97, 100, size=8), found(103, 100, size=30)]
    for size, which in ((9, 0), (29, 1)):
        matches = associate([expected(100, 100, size=size, sigma_px=3)], both, GATE)
        assert indices(matches, both) == [(0, which)]


def test_a_track_that_may_reappear_elsewhere_is_looked_for_there() -> None:
    track, away = expected(100, 100), [found(140, 100)]
    assert associate([track], away, GATE).pairs == []
    wider = track._replace(extra_px2=400.0)
    assert indices(associate([wider], away, GATE), away) == [(0, 0)]


def test_a_detection_of_quite_another_size_is_less_certain() -> None:
    track = expected(100, 100, size=40)
    ((_, alike),) = associate([track], [found(101, 100, size=38)], GATE).pairs
    ((_, part),) = associate([track], [found(101, 100, size=20)], GATE).pairs
    assert np.trace(alike.covariance_px2) == pytest.approx(2)
    assert np.trace(part.covariance_px2) > 100


def test_what_lies_in_a_tracks_place_is_taken_beyond_the_gate_and_trusted_little() -> None:
    track, shadowed = expected(100, 100, size=40), found(109, 100, size=34)
    matches = associate([track], [shadowed], GATE)
    ((_, seen_now),) = matches.pairs
    assert seen_now.covariance_px2[0, 0] > 80
    assert matches.free_detections == []
    assert associate([track], [found(150, 100, size=34)], GATE).free_detections == [0]
    assert associate([track], [found(109, 100, size=5)], GATE).free_detections == [0]


# One blob, several vessels.


def touching(t: float, overlap_px: float = 2.0) -> list[Vessel]:
    """Two vessels that come near for a second, touch for two, and part."""
    apart_px = 30 * max(0.0, 1 - t) + 30 * max(0.0, t - 3) - overlap_px / 2
    return [
        Vessel(276 - apart_px, 240, 24, 18, 0.2),
        Vessel(324 + apart_px, 240, 24, 18, -0.2),
    ]


def test_two_vessels_that_touch_for_two_seconds_and_part_stay_who_they_are() -> None:
    off_px, matches = follow(touching, 4.0)
    assert off_px.max() < 1.5
    assert rms(off_px) < 0.5
    assert sum(len(m.pairs) == 2 for m in matches) == len(matches)
    cut = sum(all(d.parts_of for _, d in m.pairs) for m in matches)
    assert 55 <= cut <= 75
    assert not any(m.free_detections for m in matches)


def test_where_centroids_alone_would_lose_them() -> None:
    off_px, matches = follow(touching, 4.0, centroids_only)
    assert off_px.max() > 20
    assert any(m.free_detections for m in matches)


@pytest.mark.parametrize("rate_hz", [15.0, 60.0])
def test_they_stay_who_they_are_at_other_frame_rates_while_the_probe_slides(
    rate_hz: float,
) -> None:
    def slide(t: float) -> list[Vessel]:
        return [v.moved(40 * math.sin(math.pi * t), 0) for v in touching(t)]

    off_px, _ = follow(slide, 4.0, rate_hz=rate_hz)
    assert off_px.max() < 6
    assert off_px[-1].max() < 1.5


def test_parts_do_not_drift_while_a_blob_stays_merged() -> None:
    off_px, _ = follow(lambda t: touching(min(t, 2.0)), 8.0)
    assert off_px[-30:].max() < 1.5


def test_three_that_touch_stay_who_they_are() -> None:
    def three(t: float) -> list[Vessel]:
        apart = 30 * max(0.0, 1 - t) + 30 * max(0.0, t - 2)
        return [
            Vessel(276 - apart, 240, 22, 16),
            Vessel(320, 240, 23, 18, 0.3),
            Vessel(364 + apart, 240, 22, 16),
        ]

    off_px, _ = follow(three, 3.0)
    assert off_px.max() < 2


@pytest.mark.parametrize("speed_px_s", [30.0, 60.0, 120.0])
@pytest.mark.parametrize(("off_px", "small"), [(0.0, 1.0), (10.0, 1.0), (0.0, 0.55)])
def test_vessels_that_pass_behind_each_other_come_out_on_the_other_side(
    speed_px_s: float, off_px: float, small: float
) -> None:
    def crossing(t: float) -> list[Vessel]:
        x = 65 - speed_px_s * t
        return [
            Vessel(320 - x, 240 - off_px / 2, 24, 18),
            Vessel(320 + x, 240 + off_px / 2, 24 * small, 18 * small, 0.3),
        ]

    away_px, _ = follow(crossing, 130 / speed_px_s)
    assert away_px[-1].max() < 3
    assert away_px.max() < 12


def test_a_vessel_that_another_hides_coasts_and_does_not_drag_it() -> None:
    big, small = Vessel(300, 240, 40, 30), Vessel(310, 244, 14, 12)
    blob = seen([big, small])
    matches = associate([track_of(big), track_of(small)], blob, GATE)
    ((who, whole),) = matches.pairs
    assert who == 0
    assert matches.free_tracks == [1]
    assert whole.parts_of == (blob[0],)
    assert matches.free_detections == []


def test_a_small_vessel_beside_a_big_one_stays_beside_it() -> None:
    def moves(t: float) -> list[Vessel]:
        apart = 25 * max(0.0, 1 - t) + 25 * max(0.0, t - 3)
        pulse = 1 + 0.05 * math.sin(2 * math.pi * 1.2 * t)
        return [Vessel(300, 240, 40 * pulse, 30), Vessel(350 + apart, 240, 10, 10)]

    off_px, matches = follow(moves, 4.0)
    assert off_px.max() < 4
    assert all(len(m.pairs) == 2 for m in matches)


def test_a_track_that_is_not_believed_shares_nothing() -> None:
    pair = touching(2.0)
    tracks = [track_of(v) for v in pair]
    blob = seen(pair)
    assert len(associate(tracks, blob, GATE).pairs) == 2
    matches = associate([tracks[0], tracks[1]._replace(believed=False)], blob, GATE)
    assert [t for t, _ in matches.pairs] == [0]
    assert matches.free_tracks == [1]


def test_a_vague_track_far_away_does_not_share_the_blob_of_one_that_lies_in_it() -> None:
    lost, there = expected(90_000, 60_000, sigma_px=50_000), expected(289, 200, size=30)
    blob = found(300, 200, size=60)
    matches = associate([lost, there], [blob], GATE)
    assert [t for t, _ in matches.pairs] == [1]
    assert matches.free_tracks == [0]


def test_a_track_of_a_mere_piece_gets_nothing_of_the_healed_vessel_unless_it_is_settled() -> None:
    whole = Vessel(300, 240, 44, 22)
    tracks = [track_of(Vessel(292, 240, 36, 22)), track_of(Vessel(328, 240, 14, 18))]
    young = tracks[1]._replace(settled=False)
    assert len(associate(tracks, seen([whole]), GATE).pairs) == 2
    assert [t for t, _ in associate([tracks[0], young], seen([whole]), GATE).pairs] == [0]


# One vessel, several blobs.


@pytest.mark.parametrize("gap_px", [6.0, 10.0, 16.0])
def test_a_vessel_that_falls_into_pieces_for_some_frames_is_one_track(gap_px: float) -> None:
    def moves(t: float) -> list[Vessel]:
        return [Vessel(250 + 30 * t, 240, 40, 26, 0.1)]

    def see(vessels: list[Vessel], t: float) -> list[Detection]:
        divided = 0.8 <= t < 1.2
        return seen(vessels, gap_px=(vessels[0].x + 5, gap_px) if divided else None)

    off_px, matches = follow(moves, 2.0, see=see)
    assert off_px.max() < 3
    assert not any(m.free_detections for m in matches)
    assert 10 <= sum(len(d.parts_of) == 2 for m in matches for _, d in m.pairs) <= 13
    alone, others = follow(moves, 2.0, centroids_only, see=see)
    assert alone.max() > 10
    assert any(m.free_detections for m in others)


def test_two_vessels_beside_each_other_are_not_joined() -> None:
    one, other = Vessel(270, 240, 25, 25), Vessel(328, 240, 25, 25)
    lost_size = track_of(one)._replace(shape=Vessel(0, 0, 40, 30).place.shape)
    matches = associate([lost_size], seen([one, other]), GATE)
    assert len(matches.free_detections) == 1
    assert not matches.pairs[0][1].parts_of


# Without pixels.


def test_without_pixels_nobody_is_swapped_where_two_touch() -> None:
    off_px, _ = follow(touching, 4.0, see=lambda vessels, _: blind(seen(vessels)))
    assert off_px[-1].max() < 3
    assert off_px.max() < 12


def test_without_pixels_pieces_are_joined_by_their_moments() -> None:
    vessel = Vessel(300, 240, 40, 26, 0.1)
    pieces = blind(seen([vessel], gap_px=(306, 6)))
    ((_, whole),) = associate([track_of(vessel)], pieces, GATE).pairs
    assert len(whole.parts_of) == 2
    assert_allclose(whole.centroid_px, vessel.xy_px, atol=1.5)


# What must not matter.

vessels = st.builds(
    Vessel,
    st.floats(150, 500),
    st.floats(120, 360),
    st.floats(15, 40),
    st.floats(12, 30),
    st.floats(-1.5, 1.5),
)
scenes = st.lists(
    st.tuples(vessels, st.floats(-8, 8), st.floats(-8, 8), st.booleans()), min_size=1, max_size=5
)


def described(matches: Matches) -> dict[int, tuple[float, ...]]:
    return {
        t: (*d.centroid_px, d.area_px2, *d.covariance_px2.ravel(), float(len(d.parts_of)))
        for t, d in matches.pairs
    }


_ROUND = Vessel(150.0, 120.0, 15.0, 12.0, 0.0)


@settings(max_examples=40, deadline=None)
@given(scenes, st.floats(100, 500), st.integers(0, 999))
@example(  # two tracks in one place, and one vessel in two like halves
    [(_ROUND, 0.0, 0.0, False), (_ROUND, 0.0, 0.0, True), (_ROUND.moved(317.0, 0), 0.0, 0.0, True)],
    467.0,
    0,
)
def test_the_order_of_detections_does_not_matter(
    scene: list[tuple[Vessel, float, float, bool]], gap_at: float, seed: int
) -> None:
    detections = seen([v for v, _, _, shown in scene if shown], gap_px=(gap_at, 8))
    tracks = [track_of(v.moved(dx, dy), 3.0) for v, dx, dy, _ in scene]
    order = np.random.default_rng(seed).permutation(len(detections))
    plain = associate(tracks, detections, GATE)
    mixed = associate(tracks, [detections[d] for d in order], GATE)
    assert mixed.free_tracks == plain.free_tracks
    assert sorted(int(order[d]) for d in mixed.free_detections) == plain.free_detections
    assert described(mixed).keys() == described(plain).keys()
    for t, values in described(plain).items():
        assert described(mixed)[t] == pytest.approx(values, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(scenes, st.booleans())
def test_mirrored_vessels_are_matched_to_mirrored_tracks(
    scene: list[tuple[Vessel, float, float, bool]], pixels: bool
) -> None:
    shown = [v for v, _, _, here in scene if here]
    expected_at = [v.moved(dx, dy) for v, dx, dy, _ in scene]
    detections, mirrored = seen(shown), seen([v.mirrored() for v in shown])
    if not pixels:
        detections, mirrored = blind(detections), blind(mirrored)
    plain = associate([track_of(v, 3.0) for v in expected_at], detections, GATE)
    flipped = associate([track_of(v.mirrored(), 3.0) for v in expected_at], mirrored, GATE)
    assert flipped.free_tracks == plain.free_tracks
    assert len(flipped.free_detections) == len(plain.free_detections)
    for (t, a), (u, b) in itertools.zip_longest(plain.pairs, flipped.pairs):
        assert t == u
        assert_allclose(b.centroid_px, [639 - a.centroid_px[0], a.centroid_px[1]], atol=0.05)
        assert b.area_px2 == pytest.approx(a.area_px2, rel=1e-2)
        assert len(a.parts_of) == len(b.parts_of)


def test_any_number_of_tracks_and_detections_at_one_place_is_taken() -> None:
    for tracks, detections in itertools.product(range(5), range(5)):
        matches = associate([expected(50, 50)] * tracks, [found(50, 50)] * detections, GATE)
        assert len(matches.pairs) + len(matches.free_tracks) == tracks
        assert len({t for t, _ in matches.pairs}) == len(matches.pairs)


sizes = st.one_of(st.just(0.0), st.floats(0, 200))
things = st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60), sizes, sizes), max_size=5)


@settings(max_examples=80, deadline=None)
@given(things, things)
@example([(0.0, 7.0, 0.0, 0.0), (0.0, 6.0, 0.0, 7.0)], [(0.0, 7.0, 0.0, 6.0)])
def test_whatever_somebody_else_found_is_taken_even_if_it_has_no_size(
    places: list[tuple[float, float, float, float]], made: list[tuple[float, float, float, float]]
) -> None:
    def elongated(x: float, y: float, one: float, other: float) -> Detection:
        axes_px = max(one, other), min(one, other)
        return replace(found(x, y, size=1.0), axes_px=axes_px, area_px2=one * other)

    tracks = [
        expected(x, y)._replace(shape=Shape(a * b, max(a, b), min(a, b), 0.3, 0.0), area_sd=0.0)
        for x, y, a, b in places
    ]
    matches = associate(tracks, [elongated(*m) for m in made], GATE)
    assert len(matches.pairs) + len(matches.free_tracks) == len(tracks)
    for _, detection in matches.pairs:
        assert np.isfinite(detection.covariance_px2).all()
        assert np.linalg.eigvalsh(detection.covariance_px2).min() > 0
