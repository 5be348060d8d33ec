"""What is asked for at a view is done by the run, between two frames."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import cv2
import pytest

from tests.tracker.recording_scene import Ultrasound, frame_of, moving_disc, result_of
from tests.tracker.replay_scene import frames_of, replay
from veintrack.errors import OutputError
from veintrack.tracker.cli.app import run
from veintrack.tracker.controls import Controls, ControlState
from veintrack.tracker.frame import FrameResult
from veintrack.tracker.recording_names import files_of, recordings_in

Act = Callable[[Controls, FrameResult], None]


class FakeRun:
    """A run that notes what it is told."""

    def __init__(self, refuses: str = "") -> None:
        self.done: list[str] = []
        self.held: list[bool] = []
        self.stopping = False
        self._refuses = refuses

    def hold(self, on: bool) -> None:
        self.held.append(on)

    def look_from(self, threshold: float) -> None:
        self.done.append(f"from {threshold}")

    def record(self, on: bool) -> str:
        if self._refuses:
            raise OutputError(self._refuses)
        self.done.append(f"record {on}")
        return "said"


def controls_of(*, live: bool = False, stop: Callable[[], None] = lambda: None) -> Controls:
    return Controls(stop, ControlState(live, threshold=0.5))


def test_a_run_that_nobody_asks_for_anything_goes_on_as_it_is() -> None:
    controls, told = controls_of(), FakeRun()
    controls.obey(told)
    assert told.done == []
    assert controls.state == ControlState(live=False, threshold=0.5)


def test_a_threshold_and_a_recording_are_asked_for_once_and_done_once() -> None:
    controls, told = controls_of(), FakeRun()
    controls.look_from(0.4)
    controls.record(True)
    controls.obey(told)
    controls.obey(told)
    controls.record(True)
    controls.obey(told)
    assert told.done == ["from 0.4", "record True"]
    assert (controls.state.threshold, controls.state.recording) == (0.4, True)


def test_a_recording_keeps_its_threshold() -> None:
    controls, told = controls_of(), FakeRun()
    controls.record(True)
    controls.obey(told)
    controls.look_from(0.4)
    controls.obey(told)
    assert controls.state.threshold == 0.5
    assert "end it first" in controls.state.said
    assert told.done == ["record True"]


def test_a_recording_that_cannot_begin_says_why() -> None:
    controls, told = controls_of(), FakeRun("no room")
    controls.record(True)
    controls.obey(told)
    assert not controls.state.recording
    assert controls.state.said == "no room"


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1, got"):
        controls_of().look_from(threshold)


def test_a_run_stands_still_until_it_is_let_go_on_or_stepped() -> None:
    controls, told = controls_of(), FakeRun()
    controls.pause(True)
    passed = threading.Semaphore(0)

    def frames() -> None:
        for _ in range(2):
            controls.obey(told)
            passed.release()

    thread = threading.Thread(target=frames)
    thread.start()
    assert not passed.acquire(timeout=0.1)
    controls.step()
    assert passed.acquire(timeout=5)
    assert not passed.acquire(timeout=0.1)
    controls.pause(False)
    assert passed.acquire(timeout=5)
    thread.join(5)


def test_a_run_that_is_told_to_end_does_not_stand_still() -> None:
    controls, told = controls_of(), FakeRun()
    controls.pause(True)
    told.stopping = True
    controls.obey(told)  # returns
    assert told.held == [True, False]


def test_a_live_source_is_not_made_to_wait() -> None:
    controls = controls_of(live=True)
    controls.pause(True)
    assert not controls.state.paused
    assert "freeze" in controls.state.said


def test_a_snapshot_holds_the_scan_area_only(tmp_path: Path) -> None:
    controls = controls_of()
    controls.snapshot(result_of(frame_of(3), (10, 20, 60, 50)))
    assert "no folder" in controls.state.said
    controls.folder = tmp_path
    controls.snapshot(result_of(frame_of(3), (10, 20, 60, 50), settled=False))
    assert "not known" in controls.state.said
    controls.snapshot(result_of(frame_of(3), (10, 20, 60, 50)))
    picture = cv2.imread(str(tmp_path / "snapshots" / "frame_000003.png"))
    assert picture is not None
    assert picture.shape[1] / picture.shape[0] == pytest.approx(60 / 50, rel=0.02)


class Viewer:
    """A view that asks for something at some frames."""

    said = ""

    def __init__(self, controls: Controls, acts: dict[int, Act]) -> None:
        self._controls, self._acts = controls, acts

    def put(self, result: FrameResult) -> None:
        if act := self._acts.get(result.frame.index):
            act(self._controls, result)

    def close(self) -> None:
        """Nothing to end."""


def watched(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, acts: dict[int, Act], *options: str
) -> Path:
    """Track sixty frames, with somebody at a view."""
    source = Ultrasound(moving_disc(60))
    with monkeypatch.context() as patch:
        patch.setattr("veintrack.tracker.cli.watch.open_source", lambda *_, **__: source)
        patch.setattr(
            "veintrack.tracker.cli.watch.open_views",
            lambda _, controls, __: [Viewer(controls, acts)],
        )
        given = ["--source", "fake", "--model", str(model_file), "--engine", "onnxruntime"]
        assert run([*given, "--output", "run", "--quiet", *options]) == 0
    return Path("run")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_recordings_that_a_view_asks_for_lie_beside_each_other_and_are_tracked_again(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    acts: dict[int, Act] = {
        10: lambda controls, _: controls.record(True),
        25: lambda controls, _: controls.record(False),
        40: lambda controls, _: controls.record(True),
    }
    folder = watched(model_file, monkeypatch, acts)
    assert [path.name for path in recordings_in(folder)] == ["recording", "recording-2"]
    kept = [
        [json.loads(line)["index"] for line in (path / "frames.jsonl").read_text().splitlines()]
        for path in recordings_in(folder)
    ]
    assert kept[0] == list(range(kept[0][0], kept[0][-1] + 1))
    assert 10 <= kept[0][0] < kept[0][-1] <= 40 <= kept[1][0]
    assert kept[1][-1] == 59
    assert replay() == 0
    assert set(frames_of("again")) <= set(kept[0])
    assert replay("--verify", output="more") == 2
    assert "cannot be verified" in capsys.readouterr().err
    watched(model_file, monkeypatch, {}, "--overwrite")
    assert not files_of(folder)


def test_a_threshold_that_is_changed_counts_from_the_next_frames_on(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts: dict[int, Act] = {30: lambda controls, _: controls.look_from(0.9)}
    folder = watched(model_file, monkeypatch, acts)
    lines = [json.loads(line) for line in (folder / "tracks.jsonl").read_text().splitlines()]
    scores = [line["detections"][0]["score"] for line in lines]
    assert fmean(scores[:30]) < min(scores[40:])  # what is left is surer


def test_frames_in_real_time_wait_while_a_run_stands_still(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rest(controls: Controls, _: FrameResult) -> None:
        controls.pause(True)
        threading.Timer(0.5, controls.pause, (False,)).start()

    folder = watched(model_file, monkeypatch, {20: rest}, "--pace", "realtime")
    frames = frames_of(str(folder))
    assert (
        len([index for index in frames if 20 < index <= 40]) >= 15
    )  # fifteen would have passed by
