"""
Deciding again: what counts as a difference, and that records in the wording of earlier versions agree.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from cftpki_ext.config.models import LIMIT_RANGES
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import Action, Enforcement, PartnerException, Policy, Treatment
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.evidence import Difference, decide_again, decode, differences, encode, replay
from cftpki_ext.evidence.replay import MOST
from tests.support.evidence_samples import CA, FAILED, GOOD, LEAF, PLAIN, REVOKED, heard, record
from tests.support.pki import NOW, make_ocsp_response

LENIENT = Policy(name="lenient", treatments={c: Treatment(action=Action.ACCEPT_WARN) for c in Cause})
EXCEPTED = Policy(
    name="excepted",
    exceptions=(
        PartnerException(
            fingerprint=sha256(LEAF.der).hexdigest(),
            until=NOW + timedelta(days=1),
            reason="their responder moves",
            causes=frozenset(Cause),
        ),
    ),
)
AUDIT = Policy(name="audited", enforcement=Enforcement.AUDIT)
GOOD_AND_REVOKED = (heard(SourceKind.OCSP, make_ocsp_response(CA, LEAF), 0), *REVOKED)


def decided(*statements, policy):
    return record(*statements, trust=replace(PLAIN, policy=policy))


def in_old_words(text: str) -> str:
    """
    The document as version 0.1.0 wrote it: numbers of certificates are hops, and there is no `depth`.
    """
    data = json.loads(text)
    for finding in (*data["verdict"]["evidence"]["hops"], *data["verdict"]["evidence"]["faults"]):
        del finding["depth"]
    old = json.dumps(data, sort_keys=True, separators=(",", ":"))
    for new, was in (
        ("the partner's certificate CN", "hop 0 CN"),
        ("the partner's certificate:", "hop 0:"),
        ("the partner's certificate ", "hop 0 "),
        ("depth 1: ", "hop 1 "),
        ("depth 1 ", "hop 1 "),
    ):
        old = old.replace(new, was)
    assert "partner's certificate" not in old
    assert "depth 1" not in old
    return old


@pytest.mark.parametrize(
    ("statements", "policy", "begins"),
    [
        (FAILED, LENIENT, ["hop 0 CN=partner: unreachable", "hop 1 CN=CA: no_source"]),
        (FAILED, EXCEPTED, ["accepted by the exception of policy 'excepted'"] * 2),
        (FAILED, AUDIT, ["audit: would have been refused 46 certificate_unknown: hop 0 CN=partner, "]),
        (GOOD_AND_REVOKED, LENIENT, ["sources disagree about hop 0: "]),
        (GOOD, LENIENT, []),
        (REVOKED, LENIENT, []),
    ],
    ids=["accepted-by-policy", "accepted-by-exception", "audited", "disagreement", "good", "revoked"],
)
def test_record_in_the_wording_of_0_1_0_is_read_and_replay_agrees(statements, policy, begins):
    made = decided(*statements, policy=policy)
    stored = encode(made)
    old = in_old_words(stored.document.decode())
    found = decode(old.encode(), stored.blobs.get)
    assert len(begins) == len(found.verdict.warnings)
    assert all(map(str.startswith, found.verdict.warnings, begins))
    assert () == differences(found.verdict, decide_again(found))
    assert made.verdict.evidence.findings == found.verdict.evidence.findings


def test_warning_of_another_kind_certificate_or_alert_is_a_difference():
    verdict = decided(*FAILED, policy=LENIENT).verdict
    other = decided(*FAILED, policy=EXCEPTED).verdict
    for warnings in (
        (),
        verdict.warnings[:1],
        verdict.warnings[::-1],
        other.warnings,
        (*verdict.warnings, "without record: the disk is full"),
    ):
        told = "; ".join(warnings) or "-"
        assert (Difference(what="warnings", recorded="; ".join(verdict.warnings), now=told),) == differences(
            verdict, replace(verdict, warnings=warnings)
        )
    audited = decided(*FAILED, policy=AUDIT).verdict
    revoked = decided(*REVOKED, policy=AUDIT).verdict
    assert ["warnings"] == [
        one.what for one in differences(audited, replace(audited, warnings=revoked.warnings))
    ]


def test_details_of_a_warning_put_otherwise_are_no_difference():
    verdict = decided(*FAILED, policy=LENIENT).verdict
    reworded = tuple(f"{warning.split(',', 1)[0]}, nobody listens there" for warning in verdict.warnings)
    assert verdict.warnings != reworded
    assert () == differences(verdict, replace(verdict, warnings=reworded))


def test_status_that_differs_is_named_by_depth():
    good, revoked = record(*GOOD).verdict, record(*REVOKED).verdict
    now = replace(good, evidence=replace(good.evidence, findings=revoked.evidence.findings))
    assert (Difference(what="depth 0", recorded="good", now="revoked"),) == differences(good, now)


def test_stored_record_says_hop_and_depth():
    document = json.loads(encode(record(*REVOKED)).document)
    evidence = document["verdict"]["evidence"]
    assert [(0, 0), (1, 1)] == [(one["hop"], one["depth"]) for one in evidence["hops"]]
    assert [(0, 0)] == [(one["hop"], one["depth"]) for one in evidence["faults"]]


def test_recorded_limits_are_bounded_as_those_of_a_configuration():
    assert {name: LIMIT_RANGES[name][1] for name in MOST} == dict(MOST)


@pytest.mark.parametrize(
    ("recorded", "used"), [(0, 10_000_000), (10**18, 10_000_000), (25_000, 25_000), (-1, -1)]
)
def test_no_recorded_limit_is_believed_that_no_configuration_may_say(monkeypatch, recorded, used):
    kept = record(*GOOD)
    huge = replace(kept.question.limits, work=recorded, path_signatures=10**12)
    seen = []
    monkeypatch.setattr(replay, "conclude", lambda examined, *_, **__: examined)
    monkeypatch.setattr(replay, "examine", lambda question: seen.append(question.limits))
    decide_again(replace(kept, question=replace(kept.question, limits=huge)))
    assert [(used, 4096)] == [(limits.work, limits.path_signatures) for limits in seen]
