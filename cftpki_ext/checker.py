"""
The driver of CheckCertificate: gathers statements within one budget and lets `decide` judge them.

Owns the order of asking (memory of revocations, cache, network), hedging and the deadline. Decides nothing:
every answer comes from `cftpki_ext.decide`, which sees the same statements when a verdict is replayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from cftpki_ext.causes import Cause
from cftpki_ext.decide import Examination, Question, conclude, examine
from cftpki_ext.errors import StoreError
from cftpki_ext.model import Origin, SourceKind
from cftpki_ext.ports import Clock, ProofStore, ResponseStore, StatusQuestion, StatusSource
from cftpki_ext.response_key import certificate_key, list_key
from cftpki_ext.settings import Limits
from cftpki_ext.statement import Lookup, Statement
from cftpki_ext.verdict import HopFinding, HopStatus, Verdict

_BAD_NEWS = frozenset({HopStatus.REVOKED, HopStatus.ON_HOLD})
# What failed these checks is no statement of the CA at all, and is asked for again next time.
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

    def __init__(
        self,
        *,
        sources: Mapping[SourceKind, StatusSource],
        store: ResponseStore,
        clock: Clock,
        proofs: ProofStore | None = None,
    ) -> None:
        """
        Take what the checks work with; the checker owns them from now on (`aclose`).

        Args:
            sources: who is asked, by kind; a kind without a source is never asked.
            store: the cache of raw responses.
            clock: the time of waits and of what is received.
            proofs: the memory of revocations; none where nothing outlives the call.

        """
        self._sources = sources
        self._store = store
        self._clock = clock
        self._proofs = proofs

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

        Raises:
            StoreError: the memory of revocations cannot be read. Nobody is let in without it.

        """
        verdict, _ = await self.check_with_statements(question, handed_in)
        return verdict

    async def check_with_statements(
        self, question: Question, handed_in: Sequence[Statement] = ()
    ) -> tuple[Verdict, tuple[Statement, ...]]:
        """
        Judge one chain, and give the statements that were heard as well: with them it can be judged again.

        Args:
            question: see `check`.
            handed_in: see `check`.

        Returns:
            The verdict, and every statement that it rests on.

        Raises:
            StoreError: see `check`.

        """
        examination = examine(question)
        heard = list(handed_in)
        if examination.hops:
            heard.extend(self._proofs_of(examination))
            await self._gather(examination, heard)
        statements = tuple(heard)
        verdict_id = new_verdict_id(int(self._clock.now().timestamp() * 1000))
        verdict = conclude(examination, statements, verdict_id=verdict_id)
        self._remember(examination, verdict, statements)
        return verdict, statements

    async def aclose(self) -> None:
        """
        Close the sources and the store.
        """
        for source in self._sources.values():
            await source.aclose()
        self._store.close()
        if self._proofs is not None:
            self._proofs.close()

    def _proofs_of(self, examination: Examination) -> list[Statement]:
        if self._proofs is None:
            return []
        return [
            replace(proof, hop=hop)
            for hop in examination.hops
            for proof in self._proofs.recall(_proof_key(examination, hop))
        ]

    def _remember(
        self, examination: Examination, verdict: Verdict, statements: tuple[Statement, ...]
    ) -> None:
        """
        Keep what proved a revocation. That it cannot be kept changes no verdict; the store says so itself.
        """
        if self._proofs is None:
            return
        for finding in verdict.evidence.hops:
            if finding.status not in _BAD_NEWS:
                continue
            for statement in statements:
                known = statement.raw is None or statement.origin is Origin.KNOWN_REVOKED
                if known or statement.hop not in {None, finding.hop}:
                    continue
                if examination.hop(finding.hop, (statement,)).status in _BAD_NEWS:
                    with contextlib.suppress(StoreError):
                        self._proofs.remember(_proof_key(examination, finding.hop), statement)

    async def _gather(self, examination: Examination, heard: list[Statement]) -> None:
        limits = examination.question.limits
        now = self._clock.now()
        kept = {lookup: self._recall(examination, lookup) for lookup in examination.lookups}
        young: list[Statement] = []
        old: list[Statement] = []
        for lookup, statement in kept.items():
            if statement is None:
                continue
            refresh = limits.crl_refresh if lookup.kind is SourceKind.CRL else limits.ocsp_refresh
            fresh = timedelta(0) <= now - statement.received_at < refresh
            (young if fresh else old).append(statement)
        heard.extend(young)
        if examination.may_fetch:
            # Every hop has the whole budget: they are asked side by side and share one deadline.
            budget_s = (limits.budget_ms - limits.reserve_ms) / 1000
            deadline = self._clock.monotonic() + budget_s
            await asyncio.gather(
                *(self._ask_hop(examination, hop, heard, deadline) for hop in examination.hops)
            )
        heard.extend(old)

    async def _ask_hop(
        self,
        examination: Examination,
        hop: int,
        heard: list[Statement],
        deadline: float,
    ) -> None:
        """
        Ask the hop's locations in order until its status is established; the next starts when one is slow.
        """
        if _established(examination.hop(hop, tuple(heard))):
            return
        waiting = [
            lookup for lookup in examination.lookups if lookup.hop == hop and lookup.kind in self._sources
        ]
        running: dict[asyncio.Task[Statement], Lookup] = {}
        try:
            while waiting or running:
                if waiting:
                    lookup = waiting.pop(0)
                    asking = self._ask(examination, lookup, deadline)
                    running[asyncio.create_task(asking)] = lookup
                left_s = max(0.0, deadline - self._clock.monotonic())
                patience_s = min(left_s, examination.question.limits.hedge_ms / 1000) if waiting else left_s
                done, _ = await asyncio.wait(running, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del running[task]
                    heard.append(task.result())
                if done and _established(examination.hop(hop, tuple(heard))):
                    return
                if self._clock.monotonic() >= deadline:
                    heard.extend(
                        self._too_late(lookup, examination, now_running=True) for lookup in running.values()
                    )
                    heard.extend(self._too_late(lookup, examination, now_running=False) for lookup in waiting)
                    return
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _ask(self, examination: Examination, lookup: Lookup, deadline: float) -> Statement:
        question = examination.question
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
            origin=Origin.CACHE,
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
    certificate, issuer = examination.pair(lookup.hop)
    if lookup.kind is SourceKind.CRL:
        return list_key(issuer_name=issuer.subject.der, issuer_spki=issuer.spki, url=lookup.url)
    return certificate_key(
        lookup.kind,
        issuer_name=issuer.subject.der,
        issuer_spki=issuer.spki,
        serial=certificate.serial,
        url=lookup.url,
    )


def _proof_key(examination: Examination, hop: int) -> str:
    """
    The name under which proofs of revocation are kept: issuer's name and key, and serial.
    """
    certificate, issuer = examination.pair(hop)
    return certificate_key(
        SourceKind.CRL,
        issuer_name=issuer.subject.der,
        issuer_spki=issuer.spki,
        serial=certificate.serial,
        url="",
    )
