"""OpenIGTLink out: the newest result, to everyone who connects.

3D Slicer, FAST, pyigtl and the like connect to the port and are sent each result as the messages
of :mod:`veintrack.tracker.sinks.igtl_pack`. One thread packs and sends, without ever waiting for a
client: whoever is ready gets the newest result, and whoever is not misses some.
"""

import errno
import ipaddress
import logging
import os
import selectors
import socket
import threading
import time

from veintrack.errors import OutputError
from veintrack.tracker.frame import FrameResult
from veintrack.tracker.sinks.igtl_pack import TRACKS_DEVICE, image_device, packed, track_device
from veintrack.tracker.sources.base import SourceInfo

__all__ = ["IgtlOut", "open_igtl_out"]

log = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1"
_MOST_CLIENTS = 32
_PATIENCE_S = 3.0  # a client that has taken nothing for so long is disconnected
_GLANCE_S = 0.05  # how often sockets are looked at while nothing comes
_SLICE_S = 0.005  # how often results are looked for while somebody has something to take
_LAST_S = 0.15  # at the end: what clients have to take the last result
_JOIN_S = 0.3
_BUFFER_BYTES = 1 << 18  # the kernel would hold megabytes for a slow client: seconds of the past
_QUERY_BYTES = 1 << 16


def open_igtl_out(address: str, info: SourceInfo) -> "IgtlOut":
    """Listen for OpenIGTLink clients.

    Parameters
    ----------
    address : str
        ``PORT`` or ``HOST:PORT``; without a host only this computer's programs can connect. Port 0
        takes any that is free.
    info : SourceInfo
        Of the source whose results are sent.

    Raises
    ------
    ValueError
        If `address` is none.
    OutputError
        If nothing can listen there.
    """
    host, port = _parsed(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        raise OutputError(_refusal(host, port, error)) from error
    return IgtlOut(listening, info)


def _parsed(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and int(port) < 2**16 and bool(host) == bool(colon)):
        raise ValueError(
            f"igtl_out must be PORT or HOST:PORT, such as 18944 or 0.0.0.0:18944, got {address!r}"
        )
    return host or _LOOPBACK, int(port)


def _refusal(host: str, port: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        why = "another program listens there"
    elif isinstance(number, int) and number > 0:
        why = os.strerror(number)
    else:
        why = "no computer of this name is known"
    return (
        f"OpenIGTLink cannot go out on {_joined(host, port)}: {why}; "
        "name another with --igtl-out [HOST:]PORT, port 0 takes any that is free"
    )


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class IgtlOut:
    """Sends the newest result to every client that is ready; tracking never waits for it.

    Time stamps are seconds since 1970. For a live source that is the wall clock and the monotonic
    clock, read together once at the start, and the capture time; a file's first result that is sent
    stands for the time of day at which it was handed over, and those after it follow by the file's
    own times.

    Parameters
    ----------
    listening : socket.socket
        Where clients connect. This object closes it.
    info : SourceInfo
        Of the source.

    Attributes
    ----------
    port : int
        Where clients connect.
    """

    def __init__(self, listening: socket.socket, info: SourceInfo) -> None:
        host, self.port = listening.getsockname()[:2]
        self.said = _said(host, self.port, info)
        self._offset_ns = time.time_ns() - time.monotonic_ns() if info.live else None
        self._newest: FrameResult | None = None
        self._packed: tuple[FrameResult | None, bytes] = (None, b"")
        self._clients: set[_Client] = set()
        self._ending_s: float | None = None
        self._listening = listening
        listening.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(listening, selectors.EVENT_READ)
        # Not a socket: to write to one would hand the interpreter over, in the middle of tracking.
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="veintrack-igtl-out", daemon=True)
        self._thread.start()

    def put(self, result: FrameResult) -> None:
        """Hand over one result; an older one that nobody was ready for is forgotten.

        Nothing is sent before the scan area is settled: the rest may name a patient.
        """
        if not result.scan_area_settled or self._ending_s is not None:
            return
        if self._offset_ns is None:
            self._offset_ns = time.time_ns() - result.time_ns
        self._newest = result
        if self._clients:
            self._news.set()

    def close(self) -> None:
        """Give clients a moment for the last result, and end. Safe to call twice."""
        if self._ending_s is None:
            self._ending_s = time.monotonic() + _LAST_S
            self._news.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        try:
            while not self._is_over():
                waits = self._ending_s is None and not any(c.busy for c in self._clients)
                if waits:
                    self._news.wait(_GLANCE_S)
                self._news.clear()
                for key, events in self._selector.select(0 if waits else _SLICE_S):
                    self._attend(key, events)
                self._serve()
        except Exception as error:  # whatever it met, tracking goes on
            log.warning("OpenIGTLink goes out no more: %s", error)
            log.debug("OpenIGTLink failed", exc_info=True)
        finally:
            self._ending_s = self._ending_s or time.monotonic()
            for client in self._clients:
                client.close()
            self._listening.close()
            self._selector.close()

    def _is_over(self) -> bool:
        """Whether the end was asked for and everybody has the last result, or had time for it."""
        if self._ending_s is None:
            return False
        waiting = any(c.busy or c.taken is not self._newest for c in self._clients)
        return not waiting or time.monotonic() >= self._ending_s

    def _attend(self, key: selectors.SelectorKey, events: int) -> None:
        """See to a socket that has something for us."""
        if key.fileobj is self._listening:
            self._welcome()
        elif events & selectors.EVENT_READ and not key.data.hears():
            self._drop(key.data)

    def _welcome(self) -> None:
        try:
            client = _Client(self._listening.accept()[0])
        except OSError:  # it has gone already, or there are too many open files
            time.sleep(_SLICE_S)
            return
        if len(self._clients) >= _MOST_CLIENTS:
            log.warning("OpenIGTLink: a client was refused, there are %d", _MOST_CLIENTS)
            client.close()
            return
        self._clients.add(client)
        self._selector.register(client.socket, selectors.EVENT_READ, client)

    def _serve(self) -> None:
        """Give the newest result to whoever has nothing left to take."""
        newest = self._newest
        for client in tuple(self._clients):
            there = client.send()
            if there and not client.busy and client.taken is not newest and newest is not None:
                client.give(newest, self._pack(newest))
                there = client.send()
            if there and client.still_for_s > _PATIENCE_S:
                log.warning("OpenIGTLink: a client read nothing for %g s: dropped", _PATIENCE_S)
                there = False
            if there:
                client.watch(self._selector)
            else:
                self._drop(client)

    def _pack(self, result: FrameResult) -> bytes:
        """Pack a result, once for all clients."""
        if self._packed[0] is not result:
            self._packed = (result, packed(result, result.time_ns + (self._offset_ns or 0)))
        return self._packed[1]

    def _drop(self, client: "_Client") -> None:
        self._clients.discard(client)
        self._selector.unregister(client.socket)
        client.close()


def _said(host: str, port: int, info: SourceInfo) -> str:
    devices = (image_device(info.spacing_mm), track_device("N", info.spacing_mm), TRACKS_DEVICE)
    said = f"OpenIGTLink on {_joined(host, port)}: {', '.join(devices)}"
    if ipaddress.ip_address(host).is_loopback:
        return said
    return f"{said}; whoever reaches this address sees the picture, and nothing is encrypted"


class _Client:
    """A client, and what it still has to take.

    Attributes
    ----------
    taken : FrameResult or None
        The result that it was given last.
    """

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.taken: FrameResult | None = None
        self._rest = memoryview(b"")
        self._moved_s = 0.0
        self._watched = False
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)

    @property
    def busy(self) -> bool:
        """Whether it has not taken all of what it was given."""
        return bool(self._rest)

    @property
    def still_for_s(self) -> float:
        """For how long it has taken nothing, though there is something to take."""
        return time.monotonic() - self._moved_s if self._rest else 0.0

    def give(self, result: FrameResult, messages: bytes) -> None:
        """Give it a result to take; it must have nothing left."""
        self.taken, self._rest = result, memoryview(messages)
        self._moved_s = time.monotonic()

    def send(self) -> bool:
        """Send as much as it takes at once; False if it is gone."""
        try:
            while self._rest:
                self._rest = self._rest[self.socket.send(self._rest) :]
                self._moved_s = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def hears(self) -> bool:
        """Read queries, which need no answer: everything is sent anyway. False if it is gone."""
        try:
            return bool(self.socket.recv(_QUERY_BYTES))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Have the selector say when it can take more, if there is more."""
        if self.busy is not self._watched:
            self._watched = self.busy
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._watched else 0)
            selector.modify(self.socket, events, self)

    def close(self) -> None:
        self.socket.close()
