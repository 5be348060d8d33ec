"""A recording that is tracked again gives the same tracks, or says where they differ."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.tracker.faulty_source import (
    Fails,
    FaultySource,
    Frames,
    Hangs,
    Refuses,
    Script,
    Step,
)
from tests.tracker.recording_scene import LiveScene, Ultrasound, moving_disc
from tests.tracker.replay_scene import (
    Recorded,
    frames_of,
    kept_frames,
    recorder_of,
    replay,
    rows,
    said_of_frames,
)
from tests.tracker.screens import furniture, linear_screen
from veintrack.tracker.cli.app import run
from veintrack.tracker.frame import U8
from veintrack.tracker.sources import open_source
from veintrack.tracker.sources.arrays import ArraySource
from veintrack.tracker.sources.persistent import PersistentSource


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def recorded(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return recorder_of(model_file, monkeypatch)


def test_the_tracks_of_a_file_come_out_the_same_byte_for_byte(recorded: Recorded) -> None:
    run_folder = recorded(Ultrasound(moving_disc(60)))
    assert len(rows("run")) > 40
    assert replay("--verify") == 0
    assert (run_folder / "tracks.csv").read_bytes() == Path("again/tracks.csv").read_bytes()


def test_a_recording_is_a_source_of_its_own(recorded: Recorded, model_file: Path) -> None:
    recorded(Ultrasound(moving_disc(30)))
    given = ["--source", "run", "--model", str(model_file), "--engine", "onnxruntime"]
    assert run([*given, "--output", "again", "--view", "none", "--quiet"]) == 0
    assert rows("again") == rows("run")


def screens(count: int, shape: tuple[int, int] = (240, 320)) -> list[U8]:
    """A scanner's screen with names on it, and what is in its middle."""
    tissue = moving_disc(count, (160, 190))
    ground = [cv2.resize(furniture(i // 30), shape[::-1]) for i in range(count)]
    return [
        linear_screen(t, np.asarray(g, np.uint8), (55, 30, 190, 160))
        for t, g in zip(tissue, ground, strict=True)
    ]


def test_only_the_scan_area_is_kept_and_the_tracks_are_the_same(recorded: Recorded) -> None:
    recorded(ArraySource(screens(70)))
    lines = Path("run/recording/frames.jsonl").read_text().splitlines()
    x, y, width, height = json.loads(lines[0])["crop_px"]
    assert 50 <= x <= 60
    assert 25 <= y <= 35
    assert width * height < 0.5 * 240 * 320
    assert len(lines) == 70
    assert len(rows("run")) > 40
    assert replay("--verify") == 0
    assert rows("again") == rows("run")


def test_whole_frames_are_kept_where_that_is_asked_for(recorded: Recorded) -> None:
    pictures = screens(45)
    recorded(ArraySource(pictures), "--record-full")
    with open_source("run") as source:
        for was, now in zip(pictures, source, strict=True):
            assert np.array_equal(was, now.pixels)
    assert replay("--verify") == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "recording the scan area: what lies outside may name the patient"),
        (("--record-full",), "recording whole frames, with whatever is written on them"),
        (("--crop", "none"), "recording whole frames, with whatever is written on them"),
    ],
)
def test_what_is_recorded_is_said(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    recorded(Ultrasound(moving_disc(5)), *options, quiet=False)
    assert said in capsys.readouterr().err


def test_a_live_run_with_frames_passed_over_comes_out_the_same(recorded: Recorded) -> None:
    recorded(LiveScene(moving_disc(150), period_s=0.001), "--crop", "none")
    tracked, kept = frames_of("run"), kept_frames()
    assert kept == list(range(150))
    assert len(tracked) < 150
    assert replay("--verify") == 0
    assert frames_of("again") == tracked
    assert replay("--verify", "--pace", "as-captured") == 0
    assert rows("again") == rows("run")
    assert replay("--all-frames") == 0
    assert frames_of("again") == kept


def test_of_a_live_screen_the_area_is_found_before_tracking_begins(recorded: Recorded) -> None:
    recorded(LiveScene(screens(150), period_s=0.012))
    lines = [json.loads(line) for line in said_of_frames()]
    assert all(line["settled"] for line in lines)
    assert len({tuple(line["scan_area_px"]) for line in lines}) == 1
    assert replay("--verify") == 0
    assert rows("again") == rows("run")


def test_names_that_come_up_in_the_midst_of_it_are_not_recorded(recorded: Recorded) -> None:
    pictures = screens(150)
    page = np.random.default_rng(5).integers(0, 2, (240, 320), np.uint8) * np.uint8(255)
    pictures[110:135] = [page] * 25
    recorded(LiveScene(pictures, period_s=0.012))
    assert not {*range(110, 135)} & {*kept_frames()}
    assert {*range(140, 150)} <= {*kept_frames()}
    assert replay("--verify") == 0  # as far as it goes


def test_frames_that_were_too_old_are_predicted_again(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EverySecond:
        """Refuses every other frame."""

        def __init__(self, limit_ms: float | None) -> None:
            self.refused = self._asked = 0
            del limit_ms

        def refuses(self, age_ns: int, now_ns: int) -> bool:
            del age_ns, now_ns
            self._asked += 1
            self.refused += self._asked % 2 == 0
            return self._asked % 2 == 0

        def took(self, duration_ns: int) -> None:
            del duration_ns

    with monkeypatch.context() as patch:
        patch.setattr("veintrack.tracker.pipeline.AgeLimit", EverySecond)
        recorded(LiveScene(moving_disc(60), period_s=0.005), "--crop", "none")
    segmented = [json.loads(x)["segmented"] for x in said_of_frames()]
    assert segmented.count(False) > 10
    assert replay("--verify") == 0
    assert rows("again") == rows("run")


def test_what_was_predicted_while_the_source_was_lost_is_predicted_again(
    recorded: Recorded, tmp_path: Path
) -> None:
    steps: list[Step] = [
        Frames(40),
        Fails("ENODEV"),
        Refuses(2),
        Frames(40),
        Fails("gone"),
        Hangs(),
    ]
    source = PersistentSource(FaultySource(Script(steps), 0.01), 0.7)
    (tmp_path / "c.yaml").write_text(
        "judge_pictures: false\ncrop: none\ntrack: {confirm_s: 0.05}\n"
    )
    recorded(source, "--config", "c.yaml", code=1)  # it did not come back
    between = [x for x in said_of_frames() if json.loads(x)["between_ns"] is not None]
    assert len(between) > 3
    assert any(",coasting," in row for row in rows("run"))
    assert replay("--verify") == 0
    assert rows("again") == rows("run")


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        (("--crop", "20,30,90,80"), True),
        (("--spacing", "0.5"), False),
        (("--max-frames", "20"), True),
        (("--pace", "realtime"), False),
    ],
)
def test_any_option_may_be_changed(
    recorded: Recorded, options: Sequence[str], differs: bool
) -> None:
    recorded(Ultrasound(moving_disc(40)))
    assert replay(*options) == 0
    assert (frames_of("again") != frames_of("run") or rows("again") != rows("run")) or not differs
    configuration = json.loads(Path("again/run.json").read_text())["configuration"]
    if options[0] == "--crop":
        assert configuration["crop"] == [20, 30, 90, 80]


