"""Measure sizes, collapse, pulse and vein-likeness on random phantom vessels.

    python benchmarks/vein_likeness.py --phantoms 80 --json vein_likeness.json
    python benchmarks/vein_likeness.py --first 1000 --phantoms 180  # on which nothing was fitted

Every phantom is looked at for a little more than four seconds at 25 fps, as it comes (four in ten
are not pressed at all) and again under a hand that presses lightly; an eighth of as many are the
demonstration's. Each is measured with its exact masks and with the network. The weights of the
likeness are fitted to the random phantoms with even numbers and judged on the odd ones; what is
printed beside them is the score that the package ships.

On a phantom a vein that is round, pulses and is not pressed cannot be told from an artery, as
`random_settings` draws both from ranges that overlap: not by this score nor by any other.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from veintrack.tracker.detect import detect
from veintrack.tracker.frame import F64, Detection
from veintrack.tracker.grid import fit, mask_to_grid
from veintrack.tracker.phantom import (
    Phantom,
    PhantomFrame,
    PhantomSettings,
    demo_settings,
    random_settings,
)
from veintrack.tracker.phantom_settings import MotionSettings
from veintrack.tracker.pulse import PULSE_HZ
from veintrack.tracker.segment import GridSegmenter, load_segmenter
from veintrack.tracker.vitals import WINDOW_S, Cues, Vitals, VitalSigns

HANDS = ("as it comes", "pressing", "demo")
RATE_HZ = 25.0
FRAMES = round(RATE_HZ * (WINDOW_S + 0.3))
FOUND = 0.8  # a vessel that is seen in fewer of its frames has not been followed
OUTLINED = 0.2  # of its area: what the network marks more or less of a vessel that it outlines well
SIZED = 0.5, 2.0  # nor one of which the network marks less or more than this, as a part of its area


@dataclass(frozen=True, slots=True)
class Case:
    """One vessel, looked at for four seconds: what was measured, and the truth.

    `minor` and `area` are medians of measured over true; lengths in px.
    """

    phantom: int
    hand: str
    masks_from: str
    vein: bool
    press: float
    minor: float
    minor_error_px: float
    area: float
    largest_px: float
    collapse: float
    pulse_hz: float
    pulse_strength: float
    signs: VitalSigns
    cues: Cues


def examination(number: int, hand: str) -> PhantomSettings:
    """Choose a random phantom, whose vessels sway and whose probe slides; or the demonstration."""
    if hand == "demo":
        return replace(demo_settings(number), rate_hz=RATE_HZ)
    rng = np.random.default_rng((number, 2026))
    settings = random_settings(rng)
    vessels = tuple(
        replace(
            vessel,
            sway_mm=float(max(0.0, rng.uniform(-0.3, 0.3))),
            sway_hz=float(rng.uniform(0.15, 0.4)),
        )
        for vessel in settings.vessels
    )
    press = float(rng.uniform(0.2, 0.6)) if hand == "pressing" else settings.motion.press_amplitude
    motion = MotionSettings(
        slide_amplitude_mm=float(rng.uniform(0, 1.5)), slide_hz=0.15, press_amplitude=press
    )
    return replace(settings, rate_hz=RATE_HZ, vessels=vessels, motion=motion)


def look(number: int, hand: str, segmenter: GridSegmenter) -> Iterator[Case]:
    """Follow every vessel of one phantom, by exact masks and by the network."""
    settings = examination(number, hand)
    if not settings.vessels:
        return
    phantom, start = Phantom(settings), number * 7
    left, top, right, bottom = settings.margins_px
    region = left, top, settings.width_px - left - right, settings.height_px - top - bottom
    grid = fit((settings.height_px, settings.width_px), segmenter.input_shape, region)
    truth: list[PhantomFrame] = []
    seen: dict[tuple[str, int], list[Detection | None]] = {}
    for index in range(start, start + FRAMES):
        frame = phantom.render(index)
        truth.append(frame)
        probability = segmenter.result(segmenter.start(frame.pixels, region))
        network = detect(probability, grid, segmenter.threshold)
        for vessel in frame.vessels:
            mask = mask_to_grid((frame.labels == vessel.id).astype(np.uint8), grid)
            exact = detect(mask, grid, 0.5)
            seen.setdefault(("truth", vessel.id), []).append(exact[0] if exact else None)
            seen.setdefault(("network", vessel.id), []).append(
                nearest(network, vessel.centroid_px, vessel.axes_px[1]) if vessel.visible else None
            )
    for (masks_from, vessel_id), found in seen.items():
        case = judge(number, hand, masks_from, vessel_id, settings, truth, found)
        if case is not None:
            yield case


def nearest(found: Sequence[Detection], centroid_px: F64, minor_px: float) -> Detection | None:
    """Choose the detection whose centroid lies nearest, and within the vessel."""
    if not found:
        return None
    away = [float(np.hypot(*(one.centroid_px - centroid_px))) for one in found]
    best = int(np.argmin(away))
    return found[best] if away[best] < max(minor_px / 2, 4.0) else None


def judge(
    number: int,
    hand: str,
    masks_from: str,
    vessel_id: int,
    settings: PhantomSettings,
    truth: Sequence[PhantomFrame],
    found: Sequence[Detection | None],
) -> Case | None:
    """Compare what was measured with the truth; None where it was not followed, or is cut."""
    vessels = [frame.vessels[vessel_id - 1] for frame in truth]
    whole = [v.visible and v.area_px2 > 0.9 * np.pi / 4 * np.prod(v.axes_px) for v in vessels]
    in_view = [i for i, v in enumerate(vessels) if v.visible]
    pairs = [(vessels[i], d) for i in in_view if (d := found[i]) is not None]
    if not all(whole[i] for i in in_view) or len(pairs) < max(FOUND * len(in_view), 20):
        return None
    area = float(np.median([d.area_px2 / v.area_px2 for v, d in pairs]))
    if not SIZED[0] <= area <= SIZED[1]:
        return None
    vitals, signs, looked = Vitals(), VitalSigns(), 0
    spacing_mm = settings.mm_per_px, settings.mm_per_px
    for i, (vessel, one) in enumerate(zip(vessels, found, strict=True)):
        time_ns = round(truth[i].time_s * 1e9)
        if one is None:
            vitals.miss(time_ns, collapsed=not vessel.visible)
        else:
            vitals.add(time_ns, one, spacing_mm, settings.margins_px[1])
        before, signs = signs, vitals.signs()
        looked = looked if signs is before else i
    if vitals.cues is None:
        return None
    window = [v.axes_px[1] if v.visible else 0.0 for v in vessels][: looked + 1]
    window = window[-round(WINDOW_S * RATE_HZ) :]
    true = settings.vessels[vessel_id - 1]
    return Case(
        phantom=number,
        hand=hand,
        masks_from=masks_from,
        vein=true.kind == "vein",
        press=settings.motion.press_amplitude,
        minor=float(np.median([d.axes_px[1] / v.axes_px[1] for v, d in pairs])),
        minor_error_px=float(np.median([d.axes_px[1] - v.axes_px[1] for v, d in pairs])),
        area=area,
        largest_px=max(window),
        collapse=1 - min(window) / max(window),
        pulse_hz=true.pulse_hz,
        pulse_strength=true.pulse_fraction,
        signs=signs,
        cues=vitals.cues[0],
    )


def fit_weights(cases: Sequence[Case], ridge: float = 1e-3) -> F64:
    """Fit a logistic score, (bias, weights), both kinds counting alike: Newton's method."""
    vein = np.array([case.vein for case in cases])
    cues = np.array([[1.0, *case.cues] for case in cases])
    share = np.where(vein, 0.5 / vein.mean(), 0.5 / (1 - vein.mean()))
    weights = np.zeros(cues.shape[1])
    for _ in range(60):
        score = 1 / (1 + np.exp(-np.clip(cues @ weights, -30, 30)))
        slope = cues.T @ (share * (vein - score)) - ridge * weights
        bow = (cues.T * (share * score * (1 - score))) @ cues + ridge * np.eye(len(weights))
        weights = weights + np.linalg.solve(bow, slope)
    return weights


