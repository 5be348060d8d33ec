"""Keep freed memory in the process, instead of giving it back to the kernel at every step."""

import ctypes
import logging

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # <malloc.h>
_log = logging.getLogger(__name__)


def keep_freed_memory() -> bool:
    """Tell the C library to reuse freed blocks of any size.

    glibc maps every large block afresh and unmaps it when it is freed, so a training step on the
    CPU, which makes and frees hundreds of megabytes, spends up to half its time in the kernel,
    clearing pages. See mallopt(3).

    Returns
    -------
    bool
        Whether the C library took it; others than glibc have no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    wanted = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**28}
    taken = all(bool(mallopt(name, value)) for name, value in wanted.items())
    _log.debug("freed memory is %s", "kept" if taken else "given back")
    return taken
