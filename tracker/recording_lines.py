"""What the text files of a recording say: of the run, and of each frame."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from veintrack.errors import SourceUnreadableError
from veintrack.tracker.frame import Region, Spacing, Stamp
from veintrack.tracker.recording_names import FORMAT, FRAMES, MANIFEST, part_name
from veintrack.tracker.sources.decoder import MAX_PIXELS

__all__ = ["DAMAGE", "FrameLine", "read_lines", "read_manifest", "readable_lines"]

#: What reading a line raises that is not as it was written.
DAMAGE = (ValueError, KeyError, TypeError, OverflowError, RecursionError)
_LAYOUT = ("shape_px", "crop_px", "spacing_mm")


@dataclass(frozen=True, slots=True)
class FrameLine:
    """What ``frames.jsonl`` says of a frame.

    Attributes
    ----------
    part : int
        Which file it is in, from 1.
    pts_ms : int
        Its time in that file.
    index, capture_ns, arrival_ns, driver_sequence, stamp, sender_ns, spacing_mm
        As in :class:`~veintrack.tracker.frame.Frame`.
    shape_px : tuple of int
        ``(H, W)`` of the frame as the source delivered it.
    crop_px : tuple of int
        ``(x, y, width, height)`` of what was recorded of it.
    lost, left_out : int
        Frames that had not been recorded by then.
    crc32 : int
        Of the encoded picture.
    """

    part: int
    pts_ms: int
    index: int
    capture_ns: int
    arrival_ns: int
    driver_sequence: int | None
    stamp: Stamp
    sender_ns: int | None
    spacing_mm: Spacing | None
    shape_px: tuple[int, int]
    crop_px: Region
    lost: int
    left_out: int
    crc32: int

    @property
    def whole(self) -> bool:
        """Whether all of the frame was recorded."""
        return self.crop_px == (0, 0, self.shape_px[1], self.shape_px[0])


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what is known of a recording.

    Raises
    ------
    SourceUnreadableError
        If it is not one of ours.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        kind = str(manifest["format"])
        parts = (manifest["source"], manifest.get("recorded", {}))
        if not all(isinstance(part, dict) for part in parts):
            raise TypeError("source")
    except (OSError, *DAMAGE, AttributeError) as error:
        raise SourceUnreadableError(f"{path} is damaged, or of no recording") from error
    if kind != FORMAT:
        raise SourceUnreadableError(
            f"{path}: expected {FORMAT!r}, got {kind[:40]!r}: it is of another version"
        )
    return dict(manifest)


def read_lines(folder: Path, *, changes_only: bool = False) -> Iterator[FrameLine]:
    """Read ``frames.jsonl``, up to the last whole line.

    Parameters
    ----------
    changes_only : bool
        Only lines that say where the frames from there on were recorded from.

    Raises
    ------
    SourceUnreadableError
        If a line before the last is damaged.
    """
    layout: dict[str, Any] = {}
    number = 0
    try:
        with (folder / FRAMES).open("rb") as file:
            for text in file:
                number += 1
                if not text.endswith(b"\n"):
                    return  # it was being written
                if changes_only and b'"crop_px"' not in text:
                    continue
                row = json.loads(text)
                layout.update((name, row[name]) for name in _LAYOUT if name in row)
                yield _line(row, layout)
    except DAMAGE as error:
        raise SourceUnreadableError(f"{folder / FRAMES}: line {number} is damaged") from error
    except OSError as error:
        raise SourceUnreadableError(
            f"{folder / FRAMES} cannot be read: {error.strerror}"
        ) from error


def readable_lines(folder: Path) -> Iterator[FrameLine]:
    """Read the lines of frames whose part was not removed."""
    for part, lines in groupby(read_lines(folder), key=lambda line: line.part):
        if (folder / part_name(part)).is_file():
            yield from lines


def _line(row: dict[str, Any], layout: dict[str, Any]) -> FrameLine:
    height, width = map(int, layout["shape_px"])
    x, y, w, h = map(int, layout["crop_px"])
    if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
        raise ValueError("the crop lies outside of the frame")
    if height * width > MAX_PIXELS:
        raise ValueError("the frame is too large")
    spacing, index = layout["spacing_mm"], int(row["index"])
    if index < 0:
        raise ValueError("the index is negative")
    sequence, sender = row["driver_sequence"], row["sender_ns"]
    return FrameLine(
        part=int(row["part"]),
        pts_ms=int(row["pts_ms"]),
        index=index,
        capture_ns=int(row["capture_ns"]),
        arrival_ns=int(row["arrival_ns"]),
        driver_sequence=None if sequence is None else int(sequence),
        stamp=Stamp(row["stamp"]),
        sender_ns=None if sender is None else int(sender),
        spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        shape_px=(height, width),
        crop_px=(x, y, w, h),
        lost=int(row["lost"]),
        left_out=int(row["left_out"]),
        crc32=int(row["crc32"]),
    )
