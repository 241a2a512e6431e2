"""
The driver in virtual time: whom it asks, in which order, for how long, and what it keeps.

Every source, store and clock is made here; waiting costs no time, so that every moment can be asserted.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cftpki_ext.checking.checker import Checker, new_verdict_id
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.policy import AUDIT, RESILIENT
from cftpki_ext.core.settings import Limits, RestProfile, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Direction, Origin
from cftpki_ext.decision.question import Question
from cftpki_ext.ports import StatusQuestion
from tests.support.pki import NOW, Entity, issue, make_crl, make_ocsp_response, make_root, raw_extension
from tests.support.virtual_world import (
    CA,
    CRL,
    EVER,
    GOOD,
    HELD,
    LEAF,
    LIST,
    MINUTE,
    OCSP,
    REST,
    REVOKED,
    ROOT,
    ROOT_LIST,
    Clock,
    Proofs,
    Source,
    Store,
    VirtualLoop,
    World,
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


# -- cache ---------------------------------------------------------------------------------------------------


def test_authentic_answers_are_cached_and_young_ones_are_not_asked_for_again():
    w = world()
    assert w.check().accepted
    assert sorted([GOOD, ROOT_LIST]) == sorted(w.store.raws)
    w.clock.ahead = 4 * MINUTE
    verdict = w.check()
    assert verdict.accepted
    assert [] == w.asked(OCSP) + w.asked(CRL)
    assert [Origin.CACHE, Origin.CACHE] == [
        s.origin for one in verdict.evidence.findings for s in one.sources
    ]


@pytest.mark.parametrize(("kind", "age"), [(OCSP, 5), (CRL, 15)])
def test_cached_answer_past_its_refresh_age_is_asked_for_again(kind, age):
    w = world(
        trust={"sources": (kind,)}, more={(OCSP, "http://root/ocsp"): (0, make_ocsp_response(ROOT, CA))}
    )
    w.trust["ocsp_urls"] = ("http://root/ocsp",)
    assert w.check().accepted
    w.clock.ahead = age * MINUTE - MINUTE / 60
    w.check()
    assert [] == w.asked(kind)
    w.clock.ahead = age * MINUTE
    w.check()
    assert 2 == len({url for url, _ in w.asked(kind)})


def test_clock_set_back_makes_every_cached_answer_old():
    w = world(clock=Clock(ahead=10 * MINUTE))
    assert w.check().accepted
    w.clock.ahead = timedelta(0)
    w.check()
    assert [("http://ca/ocsp", 0)] == w.asked(OCSP)


def test_old_cached_answer_counts_while_it_is_valid_where_nobody_answers():
    w = world()
    w.check()
    w.answers = {}
    w.clock.ahead = 30 * MINUTE
    verdict = w.check()
    assert verdict.accepted
    assert 2 == len(w.asked(OCSP)) + len([u for u, _ in w.asked(CRL) if u != "http://ca/crl"])


def test_stale_cached_answer_carries_the_decision_only_where_policy_says_so():
    w = world()
    w.check()
    w.answers = {}
    w.clock.ahead = timedelta(hours=30)  # both ended 7 hours ago
    assert 46 == w.check().alert
    w.trust = {"policy": RESILIENT}
    verdict = w.check()
    assert verdict.accepted, verdict.summary
    assert all("accepted by policy 'resilient', good until" in warning for warning in verdict.warnings)
    w.clock.ahead = timedelta(hours=48)
    assert 46 == w.check().alert


def test_cached_answer_is_kept_for_its_life_and_the_stale_decision():
    w = world()
    w.check()
    # Valid for 23 hours more, then keep_stale.
    assert {int(timedelta(days=7, hours=23).total_seconds())} == set(w.store.seconds.values())


@pytest.mark.parametrize(
    "raw",
    [
        b"junk",
        make_ocsp_response(CA, LEAF, signing_key=ROOT.key),
        make_ocsp_response(CA, issue(CA, "another")),
        make_ocsp_response(ROOT, LEAF),
    ],
    ids=["junk", "forged", "of_another", "by_another_ca"],
)
def test_answer_that_is_not_authentic_is_never_cached(raw):
    w = world(ocsp=(0, raw))
    assert w.check().accepted
    assert sorted([LIST, ROOT_LIST]) == sorted(w.store.raws)


def test_failures_are_never_cached():
    w = world(ocsp=(0, Cause.TRY_LATER), crl=(0, Cause.UNREACHABLE))
    w.check()
    assert [ROOT_LIST] == w.store.raws


def test_cache_that_was_tampered_with_is_verified_again_and_replaced():
    w = world()
    w.check()
    for key, kept in w.store.kept.items():
        w.store.kept[key] = replace(kept, raw=kept.raw[:-1] + bytes((kept.raw[-1] ^ 1,)))
    verdict = w.check()
    assert verdict.accepted
    assert [("http://ca/ocsp", 0)] == w.asked(OCSP)
    assert sorted([GOOD, ROOT_LIST]) == sorted(w.store.raws)


def test_crl_of_a_signer_whose_own_status_another_crl_tells_is_cached():
    signer = issue(ROOT, "CA", usage=["cRLSign"], crl_urls=["http://root/crl"])
    w = world(crl=(0, make_crl(signer)), trust={"sources": (CRL,), "intermediates": (signer.der,)})
    assert w.check().accepted
    assert 2 == len(w.store.raws)


def test_rest_answers_are_not_cached_because_nothing_could_verify_them_again():
    profile = RestProfile(
        name="r",
        url="https://ca/{serial_hex}",
        serial="/serial",
        status="/s",
        good=("good",),
        revoked=("revoked",),
    )
    serial = f"{LEAF.serial:x}"
    url = f"https://ca/{serial if len(serial) % 2 == 0 else '0' + serial}"
    body = b'{"serial": "%s", "s": "good"}' % serial.encode()
    w = world(trust={"rest": profile, "sources": (REST, CRL)}, more={(REST, url): (0, body)})
    assert w.check().accepted
    assert [ROOT_LIST] == w.store.raws
    w.check()
    assert (url, 0) in w.asked(REST)
    w.answers = {**w.answers, (REST, url): (0, body.replace(b"good", b"revoked"))}
    assert 44 == w.check().alert
    w.answers = {**w.answers, (REST, url): (0, body)}
    assert 44 == w.check().alert


# -- deltas --------------------------------------------------------------------------------------------------

BASE = make_crl(CA, number=5, freshest=["http://ca/delta"])
CLEAN = make_crl(CA, number=6, delta_base=5)
LISTED = make_crl(CA, [LEAF.serial], number=6, delta_base=5)


def delta_world(delta: tuple[float, bytes | Cause], **fields: Any) -> World:
    trust = {"sources": (CRL,), **fields.pop("trust", {})}
    return world(
        crl=(0, fields.pop("base", BASE)), more={(CRL, "http://ca/delta"): delta}, trust=trust, **fields
    )


def test_delta_that_the_base_names_is_fetched_before_good_is_concluded():
    assert delta_world((0, CLEAN)).check().accepted
    w = delta_world((0.2, LISTED))
    assert 44 == w.check().alert
    assert 1 == [url for url, _ in w.asked(CRL)].count("http://ca/delta")


def test_delta_that_the_certificate_names_is_fetched():
    freshest = raw_extension("2.5.29.46", bytes.fromhex("3015 3013 a011 a00f 860d") + b"http://ca/dlt")
    leaf = issue(
        CA, "with delta", eku=["clientAuth"], crl_urls=["http://ca/crl"], extensions=[(freshest, False)]
    )
    listed = make_crl(CA, [leaf.serial], number=6, delta_base=5)
    w = delta_world((0, CLEAN), leaf=leaf, base=make_crl(CA, number=5))
    w.answers = {**w.answers, (CRL, "http://ca/dlt"): (0, listed)}
    assert 44 == w.check().alert
    w.trust["deltas"] = False
    w.store = Store()
    w.proofs = Proofs()
    assert w.check().accepted


def test_delta_that_cannot_be_got_leaves_a_fresh_base_to_decide():
    w = delta_world((0, Cause.UNREACHABLE))
    verdict = w.check()
    assert verdict.accepted
    assert [None, Cause.UNREACHABLE] == [s.cause for s in verdict.evidence.findings[0].sources]


def test_delta_that_never_comes_ends_with_the_budget_and_the_base_decides():
    w = delta_world((EVER, CLEAN))
    assert w.check().accepted
    assert 4.8 == round(w.took, 3)


def test_delta_is_not_fetched_where_ocsp_has_said_good_or_the_trust_set_leaves_it_out():
    w = delta_world((0, LISTED), trust={"sources": (OCSP, CRL)})
    assert w.check().accepted
    assert "http://ca/delta" not in [url for url, _ in w.asked(CRL)]
    w = delta_world((0, LISTED), trust={"deltas": False})
    assert w.check().accepted
    assert "http://ca/delta" not in [url for url, _ in w.asked(CRL)]


def test_delta_is_cached_and_heard_from_there_without_any_source():
    w = delta_world((0, LISTED))
    assert 44 == w.check().alert
    w.proofs = Proofs()
    w.kinds = ()
    verdict = w.check()
    assert 44 == verdict.alert
    assert {Origin.CACHE} == {s.origin for s in verdict.evidence.findings[0].sources}


def test_delta_continues_an_old_base_whose_server_is_gone():
    old = make_crl(CA, number=5, freshest=["http://ca/delta"], this_update=NOW - timedelta(hours=30))
    w = delta_world((0, make_crl(CA, number=6, delta_base=5)), base=old)
    w.clock.ahead = -timedelta(hours=20)
    w.answers = {
        **w.answers,
        (CRL, "http://root/crl"): (0, make_crl(ROOT, this_update=NOW - timedelta(hours=21))),
    }
    w.check()
    w.clock.ahead = timedelta(0)
    w.answers = {k: a for k, a in w.answers.items() if k[1] != "http://ca/crl"}
    verdict = w.check()
    assert verdict.accepted, verdict.summary


# -- cross-check ---------------------------------------------------------------------------------------------


def test_cross_check_asks_every_kind_also_after_the_first_has_answered():
    w = world(
        trust={"cross_check": (OCSP, CRL), "ocsp_urls": ("http://root/ocsp",)},
        more={(OCSP, "http://root/ocsp"): (0, make_ocsp_response(ROOT, CA))},
    )
    assert w.check().accepted
    assert {"http://ca/crl", "http://root/crl"} == {url for url, _ in w.asked(CRL)}


def test_cross_check_finds_the_disagreement_and_bad_news_ends_it_at_once():
    listed = make_crl(CA, [LEAF.serial])
    verdict = world(ocsp=(0, GOOD), crl=(0.1, listed), trust={"cross_check": (OCSP, CRL)}).check()
    assert 44 == verdict.alert
    assert verdict.warnings[0].startswith("sources disagree about the partner's certificate")
    w = world(ocsp=(0.1, REVOKED), crl=(1, LIST), trust={"cross_check": (OCSP, CRL)})
    assert 44 == w.check().alert
    assert 0.1 == round(w.took, 3)
    plain = world(ocsp=(0, REVOKED), crl=(0.1, LIST)).check()
    assert (44, ()) == (plain.alert, plain.warnings)


# -- the memory of revocations -------------------------------------------------------------------------------


def test_revocation_is_remembered_and_beats_newer_good_and_an_empty_cache():
    w = world(ocsp=(0, REVOKED))
    assert 44 == w.check().alert
    w.answers, w.store = world().answers, Store()
    w.clock.ahead = timedelta(hours=1)
    for trust in ({}, {"policy": RESILIENT}, {"sources": (CRL,)}):
        w.trust = trust
        verdict = w.check()
        assert 44 == verdict.alert
        assert [] == w.asked(OCSP) + [a for a in w.asked(CRL) if a[0] != "http://root/crl"]
    w.trust = {"policy": AUDIT}
    assert "would have been refused 44" in w.check().warnings[-1]


def test_revocation_that_is_proven_for_good_is_remembered_once():
    w = world(ocsp=(0, REVOKED))
    for _ in range(3):
        w.store = Store()
        assert 44 == w.check().alert
    assert [1] == [len(kept) for kept in w.proofs.kept.values()]


def test_revocation_after_a_hold_is_remembered_too():
    w = world(ocsp=(0, HELD))
    assert 44 == w.check().alert
    later = make_ocsp_response(CA, LEAF, "revoked", reason=1, this_update=NOW, produced_at=NOW)
    w.answers, w.store = world(ocsp=(0, later)).answers, Store()
    w.trust = {"policy": AUDIT}
    w.check(handed_in=(Statement(kind=OCSP, origin=Origin.STAPLED, received_at=NOW, depth=0, raw=later),))
    assert [2] == [len(kept) for kept in w.proofs.kept.values()]


def test_memory_that_cannot_be_read_lets_nobody_be_judged():
    w = world(proofs=Proofs(unreadable=True))
    with pytest.raises(StoreError):
        w.check()


def test_proof_that_cannot_be_kept_is_logged_and_still_refuses(caplog):
    w = world(ocsp=(0, REVOKED), proofs=Proofs(full=True))
    verdict = w.check()
    assert 44 == verdict.alert
    assert [f"verdict {verdict.id}: proof of revocation could not be kept: disk full"] == caplog.messages


def staple(raw: bytes = GOOD, **of: Any) -> Statement:
    return Statement(kind=OCSP, origin=Origin.STAPLED, received_at=NOW, raw=raw, **of)


def aged(age: timedelta, status: str = "good", **of: Any) -> bytes:
    """
    An OCSP answer of that age, with a life of ten days.
    """
    then = NOW - age
    return make_ocsp_response(
        CA, LEAF, status, this_update=then, produced_at=then, next_update=then + timedelta(days=10), **of
    )


def test_young_staple_stands_alone_as_a_young_cache_entry_does():
    w = world(ocsp=(EVER, GOOD))
    verdict = w.check(handed_in=(staple(aged(4 * MINUTE)),))
    assert (0, ()) == (verdict.alert, verdict.warnings)
    assert [] == w.asked(OCSP)
    assert [ROOT_LIST] == w.store.raws  # what was brought is not cached under anybody's address


def test_older_staple_does_not_keep_the_responder_from_being_asked():
    old = staple(aged(timedelta(days=9)))
    assert 44 == world(ocsp=(0, REVOKED)).check(handed_in=(old,)).alert
    w = world(ocsp=(0, Cause.UNREACHABLE), crl=(0, Cause.UNREACHABLE))
    verdict = w.check(handed_in=(old,))
    assert verdict.accepted
    assert [Cause.OLDER_GOOD] == [row.cause for row in verdict.evidence.rows]
    assert "a good one of 9 d ago was used, said by OCSP stapled" in verdict.warnings[0]


def test_good_staple_counts_only_where_ocsp_is_a_source_and_a_bad_one_always():
    w = world(trust={"sources": (CRL,)}, crl=(0, Cause.UNREACHABLE))
    assert 46 == w.check(handed_in=(staple(aged(MINUTE)),)).alert
    assert 44 == w.check(handed_in=(staple(aged(MINUTE, "revoked")),)).alert
    assert (
        44
        == world(trust={"sources": (CRL,)}, crl=(0, make_crl(CA, [LEAF.serial])))
        .check(handed_in=(staple(aged(MINUTE)),))
        .alert
    )


def test_verdict_ids_sort_by_time_and_never_repeat():
    ids = [new_verdict_id(ms) for ms in (1, 1, 2, 3_000_000_000_000)]
    assert ids[2:] == sorted(ids[2:])
    assert 4 == len(set(ids))
    assert {32} == {len(one) for one in ids}
