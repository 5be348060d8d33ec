"""The video shows nothing that came before a change of the layout was noticed, and survives."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from tests.tracker.test_sinks import SHAPE, result_of
from veintrack.tracker.frame import FrameResult
from veintrack.tracker.sinks.video import VideoSink

RATE_HZ = 25  # of `result_of`


def grey(index: int, level: int, *, settled: bool = True, changed: bool = False) -> FrameResult:
    result = result_of(index, [])
    frame = replace(result.frame, pixels=np.full(SHAPE, level, np.uint8))
    changes = ("layout changed",) if changed else ()
    return replace(result, frame=frame, scan_area_settled=settled, changes=changes)


def shown(path: Path) -> list[tuple[int, float]]:
    """Give index and brightness of the video's pictures, without what is written on them."""
    with av.open(str(path)) as video:
        return [
            (
                round(float(f.pts * f.time_base) * RATE_HZ),
                float(np.median(f.to_ndarray(format="gray"))),
            )
            for f in video.decode(video=0)
        ]


def test_what_came_before_a_change_of_the_layout_was_noticed_is_not_in_the_video(
    tmp_path: Path,
) -> None:
    sink = VideoSink(tmp_path / "o.mp4")
    page = range(70, 70 + 2 * RATE_HZ)  # a page with names on it, not noticed for two seconds
    for i in range(page.start):
        sink.write(grey(i, 60))
    for i in page:
        sink.write(grey(i, 220))
    sink.write(grey(page.stop, 220, settled=False, changed=True))
    for i in range(page.stop + 1, page.stop + 20):
        sink.write(grey(i, 220, settled=False))
    again = range(page.stop + 20, page.stop + 40)
    for i in again:
        sink.write(grey(i, 90))
    sink.close()
    pictures = shown(tmp_path / "o.mp4")
    before = [(i, level) for i, level in pictures if i < page.start]
    after = [(i, level) for i, level in pictures if i >= page.start]
    assert [i for i, _ in before] == list(range(len(before)))
    assert 50 <= len(before) < 70  # what is older than the change needs to be noticed is kept
    assert [i for i, _ in after] == list(again)
    assert all(abs(level - 60) < 8 for _, level in before)
    assert all(abs(level - 90) < 8 for _, level in after)


def test_a_change_right_at_the_start_leaves_nothing_of_what_was_before(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "o.mp4")
    for i in range(30):
        sink.write(grey(i, 220))
    sink.write(grey(30, 220, settled=False, changed=True))
    for i in range(31, 40):
        sink.write(grey(i, 60))
    sink.close()
    pictures = shown(tmp_path / "o.mp4")
    assert len(pictures) == 9
    assert all(abs(level - 60) < 8 for _, level in pictures)


def test_a_video_that_was_never_settled_leaves_no_file(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "o.mp4")
    sink.write(grey(0, 60, settled=False))
    sink.close()
    assert list(tmp_path.iterdir()) == []


def write_noise(sink: VideoSink) -> None:
    rng = np.random.default_rng(1)
    result = result_of(0, [])
    for i in range(2000):
        pixels = rng.integers(0, 255, SHAPE, dtype=np.uint8)
        frame = replace(result.frame, pixels=pixels, index=i, capture_ns=i * 500_000_000)
        sink.write(replace(result, frame=frame))


def test_after_a_write_that_failed_closing_lets_go_of_the_file_and_no_more() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here, which is a full disk: Linux has it")
    sink = VideoSink(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left on device"):
        write_noise(sink)
    sink.close()


def test_a_pipe_that_nobody_opens_holds_up_no_other_thread(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    sink = VideoSink(pipe)
    writing = threading.Thread(target=sink.write, args=[grey(0, 60)], daemon=True)
    writing.start()
    writing.join(0.3)  # returns at all
    assert writing.is_alive()
    pipe.open("rb").close()
    writing.join(5)
    assert not writing.is_alive()
    with pytest.raises(BrokenPipeError):  # whoever opened it has left
        sink.close()
