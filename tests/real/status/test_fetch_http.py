"""
The guarded HTTP client against nginx and hostile servers: bodies, redirects, errors, deadlines, dead hosts.
"""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from cftpki_connectors.fetch.breaker import FAILURES_TO_OPEN, Circuit
from cftpki_connectors.fetch.client import Fetcher
from cftpki_connectors.fetch.gate import REQUESTS_PER_HOST
from cftpki_connectors.fetch.guard import guard_of
from cftpki_connectors.fetch.values import FetchRequest
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import TrustSet
from tests.support.fetching import OK, failure, failure_of, gate_of, wanted
from tests.support.pace import LATE_S
from tests.support.ports import free_port
from tests.support.servers import (
    Behaviour,
    Server,
    answer,
    drip,
    endless,
    evil,
    in_turn,
    response,
    silent,
)

pytestmark = pytest.mark.real


async def test_fetch_from_nginx_gives_the_body(fetcher: Fetcher, web: Server) -> None:
    assert b"fine" == await fetcher.fetch(wanted(web.url("/ok")))


async def test_fetch_sends_its_name_the_host_and_no_wish_for_encodings(fetcher: Fetcher, web: Server) -> None:
    shown = await fetcher.fetch(wanted(web.url("/show-host")))
    assert f"127.0.0.1:{web.port} identity cftpki".encode() == shown


async def test_fetch_keeps_no_cookies(fetcher: Fetcher, web: Server) -> None:
    await fetcher.fetch(wanted(web.url("/cookie")))
    assert b"[]" == await fetcher.fetch(wanted(web.url("/show-cookie")))


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
