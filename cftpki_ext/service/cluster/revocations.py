"""
A revocation that another node established: verified here, by this node's own trust sets, and remembered with a record.

Owns which trust sets are tried, and what it may cost. Nobody is asked over the network for it, unless the proof is too large
to travel: then the chain is judged as if all evidence were too old that is older than the announcement.
"""

from __future__ import annotations

import enum
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
# Chains for which locations were asked because a proof was too large to travel; more come later. Those of one list cost one
# request: what came since the announcement counts.
_ASKED = 30
_ASKED_WITHIN_S = 60.0

Record = Callable[[Question, Sequence[Statement]], Awaitable[None]]


class Proof(enum.Enum):
    """
    What became of an announcement.

    `LATER`: nothing is known of it yet, and too much was asked just now. `UNANSWERED`: a location that was asked for the proof did not answer.
    """

    PROVEN = "proven"
    NOT_PROVEN = "not_proven"
    LATER = "later"
    UNANSWERED = "unanswered"


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
        self._asked_at: list[float] = []

    async def hear(self, news: RevokedNews, *, heard_s: float, again: bool = False) -> Proof:
        """
        Verify an announcement, and remember what it proves.

        Args:
            news: as it was told; nothing of it is believed.
            heard_s: when it was heard first (monotonic).
            again: it was put off before: nobody is asked to judge it while nobody may be asked over the network.

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
        may_ask = not news.raw and self._may_ask()
        if again and not (news.raw or may_ask):
            return Proof.LATER
        told = frozenset(digest_of(one.raw) for one in handed_in if one.raw is not None)
        is_open = is_unanswered = False
        for question in self._questions(news, now, heard_s=heard_s, ask=may_ask):
            judged = await self._judges.judge(question, handed_in, remember=False)
            if may_ask and any(one.origin is Origin.NETWORK for one in judged.statements):
                self._asked_at.append(self._clock.monotonic())
            is_unanswered |= may_ask and any(one.failure is not None for one in judged.statements)
            is_open |= bool(judged.verdict.evidence.findings)
            if not _proves(judged.verdict):
                continue
            if not _is_known(judged.verdict, told):
                await self._record(question, handed_in)
            return Proof.PROVEN
        if is_open and is_unanswered:
            return Proof.UNANSWERED
        # Of a chain that leads to no anchor of ours nobody would be asked later either.
        return Proof.LATER if is_open and not (news.raw or may_ask) else Proof.NOT_PROVEN

    def _questions(self, news: RevokedNews, now: datetime, *, heard_s: float, ask: bool) -> list[Question]:
        settings = self._settings()
        limits = settings.limits
        if sum(map(len, news.chain)) > limits.chain_bytes or len(news.chain) > limits.chain_certificates:
            return []
        if not news.raw:
            age = timedelta(seconds=max(0.0, self._clock.monotonic() - heard_s))
            limits = replace(
                limits,
                ocsp_refresh=min(age, limits.ocsp_refresh),
                crl_refresh=min(age, limits.crl_refresh),
            )
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
                ask=ask,
            )
            for name, direction in list(used)[:_TRIES]
        ]

    def _may_ask(self) -> bool:
        now = self._clock.monotonic()
        self._asked_at = [one for one in self._asked_at if now - one < _ASKED_WITHIN_S]
        return len(self._asked_at) < _ASKED


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
