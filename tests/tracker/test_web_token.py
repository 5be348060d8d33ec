"""Who may see the page."""

import asyncio
from typing import Any

import pytest

from veintrack.tracker.web.token import LOCAL_NAMES, Gate, Guard, Verdict, host_name

OPEN = {"host": "127.0.0.1:8080"}


def gate(token: str = "", *names: str) -> Gate:
    return Gate(LOCAL_NAMES | set(names), 8080, token)


def judge(
    one: Gate, method: str = "GET", query: str = "", reached: str | None = None, **headers: str
) -> Verdict:
    return one.judge(method, {**OPEN, **headers}, query, reached)


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"])
def test_the_names_of_this_machine_pass(host: str) -> None:
    assert judge(gate(), host=host) is Verdict.PASS


@pytest.mark.parametrize(
    "host", ["evil.example:8080", "127.0.0.1.evil.example", "", "[::2]", "[", "192.0.2.7"]
)
def test_a_name_that_was_pointed_here_is_refused(host: str) -> None:
    assert judge(gate(), host=host) is Verdict.WRONG_NAME


def test_the_given_host_and_the_address_that_was_reached_pass() -> None:
    assert judge(gate("", "scanner.local"), host="scanner.local:8080") is Verdict.PASS
    assert judge(gate(), host="192.0.2.7:8080", reached="192.0.2.7") is Verdict.PASS


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://[",
        "http://127.0.0.1:9000",
        "http://127.0.0.1.evil.example:8080",
    ],
)
def test_another_page_is_refused(origin: str) -> None:
    assert judge(gate(), method="", origin=origin) is Verdict.WRONG_PAGE


def test_the_page_itself_passes() -> None:
    assert judge(gate(), method="", origin="http://127.0.0.1:8080") is Verdict.PASS


def test_a_token_lets_one_browser_in_once() -> None:
    one = gate("secret")
    assert judge(one) is Verdict.NO_TOKEN
    assert judge(one, query="token=wrong") is Verdict.NO_TOKEN
    assert judge(one, query="token=secret") is Verdict.WELCOME
    cookie = f"{one.cookie}={one.admit()}"
    assert judge(one, query="token=secret") is Verdict.NO_TOKEN
    assert judge(one, cookie=cookie) is Verdict.PASS
    assert judge(one, cookie=cookie, query="token=secret") is Verdict.WELCOME
    assert judge(one, cookie=f"{one.cookie}=wrong") is Verdict.NO_TOKEN
    assert judge(one, cookie="other; =;;{") is Verdict.NO_TOKEN


def test_an_invitation_lets_one_more_in() -> None:
    one = gate("secret")
    more = one.invite()
    assert judge(one, query=f"token={more}") is Verdict.WELCOME
    assert judge(one, query=f"token={more}") is Verdict.NO_TOKEN
    assert judge(one, query="token=secret") is Verdict.WELCOME


@pytest.mark.parametrize("method", ["HEAD", "POST", ""])
def test_only_a_visit_uses_the_token_up(method: str) -> None:
    one = gate("secret")
    assert judge(one, method=method, query="token=secret") is Verdict.NO_TOKEN
    assert judge(one, query="token=secret") is Verdict.WELCOME


def test_a_right_token_does_not_excuse_a_wrong_name() -> None:
    one = gate("secret")
    assert judge(one, host="evil.example", query="token=secret") is Verdict.WRONG_NAME
    assert judge(one, query="token=secret") is Verdict.WELCOME


@pytest.mark.parametrize(
    ("host", "name"), [("a:1", "a"), ("A", "a"), ("[::1]:1", "::1"), ("", ""), ("[x", "")]
)
def test_a_name_is_taken_out_of_a_host(host: str, name: str) -> None:
    assert host_name(host) == name


def answered(guard: Guard, kind: str, query: str = "", host: str = "localhost") -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": f"{kind}.connect"}

    scope = {
        "type": kind,
        "query_string": query.encode(),
        "headers": [(b"host", host.encode())],
        "server": ("127.0.0.1", 8080),
    }
    if kind == "http":
        scope["method"] = "GET"
    asyncio.run(guard(scope, receive, send))
    return sent


async def _application(scope: Any, receive: Any, send: Any) -> None:
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"seen"})


def test_what_is_refused_never_reaches_the_application() -> None:
    guard = Guard(_application, gate("secret"))
    start, body = answered(guard, "http")
    assert start["status"] == 403
    assert body["body"].startswith(b"403: this page needs the address")
    assert answered(guard, "websocket") == [{"type": "websocket.close", "code": 1008}]


def test_the_first_visit_gets_a_cookie_that_scripts_and_other_pages_cannot_use() -> None:
    start, body = answered(Guard(_application, gate("secret")), "http", "token=secret")
    headers = dict(start["headers"])
    assert start["status"] == 200
    assert headers[b"set-cookie"].startswith(b"veintrack-8080=")
    assert headers[b"set-cookie"].endswith(b"; Path=/; HttpOnly; SameSite=Strict")
    assert b"secret" not in body["body"]


def test_what_passes_may_load_nothing_from_elsewhere() -> None:
    start, body = answered(Guard(_application, gate()), "http")
    assert body["body"] == b"seen"
    assert start["headers"][0] == (b"a", b"b")
    assert b"default-src 'self'" in dict(start["headers"])[b"content-security-policy"]
