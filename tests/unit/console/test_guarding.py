"""
Who may ask the console, and how: names, methods, other sites, bounds, headers.
"""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_ext.console.doorkeepers import Peer, SocketRights, Tokens, cookie_of
from cftpki_ext.console.guarding import HEADERS, LOCAL, MAX_TARGET_BYTES, Guard
from cftpki_ext.console.sessions import Sessions
from tests.support.logs import CapturedLog


class Told:
    """
    What was answered.
    """

    def __init__(self):
        self.status, self.headers, self.body = None, [], b""

    async def __call__(self, message):
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.body += message.get("body", b"")


async def page(_scope, _receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Cache-Control", b"public")]})
    await send({"type": "http.response.body", "body": b"page"})


def refused(admission):
    async def answer(_scope, _receive, send):
        await send({"type": "http.response.start", "status": int(admission.status), "headers": []})
        await send({"type": "http.response.body", "body": admission.words.encode()})

    return answer


def ask(
    headers=((b"host", b"localhost:8443"),),
    *,
    method="GET",
    path="/",
    query=b"",
    doorkeeper=None,
    scheme="http",
):
    log, told = CapturedLog(), Told()
    guard = Guard(page, doorkeeper or SocketRights(), hosts=LOCAL | {"pki.example"}, refuse=refused, log=log)
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": query,
        "headers": list(headers),
        "scheme": scheme,
        "state": {"peer": Peer(uid=0)},
    }
    asyncio.run(guard(scope, None, told))
    return told, log


@pytest.mark.parametrize(
    "host", [b"localhost", b"127.0.0.1:1", b"[::1]:8443", b"PKI.example", b"pki.example:443"]
)
def test_host_that_the_console_is_served_by_is_answered(host):
    told, _ = ask([(b"host", host)])
    assert (200, b"page") == (told.status, told.body)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"evil.example")],
        [(b"host", b"evil.example:8443")],
        [(b"host", b"localhost.evil.example")],
        [(b"host", b"localhost"), (b"host", b"evil.example")],
        [(b"host", b"localhost@evil.example")],
        [(b"host", b"")],
        [(b"host", b"\xff\x00")],
    ],
)
def test_host_of_somebody_else_is_refused_whatever_it_resolves_to(headers):
    told, _ = ask(headers)
    assert 421 == told.status
    assert b"page" not in told.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_method_that_is_not_for_showing_is_refused(method):
    told, _ = ask(method=method)
    assert (405, (b"allow", b"GET, HEAD")) == (
        told.status,
        next(one for one in told.headers if one[0] == b"allow"),
    )


def test_page_of_another_site_may_lead_here_and_neither_embed_nor_send():
    host = (b"host", b"localhost")
    led = [
        host,
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-mode", b"navigate"),
        (b"sec-fetch-dest", b"document"),
    ]
    framed = [*led[:3], (b"sec-fetch-dest", b"iframe")]
    image = [host, (b"sec-fetch-site", b"same-site"), (b"sec-fetch-mode", b"no-cors")]
    own = [host, (b"sec-fetch-site", b"same-origin"), (b"sec-fetch-mode", b"no-cors")]
    assert [200, 403, 403, 200] == [ask(headers)[0].status for headers in (led, framed, image, own)]


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ([], 200),
        ([(b"origin", b"http://localhost")], 200),
        ([(b"origin", b"http://localhost"), (b"sec-fetch-site", b"same-origin")], 200),
        ([(b"origin", b"https://evil.example")], 403),
        ([(b"origin", b"null")], 403),
        ([(b"origin", b"null"), (b"sec-fetch-site", b"same-origin")], 200),
        ([(b"origin", b"null"), (b"sec-fetch-site", b"cross-site")], 403),
        ([(b"sec-fetch-site", b"same-site")], 403),
    ],
)
def test_form_is_taken_from_our_own_page_alone(more, status):
    told, _ = ask([(b"host", b"localhost"), *more], method="POST", path="/login")
    assert status == told.status


def test_address_and_headers_beyond_the_bounds_are_refused():
    assert 414 == ask(query=b"q=" + b"x" * MAX_TARGET_BYTES)[0].status
    assert 431 == ask([(b"host", b"localhost"), *[(b"x", b"y")] * 64])[0].status


def test_every_answer_has_the_headers_that_keep_a_page_from_loading_anything():
    for told in (ask()[0], ask([(b"host", b"evil")])[0], ask(method="PUT")[0]):
        assert set(HEADERS) <= set(told.headers)
        assert 1 == sum(name.lower() == b"cache-control" for name, _ in told.headers)
    policy = dict(HEADERS)[b"content-security-policy"]
    assert (False, False, True) == (
        b"unsafe" in policy,
        b"script-src" in policy,
        b"default-src 'none'" in policy,
    )


def test_transport_security_is_asked_for_where_there_is_tls():
    def has_it(scheme):
        told, _ = ask(scheme=scheme)
        return any(name == b"strict-transport-security" for name, _ in told.headers)

    assert (False, True) == (has_it("http"), has_it("https"))


def test_who_has_no_session_sees_nothing_and_who_has_one_does():
    sessions = Sessions()
    door = Tokens(sessions, "c")
    value = sessions.begin(time.monotonic())
    host = (b"host", b"localhost")
    seen = [
        ask(headers, doorkeeper=door)[0].status
        for headers in ([host], [host, (b"cookie", b"c=x")], [host, (b"cookie", b"a=b; c=" + value.encode())])
    ]
    assert [401, 401, 200] == seen


def test_everything_that_is_asked_is_logged_without_queries_and_secrets_of_links():
    _, log = ask(path="/enter/secret", query=b"q=CN%3Dpartner")
    (call,) = log.calls
    fields = call.kwargs
    assert ["console_asked", "GET", "/enter/…", 200] == [
        fields[one] for one in ("event", "method", "path", "status")
    ]
    assert "secret" not in repr(fields)
    assert "partner" not in repr(fields)
    _, log = ask(path="/\x1b[31m\r\n" + "x" * 5000)
    assert all(field.isprintable() and len(field) < 300 for field in map(str, log.calls[0].kwargs.values()))


def test_application_that_gives_no_answer_in_time_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("cftpki_ext.console.guarding.REQUEST_S", 0.01)

    async def never(_scope, _receive, _send):
        await asyncio.Event().wait()

    monkeypatch.setitem(globals(), "page", never)
    assert 503 == ask()[0].status


@given(
    st.lists(st.tuples(st.binary(max_size=24), st.binary(max_size=200)), max_size=8), st.binary(max_size=64)
)
def test_no_headers_let_another_host_in_or_break_the_door(headers, cookie):
    told, _ = ask(
        [(b"host", b"evil.example"), *headers, (b"cookie", cookie)], doorkeeper=Tokens(Sessions(), "c")
    )
    assert told.status in {403, 421, 431}
    told, _ = ask([(b"host", b"localhost"), (b"cookie", cookie)], doorkeeper=Tokens(Sessions(), "c"))
    assert 401 == told.status
    cookie_of({"headers": [(b"cookie", cookie)]}, "c")
