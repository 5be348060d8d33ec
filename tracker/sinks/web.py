"""``--view web``: hands results to the page's own process, at most 30 times a second.

The tracking only counts a result and puts it down. Everything else happens on two threads that
mostly wait, and in a process that shares no interpreter with the tracking.
"""

import errno
import ipaddress
import logging
import os
import queue
import secrets
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from veintrack.errors import BackendMissingError, OutputError
from veintrack.tracker.controls import Controls
from veintrack.tracker.frame import STREAMING, FrameResult, PictureState
from veintrack.tracker.mailbox import Mailbox
from veintrack.tracker.sources.address import masked
from veintrack.tracker.sources.base import SourceInfo
from veintrack.tracker.web.messages import News, Setting, Tally, picture_of, rows_of, send_picture
from veintrack.tracker.web.token import LOCAL_NAMES

__all__ = ["WebView", "open_web"]

log = logging.getLogger(__name__)

_PICTURE_S = 1 / 30  # between two pictures
_NEWS_S = 0.2  # between two of all else: as often as the plots have points
_START_S = 60.0  # a slow disk has much to read
_END_S = 0.2  # for which the end of each part is waited for
_SERVER = "veintrack.tracker.web.server"
_NOWHERE = ("192.0.2.1", 9)  # RFC 5737, for documentation: nothing is sent there


def open_web(
    controls: Controls, info: SourceInfo, *, host: str, port: int, runs: Path
) -> "WebView":
    """Open the page.

    Parameters
    ----------
    controls : Controls
        What those who look may ask for.
    info : SourceInfo
        What is tracked.
    host : str
        Address to listen on. If others than this machine reach it, the page asks for a token.
    port : int
        Port to listen on; 0 takes any that is free.
    runs : Path
        Folder of the runs whose recordings are listed.

    Raises
    ------
    BackendMissingError
        If the page's library is not installed.
    OutputError
        If the address cannot be listened on, or the page does not start.
    """
    if find_spec("nicegui") is None:
        raise BackendMissingError('--view web needs nicegui: pip install "veintrack[web]"')
    with _listen(host, port) as listening:
        address, port = listening.getsockname()[:2]
        token = "" if ipaddress.ip_address(address).is_loopback else secrets.token_urlsafe(32)
        setting = Setting(LOCAL_NAMES | {host.lower()}, port, token, str(runs), _in_words(info))
        return WebView(controls, listening, setting, _address(host, address, port, token))


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OutputError(_refused(host, port, error)) from error
    refused = OutputError(f"{host} has no address")
    for family, kind, _, _, address in found:  # localhost may have one that is not in use
        listening = socket.socket(family, kind)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
        except OSError as error:
            listening.close()
            refused = OutputError(_refused(host, port, error))
        else:
            return listening
    raise refused


