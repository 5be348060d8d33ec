"""The configuration of a run: defaults, a YAML file and the command line become one value."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml

from veintrack.engines.model import DEFAULT_MODEL
from veintrack.engines.parity import ParityLimits
from veintrack.tracker.detect import DetectSettings
from veintrack.tracker.frame import Region, Spacing
from veintrack.tracker.ranking import SortBy
from veintrack.tracker.sources.address import masked
from veintrack.tracker.tracks import TrackSettings

__all__ = ["RunConfig", "make_config", "parse_crop", "parse_spacing", "read_config_file"]

T = TypeVar("T")
VIEWS = ("auto", "window", "web", "none")
_ALSO = {"max_age": "max_age_ms", "catheter": "catheter_mm"}  # as on the command line


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that a run depends on; the names are those of the command line.

    Attributes
    ----------
    source : str
        What to track.
    output : str or None
        Folder for the results; a new one under ``runs/`` by default.
    overwrite : bool
        Replace the results that the folder holds.
    model, engine, precision, device : str
        The network, and what runs it.
    view : str
        ``auto`` opens a window where there is a screen, ``window`` insists, ``none`` does not.
    crop : str or tuple of int
        ``auto``, ``none`` or ``(x, y, width, height)`` in px.
    spacing : tuple of float or None
        ``(row_mm, col_mm)``, millimetres per pixel.
    depth_mm : float or None
        Depth of the scan area as set on the scanner: spacing is worked out from it.
    profile : str or None
        Name of a scanner's profile; what it holds serves where nothing else is given.
    fps : float or None
        Frames per second of a folder of images, which has no times of its own.
    mode : str or None
        What to set a capture device to: ``WxH@FPS:FOURCC``.
    on_lost : str
        ``wait`` looks for a live source that was lost and goes on, ``exit`` ends the run.
    lost_timeout : float
        Seconds for which it is looked for.
    judge_pictures : bool
        Whether frozen and empty pictures are recognised and treated as such.
    pace : str
        ``asap`` or ``realtime``.
    max_age_ms : float or None
        Frames that would be older than this when their tracks are ready are not segmented; live
        sources and real-time pace only.
    sort_by : str or None
        What the best vein is named by: ``diameter``, ``depth`` or ``collapse``.
    catheter_mm : float or None
        Outer diameter of a catheter, to be compared with the best vein.
    max_frames : int or None
        Stop after this many frames.
    duration : float or None
        Stop after this many seconds of the source's time.
    video : str or None
        Name of the annotated video in the output folder, or a path.
    record, record_full : bool
        Keep the raw frames: of each the scan area, or all.
    record_max_gb, record_minutes : float or None
        Of these, keep the last.
    host, port : str, int
        Where the web page listens; port 0 takes any that is free.
    igtl_out : str or None
        ``[HOST:]PORT`` on which results go out over OpenIGTLink.
    track, detect, parity : TrackSettings, DetectSettings, ParityLimits
        Settings of the tracker and of the detector, and what an engine's answers may differ by from
        FP32; in a file only.
    """

    source: str
    output: str | None = None
    overwrite: bool = False
    model: str = DEFAULT_MODEL
    engine: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    view: str = "auto"
    crop: str | Region = "auto"
    spacing: Spacing | None = None
    depth_mm: float | None = None
    profile: str | None = None
    fps: float | None = None
    mode: str | None = None
    on_lost: str = "wait"
    lost_timeout: float = 300.0
    judge_pictures: bool = True
    pace: str = "asap"
    max_age_ms: float | None = None
    sort_by: SortBy | None = None
    catheter_mm: float | None = None
    max_frames: int | None = None
    duration: float | None = None
    video: str | None = None
    record: bool = False
    record_full: bool = False
    record_max_gb: float | None = None
    record_minutes: float | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    igtl_out: str | None = None
    track: TrackSettings = field(default_factory=TrackSettings)
    detect: DetectSettings = field(default_factory=DetectSettings)
    parity: ParityLimits = field(default_factory=ParityLimits)

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}, got {self.view!r}")
        if self.on_lost not in ("wait", "exit"):
            raise ValueError(f"on_lost must be wait or exit, got {self.on_lost!r}")
        if self.spacing is not None and self.depth_mm is not None:
            raise ValueError("spacing and depth_mm exclude each other: give one")
        sorts = get_args(SortBy)
        if self.sort_by is not None and self.sort_by not in sorts:
            raise ValueError(f"sort_by must be one of {', '.join(sorts)}, got {self.sort_by!r}")
        if self.catheter_mm is not None and self.sort_by is None:
            raise ValueError("a catheter is compared with the best vein: add --sort-by diameter")
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port must be 0 to 65535, got {self.port}")
        self._check_numbers()

    def _check_numbers(self) -> None:
        positive = {
            "depth_mm": self.depth_mm,
            "max_age_ms": self.max_age_ms,
            "catheter_mm": self.catheter_mm,
            "fps": self.fps,
            "duration": self.duration,
            "lost_timeout": self.lost_timeout,
            "record_max_gb": self.record_max_gb,
            "record_minutes": self.record_minutes,
        }
        for name, value in positive.items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be greater than 0 and finite, got {value}")
        for name in ("record_full", "record_max_gb", "record_minutes"):
            if getattr(self, name) and not self.record:
                raise ValueError(f"{name} is of a recording: add --record")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they are written with a run; a password in an address is hidden."""
        return {**asdict(self), "source": masked(self.source)}


def read_config_file(path: Path) -> dict[str, Any]:
    """Read a YAML file of options; dashes and underscores in names mean the same.

    Raises
    ------
    ValueError
        If it cannot be read, or is not a mapping of names to values.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"config file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise ValueError(f"config file {path} is not YAML: {line}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"config file {path}: expected `option: value` lines")
    names = {key: str(key).replace("-", "_") for key in content}
    return {_ALSO.get(name, name): content[key] for key, name in names.items()}


