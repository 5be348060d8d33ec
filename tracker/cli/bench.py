"""``veintrack bench``: frames a second and latency, per stage, as a table and as JSON."""

import json
import math
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from veintrack._version import __version__
from veintrack.tracker.cli.evaluate_output import check_free, write
from veintrack.tracker.cli.saying import let_speak

__all__ = ["bench"]

_SINKS = ("csv", "jsonl", "mot", "video")
_PICTURES = 120  # of the phantom, rendered ahead and shown again and again


def bench(
    source: Annotated[
        str, typer.Option(help="As for the main job; demo is rendered ahead.", metavar="SRC")
    ] = "demo",
    model: Annotated[str, typer.Option(help="Shipped name, or path of a model file.")] = "default",
    engine: Annotated[str, typer.Option(help="auto, tensorrt, openvino or onnxruntime.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or int8.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
    crop: Annotated[str, typer.Option(help="auto, none or X,Y,W,H in px.")] = "auto",
    rate: Annotated[
        float | None,
        typer.Option(help="Real time, at so many frames a second [as fast as possible]."),
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(help="csv, jsonl, mot or video; may be given again [none: headless]."),
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames that are counted in a turn.")] = 300,
    warm_up: Annotated[int, typer.Option(help="Frames before them that are not.")] = 30,
    repetitions: Annotated[int, typer.Option(help="Turns of line and bare engine each.")] = 3,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.", metavar="FILE")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Earlier figures to compare with.", metavar="FILE")
    ] = None,
) -> None:
    """Measure the whole line beside the bare engine, in turns."""
    wish = {
        "source": source,
        "rate": rate,
        "sinks": list(sink or ()),
        "crop": crop,
        "frames": frames,
        "warm_up": warm_up,
        "repetitions": repetitions,
    }
    _check(wish)
    earlier = _read(compare) if compare else None
    if json_file is not None:
        check_free([json_file], overwrite=True)
    how = {"model": model, "engine": engine, "precision": precision, "device": device}
    record = _measure(wish, how)
    _show(record, earlier)
    if json_file is not None:
        write(json_file, json.dumps(record, indent=2))


def _check(wish: Mapping[str, Any]) -> None:
    for name, least in (("frames", 1), ("repetitions", 1), ("warm_up", 0)):
        if wish[name] < least:
            raise ValueError(f"{name.replace('_', '-')} must be at least {least}, got {wish[name]}")
    rate, sinks = wish["rate"], wish["sinks"]
    if rate is not None and not 0 < rate < math.inf:
        raise ValueError(f"rate must be greater than 0 and finite, got {rate}")
    if unknown := [name for name in sinks if name not in _SINKS]:
        raise ValueError(f"unknown sink {unknown[0]!r}; known: {', '.join(_SINKS)}")
    if twice := [name for name in sinks if sinks.count(name) > 1]:
        raise ValueError(f"sink {twice[0]} is given twice")


def _measure(wish: Mapping[str, Any], how: Mapping[str, str]) -> dict[str, Any]:
    """Open everything, let line and bare engine take turns, and gather what they took."""
    from veintrack.tracker.bench import (
        EXTRA,
        Line,
        machine_facts,
        measure_bare,
        measure_line,
        peak_mib,
    )
    from veintrack.tracker.config import parse_crop
    from veintrack.tracker.pipeline import PipelineSettings, slots_for
    from veintrack.tracker.runfolder import library_versions
    from veintrack.tracker.segment import load_segmenter

    count = wish["frames"] + wish["warm_up"] + EXTRA
    pace = "asap" if wish["rate"] is None else "realtime"
    opener = _opener(wish["source"], wish["rate"], count)
    console = Console(stderr=True, highlight=False)
    let_speak("veintrack.engines")
    with ExitStack() as stack:
        with opener() as source:
            info = source.info
        slots = slots_for(live=info.live, pace=pace)
        segmenter = stack.enter_context(load_segmenter(**how, slots=slots))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        settings = PipelineSettings(
            crop=parse_crop(wish["crop"]),
            pace=pace,
            contours=bool(wish["sinks"]),  # nobody else looks at them
            max_frames=count,
        )
        sinks = partial(_open_sinks, wish["sinks"], folder)
        line = Line(opener, segmenter, settings, wish["frames"], wish["warm_up"], sinks)
        turns = []
        for number in range(wish["repetitions"]):
            console.print(f"turn {number + 1} of {wish['repetitions']}")
            facts = machine_facts()
            bare = measure_bare(segmenter.engine, wish["frames"], wish["warm_up"])
            turns.append({"machine": facts, "bare": bare, "line": asdict(measure_line(line))})
        return {
            "command": dict(wish),
            "shape_px": list(info.shape_px),
            "live": info.live or pace == "realtime",
            "engine": segmenter.engine.name,
            "precision": segmenter.engine.precision,
            "device": segmenter.engine.device,
            "slots": segmenter.slots,
            "model_sha256": segmenter.model.sha256,
            "input_px": list(segmenter.input_shape),
            "versions": {
                "veintrack": __version__,
                "python": platform.python_version(),
                **library_versions(),
            },
            "memory_peak_mib": peak_mib(),
            "turns": turns,
            "summary": summarise(turns, live=info.live or pace == "realtime"),
        }


def _opener(name: str, rate: float | None, frames: int) -> "Callable[[], Any]":
    """Make what opens the source for each turn; the phantom's pictures are rendered only once."""
    from veintrack.tracker.sources import open_source

    if name != "demo":
        if rate is not None:
            raise ValueError("rate is for the demo: other sources have times of their own")
        return partial(open_source, name)
    from veintrack.tracker.phantom import Phantom, demo_settings
    from veintrack.tracker.sources.arrays import ArraySource

    phantom = Phantom(demo_settings())
    pictures = [phantom.render(i).pixels for i in range(min(frames, _PICTURES))]
    return partial(
        ArraySource,
        # There and back again, so that nothing jumps.
        pictures + pictures[-2:0:-1],
        rate or 30.0,
        frame_count=frames,
        spacing_mm=phantom.spacing_mm,
    )


def _open_sinks(names: Sequence[str], folder: Path) -> "list[Any]":
    from veintrack.tracker.sinks.tables import CsvSink, JsonlSink, MotSink
    from veintrack.tracker.sinks.video import VideoSink

    kinds: dict[str, Callable[[], Any]] = {
        "csv": lambda: CsvSink(folder / "tracks.csv"),
        "jsonl": lambda: JsonlSink(folder / "tracks.jsonl"),
        "mot": lambda: MotSink(folder / "tracks.mot.txt"),
        "video": lambda: VideoSink(folder / "overlay.mp4"),
    }
    return [kinds[name]() for name in names]


def summarise(turns: Sequence[Mapping[str, Any]], *, live: bool) -> dict[str, float]:
    """Sum up the turns: medians, except drops, which are added up.

    Where the source sets the pace, the frames a second are its own, and no ratio is made of them.
    """
    lines, bares = [turn["line"] for turn in turns], [turn["bare"] for turn in turns]
    ratios = [a["fps"] / b["fps"] for a, b in zip(lines, bares, strict=True)]

    def median(values: Sequence[float]) -> float:
        return round(statistics.median(values), 3)

    of_bare = {} if live else {
        "fps_over_bare": median(ratios),
        "fps_over_bare_least": round(min(ratios), 3),
        "fps_over_bare_most": round(max(ratios), 3),
    }  # fmt: skip
    return {
        "frames": min(one["frames"] for one in lines),
        "fps": median([one["fps"] for one in lines]),
        "bare_fps": median([one["fps"] for one in bares]),
        **of_bare,
        **{
            f"end_to_end_{part}_ms": median([one["end_to_end_ms"][part] for one in lines])
            for part in ("p50", "p95", "p99", "p99_9", "max")
        },
        "bare_latency_p50_ms": median([one["latency_p50_ms"] for one in bares]),
        "cpu_ms": median([one["cpu_ms"] for one in lines]),
        "bare_cpu_ms": median([one["cpu_ms"] for one in bares]),
        "own_cpu_ms": median([one["own_cpu_ms"] for one in lines]),
        "drops": sum(one["drops"] for one in lines),
        "driver_drops": sum(one["driver_drops"] for one in lines),
        "left_out_by_sinks": sum(sum(one["left_out"].values()) for one in lines),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        summary = record["summary"]
        if not all(isinstance(value, int | float) for value in summary.values()):
            raise TypeError
    except OSError as error:
        raise ValueError(f"compare {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"compare {path} holds no figures of `veintrack bench --json`") from error
    return dict(record)


def _show(record: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> None:
    console = Console(width=100)
    command, summary = record["command"], record["summary"]
    height, width = record["shape_px"]
    if command["rate"]:
        pace = f"real time at {command['rate']:g} fps"
    else:
        pace = "live" if record["live"] else "as fast as it can"
    console.print(
        Text(
            f"{command['source']}, {width}x{height} px; {record['engine']} {record['precision']} "
            f"on {record['device']}, {record['slots']} in work; {pace}; "
            f"sinks: {', '.join(command['sinks']) or 'none (and no outlines)'}"
        ),
        soft_wrap=True,
    )
    if summary["frames"] < command["frames"]:
        console.print(f"only {summary['frames']:g} frames were there to be counted")
    stages = Table("stage, ms", "p50", "p95", "p99", "p99.9", "max")
    last = record["turns"][-1]["line"]
    for name, spread in {**last["stages_ms"], "end to end": last["end_to_end_ms"]}.items():
        stages.add_row(name, *(f"{value:.3f}" for value in spread.values()))
    stages.caption = (
        "of the last turn; end to end: from capture (live) or from prepare, so without read and "
        "wait; infer: until the answer was taken, other frames being in work meanwhile"
    )
    console.print(stages)

    heads = ["", "now"] + (["earlier", "change"] if earlier else [])
    table = Table(*heads)
    for name, value in summary.items():
        row = [name.replace("_", " "), f"{value:g}"]
        if earlier:
            before = earlier["summary"].get(name)
            row += ["", ""] if before is None else [f"{before:g}", _change(before, value)]
        table.add_row(*row)
    table.caption = "medians over the turns; drops added up; cpu: processor time a frame"
    console.print(table)
    if earlier:
        for note in differences(record, earlier):
            console.print(Text(note))


def _change(before: float, now: float) -> str:
    return f"{100 * (now / before - 1):+.1f} %" if before else ""


def differences(record: Mapping[str, Any], earlier: Mapping[str, Any]) -> list[str]:
    """Say what makes two records hard to compare: another device, model, engine or command."""
    names = (
        "device", "engine", "precision", "slots", "model_sha256", "input_px", "shape_px", "command",
    )  # fmt: skip
    return [
        f"not the same {name.replace('_', ' ')}: {earlier.get(name)} before, {record[name]} now"
        for name in names
        if earlier.get(name) != record[name]
    ]
