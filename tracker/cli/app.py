"""The ``veintrack`` command: options in, exit code out.

Exit codes: 0 done, 1 ran but lost the source or a sink, 2 bad arguments or input, 130 interrupted.
A user's mistake is answered with one line; ``--debug`` shows the traceback.
"""

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from veintrack._version import __version__
from veintrack.errors import SourceLostError, VeintrackError
from veintrack.tracker.cli.bench import bench
from veintrack.tracker.cli.build import build
from veintrack.tracker.cli.diff import diff
from veintrack.tracker.cli.doctor import doctor
from veintrack.tracker.cli.evaluate import evaluate
from veintrack.tracker.cli.export import export
from veintrack.tracker.cli.profile import profile
from veintrack.tracker.cli.replay import replay, with_options_of
from veintrack.tracker.cli.report import report
from veintrack.tracker.cli.saying import as_line
from veintrack.tracker.cli.stopping import raise_on_signal
from veintrack.tracker.cli.train import train

__all__ = ["app", "run"]

app = typer.Typer(
    name="veintrack",
    help="Live vein tracking in ultrasound video. Research use only, not a medical device.",
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode=None,  # it would take [defaults] in brackets for markup
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train)
app.command("bench")(bench)
app.command("build")(build)
app.command("doctor")(doctor)
app.command("diff")(diff)
app.command("export")(export)
app.command("report")(report)
app.add_typer(evaluate, name="evaluate")
app.add_typer(profile, name="profile")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"veintrack {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Option(
            help="demo, 0 or /dev/video0, a video, DICOM or .mha file, images, rtsp:// or igtl://.",
            metavar="SRC",
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Folder for the results [a new one under runs/].")
    ] = None,
    overwrite: Annotated[
        bool | None, typer.Option("--overwrite", help="Replace the results the folder holds.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name of a shipped model, or path of a model file [default].")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="auto, tensorrt, openvino or onnxruntime [auto].")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, fp32, bf16, fp16 or int8 [auto].")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda[:N] [auto].")] = None,
    view: Annotated[str | None, typer.Option(help="auto, window, web or none [auto].")] = None,
    host: Annotated[
        str | None, typer.Option(help="With --view web: address to listen on [127.0.0.1].")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="With --view web: port, 0 for any that is free [8080].")
    ] = None,
    igtl_out: Annotated[
        str | None,
        typer.Option("--igtl-out", metavar="[HOST:]PORT", help="Send results over OpenIGTLink."),
    ] = None,
    crop: Annotated[
        str | None, typer.Option(help="Scan area: auto, none or X,Y,W,H in px [auto].")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Millimetres per pixel, MM or ROW_MM,COL_MM.")
    ] = None,
    depth_mm: Annotated[
        float | None,
        typer.Option(
            "--depth-mm", help="Or: depth set on the scanner; the screen's ruler is used, if any."
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Scanner profile: see `veintrack profile`.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second of a folder of images [30].")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="Capture devices: WxH, WxH@FPS or WxH@FPS:FOURCC [the best]."),
    ] = None,
    on_lost: Annotated[
        str | None,
        typer.Option(help="Live sources: wait for one that was lost, or exit [wait]."),
    ] = None,
    lost_timeout: Annotated[
        float | None, typer.Option(help="Seconds to wait for a lost source [300].")
    ] = None,
    pace: Annotated[str | None, typer.Option(help="Files: asap or realtime [asap].")] = None,
    max_age_ms: Annotated[
        float | None,
        typer.Option(
            "--max-age",
            metavar="MS",
            help="Live, or --pace realtime: predict instead of segmenting what would be older.",
        ),
    ] = None,
    sort_by: Annotated[
        str | None, typer.Option(help="Name the best vein: by diameter, depth or collapse.")
    ] = None,
    catheter_mm: Annotated[
        float | None,
        typer.Option("--catheter", metavar="MM", help="Compare the best vein with this diameter."),
    ] = None,
    max_frames: Annotated[int | None, typer.Option(help="Stop after this many frames.")] = None,
    duration: Annotated[
        float | None, typer.Option(help="Stop after this many seconds of the source's time.")
    ] = None,
    video: Annotated[
        str | None,
        typer.Option(help="Write the annotated video; a name may follow [overlay.mp4]."),
    ] = None,
    record: Annotated[
        bool | None,
        typer.Option("--record", help="Keep the raw frames, losslessly: of each the scan area."),
    ] = None,
    record_full: Annotated[
        bool | None,
        typer.Option(
            "--record-full", help="With --record: keep whole frames, and the names on them."
        ),
    ] = None,
    record_max_gb: Annotated[
        float | None, typer.Option(help="With --record: keep the last so many GB.", metavar="GB")
    ] = None,
    record_minutes: Annotated[
        float | None,
        typer.Option(help="With --record: keep the last so many minutes.", metavar="MINUTES"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of options; the command line wins.")
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress, no messages but errors.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the summary as one JSON object on stdout.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything, and show tracebacks.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Track the vessels of a source: the main job."""
    del version  # its callback has done the work
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s: %(message)s"
    )
    if context.invoked_subcommand is not None:
        raise_on_signal()
        return
    from veintrack.tracker.cli.watch import watch
    from veintrack.tracker.config import make_config, read_config_file

    options = {k: v for k, v in context.params.items() if k not in _NOT_OF_THE_RUN}
    del source, output, overwrite, model, engine, precision, device, view, crop, spacing
    del depth_mm, profile, fps, mode, on_lost, lost_timeout, pace, max_age_ms, sort_by
    del catheter_mm, max_frames, duration, video, record, record_full, record_max_gb
    del record_minutes, host, port, igtl_out
    raise_on_signal()  # everything is imported
    file = read_config_file(config) if config else None
    raise typer.Exit(watch(make_config(options, file), quiet=quiet, as_json=json))


_NOT_OF_THE_RUN = ("config", "quiet", "json", "debug", "version")
app.command("replay")(with_options_of(_main, replay))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; never raises for a user's mistake.

    Returns
    -------
    int
        The exit code.
    """
    debug = "--debug" in arguments
    try:
        return _call(_name_the_video(arguments))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of our output went away: nobody is left to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (VeintrackError, ValueError) as error:
        if debug:
            traceback.print_exc()
        return _fail(str(error), 1 if isinstance(error, SourceLostError) else 2)
    except Exception as error:
        # Usage errors: typer carries its parser under changing module names.
        if not hasattr(error, "format_message"):
            raise
        return _fail(_usage_error(error.format_message(), arguments), 2)


def _usage_error(message: str, arguments: Sequence[str]) -> str:
    """Say what to do about files that the shell made of an unquoted pattern."""
    files = [a for a in arguments if not a.startswith("-") and Path(a).is_file()]
    if "--source" in arguments and len(files) > 1 and "No such command" in message:
        return f"--source takes one value, got {len(files)} files: quote the pattern ('*.png')"
    return message


def _call(arguments: list[str]) -> int:
    """Do what the command line says; an interrupt stays what it is, unlike in `app` itself."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("veintrack", arguments) as context:
            result = command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int) -> int:
    typer.echo(f"veintrack: {as_line(message)}", err=True)
    return code


def _name_the_video(arguments: Sequence[str]) -> list[str]:
    """Give a bare ``--video`` its name: the parser knows no optional values."""
    named: list[str] = []
    for index, argument in enumerate(arguments):
        named.append(argument)
        following = arguments[index + 1] if index + 1 < len(arguments) else "-"
        if argument == "--video" and following.startswith("-"):
            named.append("overlay.mp4")
    return named