def _refused(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken: name another with --port, or 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"port {port} is not for ordinary users: name one from 1024 on with --port"
    return f"the page cannot listen on {host}: {error.strerror}; name an address with --host"


def _address(host: str, address: str, port: int, token: str) -> str:
    """Say what to type into a browser."""
    name = _outward() if ipaddress.ip_address(address).is_unspecified else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _outward() -> str:
    """Give the address at which others reach this machine; its name if there is none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_NOWHERE)
        return str(probe.getsockname()[0])
    return socket.gethostname()


def _in_words(info: SourceInfo) -> str:
    """Name the source without its folders, which may name the patient."""
    return masked(info.name) if info.live else Path(info.name).name


class WebView:
    """Shows results on a page; tracking never waits for it.

    Parameters
    ----------
    controls : Controls
        What those who look may ask for.
    listening : socket
        Where the page is to be served; the caller closes it.
    setting : Setting
        What the page must know.
    address : str
        Where the page is found.

    Attributes
    ----------
    said : str
        Where the page is found, in a line.

    Raises
    ------
    OutputError
        If the page does not start.
    """

    def __init__(
        self, controls: Controls, listening: socket.socket, setting: Setting, address: str
    ) -> None:
        once = "; the address is good for one browser" if setting.token else ""
        self.said = f"page at {address}{once}"
        self._controls = controls
        self._results: Mailbox[FrameResult] = Mailbox(capacity=1, newest_only=True)
        self._tally = Tally()
        self._last: FrameResult | None = None
        self._sent: FrameResult | None = None  # what they have the picture of
        self._looking = threading.Event()
        self._ending = False
        self._pipe, self._process = _start(listening)
        try:
            _await_start(self._pipe, setting)
        except BaseException:
            self._end()
            raise
        self._threads = [
            threading.Thread(target=work, name=f"veintrack-{name}", daemon=True)
            for name, work in (("page", self._tell), ("page-asks", self._obey))
        ]
        for thread in self._threads:
            thread.start()

    def put(self, result: FrameResult) -> None:
        """Hand over one result; an older one that was not shown yet is forgotten."""
        self._tally.count(result)
        self._results.put(result)

    def close(self) -> None:
        """End the page; whoever looks is told so. Safe to call twice."""
        self._results.close()
        self._end()
        for thread in self._threads:  # the pipe's other end is gone
            thread.join(_END_S)
        self._pipe.close()

    def _end(self) -> None:
        self._ending = True
        self._process.kill()  # it holds nothing that could be lost
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)

    def _tell(self) -> None:
        """Send how the run stands now and then, and pictures while somebody looks."""
        due_s = news_due_s = time.monotonic()
        while True:
            time.sleep(max(0.0, due_s - time.monotonic()))
            with suppress(queue.Empty):
                self._last = self._results.take(_NEWS_S)
                if self._last is None:
                    return
            now_s, looking = time.monotonic(), self._looking.is_set()
            try:
                if now_s >= news_due_s:
                    news_due_s = now_s + _NEWS_S
                    self._pipe.send(self._news())
                if looking:
                    self._send_picture()
            except OSError:
                if not self._ending:
                    log.warning("the page ended by itself; the tracking goes on")
                return
            due_s = max(due_s + (_PICTURE_S if looking else _NEWS_S), now_s)

    def _send_picture(self) -> None:
        """Send the picture of the newest result, if they have another one."""
        if self._last is None or self._last is self._sent:
            return
        self._sent = self._last
        picture = picture_of(self._last)
        if picture is not None:
            send_picture(self._pipe, picture)

    def _news(self) -> News:
        result, figures, control = self._last, self._tally.figures(), self._controls.state
        if result is None:
            return News(0, (), False, figures, control, STREAMING, PictureState.GOOD, False)
        return News(
            result.time_ns,
            rows_of(result),
            result.frame.spacing_mm is not None,
            figures,
            control,
            result.source,
            result.picture,
            result.scan_area_settled,
        )

    def _obey(self) -> None:
        """Do what those who look ask for."""
        with suppress(EOFError, OSError):
            while True:
                what, value = self._pipe.recv()
                try:
                    self._do(what, value)
                except ValueError as error:  # the page asks for nothing that is none
                    log.debug("the page asks for %s %s: %s", what, value, error)

    def _do(self, what: str, value: bool | float | str | None) -> None:
        if what == "looking":
            (self._looking.set if value else self._looking.clear)()
        elif what == "record":
            self._controls.record(bool(value))
        elif what == "pause":
            self._controls.pause(bool(value))
        elif what == "step":
            self._controls.step()
        elif what == "threshold":
            self._controls.look_from(float(value or 0))
        elif what == "snapshot" and self._last is not None:
            self._controls.snapshot(self._last)


def _start(listening: socket.socket) -> "tuple[Connection[Any, Any], subprocess.Popen[bytes]]":
    """Start the page's process, in a session of its own: Ctrl-C is not for it."""
    ours, its = Pipe()
    passed = (listening.fileno(), its.fileno())
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    heard = log.isEnabledFor(logging.DEBUG)
    process = subprocess.Popen(
        [sys.executable, "-m", _SERVER, *map(str, passed)],
        pass_fds=passed,
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if heard else subprocess.DEVNULL,
        start_new_session=True,
    )
    its.close()
    return ours, process


def _await_start(pipe: "Connection[Any, Any]", setting: Setting) -> None:
    with suppress(OSError):  # it ended, as is found below
        pipe.send(setting)
    if not pipe.poll(_START_S):
        raise OutputError(f"the page does not start: nothing came of it in {_START_S:.0f} s")
    try:
        what, said = pipe.recv()
    except (EOFError, OSError) as error:
        raise OutputError("the page does not start: its process ended") from error
    if what != "ready":
        raise OutputError(f"the page does not start: {said}")
