"""What a run says of itself, as far as it is handed on: nothing of where its source lay."""

import json
from dataclasses import dataclass
from pathlib import Path

from veintrack.errors import SourceNotFoundError, SourceUnreadableError
from veintrack.tracker.recording_lines import DAMAGE
from veintrack.tracker.recording_names import MANIFEST, TRACKS

__all__ = ["RunFacts", "read_facts", "table_of"]

_RECORDS = ("run.json", MANIFEST)  # of a run's folder, and of a recording's


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What made a run's tracks.

    Attributes
    ----------
    identity : str
        Its own: the moment at which it began, on both clocks.
    notice : str
        What it may be used for.
    version : str
        Of veintrack.
    model, model_sha256 : str
        The network's name, and the digest of its file.
    engine, precision : str
        What ran it.
    source_kind : str
        Kind of source, as in :class:`~veintrack.tracker.sources.base.SourceInfo`.
    shape_px : tuple of int
        ``(H, W)`` of the source's frames.
    frame_count : int or None
        Frames in the source, where it said so.
    """

    identity: str
    notice: str
    version: str
    model: str
    model_sha256: str
    engine: str
    precision: str
    source_kind: str
    shape_px: tuple[int, int]
    frame_count: int | None


def read_facts(run: Path) -> RunFacts:
    """Read ``run.json`` of a run's folder, or the manifest of a recording.

    Raises
    ------
    SourceNotFoundError
        If there is none.
    SourceUnreadableError
        If it is damaged.
    """
    found = [path for name in _RECORDS if (path := run / name).is_file()]
    if not found:
        raise SourceNotFoundError(
            f"{run} is no folder of a run: {' and '.join(_RECORDS)} are missing"
        )
    try:
        record = json.loads(found[0].read_text(encoding="utf-8"))
        began, model = record["clock_anchor"], record["model"]
        source = record["source"]
        height, width = map(int, source["shape_px"])
        count = source.get("frame_count")
        return RunFacts(
            identity=f"{began['utc']} {int(began['monotonic_ns'])}",
            notice=str(record["notice"]),
            version=str(record["versions"]["veintrack"]),
            model=str(model["name"]),
            model_sha256=str(model["sha256"]),
            engine=str(record["engine"]),
            precision=str(record["precision"]),
            source_kind=str(source.get("kind", "")),
            shape_px=(height, width),
            frame_count=None if count is None else int(count),
        )
    except (OSError, *DAMAGE) as error:
        raise SourceUnreadableError(f"{found[0]} is damaged, or of no run") from error


def table_of(run: Path) -> bytes:
    """Read ``tracks.csv`` up to its last whole line: a run that was killed ends within one.

    Raises
    ------
    SourceNotFoundError, SourceUnreadableError
        If there is none, or it cannot be read.
    """
    path = run / TRACKS
    if not path.is_file():
        raise SourceNotFoundError(f"{run} is no folder of a run: {TRACKS} is missing")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SourceUnreadableError(f"{path} cannot be read: {error.strerror}") from error
    whole = text[: text.rfind(b"\n") + 1]
    if not whole.startswith(b"frame,"):
        raise SourceUnreadableError(f"{path} is no table of tracks")
    return whole
