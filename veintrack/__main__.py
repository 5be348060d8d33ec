"""``python -m veintrack`` and the ``veintrack`` command."""

import signal
import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, at any time
    from veintrack.tracker.cli.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
