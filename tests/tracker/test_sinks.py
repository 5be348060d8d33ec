"""What is written: exact rows, whole lines, and nothing lost behind a slow disk."""

import csv
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.conftest import disc
from veintrack.tracker.detect import detect
from veintrack.tracker.frame import (
    Detection,
    Frame,
    FrameResult,
    ProbeMotion,
    Shape,
    Timings,
    Track,
    TrackStatus,
)
from veintrack.tracker.grid import fit
from veintrack.tracker.measure import measure
from veintrack.tracker.overlay import draw, label
from veintrack.tracker.ranking import SortBy
from veintrack.tracker.sinks.base import SinkThread
from veintrack.tracker.sinks.tables import CSV_COLUMNS, CsvSink, JsonlSink, MotSink
from veintrack.tracker.sinks.video import VideoSink

SHAPE = (120, 161)


def seen_vessel(x: float = 60.0) -> Detection:
    mask = disc(SHAPE, x, 50, 20).astype(np.float32)
    (found,) = detect(mask, fit(SHAPE, SHAPE), 0.5, contours=True)
    return found


def track_of(
    found: Detection | None, status: TrackStatus, track_id: int = 1, spaced: bool = True
) -> Track:
    return Track(
        id=track_id,
        status=status,
        centroid_px=np.array([60.0, 50.0]),
        velocity_px_s=np.array([1.5, -2.25]),
        covariance_px2=np.array([[0.5, 0.125], [0.125, 0.25]]),
        box_px=(39.5, 29.5, 41.0, 41.0),
        score=0.75,
        detection=found,
        measurement=measure(found, (0.1, 0.1) if spaced else None) if found else None,
    )


def result_of(
    index: int, tracks: Sequence[Track], detections: Sequence[Detection] = ()
) -> FrameResult:
    pixels = np.full(SHAPE, 80, np.uint8)
    frame = Frame(pixels, index, 5_000_000_000 + index * 40_000_000)
    return FrameResult(
        frame, tuple(detections), tuple(tracks), Timings(1, 2, 3, 4, 5, 6, 7, 5_000_000)
    )


def rows_of(
    folder: Path, *results: FrameResult, sort_by: SortBy | None = None
) -> list[dict[str, Any]]:
    """What ``tracks.jsonl`` says of results."""
    sink = JsonlSink(folder / "t.jsonl", sort_by)
    for result in results:
        sink.write(result)
    sink.close()
    return [json.loads(line) for line in (folder / "t.jsonl").read_text().splitlines()]


def test_the_csv_has_the_columns_of_the_contract(tmp_path: Path) -> None:
    found = seen_vessel()
    sink = CsvSink(tmp_path / "tracks.csv")
    sink.write(result_of(0, [track_of(found, TrackStatus.CONFIRMED)], [found]))
    sink.write(result_of(1, [track_of(None, TrackStatus.COASTING)]))
    sink.write(
        result_of(2, [track_of(found, s) for s in (TrackStatus.TENTATIVE, TrackStatus.LOST)])
    )
    sink.close()
    lines = (tmp_path / "tracks.csv").read_text().splitlines()
    assert lines[0] == (
        "frame,time_s,track_id,status,x_px,y_px,vx_px_s,vy_px_s,var_x_px2,cov_xy_px2,var_y_px2,"
        "area_px2,major_px,minor_px,angle_deg,score,depth_mm,area_mm2,major_mm,minor_mm,collapse,"
        "pulse_hz"
    )
    seen, coasting = csv.DictReader(lines)
    assert (seen["frame"], seen["time_s"], seen["status"]) == ("0", "0.000000", "confirmed")
    assert (seen["x_px"], seen["vy_px_s"]) == ("60.000", "-2.250")
    assert (seen["var_x_px2"], seen["cov_xy_px2"], seen["var_y_px2"]) == (
        "0.5000",
        "0.1250",
        "0.2500",
    )
    assert float(seen["area_px2"]) == pytest.approx(np.pi * 400, rel=0.01)
    assert float(seen["minor_mm"]) == pytest.approx(4.0, rel=0.01)
    assert float(seen["depth_mm"]) == pytest.approx(5.05, abs=0.01)
    assert (coasting["time_s"], coasting["status"]) == ("0.040000", "coasting")
    shape = CSV_COLUMNS.split(",")[11:]
    assert [coasting[name] for name in shape] == [""] * len(shape)


