"""
The guarded fetcher against real and evil servers: permissions, redirects, caps, the wall clock, breaker, retries.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path

import pytest

from cftpki_connectors.fetch.breaker import FAILURES_TO_OPEN, Circuit
from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.gate import REQUESTS_PER_HOST, Gate
from cftpki_connectors.fetch.guard import guard_of
from cftpki_connectors.fetch.values import FetchError, FetchRequest
from cftpki_connectors.support.httpx_client import load_system_trust, system_tls
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import TrustSet
from tests.support.pace import LATE_S
from tests.support.pki import issue, make_root
from tests.support.ports import free_port
from tests.support.servers import (
    Behaviour,
    Server,
    answer,
    drip,
    endless,
    evil,
    in_turn,
    nginx,
    response,
    silent,
    write_pem,
)

pytestmark = pytest.mark.real

LOOPBACK = ip_network("127.0.0.0/8")
OK = response(b"fine")


class Names:
    """
    A resolver that answers from a script: each name's answers in turn, the last for ever.
    """

    def __init__(self, answers: Mapping[str, list[tuple[str, ...]]]) -> None:
        self._answers = {host: list(script) for host, script in answers.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:  # noqa: ARG002  # the port's signature
        self.asked.append(host)
        script = self._answers.get(host)
        if script is None:
            msg = "no such name"
            raise OSError(msg)
        return script.pop(0) if len(script) > 1 else script[0]


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    made = Fetcher()
    yield made
    await made.aclose()


def wanted(url: str, *, within_s: float = 5.0, **changes: object) -> FetchRequest:
    trust = changes.pop("trust", None) or TrustSet(name="t", anchors=(), allow_hosts=("127.0.0.1",))
    options = {"max_bytes": 10_000, "redirects": 3, **changes}
    return FetchRequest(
        url=url,
        guard=guard_of(trust),
        deadline=time.monotonic() + within_s,
        **options,
    )


async def failure(fetcher: Fetcher, request: FetchRequest) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetcher.fetch(request)
    return caught.value


def gate_of(fetcher: Fetcher, url: str) -> Gate:
    (reach,) = fetcher._reaches.values()
    return reach.gates.of(url.rstrip("/"))


async def failure_of(fetcher: Fetcher, behaviour: Behaviour, **options: object) -> FetchError:
    async with evil(behaviour) as server:
        return await failure(fetcher, wanted(server.url(), **options))


NGINX_LOCATIONS = """
location /ok { return 200 fine; }
location /gz { gzip on; gzip_min_length 1; gzip_types *; gzip_proxied any; add_header X-Try 1; root PLACE; }
location /encoded { add_header Content-Encoding gzip; return 200 fine; }
location /once { return 302 /ok; }
location /three { return 307 /two; }
location /two { return 308 /once; }
location /four { return 301 /three; }
location /loop { return 302 /loop; }
location /metadata { return 302 http://169.254.169.254/latest/meta-data/; }
location /elsewhere { return 302 http://other.example/; }
location /loopback { return 302 http://127.0.0.2:$server_port/ok; }
location /file { return 302 file:///etc/passwd; }
location /user { return 302 http://user@127.0.0.1:$server_port/ok; }
location /html { default_type text/html; return 200 "<html>please log in</html>"; }
location /missing { return 404; }
location /gone { return 410; }
location /busy { return 503; }
location /error { return 500; }
location /many { return 429; }
location /slow.bin { limit_rate 1k; }
location /cookie { add_header Set-Cookie "session=1; Path=/"; return 200 fine; }
location /show-cookie { return 200 "[$http_cookie]"; }
location /show-host { return 200 "$http_host $http_accept_encoding $http_user_agent"; }
"""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("web")
    files = {"slow.bin": bytes(9_000), "exact.bin": bytes(10_000), "large.bin": bytes(10_001)}
    locations = NGINX_LOCATIONS.replace("root PLACE;", "")
    with nginx(path, files, locations) as server:
        yield server


async def test_fetch_from_nginx_gives_the_body(fetcher: Fetcher, web: Server) -> None:
    assert b"fine" == await fetcher.fetch(wanted(web.url("/ok")))


async def test_fetch_sends_its_name_the_host_and_no_wish_for_encodings(fetcher: Fetcher, web: Server) -> None:
    shown = await fetcher.fetch(wanted(web.url("/show-host")))
    assert f"127.0.0.1:{web.port} identity cftpki".encode() == shown


async def test_fetch_keeps_no_cookies(fetcher: Fetcher, web: Server) -> None:
    await fetcher.fetch(wanted(web.url("/cookie")))
    assert b"[]" == await fetcher.fetch(wanted(web.url("/show-cookie")))
    assert [[]] == [list(reach.client.cookies.jar) for reach in fetcher._reaches.values()]


@pytest.mark.parametrize("path", ["/once", "/two", "/three"])
async def test_fetch_follows_up_to_three_redirects(fetcher: Fetcher, web: Server, path: str) -> None:
    assert b"fine" == await fetcher.fetch(wanted(web.url(path)))


@pytest.mark.parametrize("path", ["/four", "/loop"])
async def test_fetch_with_more_redirects_fails(fetcher: Fetcher, web: Server, path: str) -> None:
    error = await failure(fetcher, wanted(web.url(path)))
    assert (Cause.UNREACHABLE, "redirected more than 3 times") == (error.cause, error.detail)


@pytest.mark.parametrize("path", ["/metadata", "/elsewhere", "/loopback", "/file", "/user"])
async def test_fetch_redirected_to_what_is_not_allowed_is_forbidden(
    fetcher: Fetcher, web: Server, path: str
) -> None:
    error = await failure(fetcher, wanted(web.url(path)))
    assert Cause.FORBIDDEN_URL is error.cause
    assert "redirected to" in error.detail


async def test_fetch_redirected_to_the_metadata_address_is_forbidden_even_where_every_host_is_allowed(
    fetcher: Fetcher, web: Server
) -> None:
    everyone = TrustSet(name="t", anchors=(), allow_hosts=("127.0.0.1", "0.0.0.0/0"))  # a range
    error = await failure(fetcher, wanted(web.url("/metadata"), trust=everyone))
    assert Cause.FORBIDDEN_URL is error.cause
    assert "169.254.169.254 is not public" in error.detail


@pytest.mark.parametrize(
    ("path", "cause", "detail"),
    [
        ("/html", Cause.MALFORMED, "HTML page"),
        ("/missing", Cause.UNREACHABLE, "HTTP 404"),
        ("/gone", Cause.UNREACHABLE, "HTTP 410"),
        ("/busy", Cause.UNREACHABLE, "HTTP 503"),
        ("/error", Cause.UNREACHABLE, "HTTP 500"),
        ("/many", Cause.UNREACHABLE, "HTTP 429"),
        ("/encoded", Cause.MALFORMED, "content encoding 'gzip'"),
        ("/large.bin", Cause.TOO_LARGE, "10001 bytes announced"),
    ],
)
async def test_fetch_of_a_bad_answer_names_its_cause(
    fetcher: Fetcher, web: Server, path: str, cause: Cause, detail: str
) -> None:
    error = await failure(fetcher, wanted(web.url(path)))
    assert cause is error.cause
    assert detail in error.detail


async def test_fetch_of_exactly_the_allowed_size_passes(fetcher: Fetcher, web: Server) -> None:
    assert bytes(10_000) == await fetcher.fetch(wanted(web.url("/exact.bin")))


async def test_fetch_of_a_slow_body_ends_at_the_deadline(fetcher: Fetcher, web: Server) -> None:
    started = time.monotonic()
    error = await failure(fetcher, wanted(web.url("/slow.bin"), within_s=0.6))
    assert Cause.TIMED_OUT is error.cause
    assert 0.5 < time.monotonic() - started < 0.6 + LATE_S


async def test_fetch_repeats_after_server_errors_and_not_after_others(fetcher: Fetcher, web: Server) -> None:
    await failure(fetcher, wanted(web.url("/error?twice")))
    await failure(fetcher, wanted(web.url("/missing?once")))
    lines = "\n".join(web.log_lines())
    assert (3, 1) == (lines.count("/error?twice"), lines.count("/missing?once"))


async def test_fetch_succeeds_when_a_repetition_does(fetcher: Fetcher) -> None:
    cut = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfi", close=True)
    async with evil(in_turn(answer(b"", close=True), cut, answer(OK))) as server:
        assert b"fine" == await fetcher.fetch(wanted(server.url()))
        assert 3 == len(server.requests)


async def test_fetch_from_a_port_where_nobody_listens_is_unreachable(fetcher: Fetcher) -> None:
    error = await failure(fetcher, wanted(f"http://127.0.0.1:{free_port()}/"))
    assert Cause.UNREACHABLE is error.cause


@pytest.mark.parametrize(
    "behaviour",
    [
        silent(),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", every_s=0.05),
        drip(b"H", every_s=0.05),
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    ],
    ids=["silent", "drip body", "drip head", "no body", "100 Continue for ever"],
)
async def test_fetch_from_a_server_that_stalls_ends_at_the_deadline(
    fetcher: Fetcher, behaviour: Behaviour
) -> None:
    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(30):
            await behaviour(reader, writer)

    started = time.monotonic()
    error = await failure_of(fetcher, stalls, within_s=0.5)
    assert time.monotonic() - started < 0.5 + LATE_S
    assert Cause.TIMED_OUT is error.cause


async def test_fetch_from_a_drip_of_one_byte_a_second_ends_at_the_deadline(fetcher: Fetcher) -> None:
    started = time.monotonic()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await drip(b"", every_s=1.0)(reader, writer)

    error = await failure_of(fetcher, behave, within_s=2.5)
    assert time.monotonic() - started < 2.5 + LATE_S
    assert (Cause.TIMED_OUT, True) == (error.cause, "bytes of the body" in error.detail)


@pytest.mark.parametrize(
    "behaviour",
    [
        endless(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + bytes(4096) + b"\r\n"
        ),
        endless(b"HTTP/1.1 200 OK\r\n\r\n", bytes(4096)),
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", bytes(4096)),
    ],
    ids=["chunks", "until close", "1 GB announced"],
)
async def test_fetch_of_an_endless_body_ends_at_the_cap(fetcher: Fetcher, behaviour: Behaviour) -> None:
    error = await failure_of(fetcher, behaviour)
    assert Cause.TOO_LARGE is error.cause


@pytest.mark.parametrize(
    "behaviour",
    [
        endless(b"HTTP/1.1 200 OK\r\n", b"X-Flood: " + b"a" * 4000 + b"\r\n"),
        endless(b"HTTP/1.1 200 OK\r\nX-Flood: ", b"a" * 4000),
        answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", close=True),
        answer(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", close=True),
        answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", close=True),
        answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", close=True),
        answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut", close=True),
        answer(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
        answer(b"HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"),
        answer(response(b"", status="304 Not Modified")),
        answer(b"HTTP/1.1 204 No Content\r\n\r\n"),
        answer(response(b"half", status="206 Partial Content")),
    ],
    ids=[
        "header flood", "long header", "ssh", "negative length", "two lengths", "gzip coding", "cut", "no location",
        "two locations", "304", "204", "206",
    ],
)  # fmt: skip
async def test_fetch_of_broken_http_is_unreachable(fetcher: Fetcher, behaviour: Behaviour) -> None:
    started = time.monotonic()
    error = await failure_of(fetcher, behaviour, within_s=3 * LATE_S)
    assert Cause.UNREACHABLE is error.cause, error
    assert time.monotonic() - started < 2 * LATE_S


@pytest.mark.parametrize(
    "location",
    [
        b"http://169.254.169.254/",
        b"//evil.example/",
        b"http://[",
        b"\\\\evil.example\\",
        b"http:///",
        b"/\xff",
        b"?\x01",
    ],
)
async def test_fetch_redirected_to_a_hostile_location_is_forbidden(fetcher: Fetcher, location: bytes) -> None:
    raw = b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"
    error = await failure_of(fetcher, answer(raw))
    assert error.cause in {Cause.FORBIDDEN_URL, Cause.UNREACHABLE}
    assert error.detail.isprintable()
    assert str(error).isprintable()


async def test_fetch_of_a_wrong_content_type_is_malformed_where_types_are_named(fetcher: Fetcher) -> None:
    types = frozenset({"application/ocsp-response"})
    for content_type, passes in (("application/ocsp-response; x=y", True), ("text/plain", False)):
        async with evil(answer(response(b"fine", headers={"Content-Type": content_type}))) as server:
            request = wanted(server.url(), content_types=types)
            if passes:
                assert b"fine" == await fetcher.fetch(request)
            else:
                assert Cause.MALFORMED is (await failure(fetcher, request)).cause


async def test_fetch_post_is_not_turned_into_a_get_by_a_redirect(fetcher: Fetcher) -> None:
    moved = answer(response(b"", status="302 Found", headers={"Location": "/x"}))
    kept = answer(response(b"", status="307 Temporary Redirect", headers={"Location": "/x"}))
    error = await failure_of(fetcher, moved, method="POST", body=b"question")
    assert Cause.UNREACHABLE is error.cause
    async with evil(in_turn(kept, answer(OK))) as server:
        assert b"fine" == await fetcher.fetch(wanted(server.url(), method="POST", body=b"question"))
        assert [b"question", b"question"] == [raw[-8:] for raw in server.requests]


# -- names and addresses -------------------------------------------------------------------------------------


def named(*hosts: str, networks: bool = True) -> TrustSet:
    return TrustSet(name="t", anchors=(), allow_hosts=hosts, allow_networks=(LOOPBACK,) if networks else ())


async def fetch_named(url: str, names: Names, trust: TrustSet, **options: object) -> bytes:
    fetcher = Fetcher(resolver=names)
    try:
        return await fetcher.fetch(wanted(url, trust=trust, **options))
    finally:
        await fetcher.aclose()


async def test_fetch_by_name_connects_to_the_address_and_sends_the_name() -> None:
    names = Names({"pki.example": [("127.0.0.1",)]})
    async with evil(answer(OK)) as server:
        url = f"http://pki.example:{server.port}/x"
        assert b"fine" == await fetch_named(url, names, named("pki.example"))
        assert f"Host: pki.example:{server.port}".encode() in server.requests[0]
    assert ["pki.example"] == names.asked


async def test_fetch_of_a_name_that_leads_to_loopback_is_forbidden_without_allow_networks() -> None:
    names = Names({"pki.example": [("127.0.0.1",)]})
    async with evil(answer(OK)) as server:
        with pytest.raises(FetchError) as caught:
            await fetch_named(
                f"http://pki.example:{server.port}/", names, named("pki.example", networks=False)
            )
        assert [] == server.requests
    assert Cause.FORBIDDEN_URL is caught.value.cause


async def test_fetch_with_dns_rebinding_connects_to_the_checked_address_only() -> None:
    """
    The first answer is allowed, the second is not: asked once, nothing can change between check and connection.
    """
    trust = TrustSet(
        name="t", anchors=(), allow_hosts=("pki.example",), allow_networks=(ip_network("127.0.0.1/32"),)
    )
    names = Names({"pki.example": [("127.0.0.1",), ("127.0.0.2",)]})
    fetcher = Fetcher(resolver=names)
    closing = response(b"fine", headers={"Connection": "close"})
    async with evil(answer(closing, close=True)) as server:
        url = f"http://pki.example:{server.port}/"
        assert b"fine" == await fetcher.fetch(wanted(url, trust=trust))
        assert ["pki.example"] == names.asked
        error = await failure(fetcher, wanted(url, trust=trust))
        assert Cause.FORBIDDEN_URL is error.cause
        assert 1 == len(server.requests)
    await fetcher.aclose()


async def test_fetch_with_one_forbidden_address_among_allowed_ones_connects_to_none() -> None:
    names = Names({"pki.example": [("127.0.0.1", "169.254.169.254")]})
    async with evil(answer(OK)) as server:
        with pytest.raises(FetchError) as caught:
            await fetch_named(f"http://pki.example:{server.port}/", names, named("pki.example"))
        assert [] == server.requests
    assert Cause.FORBIDDEN_URL is caught.value.cause


@pytest.mark.parametrize("found", ["fe80::1%eth0", "localhost", ""])
async def test_fetch_of_a_name_with_a_strange_address_is_forbidden(found: str) -> None:
    with pytest.raises(FetchError) as caught:
        await fetch_named("http://pki.example/", Names({"pki.example": [(found,)]}), named("pki.example"))
    assert Cause.FORBIDDEN_URL is caught.value.cause


async def test_fetch_of_a_forbidden_name_does_not_even_resolve_it() -> None:
    names = Names({"other.example": [("127.0.0.1",)]})
    with pytest.raises(FetchError) as caught:
        await fetch_named("http://other.example/", names, named("pki.example"))
    assert (Cause.FORBIDDEN_URL, []) == (caught.value.cause, names.asked)


@pytest.mark.parametrize("script", [{}, {"pki.example": [()]}])
async def test_fetch_of_a_name_without_address_is_unreachable(
    script: dict[str, list[tuple[str, ...]]],
) -> None:
    with pytest.raises(FetchError) as caught:
        await fetch_named("http://pki.example/", Names(script), named("pki.example"))
    assert Cause.UNREACHABLE is caught.value.cause


async def test_fetch_goes_on_to_the_second_address_where_the_first_is_dead() -> None:
    async with evil(answer(OK)) as server:
        names = Names({"pki.example": [("127.0.0.99", "127.0.0.1")]})
        assert b"fine" == await fetch_named(f"http://pki.example:{server.port}/", names, named("pki.example"))


async def test_fetch_with_name_resolution_that_hangs_ends_at_the_deadline() -> None:
    class Hangs:
        async def resolve(self, host: str, port: int) -> tuple[str, ...]:  # noqa: ARG002  # the port's signature
            await asyncio.Event().wait()
            return ()

    started = time.monotonic()
    with pytest.raises(FetchError) as caught:
        await fetch_named("http://pki.example/", Hangs(), named("pki.example"), within_s=0.4)
    assert Cause.TIMED_OUT is caught.value.cause
    assert time.monotonic() - started < 0.4 + LATE_S


async def test_fetch_by_the_systems_resolution_reaches_localhost(fetcher: Fetcher) -> None:
    trust = TrustSet(
        name="t", anchors=(), allow_hosts=("localhost",), allow_networks=(LOOPBACK, ip_network("::1/128"))
    )
    async with evil(answer(OK)) as server:
        assert b"fine" == await fetcher.fetch(wanted(f"http://localhost:{server.port}/", trust=trust))
        error = await failure(
            fetcher, wanted(f"http://localhost:{server.port}/", trust=named("localhost", networks=False))
        )
        assert Cause.FORBIDDEN_URL is error.cause  # the connection that is still open is not shared
        assert 1 == len(server.requests)


async def test_fetch_does_not_look_at_proxies_of_the_environment(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with evil(answer(OK)) as server, evil(answer(response(b"proxied"))) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        assert b"fine" == await fetcher.fetch(wanted(server.url()))
        assert [] == proxy.requests


async def test_fetch_through_the_configured_proxy_connects_to_it_alone(fetcher: Fetcher) -> None:
    async with evil(answer(OK)) as proxy:
        trust = TrustSet(name="t", anchors=(), allow_hosts=("pki.example",), proxy=proxy.url().rstrip("/"))
        assert b"fine" == await fetcher.fetch(wanted("http://pki.example/ca.crl", trust=trust))
        assert proxy.requests[0].startswith(
            b"GET http://pki.example:80/ca.crl HTTP/1.1\r\n"
        ) or proxy.requests[0].startswith(b"GET http://pki.example/ca.crl HTTP/1.1\r\n")
        error = await failure(fetcher, wanted("http://other.example/", trust=trust))
        assert Cause.FORBIDDEN_URL is error.cause
        assert 1 == len(proxy.requests)


# -- https ---------------------------------------------------------------------------------------------------


async def test_fetch_by_https_verifies_name_and_chain_and_refuses_to_be_led_back_to_http(
    tmp_path: Path, web: Server
) -> None:
    root = make_root("TLS Root")
    good = issue(root, "pki.example", san=["dns:pki.example"], eku=["serverAuth"])
    trusting = ssl.create_default_context(cadata=root.pem.decode())
    names = Names({"pki.example": [("127.0.0.1",)], "other.example": [("127.0.0.1",)]})
    locations = f"location /ok {{ return 200 fine; }} location /down {{ return 302 {web.url('/ok')}; }}"
    with nginx(tmp_path, {}, locations, certificate=good) as server:
        trust = TrustSet(
            name="t",
            anchors=(),
            allow_hosts=("pki.example", "other.example", "127.0.0.1"),
            allow_networks=(LOOPBACK,),
        )
        secure = Fetcher(resolver=names, tls=trusting)
        assert b"fine" == await secure.fetch(wanted(f"https://pki.example:{server.port}/ok", trust=trust))
        wrong_name = await failure(secure, wanted(f"https://other.example:{server.port}/ok", trust=trust))
        down = await failure(secure, wanted(f"https://pki.example:{server.port}/down", trust=trust))
        await secure.aclose()
        unknown = Fetcher(resolver=names)
        wrong_chain = await failure(unknown, wanted(f"https://pki.example:{server.port}/ok", trust=trust))
        await unknown.aclose()
    assert (Cause.UNREACHABLE, Cause.UNREACHABLE) == (wrong_name.cause, wrong_chain.cause)
    assert "certificate" in wrong_name.detail.lower()
    assert (Cause.FORBIDDEN_URL, "redirected from https to http") == (down.cause, down.detail)


async def test_fetch_reads_the_systems_trust_store_for_https_alone(
    fetcher: Fetcher, web: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr("cftpki_connectors.fetch.client.load_system_trust", lambda: read.append("read"))
    assert b"fine" == await fetcher.fetch(wanted(web.url("/ok")))
    assert [] == read
    error = await failure(fetcher, wanted(web.url("/ok").replace("http:", "https:")))
    assert (Cause.UNREACHABLE, "read") == (error.cause, read[0])


def test_system_trust_is_what_openssl_trusts_by_default_once_for_the_process() -> None:
    load_system_trust()
    usual = ssl.create_default_context()
    assert usual.cert_store_stats() == system_tls().cert_store_stats()
    assert (True, ssl.CERT_REQUIRED) == (system_tls().check_hostname, system_tls().verify_mode)
    assert system_tls() is system_tls()


async def test_fetch_by_https_from_a_server_that_never_shakes_hands_ends_at_the_deadline(
    fetcher: Fetcher,
) -> None:
    async def mute(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with evil(mute) as server:
        started = time.monotonic()
        error = await failure(fetcher, wanted(f"https://127.0.0.1:{server.port}/", within_s=0.5))
        assert Cause.TIMED_OUT is error.cause
        assert time.monotonic() - started < 0.5 + LATE_S
        del error
        gc.collect()  # a connection left open would be reported here, and that is an error


async def test_write_pem_is_readable_by_us_alone(tmp_path: Path) -> None:
    assert 0o600 == write_pem(tmp_path / "x.pem", make_root("R")).stat().st_mode & 0o777


# Longer than a busy machine needs for twenty answers.
STUCK_S = 3.0


# -- bulkhead and breaker ------------------------------------------------------------------------------------


async def test_fetch_from_a_dead_host_does_not_delay_another_and_is_soon_left_alone(fetcher: Fetcher) -> None:
    async with evil(silent()) as dead, evil(answer(OK)) as alive:
        stuck = [
            asyncio.ensure_future(failure(fetcher, wanted(dead.url(f"/{number}"), within_s=STUCK_S)))
            for number in range(REQUESTS_PER_HOST * 3)
        ]
        await asyncio.sleep(0.05)
        started = time.monotonic()
        for _ in range(20):
            assert b"fine" == await fetcher.fetch(wanted(alive.url()))
        assert time.monotonic() - started < STUCK_S - 0.5
        await asyncio.gather(*stuck)
        assert len(dead.requests) <= REQUESTS_PER_HOST
        started = time.monotonic()
        error = await failure(fetcher, wanted(dead.url("/again"), within_s=3 * LATE_S))
        assert time.monotonic() - started < LATE_S
        assert (Cause.UNREACHABLE, True) == (error.cause, "left alone" in error.detail)


async def test_fetch_from_a_host_that_recovers_is_tried_again_after_the_pause() -> None:
    now = [1000.0]
    fetcher = Fetcher(monotonic=lambda: now[0])
    busy = answer(response(b"", status="503 Busy"))
    async with evil(in_turn(*[busy] * (3 * FAILURES_TO_OPEN - 2), answer(OK))) as server:

        def request() -> FetchRequest:
            trust = TrustSet(name="t", anchors=(), allow_hosts=("127.0.0.1",))
            return FetchRequest(
                url=server.url(), guard=guard_of(trust), deadline=now[0] + 5, max_bytes=100, redirects=0
            )

        for _ in range(FAILURES_TO_OPEN):
            error = await failure(fetcher, request())
            assert (Cause.UNREACHABLE, 503) == (error.cause, error.status)
        # Each request was repeated twice, but the last opened the circuit with its first try.
        assert 3 * FAILURES_TO_OPEN - 2 == len(server.requests)
        assert "left alone" in (await failure(fetcher, request())).detail
        now[0] += 6
        assert b"fine" == await fetcher.fetch(request())
    await fetcher.aclose()


async def test_fetch_that_had_no_time_says_nothing_about_the_host(fetcher: Fetcher) -> None:
    async with evil(silent()) as server:
        for _ in range(FAILURES_TO_OPEN * 2):
            assert Cause.TIMED_OUT is (await failure(fetcher, wanted(server.url(), within_s=0.02))).cause
        assert Cause.TIMED_OUT is (await failure(fetcher, wanted(server.url(), within_s=-1))).cause
        assert Circuit.CLOSED is gate_of(fetcher, server.url()).breaker.circuit
        for _ in range(FAILURES_TO_OPEN):
            await failure(fetcher, wanted(server.url(), within_s=0.3))
        assert Circuit.OPEN is gate_of(fetcher, server.url()).breaker.circuit


async def test_fetcher_closed_leaves_no_thread_and_no_task(fetcher: Fetcher) -> None:
    threads = set(threading.enumerate())
    async with evil(answer(OK)) as server:
        own = Fetcher()
        assert b"fine" == await own.fetch(wanted(server.url()))
        await own.aclose()
    assert threads == set(threading.enumerate())
