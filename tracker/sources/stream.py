"""Streams and files from the network: RTSP and HTTP, through FFmpeg's libraries.

FFmpeg blocks in C for as long as a sender is silent, and a container must not be closed under a
decoder. So each connection has a thread of its own, which opens it, reads it and closes it, and
which nobody waits for: FFmpeg's time limits end it by themselves.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import Empty
from time import monotonic

import av

from veintrack.errors import (
    SourceLostError,
    SourceNotFoundError,
    SourceStalledError,
    SourceUnreadableError,
)
from veintrack.tracker.closing import Closing
from veintrack.tracker.frame import STREAMING, Frame
from veintrack.tracker.mailbox import Mailbox
from veintrack.tracker.sources.address import host_of, masked
from veintrack.tracker.sources.base import SourceInfo
from veintrack.tracker.sources.decoder import MAX_PIXELS, silence
from veintrack.tracker.sources.stream_live import READ_LIMIT_S, LiveFrames
from veintrack.tracker.sources.video import VideoSource

__all__ = ["StreamSource", "open_stream"]

_OPEN_LIMIT_S = 5.0  # from the first packet to the host to the first picture
_SLICE_S = 0.1  # how often a wait for a connection looks whether anybody waits any more
_LIVE_ROOM, _FILE_ROOM = 2, 8  # frames between the connection's thread and who iterates

# The white lists say where each scheme may go: a playlist or redirection from a hostile server
# could name local files. Not "nobuffer": it throws away the key frame that opening has read.
_RTSP = {
    "protocol_whitelist": "rtsp,rtsps,rtp,tcp,udp,tls",
    "rtsp_flags": "prefer_tcp",  # no packet is lost; senders without TCP are read through UDP
    "allowed_media_types": "video",
    "max_delay": "100000",  # us that a packet is waited for that UDP lost or sent late
    "reorder_queue_size": "32",
    "probesize": "500000",
    "analyzeduration": "0",
    "fpsprobesize": "0",
}
_HTTP = {
    "protocol_whitelist": "http,https,httpproxy,tcp,tls",
    "analyzeduration": "1000000",
    "fpsprobesize": "0",
}
_ENDLESS = ("hls", "mpjpeg")  # formats whose length, if one is declared, is not that of the video

_WORDS = (
    (
        av.HTTPUnauthorizedError,
        "user name or password missing or wrong: scheme://user:password@host",
    ),
    (av.HTTPForbiddenError, "access is refused"),
    (av.ConnectionRefusedError, "nobody listens there"),
    (av.InvalidDataError, "what it sends is no video"),
)


def open_stream(url: str) -> "StreamSource":
    """Open an RTSP or HTTP address; see :class:`StreamSource`.

    Raises
    ------
    SourceNotFoundError
        If the host is not known, or has nothing under this address.
    SourceUnreadableError
        If nobody answers, access is refused, or what is sent is no video.
    """
    return StreamSource(url)


class StreamSource(Closing):
    """Frames of an RTSP or HTTP address.

    A stream is live: pictures are decoded as they come, and where nobody takes them the newest
    two are kept. A file is not: every frame comes in order, with the file's stamps.

    Pictures that are damaged are left out, and so is what a decoder builds on them, up to the
    next picture that stands for itself.

    Parameters
    ----------
    url : str
        ``rtsp://``, ``rtsps://``, ``http://`` or ``https://``.
    cancelled : callable, optional
        Says that nobody waits any more for it to open.

    Raises
    ------
    SourceNotFoundError, SourceUnreadableError
        As :func:`open_stream`.
    """

    state = last_outage = STREAMING
    outages = 0
    no_signal = ""

    def __init__(self, url: str, cancelled: Callable[[], bool] = lambda: False) -> None:
        self._url, self._name = url, masked(url)
        self._closed = False
        self._drops_at_end: int | None = None
        self._connection = _Connection(url, self._name)
        self._info = self._connection.open(cancelled)

    @property
    def info(self) -> SourceInfo:
        """What is known of the source; passwords are hidden in its name."""
        return self._info

    @property
    def driver_drops(self) -> int:
        """Frames that came damaged, or were overtaken before anybody took them."""
        # The thread of a source that was given up goes on for a moment, and counts for nobody.
        return self._connection.drops if self._drops_at_end is None else self._drops_at_end

    def __iter__(self) -> Iterator[Frame]:
        self._connection.wanted.set()
        while not self._closed:
            patience_s = self._connection.patience_s
            try:
                frame = self._connection.take(patience_s)
            except (Empty, SourceLostError) as error:
                if self._closed:
                    return
                self._drops_at_end = self._connection.drops
                if isinstance(error, SourceLostError):
                    raise
                reason = f"{self._name}: no frame for {patience_s:.1f} s"
                raise SourceStalledError(reason) from None
            if frame is None or self._closed:
                return
            yield frame

    def reopen(self, cancelled: Callable[[], bool]) -> "StreamSource":
        """Connect anew; see :class:`~veintrack.tracker.sources.base.LiveSource`."""
        return StreamSource(self._url, cancelled)

    def close(self) -> None:
        """End the iteration at once; the connection ends by itself, within its time limits."""
        self._closed = True
        self._connection.give_up()


class _Connection(threading.Thread):
    """One connection, which this thread opens, reads and closes; nobody waits for its end."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(name="veintrack stream", daemon=True)
        self._url, self._name = url, name
        self.wanted = threading.Event()  # somebody iterates
        self._over = threading.Event()  # nobody will any more
        self._settled = threading.Event()
        self._outcome: SourceInfo | BaseException = _too_late(name)
        self._mailbox: Mailbox[Frame] = Mailbox(_LIVE_ROOM, newest_only=True)
        self._live: LiveFrames | None = None

    def open(self, cancelled: Callable[[], bool]) -> SourceInfo:
        """Start, and wait for the first picture.

        Raises
        ------
        SourceNotFoundError, SourceUnreadableError
            If it does not come, or nobody waits for it any more.
        """
        self.start()
        end_s = monotonic() + _OPEN_LIMIT_S
        while not self._settled.wait(_SLICE_S):
            if cancelled() or monotonic() > end_s:
                self.give_up()
                raise _too_late(self._name)
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    @property
    def drops(self) -> int:
        """Frames left out because they were damaged, or overtaken in the mailbox."""
        return self._mailbox.dropped + (self._live.left_out if self._live else 0)

    @property
    def patience_s(self) -> float | None:
        """For how long the next frame may be waited for; None if the connection itself says."""
        return self._live.patience_s if self._live else None

    def take(self, patience_s: float | None) -> Frame | None:
        """Give the next frame, None at the end of a file; raises Empty, or what ended it."""
        return self._mailbox.take(patience_s)

    def give_up(self) -> None:
        """Let it end: at its next frame, or at FFmpeg's time limit."""
        self._over.set()
        self.wanted.set()
        self._mailbox.close()

    def run(self) -> None:
        try:
            with _connect(self._url, self._name) as container:
                self._read(container)
        except BaseException as error:  # whoever waits shall know, whatever it is
            if not self._settled.is_set():
                lost = isinstance(error, SourceLostError)
                self._outcome = SourceUnreadableError(str(error)) if lost else error
            self._mailbox.fail(error)
        self._mailbox.close()
        self._settled.set()

    def _read(self, container: av.container.InputContainer) -> None:
        frames: LiveFrames | VideoSource
        if _is_live(container, self._url):
            frames = self._live = LiveFrames(container, self._name, self.wanted)
            self._outcome = frames.info
        else:
            frames = VideoSource(container, self._name)
            self._mailbox = Mailbox(_FILE_ROOM, newest_only=False)
            self._outcome = replace(frames.info, kind="stream")
        self._settled.set()
        for frame in frames:
            if self._over.is_set() or not self._mailbox.put(frame):
                return


