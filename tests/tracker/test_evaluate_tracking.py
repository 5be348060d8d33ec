"""``veintrack evaluate tracking``, driven as a user would."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest
import yaml

from tests.tracker.tracks_scene import detections, wandering, write_run
from veintrack.tracker.cli.app import run
from veintrack.tracker.scoring.rows import write_truth


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of three objects, 4 s, and their truth."""
    folder = tmp_path_factory.mktemp("scene")
    truth = wandering(3, 100, 500.0)
    write_truth(folder / "truth.csv", truth)
    write_run(folder / "run", detections(truth, 0.7, 0.7), spacing=0.1)
    return folder


@pytest.fixture
def evaluate(
    scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(scene)

    def call(*arguments: object, tracks: str = "run", truth: str = "truth.csv") -> Done:
        files = ("--tracks", tracks, "--truth", truth)
        code = run(["evaluate", "tracking", *files, *map(str, arguments)])
        return Done(code, *capsys.readouterr())

    return call


def test_the_tables_the_figures_and_the_plot_are_complete(evaluate: Run, tmp_path: Path) -> None:
    figures_file, plot = tmp_path / "new" / "f.json", tmp_path / "f.png"
    done = evaluate("--json", figures_file, "--plot", plot)
    assert done.code == 0, done.err
    words = " ".join(done.out.split())
    for text in ("HOTA", "IDF1", "identity switches", "95th percentile", "95% region holds", "NEES",
                 "time to confirm", "false tracks a minute", "Research use only"):  # fmt: skip
        assert text in words
    got = json.loads(figures_file.read_text())
    assert got["scores"]["id_f1"] > 0.95
    assert got["scores"]["switches"] == 0
    assert got["spacing_mm"] == [0.1, 0.1]
    assert got["error_mm"]["mean"] == pytest.approx(0.1 * got["error_px"]["mean"])
    assert [one["stated"] for one in got["seen"]["coverage"]] == [0.5, 0.9, 0.95]
    assert got["recall"] > 0.9
    assert [one["id"] for one in got["objects"]] == [1, 2, 3]
    assert got["fit"] is None
    picture = cv2.imread(str(plot))
    assert picture is not None
    assert picture.shape[1] > 800
    assert picture.std() > 10
    assert str(figures_file) in done.err
    assert str(plot) in done.err


def test_every_kind_of_file_of_a_run_is_scored(evaluate: Run, tmp_path: Path) -> None:
    means = []
    for n, name in enumerate(("run/tracks.jsonl", "run/tracks.csv", "run/tracks.mot.txt")):
        path = tmp_path / f"{n}.json"
        done = evaluate("--json", path, "--similarity", "centroid", tracks=name)
        assert done.code == 0, done.err
        got = json.loads(path.read_text())
        means.append([got["error_px"]["mean"], got["scores"]["hota"], got["confirm_s"]])
    lines, table, mot = means
    assert table == pytest.approx(lines, rel=2e-3)
    assert mot[1:] == pytest.approx(lines[1:], rel=0.05)
    assert mot[0] > lines[0]  # all that it holds is the middle of a box, as it was detected


def test_noise_settings_are_fitted_and_printed_for_the_configuration(
    evaluate: Run, tmp_path: Path
) -> None:
    done = evaluate("--fit", "--json", tmp_path / "f.json")
    assert done.code == 0, done.err
    assert "detections of known objects" in done.out
    fragment = yaml.safe_load(done.out[done.out.index("track:\n") :])
    assert fragment == yaml.safe_load(json.loads((tmp_path / "f.json").read_text())["fit"]["yaml"])
    assert fragment["track"]["noise_scale"] == pytest.approx(1, rel=0.5)


def test_a_spacing_that_is_given_wins(evaluate: Run, tmp_path: Path) -> None:
    done = evaluate("--spacing", "0.4,0.2", "--json", tmp_path / "f.json")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "f.json").read_text())["spacing_mm"] == [0.4, 0.2]


