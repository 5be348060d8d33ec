"""What the turns of ``veintrack bench`` sum up to."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["P99_BARE", "P99_EXTRA_MS", "PARTS", "added", "memory_ratio", "stages_ms", "summarise"]

P99_BARE, P99_EXTRA_MS = 2.0, 3.0
"""Real time is kept if 99 of 100 frames take no longer than this many bare pictures, and this."""
PARTS = ("p50", "p95", "p99", "p99_9", "max")
"""The middle and the tail of a stage's times, as in :class:`veintrack.tracker.meters.Spread`."""
_DIGITS = 4
_MINUTE = 60  # memory is noted once a second

Turns = Sequence[Mapping[str, Any]]


def summarise(turns: Turns, *, live: bool, alone: bool = True) -> dict[str, float]:
    """Sum up the turns: medians, except what is added up (drops) or the most of all (memory).

    Where the source sets the pace, the frames a second are its own: no ratio is made of them, but
    the 99th percentile has a limit, and in turns of three minutes and more the memory of the last
    minute stands beside that of the second. The most memory is left out unless the engine was
    `alone` in the process.
    """
    lines, bares = [turn["line"] for turn in turns], [turn["bare"] for turn in turns]
    memory = [ratio for one in lines if (ratio := memory_ratio(one["memory_mib"])) is not None]
    bare_p50_ms = _median([one["latency_p50_ms"] for one in bares])
    return {
        "frames": min(one["frames"] for one in lines),
        "fps": _median([one["fps"] for one in lines]),
        "bare_fps": _median([one["fps"] for one in bares]),
        **({} if live else _of_bare(lines, bares)),
        **{
            f"end_to_end_{part}_ms": _median([one["end_to_end_ms"][part] for one in lines])
            for part in PARTS
        },
        "bare_latency_p50_ms": bare_p50_ms,
        **({"p99_limit_ms": _limit_ms(bare_p50_ms)} if live else {}),
        "cpu_ms": _median([one["cpu_ms"] for one in lines]),
        "bare_cpu_ms": _median([one["cpu_ms"] for one in bares]),
        "own_cpu_ms": _median([one["own_cpu_ms"] for one in lines]),
        **({"memory_most_mib": max(max(one["memory_mib"]) for one in lines)} if alone else {}),
        **({"memory_last_over_second_minute": max(memory)} if memory else {}),
        "drops": sum(one["drops"] for one in lines),
        "driver_drops": sum(one["driver_drops"] for one in lines),
        "left_out_by_sinks": sum(sum(one["left_out"].values()) for one in lines),
    }


def _limit_ms(bare_p50_ms: float) -> float:
    return round(P99_BARE * bare_p50_ms + P99_EXTRA_MS, _DIGITS)


def stages_ms(turns: Turns) -> dict[str, dict[str, float]]:
    """Sum up the stages' times, and those of the sinks: medians over the turns."""
    spreads = [turn["line"]["stages_ms"] for turn in turns]
    return {
        name: {part: _median([one[name][part] for one in spreads]) for part in PARTS}
        for name in spreads[0]
    }


def _of_bare(lines: Turns, bares: Turns) -> dict[str, float]:
    ratios = [a["fps"] / b["fps"] for a, b in zip(lines, bares, strict=True)]
    return {
        "fps_over_bare": _median(ratios),
        "fps_over_bare_least": round(min(ratios), _DIGITS),
        "fps_over_bare_most": round(max(ratios), _DIGITS),
    }


def memory_ratio(memory_mib: Sequence[float]) -> float | None:
    """Put the last minute's mean over the second's; None in less than three minutes.

    Parameters
    ----------
    memory_mib : sequence of float
        Noted once a second. The first minute still fills caches.
    """
    if len(memory_mib) < 3 * _MINUTE:
        return None
    second, last = memory_mib[_MINUTE : 2 * _MINUTE], memory_mib[-_MINUTE:]
    return round(statistics.fmean(last) / statistics.fmean(second), _DIGITS)


def added(turns: Turns, first: Turns) -> dict[str, float]:
    """Say what a row takes beside the first one: medians over pairs of turns.

    Returns
    -------
    dict
        ``fps_ratio``, and differences: ``end_to_end_p99_ms``, ``own_cpu_ms`` and ``cpu_ms``.
    """
    pairs = [(one["line"], other["line"]) for one, other in zip(turns, first, strict=True)]
    return {
        "fps_ratio": _median([a["fps"] / b["fps"] for a, b in pairs]),
        "end_to_end_p99_ms": _median(
            [a["end_to_end_ms"]["p99"] - b["end_to_end_ms"]["p99"] for a, b in pairs]
        ),
        "own_cpu_ms": _median([a["own_cpu_ms"] - b["own_cpu_ms"] for a, b in pairs]),
        "cpu_ms": _median([a["cpu_ms"] - b["cpu_ms"] for a, b in pairs]),
    }


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), _DIGITS)
