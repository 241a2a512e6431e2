"""
The HTTPS client of the enrollers, against servers that misbehave.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cftpki_connectors.ca import client as ca_client
from cftpki_connectors.ca.client import (
    CaAnswer,
    CaClient,
    CaError,
    CaRequest,
    fetch_pinned,
    http_date,
    printable,
    retry_after,
    status_fault,
    tls_context,
)
from cftpki_ext.identity.enroller_port import Failed, Fault, Held
from tests.support import pki
from tests.support.orders import SystemClock, in_s
from tests.support.ports import free_port
from tests.support.servers import Behaviour, Server, answer, drip, endless, evil, in_turn, response, silent

ROOT = pki.make_root("Root")
SERVER = pki.issue(ROOT, "server", san=["ip:127.0.0.1"], eku=["serverAuth"])
CLIENTS = pki.make_root("Clients")
CLIENT = pki.issue(CLIENTS, "client", eku=["clientAuth"])
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
WAIT_S = 10.0


def server_tls(folder: Path, *, clients: pki.Entity | None = None) -> ssl.SSLContext:
    file = folder / "server.pem"
    file.write_bytes(SERVER.pem + SERVER.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=clients.der)
    return context


@asynccontextmanager
async def serving(folder: Path, behaviour: Behaviour, **tls: pki.Entity) -> AsyncIterator[Server]:
    async with evil(behaviour, tls=server_tls(folder, **tls)) as server:
        yield server


@asynccontextmanager
async def client(
    roots: tuple[bytes, ...] | None = (ROOT.der,), identity: Held | None = None, proxy: str | None = None
) -> AsyncIterator[CaClient]:
    made = CaClient(clock=SystemClock(), roots=roots, identity=identity, proxy=proxy)
    yield made
    await made.aclose()


async def fault(request: CaRequest, *, wait_s: float = WAIT_S, **how: object) -> CaError:
    async with client(**how) as asking:
        with pytest.raises(CaError) as caught:
            await asking.send(request, deadline=in_s(wait_s))
    return caught.value


async def test_request_and_answer_go_through_unchanged(tmp_path: Path) -> None:
    raw = response(b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8", "X-Id": "7"})
    async with serving(tmp_path, answer(raw)) as server, client() as asking:
        request = CaRequest(
            url=server.url("/a?b=c"),
            method="POST",
            body=b"body",
            headers={"Content-Type": "application/x"},
            accepts=frozenset({"application/json"}),
        )
        got = await asking.send(request, deadline=in_s(WAIT_S))
    assert (200, b"{}", "application/json", "7") == (
        got.status,
        got.body,
        got.content_type,
        got.headers["x-id"],
    )
    sent = server.requests[0]
    assert sent.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert sent.endswith(b"\r\n\r\nbody")
    assert b"Content-Type: application/x\r\n" in sent


async def test_error_statuses_are_answers(tmp_path: Path) -> None:
    raw = response(b"<html>", status="404 Not Found", headers={"Content-Type": "text/html"})
    async with serving(tmp_path, answer(raw)) as server, client() as asking:
        got = await asking.send(CaRequest(url=server.url()), deadline=in_s(WAIT_S))
    assert (404, b"<html>") == (got.status, got.body)


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (answer(response(b"<html>", headers={"Content-Type": "text/html"})), "HTTP 200 with an HTML page"),
        (answer(response(b"x", headers={"Content-Type": "text/plain"})), "content type 'text/plain'"),
        (answer(response(b"x" * 101)), "101 bytes announced, 100 allowed"),
        (endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 64), "the answer has more than 100 bytes"),
        (
            answer(response(b"x", headers={"Content-Encoding": "gzip"})),
            "content encoding 'gzip', which was not asked for",
        ),
        (answer(b"SSH-2.0-OpenSSH\r\n\r\n", close=True), "illegal"),
        (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", close=True), "peer closed connection"),
    ],
)
async def test_what_is_not_the_cas_answer_is_unheard_and_may_have_been_acted_on(
    tmp_path: Path, behaviour: Behaviour, told: str
) -> None:
    async with serving(tmp_path, behaviour) as server:
        request = CaRequest(url=server.url(), max_bytes=100, accepts=frozenset({"application/json"}))
        error = await fault(request)
    assert told in error.detail
    assert (Fault.UNREACHABLE, True) == (error.fault, error.sent)


@pytest.mark.parametrize("behaviour", [silent(), drip(b"HTTP/1.1 200 OK\r\n\r\n", every_s=0.02)])
async def test_slow_answer_ends_at_the_deadline(tmp_path: Path, behaviour: Behaviour) -> None:
    async with serving(tmp_path, behaviour) as server:
        error = await fault(CaRequest(url=server.url()), wait_s=0.3)
    assert "no whole answer within 0.3 s, waiting for the answer" == error.detail
    assert (Fault.UNREACHABLE, True) == (error.fault, error.sent)


async def test_slow_answer_never_takes_the_whole_time_of_an_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ca_client, "REQUEST_S", 0.3)
    async with serving(tmp_path, drip(b"HTTP/1.1 200 OK\r\n\r\n", every_s=0.02)) as server:
        error = await fault(CaRequest(url=server.url()), wait_s=600)
    assert "no whole answer within 0.3 s, waiting for the answer" == error.detail
    assert (Fault.UNREACHABLE, True) == (error.fault, error.sent)


async def test_deadline_in_the_past_asks_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, silent()) as server:
        error = await fault(CaRequest(url=server.url()), wait_s=-1)
        assert [] == server.requests
    assert (Fault.UNREACHABLE, False) == (error.fault, error.sent)


@pytest.mark.parametrize(
    ("host", "said"),
    [("127.0.0.1", "connection refused"), ("localhost", "connection refused"), ("ca.invalid", "not known")],
)
async def test_nobody_there_was_not_sent_and_who_was_asked_is_told(host: str, said: str) -> None:
    error = await fault(CaRequest(url=f"https://{host}:{free_port()}/"))
    assert (Fault.UNREACHABLE, False) == (error.fault, error.sent)
    assert error.detail.startswith(f"no connection to {host}: ")
    assert said in error.detail


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "https:///x", "ftp://x/", "https://[::1", "nonsense"])
async def test_what_is_not_https_is_not_sent(url: str) -> None:
    error = await fault(CaRequest(url=url))
    assert (Fault.MISCONFIGURED, False) == (error.fault, error.sent)


@pytest.mark.parametrize("roots", [(CLIENTS.der,), (), None])
async def test_server_of_another_root_is_not_spoken_to(
    tmp_path: Path, roots: tuple[bytes, ...] | None
) -> None:
    async with serving(tmp_path, silent()) as server:
        error = await fault(CaRequest(url=server.url()), roots=roots)
        assert [] == server.requests
    assert (Fault.MISCONFIGURED, False) == (error.fault, error.sent)
    assert error.detail.startswith("the CA's server certificate is not trusted: ")


async def test_server_of_another_name_is_not_spoken_to(tmp_path: Path) -> None:
    async with serving(tmp_path, silent()) as server:
        error = await fault(CaRequest(url=server.url().replace("127.0.0.1", "localhost")))
        assert [] == server.requests
    assert "localhost" in error.detail


async def test_intermediate_can_be_an_anchor(tmp_path: Path) -> None:
    async with serving(tmp_path, answer(response(b""))) as server, client((SERVER.der,)) as asking:
        assert 200 == (await asking.send(CaRequest(url=server.url()), deadline=in_s(WAIT_S))).status


async def test_client_certificate_is_shown(tmp_path: Path) -> None:
    identity = Held(chain=(CLIENT.der,), key=CLIENT.key)
    async with (
        serving(tmp_path, answer(response(b"")), clients=CLIENTS) as server,
        client(identity=identity) as asking,
    ):
        assert 200 == (await asking.send(CaRequest(url=server.url()), deadline=in_s(WAIT_S))).status


@contextmanager
def handshaking(context: ssl.SSLContext) -> Iterator[int]:
    """
    A server that does a handshake and no more. asyncio's would close without the alert when one fails.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # the listener was shut down
            while True:
                connection, _ = listener.accept()
                with suppress(OSError), connection, context.wrap_socket(connection, server_side=True):
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


