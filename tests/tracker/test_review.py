"""A recording looked at in any order: its pixels, and its tracks as they were."""

import os
import random
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tracker.recording_scene import noise, part
from tests.tracker.review_scene import AREA, between, keep, predicted, result, seen
from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.frame import F64, Detection, FrameResult, PictureState, Track, TrackStatus
from veintrack.tracker.overlay import draw
from veintrack.tracker.recording import RecordSettings
from veintrack.tracker.review import Review


def plain(count: int = 20) -> list[FrameResult]:
    return [result(i, seen(x=40 + i)) for i in range(count)]


def test_every_frame_comes_in_any_order_as_it_was_recorded(tmp_path: Path) -> None:
    parts = RecordSettings(full=True, part_minutes=0.005)  # nine frames each
    keep(tmp_path, plain(40), region=None, settings=parts)
    assert part(tmp_path, 4).is_file()
    positions = [*range(40), *range(39, -1, -1), *random.Random(1).choices(range(40), k=60)]
    with Review.open(tmp_path) as review:
        assert review.count == 40
        assert review.index.tolist() == list(range(40))
        assert review.time_s == pytest.approx(np.arange(40) / 30)
        for position in positions:
            frame = review.result(position).frame
            assert frame.index == position
            assert np.array_equal(frame.pixels, noise(position))
            assert frame.capture_ns == result(position).frame.capture_ns
            assert frame.spacing_mm == (0.1, 0.2)
            assert (frame.driver_sequence, frame.sender_ns) == (100 + position, 7 * position)


def test_what_was_not_recorded_is_black_and_the_rest_lies_where_it_lay(tmp_path: Path) -> None:
    keep(tmp_path, plain(3))
    x, y, width, height = AREA
    wanted = np.zeros((90, 121), np.uint8)
    wanted[y : y + height, x : x + width] = noise(2)[y : y + height, x : x + width]
    with Review.open(tmp_path / "recording") as review:
        last = review.result(2)
    assert np.array_equal(last.frame.pixels, wanted)
    assert last.scan_area_px == AREA


def test_tracks_are_what_they_were_in_the_run(tmp_path: Path) -> None:
    tentative = replace(seen(3, 80), status=TrackStatus.TENTATIVE)
    tracks = (seen(1, collapse=0.4), predicted(2, 70, collapsed=True), tentative)
    changed = result(
        0, *tracks, picture=PictureState.FROZEN, changes=("gain up 2 x",), segmented=False
    )
    keep(tmp_path, [changed])
    with Review.open(tmp_path) as review:
        found = review.result(0)
    assert (found.picture, found.changes) == (PictureState.FROZEN, ("gain up 2 x",))
    assert (found.segmented, found.fresh, found.timings) == (False, True, changed.timings)
    for track, was in zip(found.tracks, changed.tracks, strict=True):
        assert_same(track, was)
    assert len(found.detections) == 2
    assert found.tracks[0].detection is found.detections[0]
    # What is drawn is all that can be seen of it.
    x, y, width, height = AREA
    inside = np.zeros_like(changed.frame.pixels)
    inside[y : y + height, x : x + width] = found.frame.pixels[y : y + height, x : x + width]
    then = replace(changed, frame=replace(changed.frame, pixels=inside))
    assert np.array_equal(draw(found, AREA), draw(then, AREA))


def assert_same(track: Track, was: Track) -> None:
    for name in ("id", "status", "collapsed", "score", "measurement", "shape", "time_ns"):
        assert getattr(track, name) == getattr(was, name), name
    for name in ("centroid_px", "velocity_px_s", "covariance_px2", "state_cov", "box_px"):
        assert np.array_equal(getattr(track, name), getattr(was, name)), name
    if was.detection is None:
        assert track.detection is None
        return
    assert track.detection is not None
    assert track.detection.axes_px == was.detection.axes_px
    assert np.array_equal(outline(track.detection), outline(was.detection))


def outline(found: Detection) -> F64:
    assert found.contour_px is not None
    return found.contour_px.astype(np.float64)


