"""
What becomes of an answer that another node shared, once it was judged: how old it is from then on, and whether it was any good.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cftpki_ext.checking.sharing import Share
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import replace
from cftpki_ext.core.verdict import SourceFinding, Verdict
from cftpki_ext.core.vocabulary import Origin
from cftpki_ext.decision.grounds import shared_since


def sources_of(verdict: Verdict, digest: str) -> list[SourceFinding]:
    """
    What was made of the statement of a SHA-256 (hex), once for each certificate that it was judged for.
    """
    return [
        source for finding in verdict.evidence.heard for source in finding.sources if source.digest == digest
    ]


def aged_from(verdict: Verdict, statement: Statement, *, now: datetime) -> datetime:
    """
    Since when an answer ages in the cache: of what another node shared, since it is certain that it was there.

    Args:
        verdict: that it was judged for.
        statement: the answer.
        now: the time.

    Returns:
        No later than now where it was shared.

    """
    if statement.origin is not Origin.CLUSTER:
        return statement.received_at
    said = [source.this_update for source in sources_of(verdict, digest_of(statement.raw or b""))]
    return min(now, max(shared_since(statement, this_update) for this_update in (*said, None)))


def judged_now(statement: Statement, now: datetime) -> Statement:
    """
    A proof as it is remembered. What another node shared was judged when it came, which is now, whenever it was got.
    """
    return replace(statement, received_at=now) if statement.origin is Origin.CLUSTER else statement


def tell_judged(share: Share, verdict: Verdict, offered: Sequence[Statement]) -> None:
    """
    Count what was shared: heard and usable, or not: too old to stand alone, or no answer of the CA's at all.
    """
    for one in offered:
        found = sources_of(verdict, digest_of(one.raw or b""))
        share.judged(usable=any(source.cause is None for source in found))
