"""The installed command, driven as a user would, with the shipped model."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.conftest import dark_is_vessel

FILES = {"tracks.csv", "tracks.jsonl", "tracks.mot.txt", "run.json"}
COMMAND = (sys.executable, "-m", "veintrack")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def veintrack(tmp_path: Path) -> Run:
    """Run the command in an empty folder."""

    def run(*arguments: object, timeout_s: float = 120) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=timeout_s,
            check=False,
        )

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def write_video(
    path: Path, pictures: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]
) -> Path:
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.height, stream.width = pictures[0].shape
        stream.pix_fmt = "yuv420p"
        stream.options = {"bf": "0", "g": "10"}
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short video of the phantom."""
    from veintrack.tracker.phantom import Phantom, demo_settings

    phantom = Phantom(demo_settings())
    return write_video(
        tmp_path_factory.mktemp("clip") / "clip.mp4", [phantom.render(i).pixels for i in range(40)]
    )


@pytest.fixture(scope="session")
def quick_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that costs no time, where the network's answer does not matter."""
    return dark_is_vessel(tmp_path_factory.mktemp("quick") / "quick.onnx", 64)


def test_the_demo_runs_and_follows_its_three_vessels(veintrack: Run, tmp_path: Path) -> None:
    done = veintrack("--source", "demo", "--max-frames", 60, "--output", "out", "--json", "--video")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["frames"] == 60
    assert (summary["drops"], summary["driver_drops"]) == (0, 0)
    assert summary["tracks_confirmed"] == 3
    assert set(summary["latency_ms"]) == {"p50", "p95", "p99"}
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == FILES | {"overlay.mp4"}
    record = json.loads((out / "run.json").read_text())
    assert record["summary"] == summary
    assert "Research use only" in record["notice"]
    assert len(record["model"]["sha256"]) == 64
    assert {r["track_id"] for r in rows(out / "tracks.csv")} == {"1", "2", "3"}
    assert len(lines(out / "tracks.jsonl")) == 60
    with av.open(str(out / "overlay.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 60


def test_a_video_is_tracked_frame_by_frame_with_its_own_times(
    veintrack: Run, clip: Path, tmp_path: Path
) -> None:
    done = veintrack("--source", clip, "--output", "out", "--spacing", "0.1", "--view", "none")
    assert done.returncode == 0, done.stderr
    assert "40 of 40" in done.stdout
    frames = [json.loads(line) for line in lines(tmp_path / "out" / "tracks.jsonl")]
    assert [f["frame"] for f in frames] == list(range(40))
    assert frames[-1]["time_s"] == pytest.approx(39 / 25)
    last = rows(tmp_path / "out" / "tracks.csv")[-1]
    assert float(last["minor_mm"]) == pytest.approx(float(last["minor_px"]) / 10, abs=0.01)


def test_the_same_source_twice_gives_the_same_bytes(
    veintrack: Run, clip: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        assert veintrack("--source", clip, "--output", name, "--quiet").returncode == 0
    first, second = ((tmp_path / n / "tracks.csv").read_bytes() for n in ("a", "b"))
    assert first == second
    assert first.count(b"\n") > 100


def test_mot_rows_are_read_by_trackeval(veintrack: Run, tmp_path: Path) -> None:
    trackeval = pytest.importorskip(
        "trackeval", reason='trackeval is not installed: pip install "veintrack[eval]"'
    )
    veintrack("--source", "demo", "--max-frames", 30, "--output", "out", "--quiet")
    ours = (tmp_path / "out" / "tracks.mot.txt").read_text()
    truth = tmp_path / "gt" / "phantom" / "gt"
    truth.mkdir(parents=True)
    # Truth as MOT wants it: counted (1), class 1, fully visible. Ours against itself is perfect.
    boxes = [row.split(",")[:6] for row in ours.splitlines()]
    (truth / "gt.txt").write_text("".join(",".join([*box, "1,1,1"]) + "\n" for box in boxes))
    (tmp_path / "gt" / "phantom" / "seqinfo.ini").write_text(
        "[Sequence]\nname=phantom\nseqLength=30\n"
    )
    results = tmp_path / "results" / "veintrack" / "data"
    results.mkdir(parents=True)
    (results / "phantom.txt").write_text(ours)
    dataset = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(tmp_path / "gt"),
            "TRACKERS_FOLDER": str(tmp_path / "results"),
            "SEQ_INFO": {"phantom": 30},
            "SKIP_SPLIT_FOL": True,
            "DO_PREPROC": False,
            "PRINT_CONFIG": False,
        }
    )
    raw = dataset.get_raw_seq_data("veintrack", "phantom")
    data = dataset.get_preprocessed_seq_data(raw, "pedestrian")
    scores = trackeval.metrics.CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)
    assert scores["MOTA"] == 1.0
    assert scores["CLR_TP"] == len(ours.splitlines())


