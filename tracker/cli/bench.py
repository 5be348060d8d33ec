"""``veintrack bench``: frames a second and latency, per stage, as a table and as JSON."""

import json
from pathlib import Path
from typing import Annotated

import typer

from veintrack.tracker.cli.evaluate_output import check_free, write

__all__ = ["bench"]

_FRAMES, _REPETITIONS = 300, 3


def bench(
    source: Annotated[
        str,
        typer.Option(
            help="As for the main job; demo is rendered ahead, a file begins again at its end.",
            metavar="SRC",
        ),
    ] = "demo",
    model: Annotated[str, typer.Option(help="Shipped name, or path of a model file.")] = "default",
    engine: Annotated[
        str,
        typer.Option(
            help="auto, tensorrt, tensorrt-rtx, openvino or onnxruntime; all: a table of those "
            "that this machine offers, with their accuracy."
        ),
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16, fp16 or int8; all: a table, as for engines.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
    crop: Annotated[str, typer.Option(help="auto, none or X,Y,W,H in px.")] = "auto",
    pace: Annotated[
        str | None,
        typer.Option(
            help="asap, or realtime: a file's frames come at their own times, and those that come "
            "while the engine is busy are dropped. A camera always does that [asap]."
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Real time at so many frames a second, whatever the file's own times."),
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(
            help="csv, jsonl, mot, video or window; may be given again. all: every file at once. "
            "each: without any, then with each alone, and what it adds [none: headless]."
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help=f"Frames that are counted in a turn [{_FRAMES}].")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="How long a turn is counted, instead of --frames; memory from 3 on."),
    ] = None,
    warm_up: Annotated[int, typer.Option(help="Frames before them that are not.")] = 30,
    repetitions: Annotated[
        int | None,
        typer.Option(help=f"Turns of each row [{_REPETITIONS}; with --minutes 1]."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Score the engines on these labelled frames, too: as for evaluate segmentation.",
            metavar="PATH",
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="What the data calls the vessel [vessel=1].")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Only the test part of a training run: its split.json.", metavar="FILE"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.", metavar="FILE")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Earlier figures to compare with.", metavar="FILE")
    ] = None,
) -> None:
    """Measure how fast the whole line is, from frame to tracks, beside the bare engine.

    Without options: the demo's frames, as fast as possible, with the engine that the main job
    takes, and nothing written. Line and engine take turns, so that other loads on the machine hit
    both alike: read the ratio. The first frames of a turn warm up and are not counted.
    """
    from veintrack.tracker.cli.bench_output import read, show
    from veintrack.tracker.cli.bench_parts import Wish
    from veintrack.tracker.cli.bench_run import measure

    if frames is not None and minutes is not None:
        raise ValueError("frames and minutes both say how long a turn is: leave one of them out")
    if repetitions is None:
        repetitions = _REPETITIONS if minutes is None else 1
    wish = Wish(
        source=source,
        model=model,
        engine=engine,
        precision=precision,
        device=device,
        crop=crop,
        pace=pace or ("asap" if rate is None else "realtime"),
        rate=rate,
        sinks=tuple(sink or ()),
        frames=_FRAMES if frames is None else frames,
        minutes=minutes,
        warm_up=warm_up,
        repetitions=repetitions,
        data=data,
        label=label,
        split=split,
    )
    earlier = read(compare) if compare else None
    if json_file is not None:
        check_free([json_file], overwrite=True)
    record = measure(wish)
    if json_file is not None:
        write(json_file, json.dumps(record, indent=2))
    show(record, earlier)
