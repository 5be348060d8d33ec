"""Errors that callers may want to catch.

Misuse raises plain ``ValueError``. What goes wrong in the world raises one of these; each has
a second parent, the fitting builtin, so that code that knows nothing of veintrack catches it too.
"""

__all__ = [
    "BackendMissingError",
    "EngineError",
    "ModelFileError",
    "OutputError",
    "SourceLostError",
    "SourceNotFoundError",
    "SourceStalledError",
    "SourceUnreadableError",
    "VeintrackError",
]


class VeintrackError(Exception):
    """Base of every error that veintrack raises on purpose."""


class SourceNotFoundError(VeintrackError, FileNotFoundError):
    """The named source does not exist."""


class SourceUnreadableError(VeintrackError, OSError):
    """The named source exists, but frames cannot be read from it."""


class SourceLostError(VeintrackError, ConnectionError):
    """The source delivered frames and then failed before its end."""


class SourceStalledError(SourceLostError):
    """The source is there, and delivers no frame any more."""


class ModelFileError(VeintrackError, OSError):
    """A model file is missing, unreadable, or lacks what veintrack needs to know of it."""


class EngineError(VeintrackError, RuntimeError):
    """An inference engine refused its model or its input, or its device failed."""


class BackendMissingError(EngineError, ImportError):
    """A library that was asked for is not installed; the message names the extra to install."""


class OutputError(VeintrackError, OSError):
    """A result could not be written."""
