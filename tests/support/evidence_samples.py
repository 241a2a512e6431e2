"""
Decisions to keep: one chain, judged by good, bad and no statements.
"""

from __future__ import annotations

from cftpki_ext.core.causes import Cause
from cftpki_ext.core.settings import Limits, Rule, TrustSet
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.vocabulary import Direction, Origin, Phase, SourceKind
from cftpki_ext.decision.conclude import conclude
from cftpki_ext.decision.examine import examine
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door, Record
from tests.support.pki import NOW, Revoked, issue, make_crl, make_ocsp_response, make_root

CHECK = Phase.CHECK_CERTIFICATE
RULE = Rule(name="in", direction=Direction.SERVER, trust="partners")
ROOT = make_root("Root")
CA = issue(ROOT, "CA", ca=True)
LEAF = issue(CA, "partner", eku=["clientAuth"])
PLAIN = TrustSet(name="partners", anchors=(ROOT.der,))


def record(*statements, trust=PLAIN):
    question = Question(
        chain=(LEAF.der, CA.der), direction=Direction.SERVER, trust=trust, limits=Limits(), at=NOW, rule="in"
    )
    verdict = conclude(examine(question), statements, verdict_id="a" * 32)
    asked = Asked(door=Door.EXIT, profile="SSLP", remote="192.0.2.1", port=1762, host_task=1, host_session=2)
    return Record(question=question, statements=statements, verdict=verdict, asked=asked)


def heard(kind, raw, depth):
    return Statement(
        kind=kind, origin=Origin.NETWORK, received_at=NOW, depth=depth, url="http://a/", raw=raw, nonce=b"n"
    )


GOOD = (
    heard(SourceKind.OCSP, make_ocsp_response(CA, LEAF), 0),
    heard(SourceKind.CRL, make_crl(ROOT), 1),
)
REVOKED = (heard(SourceKind.CRL, make_crl(CA, [Revoked(LEAF.serial)]), 0), GOOD[1])
FAILED = (
    Statement(
        kind=SourceKind.OCSP,
        origin=Origin.NETWORK,
        received_at=NOW,
        depth=0,
        url="http://a/",
        failure=Cause.UNREACHABLE,
        detail="refused",
    ),
)
