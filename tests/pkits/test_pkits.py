"""
The NIST PKITS table, all 246 cases, through the decision itself: path, policies, and revocation by handed-in CRLs.

The only exceptions are the two cases whose CA has a DSA key (docs/adr/0002-crl-engine.md): they are refused.
The case whose certificate has a negative serial number runs with the leniency that names it.
"""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cryptography_vectors
import pytest

from cftpki_ext.core.settings import Limits, PolicyInputs, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import CertificateStatus, Reason
from cftpki_ext.core.vocabulary import Direction, Form, Leniency, Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.question import Question
from cftpki_ext.revocation import clear_memos
from tests.support.indexed_lists import indexed_where_it_can_be

pytestmark = pytest.mark.pkits

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TABLE = json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))["cases"]
DSA = {"4.1.4": Reason.UNSUPPORTED_ALGORITHM, "4.1.5": Reason.UNSUPPORTED_ALGORITHM}
NEGATIVE_SERIAL = "4.4.15"  # in 4.4.14 only a serial on the CRL is negative


@functools.cache
def vector(kind: str, name: str) -> bytes:
    with cryptography_vectors.open_vector_file(f"x509/PKITS_data/{kind}/{name}", "rb") as file:
        return file.read()


def inputs_of(case) -> PolicyInputs:
    given = case["inputs"]
    policies = given.get("user_initial_policy_set")
    more = {"initial_policies": frozenset(policies)} if policies else {}
    return PolicyInputs(
        explicit_policy=given.get("initial_explicit_policy", False),
        inhibit_policy_mapping=given.get("initial_policy_mapping_inhibit", False),
        inhibit_any_policy=given.get("initial_any_policy_inhibit", False),
        **more,
    )


def question_of(case) -> Question:
    lenient = case["test"] == NEGATIVE_SERIAL
    return Question(
        chain=(vector("certs", case["end_entity"]),),
        untrusted=tuple(vector("certs", name) for name in case["other_certificates"]),
        direction=Direction.SERVER,
        trust=TrustSet(
            name="pkits",
            anchors=(vector("certs", "TrustAnchorRootCertificate.crt"),),
            policy_inputs=inputs_of(case),
            compat=frozenset({Leniency.NEGATIVE_SERIAL} if lenient else ()),
        ),
        limits=Limits(),
        at=NOW,
        rule=None,
    )


def statements_of(case) -> tuple[Statement, ...]:
    names = (*case["crls"], "TrustAnchorRootCRL.crl")
    return tuple(
        Statement(kind=SourceKind.CRL, origin=Origin.HANDED_IN, received_at=NOW, raw=vector("crls", name))
        for name in dict.fromkeys(names)
    )


def verdict_of(case, statements=None):
    return conclude(
        examine(question_of(case)),
        statements_of(case) if statements is None else statements,
        verdict_id=case["case"],
    )


def test_pkits_table_is_whole():
    assert 246 == len(TABLE)
    assert 246 == len({case["case"] for case in TABLE})


@pytest.mark.parametrize("case", [pytest.param(c, id=c["case"]) for c in TABLE])
def test_pkits_case_has_the_required_result(case):
    verdict = verdict_of(case)
    if case["test"] in DSA:
        assert (True, False) == (case["valid"], verdict.accepted)
        assert DSA[case["test"]] is verdict.reason, verdict.summary
        return
    assert case["valid"] == verdict.accepted, verdict.summary
    assert case["valid"] == (verdict.reason is None)


VALID = [c for c in TABLE if c["valid"] and c["test"] not in DSA]


@pytest.mark.parametrize("case", [pytest.param(c, id=c["case"]) for c in VALID])
def test_pkits_valid_case_without_its_crls_is_refused(case):
    verdict = verdict_of(case, statements=())
    assert Reason.STATUS_NOT_ESTABLISHED is verdict.reason


@pytest.mark.parametrize("case", [pytest.param(c, id=c["case"]) for c in VALID])
def test_pkits_valid_case_does_not_hang_on_the_order_of_its_crls(case):
    verdict = verdict_of(case, statements=statements_of(case)[::-1])
    assert verdict.accepted, verdict.summary


@pytest.mark.parametrize("case", [pytest.param(c, id=c["case"]) for c in TABLE])
def test_pkits_case_has_the_same_verdict_by_the_indexes_of_its_crls(case):
    by_index = tuple(
        replace(one, raw=indexed_where_it_can_be(one.raw)) if isinstance(one.raw, bytes) else one
        for one in statements_of(case)
    )
    expected = verdict_of(case)
    clear_memos()
    assert expected == verdict_of(case, statements=by_index)


def test_pkits_negative_serial_is_malformed_only_where_the_letter_counts():
    case = next(c for c in TABLE if c["case"] == NEGATIVE_SERIAL)
    question = question_of(case)
    for form, reason in ((Form.STRICT, Reason.MALFORMED), (Form.COMMON, Reason.REVOKED)):
        asked = Question(
            chain=question.chain,
            untrusted=question.untrusted,
            direction=question.direction,
            trust=TrustSet(name="given", anchors=question.trust.anchors, form=form),
            limits=question.limits,
            at=question.at,
            rule=None,
        )
        assert reason is conclude(examine(asked), statements_of(case), verdict_id="given").reason


REVOKED = [
    "4.4.2",
    "4.4.3",
    "4.4.8",
    "4.4.9",
    "4.4.15",
    "4.4.18",
    "4.4.20",
    "4.5.2",
    "4.5.5",
    "4.14.2",
    "4.14.6",
]
REVOKED += ["4.14.15", "4.14.20", "4.14.21", "4.14.23", "4.14.31", "4.14.32", "4.14.34", "4.15.3", "4.15.4"]


@pytest.mark.parametrize("name", REVOKED)
def test_pkits_case_about_a_revoked_certificate_is_refused_as_revoked(name):
    verdict = verdict_of(next(c for c in TABLE if c["case"] == name))
    assert Reason.REVOKED is verdict.reason, verdict.summary
    assert CertificateStatus.REVOKED in {finding.status for finding in verdict.evidence.findings}
