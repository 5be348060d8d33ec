"""Videos made here, and the real ones where they are at hand."""

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from veintrack.errors import SourceLostError, SourceUnreadableError
from veintrack.tracker.frame import U8, Frame
from veintrack.tracker.sources import open_source, video
from veintrack.tracker.sources.video import StampClock, to_pixels

MS = 1_000_000


def encode(
    path: Path,
    levels: Sequence[int] = range(20, 220, 20),
    times_ms: Sequence[int] | None = None,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pixel: str = "yuv420p",
    options: dict[str, str] | None = None,
    full_range: bool = False,
) -> Path:
    """Write a video of even grey frames, one a level, 40 ms apart unless told."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(
            codec, rate=25, options={"crf": "0"} if codec == "libx264" else {}
        )
        stream.height, stream.width = size
        stream.pix_fmt = pixel
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if full_range:
            stream.codec_context.color_range = 2
        for index, level in enumerate(levels):
            frame = av.VideoFrame(size[1], size[0], pixel)
            for number, plane in enumerate(frame.planes):
                luma = number == 0 or not pixel.startswith("yuv")
                plane.update(bytes([level if luma else 128]) * plane.buffer_size)
            frame.pts = times_ms[index] if times_ms else 40 * index
            frame.time_base = Fraction(1, 1000)
            if full_range:
                frame.color_range = 2
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def noise_clip(path: Path, count: int = 60, options: dict[str, str] | None = None) -> Path:
    """Write a clip whose frames take room in the file, for cutting and damaging."""
    rng = np.random.default_rng(2)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(count):
            pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return path


def test_every_frame_comes_in_order_with_the_files_times(tmp_path: Path) -> None:
    with open_source(encode(tmp_path / "a.mp4")) as source:
        frames = list(source)
    assert [f.index for f in frames] == list(range(10))
    assert [f.capture_ns for f in frames] == [40 * MS * i for i in range(10)]
    info = source.info
    assert (info.kind, info.live, info.shape_px) == ("video", False, (48, 64))
    assert (info.rate_hz, info.frame_count, source.driver_drops) == (25.0, 10, 0)
    assert info.times_from == "the file's own stamps, from its first frame"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts"])
def test_a_variable_rate_is_kept(suffix: str, tmp_path: Path) -> None:
    times = [0, 10, 50, 60, 200, 210, 400, 401, 480, 520]
    with open_source(encode(tmp_path / f"a{suffix}", times_ms=times)) as source:
        stamps = [f.capture_ns / MS for f in source]
    assert stamps == pytest.approx(times, abs=0.01)


def test_frames_per_second_that_a_stamped_file_does_not_need_are_told(tmp_path: Path) -> None:
    path = noise_clip(tmp_path / "clip.mp4", 5)
    with open_source(path, fps=7.0) as source:
        assert "fps 7 is not used" in source.info.notes[-1]
    with open_source(path) as source:
        assert not any("fps" in note for note in source.info.notes)


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    late = encode(tmp_path / "a.mp4", times_ms=[500 + 40 * i for i in range(10)])
    with open_source(late) as source:
        assert [f.capture_ns for f in source] == [40 * MS * i for i in range(10)]


@pytest.mark.parametrize("suffix", [".avi", ".webm", ".wmv", ".mpg"])
def test_other_containers_are_read_whole(suffix: str, tmp_path: Path) -> None:
    codec = {".webm": "libvpx", ".wmv": "wmv2", ".mpg": "mpeg2video"}.get(suffix, "libx264")
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(10):
            pixels = np.full((48, 64, 3), 20 * level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    with open_source(path) as source:
        frames = list(source)
    assert [f.capture_ns for f in frames] == [40 * MS * i for i in range(10)]
    assert np.abs([int(f.pixels[9, 9]) - 20 * i for i, f in enumerate(frames)]).max() <= 6


def test_limited_range_is_expanded_and_said(tmp_path: Path) -> None:
    with open_source(encode(tmp_path / "a.mp4", levels=[16, 126, 235])) as source:
        assert [int(f.pixels[20, 20]) for f in source] == [0, 128, 255]
    assert source.info.notes == (
        "yuv420p pictures: luma of 16 to 235 (range not declared) expanded to 0 to 255",
    )


def test_full_range_is_taken_as_it_is(tmp_path: Path) -> None:
    levels = [0, 16, 126, 255]
    with open_source(encode(tmp_path / "a.mp4", levels=levels, full_range=True)) as source:
        assert [int(f.pixels[20, 20]) for f in source] == levels
    assert source.info.notes[0].endswith("luma taken")


def test_grey_and_colour_without_loss_come_back_exactly(tmp_path: Path) -> None:
    levels = [0, 16, 126, 255]
    for pixel in ("gray", "bgr0"):
        path = encode(tmp_path / f"{pixel}.mkv", levels=levels, codec="ffv1", pixel=pixel)
        with open_source(path) as source:
            assert [int(f.pixels[20, 20]) for f in source] == levels


@pytest.mark.parametrize("size", [(47, 63), (2, 2), (33, 130)])
def test_odd_sizes_have_no_padding(size: tuple[int, int], tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", size=size, codec="ffv1", pixel="gray")
    with open_source(path) as source:
        frames = list(source)
    assert {f.pixels.shape for f in frames} == {size}
    assert_array_equal(frames[3].pixels, 80)


def test_frames_own_their_memory(tmp_path: Path) -> None:
    for pixel, codec in (("yuv420p", "libx264"), ("gray", "ffv1"), ("bgr0", "ffv1")):
        with open_source(encode(tmp_path / f"{pixel}.mkv", codec=codec, pixel=pixel)) as source:
            frames = list(source)
        assert all(f.pixels.flags.owndata and f.pixels.flags.c_contiguous for f in frames)


def test_a_turned_video_stands_upright(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:24, :32] = 255  # bright top left corner
        stream.set_display_rotation(90)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    with open_source(path) as source:
        first = next(iter(source)).pixels
    assert source.info.shape_px == first.shape == (64, 48)
    assert first[48, 10] > 200  # turned anticlockwise: it is at the bottom left
    assert first[10, 10] < 50
    assert source.info.notes[-1] == "turned by 90 degrees anticlockwise, as the file asks"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_reordered_frames_keep_their_own_irregular_times(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    times = np.cumsum(rng.integers(5, 90, 40)) + 700  # the first is not 0 either
    path = tmp_path / f"a{suffix}"
    reordered = False
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "3", "b-adapt": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for index, time_ms in enumerate(times.tolist()):
            pixels = np.full((48, 64), 40 + 4 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            packets = stream.encode(frame)
            reordered |= any(packet.pts != packet.dts for packet in packets)
            container.mux(packets)
        packets = stream.encode()
        reordered |= any(packet.pts != packet.dts for packet in packets)
        container.mux(packets)
    assert reordered
    with open_source(path) as source:
        frames = list(source)
    assert [f.index for f in frames] == list(range(40))
    stamps = [f.capture_ns / MS for f in frames]
    assert stamps == pytest.approx((times - times[0]).tolist(), abs=0.1)
    levels = [int(f.pixels[20, 20]) for f in frames]
    assert levels == sorted(levels)
    assert levels[-1] - levels[0] > 140


def test_an_edit_list_is_no_truncation(tmp_path: Path) -> None:
    trimmed = encode(tmp_path / "a.mp4", times_ms=[40 * i - 100 for i in range(10)])
    with open_source(trimmed) as source:
        stamps = [f.capture_ns for f in source]
    assert source.info.frame_count is None
    assert len(stamps) == 7
    assert (np.diff(stamps) == 40 * MS).all()


def test_a_cut_file_gives_what_it_holds_and_says_of_how_many(tmp_path: Path) -> None:
    whole = noise_clip(tmp_path / "a.mp4", options={"movflags": "faststart"}).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    frames: list[Frame] = []
    with (
        open_source(cut) as source,
        pytest.raises(
            SourceLostError, match=r"cut short: (\d+) of 60 frames could be read"
        ) as lost,
    ):
        frames.extend(source)
    assert f"{len(frames)} of 60" in str(lost.value)
    assert 25 <= len(frames) <= 45


def test_a_cut_file_without_a_frame_count_is_noticed_by_its_length(tmp_path: Path) -> None:
    whole = noise_clip(tmp_path / "a.mkv").read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) // 2])
    frames: list[Frame] = []
    with (
        open_source(cut) as source,
        pytest.raises(SourceLostError, match=r"damaged or cut short: \d+ frames could be read"),
    ):
        frames.extend(source)
    assert 20 <= len(frames) <= 40


def test_a_damaged_file_goes_on_behind_the_damage(tmp_path: Path) -> None:
    data = bytearray(noise_clip(tmp_path / "a.mp4", options={"movflags": "faststart"}).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 9000] = bytes(9000)
    damaged = tmp_path / "b.mp4"
    damaged.write_bytes(data)
    frames: list[Frame] = []
    with open_source(damaged) as source, pytest.raises(SourceLostError, match="of 60 frames"):
        frames.extend(source)
    assert frames[-1].capture_ns > 2000 * MS


def test_what_is_no_video_is_refused_in_silence(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost/a.ts\n")
    whole = noise_clip(tmp_path / "whole.mp4").read_bytes()  # its index is at the end
    (tmp_path / "headless.mp4").write_bytes(whole[: len(whole) // 2])
    code = """
