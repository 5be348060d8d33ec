"""What this machine has, found without any engine: plain facts, each a :class:`Check`.

Nothing is changed and nothing is sent anywhere. Whatever is looked at may be missing or broken, so
each look is made through :func:`look`, which turns an exception into a finding.
"""

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from veintrack._version import __version__

__all__ = [
    "BROKEN",
    "MISSING",
    "NOT_NEEDED",
    "OK",
    "PARTS",
    "Check",
    "Places",
    "folder_fault",
    "free_gib",
    "has_nvidia_hardware",
    "in_container",
    "is_jetson",
    "look",
    "machine_checks",
    "one_line",
    "optional_parts",
    "version_of",
]

OK, MISSING, BROKEN, NOT_NEEDED = "ok", "missing", "broken", "not_needed"
PARTS = {  # name -> how it is installed, and what belongs to it
    "training": ('"veintrack[train]"', ("torch", "lightning", "kornia", "torchmetrics")),
    "window": ('"veintrack[window]"', ("pygame-ce",)),
    "web page": ('"veintrack[web]"', ("nicegui",)),
    "DICOM reports": ('"veintrack[dicom]"', ("highdicom",)),
    "Parquet": ('"veintrack[parquet]"', ("pyarrow",)),
    "tracking scores": ('"veintrack[eval]"', ("trackeval",)),
    "quantisation": ('"veintrack[int8]"', ("nncf",)),
}
_STEADY = "sudo cpupower frequency-set -g performance   # for steadier frame times"
_PCI_DISPLAY, _PCI_NVIDIA = "0x03", "0x10de"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes
    ----------
    name : str
        What was looked at.
    state : str
        `OK`, `MISSING`, `BROKEN` or `NOT_NEEDED`.
    detail : str
        What was found, in words.
    mend : str
        The command or action that mends it, or makes it better; empty where nothing has to be done.
    """

    name: str
    state: str
    detail: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the system says what it has.

    Attributes
    ----------
    root : Path
        Under which ``dev``, ``etc``, ``proc``, ``run`` and ``sys`` lie.
    """

    root: Path = Path("/")

    def read(self, path: str) -> str:
        """Read a small file of the system; empty where there is none."""
        try:
            return (self.root / path).read_bytes().replace(b"\0", b"").decode().strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def has(self, path: str) -> bool:
        """Whether there is such a file or folder that may be seen."""
        return os.access(self.root / path, os.F_OK)

    def names(self, path: str) -> list[str]:
        """Name what lies in a folder of the system; nothing where it cannot be read."""
        try:
            return [one.name for one in (self.root / path).iterdir()]
        except OSError:
            return []


def look(name: str, at: Callable[[], Check | Iterable[Check]]) -> list[Check]:
    """Make one look; whatever it raises is what was found."""
    found: list[Check] = []
    try:
        seen = at()
        for check in (seen,) if isinstance(seen, Check) else seen:
            found.append(check)  # one by one: those before a failure count
    except Exception as error:  # no fault that is looked for may end the looking
        found.append(Check(name, BROKEN, one_line(error)))
    return found


def one_line(error: BaseException) -> str:
    """Say what kind of error it is, and its text, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())


def version_of(distribution: str) -> str | None:
    """Read which version is installed, without importing it; None if it is not."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def is_jetson(places: Places) -> bool:
    """Whether this is one of NVIDIA's boards, where TensorRT comes with the system."""
    board = places.read("proc/device-tree/model")
    return "Jetson" in board or places.has("etc/nv_tegra_release")


def in_container(places: Places) -> bool:
    """Whether devices must be handed in from outside."""
    return any(places.has(mark) for mark in (".dockerenv", "run/.containerenv"))


def has_nvidia_hardware(places: Places) -> bool:
    """Whether an NVIDIA GPU is there, with a driver or without; under Windows (WSL), perhaps."""
    slots = places.names("sys/bus/pci/devices")
    return (
        is_jetson(places)
        or any(places.has(f"dev/{name}") for name in ("nvidia0", "nvidiactl", "dxg"))
        or any(
            places.read(f"sys/bus/pci/devices/{slot}/vendor") == _PCI_NVIDIA
            and places.read(f"sys/bus/pci/devices/{slot}/class").startswith(_PCI_DISPLAY)
            for slot in slots
        )
    )


