"""A recording gives back what was captured, wherever it was cut, and costs tracking nothing."""

import json
import time
from pathlib import Path

import av
import numpy as np
import pytest

from tests.tracker.recording_scene import (
    MANIFEST,
    SHAPE,
    frame_of,
    noise,
    part,
    record,
)
from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import Frame, Region, Stamp
from veintrack.tracker.sources import open_source
from veintrack.tracker.sources.recording import RecordingSource, open_recording

CROP: Region = (11, 7, 63, 51)


def read(folder: Path) -> list[Frame]:
    with open_recording(folder) as source:
        return list(source)


def test_every_grey_level_and_every_fact_of_a_frame_comes_back(tmp_path: Path) -> None:
    frames = [frame_of(i) for i in (0, 1, 2, 5, 9)]
    frames.append(frame_of(10, spacing_mm=None, driver_sequence=None, sender_ns=None))
    frames.append(frame_of(11, stamp=Stamp.SENDER))
    assert record(tmp_path, frames).problems() == []
    back = read(tmp_path)
    assert len(back) == len(frames)
    for was, now in zip(frames, back, strict=True):
        assert np.array_equal(was.pixels, now.pixels)
        assert now.pixels.flags.c_contiguous
        names = ("index", "capture_ns", "driver_sequence", "spacing_mm", "stamp", "sender_ns")
        assert [getattr(was, n) for n in names] == [getattr(now, n) for n in names]


def test_what_is_black_or_white_or_of_one_column_comes_back(tmp_path: Path) -> None:
    for number, pixels in enumerate(
        (np.zeros((40, 33), np.uint8), np.full((40, 33), 255, np.uint8), noise(1, (64, 5)))
    ):
        folder = tmp_path / str(number)
        record(folder, [frame_of(0, pixels)])
        assert np.array_equal(read(folder)[0].pixels, pixels)


def test_grey_stays_grey_and_an_ordinary_reader_gets_the_same(tmp_path: Path) -> None:
    frames = [frame_of(i) for i in range(4)]
    record(tmp_path, frames)
    with av.open(str(part(tmp_path))) as video:
        assert video.streams.video[0].codec_context.name == "ffv1"
        pictures = list(video.decode(video=0))
        assert {p.format.name for p in pictures} == {"gray"}
        times_ms = [round(float(p.pts * p.time_base) * 1e3) for p in pictures]
    assert times_ms == [0, 33, 67, 100]
    with open_source(part(tmp_path)) as source:
        for was, now in zip(frames, source, strict=True):
            assert np.array_equal(was.pixels, now.pixels)


def test_of_a_frame_only_the_scan_area_is_kept_and_lies_where_it_lay(tmp_path: Path) -> None:
    frames = [frame_of(i) for i in range(3)]
    record(tmp_path, frames, region=CROP)
    x, y, width, height = CROP
    with av.open(str(part(tmp_path))) as video:
        context = video.streams.video[0].codec_context
        assert (context.width, context.height) == (width, height)
    for was, now in zip(frames, read(tmp_path), strict=True):
        inside = np.zeros(SHAPE, bool)
        inside[y : y + height, x : x + width] = True
        assert np.array_equal(now.pixels[inside], was.pixels[inside])
        assert not now.pixels[~inside].any()
    with open_recording(tmp_path) as source:
        assert source.info.scan_area_px == CROP
        assert source.info.shape_px == SHAPE


def test_a_run_folder_and_the_recording_in_it_are_sources(tmp_path: Path) -> None:
    record(tmp_path, [frame_of(i) for i in range(3)])
    for path in (tmp_path, tmp_path / "recording"):
        with open_source(path) as source:
            assert source.info.kind == "recording"
            assert source.info.frame_count == 3
            assert not source.info.live
            assert [f.index for f in source] == [0, 1, 2]


def test_spacing_that_is_given_is_taken(tmp_path: Path) -> None:
    record(tmp_path, [frame_of(0)])
    with open_source(tmp_path, spacing_mm=(0.3, 0.4)) as source:
        assert [f.spacing_mm for f in source] == [(0.3, 0.4)]


def test_reading_begins_where_it_is_told_and_gives_what_is_asked_for(tmp_path: Path) -> None:
    record(tmp_path, [frame_of(i) for i in range(40)])
    folder = tmp_path / "recording"
    with RecordingSource(folder, seek_s=1.0) as source:
        assert [f.index for f in source] == list(range(30, 40))
    with RecordingSource(folder, only={3, 7, 99}) as source:
        assert [f.index for f in source] == [3, 7]
    with pytest.raises(SourceUnreadableError, match=r"not one whole frame from 9 s on"):
        RecordingSource(folder, seek_s=9.0)


def test_any_frame_can_be_looked_up_also_in_a_file_that_was_cut(tmp_path: Path) -> None:
    frames = [frame_of(i, noise(i, (32, 40))) for i in range(240)]
    record(tmp_path, frames)
    for share in (1.0, 0.9):
        size = part(tmp_path).stat().st_size
        part(tmp_path).write_bytes(part(tmp_path).read_bytes()[: round(share * size)])
        for wanted in ({200}, {3, 90, 91, 92, 205}):
            with RecordingSource(tmp_path / "recording", only=wanted) as source:
                found = list(source)
            assert [f.index for f in found] == sorted(wanted)
            assert all(np.array_equal(f.pixels, frames[f.index].pixels) for f in found)