def test_settings_come_from_the_recording_and_a_file_may_change_them(
    recorded: Recorded, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text("track: {coast_s: 0.25}\n")
    recorded(Ultrasound(moving_disc(20)), "--config", "c.yaml")
    assert replay("--verify") == 0
    (tmp_path / "d.yaml").write_text("track: {coast_s: 0.75}\n")
    kept = json.loads(Path("again/run.json").read_text())
    assert kept["configuration"]["track"]["coast_s"] == 0.25
    assert kept["engine"] == "onnxruntime"
    assert replay("--config", "d.yaml") == 0
    now = json.loads(Path("again/run.json").read_text())
    assert now["configuration"]["track"]["coast_s"] == 0.75


def test_it_may_begin_later(recorded: Recorded) -> None:
    recorded(Ultrasound(moving_disc(60)))
    assert replay("--seek", "1.5") == 0
    assert frames_of("again") == list(range(45, 60))


def test_a_recording_does_not_say_in_which_folder_its_source_lay(
    recorded: Recorded, tmp_path: Path
) -> None:
    recorded(Ultrasound(moving_disc(5)))
    said = Path("run/recording/manifest.json").read_text()
    assert json.loads(said)["configuration"]["output"] is None
    assert str(tmp_path) not in said


def test_a_recording_is_not_written_over_unasked_and_goes_if_it_is(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(Ultrasound(moving_disc(10)))
    shutil.copytree("run/recording", "other/recording")
    recorded(Ultrasound(moving_disc(8)), code=2)
    assert "already holds" in capsys.readouterr().err
    assert len(kept_frames()) == 10
    recorded(Ultrasound(moving_disc(8)), "--overwrite")
    assert len(kept_frames()) == 8


def test_a_replay_does_not_write_over_what_it_reads(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(Ultrasound(moving_disc(8)))
    arguments = ["replay", "run", "--output", "run", "--overwrite", "--view", "none", "--quiet"]
    assert run(arguments) == 2
    assert "is what is read" in capsys.readouterr().err
    assert len(kept_frames()) == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "nowhere"], "nowhere holds no recording: a run with --record makes one"),
        (["replay", "a" * 300], "holds no recording"),
        (["replay", "run", "--verify", "--max-frames", "2"], "all tracks are verified"),
        (["replay", "run", "--pace", "fast"], "pace must be asap, realtime, as-captured"),
        (["replay", "run", "--seek", "-1"], "seek must be 0 or more and finite, got -1"),
        (["replay", "run", "--verify", "--seek", "1"], "the same tracks come of the same frames"),
        (["replay", "run", "--verify", "--pace", "realtime"], "the same tracks come of the same"),
        (["replay", "run", "--crop", "1,2"], "crop must be auto, none or X,Y,W,H"),
        (["--source", "demo", "--record-full"], "record_full is of a recording: add --record"),
        (["--source", "demo", "--record-minutes", "2"], "record_minutes is of a recording"),
        (
            ["--source", "demo", "--record", "--record-max-gb", "0"],
            "record_max_gb must be greater than 0 and finite, got 0",
        ),
    ],
)
def test_wrong_options_are_answered_with_a_line(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    if "run" in arguments:
        recorded(Ultrasound(moving_disc(4)))
    assert run(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_recording_of_nothing_tracked_says_so(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(Ultrasound(moving_disc(4)))
    Path("run/recording/tracked.jsonl").write_text("")
    assert replay() == 2
    assert "no frame of it was tracked" in capsys.readouterr().err
    Path("run/recording/tracked.jsonl").write_text("{}\n{}\n")
    assert replay() == 2
    assert "line 1 is damaged" in capsys.readouterr().err


def test_a_manifest_without_a_configuration_is_damage(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(Ultrasound(moving_disc(4)))
    path = Path("run/recording/manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "configuration": 5}))
    assert replay() == 2
    assert "manifest.json does not say how it was tracked" in capsys.readouterr().err


def test_another_model_than_then_is_told(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(Ultrasound(moving_disc(4)))
    path = Path("run/recording/manifest.json")
    manifest: dict[str, Any] = json.loads(path.read_text())
    manifest["model"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert run(["replay", "run", "--output", "b", "--view", "none"]) == 0
    assert "the model is another than when this was recorded" in " ".join(
        capsys.readouterr().err.split()
    )


def test_what_was_recorded_is_in_the_summary(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(Ultrasound(moving_disc(12)), "--json")
    facts = json.loads(capsys.readouterr().out)["recorded"]
    assert {k: facts[k] for k in ("frames", "lost", "left_out", "removed", "parts")} == {
        "frames": 12,
        "lost": 0,
        "left_out": 0,
        "removed": 0,
        "parts": 1,
    }
    manifest = json.loads(Path("run/recording/manifest.json").read_text())
    assert manifest["recorded"] == facts
    wanted = {"notice", "versions", "model", "configuration", "source", "clock_anchor", "format"}
    assert wanted <= manifest.keys()
    assert len(manifest["model"]["sha256"]) == 64
