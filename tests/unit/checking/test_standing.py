"""
Until when a verdict is given again without judging: exactly as long as judging would say the same.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from cftpki_ext.checking.case import Case
from cftpki_ext.checking.standing import LONGEST, stands_until
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import AUDIT, RESILIENT
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Direction, Origin
from cftpki_ext.decision.question import Question
from cftpki_ext.decision.settling import Situation
from tests.support.pki import NOW, issue, make_crl, make_ocsp_response
from tests.support.virtual_world import CA, CRL, GOOD, LEAF, LIST, OCSP, ROOT, ROOT_LIST

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
AT_ONCE = {
    (OCSP, "http://ca/ocsp"): GOOD,
    (CRL, "http://root/crl"): ROOT_LIST,
}


def question(leaf=LEAF, *, trust=None, limits=None, **options):
    return Question(
        **{
            "chain": (leaf.der, CA.der),
            "direction": Direction.SERVER,
            "trust": TrustSet(name="t", anchors=(ROOT.der,), **(trust or {})),
            "limits": limits or Limits(),
            "at": NOW,
            "rule": "in",
            **options,
        }
    )


def until(
    asked, cache=AT_ONCE, *, age=timedelta(0), origin=Origin.CACHE, kinds=(OCSP, CRL), recall=(), handed_in=()
):
    """
    Judge a question with what the cache has, received `age` ago; until when the verdict stands, and the verdict.
    """
    case, recalled, looked_up, kept, heard = Case(asked), [], [], [], [*handed_in, *recall]
    while True:
        situation = Situation(
            kinds=frozenset(kinds),
            left_ms=5000,
            statements=tuple(heard),
            kept=tuple(one for one in kept if one not in heard),
            looked_up=frozenset(place.lookup for place in looked_up),
        )
        turn = case.advance(situation, now=NOW, recalled=frozenset(recalled), looked_up=looked_up)
        recalled += (one.key for one in turn.recall)
        for place in turn.look_up:
            looked_up.append(place)
            raw = cache.get((place.lookup.kind, place.lookup.url))
            if raw is not None:
                kept.append(
                    Statement(
                        kind=place.lookup.kind,
                        origin=origin,
                        received_at=NOW - age,
                        depth=place.lookup.depth,
                        url=place.lookup.url,
                        raw=raw,
                    )
                )
        heard += turn.hear
        if turn.done or turn.ask:
            break
    verdict = case.conclude(heard, verdict_id="a" * 32, now=NOW).verdict
    if turn.ask:
        situation = replace(situation, asked=frozenset(place.lookup for place in turn.ask))
    found = stands_until(asked, verdict, heard, situation, recalled=frozenset(recalled), looked_up=looked_up)
    return found, verdict


def test_verdict_stands_until_its_first_answer_would_be_asked_for_again():
    found, verdict = until(question())
    assert verdict.accepted
    assert NOW + Limits().ocsp_refresh - SECOND == found


def test_verdict_of_older_answers_stands_for_less():
    assert NOW + Limits().ocsp_refresh - 2 * MINUTE - SECOND == until(question(), age=2 * MINUTE)[0]


def test_verdict_stands_until_its_list_would_be_asked_for_again_where_that_is_sooner():
    limits = Limits(crl_refresh=timedelta(minutes=1))
    assert NOW + MINUTE - SECOND == until(question(limits=limits))[0]


def test_verdict_stands_for_an_hour_at_most():
    limits = Limits(ocsp_refresh=timedelta(days=1), crl_refresh=timedelta(days=1))
    assert NOW + LONGEST - SECOND == until(question(limits=limits))[0]


@pytest.mark.parametrize("which", ["ocsp", "list"])
def test_verdict_stands_until_what_it_rests_on_ends(which):
    soon = NOW + 2 * MINUTE
    cache = {
        (OCSP, "http://ca/ocsp"): make_ocsp_response(
            CA, LEAF, next_update=soon if which == "ocsp" else NOW + 9 * MINUTE
        ),
        (CRL, "http://root/crl"): make_crl(ROOT, next_update=soon if which == "list" else NOW + 9 * MINUTE),
    }
    assert soon - SECOND == until(question(), cache)[0]


def test_verdict_stands_until_the_certificate_ends():
    leaf = issue(CA, "short", eku=["clientAuth"], ocsp_urls=["http://ca/ocsp"], not_after=NOW + 2 * MINUTE)
    cache = {**AT_ONCE, (OCSP, "http://ca/ocsp"): make_ocsp_response(CA, leaf)}
    assert NOW + 2 * MINUTE - SECOND == until(question(leaf), cache)[0]


def test_verdict_without_a_status_asked_for_stands_for_an_hour():
    leaf = issue(CA, "plain", eku=["clientAuth"])
    found, verdict = until(question(leaf, trust={"policy": RESILIENT}))
    assert [Cause.NO_SOURCE] == [row.cause for row in verdict.evidence.rows] or not verdict.warnings
    assert None is found or NOW + LONGEST - SECOND == found


@pytest.mark.parametrize("origin", [Origin.NETWORK, Origin.HANDED_IN])
def test_verdict_on_what_was_just_asked_does_not_stand(origin):
    found, verdict = until(question(), origin=origin)
    assert (True, None) == (verdict.accepted, found)


def test_refusal_does_not_stand():
    cache = {**AT_ONCE, (OCSP, "http://ca/ocsp"): make_ocsp_response(CA, LEAF, "revoked")}
    found, verdict = until(question(), cache)
    assert (44, None) == (verdict.alert, found)


def test_verdict_for_which_somebody_has_to_be_asked_does_not_stand():
    cache = {(CRL, "http://root/crl"): ROOT_LIST}
    assert None is until(question(), cache)[0]
    assert None is until(question(), age=timedelta(hours=1))[0]


def test_verdict_with_a_staple_does_not_stand():
    staple = Statement(kind=OCSP, origin=Origin.STAPLED, received_at=NOW, depth=0, raw=GOOD)
    found, verdict = until(question(), handed_in=(staple,))
    assert (True, None) == (verdict.accepted, found)


def test_verdict_beside_a_known_revocation_does_not_stand():
    known = Statement(kind=CRL, origin=Origin.KNOWN_REVOKED, received_at=NOW, depth=0, raw=make_crl(CA))
    assert None is until(question(), recall=(known,))[0]


def test_verdict_that_only_an_audit_let_in_does_not_stand():
    cache = {**AT_ONCE, (OCSP, "http://ca/ocsp"): make_ocsp_response(CA, LEAF, "revoked")}
    found, _ = until(question(trust={"policy": AUDIT}), cache)
    assert None is found


@pytest.mark.parametrize(
    "options",
    [{"path_only": True}, {"untrusted": (CA.der,)}, {"ask": False}],
    ids=lambda one: next(iter(one)),
)
def test_verdict_on_what_no_host_asks_does_not_stand(options):
    found, verdict = until(question(**options))
    assert (True, None) == (verdict.accepted, found)


def test_verdict_stands_no_longer_than_the_responder_may_speak():
    # Nothing in the finding says when the responder's certificate ends: the last look finds it.
    signer = issue(CA, "responder", eku=["OCSPSigning"], nocheck=True, not_after=NOW + 2 * MINUTE)
    cache = {**AT_ONCE, (OCSP, "http://ca/ocsp"): make_ocsp_response(CA, LEAF, signer=signer)}
    found, verdict = until(question(limits=Limits(clock_skew=timedelta(0))), cache)
    assert verdict.accepted
    assert None is found


def test_another_partner_has_a_verdict_of_its_own():
    other = issue(CA, "other", eku=["clientAuth"], crl_urls=["http://ca/crl"])
    cache = {(CRL, "http://ca/crl"): LIST, (CRL, "http://root/crl"): ROOT_LIST}
    assert NOW + Limits().crl_refresh - SECOND == until(question(other), cache)[0]
    assert None is until(question(other), {**cache, (CRL, "http://ca/crl"): make_crl(CA, [other.serial])})[0]
