"""The recordings that the page lists, and the pictures of their frames."""

import os
from pathlib import Path

import cv2
import numpy as np

from tests.tracker.recording_scene import MANIFEST, frame_of, part
from veintrack.tracker.recording import Recorder, RecordSettings
from veintrack.tracker.recording_names import FOLDER
from veintrack.tracker.web.shelf import Reviews, recordings_under

AREA_PX = (20, 10, 64, 48)


def keep(folder: Path, frames: int, *, whole_frames: bool) -> None:
    """Record frames, or their scan area, to the end."""
    recorder = Recorder(
        folder,
        RecordSettings(full=whole_frames),
        {**MANIFEST, "whole_frames": whole_frames},
        region=None if whole_frames else AREA_PX,
        patient=True,
    )
    for k in range(frames):
        recorder.put(frame_of(k))
    recorder.close()


def run(runs: Path, name: str, begun_s: float) -> Path:
    """Make a run with a recording of twelve frames' scan area."""
    folder = runs / name
    folder.mkdir()
    keep(folder, 12, whole_frames=False)
    for file in (folder / FOLDER).iterdir():
        os.utime(file, (begun_s, begun_s))
    return folder / FOLDER


def test_recordings_are_listed_the_newest_first(tmp_path: Path) -> None:
    run(tmp_path, "old", 1e9)
    newest = run(tmp_path, "new", 1.7e9)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "broken" / FOLDER).mkdir(parents=True)
    (tmp_path / "a file").touch()
    listed = recordings_under(tmp_path)
    assert [kept.name for kept in listed] == ["new/recording", "old/recording"]
    assert listed[0].path == newest
    assert listed[0].begun.startswith("2023-11-1")
    assert listed[0].megabytes > 0.03
    assert recordings_under(tmp_path / "no such folder") == []


def test_a_frame_is_shown_as_far_as_it_was_recorded(tmp_path: Path) -> None:
    reviews = Reviews()
    key, review = reviews.open(run(tmp_path, "one", 1e9))
    assert review.count == 12
    picture = reviews.picture(key, 7)
    assert picture is not None
    shown = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown is not None
    assert shown.shape[1] / shown.shape[0] == AREA_PX[2] / AREA_PX[3]
    assert shown.std() > 20
    reviews.close(key)


def test_what_is_not_there_is_no_picture(tmp_path: Path) -> None:
    reviews = Reviews()
    folder = run(tmp_path, "one", 1e9)
    key, _ = reviews.open(folder)
    assert reviews.picture("another", 0) is None
    assert reviews.picture(key, 12) is None
    assert reviews.picture(key, -1) is None
    part(folder.parent).unlink()
    reviews.picture(key, 11)  # whatever is still held open
    reviews.close(key)
    reviews.close(key)
    assert reviews.picture(key, 0) is None


def test_a_whole_frame_is_black_where_the_scan_area_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    keep(tmp_path / "one", 3, whole_frames=True)
    reviews = Reviews()
    key, _ = reviews.open(tmp_path / "one" / FOLDER)
    picture = reviews.picture(key, 1)
    assert picture is not None
    shown = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown is not None
    assert np.median(shown) < 3
    reviews.close(key)
