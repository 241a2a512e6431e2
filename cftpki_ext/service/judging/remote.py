"""
Checks whose judge is in another process, and what is known of partners.

Owns the memory of partners that were accepted lately: they go first, and all that their judge will ask for is brought at
once; and which verdicts stand. That memory holds digests, no certificates.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cftpki_ext.checking.case import HereCase
from cftpki_ext.checking.checker import Checker, new_verdict_id
from cftpki_ext.checking.looked import Checked, Known
from cftpki_ext.core.digest import digest_of
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.memo import Memo
from cftpki_ext.core.settings import Settings
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import dataclass, replace
from cftpki_ext.core.verdict import Verdict
from cftpki_ext.core.verdict_json import VerdictText
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door, RecordBytes
from cftpki_ext.evidence.again import again
from cftpki_ext.ports.changes import StoreChanges
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.evidence import Repeated
from cftpki_ext.service.judging.known_cas import KnownCas, without_certificates
from cftpki_ext.service.judging.pool import Pool
from cftpki_ext.service.judging.remote_case import RemoteCase
from cftpki_ext.service.judging.standing import Mirror, Standing, StandingVerdicts, name_of

# Partners that are remembered: some hundred octets each, and of each the places of its answers.
_PARTNERS = 8192
# How often a partner is judged anew because another list of blocked partners came meanwhile.
_BLOCKED_MEANWHILE = 3
# Verdicts as text, without what is another one each time: some thousand of chains of three certificates.
_TEXT_OCTETS = 16 * 1024 * 1024
# Verdicts whose record is being written.
_UNKEPT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """
    A verdict, what it rests on, and the stored form of its record where the judge made it.

    Of one that was given again (`stored.repeats`), what it rests on stands in the record that it repeats. `text` is the verdict as
    JSON, where somebody who asked by CHECK wants to have it and it is at hand.
    """

    verdict: Verdict
    statements: tuple[Statement, ...]
    stored: RecordBytes | None = None
    text: str | None = None


class Watcher(Protocol):
    """
    Who wants to know of the partners that hosts are told to let in.
    """

    def accepted(self, question: Question, checked: Checked) -> None:
        """
        A partner was judged, and accepted.
        """

    def replace_settings(self, settings: Settings) -> None:
        """
        Another configuration is in force.
        """

    def again(self, name: bytes) -> None:
        """
        A partner was accepted by a verdict that stands, without being judged; by the name of its question.
        """


class Judges:
    """
    Judges chains in processes; the driver (cache, network, memory of revocations) is a `Checker` in this one.

    Args:
        checker: the driver.
        pool: the processes.
        clock: the time.

    """

    def __init__(self, checker: Checker, pool: Pool, clock: Clock) -> None:
        self._checker = checker
        self._pool = pool
        self._clock = clock
        self._partners: OrderedDict[bytes, Known] = OrderedDict()
        self._cas = KnownCas()
        self._standing = StandingVerdicts()
        # Those whose record is being written, by the id of the verdict.
        self._unkept: OrderedDict[str, Standing] = OrderedDict()
        # The text of those that are asked for by CHECK; who is refused has none.
        self._texts: Memo[str, VerdictText] = Memo(_TEXT_OCTETS)
        self._given_again = 0
        self._flushes = 0  # times that the cache was emptied on purpose, and everybody is judged anew
        self._count = 0
        self.watcher: Watcher | None = None
        # The partners that operators have shut out, at each moment.
        self.blocks: Callable[[], bytes | None] = lambda: None
        self.told: Callable[[Verdict], None] = lambda _: None  # what sources said, judged
        checker.news = self._standing

    def replace_settings(self, settings: Settings) -> None:
        """
        Take over a new configuration: nobody is known by it yet.
        """
        self._pool.replace_settings(settings)
        self._standing.resize(settings.service.board_bytes)
        self._partners.clear()
        self._cas.clear()
        self.end_standing()
        if self.watcher is not None:
            self.watcher.replace_settings(settings)

    def status(self) -> dict[str, Any]:
        """
        The queues, and where answers were (`answers`), for STATUS.
        """
        return self._pool.status() | {
            "answers": self._checker.answers(),
            "partners": len(self._partners),
            "standing": self._standing.count,
            "given_again": self._given_again,
            "flushes": self._flushes,
        }

    def learn(self, changes: StoreChanges) -> None:
        """
        See `Checker.learn`.
        """
        self._checker.learn(changes)
        self._flushes += changes.flushed

    def mirror(self, mirror: Mirror, *, octets: int) -> None:
        """
        Have somebody told of each verdict that stands, and of its end.

        Args:
            mirror: who is told.
            octets: what all that stands may take here.

        """
        self._standing.mirror = mirror
        self._standing.resize(octets)

    def seen(self, name: bytes) -> None:
        """
        Take note that a host has given the verdict of a name (`standing.name_of`) again.
        """
        if self.watcher is not None:
            self.watcher.again(name)

    def forget(self, name: bytes) -> None:
        """
        Have the verdict of a name (`standing.name_of`) end: its record has been let go.
        """
        self._standing.forget(name)

    def end_standing(self) -> None:
        """
        Have every verdict that stands end now: each partner is judged anew.
        """
        self._standing.clear()
        self._unkept.clear()

    async def judge(
        self,
        question: Question,
        handed_in: Sequence[Statement] = (),
        *,
        asked: Asked | None = None,
        remember: bool = True,
    ) -> Judged:
        """
        Judge one chain, by the blocks that are in force when the verdict is there.

        Args:
            question: what is asked.
            handed_in: statements that came with the chain.
            asked: who asks, for the record; without it none is made.
            remember: see `Checker.check_with_statements`.

        Returns:
            The verdict and what it rests on.

        Raises:
            StoreError: the memory of revocations, or the list of blocked partners, cannot be read.
            WorkerError: no judge answered in time: nothing is decided.
            ExchangeError: what it answered is no answer to this question.

        """
        for _ in range(_BLOCKED_MEANWHILE):
            question = self._with_blocks(question)
            judged = await self._judge(question, handed_in, asked=asked, remember=remember)
            if not judged.verdict.accepted or question is self._with_blocks(question):
                return judged
        msg = "the list of blocked partners changed again and again while a partner was judged"
        raise StoreError(msg)

    def _with_blocks(self, question: Question) -> Question:
        """
        A question about a partner with the blocks that are in force now; our own certificates are asked about by no rule.
        """
        if question.rule is None or question.fault is not None:
            return question
        blocks = self.blocks()
        return question if blocks == question.blocks else replace(question, blocks=blocks)

    async def _judge(
        self,
        question: Question,
        handed_in: Sequence[Statement],
        *,
        asked: Asked | None,
        remember: bool,
    ) -> Judged:
        begun = self._clock.monotonic()
        if question.fault is not None and not question.chain:
            # Nothing is read for it, and it must be told also where no judge answers.
            case = HereCase(question, self._clock.now)
            checked = await self._checker.run(case, question, handed_in, remember=remember)
            return Judged(verdict=checked.outcome.verdict, statements=checked.statements)
        if asked is not None and not handed_in and (standing := await self._stands(question)) is not None:
            return self._again(standing, question, asked)
        partner = name_of(question)
        known = self._partners.get(partner)
        self._count += 1
        remote = RemoteCase(
            self._pool,
            question,
            self._clock,
            number=self._count,
            asked=asked,
            known=known is not None,
            damaged=self._checker.damaged,
        )
        try:
            guess = self._cas.of(question) if known is None else None
            checked = await self._checker.run(
                remote, question, handed_in, remember=remember, known=known or guess
            )
        finally:
            await remote.aclose()
        verdict = checked.outcome.verdict
        self.told(verdict)
        self._may_stand(question, checked, remote.stored, begun=begun)
        if verdict.accepted and not verdict.evidence.faults:
            self._cas.accepted(question, checked.known)
            self._partners[partner] = without_certificates(checked.known)
            self._partners.move_to_end(partner)
            if len(self._partners) > _PARTNERS:
                self._partners.popitem(last=False)
            if self.watcher is not None and asked is not None and asked.door is not Door.REFRESH:
                self.watcher.accepted(question, checked)
        else:
            self._partners.pop(partner, None)
        return Judged(verdict=verdict, statements=checked.statements, stored=remote.stored)

    async def renew(self, question: Question) -> Checked:
        """
        Judge a chain for the sake of what is fetched and cached for it: nobody waits, and no record is made.

        It waits behind known partners, as strangers do. What proves a revocation is in the cache afterwards, and is
        remembered with the record of whoever judges next.

        Args:
            question: with limits by which part of the evidence is too old.

        Returns:
            What was found.

        Raises:
            StoreError: see `judge`.
            WorkerError: see `judge`.
            ExchangeError: see `judge`.

        """
        question = self._with_blocks(question)
        self._count += 1
        remote = RemoteCase(
            self._pool,
            question,
            self._clock,
            number=self._count,
            asked=None,
            known=False,
            damaged=self._checker.damaged,
        )
        try:
            checked = await self._checker.run(remote, question, remember=False)
        finally:
            await remote.aclose()
        self.told(checked.outcome.verdict)
        return checked

    def recorded(self, judged: Judged, question: Question, *, kept: bool) -> None:
        """
        What became of the record of a verdict: only one that is kept is given again.

        Args:
            judged: the verdict.
            question: what was asked.
            kept: whether its record is in the ledger.

        """
        entry = self._unkept.pop(judged.verdict.id, None)
        if not kept:
            self._standing.drop(question)
        elif (
            entry is not None
            and entry.question is self._with_blocks(entry.question)
            and self._checker.is_still(entry.looked)
        ):
            self._standing.add(entry)

    async def _stands(self, question: Question) -> Standing | None:
        """
        The verdict that stands for a question, if nothing has become known since.
        """
        found = self._standing.find(question, monotonic=self._clock.monotonic())
        if found is None:
            return None
        if not await self._checker.finds_the_same(found.looked):
            self._standing.drop(question)
            return None
        # Where the disk was waited for, it may have ended meanwhile.
        return found if self._standing.is_still(found, monotonic=self._clock.monotonic()) else None

    def _again(self, standing: Standing, question: Question, asked: Asked) -> Judged:
        self._given_again += 1
        if self.watcher is not None and asked.door is not Door.REFRESH:
            self.watcher.again(standing.name)
        self._standing.given(question, standing)
        verdict_id = new_verdict_id(int(question.at.timestamp() * 1000))
        repeated = Repeated(id=standing.verdict.id, document=standing.document)
        verdict = standing.at(question.at, verdict_id)
        return Judged(
            verdict=verdict,
            statements=(),
            stored=again(repeated, verdict_id=verdict_id, at=question.at, asked=asked),
            text=self._text(standing, verdict) if asked.door is Door.SOCKET else None,
        )

    def _text(self, standing: Standing, verdict: Verdict) -> str | None:
        """
        A verdict that is given again as text.
        """
        name = standing.verdict.id
        text = self._texts.get(name)
        if text is None:
            text = VerdictText(standing.verdict)
            self._texts.keep(name, text, text.octets)
        return text.of(verdict)

    def _may_stand(
        self, question: Question, checked: Checked, stored: RecordBytes | None, *, begun: float
    ) -> None:
        """
        Note a verdict that will stand once its record is kept.
        """
        until, looked = checked.outcome.stands_until, checked.looked
        if until is None or looked is None or stored is None:
            return
        verdict = checked.outcome.verdict
        self._unkept[verdict.id] = Standing(
            question=question,
            verdict=verdict,
            document=digest_of(stored.document),
            until=until,
            ends_at=begun + (until - question.at).total_seconds(),
            looked=looked,
        )
        if len(self._unkept) > _UNKEPT:
            self._unkept.popitem(last=False)

    async def check_with_statements(
        self, question: Question, handed_in: Sequence[Statement] = (), *, remember: bool = True
    ) -> tuple[Verdict, tuple[Statement, ...]]:
        """
        See `Checker.check_with_statements`.
        """
        judged = await self.judge(question, handed_in, remember=remember)
        return judged.verdict, judged.statements

    async def aclose(self) -> None:
        """
        Close the driver.
        """
        await self._checker.aclose()
