"""``veintrack doctor``: what this machine can do, and what mends the rest."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from veintrack._version import __version__
from veintrack.tracker.cli.doctor_engines import REINSTALL, engine_checks, fault, gpu_checks
from veintrack.tracker.cli.probes import OF_GPU, PROBES, Answer, ask, ask_all
from veintrack.tracker.health import (
    BROKEN,
    MISSING,
    NOT_NEEDED,
    OK,
    Check,
    Places,
    folder_fault,
    free_gib,
    has_nvidia_hardware,
    look,
    machine_checks,
    optional_parts,
)

if TYPE_CHECKING:
    from veintrack.tracker.health_pace import Pace

__all__ = ["doctor", "examine", "obstacle"]

TITLES = {
    "machine": "this machine",
    "engines": "engines",
    "gpu": "GPU",
    "models": "models",
    "cache": "engine cache",
    "video": "video devices",
    "optional": "optional parts",
    "output": "output",
}
Sections = dict[str, list[Check]]
_MARKS = {OK: "green", MISSING: "yellow", BROKEN: "bold red", NOT_NEEDED: "dim"}
_MAIN_JOB = (
    ("machine", "libraries"),
    ("engines", "auto"),
    ("models", "default"),
    ("output", "current folder"),
)
_LARGE_GIB = 2.0
_PROBE_S = 2.0
_TYPES = ("INT8", "BF16", "FP16", "FP32")  # those of the processor's capabilities to be named


def doctor(
    device: Annotated[
        str | None,
        typer.Argument(
            help="Look at this capture device only: 0, /dev/video0 or /dev/v4l/by-id/...",
            show_default=False,
        ),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Open each capture device, and measure its rate for two seconds."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was found as one JSON object.")
    ] = False,
) -> None:
    """Say what this machine can do, and what would mend what is missing."""
    places = Places()
    if device is not None:
        _check_device(places, device)
    sections = examine(places, ask, device, probe=probe)
    why = obstacle(sections)
    if as_json:
        found = {name: [asdict(check) for check in checks] for name, checks in sections.items()}
        record = {"veintrack": __version__, "ready": not why, "why": why, "sections": found}
        typer.echo(json.dumps(record, indent=2))
    else:
        _show(sections, why)
    raise typer.Exit(1 if why else 0)


def examine(
    places: Places, put: Callable[[str], Answer], device: str | None = None, *, probe: bool = False
) -> Sections:
    """Look at everything.

    Parameters
    ----------
    places : Places
        Where the system says what it has.
    put : callable
        Answers a question of :data:`veintrack.tracker.cli.probes.PROBES`.
    device : str, optional
        The only capture device to be looked at.
    probe : bool
        Whether capture devices are opened and measured.

    Returns
    -------
    dict
        By section, what was found.
    """
    passed_over = () if has_nvidia_hardware(places) else OF_GPU  # each takes its time
    said: dict[str, Answer] = {name: {} for name in passed_over}
    said |= ask_all([name for name in PROBES if name not in passed_over], put)
    has_gpu = bool(said["gpu"].get("gpus"))
    native = [name for name in _TYPES if name in said["openvino"].get("native", ())]
    screen = bool(said["libraries"].get("screen"))
    return {
        "machine": [
            *look("machine", partial(machine_checks, places, said["machine"], native)),
            *look("libraries", partial(_libraries, said["libraries"])),
        ],
        "engines": look("engines", partial(engine_checks, places, said)),
        "gpu": look("GPU", partial(gpu_checks, places, said["gpu"])),
        "models": look("default", partial(_models, said["models"])),
        "cache": look("engine cache", _cache),
        "video": look("video devices", partial(_capture, places, device, probe)),
        "optional": look("optional parts", partial(optional_parts, has_gpu, screen)),
        "output": look("current folder", _output),
    }


def obstacle(sections: Mapping[str, list[Check]]) -> str:
    """Say what keeps the main job from running here, with ``auto`` engine and shipped model.

    Returns
    -------
    str
        Empty if nothing does.
    """
    for section, name in _MAIN_JOB:
        check = next((c for c in sections[section] if c.name == name), None)
        if check is None or check.state != OK:
            return f"{name}: {check.detail}" if check else f"{name}: not found"
    return ""


def _libraries(answer: Answer) -> Check:
    if "error" in answer:
        return fault("libraries", answer, REINSTALL)
    others = {name: v for name, v in answer["versions"].items() if v and name not in PROBES}
    return Check("libraries", OK, ", ".join(f"{name} {v}" for name, v in others.items()))


def _models(answer: Answer) -> Iterator[Check]:
    if "error" in answer or not answer:
        error = answer.get("error", "no model is shipped with this installation")
        yield Check("default", MISSING, error, REINSTALL)
        return
    for name, model in answer.items():
        size = f"{model['size_mib']:.1f} MiB"
        if "error" in model:
            yield Check(name, BROKEN, f"{size}; {model['error']}", REINSTALL)
            continue
        grid = "x".join(str(n) for n in model["input_shape"])
        yield Check(name, OK, f"{size}; finds {' and '.join(model['classes'])}; {grid} px")


def _cache() -> Check:
    from veintrack.engines.cache import cache_folder, entries

    folder = cache_folder()
    if trouble := folder_fault(folder):
        return Check(
            "engine cache",
            BROKEN,
            f"{folder}; engines are built anew at each start: {trouble}",
            "export VEINTRACK_CACHE=DIR   # a folder that you may write to",
        )
    kept = entries()
    size_gib = sum(entry.size_bytes for entry in kept) / 2**30
    mend = "veintrack build --list, then veintrack build --prune" if size_gib > _LARGE_GIB else ""
    number = f"{len(kept)} {'entry' if len(kept) == 1 else 'entries'}"
    detail = f"{folder}; {number}, {size_gib:.2f} GiB; {free_gib(folder):.1f} GiB free"
    return Check("engine cache", OK, detail, mend)


def _check_device(places: Places, device: str) -> None:
    from veintrack.tracker.health_capture import check_device

    check_device(places, device)


def _capture(places: Places, device: str | None, probe: bool) -> Iterator[Check]:
    # Imported here: what is broken in a library is to be found, not to end the doctor.
    from veintrack.tracker.health_capture import capture_checks
    from veintrack.tracker.sources.v4l2_abi import LinuxKernel

    yield from capture_checks(
        places, LinuxKernel(), only=device, measure=_measure if probe else None
    )


def _measure(path: str) -> "Pace":
    from veintrack.tracker.health_pace import measure_pace
    from veintrack.tracker.sources.v4l2 import open_v4l2

    with open_v4l2(path) as source:
        return measure_pace(source, _PROBE_S)


def _output() -> Check:
    folder = Path("runs").absolute()
    if trouble := folder_fault(folder):
        return Check(
            "current folder", BROKEN, trouble, "cd to another, or name one with --output DIR"
        )
    return Check("current folder", OK, f"{folder} can be written; {free_gib(folder):.1f} GiB free")


def _show(sections: Sections, why: str) -> None:
    console = Console(highlight=False)
    width = max(len(check.name) for checks in sections.values() for check in checks)
    for section, checks in sections.items():
        console.print(Text(TITLES[section], "bold"))
        for check in checks:
            mark = check.state.replace("_", " ")
            line = Text.assemble(
                "  ",
                (f"{mark:<10}", _MARKS[check.state]),
                f"  {check.name:<{width}}  ",
                check.detail,
            )
            console.print(line, soft_wrap=True)
            if check.mend:
                console.print(Text(f"{'':12}  -> {check.mend}", "cyan"), soft_wrap=True)
    verdict = f"The main job cannot run here. {why}" if why else "The main job can run here."
    console.print(Text(verdict, "bold red" if why else "bold green"), soft_wrap=True)
