"""
Every cause provoked by a real server (an evil one where no real one produces it), and every action seen.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cftpki_ext.core.causes import OF_DIRECTORY, RESERVATIONS, Cause
from cftpki_ext.core.policy import (
    AUDIT,
    RESILIENT,
    STRICT,
    Action,
    Depth,
    PartnerException,
    Policy,
    Treatment,
)
from cftpki_ext.core.settings import Limits, Partners, TrustSet
from cftpki_ext.core.verdict import Reason, Verdict
from cftpki_ext.core.vocabulary import Direction, SourceKind
from cftpki_ext.decision.question import Question
from tests.support.checking import ShiftedClock, make_checker
from tests.support.pki import Entity, Revoked, issue, make_crl, make_root
from tests.support.ports import free_port
from tests.support.servers import answer, evil, nginx, openssl_ocsp, response, silent

pytestmark = pytest.mark.real

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
FRESH = {"this_update": NOW - HOUR, "next_update": NOW + 24 * HOUR}
ROOT = make_root("Root")
CA = issue(ROOT, "Issuing CA", ca=True)
LEAF = issue(CA, "partner", eku=["clientAuth"])
SERVER = issue(CA, "server", eku=["serverAuth"], must_staple=True)
ROOT_CRL, CA_CRL = make_crl(ROOT, **FRESH), make_crl(CA, **FRESH)
# Long enough for a busy machine: only those who wait for a silent server use it up.
LIMITS = Limits(budget_ms=8_000, reserve_ms=100, hedge_ms=100, request_ms=6_000, crl_bytes=4096)


@dataclass(frozen=True, kw_only=True)
class Site:
    """
    A partner, and where its status is asked, so that exactly one cause comes of it.
    """

    leaf: Entity = LEAF
    direction: Direction = Direction.SERVER
    trust: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = LIMITS


_states = itertools.count()


async def check(site: Site, path: Path, policy: Policy, **question: Any) -> Verdict:
    """
    Ask a fresh checker, which knows nothing yet.
    """
    checker = make_checker(path / f"state-{next(_states)}")
    try:
        return await checker.check(asking(site, policy, **question))
    finally:
        await checker.aclose()


def asking(site: Site, policy: Policy, *, at: datetime | None = None, **question: Any) -> Question:
    return Question(
        **{
            "chain": (site.leaf.der, CA.der),
            "direction": site.direction,
            "trust": TrustSet(name="t", anchors=(ROOT.der,), policy=policy, **site.trust),
            "limits": site.limits,
            "at": at or datetime.now(UTC),
            "rule": None,
            **question,
        }
    )


# -- one world for each cause --------------------------------------------------------------------------------

Provoking = Callable[[Path], AbstractAsyncContextManager[Site]]
WORLDS: dict[Cause, Provoking] = {}


def provokes(cause: Cause) -> Callable[[Callable[[Path], AsyncIterator[Site]]], None]:
    def register(make: Callable[[Path], AsyncIterator[Site]]) -> None:
        WORLDS[cause] = contextlib.asynccontextmanager(make)

    return register


def crls(path: Path, **files: bytes) -> Any:
    return nginx(path, {"root.crl": ROOT_CRL, **{f"{name}.crl": raw for name, raw in files.items()}})


@provokes(Cause.NO_SOURCE)
async def _nobody_is_named(_: Path) -> AsyncIterator[Site]:
    yield Site()


@provokes(Cause.UNREACHABLE)
async def _nobody_listens(path: Path) -> AsyncIterator[Site]:
    with crls(path) as web:
        gone = f"http://127.0.0.1:{free_port()}/"
        yield Site(trust={"ocsp_urls": (gone,), "crl_urls": (web.url("/root.crl"), web.url("/absent.crl"))})


@provokes(Cause.TIMED_OUT)
async def _server_is_silent(path: Path) -> AsyncIterator[Site]:
    with crls(path) as web:
        async with evil(silent()) as dead:
            yield Site(
                trust={"ocsp_urls": (dead.url(),), "crl_urls": (web.url("/root.crl"),)},
                limits=replace(LIMITS, budget_ms=2_500),
            )


def ocsp_status(number: int) -> Provoking:
    async def world(path: Path) -> AsyncIterator[Site]:
        body = bytes((0x30, 3, 0x0A, 1, number))
        headers = {"Content-Type": "application/ocsp-response"}
        with crls(path) as web:
            async with evil(answer(response(body, headers=headers))) as responder:
                yield Site(trust={"ocsp_urls": (responder.url(),), "crl_urls": (web.url("/root.crl"),)})

    return contextlib.asynccontextmanager(world)


WORLDS[Cause.RESPONDER_ERROR] = ocsp_status(2)
WORLDS[Cause.TRY_LATER] = ocsp_status(3)
WORLDS[Cause.UNAUTHORIZED] = ocsp_status(6)


@provokes(Cause.UNKNOWN)
async def _openssl_does_not_know_it(path: Path) -> AsyncIterator[Site]:
    with crls(path) as web, openssl_ocsp(path, issuer=CA) as responder:
        yield Site(trust={"ocsp_urls": (responder.url(),), "crl_urls": (web.url("/root.crl"),)})


@provokes(Cause.BAD_SIGNATURE)
async def _openssl_signs_without_being_entitled(path: Path) -> AsyncIterator[Site]:
    stranger = make_root("Stranger")
    with crls(path) as web, openssl_ocsp(path, issuer=CA, known=[LEAF], signer=stranger) as responder:
        yield Site(trust={"ocsp_urls": (responder.url(),), "crl_urls": (web.url("/root.crl"),)})


def crl_world(raw: bytes) -> Provoking:
    async def world(path: Path) -> AsyncIterator[Site]:
        with crls(path, ca=raw) as web:
            yield Site(trust={"crl_urls": (web.url("/root.crl"), web.url("/ca.crl"))})

    return contextlib.asynccontextmanager(world)


WORLDS[Cause.STALE] = crl_world(make_crl(CA, this_update=NOW - 48 * HOUR, next_update=NOW - 24 * HOUR))
WORLDS[Cause.UNREADABLE] = crl_world(b"this is no list")
_NOT_UNDERSTOOD = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
WORLDS[Cause.MALFORMED] = crl_world(make_crl(CA, extensions=[(_NOT_UNDERSTOOD, True)], **FRESH))
WORLDS[Cause.TOO_LARGE] = crl_world(make_crl(CA, [Revoked(1000 + i) for i in range(400)], **FRESH))
WORLDS[Cause.WRONG_SCOPE] = crl_world(make_crl(make_root("Another CA"), **FRESH))


@provokes(Cause.FORBIDDEN_URL)
async def _redirected_to_the_metadata_address(path: Path) -> AsyncIterator[Site]:
    locations = "location /moved.crl { return 302 http://169.254.169.254/latest/meta-data/; }"
    with nginx(path, {"root.crl": ROOT_CRL}, locations) as web:
        yield Site(trust={"crl_urls": (web.url("/root.crl"), web.url("/moved.crl"))})


@provokes(Cause.DISAGREEMENT)
async def _openssl_does_not_know_what_the_list_calls_good(path: Path) -> AsyncIterator[Site]:
    with crls(path, ca=CA_CRL) as web, openssl_ocsp(path, issuer=CA) as responder:
        yield Site(
            trust={
                "ocsp_urls": (responder.url(),),
                "crl_urls": (web.url("/root.crl"), web.url("/ca.crl")),
                "cross_check": (SourceKind.OCSP, SourceKind.CRL),
            }
        )


@provokes(Cause.MUST_STAPLE)
async def _server_sent_no_staple(path: Path) -> AsyncIterator[Site]:
    with crls(path) as web, openssl_ocsp(path, issuer=CA, known=[SERVER]) as responder:
        trust = {"ocsp_urls": (responder.url(),), "crl_urls": (web.url("/root.crl"),)}
        yield Site(leaf=SERVER, direction=Direction.CLIENT, trust=trust)


# -- what is done about each ---------------------------------------------------------------------------------


def only(cause: Cause, **treatment: Any) -> Policy:
    """
    A policy that looks at the leaf alone and has one row.
    """
    return replace(LEAF_ONLY, treatments={cause: Treatment(**treatment)})


LEAF_ONLY = replace(STRICT, name="leaf", depth=Depth.LEAF)


# Each refuses by default. The others say how well a "good" is founded, or that the CA publishes no status at all:
# test_who_is_heard.py and unit/decision/test_decide_policy.py. What a directory says is no status: test_directory.py.
@pytest.mark.parametrize(
    "cause", [cause for cause in Cause if cause not in {*RESERVATIONS, *OF_DIRECTORY, Cause.NO_REV_AVAIL}]
)
async def test_cause_provoked_by_a_server_meets_every_action(cause: Cause, tmp_path: Path) -> None:
    async with WORLDS[cause](tmp_path) as site:
        strict = await check(site, tmp_path, LEAF_ONLY)
        assert (46, Reason.STATUS_NOT_ESTABLISHED) == (strict.alert, strict.reason)
        assert cause == strict.evidence.findings[0].cause, strict.summary
        refuse = await check(site, tmp_path, only(cause, action=Action.REFUSE, alert=42))
        assert (42, Reason.STATUS_NOT_ESTABLISHED) == (refuse.alert, refuse.reason)
        assert cause == refuse.evidence.findings[0].cause
        warn = await check(site, tmp_path, only(cause, action=Action.ACCEPT_WARN))
        assert (0, 1) == (warn.alert, len([w for w in warn.warnings if cause.value in w]))
        accept = await check(site, tmp_path, only(cause, action=Action.ACCEPT))
        assert 0 == accept.alert
        assert any(cause.value in note for note in accept.evidence.notes)
        assert all("accepted" not in warning for warning in accept.warnings)
        ended = only(cause, action=Action.ACCEPT, until=datetime.now(UTC))
        assert 46 == (await check(site, tmp_path, ended)).alert
        running = only(cause, action=Action.ACCEPT, until=datetime.now(UTC) + HOUR)
        assert 0 == (await check(site, tmp_path, running)).alert
        # What cannot be read at all has the row of what is malformed, where it has none of its own.
        own = {cause, Cause.MALFORMED} if cause is Cause.UNREADABLE else {cause}
        others = replace(
            LEAF_ONLY, treatments={c: Treatment(action=Action.ACCEPT) for c in Cause if c not in own}
        )
        assert 46 == (await check(site, tmp_path, others)).alert
        excepted = PartnerException(
            fingerprint=sha256(site.leaf.der).hexdigest(),
            until=datetime.now(UTC) + HOUR,
            reason="ticket 4711",
            causes=frozenset({cause}),
        )
        lifted = await check(site, tmp_path, replace(LEAF_ONLY, exceptions=(excepted,)))
        assert (0, True) == (lifted.alert, "ticket 4711" in lifted.warnings[-1])
        audit = await check(site, tmp_path, replace(LEAF_ONLY, enforcement=AUDIT.enforcement))
        assert (0, True) == (audit.alert, "would have been refused 46" in audit.warnings[-1])
        # Nothing good was ever heard, so that "resilient" has nothing to rest on. (A staple is not replaced either.)
        assert 46 == (await check(site, tmp_path, replace(RESILIENT, depth=Depth.LEAF))).alert


@pytest.mark.parametrize(
    ("max_stale", "expected"),
    [(None, 0), (30 * HOUR, 0), (28 * HOUR, 46)],
    ids=["unbounded", "within", "beyond"],
)
async def test_max_stale_is_measured_on_what_was_really_cached(
    max_stale: timedelta | None, expected: int, tmp_path: Path
) -> None:
    long_ago = {"this_update": NOW - 31 * HOUR, "next_update": NOW - 29 * HOUR}
    site = Site()
    with nginx(tmp_path, {"ca.crl": make_crl(CA, **long_ago)}) as web:
        site = Site(trust={"crl_urls": (web.url("/ca.crl"),)})
        then = make_checker(tmp_path / "state", ShiftedClock(-30 * HOUR))
        assert (await then.check(asking(site, LEAF_ONLY, at=NOW - 30 * HOUR))).accepted
        await then.aclose()
    now = make_checker(tmp_path / "state")
    try:
        treatment = Treatment(action=Action.ACCEPT_WARN, max_stale=max_stale)
        policy = replace(LEAF_ONLY, treatments={Cause.UNREACHABLE: treatment})
        verdict = await now.check(asking(site, policy))
        assert (expected, Cause.UNREACHABLE) == (verdict.alert, verdict.evidence.findings[0].cause)
    finally:
        await now.aclose()


async def test_resilient_carries_a_dead_ca_for_a_day_and_no_longer(tmp_path: Path) -> None:
    for hours, expected in ((23, 0), (25, 46)):
        life = {"this_update": NOW - (hours + 2) * HOUR, "next_update": NOW - hours * HOUR}
        folder = tmp_path / str(hours)
        folder.mkdir()
        with nginx(folder, {"ca.crl": make_crl(CA, **life), "root.crl": ROOT_CRL}) as web:
            site = Site(trust={"crl_urls": (web.url("/root.crl"), web.url("/ca.crl"))})
            then = NOW - (hours + 1) * HOUR
            checker = make_checker(folder / "state", ShiftedClock(then - NOW))
            await checker.check(asking(site, RESILIENT, at=then))
            await checker.aclose()
        later = make_checker(folder / "state")
        # The root's list was not valid yet when it was got, and is now: only the leaf depends on the policy.
        verdict = await later.check(asking(site, RESILIENT))
        await later.aclose()
        assert expected == verdict.alert, verdict.summary


@pytest.mark.parametrize(
    "policy",
    [
        STRICT,
        RESILIENT,
        Policy(name="soft", treatments=dict.fromkeys(Cause, Treatment(action=Action.ACCEPT))),
    ],
    ids=lambda p: p.name,
)
async def test_revoked_by_openssl_is_44_under_every_policy_and_stays_so(
    policy: Policy, tmp_path: Path
) -> None:
    with crls(tmp_path, ca=CA_CRL) as web:
        urls = (web.url("/root.crl"), web.url("/ca.crl"))
        with openssl_ocsp(tmp_path, issuer=CA, revoked={LEAF.serial: "keyCompromise"}) as responder:
            checker = make_checker(tmp_path / "state")
            site = Site(trust={"ocsp_urls": (responder.url(),), "crl_urls": urls})
            assert 44 == (await checker.check(asking(site, policy))).alert
            await checker.aclose()
        # The responder is gone, the CRL (rolled back) is clean, the cache is flushed: it is known all the same.
        for file in (tmp_path / "state" / "responses").glob("*"):
            file.unlink()
        again, beside = make_checker(tmp_path / "state"), make_checker(tmp_path / "state")
        for checker in (again, beside):
            verdict = await checker.check(asking(Site(trust={"crl_urls": urls}), policy))
            assert (44, "known_revoked") == (
                verdict.alert,
                verdict.evidence.findings[0].sources[0].origin.value,
            )
        await again.aclose()
        await beside.aclose()
        fresh = make_checker(tmp_path / "elsewhere")
        assert (await fresh.check(asking(Site(trust={"crl_urls": urls}), policy))).accepted
        await fresh.aclose()


async def test_delta_of_nginx_refuses_what_its_base_does_not_know_yet(tmp_path: Path) -> None:
    files = {"root.crl": ROOT_CRL, "delta.crl": make_crl(CA, [LEAF.serial], number=6, delta_base=5, **FRESH)}
    with nginx(tmp_path, files) as web:
        base = make_crl(CA, number=5, freshest=[web.url("/delta.crl")], **FRESH)
        (tmp_path / f"nginx-{web.port}" / "www" / "ca.crl").write_bytes(base)
        trust = {
            "crl_urls": (web.url("/root.crl"), web.url("/ca.crl")),
            "allow_hosts": ("127.0.0.1",),
            "allow_networks": (ip_network("127.0.0.0/8"),),
        }
        verdict = await check(Site(trust=trust), tmp_path, STRICT)
        assert 44 == verdict.alert, verdict.summary
        without = await check(Site(trust={**trust, "deltas": False}), tmp_path, STRICT)
        assert without.accepted
        (tmp_path / f"nginx-{web.port}" / "www" / "delta.crl").unlink()
        fallback = await check(Site(trust=trust), tmp_path, STRICT)
        assert fallback.accepted
        assert Cause.UNREACHABLE in [s.cause for s in fallback.evidence.findings[0].sources]


async def test_partner_lists_hold_over_real_sources(tmp_path: Path) -> None:
    with crls(tmp_path, ca=CA_CRL) as web:
        site = Site(trust={"crl_urls": (web.url("/root.crl"), web.url("/ca.crl"))})
        listed = await check(site, tmp_path, STRICT, partners=Partners(subjects=("CN=partner",)))
        other = await check(site, tmp_path, STRICT, partners=Partners(subjects=("CN=other",)))
        assert (0, 49) == (listed.alert, other.alert)
