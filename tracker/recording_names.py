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
    "recording_name",
    "recordings_in",
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
    """List the files of the recordings in the folder of a run."""
    names = (MANIFEST, FRAMES, TRACKED, TRACKS)
    found = []
    for own in recordings_in(folder):
        found += [*filter(Path.is_file, (own / name for name in names)), *sorted(own.glob(_PARTS))]
    return found


def recordings_in(folder: Path) -> list[Path]:
    """List the folders of recordings in that of a run, in the order of their making."""
    found = {
        int(path.name[len(FOLDER) + 1 :] or 1): path
        for path in folder.glob(f"{FOLDER}*")
        if path.name == FOLDER or path.name[len(FOLDER) + 1 :].isdecimal()
    }
    return [found[number] for number in sorted(found)]


def recording_name(number: int) -> str:
    """Name the folder of a run's recording, from 1."""
    return FOLDER if number == 1 else f"{FOLDER}-{number}"


def find_recording(path: Path) -> Path | None:
    """Find the folder of a recording: `path` itself, or the one in the folder of a run."""
    for folder in (path, path / FOLDER):
        with suppress(OSError):  # a name too long, or a folder that may not be looked into
            if (folder / MANIFEST).is_file() and (folder / FRAMES).is_file():
                return folder
    return None