def test_a_recording_alone_has_ellipses_by_its_table(tmp_path: Path) -> None:
    results = [
        result(0, seen(1), replace(seen(2, 80), status=TrackStatus.TENTATIVE)),
        result(1, predicted(1, 52)),
    ]
    keep(tmp_path / "run", results, objects=False)
    shutil.move(tmp_path / "run" / "recording", tmp_path / "handed on")
    with Review.open(tmp_path / "handed on") as review:
        (first,), (then,) = review.result(0).tracks, review.result(1).tracks
    was = seen(1)
    assert first.centroid_px == pytest.approx(was.centroid_px)
    assert first.covariance_px2 == pytest.approx(was.covariance_px2)
    assert first.measurement is not None
    assert was.measurement is not None
    assert first.measurement.depth_mm == was.measurement.depth_mm
    assert first.measurement.near_wall_mm is None  # it is in no table
    assert first.detection is not None
    assert (first.detection.axes_px, first.detection.contour_px) == ((20, 12), None)
    assert then.status is TrackStatus.COASTING
    assert then.detection is None
    assert then.shape is not None
    assert (then.shape.major_px, then.shape.minor_px) == (20, 12)  # when it was seen last
    left, _, width, _ = then.box_px
    assert left + width / 2 == pytest.approx(52.25)


def test_what_was_found_in_pieces_is_an_ellipse(tmp_path: Path) -> None:
    whole = seen(1)
    assert whole.detection is not None
    pieces = tuple(replace(whole.detection, area_px2=80.0) for _ in range(2))
    for parts in (pieces, pieces[:1]):  # several blobs as one, or a part of a blob
        track = replace(whole, detection=replace(whole.detection, parts_of=parts))
        folder = keep(tmp_path / str(len(parts)), [replace(result(0, track), detections=parts)])
        with Review.open(folder) as review:
            found = review.result(0)
        drawn = found.tracks[0].detection
        assert drawn is not None
        assert drawn.parts_of == found.detections
        assert (drawn.area_px2, drawn.contour_px) == (188.5, None)


def test_tracks_of_another_run_over_the_same_frames_are_not_taken(tmp_path: Path) -> None:
    keep(tmp_path, [result(0, seen(1))])
    path = tmp_path / "tracks.jsonl"
    other = result(0, seen(7))
    row = path.read_text().replace(f'"capture_ns": {other.frame.capture_ns}', '"capture_ns": 5')
    path.write_text(row.replace('"id": 1', '"id": 7'))
    with Review.open(tmp_path) as review:
        assert [track.id for track in review.result(0).tracks] == [1]


@pytest.mark.parametrize("objects", [True, False])
def test_what_came_between_frames_is_not_taken_for_the_frame(tmp_path: Path, objects: bool) -> None:
    lost = [between(0, 0.1 * k, predicted(1, 50 + k)) for k in (1, 2)]
    keep(tmp_path, [result(0, seen(1)), *lost, result(30, seen(1, 60))], objects=objects)
    with Review.open(tmp_path) as review:
        assert review.index.tolist() == [0, 30]
        assert review.time_s == pytest.approx([0, 1])
        results = [review.result(p) for p in range(2)]
    assert [len(r.tracks) for r in results] == [1, 1]
    assert [r.tracks[0].status for r in results] == [TrackStatus.CONFIRMED] * 2


def test_a_place_that_was_not_sure_is_not_sure(tmp_path: Path) -> None:
    guessed = [result(0, seen(1), scan_area_settled=False), *plain(3)[1:]]
    keep(tmp_path / "whole", guessed, region=None)
    keep(tmp_path / "scan area", guessed)  # what may name the patient is not in it
    settled = []
    for name in ("whole", "scan area"):
        with Review.open(tmp_path / name) as review:
            settled.append([review.result(p).scan_area_settled for p in range(3)])
    assert settled == [[False, True, True], [True, True, True]]