def test_millimetres_stay_empty_where_spacing_is_unknown(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "t.csv")
    sink.write(result_of(0, [track_of(seen_vessel(), TrackStatus.CONFIRMED, spaced=False)]))
    sink.close()
    (row,) = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    assert [row[n] for n in ("depth_mm", "area_mm2", "major_mm", "minor_mm")] == [""] * 4
    assert row["area_px2"]


def test_json_lines_hold_every_frame_detection_and_track(tmp_path: Path) -> None:
    found = seen_vessel()
    sink = JsonlSink(tmp_path / "t.jsonl")
    sink.write(result_of(3, [track_of(found, TrackStatus.TENTATIVE, 7)], [found]))
    sink.write(result_of(4, []))
    sink.close()
    first, second = map(json.loads, (tmp_path / "t.jsonl").read_text().splitlines())
    assert (first["frame"], first["capture_ns"], first["age_ms"]) == (3, 5_120_000_000, 5.0)
    assert first["tracks"][0]["status"] == "tentative"
    assert first["tracks"][0]["detection"] == 0
    assert len(first["detections"][0]["contour_px"]) > 10
    assert (second["tracks"], second["detections"]) == ([], [])


def test_json_lines_hold_all_that_is_known_of_a_track(tmp_path: Path) -> None:
    found = seen_vessel()
    seen = track_of(found, TrackStatus.CONFIRMED)
    assert seen.measurement is not None
    signs = replace(
        seen.measurement, collapse=0.5, pulse_hz=1.25, pulse_strength=0.1, vein_likeness=0.9,
        vein_likeness_sd=0.05, near_wall_px=30.5, near_wall_mm=3.05,
    )  # fmt: skip
    known = replace(
        seen, measurement=signs, shape=Shape(1200.0, 41.0, 39.0, 0.25, 0.01), state_cov=np.eye(4)
    )
    (row,) = rows_of(tmp_path, result_of(0, [known], [found]))
    (track,) = row["tracks"]
    assert track["shape"] == {
        "area_px2": 1200.0, "major_px": 41.0, "minor_px": 39.0, "angle_rad": 0.25, "area_sd": 0.01,
    }  # fmt: skip
    assert track["state_cov"] == np.eye(4).ravel().tolist()
    assert track["collapsed"] is False
    assert track["minor_px"] == pytest.approx(40, rel=0.01)
    measured = ("collapse", "pulse_hz", "pulse_strength", "vein_likeness", "vein_likeness_sd")
    assert [track[name] for name in measured] == [0.5, 1.25, 0.1, 0.9, 0.05]
    assert (track["near_wall_px"], track["near_wall_mm"]) == (30.5, 3.05)


def test_json_lines_tell_a_collapsed_track_and_leave_out_what_is_not_measured(
    tmp_path: Path,
) -> None:
    pressed = replace(track_of(None, TrackStatus.COASTING), collapsed=True)
    (row,) = rows_of(tmp_path, result_of(0, [pressed]))
    (track,) = row["tracks"]
    assert (track["status"], track["collapsed"]) == ("coasting", True)
    for name in ("shape", "state_cov", "detection", "area_px2", "near_wall_px", "vein_likeness"):
        assert track[name] is None


def test_json_lines_say_as_which_detections_a_track_was_found(tmp_path: Path) -> None:
    whole, left, right = (seen_vessel(x) for x in (40.0, 80.0, 120.0))
    cut = replace(whole, parts_of=(whole,))
    joined = replace(left, parts_of=(left, right))
    tracks = [
        track_of(found, TrackStatus.CONFIRMED, number)
        for number, found in enumerate((right, cut, joined, None), 1)
    ]
    (row,) = rows_of(tmp_path, result_of(0, tracks, [whole, left, right]))
    assert [track["detection"] for track in row["tracks"]] == [2, 0, [1, 2], None]