def make_config(given: Mapping[str, Any], file: Mapping[str, Any] | None = None) -> RunConfig:
    """Merge the command line over a file over the defaults.

    Parameters
    ----------
    given : mapping
        Options of the command line; None means not given.
    file : mapping, optional
        Options of a configuration file.

    Raises
    ------
    ValueError
        If an option is unknown, has a wrong value, or no source is named.
    """
    options = {**(file or {}), **{k: v for k, v in given.items() if v is not None}}
    _refuse_unknown(options, RunConfig, "option")
    if options.get("profile") is not None:
        from veintrack.tracker.profile_files import read_profile
        from veintrack.tracker.profiles import profile_options

        options = {**profile_options(read_profile(str(options["profile"])), options), **options}
    if not options.get("source"):
        raise ValueError("no source: try `veintrack --source demo`, or name a video or a device")
    options["source"] = str(options["source"])
    if isinstance(options.get("igtl_out"), int):  # a file's bare port
        options["igtl_out"] = str(options["igtl_out"])
    if "crop" in options:
        options["crop"] = parse_crop(options["crop"])
    if options.get("spacing") is not None:
        options["spacing"] = parse_spacing(options["spacing"])
    for name, kind in _SECTIONS.items():
        if name in options:
            options[name] = _section(name, options[name], kind)
    _check_types(options)
    return RunConfig(**options)


def _refuse_unknown(options: Mapping[str, Any], kind: type, word: str) -> None:
    known = [f.name for f in fields(kind)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"unknown {word} {unknown[0]!r}; known: {', '.join(known)}")


def _section(name: str, values: Any, kind: type[T]) -> T:
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} must be a section of `setting: number` lines")
    _refuse_unknown(values, kind, f"{name} setting")
    values = {key: value for key, value in values.items() if value is not None}  # as not named
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{name}: {key} must be a number, got {value!r}")
    return kind(**values)


_SECTIONS = {"track": TrackSettings, "detect": DetectSettings, "parity": ParityLimits}
_TEXT = (
    "output",
    "model",
    "engine",
    "precision",
    "device",
    "view",
    "host",
    "igtl_out",
    "mode",
    "on_lost",
    "profile",
    "pace",
    "sort_by",
    "video",
)
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(_TEXT, ((str,), "text")),
    "overwrite": ((bool,), "true or false"),
    "judge_pictures": ((bool,), "true or false"),
    "record": ((bool,), "true or false"),
    "record_full": ((bool,), "true or false"),
    "max_frames": ((int,), "a whole number"),
    "port": ((int,), "a whole number"),
    "depth_mm": ((int, float), "a number"),
    "max_age_ms": ((int, float), "a number"),
    "catheter_mm": ((int, float), "a number"),
    "fps": ((int, float), "a number"),
    "duration": ((int, float), "a number"),
    "lost_timeout": ((int, float), "a number"),
    "record_max_gb": ((int, float), "a number"),
    "record_minutes": ((int, float), "a number"),
}


def _check_types(options: Mapping[str, Any]) -> None:
    for name, (kinds, words) in _TYPES.items():
        value = options.get(name)
        wrong_bool = isinstance(value, bool) and bool not in kinds
        if value is not None and (wrong_bool or not isinstance(value, kinds)):
            raise ValueError(f"{name} must be {words}, got {value!r}")


def parse_crop(text: Any) -> str | Region:
    """Read ``auto``, ``none`` or ``X,Y,W,H``."""
    if text in ("auto", "none"):
        return str(text)
    numbers = _numbers(text)
    if len(numbers) != 4 or not all(n.is_integer() for n in numbers):
        raise ValueError(f"crop must be auto, none or X,Y,W,H in whole px, got {text!r}")
    x, y, w, h = (int(n) for n in numbers)
    return (x, y, w, h)


def parse_spacing(text: Any) -> Spacing:
    """Read ``MM`` or ``ROW_MM,COL_MM``."""
    numbers = _numbers(text)
    if len(numbers) not in (1, 2) or not all(0 < n < float("inf") for n in numbers):
        raise ValueError(
            f"spacing must be MM or ROW_MM,COL_MM, millimetres per pixel above 0, got {text!r}"
        )
    return (numbers[0], numbers[-1])


def _numbers(text: Any) -> list[float]:
    parts = list(text) if isinstance(text, (list, tuple)) else str(text).split(",")
    try:
        return [float(part) for part in parts]
    except (TypeError, ValueError):
        return []
