"""What `peers.py` found: medians, ratios, agreement, and the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from veintrack.engines.base import PRECISIONS

__all__ = ["ALIKE", "OURS", "U8", "Result", "dice", "ratio", "remarks", "show", "sum_up"]

U8 = NDArray[np.uint8]

OURS = "veintrack"
"""How the names of our own contestants begin."""
ALIKE = 0.95
"""Dice below which a contestant does not segment alike."""


@dataclass(slots=True)
class Result:
    """What was found of a contestant.

    Attributes
    ----------
    facts : mapping
        What it says of itself.
    masks : ndarray of shape (count, h, w), uint8
        Its masks of the first pictures.
    turns : dict
        ``fps`` and ``cpu_ms``, processor time a frame, of each turn.
    """

    facts: Mapping[str, Any]
    masks: U8
    turns: dict[str, list[float]] = field(default_factory=dict)


def sum_up(results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """Sum up each contestant: medians over its turns, and ratios within the rounds.

    Returns
    -------
    list of dict
        For each contestant its ``name``, ``fps``, ``cpu_ms``, ``dice`` with veintrack in the
        highest precision, what it says of itself, its ``turns``, and by each veintrack's name
        ``ratios``, its frames a second over the contestant's: ``median``, ``least``, ``most``.

    Raises
    ------
    ValueError
        If there is no veintrack among them.
    """
    ours = [name for name in results if name.startswith(OURS)]
    if not ours:
        raise ValueError("no veintrack is left to compare with; why was said above")
    truth = min(ours, key=lambda name: PRECISIONS.index(results[name].facts["precision"]))
    return [
        {
            "name": name,
            "fps": round(median(result.turns["fps"]), 4),
            "cpu_ms": round(median(result.turns["cpu_ms"]), 4),
            "dice": round(dice(results[truth].masks, result.masks), 4),
            **result.facts,
            "turns": result.turns,
            "ratios": {our: ratio(results[our].turns["fps"], result.turns["fps"]) for our in ours},
        }
        for name, result in results.items()
    ]


def ratio(fps: Sequence[float], other_fps: Sequence[float]) -> dict[str, float]:
    """Compare two contestants' turns, round by round."""
    ratios = [one / other for one, other in zip(fps, other_fps, strict=True)]
    return {
        "median": round(median(ratios), 4),
        "least": round(min(ratios), 4),
        "most": round(max(ratios), 4),
    }


def dice(first: U8, second: U8) -> float:
    """Agreement of two stacks of masks, pooled; 1 where both are empty.

    Raises
    ------
    ValueError
        If they are not of one shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"expected masks of shape {first.shape}, got {second.shape}")
    both = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero((first > 0) & (second > 0)) / both if both else 1.0


def show(found: Sequence[Mapping[str, Any]], left_out: Mapping[str, str], turns: str) -> None:
    """Print the table, and what must be known to read it; `turns` says how many were measured."""
    console = Console(width=120)
    table = Table("", "precision", "fps", "CPU ms a frame")
    for our in found[0]["ratios"]:
        table.add_column(f"{our} over it")
    table.add_column("Dice")
    for one in found:
        ratios = (
            "{median:.2f} ({least:.2f} to {most:.2f})".format(**r) for r in one["ratios"].values()
        )
        cells = (f"{one['fps']:.1f}", f"{one['cpu_ms']:.1f}", *ratios, f"{one['dice']:.3f}")
        table.add_row(one["name"], one["precision"], *cells)
    for name in left_out:
        table.add_row(name, "left out")
    table.caption = f"medians over {turns}; ratios within a round: median (least to most)"
    console.print(table)
    for text in remarks(found, left_out):
        console.print(Text(text), soft_wrap=True)


def remarks(found: Sequence[Mapping[str, Any]], left_out: Mapping[str, str]) -> list[str]:
    """Say what each does, what is odd, and who is missing."""
    said = []
    for one in found:
        text = f"{one['name']}, {one['clock']}: {one['does']}."
        if "streaming_alone_ms" in one:
            text += f" Streaming alone takes {one['streaming_alone_ms']} ms a frame."
        if one["dice"] < ALIKE:
            text += f" It does not segment alike: Dice {one['dice']}, expected {ALIKE} at least."
        said.append(text)
    return said + [f"{name} is left out: {reason}" for name, reason in left_out.items()]
