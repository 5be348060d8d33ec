"""A track's life, told from outside, and what must not change its answer."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from veintrack.tracker.frame import Detection, PictureState, Track, TrackStatus
from veintrack.tracker.tracks import TrackSettings, VeinTracker

FRAME_NS = 33_333_333


def found(x: float, y: float, *, sigma_px: float = 1.0, size: float = 20.0) -> Detection:
    return Detection(
        centroid_px=np.array([x, y], np.float64),
        covariance_px2=sigma_px**2 * np.eye(2),
        area_px2=np.pi * size**2 / 4,
        axes_px=(size, size),
        angle_rad=0.0,
        score=0.9,
        box_px=(x - size / 2, y - size / 2, size, size),
    )


def run(
    tracker: VeinTracker, frames: Sequence[Sequence[Detection]], start: int = 0
) -> list[list[Track]]:
    return [tracker.update(d, (start + i) * FRAME_NS) for i, d in enumerate(frames)]


def states(history: list[list[Track]], track_id: int = 1) -> list[str]:
    return [t.status.value for tracks in history for t in tracks if t.id == track_id]


def strong(x: float, y: float) -> Detection:
    return replace(found(x, y), score=0.95)


def test_a_strong_vessel_is_believed_when_it_was_seen_for_a_tenth_of_a_second() -> None:
    history = run(VeinTracker(), [[strong(50, 60)]] * 5)
    assert states(history) == ["tentative"] * 3 + ["confirmed"] * 2


def test_the_weaker_what_is_seen_the_longer_it_takes_to_believe_it() -> None:
    times = []
    for score in (0.95, 0.88, 0.8):
        history = run(VeinTracker(), [[replace(found(50, 60), score=score)]] * 60)
        times.append(states(history).index("confirmed"))
    assert times == sorted(set(times))


def test_a_track_is_predicted_for_no_longer_than_it_was_seen() -> None:
    history = run(VeinTracker(), [[strong(50, 60)]] * 10 + [[]] * 30)
    assert states(history).count("coasting") == 9
    history = run(VeinTracker(TrackSettings(coast_s=0.5)), [[strong(50, 60)]] * 60 + [[]] * 30)
    assert states(history).count("coasting") == 15


def test_while_no_frame_comes_nothing_speaks_against_a_track() -> None:
    tracker = VeinTracker()
    run(tracker, [[strong(50, 60)]] * 6)
    assert [t.status.value for t in tracker.coast(5 * FRAME_NS + 900_000_000)] == ["coasting"]
    assert [t.status.value for t in tracker.coast(5 * FRAME_NS + 1_100_000_000)] == ["lost"]


def test_a_false_alarm_that_comes_and_goes_does_not_live_on() -> None:
    flicker = [[strong(50, 60)] if i % 3 == 0 else [] for i in range(60)]
    history = run(VeinTracker(), [[strong(50, 60)]] * 10 + flicker)
    assert "lost" in states(history[:40])


def test_what_was_lost_and_is_found_in_its_place_goes_on_under_its_number() -> None:
    tracker = VeinTracker(TrackSettings(coast_s=0.3))
    run(tracker, [[strong(50, 60), strong(200, 60)]] * 20)
    history = run(tracker, [[strong(200, 60)]] * 30, 20)
    assert states(history)[-1] == "lost"
    assert [t.id for t in history[-1]] == [2]
    (back,) = run(tracker, [[strong(54, 62), strong(200, 60)]], 50)
    assert [(t.id, t.status.value) for t in back] == [(1, "confirmed"), (2, "confirmed")]


@pytest.mark.parametrize(
    ("late_s", "x", "size"), [(4.0, 50, 20.0), (1.0, 90, 20.0), (1.0, 50, 60.0)]
)
def test_what_is_found_too_late_or_elsewhere_or_of_another_size_is_new(
    late_s: float, x: float, size: float
) -> None:
    tracker = VeinTracker(TrackSettings(coast_s=0.3))
    run(tracker, [[strong(50, 60), strong(200, 60)]] * 20)
    frames = 20 + round(late_s * 30)
    run(tracker, [[strong(200, 60)]] * (frames - 20), 20)
    (now,) = run(tracker, [[replace(found(x, 60, size=size), score=0.95), strong(200, 60)]], frames)
    assert [t.id for t in now] == [2, 3]


def test_a_single_false_alarm_is_never_believed_and_ends() -> None:
    history = run(VeinTracker(), [[found(50, 60)], [], [], [], [], []])
    assert states(history) == ["tentative", "tentative", "tentative", "tentative", "lost"]
    assert history[-1] == []


def test_a_vessel_that_vanishes_coasts_with_growing_covariance_then_is_lost() -> None:
    tracker = VeinTracker(TrackSettings(coast_s=0.2))
    history = run(tracker, [[found(50, 60)]] * 10 + [[]] * 8)
    assert states(history)[10:] == ["coasting"] * 6 + ["lost"]
    spread = [float(np.trace(t.covariance_px2)) for tracks in history[9:16] for t in tracks]
    assert spread == sorted(spread)
    assert len(set(spread)) == len(spread)
    assert tracker.confirmed_count == 1


def test_a_coasting_vessel_that_comes_back_keeps_its_identity() -> None:
    seen = [[found(50 + 2 * i, 60)] for i in range(15)]
    back = [[found(50 + 2 * i, 60)] for i in range(25, 30)]
    history = run(VeinTracker(), seen + [[]] * 10 + back)
    assert {t.id for tracks in history for t in tracks} == {1}
    assert states(history)[-1] == "confirmed"


def test_a_coasting_track_has_no_shape_and_its_box_moves_along() -> None:
    seen = [[found(50 + 3 * i, 60)] for i in range(10)]
    last = run(VeinTracker(), [*seen, []])[-1][0]
    assert last.status is TrackStatus.COASTING
    assert last.detection is None
    assert last.measurement is None
    assert last.box_px[0] + last.box_px[2] / 2 == pytest.approx(last.centroid_px[0])
    assert last.centroid_px[0] > 78


def test_velocity_is_per_second_whatever_the_frame_rate() -> None:
    for rate_hz in (5, 30, 120):
        tracker = VeinTracker(TrackSettings(gate=1e4))
        for i in range(3 * rate_hz):
            (track,) = tracker.update([found(100 + 40 * i / rate_hz, 60)], round(i * 1e9 / rate_hz))
        assert_allclose(track.velocity_px_s, [40, 0], atol=2)


def test_an_outline_that_loses_a_part_for_a_frame_hardly_draws_its_track_along() -> None:
    drawn = []
    for area in (1.0, 0.8):
        tracker = VeinTracker()
        run(tracker, [[found(50, 60, size=40)]] * 20)
        (after,) = run(tracker, [[found(54, 60, size=40 * area**0.5)]], 20)
        drawn.append(after[0].centroid_px[0] - 50)
    assert 0 < drawn[1] < drawn[0] / 3


def test_a_change_of_size_that_stays_is_soon_believed() -> None:
    tracker = VeinTracker()
    run(tracker, [[found(50, 60, size=40)]] * 20)
    *_, after = run(tracker, [[found(54, 60, size=34)]] * 10, 20)
    assert_allclose(after[0].centroid_px, [54, 60], atol=0.5)


def test_two_vessels_that_pass_each_other_keep_their_identities() -> None:
    frames = [[found(100 + 2 * i, 100), found(220 - 2 * i, 112)] for i in range(60)]
    last = run(VeinTracker(), frames)[-1]
    assert [round(t.centroid_px[0]) for t in last] == [218, 102]
    assert [t.id for t in last] == [1, 2]


def test_the_order_of_detections_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    frames = [[found(50 + i, 60), found(150, 60 + i), found(250 - i, 200)] for i in range(20)]
    shuffled = [[f[0], *(f[k] for k in 1 + rng.permutation(2))] for f in frames]
    # Identities follow the order of birth, so only later frames are shuffled.
    a = run(VeinTracker(), frames)
    b = run(VeinTracker(), frames[:1] + shuffled[1:])
    for left, right in zip(a[-1], b[-1], strict=True):
        assert left.id == right.id
        assert_allclose(left.centroid_px, right.centroid_px)


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.floats(0, 640), st.floats(0, 480)), max_size=4), max_size=12))
def test_mirrored_input_gives_mirrored_tracks(frames: list[list[tuple[float, float]]]) -> None:
    # Mirrored about x = 0: changing a sign rounds nothing, so even ties are decided alike.
    plain = run(VeinTracker(), [[found(x, y) for x, y in f] for f in frames])
    mirrored = run(VeinTracker(), [[found(-x, y) for x, y in f] for f in frames])
    for left, right in zip(plain, mirrored, strict=True):
        assert [(t.id, t.status) for t in left] == [(t.id, t.status) for t in right]
        for a, b in zip(left, right, strict=True):
            assert_allclose(a.centroid_px, b.centroid_px * [-1, 1], atol=1e-9)
            assert_allclose(a.velocity_px_s, b.velocity_px_s * [-1, 1], atol=1e-9)


def test_each_tracker_counts_its_own_identities() -> None:
    run(VeinTracker(), [[found(1, 1)]] * 3)
    assert run(VeinTracker(), [[found(5, 5)]])[0][0].id == 1


def test_a_repeated_stamp_is_taken_and_an_earlier_frame_passed_over() -> None:
    tracker = VeinTracker()
    run(tracker, [[found(5, 5)]] * 4)
    now_ns = 3 * FRAME_NS
    (before,) = tracker.update([found(5, 5)], now_ns)
    (late,) = tracker.update([found(9, 9), found(100, 100)], now_ns - FRAME_NS)
    assert before.detection is not None
    assert (late.time_ns, late.status) == (now_ns, TrackStatus.CONFIRMED)
    assert_allclose(late.centroid_px, before.centroid_px)
    (after,) = tracker.update([found(5, 5)], now_ns + FRAME_NS)
    assert (after.id, after.status) == (1, TrackStatus.CONFIRMED)


def test_a_clock_that_is_set_back_ends_the_tracks_and_begins_anew() -> None:
    tracker = VeinTracker()
    for i in range(5):
        tracker.update([strong(50, 60)], 10**12 + i * FRAME_NS)
    history = run(tracker, [[strong(50, 60)]] * 4)
    assert states(history)[0] == "lost"
    assert states(history, 2) == ["tentative", "tentative", "tentative", "confirmed"]


def test_repeated_stamps_of_a_slow_source_make_no_gaps() -> None:
    tracker = VeinTracker()
    history = [tracker.update([found(50, 60)], i // 2 * 2 * 10**9) for i in range(12)]
    assert len({t.id for tracks in history[4:] for t in tracks}) == 1


def test_settings_must_be_positive_and_finite() -> None:
    with pytest.raises(ValueError, match=r"coast_s must be greater than 0 and finite, got 0"):
        TrackSettings(coast_s=0)
    with pytest.raises(ValueError, match=r"gate must be greater than 0 and finite, got inf"):
        TrackSettings(gate=float("inf"))
    with pytest.raises(ValueError, match=r"bias_px must be finite and not negative, got -1"):
        TrackSettings(bias_px=-1)


def test_what_no_detection_and_no_picture_can_be_is_refused_and_changes_nothing() -> None:
    tracker, same = VeinTracker(), VeinTracker()
    for one in (tracker, same):
        run(one, [[strong(50, 60)]] * 6)
    now_ns = 6 * FRAME_NS
    broken = replace(found(50, 60), area_px2=float("nan"))
    with pytest.raises(ValueError, match=r"area_px2, axes_px, angle_rad and score must be finite"):
        tracker.update([broken], now_ns)
    with pytest.raises(ValueError, match=r"spacing_mm must be positive and finite, got \(0\.1, 0"):
        tracker.update([], now_ns, spacing_mm=(0.1, 0.0))
    with pytest.raises(ValueError, match=r"area_px must have a width and a height above 0, got"):
        tracker.update([], now_ns, area_px=(0, 0, 0, 100))
    (after,), (untouched,) = (t.update([strong(50, 60)], now_ns) for t in (tracker, same))
    assert_allclose(after.centroid_px, untouched.centroid_px)


def test_what_is_told_is_the_readers_own() -> None:
    tracker, same = VeinTracker(), VeinTracker()
    for one in (tracker, same):
        run(one, [[strong(50, 60)]] * 6)
    (now,) = tracker.update([strong(50, 60)], 6 * FRAME_NS)
    same.update([strong(50, 60)], 6 * FRAME_NS)
    for numbers in (now.centroid_px, now.velocity_px_s, now.covariance_px2, now.state_cov):
        assert numbers is not None
        numbers *= 0.08  # to millimetres, in place
    (after,), (untouched,) = (t.update([strong(50, 60)], 7 * FRAME_NS) for t in (tracker, same))
    assert_allclose(after.centroid_px, untouched.centroid_px)
    assert_allclose(after.covariance_px2, untouched.covariance_px2)


def test_a_weak_detection_goes_on_with_a_track_but_starts_none() -> None:
    weak = replace(found(50, 60), score=0.5)
    tracker = VeinTracker(TrackSettings(birth_score=0.75))
    history = run(tracker, [[weak]] * 3 + [[strong(50, 60)]] * 4 + [[weak]])
    assert history[:3] == [[], [], []]
    assert states(history) == ["tentative"] * 3 + ["confirmed"] * 2
    assert history[-1][0].detection is weak


def test_between_frames_tracks_are_predicted_and_nothing_is_taken_in() -> None:
    tracker, same = VeinTracker(), VeinTracker()
    for one in (tracker, same):
        run(one, [[found(50 + 2 * i, 60)] for i in range(8)])
    now_ns = 8 * FRAME_NS
    (ahead,) = tracker.coast(now_ns)
    assert ahead.status is TrackStatus.COASTING
    assert ahead.detection is None
    assert ahead.centroid_px == pytest.approx([66, 60], abs=1.0)
    (further,) = tracker.coast(now_ns + 5 * FRAME_NS)
    assert further.centroid_px[0] > ahead.centroid_px[0]
    assert np.trace(further.covariance_px2) > np.trace(ahead.covariance_px2)
    # The next frame finds the tracker as if nobody had looked.
    (after,), (untouched,) = (t.update([found(66, 60)], now_ns) for t in (tracker, same))
    assert after.status is TrackStatus.CONFIRMED
    assert_allclose(after.centroid_px, untouched.centroid_px)
    assert_allclose(after.covariance_px2, untouched.covariance_px2)


def test_without_frames_a_track_ends_when_its_time_is_over_and_its_number_is_not_used_again() -> (
    None
):
    tracker = VeinTracker(TrackSettings(coast_s=0.5))
    run(tracker, [[found(50, 60)]] * 20)
    end_ns = 19 * FRAME_NS
    assert [t.status.value for t in tracker.coast(end_ns + 400_000_000)] == ["coasting"]
    assert [t.status.value for t in tracker.coast(end_ns + 600_000_000)] == ["lost"]
    assert tracker.coast(end_ns + 700_000_000) == []
    assert [t.id for t in tracker.update([found(50, 60)], end_ns + 800_000_000)] == [2]


def test_a_look_between_frames_at_an_earlier_time_tells_of_the_last_frame() -> None:
    tracker = VeinTracker()
    run(tracker, [[found(50 + 2 * i, 60)] for i in range(8)])
    (told,), (now,) = tracker.coast(0), tracker.coast(7 * FRAME_NS)
    assert told.time_ns == now.time_ns == 7 * FRAME_NS
    assert_allclose(told.centroid_px, now.centroid_px)


def test_a_frozen_picture_keeps_tracks_where_they_are_and_teaches_nothing() -> None:
    tracker = VeinTracker(TrackSettings(coast_s=0.5))
    (before,) = run(tracker, [[found(50 + 2 * i, 60)] for i in range(8)])[-1]
    for i in range(8, 68):  # two seconds, far more than a track may go unseen
        (held,) = tracker.update([found(64, 60)], i * FRAME_NS, picture=PictureState.FROZEN)
    assert held.status is TrackStatus.CONFIRMED
    assert held.measurement is not None
    assert_allclose(held.centroid_px, before.centroid_px)
    assert_allclose(held.covariance_px2, before.covariance_px2)
    (thawed,) = tracker.update([found(66, 60)], 68 * FRAME_NS)
    assert (thawed.id, thawed.status) == (1, TrackStatus.CONFIRMED)


def test_a_frozen_picture_starts_no_track_and_loses_those_that_it_does_not_show() -> None:
    tracker = VeinTracker(TrackSettings(coast_s=0.5))
    run(tracker, [[found(50, 60)]] * 20)
    history = [
        tracker.update([found(200, 60)], i * FRAME_NS, picture=PictureState.FROZEN)
        for i in range(20, 80)
    ]
    assert states(history)[:15] == ["coasting"] * 15
    assert states(history)[15:] == ["lost"]
    assert history[-1] == []


def test_a_gap_longer_than_a_track_may_go_unseen_ends_them_all() -> None:
    tracker = VeinTracker()
    run(tracker, [[found(50, 60)]] * 5)
    after = tracker.update([found(52, 60)], 60 * 10**9)
    assert [(t.id, t.status.value) for t in after] == [(1, "lost"), (2, "tentative")]


def test_a_slow_source_has_no_gaps() -> None:
    tracker = VeinTracker()
    history = [tracker.update([found(50, 60)], i * 2 * 10**9) for i in range(8)]
    assert history[-1][0].status is TrackStatus.CONFIRMED
    assert len({t.id for tracks in history[2:] for t in tracks}) == 1


@pytest.mark.parametrize(
    ("picture", "first"),
    [
        (PictureState.GOOD, "confirmed"),
        (PictureState.FROZEN, "confirmed"),
        (PictureState.NO_CONTACT, "lost"),
    ],
)
def test_a_jump_of_the_picture_ends_what_it_does_not_show(
    picture: PictureState, first: str
) -> None:
    tracker = VeinTracker()
    run(tracker, [[found(50, 60), found(150, 60)]] * 5)
    after = tracker.update([found(50, 60)], 5 * FRAME_NS, picture=picture, jumped=True)
    assert [(t.id, t.status.value) for t in after] == [(1, first), (2, "lost")]


@pytest.mark.parametrize("at_once", [True, False])
def test_after_a_jump_of_the_picture_no_old_number_comes_back(at_once: bool) -> None:
    tracker = VeinTracker(TrackSettings(coast_s=0.3))
    run(tracker, [[strong(50, 60), strong(200, 60)]] * 20)
    run(tracker, [[strong(200, 60)]] * 30, 20)
    back, gone = [strong(50, 60), strong(200, 60)], [strong(200, 60)]
    after = tracker.update(back if at_once else gone, 50 * FRAME_NS, jumped=True)
    after = tracker.update(back, 51 * FRAME_NS)
    assert [t.id for t in after] == [2, 3]
