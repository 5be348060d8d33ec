"""``veintrack build``: make a model ready for a device, and hold its answers against FP32."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from veintrack.tracker.cli.kept import keep_house, show_kept
from veintrack.tracker.cli.saying import let_speak

if TYPE_CHECKING:  # imported on use: the command line starts without them
    from veintrack.engines.base import Pictures
    from veintrack.engines.base import Progress as Tell
    from veintrack.engines.build import Made
    from veintrack.engines.model import ModelInfo
    from veintrack.engines.proven import Proof

__all__ = ["build"]

_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What the command line asks for."""

    model: str
    engine: str
    precision: str
    device: str
    shape: tuple[int, int, int] | None
    workspace_mib: int | None
    targets: tuple[str, ...]
    output: Path | None
    overwrite: bool
    frames: str | None
    calibration: str | None
    min_dice: float
    max_shift_px: float


def build(
    model: Annotated[str, typer.Option(help="Shipped name, or path of a model file.")] = "default",
    engine: Annotated[
        str, typer.Option(help="auto, tensorrt, tensorrt-rtx, openvino or onnxruntime.")
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="auto (the fastest that passes), int8, bf16, fp16 or fp32: what to begin with; "
            "one that changes the answers too much is refused and the next slower one taken."
        ),
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write a file of your own: .onnx, a model in that precision and shape; .plan, an "
            "engine of TensorRT [build what the main job needs into the cache].",
            metavar="FILE",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
    shape: Annotated[
        str | None,
        typer.Option(help="With --output: pictures at once and grid, N,H,W.", metavar="N,H,W"),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(
            min=1, help="With a .plan: most scratch memory of a layer, MiB.", metavar="MIB"
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="With a .plan of tensorrt-rtx: GPU to build for, such as sm_86, instead of the "
            "one at hand; may be given again, and goes into the file's name.",
        ),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(help="Video, folder or glob to judge on [phantom].", metavar="SRC"),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="The same, to make the model INT8 with, anew; the main job uses what comes of it "
            "from then on [phantom].",
            metavar="SRC",
        ),
    ] = None,
    min_dice: Annotated[float, typer.Option(help="Least Dice of the masks against FP32.")] = 0.99,
    max_shift: Annotated[
        float, typer.Option(help="Farthest shift of a vessel's centroid, px of the grid.")
    ] = 0.5,
    kept: Annotated[bool, typer.Option("--list", help="List what is kept, and end.")] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Remove what is damaged, what libraries or versions made that are not installed "
            "here, and with --unused what was not used lately; and end.",
        ),
    ] = False,
    unused: Annotated[
        float | None,
        typer.Option(help="With --prune: also what was not used for so many days.", metavar="DAYS"),
    ] = None,
) -> None:
    """Build a model's engine ahead of its first use, and hold it against FP32."""
    if unused is not None and not prune:
        raise ValueError("unused goes with --prune")
    if kept or prune:
        keep_house(unused) if prune else show_kept()
        return
    wish = _Wish(
        model=model, engine=engine, precision=precision, device=device, shape=_shape(shape),
        workspace_mib=workspace, targets=tuple(target or ()), output=output, overwrite=overwrite,
        frames=frames, calibration=calibration, min_dice=min_dice, max_shift_px=max_shift,
    )  # fmt: skip
    _check(wish)
    let_speak("veintrack.engines")
    console = Console(stderr=True, highlight=False)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        info = _model(wish, folder)
        proof = _proof(wish, info)
        if wish.output is None:
            _into_cache(wish, info, proof, console)
        else:
            _into_file(wish, wish.output, info, proof, console)