import sys
from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import Frame
from veintrack.tracker.sources import open_source
for name in sys.argv[1:]:
    try:
        open_source(name)
    except SourceUnreadableError as error:
        print(error)
"""
    names = ["text.mp4", "empty.mp4", "playlist.mp4", "headless.mp4"]
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", code, *(str(tmp_path / name) for name in names)],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        f"{tmp_path / name} is not a video file that can be read" for name in names
    ]


def test_decoding_damage_writes_nothing_to_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(noise_clip(tmp_path / "a.mkv").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    (tmp_path / "b.mkv").write_bytes(data)
    try:
        with open_source(tmp_path / "b.mkv") as source:
            list(source)
    except SourceLostError:
        pass  # whether this damage is noticed is FFmpeg's matter; its silence is ours
    assert capfd.readouterr().err == ""


def test_a_file_with_sound_only_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(SourceUnreadableError, match="holds no video"):
        open_source(path)


def test_closing_ends_the_iteration(tmp_path: Path) -> None:
    source = open_source(encode(tmp_path / "a.mp4"))
    frames = iter(source)
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


def test_closing_does_not_wait_for_a_picture_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(encode(tmp_path / "a.mp4"))
    inside, over = threading.Event(), threading.Event()

    def slow(picture: av.VideoFrame) -> U8:
        inside.set()
        over.wait(5)
        return to_pixels(picture)

    monkeypatch.setattr(video, "to_pixels", slow)
    frames: list[Frame] = []
    reader = threading.Thread(target=lambda: frames.extend(source))
    reader.start()
    inside.wait(5)
    before_s = time.monotonic()
    source.close()
    assert time.monotonic() - before_s < 1
    over.set()
    reader.join(5)
    assert len(frames) == 1


@given(st.lists(st.one_of(st.none(), st.integers(-1000, 1000)), min_size=1, max_size=30))
def test_times_start_at_zero_and_always_grow(stamps: list[int | None]) -> None:
    clock = StampClock(Fraction(1, 90), period_ns=40 * MS)
    times = [clock.stamp_ns(stamp) for stamp in stamps]
    assert times[0] == 0
    assert all(a < b for a, b in pairwise(times))


def test_a_frame_without_a_stamp_comes_one_period_later() -> None:
    clock = StampClock(Fraction(1, 1000), period_ns=40 * MS)
    assert [clock.stamp_ns(s) for s in (7, None, 90, 90)] == [0, 40 * MS, 83 * MS, 83 * MS + 1]
    assert (clock.missing, clock.disordered) == (1, 1)


def test_stamps_that_begin_late_continue_the_count() -> None:
    clock = StampClock(Fraction(1, 1000), period_ns=40 * MS)
    assert [clock.stamp_ns(s) for s in (None, 900, 950)] == [0, 40 * MS, 90 * MS]


@pytest.mark.parametrize(
    ("name", "count", "shape_px"),
    [
        ("Reg_Image_18122_crop.mp4", 187, (208, 208)),
        ("Reg_Image_181206_crop.mp4", 495, (234, 234)),
        ("brachial_artery_screen_capture.mov", 450, (480, 640)),
    ],
)
def test_real_recordings_end_cleanly_after_the_frames_they_declare(
    recordings: Path, name: str, count: int, shape_px: tuple[int, int]
) -> None:
    with open_source(recordings / "replay" / name) as source:
        stamps = [frame.capture_ns for frame in source]
    assert (len(stamps), source.info.frame_count, source.info.shape_px) == (count, count, shape_px)
    assert np.diff(stamps) == pytest.approx(1e9 / (source.info.rate_hz or 0), rel=1e-6)