def test_json_lines_say_how_the_picture_moved_at_the_centre_of_the_scan_area(
    tmp_path: Path,
) -> None:
    turned = ProbeMotion(np.array([[0.0, -0.1], [0.1, 0.0]]), np.array([5.0, -4.0]), 0.04)
    plain = result_of(0, [])
    moved = FrameResult(
        plain.frame, (), (), plain.timings, scan_area_px=(20, 10, 61, 41), motion=turned
    )
    predicted = replace(moved, motion=None, segmented=False)
    first, second = rows_of(tmp_path, moved, predicted)
    # The centre is (50, 30): turned by a tenth it moves by (-3, 5), and all by (5, -4).
    assert first["probe_motion"] == {"shift_px": [2.0, 1.0], "noise_px2": 0.04}
    assert second["probe_motion"] is None
    assert [row["segmented"] for row in (first, second)] == [True, False]


def test_json_lines_name_the_best_vein_where_that_is_asked_for(tmp_path: Path) -> None:
    small, large = seen_vessel(), replace(seen_vessel(100.0), axes_px=(60.0, 50.0))
    tracks = [
        track_of(found, TrackStatus.CONFIRMED, number) for number, found in ((1, small), (2, large))
    ]
    result = result_of(0, tracks, [small, large])
    assert rows_of(tmp_path, result)[0]["best"] is None
    named, none = rows_of(tmp_path, result, result_of(1, []), sort_by="diameter")
    assert (named["best"], none["best"]) == (2, None)


def test_mot_rows_are_one_based(tmp_path: Path) -> None:
    sink = MotSink(tmp_path / "t.txt")
    sink.write(result_of(0, [track_of(seen_vessel(), TrackStatus.CONFIRMED)]))
    sink.close()
    assert (tmp_path / "t.txt").read_text() == "1,1,41.00,31.00,41.00,41.00,0.7500,-1,-1,-1\n"


def test_lines_are_whole_while_the_file_is_open(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "t.csv")
    sink.write(result_of(0, [track_of(seen_vessel(), TrackStatus.CONFIRMED)]))
    assert (tmp_path / "t.csv").read_text().endswith("\n")
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 2
    sink.close()


def test_the_video_keeps_every_frame_its_time_and_even_sides(tmp_path: Path) -> None:
    found = seen_vessel()
    sink = VideoSink(tmp_path / "o.mp4")
    for i in (0, 1, 2, 5):
        sink.write(result_of(i, [track_of(found, TrackStatus.CONFIRMED)], [found]))
    sink.close()
    with av.open(str(tmp_path / "o.mp4")) as video:
        frames = list(video.decode(video=0))
        assert [round(float(f.pts * f.time_base), 3) for f in frames] == [0, 0.04, 0.08, 0.2]
        assert (frames[0].height, frames[0].width) == (480, 644)


def test_the_overlay_shows_outline_identity_and_notice() -> None:
    found = seen_vessel()
    plain = draw(result_of(0, []))
    confirmed = draw(result_of(0, [track_of(found, TrackStatus.CONFIRMED)], [found]))
    coasting = draw(result_of(0, [track_of(None, TrackStatus.COASTING)]))
    assert plain.shape == (480, 644, 3)
    coloured = (confirmed.max(2).astype(int) - confirmed.min(2) > 60).nonzero()
    assert abs(coloured[1].mean() / 4 - 60) < 12
    assert (confirmed != coasting).any()
    assert (plain != 80).any()


def test_a_collapsed_vessel_is_dotted_and_one_without_an_outline_is_not_shown_as_predicted() -> (
    None
):
    found = seen_vessel()
    coasting = track_of(None, TrackStatus.COASTING)
    pictures = [
        draw(result_of(0, [track]))
        for track in (
            coasting,
            replace(coasting, collapsed=True),
            track_of(replace(found, contour_px=None), TrackStatus.CONFIRMED),
        )
    ]
    assert len({picture.tobytes() for picture in pictures}) == 3
    edge = disc(SHAPE, 60, 50, 21.5) - disc(SHAPE, 60, 50, 18.5)
    on_edge = np.kron(edge, np.ones((4, 4), int)) == 1
    drawn = [np.count_nonzero((np.ptp(picture, axis=2) > 40) & on_edge) for picture in pictures]
    assert drawn[2] > 1.15 * drawn[0]


