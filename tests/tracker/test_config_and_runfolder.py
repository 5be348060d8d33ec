"""Options from three places become one value; the folder of a run is never spoilt."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veintrack.errors import OutputError
from veintrack.tracker.config import RunConfig, make_config, read_config_file
from veintrack.tracker.runfolder import percentiles_ms, prepare, write_record
from veintrack.tracker.tracks import TrackSettings


def test_the_command_line_wins_over_the_file_and_the_file_over_defaults() -> None:
    config = make_config(
        {"source": "demo", "engine": "onnxruntime", "model": None},
        {"engine": "openvino", "max_frames": 7, "track": {"coast_s": 0.5}},
    )
    assert (config.engine, config.max_frames, config.model) == ("onnxruntime", 7, "default")
    assert config.track.coast_s == 0.5
    assert config.track.gate == RunConfig("demo").track.gate


def test_a_file_may_write_names_with_dashes(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("source: demo\nmax-frames: 3\nspacing: 0.1\ncrop: [1, 2, 30, 40]\n")
    config = make_config({}, read_config_file(path))
    assert config.max_frames == 3
    assert config.spacing == (0.1, 0.1)
    assert config.crop == (1, 2, 30, 40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no source: try `veintrack --source demo`"),
        ({"source": "demo", "engin": "x"}, "unknown option 'engin'; known: source, output"),
        ({"source": "demo", "track": {"coast": 1}}, "unknown track setting 'coast'; known: "),
        ({"source": "demo", "track": 5}, "track must be a section"),
        ({"source": "demo", "parity": {"dice": 2}}, "dice must lie between 0 and 1, got 2"),
        ({"source": "demo", "parity": {"shift": 1}}, "unknown parity setting 'shift'; known: dice"),
        ({"source": "demo", "track": {"gate": "wide"}}, "track: gate must be a number, got 'wide'"),
        ({"source": "demo", "max_frames": "many"}, "max_frames must be a whole number, got 'many'"),
        ({"source": "demo", "overwrite": "yes"}, "overwrite must be true or false, got 'yes'"),
        ({"source": "demo", "crop": "1,2,3"}, "crop must be auto, none or X,Y,W,H in whole px"),
        ({"source": "demo", "crop": "1.5,2,3,4"}, "crop must be auto, none or X,Y,W,H in whole px"),
        ({"source": "demo", "spacing": "-0.1"}, "spacing must be MM or ROW_MM,COL_MM"),
        ({"source": "demo", "spacing": "0.1,0.2,0.3"}, "spacing must be MM or ROW_MM,COL_MM"),
        ({"source": "demo", "spacing": "wide"}, "spacing must be MM or ROW_MM,COL_MM"),
        ({"source": "demo", "view": "hologram"}, "view must be one of auto, window, web, none"),
        (
            {"source": "demo", "duration": float("inf")},
            "duration must be greater than 0 and finite",
        ),
        ({"source": "demo", "crop": "inf,0,1,1"}, "crop must be auto, none or X,Y,W,H"),
        ({"source": "demo", "fps": 0}, "fps must be greater than 0 and finite, got 0"),
        ({"source": "demo", "max_age_ms": -5}, "max_age_ms must be greater than 0 and finite"),
        ({"source": "demo", "max_age_ms": "fresh"}, "max_age_ms must be a number, got 'fresh'"),
        (
            {"source": "demo", "sort_by": "beauty"},
            "sort_by must be one of diameter, depth, collapse, got 'beauty'",
        ),
        ({"source": "demo", "catheter_mm": 1.3}, "add --sort-by diameter"),
        (
            {"source": "demo", "sort_by": "depth", "catheter_mm": 0},
            "catheter_mm must be greater than 0 and finite, got 0",
        ),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config({}, options)


def test_a_file_names_options_as_the_command_line_does(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("source: demo\nmax-age: 80\nsort-by: depth\ncatheter: 1.3\n")
    config = make_config({}, read_config_file(path))
    assert (config.max_age_ms, config.sort_by, config.catheter_mm) == (80, "depth", 1.3)
    path.write_text("source: demo\nmax_age_ms: 80\n")
    assert make_config({"max_age_ms": 40.0}, read_config_file(path)).max_age_ms == 40


def test_every_setting_of_the_tracker_can_stand_in_a_file() -> None:
    settings = dict.fromkeys(TrackSettings.__slots__, 0.5)
    config = make_config({"source": "demo", "track": settings})
    assert asdict(config.track) == settings


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "is not YAML"), ("- a\n- b\n", "expected `option: value` lines")],
)
def test_a_file_that_is_no_configuration_is_named(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_config_file(path)


def test_a_missing_configuration_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: No such file"):
        read_config_file(tmp_path / "none.yaml")


def test_results_are_never_overwritten_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "tracks.csv").write_text("mine")
    (tmp_path / "notes.txt").write_text("also mine")
    with pytest.raises(OutputError, match=r"already holds tracks\.csv: .* add --overwrite"):
        prepare(str(tmp_path), overwrite=False)
    assert (tmp_path / "tracks.csv").read_text() == "mine"
    prepare(str(tmp_path), overwrite=True)
    assert not (tmp_path / "tracks.csv").exists()
    assert (tmp_path / "notes.txt").read_text() == "also mine"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write to .*file/run: Not a directory"):
        prepare(str(tmp_path / "file" / "run"), overwrite=False)


def test_runs_of_the_same_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {prepare(None, overwrite=False) for _ in range(4)}
    assert len(folders) == 4
    assert all(f.parent == Path("runs") for f in folders)


def test_two_runs_that_begin_at_the_same_moment_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "exists", lambda _: False)  # neither saw the other's
    folders = [prepare(None, overwrite=False) for _ in range(3)]
    assert len(set(folders)) == 3


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ("nowhere/v.mp4", "there is no folder .*out/nowhere"),
        ("/nowhere/v.mp4", "there is no folder /nowhere"),
        ("../mine.mp4", r"mine\.mp4 exists: .* add --overwrite"),
        ("tracks.csv", "is where other results go"),
        ("..", "it is a folder"),
    ],
)
def test_a_video_that_cannot_be_written_or_must_not_is_refused_before_the_run(
    tmp_path: Path, video: str, message: str
) -> None:
    (tmp_path / "mine.mp4").write_text("mine")
    out = tmp_path / "out"
    with pytest.raises(OutputError, match=message):
        prepare(str(out), overwrite=False, video=video)
    assert (tmp_path / "mine.mp4").read_text() == "mine"
    assert not out.exists()


def test_a_video_is_overwritten_when_asked(tmp_path: Path) -> None:
    (tmp_path / "mine.mp4").write_text("mine")
    prepare(str(tmp_path / "out"), overwrite=True, video="../mine.mp4")


@pytest.mark.parametrize("source", ["in/a.mp4", "in", "in/*.mp4", "link.mp4"])
def test_what_is_read_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/a.mp4").write_text("mine")
    Path("link.mp4").symlink_to("in/a.mp4")
    with pytest.raises(OutputError, match=r"a\.mp4 is what is read"):
        prepare("out", overwrite=True, video="../in/a.mp4", source=source)


def test_an_earlier_video_that_is_read_is_not_removed_with_the_earlier_results(
    tmp_path: Path,
) -> None:
    (tmp_path / "tracks.csv").write_text("")
    video = tmp_path / "overlay.mp4"
    video.write_text("mine")
    with pytest.raises(OutputError, match="is what is read"):
        prepare(str(tmp_path), overwrite=True, source=str(video))
    assert {p.name for p in tmp_path.iterdir()} == {"tracks.csv", "overlay.mp4"}


def test_the_record_is_replaced_whole(tmp_path: Path) -> None:
    write_record(tmp_path, {"summary": None})
    write_record(tmp_path, {"summary": {"frames": 3}})
    assert json.loads((tmp_path / "run.json").read_text()) == {"summary": {"frames": 3}}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_percentiles_are_in_milliseconds() -> None:
    ages = np.arange(1, 102, dtype=np.int64) * 1_000_000
    assert percentiles_ms(ages) == {"p50": 51.0, "p95": 96.0, "p99": 100.0}
    assert percentiles_ms(ages[:0]) == {"p50": 0.0, "p95": 0.0, "p99": 0.0}
