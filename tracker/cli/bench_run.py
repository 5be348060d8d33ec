"""What ``veintrack bench`` does: open everything, take turns, gather what they took."""

import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console

from veintrack._version import __version__
from veintrack.errors import EngineError, OutputError
from veintrack.tracker.cli.bench_figures import added, stages_ms, summarise
from veintrack.tracker.cli.bench_parts import (
    SINKS,
    Wish,
    no_window,
    open_sinks,
    open_views,
    opener,
)
from veintrack.tracker.cli.saying import let_speak
from veintrack.tracker.sources.address import masked

if TYPE_CHECKING:  # imported on use: the command line starts without them
    from veintrack.tracker.bench import Line
    from veintrack.tracker.cli.bench_accuracy import Truth
    from veintrack.tracker.segment import Segmenter
    from veintrack.tracker.sources.base import SourceInfo

__all__ = ["measure"]

_BARE_S = 20.0  # tells a bare engine's pace, however long the line's turn is
_OUTLINES = ("jsonl", "video", "window")  # sinks that look at the vessels' outlines


@dataclass(slots=True, eq=False)
class _Row:
    """One line of the table: an engine with sinks, and the turns that it had."""

    segmenter: "Segmenter"
    sinks: tuple[str, ...]
    accuracy: dict[str, Any]
    turns: list[dict[str, Any]] = field(default_factory=list)

    @property
    def what(self) -> dict[str, str]:
        engine = self.segmenter.engine
        sinks = ", ".join(self.sinks) or "none"
        return {"engine": engine.name, "precision": engine.precision, "sinks": sinks}

    @property
    def name(self) -> str:
        return "{engine} {precision}, sinks: {sinks}".format(**self.what)


def measure(wish: Wish) -> dict[str, Any]:
    """Measure what is asked for, the rows of the table in turns.

    Returns
    -------
    dict
        ``command``, what was asked for; ``rows``, each with ``engine``, ``precision``, ``device``,
        ``slots``, ``sinks``, ``accuracy``, ``turns``, ``stages_ms`` and ``summary``;
        ``not_offered``, what there is no row of, and why; and what holds for all of them.

    Raises
    ------
    VeintrackError, ValueError
        If the source, the model, the labelled frames, or every row fails.
    """
    from veintrack.tracker.cli.bench_accuracy import Truth
    from veintrack.tracker.machine import peak_mib
    from veintrack.tracker.pipeline import slots_for
    from veintrack.tracker.runfolder import library_versions

    console = Console(stderr=True, highlight=False)
    let_speak("veintrack.engines")
    truth = Truth.find(wish)
    open_source = opener(wish)
    with open_source() as source:
        info = source.info
    live = info.live or wish.pace == "realtime"
    missing: list[dict[str, str]] = []
    with ExitStack() as stack:
        segmenters = _open_engines(
            wish,
            slots_for(live=info.live, pace=wish.pace),
            truth.class_name if truth else None,
            stack,
            missing,
        )
        accuracy = _judge(wish, segmenters, truth, console)
        rows = _rows(wish, segmenters, accuracy, missing)
        _take_turns(wish, open_source, rows, missing, console)
        model = segmenters[0].model
        return {
            "command": asdict(wish) | {"source": masked(wish.source), "sinks": list(wish.sinks)},
            **_facts(info, live=live),
            "model_sha256": model.sha256,
            "input_px": list(model.input_shape),
            "versions": {
                "veintrack": __version__,
                "python": platform.python_version(),
                **library_versions(),
            },
            "memory_peak_mib": peak_mib(),
            "rows": [_record(row, rows[0], live=live, alone=len(segmenters) == 1) for row in rows],
            "not_offered": missing,
        }


def _facts(info: "SourceInfo", *, live: bool) -> dict[str, Any]:
    return {"shape_px": list(info.shape_px), "rate_hz": info.rate_hz, "live": live}


def _record(row: _Row, first: _Row, *, live: bool, alone: bool) -> dict[str, Any]:
    engine = row.segmenter.engine
    return {
        "engine": engine.name,
        "precision": engine.precision,
        "device": engine.device,
        "slots": engine.slots,
        "sinks": list(row.sinks),
        "accuracy": row.accuracy,
        "turns": row.turns,
        "stages_ms": stages_ms(row.turns),
        "summary": summarise(row.turns, live=live, alone=alone),
        # Beside the first row, turn by turn: what else ran on the machine has hit both.
        "added": {} if row is first else added(row.turns, first.turns),
    }


