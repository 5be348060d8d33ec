"""veintrack beside its peers: taking turns, who is left out, and how it is summed up."""

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.conftest import disc

ROOT = Path(__file__).parents[2]
FAKE = """
import sys
import numpy as np
from peers_process import serve, timed

class Fake:
    def __init__(self, brief):
        print("a library's banner")
        if "refuse" in brief:
            raise ValueError("no such model\\nand more")
        self.brief = brief
        self.turns = 0
        self.facts = {
            "does": "nothing", "clock": "none", "precision": brief.get("precision", "fp32")
        }

    def turn(self, frames, warm_up):
        self.turns += 1
        if self.turns == self.brief.get("dies"):
            print("out of memory", file=sys.stderr)
            sys.exit(3)
        timed(iter(range(frames + warm_up)), frames, warm_up)
        return self.brief["fps"], 2.0

    def masks(self, count):
        return np.ones((count, 3, self.brief.get("columns", 4)), np.uint8)

serve(Fake)
"""


@pytest.fixture(scope="module")
def peers() -> Any:
    return importlib.import_module("peers")


@pytest.fixture(scope="module")
def report() -> Any:
    return importlib.import_module("peers_report")


@pytest.fixture(scope="module")
def process() -> Any:
    return importlib.import_module("peers_process")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command that starts a contestant which computes nothing."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "benchmarks"))
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    return [sys.executable, str(script)]


@pytest.fixture
def entries(peers: Any, fake: list[str]) -> list[Any]:
    """Two that play, and one each that is refused, dies, segments another grid, is missing."""
    return [
        peers.Entry("veintrack bf16", fake, {"fps": 60.0, "precision": "bf16"}),
        peers.Entry("slow", fake, {"fps": 20.0}),
        peers.Entry("refused", fake, {"refuse": True}),
        peers.Entry("mortal", fake, {"fps": 1.0, "dies": 2}),
        peers.Entry("odd", fake, {"columns": 5}),
        peers.Entry("FAST", ["fast"], missing="not installed: get it"),
    ]


def result(report: Any, precision: str, fps: list[float], masks: Any = None) -> Any:
    shown = np.ones((1, 2, 2), np.uint8) if masks is None else np.array(masks, np.uint8)
    facts = {"does": "much", "clock": "from here to there", "precision": precision}
    return report.Result(facts, shown, {"fps": fps, "cpu_ms": [3.0, 1.0, 2.0]})


def test_a_contestant_answers_whatever_its_libraries_print(
    process: Any, fake: list[str], tmp_path: Path
) -> None:
    peer = process.Peer(fake, {"fps": 25.0}, tmp_path / "log")
    try:
        assert peer.facts["does"] == "nothing"
        assert peer.turn(4, 1) == {"fps": 25.0, "cpu_ms": 2.0}
        peer.masks(2, tmp_path / "masks.npy")
        assert np.load(tmp_path / "masks.npy").shape == (2, 3, 4)
    finally:
        peer.close()
    assert "a library's banner" in (tmp_path / "log").read_text()


def test_what_cannot_be_started_is_told(process: Any, tmp_path: Path) -> None:
    with pytest.raises(process.PeerError, match="no-python: No such file or directory"):
        process.Peer([str(tmp_path / "no-python")], {}, tmp_path / "log")


