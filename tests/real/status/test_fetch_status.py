"""
The OCSP and CRL sources against `openssl ocsp`, nginx, and evil servers.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.x509 import ocsp as pyca_ocsp

from cftpki_connectors.status.crl import CrlSource
from cftpki_connectors.status.ocsp import OcspSource
from cftpki_connectors.status.rest import RestSource
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, NonceMode, TrustSet
from cftpki_ext.core.source_settings import RestProfile
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.ports.sources import StatusQuestion
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.pki import Entity, issue, make_crl, make_ocsp_response, make_root, pem
from tests.support.servers import Behaviour, answer, evil, in_turn, nginx, openssl_ocsp, response, silent

pytestmark = pytest.mark.real

ROOT = make_root("Root")
CA = issue(ROOT, "Issuing CA", ca=True)
GOOD, REVOKED, UNKNOWN = (issue(CA, name) for name in ("good", "revoked", "unknown"))
DELEGATE = issue(CA, "Responder", eku=["OCSPSigning"], nocheck=True)
CRL = make_crl(CA, [REVOKED.serial])
OCSP_TYPE = {"Content-Type": "application/ocsp-response"}
TRY_LATER = b"\x30\x03\x0a\x01\x03"
NOW = datetime(2026, 11, 20, tzinfo=UTC)


class FixedClock:
    """
    Wall time stands, monotonic time runs.
    """

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
async def ocsp() -> AsyncIterator[OcspSource]:
    made = OcspSource(FixedClock())
    yield made
    await made.aclose()


@pytest.fixture
async def crl() -> AsyncIterator[CrlSource]:
    made = CrlSource(FixedClock())
    yield made
    await made.aclose()


def question(
    kind: SourceKind,
    url: str,
    leaf: Entity = GOOD,
    *,
    within_s: float = 5.0,
    limits: Limits | None = None,
    **trust: object,
) -> StatusQuestion:
    options = {"allow_hosts": ("127.0.0.1",), **trust}
    return StatusQuestion(
        lookup=Lookup(depth=0, kind=kind, url=url),
        certificate=parse_certificate(leaf.der),
        issuer=parse_certificate(CA.der),
        trust=TrustSet(name="t", anchors=(ROOT.der,), intermediates=(CA.der,), **options),
        limits=limits or Limits(),
        deadline=time.monotonic() + within_s,
    )


def asked(url: str, leaf: Entity = GOOD, **options: object) -> StatusQuestion:
    return question(SourceKind.OCSP, url, leaf, **options)


def listed(url: str, **options: object) -> StatusQuestion:
    return question(SourceKind.CRL, url, **options)


def read(statement: Statement) -> pyca_ocsp.OCSPResponse:
    assert statement.raw is not None, statement
    return pyca_ocsp.load_der_ocsp_response(statement.raw)


# -- openssl ocsp --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonce", list(NonceMode))
async def test_ocsp_from_openssl_tells_good_revoked_and_unknown(
    ocsp: OcspSource, tmp_path: Path, nonce: NonceMode
) -> None:
    revoked = {REVOKED.serial: "keyCompromise"}
    with openssl_ocsp(tmp_path, issuer=CA, signer=DELEGATE, known=[GOOD], revoked=revoked) as server:
        answers = [
            read(await ocsp.ask(asked(server.url(), leaf, nonce=nonce))) for leaf in (GOOD, REVOKED, UNKNOWN)
        ]
    statuses = pyca_ocsp.OCSPCertStatus
    assert [statuses.GOOD, statuses.REVOKED, statuses.UNKNOWN] == [one.certificate_status for one in answers]
    assert [leaf.serial for leaf in (GOOD, REVOKED, UNKNOWN)] == [one.serial_number for one in answers]


async def test_ocsp_with_nonce_is_a_post_and_the_answer_has_the_nonce(
    ocsp: OcspSource, tmp_path: Path
) -> None:
    with openssl_ocsp(tmp_path, issuer=CA, known=[GOOD]) as server:
        first, second = [await ocsp.ask(asked(server.url())) for _ in range(2)]
    for statement in (first, second):
        assert statement.nonce is not None
        assert 32 == len(statement.nonce)
        assert (
            statement.nonce == read(statement).extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
        )
    assert first.nonce != second.nonce
    assert (SourceKind.OCSP, Origin.NETWORK, NOW, 0) == (
        first.kind,
        first.origin,
        first.received_at,
        first.depth,
    )
    assert server.url() == first.url


async def test_ocsp_without_nonce_is_a_get_that_a_stock_responder_understands(
    ocsp: OcspSource, tmp_path: Path
) -> None:
    with openssl_ocsp(tmp_path, issuer=CA, known=[GOOD]) as server:
        statement = await ocsp.ask(asked(server.url("/"), nonce=NonceMode.OFF))
        assert statement.nonce is None
        assert "successful" == read(statement).response_status.name.lower()
        assert re.search(r"GET /M", "\n".join(server.log_lines()))


async def test_ocsp_from_a_responder_that_is_gone_is_unreachable(ocsp: OcspSource, tmp_path: Path) -> None:
    with openssl_ocsp(tmp_path, issuer=CA, known=[GOOD]) as server:
        url = server.url()
    statement = await ocsp.ask(asked(url))
    assert (Cause.UNREACHABLE, None) == (statement.failure, statement.raw)


async def test_ocsp_from_nginx_in_front_of_openssl_passes(ocsp: OcspSource, tmp_path: Path) -> None:
    with openssl_ocsp(tmp_path, issuer=CA, known=[GOOD]) as responder:
        # OpenSSL's responder now and then gives up a request whose body it has not got yet (asn1_d2i_read_bio: not
        # enough data): the proxy asks it once more, as it would another one.
        again = f"location @again {{ rewrite ^/ocsp(/.*)$ $1 break; proxy_pass {responder.url('')}; }}"
        locations = f"location /ocsp/ {{ proxy_pass {responder.url('/')}; error_page 502 = @again; }} {again}"
        with nginx(tmp_path, {}, locations) as server:
            for nonce in (NonceMode.OFF, NonceMode.REQUIRE):
                statement = await ocsp.ask(asked(server.url("/ocsp/"), nonce=nonce))
                # What the proxy and the responder say where there is no answer.
                assert statement.raw is not None, (server.log.read_text(), responder.log.read_text())
                assert GOOD.serial == read(statement).serial_number


# -- GET and POST --------------------------------------------------------------------------------------------

ANSWER = make_ocsp_response(CA, GOOD)
FINE = answer(response(ANSWER, headers=OCSP_TYPE))


async def test_ocsp_get_carries_the_whole_request_in_its_path(ocsp: OcspSource) -> None:
    async with evil(FINE) as server:
        await ocsp.ask(asked(server.url("/a/b"), nonce=NonceMode.OFF))
        target = server.requests[0].split(b" ")[1].decode()
    assert target.startswith("/a/b/")
    assert not set("+/=") & set(target.removeprefix("/a/b/"))
    request = pyca_ocsp.load_der_ocsp_request(base64.b64decode(unquote(target.removeprefix("/a/b/"))))
    assert GOOD.serial == request.serial_number


async def test_ocsp_post_carries_the_request_and_its_type(ocsp: OcspSource) -> None:
    async with evil(FINE) as server:
        statement = await ocsp.ask(asked(server.url("/a?b=c")))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert b"content-type: application/ocsp-request" in head.lower()
    request = pyca_ocsp.load_der_ocsp_request(body)
    assert statement.nonce == request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce


SPOILT = {
    "404": answer(response(b"", status="404 Not Found")),
    "405": answer(response(b"", status="405 Method Not Allowed")),
    "html": answer(response(b"<html>", headers={"Content-Type": "text/html"})),
    "empty": answer(response(b"", headers=OCSP_TYPE)),
    "cut": answer(response(ANSWER[:-1], headers=OCSP_TYPE)),
    "malformedRequest": answer(response(b"\x30\x03\x0a\x01\x01", headers=OCSP_TYPE)),
    "unauthorized": answer(response(b"\x30\x03\x0a\x01\x06", headers=OCSP_TYPE)),
}


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
async def test_ocsp_spoilt_get_is_repeated_once_as_post(ocsp: OcspSource, spoilt: Behaviour) -> None:
    async with evil(in_turn(spoilt, FINE)) as server:
        statement = await ocsp.ask(asked(server.url(), nonce=NonceMode.OFF))
        assert [b"GET", b"POST"] == [raw.split(b" ")[0] for raw in server.requests]
    assert ANSWER == statement.raw


async def test_ocsp_error_by_get_and_by_post_is_handed_on(ocsp: OcspSource) -> None:
    async with evil(answer(response(TRY_LATER, headers=OCSP_TYPE))) as server:
        statement = await ocsp.ask(asked(server.url(), nonce=NonceMode.OFF))
    assert TRY_LATER == statement.raw


async def test_ocsp_error_by_get_stands_where_post_fails(ocsp: OcspSource) -> None:
    refused = answer(response(b"", status="405 Method Not Allowed"))
    async with evil(in_turn(answer(response(TRY_LATER, headers=OCSP_TYPE)), refused)) as server:
        statement = await ocsp.ask(asked(server.url(), nonce=NonceMode.OFF))
    assert TRY_LATER == statement.raw


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        (answer(response(b"", status="404 Not Found")), Cause.UNREACHABLE),
        (answer(response(b"\x30\x82", headers=OCSP_TYPE)), Cause.UNREADABLE),
        (answer(response(b"\x30\x84\0\1\0\1" + bytes(65537), headers=OCSP_TYPE)), Cause.TOO_LARGE),
        (answer(response(b"<html>", headers={"Content-Type": "text/html"})), Cause.UNREADABLE),
        (answer(response(b"{}", headers={"Content-Type": "application/json"})), Cause.UNREADABLE),
        (silent(), Cause.TIMED_OUT),
    ],
    ids=["404", "cut", "large", "html", "json", "silent"],
)
async def test_ocsp_failure_is_a_statement_with_its_cause(
    ocsp: OcspSource, behaviour: Behaviour, cause: Cause
) -> None:
    async with evil(behaviour) as server:
        statement = await ocsp.ask(asked(server.url(), within_s=0.5))
    assert (cause, None) == (statement.failure, statement.raw)
    assert statement.detail


async def test_ocsp_request_time_bounds_one_request_inside_a_longer_budget(ocsp: OcspSource) -> None:
    async with evil(silent()) as server:
        statement = await ocsp.ask(asked(server.url(), limits=replace(Limits(), request_ms=300)))
    assert Cause.TIMED_OUT is statement.failure
    assert 250 <= statement.elapsed_ms < 2_500


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/",
        "http://127.0.0.2/",
        "ldap://127.0.0.1/",
        "http://169.254.169.254/",
        "http://u@127.0.0.1/",
        "",
    ],
)
async def test_ocsp_at_a_location_that_is_not_allowed_is_forbidden(ocsp: OcspSource, url: str) -> None:
    for nonce in (NonceMode.OFF, NonceMode.SEND):
        assert Cause.FORBIDDEN_URL is (await ocsp.ask(asked(url, nonce=nonce))).failure


# -- sharing -------------------------------------------------------------------------------------------------


async def test_ocsp_identical_questions_at_once_are_one_request(ocsp: OcspSource) -> None:
    async with evil(FINE) as server:
        statements = await asyncio.gather(*(ocsp.ask(asked(server.url())) for _ in range(20)))
        assert 1 == len(server.requests)
        await asyncio.gather(ocsp.ask(asked(server.url(), GOOD)), ocsp.ask(asked(server.url(), REVOKED)))
        assert 3 == len(server.requests)
    assert {ANSWER} == {one.raw for one in statements}
    assert 1 == len({one.nonce for one in statements})


async def test_ocsp_question_under_another_permission_does_not_share(ocsp: OcspSource) -> None:
    async with evil(FINE) as server:
        allowed, forbidden = await asyncio.gather(
            ocsp.ask(asked(server.url())), ocsp.ask(asked(server.url(), allow_hosts=("other.example",)))
        )
        assert 1 == len(server.requests)
    assert (ANSWER, Cause.FORBIDDEN_URL) == (allowed.raw, forbidden.failure)


async def test_ocsp_cancelled_first_caller_leaves_the_answer_to_the_others(ocsp: OcspSource) -> None:
    gate = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await FINE(reader, writer)

    async with evil(behave) as server:
        first, second = (asyncio.ensure_future(ocsp.ask(asked(server.url()))) for _ in range(2))
        while not server.requests:  # noqa: ASYNC110  # the server has no event for this
            await asyncio.sleep(0.005)
        first.cancel()
        gate.set()
        assert ANSWER == (await second).raw
        assert 1 == len(server.requests)


async def test_ocsp_joined_late_with_time_left_asks_anew_when_the_shared_one_times_out(
    ocsp: OcspSource,
) -> None:
    async with evil(in_turn(silent(), FINE)) as server:
        first = asyncio.ensure_future(ocsp.ask(asked(server.url(), within_s=0.4)))
        while not server.requests:  # noqa: ASYNC110  # the server has no event for this
            await asyncio.sleep(0.005)
        second = asyncio.ensure_future(ocsp.ask(asked(server.url(), within_s=3.0)))
        assert Cause.TIMED_OUT is (await first).failure
        assert ANSWER == (await second).raw


async def test_source_closed_while_asking_ends_what_is_under_way() -> None:
    source = OcspSource(FixedClock())
    async with evil(silent()) as server:
        asking = asyncio.ensure_future(source.ask(asked(server.url())))
        while not server.requests:  # noqa: ASYNC110  # the server has no event for this
            await asyncio.sleep(0.005)
        await source.aclose()
        with pytest.raises(asyncio.CancelledError):
            await asking


# -- CRLs ----------------------------------------------------------------------------------------------------


async def test_crl_from_nginx_in_der_and_pem_is_the_same_der(crl: CrlSource, tmp_path: Path) -> None:
    files = {"ca.crl": CRL, "ca.pem": pem(CRL, label="X509 CRL")}
    with nginx(tmp_path, files, "location /moved.crl { return 302 /ca.crl; }") as server:
        for path in ("/ca.crl", "/ca.pem", "/moved.crl"):
            statement = await crl.ask(listed(server.url(path)))
            assert (CRL, NOW, server.url(path)) == (statement.raw, statement.received_at, statement.url)


async def test_crl_that_is_something_else_is_unreadable(crl: CrlSource, tmp_path: Path) -> None:
    files = {"a.crl": b"", "b.crl": CRL[:-5], "c.crl": b"<html>", "d.html": CRL, "e.crl": pem(GOOD.der)}
    with nginx(tmp_path, files) as server:
        for name in ("a.crl", "b.crl", "c.crl", "e.crl"):
            assert Cause.UNREADABLE is (await crl.ask(listed(server.url(f"/{name}")))).failure, name
        assert "HTML" in (await crl.ask(listed(server.url("/c.crl")))).detail
        # What the server calls it decides nothing: the list is signed.
        assert CRL == (await crl.ask(listed(server.url("/d.html")))).raw


async def test_crl_larger_than_its_limit_is_too_large(crl: CrlSource, tmp_path: Path) -> None:
    with nginx(tmp_path, {"ca.crl": CRL}) as server:
        fits = await crl.ask(listed(server.url("/ca.crl"), limits=replace(Limits(), crl_bytes=len(CRL))))
        small = await crl.ask(listed(server.url("/ca.crl"), limits=replace(Limits(), crl_bytes=len(CRL) - 1)))
    assert (CRL, Cause.TOO_LARGE) == (fits.raw, small.failure)


async def test_crl_of_one_gigabyte_costs_neither_time_nor_memory(crl: CrlSource, tmp_path: Path) -> None:
    with nginx(tmp_path, {"ca.crl": CRL}) as server:
        sparse = tmp_path / f"nginx-{server.port}" / "www" / "giga.crl"
        with sparse.open("wb") as file:
            file.truncate(1 << 30)
        started = time.process_time()
        statement = await crl.ask(listed(server.url("/giga.crl")))
        assert Cause.TOO_LARGE is statement.failure
        assert time.process_time() - started < 1


async def test_crl_with_a_slow_body_ends_at_the_deadline(crl: CrlSource, tmp_path: Path) -> None:
    large = make_crl(CA, range(1_000_000, 1_000_400))
    with nginx(tmp_path, {"ca.crl": large}, "location /ca.crl { limit_rate 1k; }") as server:
        statement = await crl.ask(listed(server.url("/ca.crl"), within_s=0.6))
    assert Cause.TIMED_OUT is statement.failure


async def test_crl_from_a_configured_file_is_read_and_from_any_other_forbidden(
    crl: CrlSource, tmp_path: Path
) -> None:
    mine, other = tmp_path / "mine.pem", tmp_path / "other.crl"
    mine.write_bytes(pem(CRL, label="X509 CRL"))
    other.write_bytes(CRL)
    statement = await crl.ask(listed(str(mine), crl_files=(mine,)))
    assert CRL == statement.raw
    for url in (str(other), mine.as_uri(), "/etc/passwd", "file:///etc/passwd", "FILE:///etc/passwd", ""):
        assert Cause.FORBIDDEN_URL is (await crl.ask(listed(url, crl_files=(mine,)))).failure


async def test_crl_from_a_configured_file_that_is_not_there_is_unreachable(
    crl: CrlSource, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.crl"
    assert Cause.UNREACHABLE is (await crl.ask(listed(str(gone), crl_files=(gone,)))).failure


async def test_crl_at_a_location_that_the_ca_certificates_name_is_allowed_by_default(tmp_path: Path) -> None:
    """
    The host comes from a CA certificate; that it may be a loopback address is the administrator's word.
    """
    with nginx(tmp_path, {"ca.crl": CRL}) as server:
        ca = issue(ROOT, "Naming CA", ca=True, crl_urls=[server.url("/root.crl")])
        source = CrlSource(FixedClock())
        named = replace(
            listed(server.url("/ca.crl")).trust, intermediates=(ca.der,), allow_hosts=(), allow_networks=()
        )
        base = replace(listed(server.url("/ca.crl")), trust=named)
        assert Cause.FORBIDDEN_URL is (await source.ask(base)).failure
        inside = replace(named, allow_networks=(ip_network("127.0.0.0/8"),))
        assert CRL == (await source.ask(replace(base, trust=inside))).raw
        stranger = replace(inside, intermediates=(CA.der,))
        assert Cause.FORBIDDEN_URL is (await source.ask(replace(base, trust=stranger))).failure
        await source.aclose()


async def test_crl_downloads_at_once_are_one(crl: CrlSource, tmp_path: Path) -> None:
    with nginx(tmp_path, {"ca.crl": CRL}) as server:
        questions = [
            replace(
                listed(server.url("/ca.crl")),
                lookup=Lookup(depth=depth, kind=SourceKind.CRL, url=server.url("/ca.crl")),
            )
            for depth in range(5)
        ]
        statements = await asyncio.gather(*(crl.ask(one) for one in questions))
        assert [CRL] * 5 == [one.raw for one in statements]
        assert list(range(5)) == [one.depth for one in statements]
        await crl.ask(
            listed(server.url("/next"))
        )  # nginx writes its log line after the answer: the next one is in line
        assert 1 == sum("/ca.crl" in line for line in server.log_lines())


async def test_crl_question_after_its_deadline_is_answered_at_once(crl: CrlSource) -> None:
    statement = await crl.ask(listed("http://127.0.0.1:1/", within_s=-timedelta(seconds=1).total_seconds()))
    assert Cause.TIMED_OUT is statement.failure


# -- REST ----------------------------------------------------------------------------------------------------

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("behaviour", "raw", "cause"),
    [
        (answer(response(b'{"data": {}}', headers=JSON)), b'{"data": {}}', None),
        (answer(response(b"{}", status="404 Not Found", headers=JSON)), None, Cause.UNKNOWN),
        (answer(response(b"{}", status="403 Forbidden", headers=JSON)), None, Cause.UNAUTHORIZED),
        (answer(response(b"{}", headers={"Content-Type": "text/plain"})), b"{}", None),
        (answer(response(b"<html>", headers={"Content-Type": "text/html"})), b"<html>", None),
        (answer(response(bytes(300_000), headers=JSON)), None, Cause.TOO_LARGE),
    ],
    ids=["json", "404", "403", "text", "html", "large"],
)
async def test_rest_lookup_hands_on_json_and_names_what_else_came(
    behaviour: Behaviour, raw: bytes | None, cause: Cause | None
) -> None:
    source = RestSource(FixedClock())
    async with evil(behaviour) as server:
        profile = RestProfile(name="vault", url=server.url("/v1/pki/cert/{serial_hyphens}"))
        where = {"rest": profile, "allow_hosts": ()}  # the configured address is enough
        statement = await source.ask(question(SourceKind.REST, server.url("/v1/pki/cert/10-01"), **where))
        assert server.requests[0].startswith(b"GET /v1/pki/cert/10-01 HTTP/1.1")
        other = await source.ask(question(SourceKind.REST, "http://127.0.0.1:1/", **where))
    await source.aclose()
    assert (raw, cause) == (statement.raw, statement.failure)
    assert Cause.FORBIDDEN_URL is other.failure


async def test_rest_lookup_with_a_field_in_its_host_allows_nothing() -> None:
    source = RestSource(FixedClock())
    profile = RestProfile(name="bad", url="http://{serial_hex}/x")
    for url in ("http://x/x", "http://127.0.0.1/x"):
        asked_there = question(SourceKind.REST, url, rest=profile, allow_hosts=())
        assert Cause.FORBIDDEN_URL is (await source.ask(asked_there)).failure
    await source.aclose()
