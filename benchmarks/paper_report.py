"""The table of `paper_table.py`, and what it shows, in words: all of it computed from the runs."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

__all__ = [
    "COLUMNS",
    "NAMES",
    "PAPER",
    "RECIPE_NAMES",
    "Row",
    "Run",
    "make_rows",
    "margins",
    "markdown",
    "say",
]

RECIPE_NAMES = ("paper", "ours")
NAMES = {"resnet34-unet": "ResNet34-UNet", "deeplabv3plus": "DeepLab v3+", "fcn": "FCN"}
"""In the paper's order, the best first."""
PAPER = {"resnet34-unet": 0.963, "deeplabv3plus": 0.963 - 0.052, "fcn": 0.963 - 0.059}
"""Pixel accuracy as Qin et al. report it: 96.3 %, 5.2 and 5.9 points above the others."""
COLUMNS = {
    "pixel_accuracy": ("pixel accuracy %", 100, 1),
    "dice": ("Dice, pooled", 1, 3),
    "dice_of_frames": ("Dice, mean of frames", 1, 3),
    "iou": ("IoU", 1, 3),
    "precision": ("precision", 1, 3),
    "recall": ("recall", 1, 3),
    "hd95_px": ("HD95 px", 1, 1),
    "vessels_detected": ("vessels detected %", 100, 1),
}
"""Each score: its heading, the factor that it is shown with, and its decimals."""
_NOTHING = {
    "dice": 0.0, "dice_of_frames": 0.0, "iou": 0.0, "recall": 0.0, "vessels_detected": 0.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """One trained network, judged on the test part of its split.

    Attributes
    ----------
    parameters, multiply_adds : int
        What it costs; the latter for one frame on its grid.
    trained_in : str
        Precision of the training.
    train_frames, test_frames, unmarked : int
        How many frames it learned from, how many judged it, and in how many of these with a vessel
        it marked nothing; they have no Hausdorff distance.
    nothing : float
        Pixel accuracy of marking nothing in these frames.
    scores : dict
        A value for each of `COLUMNS`; None where undefined.
    """

    recipe: str
    arch: str
    seed: int
    parameters: int
    multiply_adds: int
    trained_in: str
    train_frames: int
    test_frames: int
    unmarked: int
    nothing: float
    scores: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: mean and standard deviation over seeds; None where undefined."""

    recipe: str
    network: str
    seeds: int
    parameters: int | None
    multiply_adds: int | None
    fps: float | None
    scores: dict[str, tuple[float, float | None] | None]


def make_rows(runs: Sequence[Run], fps: Mapping[str, float]) -> list[Row]:
    """Make a line for each recipe and network, for marking nothing, and for the paper's figures.

    Raises
    ------
    ValueError
        If runs of one seed were not judged on the same frames.
    """
    nothing = {run.seed: run.nothing for run in runs}
    if odd := [run for run in runs if run.nothing != nothing[run.seed]]:
        raise ValueError(f"the runs of seed {odd[0].seed} were not judged on the same frames")
    rows = []
    for recipe, arch in product(RECIPE_NAMES, NAMES):
        some = [run for run in runs if (run.recipe, run.arch) == (recipe, arch)]
        if some:
            scores = {name: _spread([run.scores[name] for run in some]) for name in COLUMNS}
            costs = some[0].parameters, some[0].multiply_adds, fps.get(arch)
            rows.append(Row(recipe, NAMES[arch], len(some), *costs, scores))
    empty = {name: _spread([_NOTHING.get(name)]) for name in COLUMNS}
    empty["pixel_accuracy"] = _spread(list(nothing.values()))
    rows.append(Row("-", "marks nothing", len(nothing), None, None, None, empty))
    for arch, accuracy in PAPER.items():
        scores = dict.fromkeys(COLUMNS) | {"pixel_accuracy": (accuracy, None)}
        rows.append(Row("Qin et al. 2022", NAMES[arch], 1, None, None, None, scores))
    return rows


def _spread(values: Sequence[float | None]) -> tuple[float, float | None] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return statistics.mean(known), statistics.stdev(known) if len(known) > 1 else None


def margins(runs: Sequence[Run], recipe: str, score: str) -> dict[str, dict[int, float]]:
    """Subtract each other network's score from the ResNet34-UNet's, for each seed that has both."""
    of = {(run.arch, run.seed): run.scores[score] for run in runs if run.recipe == recipe}
    best, *others = NAMES
    found: dict[str, dict[int, float]] = {}
    for arch, seed in product(others, sorted({seed for _, seed in of})):
        ours, theirs = of.get((best, seed)), of.get((arch, seed))
        if ours is not None and theirs is not None:
            found.setdefault(arch, {})[seed] = ours - theirs
    return found


def say_margins(runs: Sequence[Run], recipe: str, score: str) -> str:
    """Say whether the paper's order and margins hold; empty if there is nothing to compare."""
    found = margins(runs, recipe, score)
    if len(found) < len(NAMES) - 1:
        return ""
    best, second, third = NAMES
    seeds = sorted(found[second].keys() & found[third].keys())
    ordered = sum(0 < found[second][seed] < found[third][seed] for seed in seeds)
    parts = []
    for arch, by_seed in found.items():
        points = [100 * value for value in by_seed.values()]
        text = f"minus {NAMES[arch]} is {statistics.mean(points):+.1f} points"
        text += f" ({min(points):+.1f} to {max(points):+.1f}"
        if score == "pixel_accuracy":
            paper = 100 * (PAPER[best] - PAPER[arch])
            reached = sum(value >= paper for value in points)
            text += f"; the paper has {paper:+.1f}, reached with {reached} of {len(points)} seeds"
        parts.append(text + ")")
    return (
        f"Recipe {recipe!r}, {COLUMNS[score][0].removesuffix(' %')}: {NAMES[best]} "
        f"{' and '.join(parts)}. The paper's order ({', '.join(NAMES.values())}) holds with "
        f"{ordered} of {len(seeds)} seeds."
    )


def say(runs: Sequence[Run]) -> list[str]:
    """Say in words what the table shows, all of it computed from the runs."""
    of_seed = {run.seed: run for run in runs}
    nothing = statistics.mean(run.nothing for run in of_seed.values())
    frames = [(run.train_frames, run.test_frames) for run in of_seed.values()]
    said = [
        f"Mean and standard deviation over {len(of_seed)} seed(s), each with a split of its own "
        f"that the networks share: trained on {_span(n for n, _ in frames)} frames, judged on "
        f"{_span(n for _, n in frames)}. Differences are taken within a seed.",
        f"Vessels are {100 * (1 - nothing):.1f} % of the pixels of the test frames, so marking "
        f"nothing has a pixel accuracy of {100 * nothing:.1f} %: that score is high by "
        "construction, and Dice is the one to read.",
    ]
    if below := [f"{NAMES[a]} ({100 * v:.1f} %)" for a, v in PAPER.items() if v < nothing]:
        said.append(f"Below what marking nothing has here: the paper's {' and '.join(below)}.")
    said += [say_margins(runs, r, s) for r in RECIPE_NAMES for s in ("pixel_accuracy", "dice")]
    said.append(_say_unmarked(runs))
    return [text for text in said if text]


def _say_unmarked(runs: Sequence[Run]) -> str:
    parts = []
    for recipe, arch in product(RECIPE_NAMES, NAMES):
        some = [run for run in runs if (run.recipe, run.arch) == (recipe, arch)]
        if left_out := sum(run.unmarked for run in some):
            judged = sum(run.test_frames for run in some)
            parts.append(f"{left_out} of {judged} ({recipe}, {NAMES[arch]})")
    left = "HD95 leaves out frames with a vessel in which nothing was marked"
    return f"{left}: {', '.join(parts)}." if parts else ""


def _span(numbers: Iterable[int]) -> str:
    ends = sorted(set(numbers))
    return " to ".join(map(str, ends[:: max(1, len(ends) - 1)]))


def markdown(rows: Sequence[Row], said: Iterable[str]) -> str:
    """Lay the table out, and what it shows below it."""
    heads = ["recipe", "network", "parameters M", "multiply-adds G"]
    heads += [heading for heading, _, _ in COLUMNS.values()] + ["fps"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        scores = [_cell(row.scores[name], *how[1:]) for name, how in COLUMNS.items()]
        costs = [
            f"{n / 10**e:.1f}" if n else ""
            for n, e in ((row.parameters, 6), (row.multiply_adds, 9))
        ]
        fps = f"{row.fps:.0f}" if row.fps else ""
        lines.append([row.recipe, row.network, *costs, *scores, fps])
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table}\n\n" + "\n".join(f"- {text}" for text in said) + "\n"


def _cell(score: tuple[float, float | None] | None, factor: int, digits: int) -> str:
    if score is None:
        return ""
    return " ± ".join(f"{factor * v:.{digits}f}" for v in score if v is not None)
