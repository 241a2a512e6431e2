"""
One CA's trouble is its own: names that do not resolve, families that do not connect, octets behind an answer, and
files on a dead file server delay and fail nobody else. Real sockets, raw servers.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import httpcore
import pytest

from cftpki_connectors.fetch import resolve
from cftpki_connectors.fetch.breaker import FAILURES_TO_OPEN, Circuit
from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.guard import guard_of
from cftpki_connectors.fetch.resolve import STUCK_S, THREADS, SystemResolver
from cftpki_connectors.fetch.values import FetchError, FetchRequest
from cftpki_connectors.fetch.wire import WireBackend
from cftpki_connectors.status import crl
from cftpki_connectors.support.threads import Lane
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import TrustSet
from tests.support.pki import issue, make_root
from tests.support.servers import answer, evil, response, write_pem

pytestmark = pytest.mark.real

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
FIRST, QUEUED = response(b"first"), response(b"queued")


def trust(name: str, *hosts: str) -> TrustSet:
    return TrustSet(name=name, anchors=(), allow_hosts=hosts, allow_networks=LOOPBACK)


def wanted(url: str, of: TrustSet, *, within_s: float = 5.0) -> FetchRequest:
    return FetchRequest(
        url=url, guard=guard_of(of), deadline=time.monotonic() + within_s, max_bytes=1 << 20, redirects=0
    )


async def failed(fetcher: Fetcher, request: FetchRequest) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetcher.fetch(request)
    return caught.value


@contextlib.asynccontextmanager
async def fetching(**options: object) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(**options)
    try:
        yield fetcher
    finally:
        await fetcher.aclose()


# -- octets behind an answer ---------------------------------------------------------------------------------


class Raw:
    """
    A server that writes what it is told, whatever was asked, and counts its connections.
    """

    def __init__(self, *writes: bytes, pause_s: float = 0.0) -> None:
        self._writes = writes
        self._pause_s = pause_s
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                for number, piece in enumerate(self._writes):
                    if number and self._pause_s:
                        await asyncio.sleep(self._pause_s)
                    writer.write(piece)
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def listening(raw: Raw, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{raw.port}/"
    finally:
        server.close()


OURS = trust("ours", "127.0.0.1")
LARGE = response(b"x" * 65_000)


@pytest.mark.parametrize(
    ("writes", "pause_s"),
    [
        ((FIRST + QUEUED,), 0.0),
        ((FIRST, QUEUED), 0.0),
        ((FIRST, QUEUED), 0.02),
        ((FIRST + QUEUED[:1], QUEUED[1:]), 0.02),
        ((FIRST + b"\r\n",), 0.0),
        ((FIRST + QUEUED * 3000,), 0.0),
        ((response(b"", headers={"Content-Length": "0"}, status="200 OK") + QUEUED,), 0.0),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n" + QUEUED,), 0.0),
        ((b"HTTP/1.1 100 Continue\r\n\r\n" + FIRST + QUEUED,), 0.0),
        ((b"HTTP/1.1 204 No Content\r\n\r\n" + QUEUED,), 0.0),
        ((b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nfirst" + QUEUED,), 0.0),
    ],
)
async def test_octets_behind_an_answer_are_never_the_next_answer(writes, pause_s) -> None:
    raw = Raw(*writes, pause_s=pause_s)
    async with listening(raw) as url, fetching() as fetcher:
        for number in range(1, 4):
            with contextlib.suppress(FetchError):  # by a status that promises no answer
                assert b"queued" != await fetcher.fetch(wanted(url, OURS))
            await asyncio.sleep(pause_s * 3)
            assert number == raw.connections


async def test_octets_behind_an_answer_over_tls_are_never_the_next_answer(tmp_path: Path) -> None:
    root = make_root("Web root")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(write_pem(tmp_path / "web", issue(root, "127.0.0.1", san=["ip:127.0.0.1"])))
    trusting = ssl.create_default_context(cadata=root.der)
    for writes in ((FIRST + QUEUED,), (FIRST, QUEUED), (FIRST + QUEUED * 3000,)):
        raw = Raw(*writes)
        async with listening(raw, served) as url, fetching(tls=trusting) as fetcher:
            for number in (1, 2, 3):
                assert b"first" == await fetcher.fetch(wanted(url, OURS))
                assert number == raw.connections


@pytest.mark.parametrize("body", [b"first", b"x" * 200_000])
async def test_connection_with_nothing_left_is_used_again(body) -> None:
    raw = Raw(response(body))
    async with listening(raw) as url, fetching() as fetcher:
        for _ in range(5):
            assert body == await fetcher.fetch(wanted(url, OURS))
        assert 1 == raw.connections


async def test_tls_connection_with_nothing_left_is_used_again(tmp_path: Path) -> None:
    root = make_root("Web root")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(write_pem(tmp_path / "web", issue(root, "127.0.0.1", san=["ip:127.0.0.1"])))
    raw = Raw(response(b"x" * 100_000))
    async with (
        listening(raw, served) as url,
        fetching(tls=ssl.create_default_context(cadata=root.der)) as fetcher,
    ):
        for _ in range(3):
            assert 100_000 == len(await fetcher.fetch(wanted(url, OURS)))
        assert 1 == raw.connections


# -- address families ----------------------------------------------------------------------------------------


class Silent(httpcore.AsyncNetworkBackend):
    """
    The network, with addresses that never answer.
    """

    def __init__(self, *silent: str) -> None:
        self._inner = WireBackend()
        self._silent = silent
        self.tried: list[str] = []
        self.given_up = 0

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):  # noqa: ASYNC109
        self.tried.append(host)
        if host in self._silent:
            try:
                await asyncio.sleep(60)
            finally:
                self.given_up += 1
        return await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)


class Fixed:
    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:  # noqa: ARG002
        return self._addresses


@pytest.mark.parametrize("addresses", [("::1", "127.0.0.1"), ("127.0.0.2", "::1", "127.0.0.1")])
async def test_addresses_that_never_connect_do_not_hold_up_the_others(addresses) -> None:
    network = Silent("::1", "127.0.0.2")
    async with (
        evil(answer(response(b"fine"))) as server,
        fetching(resolver=Fixed(*addresses), network=network) as fetcher,
    ):
        started = time.monotonic()
        request = wanted(f"http://ca.example:{server.port}/", trust("t", "ca.example"))
        assert b"fine" == await fetcher.fetch(request)
        assert time.monotonic() - started < 0.25 * len(addresses) + 0.5
        assert (list(addresses), len(addresses) - 1) == (network.tried, network.given_up)


async def test_address_that_refuses_is_followed_by_the_next_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.2", 0))
        async with evil(answer(response(b"fine"))) as server:
            resolver = Fixed("127.0.0.2", "127.0.0.1")
            async with fetching(resolver=resolver) as fetcher:
                started = time.monotonic()
                request = wanted(f"http://ca.example:{server.port}/", trust("t", "ca.example"))
                assert b"fine" == await fetcher.fetch(request)
                assert time.monotonic() - started < 1


async def test_address_that_is_not_allowed_refuses_all() -> None:
    async with fetching(resolver=Fixed("127.0.0.1", "169.254.169.254")) as fetcher:
        error = await failed(fetcher, wanted("http://ca.example:1/", trust("t", "ca.example")))
    assert Cause.FORBIDDEN_URL is error.cause


# -- names ---------------------------------------------------------------------------------------------------


class Names:
    """
    The system's resolution, by a script. Names below `stuck.example` wait until the test lets them go.
    """

    def __init__(self) -> None:
        self.release = threading.Event()
        self.asked: list[tuple[str, int]] = []
        self.stuck_families: tuple[int, ...] = (socket.AF_INET, socket.AF_INET6)

    def __call__(self, host: str, port: int, family: int) -> tuple[str, ...]:  # noqa: ARG002
        self.asked.append((host, family))
        if host.endswith("stuck.example") and family in self.stuck_families:
            self.release.wait(30)
            raise TimeoutError("no answer")  # noqa: EM101, TRY003
        if host.endswith("missing.example"):
            raise OSError("no such name")  # noqa: EM101, TRY003
        return ("127.0.0.1",) if family == socket.AF_INET else ()


@pytest.fixture
def names(monkeypatch) -> Iterator[Names]:
    script = Names()
    monkeypatch.setattr(SystemResolver.__init__, "__defaults__", (script, time.monotonic))
    assert resolve.system_lookup is not script
    yield script
    script.release.set()


async def test_thirty_names_that_do_not_resolve_are_the_trouble_of_their_own_trust_set(names) -> None:
    theirs = trust("theirs", "*.stuck.example")
    other = trust("other", "good.example")
    async with evil(answer(response(b"fine"))) as server, fetching() as fetcher:
        stuck = [
            asyncio.create_task(
                failed(fetcher, wanted(f"http://n{n}.stuck.example:{server.port}/", theirs, within_s=1.0))
            )
            for n in range(30)
        ]
        await asyncio.sleep(0.2)
        assert len(names.asked) <= THREADS
        for _ in range(20):
            started = time.monotonic()
            assert b"fine" == await fetcher.fetch(wanted(f"http://good.example:{server.port}/", other))
            assert time.monotonic() - started < 1
        for error in await asyncio.gather(*stuck):
            assert error.cause in {Cause.TIMED_OUT, Cause.UNREACHABLE}
        gate = fetcher._reaches[guard_of(other)].gates.of(f"http://good.example:{server.port}")
        assert Circuit.CLOSED is gate.breaker.circuit


async def test_same_host_of_two_trust_sets_has_two_breakers() -> None:
    ours, theirs = trust("ours", "127.0.0.1"), trust("theirs", "127.0.0.1", "x.example")
    broken = answer(response(b"", status="503 Busy"))
    async with evil(broken) as server, fetching() as fetcher:
        for _ in range(FAILURES_TO_OPEN):
            await failed(fetcher, wanted(server.url(), theirs))
        assert "left alone" in (await failed(fetcher, wanted(server.url(), theirs))).detail
        assert 503 == (await failed(fetcher, wanted(server.url(), ours))).status


async def test_name_that_is_stuck_is_asked_once_and_fails_at_once_for_those_who_come_later(names) -> None:
    now = [0.0]
    resolver = SystemResolver(names, lambda: now[0])
    first = asyncio.create_task(resolver.resolve("a.stuck.example", 80))
    await asyncio.sleep(0.05)
    second = asyncio.create_task(resolver.resolve("a.stuck.example", 80))
    await asyncio.sleep(0.05)
    assert 2 == len(names.asked)  # both families, once
    now[0] += STUCK_S + 1
    with pytest.raises(OSError, match="its resolution has been under way for 3 s"):
        await resolver.resolve("a.stuck.example", 80)
    names.release.set()
    for waiting in (first, second):
        with pytest.raises(OSError, match="no answer"):
            await waiting
    await resolver.aclose()


async def test_name_that_failed_is_not_asked_again_for_a_while(names) -> None:
    now = [0.0]
    resolver = SystemResolver(names, lambda: now[0])
    for _ in range(5):
        with pytest.raises(OSError, match="no such name"):
            await resolver.resolve("a.missing.example", 80)
    assert 2 == len(names.asked)
    now[0] += resolve.REMEMBERED_S + 1
    with pytest.raises(OSError, match="no such name"):
        await resolver.resolve("a.missing.example", 80)
    assert 4 == len(names.asked)
    await resolver.aclose()


@pytest.mark.parametrize("family", [socket.AF_INET6, socket.AF_INET])
async def test_family_that_never_resolves_does_not_hold_up_the_other(names, family) -> None:
    names.stuck_families = (family,)

    def answers(host: str, port: int, asked: int) -> tuple[str, ...]:
        names(host, port, asked)
        return ("127.0.0.1",) if asked == socket.AF_INET else ("::1",)

    resolver = SystemResolver(answers)
    started = time.monotonic()
    found = await resolver.resolve("a.stuck.example", 80)
    assert ("127.0.0.1",) if family == socket.AF_INET6 else ("::1",) == found
    assert time.monotonic() - started < 1
    names.release.set()
    await resolver.aclose()


async def test_both_families_are_given_where_both_answer(names) -> None:
    resolver = SystemResolver(lambda host, port, family: names(host, port, family) or ("::1",))
    assert ("::1", "127.0.0.1") == await resolver.resolve("good.example", 80)
    await resolver.aclose()


async def test_names_remembered_are_bounded(names) -> None:
    resolver = SystemResolver(names)
    for n in range(resolve.NAMES):
        with pytest.raises(OSError, match=r"no such name|stuck already"):
            await resolver.resolve(f"n{n}.missing.example", 80)
    assert len(resolver._names) <= resolve.NAMES
    await resolver.aclose()


# -- lanes ---------------------------------------------------------------------------------------------------


async def test_lane_runs_the_same_thing_once_and_others_beside_it() -> None:
    release, runs = threading.Event(), []
    lane = Lane(2, "waiting")

    def wait() -> int:
        runs.append(1)
        release.wait(10)
        return 7

    same = [asyncio.create_task(lane.call(wait, "key")) for _ in range(5)]
    await asyncio.sleep(0.05)
    assert 5 == await lane.call(lambda: 5, "other")
    same[0].cancel()  # who leaves takes the answer from nobody
    beside = asyncio.create_task(lane.call(wait))
    await asyncio.sleep(0.05)
    with pytest.raises(OSError, match="2 calls are stuck already: waiting"):
        await lane.call(lambda: 5, "third")
    release.set()
    assert [7] * 4 == await asyncio.gather(*same[1:])
    assert 7 == await beside
    assert (5, 2) == (await lane.call(lambda: 5, "key"), len(runs))


async def test_lane_hands_over_what_is_raised() -> None:
    lane = Lane(1, "failing")

    def fail() -> None:
        msg = "no"
        raise KeyError(msg)

    for _ in range(3):
        with pytest.raises(KeyError):
            await lane.call(fail, "key")


# -- a private TLS CA ----------------------------------------------------------------------------------------


async def test_private_tls_ca_of_one_trust_set_vouches_for_its_locations_and_for_no_others(
    tmp_path: Path,
) -> None:
    root, other = make_root("Private TLS root"), make_root("Other TLS root")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(write_pem(tmp_path / "web", issue(root, "127.0.0.1", san=["ip:127.0.0.1"])))
    without = trust("without", "127.0.0.1")
    sets = {
        "with": replace(without, https_roots=(other.der, root.der)),
        "other": replace(without, https_roots=(other.der,)),
        "without": without,
    }
    raw = Raw(FIRST)
    async with listening(raw, served) as url, fetching() as fetcher:
        assert b"first" == await fetcher.fetch(wanted(url, sets["with"]))
        for name in ("other", "without"):
            error = await failed(fetcher, wanted(url, sets[name]))
            assert (Cause.UNREACHABLE, True) == (error.cause, "certificate verify failed" in error.detail)
        assert b"first" == await fetcher.fetch(wanted(url, sets["with"]))


async def test_private_tls_ca_does_not_vouch_for_another_name(tmp_path: Path) -> None:
    root = make_root("Private TLS root")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(write_pem(tmp_path / "web", issue(root, "ca.example", san=["dns:ca.example"])))
    ours = replace(trust("ours", "127.0.0.1"), https_roots=(root.der,))
    async with listening(Raw(FIRST), served) as url, fetching() as fetcher:
        assert Cause.UNREACHABLE is (await failed(fetcher, wanted(url, ours))).cause


# -- files ---------------------------------------------------------------------------------------------------


def test_crl_files_are_kept_within_octets_and_read_again_when_they_change(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("cftpki_connectors.status.crl._KEPT_OCTETS", 10_000)
    files = crl._Files()
    for number in range(5):
        path = tmp_path / f"{number}.crl"
        path.write_bytes(bytes([number]) * 4_000)
        first = files.read(path, 5_000)
        assert first is files.read(path, 5_000)
        assert files._read.octets <= 10_000
        path.write_bytes(b"new")
        assert b"new" == files.read(path, 5_000)
