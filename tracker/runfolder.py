"""The folder of a run: where results lie, and ``run.json``, which says how they came about."""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from glob import escape, glob
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from veintrack._version import __version__
from veintrack.errors import OutputError
from veintrack.tracker.config import RunConfig
from veintrack.tracker.frame import Region
from veintrack.tracker.overlay import NOTICE
from veintrack.tracker.recording_names import files_of
from veintrack.tracker.segment import Segmenter
from veintrack.tracker.sources.base import SourceInfo

__all__ = [
    "RESULT_FILES",
    "Summary",
    "clock_anchor",
    "library_versions",
    "percentiles_ms",
    "prepare",
    "run_record",
    "write_record",
]

RESULT_FILES = ("tracks.csv", "tracks.jsonl", "tracks.mot.txt", "run.json", "overlay.mp4")
_LIBRARIES = (
    "numpy",
    "scipy",
    "filterpy",
    "av",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-python",
    "pycuda",
    "onnxruntime",
    "nncf",
)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to.

    Attributes
    ----------
    frames : int
        Frames that were processed.
    driver_drops, drops : int
        Frames lost by the driver, and frames passed over because the network was busy.
    fps : float
        Frames per second, from the first frame's turn to the last one's tracks.
    latency_ms : dict
        ``p50``, ``p95`` and ``p99`` of the frames' age when their tracks were ready.
    engine, precision, device : str
        What ran the network.
    tracks_confirmed : int
        Tracks that were believed at any time.
    output : str
        Folder of the results.
    outages : int
        Times that a live source was lost and waited for.
    too_old : int
        Of `frames`, those that were predicted, as they were too old to be segmented.
    best : dict or None
        The best vein of the last frame that had one, where it was asked for.
    recorded : dict or None
        Of the recording: ``frames``, ``lost``, ``left_out``, ``removed``, ``parts``, ``bytes``.
    """

    frames: int
    driver_drops: int
    drops: int
    fps: float
    latency_ms: dict[str, float]
    engine: str
    precision: str
    device: str
    tracks_confirmed: int
    output: str
    outages: int = 0
    too_old: int = 0
    best: dict[str, Any] | None = None
    recorded: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as printed by ``--json`` and kept in ``run.json``."""
        return asdict(self)


