"""Hold what is measured of every track against the truth, in the scenarios of `tracking.py`.

    python benchmarks/tracking_measures.py --masks network --json measures.json

Sizes are compared in every frame in which the track was seen and its vessel is whole: they are
right within 5 % of the truth or one pixel; an area, within 5 % or that of an equal disc whose
diameter errs by one pixel. Collapse is right within 0.05 of that of the true minor axis over the
same window, pulse within 0.1 Hz of an artery's rate, both in every frame from four seconds on.
Vein or artery is judged by the last word on each vessel that was followed for four seconds.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment
from tracking import add_choices
from tracking_contest import Moment
from tracking_moments import Run, prepare
from tracking_scenarios import Scenario, scenario

from veintrack.tracker.frame import F64, Measurement, Track, TrackStatus
from veintrack.tracker.phantom import VesselTruth
from veintrack.tracker.tracks import VeinTracker
from veintrack.tracker.vitals import WINDOW_S

_FROM_S = 4.0
_WHOLE = 0.99  # part of the lumen that is in view, from which on its size is asked for


@dataclass(slots=True)
class Vessel:
    """What was measured of one vessel in one run, and what is true.

    Attributes
    ----------
    scenario, seed, number, kind, pulse_hz : str, int, int, str, float
        Which one it is.
    sizes : list of tuple
        Measured and true area, major and minor axis, px, frame by frame.
    minor : list of tuple
        Time and true minor axis, px, also while it cannot be seen.
    said : list of tuple
        Time and measurement.
    """

    scenario: str
    seed: int
    number: int
    kind: str
    pulse_hz: float
    sizes: list[tuple[float, ...]] = field(default_factory=list)
    minor: list[tuple[float, float]] = field(default_factory=list)
    said: list[tuple[float, Measurement]] = field(default_factory=list)


def measure_all(run: Run, made: Scenario) -> list[Vessel]:
    """Let the tracker follow a run; gather what it measures of each vessel."""
    vessels = [
        Vessel(run.name, run.seed, i, v.kind, v.pulse_hz)
        for i, v in enumerate(made.settings.vessels)
    ]
    tracker = VeinTracker()
    for moment in run.moments:
        tracks = tracker.update(
            moment.detections,
            moment.capture_ns,
            spacing_mm=run.spacing_mm,
            area_px=run.area_px,
            picture=moment.picture,
            motion=moment.motion,
        )
        time_s = (moment.capture_ns - run.moments[0].capture_ns) * 1e-9
        for vessel, true in zip(vessels, moment.truth, strict=True):
            vessel.minor.append((time_s, true.axes_px[1]))
        for true, said in _followed(moment, tracks):
            vessel = vessels[true.id - 1]
            vessel.said.append((time_s, said))
            whole_px2 = np.pi / 4 * true.axes_px[0] * true.axes_px[1]
            if true.area_px2 > _WHOLE * whole_px2:
                measured = said.area_px2, said.major_px, said.minor_px
                vessel.sizes.append((*measured, true.area_px2, *true.axes_px))
    return vessels


def _followed(moment: Moment, tracks: Sequence[Track]) -> Iterator[tuple[VesselTruth, Measurement]]:
    """Pair visible vessels with what is measured of the confirmed tracks on them."""
    seen = [t for t in tracks if t.status is TrackStatus.CONFIRMED and t.measurement]
    there = [v for v in moment.truth if v.visible]
    if not seen or not there:
        return
    away = np.array([[np.hypot(*(t.centroid_px - v.centroid_px)) for t in seen] for v in there])
    for row, column in zip(*linear_sum_assignment(away), strict=True):
        measurement = seen[column].measurement
        if measurement is not None and away[row, column] <= there[row].axes_px[0] / 2:
            yield there[row], measurement


def sizes_right(vessels: Sequence[Vessel]) -> dict[str, dict[str, float]]:
    """Say how often each size is right, its bias, and its usual error; None where none is known."""
    sizes = np.array([size for v in vessels for size in v.sizes]).reshape(-1, 6)
    measured, true = sizes[:, :3], sizes[:, 3:]
    disc_px = np.sqrt(4 / np.pi * sizes[:, [0, 3]])  # diameters of equal discs
    off_px = np.column_stack([disc_px[:, 0] - disc_px[:, 1], measured[:, 1:] - true[:, 1:]])
    relative = measured / true - 1
    right = (np.abs(relative) <= 0.05) | (np.abs(off_px) <= 1)
    return {
        name: {
            "right": float(right[:, i].mean()),
            "bias": float(relative[:, i].mean()),
            "bias_px": float(off_px[:, i].mean()),
            "p95": float(np.percentile(np.abs(relative[:, i]), 95)),
        }
        for i, name in enumerate(("area", "major", "minor"))
        if len(sizes)
    }


def collapse_errors(vessels: Sequence[Vessel]) -> F64:
    """Errors of the collapse, from four seconds on."""
    errors = []
    for vessel in vessels:
        time_s, minor_px = np.array(vessel.minor).T
        for at_s, said in vessel.said:
            if said.collapse is not None and at_s >= _FROM_S:
                window = minor_px[(time_s > at_s - WINDOW_S) & (time_s <= at_s)]
                errors.append(said.collapse - (1 - window.min() / window.max()))
    return np.array(errors)


def pulse_errors(vessels: Sequence[Vessel]) -> F64:
    """Errors of the arteries' pulse, Hz, from four seconds on; NaN where none was found."""
    return np.array(
        [
            np.nan if said.pulse_hz is None else said.pulse_hz - vessel.pulse_hz
            for vessel in vessels
            if vessel.kind == "artery"
            for at_s, said in vessel.said
            if at_s >= _FROM_S
        ]
    )


