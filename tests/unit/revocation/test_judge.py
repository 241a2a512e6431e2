"""
All sources of one certificate together: bad news first, then good news, else the most telling cause; and the plan.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from cftpki_ext.core.causes import OF_DIRECTORY, RESERVATIONS, Cause
from cftpki_ext.core.policy import Depth, Policy
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.verdict import CertificateStatus
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.revocation.judge import CAUSE_RANK, contradiction, judge_certificate, require_staple
from cftpki_ext.revocation.plan import depths_to_judge, plan_lookups
from cftpki_ext.x509.certificate import parse_certificate
from tests.support.pki import NOW, Revoked, Single, issue, make_crl, make_ocsp_response
from tests.unit.revocation.test_ocsp_forged import WORLDS, answer, context_of, delegated, singles

HOUR = timedelta(hours=1)
W = WORLDS["ec"]
HOLD = x509.ReasonFlags.certificate_hold


def ocsp(raw: bytes | None, **fields: Any) -> Statement:
    defaults = {"origin": Origin.NETWORK, "depth": 0, "url": "http://ocsp.example/", "received_at": NOW}
    return Statement(kind=SourceKind.OCSP, raw=raw, **{**defaults, **fields})


def crl(raw: bytes | None, **fields: Any) -> Statement:
    defaults = {"origin": Origin.NETWORK, "depth": 0, "url": "http://crl.example/", "received_at": NOW}
    return Statement(kind=SourceKind.CRL, raw=raw, **{**defaults, **fields})


def judge(*statements: Statement, now=NOW):
    return judge_certificate(context_of(W, now=now), 0, statements)


def held(hours_ago: float, **single: Any) -> bytes:
    at = NOW - hours_ago * HOUR
    return answer(W, status="revoked", reason=6, this_update=at, produced_at=at, **single)


def good(hours_ago: float = 1, **single: Any) -> bytes:
    at = NOW - hours_ago * HOUR
    return answer(W, this_update=at, produced_at=at, **single)


GOOD_OCSP = ocsp(good())
GOOD_CRL = crl(make_crl(W.ca))
REVOKED_OCSP = ocsp(answer(W, status="revoked", reason=1))
REVOKED_CRL = crl(make_crl(W.ca, [Revoked(W.leaf.serial, reason=x509.ReasonFlags.key_compromise)]))


@pytest.mark.parametrize(
    "other", [GOOD_CRL, ocsp(None, failure=Cause.TIMED_OUT), crl(None, failure=Cause.UNREACHABLE)]
)
def test_one_good_source_is_enough(other):
    finding = judge(other, GOOD_OCSP)
    assert (CertificateStatus.GOOD, None) == (finding.status, finding.cause)
    assert 2 == len(finding.sources)


def test_crl_alone_is_enough():
    assert CertificateStatus.GOOD == judge(GOOD_CRL).status
    assert CertificateStatus.REVOKED == judge(REVOKED_CRL).status


@pytest.mark.parametrize(
    "statements",
    [
        (GOOD_OCSP, REVOKED_CRL),
        (REVOKED_CRL, GOOD_OCSP),
        (GOOD_CRL, REVOKED_OCSP),
        (REVOKED_OCSP, GOOD_CRL, GOOD_OCSP),
    ],
)
def test_pitfall_50_second_opinion_revoked_counts_whoever_says_good(statements):
    finding = judge(*statements)
    assert CertificateStatus.REVOKED == finding.status
    assert "revoked 2026-06-01 10:00:00Z (keyCompromise)" in finding.detail
    note = contradiction(finding)
    assert note is not None
    assert "sources disagree about the partner's certificate" in note


def test_pitfall_50_second_opinion_that_is_forged_is_ignored():
    forged = ocsp(answer(W, status="revoked", signing_key=W.other.key))
    finding = judge(forged, GOOD_CRL)
    assert (CertificateStatus.GOOD, None) == (finding.status, contradiction(finding))


def test_sources_in_agreement_are_no_contradiction():
    assert contradiction(judge(GOOD_OCSP, GOOD_CRL)) is None
    assert contradiction(judge(REVOKED_OCSP, REVOKED_CRL)) is None


def test_unknown_beside_good_is_noted_and_a_lifted_hold_is_not():
    noted = judge(ocsp(answer(W, status="unknown")), GOOD_CRL)
    assert CertificateStatus.GOOD == noted.status
    assert "unknown, said by OCSP" in (contradiction(noted) or "")
    assert contradiction(judge(ocsp(held(2)), ocsp(good(1)))) is None


def test_known_revocation_stands_against_newer_good():
    known = ocsp(
        answer(
            W,
            status="revoked",
            this_update=NOW - 900 * HOUR,
            produced_at=NOW - 900 * HOUR,
            next_update=NOW - 800 * HOUR,
        ),
        origin=Origin.KNOWN_REVOKED,
        received_at=NOW - 900 * HOUR,
    )
    assert CertificateStatus.REVOKED == judge(known, GOOD_OCSP, GOOD_CRL).status


def test_hold_counts_until_newer_evidence_lifts_it():
    assert CertificateStatus.ON_HOLD == judge(ocsp(held(2))).status
    assert CertificateStatus.ON_HOLD == judge(ocsp(held(2)), ocsp(good(3))).status
    assert CertificateStatus.ON_HOLD == judge(ocsp(held(2)), ocsp(good(2))).status
    assert CertificateStatus.GOOD == judge(ocsp(held(2)), ocsp(good(1))).status


def test_hold_does_not_lift_by_growing_old():
    stale = ocsp(held(50, next_update=NOW - 40 * HOUR), origin=Origin.KNOWN_REVOKED)
    assert CertificateStatus.ON_HOLD == judge(stale).status
    assert CertificateStatus.ON_HOLD == judge(stale, crl(None, failure=Cause.UNREACHABLE)).status


def test_hold_in_force_is_not_lifted_by_another_kind_but_a_stale_one_is():
    assert CertificateStatus.ON_HOLD == judge(ocsp(held(2)), GOOD_CRL).status
    assert CertificateStatus.GOOD == judge(ocsp(held(50, next_update=NOW - 40 * HOUR)), GOOD_CRL).status
    on_list = crl(make_crl(W.ca, [Revoked(W.leaf.serial, reason=HOLD)], this_update=NOW - 2 * HOUR))
    assert CertificateStatus.ON_HOLD == judge(on_list, GOOD_OCSP).status


def test_certificate_not_issued_is_revoked_until_a_newer_answer_knows_it():
    never = ocsp(held(2, revoked_at=datetime(1970, 1, 1, tzinfo=UTC)))
    assert CertificateStatus.REVOKED == judge(never).status
    assert CertificateStatus.REVOKED == judge(never, ocsp(good(3))).status
    assert CertificateStatus.GOOD == judge(never, ocsp(good(1))).status
    assert CertificateStatus.REVOKED == judge(never, ocsp(good(1)), REVOKED_CRL).status


def test_certificate_without_any_statement_has_no_source():
    finding = judge()
    assert (CertificateStatus.UNDETERMINED, Cause.NO_SOURCE) == (finding.status, finding.cause)


def test_statement_about_another_certificate_is_left_out():
    finding = judge(ocsp(good(), depth=1))
    assert (Cause.NO_SOURCE, ()) == (finding.cause, finding.sources)


def test_evidence_handed_in_for_another_certificate_says_least():
    about_sibling = ocsp(make_ocsp_response(W.ca, W.sibling), depth=None, origin=Origin.HANDED_IN)
    assert Cause.WRONG_SCOPE == judge(about_sibling).cause
    assert Cause.UNREACHABLE == judge(about_sibling, crl(None, failure=Cause.UNREACHABLE)).cause


def test_kept_statement_grown_old_says_less_than_why_none_newer_came():
    old = good(50, next_update=NOW - 40 * HOUR)
    failed = crl(None, failure=Cause.UNREACHABLE)
    assert Cause.UNREACHABLE == judge(ocsp(old, origin=Origin.CACHE), failed).cause
    assert Cause.STALE == judge(ocsp(old, origin=Origin.NETWORK), failed).cause
    assert Cause.STALE == judge(ocsp(old, origin=Origin.CACHE)).cause


def test_cause_rank_holds_every_cause_once():
    assert sorted(set(Cause) - RESERVATIONS - OF_DIRECTORY) == sorted(CAUSE_RANK)


@pytest.mark.parametrize("first", range(len(CAUSE_RANK) - 1))
def test_first_cause_of_the_rank_names_the_certificate(first):
    worse, softer = CAUSE_RANK[first : first + 2]
    for order in (1, -1):
        failures = [ocsp(None, failure=worse, detail="worse"), ocsp(None, failure=softer, detail="softer")]
        finding = judge(*failures[::order])
        assert (worse, "worse") == (finding.cause, finding.detail)


def test_signed_unknown_cannot_be_traded_for_a_softer_cause():
    unknown = ocsp(answer(W, status="unknown"))
    for softer in (ocsp(b"garbage"), ocsp(None, failure=Cause.UNREACHABLE), crl(b"garbage")):
        assert Cause.UNKNOWN == judge(softer, unknown).cause


def test_delegate_is_shown_good_by_the_crl_of_the_same_certificate():
    raw = delegated(W, W.make(nocheck=False))
    assert Cause.BAD_SIGNATURE == judge(ocsp(raw)).cause
    both = judge(ocsp(raw), GOOD_CRL)
    assert [CertificateStatus.GOOD] * 2 == [s.status for s in both.sources]


def test_answer_about_many_certificates_serves_each_certificate():
    both = singles(W, Single(W.ca, W.sibling), Single(W.ca, W.leaf))
    assert CertificateStatus.GOOD == judge(ocsp(both, depth=None, origin=Origin.HANDED_IN)).status


def test_rest_statement_establishes_nothing():
    rest = Statement(kind=SourceKind.REST, origin=Origin.NETWORK, received_at=NOW, depth=0, raw=b"{}")
    assert (CertificateStatus.UNDETERMINED, Cause.MALFORMED) == (judge(rest).status, judge(rest).cause)


# -- must-staple ---------------------------------------------------------------------------------------------

STAPLER = issue(W.ca, "server", eku=["serverAuth"], must_staple=True)


@pytest.mark.parametrize(
    ("origin", "status", "expected"),
    [
        (Origin.STAPLED, "good", (CertificateStatus.GOOD, None)),
        (Origin.HANDED_IN, "good", (CertificateStatus.GOOD, None)),
        (Origin.NETWORK, "good", (CertificateStatus.UNDETERMINED, Cause.MUST_STAPLE)),
        (Origin.CACHE, "good", (CertificateStatus.UNDETERMINED, Cause.MUST_STAPLE)),
        (Origin.STAPLED, "unknown", (CertificateStatus.UNDETERMINED, Cause.MUST_STAPLE)),
        (Origin.NETWORK, "revoked", (CertificateStatus.REVOKED, None)),
    ],
)
def test_must_staple_needs_a_usable_answer_that_came_along(origin, status, expected):
    raw = make_ocsp_response(W.ca, STAPLER, status)
    finding = judge_certificate(context_of(W, leaf=STAPLER), 0, [ocsp(raw, origin=origin)])
    promised = require_staple(parse_certificate(STAPLER.der), finding)
    assert expected == (promised.status, promised.cause)


def test_certificate_without_the_feature_needs_no_staple():
    finding = judge(GOOD_OCSP)
    assert finding is require_staple(parse_certificate(W.leaf.der), finding)


# -- the plan ------------------------------------------------------------------------------------------------


def path_of(**options: Any):
    leaf = issue(W.ca, "asked", **options)
    return tuple(parse_certificate(e.der) for e in (leaf, W.ca, W.root))


def plan(path, *, limits: Limits | None = None, **trust: Any) -> list[tuple[int, str, str]]:
    lookups = plan_lookups(path, TrustSet(name="t", anchors=(), **trust), limits or Limits())
    assert all(isinstance(item, Lookup) for item in lookups)
    return [(item.depth, item.kind.value, item.url) for item in lookups]


def test_plan_asks_the_trust_sets_own_locations_first_for_every_certificate():
    path = path_of(ocsp_urls=["http://o/1"], crl_urls=["http://c/1"])
    assert [
        (0, "ocsp", "http://own/"),
        (0, "ocsp", "http://o/1"),
        (0, "crl", "http://c/1"),
        (1, "ocsp", "http://own/"),
    ] == plan(path, ocsp_urls=("http://own/",))


def test_plan_keeps_the_order_of_sources_and_leaves_out_those_not_named():
    path = path_of(ocsp_urls=["http://o/1"], crl_urls=["http://c/1"])
    assert [(0, "crl", "http://c/1"), (0, "ocsp", "http://o/1")] == plan(
        path, sources=(SourceKind.CRL, SourceKind.OCSP)
    )
    assert [(0, "crl", "http://c/1")] == plan(path, sources=(SourceKind.CRL,))


def test_plan_caps_what_a_certificate_names_and_leaves_room_for_each_kind():
    path = path_of(ocsp_urls=[f"http://o/{i}" for i in range(240)], crl_urls=["http://c/1"])
    expected = [(0, "ocsp", f"http://o/{i}") for i in range(3)] + [(0, "crl", "http://c/1")]
    assert expected == plan(path)
    assert 10 == len(plan(path, limits=Limits(urls_per_certificate=10)))


def test_plan_lists_a_forbidden_scheme_only_where_nothing_else_is_named():
    both = path_of(crl_urls=["ldap://d/cn", "HTTP://c/1"])
    assert [(0, "crl", "HTTP://c/1")] == plan(both)
    assert [(0, "crl", "file:///etc/passwd")] == plan(path_of(crl_urls=["file:///etc/passwd"]))


def test_plan_names_no_location_twice():
    path = path_of(ocsp_urls=["http://o/1", "http://o/1"])
    assert [(0, "ocsp", "http://o/1"), (1, "ocsp", "http://o/1")] == plan(path, ocsp_urls=("http://o/1",))


def test_pitfall_12_every_certificate_below_the_anchor_is_judged_unless_policy_says_leaf():
    path = path_of()
    assert (0, 1) == depths_to_judge(path, TrustSet(name="t", anchors=()))
    leaf_only = Policy(name="l", depth=Depth.LEAF)
    assert (0,) == depths_to_judge(path, TrustSet(name="t", anchors=(), policy=leaf_only))
    assert () == depths_to_judge(path[-1:], TrustSet(name="t", anchors=()))