def machine_checks(
    places: Places, facts: Mapping[str, Any], native: Sequence[str]
) -> Iterator[Check]:
    """Say what the machine is.

    Parameters
    ----------
    places : Places
        Where the system says so.
    facts : mapping
        Of :func:`veintrack.tracker.machine.machine_facts`; may be empty.
    native : sequence of str
        Types that the processor computes in without converting; may be empty.
    """
    yield from look("veintrack", _software)
    yield from look("system", partial(_system, places))
    if board := places.read("proc/device-tree/model"):
        yield Check("board", OK, board)
    yield from look("processor", partial(_processor, places, native))
    yield from look("memory", partial(_memory, places))
    if "load_average" in facts:
        loads = ", ".join(f"{load:g}" for load in facts["load_average"])
        yield Check("load", OK, f"{loads} (over 1, 5 and 15 minutes)")
    if mode := facts.get("power_mode"):
        yield Check(
            "power mode", OK, mode, "sudo jetson_clocks   # holds the mode's highest clocks"
        )
    if governor := facts.get("governor"):
        slow = governor in ("powersave", "conservative")
        yield Check("governor", OK, governor, _STEADY if slow else "")


def _software() -> Check:
    python = f"Python {platform.python_version()} in {sys.prefix}"
    return Check("veintrack", OK, f"{__version__}, {python}")


def _system(places: Places) -> Check:
    known = re.search(r'^PRETTY_NAME="?([^"\n]*)', places.read("etc/os-release"), re.MULTILINE)
    kernel = f"{platform.system()} {platform.release()}, {platform.machine()}"
    return Check("system", OK, f"{known[1]}, {kernel}" if known else kernel)


def _processor(places: Places, native: Sequence[str]) -> Check:
    named = re.search(r"^model name\s*: (.*)", places.read("proc/cpuinfo"), re.MULTILINE)
    name = named[1] if named else platform.machine()
    cores = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores usable"
    computes = f", computes in {', '.join(native)}" if native else ""
    return Check("processor", OK, f"{name}, {cores}{computes}")


def _memory(places: Places) -> Check:
    said = places.read("proc/meminfo")
    kib = {name: int(n) for name, n in re.findall(r"^(\w+):\s+(\d+) kB", said, re.MULTILINE)}
    total, free = kib["MemTotal"] / 2**20, kib["MemAvailable"] / 2**20
    return Check("memory", OK, f"{free:.1f} of {total:.1f} GiB free")


def optional_parts(gpu: bool, screen: bool) -> Iterator[Check]:
    """Say which parts beside the main job are installed; none of them is imported.

    Parameters
    ----------
    gpu : bool
        Whether there is an NVIDIA GPU to train on.
    screen : bool
        Whether a window could be opened.
    """
    for part, (package, names) in PARTS.items():
        versions = {name: version_of(name) for name in names}
        there = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        absent = ", ".join(name for name, version in versions.items() if not version)
        if absent:
            detail = f"not installed: {absent}" + (f" (there: {there})" if there else "")
            yield Check(part, MISSING, detail, f"pip install {package}")
        elif part == "training":
            yield from look(part, partial(_training, there, gpu))
        elif part == "window" and not screen:
            empty = "no screen: DISPLAY and WAYLAND_DISPLAY are empty"
            yield Check(part, NOT_NEEDED, f"{there}; {empty}")
        else:
            yield Check(part, OK, there)


def _training(there: str, gpu: bool) -> Check:
    # PyTorch takes seconds to import; what it was built for lies in this file.
    file = metadata.distribution("torch").locate_file("torch/version.py")
    built = re.search(r"^cuda.*= ['\"](.+)['\"]", Path(str(file)).read_text(), re.MULTILINE)
    if built:
        use = "" if gpu else ", without a GPU to use it on"
        return Check("training", OK, f"{there}; torch is built for CUDA {built[1]}{use}")
    better = "install PyTorch's build for CUDA: its page `Get started` gives the command"
    return Check("training", OK, f"{there}; torch is built for the CPU", better if gpu else "")


def folder_fault(folder: Path) -> str:
    """Say why nothing can be written to a folder, there or yet to be made; empty if it can be."""
    near = _nearest(folder)
    if not near.is_dir():
        return f"{near} is not a folder"
    try:
        with TemporaryFile(dir=near):  # permissions alone do not tell: a disk may be read-only
            return ""
    except OSError as error:
        return f"{near} cannot be written: {error.strerror}"


def free_gib(folder: Path) -> float:
    """Measure the room on a folder's disk, in GiB."""
    return shutil.disk_usage(_nearest(folder)).free / 2**30


def _nearest(folder: Path) -> Path:
    """Find the folder, or of those above it the nearest that is there."""
    absolute = folder.expanduser().absolute()
    return next(p for p in (absolute, *absolute.parents) if os.access(p, os.F_OK))