def _open_engines(
    wish: Wish,
    slots: int | None,
    class_name: str | None,
    stack: ExitStack,
    missing: list[dict[str, str]],
) -> "list[Segmenter]":
    """Open the engines that are asked for; of all of them, those that this machine offers."""
    from veintrack.engines.base import ENGINES, PRECISIONS
    from veintrack.engines.parity import DEFAULT_LIMITS
    from veintrack.tracker.segment import load_segmenter

    opened: list[Segmenter] = []
    names = tuple(ENGINES) if wish.engine == "all" else (wish.engine,)
    precisions = PRECISIONS if wish.precision == "all" else (wish.precision,)
    for name, precision in product(names, precisions):
        asked = {"engine": name, "precision": precision}
        try:
            segmenter = load_segmenter(
                wish.model,
                engine=name,
                precision=precision,
                device=wish.device,
                class_name=class_name,
                slots=slots,
                # What is named is measured, even if the main job would refuse it; that is said.
                limits=DEFAULT_LIMITS if precision == "auto" else None,
            )
        except (EngineError, ValueError) as error:
            if not wish.several_engines:
                raise
            missing.append({**asked, "reason": str(error)})
            continue
        stack.enter_context(segmenter)
        got = segmenter.engine
        if name not in ("auto", got.name) or precision not in ("auto", got.precision):
            missing.append({**asked, "reason": f"it gives {got.name} {got.precision} instead"})
            segmenter.close()
        else:
            opened.append(segmenter)
    if not opened:
        raise EngineError(f"no engine to measure: {missing[0]['reason']}")
    return opened


def _judge(
    wish: Wish, segmenters: "Sequence[Segmenter]", truth: "Truth | None", console: Console
) -> list[dict[str, Any]]:
    """Say how right each engine is. What ``auto`` chose was proven when it was opened."""
    from veintrack.tracker.cli.bench_accuracy import agree

    found: list[dict[str, Any]] = [{} for _ in segmenters]
    if wish.several_engines or wish.precision != "auto":
        console.print("comparing the masks with those of ONNX Runtime in FP32")
        found = agree(segmenters, wish.model)
    if truth:
        for segmenter, accuracy in zip(segmenters, found, strict=True):
            engine, count = segmenter.engine, len(truth.folder.frames)
            console.print(f"scoring {engine.name} {engine.precision} on {count} labelled frames")
            accuracy |= truth.score(segmenter)
    return found


def _rows(
    wish: Wish,
    segmenters: "Sequence[Segmenter]",
    accuracy: Sequence[dict[str, Any]],
    missing: list[dict[str, str]],
) -> list[_Row]:
    """Give every engine a row; or one engine a row without sinks, and one with each."""
    if not wish.each_sink:
        sinks = wish.sinks_at_once
        return [_Row(one, sinks, known) for one, known in zip(segmenters, accuracy, strict=True)]
    lack = no_window()
    if lack:
        missing.append({"sinks": "window", "reason": lack})
    alone = [(name,) for name in SINKS if not (lack and name == "window")]
    return [_Row(segmenters[0], sinks, accuracy[0]) for sinks in [(), *alone]]


def _take_turns(
    wish: Wish,
    open_source: Any,
    rows: list[_Row],
    missing: list[dict[str, str]],
    console: Console,
) -> None:
    """Let every row have its turn, again and again; a row that fails is struck off."""
    from veintrack.tracker.bench import measure_bare, measure_line
    from veintrack.tracker.machine import machine_facts

    for number, row in product(range(wish.repetitions), list(rows)):
        if row not in rows:
            continue
        console.print(f"turn {number + 1} of {wish.repetitions}: {row.name}")
        try:
            facts = machine_facts()
            seconds = min(wish.seconds, _BARE_S)
            bare = measure_bare(row.segmenter.engine, wish.most_frames, wish.warm_up, seconds)
            with TemporaryDirectory() as folder:
                line = measure_line(_line(wish, open_source, row, Path(folder)))
        except (EngineError, OutputError) as error:
            if len(rows) == 1:
                raise
            rows.remove(row)
            missing.append(row.what | {"reason": str(error)})
        else:
            row.turns.append({"machine": facts, "bare": bare, "line": asdict(line)})


def _line(wish: Wish, open_source: Any, row: _Row, folder: Path) -> "Line":
    from veintrack.tracker.bench import Line
    from veintrack.tracker.config import parse_crop
    from veintrack.tracker.pipeline import PipelineSettings

    return Line(
        open_source,
        row.segmenter,
        PipelineSettings(
            crop=parse_crop(wish.crop),
            pace=wish.pace,
            contours=any(name in _OUTLINES for name in row.sinks),  # nobody else looks at them
        ),
        wish.most_frames,
        wish.warm_up,
        wish.seconds,
        partial(open_sinks, row.sinks, folder),
        partial(open_views, row.sinks),
    )
