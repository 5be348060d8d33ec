"""Senders on loopback that can be cut, restored and stalled: RTSP and HTTP, with real exchanges.

The RTSP one speaks RFC 2326 as far as a player needs it, with H.264 in RTP packets (RFC 6184)
interleaved on the RTSP connection. Every picture carries the number that it was sent under.
"""

import base64
import contextlib
import socket
import socketserver
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler
from typing import TypeVar

import av
import cv2
import numpy as np
from numpy.typing import NDArray

SHAPE_PX = (128, 160)
_BITS, _CELL_PX = 10, 16
_RTP_LIMIT = 400  # bytes of payload in a packet
Pixels = NDArray[np.uint8]
S = TypeVar("S", bound="Sender")


@lru_cache(maxsize=512)
def picture(number: int, shape_px: tuple[int, int] = SHAPE_PX) -> Pixels:
    """Draw speckle with a dark vessel that moves, and `number` in cells along the upper edge."""
    height, width = shape_px
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.random.default_rng(5).integers(90, 170, shape_px, np.uint8)
    x_px = width / 2 + 20 * np.sin(number / 7)
    pixels[((columns - x_px) / 14) ** 2 + ((rows - 0.6 * height) / 10) ** 2 < 1] = 20
    for bit in range(_BITS):
        pixels[:_CELL_PX, bit * _CELL_PX : (bit + 1) * _CELL_PX] = 235 if number >> bit & 1 else 16
    return pixels


def number_of(pixels: Pixels) -> int:
    """Read the number back."""
    middle = _CELL_PX // 2
    return sum(int(pixels[middle, bit * _CELL_PX + middle] > 128) << bit for bit in range(_BITS))


class H264:
    """An encoder without delay: a picture in, its NAL units out."""

    def __init__(self, shape_px: tuple[int, int], rate_hz: int) -> None:
        self._shape_px = shape_px
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, av.VideoCodecContext)
        context.height, context.width = shape_px
        context.pix_fmt, context.time_base = "yuv420p", Fraction(1, rate_hz)
        context.framerate = Fraction(rate_hz)
        context.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "12", "g": "10"}
        self._context, self._count = context, 0

    def encode(self, number: int) -> list[bytes]:
        frame = av.VideoFrame.from_ndarray(picture(number, self._shape_px), "gray")
        frame = frame.reformat(format="yuv420p")
        frame.pts, self._count = self._count, self._count + 1
        stream = b"".join(bytes(packet) for packet in self._context.encode(frame))
        parts = stream.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
        return [part for part in parts if part]


