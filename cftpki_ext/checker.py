"""
The driver of CheckCertificate: gathers statements within one budget and lets `decide` judge them.

Owns the order of asking (memory of revocations, cache, network), hedging and the deadline. Decides nothing:
every answer comes from `cftpki_ext.decide`, which sees the same statements when a verdict is replayed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

from cftpki_ext.causes import Cause
from cftpki_ext.decide import Examination, Question, conclude, examine
from cftpki_ext.model import Origin, SourceKind
from cftpki_ext.ports import Clock, ResponseStore, StatusQuestion, StatusSource
from cftpki_ext.settings import Limits
from cftpki_ext.statement import Lookup, Statement
from cftpki_ext.verdict import HopFinding, HopStatus, Verdict

# Failures that say nothing lasting about the bytes: such a statement may be kept for its signed content.
_NEVER_KEPT = frozenset({Cause.MALFORMED, Cause.BAD_SIGNATURE, Cause.TOO_LARGE})


def new_verdict_id(milliseconds: int) -> str:
    """
    A fresh verdict id: 48 bits of time, then 80 random bits, as 32 hexadecimal digits.

    Args:
        milliseconds: since 1970, so that ids sort by time.

    Returns:
        The id. It is no secret and proves nothing.

    """
    return f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}{secrets.token_hex(10)}"


class Checker:
    """
    Judges chains with whatever sources and store it is given.

    Safe for many concurrent checks in one event loop. Never raises for what a network or a store does.
    """

    def __init__(self, *, sources: Mapping[SourceKind, StatusSource], store: ResponseStore, clock: Clock) -> None:
        self._sources = sources
        self._store = store
        self._clock = clock

    async def check(self, question: Question, handed_in: Sequence[Statement] = ()) -> Verdict:
        """
        Judge one chain.

        Statements are heard in this order: those handed in, cached ones young enough to stand alone, the
        network (hedged, one budget for all hops), cached ones past their refresh age.

        Args:
            question: the chain and all that the decision depends on; `question.at` is the time of judgement.
            handed_in: statements that came with the chain, e.g. a staple.

        Returns:
            The verdict. Anything that could not be established is treated by the trust set's policy.

        """
        examination = examine(question)
        heard = list(handed_in)
        if examination.hops:
            await self._gather(examination, question, heard)
        verdict_id = new_verdict_id(int(self._clock.now().timestamp() * 1000))
        return conclude(examination, tuple(heard), verdict_id=verdict_id)

    async def aclose(self) -> None:
        """
        Close the sources and the store.
        """
        for source in self._sources.values():
            await source.aclose()
        self._store.close()

    async def _gather(self, examination: Examination, question: Question, heard: list[Statement]) -> None:
        now = self._clock.now()
        kept = {lookup: self._recall(examination, lookup) for lookup in examination.lookups}
        young, old = [], []
        for lookup, statement in kept.items():
            if statement is None:
                continue
            refresh = question.limits.ocsp_refresh if lookup.kind is SourceKind.OCSP else question.limits.crl_refresh
            fresh = timedelta(0) <= now - statement.received_at < refresh
            (young if fresh else old).append(statement)
        heard.extend(young)
        if examination.may_fetch:
            # Every hop has the whole budget: they are asked side by side and share one deadline.
            budget_s = (question.limits.budget_ms - question.limits.reserve_ms) / 1000
            deadline = self._clock.monotonic() + budget_s
            answered = {(s.hop, s.kind, s.url) for s in young}
            await asyncio.gather(
                *(
                    self._ask_hop(examination, question, hop, heard, deadline, answered)
                    for hop in examination.hops
                )
            )
        heard.extend(old)

    async def _ask_hop(
        self,
        examination: Examination,
        question: Question,
        hop: int,
        heard: list[Statement],
        deadline: float,
        answered: set[tuple[int | None, SourceKind, str | None]],
    ) -> None:
        """
        Ask the hop's locations in order until its status is established; the next starts when one is slow.
        """
        if _established(examination.hop(hop, tuple(heard))):
            return
        waiting = [
            lookup
            for lookup in examination.lookups
            if lookup.hop == hop and (hop, lookup.kind, lookup.url) not in answered and lookup.kind in self._sources
        ]
        running: dict[asyncio.Task[Statement], Lookup] = {}
        try:
            while waiting or running:
                if waiting:
                    lookup = waiting.pop(0)
                    asking = self._ask(examination, question, lookup, deadline)
                    running[asyncio.create_task(asking)] = lookup
                left_s = max(0.0, deadline - self._clock.monotonic())
                patience_s = min(left_s, question.limits.hedge_ms / 1000) if waiting else left_s
                done, _ = await asyncio.wait(running, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del running[task]
                    heard.append(task.result())
                if done and _established(examination.hop(hop, tuple(heard))):
                    return
                if self._clock.monotonic() >= deadline:
                    heard.extend(self._too_late(lookup, examination, now_running=True) for lookup in running.values())
                    heard.extend(self._too_late(lookup, examination, now_running=False) for lookup in waiting)
                    return
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _ask(
        self, examination: Examination, question: Question, lookup: Lookup, deadline: float
    ) -> Statement:
        certificate, issuer = examination.pair(lookup.hop)
        statement = await self._sources[lookup.kind].ask(
            StatusQuestion(
                lookup=lookup,
                certificate=certificate,
                issuer=issuer,
                trust=question.trust,
                limits=question.limits,
                deadline=deadline,
            )
        )
        self._keep(examination, question.limits, lookup, statement)
        return statement

    def _recall(self, examination: Examination, lookup: Lookup) -> Statement | None:
        stored = self._store.get(_key(examination, lookup))
        if stored is None:
            return None
        return Statement(
            kind=lookup.kind,
            origin=Origin.DISK,
            received_at=stored.received_at,
            hop=lookup.hop,
            url=lookup.url,
            raw=stored.raw,
        )

    def _keep(self, examination: Examination, limits: Limits, lookup: Lookup, statement: Statement) -> None:
        """
        Cache what is authentic; what failed its checks is never kept.
        """
        if statement.raw is None:
            return
        alone = examination.hop(lookup.hop, (replace(statement, hop=lookup.hop),))
        finding = alone.sources[0] if alone.sources else None
        if finding is None or finding.cause in _NEVER_KEPT or finding.responder is None:
            return
        life = limits.keep_stale
        if finding.next_update is not None:
            life += max(timedelta(0), finding.next_update - self._clock.now())
        self._store.put(
            _key(examination, lookup),
            statement.raw,
            received_at=statement.received_at,
            keep_s=int(life.total_seconds()),
        )

    def _too_late(self, lookup: Lookup, examination: Examination, *, now_running: bool) -> Statement:
        limits = examination.question.limits
        detail = "no answer within" if now_running else "not asked within"
        return Statement(
            kind=lookup.kind,
            origin=Origin.NETWORK,
            received_at=self._clock.now(),
            hop=lookup.hop,
            url=lookup.url,
            failure=Cause.TIMED_OUT,
            detail=f"{detail} the budget of {limits.budget_ms} ms",
            elapsed_ms=limits.budget_ms - limits.reserve_ms,
        )


def _established(finding: HopFinding) -> bool:
    return finding.status is not HopStatus.UNDETERMINED


def _key(examination: Examination, lookup: Lookup) -> str:
    """
    The cache key: a CRL by issuer and location, an OCSP answer also by the certificate it is about.
    """
    certificate, issuer = examination.pair(lookup.hop)
    about = b"" if lookup.kind is SourceKind.CRL else certificate.digest
    material = b"\0".join((lookup.kind.value.encode(), issuer.spki, issuer.subject.der, about, lookup.url.encode()))
    return f"{lookup.kind.value}:{sha256(material).hexdigest()}"