def test_whole_frames_of_which_nothing_more_is_known_are_not_sure(tmp_path: Path) -> None:
    keep(tmp_path, plain(2), region=None)
    (tmp_path / "recording" / "tracked.jsonl").unlink()
    (tmp_path / "recording" / "tracks.csv").unlink()
    (tmp_path / "tracks.jsonl").unlink()
    with Review.open(tmp_path) as review:
        bare = review.result(1)
    assert not bare.scan_area_settled
    assert bare.tracks == ()


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def test_a_recording_that_was_cut_off_opens_with_its_whole_frames(tmp_path: Path) -> None:
    results = plain(40)
    keep(tmp_path, results)
    cut(part(tmp_path), 0.7)
    for name in ("recording/tracked.jsonl", "recording/tracks.csv", "tracks.jsonl"):
        cut(tmp_path / name, 0.4)
    with Review.open(tmp_path) as review:
        assert 20 < review.count < 30
        for position in (review.count - 1, 0, 15, review.count - 1):
            pixels = review.result(position).frame.pixels
            assert pixels[40, 50] == noise(position)[40, 50]
        assert len(review.result(5).tracks) == 1
        assert review.result(review.count - 1).tracks == ()  # what said it is gone


def test_a_recording_without_a_whole_frame_says_so(tmp_path: Path) -> None:
    keep(tmp_path, plain(3))
    part(tmp_path).write_bytes(b"")
    with pytest.raises(SourceUnreadableError, match="holds not one whole frame"):
        Review.open(tmp_path)


def test_a_folder_without_a_recording_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="manifest.json and frames.jsonl are missing"):
        Review.open(tmp_path)


def test_a_damaged_picture_costs_that_frame_only(tmp_path: Path) -> None:
    keep(tmp_path, plain(20))
    path = part(tmp_path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4] = bytes(255 - b for b in data[middle : middle + 4])
    path.write_bytes(data)
    with Review.open(tmp_path) as review:
        bad = [p for p in range(review.count) if fails(review, p)]
        assert len(bad) == 1
        with pytest.raises(SourceUnreadableError, match=rf"picture of frame {bad[0]} is damaged"):
            review.result(bad[0])


def fails(review: Review, position: int) -> bool:
    try:
        review.result(position)
    except SourceUnreadableError:
        return True
    return False


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("tracks.jsonl", '"major_px": 20.5', '"major_px": "x"'),
        ("tracks.jsonl", '"contour_px": [', '"contour_px": [7, '),
        ("tracks.jsonl", '"tracks": [', '"tracks": [3, '),
        ("recording/tracked.jsonl", '"picture": "good"', '"picture": "odd"'),
        ("recording/tracked.jsonl", '"segmented"', "segmented"),
    ],
)
def test_a_damaged_line_is_said_with_its_frame(
    tmp_path: Path, name: str, old: str, new: str
) -> None:
    keep(tmp_path, plain(3))
    path = tmp_path / name
    lines = path.read_text().splitlines(keepends=True)
    assert old in lines[1]
    lines[1] = lines[1].replace(old, new, 1)
    path.write_text("".join(lines))
    with Review.open(tmp_path) as review:
        review.result(0)
        with pytest.raises(SourceUnreadableError, match=rf"{path.name}: .*frame 1 is damaged"):
            review.result(1)


def test_a_damaged_row_of_the_table_is_said_with_its_frame(tmp_path: Path) -> None:
    keep(tmp_path, plain(3), objects=False)
    path = tmp_path / "recording" / "tracks.csv"
    path.write_text(path.read_text().replace(",41.250,", ",4l.250,"))
    with Review.open(tmp_path) as review:
        review.result(0)
        with pytest.raises(SourceUnreadableError, match="tracks.csv: .*frame 1 is damaged"):
            review.result(1)


def test_many_may_look_at_once(tmp_path: Path) -> None:
    keep(tmp_path, plain(30))
    wrong: list[object] = []

    def look(positions: Sequence[int]) -> None:
        try:
            wrong.extend(p for p in positions if review.result(p).frame.index != p)
        except Exception as error:
            wrong.append(error)

    with Review.open(tmp_path) as review:
        lookers = [
            threading.Thread(target=look, args=(random.Random(seed).choices(range(30), k=60),))
            for seed in range(4)
        ]
        for one in lookers:
            one.start()
        for one in lookers:
            one.join()
    assert wrong == []


def test_only_what_is_there_and_open_can_be_looked_at(tmp_path: Path) -> None:
    keep(tmp_path, plain(3))
    review = Review.open(tmp_path)
    for position in (-1, 3):
        with pytest.raises(ValueError, match=f"position must be 0 to 2, got {position}"):
            review.result(position)
    review.close()
    review.close()
    with pytest.raises(ValueError, match="closed"):
        review.result(0)
