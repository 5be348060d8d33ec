"""NRRD sequences (``.nrrd``) with the keys of PLUS.

The keys and what they are called are those of the PLUS toolkit (``vtkIGSIONrrdSequenceIO``), the
fields those of teem's "Definition of NRRD File Format".
"""

from shutil import copyfileobj
from tempfile import TemporaryFile

from veintrack.tracker.exports.formats import Request
from veintrack.tracker.exports.frames import GZIP, RAW, RecordedFrames, Stack, seconds, store
from veintrack.tracker.exports.placing import placing

__all__ = ["header", "write"]


def write(request: Request) -> str:
    """Write the frames of a recording; see :meth:`Format.write`."""
    with (
        RecordedFrames(request.run, full=request.full) as frames,
        placing(request.to) as partial,
        TemporaryFile(dir=partial.parent) as pixels,
    ):
        stack = store(frames, pixels, GZIP if request.compress else RAW)
        pixels.seek(0)
        with partial.open("wb") as file:
            file.write(header(stack, packed=request.compress).encode())
            copyfileobj(pixels, file, 1 << 20)
        return stack.in_words(frames)


def header(stack: Stack, *, packed: bool) -> str:
    """Write the header, up to the empty line that ends it.

    A spacing that is not known is 1 without a unit, as PLUS writes it.
    """
    height, width = stack.shape_px
    row_mm, col_mm = stack.spacing_mm or (1, 1)
    lines = [
        "NRRD0004",
        "type: unsigned char",
        "dimension: 3",
        f"sizes: {width} {height} {len(stack)}",
        "kinds: domain domain list",
        "endian: little",
        f"encoding: {'gzip' if packed else 'raw'}",
        "space dimension: 2",
        f"space directions: ({col_mm!r},0) (0,{row_mm!r}) none",
        *(['space units: "mm" "mm"'] if stack.spacing_mm else []),
        "space origin: (0,0)",
        "ultrasound image orientation:=MF",
        "ultrasound image type:=BRIGHTNESS",
    ]
    for number, (index, time_ns) in enumerate(zip(stack.indices, stack.times_ns, strict=True)):
        frame = f"Seq_Frame{number:04d}"
        lines.append(f"{frame}_FrameNumber:={index}")
        lines.append(f"{frame}_Timestamp:={seconds(time_ns)}")
        lines.append(f"{frame}_Status:=OK")
    return "\n".join([*lines, "", ""])
