"""Sequences: times, invalid frames, orientation, scale and levels; real ones of PLUS."""

import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from tests.tracker.metafile_scene import STACK, mha, plus, read, stacked
from veintrack.tracker.frame import Stamp
from veintrack.tracker.sources import open_source
from veintrack.tracker.sources.plus import times_ns, to_mf
from veintrack.tracker.sources.sequence import open_sequence


@pytest.mark.parametrize("compressed", [False, True])
def test_every_frame_comes_in_order_with_its_own_time(tmp_path: Path, compressed: bool) -> None:
    stamps: list[str | None] = [f"{100.1 + i * i / 100:.6f}" for i in range(7)]
    path = mha(tmp_path / "a.igs.mha", compressed=compressed, **plus(stamps))
    source, frames = read(path)
    assert_array_equal(stacked(frames), STACK)
    assert [f.index for f in frames] == list(range(7))
    assert [f.capture_ns for f in frames] == [i * i * 10_000_000 for i in range(7)]
    assert all(f.stamp is Stamp.FILE and f.pixels.flags.c_contiguous for f in frames)
    info = source.info
    assert (info.kind, info.live, info.shape_px, info.frame_count) == (
        "sequence",
        False,
        (30, 40),
        7,
    )
    assert info.times_from == "the file's own stamps, from its first frame"


