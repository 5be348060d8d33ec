"""An emulated USB capture card, in front of the kernel's own ``uvcvideo`` driver.

The card is a process that speaks USB/IP ("USB/IP protocol" in the kernel's documentation) to the
virtual host controller ``vhci-hcd``: a device of the "USB Device Class Definition for Video
Devices 1.0" that sends YUY2 pictures over a bulk endpoint. Runs in the guest, as root.
"""

import contextlib
import multiprocessing
import select
import socket
import struct
import time
from pathlib import Path

from veintrack.tracker.frame import U8

__all__ = ["UsbCard", "wait_until_empty"]

_PORTS = Path("/sys/devices/platform/vhci_hcd.0")
_PAYLOAD = 16384  # the most that uvcvideo asks for at once from a bulk endpoint
_HIGH_SPEED = 3
_SUBMIT, _UNLINK, _SUBMITTED, _UNLINKED = 1, 2, 3, 4
_YUY2 = b"YUY2" + bytes.fromhex("00001000800000aa00389b71")


class UsbCard:
    """A card in a port; it sends pictures from when a driver asks until it is unplugged.

    Parameters
    ----------
    port : int
        0 or 1: port of the virtual controller.
    pictures : ndarray of shape (N, H, W), uint8
        Grey levels, sent again and again.
    rate_hz : float
        Frames per second.
    silent : bool
        Send none until :meth:`go_on`.
    """

    def __init__(self, port: int, pictures: U8, rate_hz: float, *, silent: bool = False) -> None:
        self.port = port
        self._orders, theirs = socket.socketpair()
        fork = multiprocessing.get_context("fork")
        self._process = fork.Process(
            target=_serve, args=(port, pictures, rate_hz, silent, theirs), daemon=True
        )
        self._process.start()
        theirs.close()

    def node(self, timeout_s: float = 10.0) -> Path:
        """Wait for the node that captures; the card's other one carries metadata."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for folder in _PORTS.glob(f"usb*/*-{self.port + 1}/*/video4linux/video*"):
                with contextlib.suppress(OSError):
                    if (folder / "index").read_text().strip() == "0":
                        node = Path("/dev") / folder.name
                        if node.exists():
                            return node
            time.sleep(0.02)
        raise TimeoutError(f"the card in port {self.port} got no node within {timeout_s} s")

    def stall(self) -> None:
        """Stay plugged in and send nothing."""
        self._orders.send(b"s")

    def go_on(self) -> None:
        """Send again."""
        self._orders.send(b"g")

    def unplug(self) -> None:
        """Leave the port, and wait until the kernel has seen it."""
        self._orders.send(b"u")
        self._process.join(10)
        wait_until_empty(self.port)


def wait_until_empty(*ports: int) -> None:
    """Wait until the kernel has let go of what was in some ports, or in all."""
    end = time.monotonic() + 10
    while any(list(_PORTS.glob(f"usb*/*-{port + 1}")) for port in ports or (0, 1)):
        if time.monotonic() > end:
            raise TimeoutError("a card that was unplugged is still there")
        time.sleep(0.01)


def _serve(port: int, pictures: U8, rate_hz: float, silent: bool, orders: socket.socket) -> None:
    ours, kernels = socket.socketpair()
    device = 0x10002 + port
    (_PORTS / "attach").write_text(f"{port} {kernels.fileno()} {device} {_HIGH_SPEED}")
    kernels.close()
    with contextlib.suppress(ConnectionError, EOFError):  # the other end went first
        _Card(ours, [_yuy2(p) for p in pictures], pictures.shape[1:], rate_hz, silent).run(orders)
    with contextlib.suppress(OSError):
        (_PORTS / "detach").write_text(f"{port}")


def _yuy2(grey: U8) -> bytes:
    """Put grey levels into luma, 16 to 235, with chroma in its middle."""
    luma = (16 + grey.astype("u2") * 219 // 255).astype("u1")
    pairs = bytearray(b"\x80" * (2 * luma.size))
    pairs[::2] = luma.tobytes()
    return bytes(pairs)


class _Card:
    """Answers the kernel's requests: descriptors and settings at once, pictures when due."""

    def __init__(
        self,
        kernel: socket.socket,
        pictures: list[bytes],
        shape: tuple[int, ...],
        rate_hz: float,
        silent: bool,
    ) -> None:
        self._kernel, self._pictures, self._silent = kernel, pictures, silent
        self._period_s = 1 / rate_hz
        self._device, self._configuration, self._probe = _descriptors(shape, rate_hz)
        self._waiting: list[int] = []  # bulk requests without an answer, oldest first
        self._left = b""  # what is still to be sent of a picture
        self._number = 0
        self._due_s = 0.0

    def run(self, orders: socket.socket) -> None:
        """Serve until the order to unplug."""
        while True:
            ready, _, _ = select.select([self._kernel, orders], [], [], self._pause_s())
            if orders in ready:
                order = orders.recv(1)
                if order in (b"u", b""):
                    return
                self._silent = order == b"s"
            if self._kernel in ready:
                self._take_request()
            self._send_pictures()

    def _pause_s(self) -> float | None:
        if self._silent or not self._waiting:
            return None
        return max(0.0, self._due_s - time.monotonic())

    def _read(self, count: int) -> bytes:
        data = self._kernel.recv(count, socket.MSG_WAITALL)
        if len(data) < count:
            raise EOFError
        return data

    def _take_request(self) -> None:
        head = self._read(48)
        command, number, _, inwards, endpoint = struct.unpack(">5I", head[:20])
        if command == _UNLINK:
            (other,) = struct.unpack(">I", head[20:24])
            known = other in self._waiting
            if known:
                self._waiting.remove(other)
            status = -104 if known else 0  # ECONNRESET: taken back in time
            self._kernel.sendall(struct.pack(">5Ii24x", _UNLINKED, number, 0, 0, 0, status))
            return
        (length,) = struct.unpack(">i", head[24:28])
        sent = self._read(length) if not inwards and length > 0 else b""
        if endpoint:
            if not self._waiting and time.monotonic() - self._due_s > 0.5:  # a new stream
                self._left, self._due_s = b"", time.monotonic()
            self._waiting.append(number)
        else:
            self._control(number, head[40:48], sent)

    def _answer(self, number: int, data: bytes = b"", *, took: int = 0, status: int = 0) -> None:
        fields = (_SUBMITTED, number, 0, 0, 0, status, len(data) or took, 0, 0, 0)
        self._kernel.sendall(struct.pack(">5I5i8x", *fields) + data)

    def _control(self, number: int, setup: bytes, sent: bytes) -> None:
        kind, request, value, index, length = struct.unpack("<BBHHH", setup)
        data = self._reply(kind, request, value, index)
        if data is None:
            self._answer(number, status=-32)  # EPIPE: no such request
        elif kind & 0x80:
            self._answer(number, data[:length])
        else:
            self._answer(number, took=len(sent))

    def _reply(self, kind: int, request: int, value: int, index: int) -> bytes | None:
        """Answer a control request (USB 2.0 section 9.4, UVC 1.0 section 4); None to refuse."""
        if (kind, request) == (0x80, 6):  # a descriptor
            found = {1: self._device, 2: self._configuration, 3: _text(value & 255)}
            return found.get(value >> 8)
        if kind in (0x80, 0x81, 0x82) and request == 0:  # status
            return b"\0\0"
        if kind in (0x00, 0x01, 0x02):  # address, configuration, interface, halt
            return b""
        if kind == 0x21 and request == 1:  # settings: there is but one
            return b""
        if kind == 0xA1 and index & 255 == 1:  # the stream: what can be set, and is
            lengths = {0x85: struct.pack("<H", len(self._probe)), 0x86: b"\x03"}
            return lengths.get(request, self._probe)
        return b"\0" if kind == 0xA1 and value >> 8 == 2 else None  # the last error: none

    def _send_pictures(self) -> None:
        """Fill the waiting bulk requests; each starts with the two bytes of a payload header."""
        while self._waiting and not self._silent:
            if not self._left:
                now_s = time.monotonic()
                if now_s < self._due_s:
                    return
                self._due_s = max(self._due_s + self._period_s, now_s)
                self._number += 1
                self._left = self._pictures[self._number % len(self._pictures)]
            part, self._left = self._left[: _PAYLOAD - 2], self._left[_PAYLOAD - 2 :]
            last = 0x02 if not self._left else 0
            head = bytes((2, 0x80 | last | self._number & 1))
            self._answer(self._waiting.pop(0), head + part)


