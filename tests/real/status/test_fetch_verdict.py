"""
The whole way: a checker with real sources and a real cache, over nginx and `openssl ocsp`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cftpki_cache.disk import DiskStore
from cftpki_cache.memory import MemoryStore
from cftpki_cache.tiered import TieredStore
from cftpki_connectors.registry import load_factories
from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.vocabulary import Direction, SourceKind
from cftpki_ext.decision.question import Question
from tests.support.pki import Entity, issue, make_crl, make_root, pem
from tests.support.servers import evil, nginx, openssl_ocsp, silent

pytestmark = pytest.mark.real

ROOT = make_root("Root")
CA = issue(ROOT, "Issuing CA", ca=True)
GOOD, REVOKED = issue(CA, "good"), issue(CA, "revoked")
HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
FRESH = {"this_update": HOUR_AGO, "next_update": HOUR_AGO + timedelta(days=1)}
ROOT_CRL = make_crl(ROOT, **FRESH)
CA_CRL = make_crl(CA, [REVOKED.serial], **FRESH)


class SystemClock:
    """
    The machine's time.
    """

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def make_checker(path: Path) -> Checker:
    factories = load_factories(["ocsp", "crl"])
    return Checker(
        sources={SourceKind(kind): make(SystemClock()) for kind, make in factories.items()},
        store=TieredStore(MemoryStore(), DiskStore(path / "cache")),
        clock=SystemClock(),
    )


@pytest.fixture
async def checker(tmp_path: Path) -> AsyncIterator[Checker]:
    made = make_checker(tmp_path)
    yield made
    await made.aclose()


async def alert(checker: Checker, leaf: Entity, **trust: object) -> int:
    question = Question(
        chain=(leaf.der, CA.der),
        direction=Direction.SERVER,
        trust=TrustSet(name="partners", anchors=(ROOT.der,), **trust),
        limits=Limits(budget_ms=2_000, request_ms=1_000, hedge_ms=200),
        at=datetime.now(UTC),
        rule=None,
    )
    return (await checker.check(question)).alert


async def test_verdict_by_crls_from_nginx(checker: Checker, tmp_path: Path) -> None:
    with nginx(tmp_path, {"root.crl": ROOT_CRL, "ca.crl": CA_CRL}) as server:
        urls = (server.url("/root.crl"), server.url("/ca.crl"))
        assert (0, 44) == (
            await alert(checker, GOOD, crl_urls=urls),
            await alert(checker, REVOKED, crl_urls=urls),
        )
        assert 46 == await alert(checker, GOOD, crl_urls=urls[:1])


async def test_verdict_by_crl_files(checker: Checker, tmp_path: Path) -> None:
    files = (tmp_path / "root.crl", tmp_path / "ca.pem")
    assert 46 == await alert(checker, GOOD, crl_files=files)
    files[0].write_bytes(ROOT_CRL)
    files[1].write_bytes(pem(CA_CRL, label="X509 CRL"))
    assert (0, 44) == (
        await alert(checker, GOOD, crl_files=files),
        await alert(checker, REVOKED, crl_files=files),
    )


async def test_verdict_by_ocsp_from_openssl(checker: Checker, tmp_path: Path) -> None:
    with (
        openssl_ocsp(
            tmp_path, issuer=CA, known=[GOOD], revoked={REVOKED.serial: "keyCompromise"}
        ) as responder,
        nginx(tmp_path, {"root.crl": ROOT_CRL}) as server,
    ):
        where = {"ocsp_urls": (responder.url(),), "crl_urls": (server.url("/root.crl"),)}
        assert (0, 44) == (await alert(checker, GOOD, **where), await alert(checker, REVOKED, **where))


async def test_verdict_comes_from_the_crl_where_the_responder_is_silent(
    checker: Checker, tmp_path: Path
) -> None:
    with nginx(tmp_path, {"root.crl": ROOT_CRL, "ca.crl": CA_CRL}) as server:
        urls = (server.url("/root.crl"), server.url("/ca.crl"))
        async with evil(silent()) as dead:
            where = {"ocsp_urls": (dead.url(),), "crl_urls": urls}
            started = time.monotonic()
            assert (0, 44) == (await alert(checker, GOOD, **where), await alert(checker, REVOKED, **where))
            assert time.monotonic() - started < 4


async def test_verdict_outlives_the_servers_and_a_restart_by_the_cache(tmp_path: Path) -> None:
    with nginx(tmp_path, {"root.crl": ROOT_CRL, "ca.crl": CA_CRL}) as server:
        urls = (server.url("/root.crl"), server.url("/ca.crl"))
        first = make_checker(tmp_path)
        assert 0 == await alert(first, GOOD, crl_urls=urls)
        await first.aclose()
    again = make_checker(tmp_path)
    assert (0, 44) == (await alert(again, GOOD, crl_urls=urls), await alert(again, REVOKED, crl_urls=urls))
    await again.aclose()
    (tmp_path / "empty").mkdir()
    empty = make_checker(tmp_path / "empty")
    assert 46 == await alert(empty, GOOD, crl_urls=urls)
    await empty.aclose()
