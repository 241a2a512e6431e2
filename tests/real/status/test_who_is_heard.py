"""
Who is heard, with real servers: `openssl ocsp`, nginx, and the memory and the cache on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.question import Question
from tests.support.checking import make_checker
from tests.support.pki import Entity, Revoked, issue, make_crl, make_ocsp_response, make_root
from tests.support.servers import answer, evil, free_port, nginx, openssl_ocsp, response, silent

pytestmark = pytest.mark.real

START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=20)
LIFE = {"not_before": START, "not_after": START + timedelta(days=400)}
ROOT, OTHER_ROOT = make_root("Root", **LIFE), make_root("Other Root", **LIFE)
CA = issue(ROOT, "Issuing CA", ca=True, **LIFE)
PARTNER = issue(CA, "partner", eku=["clientAuth"], **LIFE)
CROSS = issue(OTHER_ROOT, "Issuing CA", ca=True, private=CA.key, **LIFE)
HOUR = timedelta(hours=1)
FRESH = {"this_update": datetime.now(UTC) - HOUR, "next_update": datetime.now(UTC) + 24 * HOUR}
LISTS = {"root.crl": make_crl(ROOT, **FRESH), "ca.crl": make_crl(CA, **FRESH)}


@pytest.fixture
async def checker(tmp_path: Path) -> AsyncIterator[Checker]:
    made = make_checker(tmp_path / "state")
    yield made
    await made.aclose()


async def check(
    checker: Checker, *handed_in: Statement, chain: tuple[Entity, ...] = (), **trust: object
) -> Verdict:
    anchors = trust.pop("anchors", (ROOT.der,))
    question = Question(
        chain=tuple(one.der for one in chain or (PARTNER, CA)),
        direction=Direction.SERVER,
        trust=TrustSet(name="partners", anchors=anchors, **trust),
        limits=Limits(budget_ms=3_000, hedge_ms=200),
        at=datetime.now(UTC),
        rule=None,
    )
    return await checker.check(question, handed_in)


def nine_days_old() -> Statement:
    then = datetime.now(UTC) - timedelta(days=9)
    raw = make_ocsp_response(
        CA, PARTNER, this_update=then, produced_at=then, next_update=then + timedelta(days=30)
    )
    return Statement(kind=SourceKind.OCSP, origin=Origin.STAPLED, received_at=datetime.now(UTC), raw=raw)


async def test_revoked_partner_with_its_own_old_staple_is_revoked(checker: Checker, tmp_path: Path) -> None:
    with (
        nginx(tmp_path, LISTS) as server,
        openssl_ocsp(tmp_path, issuer=CA, revoked={PARTNER.serial: "superseded"}) as responder,
    ):
        where = {"ocsp_urls": (responder.url(),), "crl_urls": (server.url("/root.crl"),)}
        assert 44 == (await check(checker, nine_days_old(), **where)).alert


async def test_staple_is_told_where_the_responder_is_down_and_nothing_where_ocsp_is_no_source(
    checker: Checker, tmp_path: Path
) -> None:
    with nginx(tmp_path, LISTS) as server:
        down = f"http://127.0.0.1:{free_port()}/"
        where = {"ocsp_urls": (down,), "crl_urls": (server.url("/root.crl"),)}
        verdict = await check(checker, nine_days_old(), **where)
        assert (0, Cause.OLDER_GOOD) == (verdict.alert, verdict.evidence.rows[0].cause), verdict.summary
        assert "a good one of 9 d ago was used, said by OCSP stapled" in verdict.warnings[0]
        only_lists = {"sources": (SourceKind.CRL,), "crl_urls": (server.url("/root.crl"),)}
        assert 46 == (await check(checker, nine_days_old(), **only_lists)).alert


async def test_responder_that_takes_its_time_is_waited_for_though_the_list_says_good(
    checker: Checker, tmp_path: Path
) -> None:
    raw = make_ocsp_response(
        CA, PARTNER, "revoked", this_update=datetime.now(UTC), produced_at=datetime.now(UTC)
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: %d\r\n\r\n" % len(
        raw
    )

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(2)
        writer.write(head + raw)
        await writer.drain()
        writer.close()

    slow_server = await asyncio.start_server(slow, "127.0.0.1", 0)
    port = slow_server.sockets[0].getsockname()[1]
    async with slow_server:
        with nginx(tmp_path, LISTS) as server:
            where = {
                "ocsp_urls": (f"http://127.0.0.1:{port}/",),
                "crl_urls": (server.url("/root.crl"), server.url("/ca.crl")),
            }
            assert 44 == (await check(checker, **where)).alert


async def test_silent_responder_is_told_and_the_list_counts(checker: Checker, tmp_path: Path) -> None:
    async with evil(silent()) as responder:
        with nginx(tmp_path, LISTS) as server:
            where = {
                "ocsp_urls": (responder.url("/"),),
                "crl_urls": (server.url("/root.crl"), server.url("/ca.crl")),
            }
            verdict = await check(checker, **where)
            assert 0 == verdict.alert, verdict.summary
            assert {Cause.SILENT_SOURCE} == {row.cause for row in verdict.evidence.rows}


async def test_page_in_place_of_an_answer_is_told_and_the_list_counts(
    checker: Checker, tmp_path: Path
) -> None:
    async with evil(answer(response(b"<html>please log in</html>"))) as responder:
        with nginx(tmp_path, LISTS) as server:
            where = {
                "ocsp_urls": (responder.url("/"),),
                "crl_urls": (server.url("/root.crl"), server.url("/ca.crl")),
            }
            verdict = await check(checker, **where)
            assert 0 == verdict.alert, verdict.summary
            assert {Cause.UNUSABLE_ANSWER} == {row.cause for row in verdict.evidence.rows}
            assert len(verdict.warnings) == len(verdict.evidence.rows)


async def test_lifted_hold_lets_the_partner_in_again_also_after_a_restart(tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    with nginx(tmp_path, LISTS) as server:
        lists = {"crl_urls": (server.url("/root.crl"),)}
        held = openssl_ocsp(tmp_path, issuer=CA, revoked={PARTNER.serial: "certificateHold"})
        with held as responder:
            first = make_checker(tmp_path / "state")
            verdict = await check(first, ocsp_urls=(responder.url(),), **lists)
            assert (44, "on_hold") == (verdict.alert, verdict.reason)
            await first.aclose()
        await asyncio.sleep(1.1)  # a responder's clock counts seconds
        with openssl_ocsp(later, issuer=CA, known=[PARTNER], port=responder.port) as responder:
            again = make_checker(tmp_path / "state")
            verdict = await check(again, ocsp_urls=(responder.url(),), **lists)
            assert (0, ()) == (verdict.alert, verdict.warnings), verdict.summary
            await again.aclose()


async def test_revocation_for_good_stays_also_after_a_restart(tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    with nginx(tmp_path, LISTS) as server:
        lists = {"crl_urls": (server.url("/root.crl"),)}
        with openssl_ocsp(tmp_path, issuer=CA, revoked={PARTNER.serial: "superseded"}) as responder:
            first = make_checker(tmp_path / "state")
            assert 44 == (await check(first, ocsp_urls=(responder.url(),), **lists)).alert
            await first.aclose()
        with openssl_ocsp(later, issuer=CA, known=[PARTNER], port=responder.port) as responder:
            again = make_checker(tmp_path / "state")
            assert 44 == (await check(again, ocsp_urls=(responder.url(),), **lists)).alert
            await again.aclose()


@pytest.mark.parametrize(("reason", "alert"), [("superseded", 0), ("key_compromise", 44), (None, 44)])
async def test_cross_certified_ca_that_is_revoked_under_one_root(
    checker: Checker, tmp_path: Path, reason: str | None, alert: int
) -> None:
    flag = None if reason is None else x509.ReasonFlags[reason]
    lists = {
        "ca.crl": LISTS["ca.crl"],
        "root.crl": make_crl(ROOT, [Revoked(CA.serial, reason=flag)], **FRESH),
        "other.crl": make_crl(OTHER_ROOT, **FRESH),
    }
    with nginx(tmp_path, lists) as server:
        where = {
            "sources": (SourceKind.CRL,),
            "crl_urls": tuple(server.url(f"/{name}") for name in lists),
            "anchors": (ROOT.der, OTHER_ROOT.der),
        }
        for chain in ((PARTNER, CA, CROSS), (PARTNER, CROSS, CA)):
            verdict = await check(checker, chain=chain, **where)
            assert alert == verdict.alert, verdict.summary
            if alert == 0:
                assert "CN=Other Root" == verdict.evidence.path[-1].subject
