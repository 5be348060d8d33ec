"""``python -m veintrack`` and the ``veintrack`` command."""

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line; returns the exit code."""
    from veintrack.tracker.cli.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
