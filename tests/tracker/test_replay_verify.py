"""What ``--verify`` passes, what it does not, and what it says then."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tracker.recording_scene import Ultrasound, moving_disc
from tests.tracker.replay_scene import (
    Recorded,
    change_kept,
    frames_of,
    kept_frames,
    recorder_of,
    replay,
    rows,
)
from veintrack.tracker.cli.app import run


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def recorded(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return recorder_of(model_file, monkeypatch)


def test_the_first_difference_is_told_with_frame_and_field(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(Ultrasound(moving_disc(40)))

    def change(lines: list[str]) -> None:
        cells = lines[11].split(",")
        cells[4] = "12.345"
        lines[11] = ",".join(cells)

    was = rows("run")[10].split(",")
    change_kept(change)
    capsys.readouterr()
    assert replay("--verify") == 1
    said = capsys.readouterr().err
    assert f"at frame {was[0]}, track {was[2]}: x_px was 12.345, and is {was[4]}" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines.pop(), "is there only now"),
        (lambda lines: lines.append(lines[-1]), "is there only when it was recorded"),
        (lambda lines: lines.pop(5), "frame was"),
        (lambda lines: lines.__setitem__(0, "frame,time_s,track_id\n"), "other columns"),
    ],
)
def test_rows_that_are_missing_are_told(
    recorded: Recorded,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[list[str]], None],
    said: str,
) -> None:
    recorded(Ultrasound(moving_disc(30)))
    change_kept(change)
    assert replay("--verify") == 1
    assert said in capsys.readouterr().err


def cut(share: float) -> None:
    """Cut the recording off, as a kill does: no end is written in the manifest."""
    path = Path("run/recording/part-00001.mkv")
    path.write_bytes(path.read_bytes()[: round(path.stat().st_size * share)])
    manifest = Path("run/recording/manifest.json")
    kept = {**json.loads(manifest.read_text()), "ended": None}
    del kept["recorded"]
    manifest.write_text(json.dumps(kept))


def test_of_a_recording_that_was_cut_off_what_is_left_is_verified(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(Ultrasound(moving_disc(60)))
    cut(0.7)
    assert replay("--verify") == 0
    frames = frames_of("again")
    assert 35 <= len(frames) <= 45
    assert run(["replay", "run", "--verify", "--output", "b", "--view", "none"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"before frame {frames[-1] + 1} are the same" in said


def test_what_was_tracked_after_the_tables_last_row_is_not_held_against_it(
    recorded: Recorded,
) -> None:
    recorded(Ultrasound(moving_disc(40)))
    cut(1.0)
    change_kept(lambda lines: lines.__delitem__(slice(-9, None)))  # its thread was behind
    assert replay("--verify") == 0
    change_kept(lambda lines: lines.__delitem__(-3))
    assert replay("--verify") == 1


@pytest.mark.parametrize("change", ["a line is gone", "two lines have changed places"])
def test_a_frame_that_is_gone_is_damage_and_not_verified(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    recorded(Ultrasound(moving_disc(30)))
    path = Path("run/recording/frames.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    lines[20:22] = [lines[21]] if change == "a line is gone" else lines[21:19:-1]
    path.write_text("".join(lines))
    assert replay("--verify") == 1
    said = capsys.readouterr().err
    assert "the recording is damaged: 29 of its 30 frames are left" in said
    assert "frame 20 was tracked" in said


def test_frames_that_changed_places_are_told(recorded: Recorded) -> None:
    recorded(Ultrasound(moving_disc(30)))
    path = Path("run/recording/frames.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for name in ("index", "capture_ns"):
        rows[20][name], rows[21][name] = rows[21][name], rows[20][name]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert replay("--verify") == 1


def test_where_the_beginning_was_removed_nothing_can_be_verified(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(Ultrasound(moving_disc(150)), "--record-minutes", str(2 / 60))
    assert kept_frames()[0] == 0  # its line stays
    assert replay("--verify") == 1
    assert "nothing can be verified: frame 0 was tracked and is not" in capsys.readouterr().err
    assert replay() == 0
