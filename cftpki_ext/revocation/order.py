"""
Which of two answers of one location its CA made later, by their own signed words. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.verdict import SourceFinding
from cftpki_ext.core.vocabulary import SourceKind
from cftpki_ext.revocation.crl_parse import MalformedCrlError, read_crl

# Where an answer stands among others: thisUpdate, then of lists the cRLNumber, of OCSP answers producedAt.
Order = tuple[float, int]


def order_of(finding: SourceFinding, raw: bytes | LargeOctets) -> Order | None:
    """
    When an answer was made, so that a later one is greater.

    Dates go before numbers: a CA that was set up anew may count from the beginning, and its lists are newer all the same.

    Args:
        finding: what was made of it; it is authentic where `responder` is there.
        raw: its octets.

    Returns:
        The order; `None` where nothing that its CA signed says so.

    """
    if finding.responder is None or finding.this_update is None:
        return None
    return finding.this_update.timestamp(), _within(finding, raw)


def _within(finding: SourceFinding, raw: bytes | LargeOctets) -> int:
    """
    What tells answers of one second apart.
    """
    if finding.kind is not SourceKind.CRL:
        return 0 if finding.produced_at is None else int(finding.produced_at.timestamp())
    try:
        number = read_crl(raw).number
    except MalformedCrlError:
        return -1
    return -1 if number is None else number


def latest(found: Iterable[Order | None], *, now: datetime, skew: timedelta) -> Order | None:
    """
    The latest of some orders. One of a time that has not come is none: it would never be replaced.
    """
    until = (now + skew).timestamp()
    return max((one for one in found if one is not None and one[0] <= until), default=None)