class Sender(ABC):
    """What both senders share: pace, numbers, and the faults that tests ask for.

    Parameters
    ----------
    rate_hz : int
        Pictures a second.
    """

    def __init__(self, rate_hz: int = 50) -> None:
        self.rate_hz, self.shape_px = rate_hz, SHAPE_PX
        self.stalled = False  # connections stay, and nothing is sent
        self.damage: set[int] = set()  # numbers whose picture is sent damaged
        self.sent: list[tuple[int, int]] = []  # (number, time.monotonic_ns when it was encoded)
        self.password = ""
        self._zero_s = time.monotonic()
        self._clients: set[socket.socket] = set()
        self._cut = threading.Event()
        self._port = 0
        self.restore()

    def restore(self) -> None:
        """Listen, on the same port as before."""
        sender = self

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a reader that goes away is no news

            def finish_request(self, request: object, _: object) -> None:
                assert isinstance(request, socket.socket)
                sender._clients.add(request)
                try:
                    sender.serve(request)
                finally:
                    sender._clients.discard(request)

        self._cut.clear()
        self._server = Server(("127.0.0.1", self._port), BaseHTTPRequestHandler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def cut(self) -> None:
        """Drop every connection and accept no new one."""
        self._cut.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def __enter__(self: S) -> S:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._cut.is_set():
            self.cut()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def numbers(self) -> Iterator[int]:
        """Wait for each picture's turn and give its number, until the sender is cut."""
        number = int((time.monotonic() - self._zero_s) * self.rate_hz)
        while not self._cut.is_set():
            number += 1
            wait_s = self._zero_s + number / self.rate_hz - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            if not self.stalled:
                self.sent.append((number, time.monotonic_ns()))
                yield number

    @abstractmethod
    def serve(self, client: socket.socket) -> None:
        """Answer one client until it leaves, or the sender is cut."""


class RtspSender(Sender):
    """An RTSP server of one live H.264 stream.

    Attributes
    ----------
    udp : bool
        Whether it refuses to send on the RTSP connection, and sends UDP packets.
    """

    udp = False

    def serve(self, client: socket.socket) -> None:
        send: Callable[[bytes], object] = partial(interleave, client)
        with (
            client.makefile("rb") as lines,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        ):
            while line := lines.readline():
                method = line.split(b" ")[0].decode()
                headers = {}
                while (line := lines.readline().strip()) and b":" in line:
                    key, value = line.decode().split(":", 1)
                    headers[key.lower()] = value.strip()
                client.sendall(self._answer(method, headers))
                if method == "SETUP" and self.udp and "client_port=" in headers["transport"]:
                    port = int(headers["transport"].split("client_port=")[1].split("-")[0])
                    datagrams.connect(("127.0.0.1", port))
                    send = datagrams.send
                if method == "PLAY":
                    self._play(send)
                    return

    def _answer(self, method: str, headers: dict[str, str]) -> bytes:
        status, extra, body = "200 OK", "", ""
        expected = base64.b64encode(f"user:{self.password}".encode()).decode()
        if self.password and headers.get("authorization") != f"Basic {expected}":
            status, extra = "401 Unauthorized", 'WWW-Authenticate: Basic realm="scanner"\r\n'
        elif method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            body = self._description()
            extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP" and self.udp:
            if "TCP" in headers["transport"]:
                status = "461 Unsupported Transport"
            else:
                extra = f"Transport: {headers['transport']};server_port=6970-6971\r\nSession: 1\r\n"
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 12345678\r\n"
        elif method == "PLAY":
            extra = "Session: 12345678\r\nRange: npt=0.000-\r\n"
        return f"RTSP/1.0 {status}\r\nCSeq: {headers.get('cseq', 0)}\r\n{extra}\r\n{body}".encode()

    def _description(self) -> str:
        units = H264(self.shape_px, self.rate_hz).encode(0)
        sets = [base64.b64encode(u).decode() for u in units if u[0] & 31 in (7, 8)]
        return (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
            f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={','.join(sets)}\r\n"
            "a=control:track1\r\n"
        )

    def _play(self, send: Callable[[bytes], object]) -> None:
        encoder, sequence, shape_px = H264(self.shape_px, self.rate_hz), 0, self.shape_px
        for number in self.numbers():
            if shape_px != self.shape_px:  # the scanner's operator chose another format
                encoder, shape_px = H264(self.shape_px, self.rate_hz), self.shape_px
            stamp = (number * 90_000 // self.rate_hz + 4_000_000_000) % 2**32
            payloads = [part for unit in encoder.encode(number) for part in fragments(unit)]
            if number in self.damage:
                payloads = payloads[:-1]  # the end of its last slice is lost on the way
            for payload in payloads:
                marker = 0x80 if payload is payloads[-1] else 0
                header = struct.pack(">BBHII", 0x80, 96 | marker, sequence, stamp, 7)
                sequence = (sequence + 1) % 2**16
                send(header + payload)


def interleave(client: socket.socket, packet: bytes) -> None:
    """Send an RTP packet on the RTSP connection (RFC 2326, 10.12)."""
    client.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)


def fragments(unit: bytes) -> list[bytes]:
    """Split a NAL unit into payloads of RTP packets: whole, or as FU-A (RFC 6184, 5.8)."""
    if len(unit) <= _RTP_LIMIT:
        return [unit]
    indicator, kind, body = unit[0] & 0xE0 | 28, unit[0] & 31, unit[1:]
    starts = range(0, len(body), _RTP_LIMIT)
    return [
        bytes([indicator, kind | (0x80 if at == 0 else 0) | (0x40 if at == starts[-1] else 0)])
        + body[at : at + _RTP_LIMIT]
        for at in starts
    ]


class HttpSender(Sender):
    """An HTTP server: ``/mjpeg`` is live, other paths are files with ranges, or answers given.

    Attributes
    ----------
    files : dict
        Content by path, e.g. ``/scan.mp4``.
    answers : dict
        Whole answers by path, from the status line on.
    """

    def __init__(self, rate_hz: int = 50) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, bytes] = {}
        super().__init__(rate_hz)

    def serve(self, client: socket.socket) -> None:
        with client.makefile("rb") as lines:
            path = lines.readline().split(b" ")[1].decode()
            headers = {}
            while line := lines.readline().strip():
                key, value = line.decode().split(":", 1)
                headers[key.lower()] = value.strip()
        expected = base64.b64encode(f"user:{self.password}".encode()).decode()
        if self.password and headers.get("authorization") != f"Basic {expected}":
            client.sendall(
                b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="scanner"\r\n'
                b"Content-Length: 0\r\n\r\n"
            )
        elif path == "/mjpeg":
            self._play(client)
        elif path == "/silent":
            self._cut.wait(20)
        elif path in self.answers:
            client.sendall(self.answers[path])
        elif path in self.files:
            client.sendall(ranged(self.files[path], headers.get("range")))
        else:
            client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    def _play(self, client: socket.socket) -> None:
        client.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n"
        )
        for number in self.numbers():
            _, coded = cv2.imencode(".jpg", picture(number, self.shape_px))
            data = coded.tobytes()
            if number in self.damage:
                data = data[: len(data) // 3] + bytes(len(data) // 3)
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            client.sendall(head.encode() + data + b"\r\n")


def ranged(content: bytes, wanted: str | None) -> bytes:
    """Answer a request for a file, whole or from one byte on (RFC 9110, section 14)."""
    if wanted is None:
        head = "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\n"
    else:
        first = int(wanted.removeprefix("bytes=").split("-")[0])
        head = (
            "HTTP/1.1 206 Partial Content\r\n"
            f"Content-Range: bytes {first}-{len(content) - 1}/{len(content)}\r\n"
        )
        content = content[first:]
    head += f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    return head.encode() + content
