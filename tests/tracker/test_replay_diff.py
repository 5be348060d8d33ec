"""How two runs differ: in frames, in identities, in places."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from veintrack.tracker.cli.app import run
from veintrack.tracker.rundiff import RunDiff, compare_runs, put_together
from veintrack.tracker.scoring.rows import Rows

RATE_HZ = 30


def rows_of(ids: dict[int, tuple[float, float]], frames: range = range(40)) -> Rows:
    """Tracks that stand still, one for each identity, in every frame."""
    every = [(f, i, xy) for f in frames for i, xy in ids.items()]
    count = len(every)
    return Rows(
        frame=np.array([f for f, *_ in every], np.int64),
        id=np.array([i for _, i, _ in every], np.int64),
        time_s=np.array([f / RATE_HZ for f, *_ in every]),
        xy_px=np.array([xy for *_, xy in every], float).reshape(-1, 2),
        confirmed=np.ones(count, bool),
        major_px=np.full(count, 20.0),
        all_frames=np.array(frames, np.int64),
        all_time_s=np.array(frames) / RATE_HZ,
    )


def diff_of(a: Rows, b: Rows) -> RunDiff:
    return compare_runs(put_together(a, b))


def test_a_run_is_the_same_as_itself() -> None:
    rows = rows_of({1: (10, 10), 2: (50, 20)})
    found = diff_of(rows, rows)
    assert found.same
    assert [(p.a, p.b, p.frames) for p in found.pairs] == [(1, 1, 40), (2, 2, 40)]
    assert found.distance is not None
    assert (found.distance.same, found.distance.maximum) == (80, 0)


def test_distances_are_those_of_the_centroids() -> None:
    a, b = rows_of({1: (10, 10), 2: (50, 20)}), rows_of({1: (13, 14), 2: (50, 20)})
    found = diff_of(a, b)
    assert not found.same
    assert found.pairs[0].distance.median == pytest.approx(5)
    assert found.pairs[1].distance.same == 40
    assert found.distance is not None
    assert found.distance.maximum == pytest.approx(5)


def test_identities_that_changed_are_told() -> None:
    a = rows_of({1: (10, 10)})
    early, late = rows_of({4: (10, 10)}, range(25)), rows_of({7: (10, 10)}, range(25, 40))
    b = joined(early, late)
    found = diff_of(a, b)
    assert [(p.a, p.b, p.frames, p.first, p.last) for p in found.pairs] == [
        (1, 4, 25, 0, 24),
        (1, 7, 15, 25, 39),
    ]
    assert not found.same


def joined(*parts: Rows) -> Rows:
    names = ("frame", "id", "time_s", "xy_px", "confirmed", "major_px", "all_frames", "all_time_s")
    return Rows(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def test_tracks_without_a_counterpart_are_told() -> None:
    a, b = rows_of({1: (10, 10), 2: (90, 90)}), rows_of({1: (10, 10), 5: (50, 50)})
    found = diff_of(a, b)
    assert found.alone_a == ((2, 40),)
    assert found.alone_b == ((5, 40),)
    assert (found.rows_a, found.rows_b, found.rows_both) == (80, 80, 40)


def test_frames_that_only_one_run_has_do_not_count_against_the_other() -> None:
    a, b = rows_of({1: (10, 10)}), rows_of({1: (10, 10)}, range(0, 40, 2))
    found = diff_of(a, b)
    assert (found.frames_a, found.frames_b, found.frames_both) == (40, 20, 20)
    assert (found.rows_a, found.rows_both) == (20, 20)
    assert not found.same


def test_a_run_that_began_later_has_other_times_for_the_same_frames() -> None:
    a, b = rows_of({1: (10, 10)}), rows_of({1: (10, 10)}, range(20, 40))
    late = replace(b, time_s=b.time_s - b.time_s[0], all_time_s=np.arange(20) / RATE_HZ)
    found = diff_of(a, late)
    assert (found.frames_both, found.rows_both) == (20, 20)


def test_seen_in_one_and_predicted_in_the_other_is_counted() -> None:
    a = rows_of({1: (10, 10)})
    confirmed = np.ones(40, bool)
    confirmed[5:9] = False
    found = diff_of(a, replace(a, confirmed=confirmed))
    assert found.status == 4
    assert not found.same


def test_runs_of_other_sources_are_refused() -> None:
    a = rows_of({1: (10, 10)})
    slower = replace(a, time_s=2 * a.time_s, all_time_s=2 * np.arange(40) / RATE_HZ)
    with pytest.raises(ValueError, match="must be of the same source"):
        put_together(a, slower)
    with pytest.raises(ValueError, match="no frame in common"):
        put_together(a, rows_of({1: (10, 10)}, range(100, 120)))


def test_runs_without_tracks_are_the_same() -> None:
    rows = rows_of({})
    found = diff_of(rows, rows)
    assert found.distance is None
    assert found.same


def write(folder: Path, x: float, number: int = 1) -> Path:
    folder.mkdir()
    lines = [f"{f},{f / RATE_HZ:.6f},{number},confirmed,{x},10.000\n" for f in range(30)]
    (folder / "tracks.csv").write_text("frame,time_s,track_id,status,x_px,y_px\n" + "".join(lines))
    return folder


def test_the_command_prints_a_table_and_writes_figures_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib: veintrack[train]")
    a, b = write(tmp_path / "a", 10.0), write(tmp_path / "b", 10.5, 3)
    figures, picture = tmp_path / "d.json", tmp_path / "d.png"
    assert run(["diff", str(a), str(b), "--json", str(figures), "--plot", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "the runs differ" in said
    assert "0.500" in said
    found = json.loads(figures.read_text())
    assert found["same"] is False
    assert found["pairs"][0]["b"] == 3
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run(["diff", str(a), str(a)]) == 0
    assert "the runs are the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--near", "0"], "near must be greater than 0 and finite, got 0"),
        (["--plot", "d.txt"], "plot must end in .png, .svg, .pdf, got d.txt"),
        (["--json", "a"], "a is a folder"),
    ],
)
def test_wrong_options_of_the_command_are_answered_with_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a", 1.0)
    assert run(["diff", "a", "a", *options]) == 2
    assert said in capsys.readouterr().err
    assert run(["diff", "a", "nowhere"]) == 2