def test_results_are_not_overwritten_unless_asked(veintrack: Run, quick_model: Path) -> None:
    run = ("--source", "demo", "--max-frames", 3, "--model", quick_model, "--output", "out")
    assert veintrack(*run).returncode == 0
    again = veintrack(*run)
    assert again.returncode == 2
    assert "already holds tracks.csv" in again.stderr
    assert veintrack(*run, "--overwrite").returncode == 0


def test_a_config_file_is_read_and_the_command_line_wins(
    veintrack: Run, quick_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text(
        f"source: demo\nmodel: {quick_model}\nmax-frames: 9\noutput: out\ntrack:\n  coast_s: 0.5\n"
    )
    done = veintrack("--config", "c.yaml", "--max-frames", 5, "--json")
    assert json.loads(done.stdout)["frames"] == 5
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["configuration"]["track"]["coast_s"] == 0.5


def test_the_best_vein_is_named_in_every_row_and_at_the_end(
    veintrack: Run, clip: Path, tmp_path: Path
) -> None:
    options = ("--spacing", 0.08, "--sort-by", "depth", "--catheter", 1.2, "--view", "none")
    done = veintrack("--source", clip, "--output", "out", *options)
    assert done.returncode == 0, done.stderr
    frames = [json.loads(line) for line in lines(tmp_path / "out" / "tracks.jsonl")]
    depths = {t["id"]: t["near_wall_mm"] for t in frames[-1]["tracks"]}
    assert len(depths) == 3
    assert frames[-1]["best"] == min(depths, key=lambda number: depths[number])
    best = json.loads((tmp_path / "out" / "run.json").read_text())["summary"]["best"]
    assert (best["track_id"], best["by"]) == (frames[-1]["best"], "depth")
    assert best["catheter_to_vein"] == pytest.approx(1.2 / best["minor_mm"], abs=1e-3)
    (named,) = (line for line in done.stdout.splitlines() if line.startswith("best vein"))
    assert f"{best['near_wall_mm']:.1f} mm deep" in named
    assert "of its width (by depth)" in named


def test_frames_that_would_be_too_old_are_predicted_and_counted(
    veintrack: Run, quick_model: Path, tmp_path: Path
) -> None:
    done = veintrack(
        "--source", "demo", "--duration", 3, "--pace", "realtime", "--max-age", 0.001,
        "--model", quick_model, "--output", "out", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    frames = [json.loads(line) for line in lines(tmp_path / "out" / "tracks.jsonl")]
    assert summary["frames"] == len(frames)
    assert summary["too_old"] == sum(not frame["segmented"] for frame in frames) > 0
    assert 8 <= sum(frame["segmented"] for frame in frames) <= 13
    assert done.stderr.count("no frame is in time for an age of 0.001 ms") == 1
    statuses = {t["status"] for f in frames if not f["segmented"] for t in f["tracks"]}
    assert "confirmed" not in statuses


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_closes_its_files_properly(
    tmp_path: Path, quick_model: Path, number: int
) -> None:
    process = subprocess.Popen(
        [
            *COMMAND, "--source", "demo", "--duration", "600", "--pace", "realtime", "--video",
            "--model", str(quick_model), "--output", "out",
        ],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    table = tmp_path / "out" / "tracks.jsonl"
    deadline = time.monotonic() + 60
    while not (table.exists() and len(lines(table)) > 5):
        assert time.monotonic() < deadline, process.stderr
        time.sleep(0.05)
    asked = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert time.monotonic() - asked < 10
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["ended"] == "interrupted"
    frames = record["summary"]["frames"]
    written = [json.loads(line) for line in lines(table)]
    assert len(written) == frames
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == frames


def test_a_truncated_video_is_tracked_to_where_it_ends_and_said_so(
    veintrack: Run, clip: Path, quick_model: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    done = veintrack("--source", cut, "--model", quick_model, "--output", "out")
    assert done.returncode == 1
    (problem,) = [line for line in done.stderr.splitlines() if line.startswith("veintrack: ")]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    frames = record["summary"]["frames"]
    assert 5 < frames < 40
    assert str(frames) in problem
    assert "40" in problem
    assert len(lines(tmp_path / "out" / "tracks.jsonl")) == frames


def _missing(folder: Path) -> list[object]:
    return ["--source", folder / "none.mp4"]


def _text_as_video(folder: Path) -> list[object]:
    (folder / "text.mp4").write_text("not a video\n" * 20)
    return ["--source", folder / "text.mp4"]


def _empty_folder(folder: Path) -> list[object]:
    (folder / "empty").mkdir()
    return ["--source", folder / "empty"]


def _unknown_engine(folder: Path) -> list[object]:
    del folder
    return ["--source", "demo", "--engine", "abacus"]


def _no_metadata(folder: Path) -> list[object]:
    return ["--source", "demo", "--model", dark_is_vessel(folder / "bare.onnx", props={"a": "b"})]


def _unwritable(folder: Path) -> list[object]:
    (folder / "file").write_text("")
    return ["--source", "demo", "--output", folder / "file" / "out", "--overwrite"]


def _unknown_option(folder: Path) -> list[object]:
    del folder
    return ["--source", "demo", "--speed", "high"]


def _age_of_what_has_none(folder: Path) -> list[object]:
    model = dark_is_vessel(folder / "quick.onnx")
    return ["--source", "demo", "--model", model, "--max-age", "50"]


def _catheter_for_no_vein(folder: Path) -> list[object]:
    del folder
    return ["--source", "demo", "--catheter", "1.3"]


def _unquoted_glob(folder: Path) -> list[object]:
    for name in "abc":
        (folder / f"{name}.png").write_bytes(b"")
    return ["--source", *sorted(folder.glob("*.png"))]


@pytest.mark.parametrize(
    ("mistake", "answer"),
    [
        (_missing, "no such file"),
        (_text_as_video, "is not a video file"),
        (_empty_folder, "no pictures in the folder"),
        (_unknown_engine, "unknown engine 'abacus'; choose one of auto, openvino, onnxruntime"),
        (_no_metadata, "without veintrack's metadata: it lacks"),
        (_unwritable, "cannot write to"),
        (_unknown_option, "--speed"),
        (_age_of_what_has_none, "leave --max-age out, or add --pace realtime"),
        (_catheter_for_no_vein, "a catheter is compared with the best vein: add --sort-by"),
        (_unquoted_glob, "quote the pattern"),
    ],
)
def test_a_mistake_is_answered_with_one_line_and_leaves_nothing_behind(
    veintrack: Run, tmp_path: Path, mistake: Callable[[Path], list[object]], answer: str
) -> None:
    arguments = mistake(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    if "--output" not in arguments:
        arguments += ["--output", tmp_path / "out"]
    done = veintrack(*arguments, "--quiet")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("veintrack: ")
    assert answer in line
    assert sorted(tmp_path.rglob("*")) == before


def test_the_help_names_every_default(veintrack: Run) -> None:
    done = veintrack("--help")
    assert done.returncode == 0
    words = " ".join(done.stdout.split())
    for text in ("[a new one under runs/]", "[auto]", "[overlay.mp4]", "not a medical device"):
        assert text in words
    assert "[vessel=1]" in " ".join(veintrack("train", "--help").stdout.split())


def test_debug_shows_the_traceback(veintrack: Run) -> None:
    done = veintrack("--source", "nowhere.mp4", "--debug")
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("source", "frames"),
    [
        ("replay/Reg_Image_18122_crop.mp4", 187),
        ("replay/brachial_artery_screen_capture.mov", 450),
        ("carotid/images/S1_022VAS_*.png", 90),
    ],
)
def test_real_recordings_are_tracked_to_their_last_frame(
    veintrack: Run, recordings: Path, tmp_path: Path, source: str, frames: int
) -> None:
    done = veintrack(
        "--source", recordings / source, "--output", "out", "--view", "none", "--json",
        timeout_s=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["frames"], summary["drops"], summary["driver_drops"]) == (frames, 0, 0)
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES
    assert len(lines(tmp_path / "out" / "tracks.jsonl")) == frames
