"""OpenIGTLink senders for tests: pyigtl's own server, and scripts that may misbehave."""

import itertools
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from veintrack.tracker.frame import Frame
from veintrack.tracker.sources.igtl import IgtlSource, open_igtl

PICTURE = np.random.default_rng(0).integers(0, 255, (24, 32), np.uint8)
SCALE = ((0.0, 0.2, 0.0), (-0.1, 0.0, 0.0), (0.0, 0.0, 1.0))  # columns: 0.2 mm in x, 0.1 in y
UNKNOWN = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def message(
    kind: str = "IMAGE",
    device: str = "Probe",
    body: bytes = b"",
    sender_s: float = 0.0,
    *,
    version: int = 1,
    size: int | None = None,
) -> bytes:
    """Lay out a message as the specification does."""
    seconds = int(sender_s)
    fraction = int((sender_s - seconds) * 2**32)
    length = len(body) if size is None else size
    head = struct.pack(
        ">H12s20sIIQQ", version, kind.encode(), device.encode(), seconds, fraction, length, 0
    )
    return head + body


def image_body(
    levels: NDArray[Any] = PICTURE,
    columns: tuple[tuple[float, ...], ...] = SCALE,
    **changes: Any,
) -> bytes:
    codes = {"uint8": 3, "int16": 4, "uint16": 5, "float32": 10}
    fields: dict[str, Any] = {
        "channels": levels.shape[2] if levels.ndim == 3 else 1,
        "code": codes[levels.dtype.name],
        "endian": 1 if levels.dtype.byteorder == ">" else 2,
        "size": (levels.shape[1], levels.shape[0], 1),
    } | changes
    size: tuple[int, ...] = fields["size"]
    part = (0, 0, 0, *size)
    numbers = (*itertools.chain(*columns), 0.0, 0.0, 0.0)
    head = struct.pack(
        ">HBBBB3H12f6H",
        2,
        fields["channels"],
        fields["code"],
        fields["endian"],
        1,
        *size,
        *numbers,
        *fields.get("part", part),
    )
    return head + levels.tobytes()


class Sender:
    """A server on loopback that runs a script for each connection, in a thread of its own."""

    def __init__(self, *scripts: Callable[[socket.socket], None]) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(scripts,))
        self._thread.start()

    def _serve(self, scripts: tuple[Callable[[socket.socket], None], ...]) -> None:
        for script in scripts:
            with suppress(OSError):
                connection, _ = self._listening.accept()
                with connection:
                    script(connection)

    def url(self, device: str = "Probe") -> str:
        return f"igtl://127.0.0.1:{self.port}/{device}"

    def close(self) -> None:
        self.stop.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)
        assert not self._thread.is_alive()


@contextmanager
def sending(*scripts: Callable[[socket.socket], None]) -> Iterator[Sender]:
    sender = Sender(*scripts)
    try:
        yield sender
    finally:
        sender.close()


def send_all(*messages: bytes, then_s: float = 0.0) -> Callable[[socket.socket], None]:
    """Send these and stay silent for a while before hanging up."""

    def script(connection: socket.socket) -> None:
        connection.sendall(b"".join(messages))
        with suppress(OSError):
            connection.settimeout(then_s or 0.01)
            connection.recv(1)  # until the reader hangs up, or the time is over

    return script


def stream(rate_hz: float, count: int, *, then_s: float = 0.0) -> Callable[[socket.socket], None]:
    """Send pictures at a rate, then fall silent."""

    def script(connection: socket.socket) -> None:
        for number in range(count):
            connection.sendall(message(body=image_body(), sender_s=1000 + number / rate_hz))
            time.sleep(1 / rate_hz)
        send_all(then_s=then_s)(connection)

    return script


@contextmanager
def pyigtl_server(port: int = 0, **changes: Any) -> Iterator[int]:
    """Serve moving pictures at 50 Hz, as PLUS does, with a transform beside them."""
    pyigtl = pytest.importorskip("pyigtl", reason="to serve pictures: pip install pyigtl")

    base: Any = pyigtl.OpenIGTLinkServer

    class Server(base):  # type: ignore[misc]
        def _print_host_and_port_thread(self) -> None:
            """Not needed, and it outlives the server by up to 5 s."""

    server = Server(port=port, local_server=True)
    for number, handler in server._previous_signal_handlers.items():
        signal.signal(number, handler)  # what the server set
    stopped = threading.Event()
    matrix = np.diag([0.2, 0.1, 1.0, 1.0])

    def feed() -> None:
        for number in itertools.count():
            if stopped.wait(0.02):
                return
            moved = np.roll(PICTURE, number, axis=1)[None]
            stamp = 1_700_000_000 + number * 0.02
            fields = {"image": moved, "timestamp": stamp, "device_name": "Probe"} | changes
            server.send_message(pyigtl.TransformMessage(device_name="Tool"), wait=False)
            server.send_message(
                pyigtl.ImageMessage(ijk_to_world_matrix=matrix, **fields), wait=False
            )

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield server.server_address[1]
    finally:
        stopped.set()
        feeder.join(5)
        server.stop()


def first(sender: Sender, device: str = "Probe") -> tuple[IgtlSource, Frame]:
    with open_igtl(sender.url(device)) as source:
        return source, next(iter(source))
