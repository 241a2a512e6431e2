"""
The decision as a whole: bytes, path, revocation, policy, in that order, and what is told about it.

More than 400 lines: one subject with all its cases, over one set of helpers.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cftpki_ext.core.causes import OF_DIRECTORY, RESERVATIONS, Cause
from cftpki_ext.core.policy import AUDIT, RESILIENT, STRICT, Action, Depth, Policy, Treatment
from cftpki_ext.core.settings import Limits, PolicyInputs, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import CertificateStatus, Reason, Status, Verdict
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examination import Examination
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.question import Question
from tests.support import pki
from tests.support.pki import NOW, Revoked, issue, make_crl, make_ocsp_response, make_root

HOUR = timedelta(hours=1)
ROOT = make_root("Root")
CA = issue(ROOT, "CA", ca=True)
LEAF = issue(CA, "partner", eku=["clientAuth"], ocsp_urls=["http://ocsp.example/"])
SERVER = issue(CA, "server", eku=["serverAuth"], must_staple=True)
STRANGE_ROOT = make_root("Strange Root")
STRANGER = issue(STRANGE_ROOT, "stranger", eku=["clientAuth"], ocsp_urls=["http://ocsp.example/"])


def question(*chain: bytes, **fields: Any) -> Question:
    trust = {"name": "partners", "anchors": (ROOT.der,), "policy": fields.pop("policy", STRICT)}
    fields = {"direction": Direction.SERVER, "limits": Limits(), "at": NOW, "rule": "r", **fields}
    return Question(
        chain=chain or (LEAF.der, CA.der), trust=TrustSet(**{**trust, **fields.pop("trust", {})}), **fields
    )


def said(raw: bytes | None, *, kind: SourceKind = SourceKind.OCSP, **fields: Any) -> Statement:
    defaults = {
        "origin": Origin.NETWORK,
        "depth": 0,
        "url": f"http://{kind.value}.example/",
        "received_at": NOW,
    }
    return Statement(kind=kind, raw=raw, **{**defaults, **fields})


LEAF_GOOD = said(make_ocsp_response(CA, LEAF))
CA_GOOD = said(make_crl(ROOT), kind=SourceKind.CRL, depth=1)
LEAF_REVOKED = said(make_ocsp_response(CA, LEAF, "revoked", reason=1))
CA_REVOKED = said(make_crl(ROOT, [Revoked(CA.serial)]), kind=SourceKind.CRL, depth=1)


def failed(cause: Cause, depth: int = 0) -> Statement:
    return said(None, failure=cause, detail="as it happens", depth=depth)


def decide(asked: Question, *statements: Statement) -> Verdict:
    return conclude(examine(asked), statements, verdict_id="0" * 32)


def outcome(verdict: Verdict) -> tuple[Status, Reason | None, int]:
    return verdict.status, verdict.reason, verdict.alert


ACCEPTED = (Status.ACCEPTED, None, 0)


def refused(reason: Reason, alert: int) -> tuple[Status, Reason, int]:
    return Status.REFUSED, reason, alert


# -- the answers ---------------------------------------------------------------------------------------------


def test_partner_good_at_every_depth_is_accepted():
    verdict = decide(question(), LEAF_GOOD, CA_GOOD)
    assert ACCEPTED == outcome(verdict)
    assert () == (verdict.evidence.faults + verdict.evidence.notes + verdict.warnings)
    assert ["CN=partner", "CN=CA", "CN=Root"] == [entry.subject for entry in verdict.evidence.path]
    assert (
        "accepted: CN=partner; the partner's certificate good, said by OCSP http://ocsp.example/;"
        " depth 1 good, said by CRL http://crl.example/"
    ) == verdict.summary


def test_revoked_partner_is_refused_with_44_and_the_line_says_who_said_so():
    verdict = decide(question(), LEAF_REVOKED, CA_GOOD)
    assert refused(Reason.REVOKED, 44) == outcome(verdict)
    assert (
        "refused 44 certificate_revoked: the partner's certificate CN=partner, revoked 2026-06-01 10:00:00Z (keyCompromise),"
        " said by OCSP http://ocsp.example/"
    ) == verdict.summary


def test_pitfall_12_revoked_intermediate_refuses_although_the_leaf_is_good():
    verdict = decide(question(), LEAF_GOOD, CA_REVOKED)
    assert refused(Reason.REVOKED, 44) == outcome(verdict)
    assert [1] == [fault.depth for fault in verdict.evidence.faults]


def test_pitfall_12_certificate_that_nobody_spoke_of_refuses():
    verdict = decide(question(), LEAF_GOOD)
    assert refused(Reason.STATUS_NOT_ESTABLISHED, 46) == outcome(verdict)
    assert [None, Cause.NO_SOURCE] == [one.cause for one in verdict.evidence.findings]
    assert "depth 1: CN=CA, no_source" in verdict.summary


def test_held_partner_is_refused_with_44_and_its_own_reason():
    held = said(make_ocsp_response(CA, LEAF, "revoked", reason=6))
    assert refused(Reason.ON_HOLD, 44) == outcome(decide(question(), held, CA_GOOD))


def test_expired_partner_is_refused_with_45_and_still_looked_up():
    leaf = issue(CA, "old", eku=["clientAuth"], not_before=NOW - 9 * HOUR, not_after=NOW - HOUR)
    asked = question(leaf.der, CA.der)
    assert examine(asked).may_fetch
    assert refused(Reason.EXPIRED, 45) == outcome(decide(asked))
    revoked = said(make_ocsp_response(CA, leaf, "revoked"))
    verdict = decide(asked, revoked, CA_GOOD)
    assert refused(Reason.REVOKED, 44) == outcome(verdict)
    assert {Reason.REVOKED, Reason.EXPIRED} == {fault.reason for fault in verdict.evidence.faults}


def test_partner_not_yet_valid_is_refused_with_45():
    leaf = issue(CA, "early", eku=["clientAuth"], not_before=NOW + HOUR)
    assert refused(Reason.NOT_YET_VALID, 45) == outcome(decide(question(leaf.der, CA.der)))


def test_stranger_is_refused_with_48_and_nothing_of_it_is_believed():
    asked = question(STRANGER.der, STRANGE_ROOT.der)
    examination = examine(asked)
    assert ((), (), False, False) == (
        examination.to_judge,
        examination.lookups,
        examination.may_fetch,
        examination.trusted,
    )
    revoked = said(make_ocsp_response(STRANGE_ROOT, STRANGER, "revoked"))
    verdict = decide(asked, revoked)
    assert refused(Reason.NO_PATH, 48) == outcome(verdict)
    assert () == verdict.evidence.findings


def test_wrong_usage_is_refused_with_43_and_judged_by_what_is_at_hand_only():
    asked = question(SERVER.der, CA.der)
    examination = examine(asked)
    assert (True, False, (0, 1)) == (examination.trusted, examination.may_fetch, examination.to_judge)
    verdict = decide(asked)
    assert refused(Reason.EXTENDED_KEY_USAGE, 43) == outcome(verdict)
    assert [Reason.EXTENDED_KEY_USAGE] == [fault.reason for fault in verdict.evidence.faults]
    revoked = said(make_ocsp_response(CA, SERVER, "revoked"))
    assert refused(Reason.REVOKED, 44) == outcome(decide(asked, revoked))


def test_leaf_that_is_no_certificate_is_refused_with_42():
    for garbage in (b"garbage", b"\x30\x00", LEAF.der[:-1], LEAF.der + b"\0"):
        verdict = decide(question(garbage, CA.der), LEAF_GOOD, CA_GOOD)
        assert refused(Reason.MALFORMED, 42) == outcome(verdict)
        assert 0 == verdict.evidence.faults[0].depth


def test_no_certificate_is_refused_with_40():
    verdict = decide(replace(question(), chain=()))
    assert refused(Reason.NO_CERTIFICATE, 40) == outcome(verdict)
    assert "refused 40 handshake_failure: the peer sent no certificate" == verdict.summary


@pytest.mark.parametrize(
    "limits",
    [Limits(chain_certificates=1), Limits(chain_bytes=200), Limits(certificate_bytes=200)],
    ids=["certificates", "chain_bytes", "certificate_bytes"],
)
def test_chain_over_a_cap_is_refused_with_50(limits):
    assert refused(Reason.UNDECODABLE, 50) == outcome(decide(question(limits=limits), LEAF_GOOD, CA_GOOD))


def test_chain_at_the_caps_is_accepted():
    chain = (LEAF.der, CA.der, ROOT.der)
    sizes = [len(der) for der in chain]
    limits = Limits(chain_certificates=3, chain_bytes=sum(sizes), certificate_bytes=max(sizes))
    assert ACCEPTED == outcome(decide(question(*chain, limits=limits), LEAF_GOOD, CA_GOOD))


def test_presented_junk_that_is_not_needed_is_noted_and_ignored():
    verdict = decide(question(LEAF.der, b"junk", CA.der), LEAF_GOOD, CA_GOOD)
    assert ACCEPTED == outcome(verdict)
    assert verdict.evidence.notes[0].startswith("presented certificate 1 is left out")


def test_presented_issuer_that_cannot_be_read_is_what_is_reported():
    broken = pki.reserial(CA, b"\x01" * 65, ROOT.key)
    verdict = decide(question(LEAF.der, broken))
    assert refused(Reason.MALFORMED, 42) == outcome(verdict)
    assert "serial" in verdict.summary
    assert any(note.startswith("no path without it") for note in verdict.evidence.notes)


def test_junk_beside_a_strangers_chain_leaves_it_unknown():
    assert refused(Reason.NO_PATH, 48) == outcome(decide(question(STRANGER.der, b"junk", STRANGE_ROOT.der)))


def test_anchor_that_cannot_be_read_trusts_nobody():
    verdict = decide(question(trust={"anchors": (b"junk",)}), LEAF_GOOD, CA_GOOD)
    assert refused(Reason.NO_PATH, 48) == outcome(verdict)
    assert any(note.startswith("anchor 0 is left out") for note in verdict.evidence.notes)


def test_intermediate_may_come_from_trust_set_or_beside_the_chain():
    for asked in (
        question(LEAF.der, trust={"intermediates": (CA.der,)}),
        question(LEAF.der, untrusted=(CA.der,)),
    ):
        assert ACCEPTED == outcome(decide(asked, LEAF_GOOD, CA_GOOD))
    assert refused(Reason.NO_PATH, 48) == outcome(decide(question(LEAF.der), LEAF_GOOD, CA_GOOD))


def test_path_only_leaves_revocation_out_and_says_so():
    verdict = decide(question(path_only=True), LEAF_REVOKED)
    assert ACCEPTED == outcome(verdict)
    assert "revocation was left out on request" in verdict.summary
    assert ("revocation was left out on request",) == verdict.evidence.notes
    assert () == verdict.evidence.findings
    stranger = question(STRANGER.der, path_only=True)
    assert refused(Reason.NO_PATH, 48) == outcome(decide(stranger))


def test_anchor_itself_needs_no_status():
    pinned = issue(None, "pinned", eku=["clientAuth"])
    verdict = decide(question(pinned.der, trust={"anchors": (pinned.der,)}))
    assert () == verdict.evidence.findings
    assert (Status.ACCEPTED, "accepted: CN=pinned, trusted itself") == (verdict.status, verdict.summary)
    assert refused(Reason.NO_PATH, 48) == outcome(decide(question(pinned.der)))


# -- policy --------------------------------------------------------------------------------------------------


ESTABLISHED_NOTHING = [c for c in Cause if c not in {Cause.NO_REV_AVAIL, *RESERVATIONS, *OF_DIRECTORY}]


def policy(cause: Cause, **treatment: Any) -> Policy:
    return Policy(name="p", treatments={cause: Treatment(**treatment)})


def undetermined(cause: Cause) -> tuple[Question, tuple[Statement, ...]]:
    """
    A question whose leaf is undetermined for exactly this cause.
    """
    if cause is Cause.MUST_STAPLE:
        good = said(make_ocsp_response(CA, SERVER))
        return question(SERVER.der, CA.der, direction=Direction.CLIENT), (good, CA_GOOD)
    if cause is Cause.NO_SOURCE:
        return question(), (CA_GOOD,)
    return question(), (failed(cause), CA_GOOD)


@pytest.mark.parametrize("cause", ESTABLISHED_NOTHING)
@pytest.mark.parametrize("action", Action)
def test_policy_does_for_each_cause_what_its_row_says(cause, action):
    asked, statements = undetermined(cause)
    asked = replace(asked, trust=replace(asked.trust, policy=policy(cause, action=action)))
    verdict = decide(asked, *statements)
    assert cause == verdict.evidence.findings[0].cause
    if action is Action.REFUSE:
        assert refused(Reason.STATUS_NOT_ESTABLISHED, 46) == outcome(verdict)
        assert f"policy p: {cause.value}" == verdict.evidence.faults[0].rule
    else:
        assert ACCEPTED == outcome(verdict)
        assert 1 == len(verdict.evidence.notes)
        assert (action is Action.ACCEPT_WARN) == bool(verdict.warnings)


@pytest.mark.parametrize("cause", ESTABLISHED_NOTHING)
def test_strict_refuses_every_cause(cause):
    asked, statements = undetermined(cause)
    assert refused(Reason.STATUS_NOT_ESTABLISHED, 46) == outcome(decide(asked, *statements))


@pytest.mark.parametrize("cause", sorted(RESERVATIONS))
def test_row_that_speaks_of_a_good_lets_nobody_in_of_whom_nothing_is_known(cause):
    verdict = decide(question(policy=policy(cause, action=Action.ACCEPT)), failed(cause), CA_GOOD)
    assert (46, Cause.MALFORMED) == (verdict.alert, verdict.evidence.findings[0].cause)


@pytest.mark.parametrize("cause", [c for c in ESTABLISHED_NOTHING if c is not Cause.TIMED_OUT])
def test_row_of_another_cause_does_not_help(cause):
    asked, statements = undetermined(cause)
    soft = policy(Cause.TIMED_OUT, action=Action.ACCEPT)
    verdict = decide(replace(asked, trust=replace(asked.trust, policy=soft)), *statements)
    assert Reason.STATUS_NOT_ESTABLISHED == verdict.reason


def test_no_policy_accepts_revoked_or_held():
    soft = Policy(name="p", treatments={cause: Treatment(action=Action.ACCEPT) for cause in Cause})
    held = said(make_ocsp_response(CA, LEAF, "revoked", reason=6))
    assert Reason.REVOKED == decide(question(policy=soft), LEAF_REVOKED).reason
    assert Reason.ON_HOLD == decide(question(policy=soft), held).reason
    assert ACCEPTED == outcome(decide(question(policy=soft)))


def test_exception_ends_at_its_date():
    until = policy(Cause.TIMED_OUT, action=Action.ACCEPT, until=NOW)
    asked = question(policy=until)
    before = replace(asked, at=NOW - timedelta(seconds=1))
    statements = (failed(Cause.TIMED_OUT), CA_GOOD)
    assert ACCEPTED == outcome(decide(before, *statements))
    assert Reason.STATUS_NOT_ESTABLISHED == decide(asked, *statements).reason


def old_good(hours: float, **single: Any) -> Statement:
    at = NOW - (hours + 1) * HOUR
    raw = make_ocsp_response(CA, LEAF, this_update=at, produced_at=at, next_update=at + HOUR, **single)
    return said(raw, origin=Origin.CACHE, received_at=at)


def test_max_stale_counts_from_the_end_of_the_last_good_statement():
    asked = question(policy=RESILIENT)
    failure = failed(Cause.UNREACHABLE)
    recent, old = old_good(23), old_good(25)
    verdict = decide(asked, recent, failure, CA_GOOD)
    assert ACCEPTED == outcome(verdict)
    assert "good until 2026-05-31 13:00:00Z" in verdict.warnings[0]
    assert "by policy, unreachable" in verdict.summary
    refusal = decide(asked, old, failure, CA_GOOD)
    assert Reason.STATUS_NOT_ESTABLISHED == refusal.reason
    assert "longer ago than the 24 h allowed" in refusal.evidence.faults[0].detail
    assert ACCEPTED == outcome(decide(asked, old, recent, failure, CA_GOOD))


@pytest.mark.parametrize(
    "earlier",
    [
        [],
        [said(make_ocsp_response(CA, LEAF, signing_key=ROOT.key), origin=Origin.CACHE)],
        [said(make_ocsp_response(CA, SERVER), origin=Origin.CACHE)],
    ],
    ids=["none", "forged", "of_another"],
)
def test_max_stale_without_an_authentic_good_statement_refuses(earlier):
    verdict = decide(question(policy=RESILIENT), *earlier, failed(Cause.UNREACHABLE), CA_GOOD)
    assert Reason.STATUS_NOT_ESTABLISHED == verdict.reason


def test_max_stale_is_not_met_by_a_statement_of_the_future():
    at = NOW + 2 * HOUR
    future = said(make_ocsp_response(CA, LEAF, this_update=at, produced_at=at), origin=Origin.CACHE)
    verdict = decide(question(policy=RESILIENT), future, failed(Cause.UNREACHABLE), CA_GOOD)
    assert Reason.STATUS_NOT_ESTABLISHED == verdict.reason


def test_max_stale_is_met_by_an_old_crl_too():
    at = NOW - 30 * HOUR
    old_list = said(make_crl(CA, this_update=at), kind=SourceKind.CRL, origin=Origin.CACHE)
    verdict = decide(question(policy=RESILIENT), old_list, failed(Cause.UNREACHABLE), CA_GOOD)
    assert ACCEPTED == outcome(verdict), verdict.summary


def test_max_stale_looks_at_few_moments_however_many_old_statements_there_are(monkeypatch):
    at = [NOW - timedelta(hours=30, minutes=i) for i in range(40)]
    lists = [
        said(
            make_crl(CA, this_update=t, next_update=t + timedelta(minutes=1)),
            kind=SourceKind.CRL,
            origin=Origin.CACHE,
        )
        for t in at
    ]
    examination = examine(question(policy=RESILIENT))
    finding = examination.finding(0, lists)
    assert at[0] + timedelta(minutes=1) == examination.good_until(finding, lists)
    calls = []
    monkeypatch.setattr(
        "cftpki_ext.decision.examination.judge_certificate",
        lambda *arguments: calls.append(arguments) or finding,
    )
    assert examination.good_until(finding, lists) is None
    assert 8 == len(calls)


def test_resilient_does_not_forgive_what_an_attack_would_look_like():
    for bad in (said(b"junk"), said(make_ocsp_response(CA, LEAF, "unknown"))):
        verdict = decide(question(policy=RESILIENT), old_good(1), bad, failed(Cause.UNREACHABLE), CA_GOOD)
        assert Reason.STATUS_NOT_ESTABLISHED == verdict.reason


def test_leaf_depth_asks_for_the_leaf_alone():
    leaf_only = Policy(name="leaf", depth=Depth.LEAF)
    verdict = decide(question(policy=leaf_only), LEAF_GOOD, CA_REVOKED)
    assert ACCEPTED == outcome(verdict)
    assert [0] == [one.depth for one in verdict.evidence.findings]
    assert Reason.STATUS_NOT_ESTABLISHED == decide(question(policy=leaf_only), CA_GOOD).reason


@pytest.mark.parametrize(
    ("asked", "statements", "would"),
    [
        (question(policy=AUDIT), (LEAF_REVOKED, CA_GOOD), "refused 44 certificate_revoked"),
        (question(policy=AUDIT), (), "refused 46 certificate_unknown"),
        (question(STRANGER.der, policy=AUDIT), (), "refused 48 unknown_ca"),
        (question(b"junk", policy=AUDIT), (), "refused 42 bad_certificate"),
    ],
)
def test_audit_lets_everyone_in_and_tells_who_would_have_been_refused(asked, statements, would):
    verdict = decide(asked, *statements)
    assert ACCEPTED == outcome(verdict)
    assert f"audit: would have been {would}" in verdict.warnings[-1]
    assert verdict.warnings[-1] in verdict.evidence.notes
    assert would in verdict.summary
    assert verdict.evidence.faults


def test_audit_has_nothing_to_say_of_a_good_partner_and_nobody_to_let_in_without_certificate():
    assert () == decide(question(policy=AUDIT), LEAF_GOOD, CA_GOOD).warnings
    assert refused(Reason.NO_CERTIFICATE, 40) == outcome(decide(replace(question(policy=AUDIT), chain=())))


# -- must-staple, disagreement, replay -----------------------------------------------------------------------


def test_server_that_promised_a_staple_must_send_one():
    asked = question(SERVER.der, CA.der, direction=Direction.CLIENT)
    raw = make_ocsp_response(CA, SERVER)
    fetched, stapled = said(raw), said(raw, origin=Origin.STAPLED, url=None)
    verdict = decide(asked, fetched, CA_GOOD)
    assert (Reason.STATUS_NOT_ESTABLISHED, Cause.MUST_STAPLE) == (
        verdict.reason,
        verdict.evidence.findings[0].cause,
    )
    assert ACCEPTED == outcome(decide(asked, fetched, stapled, CA_GOOD))


def test_client_certificate_with_the_feature_needs_no_staple():
    client = issue(CA, "client", eku=["clientAuth"], must_staple=True)
    verdict = decide(question(client.der, CA.der), said(make_ocsp_response(CA, client)), CA_GOOD)
    assert ACCEPTED == outcome(verdict)


def test_sources_that_disagree_are_noted_and_the_worse_counts():
    on_list = said(make_crl(CA, [Revoked(LEAF.serial)]), kind=SourceKind.CRL)
    verdict = decide(question(), LEAF_GOOD, on_list, CA_GOOD)
    assert refused(Reason.REVOKED, 44) == outcome(verdict)
    assert verdict.evidence.notes[0].startswith("sources disagree about the partner's certificate: revoked")


def test_same_question_and_statements_give_the_same_verdict_at_any_later_time():
    statements = (LEAF_GOOD, old_good(1), failed(Cause.UNREACHABLE), CA_GOOD)
    assert decide(question(), *statements) == decide(question(), *statements)


def test_evidence_for_the_whole_chain_is_tried_for_every_certificate():
    loose = [replace(s, depth=None, origin=Origin.HANDED_IN, url=None) for s in (LEAF_GOOD, CA_GOOD)]
    assert ACCEPTED == outcome(decide(question(), *loose))


def test_summary_is_one_printable_line_whatever_the_names_and_urls_hold():
    leaf = issue(CA, "a\nb\x1b[2J", eku=["clientAuth"])
    url = "http://x/\r\nSet-Cookie: a=b" + "y" * 4000
    verdict = decide(question(leaf.der, CA.der), said(make_ocsp_response(CA, leaf, "revoked"), url=url))
    assert verdict.summary.isprintable()
    assert 250 >= len(verdict.summary)


@settings(max_examples=150)
@given(st.integers(0, len(LEAF.der) - 1), st.integers(1, 255), st.booleans())
def test_chain_with_one_octet_changed_is_never_accepted_and_never_raises(position, change, leaf):
    target = LEAF.der if leaf else CA.der
    position %= len(target)
    bent = target[:position] + bytes((target[position] ^ change,)) + target[position + 1 :]
    chain = (bent, CA.der) if leaf else (LEAF.der, bent)
    assert Status.REFUSED == decide(question(*chain), LEAF_GOOD, CA_GOOD).status


@given(st.lists(st.binary(max_size=60), max_size=4), st.binary(max_size=60))
def test_arbitrary_chains_and_statements_refuse_and_never_raise(chain, raw):
    statements = (said(raw, depth=None), said(raw, kind=SourceKind.CRL, depth=None))
    assert Status.REFUSED == decide(replace(question(), chain=tuple(chain)), *statements).status
    assert Status.REFUSED == decide(question(), *statements).status


def test_driver_may_ask_certificate_by_certificate_as_statements_arrive():
    examination = examine(question())
    assert isinstance(examination, Examination)
    assert CertificateStatus.UNDETERMINED == examination.finding(0, ()).status
    assert CertificateStatus.GOOD == examination.finding(0, (LEAF_GOOD,)).status
    assert CertificateStatus.UNDETERMINED == examination.finding(1, (LEAF_GOOD,)).status
    assert ("CN=partner", "CN=CA") == tuple(c.subject.text for c in examination.pair(0))
    assert [(0, "http://ocsp.example/")] == [(item.depth, item.url) for item in examination.lookups]


# -- who may sign a CRL --------------------------------------------------------------------------------------

POLICY_CA = issue(ROOT, "Policy CA", ca=True, extensions=[(pki.policies("1.2.3"), False)])
POLICY_LEAF = issue(POLICY_CA, "partner", eku=["clientAuth"], extensions=[(pki.policies("1.2.3"), False)])
PLAIN_LEAF = issue(POLICY_CA, "partner", eku=["clientAuth"])


@pytest.mark.parametrize(
    ("leaf", "parent", "answer"),
    [
        (POLICY_LEAF, ROOT, ACCEPTED),
        (POLICY_LEAF, STRANGE_ROOT, refused(Reason.STATUS_NOT_ESTABLISHED, 46)),
        (PLAIN_LEAF, ROOT, refused(Reason.CERTIFICATE_POLICY, 42)),
    ],
    ids=["signer of the same anchor", "signer of another anchor", "partner without the policy"],
)
def test_trust_sets_policies_bind_partners_and_not_the_signer_of_a_crl(leaf, parent, answer):
    """
    The CA signs its list with a key of its own, whose certificate names no policy.
    """
    signer = issue(parent, "Policy CA", usage=["cRLSign"])
    inputs = PolicyInputs(initial_policies=frozenset({"1.2.3"}), explicit_policy=True)
    asked = question(leaf.der, POLICY_CA.der, trust={"intermediates": (signer.der,), "policy_inputs": inputs})

    verdict = decide(asked, said(make_crl(signer), kind=SourceKind.CRL), CA_GOOD)
    assert answer == outcome(verdict)
