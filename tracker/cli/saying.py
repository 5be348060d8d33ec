"""What the command line says, and lets the rooms say while they work."""

import logging
import re

__all__ = ["as_line", "let_speak"]

_ADDRESS = re.compile(r"(?i)[a-z][a-z0-9+.-]*:/\S*")


def let_speak(name: str) -> None:
    """Show what a room says of its work, not its warnings alone.

    Parameters
    ----------
    name : str
        Of its loggers, such as ``veintrack.engines``.
    """
    log = logging.getLogger(name)
    if not log.isEnabledFor(logging.INFO):  # with --debug, more than that is said already
        log.setLevel(logging.INFO)


def as_line(message: str) -> str:
    """Make one line of a message; no address in it shows its password."""
    from veintrack.tracker.sources.address import masked

    return " ".join(_ADDRESS.sub(lambda found: masked(found[0]), message).split())