def test_open_source_takes_it_by_its_suffix_without_another_format_s_library(
    tmp_path: Path,
) -> None:
    path = mha(tmp_path / "a.mha")
    script = (
        "import sys, veintrack; s = veintrack.open_source(sys.argv[1]); n = len(list(s));"
        "print(n, s.info.kind, [m for m in ('av', 'pydicom', 'SimpleITK') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[0] == "7 sequence []"


def test_a_frame_marked_invalid_is_left_out_and_leaves_its_gap(tmp_path: Path) -> None:
    status = {"Seq_Frame0000_ImageStatus": "INVALID", "Seq_Frame0003_ImageStatus": "INVALID"}
    path = mha(tmp_path / "a.mha", **plus([str(i / 10) for i in range(7)], **status))
    source, frames = read(path)
    assert [f.index for f in frames] == [1, 2, 4, 5, 6]
    assert [f.capture_ns for f in frames] == [0, 10**8, 3 * 10**8, 4 * 10**8, 5 * 10**8]
    assert_array_equal(stacked(frames), STACK[[1, 2, 4, 5, 6]])
    assert source.info.frame_count == 5
    assert "2 frames marked invalid left out" in source.info.notes


@pytest.mark.parametrize("status", ["INVALID", "invalid", "UNKNOWN", ""])
def test_every_status_but_ok_is_invalid(tmp_path: Path, status: str) -> None:
    fields: dict[str, Any] = {
        "Seq_Frame0000_ImageStatus": "OK",
        "Seq_Frame0003_ImageStatus": status,
    }
    source, frames = read(mha(tmp_path / "a.mha", **fields))
    assert [f.index for f in frames] == [0, 1, 2, 4, 5, 6]
    assert source.info.frame_count == 6


def test_stamps_that_do_not_increase_are_moved_and_said(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mha", **plus(["0", "0.1", "0.1", "0.05", "0.4", "0.5", "0.6"]))
    source, frames = read(path)
    assert [f.capture_ns for f in frames][:5] == [0, 10**8, 10**8 + 1, 10**8 + 2, 4 * 10**8]
    assert "2 stamps are no later than the one before: moved behind it" in source.info.notes


@pytest.mark.parametrize("bad", [None, "nan", "inf", "1e99", "1e999999999", "soon", ""])
def test_a_frame_without_a_usable_stamp_is_placed_by_the_usual_step(
    tmp_path: Path, bad: str | None
) -> None:
    path = mha(tmp_path / "a.mha", **plus(["5", "5.1", bad, "5.3", "5.4", "5.5", "5.6"]))
    source, frames = read(path)
    assert [f.capture_ns for f in frames] == [i * 10**8 for i in range(7)]
    assert any(note.startswith("1 frames without a stamp") for note in source.info.notes)


def test_the_unfiltered_stamp_stands_in_for_the_filtered_one(tmp_path: Path) -> None:
    fields: dict[str, Any] = {f"Seq_Frame{i:04d}_UnfilteredTimestamp": i / 4 for i in range(7)}
    _, frames = read(mha(tmp_path / "a.mha", **fields))
    assert frames[6].capture_ns == 1_500_000_000


@given(
    st.dictionaries(st.integers(0, 30), st.integers(-(10**18), 10**18)),
    st.sets(st.integers(0, 30), min_size=1),
)
def test_times_start_at_zero_and_always_increase(stamps: dict[int, int], frames: set[int]) -> None:
    times = list(times_ns(stamps, sorted(frames), 33_000_000))
    assert len(times) == len(frames)
    assert times[0] == 0
    assert all(a < b for a, b in pairwise(times))


def test_a_plain_stack_has_its_third_axis_as_time_at_the_rate_given(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mha")
    source, frames = read(path)
    assert source.info.times_from == "no stamps in the file: 30 frames a second assumed"
    assert frames[3].capture_ns == pytest.approx(10**8, abs=5)
    source, frames = read(path, fps=10)
    assert source.info.times_from == "no stamps in the file: 10 frames a second as given"
    assert frames[3].capture_ns == 3 * 10**8
    assert source.info.rate_hz == 10


# What the codes mean: the direction, seen by the probe, of the stored x and y axes.
@pytest.mark.parametrize("code", ["MF", "MN", "UF", "UN", "FM", "NM", "FU", "NU"])
@pytest.mark.parametrize("third", ["", "A", "D"])
def test_pictures_are_turned_so_that_depth_runs_down_and_x_to_the_marker(
    tmp_path: Path, code: str, third: str
) -> None:
    towards_marker, depth = np.meshgrid(np.arange(6), np.arange(4))
    upright = (10 * depth + towards_marker).astype(np.uint8)
    x, y = ((letter, "MUFN".index(letter)) for letter in code)
    along_x, along_y = (
        (range(6) if letter == "M" else range(5, -1, -1))
        if letter in "MU"
        else (range(4) if letter == "F" else range(3, -1, -1))
        for letter, _ in (x, y)
    )
    stored = np.array(
        [[upright[(r, c) if code[0] in "MU" else (c, r)] for c in along_x] for r in along_y]
    )
    path = mha(
        tmp_path / "a.mha",
        stored[None],
        UltrasoundImageOrientation=code + third,
        ElementSpacing="0.1 0.2 1",
    )
    source, (frame,) = read(path)
    assert_array_equal(frame.pixels, upright)
    assert source.info.spacing_mm == ((0.2, 0.1) if code[0] in "MU" else (0.1, 0.2))
    assert frame.spacing_mm == source.info.spacing_mm
    assert any("turned to MF" in note for note in source.info.notes) == (code != "MF")


def test_turning_is_a_view() -> None:
    assert np.shares_memory(to_mf(STACK[0], "NU"), STACK)


def test_without_an_orientation_pictures_stay_as_they_are_and_that_is_said(tmp_path: Path) -> None:
    fields = plus(["0", "1"], UltrasoundImageOrientation=None)
    source, frames = read(mha(tmp_path / "a.mha", **fields))
    assert_array_equal(stacked(frames), STACK)
    assert any("as they are stored" in note for note in source.info.notes)


@pytest.mark.parametrize(
    ("fields", "spacing", "note"),
    [
        ({"ElementSpacing": "0.2 0.3 1"}, (0.3, 0.2), ""),
        ({}, None, "placeholder"),
        ({"ElementSpacing": None}, None, ""),
        ({"ElementSpacing": "0 -1 1"}, None, ""),
        ({"ElementSpacing": "100 90 1"}, None, "a spacing of 90 by 100 mm per pixel cannot be"),
        ({"ElementSpacing": "1e-9 0.1 1"}, None, "not taken"),
        ({"ElementSpacing": "1e-4 10 1"}, (10, 1e-4), ""),
        (
            {"ImageToProbeTransform": "0 0.2 0 5 -0.1 0 0 6 0 0 0.1 7 0 0 0 1"},
            (0.2, 0.1),
            "spacing from ImageToProbeTransform",
        ),
        (
            {"Seq_Frame0002_ImageToReferenceTransform": "0.1 0 0 5 0 0.1 0 6 0 0 0.1 7 0 0 0 1"},
            (0.1, 0.1),
            "spacing from ImageToReferenceTransform",
        ),
        (
            {
                "Seq_Frame0002_ImageToProbeTransform": "0.1 0 0 5 0 0.1 0 6 0 0 0.1 7 0 0 0 1",
                "Seq_Frame0002_ImageToProbeTransformStatus": "INVALID",
            },
            None,
            "placeholder",
        ),
        ({"ImageToProbeTransform": "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"}, None, "placeholder"),
        ({"ImageToProbeTransform": "0.1 0.1 0 0 0 0.1 0 0 0 0 1 0 0 0 0 1"}, None, "placeholder"),
        ({"ImageToProbeTransform": "0.1 0 0 0 0 nan 0 0 0 0 1 0 0 0 0 1"}, None, "placeholder"),
        ({"ProbeToTrackerTransform": "0.1 0 0 0 0 0.1 0 0 0 0 1 0 0 0 0 1"}, None, "placeholder"),
    ],
)
def test_spacing_is_the_header_s_or_a_transform_s_scale_and_never_a_placeholder(
    tmp_path: Path, fields: dict[str, Any], spacing: tuple[float, float] | None, note: str
) -> None:
    source, frames = read(mha(tmp_path / "a.mha", **fields))
    found = source.info.spacing_mm
    assert found == (spacing and pytest.approx(spacing))
    assert frames[0].spacing_mm == found
    assert note in " ".join(source.info.notes)


def test_colour_becomes_luma(tmp_path: Path) -> None:
    red = np.zeros((3, 30, 40, 3), np.uint8)
    red[..., 0] = 200
    source, frames = read(mha(tmp_path / "a.mha", red, UltrasoundImageType="RGB_COLOR"))
    assert frames[0].pixels.max() == frames[0].pixels.min() == round(0.299 * 200)
    assert source.info.notes[0] == "colour pictures: luma taken (BT.601)"


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i2", ">i2"])
def test_16_bits_are_scaled_by_the_first_picture_s_depth(tmp_path: Path, dtype: str) -> None:
    deep = (STACK.astype(np.uint16) * 16).astype(dtype)
    source, frames = read(mha(tmp_path / "a.mha", deep))
    assert_array_equal(stacked(frames), STACK)
    assert source.info.notes[0] == "16-bit grey: 12 bits in use, scaled by 1/16"


def test_levels_below_zero_count_as_zero(tmp_path: Path) -> None:
    signed = STACK.astype(np.int16) - 100
    _, frames = read(mha(tmp_path / "a.mha", signed))
    assert_array_equal(stacked(frames), np.maximum(signed, 0))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_long_sequence_is_never_held_whole(tmp_path: Path, compressed: bool) -> None:
    path = mha(tmp_path / "a.mha", np.zeros((200, 100, 200), np.uint8), compressed=compressed)
    with open_sequence(path) as source:
        tracemalloc.start()
        try:
            count = sum(1 for _ in source)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert count == 200
    assert peak_bytes < 10 * 20_000 + 200_000  # ten frames and the buffers, of 200 frames


def test_closing_ends_the_iteration(tmp_path: Path) -> None:
    source = open_sequence(mha(tmp_path / "a.mha"))
    frames = []
    for frame in source:
        frames.append(frame)
        source.close()
    assert len(frames) == 1


# Sizes, numbers of frames and steps as they were read off the files' headers by hand.
@pytest.mark.parametrize(
    ("name", "count", "shape", "step_s", "last_s"),
    [
        ("BoneUltrasound_L14", 21, (616, 820), 0.086, 1.719029),
        ("NwirePhantomFreehand", 97, (616, 820), 0.079, 10.155057),
        ("USTC_FrameGrabber_ProbeTranslationData", 200, (480, 640), 0.1, 19.9),
    ],
)
def test_real_sequences_give_all_frames_their_times_and_depth_downwards(
    recordings: Path, name: str, count: int, shape: tuple[int, int], step_s: float, last_s: float
) -> None:
    with open_source(recordings / "replay" / f"{name}.igs.mha") as source:
        frames = list(source)
    assert (len(frames), source.info.frame_count, source.info.shape_px) == (count, count, shape)
    assert source.info.rate_hz == pytest.approx(1 / step_s, rel=0.01)
    assert frames[-1].capture_ns == round(last_s * 1e9)
    assert source.info.spacing_mm is None  # these files have placeholders only
    if name.startswith("USTC"):  # stored MN: the scanner's text, at the top as stored, is below
        lit = np.flatnonzero(frames[0].pixels[:, 240:370].max(axis=1) > 150)
        assert lit.max() > 430
