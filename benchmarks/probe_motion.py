"""Tell the probe's motion from two pictures: our way against others, where the truth is exact.

    python benchmarks/probe_motion.py --json probe_motion.json

Three vessels of the phantom that do nothing of their own are where the displacement is judged: in
frame px, from one frame to the next, while the probe slides, turns and presses. Where the real
recordings are at hand (`--recordings`), labelled stills are set in motion by known warps, under
speckle that is new in every frame. Then come pictures of which nothing can be told. `ours` is
`MotionWatch`; `ours, shift only` is the same without turning and stretching.

NEES is the squared error over the variance that was stated, in the worse of the two directions:
less than 1 is cautious. `wrong` is the part of the answers that is off by more than a pixel and by
more than four of the standard deviations that were stated. The cost is processor time of a look,
median over all scenes.
"""

import argparse
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table
from tracking_warps import MOVES, Still, moving

from veintrack.tracker.frame import F32, F64, U8, ProbeMotion
from veintrack.tracker.grid import Grid, fit, image_to_grid
from veintrack.tracker.machine import machine_facts
from veintrack.tracker.phantom import (
    MotionSettings,
    Phantom,
    PhantomSettings,
    TissueSettings,
    VesselSettings,
    random_still,
)
from veintrack.tracker.probemotion import MotionWatch, ProbeMotionSettings
from veintrack.tracker.scanarea import find_scan_area

GRID = (256, 256)
WRONG_SD, WRONG_PX = 4.0, 1.0  # an answer that is off by more than both is wrong, and sure of it


class Watch(Protocol):
    """Anything that looks at one picture after the other."""

    def look(self, picture: U8, grid: Grid, capture_ns: int) -> ProbeMotion | None: ...


