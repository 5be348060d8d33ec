"""``veintrack bench``: frames a second and latency, per stage, as a table and as JSON."""

import json
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
    for name, value in (("frames", frames), ("repetitions", repetitions)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if warm_up < 0:
        raise ValueError(f"warm-up must not be negative, got {warm_up}")
    if rate is not None and not rate > 0:
        raise ValueError(f"rate must be greater than 0, got {rate}")
    if unknown := [name for name in sink or () if name not in _SINKS]:
        raise ValueError(f"unknown sink {unknown[0]!r}; known: {', '.join(_SINKS)}")
    earlier = _read(compare) if compare else None

    from veintrack.tracker.bench import Line, machine_facts, measure_bare, measure_line
    from veintrack.tracker.config import parse_crop
    from veintrack.tracker.pipeline import PipelineSettings, slots_for
    from veintrack.tracker.segment import load_segmenter

    pace = "asap" if rate is None else "realtime"
    opener = _opener(source, rate, frames + warm_up)
    with ExitStack() as stack:
        probe = stack.enter_context(opener())
        live = probe.info.live
        segmenter = stack.enter_context(
            load_segmenter(
                model,
                engine=engine,
                precision=precision,
                device=device,
                slots=slots_for(live=live, pace=pace),
            )
        )
        probe.close()
        folder = Path(stack.enter_context(TemporaryDirectory()))
        line = Line(
            opener,
            segmenter,
            PipelineSettings(
                crop=parse_crop(crop),
                pace=pace,
                contours=bool(sink),
                max_frames=frames + warm_up,
            ),
            partial(_open_sinks, sink or (), folder),
            warm_up,
        )
        facts = machine_facts()
        turns = []
        for _ in range(repetitions):
            bare = measure_bare(segmenter.engine, frames, warm_up)
            turns.append({"bare": bare, "line": asdict(measure_line(line))})
        record = {
            "command": {
                "source": source,
                "rate": rate,
                "sinks": list(sink or ()),
                "crop": crop,
                "frames": frames,
                "warm_up": warm_up,
                "shape_px": list(probe.info.shape_px),
            },
            "engine": segmenter.engine.name,
            "precision": segmenter.engine.precision,
            "device": segmenter.engine.device,
            "slots": segmenter.slots,
            "model_sha256": segmenter.model.sha256,
            "input_px": list(segmenter.input_shape),
            "machine": facts,
            "versions": {"veintrack": __version__, "python": platform.python_version()},
            "turns": turns,
            "summary": summarise(turns),
        }
    _show(record, earlier)
    if json_file is not None:
        json_file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


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


def summarise(turns: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Take the median over the turns; of the ratio, also how far it spreads."""
    lines, bares = [turn["line"] for turn in turns], [turn["bare"] for turn in turns]
    ratios = [a["fps"] / b["fps"] for a, b in zip(lines, bares, strict=True)]

    def median(values: Sequence[float]) -> float:
        return round(statistics.median(values), 3)

    return {
        "fps": median([one["fps"] for one in lines]),
        "bare_fps": median([one["fps"] for one in bares]),
        "fps_over_bare": median(ratios),
        "fps_over_bare_least": round(min(ratios), 3),
        "fps_over_bare_most": round(max(ratios), 3),
        **{
            f"end_to_end_{part}_ms": median([one["end_to_end_ms"][part] for one in lines])
            for part in ("p50", "p95", "p99", "p99_9", "max")
        },
        "bare_latency_p50_ms": median([one["latency_p50_ms"] for one in bares]),
        "cpu_ms": median([one["cpu_ms"] for one in lines]),
        "other_cpu_ms": median([one["other_cpu_ms"] for one in lines]),
        "drops": sum(one["drops"] for one in lines),
        "driver_drops": sum(one["driver_drops"] for one in lines),
        "memory_peak_mib": max(max(one["memory_mib"]) for one in lines),
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
    height, width = command["shape_px"]
    console.print(
        Text(
            f"{command['source']}, {width}x{height} px; {record['engine']} {record['precision']} "
            f"on {record['device']}, {record['slots']} in work; "
            + (f"real time at {command['rate']:g} fps" if command["rate"] else "as fast as it can")
            + f"; sinks: {', '.join(command['sinks']) or 'none'}"
        ),
        soft_wrap=True,
    )
    stages = Table("stage, ms", "p50", "p95", "p99", "p99.9", "max")
    last = record["turns"][-1]["line"]
    for name, spread in {**last["stages_ms"], "end to end": last["end_to_end_ms"]}.items():
        stages.add_row(name, *(f"{value:.3f}" for value in spread.values()))
    stages.caption = "of the last turn"
    console.print(stages)

    heads = ["", "now"] + (["earlier", "change"] if earlier else [])
    table = Table(*heads)
    for name, value in summary.items():
        row = [name.replace("_", " "), f"{value:g}"]
        if earlier:
            before = earlier["summary"].get(name)
            row += ["", ""] if before is None else [f"{before:g}", _change(before, value)]
        table.add_row(*row)
    table.caption = "medians over the turns"
    console.print(table)
    if earlier:
        for note in differences(record, earlier):
            console.print(Text(note))


def _change(before: float, now: float) -> str:
    return f"{100 * (now / before - 1):+.1f} %" if before else ""


def differences(record: Mapping[str, Any], earlier: Mapping[str, Any]) -> list[str]:
    """Say what makes two records hard to compare: another device, model, engine or command."""
    names = ("device", "engine", "precision", "slots", "model_sha256", "input_px", "command")
    return [
        f"not the same {name.replace('_', ' ')}: {earlier.get(name)} before, {record[name]} now"
        for name in names
        if earlier.get(name) != record[name]
    ]
