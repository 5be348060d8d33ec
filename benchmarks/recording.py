"""What it costs to keep frames losslessly: FFV1 against H.264, in Matroska.

    python benchmarks/recording.py [SOURCE ...] [--frames N] [--json FILE]

Sources are the phantom and, where they are at hand, the real recordings of ../shared/data. For each
form: whether the grey levels come back, bytes a frame, processor time to write and to read one,
what is lost when the process is killed, and what one damaged byte does.
"""

import argparse
import io
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream
from rich.console import Console
from rich.table import Table

from veintrack.tracker.frame import U8
from veintrack.tracker.recording_parts import ENCODER, ENCODER_OPTIONS
from veintrack.tracker.sources import open_source

DATA = Path(__file__).parents[2] / "shared" / "data" / "replay"
REAL = (
    "brachial_artery_screen_capture.mov",
    "USTC_FrameGrabber_ProbeTranslationData.igs.mha",
    "Reg_Image_18122_crop.mp4",
)
FULL_RANGE = 2  # AVColorRange in libavutil/pixfmt.h
FFV1 = {"level": "3", "g": "1", "slices": "4", "slicecrc": "1"}
X264 = {"qp": "0", "bf": "0"}
FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "FFV1, Golomb-Rice, small context": (ENCODER, ENCODER_OPTIONS),
    "FFV1, range coder, small context": ("ffv1", {**FFV1, "coder": "1", "context": "0"}),
    "FFV1, range coder, large context": ("ffv1", {**FFV1, "coder": "1", "context": "1"}),
    "H.264 ultrafast, every frame for itself": (
        "libx264",
        {**X264, "preset": "ultrafast", "g": "1"},
    ),
    "H.264 ultrafast, groups of 15": ("libx264", {**X264, "preset": "ultrafast", "g": "15"}),
    "H.264 superfast, groups of 15": ("libx264", {**X264, "preset": "superfast", "g": "15"}),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one form costs on one source.

    Attributes
    ----------
    source, form : str
        What was written, and how.
    exact : bool
        Whether every grey level of every frame came back.
    bytes_frame, ratio : float
        Size of a frame in the file, and that over its pixels.
    write_ms, read_ms : float
        Processor time a frame.
    lost_when_killed : float
        Frames that were handed over, and are not in what had been written by then; mean.
    wrong_when_damaged, lost_when_damaged : float
        Frames that come back as others than they were, and frames that do not come back, by one
        byte in the middle that is another; mean over 40 bytes.
    """

    source: str
    form: str
    exact: bool
    bytes_frame: float
    ratio: float
    write_ms: float
    read_ms: float
    lost_when_killed: float
    wrong_when_damaged: float
    lost_when_damaged: float


def write(pictures: Sequence[U8], encoder: str, options: dict[str, str]) -> tuple[bytes, list[int]]:
    """Give the file, and how much of it is written when each frame was handed over."""
    file = io.BytesIO()
    container = av.open(file, "w", format="matroska", options={"fflags": "+flush_packets"})
    stream = cast("VideoStream", container.add_stream(encoder, rate=30))
    stream.height, stream.width = pictures[0].shape
    stream.pix_fmt, stream.options = "gray", dict(options)
    stream.codec_context.thread_count = 1
    stream.codec_context.color_range = FULL_RANGE
    ends = []
    for at, pixels in enumerate(pictures):
        picture = av.VideoFrame.from_ndarray(pixels, format="gray")
        picture.pts, picture.color_range = at, FULL_RANGE
        for packet in stream.encode(picture):
            container.mux(packet)
        ends.append(file.tell())
    for packet in stream.encode(None):
        container.mux(packet)
    container.close()
    return file.getvalue(), ends


def read(data: bytes) -> dict[int, U8]:
    """Give what can be decoded, by its time."""
    found: dict[int, U8] = {}
    try:
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            packets = container.demux(stream)
            while True:
                try:
                    pictures = next(packets).decode()
                except av.FFmpegError:
                    continue
                for picture in cast("list[av.VideoFrame]", pictures):
                    if picture.pts is not None and not picture.is_corrupt:
                        found[picture.pts] = luma(picture)
    except (StopIteration, av.FFmpegError, IndexError):
        pass
    return found


def luma(picture: av.VideoFrame) -> U8:
    """Take the first plane, which holds the grey levels."""
    plane = picture.planes[0]
    rows: U8 = np.frombuffer(cast("memoryview[int]", plane), np.uint8).reshape(
        plane.height, plane.line_size
    )
    levels: U8 = rows[:, : plane.width].copy()
    return levels


def judge(name: str, form: str, pictures: Sequence[U8]) -> Cost:
    """Measure one form on the frames of one source."""
    encoder, options = FORMS[form]
    begun = time.process_time()
    data, written = write(pictures, encoder, options)
    wrote = time.process_time()
    back = read(data)
    done = time.process_time()
    count = len(pictures)
    exact = times_of(back, pictures, same=True) == count
    rng = np.random.default_rng(7)
    killed = [at + 1 - len(read(data[: written[at]])) for at in range(5, count, max(1, count // 8))]
    wrong, lost = [], []
    for at in rng.integers(len(data) // 4, len(data) * 3 // 4, 40).tolist():
        found = read(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        wrong.append(times_of(found, pictures, same=False))
        lost.append(count - len(found))
    return Cost(
        source=name,
        form=form,
        exact=exact,
        bytes_frame=len(data) / count,
        ratio=len(data) / sum(p.size for p in pictures),
        write_ms=(wrote - begun) / count * 1e3,
        read_ms=(done - wrote) / count * 1e3,
        lost_when_killed=float(np.mean(killed)),
        wrong_when_damaged=float(np.mean(wrong)),
        lost_when_damaged=float(np.mean(lost)),
    )


def times_of(found: dict[int, U8], pictures: Sequence[U8], *, same: bool) -> int:
    """Count the pictures that are as they were, or are not."""
    step = 1000 / 30  # Matroska counts in ms
    return sum(
        np.array_equal(pixels, pictures[min(len(pictures) - 1, round(at / step))]) is same
        for at, pixels in found.items()
    )


def show(costs: Sequence[Cost], console: Console) -> None:
    """Print a table."""
    table = Table(title="What it costs to keep a frame losslessly; processor time, one thread")
    for head in ("source", "form"):
        table.add_column(head)
    heads = ("exact", "kB", "of raw", "write ms", "read ms", "killed: lost")
    for head in (*heads, "damaged: wrong", "lost"):
        table.add_column(head, justify="right")
    for cost in costs:
        table.add_row(
            cost.source,
            cost.form,
            "yes" if cost.exact else "NO",
            f"{cost.bytes_frame / 1e3:.1f}",
            f"{cost.ratio:.0%}",
            f"{cost.write_ms:.2f}",
            f"{cost.read_ms:.2f}",
            f"{cost.lost_when_killed:.1f}",
            f"{cost.wrong_when_damaged:.2f}",
            f"{cost.lost_when_damaged:.2f}",
        )
    console.print(table)


def main() -> None:
    """Measure every form on every source."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sources", nargs="*", help="what veintrack --source reads")
    parser.add_argument("--frames", type=int, default=60, help="of each source")
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    real = [str(DATA / name) for name in REAL if (DATA / name).is_file()]
    av.logging.set_level(None)
    costs = []
    for source in given.sources or ["demo", *real]:
        with open_source(source) as frames:
            pictures = [frame.pixels for frame in islice(frames, given.frames)]
        name = f"{Path(source).stem[:16]} {pictures[0].shape[1]}x{pictures[0].shape[0]}"
        costs += [judge(name, form, pictures) for form in FORMS]
    show(costs, Console(width=150))
    if given.json:
        given.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")


if __name__ == "__main__":
    main()