def test_who_fails_or_is_missing_is_left_out_and_told(
    peers: Any, entries: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_PAUSE_S", 0)
    contest = peers.Contest({"inner": [0, 1, 4, 3]}, tmp_path)
    try:
        for entry in entries:
            contest.load(entry)
        assert list(contest.results) == ["veintrack bf16", "slow", "mortal"]
        for number in range(3):
            contest.play(5, 2, backwards=number % 2 == 1)
    finally:
        contest.close()
    assert contest.left_out == {
        "refused": "ValueError: no such model",
        "mortal": "ended with exit status 3: out of memory",
        "odd": "expected masks of shape (5, 3, 4), got (5, 3, 5)",
        "FAST": "not installed: get it",
    }
    assert contest.results["slow"].turns["fps"] == [20.0] * 3


def test_fast_and_libraries_that_are_not_installed_are_told(
    peers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None if name == "torch" else name)
    monkeypatch.setattr(sys, "argv", ["peers.py", "--precisions", "bf16", "fp32"])
    missing = {entry.name: entry.missing for entry in peers.entries(peers.read_options())}
    assert missing["FAST"].startswith("not installed: pip install pyfast numpy")
    assert missing["OpenCV + eager PyTorch"] == "not installed: pip install torch"
    assert [name for name, reason in missing.items() if not reason] == [
        "veintrack bf16",
        "veintrack fp32",
        "OpenCV + ONNX Runtime",
    ]


def test_figures_are_medians_and_ratios_are_taken_within_a_round(report: Any) -> None:
    found = report.sum_up(
        {
            "veintrack int8": result(report, "int8", [90.0, 40.0, 80.0], [[[1, 1], [0, 0]]]),
            "veintrack fp32": result(report, "fp32", [30.0, 10.0, 20.0]),
            "other": result(report, "fp32", [30.0, 20.0, 20.0]),
        }
    )
    by_name = {one["name"]: one for one in found}
    other = by_name["other"]
    assert (other["fps"], other["cpu_ms"]) == (20.0, 2.0)
    assert other["ratios"] == {
        "veintrack int8": {"median": 3.0, "least": 2.0, "most": 4.0},
        "veintrack fp32": {"median": 1.0, "least": 0.5, "most": 1.0},
    }
    # FP32's masks are what others are held against.
    assert (other["dice"], by_name["veintrack int8"]["dice"]) == (1.0, pytest.approx(2 / 3, 1e-3))
    said = report.remarks(found, {"FAST": "not installed: get it"})
    assert "does not segment alike: Dice 0.6667" in said[0]
    assert said[1:] == [
        "veintrack fp32, from here to there: much.",
        "other, from here to there: much.",
        "FAST is left out: not installed: get it",
    ]


def test_without_veintrack_there_is_nothing_to_compare(report: Any) -> None:
    with pytest.raises(ValueError, match="no veintrack is left"):
        report.sum_up({"other": result(report, "fp32", [1.0])})


def test_masks_of_another_shape_cannot_agree(report: Any) -> None:
    empty = np.zeros((1, 2, 2), np.uint8)
    assert report.dice(empty, empty) == 1.0
    with pytest.raises(ValueError, match=r"shape \(1, 2, 2\), got \(1, 2, 3\)"):
        report.dice(empty, np.zeros((1, 2, 3), np.uint8))


def test_too_few_results_are_no_measurement(process: Any) -> None:
    with pytest.raises(process.PeerError, match="stopped after 4 of 5 frames"):
        process.timed(range(4), 3, 2)


def test_what_ends_after_the_last_frame_is_not_timed(process: Any) -> None:
    class SlowToEnd:
        def __iter__(self) -> Iterator[int]:
            try:
                yield from range(10)
            finally:
                time.sleep(0.3)

    fps, _ = process.timed(SlowToEnd(), 3, 2)
    assert fps > 3 / 0.1


def test_all_is_written(
    peers: Any,
    entries: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"model_sha256": "0", "shape_px": [480, 640], "input_px": [256, 256]}
    given["inner"] = [0, 1, 4, 3]
    monkeypatch.setattr(peers, "_PAUSE_S", 0)
    monkeypatch.setattr(peers, "prepare", lambda *_: given)
    monkeypatch.setattr(peers, "entries", lambda _: entries)
    written = tmp_path / "peers.json"
    monkeypatch.setattr(sys, "argv", ["peers.py", "--rounds", "2", "--json", str(written)])
    peers.main()
    record = json.loads(written.read_text())
    assert [one["name"] for one in record["contestants"]] == ["veintrack bf16", "slow"]
    assert record["contestants"][1]["ratios"]["veintrack bf16"]["median"] == 3.0
    assert record["left_out"].keys() == {"refused", "mortal", "odd", "FAST"}
    out = capsys.readouterr().out
    assert "3.00 (3.00 to 3.00)" in out
    assert "FAST is left out: not installed: get it" in out


@pytest.fixture
def brief(model_file: Path, tmp_path: Path) -> dict[str, Any]:
    """A dark disc that moves, for the model that calls dark grey vessel."""
    shown = [np.where(disc((480, 640), x, 240, 60), 20, 200) for x in (200, 300, 400)]
    np.save(tmp_path / "pictures.npy", np.stack(shown).astype(np.uint8))
    return {
        "model": str(model_file),
        "pictures": str(tmp_path / "pictures.npy"),
        "input_px": [64, 64],
        "inner": [0, 8, 64, 48],
        "channel": 0,
        "threshold": 0.5,
    }


@pytest.mark.parametrize("kind", ["onnxruntime", "torch"])
def test_a_plain_loop_finds_the_disc(brief: dict[str, Any], kind: str) -> None:
    open_loop: Callable[..., Any] = getattr(importlib.import_module("peers_loop"), f"{kind}_loop")
    loop = open_loop(brief)
    fps, cpu_ms = loop.turn(4, 1)
    assert fps > 0
    assert cpu_ms > 0
    assert kind in loop.facts["versions"]
    masks = loop.masks(3)
    assert masks.shape == (3, 48, 64)
    for mask, x in zip(masks, (20, 30, 40), strict=True):
        rows, columns = np.nonzero(mask)
        assert (rows.mean(), columns.mean()) == pytest.approx((24, x), abs=0.6)
        assert mask.sum() == pytest.approx(np.pi * 6**2, rel=0.2)  # its rim is too light


def test_an_operator_that_torch_is_not_told_of_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    node = helper.make_node("Tanh", ["x"], ["y"])
    graph = helper.make_graph([node], "graph", [], [])
    onnx.save(helper.make_model(graph), tmp_path / "tanh.onnx")
    with pytest.raises(ValueError, match="no such operator here: Tanh"):
        importlib.import_module("peers_torch").read_network(tmp_path / "tanh.onnx")


def test_contestants_are_given_the_same_pictures_and_weights(
    model_file: Path, tmp_path: Path
) -> None:
    inputs = importlib.import_module("peers_inputs")
    given = inputs.prepare(str(model_file), tmp_path, 3)
    pictures = np.load(given["pictures"])
    assert pictures.shape == (4, *given["shape_px"])  # there and back: 0 1 2 1
    assert (pictures[1] == pictures[3]).all()
    assert not (pictures[1] == pictures[2]).all()
    header = dict(line.split(" = ") for line in (tmp_path / "frame_2.mhd").read_text().splitlines())
    assert header["DimSize"] == "640 480"
    raw = np.fromfile(tmp_path / header["ElementDataFile"], np.uint8)
    assert (raw.reshape(480, 640) == pictures[2]).all()

    assert given["inner"] == [0, 8, 64, 48]
    grid, expected = np.load(given["grid"]), np.load(given["probability"])
    session = onnxruntime.InferenceSession(given["float_model"])
    (answer,) = session.run(None, {"frame": grid[None, None].astype(np.float32)})
    assert answer.shape == (1, 1, 64, 64)
    assert np.abs(answer[0, 0] - expected).max() < 1e-6
