"""
Responders with habits: no nonces, no POST, no GET, any headers. What works is found within one budget, remembered, and
never softer than the trust set allows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.x509 import OCSPNonce
from cryptography.x509 import ocsp as pyca_ocsp

from cftpki_connectors.status.crl import CrlSource
from cftpki_connectors.status.ocsp import OcspSource
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, NonceMode, TrustSet
from cftpki_ext.core.statement import Lookup
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.ports.sources import StatusQuestion
from cftpki_ext.x509 import parse_certificate
from tests.support.pki import NOW, Revoked, issue, make_crl, make_ocsp_response, make_root
from tests.support.servers import response

pytestmark = pytest.mark.real

CA = make_root("Habits CA")
LEAF = issue(CA, "partner")
GOOD = make_ocsp_response(CA, LEAF)
CRL = make_crl(CA, [Revoked(LEAF.serial)])
OCSP_TYPE = {"Content-Type": "application/ocsp-response"}
FINE = response(GOOD, headers=OCSP_TYPE)

# What was asked: the method, and whether there was a nonce.
Asked = tuple[str, bool]
Habit = Callable[[Asked], bytes]


def error(status: int) -> bytes:
    return response(b"\x30\x03\x0a\x01" + bytes((status,)), headers=OCSP_TYPE)


def http(status: str, **headers: str) -> bytes:
    return response(b"", status=status, headers=headers)


class Clock:
    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> datetime:
        return NOW.astimezone(UTC)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.passed


class Responder:
    """
    Answers by what was asked, and keeps it.
    """

    def __init__(self, habit: Habit) -> None:
        self.habit = habit
        self.asked: list[Asked] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method = head.split(b" ")[0].decode()
                nonce = False
                if method == "POST":
                    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                    request = pyca_ocsp.load_der_ocsp_request(await reader.readexactly(length))
                    nonce = any(isinstance(one.value, OCSPNonce) for one in request.extensions)
                self.asked.append((method, nonce))
                writer.write(self.habit((method, nonce)))
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def responding(habit: Habit) -> AsyncIterator[Responder]:
    responder = Responder(habit)
    server = await asyncio.start_server(responder.serve, "127.0.0.1", 0)
    responder.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield responder
    finally:
        server.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ocsp(clock: Clock) -> AsyncIterator[OcspSource]:
    source = OcspSource(clock)
    yield source
    await source.aclose()


def question(
    clock: Clock, url: str, nonce: NonceMode = NonceMode.SEND, kind: SourceKind = SourceKind.OCSP
) -> StatusQuestion:
    return StatusQuestion(
        lookup=Lookup(depth=0, kind=kind, url=url),
        certificate=parse_certificate(LEAF.der),
        issuer=parse_certificate(CA.der),
        trust=TrustSet(name="t", anchors=(CA.der,), allow_hosts=("127.0.0.1",), nonce=nonce),
        limits=replace(Limits(), request_ms=4000),
        deadline=clock.monotonic() + 4,
    )


WITH, WITHOUT, GET = ("POST", True), ("POST", False), ("GET", False)


def no_nonce(refusal: bytes) -> Habit:
    return lambda asked: refusal if asked[1] else FINE


def no_post(refusal: bytes) -> Habit:
    return lambda asked: refusal if asked[0] == "POST" else FINE


NONCE_REFUSALS = {
    "malformedRequest": error(1),
    "internalError": error(2),
    "unauthorized": error(6),
    "400": http("400 Bad Request"),
    "500": http("500 Internal Server Error"),
    "502": http("502 Bad Gateway"),
    "garbage": response(b"what?"),
    "empty": response(b""),
}


@pytest.mark.parametrize("refusal", NONCE_REFUSALS.values(), ids=NONCE_REFUSALS)
async def test_responder_that_refuses_nonces_is_asked_without(ocsp, clock, refusal) -> None:
    async with responding(no_nonce(refusal)) as responder:
        first = await ocsp.ask(question(clock, responder.url))
        assert (GOOD, None, [WITH, WITHOUT]) == (first.raw, first.nonce, responder.asked)
        assert first.elapsed_ms < 1000
        for _ in range(3):  # what worked comes first
            assert GOOD == (await ocsp.ask(question(clock, responder.url))).raw
        assert [WITH, WITHOUT, WITHOUT, WITHOUT, WITHOUT] == responder.asked
        clock.passed += 3601  # and the nonce has another chance
        assert GOOD == (await ocsp.ask(question(clock, responder.url))).raw
        assert [WITH, WITHOUT] == responder.asked[5:]


@pytest.mark.parametrize("refusal", NONCE_REFUSALS.values(), ids=NONCE_REFUSALS)
async def test_responder_that_refuses_nonces_gives_nothing_where_one_is_required(
    ocsp, clock, refusal
) -> None:
    async with responding(no_nonce(refusal)) as responder:
        statement = await ocsp.ask(question(clock, responder.url, NonceMode.REQUIRE))
        assert WITHOUT not in responder.asked
        assert statement.raw != GOOD or statement.nonce is not None


POST_REFUSALS = {
    **{status: http(status) for status in ("403 No", "404 No", "405 No", "411 No", "501 No")},
    "302": http("302 Found", Location="/elsewhere"),
    "301": http("301 Moved", Location="/elsewhere"),
}


@pytest.mark.parametrize("refusal", POST_REFUSALS.values(), ids=POST_REFUSALS)
async def test_responder_without_post_is_asked_by_get(ocsp, clock, refusal) -> None:
    async with responding(no_post(refusal)) as responder:
        for _ in range(2):
            assert GOOD == (await ocsp.ask(question(clock, responder.url))).raw
        assert [WITH, GET, GET] == responder.asked


@pytest.mark.parametrize("refusal", ["400 Bad Request", "404 No", "405 No", "500 No", "501 No"])
async def test_responder_without_get_is_asked_by_post(ocsp, clock, refusal) -> None:
    async with responding(lambda asked: http(refusal) if asked[0] == "GET" else FINE) as responder:
        for _ in range(2):
            assert GOOD == (await ocsp.ask(question(clock, responder.url, NonceMode.OFF))).raw
        assert [GET, WITHOUT, WITHOUT] == responder.asked


async def test_responder_with_neither_nonces_nor_post_is_asked_by_get(ocsp, clock) -> None:
    async with responding(lambda asked: http("400 Bad Request") if asked[0] == "POST" else FINE) as responder:
        assert GOOD == (await ocsp.ask(question(clock, responder.url))).raw
        assert [WITH, WITHOUT, GET] == responder.asked


async def test_responder_as_it_should_be_is_asked_once(ocsp, clock) -> None:
    async with responding(lambda _: FINE) as responder:
        for _ in range(3):
            statement = await ocsp.ask(question(clock, responder.url))
            assert (GOOD, 32) == (statement.raw, len(statement.nonce or b""))
        assert [WITH] * 3 == responder.asked


@pytest.mark.parametrize("status", [1, 2, 6])
async def test_error_that_has_nothing_to_do_with_nonces_is_handed_on(ocsp, clock, status) -> None:
    async with responding(lambda _: error(status)) as responder:
        statement = await ocsp.ask(question(clock, responder.url))
        assert (bytes((0x30, 3, 0x0A, 1, status)), [WITH, WITHOUT]) == (statement.raw, responder.asked)


async def test_try_later_is_no_refusal_of_nonces(ocsp, clock) -> None:
    async with responding(lambda _: error(3)) as responder:
        assert error(3).endswith((await ocsp.ask(question(clock, responder.url))).raw or b"?")
        assert [WITH] == responder.asked


async def test_responder_that_is_broken_tells_what_the_first_post_was_answered(ocsp, clock) -> None:
    async with responding(
        lambda asked: http("503 Busy") if asked[0] == "POST" else http("404 No")
    ) as responder:
        statement = await ocsp.ask(question(clock, responder.url))
        assert (Cause.UNREACHABLE, "HTTP 503") == (statement.failure, statement.detail)
        assert [WITH, WITHOUT, GET] == responder.asked


async def test_what_worked_once_is_not_all_that_is_tried(ocsp, clock) -> None:
    async with responding(no_nonce(error(1))) as responder:
        assert GOOD == (await ocsp.ask(question(clock, responder.url))).raw
        responder.habit = lambda asked: FINE if asked[1] else http("404 No")
        responder.asked.clear()
        statement = await ocsp.ask(question(clock, responder.url))
        # A POST without nonce is refused now: by its status no POST is taken, and the GET is refused as well.
        assert Cause.UNREACHABLE is statement.failure
        responder.habit = lambda asked: FINE if asked[1] else http("400 No")
        assert GOOD == (await ocsp.ask(question(clock, responder.url))).raw


HEADERS = [
    {"Content-Type": kind}
    for kind in (
        "text/html",
        "text/plain",
        "application/json",
        "",
        "nonsense",
        "application/x-www-form-urlencoded",
    )
] + [
    {"Content-Encoding": encoding}
    for encoding in ("none", "binary", "8bit", "7bit", "identity", "", "BINARY", "gzip", "x-unknown")
]


@pytest.mark.parametrize("headers", HEADERS, ids=str)
async def test_headers_decide_nothing_about_signed_bytes(ocsp, clock, headers) -> None:
    async with responding(lambda _: response(GOOD, headers=headers)) as responder:
        assert GOOD == (await ocsp.ask(question(clock, responder.url))).raw
    crls = CrlSource(clock)
    async with responding(lambda _: response(CRL, headers=headers)) as responder:
        assert CRL == (await crls.ask(question(clock, responder.url, kind=SourceKind.CRL))).raw
    await crls.aclose()