async def test_client_certificate_that_is_refused_is_told_by_its_alert(tmp_path: Path) -> None:
    stranger = Held(chain=(SERVER.der,), key=SERVER.key)
    context = server_tls(tmp_path, clients=CLIENTS)
    # In TLS 1.3 the alert may be lost to a reset, as this server closes with the request unread.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with handshaking(context) as port:
        request = CaRequest(url=f"https://127.0.0.1:{port}/")
        error = await fault(request, identity=stranger)
        without = await fault(request)
    assert (Fault.REFUSED, False, "UNKNOWN_CA") == (error.fault, error.sent, error.alert)
    assert (Fault.REFUSED, False, "HANDSHAKE_FAILURE") == (without.fault, without.sent, without.alert)


def test_client_certificate_of_another_key_is_told() -> None:
    with pytest.raises(CaError) as caught:
        tls_context((ROOT.der,), Held(chain=(CLIENT.der,), key=SERVER.key))
    assert Fault.MISCONFIGURED is caught.value.fault


def test_root_that_is_none_is_told() -> None:
    with pytest.raises(CaError) as caught:
        tls_context((b"no certificate",), None)
    assert Fault.MISCONFIGURED is caught.value.fault


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_redirect_is_not_followed_by_default(tmp_path: Path, method: str) -> None:
    raw = response(b"", status="302 Found", headers={"Location": "https://elsewhere.example/"})
    async with serving(tmp_path, answer(raw)) as server:
        error = await fault(CaRequest(url=server.url(), method=method, redirects=int(method == "POST")))
    assert "HTTP 302 to 'https://elsewhere.example/', which is not followed" == error.detail


