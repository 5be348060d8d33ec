"""``veintrack replay``: a recording is tracked again, as it was or otherwise."""

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["replay", "with_options_of"]

_PACES = ("asap", "realtime", "as-captured")
_OTHERWISE = ("context", "source", "pace", "version")  # of the main job; not so here


def with_options_of(main: Callable[..., None], command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the main job beside its own, for typer to read.

    Parameters
    ----------
    main : callable
        The main job.
    command : callable
        Takes ``**options`` at last; the others are its own.
    """
    own = [
        one
        for one in inspect.signature(command).parameters.values()
        if one.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    taken = {one.name for one in own} | {*_OTHERWISE}
    more = [one for one in inspect.signature(main).parameters.values() if one.name not in taken]
    together = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *more)]
    command.__signature__ = inspect.Signature(together)  # type: ignore[attr-defined]
    return command


def replay(
    recording: Annotated[
        Path, typer.Argument(help="A recording, or the folder of a run.", metavar="REC")
    ],
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Hold the tracks against those kept with the recording."),
    ] = False,
    pace: Annotated[
        str,
        typer.Option(
            help="asap or as-captured (with the times it had): the frames that were tracked; "
            "realtime: every frame at its time, the newest wins."
        ),
    ] = "asap",
    seek: Annotated[
        float, typer.Option(help="Begin so many seconds after the first frame.", metavar="S")
    ] = 0.0,
    all_frames: Annotated[
        bool,
        typer.Option("--all-frames", help="Track frames, too, for which there was no time."),
    ] = False,
    **options: Any,
) -> None:
    """Track a recording again; same tracks, byte for byte. Options change what is asked."""
    from veintrack.tracker.cli.replay_run import Replay
    from veintrack.tracker.cli.watch import watch
    from veintrack.tracker.config import read_config_file

    if options.pop("debug", False):
        logging.getLogger().setLevel(logging.DEBUG)
    _check(pace=pace, seek=seek, verify=verify, all_frames=all_frames)
    file = options.pop("config", None)
    quiet, as_json = options.pop("quiet", False), options.pop("json", False)
    given = {**(read_config_file(file) if file else {})}
    given |= {name: value for name, value in options.items() if value is not None}
    again = Replay(recording, given, pace=pace, seek_s=seek, all_frames=all_frames, verify=verify)
    raise typer.Exit(watch(again.config, quiet=quiet, as_json=as_json, replay=again))


def _check(*, pace: str, seek: float, verify: bool, all_frames: bool) -> None:
    if pace not in _PACES:
        raise ValueError(f"pace must be {', '.join(_PACES)}, got {pace!r}")
    if not 0 <= seek < float("inf"):
        raise ValueError(f"seek must be 0 or more and finite, got {seek}")
    if verify and (pace == "realtime" or seek or all_frames):
        raise ValueError(
            "the same tracks come of the same frames only: leave --pace realtime, --seek and "
            "--all-frames out, or --verify"
        )
