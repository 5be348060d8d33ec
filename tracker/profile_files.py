"""The files of scanner profiles: one YAML file each, in the user's configuration folder."""

import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from platformdirs import user_config_path

from veintrack.errors import OutputError
from veintrack.tracker.frame import Spacing
from veintrack.tracker.furniture import Furniture
from veintrack.tracker.profiles import Orientation, ScannerProfile, check_name

__all__ = [
    "check_free",
    "list_profiles",
    "path_of",
    "profile_names",
    "profiles_folder",
    "read_profile",
    "save_profile",
]

log = logging.getLogger(__name__)


def profiles_folder() -> Path:
    """Where profiles lie: under ``$VEINTRACK_CONFIG``, or the user's configuration folder."""
    named = os.environ.get("VEINTRACK_CONFIG")
    return (Path(named) if named else user_config_path("veintrack")) / "profiles"


def path_of(name: str) -> Path:
    """Where the profile of that name lies, or would."""
    check_name(name)
    return profiles_folder() / f"{name}.yaml"


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that are kept, sorted."""
    return tuple(sorted(path.stem for path in profiles_folder().glob("*.yaml")))


def list_profiles() -> tuple[ScannerProfile, ...]:
    """Every profile that is kept, by name; of one that cannot be read, a warning."""
    found = []
    for name in profile_names():
        try:
            found.append(read_profile(name))
        except ValueError as error:
            log.warning("%s", error)
    return tuple(found)


def check_free(name: str, *, overwrite: bool) -> None:
    """Refuse the name of a profile that is there and must not be replaced.

    Raises
    ------
    OutputError
        If it is.
    """
    if path_of(name).exists() and not overwrite:
        raise OutputError(f"there is a profile {name} already: name another, or add --overwrite")


def save_profile(profile: ScannerProfile, *, overwrite: bool = False) -> Path:
    """Write a profile, whole or not at all.

    Parameters
    ----------
    profile : ScannerProfile
        What to write.
    overwrite : bool
        Replace one of the same name.

    Returns
    -------
    Path
        Its file.

    Raises
    ------
    OutputError
        If there is one of that name, or it cannot be written.
    """
    check_free(profile.name, overwrite=overwrite)
    path = path_of(profile.name)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(_as_yaml(profile), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def read_profile(name: str) -> ScannerProfile:
    """Read the profile of that name.

    Raises
    ------
    ValueError
        If there is none, or its file cannot be read; one line says which value is wrong.
    """
    path = path_of(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(profile_names()) or "none"
        raise ValueError(
            f"no profile {name}; there are: {known}; `veintrack profile save` makes one"
        ) from error
    except OSError as error:
        raise ValueError(f"profile {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # bytes, huge numbers, nesting
        raise ValueError(f"profile {path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        return _from_mapping(name, content)
    except ValueError as error:
        raise ValueError(f"profile {path}: {error}") from error


def _as_yaml(profile: ScannerProfile) -> str:
    values: dict[str, Any] = {
        "frame_shape_px": list(profile.frame_shape_px),
        "crop_px": profile.crop_px and list(profile.crop_px),
        "spacing_mm": profile.spacing_mm and list(profile.spacing_mm),
        "orientation": profile.orientation.value,
        "mode": profile.mode,
        "source": profile.source,
        "depth_mm": profile.depth_mm,
        "tick_px": profile.tick_px,
    }
    furniture = {"signature": list(profile.signature)}
    return (
        yaml.safe_dump(values, sort_keys=False, default_flow_style=None)
        + yaml.safe_dump(furniture, default_flow_style=False)
    )  # fmt: skip


def _from_mapping(name: str, content: Any) -> ScannerProfile:
    if not isinstance(content, Mapping):
        raise ValueError("expected `name: value` lines")
    known = [f.name for f in fields(ScannerProfile) if f.name != "name"]
    unknown = [str(key) for key in content if key not in known]
    if unknown:
        raise ValueError(f"unknown value {unknown[0]!r}; known: {', '.join(known)}")
    if content.get("frame_shape_px") is None:
        raise ValueError("frame_shape_px is missing")
    given = {key: value for key, value in content.items() if value is not None}
    return ScannerProfile(name, **{key: _READ[key](key, value) for key, value in given.items()})


def _whole_numbers(count: int) -> Callable[[str, Any], tuple[int, ...]]:
    def read(key: str, value: Any) -> tuple[int, ...]:
        if not isinstance(value, list) or [type(v) for v in value] != [int] * count:
            raise ValueError(f"{key} must be a list of {count} whole numbers, got {value!r}")
        return tuple(value)

    return read


def _spacing(key: str, value: Any) -> Spacing:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{key} must be a list of 2 numbers, got {value!r}")
    return _number(key, value[0]), _number(key, value[1])


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{key} must be a number, got {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{key} must be a number below 1e308, got a greater one") from error


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key} must be text, got {value!r}")
    return value


def _orientation(key: str, value: Any) -> Orientation:
    try:
        return Orientation(value)
    except ValueError as error:
        ways = ", ".join(o.value for o in Orientation)
        raise ValueError(f"{key} must be one of {ways}; got {value!r}") from error


def _furniture(key: str, value: Any) -> Furniture:
    if not isinstance(value, list) or not all(isinstance(row, str) for row in value):
        raise ValueError(f"{key} must be a list of texts of digits, in quotes")
    return tuple(value)


_READ: dict[str, Callable[[str, Any], Any]] = {
    "frame_shape_px": _whole_numbers(2),
    "crop_px": _whole_numbers(4),
    "spacing_mm": _spacing,
    "orientation": _orientation,
    "mode": _text,
    "source": _text,
    "depth_mm": _number,
    "tick_px": _number,
    "signature": _furniture,
}
