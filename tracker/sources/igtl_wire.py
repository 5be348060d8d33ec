"""A connection to an OpenIGTLink sender that never blocks for long."""

import contextlib
import os
import queue
import select
import socket
import threading
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from veintrack.errors import SourceLostError, SourceNotFoundError
from veintrack.tracker.sources.igtl_messages import HEADER_BYTES, Header, Message, parse_header

__all__ = ["Connection", "connect"]

_CHUNK_BYTES = 1 << 20
_SLICE_S = 0.1  # how long close() may have to wait for the socket


def connect(
    host: str, port: int, limit_s: float, cancelled: Callable[[], bool] = lambda: False
) -> "Connection":
    """Connect to a sender, trying each of its addresses.

    Raises
    ------
    SourceNotFoundError
        If nobody answers there in time, or nobody waits any more.
    """
    where, why = f"{host}:{port}", f"no answer within {limit_s:g} s"
    until_ns = monotonic_ns() + round(limit_s * 1e9)
    for family, kind, protocol, _, address in _resolve(host, port, until_ns, cancelled):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setblocking(False)
            _finish_connecting(opened, address, until_ns, cancelled)
            return Connection(opened, where, cancelled)
        except OSError as error:
            opened.close()
            why = error.strerror or why
    raise SourceNotFoundError(f"no OpenIGTLink sender at {where}: {why}")


def _resolve(host: str, port: int, until_ns: int, cancelled: Callable[[], bool]) -> list[Any]:
    """Look a name up, in a thread that is left behind if it is not done in time."""
    done: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            done.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:  # a name with a label too long is no OSError
            done.put(error if isinstance(error, OSError) else OSError(0, "not a name"))

    threading.Thread(target=ask, name="veintrack-resolve", daemon=True).start()
    while not cancelled():
        try:
            found = done.get(timeout=_SLICE_S)
        except queue.Empty:
            if monotonic_ns() >= until_ns:
                break
            continue
        if isinstance(found, OSError):
            raise SourceNotFoundError(f"no computer named {host} is known: {found.strerror}")
        return found
    raise SourceNotFoundError(f"no computer named {host} is known: no answer in time")


def _finish_connecting(
    opened: socket.socket, address: Any, until_ns: int, cancelled: Callable[[], bool]
) -> None:
    try:
        opened.connect(address)
    except BlockingIOError:
        while not _is_ready(opened, select.POLLOUT):
            if monotonic_ns() >= until_ns or cancelled():
                raise TimeoutError from None
    if number := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(number, os.strerror(number)) from None


def _is_ready(opened: socket.socket, event: int) -> bool:
    """Wait for a slice of time; poll, because select fails with more than 1024 open files."""
    poll = select.poll()
    poll.register(opened, event)
    return bool(poll.poll(round(_SLICE_S * 1e3)))


class Connection:
    """Messages from a sender. One thread reads; any may close.

    Parameters
    ----------
    opened : socket.socket
        Connected and non-blocking. This object closes it.
    where : str
        The sender's address, for messages.
    cancelled : callable
        Says that nobody waits any more.
    """

    def __init__(
        self, opened: socket.socket, where: str, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        self._socket, self._where, self._cancelled = opened, where, cancelled
        self._lock = threading.Lock()  # held around each look at the socket, so that its number
        self._closed = threading.Event()  # cannot become another file's under the reader
        self._buffer = bytearray(_CHUNK_BYTES)
        #: For how long the reader has waited for messages to begin, in all.
        self.waited_ns = 0

    @property
    def is_closed(self) -> bool:
        """Whether it was closed here."""
        return self._closed.is_set()

    def next_message(
        self, wanted: Callable[[Header], bool], until_ns: int
    ) -> Message | Header | None:
        """Wait for a message.

        Returns
        -------
        Message or Header or None
            The message; of one that is not `wanted`, the header only; None if it did not come
            by `until_ns`, the connection was closed here or nobody waits; it is of no use then.

        Raises
        ------
        SourceLostError
            If the sender closed the connection, or sends something else.
        """
        begun_ns = monotonic_ns()
        data = self._read(HEADER_BYTES, until_ns)
        self.waited_ns += monotonic_ns() - begun_ns
        if data is None:
            return None
        try:
            header = parse_header(data)
        except ValueError as error:
            raise SourceLostError(f"{self._where}: {error}") from error
        keep = wanted(header)
        body = self._read(header.size_bytes, until_ns, keep)
        if body is None:
            return None
        return Message(header, body, monotonic_ns()) if keep else header

    def _read(self, size_bytes: int, until_ns: int, keep: bool = True) -> bytearray | None:
        """Read so many bytes, into memory that grows only as they come."""
        read, count = bytearray(), 0
        while count < size_bytes:
            part = self._receive(min(size_bytes - count, _CHUNK_BYTES))
            if part is None:
                return None
            count += len(part)
            if keep:
                read += part
            if count < size_bytes and (monotonic_ns() >= until_ns or self._cancelled()):
                return None
        return read

    def _receive(self, limit_bytes: int) -> memoryview | None:
        """Take what is there, after at most a slice of time; None if closed here."""
        with self._lock:
            if self._closed.is_set():
                return None
            try:
                if not _is_ready(self._socket, select.POLLIN):
                    return memoryview(b"")
                count = self._socket.recv_into(self._buffer, limit_bytes)
            except OSError as error:
                if self._closed.is_set():
                    return None
                raise SourceLostError(
                    f"{self._where}: the connection failed: {error.strerror or error}"
                ) from error
            if count == 0 and not self._closed.is_set():
                raise SourceLostError(f"{self._where}: the sender closed the connection")
            return memoryview(self._buffer)[:count] if count else None

    def close(self) -> None:
        """Close it, at once. Safe to call twice, from any thread."""
        self._closed.set()
        with contextlib.suppress(OSError):  # not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the reader
        with self._lock:
            self._socket.close()
