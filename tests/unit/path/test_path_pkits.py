"""
The NIST PKITS table, path part: every valid case has a fault-free path, every other one that is not about
revocation has faults.
"""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest

from cftpki_ext.core.settings import PolicyInputs
from cftpki_ext.path import PathRequest, Purpose, find_path
from cftpki_ext.x509 import Certificate, MalformedCertificateError, parse_certificate

pytestmark = pytest.mark.pkits

TABLE = json.loads((Path(__file__).parents[2] / "pkits" / "cases.json").read_text(encoding="utf-8"))
CERTS = Path(cryptography_vectors.__file__).parent / "x509" / "PKITS_data" / "certs"
# Within the validity of the suite's certificates; the suite does not fix a time.
AT = datetime(2026, 6, 1, tzinfo=UTC)
ANY = "2.5.29.32.0"

# DSA is refused: ADR 0001.
DSA = {"4.1.4", "4.1.5"}
# Section 4.4 is about revocation, 4.14 about distribution points, 4.15 about delta CRLs; in 4.5 and 4.7 these:
REVOCATION_SECTIONS = ("4.4.", "4.14.", "4.15.")
REVOCATION_CASES = {"4.5.2", "4.5.5", "4.5.7", "4.5.8", "4.7.4", "4.7.5"}


@functools.cache
def certificate(name: str) -> Certificate | None:
    try:
        return parse_certificate((CERTS / name).read_bytes())
    except MalformedCertificateError:
        return None


def inputs(case: dict[str, Any]) -> PolicyInputs:
    given = case["inputs"]
    known = {
        "user_initial_policy_set",
        "initial_explicit_policy",
        "initial_policy_mapping_inhibit",
        "initial_any_policy_inhibit",
    }
    assert set(given) <= known
    return PolicyInputs(
        initial_policies=frozenset(given.get("user_initial_policy_set", [ANY])),
        explicit_policy=given.get("initial_explicit_policy", False),
        inhibit_policy_mapping=given.get("initial_policy_mapping_inhibit", False),
        inhibit_any_policy=given.get("initial_any_policy_inhibit", False),
    )


def is_fault_free(case: dict[str, Any]) -> bool:
    leaf = certificate(case["end_entity"])
    others = [certificate(name) for name in case["other_certificates"]]
    anchor = certificate("TrustAnchorRootCertificate.crt")
    if leaf is None or anchor is None:
        return False
    request = PathRequest(
        chain=(leaf, *(c for c in others if c is not None)),
        anchors=(anchor,),
        now=AT,
        purpose=Purpose.ANY,
        inputs=inputs(case),
    )
    return find_path(request).valid


def decided_by_path(case: dict[str, Any]) -> bool:
    """
    Not so where the table refuses for revocation: such a certificate may well have a fault-free path.
    """
    about_revocation = case["test"].startswith(REVOCATION_SECTIONS) or case["test"] in REVOCATION_CASES
    return case["valid"] or not about_revocation


@pytest.mark.parametrize("case", list(filter(decided_by_path, TABLE["cases"])), ids=lambda case: case["case"])
def test_path_of_pkits_case_is_judged_as_the_table_says(case):
    expected = case["valid"] and case["test"] not in DSA
    assert expected == is_fault_free(case)


def test_pkits_table_is_whole():
    assert len(TABLE["cases"]) == 246
    assert len(list(filter(decided_by_path, TABLE["cases"]))) == 199
