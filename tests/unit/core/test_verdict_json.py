"""
The one JSON form of a verdict, whole or within the octets that a frame has.
"""

import json

import pytest

from cftpki_ext.core.verdict import at_depth
from cftpki_ext.core.verdict_json import verdict_from_json, verdict_to_data, verdict_to_json
from tests.unit.decision.test_decide import CA_GOOD, LEAF_REVOKED, decide, question


@pytest.fixture(scope="module")
def verdict():
    return decide(question(), LEAF_REVOKED, CA_GOOD)


def test_verdict_that_fits_is_told_whole(verdict):
    whole = verdict_to_json(verdict)

    assert whole == verdict_to_json(verdict, octets=len(whole))
    assert verdict == verdict_from_json(whole)


def test_verdict_that_is_too_large_keeps_its_answer_and_loses_its_evidence(verdict):
    whole = verdict_to_json(verdict)
    short = json.loads(verdict_to_json(verdict, octets=len(whole) - 1))
    expected = verdict_to_data(verdict)
    expected["evidence"] |= {"path": [], "faults": [], "hops": [], "notes": ["too long"]}

    assert (expected, "revoked", 44) == (short, short["reason"], short["alert"])


def test_certificates_are_numbered_by_depth_and_under_the_old_name(verdict):
    evidence = verdict_to_data(verdict)["evidence"]
    assert [(0, 0), (1, 1)] == [(one["hop"], one["depth"]) for one in evidence["hops"]]
    assert [(0, 0)] == [(one["hop"], one["depth"]) for one in evidence["faults"]]


def test_verdict_in_the_form_of_0_1_0_is_read(verdict):
    data = verdict_to_data(verdict)
    for one in (*data["evidence"]["hops"], *data["evidence"]["faults"]):
        del one["depth"]
    assert verdict == verdict_from_json(json.dumps(data))


def test_findings_are_had_by_the_names_of_0_1_0_as_well(verdict):
    evidence = verdict.evidence
    assert (evidence.findings, (0, 1)) == (evidence.hops, tuple(one.hop for one in evidence.findings))


@pytest.mark.parametrize(
    ("depth", "subject", "expected"),
    [
        (0, "", "the partner's certificate"),
        (0, "CN=a", "the partner's certificate CN=a"),
        (1, "", "depth 1"),
        (2, "CN=CA", "depth 2: CN=CA"),
    ],
)
def test_certificate_of_a_path_is_named_by_its_depth(depth, subject, expected):
    assert expected == at_depth(depth, subject)