def summary(cases: Sequence[Case], weights: F64) -> dict[str, float | int]:
    """Say how true the measurements of some vessels are."""
    likeness = np.array([case.signs.vein_likeness for case in cases], float)
    likeness_sd = np.array([case.signs.vein_likeness_sd for case in cases], float)
    vein = np.array([case.vein for case in cases])
    sure = np.abs(likeness - 0.5) > likeness_sd
    refit = np.array([[1.0, *case.cues] for case in cases]) @ weights > 0
    odd = np.array([case.phantom % 2 == 1 for case in cases])
    pulsing = [c for c in cases if c.pulse_strength >= 0.02 and c.pulse_hz >= PULSE_HZ[0]]
    told = [case for case in pulsing if case.signs.pulse_hz is not None]
    hz = np.array([abs((case.signs.pulse_hz or 0.0) - case.pulse_hz) for case in told])
    strength = np.array([(case.signs.pulse_strength or 0) - case.pulse_strength for case in told])
    collapse = np.array([abs((case.signs.collapse or 0.0) - case.collapse) for case in cases])
    collapse_px = collapse * [case.largest_px for case in cases]
    true_collapse = np.array([case.collapse for case in cases])
    minor = np.array([case.minor for case in cases])
    minor_px = np.array([case.minor_error_px for case in cases])
    area = np.array([case.area for case in cases])
    outlined = np.abs(area - 1) <= OUTLINED
    numbers: dict[str, float | int] = {
        "vessels": len(cases),
        "veins": int(vein.sum()),
        "likeness_right": float(np.mean((likeness > 0.5) == vein)),
        "likeness_right_where_outlined": float(np.mean(((likeness > 0.5) == vein)[outlined])),
        "outlined": float(outlined.mean()),
        "likeness_right_odd": float(np.mean(((likeness > 0.5) == vein)[odd])),
        "refit_right_odd": float(np.mean((refit == vein)[odd])),
        "likeness_sure": float(sure.mean()),
        "likeness_right_where_sure": float(np.mean(((likeness > 0.5) == vein)[sure])),
        "pulse_found": len(told) / max(1, len(pulsing)),
        "pulse_hz_within_0.1": float(np.mean(hz < 0.1)),
        "pulse_hz_p95": float(np.percentile(hz, 95)),
        "pulse_strength_p95": float(np.percentile(np.abs(strength), 95)),
        "collapse_median": float(np.median(collapse)),
        "collapse_p95": float(np.percentile(collapse, 95)),
        "collapse_within_5pc_or_1px": float(
            np.mean((collapse_px <= 1) | (collapse <= 0.05 * true_collapse))
        ),
        "collapse_within_0.05": float(np.mean(collapse <= 0.05)),
        "diameter_median": float(np.median(minor)),
        "diameter_within_5pc_or_1px": float(
            np.mean((np.abs(minor - 1) <= 0.05) | (np.abs(minor_px) <= 1))
        ),
        "area_median": float(np.median(area)),
        "area_within_5pc": float(np.mean(np.abs(area - 1) <= 0.05)),
    }
    return {name: round(value, 4) for name, value in numbers.items()}


