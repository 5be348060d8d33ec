"""What is recorded is limited, complete, and ultrasound only; what it costs is bounded."""

import errno
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tracker.recording_scene import (
    MANIFEST,
    RATE_HZ,
    SHAPE,
    frame_of,
    noise,
    part,
    record,
    result_of,
)
from veintrack.errors import OutputError
from veintrack.tracker.frame import U8, Frame, Region
from veintrack.tracker.recording import Recorder, RecordSettings
from veintrack.tracker.recording_lines import read_lines
from veintrack.tracker.recording_parts import Counts, Parts
from veintrack.tracker.sources.recording import open_recording

CROP: Region = (11, 7, 63, 51)


def read(folder: Path) -> list[Frame]:
    with open_recording(folder) as source:
        return list(source)


# Parts and limits


def test_a_new_size_begins_a_new_part(tmp_path: Path) -> None:
    frames = [frame_of(i, noise(i, (60, 40 + 10 * (i // 2)))) for i in range(6)]
    record(tmp_path, frames)
    assert [part(tmp_path, n).exists() for n in (1, 2, 3, 4)] == [True] * 3 + [False]
    back = read(tmp_path)
    assert [f.pixels.shape for f in back] == [f.pixels.shape for f in frames]


def test_of_the_last_minutes_old_parts_are_removed(tmp_path: Path) -> None:
    settings = RecordSettings(full=True, minutes=4 / 60)
    recorder = record(tmp_path, [frame_of(i, noise(i, (8, 8))) for i in range(600)], settings)
    back = read(tmp_path)
    assert back[-1].index == 599
    kept_s = len(back) / RATE_HZ
    assert 3 <= kept_s <= 4
    assert recorder.facts["removed"] + recorder.facts["frames"] == 600
    assert recorder.problems() == []


def test_of_the_last_gigabytes_old_parts_are_removed(tmp_path: Path) -> None:
    frame_bytes = SHAPE[0] * SHAPE[1] * 1.1
    settings = RecordSettings(full=True, max_gb=40 * frame_bytes / 2**30)
    record(tmp_path, [frame_of(i) for i in range(120)], settings)
    size = sum(path.stat().st_size for path in (tmp_path / "recording").glob("*.mkv"))
    assert 0.6 * 40 * frame_bytes <= size <= 40 * frame_bytes
    assert read(tmp_path)[-1].index == 119


def test_parts_that_are_full_take_no_memory(tmp_path: Path) -> None:
    frames = [frame_of(i, noise(0, (480, 640))) for i in range(31)]
    parts = Parts(tmp_path, part_ns=1)
    parts.write(frames[0], (0, 0, 640, 480), Counts())
    before = memory_mb()
    for frame in frames[1:]:
        parts.write(frame, (0, 0, 640, 480), Counts())
    assert memory_mb() - before < 60  # 8 MB each would be 240
    assert parts.count == 31
    parts.close()


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.parametrize("name", ["max_gb", "minutes", "part_minutes"])
def test_limits_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be greater than 0 and finite, got 0"):
        RecordSettings(**{name: 0})  # type: ignore[arg-type]


# What recording costs


class SlowParts(Parts):
    """A disk that takes its time."""

    def write(self, frame: Frame, crop_px: Region, counts: Counts) -> None:
        time.sleep(0.004)
        super().write(frame, crop_px, counts)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veintrack.tracker.recording.Parts", SlowParts)
    monkeypatch.setattr("veintrack.tracker.recording._HELD_BYTES", 1)
    monkeypatch.setattr("veintrack.tracker.recording._HELD_LEAST", 5)


@pytest.mark.usefixtures("slow_disk")
def test_frames_of_a_file_wait_for_the_disk(tmp_path: Path) -> None:
    recorder = record(tmp_path, [frame_of(i) for i in range(30)])
    assert recorder.lost == 0
    assert len(read(tmp_path)) == 30


@pytest.mark.usefixtures("slow_disk")
def test_a_live_source_never_waits_and_what_is_lost_is_counted(tmp_path: Path) -> None:
    frames = [frame_of(i) for i in range(60)]
    recorder = Recorder(tmp_path, RecordSettings(full=True), MANIFEST, patient=False)
    begun_s = time.monotonic()
    for frame in frames:
        recorder.put(frame)
    assert time.monotonic() - begun_s < 0.1
    recorder.close()
    back = read(tmp_path)
    assert recorder.lost > 0
    assert len(back) + recorder.lost == 60
    assert [line.lost for line in read_lines(tmp_path / "recording")][-1] > 0
    assert recorder.problems() == [
        f"the recording lacks {recorder.lost} frames: writing was slower than the source"
    ]


def test_a_deadline_ends_it_and_what_it_had_no_time_for_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veintrack.tracker.recording.Parts", SlowParts)
    due_s = [float("inf")]
    recorder = Recorder(
        tmp_path, RecordSettings(full=True), MANIFEST, patient=True, due_s=lambda: due_s[0]
    )
    for i in range(75):
        recorder.put(frame_of(i))
    due_s[0] = time.monotonic() + 0.35
    recorder.close()
    assert time.monotonic() < due_s[0] + 0.3
    assert recorder.unwritten > 0
    assert len(read(tmp_path)) + recorder.unwritten == 75
    assert "the run was stopped before their turn" in recorder.problems()[0]


def test_frames_after_the_end_are_ignored(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, RecordSettings(full=True), MANIFEST, patient=False)
    recorder.put(frame_of(0))
    recorder.end()
    recorder.put(frame_of(1))
    recorder.close()
    assert [f.index for f in read(tmp_path)] == [0]
    assert recorder.problems() == []


# A full disk


class FullParts(Parts):
    """A disk that is full after ten frames."""

    def write(self, frame: Frame, crop_px: Region, counts: Counts) -> None:
        if frame.index == 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(frame, crop_px, counts)


def test_a_full_disk_ends_the_recording_with_one_line_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("veintrack.tracker.recording.Parts", FullParts)
    recorder = record(tmp_path, [frame_of(i) for i in range(300)])
    assert recorder.problems() == [
        "recording ended after frame 9: No space left on device; what was recorded until then can "
        "be read"
    ]
    assert caplog.records == []
    assert [f.index for f in read(tmp_path)] == list(range(10))
    manifest = json.loads((tmp_path / "recording" / "manifest.json").read_text())
    assert manifest["ended"] == "No space left on device"


def test_the_last_of_the_disk_is_left_for_the_results(tmp_path: Path) -> None:
    settings = RecordSettings(full=True, spare_bytes=2**60)
    recorder = record(tmp_path, [frame_of(0)], settings)
    assert "recording ended before its first frame: the disk is full but for" in str(
        recorder.problems()
    )


def test_a_folder_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "recording").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write to .*recording"):
        record(tmp_path, [])


# What may not be in it


def test_nothing_is_recorded_before_the_scan_area_is_known_and_nothing_of_that_time(
    tmp_path: Path,
) -> None:
    frames = [frame_of(i) for i in range(8)]  # the first two may be of the patient's data
    recorder = Recorder(tmp_path, RecordSettings(), MANIFEST, patient=True)
    for frame in frames[:5]:
        recorder.put(frame)
    time.sleep(0.1)
    assert not part(tmp_path).exists()
    for frame in frames[:2]:
        recorder.show(result_of(frame, CROP, settled=False))
    time.sleep(0.1)
    assert not part(tmp_path).exists()
    recorder.show(result_of(frames[2], CROP))
    for frame in frames[5:]:
        recorder.put(frame)
    recorder.close()
    assert [f.index for f in read(tmp_path)] == list(range(2, 8))
    assert recorder.left_out == 2
    assert {line.crop_px for line in read_lines(tmp_path / "recording")} == {CROP}


def test_while_the_scan_area_is_looked_for_the_newest_frames_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veintrack.tracker.recording._HELD_BYTES", 1)
    frames = [frame_of(i, screen_of(i)) for i in range(100)]
    recorder = Recorder(tmp_path, RecordSettings(), MANIFEST, patient=True)
    for frame in frames:
        recorder.put(frame)
    recorder.show(result_of(frames[-1], CROP))
    recorder.close()
    assert [f.index for f in read(tmp_path)] == list(range(20, 100))
    assert (recorder.left_out, recorder.lost) == (20, 0)
    assert recorder.problems() == []


def test_where_no_scan_area_is_found_nothing_is_recorded_and_that_is_said(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, RecordSettings(), MANIFEST, patient=True)
    recorder.put(frame_of(0))
    recorder.show(result_of(frame_of(0), settled=False))
    recorder.close()
    assert not part(tmp_path).exists()
    (problem,) = recorder.problems()
    assert "nothing was recorded: no scan area was found" in problem
    assert "--record-full" in problem


def test_a_frame_on_which_the_screen_is_another_is_left_out_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    screen = np.zeros((240, 320), np.uint8)
    screen[20:220, 60:260] = noise(1, (200, 200)) // 2 + 40
    page = noise(2, (240, 320))  # with names on it
    recorder = Recorder(tmp_path, RecordSettings(), MANIFEST, patient=True)
    frames = [frame_of(i, page if i in (20, 21) else screen) for i in range(40)]
    for frame in frames[:10]:
        recorder.put(frame)
    recorder.show(result_of(frames[0], (60, 20, 200, 200)))
    for frame in frames[10:]:
        recorder.put(frame)
    recorder.close()
    assert [f.index for f in read(tmp_path)] == [i for i in range(40) if i not in (20, 21)]
    assert recorder.left_out == 2
    assert "frame 20 is not recorded" in caplog.text


def test_after_a_change_of_the_layout_nothing_is_recorded_until_the_area_is_found_anew(
    tmp_path: Path,
) -> None:
    recorder = Recorder(tmp_path, RecordSettings(), MANIFEST, patient=True)
    frames = [frame_of(i, screen_of(i)) for i in range(12)]
    recorder.show(result_of(frames[0], CROP))
    for frame in frames[:6]:
        recorder.put(frame)
    wait_until(lambda: lines_in(tmp_path) == 6)
    recorder.show(result_of(frames[6], CROP, settled=False, changes=("layout changed",)))
    for frame in frames[6:]:
        recorder.put(frame)
    time.sleep(0.1)
    assert lines_in(tmp_path) == 6
    other = (0, 0, 50, 40)
    recorder.show(result_of(frames[10], other))
    recorder.close()
    lines = list(read_lines(tmp_path / "recording"))
    assert {line.crop_px for line in lines if line.index < 6} == {CROP}
    assert {line.crop_px for line in lines if line.index > 6} == {other}
    with open_recording(tmp_path) as source:
        assert source.info.scan_area_px is None  # it is not one place


def screen_of(index: int) -> U8:
    """A black screen with something in the scan area that moves."""
    screen = np.zeros(SHAPE, np.uint8)
    x, y, width, height = CROP
    screen[y : y + height, x : x + width] = noise(index, (height, width))
    return screen


def lines_in(folder: Path) -> int:
    path = folder / "recording" / "frames.jsonl"
    return path.read_bytes().count(b"\n")


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(200):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("it did not come about")


def test_after_an_outage_what_waited_is_recorded_as_the_screen_is_the_same(tmp_path: Path) -> None:
    frames = [frame_of(i, screen_of(i)) for i in range(9)]
    recorder = Recorder(tmp_path, RecordSettings(), MANIFEST, patient=True)
    for at, frame in enumerate(frames):
        recorder.put(frame)
        recorder.show(result_of(frame, CROP, settled=at not in (4, 5)))
    recorder.close()
    assert [f.index for f in read(tmp_path)] == list(range(9))


def test_after_a_change_of_size_recording_goes_on_when_the_area_is_found(tmp_path: Path) -> None:
    other = [noise(i, (120, 160)) for i in range(12)]
    frames = [frame_of(i, screen_of(i) if i < 5 else other[i]) for i in range(12)]
    recorder = Recorder(tmp_path, RecordSettings(), MANIFEST, patient=True)
    for at, frame in enumerate(frames):
        recorder.put(frame)
        region = CROP if at < 5 else (0, 0, 160, 120)
        recorder.show(result_of(frame, region, settled=at not in (5, 6, 7)))
        wait_until(lambda at=at: at in (5, 6, 7) or not recorder._waiting)  # type: ignore[misc]
    recorder.close()
    assert [f.index for f in read(tmp_path)] == [*range(5), *range(8, 12)]


def test_a_source_that_changes_its_size_is_not_cut_where_the_area_was(tmp_path: Path) -> None:
    frames = [frame_of(0), replace(frame_of(1), pixels=noise(1, (30, 30)))]
    recorder = record(tmp_path, frames, region=CROP)
    assert [f.index for f in read(tmp_path)] == [0]
    assert recorder.left_out == 1
