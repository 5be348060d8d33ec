"""What the command line lets the rooms say while they work."""

import logging

__all__ = ["let_speak"]


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
