"""The folder of a training run: what may be written there, and what a resumed run must find."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from veintrack.errors import OutputError
from veintrack.train.settings import TrainSettings

__all__ = ["MODEL_FILE", "begin_folder", "check_folder", "check_split_is_kept", "last_checkpoint"]

MODEL_FILE = "model.onnx"
_SETTINGS, _SPLIT = "settings.json", "split.json"
_WRITTEN = (_SETTINGS, _SPLIT, "checkpoints", "logs", MODEL_FILE)
_log = logging.getLogger(__name__)


def check_folder(settings: TrainSettings) -> None:
    """Check that a run may begin in its folder, or go on in it; nothing is written yet.

    Raises
    ------
    OutputError
        If the folder holds anything that this run must not replace.
    ValueError
        If there is no run to resume, or one with other settings.
    """
    output = settings.output
    if settings.resume:
        settings.check_resumes(output / _SETTINGS)
        if last_checkpoint(settings) is None:
            _log.info("%s: no epoch was finished, so the run starts from the beginning", output)
        return
    if output.exists() and not output.is_dir():
        raise OutputError(f"output {output} exists and is no folder")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not settings.overwrite:
        raise OutputError(
            f"output folder {output} is not empty: name another, or give --overwrite to replace "
            "the run in it, or --resume to go on with it"
        )
    if not (output / _SETTINGS).is_file():
        raise OutputError(
            f"output folder {output} holds something else than a training run, which --overwrite "
            f"does not replace (there is no {_SETTINGS}): name another folder"
        )


def last_checkpoint(settings: TrainSettings) -> Path | None:
    """Return what there is to go on with; None where a run was killed in its first epoch."""
    last = settings.output / "checkpoints" / "last.ckpt"
    return last if settings.resume and last.is_file() else None


def check_split_is_kept(settings: TrainSettings, split: Mapping[str, Sequence[str]]) -> None:
    """Check that a resumed run divides its frames as it did before.

    Raises
    ------
    ValueError
        If a frame is in another part now, is new, or is missing: what was trained on might then be
        judged on.
    """
    stored = settings.output / _SPLIT
    if last_checkpoint(settings) is None or not stored.is_file():
        return
    before, now = _parts(json.loads(stored.read_text())), _parts(split)
    moved = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if moved:
        was, is_now = (parts.get(moved[0], "not there") for parts in (before, now))
        raise ValueError(
            f"this run cannot be resumed, because its data changed: {moved[0]} was {was}, is "
            f"{is_now} ({len(moved)} frames in all); bring the data back, or begin a new run"
        )


def _parts(split: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {name: part for part, names in split.items() for name in names}


def begin_folder(
    settings: TrainSettings, split: Mapping[str, Sequence[str]], facts: Mapping[str, Any]
) -> None:
    """Clear what a replaced run left, and write what this one is.

    Parameters
    ----------
    settings : TrainSettings
        Checked by `check_folder`.
    split : mapping
        Which named frame is in which part.
    facts : mapping
        What was resolved of the settings, and what the network costs.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    output = settings.output
    try:
        output.mkdir(parents=True, exist_ok=True)
        if not settings.resume:
            for name in _WRITTEN:  # nothing else of a user's own is touched
                path = output / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        _write_json(output / _SETTINGS, settings.to_json() | dict(facts))
        _write_json(output / _SPLIT, split)
    except OSError as error:
        raise OutputError(f"output folder {output} cannot be written: {error.strerror}") from error


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(values, indent=2) + "\n")
    part.replace(path)  # a resumed run writes it again, and may be killed again
