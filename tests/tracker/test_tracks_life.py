"""Why a vessel may not be seen, and what becomes of its track."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.tracker.vessel_maps import Vessel, seen
from veintrack.tracker.frame import Detection, PictureState, ProbeMotion, Track, TrackStatus
from veintrack.tracker.tracks import TrackSettings, VeinTracker

STEP_NS = 40_000_000
AREA = (0, 0, 640, 480)


def oval(
    x: float, y: float, width: float = 60.0, height: float = 40.0, score: float = 0.9
) -> Detection:
    upright = height > width
    return Detection(
        centroid_px=np.array([x, y], np.float64),
        covariance_px2=0.3 * np.eye(2),
        area_px2=math.pi / 4 * width * height,
        axes_px=(max(width, height), min(width, height)),
        angle_rad=math.pi / 2 if upright else 0.0,
        score=score,
        box_px=(x - width / 2, y - height / 2, width, height),
    )


def sliding(dx: float, dy: float = 0.0, noise_px2: float = 0.01) -> ProbeMotion:
    return ProbeMotion(np.zeros((2, 2)), np.array([dx, dy]), noise_px2)


class Scene:
    """A tracker and the time."""

    def __init__(self, tracker: VeinTracker | None = None) -> None:
        self.tracker = tracker or VeinTracker()
        self.now_ns = 0
        self.tracks: list[Track] = []

    def show(
        self,
        frames: Iterable[Sequence[Detection]],
        *,
        motion: ProbeMotion | None = None,
        picture: PictureState = PictureState.GOOD,
    ) -> list[list[Track]]:
        history = []
        for found in frames:
            self.now_ns += STEP_NS
            self.tracks = self.tracker.update(
                found,
                self.now_ns,
                spacing_mm=(0.08, 0.08),
                area_px=AREA,
                picture=picture,
                motion=motion,
            )
            history.append(self.tracks)
        return history

    @property
    def only(self) -> Track:
        (track,) = self.tracks
        return track


def press(x: float, y: float, part: float) -> list[Detection]:
    return [oval(x, y, 60 + 15 * (1 - part), max(40 * part, 1.0))] if part > 0.1 else []


def test_a_vein_that_is_pressed_flat_waits_as_collapsed_and_opens_with_its_identity() -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 25)
    scene.show(press(300, 200, p) for p in np.linspace(1, 0, 10))
    assert scene.only.status is TrackStatus.COASTING
    assert scene.only.collapsed
    shut = scene.show([[]] * 75)  # three seconds, far more than it may go unseen otherwise
    assert all(tracks[0].collapsed for tracks in shut)
    spread_px = math.sqrt(np.trace(scene.only.covariance_px2))
    assert spread_px < 40
    scene.show(press(306, 190, p) for p in np.linspace(0.15, 1, 10))
    assert (scene.only.id, scene.only.status) == (1, TrackStatus.CONFIRMED)
    assert not scene.only.collapsed
    assert_allclose(scene.only.centroid_px, [306, 190], atol=2)


@pytest.mark.parametrize("later_s", [0.04, 0.5, 3.0])
def test_what_is_hidden_is_predicted_alike_by_its_track_and_by_the_tracker(later_s: float) -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 25)
    scene.show(press(300 + 2 * i, 200, p) for i, p in enumerate(np.linspace(1, 0, 10)))
    scene.show([[]] * 3)
    later_ns = scene.now_ns + round(later_s * 1e9)
    asked = scene.only.at(later_ns)
    (told,) = scene.tracker.coast(later_ns)
    assert asked.collapsed
    assert_allclose(asked.centroid_px, told.centroid_px)
    assert_allclose(asked.velocity_px_s, told.velocity_px_s, atol=1e-9)
    assert_allclose(asked.covariance_px2, told.covariance_px2)
    assert math.sqrt(asked.covariance_px2[0, 0]) < 25


def test_a_collapsed_vein_ends_after_its_time() -> None:
    scene = Scene(VeinTracker(TrackSettings(collapsed_s=2.0)))
    scene.show([[oval(300, 200)]] * 25)
    scene.show(press(300, 200, p) for p in np.linspace(1, 0, 10))
    history = scene.show([[]] * 60)
    lasted = sum(1 for tracks in history if tracks and tracks[0].status is TrackStatus.COASTING)
    assert lasted * 0.04 == pytest.approx(2.0, abs=0.15)
    assert scene.tracks == []


def test_a_vein_does_not_open_again_far_from_where_it_was_pressed() -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 25)
    scene.show(press(300, 200, p) for p in np.linspace(1, 0, 10))
    scene.show([[]] * 10)
    scene.show([[oval(480, 200)]] * 5)
    assert {(t.id, t.status) for t in scene.tracks} == {
        (1, TrackStatus.COASTING),
        (2, TrackStatus.CONFIRMED),
    }


def test_a_vessel_that_vanishes_at_its_full_size_is_not_called_collapsed() -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 25)
    history = scene.show([[]] * 30)
    assert not any(track.collapsed for tracks in history for track in tracks)
    assert scene.tracks == []


def test_a_vessel_under_a_passing_shadow_keeps_its_identity_and_is_not_called_collapsed() -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 25)
    edges = np.linspace(270, 330, 20)
    behind = ([oval((e + 330) / 2, 200, 330 - e)] if 330 - e > 6 else [] for e in edges)
    before = ([oval((e + 270) / 2, 200, e - 270)] if e - 270 > 6 else [] for e in edges)
    scene.show(behind)
    shaded = scene.show([[]] * 30)
    assert not any(tracks[0].collapsed for tracks in shaded)
    assert_allclose(scene.only.centroid_px, [300, 200], atol=8)
    scene.show(before)
    scene.show([[oval(300, 200)]] * 5)
    assert (scene.only.id, scene.only.status) == (1, TrackStatus.CONFIRMED)


def test_a_hidden_vessel_does_not_take_what_is_weak_and_small_for_itself() -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 25)
    scene.show([oval((e + 330) / 2, 200, 330 - e)] for e in np.linspace(270, 325, 20))
    scene.show([[oval(315, 185, 20, 14, score=0.6)]] * 10)
    assert scene.only.status is TrackStatus.COASTING
    # Beside the same false alarm, what is strong is taken.
    scene.show([[oval(315, 185, 20, 14, score=0.6), oval(280, 200, 20, 30)]])
    assert (scene.only.id, scene.only.status) == (1, TrackStatus.CONFIRMED)
    assert scene.only.centroid_px[0] < 300


def test_what_is_doubted_in_a_blob_takes_it_from_no_other_vessel() -> None:
    scene, other = Scene(), oval(366, 240, 68, 60)
    scene.show([[oval(300, 240, 64, 48), other]] * 40)
    scene.show([[oval((e + 332) / 2, 240, 332 - e, 44), other] for e in np.linspace(268, 318, 20)])
    scene.show([[other]] * 8)
    assert [t.status for t in scene.tracks] == [TrackStatus.CONFIRMED, TrackStatus.COASTING]
    scene.show([[oval(345, 240, 110, 50, score=0.6)]] * 3)  # weak, and over both
    assert [t.status for t in scene.tracks] == [TrackStatus.CONFIRMED, TrackStatus.COASTING]


def test_what_is_found_again_does_not_go_back_to_where_it_faded_before() -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 50, motion=sliding(0))
    fading = [[oval(300 + (60 - w) / 2, 200, w, 40)] for w in np.linspace(60, 20, 20)]
    scene.show([*fading, *[[]] * 80], motion=sliding(0))
    assert scene.tracks == []
    scene.show([[]] * 20, motion=sliding(5))
    scene.show([[oval(415, 200, 36, 40)]] * 3, motion=sliding(0))
    assert (scene.only.id, scene.only.status) == (1, TrackStatus.CONFIRMED)
    scene.show([[oval(415, 200, 30 - 3 * i, 40)] for i in range(4)], motion=sliding(0))
    scene.show([[]], motion=sliding(0))
    assert_allclose(scene.only.centroid_px, [415, 200], atol=5)


def test_what_vanishes_while_another_vein_is_pressed_flat_is_taken_for_pressed_too() -> None:
    scene = Scene()
    scene.show([[oval(300, 200), oval(450, 220)]] * 25)
    for part in np.linspace(1, 0, 10):
        other = [oval(450, 220, 60, 40 * part)] if part > 0.7 else []  # missed as it grew flatter
        scene.show([[*press(300, 200, part), *other]])
    scene.show([[]] * 40)
    assert [(t.id, t.collapsed) for t in scene.tracks] == [(1, True), (2, True)]


def test_what_was_never_believed_is_not_called_collapsed() -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 25)
    parts = np.linspace(1, 0, 10)
    scene.show(press(300, 200, p) for p in parts[:7])
    scene.show(
        [
            [*press(300, 200, p), oval(450, 200, 60, h)]
            for p, h in zip(parts[7:9], (40, 20), strict=True)
        ]
    )
    history = scene.show([[]] * 6)
    assert [(t.id, t.collapsed) for t in scene.tracks] == [(1, True)]
    assert not any(t.collapsed for tracks in history for t in tracks if t.id == 2)


@pytest.mark.parametrize("split_s", [1.5, 4.0])
def test_two_tracks_of_the_pieces_of_one_vessel_become_one_when_it_is_whole(split_s: float) -> None:
    scene, vessel = Scene(), Vessel(300, 240, 50, 26, 0.1)
    scene.show([seen([vessel], gap_px=(300, 14))] * round(split_s * 25))
    assert [t.status for t in scene.tracks] == [TrackStatus.CONFIRMED] * 2
    scene.show([seen([vessel])] * round((split_s + 2) * 25))
    assert_allclose(scene.only.centroid_px, [300, 240], atol=1)


def test_two_vessels_that_touch_for_longer_than_they_were_apart_stay_two() -> None:
    scene, left, right = Scene(), Vessel(276, 240, 24, 18, 0.2), Vessel(323, 240, 24, 18, -0.2)
    scene.show([seen([left.moved(-12, 0), right.moved(12, 0)])] * 40)
    scene.show([seen([left.moved(-i, 0), right.moved(i, 0)]) for i in range(12, 0, -1)])
    scene.show([seen([left, right])] * 150)
    assert [t.status for t in scene.tracks] == [TrackStatus.CONFIRMED] * 2
    assert_allclose([t.centroid_px[0] for t in scene.tracks], [276, 323], atol=1)


def test_a_piece_of_a_vessel_that_is_seen_starts_no_track() -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 25)
    scene.show([[oval(289, 200, 36, 38), oval(322, 200, 14, 18)]] * 10)
    assert [t.id for t in scene.tracks] == [1]


@pytest.mark.parametrize("picture", [PictureState.NO_CONTACT, PictureState.NO_SIGNAL])
def test_while_nothing_can_be_seen_tracks_are_held_and_taken_up_again(
    picture: PictureState,
) -> None:
    scene = Scene()
    scene.show([[oval(200 + i, 200), oval(400 + i, 250)] for i in range(25)])
    before = [np.trace(t.covariance_px2) for t in scene.tracks]
    # Two seconds; what a tracker is shown of such a picture is not believed.
    history = scene.show([[oval(100, 100)]] * 50, picture=picture)
    assert all([t.id for t in tracks] == [1, 2] for tracks in history)
    assert {t.status for tracks in history for t in tracks} == {TrackStatus.COASTING}
    assert all(np.trace(t.covariance_px2) > b for t, b in zip(scene.tracks, before, strict=True))
    assert_allclose(scene.tracks[0].centroid_px, [224, 200], atol=15)
    scene.show([[oval(240, 190), oval(440, 240)]] * 3)
    assert [(t.id, t.status) for t in scene.tracks] == [
        (1, TrackStatus.CONFIRMED),
        (2, TrackStatus.CONFIRMED),
    ]


def test_a_probe_that_stays_off_the_skin_loses_its_tracks() -> None:
    scene = Scene(VeinTracker(TrackSettings(lifted_s=1.01)))
    scene.show([[oval(300, 200)]] * 10)
    history = scene.show([[]] * 30, picture=PictureState.NO_CONTACT)
    lasted = sum(1 for tracks in history if tracks and tracks[0].status is TrackStatus.COASTING)
    assert lasted == 25
    assert scene.tracks == []


def test_a_probe_that_is_lifted_again_and_again_keeps_no_track_of_what_is_gone() -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 50)
    start_ns = scene.now_ns
    while scene.tracks and scene.now_ns < start_ns + 10 * 10**9:
        scene.show([[]] * 9)
        scene.show([[]], picture=PictureState.NO_CONTACT)
    assert (scene.now_ns - start_ns) * 1e-9 == pytest.approx(1.0 + 0.36 + 0.2, abs=0.2)


def test_what_was_held_and_is_not_found_again_ends_as_any_other() -> None:
    scene = Scene(VeinTracker(TrackSettings(coast_s=0.41)))
    scene.show([[oval(300, 200)]] * 15)
    scene.show([[]] * 25, picture=PictureState.NO_CONTACT)
    history = scene.show([[]] * 15)
    assert [len(tracks) for tracks in history] == [1] * 11 + [0] * 4


def test_a_collapsed_vein_survives_that_the_probe_is_lifted() -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 25)
    scene.show(press(300, 200, p) for p in np.linspace(1, 0, 10))
    scene.show([[]] * 50)
    scene.show([[]] * 10, picture=PictureState.NO_CONTACT)
    scene.show([[oval(304, 198)]] * 3)
    assert (scene.only.id, scene.only.status) == (1, TrackStatus.CONFIRMED)


def test_nothing_is_confirmed_while_the_probe_is_lifted() -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 2)
    history = scene.show([[oval(300, 200)]] * 20, picture=PictureState.NO_CONTACT)
    assert all(t.status is not TrackStatus.CONFIRMED for tracks in history for t in tracks)
    assert scene.tracker.confirmed_count == 0


def test_what_leaves_the_scan_area_ends_soon() -> None:
    scene = Scene()
    scene.show([[oval(560 + 4 * i, 200)] for i in range(20)])
    history = scene.show([[]] * 20)
    lasted_s = sum(1 for tracks in history if tracks) * 0.04
    assert 0.2 < lasted_s < 0.6
    assert not any(track.collapsed for tracks in history for track in tracks)


def test_a_vessel_that_comes_in_at_an_edge_with_the_picture_is_believed_at_once() -> None:
    scene = Scene()
    history = scene.show(
        ([oval(max(x, 0) / 2 + 15, 200, 30 + max(x, 0))] if x > -25 else []
         for x in np.linspace(-30, 30, 40)),
        motion=sliding(1.5),
    )  # fmt: skip
    assert (scene.only.id, scene.only.status) == (1, TrackStatus.CONFIRMED)
    assert any(t.status is TrackStatus.CONFIRMED for t in history[12])


def test_what_lingers_at_an_edge_is_believed_late() -> None:
    scene = Scene()
    history = scene.show([[oval(610, 200)]] * 75, motion=sliding(0))
    assert not any(t.status is TrackStatus.CONFIRMED for tracks in history[:30] for t in tracks)
    assert scene.only.status is TrackStatus.CONFIRMED


def squeezing(part: float) -> ProbeMotion:
    return ProbeMotion(np.array([[0.0, 0.0], [0.0, -part]]), np.zeros(2), 0.01)


@pytest.mark.parametrize(("strain", "collapsed"), [(0.02, True), (0.0, False)])
def test_a_vein_that_vanishes_while_the_tissue_is_pressed_together_is_collapsed(
    strain: float, collapsed: bool
) -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 40, motion=sliding(0))
    scene.show([[oval(300, 200, 60, 36)]] * 2, motion=squeezing(strain))
    scene.show([[]] * 5, motion=sliding(0))
    assert scene.only.collapsed is collapsed


def test_a_track_that_went_astray_comes_back_to_what_lies_in_its_place() -> None:
    scene = Scene()
    scene.show([[oval(300 + 4 * i, 200)] for i in range(10)])
    scene.show([[oval(318, 200)]] * 40)
    assert (scene.only.id, scene.only.status) == (1, TrackStatus.CONFIRMED)
    assert_allclose(scene.only.centroid_px, [318, 200], atol=2)


def test_the_box_of_what_is_not_seen_ends_at_the_scan_area() -> None:
    scene = Scene()
    scene.show([[oval(565 + 2 * i, 200)] for i in range(30)])
    scene.show([[]] * 4)
    left, _, width, _ = scene.only.box_px
    assert left + width == pytest.approx(639.5)


def test_the_motion_of_the_picture_carries_a_vessel_that_is_not_seen() -> None:
    scene = Scene()
    scene.show([[oval(300, 200)]] * 25, motion=sliding(0))
    scene.show([[]] * 10, motion=sliding(6, -2))  # 150 px/s at once: no filter could guess
    assert_allclose(scene.only.centroid_px, [360, 180], atol=4)
    assert_allclose(scene.only.velocity_px_s, [150, -50], atol=15)


def test_a_probe_that_starts_to_slide_swaps_nothing() -> None:
    scene = Scene()
    xs = [100, 180, 260, 340]
    scene.show([[oval(x, 200, 40, 30) for x in xs]] * 10, motion=sliding(0))
    for i in range(1, 8):  # half way to the neighbour's place in every frame
        scene.show([[oval(x + 40 * i, 200, 40, 30) for x in xs]], motion=sliding(40))
    assert [t.id for t in scene.tracks] == [1, 2, 3, 4]
    assert_allclose([t.centroid_px[0] for t in scene.tracks], [x + 280 for x in xs], atol=2)


def test_a_vessels_own_motion_is_not_lost_in_that_of_the_picture() -> None:
    scene = Scene()
    for i in range(25):
        scene.show([[oval(200 + 5 * i, 200)]], motion=sliding(3))
    assert_allclose(scene.only.velocity_px_s, [125, 0], atol=6)


def _drawn_px(outlines: list[Detection], motion: ProbeMotion | None) -> float:
    """How far outlines that are off draw the track of a vessel that stands at (300, 200)."""
    scene = Scene()
    scene.show([[oval(300, 200)]] * 50, motion=motion)
    history = scene.show([[outline] for outline in outlines], motion=motion)
    return max(float(np.hypot(*(tracks[0].centroid_px - (300, 200)))) for tracks in history)


def test_where_the_picture_tells_the_place_an_outline_that_lacks_a_part_hardly_draws() -> None:
    bitten = [oval(303, 200, 54, 38)] * 3  # on the left side
    blind_px, told_px = (_drawn_px(bitten, motion) for motion in (None, sliding(0)))
    assert blind_px > 2
    assert told_px < blind_px / 2


def test_an_outline_that_is_no_ellipse_draws_less_than_one_that_is() -> None:
    whole = oval(302, 200)
    ragged = replace(whole, area_px2=0.93 * whole.area_px2)
    tidy = replace(ragged, axes_px=(whole.axes_px[0] * 0.93, whole.axes_px[1]))
    assert _drawn_px([ragged] * 3, sliding(0)) < _drawn_px([tidy] * 3, sliding(0)) / 2


def test_what_comes_in_at_an_edge_is_followed_as_it_grows() -> None:
    scene = Scene()
    history = scene.show(
        [[oval(625 - 2 * i, 200, 20 + 2 * i, 40)] for i in range(15)], motion=sliding(-3)
    )
    assert history[-1][0].centroid_px[0] == pytest.approx(597, abs=1.5)


def test_motion_that_is_known_at_times_only_does_no_harm() -> None:
    scene = Scene()
    for i in range(50):
        known = sliding(3) if i % 3 else None
        scene.show([[oval(200 + 3 * i, 200)]], motion=known)
        assert len(scene.tracks) == 1
    assert_allclose(scene.only.centroid_px, [347, 200], atol=0.5)


@pytest.mark.parametrize("motion", [None, sliding(2)])
def test_a_track_says_when_it_holds_and_can_be_asked_for_later(motion: ProbeMotion | None) -> None:
    scene = Scene()
    for i in range(25):
        scene.show([[oval(300 + 2 * i, 200)]], motion=motion)
    now = scene.only
    assert now.time_ns == scene.now_ns
    (ahead,) = scene.tracker.coast(scene.now_ns + 100_000_000)
    asked = now.at(scene.now_ns + 100_000_000)
    assert_allclose(asked.centroid_px, ahead.centroid_px)
    assert_allclose(asked.covariance_px2, ahead.covariance_px2)
    assert asked.status is ahead.status is TrackStatus.COASTING


def test_the_reported_covariance_holds_what_no_number_of_frames_averages_away() -> None:
    rules = TrackSettings(bias_px=1.0, bias_axes=0.05, bias_ragged=0.0)
    scene = Scene(VeinTracker(rules))
    scene.show([[oval(300, 200)]] * 25)
    assert scene.only.state_cov is not None
    added = scene.only.covariance_px2 - scene.only.state_cov[:2, :2]
    assert_allclose(added, np.diag([1 + 3.0**2, 1 + 2.0**2]), rtol=0.02, atol=1e-6)


def test_settings_mean_the_same_motion_in_mm_at_any_spacing() -> None:
    velocities = []
    for zoom in (1.0, 3.0):
        tracker = VeinTracker()
        for i in range(6):
            found = oval(zoom * (100 + 5 * i), zoom * 100, zoom * 60, zoom * 40)
            (track,) = tracker.update(
                [Detection(found.centroid_px, zoom**2 * found.covariance_px2, found.area_px2,
                           found.axes_px, 0.0, 0.9, found.box_px)],
                i * STEP_NS,
                spacing_mm=(0.08 / zoom, 0.08 / zoom),
            )  # fmt: skip
        velocities.append(track.velocity_px_s / zoom)
    assert_allclose(velocities[0], velocities[1], rtol=1e-6)


def test_a_detection_without_a_finite_covariance_is_refused() -> None:
    found = oval(300, 200)
    broken = Detection(found.centroid_px, np.full((2, 2), np.nan), 100.0, (10.0, 10.0), 0.0, 0.9,
                       found.box_px)  # fmt: skip
    with pytest.raises(ValueError, match="a detection.s covariance_px2, .* must be finite"):
        VeinTracker().update([broken], 0)
