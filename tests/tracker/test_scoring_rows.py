"""Reading and writing tracks and truth."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.tracker.tracks_scene import detections, wandering, write_run
from veintrack.errors import OutputError, SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.phantom import VesselTruth
from veintrack.tracker.scoring.reading import read_rows, read_spacing
from veintrack.tracker.scoring.rows import Rows, rows_of_truth, write_truth

HEAD = "frame,time_s,track_id,x_px,y_px"


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_truth_comes_back_as_it_was_written(tmp_path: Path) -> None:
    truth = wandering(3, 20, 500.0)
    hidden = np.arange(len(truth)) % 4 != 0
    truth = Rows(
        truth.frame, truth.id, truth.time_s, truth.xy_px.round(4), truth.box_px,
        visible=hidden, area_px2=np.where(hidden, 470.5, np.nan), major_px=truth.major_px,
        minor_px=truth.minor_px,
    )  # fmt: skip
    write_truth(tmp_path / "truth.csv", truth)
    got = read_rows(tmp_path / "truth.csv")
    for name in ("frame", "id", "time_s", "xy_px", "visible", "area_px2", "major_px", "minor_px"):
        np.testing.assert_array_equal(getattr(got, name), getattr(truth, name), err_msg=name)
    assert got.box_px is not None
    assert truth.box_px is not None
    np.testing.assert_allclose(got.box_px, truth.box_px, atol=1e-4)
    assert (got.cov_px2, got.confirmed) == (None, None)


def test_truth_needs_no_more_than_places(tmp_path: Path) -> None:
    got = read_rows(written(tmp_path, "x_px,y_px,track_id,frame\n1.5,2,7,0\n\n3,4,7,2\n"))
    assert (got.frame.tolist(), got.id.tolist()) == ([0, 2], [7, 7])
    assert got.xy_px.tolist() == [[1.5, 2], [3, 4]]
    assert np.isnan(got.time_s).all()
    assert got.box_px is None


def test_a_hidden_object_may_have_no_place_and_is_then_left_out(tmp_path: Path) -> None:
    got = read_rows(written(tmp_path, f"{HEAD},visible\n0,0,1,5,6,1\n1,0.1,1,,,0\n"))
    assert got.frame.tolist() == [0]


def test_the_files_of_a_run_hold_the_same_tracks(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run, detections(wandering(3, 40, 500.0), 0.5, 0.5), spacing=0.1)
    lines, table = read_rows(run / "tracks.jsonl"), read_rows(run / "tracks.csv")
    mot = read_rows(run / "tracks.mot.txt")
    assert len(lines) == len(table) == len(mot) > 90
    for got in (table, mot):
        np.testing.assert_array_equal(got.frame, lines.frame)
        np.testing.assert_array_equal(got.id, lines.id)
    np.testing.assert_allclose(table.xy_px, lines.xy_px, atol=1e-3)
    np.testing.assert_allclose(table.time_s, lines.time_s, atol=1e-6)
    assert table.cov_px2 is not None
    assert lines.cov_px2 is not None
    np.testing.assert_allclose(table.cov_px2, lines.cov_px2, atol=1e-4)
    assert table.confirmed is not None
    np.testing.assert_array_equal(table.confirmed, lines.confirmed)
    assert table.area_px2 is not None
    assert lines.area_px2 is not None
    np.testing.assert_allclose(table.area_px2, lines.area_px2, atol=0.01)
    assert mot.box_px is not None
    assert lines.box_px is not None
    np.testing.assert_allclose(mot.box_px, lines.box_px, atol=0.011)
    assert lines.all_frames is not None
    assert lines.all_frames.tolist() == list(range(40))
    assert len(read_rows(run)) == len(lines)
    assert read_rows(run).box_px is not None
    (run / "tracks.jsonl").unlink()
    assert read_rows(run).box_px is None


def test_the_run_says_its_spacing(tmp_path: Path) -> None:
    write_run(tmp_path / "a", iter([]), spacing=0.1)
    write_run(tmp_path / "b", iter([]))
    assert read_spacing(tmp_path / "a") == (0.1, 0.1)
    assert read_spacing(tmp_path / "a" / "tracks.csv") == (0.1, 0.1)
    assert read_spacing(tmp_path / "b") is None
    assert read_spacing(tmp_path / "c.csv") is None


def test_rows_between_the_frames_of_a_lost_source_are_left_out(tmp_path: Path) -> None:
    status = f"{HEAD},status\n0,0,1,1,1,confirmed\n0,0,2,9,9,coasting\n0,0.5,1,2,2,coasting\n"
    got = read_rows(written(tmp_path, status))
    assert got.xy_px.tolist() == [[1, 1], [9, 9]]
    assert got.confirmed is not None
    assert got.confirmed.tolist() == [True, False]
    lines = [
        {"frame": 0, "time_s": 0, "fresh": True, "tracks": [{"id": 1, "centroid_px": [1, 1]}]},
        {"frame": 0, "time_s": 1, "fresh": False, "tracks": [{"id": 1, "centroid_px": [2, 2]}]},
    ]
    got = read_rows(written(tmp_path, "\n".join(map(json.dumps, lines)), "t.jsonl"))
    assert got.xy_px.tolist() == [[1, 1]]


def test_tentative_tracks_are_left_out(tmp_path: Path) -> None:
    states = ("tentative", "confirmed", "coasting", "lost")
    tracks = [{"id": i, "status": s, "centroid_px": [i, i]} for i, s in enumerate(states)]
    got = read_rows(
        written(tmp_path, json.dumps({"frame": 4, "time_s": 0.1, "tracks": tracks}), "t.jsonl")
    )
    assert got.id.tolist() == [1, 2]
    assert got.confirmed is not None
    assert got.confirmed.tolist() == [True, False]


def test_numbers_that_are_not_finite_are_not_known(tmp_path: Path) -> None:
    track = {"id": 1, "centroid_px": [1, 1], "covariance_px2": [math.inf, 0, 0, math.nan]}
    got = read_rows(
        written(tmp_path, json.dumps({"frame": 4.0, "time_s": 0.1, "tracks": [track]}), "t.jsonl")
    )
    assert got.frame.tolist() == [4]
    assert got.cov_px2 is not None
    np.testing.assert_array_equal(got.cov_px2, [[[np.nan, 0], [0, np.nan]]])


def test_mot_truth_of_conf_0_is_hidden_and_the_first_pixel_is_1(tmp_path: Path) -> None:
    got = read_rows(written(tmp_path, "1,7,1.5,11.5,10,20,1,-1,-1,-1\n2,7,1,1,10,20,0\n", "t.txt"))
    assert got.frame.tolist() == [0, 1]
    assert got.box_px is not None
    assert got.box_px[0].tolist() == [0, 10, 10, 20]
    assert got.xy_px[0].tolist() == [5, 20]
    assert got.visible is not None
    assert got.visible.tolist() == [True, False]
    assert read_rows(written(tmp_path, "1,7,1,1,10,20\n", "u.txt")).visible is None


def test_the_phantoms_truth_becomes_rows_with_hidden_ones_where_they_are() -> None:
    place, gone = np.array([5.0, 6.0]), np.full(2, np.nan)
    seen = VesselTruth(1, "vein", True, place, 80.0, (12.0, 9.0), (5.0, 6.0), (0.0, 1.0, 12.0, 9.0))
    flat = VesselTruth(1, "vein", False, gone, 0.0, (14.0, 0.0), (5.5, 6.5), (0.0,) * 4)
    got = rows_of_truth([(0, 0.0, [seen]), (1, 0.04, [flat]), (2, 0.08, [])])
    assert got.visible is not None
    assert got.area_px2 is not None
    assert got.all_frames is not None
    assert got.visible.tolist() == [True, False]
    assert got.xy_px.tolist() == [[5, 6], [5.5, 6.5]]
    assert np.isnan(got.area_px2[1])
    assert got.all_frames.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "has no column frame: tracks and truth need frame, track_id, x_px, y_px"),
        ("a.csv", "frame,time_s,id,x,y\n", "has no column track_id"),
        ("a.csv", f"{HEAD}\n0,0,1,5\n", "line 2 must have 5 values, got 4"),
        ("a.csv", f"{HEAD}\n0,0,1,5,left\n", "line 2: y_px must be a number, got 'left'"),
        ("a.csv", f"{HEAD}\n0,0,1,5,inf\n", "line 2: y_px must be a number, got 'inf'"),
        ("a.csv", f"{HEAD}\n0,0,1,5,\n", "line 2: x_px and y_px may be empty only where visible"),
        ("a.csv", f"{HEAD}\n0.5,0,1,5,5\n", "line 2: frame must be a whole number, got 0.5"),
        ("a.csv", f"{HEAD}\n0,0,,5,5\n", "line 2: track_id must be a number, got ''"),
        ("a.csv", f"{HEAD}\n0,0,1,5,5\n0,0,1,6,6\n", "frame 0 holds the object 1 more than once"),
        ("a.csv", f'{HEAD}\n0,0,"1,5,5\n', "is no CSV: unexpected end of data"),
        ("a.txt", "1,1,2,3,4\n", "line 1 must start with frame,id,left,top,width,height, got 5"),
        ("a.txt", "1,1,2,3,4,wide\n", "line 1: width|line 1: height must be a number, got 'wide'"),
        ("a.jsonl", '{"frame": 1\n', "line 1 is not valid JSON"),
        ("a.jsonl", "[1]\n", "line 1 must be an object, got"),
        ("a.jsonl", '{"frame": 1}\n', "line 1 must have frame, time_s and tracks"),
        (
            "a.jsonl",
            '{"frame": 1, "tracks": [{"id": 1, "centroid_px": [1]}]}\n',
            r"line 1 must have frame, time_s and tracks, each with id and centroid_px \[x, y\]",
        ),
        (
            "a.jsonl",
            '{"frame": 1, "tracks": [{"id": 1, "centroid_px": [1, 1], "box_px": [1, 2]}]}\n',
            "box_px must hold 4 numbers wherever it stands",
        ),
        (
            "a.jsonl",
            '{"frame": 1, "tracks": [{"id": 1, "centroid_px": [1, 1], "area_px2": "x"}]}\n',
            "area_px2 must hold 1 number wherever it stands",
        ),
        ("a.jsonl", '{"frame": Infinity, "tracks": []}\n', "line 1 must have frame, time_s and"),
        ("a.jsonl", '{"frame": 1e300, "tracks": []}\n', "line 1 must have frame, time_s and"),
        (
            "a.jsonl",
            '{"frame": 1, "tracks": [{"id": 1e30, "centroid_px": [1, 1]}]}\n',
            "line 1 must have frame, time_s and tracks",
        ),
        ("a.csv", f"{HEAD}\n1e300,0,1,5,5\n", r"line 2: frame must be a whole number, got 1e\+300"),
        ("a.csv", f"{HEAD}\n0,0,1e30,5,5\n", r"track_id must be a whole number, got 1e\+30"),
        ("a.txt", "0,1,2,3,4,5\n", "MOTChallenge rows count frames from 1, got 0 or less"),
        ("a.txt", "1,1,9,9,-4,5\n", "line 1: a box must have a width and height of 0 or more"),
    ],
)
def test_a_broken_file_is_said_in_one_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = written(tmp_path, text, name)
    with pytest.raises(SourceUnreadableError, match=message) as caught:
        read_rows(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_what_is_no_text_or_not_there_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceUnreadableError, match=r"is no text: .* \.csv, \.jsonl"):
        read_rows(path)
    with pytest.raises(SourceNotFoundError, match=r"no file .*b\.csv"):
        read_rows(tmp_path / "b.csv")
    with pytest.raises(SourceNotFoundError, match="holds no tracks: a run's folder has tracks.js"):
        read_rows(tmp_path)
    with pytest.raises(OutputError, match="cannot write to"):
        write_truth(tmp_path / "no" / "t.csv", wandering(1, 2, 1.0))
