"""What the files of a recording are called, and where one is found."""

from contextlib import suppress
from pathlib import Path

__all__ = [
    "FOLDER",
    "FORMAT",
    "FRAMES",
    "MANIFEST",
    "TRACKED",
    "TRACKS",
    "files_of",
    "find_recording",
    "part_name",
]

FOLDER = "recording"  # in the folder of a run
MANIFEST = "manifest.json"
FRAMES = "frames.jsonl"
TRACKED = "tracked.jsonl"
TRACKS = "tracks.csv"
FORMAT = "veintrack recording 1"  # stands in the manifest
_PART, _PARTS = "part-{:05d}.mkv", "part-*.mkv"


def part_name(number: int) -> str:
    """Name a part, from 1."""
    return _PART.format(number)


def files_of(folder: Path) -> list[Path]:
    """List the files of the recording in the folder of a run."""
    own = folder / FOLDER
    names = [own / name for name in (MANIFEST, FRAMES, TRACKED, TRACKS)]
    return [*filter(Path.is_file, names), *sorted(own.glob(_PARTS))]


def find_recording(path: Path) -> Path | None:
    """Find the folder of a recording: `path` itself, or the one in the folder of a run."""
    for folder in (path, path / FOLDER):
        with suppress(OSError):  # a name too long, or a folder that may not be looked into
            if (folder / MANIFEST).is_file() and (folder / FRAMES).is_file():
                return folder
    return None