def test_what_is_missing_is_said_under_the_table(evaluate: Run, tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_text("frame,track_id,x_px,y_px\n0,1,0,200\n")
    alone = tmp_path / "tracks.csv"
    alone.write_text("frame,track_id,x_px,y_px\n0,1,0,200\n1,1,0,200\n2,1,0,200\n")
    done = evaluate(tracks=str(alone), truth=str(bare))
    assert done.code == 0, done.err
    words = " ".join(done.out.split())
    assert "67% of the frames have no truth" in words
    assert "--only-labelled" in words
    assert "No file holds times" in words
    assert "Millimetres need --spacing" in words
    assert "NEES" not in words


def test_nothing_is_overwritten_unasked(evaluate: Run, tmp_path: Path) -> None:
    for option, name in (("--json", "f.json"), ("--plot", "f.png")):
        path = tmp_path / name
        path.write_text("mine")
        done = evaluate(option, path)
        assert (done.code, path.read_text()) == (2, "mine")
        assert "exists: name another, or add --overwrite" in done.err
        assert evaluate(option, path, "--overwrite").code == 0
        assert path.read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--near", 0), "near must be greater than 0 and finite, got 0.0"),
        (("--similarity", "shape"), "similarity must be auto, box, centroid, got 'shape'"),
        (("--plot", "f.bmp"), "plot must end in .png, .svg, .pdf, got f.bmp"),
        (("--json", "."), "is a folder, not a file"),
        (("--spacing", "0"), "spacing"),
    ],
)
def test_wrong_options_end_with_one_line(
    evaluate: Run, arguments: tuple[object, ...], message: str
) -> None:
    done = evaluate(*arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.startswith("veintrack: ")
    assert done.err.count("\n") == 1


def test_what_is_read_is_never_written_over(evaluate: Run, scene: Path, tmp_path: Path) -> None:
    before = (scene / "truth.csv").read_bytes()
    done = evaluate("--json", "./truth.csv", "--overwrite")
    assert (done.code, (scene / "truth.csv").read_bytes()) == (2, before)
    assert "truth.csv is named twice: name another file to write to" in done.err
    both = tmp_path / "f.png"
    assert evaluate("--json", both, "--plot", both).code == 2
    assert not both.exists()


@pytest.mark.parametrize("rows", ["", "0,0,1,5,5\n", "0,0,1,5,5\n1,0,1,5,5\n"])
def test_a_plot_is_drawn_of_next_to_nothing(evaluate: Run, tmp_path: Path, rows: str) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_text(f"frame,time_s,track_id,x_px,y_px\n{rows}")
    pairs = [{"truth": str(bare)}, {"tracks": str(bare)}]
    if rows:
        pairs.append({"tracks": str(bare), "truth": str(bare)})
    for n, files in enumerate(pairs):
        done = evaluate("--plot", tmp_path / f"{n}.png", **files)
        assert done.code == 0, done.err
        assert (tmp_path / f"{n}.png").stat().st_size > 1000


def test_wrong_files_end_with_one_line(evaluate: Run, tmp_path: Path) -> None:
    for files, message in (
        ({"tracks": "nowhere.csv"}, "no file nowhere.csv"),
        ({"truth": "run/run.json"}, "has no column frame"),
        ({"truth": str(tmp_path)}, "holds no tracks"),
    ):
        done = evaluate(**files)
        assert done.code == 2
        assert message in done.err
        assert done.err.count("\n") == 1
    done = evaluate("--fit", tracks="run/tracks.csv")
    assert done.code == 2
    assert "--fit needs tracks.jsonl" in done.err


def test_a_missing_library_names_its_extra(evaluate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackeval", None)
    done = evaluate()
    assert done.code == 2
    assert 'evaluate tracking needs trackeval: pip install "veintrack[eval]"' in done.err


def test_a_missing_option_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "tracking", "--truth", "t.csv"]) == 2
    assert "--tracks" in capsys.readouterr().err
