"""
Which share of the evidence a record counts against: that of partners, or that of strangers. Pure.
"""

from __future__ import annotations

from cftpki_ext.core.verdict import Reason
from cftpki_ext.evidence.record import Door, Record
from cftpki_ext.ports.evidence import Share

# Strangers come by these; the others are ours, or ask for partners that are known.
FROM_OUTSIDE = frozenset({Door.EXIT, Door.SOCKET})


def share_of(record: Record) -> Share:
    """
    Whose share a record counts against.

    Args:
        record: of any verdict.

    Returns:
        Strangers' where the chain leads to no anchor, or was not judged, and where a rule's lists keep its holder out:
        anybody may have a certificate of a public CA.

    """
    verdict, question = record.verdict, record.question
    if record.asked.door not in FROM_OUTSIDE:
        return Share.PARTNERS
    # Statuses are established on a path that leads to an anchor, and on no other.
    pinned = len(verdict.evidence.path) == 1 and bool({*question.chain[:1]} & {*question.trust.anchors})
    if not (verdict.evidence.findings or pinned) or verdict.reason is Reason.NOT_ALLOWED:
        return Share.STRANGERS
    return Share.PARTNERS
