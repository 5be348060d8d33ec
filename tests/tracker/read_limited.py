"""Read files under limits of memory and time, one JSON line each; run as a program.

Usage: ``python -W error read_limited.py FILE...``
"""

import json
import resource
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any
from zlib import crc32

from veintrack.errors import VeintrackError
from veintrack.tracker.sources import open_source

MEMORY = 1 << 30  # bytes of address space, libraries included
PATIENCE_S = 5


def read(path: Path) -> dict[str, Any]:
    """Read one file to its end and say how that went."""
    told: dict[str, Any] = {"error": None, "message": "", "frames": []}
    started = time.process_time()
    signal.alarm(PATIENCE_S)
    try:
        with open_source(path) as source:
            for frame in source:
                shape = list(frame.pixels.shape)
                sums = crc32(frame.pixels.tobytes())
                told["frames"].append([frame.index, frame.capture_ns, shape, sums])
    except VeintrackError as error:
        told |= {"error": type(error).__name__, "message": str(error)}
    except BaseException as error:  # what must not happen: it is reported, not raised
        told |= {"error": f"NOT OURS: {error!r}"}
    signal.alarm(0)
    return told | {"cpu_s": time.process_time() - started}


def out_of_time(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {PATIENCE_S} s")


def main(names: list[str]) -> None:
    signal.signal(signal.SIGALRM, out_of_time)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for name in names:
        print(json.dumps(read(Path(name))), flush=True)  # noqa: T201
    # Not ru_maxrss: that also remembers the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    used = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps({"memory": used}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
