"""TensorRT or TensorRT-RTX, found on use, whose every refusal is an error that says why.

Both libraries return None or False where others raise, and tell the reason to a logger. They know
one logger a process (a second is silently ignored), so a process uses one of the two, for good.

`trt` stands for the library. Type checkers see ``tensorrt``, so that code can be held against the
stubs of any version; while running, its first use imports what is there.
"""

import logging
from collections import deque
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from veintrack.errors import BackendMissingError, EngineError

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["LIBRARIES", "call", "logger", "trt", "use"]

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)
LIBRARIES = ("tensorrt", "tensorrt_rtx")  # in the order in which they are looked for
_WORTH_TELLING = 3  # lines of the library's log in one message
_used: ModuleType | None = None
_errors: deque[str] = deque(maxlen=_WORTH_TELLING)


def use(name: str | None = None) -> ModuleType:
    """Import a library of :data:`LIBRARIES`, or the first that is installed.

    Raises
    ------
    BackendMissingError
        If it is not installed, or its shared libraries are not.
    EngineError
        If this process already uses the other one.
    """
    global _used
    if _used is None:
        _used = _import_first((name,) if name else LIBRARIES)
    if name not in (None, _used.__name__):
        raise EngineError(
            f"this process already uses {_used.__name__}: {name} needs a process of its own"
        )
    return _used


def _import_first(names: tuple[str, ...]) -> ModuleType:
    broken = ""
    for name in names:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in names:
                broken = f"{name} does not load: {error}; "
        except (ImportError, OSError) as error:  # the package is there, its libraries are not
            broken = f"{name} does not load: {error}; "
    raise BackendMissingError(
        f'{broken or "TensorRT is not installed: "}pip install "veintrack[tensorrt]", or on a '
        "Jetson use an environment made with --system-site-packages"
    )


class _Library:
    """Stands for the library until it is used, so that importing this module needs none."""

    def __getattr__(self, name: str) -> Any:
        return getattr(use(), name)


if not TYPE_CHECKING:
    trt = _Library()


@cache
def logger() -> "trt.ILogger":
    """Give the process's one logger: it keeps errors for :func:`call` and tells `logging`."""
    error, verbose = int(trt.ILogger.Severity.ERROR), int(trt.ILogger.Severity.VERBOSE)

    class Collector(trt.ILogger):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 asks for this form

        def log(self, severity: "trt.ILogger.Severity", msg: str) -> None:
            level = int(severity)
            if level >= verbose:
                return
            line = " ".join(msg.split())
            if level <= error:
                _errors.append(line)
            log.debug("%s", line)

    return Collector()


def call(doing: str, function: Callable[P, T | None], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the library; None, False or an exception becomes an error with the reason it logged.

    Parameters
    ----------
    doing : str
        What is tried, to go after "could not".
    function : callable
        Of the library, with its arguments.

    Raises
    ------
    EngineError
        If the library did not do it.
    """
    _errors.clear()
    try:
        value = function(*args, **kwargs)
    except (RuntimeError, TypeError, ValueError, MemoryError) as error:
        # pybind11 raises TypeError where a constructor returned nothing: the log says more
        raise _refusal(doing, str(error)) from error
    if value is None or value is False:
        raise _refusal(doing, "it gave no reason")
    return value


def _refusal(doing: str, otherwise: str) -> EngineError:
    library = use()
    reason = "; ".join(_errors) or otherwise
    return EngineError(f"{library.__name__} {library.__version__} could not {doing}: {reason}")