class Other(ABC):
    """What the other ways share: pictures at half size, and coordinates. They state no variance."""

    def __init__(self) -> None:
        self._before: U8 | None = None

    def look(self, picture: U8, grid: Grid, capture_ns: int) -> ProbeMotion | None:
        """Compare a picture with the one before."""
        del capture_ns
        x, y, width, height = grid.inner
        size = width // 2, height // 2
        inner = picture[y : y + size[1] * 2, x : x + size[0] * 2]
        now: U8 = cv2.resize(inner, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        before, self._before = self._before, now
        moved = None if before is None else self.moved(before, now)
        if moved is None:
            return None
        # From the half-size picture to the frame: xy_half = scale * xy_frame + start.
        scale = np.array(grid.scale) / 2
        start = (0.5 - np.array(grid.region[:2])) * scale - 0.5
        linear = moved[:, :2] * scale / scale[:, None]
        return ProbeMotion(linear, (moved[:, :2] @ start + moved[:, 2]) / scale, float("nan"))

    @abstractmethod
    def moved(self, before: U8, now: U8) -> F64 | None:
        """Tell the displacement ``xy @ m[:, :2].T + m[:, 2]``, m of shape (2, 3), px."""


class PhaseCorrelation(Other):
    """`cv2.phaseCorrelate` of the whole picture, or of its quarters and a motion through them."""

    def __init__(self, parts: int = 1) -> None:
        super().__init__()
        self._parts = parts

    def moved(self, before: U8, now: U8) -> F64 | None:
        height, width = (side // self._parts for side in now.shape)
        window = cv2.createHanningWindow((width, height), cv2.CV_32F)
        terms, shifts = [], []
        for y in range(0, self._parts * height, height):
            for x in range(0, self._parts * width, width):
                part = np.s_[y : y + height, x : x + width]
                a, b = (np.float32(picture[part]) for picture in (before, now))
                shift, response = cv2.phaseCorrelate(a, b, window)
                if response < 0.05:
                    return None
                terms.append([x + width / 2, y + height / 2, 1.0])
                shifts.append(shift)
        if self._parts == 1:
            return np.array([[0, 0, shifts[0][0]], [0, 0, shifts[0][1]]])
        fitted: F64 = np.linalg.lstsq(np.array(terms), np.array(shifts), rcond=None)[0].T
        return fitted


class Corners(Other):
    """The usual recipe: strong corners, pyramidal flow, an affine motion by RANSAC."""

    def moved(self, before: U8, now: U8) -> F64 | None:
        corners = cv2.goodFeaturesToTrack(before, 48, 0.01, 8)
        if corners is None:
            return None
        there, found, _ = cv2.calcOpticalFlowPyrLK(
            before,
            now,
            corners,
            np.empty_like(corners),
            winSize=(11, 11),
            maxLevel=2,
        )
        known = found[:, 0] > 0
        return _ransac(corners[known, 0], there[known, 0])


class DenseFlow(Other):
    """Dense inverse search (Kroeger et al., ECCV 2016), an affine motion by RANSAC."""

    def __init__(self) -> None:
        super().__init__()
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def moved(self, before: U8, now: U8) -> F64 | None:
        flow = self._flow.calc(before, now, None)  # type: ignore[call-overload]
        y, x = (grid.ravel() for grid in np.mgrid[8 : now.shape[0] : 16, 8 : now.shape[1] : 16])
        here = np.stack([x, y], axis=-1).astype(np.float32)
        return _ransac(here, here + flow[y, x])


def _ransac(here: F32, there: F32) -> F64 | None:
    if len(here) < 3:
        return None
    affine, agree = cv2.estimateAffine2D(here, there, ransacReprojThreshold=1.0)
    if affine is None or np.count_nonzero(agree) < len(here) / 2:
        return None
    return np.asarray(affine - np.eye(2, 3), np.float64)


#: How motion is told, by name.
WATCHES: Mapping[str, Callable[[], Watch]] = {
    "ours": MotionWatch,
    "ours, shift only": lambda: MotionWatch(ProbeMotionSettings(stretch=1e-6)),
    "phase correlation": PhaseCorrelation,
    "phase correlation, quarters": lambda: PhaseCorrelation(2),
    "corners, LK, RANSAC": Corners,
    "DIS, RANSAC": DenseFlow,
}


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One picture, and where its vessels are, in frame px; None where nothing can be told."""

    picture: U8
    grid: Grid
    time_ns: int
    places_px: F64 | None


Scene = tuple[str, list[Moment]]


@dataclass(frozen=True, slots=True)
class Score:
    """One way in one group of scenes."""

    watch: str
    scene: str
    looks: int
    answered: float
    rmse_px: float
    p95_px: float
    nees: float
    wrong: float


@dataclass(frozen=True, slots=True)
class Hand:
    """What the phantom does in a scene, at which noise, and whether the screen is written on."""

    motion: MotionSettings
    rate_hz: float = 30.0
    noise_db: float = -62.0
    text: bool = False


_SLIDE = MotionSettings(slide_amplitude_mm=4.0, slide_hz=0.25)
_PRESS = MotionSettings(press_amplitude=0.6, press_hz=0.5)
#: The phantom's scenes, by name.
HANDS: Mapping[str, Hand] = {
    "still": Hand(MotionSettings()),
    "slide": Hand(_SLIDE),
    "fast slide": Hand(MotionSettings(slide_amplitude_mm=6.0, slide_hz=0.8)),
    "slide, 5 fps": Hand(_SLIDE, rate_hz=5.0),
    "slide in noise": Hand(_SLIDE, noise_db=-50.0),
    "slide under text": Hand(_SLIDE, text=True),
    "turn": Hand(MotionSettings(turn_amplitude_rad=0.2, turn_hz=0.4)),
    "press": Hand(_PRESS),
    "slide and press": Hand(replace(_SLIDE, press_amplitude=0.6, press_hz=0.5)),
}
_VESSELS = (
    VesselSettings("vein", -11.0, 12.0, 6.0, 4.5),
    VesselSettings("artery", 1.0, 22.0, 6.0, 6.0),
    VesselSettings("vein", 11.0, 9.0, 5.0, 4.0),
)


def phantom_scenes(frames: int, seeds: Sequence[int]) -> Iterator[Scene]:
    """Render what the hand does."""
    for name, hand in HANDS.items():
        for seed in seeds:
            phantom = Phantom(
                PhantomSettings(
                    seed=seed,
                    rate_hz=hand.rate_hz,
                    motion=hand.motion,
                    tissue=TissueSettings(noise_db=hand.noise_db),
                    vessels=_VESSELS,
                )
            )
            yield f"phantom: {name}", [_rendered(phantom, i, hand.text) for i in range(frames)]


def _rendered(phantom: Phantom, index: int, text: bool) -> Moment:
    frame = phantom.render(index)
    pixels = _written(frame.pixels) if text else frame.pixels
    places = np.array([vessel.centroid_px for vessel in frame.vessels])
    return _moment(pixels, frame.time_s, places)


def warped_scenes(folder: Path, frames: int) -> Iterator[Scene]:
    """Set real stills in motion."""
    images = sorted((folder / "vessels" / "images").glob("*.png"))[::10]
    images += sorted((folder / "carotid" / "images").glob("*.png"))[::40]
    for seed, path in enumerate(images):
        pixels, mask = _grey(path), _grey(path.parents[1] / "masks" / path.name)
        x, y, width, height = find_scan_area(pixels)
        area = np.s_[y : y + height, x : x + width]
        vessel = 2 if "vessels" in path.parts else 1  # their values in the masks
        still = Still.of(path.stem, pixels[area], mask[area] == vessel)
        for name, move in MOVES.items() if still.vessels else ():
            moments = [
                _moment(moved.pixels, index / 30, np.array([at.xy_px for at in moved.places]))
                for index, moved in enumerate(moving(still, move, 30.0, frames, seed))
            ]
            yield f"warped still: {name}", moments


def _grey(path: Path) -> U8:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)


def hopeless_scenes(frames: int) -> Iterator[Scene]:
    """Show pictures that have nothing to do with each other, or nothing in them."""
    rng = np.random.default_rng(0)
    makers: Mapping[str, Callable[[int], U8]] = {
        "another scene": lambda i: random_still(i)[0],
        "black": lambda _: np.zeros((480, 640), np.uint8),
        "noise": lambda _: rng.integers(0, 80, (480, 640), np.uint8),
        "text on noise": lambda _: _written(rng.integers(0, 30, (480, 640), np.uint8)),
    }
    for name, make in makers.items():
        yield f"hopeless: {name}", [_moment(make(i), i / 30, None) for i in range(frames)]


def _written(pixels: U8) -> U8:
    """Write on a picture what stands while everything moves."""
    written = np.array(pixels)
    for line, words in enumerate(("FR 32 Hz", "D 4.0 cm", "G 62 %", "R CFV")):
        at = (20, 60 + 40 * line)
        cv2.putText(written, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)
    return written


def _moment(pixels: U8, time_s: float, places_px: F64 | None) -> Moment:
    """Lay a frame on the network's grid."""
    grid = fit((pixels.shape[0], pixels.shape[1]), GRID)
    picture = np.zeros(grid.shape, np.uint8)
    image_to_grid(pixels, grid, picture)
    return Moment(picture, grid, round(time_s * 1e9), places_px)


def judge(watch: Watch, moments: Sequence[Moment]) -> tuple[list[F64 | None], list[float]]:
    """Look at every picture of a scene.

    Returns
    -------
    answers : list of ndarray of shape (V, 3), or None
        For each look after the first: by how much the displacement of each vessel is off,
        ``(x, y)`` in px, and the standard deviation that was stated. None where it did not answer.
    costs_ms : list of float
        Processor time of each of these looks.
    """
    answers: list[F64 | None] = []
    costs_ms = []
    watch.look(moments[0].picture, moments[0].grid, moments[0].time_ns)
    for before, now in pairwise(moments):
        start = time.thread_time_ns()
        motion = watch.look(now.picture, now.grid, now.time_ns)
        costs_ms.append((time.thread_time_ns() - start) * 1e-6)
        if motion is None:
            answers.append(None)
        elif before.places_px is None or now.places_px is None:
            answers.append(np.full((1, 3), np.nan))  # there is nothing to tell
        else:
            true_px = now.places_px - before.places_px
            off_px = motion.displacement(before.places_px) - true_px
            sd_px = np.full(len(off_px), np.sqrt(motion.noise_px2))
            answers.append(np.column_stack([off_px, sd_px])[np.isfinite(true_px).all(axis=1)])
    return answers, costs_ms


def sum_up(watch: str, scene: str, answers: Sequence[F64 | None]) -> Score:
    """Sum up one way in all scenes of one kind."""
    told = [answer for answer in answers if answer is not None]
    off = np.concatenate([*told, np.zeros((0, 3))])
    hopeless = scene.startswith("hopeless")
    away_px, sd_px = np.hypot(off[:, 0], off[:, 1]), off[:, 2]
    nan = float("nan")
    sure = np.where(np.isfinite(sd_px), WRONG_SD * sd_px, 0)
    wrong = (away_px > WRONG_PX) & (away_px > sure)
    return Score(
        watch=watch,
        scene=scene,
        looks=len(answers),
        answered=round(len(told) / len(answers), 4),
        rmse_px=round(float(np.sqrt(np.mean(away_px**2))), 3) if len(off) else nan,
        p95_px=round(float(np.percentile(away_px, 95)), 3) if len(off) else nan,
        nees=round(float((np.square(off[:, :2]).T / sd_px**2).mean(axis=1).max()), 2)
        if len(off)
        else nan,
        wrong=nan if hopeless or not len(off) else round(float(wrong.mean()), 4),
    )


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recordings", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    cv2.setNumThreads(1)  # so that a thread's time is all the time there is
    scenes = [*phantom_scenes(options.frames, options.seeds), *hopeless_scenes(options.frames)]
    if options.recordings.is_dir():
        scenes += warped_scenes(options.recordings, options.frames)
    kinds = list(dict.fromkeys(name for name, _ in scenes))
    scores, costs_ms = list[Score](), dict[str, float]()
    for watch, make in WATCHES.items():
        answers: dict[str, list[F64 | None]] = {kind: [] for kind in kinds}
        costs = list[float]()
        for kind, moments in scenes:
            told, took = judge(make(), moments)
            answers[kind] += told
            costs += took
        scores += [sum_up(watch, kind, answers[kind]) for kind in kinds]
        costs_ms[watch] = round(float(np.median(costs)), 3)

    console = Console(width=160)
    for field in ("rmse_px", "p95_px", "answered", "nees", "wrong"):
        table = Table(title=field)
        table.add_column("scene")
        for watch in WATCHES:
            table.add_column(watch, justify="right")
        for kind in kinds:
            of_kind = {score.watch: score for score in scores if score.scene == kind}
            table.add_row(kind, *(str(getattr(of_kind[watch], field)) for watch in WATCHES))
        console.print(table)
    console.print("Processor time of a look, ms:", costs_ms)
    if options.json:
        record = {
            "machine": machine_facts(),
            "cost_ms": costs_ms,
            "scores": [asdict(score) for score in scores],
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
