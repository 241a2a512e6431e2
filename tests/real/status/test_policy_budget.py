"""
What hostile and dead servers may cost a handshake: one budget, bounded memory, and the right cause.

Everything is asked through the checker with the real connectors, as a handshake is.
"""

from __future__ import annotations

import asyncio
import resource
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cftpki_ext.checking.checker import Checker
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import Depth, Policy
from cftpki_ext.core.settings import Limits, NonceMode, TrustSet
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.decision.question import Question
from tests.support.checking import make_checker
from tests.support.pki import Entity, issue, make_crl, make_ocsp_response, make_root
from tests.support.servers import answer, drip, endless, evil, nginx, response, silent

pytestmark = pytest.mark.real

NOW = datetime.now(UTC)
FRESH = {"this_update": NOW - timedelta(hours=1), "next_update": NOW + timedelta(days=1)}
ROOT = make_root("Root")
CA = issue(ROOT, "Issuing CA", ca=True)
ROOT_CRL, CA_CRL = make_crl(ROOT, **FRESH), make_crl(CA, **FRESH)
LOOPBACK = {"allow_hosts": ("127.0.0.1",), "allow_networks": (ip_network("127.0.0.0/8"),)}
LEAF_ONLY = Policy(name="leaf", depth=Depth.LEAF)
BUDGET_S = 1.5
LIMITS = Limits(budget_ms=1_500, reserve_ms=200, hedge_ms=100, request_ms=5_000)
# What a busy machine may add to a deadline.
SLACK_S = 1.5


async def check(
    checker: Checker, leaf: Entity, *, limits: Limits = LIMITS, chain: Any = None, **trust: Any
) -> Verdict:
    question = Question(
        chain=chain or (leaf.der, CA.der),
        direction=Direction.SERVER,
        trust=TrustSet(**{"name": "t", "anchors": (ROOT.der,), "policy": LEAF_ONLY, **LOOPBACK, **trust}),
        limits=limits,
        at=datetime.now(UTC),
        rule=None,
    )
    return await checker.check(question)


async def refused(path: Path, leaf: Entity, **fields: Any) -> tuple[Cause | None, float, Verdict]:
    """
    The cause of the refusal of a fresh checker, and how long it took.
    """
    checker = make_checker(path / "state", resolver=fields.pop("resolver", None))
    try:
        begun = time.monotonic()
        verdict = await check(checker, leaf, **fields)
        assert 46 == verdict.alert, verdict.summary
        return verdict.evidence.findings[0].cause, time.monotonic() - begun, verdict
    finally:
        await checker.aclose()


def partner(*, ocsp: tuple[str, ...] = (), crl: tuple[str, ...] = ()) -> Entity:
    return issue(CA, "partner", eku=["clientAuth"], ocsp_urls=ocsp, crl_urls=crl)


async def test_pitfall_240_urls_of_a_certificate_cost_four_connections_and_one_budget(tmp_path: Path) -> None:
    async with evil(silent()) as dead:
        leaf = partner(ocsp=tuple(dead.url(f"/{i}") for i in range(240)))
        cause, took_s, verdict = await refused(tmp_path, leaf)
        assert Cause.TIMED_OUT is cause
        assert took_s < BUDGET_S + SLACK_S
        assert 4 == len(verdict.evidence.findings[0].sources)
        assert len(dead.requests) <= 4


async def test_pitfall_endless_crl_is_too_large_and_grows_no_memory(tmp_path: Path) -> None:
    piece = bytes(64 * 1024)
    async with evil(
        endless(b"HTTP/1.1 200 OK\r\nContent-Type: application/pkix-crl\r\n\r\n", piece)
    ) as server:
        leaf = partner(crl=(server.url("/ca.crl"),))
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        limits = Limits(budget_ms=20_000, request_ms=15_000, crl_bytes=8 << 20)
        cause, _, _ = await refused(tmp_path, leaf, limits=limits)
        assert Cause.TOO_LARGE is cause
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024


async def test_pitfall_crl_of_a_gigabyte_is_refused_by_its_announced_length(tmp_path: Path) -> None:
    with nginx(tmp_path, {"small.crl": CA_CRL}) as web:
        sparse = tmp_path / f"nginx-{web.port}" / "www" / "giga.crl"
        with sparse.open("wb") as file:
            file.truncate(1 << 30)
        leaf = partner(crl=(web.url("/giga.crl"),))
        cause, took_s, _ = await refused(tmp_path, leaf)
        assert Cause.TOO_LARGE is cause
        assert took_s < BUDGET_S + SLACK_S


