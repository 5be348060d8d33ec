"""On what is measured: board, clocks, power mode, load, and the memory that this process holds."""

import os
import resource
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from veintrack.tracker.naturalorder import natural_key

__all__ = ["machine_facts", "peak_mib", "resident_mib"]

_FACTS = {
    "board": "/proc/device-tree/model",
    "governor": "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
}
_SYS = Path("/sys")
_LIMIT_S = 10.0
_GPU_FACTS = "name,driver_version,clocks.sm,clocks.mem,power.draw,power.limit,temperature.gpu"


def machine_facts() -> dict[str, Any]:
    """Say on what is measured, as far as the system tells: board, clocks, power mode, load.

    Returns
    -------
    dict
        ``cores``, ``load_average`` and ``clocks_mhz``, those of the cores; where they exist
        ``device_clocks_mhz``, by device (on a Jetson the GPU), ``board``, ``governor``,
        ``power_mode`` (``nvpmodel`` on a Jetson) and ``gpu`` (``nvidia-smi``).
    """
    facts: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "clocks_mhz": _clocks_mhz(),
    }
    if clocks := _sys_clocks("class/devfreq/*/cur_freq"):
        facts["device_clocks_mhz"] = {file.parent.name: round(hz / 1e6) for file, hz in clocks}
    for name, file in _FACTS.items():
        with suppress(OSError, UnicodeDecodeError):
            facts[name] = Path(file).read_bytes().replace(b"\0", b"").decode().strip()
    if said := _ask("nvpmodel", "-q"):
        facts["power_mode"] = said
    if said := _ask("nvidia-smi", f"--query-gpu={_GPU_FACTS}", "--format=csv,noheader"):
        facts["gpu"] = said
    return facts


def _ask(program: str, *arguments: str) -> str:
    """Run a program of the system; nothing where it is missing or fails."""
    if not (path := shutil.which(program)):
        return ""
    with suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run(
            [path, *arguments], capture_output=True, text=True, check=False, timeout=_LIMIT_S
        )
        return " ".join(said.stdout.split()) if said.returncode == 0 else ""
    return ""


def _clocks_mhz() -> list[int]:
    # ARM's /proc/cpuinfo tells no clock, and a virtual machine has no cpufreq.
    if clocks := _sys_clocks("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"):
        return [round(khz / 1e3) for _, khz in clocks]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return [round(float(line.split(":")[1])) for line in lines if line.startswith("cpu MHz")]


def _sys_clocks(pattern: str) -> list[tuple[Path, int]]:
    """Read the files that match: cpufreq's are in kHz, devfreq's in Hz (the kernel's ABI)."""
    clocks = []
    for file in sorted(_SYS.glob(pattern), key=lambda file: natural_key(str(file))):
        with suppress(OSError, ValueError):  # a core that is off has none
            clocks.append((file, int(file.read_text())))
    return clocks


def resident_mib() -> float:
    """Memory that this process holds now, in MiB."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return peak_mib()
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def peak_mib() -> float:
    """Most memory that this process ever held, in MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