def _shape(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d*,[1-9]\d*,[1-9]\d*", text):
        raise ValueError(f"shape must be N,H,W, whole numbers above 0, got {text!r}")
    n, height, width = (int(part) for part in text.split(","))
    return n, height, width


def _check(wish: _Wish) -> None:
    """Refuse what does not go together, before anything is built."""
    from veintrack.engines.base import engine_names
    from veintrack.engines.build import beside_of
    from veintrack.tracker.cli.evaluate_output import check_free

    engine_names(wish.engine, wish.precision, wish.device)
    if wish.output is None:
        alone = {"shape": wish.shape, "workspace": wish.workspace_mib, "target": wish.targets}
        if given := [name for name, value in alone.items() if value]:
            raise ValueError(
                f"{given[0]} goes with --output: the main job uses the model's own grid and the "
                "device at hand"
            )
        return
    suffix = wish.output.suffix
    if suffix not in (".onnx", ".plan", ".engine"):
        raise ValueError(f"output must end in .onnx or .plan, got {wish.output}")
    if suffix == ".onnx":
        if wish.workspace_mib is not None or wish.targets:
            raise ValueError("workspace and target are for a .plan: an .onnx file fits any device")
        if wish.shape and wish.shape[0] != 1:
            raise ValueError(
                f"an .onnx file takes any number of pictures: --shape 1,..., got {wish.shape[0]}"
            )
    for name in wish.targets:
        _capability(name)
    if wish.device != "auto" and (suffix == ".onnx" or wish.targets):
        raise ValueError("device is for a .plan without --target: nothing else belongs to one GPU")
    if wish.calibration is not None and wish.precision != "int8":
        raise ValueError("a file is calibrated in int8 only: add --precision int8")
    files = _outputs(wish.output, wish.targets)
    check_free([*files, *map(beside_of, files)], overwrite=wish.overwrite)


def _capability(name: str) -> tuple[int, int]:
    found = re.fullmatch(r"sm_?(\d+)(\d)", name.lower())
    if not found:
        raise ValueError(f"target must be a compute capability such as sm_86, got {name!r}")
    return int(found[1]), int(found[2])


def _outputs(output: Path, targets: tuple[str, ...]) -> list[Path]:
    """Name the files: one for each target where there are several."""
    if len(targets) < 2:
        return [output]
    return [output.with_name(f"{output.stem}.{name}{output.suffix}") for name in targets]


def _model(wish: _Wish, folder: Path) -> "ModelInfo":
    """Read the model, on the grid that is asked for."""
    from veintrack.engines.build import reshape
    from veintrack.engines.model import read_model_info, resolve_model

    info = read_model_info(resolve_model(wish.model))
    if wish.shape is None or wish.shape[1:] == info.input_shape:
        return info
    return reshape(info, wish.shape[1:], folder)


def _proof(wish: _Wish, info: "ModelInfo") -> "Proof":
    from veintrack.engines.parity import ParityLimits
    from veintrack.engines.proven import Proof
    from veintrack.tracker.segment import channel_of
    from veintrack.tracker.typical import calibration_pictures, judging_pictures, pictures_of

    def pictures(source: str | None, else_: "Callable[[tuple[int, int]], Pictures]") -> "Pictures":
        if source is None:
            return else_(info.input_shape)
        return pictures_of(source, info.input_shape)

    return Proof(
        frames=pictures(wish.frames, judging_pictures),
        calibration=pictures(wish.calibration, calibration_pictures),
        channel=channel_of(info),
        limits=ParityLimits(dice=wish.min_dice, centroid_shift_px=wish.max_shift_px),
        afresh=True,
    )


def _into_cache(wish: _Wish, info: "ModelInfo", proof: "Proof", console: Console) -> None:
    """Build for one frame at a time (live) and for many (files), and say what came of it."""
    from veintrack.engines.proven import open_proven, prove
    from veintrack.engines.quantise import quantised

    with _showing(console) as tell:
        if wish.calibration is not None:
            quantised(info, proof.calibration, afresh=True, progress=tell)
        table = Table("use", "engine", "precision", "ms a frame", "Dice", "shift px", "on")
        for use, slots in (("live", 1), ("files", None)):
            engine = open_proven(
                info, wish.engine, precision=wish.precision, device=wish.device,
                slots=slots, proof=proof, progress=tell,
            )  # fmt: skip
            with closing(engine):
                found = prove(info, engine, replace(proof, afresh=False))
            table.add_row(
                use, engine.name, engine.precision, f"{found.latency_ms:.1f}",
                f"{found.parity.dice[0]:.4f}", f"{found.parity.centroid_shift_px:.2f}",
                engine.device,
            )  # fmt: skip
    table.caption = (
        "one frame at a time in both; Dice and largest shift of a vessel: against ONNX Runtime in "
        f"{'INT8' if info.quantised else 'FP32'}, on {proof.frames.name} frames"
    )
    Console(width=100).print(table)


def _into_file(
    wish: _Wish, output: Path, info: "ModelInfo", proof: "Proof", console: Console
) -> None:
    from veintrack.engines.build import Order, make, write_made
    from veintrack.engines.quantise import quantised

    engine = None
    if output.suffix != ".onnx":
        engine = "tensorrt" if wish.engine == "auto" else wish.engine
    elif wish.engine not in ("auto", "openvino", "onnxruntime"):
        raise ValueError(f"{wish.engine} has .plan files: name one as output")
    floats = "fp16" if engine else "fp32"
    if wish.calibration is not None:
        with _showing(console) as tell:
            quantised(info, proof.calibration, afresh=True, progress=tell)
    for path, name in zip(_outputs(output, wish.targets), wish.targets or (None,), strict=True):
        order = Order(
            precision=floats if wish.precision == "auto" else wish.precision,
            engine=engine,
            device=wish.device,
            batch=wish.shape[0] if wish.shape else 1,
            target=_capability(name) if name else None,
            workspace_bytes=wish.workspace_mib * _MIB if wish.workspace_mib else None,
        )
        with _showing(console) as tell:
            made = make(info, order, proof, tell)
        beside = write_made(path, made)
        typer.echo(f"{path}  {_report(made)}; more in {beside.name}")


def _report(made: "Made") -> str:
    words = f"{made.precision}, {len(made.data) / _MIB:.1f} MiB; {made.parity.reason()}"
    if "largest_activation" in made.facts:
        largest = made.facts["largest_activation"]
        words += f", largest activation {largest['value']:g} of 65504 ({largest['layer']})"
    return words


@contextmanager
def _showing(console: Console) -> "Iterator[Tell]":
    """Show a bar for the phase that is at work; in a pipe, nothing."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    off = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=off) as bars:
        tasks: dict[str, Any] = {}

        def tell(phase: str, done: int, steps: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase)
            bars.update(tasks[phase], completed=done, total=steps)

        yield tell