def test_a_collapsed_vessel_is_drawn_in_the_shape_that_it_had() -> None:
    lying = replace(track_of(None, TrackStatus.COASTING), shape=Shape(600.0, 60.0, 12.0, 0.0, 0.1))
    standing = replace(lying, shape=Shape(600.0, 60.0, 12.0, np.pi / 2, 0.1))
    for track, (x, y) in ((lying, (86, 50)), (standing, (60, 74))):
        drawn = np.ptp(draw(result_of(0, [track]))[4 * y : 4 * y + 40, 4 * x : 4 * x + 40], axis=2)
        assert drawn.max() > 60


@pytest.mark.parametrize(
    ("likeness", "sd", "word"),
    [
        (0.95, 0.1, "vein-like"), (0.1, 0.1, "artery-like"), (0.6, 0.1, ""), (0.95, 0.4, ""),
        (None, None, ""),
    ],
)  # fmt: skip
def test_what_a_vessel_is_like_is_named_where_it_is_certain(
    likeness: float | None, sd: float | None, word: str
) -> None:
    seen = track_of(seen_vessel(), TrackStatus.CONFIRMED)
    assert seen.measurement is not None
    known = replace(
        seen, measurement=replace(seen.measurement, vein_likeness=likeness, vein_likeness_sd=sd)
    )
    assert label(known) == f"1  4.0 x 4.0 mm, 5 deep{'  ' + word if word else ''}"


def test_a_track_that_is_not_seen_is_named_for_why() -> None:
    coasting = track_of(None, TrackStatus.COASTING)
    assert label(coasting) == "1 predicted"
    assert label(replace(coasting, collapsed=True)) == "1 collapsed"


def test_the_video_leaves_out_what_lies_outside_the_scan_area(tmp_path: Path) -> None:
    found = seen_vessel()
    whole = result_of(0, [track_of(found, TrackStatus.CONFIRMED)], [found])
    whole.frame.pixels[:, :20] = 255  # a name, burnt in
    area = (20, 10, 120, 100)
    sink = VideoSink(tmp_path / "o.mp4")
    sink.write(replace(whole, scan_area_px=area))
    sink.close()
    with av.open(str(tmp_path / "o.mp4")) as video:
        (picture,) = (f.to_ndarray(format="gray") for f in video.decode(video=0))
    assert picture.shape == (500, 600)
    assert picture[:, :10].max() < 250
    drawn = draw(whole, area)
    assert np.abs(picture.astype(int) - drawn.mean(2)).mean() < 8


class Slow:
    name = "slow"

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.gate = threading.Event()
        self.written: list[int] = []
        self.closed = False
        self._fails_at = fails_at

    def write(self, result: FrameResult) -> None:
        self.gate.wait(5)
        if result.frame.index == self._fails_at:
            raise OSError(28, "No space left on device")
        self.written.append(result.frame.index)

    def close(self) -> None:
        self.closed = True


def test_an_impatient_sink_leaves_out_what_does_not_fit_and_counts_it() -> None:
    slow = Slow()
    thread = SinkThread(slow, capacity=2, patient=False)
    for i in range(10):
        thread.put(result_of(i, []))
    slow.gate.set()
    thread.close()
    assert len(slow.written) + thread.left_out == 10
    assert thread.left_out >= 7
    assert slow.closed


def test_a_patient_sink_writes_everything_in_order() -> None:
    slow = Slow()
    slow.gate.set()
    thread = SinkThread(slow, capacity=2, patient=True)
    for i in range(50):
        thread.put(result_of(i, []))
    thread.close()
    assert slow.written == list(range(50))


def test_a_sink_that_fails_is_closed_and_stalls_nobody() -> None:
    broken = Slow(fails_at=3)
    broken.gate.set()
    thread = SinkThread(broken, capacity=2, patient=True)
    for i in range(50):
        thread.put(result_of(i, []))
    thread.close()
    assert isinstance(thread.error, OSError)
    assert broken.written == [0, 1, 2]
    assert broken.closed