def test_frames_come_at_their_times_if_that_is_asked_for(tmp_path: Path) -> None:
    record(tmp_path, [frame_of(i) for i in (0, 3, 6)])
    with RecordingSource(tmp_path / "recording", paced=True) as source:
        arrivals = []
        for frame in source:
            arrivals.append(time.monotonic_ns())
            assert frame.arrival_ns <= arrivals[-1]
    assert arrivals[-1] - arrivals[0] >= 0.19e9


def test_closing_ends_the_reading(tmp_path: Path) -> None:
    record(tmp_path, [frame_of(i) for i in range(5)])
    source = open_recording(tmp_path)
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []
    source.close()


# What is left after a cut


def test_a_file_cut_anywhere_is_read_up_to_its_last_whole_frame(tmp_path: Path) -> None:
    frames = [frame_of(i) for i in range(6)]
    with_all = tmp_path / "all"
    record(with_all, frames)
    data = part(with_all).read_bytes()
    ends = ends_of_frames(part(with_all))
    rng = np.random.default_rng(2)
    cuts = {*rng.integers(ends[0], len(data), 60).tolist(), *(ends[3] + n for n in (-1, 0, 1))}
    for cut in sorted(cuts):
        part(with_all).write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        back = read(with_all)
        assert len(back) in (whole, whole - 1), cut  # the last one may end where its cluster does
        assert len(back) >= whole - (cut != len(data))
        for was, now in zip(frames, back, strict=False):
            assert np.array_equal(was.pixels, now.pixels)


def ends_of_frames(path: Path) -> list[int]:
    """Give the offset in the file at which each frame's data ends."""
    data, ends = path.read_bytes(), []
    with av.open(str(path)) as video:
        for packet in video.demux(video=0):
            if packet.size:
                content = bytes(packet)
                ends.append(data.index(content) + len(content))
    return ends


def test_lines_that_are_cut_cost_their_frames_only(tmp_path: Path) -> None:
    frames = [frame_of(i) for i in range(6)]
    record(tmp_path, frames)
    path = tmp_path / "recording" / "frames.jsonl"
    text = path.read_bytes()
    begin = text.rindex(b"\n", 0, -1) + 1
    for cut in range(begin, len(text), 7):
        path.write_bytes(text[:cut])
        assert [f.index for f in read(tmp_path)] == [0, 1, 2, 3, 4]


def test_how_much_of_the_end_is_missing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path, [frame_of(i) for i in range(6)])
    data = part(tmp_path).read_bytes()
    part(tmp_path).write_bytes(data[: ends_of_frames(part(tmp_path))[3] + 100])
    assert len(read(tmp_path)) == 4
    assert "2 frames of it are not whole" in caplog.text


def test_a_damaged_byte_costs_one_frame_and_never_changes_one(tmp_path: Path) -> None:
    frames = [frame_of(i) for i in range(6)]
    record(tmp_path, frames)
    data = part(tmp_path).read_bytes()
    ends = ends_of_frames(part(tmp_path))
    for at in np.linspace(ends[1] + 200, ends[2] - 8, 12).astype(int).tolist():
        part(tmp_path).write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        back = read(tmp_path)
        assert [f.index for f in back] == [0, 1, 3, 4, 5]
        assert all(np.array_equal(f.pixels, frames[f.index].pixels) for f in back)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", "{}", "is damaged, or of no recording"),
        ("manifest.json", "[[", "is damaged, or of no recording"),
        ("manifest.json", json.dumps({**MANIFEST, "recorded": 5}), "is damaged, or of no"),
        (
            "manifest.json",
            json.dumps({**MANIFEST, "format": "veintrack recording 9"}),
            "expected 'veintrack recording 1', got 'veintrack recording 9'",
        ),
        ("frames.jsonl", "{}\n{}\n", "line 1 is damaged"),
        ("frames.jsonl", "", "holds not one whole frame"),
        ("part-00001.mkv", "", "holds not one whole frame"),
        ("part-00001.mkv", "no video", "holds not one whole frame"),
    ],
)
def test_files_that_are_not_a_recording_end_in_a_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    record(tmp_path, [frame_of(0)])
    (tmp_path / "recording" / name).write_text(content)
    with pytest.raises(SourceUnreadableError, match=message):
        open_source(tmp_path)


def test_what_cannot_be_true_of_a_frame_is_damage(tmp_path: Path) -> None:
    record(tmp_path, [frame_of(0)])
    path = tmp_path / "recording" / "frames.jsonl"
    row = json.loads(path.read_text())
    for change in (
        {"crop_px": [100, 0, 121, 90]},
        {"shape_px": [10**6, 10**6]},
        {"index": -1},
        {"index": float("inf")},
    ):
        path.write_text(json.dumps({**row, **change}) + "\n")
        with pytest.raises(SourceUnreadableError, match="line 1 is damaged"):
            open_recording(tmp_path)