async def test_redirect_of_a_get_is_followed_where_it_may_be(tmp_path: Path) -> None:
    moved = response(b"", status="307 Moved", headers={"Location": "/there"})
    async with serving(tmp_path, in_turn(answer(moved), answer(response(b"found")))) as server:
        async with client() as asking:
            got = await asking.send(CaRequest(url=server.url("/"), redirects=1), deadline=in_s(WAIT_S))
        assert (b"found", server.url("/there")) == (got.body, got.url)
    down = response(b"", status="302 Found", headers={"Location": "http://127.0.0.1/"})
    async with serving(tmp_path, answer(down)) as server:
        error = await fault(CaRequest(url=server.url(), redirects=3))
    assert "is not https" in error.detail
    async with serving(tmp_path, answer(moved)) as server:
        error = await fault(CaRequest(url=server.url(), redirects=2))
        assert 3 == len(server.requests)
    assert "redirected more than 2 times" == error.detail


@pytest.mark.parametrize(
    ("status", "expected"),
    [("407 Proxy Authentication Required", Fault.MISCONFIGURED), ("502 Bad Gateway", Fault.UNREACHABLE)],
)
async def test_proxy_that_says_no_was_not_the_ca(status: str, expected: Fault) -> None:
    async with evil(answer(response(b"", status=status))) as proxy:
        error = await fault(
            CaRequest(url="https://ca.example/"), proxy=f"http://u:secret@127.0.0.1:{proxy.port}"
        )
        assert proxy.requests[0].startswith(b"CONNECT ca.example:443 HTTP/1.1\r\n")
        assert b"Proxy-Authorization: Basic dTpzZWNyZXQ=" in proxy.requests[0]
    assert (expected, False) == (error.fault, error.sent)
    assert "secret" not in error.detail


async def test_proxy_that_is_silent_was_not_the_ca() -> None:
    async with evil(silent()) as proxy:
        error = await fault(
            CaRequest(url="https://ca.example/"), proxy=f"http://127.0.0.1:{proxy.port}", wait_s=0.3
        )
    assert "no whole answer within 0.3 s, waiting for the proxy" == error.detail
    assert (Fault.UNREACHABLE, False) == (error.fault, error.sent)


async def test_environment_proxy_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    async with serving(tmp_path, answer(response(b""))) as server, client() as asking:
        assert 200 == (await asking.send(CaRequest(url=server.url()), deadline=in_s(WAIT_S))).status


def test_proxy_that_is_none_is_told_without_its_text() -> None:
    with pytest.raises(CaError) as caught:
        CaClient(clock=SystemClock(), roots=(), proxy="socks9://u:secret@x")
    assert "the proxy's URL cannot be used" == caught.value.detail


async def pinned(server: Server, fingerprint: str, *came: bytes) -> bytes:
    return await fetch_pinned(
        CaRequest(url=server.url()),
        fingerprint=fingerprint,
        certificates=lambda _: came,
        clock=SystemClock(),
        deadline=in_s(WAIT_S),
    )


