"""
The driver in virtual time: whom it asks, in which order, and for how long.

Every source, store and clock is made here; waiting costs no time, so that every moment can be asserted.
"""

from __future__ import annotations

import asyncio

import pytest

from cftpki_ext.checking.checker import Checker, new_verdict_id
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Direction
from cftpki_ext.decision.question import Question
from cftpki_ext.ports.sources import StatusQuestion
from tests.support.pki import NOW, Entity, issue, make_crl, make_ocsp_response, make_root
from tests.support.virtual_world import (
    CA,
    CRL,
    EVER,
    GOOD,
    LEAF,
    LIST,
    OCSP,
    REVOKED,
    ROOT,
    ROOT_LIST,
    Clock,
    Source,
    Store,
    VirtualLoop,
    world,
)

# -- order and hedging ---------------------------------------------------------------------------------------


def test_first_source_alone_is_asked_where_it_answers_in_time():
    w = world(ocsp=(0.5, GOOD))
    assert w.check().accepted
    assert [("http://ca/ocsp", 0)] == w.asked(OCSP)
    assert [("http://root/crl", 0)] == w.asked(CRL)
    assert 0.5 == round(w.took, 3)


def test_second_source_starts_when_the_first_is_slow_and_its_good_does_not_end_the_wait():
    w = world(ocsp=(EVER, GOOD), crl=(0.1, LIST))
    verdict = w.check()
    assert verdict.accepted
    assert [Cause.SILENT_SOURCE] == [row.cause for row in verdict.evidence.rows]
    assert 1 == len(verdict.warnings)
    assert ("http://ca/crl", 0.7) in w.asked(CRL)
    assert 4.8 == round(w.took, 3)
    assert ["http://ca/ocsp"] == w.sources[OCSP].cancelled


def test_revoked_by_the_slow_first_source_is_heard_after_the_second_said_good():
    w = world(ocsp=(4, REVOKED), crl=(0.1, LIST))
    assert 44 == w.check().alert
    assert 4 == round(w.took, 3)


def test_revoked_by_the_second_source_ends_the_wait_for_the_first():
    w = world(ocsp=(EVER, GOOD), crl=(0.1, make_crl(CA, [LEAF.serial])))
    assert 44 == w.check().alert
    assert 0.8 == round(w.took, 3)


def test_first_source_that_fails_ends_the_wait_for_it():
    w = world(ocsp=(1.5, Cause.UNREACHABLE), crl=(0.1, LIST))
    verdict = w.check()
    assert verdict.accepted
    assert [Cause.SILENT_SOURCE] == [row.cause for row in verdict.evidence.rows]
    assert 1.5 == round(w.took, 3)


def test_second_source_starts_at_once_when_the_first_failed():
    w = world(ocsp=(0.1, Cause.UNREACHABLE))
    assert w.check().accepted
    assert ("http://ca/crl", 0.1) in w.asked(CRL)


def test_order_of_the_trust_set_decides_who_is_first():
    w = world(trust={"sources": (CRL, OCSP)})
    assert w.check().accepted
    assert [] == w.asked(OCSP)


def test_kind_without_a_source_is_never_asked():
    w = world(kinds=(CRL,))
    assert w.check().accepted
    assert {CRL} == set(w.sources)


def test_location_is_asked_once_however_often_it_is_named():
    w = world(ocsp=(0, Cause.TRY_LATER), crl=(0, Cause.UNREACHABLE), trust={"crl_urls": ("http://ca/crl",)})
    w.check()
    assert 2 == [url for url, _ in w.asked(CRL)].count("http://ca/crl")  # once for each certificate


# -- budget --------------------------------------------------------------------------------------------------


def test_budget_less_its_reserve_is_the_end_however_many_sources_are_silent():
    w = world(ocsp=(EVER, GOOD), crl=(EVER, LIST))
    verdict = w.check()
    assert (46, Cause.TIMED_OUT) == (verdict.alert, verdict.evidence.findings[0].cause)
    assert 4.8 == round(w.took, 3)
    assert "no answer within the budget of 5000 ms" in verdict.summary


def test_source_that_was_not_even_asked_says_so():
    w = world(ocsp=(EVER, GOOD), limits=Limits(budget_ms=500, reserve_ms=100, hedge_ms=700))
    details = [s.detail for s in w.check().evidence.findings[0].sources]
    assert ["no answer within the budget of 500 ms", "not asked within the budget of 500 ms"] == details


def test_certificates_share_one_budget_and_are_asked_side_by_side():
    w = world(ocsp=(1, GOOD), more={(CRL, "http://root/crl"): (1.5, ROOT_LIST)})
    assert w.check().accepted
    assert 1.5 == w.took


