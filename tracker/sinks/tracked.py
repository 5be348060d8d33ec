"""``tracked.jsonl``: what a run did with each frame, so that a replay does the same."""

import json
from pathlib import Path
from typing import Any

from veintrack.tracker.frame import FrameResult

__all__ = ["TrackedSink"]


class TrackedSink:
    """Writes an object per result: which frame, and how it was looked at."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file = path.open("w", encoding="utf-8", newline="\n", buffering=1)

    def write(self, result: FrameResult) -> None:
        state = result.source
        row: dict[str, Any] = {
            "frame": result.frame.index,
            "scan_area_px": result.scan_area_px,
            "settled": result.scan_area_settled,
            "changes": result.changes,
            "picture": result.picture.value,
            "segmented": result.segmented,
            "between_ns": result.between_ns,
        }
        if not result.fresh:
            row["source"] = {
                "state": state.signal.value,
                "since_ns": state.since_ns,
                "reason": state.reason,
            }
        self._file.write(f"{json.dumps(row)}\n")

    def close(self) -> None:
        self._file.close()
