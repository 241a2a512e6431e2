"""
The guarded HTTP client: names, addresses, proxies and https.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import time
from ipaddress import ip_network
from pathlib import Path

import pytest

from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.values import FetchError
from cftpki_connectors.support.httpx_client import load_system_trust, system_tls
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import TrustSet
from tests.support.fetching import LOOPBACK, OK, Names, failure, wanted
from tests.support.pace import LATE_S
from tests.support.pki import issue, make_root
from tests.support.servers import (
    Server,
    answer,
    evil,
    nginx,
    response,
    write_pem,
)

pytestmark = pytest.mark.real


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