def test_many_silent_locations_cost_one_budget():
    urls = [f"http://x{i}/ocsp" for i in range(240)]
    leaf = issue(CA, "many", eku=["clientAuth"], ocsp_urls=urls)
    w = world(leaf=leaf, more={(OCSP, url): (EVER, GOOD) for url in urls})
    assert 46 == w.check().alert
    assert [(urls[i], round(0.7 * i, 3)) for i in range(4)] == w.asked(OCSP)
    assert 4.8 == round(w.took, 3)


def test_deadline_is_told_to_the_source():
    seen: list[float] = []
    w = world()

    class Noting(Source):
        async def ask(self, question: StatusQuestion) -> Statement:
            seen.append(question.deadline)
            return await super().ask(question)

    async def run() -> None:
        sources = {OCSP: Noting(OCSP, w.clock, {"http://ca/ocsp": (0, GOOD)})}
        question = Question(
            chain=(LEAF.der, CA.der),
            direction=Direction.SERVER,
            trust=TrustSet(name="t", anchors=(ROOT.der,)),
            limits=Limits(budget_ms=1000, reserve_ms=250),
            at=NOW,
            rule=None,
        )
        await Checker(sources=sources, store=w.store, clock=w.clock).check(question)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
    assert [0.85] == seen


def test_cancelled_check_cancels_what_is_under_way():
    w = world(ocsp=(EVER, GOOD), crl=(EVER, LIST))
    sources = {
        kind: Source(kind, w.clock, {"http://ca/ocsp": (EVER, GOOD), "http://ca/crl": (EVER, LIST)})
        for kind in (OCSP, CRL)
    }

    async def run() -> None:
        checker = Checker(sources=sources, store=w.store, clock=w.clock)
        question = Question(
            chain=(LEAF.der, CA.der),
            direction=Direction.SERVER,
            trust=TrustSet(name="t", anchors=(ROOT.der,)),
            limits=Limits(),
            at=NOW,
            rule=None,
        )
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await checker.check(question)
        await checker.aclose()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
    assert (["http://ca/ocsp"], ["http://ca/crl"]) == (sources[OCSP].cancelled, sources[CRL].cancelled)
    assert all(source.closed for source in sources.values())


def test_dead_ca_does_not_delay_the_partners_of_another():
    other_root = make_root("Other Root")
    other = issue(other_root, "other", eku=["clientAuth"], ocsp_urls=["http://other/ocsp"])
    clock, took = Clock(), dict[str, float]()
    answers = {
        "http://ca/ocsp": (EVER, GOOD),
        "http://other/ocsp": (0.1, make_ocsp_response(other_root, other)),
    }
    checker_sources = {OCSP: Source(OCSP, clock, answers)}

    async def one(checker: Checker, name: str, chain: tuple[bytes, ...], anchor: Entity) -> Verdict:
        question = Question(
            chain=chain,
            direction=Direction.SERVER,
            trust=TrustSet(name=name, anchors=(anchor.der,)),
            limits=Limits(),
            at=NOW,
            rule=None,
        )
        verdict = await checker.check(question)
        took[name] = clock.monotonic()
        return verdict

    async def run() -> list[Verdict]:
        checker = Checker(sources=checker_sources, store=Store(), clock=clock)
        dead = [one(checker, "dead", (LEAF.der, CA.der), ROOT) for _ in range(50)]
        return await asyncio.gather(*dead, one(checker, "other", (other.der,), other_root))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        verdicts = runner.run(run())
    assert [46] * 50 + [0] == [verdict.alert for verdict in verdicts]
    assert (4.8, 0.1) == (round(took["dead"], 3), took["other"])


def test_nothing_is_asked_for_a_stranger_a_faulty_path_or_a_path_alone():
    w = world(leaf=issue(CA, "server", eku=["serverAuth"], ocsp_urls=["http://ca/ocsp"]))
    assert 43 == w.check().alert
    assert [] == w.asked(OCSP) + w.asked(CRL)
    w = world()
    assert 48 == w.check(trust=TrustSet(name="t", anchors=(make_root("Elsewhere").der,))).alert
    assert w.check(path_only=True).accepted
    assert [] == w.asked(OCSP) + w.asked(CRL)


def test_verdict_ids_sort_by_time_and_never_repeat():
    ids = [new_verdict_id(ms) for ms in (1, 1, 2, 3_000_000_000_000)]
    assert ids[2:] == sorted(ids[2:])
    assert 4 == len(set(ids))
    assert {32} == {len(one) for one in ids}