def percentiles_ms(ages_ns: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> dict[str, float]:
    """Median and tail of a run's ages, in milliseconds; zeros where no frame came."""
    if not len(ages_ns):
        return {"p50": 0.0, "p95": 0.0, "p99": 0.0}
    values = np.percentile(ages_ns, (50, 95, 99)) * 1e-6
    return {name: round(float(v), 3) for name, v in zip(("p50", "p95", "p99"), values, strict=True)}


def prepare(
    output: str | None, *, overwrite: bool, video: str | None = None, source: str = ""
) -> Path:
    """Make the folder of a run, and check that it can be written.

    Parameters
    ----------
    output : str or None
        The folder; a new one under ``runs/``, named after the time, by default.
    overwrite : bool
        Remove the results of an earlier run from it. Other files are never touched.
    video : str or None
        Name of the annotated video in that folder, or a path.
    source : str
        What is tracked: its own files are not overwritten, whatever is asked for.

    Raises
    ------
    OutputError
        If it holds results already, is no folder, or cannot be written; or if the video's place
        is taken, or is in no folder.
    """
    made_up = Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = made_up if output is None else Path(output).expanduser()
    results = [folder / name for name in RESULT_FILES]
    held = [] if output is None else [*filter(Path.exists, results), *files_of(folder)]
    if held and not overwrite:
        name = held[0].relative_to(folder)
        raise OutputError(
            f"{folder} already holds {name}: name another --output, or add --overwrite"
        )
    _check_not_source(held, source)
    if video is not None:
        _check_video(folder, video, overwrite=overwrite)
        _check_not_source([(folder / video).resolve()], source)
    try:
        if output is None:
            folder = _make_new(made_up)
        folder.mkdir(parents=True, exist_ok=True)
        for path in held:
            path.unlink()
        probe = folder / ".veintrack-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    return folder


def _make_new(wanted: Path) -> Path:
    """Make a folder that nobody else has made, were it at the same moment."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


def _check_video(folder: Path, video: str, *, overwrite: bool) -> None:
    """Refuse a place where the video cannot be written, or must not."""
    folder, path = folder.resolve(), (folder / video).resolve()
    if video in RESULT_FILES and video != "overlay.mp4":
        raise OutputError(f"--video {video} is where other results go: give it another name")
    if path.is_dir() or (path.parent != folder and not path.parent.is_dir()):
        what = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise OutputError(f"cannot write the video {path}: {what}")
    if path.is_file() and not overwrite:
        raise OutputError(f"{path} exists: give --video another name, or add --overwrite")
    place = path if path.exists() else path.parent
    if place.exists() and not os.access(place, os.W_OK):
        raise OutputError(f"cannot write the video {path}: permission denied")


def _check_not_source(paths: Sequence[Path], source: str) -> None:
    """Refuse to write over what is read: a file, a pattern's files, or those of a folder."""
    named = str(Path(source).expanduser())
    read = {
        named,
        *glob(named, recursive=True),  # noqa: PTH207
        *glob(f"{escape(named)}/*"),  # noqa: PTH207
        *map(str, files_of(Path(named))),  # of a run's folder
    }
    own = [Path(name).stat() for name in read if Path(name).is_file()] if source else []
    for path in paths:
        if path.exists() and any(os.path.samestat(path.stat(), one) for one in own):
            raise OutputError(f"{path} is what is read: write to another place")


def clock_anchor() -> dict[str, Any]:
    """One reading of both clocks: ties a run's monotonic stamps to the time of day."""
    return {
        "monotonic_ns": time.monotonic_ns(),
        "utc": datetime.now(timezone.utc).isoformat(timespec="microseconds"),
    }


def run_record(
    config: RunConfig,
    info: SourceInfo,
    segmenter: Segmenter,
    anchor: Mapping[str, Any],
    *,
    region: Region | None = None,
    summary: Summary | None = None,
    outages: Sequence[Mapping[str, Any]] = (),
    ended: str | None = None,
) -> dict[str, Any]:
    """Everything that must be known to make a run again.

    Parameters
    ----------
    region : tuple of int, optional
        The scan area that was looked at.
    summary : Summary, optional
        What the run came to; None while it goes on.
    outages : sequence of mapping
        Times that a live source was lost: ``state``, ``reason``, ``duration_s``.
    ended : str, optional
        How it ended: ``done``, ``interrupted``, or the error.
    """
    model = segmenter.model
    return {
        "notice": NOTICE,
        "versions": {
            "veintrack": __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            **library_versions(),
        },
        "model": {
            "name": model.name,
            "sha256": model.sha256,
            "classes": list(model.classes),
            "threshold": model.threshold,
        },
        "engine": segmenter.engine.name,
        "precision": segmenter.engine.precision,
        # What it computes may be another file than the model: its INT8 form.
        "compiled_from_sha256": (segmenter.engine.key or {}).get("model_sha256", model.sha256),
        "device": segmenter.engine.device,
        "configuration": config.as_dict(),
        "source": {**asdict(info), "scan_area_px": region},
        "clock_anchor": dict(anchor),
        "latency_from": _latency_from(info, config.pace),
        "outages": [dict(outage) for outage in outages],
        "ended": ended,
        "summary": summary.as_dict() if summary else None,
    }


def _latency_from(info: SourceInfo, pace: str) -> str:
    if info.live:
        return "capture stamp to tracks ready"
    if pace == "realtime":
        return "time at which the frame was due to tracks ready"
    return "start of the frame's processing to tracks ready (reading ahead is not counted)"


def library_versions() -> dict[str, str | None]:
    """Give the versions of what computes; None for what is not installed."""
    # OpenCV is installed under several names.
    return {"opencv": cv2.__version__, **{name: _version(name) for name in _LIBRARIES}}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json``, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = folder / "run.json"
    partial = folder / ".run.json.partial"
    try:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