def _text(index: int) -> bytes:
    if index == 0:
        return struct.pack("<BBH", 4, 3, 0x0409)  # English
    text = ("veintrack", "capture card", "0001")[min(index, 3) - 1].encode("utf-16le")
    return bytes((2 + len(text), 3)) + text


def _descriptors(shape: tuple[int, ...], rate_hz: float) -> tuple[bytes, bytes, bytes]:
    """Write the descriptors of the device and its configuration, and its only stream settings."""
    height, width = shape
    size = 2 * width * height
    interval = round(1e7 / rate_hz)
    bits = round(size * 8 * rate_hz)
    device = struct.pack(
        "<BBHBBBBHHHBBBB", 18, 1, 0x0200, 0xEF, 2, 1, 64, 0x1D6B, 0x0104, 0x0100, 1, 2, 3, 1
    )
    units = bytes((17, 0x24, 2, 1, 1, 2, 0, 0)) + bytes(6) + bytes((2, 0, 0))  # a camera
    units += bytes((9, 0x24, 3, 2, 1, 1, 0, 1, 0))  # its output
    control = struct.pack("<BBBHHIBB", 13, 0x24, 1, 0x0100, 13 + len(units), 48000000, 1, 1)
    form = bytes((27, 0x24, 4, 1, 1)) + _YUY2 + bytes((16, 1, 0, 0, 0, 0))
    form += struct.pack("<5BHH", 30, 0x24, 5, 1, 0, width, height)
    form += struct.pack("<4IBI", bits, bits, size, interval, 1, interval)
    form += bytes((6, 0x24, 0x0D, 1, 1, 4))  # colours: sRGB primaries and curve, BT.601 matrix
    stream = bytes((14, 0x24, 1, 1)) + struct.pack("<H", 14 + len(form))
    stream += bytes((0x81, 0, 2, 0, 0, 0, 1, 0))
    body = bytes((8, 11, 0, 2, 0x0E, 3, 0, 0))  # two interfaces that belong together
    body += bytes((9, 4, 0, 0, 0, 0x0E, 1, 0, 0)) + control + units
    body += bytes((9, 4, 1, 0, 1, 0x0E, 2, 0, 0)) + stream + form
    body += struct.pack("<4BHB", 7, 5, 0x81, 2, 512, 0)
    configuration = struct.pack("<BBH5B", 9, 2, 9 + len(body), 2, 1, 0, 0x80, 250) + body
    probe = struct.pack("<HBBI5HII", 1, 1, 1, interval, 0, 0, 0, 0, 0, size, _PAYLOAD)
    return device, configuration, probe
