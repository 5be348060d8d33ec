"""``python -m veintrack`` and the ``veintrack`` command."""

import os
import sys
import threading

from veintrack.tracker.cli.stopping import ignore_signals, leave_on_signal

__all__ = ["main"]


def main() -> int:
    """Run the command line; returns the exit code."""
    leave_on_signal()
    from veintrack.tracker.cli.app import run

    code = run(sys.argv[1:])
    ignore_signals()
    if any(one.name.startswith("veintrack-") for one in threading.enumerate()):
        # A thread of ours hangs in a library, which may hold up or crash an ordinary end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