async def test_pinned_root_is_believed_by_its_fingerprint_only(tmp_path: Path) -> None:
    async with serving(tmp_path, answer(response(b""))) as server:
        fingerprint = hashlib.sha256(ROOT.der).hexdigest()
        assert ROOT.der == await pinned(server, fingerprint, CLIENTS.der, ROOT.der)
        for came in ((), (CLIENTS.der,)):
            with pytest.raises(CaError) as caught:
                await pinned(server, fingerprint, *came)
            assert Fault.MISCONFIGURED is caught.value.fault
    assert hashlib.sha256(CLIENTS.der).hexdigest() in caught.value.detail


def test_failure_names_step_and_time() -> None:
    error = CaError(Fault.RATE_LIMITED, "too many", retry_at=NOW)
    assert Failed(fault=Fault.RATE_LIMITED, detail="sign: too many", retry_at=NOW) == error.failed("sign")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("120", NOW + timedelta(seconds=120)),
        (" 0 ", NOW),
        ("9" * 40, NOW + timedelta(days=30)),
        ("Mon, 01 Jun 2026 13:00:00 GMT", NOW + timedelta(hours=1)),
        ("Mon, 01 Jun 2026 15:00:00 +0200", NOW + timedelta(hours=1)),
        ("Mon, 01 Jun 2020 13:00:00 GMT", NOW),
        ("Fri, 01 Jan 2100 00:00:00 GMT", NOW + timedelta(days=30)),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_in_both_forms(text: str, expected: datetime | None) -> None:
    assert expected == retry_after(text, NOW)


def test_retry_after_date_is_one_of_the_cas_clock() -> None:
    a_day_behind = NOW - timedelta(days=1)
    asked = "Mon, 01 Jun 2026 13:00:00 GMT"
    assert NOW - timedelta(hours=23) == retry_after(asked, a_day_behind, date=NOW)
    assert NOW + timedelta(hours=25) == retry_after(asked, NOW + timedelta(days=1), date=NOW)
    assert NOW + timedelta(seconds=120) == retry_after("120", NOW, date=a_day_behind)


@pytest.mark.parametrize(
    ("begins", "said"), [(-2, "certificate has expired"), (1, "certificate is not yet valid"), (0, None)]
)
async def test_certificate_of_another_time_makes_our_clock_a_suspect(
    tmp_path: Path, begins: int, said: str | None
) -> None:
    now = datetime.now(UTC)
    start = now + timedelta(days=begins, hours=-1)
    # The third is of this time, and of another host.
    names = ["ip:127.0.0.1"] if said else ["dns:elsewhere.example"]
    end = start + timedelta(days=1)
    server = pki.issue(ROOT, "server", san=names, eku=["serverAuth"], not_before=start, not_after=end)
    file = tmp_path / "server.pem"
    file.write_bytes(server.pem + server.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    async with evil(answer(b"x"), tls=context) as where:
        error = await fault(CaRequest(url=where.url("/")))
    assert (Fault.MISCONFIGURED, True) == (error.fault, error.untrusted)
    assert (said or "mismatch") in error.detail
    assert (said is not None) is ("this host's clock, which says 2" in error.detail), error.detail


@given(st.text(max_size=80))
def test_retry_after_never_leaves_its_bounds(text: str) -> None:
    at = retry_after(text, NOW)
    assert at is None or NOW <= at <= NOW + timedelta(days=30)
    assert (moment := http_date(text)) is None or moment.tzinfo is UTC


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, (Fault.REFUSED, None)),
        (403, (Fault.REFUSED, None)),
        (407, (Fault.MISCONFIGURED, None)),
        (408, (Fault.UNREACHABLE, NOW + timedelta(seconds=5))),
        (429, (Fault.RATE_LIMITED, NOW + timedelta(seconds=5))),
        (503, (Fault.UNREACHABLE, NOW + timedelta(seconds=5))),
    ],
)
def test_status_fault_by_status(status: int, expected: tuple[Fault, datetime | None]) -> None:
    headers = httpx.Headers({"Retry-After": "5"})
    assert expected == status_fault(CaAnswer(status=status, headers=headers, body=b"", url=""), NOW)


def test_printable_is_one_bounded_line() -> None:
    assert r"a\nb\x1b" == printable("a\nb\x1b")
    assert 201 == len(printable("x" * 500))
    assert all(hasattr(ca_client, name) for name in ca_client.__all__)
