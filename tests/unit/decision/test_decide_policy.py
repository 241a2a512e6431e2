"""
Exceptions, other alerts, cross-check, deltas, and the memory of revocations, as the decision sees them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from cryptography.x509 import ReasonFlags

from cftpki_ext.core.alerts import Alert
from cftpki_ext.core.causes import OF_DIRECTORY, RESERVATIONS, Cause
from cftpki_ext.core.policy import (
    AUDIT,
    RESILIENT,
    SOFT_CAUSES,
    STRICT,
    Action,
    PartnerException,
    Policy,
    Treatment,
)
from cftpki_ext.core.settings import Limits, TrustSet
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.verdict import Reason, Verdict
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.memos import clear_memos
from cftpki_ext.decision.question import Question
from tests.support.pki import NOW, Revoked, issue, make_crl, make_ocsp_response, make_root, raw_extension

HOUR = timedelta(hours=1)
ROOT = make_root("Root")
CA = issue(ROOT, "CA", ca=True)
LEAF = issue(CA, "partner", eku=["clientAuth"])
OTHER = issue(CA, "other", eku=["clientAuth"])
DIGEST = sha256(LEAF.der).hexdigest()
CHECKED = {"cross_check": (SourceKind.OCSP, SourceKind.CRL)}


def said(raw: bytes | None, kind: SourceKind = SourceKind.OCSP, **fields: Any) -> Statement:
    defaults = {
        "origin": Origin.NETWORK,
        "depth": 0,
        "url": f"http://{kind.value}.example/",
        "received_at": NOW,
    }
    return Statement(kind=kind, raw=raw, **{**defaults, **fields})


def listed(*entries: Any, ca: Any = CA, depth: int = 0, **fields: Any) -> Statement:
    options = {
        key: fields.pop(key) for key in ("this_update", "number", "delta_base", "freshest") if key in fields
    }
    return said(make_crl(ca, entries, **options), SourceKind.CRL, depth=depth, **fields)


def failed(cause: Cause, kind: SourceKind = SourceKind.OCSP, depth: int = 0) -> Statement:
    return said(None, kind, failure=cause, detail="as it happens", depth=depth)


GOOD, REVOKED = said(make_ocsp_response(CA, LEAF)), said(make_ocsp_response(CA, LEAF, "revoked", reason=1))
HELD, UNKNOWN = (
    said(make_ocsp_response(CA, LEAF, "revoked", reason=6)),
    said(make_ocsp_response(CA, LEAF, "unknown")),
)
CA_GOOD = listed(ca=ROOT, depth=1)


def question(leaf: Any = LEAF, *, at: datetime = NOW, policy: Policy = STRICT, **trust: Any) -> Question:
    return Question(
        chain=(leaf.der, CA.der),
        direction=Direction.SERVER,
        trust=TrustSet(name="t", anchors=(ROOT.der,), policy=policy, **trust),
        limits=Limits(),
        at=at,
        rule=None,
    )


def decide(asked: Question, *statements: Statement) -> Verdict:
    return conclude(examine(asked), statements, verdict_id="v")


# -- exceptions ----------------------------------------------------------------------------------------------


def excepting(**fields: Any) -> Policy:
    made = PartnerException(**{"fingerprint": DIGEST, "until": NOW + HOUR, "reason": "ticket 4711", **fields})
    return Policy(name="p", exceptions=(made,))


@pytest.mark.parametrize(
    "cause",
    [c for c in Cause if c not in {Cause.MUST_STAPLE, Cause.NO_REV_AVAIL, *RESERVATIONS, *OF_DIRECTORY}],
)
def test_exception_lifts_its_soft_causes_alone_unless_it_names_others(cause):
    named = excepting(causes=frozenset({cause}))
    assert (cause in SOFT_CAUSES) == decide(question(policy=excepting()), failed(cause), CA_GOOD).accepted
    verdict = decide(question(policy=named), failed(cause), CA_GOOD)
    assert verdict.accepted
    assert verdict.warnings == verdict.evidence.notes
    assert (
        "exception of policy 'p' for this partner until 2026-06-01 13:00:00Z (ticket 4711)"
        in verdict.warnings[0]
    )
    assert f"the partner's certificate CN=partner: {cause.value}" in verdict.warnings[0]
    assert (
        46 == decide(question(policy=excepting(causes=SOFT_CAUSES - {cause})), failed(cause), CA_GOOD).alert
    )


def test_exception_is_for_one_partner_and_every_certificate_of_its_chain():
    policy = excepting()
    assert decide(question(policy=policy), GOOD, failed(Cause.UNREACHABLE, depth=1)).accepted
    assert decide(question(policy=policy)).accepted
    other = said(make_ocsp_response(CA, OTHER))
    assert 46 == decide(question(OTHER, policy=policy), other, failed(Cause.UNREACHABLE, depth=1)).alert


def test_exception_ends_at_its_date():
    statements = (failed(Cause.UNREACHABLE), CA_GOOD)
    policy = excepting(until=NOW)
    assert decide(question(policy=policy, at=NOW - HOUR / 3600), *statements).accepted
    assert 46 == decide(question(policy=policy), *statements).alert


def test_exception_lifts_neither_revocation_nor_hold_nor_faults_of_the_path():
    policy = excepting(causes=frozenset(Cause))
    assert 44 == decide(question(policy=policy), REVOKED, CA_GOOD).alert
    assert 44 == decide(question(policy=policy), HELD, CA_GOOD).alert
    assert 44 == decide(question(policy=policy), GOOD, listed(CA.serial, ca=ROOT, depth=1)).alert
    expired = issue(CA, "old", eku=["clientAuth"], not_before=NOW - 9 * HOUR, not_after=NOW - HOUR)
    mine = excepting(causes=frozenset(Cause), fingerprint=sha256(expired.der).hexdigest())
    assert 45 == decide(question(expired, policy=mine)).alert


def test_row_of_the_cause_comes_before_the_exception():
    policy = replace(excepting(), treatments={Cause.UNREACHABLE: Treatment(action=Action.ACCEPT)})
    verdict = decide(question(policy=policy), failed(Cause.UNREACHABLE), CA_GOOD)
    assert (True, ()) == (verdict.accepted, verdict.warnings)
    bounded = Treatment(action=Action.ACCEPT, max_stale=HOUR)
    verdict = decide(
        question(policy=replace(policy, treatments={Cause.UNREACHABLE: bounded})),
        failed(Cause.UNREACHABLE),
        CA_GOOD,
    )
    assert "ticket 4711" in verdict.warnings[0]


def test_reason_of_an_exception_is_shown_however_long_the_detail_is():
    long = said(None, failure=Cause.UNREACHABLE, detail="x" * 4000)
    verdict = decide(question(policy=excepting(reason="r" * 100)), long, CA_GOOD)
    assert "r" * 100 in verdict.warnings[0]


# -- alerts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [int(code) for code in Alert])
def test_alert_of_a_cause_is_what_is_sent_and_the_evidence_names_the_truth(code):
    policy = Policy(name="p", treatments={Cause.UNKNOWN: Treatment(alert=code)})
    verdict = decide(question(policy=policy), UNKNOWN, CA_GOOD)
    assert (Reason.STATUS_NOT_ESTABLISHED, code) == (verdict.reason, verdict.alert)
    assert Cause.UNKNOWN == verdict.evidence.findings[0].cause
    assert "policy p: unknown" == verdict.evidence.faults[0].rule
    assert verdict.summary.startswith(f"refused {code} ")


def test_alert_of_a_cause_is_not_sent_for_another_cause_or_a_stronger_reason():
    policy = Policy(name="p", treatments={Cause.UNKNOWN: Treatment(alert=42)})
    assert 46 == decide(question(policy=policy), failed(Cause.STALE), CA_GOOD).alert
    assert 44 == decide(question(policy=policy), UNKNOWN, listed(CA.serial, ca=ROOT, depth=1)).alert
    # The certificate nearest to the partner decides.
    assert 46 == decide(question(policy=policy), failed(Cause.STALE)).alert
    assert 42 == decide(question(policy=policy), UNKNOWN, failed(Cause.STALE, depth=1)).alert


def test_alert_is_also_sent_when_an_acceptance_does_not_hold():
    ended = Treatment(action=Action.ACCEPT, until=NOW, alert=42)
    stale = Treatment(action=Action.ACCEPT, max_stale=HOUR, alert=43)
    policy = Policy(name="p", treatments={Cause.UNREACHABLE: ended, Cause.TRY_LATER: stale})
    assert 42 == decide(question(policy=policy), failed(Cause.UNREACHABLE), CA_GOOD).alert
    assert 43 == decide(question(policy=policy), failed(Cause.TRY_LATER), CA_GOOD).alert


# -- cross-check ---------------------------------------------------------------------------------------------


def leaf_cause(verdict: Verdict) -> Cause | None:
    return verdict.evidence.findings[0].cause


def test_cross_check_needs_every_kind_to_say_good():
    both_ca = (said(make_ocsp_response(ROOT, CA), depth=1), CA_GOOD)
    asked = question(**CHECKED)
    assert decide(asked, GOOD, listed(), *both_ca).accepted
    assert Cause.NO_SOURCE == leaf_cause(decide(asked, GOOD, *both_ca))
    assert Cause.NO_SOURCE == leaf_cause(decide(asked, listed(), *both_ca))
    verdict = decide(asked, GOOD, failed(Cause.TIMED_OUT, SourceKind.CRL), *both_ca)
    assert (46, Cause.TIMED_OUT) == (verdict.alert, leaf_cause(verdict))
    assert "cross-check without an answer by CRL: as it happens" in verdict.summary
    assert decide(question(), GOOD, failed(Cause.TIMED_OUT, SourceKind.CRL), *both_ca).accepted


def test_cross_check_takes_the_worse_answer_and_warns_of_disagreement():
    asked = question(**CHECKED)
    verdict = decide(asked, GOOD, listed(LEAF.serial), CA_GOOD)
    assert 44 == verdict.alert
    assert verdict.warnings[0].startswith("sources disagree about the partner's certificate: revoked")
    assert 44 == decide(asked, REVOKED, listed(), CA_GOOD).alert
    unknown = decide(asked, UNKNOWN, listed(), CA_GOOD)
    assert (46, Cause.DISAGREEMENT) == (unknown.alert, leaf_cause(unknown))
    assert unknown.warnings[0].startswith("sources disagree about the partner's certificate: unknown")


def test_cross_check_that_lacks_one_answer_is_treated_by_the_policy():
    both_ca = (said(make_ocsp_response(ROOT, CA), depth=1), CA_GOOD)
    silent = failed(Cause.UNREACHABLE, SourceKind.CRL)
    verdict = decide(question(policy=RESILIENT, **CHECKED), GOOD, silent, *both_ca)
    assert verdict.accepted, verdict.summary
    assert "unreachable, cross-check without an answer by CRL" in verdict.warnings[0]
    assert not decide(question(policy=RESILIENT, **CHECKED), silent, *both_ca).accepted
    disagree = Policy(name="p", treatments={Cause.DISAGREEMENT: Treatment(action=Action.ACCEPT_WARN)})
    assert decide(question(policy=disagree, **CHECKED), UNKNOWN, listed(), *both_ca).accepted
    assert 44 == decide(question(policy=disagree, **CHECKED), REVOKED, listed(), *both_ca).alert


# -- the trust set's own locations -----------------------------------------------------------------------------


def test_list_of_another_ca_does_not_hide_why_the_right_source_was_silent():
    url = "http://root/crl"
    foreign = listed(ca=ROOT, url=url)
    silent = failed(Cause.UNREACHABLE)
    assert Cause.UNREACHABLE == leaf_cause(decide(question(crl_urls=(url,)), foreign, silent, CA_GOOD))
    assert Cause.WRONG_SCOPE == leaf_cause(decide(question(), foreign, silent, CA_GOOD))
    assert Cause.WRONG_SCOPE == leaf_cause(decide(question(crl_urls=(url,)), foreign, CA_GOOD))


def test_cross_check_names_the_silence_of_the_right_list_and_not_the_one_of_another_ca():
    url = "http://root/crl"
    silent = failed(Cause.TIMED_OUT, SourceKind.CRL)
    asked = question(crl_urls=(url,), **CHECKED)
    assert Cause.TIMED_OUT == leaf_cause(decide(asked, GOOD, listed(ca=ROOT, url=url), silent, CA_GOOD))


# -- deltas --------------------------------------------------------------------------------------------------


def deltas(asked: Question, *statements: Statement) -> list[Lookup]:
    examination = examine(asked)
    return list(examination.deltas(examination.finding(0, statements), statements))


def test_deltas_named_by_an_authentic_list_are_to_be_asked():
    base = listed(freshest=["http://a/d.crl", "ldap://b/d"])
    assert [Lookup(depth=0, kind=SourceKind.CRL, url="http://a/d.crl")] == deltas(question(), base)
    assert [] == deltas(question(deltas=False), base)
    assert [] == deltas(question(), listed())
    assert [] == deltas(question(), GOOD, failed(Cause.STALE, SourceKind.CRL))
    forged = listed(freshest=["http://a/d.crl"], ca=ROOT)
    assert [] == deltas(question(), forged)
    bad = said(make_crl(CA, freshest=["http://a/d.crl"], signing_key=ROOT.key), SourceKind.CRL)
    assert [] == deltas(question(), bad)
    elsewhere = replace(base, depth=1)
    assert [] == deltas(question(), elsewhere)


def test_deltas_are_not_asked_where_another_source_has_said_good():
    base = listed(freshest=["http://a/d.crl"], this_update=NOW - 48 * HOUR)
    assert [] == deltas(question(), base, GOOD)
    assert 1 == len(deltas(question(), base))  # a stale list may be continued by its delta


def test_deltas_are_at_most_as_many_as_urls_of_a_certificate():
    base = listed(freshest=[f"http://a/{i}.crl" for i in range(240)])
    assert 4 == len(deltas(question(), base))


# -- known revocations ---------------------------------------------------------------------------------------


def known(statement: Statement, received_at: datetime = NOW) -> Statement:
    return replace(statement, origin=Origin.KNOWN_REVOKED, received_at=received_at)


LATER = NOW + timedelta(days=400)
FRESH_CA = listed(ca=ROOT, depth=1, this_update=LATER - HOUR)


def fresh(**fields: Any) -> Statement:
    return said(
        make_ocsp_response(
            CA, LEAF, this_update=LATER - HOUR, produced_at=LATER - HOUR, next_update=LATER + HOUR, **fields
        )
    )


@pytest.mark.parametrize(
    "policy",
    [STRICT, RESILIENT, Policy(name="p", treatments=dict.fromkeys(Cause, Treatment(action=Action.ACCEPT)))],
)
@pytest.mark.parametrize("proof", [REVOKED, listed(Revoked(LEAF.serial))], ids=["ocsp", "crl"])
def test_pitfall_sticky_revocation_outlives_its_evidence_newer_good_and_soft_settings(proof, policy):
    asked = question(at=LATER, policy=policy)
    assert 44 == decide(asked, known(proof), fresh(), FRESH_CA).alert
    assert 44 == decide(asked, known(proof)).alert
    assert decide(asked, fresh(), FRESH_CA).accepted


def test_known_revocation_under_audit_is_told_and_let_in():
    verdict = decide(question(at=LATER, policy=AUDIT), known(REVOKED), fresh(), FRESH_CA)
    assert verdict.accepted
    assert "would have been refused 44" in verdict.warnings[-1]


def test_known_hold_is_lifted_by_newer_evidence_alone():
    asked = question(at=LATER)
    assert decide(asked, known(HELD), fresh(), FRESH_CA).accepted
    rolled_back = said(make_ocsp_response(CA, LEAF, this_update=NOW - 9 * HOUR, produced_at=NOW - 9 * HOUR))
    assert 44 == decide(question(), known(HELD), rolled_back, CA_GOOD).alert
    held = listed(Revoked(LEAF.serial, reason=ReasonFlags.certificate_hold), number=7)
    assert 44 == decide(question(), known(held), listed(number=6, this_update=NOW - 2 * HOUR), CA_GOOD).alert
    released = listed(number=8, this_update=NOW - HOUR / 2)
    assert decide(question(), known(held), released, CA_GOOD).accepted


def test_known_revocation_counts_when_the_responder_has_expired_since():
    delegate = issue(CA, "responder", eku=["OCSPSigning"], nocheck=True, not_after=NOW + 24 * HOUR)
    raw = make_ocsp_response(CA, LEAF, "revoked", signer=delegate)
    asked = question(at=LATER)
    assert 44 == decide(asked, known(said(raw)), fresh(), FRESH_CA).alert
    # It was signed while the responder could, whenever it is heard.
    assert 44 == decide(asked, said(raw, received_at=LATER), fresh(), FRESH_CA).alert
    assert 44 == decide(asked, known(said(raw), received_at=LATER), fresh(), FRESH_CA).alert


def test_known_revocation_counts_when_the_signer_of_the_crl_has_expired_since():
    signer = issue(ROOT, "CA", usage=["cRLSign"], not_after=NOW + 24 * HOUR)
    proof = listed(LEAF.serial, ca=signer)
    clean = {"intermediates": (signer.der,)}
    at_the_time = decide(question(**clean), proof, CA_GOOD)
    assert 44 == at_the_time.alert
    asked = question(at=LATER, **clean)
    assert 44 == decide(asked, known(proof), fresh(), FRESH_CA).alert
    assert 44 == decide(asked, replace(proof, received_at=LATER), fresh(), FRESH_CA).alert


def test_known_revocation_proves_nothing_about_others():
    proof = known(listed(LEAF.serial))
    other = question(OTHER)
    assert 46 == decide(other, proof, CA_GOOD).alert
    assert 44 == decide(question(), proof, CA_GOOD).alert


def test_known_revocation_that_is_forged_is_no_proof():
    forged = known(said(make_ocsp_response(CA, LEAF, "revoked", signing_key=ROOT.key)))
    assert decide(question(), forged, GOOD, CA_GOOD).accepted


def test_clear_memos_changes_no_verdict():
    warm = decide(question(), GOOD, CA_GOOD)
    clear_memos()
    assert warm == decide(question(), GOOD, CA_GOOD)


NO_STATUS = issue(CA, "short-lived", extensions=[(raw_extension("2.5.29.56", b"\x05\x00"), False)])


def test_certificate_without_a_status_is_let_in_unless_the_policy_forbids_it():
    asked = question(NO_STATUS)
    assert not [lookup for lookup in examine(asked).lookups if lookup.depth == 0]
    assert decide(asked, CA_GOOD).accepted
    strict = Policy(name="p", treatments={Cause.NO_REV_AVAIL: Treatment()})
    assert 46 == decide(question(NO_STATUS, policy=strict), CA_GOOD).alert


def test_certificate_without_a_status_that_is_revoked_all_the_same_is_refused():
    assert 44 == decide(question(NO_STATUS), listed(NO_STATUS.serial), CA_GOOD).alert


def test_certificate_that_names_a_place_for_its_status_has_one():
    both = issue(
        CA,
        "contradiction",
        crl_urls=["http://crl.example/"],
        extensions=[(raw_extension("2.5.29.56", b"\x05\x00"), False)],
    )
    assert 46 == decide(question(both), CA_GOOD).alert
