"""
The one JSON form of a verdict, whole or within the octets that a frame has.
"""

import json

import pytest

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
