"""The recordings: which there are, and frames of those that somebody looks at."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from veintrack.errors import VeintrackError
from veintrack.tracker.recording_names import FRAMES, MANIFEST, recordings_in
from veintrack.tracker.review import Review
from veintrack.tracker.web.desk import drawn

__all__ = ["Kept", "Reviews", "recordings_under"]

_MOST = 100  # recordings in the list


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording in the list.

    Attributes
    ----------
    path : Path
        Its folder.
    name : str
        That, and its run's.
    begun : str
        When, in local time.
    megabytes : float
        Its size.
    """

    path: Path
    name: str
    begun: str
    megabytes: float


def recordings_under(runs: Path) -> list[Kept]:
    """List the recordings of the runs in a folder, the newest first."""
    found: list[tuple[float, Kept]] = []
    for folder in runs.glob("*/"):
        for path in recordings_in(folder):
            try:
                begun_s = min((path / name).stat().st_mtime for name in (MANIFEST, FRAMES))
                size = sum(file.stat().st_size for file in path.iterdir())
            except OSError:  # none yet, or being removed
                continue
            begun = datetime.fromtimestamp(begun_s).strftime("%Y-%m-%d %H:%M:%S")
            found.append((begun_s, Kept(path, f"{folder.name}/{path.name}", begun, size / 1e6)))
    return [kept for _, kept in sorted(found, key=lambda one: one[0], reverse=True)[:_MOST]]


class Reviews:
    """Recordings that somebody looks at, by a key that says nothing of where they lie."""

    def __init__(self) -> None:
        self._open: dict[str, Review] = {}

    def open(self, path: Path) -> tuple[str, Review]:
        """Open one; give its key, too.

        Raises
        ------
        VeintrackError
            If it is damaged.
        """
        key, review = secrets.token_hex(8), Review.open(path)
        self._open[key] = review
        return key, review

    def close(self, key: str) -> None:
        """Close one. Safe to call twice."""
        review = self._open.pop(key, None)
        if review is not None:
            review.close()

    def picture(self, key: str, position: int) -> bytes | None:
        """Give a frame as JPEG; None if there is none, or it is damaged. Any thread may ask."""
        review = self._open.get(key)
        if review is None:
            return None
        try:
            return drawn(review.result(position))
        except (VeintrackError, ValueError):  # no such frame, or it was closed meanwhile
            return None