def kinds(vessels: Sequence[Vessel]) -> dict[str, tuple[int, int, int]]:
    """Count of each kind how many are told rightly, wrongly, and not at all."""
    counts = {}
    for kind in ("vein", "artery"):
        right = wrong = unknown = 0
        for vessel in vessels:
            if vessel.kind != kind or not vessel.said:
                continue
            if vessel.said[-1][0] - vessel.said[0][0] < _FROM_S:
                continue
            likeness = [m.vein_likeness for _, m in vessel.said if m.vein_likeness is not None]
            if not likeness:
                unknown += 1
            elif (likeness[-1] > 0.5) == (kind == "vein"):
                right += 1
            else:
                wrong += 1
        counts[kind] = right, wrong, unknown
    return counts


def sum_up(vessels: Sequence[Vessel]) -> dict[str, Any]:
    """Sum up some vessels."""
    collapse, pulse = collapse_errors(vessels), pulse_errors(vessels)
    told = pulse[np.isfinite(pulse)]
    return {
        "vessels": len(vessels),
        "sizes": sizes_right(vessels),
        "collapse": {
            "frames": len(collapse),
            "right": float(np.mean(np.abs(collapse) <= 0.05)) if len(collapse) else None,
            "bias": float(collapse.mean()) if len(collapse) else None,
        },
        "pulse": {
            "frames": len(pulse),
            "told": len(told) / len(pulse) if len(pulse) else None,
            "right": float(np.mean(np.abs(told) <= 0.1)) if len(told) else None,
        },
        "kinds": kinds(vessels),
    }


def show(sums: dict[str, dict[str, Any]], title: str) -> None:
    """Print the table."""
    table = Table(title=title)
    for column in (
        "scenario", "vessels", "area right", "major", "minor", "bias of minor px", "collapse right",
        "pulse told", "right", "veins right/wrong/?", "arteries",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "scenario" else "right")

    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    for name, one in sums.items():
        sizes = one["sizes"]
        table.add_row(
            name,
            str(one["vessels"]),
            *(shown(sizes.get(size, {}).get("right")) for size in ("area", "major", "minor")),
            shown(sizes.get("minor", {}).get("bias_px")),
            shown(one["collapse"]["right"]),
            shown(one["pulse"]["told"]),
            shown(one["pulse"]["right"]),
            *("/".join(map(str, one["kinds"][kind])) for kind in ("vein", "artery")),
            end_section=name == list(sums)[-2] if len(sums) > 1 else False,
        )
    Console(width=150).print(table)


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_choices(parser)
    options = parser.parse_args()
    record = {}
    for masks in options.masks:
        by_name: dict[str, list[Vessel]] = {}
        for name in options.scenarios:
            for seed in options.seeds:
                made = scenario(name, seed, options.seconds)
                run = prepare(made, seed, masks, options.cache)
                by_name.setdefault(name, []).extend(measure_all(run, made))
        by_name["all"] = [v for vessels in by_name.values() for v in vessels]
        record[masks] = {name: sum_up(vessels) for name, vessels in by_name.items()}
        show(record[masks], f"{masks} masks")
    if options.json:
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
