"""
A revocation that another node established: verified here, by this node's own trust sets, and remembered with a record.

Owns which trust sets are tried, and what it may cost. Nobody is asked over the network for it, unless the proof is too large
to travel: then the chain is judged as if its evidence were too old.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from cftpki_ext.core.cluster import RevokedNews
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.verdict import BAD_NEWS, CertificateFinding, CertificateStatus, Verdict
from cftpki_ext.core.vocabulary import Direction, Origin
from cftpki_ext.decision.question import Question
from cftpki_ext.ports.clock import Clock
from cftpki_ext.revocation.ocsp import NON_ISSUED
from cftpki_ext.service.judging.remote import Judged

# A chain may be good for several trust sets; more than so many are not tried for one announcement.
_TRIES = 16
# Chains that are asked about anew because a proof was too large to travel: each may cost requests.
_DOUBTS = 30
_DOUBTS_WITHIN = timedelta(minutes=1)

Record = Callable[[Question, Sequence[Statement]], Awaitable[None]]


class Judges(Protocol):
    """
    Who judges (`service.judging.remote.Judges`).
    """

    async def judge(
        self, question: Question, handed_in: Sequence[Statement] = (), *, remember: bool = True
    ) -> Judged:
        """
        Judge one chain.
        """


class Revocations:
    """
    Verifies what is announced. For one event loop, one announcement at a time.

    Args:
        judges: judge.
        record: judges once more, for a record, and remembers.
        settings: those in force.
        clock: the time.

    """

    def __init__(
        self,
        judges: Judges,
        record: Record,
        *,
        settings: Callable[[], Settings],
        clock: Clock,
    ) -> None:
        self._judges = judges
        self._record = record
        self._settings = settings
        self._clock = clock
        self._doubts: list[datetime] = []

    async def hear(self, news: RevokedNews) -> bool:
        """
        Verify an announcement, and remember what it proves.

        Args:
            news: as it was told; nothing of it is believed.

        Returns:
            Whether it proves a revocation to this node, or did before.

        Raises:
            CftPkiError: no judge answered, or the memory of revocations cannot be read: nothing is known of it yet.

        """
        now = self._clock.now()
        handed_in: tuple[Statement, ...] = ()
        if news.raw:
            handed_in = (
                Statement(kind=news.kind, origin=Origin.CLUSTER, received_at=now, url=news.url, raw=news.raw),
            )
        elif not self._may_doubt(now):
            return False
        told = frozenset(digest_of(one.raw) for one in handed_in if one.raw is not None)
        for question in self._questions(news, now):
            judged = await self._judges.judge(question, handed_in, remember=False)
            if not _proves(judged.verdict):
                continue
            if not _is_known(judged.verdict, told):
                await self._record(question, handed_in)
            return True
        return False

    def _questions(self, news: RevokedNews, now: datetime) -> list[Question]:
        settings = self._settings()
        limits = settings.limits
        if sum(map(len, news.chain)) > limits.chain_bytes or len(news.chain) > limits.chain_certificates:
            return []
        if not news.raw:
            limits = replace(limits, ocsp_refresh=timedelta(0), crl_refresh=timedelta(0))
        used: dict[tuple[str, Direction], None] = {}
        for rule in settings.rules:
            if rule.trust in settings.trusts:
                used[rule.trust, rule.direction] = None
        return [
            Question(
                chain=news.chain,
                direction=direction,
                trust=settings.trusts[name],
                limits=limits,
                at=now,
                rule=None,
                ask=not news.raw,
            )
            for name, direction in list(used)[:_TRIES]
        ]

    def _may_doubt(self, now: datetime) -> bool:
        self._doubts = [one for one in self._doubts if now - one < _DOUBTS_WITHIN]
        if len(self._doubts) >= _DOUBTS:
            return False
        self._doubts.append(now)
        return True


def _proves(verdict: Verdict) -> bool:
    return any(one.status in BAD_NEWS for one in (*verdict.evidence.findings, *verdict.evidence.beside))


def _is_known(verdict: Verdict, told: frozenset[str]) -> bool:
    """
    Whether all that an announcement proves is remembered already: that very proof, or one that nothing can lift.

    A hold that was remembered, and may have been lifted since, makes no later revocation known.
    """
    return all(
        _is_remembered(one, told)
        for one in (*verdict.evidence.findings, *verdict.evidence.beside)
        if one.status in BAD_NEWS
    )


def _is_remembered(finding: CertificateFinding, told: frozenset[str]) -> bool:
    bad = [one for one in finding.sources if one.status in BAD_NEWS]
    known = [one for one in bad if one.origin is Origin.KNOWN_REVOKED]
    if any(one.status is CertificateStatus.REVOKED and one.revocation_reason != NON_ISSUED for one in known):
        return True
    digests = {one.digest for one in known}
    # Where the proof was too large to travel, what was asked for instead; a list and its delta prove it together only.
    return bool(bad or told) and all(one.digest in digests for one in bad if not told or one.digest in told)
