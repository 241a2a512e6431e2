"""
The driver of CheckCertificate: gathers statements within one budget and lets `decision` judge them.

Owns what is remembered: the memory of revocations, and what goes into the cache. `collector` asks. Decides nothing:
every answer comes from a `case`, whose decision sees the same statements when a verdict is replayed.

More than 400 lines: one object, what is known before a check and what is kept after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from cftpki_ext.checking.asking import Askings
from cftpki_ext.checking.case import HereCase, Keep, OpenCase, Outcome, Recall
from cftpki_ext.checking.collector import Collector
from cftpki_ext.checking.list_versions import Versions
from cftpki_ext.checking.looked import Checked, Known, Looked, News
from cftpki_ext.checking.responses import Responses, noted
from cftpki_ext.checking.shared_answers import aged_from, judged_now, sources_of, tell_judged
from cftpki_ext.checking.sharing import Alone, Share
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.escape import printable
from cftpki_ext.core.ids import new_id
from cftpki_ext.core.large_lists import ListIndexer
from cftpki_ext.core.octets import LargeOctets
from cftpki_ext.core.settings import Limits
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import replace
from cftpki_ext.core.verdict import BAD_NEWS, CertificateStatus, Verdict
from cftpki_ext.core.vocabulary import Origin, SourceKind
from cftpki_ext.decision.question import Question
from cftpki_ext.ports.changes import StoreChanges
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.responses import LocationLocks, ResponseStore
from cftpki_ext.ports.revocations import ProofStore
from cftpki_ext.ports.sources import StatusSource

_log = logging.getLogger(__name__)

# Names of the cache of which it is remembered how new their answers are.
_NEWEST = 16_384


def new_verdict_id(milliseconds: int) -> str:
    """
    A fresh verdict id: 48 bits of time, then 80 random bits, as 32 hexadecimal digits.

    Args:
        milliseconds: since 1970, so that ids sort by time.

    Returns:
        The id. It is no secret and proves nothing.

    """
    return new_id(milliseconds)


class _Nobody:
    """
    _Nobody must know.
    """

    def changed(self, key: str) -> None:
        pass

    def stored(self, key: str, received_at: datetime) -> None:
        pass

    def revoked(self, certificates: Collection[str]) -> None:
        pass

    def forgot(self) -> None:
        pass


class Checker:
    """
    Judges chains with whatever sources and store it is given.

    Safe for many concurrent checks in one event loop. Never raises for what a network or a store does. `news` is told of
    all that changes what a check would see, `revealed` of each proof of a revocation that this node established, with the chain, and
    `remembered` of each certificate (`Recall.key`) of which a proof is on the disk from then on.
    """

    def __init__(
        self,
        *,
        sources: Mapping[SourceKind, StatusSource],
        store: ResponseStore,
        clock: Clock,
        proofs: ProofStore | None = None,
        locks: LocationLocks | None = None,
    ) -> None:
        """
        Take what the checks work with; the checker owns them from now on (`aclose`).

        Args:
            sources: who is asked, by kind; a kind without a source is never asked.
            store: the cache of raw responses.
            clock: the time of waits and of what is received.
            proofs: the memory of revocations; none where nothing outlives the call.
            locks: by which processes that share the cache ask a location once.

        """
        self.news: News = _Nobody()
        self.revealed: Callable[[tuple[bytes, ...], Statement], None] = lambda _, __: None
        self.remembered: Callable[[str], None] = lambda _: None
        self._sources = sources
        self._store = Responses(store, clock.monotonic)
        self._versions = Versions(self._store)
        self._newest: OrderedDict[str, datetime] = OrderedDict()
        self._askings = Askings(self._store, clock, locks)
        self._clock = clock
        self._proofs = proofs
        self._share: Share = Alone()

    def share_by(self, share: Share) -> None:
        """
        Share with other nodes what CAs answer.
        """
        self._share = self._askings.share = share

    def answers(self) -> dict[str, int]:
        """
        Where the answers were that checks looked for, since the start: in memory, on the disk, at another node, at their locations.
        """
        asked = self._askings
        return {
            "memory": self._store.in_memory,
            "disk": self._store.on_disk,
            "cluster": asked.of_nodes,
            "network": asked.requests,
        }

    def index_by(self, indexer: ListIndexer) -> None:
        """
        Have large lists indexed by somebody else than a thread of this process.
        """
        if self._store.lists is not None:
            self._store.lists.indexer = indexer

    def damaged(self, raw: LargeOctets) -> None:
        """
        See `LargeLists.damaged`.
        """
        if self._store.lists is not None:
            self._store.lists.damaged(raw)

    async def check(self, question: Question, handed_in: Sequence[Statement] = ()) -> Verdict:
        """
        Judge one chain.

        Statements are heard in this order: those handed in, cached ones young enough to stand alone, the
        network (hedged, one budget for the whole path), cached ones past their refresh age.

        Args:
            question: the chain and all that the decision depends on; `question.at` is the time of judgement.
            handed_in: statements that came with the chain, e.g. a staple.

        Returns:
            The verdict. Anything that could not be established is treated by the trust set's policy.

        Raises:
            StoreError: the memory of revocations cannot be read. _Nobody is let in without it.

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
        checked = await self.run(HereCase(question, self._clock.now), question, handed_in, remember=remember)
        return checked.outcome.verdict, checked.statements

    async def run(
        self,
        case: OpenCase,
        question: Question,
        handed_in: Sequence[Statement] = (),
        *,
        remember: bool = True,
        known: Known | None = None,
    ) -> Checked:
        """
        Judge one chain before a judge, wherever that is.

        Args:
            case: the question before its judge.
            question: the same question.
            handed_in: see `check`.
            remember: see `check_with_statements`.
            known: what was looked up for the same chain before, or for another with the same CAs, to do it at once.

        Returns:
            The outcome with all that it rests on.

        Raises:
            StoreError: see `check`.

        """
        # Before anything is recalled: what is remembered meanwhile is noticed.
        state = self._proofs.state() if self._proofs is not None else 0
        collector = Collector(
            case,
            question,
            sources=self._sources,
            store=self._store,
            askings=self._askings,
            clock=self._clock,
            heard=handed_in,
            recall=self._recall,
        )
        if known is not None:
            collector.prepare(known.places, known.recalls)
        judged = False
        try:
            checked = await self._run(
                collector, case, handed_in, remember=remember, state=state, limits=question.limits
            )
            judged = True
        finally:
            await collector.leave(judged=judged)
            for key, raw in collector.brought:
                self._store.let_go(raw, key)
        return checked

    async def _run(
        self,
        collector: Collector,
        case: OpenCase,
        handed_in: Sequence[Statement],
        *,
        remember: bool,
        state: int,
        limits: Limits,
    ) -> Checked:
        outcome = await collector.run()
        statements = tuple(collector.heard)
        if outcome is None:
            verdict_id = new_verdict_id(int(self._clock.now().timestamp() * 1000))
            outcome = await case.conclude(statements, verdict_id=verdict_id)
        for keep in outcome.keep:
            if not keep.is_older:
                self._keep(keep, collector, outcome.verdict, limits)
        tell_judged(self._share, outcome.verdict, collector.offered)
        if not (remember and await self._remember(outcome, statements, collector.chain)):
            for keep in outcome.keep:
                # What is older than the cache's stays out of it, but for bad news that nothing else would hold on to.
                if keep.is_older and _said(outcome.verdict, statements[keep.statement], but=BAD_NEWS) is None:
                    self._keep(keep, collector, outcome.verdict, limits)
        return Checked(
            outcome=outcome,
            statements=statements,
            known=Known(places=collector.places, recalls=collector.recalled),
            looked=None
            if collector.has_asked or handed_in
            else Looked(
                responses={key: noted(found) for key, found in collector.found.items()},
                recalls=collector.recalled,
                state=state,
            ),
        )

    def _keep(self, keep: Keep, collector: Collector, verdict: Verdict, limits: Limits) -> None:
        """
        Put an answer into the cache, and let other nodes have it.
        """
        statement = collector.heard[keep.statement]
        if statement.raw is None or not self._is_newest(keep.key, verdict, statement):
            return
        received_at = aged_from(verdict, statement, now=self._clock.now())
        self._store.put(keep.key, statement.raw, received_at=received_at, keep_s=keep.seconds)
        self._share.kept(keep.key, statement, keep_s=keep.seconds)
        said = collector.said_of(keep.key, statement.raw)
        if said is not None:
            self._versions.keep(statement, said, kept_s=keep.seconds, limits=limits)
        self._askings.has(keep.key)
        self.news.changed(keep.key)

    def _is_newest(self, key: str, verdict: Verdict, statement: Statement) -> bool:
        """
        Whether an answer is no older, by its own word, than the one that this process put under the same name.

        Of two servers behind one location one may be behind the other, and a list may have been put back. The older one
        decides where it was just asked for, beside what is known of revocations; the newer one stays in the cache. Bad
        news is kept, however old it is.
        """
        said = _said(verdict, statement, but=BAD_NEWS)
        if said is None:
            return True
        newest = self._newest.pop(key, said)
        self._newest[key] = max(newest, said)
        if len(self._newest) > _NEWEST:
            self._newest.popitem(last=False)
        return said >= newest or self._store.at_hand(key)[1] is None

    def learn(self, changes: StoreChanges) -> None:
        """
        Take note of what other processes have put into the stores, so that the next check sees it.

        Args:
            changes: what a `StoreWatch` saw; what this process put there itself changes nothing.

        """
        if changes.flushed:
            self._store.flushed()
            self._askings.flushed()
            self.news.forgot()
        for key, received_at in changes.responses.items():
            self._store.stored(key, received_at)
            self.news.stored(key, received_at)
        if changes.revoked is not None:
            self.news.revoked(changes.revoked)

    def is_still(self, looked: Looked) -> bool:
        """
        Whether a check would find the same in cache and memory of revocations; `False` where only the disk could say.

        Raises:
            StoreError: the memory of revocations cannot be read.

        """
        return self._store.has_still(looked.responses) is True and self.knows_no_more(looked)

    async def finds_the_same(self, looked: Looked) -> bool:
        """
        Whether a check that begins now finds the same in cache and memory of revocations.

        Nothing is waited for where all is in memory. What another process put into the cache is found as a check finds it:
        where memory has nothing, and 20 s after it was last looked for in vain.

        Raises:
            StoreError: the memory of revocations cannot be read.

        """
        same = self._store.has_still(looked.responses, at_once=True)
        if same is None:
            for key in looked.keys:
                await self._store.look_again(key)
            same = self._store.has_still(looked.responses)
        return same is True and self.knows_no_more(looked)

    def knows_no_more(self, looked: Looked) -> bool:
        """
        Whether nothing is known of the revocation of the certificates of a check.

        Hardly costs anything while nothing at all has been remembered since.

        Raises:
            StoreError: the memory of revocations cannot be read.

        """
        if self._proofs is None or self._proofs.state() == looked.state:
            return True
        return not any(self._proofs.recall(one.key) for one in looked.recalls)

    async def aclose(self) -> None:
        """
        Close the sources and the store.
        """
        for source in self._sources.values():
            await source.aclose()
        self._store.close()
        self._askings.close()
        if self._proofs is not None:
            self._proofs.close()

    def _recall(self, what: Recall) -> list[Statement]:
        if self._proofs is None:
            return []
        return [replace(proof, depth=what.number) for proof in self._proofs.recall(what.key)]

    async def _remember(
        self, outcome: Outcome, statements: tuple[Statement, ...], chain: tuple[bytes, ...]
    ) -> bool:
        """
        Keep what proved a revocation or hold; whether all of it is.

        It is on the disk before the verdict is given. That it cannot be kept changes no verdict, and is logged.
        """
        if self._proofs is None:
            return False
        kept = True
        for one in outcome.remember:
            self.news.revoked((one.key,))
            statement = judged_now(statements[one.statement], self._clock.now())
            try:
                # Another process may be writing: nobody else's handshake waits for it.
                await asyncio.to_thread(self._proofs.remember, one.key, statement)
                self.remembered(one.key)
            except StoreError as error:
                _log.error("verdict %s: %s", outcome.verdict.id, printable(str(error)))
                kept = False
            # What was judged while it was being written did not know of it.
            self.news.revoked((one.key,))
            if statement.origin is not Origin.CLUSTER:
                self.revealed(chain, statement)
        return kept


def _said(verdict: Verdict, statement: Statement, *, but: Collection[CertificateStatus]) -> datetime | None:
    """
    What an answer that was heard says of its time, but where it says some statuses of a certificate.
    """
    return next(
        (
            source.this_update
            for source in sources_of(verdict, digest_of(statement.raw or b""))
            if source.this_update is not None and source.status not in but
        ),
        None,
    )
