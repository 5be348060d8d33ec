"""What ``veintrack build --list`` and ``--prune`` do with the cache of engines."""

from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from veintrack.engines.cache import Entry

__all__ = ["keep_house", "show_kept"]

_MIB = 2**20
_WIDTH = 150  # of a line, at least
_FOR = {"LATENCY": "live", "THROUGHPUT": "files"}


def show_kept() -> None:
    """Print what the cache of engines holds."""
    from veintrack.engines import cache

    entries = _engines()
    heads = ("model", "made by", "precision", "for", "MiB", "last used", "parity", "device")
    table = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for entry in entries:
        key = entry.key
        table.add_row(
            str(entry.facts.get("model", "")),
            f"{key.get('library', '')} {key.get('version', '').split('-')[0]}",
            key.get("kind") or key.get("precision", ""),
            _FOR.get(key.get("PERFORMANCE_HINT", ""), ""),
            f"{entry.size_bytes / _MIB:.1f}",
            _ago(entry.unused_s),
            _parity(entry.facts),
            key.get("device", ""),
        )
    console = Console()
    console.width = max(console.width, _WIDTH)  # in a pipe it would be 80
    console.print(table)
    total = sum(entry.size_bytes for entry in entries) / _MIB
    typer.echo(f"{len(entries)} entries, {total:.0f} MiB in {cache.cache_folder()}")


def _engines() -> "list[Entry]":
    """List what is kept but for notes of which precision was chosen."""
    from veintrack.engines import cache

    return [entry for entry in cache.entries() if entry.key.get("library") != "choice"]


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"


def _parity(facts: dict[str, Any]) -> str:
    """Say what was found of an engine, the most recent judgement."""
    judged = [v["parity"] for v in facts.values() if isinstance(v, dict) and "parity" in v]
    if not judged:
        return ""
    return f"Dice {min(judged[-1]['dice']):.4f}, {judged[-1]['centroid_shift_px'] or 0:.2f} px"


def keep_house(unused_days: float | None) -> None:
    """Remove what nothing will load any more, and what was not used for so many days."""
    from veintrack.engines import cache
    from veintrack.engines.proven import made_by

    if unused_days is not None and not unused_days >= 0:
        raise ValueError(f"unused must be 0 days or more, got {unused_days}")
    pruned = cache.prune(unused_days=unused_days, installed=made_by())
    typer.echo(
        f"{pruned.files} files removed, {pruned.size_bytes / _MIB:.1f} MiB; "
        f"{len(_engines())} entries stay in {cache.cache_folder()}"
    )
