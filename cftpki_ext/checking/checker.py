"""
The driver of CheckCertificate: gathers statements within one budget and lets `decide` judge them.

Owns what is remembered: the memory of revocations, and what goes into the cache. `collector` asks. Decides nothing:
every answer comes from `cftpki_ext.decision.decide`, which sees the same statements when a verdict is replayed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from cftpki_ext.checking.collector import Hearing, store_key
from cftpki_ext.core.causes import Cause
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.statement import Lookup, Statement
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.decision.decide import Examination, Question, conclude, examine
from cftpki_ext.decision.known_revoked import BAD_NEWS, proof_key, proves
from cftpki_ext.decision.other_paths import paths_tried
from cftpki_ext.ports import Clock, ProofStore, ResponseStore, StatusSource

_log = logging.getLogger(__name__)

# What failed these checks is no statement of the CA at all, and is asked for again next time.
_NEVER_KEPT = frozenset({Cause.MALFORMED, Cause.UNREADABLE, Cause.BAD_SIGNATURE, Cause.TOO_LARGE})


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
        self, question: Question, handed_in: Sequence[Statement] = (), *, remember: bool = True
    ) -> tuple[Verdict, tuple[Statement, ...]]:
        """
        Judge one chain, and give the statements that were heard as well: with them it can be judged again.

        Args:
            question: see `check`.
            handed_in: see `check`.
            remember: keep what proves a revocation. Not for a verdict that no record is made of: a memory that
                knows more than the evidence means that evidence was lost.

        Returns:
            The verdict, and every statement that it rests on.

        Raises:
            StoreError: see `check`.

        """
        examination = examine(question)
        statements = tuple(handed_in)
        if examination.hops:
            hearing = Hearing(
                examination,
                sources=self._sources,
                store=self._store,
                clock=self._clock,
                heard=(*handed_in, *self._proofs_of(examination)),
                recall=self._proofs_of,
            )
            await hearing.run()
            statements = tuple(hearing.heard)
            self._keep(examination, statements)
        verdict_id = new_verdict_id(int(self._clock.now().timestamp() * 1000))
        verdict = conclude(examination, statements, verdict_id=verdict_id)
        if remember:
            await self._remember(examination, verdict, statements)
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
            replace(proof, hop=number)
            for number in (*examination.hops, *examination.kin)
            if examination.first is None or number not in (*examination.first.hops, *examination.first.kin)
            for proof in self._proofs.recall(proof_key(examination, number))
        ]

    async def _remember(
        self, examination: Examination, verdict: Verdict, statements: tuple[Statement, ...]
    ) -> None:
        """
        Keep what proved a revocation or hold, unless a proof that nothing can lift is kept already.

        It is on the disk before the verdict is given. That it cannot be kept changes no verdict, and is logged.
        """
        if self._proofs is None:
            return
        for tried in paths_tried(examination, statements):
            for number in (*tried.hops, *tried.kin):
                if tried.hop(number, statements).status in BAD_NEWS:
                    await self._remember_one(tried, number, verdict, statements)

    async def _remember_one(
        self, examination: Examination, number: int, verdict: Verdict, statements: tuple[Statement, ...]
    ) -> None:
        if self._proofs is None:
            return
        about = [s for s in examination.about(number, statements) if s.raw is not None]
        proving = [s for s in about if proves(examination, number, s)]
        known = [s for s in proving if s.origin is Origin.KNOWN_REVOKED]
        if any(proves(examination, number, s, final=True) for s in known):
            return
        for statement in proving:
            if statement in known:
                continue
            key = proof_key(examination, number)
            try:
                # Another process may be writing: nobody else's handshake waits for it.
                await asyncio.to_thread(self._proofs.remember, key, statement)
            except StoreError as error:
                _log.error("verdict %s: %s", verdict.id, printable(str(error)))

    def _keep(self, examination: Examination, statements: tuple[Statement, ...]) -> None:
        """
        Cache what came from the network and is authentic, by all that was heard; nothing else is kept.

        An answer without a signature (REST) has no responder that could be verified again, and is never kept.
        """
        for tried in paths_tried(examination, statements):
            self._keep_path(tried, statements)

    def _keep_path(self, examination: Examination, statements: tuple[Statement, ...]) -> None:
        now = self._clock.now()
        for hop in (*examination.hops, *examination.kin):
            fetched = {
                digest_of(s.raw): s
                for s in statements
                if s.origin is Origin.NETWORK and s.raw is not None and s.hop == hop
            }
            for finding in examination.hop(hop, statements).sources if fetched else ():
                statement = fetched.get(finding.digest or "")
                if statement is None or statement.raw is None or statement.url is None:
                    continue
                if finding.cause in _NEVER_KEPT or finding.responder is None:
                    continue
                if statement.url in map(str, examination.question.trust.crl_files):
                    continue  # a changed file counts at once
                life = examination.question.limits.keep_stale
                if finding.next_update is not None:
                    life += max(timedelta(0), finding.next_update - now)
                self._store.put(
                    store_key(examination, Lookup(hop=hop, kind=statement.kind, url=statement.url)),
                    statement.raw,
                    received_at=statement.received_at,
                    keep_s=int(life.total_seconds()),
                )
