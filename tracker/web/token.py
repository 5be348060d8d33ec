"""Who may see the page: by the name it is asked for, the page that asks, and a one-time token.

Rules for a name: a page of somebody else can have its own name point here (DNS rebinding), and the
browser then takes this page for its own; what it asks for still carries that name.
"""

import hmac
import re
import secrets
from collections.abc import Mapping
from enum import Enum
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["LOCAL_NAMES", "Gate", "Guard", "Verdict", "host_name"]

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_TOKEN_BYTES = 32
_HOST = re.compile(r"[\w.:\[\]-]+")
# The page needs scripts of its own that are written into it; it may load and tell nobody else.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws://{host}; "
    "frame-ancestors 'none'; form-action 'none'; base-uri 'self'"
)
_HEADERS = [
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
# Not a redirection: the browser would then still see another site's link, and hold the cookie back.
_WELCOME = b'<!doctype html><meta http-equiv="refresh" content="0;url=/"><title>veintrack</title>'


class Verdict(Enum):
    """What is done with a request."""

    PASS = "pass"
    WELCOME = "welcome"  # it brought the token: it gets a cookie
    WRONG_NAME = "this page is asked for by a name that is not its own"
    WRONG_PAGE = "another page asks for this one"
    NO_TOKEN = "this page needs the address that veintrack said, which is good for one browser"


class Gate:
    """Knows who may pass. Used by one thread.

    Parameters
    ----------
    hosts : collection of str
        Names by which the page may be asked for.
    port : int
        Where it listens: part of the cookie's name, as browsers share cookies between ports.
    token : str
        What the first visit must bring along; empty lets everybody pass who names it rightly.
    """

    def __init__(self, hosts: frozenset[str], port: int, token: str) -> None:
        self._hosts = hosts
        self._closed = bool(token)
        self._tokens = {token} if token else set()
        self._cookies: set[str] = set()
        self.cookie = f"veintrack-{port}"

    @property
    def asks_token(self) -> bool:
        """Whether a token is needed."""
        return self._closed

    def invite(self) -> str:
        """Make another token, for one more browser."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._tokens.add(token)
        return token

    def admit(self) -> str:
        """Make a cookie for a browser that brought a token."""
        cookie = secrets.token_urlsafe(_TOKEN_BYTES)
        self._cookies.add(cookie)
        return cookie

    def judge(
        self, method: str, headers: Mapping[str, str], query: str, reached: str | None
    ) -> Verdict:
        """Say what is done with a request; a token that it brings is used up.

        Parameters
        ----------
        method : str
            Of HTTP; empty for a websocket.
        headers : mapping
            In lower case.
        query : str
            What follows ``?`` in the address.
        reached : str or None
            The address of this machine that the connection came in at.
        """
        host = headers.get("host", "")
        if host_name(host) not in {*self._hosts, *((reached,) if reached else ())}:
            return Verdict.WRONG_NAME
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return Verdict.WRONG_PAGE
        if not self._closed:
            return Verdict.PASS
        token = parse_qs(query).get("token", [""])[0]
        if _known(_cookie_in(headers.get("cookie", ""), self.cookie), self._cookies):
            return Verdict.WELCOME if token and method == "GET" else Verdict.PASS
        if method == "GET" and (known := _known(token, self._tokens)):
            self._tokens.discard(known)
            return Verdict.WELCOME
        return Verdict.NO_TOKEN


def _known(given: str, secret: set[str]) -> str:
    """Find what was given among secrets, in a time that tells nothing of them."""
    found = [one for one in secret if hmac.compare_digest(one.encode(), given.encode())]
    return found[0] if found else ""


def _cookie_in(header: str, name: str) -> str:
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def host_name(host: str) -> str:
    """Take the name out of ``name:port``, without the brackets of an IPv6 address."""
    if not _HOST.fullmatch(host):
        return ""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


class Guard:
    """Lets only those reach an ASGI application who may; every path, websockets too.

    Parameters
    ----------
    app : callable
        The application.
    gate : Gate
        The rules.
    """

    def __init__(self, app: Any, gate: Gate) -> None:
        self.app, self._gate = app, gate

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        query = scope["query_string"].decode("latin-1")
        reached = (scope.get("server") or (None,))[0]
        verdict = self._gate.judge(scope.get("method", ""), headers, query, reached)
        if verdict is Verdict.PASS:
            await self.app(scope, receive, _with_headers(send, headers["host"]))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
        elif verdict is Verdict.WELCOME:
            cookie = f"{self._gate.cookie}={self._gate.admit()}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send, 200, b"text/html", _WELCOME, [(b"set-cookie", cookie.encode())])
        else:
            said = f"403: {verdict.value}\n".encode()
            await _answer(send, 403, b"text/plain", said, [])


def _with_headers(send: Any, host: str) -> Any:
    policy = (b"content-security-policy", _POLICY.format(host=host).encode("latin-1"))

    async def tell(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), policy, *_HEADERS]}
        await send(message)

    return tell


async def _answer(
    send: Any, status: int, kind: bytes, body: bytes, more: list[tuple[bytes, bytes]]
) -> None:
    headers = [
        (b"content-type", kind + b"; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *_HEADERS,
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
