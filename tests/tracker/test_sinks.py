"""What is written: exact rows, whole lines, and nothing lost behind a slow disk."""

import csv
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from tests.conftest import disc
from veintrack.tracker.detect import detect
from veintrack.tracker.frame import Detection, Frame, FrameResult, Timings, Track, TrackStatus
from veintrack.tracker.grid import fit
from veintrack.tracker.measure import measure
from veintrack.tracker.overlay import draw
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