def report(cases: Sequence[Case]) -> tuple[F64, dict[str, dict[str, float | int]]]:
    """Fit the weights to the even random phantoms, and sum up hand by hand, masks by masks."""
    weights = fit_weights([c for c in cases if c.phantom % 2 == 0 and c.hand != "demo"])
    groups = {
        f"{hand}, {masks}": [c for c in cases if (c.hand, c.masks_from) == (hand, masks)]
        for hand in HANDS
        for masks in ("truth", "network")
    }
    return weights, {name: summary(members, weights) for name, members in groups.items() if members}


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantoms", type=int, default=80)
    parser.add_argument("--first", type=int, default=0, help="number of the first phantom")
    parser.add_argument("--model", default="default")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.phantoms < 10:
        parser.error(f"--phantoms must be at least 10, got {options.phantoms}")
    if options.first < 0:
        parser.error(f"--first must not be negative, got {options.first}")

    segmenter = load_segmenter(options.model, engine=options.engine, precision=options.precision)
    cases = [
        case
        for number in range(options.first, options.first + options.phantoms)
        for hand in HANDS
        if hand != "demo" or number < options.first + options.phantoms / 8
        for case in look(number, hand, segmenter)
    ]
    weights, scores = report(cases)
    table = Table(title=f"Random phantom vessels, {WINDOW_S:.0f} s at {RATE_HZ:.0f} fps")
    table.add_column("")
    for name in scores:
        table.add_column(name, justify="right")
    for row in next(iter(scores.values())):
        table.add_row(row.replace("_", " "), *(str(score[row]) for score in scores.values()))
    Console(width=160).print(table)
    names = "bias", *Cues._fields
    fitted = {name: round(w, 1) for name, w in zip(names, weights.tolist(), strict=True)}
    Console(width=160).print(f"weights fitted to the even phantoms: {fitted}")
    if options.json:
        record = {
            "model_sha256": segmenter.model.sha256,
            "engine": segmenter.engine.name,
            "precision": segmenter.engine.precision,
            "device": segmenter.engine.device,
            "weights": fitted,
            "scores": scores,
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