def _connect(url: str, name: str) -> av.container.InputContainer:
    """Open a connection; FFmpeg's errors end here, since they hold the whole address."""
    host = host_of(url)
    if host is None:
        raise SourceUnreadableError(f"{name} is no address, as rtsp://host:port/path is")
    silence()
    scheme, rest = url.split("://", 1)
    options = _RTSP if scheme.lower().startswith("rtsp") else _HTTP
    try:
        return av.open(
            f"{scheme.lower()}://{rest}",
            options={**options, "max_pixels": str(MAX_PIXELS)},
            timeout=(_OPEN_LIMIT_S, READ_LIMIT_S),
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        failure = _failure(error, name, host)
    raise failure


def _failure(error: Exception, name: str, host: str) -> Exception:
    """Say in one line why nothing could be opened."""
    if isinstance(error, av.HTTPNotFoundError):
        return SourceNotFoundError(f"{name}: the server has nothing under this address")
    if isinstance(error, av.OSError) and not _is_known(host):
        return SourceNotFoundError(f"{name}: no such host: {host}")
    if isinstance(error, (av.ExitError, av.TimeoutError)):
        return _too_late(name)
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return SourceUnreadableError(f"{name}: {words}")
    detail = getattr(error, "strerror", None) or type(error).__name__
    return SourceUnreadableError(f"{name} cannot be opened ({detail})")


def _too_late(name: str) -> SourceUnreadableError:
    return SourceUnreadableError(f"{name}: no picture within {_OPEN_LIMIT_S:g} s")


def _is_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):  # the latter of a label that is empty or too long
        return False
    return True


def _is_live(container: av.container.InputContainer, url: str) -> bool:
    """Tell a stream from a file: a file has a length."""
    if url.lower().startswith("rtsp"):
        return True  # sent at the pace of the pictures, even where they come from a file
    endless = container.format.name in _ENDLESS or container.size <= 0
    return container.duration is None and endless
