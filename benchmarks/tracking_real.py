"""Track real ultrasound: carotid sequences, stills set in motion by known warps, lungs.

    python benchmarks/tracking_real.py ../shared/data --json tracking_real.json

The whole line runs as in the main job. Three questions:

- *carotid*: labelled frames of four people, a few slices of each sweep. The number in a file's
  name is taken as its time, at `--slice-hz`, and a sequence is cut where a gap is longer than a
  track may go unseen. Once on the labelled masks, once with the network, which has not seen one of
  the four.
- *warps*: stills of the part of the data that the default model was not trained on, moved as
  `tracking_warps.py` says; on the labelled outlines, and with the network. The error is given
  against the centroid of the labelled outline; and what is left of it without the mean offset of
  each vessel. The first says how the network's outline agrees with a person's, the second how well
  the motion is followed.
- *lungs*: clips without a vessel. How much of the time is any track confirmed?

A vessel is found where a track's box overlaps its own by half or more. Not everything is labelled:
HOTA and IDF1 are of those tracks that ever follow a labelled vessel.
"""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table
from tracking_real_line import BELIEVED, FOUND, Gathered, MaskSegmenter, follow, grey, overlap
from tracking_real_warps import unseen_stills, warps
from tracking_warps import Place

from veintrack.tracker.frame import U8, TrackStatus
from veintrack.tracker.pipeline import Pipeline, PipelineSettings
from veintrack.tracker.segment import GridSegmenter, load_segmenter
from veintrack.tracker.sources import open_source
from veintrack.tracker.tracks import VeinTracker
from veintrack.train.splits import group_frames, split_groups

__all__ = ["Stretch", "carotid", "lungs", "stretches", "together", "unseen_person"]

_GAP_S = 1.0  # after so long unseen, a track may end
_LEAST = 5  # frames of a stretch: fewer say nothing of a track

Stretch = list[tuple[float, str]]
"""Times in seconds and file names of successive slices."""


def stretches(folder: Path, slice_hz: float, people: str = "") -> list[Stretch]:
    """Find the runs of slices without a long gap; of people whose names begin so."""
    slices = defaultdict[str, Stretch](list)
    for path in sorted((folder / "images").glob(f"{people}*.png")):
        match = re.fullmatch(r"(\w+)_(\d+)", path.stem)
        if match:
            slices[match[1]].append((int(match[2]) / slice_hz, path.name))
    found = []
    for frames in slices.values():
        cuts = [i for i, (a, b) in enumerate(pairwise(frames), 1) if b[0] - a[0] > _GAP_S]
        found += [frames[a:b] for a, b in pairwise([0, *cuts, len(frames)]) if b - a >= _LEAST]
    return found


def carotid(
    folder: Path, runs: Sequence[Stretch], segmenter: GridSegmenter | None
) -> dict[str, Any]:
    """Track the carotid through each stretch; without a segmenter, on the labelled masks."""
    gathered, own = Gathered(), set[int]()
    for run, stretch in enumerate(runs):
        pictures = [grey(folder / "images" / name) for _, name in stretch]
        masks = [_vessels(folder / "masks" / name) for _, name in stretch]
        times_s = [time_s - stretch[0][0] for time_s, _ in stretch]
        results = follow(pictures, times_s, segmenter or MaskSegmenter(masks))
        for result, mask in zip(results, masks, strict=True):
            tracks, places = gathered.add(run, result, [_place(mask)])
            shared = overlap([places[0].box_px], [t.box_px for t in tracks])[0]
            own |= {t.id for t, part in zip(tracks, shared, strict=True) if part >= FOUND}
    scores = gathered.score(own)
    error = scores.error_px
    return {
        "outlines": "network" if segmenter else "labels",
        "stretches": len(runs),
        "frames": len(gathered.moments),
        "found_frames": scores.recall,
        "one_identity": scores.identity_kept,
        "switches": scores.scores.switches,
        "hota": scores.scores.hota,
        "idf1": scores.scores.id_f1,
        "rmse_px": error and error.rmse,
        "p95_px": error and error.p95,
    }


def unseen_person(folder: Path) -> str:
    """Say who was not in the default model's training; the split is the model card's."""
    names = sorted(path.stem for path in (folder / "images").glob("*.png"))
    split = split_groups(group_frames(names, r"^(S\d)"), val=0.0, test=0.25, seed=0)
    return names[split.test[0]][:2]


def _vessels(path: Path) -> U8:
    """Read a mask: 255 on what is labelled."""
    return np.where(grey(path) > 0, 255, 0).astype(np.uint8)


def _place(mask: U8) -> Place:
    """Where all that is labelled is, as one vessel."""
    moments = cv2.moments(mask, binaryImage=True)
    left, top, width, height = cv2.boundingRect(mask)
    xy = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
    return Place(1, xy, (left - 0.5, top - 0.5, width, height), visible=True)


def lungs(clip: Path, segmenter: GridSegmenter, frames: int | None = None) -> dict[str, Any]:
    """Track a clip in which there is nothing to find."""
    settings = PipelineSettings(contours=False, max_frames=frames)
    with open_source(clip) as source:
        results = [
            {track.status for track in result.tracks}
            for result in Pipeline(source, segmenter, VeinTracker(), settings)
        ]
    confirmed = [TrackStatus.CONFIRMED in statuses for statuses in results]
    believed = [not statuses.isdisjoint(BELIEVED) for statuses in results]
    return {
        "clip": clip.stem,
        "frames": len(results),
        "confirmed": float(np.mean(confirmed)),
        "confirmed_or_coasting": float(np.mean(believed)),
    }


def together(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up clips by their frames."""
    frames = [row["frames"] for row in rows]
    shares = {
        name: float(np.average([row[name] for row in rows], weights=frames))
        for name in ("confirmed", "confirmed_or_coasting")
    }
    return {"clip": "both", "frames": sum(frames), **shares}


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="folder with carotid, vessels and replay")
    parser.add_argument("--slice-hz", type=float, default=30.0, help="slices a second (30)")
    parser.add_argument("--stills", type=int, help="warp only so many stills")
    parser.add_argument("--frames", type=int, default=75, help="of each warped still (75)")
    parser.add_argument("--rate", type=float, default=25.0, help="of the warped frames, Hz (25)")
    parser.add_argument("--model", default="default")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    segmenter = load_segmenter(options.model, engine=options.engine, precision=options.precision)
    folder, new = options.data / "carotid", unseen_person(options.data / "carotid")
    record: dict[str, list[dict[str, Any]]] = {
        "carotid": [
            {"people": people or "all", **carotid(folder, runs, which)}
            for people in ("", new)
            for runs in [stretches(folder, options.slice_hz, people)]
            for which in (None, segmenter)
        ],
        "lungs": [lungs(c, segmenter) for c in sorted((options.data / "replay").glob("*.mp4"))],
    }
    record["lungs"].append(together(record["lungs"]))
    stills = unseen_stills(options.data / "vessels")[: options.stills]
    record["warps"] = [
        row
        for which in (None, segmenter)
        for row in warps(stills, which, options.rate, options.frames)
    ]
    for title, rows in record.items():
        _print(title, rows)
    if options.json:
        engine = segmenter.engine
        facts = {"model_sha256": segmenter.model.sha256, "precision": engine.precision}
        options.json.write_text(json.dumps({**facts, **record}, indent=2) + "\n")


def _print(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
