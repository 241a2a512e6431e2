"""
What policies, lists and cross-checks decided is decided again from the record, by the record alone.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.policy import PartnerException, Policy, Treatment
from cftpki_ext.core.settings import Limits, Partners, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Direction, Origin, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door, Record, decide_again, decode, differences, encode
from tests.support.pki import NOW, issue, make_crl, make_ocsp_response, make_root

ROOT = make_root("Root")
LEAF = issue(ROOT, "partner", eku=["clientAuth"])
FAILED = Statement(
    kind=SourceKind.OCSP,
    origin=Origin.NETWORK,
    received_at=NOW,
    depth=0,
    url="http://o/",
    failure=Cause.UNREACHABLE,
)
LIST = Statement(
    kind=SourceKind.CRL, origin=Origin.CACHE, received_at=NOW, depth=0, url="http://c/", raw=make_crl(ROOT)
)
PROOF = Statement(
    kind=SourceKind.OCSP,
    origin=Origin.KNOWN_REVOKED,
    received_at=NOW,
    raw=make_ocsp_response(ROOT, LEAF, "revoked"),
)
POLICY = Policy(
    name="p",
    treatments={Cause.UNREACHABLE: Treatment(alert=42)},
    exceptions=(
        PartnerException(
            fingerprint=sha256(LEAF.der).hexdigest(),
            until=NOW + timedelta(days=1),
            reason="r",
            causes=frozenset(Cause),
        ),
    ),
)
TRUST = TrustSet(
    name="t", anchors=(ROOT.der,), policy=POLICY, cross_check=(SourceKind.OCSP, SourceKind.CRL), deltas=False
)
CASES = {
    "exception": (TRUST, None, (FAILED, LIST), 0),
    "alert": (replace(TRUST, policy=replace(POLICY, exceptions=())), None, (FAILED, LIST), 42),
    "lists": (TRUST, Partners(subjects=("CN=other",), spki_pins=("00" * 32,)), (FAILED, LIST), 49),
    "known_revocation": (TRUST, Partners(sans=("dns:a",)), (PROOF, LIST), 44),
}


@pytest.mark.parametrize("case", CASES)
def test_decision_is_taken_again_from_its_record(case):
    trust, partners, statements, alert = CASES[case]
    question = Question(
        chain=(LEAF.der,),
        direction=Direction.SERVER,
        trust=trust,
        limits=Limits(),
        at=NOW,
        rule="night",
        partners=partners,
    )
    verdict = conclude(examine(question), statements, verdict_id="a" * 32)
    assert alert == verdict.alert
    made = Record(question=question, statements=statements, verdict=verdict, asked=Asked(door=Door.CLI))
    stored = encode(made)
    found = decode(stored.document, stored.blobs.get)
    assert made == found
    again = decide_again(found)
    assert (verdict, ()) == (again, differences(verdict, again))