async def test_pitfall_slow_drip_ends_at_the_deadline(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: 4000\r\n\r\n"
    async with evil(drip(head, every_s=0.01)) as server:
        cause, took_s, _ = await refused(tmp_path, partner(ocsp=(server.url(),), crl=(server.url("/crl"),)))
        assert Cause.TIMED_OUT is cause
        assert BUDGET_S - 0.3 < took_s < BUDGET_S + SLACK_S


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "file:///etc/passwd",
        "http://10.0.0.1/",
    ],
)
async def test_pitfall_redirect_to_an_inner_address_is_forbidden(location: str, tmp_path: Path) -> None:
    with nginx(tmp_path, {}, f"location /moved {{ return 302 {location}; }}") as web:
        leaf = partner(crl=(web.url("/moved"),))
        cause, took_s, _ = await refused(tmp_path, leaf, allow_hosts=("127.0.0.1", "0.0.0.0/0", "::/0"))
        assert Cause.FORBIDDEN_URL is cause
        assert took_s < BUDGET_S + SLACK_S


class Rebinding:
    """
    A name server that gives an allowed address first, and an inner one ever after.
    """

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        assert ("pki.example", True) == (host, port > 0)
        self.asked += 1
        return (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0],)


async def test_pitfall_dns_rebinding_reaches_no_address_that_was_not_checked(tmp_path: Path) -> None:
    closing = response(b"no list", headers={"Connection": "close"})
    async with evil(answer(closing, close=True)) as inner:
        leaf = partner(
            crl=(f"http://pki.example:{inner.port}/a.crl", f"http://pki.example:{inner.port}/b.crl")
        )
        names = Rebinding("127.0.0.2", "127.0.0.1")
        cause, took_s, verdict = await refused(
            tmp_path,
            leaf,
            resolver=names,
            allow_hosts=("pki.example",),
            allow_networks=(ip_network("127.0.0.2/32"),),
        )
        assert Cause.FORBIDDEN_URL is cause, verdict.summary
        assert [] == inner.requests
        assert took_s < BUDGET_S + SLACK_S


async def test_bulkhead_dead_responder_of_one_ca_never_delays_the_partners_of_another(tmp_path: Path) -> None:
    other_root = make_root("Other Root")
    other = issue(other_root, "other", eku=["clientAuth"])
    raw = make_ocsp_response(other_root, other, produced_at=NOW, **FRESH)
    good = answer(response(raw, headers={"Content-Type": "application/ocsp-response"}))
    checker = make_checker(tmp_path / "state")
    limits = Limits(budget_ms=6_000, reserve_ms=200, request_ms=5_500)
    reached = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        reached.set()
        await reader.read()

    async with evil(hold) as dead, evil(good) as alive:
        leaf = partner(ocsp=(dead.url(),))
        waiting = [asyncio.create_task(check(checker, leaf, limits=limits)) for _ in range(60)]
        await reached.wait()
        begun = time.monotonic()
        verdict = await check(
            checker,
            other,
            limits=limits,
            chain=(other.der,),
            anchors=(other_root.der,),
            ocsp_urls=(alive.url(),),
            nonce=NonceMode.OFF,
        )
        took_s = time.monotonic() - begun
        assert verdict.accepted, verdict.summary
        assert took_s < 3
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    await checker.aclose()


async def test_second_source_has_answered_when_the_first_is_given_up(tmp_path: Path) -> None:
    checker = make_checker(tmp_path / "state")
    with nginx(tmp_path, {"ca.crl": CA_CRL}) as web:
        async with evil(silent()) as dead:
            leaf = partner(ocsp=(dead.url(),), crl=(web.url("/ca.crl"),))
            begun = time.monotonic()
            verdict = await check(checker, leaf, limits=Limits(budget_ms=2_000, hedge_ms=100))
            assert verdict.accepted, verdict.summary
            assert [Cause.SILENT_SOURCE] == [row.cause for row in verdict.evidence.rows]
            assert 1.7 < time.monotonic() - begun < 4
    await checker.aclose()
