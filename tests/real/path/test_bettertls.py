"""
Netflix' BetterTLS: 81 meshes of certificates in which a valid path lies among expired, wrongly used and weakly signed ones
(45), or in which there is none (36). Made anew by its own tool, and judged with the defaults.
"""

from __future__ import annotations

import base64
import json
import subprocess

import pytest

from cftpki_ext.api import check_certificate, trust_set
from cftpki_ext.core.vocabulary import Direction

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """
    The root, and of each case the chain as presented and whether there is a path.
    """
    out = tmp_path_factory.mktemp("bettertls") / "cases.json"
    subprocess.run(["bettertls", "export-tests", "--suite", "pathbuilding", "--out", out], check=True)
    document = json.loads(out.read_bytes())
    cases = document["suites"]["pathbuilding"]["testCases"]
    return base64.b64decode(document["trustRoot"]), [
        (one["id"], [base64.b64decode(der) for der in one["certificates"]], one["expected"] == "ACCEPT")
        for one in cases
    ]


def test_bettertls_path_building_is_right_in_each_case_by_default(exported):
    root, cases = exported
    trust = trust_set([root])
    wrong = [
        number
        for number, chain, good in cases
        if check_certificate(
            chain, trust=trust, direction=Direction.CLIENT, path_only=True, fetch=False
        ).accepted
        is not good
    ]
    assert (81, 45, []) == (len(cases), sum(good for _, _, good in cases), wrong)


def test_bettertls_with_another_root_lets_nobody_in(exported):
    _, cases = exported
    other = next(chain[0] for _, chain, _ in cases)
    trust = trust_set([other])
    accepted = [
        number
        for number, chain, _ in cases
        if other not in chain
        and check_certificate(
            chain, trust=trust, direction=Direction.CLIENT, path_only=True, fetch=False
        ).accepted
    ]
    assert [] == accepted
