"""
Renews the evidence of partners that were accepted lately before it ends, and tells ahead what ends.

Owns the acts: judging partners again with part of their evidence asked for anew, and remembering them over a restart.
What is due is `checking.refreshing`'s business, what is told `telling`'s. A partner is judged as in a handshake, by a judge and
with all that belongs to it, so that nothing is fetched but what the path of a trusted chain names, and what is fetched
goes into the cache as it always does.

More than 400 lines: one loop, and all that it does to a partner.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from cftpki_ext.checking.held import Held, Partner, held_of, partner_of, still_wanted
from cftpki_ext.checking.looked import Checked
from cftpki_ext.checking.refreshing import Ahead, Job
from cftpki_ext.checking.sightings import document_of, pack_chain, partner_from, unpack_chain
from cftpki_ext.core.errors import CftPkiError
from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import Limits, Settings
from cftpki_ext.core.statement import Statement
from cftpki_ext.core.values import replace
from cftpki_ext.core.verdict import BAD_NEWS, Reason, Verdict
from cftpki_ext.core.vocabulary import Origin
from cftpki_ext.decision.question import Question
from cftpki_ext.evidence import Asked, Door, Record
from cftpki_ext.evidence.writer import EvidenceWriter, NotKept
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.partners import Sighting, SightingStore
from cftpki_ext.service.audit import AuditSink
from cftpki_ext.service.judging.remote import Judged
from cftpki_ext.service.judging.standing import name_of
from cftpki_ext.service.telling import Telling, status_of

T = TypeVar("T")

# Nobody waits for a refresh: a list that takes longer than a handshake has is got all the same.
BUDGET_MS = 120_000
# What is looked at when nothing is due, and how often those who were not seen are forgotten.
_LONGEST_WAIT_S = 30.0
_FORGET_S = 600.0
_TELL_S = 10.0
# What is not on the disk by then is not remembered.
_STOP_S = 5.0
# A partner that is new is on the disk so soon; when others were last seen, so late.
_WRITE_S = 1.0
_WRITE_SEEN_S = 60.0
# Rows that are put into words, or read, before others have their turn.
_ROWS = 200
# Of chains that wait for the disk; those of partners that are new beyond it are not remembered.
_CHAIN_OCTETS = 32 * 1024 * 1024
# Judging partners again whose evidence was renewed takes at most this share of one processor.
_SHARE = 0.2
_RECORD_S = 10.0


class Judges(Protocol):
    """
    Who judges (`service.judging.remote.Judges`).
    """

    async def renew(self, question: Question) -> Checked:
        """
        Judge for the sake of what is fetched.
        """

    async def judge(self, question: Question, handed_in: Sequence[Statement] = (), *, asked: Asked) -> Judged:
        """
        Judge for a record.
        """

    def recorded(self, judged: Judged, question: Question, *, kept: bool) -> None:
        """
        What became of the record.
        """


class Refresher:
    """
    The refresh of one service. For one event loop.

    Args:
        judges: judge.
        store: remembers partners over a restart.
        keeper: keeps the records of what is found.
        settings: those in force.
        audit: is told what an operator wants to see.
        log: of this process.
        clock: the time.

    """

    def __init__(
        self,
        judges: Judges,
        store: SightingStore,
        keeper: EvidenceWriter,
        *,
        settings: Settings,
        audit: AuditSink,
        log: Log,
        clock: Clock,
    ) -> None:
        self._judges = judges
        self._store = store
        self._keeper = keeper
        self._settings = settings
        self._audit = audit
        self._log = log
        self._clock = clock
        self._ahead = Ahead(settings.refresh, settings.limits, settings.trusts)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        # Not on the disk yet: chains of new partners, and whose row has changed.
        self._chains: dict[bytes, bytes] = {}
        self._changed: dict[bytes, None] = {}
        self._forgotten: list[bytes] = []
        self._written = float("-inf")
        self._writing: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="partners")
        # Those whose verdict was given again since they were last judged: they come so often that it pays.
        self._lively: OrderedDict[bytes, None] = OrderedDict()
        self._to_judge: OrderedDict[bytes, None] = OrderedDict()
        self._has_to_judge = asyncio.Event()
        self._judged_again = 0
        self._telling = Telling(self._ahead, audit)
        self._tended = self._told = float("-inf")

    # --- what the service tells ------------------------------------------------------------------------------------

    def accepted(self, question: Question, checked: Checked) -> None:
        """
        A partner was judged for a host, and accepted. Never raises: its handshake goes on.
        """
        try:
            self._accepted(question, checked)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not refuse a partner
            self._log.error("refresh_failed", error=repr(error))

    def _accepted(self, question: Question, checked: Checked) -> None:
        name, verdict = name_of(question), checked.outcome.verdict
        if question.rule is None or not _is_plain(verdict):
            return
        known = self._ahead.get(name)
        if known is None and sum(map(len, self._chains.values())) > _CHAIN_OCTETS:
            return  # the disk hangs, or takes nothing
        partner = partner_of(
            name,
            verdict,
            still_wanted(
                () if known is None else known.held,
                held_of(verdict, checked.statements, checked.known.places, question.trust),
                _failures(checked),
            ),
            rule=question.rule,
            trust=question.trust.name,
            direction=question.direction,
            seen=question.at,
        )
        if partner is None:
            return
        for gone in self._ahead.accepted(partner):
            self._forget(gone)
        if known is None:
            self._chains[name] = pack_chain(question.chain)
        self._changed[name] = None
        self._wake.set()

    def again(self, name: bytes) -> None:
        """
        A partner was let in again by a verdict that stands.

        Args:
            name: of its question (`service.judging.standing.name_of`).

        """
        try:
            self._again(name)
        except Exception as error:  # noqa: BLE001 - as in `accepted`
            self._log.error("refresh_failed", error=repr(error))

    def _again(self, name: bytes) -> None:
        if self._ahead.seen(name, self._clock.now()):
            self._changed[name] = None
            self._lively[name] = None
            self._lively.move_to_end(name)
            while len(self._lively) > self._settings.refresh.partners:
                self._lively.popitem(last=False)

    def replace_settings(self, settings: Settings) -> None:
        """
        Take over a new configuration.
        """
        self._settings = settings
        self._ahead.replace_settings(settings.refresh, settings.limits, settings.trusts)
        self._wake.set()

    def doubt(self) -> None:
        """
        Have the evidence of all partners renewed as soon as it can be afforded.
        """
        self._ahead.doubt(self._clock.now())
        self._wake.set()

    # --- what it does -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """
        Renew until cancelled.
        """
        self._begin(self._judge_again())
        try:
            try:
                await self._load()
            except Exception as error:  # noqa: BLE001 - a fault of ours must not end the refresh for good
                self._log.error("partners_not_remembered", error=repr(error))
            while True:
                self._wake.clear()
                try:
                    self._round()
                except Exception as error:  # noqa: BLE001 - a fault of ours must not end the refresh for good
                    self._log.error("refresh_failed", error=repr(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._wait_s()):
                        await self._wake.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """
        Write what is not on the disk yet. After `run` has ended.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                if self._writing is not None:
                    await asyncio.gather(self._writing, return_exceptions=True)
                while self._changed or self._forgotten:
                    await self._write()
                await self._on_disk(self._store.close)
        self._disk.shutdown(wait=False)

    def _round(self) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if self._settings.refresh.enabled:
            while (job := self._ahead.take(now, monotonic)) is not None:
                self._begin(self._renew(job))
        if monotonic - self._told >= _TELL_S:
            self._told = monotonic
            self._telling.troubles(now)
        if monotonic - self._tended >= _FORGET_S:
            self._tended = monotonic
            for name in self._ahead.forget_unseen(now):
                self._forget(name)
            self._telling.ends(now, self._settings.refresh.tell_before)
        is_idle = self._writing is None or self._writing.done()
        if is_idle and (self._changed or self._forgotten) and monotonic - self._written >= self._pause_s:
            self._written = monotonic
            self._writing = asyncio.create_task(self._write())

    def _wait_s(self) -> float:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        waits = [_LONGEST_WAIT_S]
        next_at = self._ahead.next_at()
        if self._settings.refresh.enabled:
            if next_at is not None:
                waits.append(next_at - now.timestamp())
            afforded_s = self._ahead.afforded_in(monotonic)
            if afforded_s is not None and len(self._tasks) <= 1:
                waits.append(max(afforded_s, 0.25))
        if self._changed or self._forgotten:
            waits.append(self._written + self._pause_s - monotonic)
        return max(0.05, min(waits))

    @property
    def _pause_s(self) -> float:
        """
        How long what has changed may wait for the disk.
        """
        urgent = self._chains or self._forgotten or len(self._changed) > _ROWS
        return _WRITE_S if urgent else _WRITE_SEEN_S

    async def _on_disk(self, call: Callable[..., T], *arguments: Any) -> T:
        """
        Do something in the disk's own thread: one that hangs takes no other's.
        """
        return await asyncio.get_running_loop().run_in_executor(self._disk, partial(call, *arguments))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            self._log.error("refresh_failed", error=repr(task.exception()))

    async def _renew(self, job: Job) -> None:
        """
        Judge a partner again, so that what is due is asked for anew.
        """
        partner: Partner | None = job.partner
        failures: dict[str, str] = {}
        requests, ours = 0, True
        bad: Question | None = None
        try:
            question = await self._question(job.partner, replace(job.limits, budget_ms=BUDGET_MS))
            if question is None:
                partner, ours = None, False
            else:
                checked = await self._judges.renew(question)
                ours = False
                partner, bad = self._found(job, question, checked)
                failures = _failures(checked)
                requests = sum(one.origin is Origin.NETWORK for one in checked.statements)
        except CftPkiError as error:
            # No judge, no memory of revocations: the next handshake will say so, too.
            self._log.warning("refresh_not_judged", partner=job.partner.subject, error=str(error))
        finally:
            touched = self._ahead.done(
                job,
                partner,
                failures=failures,
                requests=requests,
                ours=ours,
                now=self._clock.now(),
                monotonic=self._clock.monotonic(),
            )
        if partner is None:
            self._forget(job.partner.name)
        else:
            self._changed[partner.name] = None
        for name in touched:
            if name in self._lively:
                del self._lively[name]
                self._to_judge[name] = None
                self._has_to_judge.set()
        if bad is not None:
            await self._record(bad)

    def _found(
        self, job: Job, question: Question, checked: Checked
    ) -> tuple[Partner | None, Question | None]:
        """
        What a partner is now, and its question where something bad was found.
        """
        verdict = checked.outcome.verdict
        if any(one.status in BAD_NEWS for one in (*verdict.evidence.findings, *verdict.evidence.beside)):
            return None, question
        held = held_of(verdict, checked.statements, checked.known.places, question.trust)
        if _is_plain(verdict):
            found = partner_of(
                job.partner.name,
                verdict,
                still_wanted(job.partner.held, held, _failures(checked)),
                rule=job.partner.rule,
                trust=job.partner.trust,
                direction=job.partner.direction,
                seen=job.partner.seen,
            )
            return found, None
        if verdict.reason in {Reason.STATUS_NOT_ESTABLISHED, Reason.INTERNAL_ERROR}:
            return replace(job.partner, held=_merged(job.partner.held, held)), None
        self._log.info(
            "partner_not_refreshed",
            partner=job.partner.subject,
            serial=job.partner.serial,
            why=verdict.summary,
        )
        return None, None

    async def _judge_again(self) -> None:
        """
        Have partners that come often judged by their new evidence before they come again, one after the other.

        Otherwise all who rest on one list would have to be judged when they next come, which may be at the same time.
        """
        while True:
            if not self._to_judge:
                self._has_to_judge.clear()
                await self._has_to_judge.wait()
                continue
            name, _ = self._to_judge.popitem(last=True)
            begun = self._clock.monotonic()
            try:
                await self._judge_one_again(name)
            except Exception as error:  # noqa: BLE001 - a fault of ours with one must not keep the others waiting
                self._log.error("refresh_failed", error=repr(error))
            took_s = self._clock.monotonic() - begun
            await asyncio.sleep(took_s * (1 / _SHARE - 1))

    async def _judge_one_again(self, name: bytes) -> None:
        partner = self._ahead.get(name)
        question = None if partner is None else await self._question(partner, self._settings.limits)
        if question is not None:
            await self._record(question)
            self._judged_again += 1

    async def _record(self, question: Question) -> None:
        """
        Judge a partner as in a handshake, and keep the record: what is bad news is remembered by it.
        """
        try:
            await self.record(replace(question, limits=self._settings.limits))
        except CftPkiError as error:
            self._log.warning("refresh_not_judged", error=str(error))

    async def record(self, question: Question, handed_in: Sequence[Statement] = ()) -> None:
        """
        Judge a chain of which something bad was heard, keep the record, and remember what proves it.

        Args:
            question: what is asked; its time is now.
            handed_in: what was heard.

        Raises:
            CftPkiError: no judge answered, or the memory of revocations cannot be read: nothing is remembered.

        """
        begun = self._clock.monotonic()
        question = replace(question, at=self._clock.now())
        asked = Asked(door=Door.REFRESH)
        judged = await self._judges.judge(question, handed_in, asked=asked)
        record = Record(question=question, statements=judged.statements, verdict=judged.verdict, asked=asked)
        kept = None
        if judged.stored is None or judged.stored.repeats is None:
            kept = await self._keeper.keep(record, judged.stored, patience_s=_RECORD_S, large_s=_RECORD_S)
            self._judges.recorded(judged, question, kept=not isinstance(kept, NotKept))
        verdict = judged.verdict
        if not verdict.accepted:
            elapsed_ms = int((self._clock.monotonic() - begun) * 1000)
            digest = kept if isinstance(kept, str) and not isinstance(kept, NotKept) else None
            self._audit.verdict(verdict, None, elapsed_ms=elapsed_ms, record=digest)
            path = verdict.evidence.path
            self._audit.event(
                "partner_refused_ahead",
                None,
                partner=path[0].subject if path else None,
                serial=path[0].serial if path else None,
                reason=verdict.reason.value if verdict.reason else None,
                verdict_id=verdict.id,
            )

    async def _question(self, partner: Partner, limits: Limits) -> Question | None:
        """
        The question of a partner under the configuration in force; `None` where there is none any more.
        """
        settings = self._settings
        rule = next((one for one in settings.rules if one.name == partner.rule), None)
        trust = settings.trusts.get(partner.trust)
        if (
            rule is None
            or trust is None
            or rule.trust != trust.name
            or rule.direction is not partner.direction
        ):
            return None
        octets = self._chains.get(partner.name)
        if octets is None:
            octets = await self._on_disk(self._store.chain, partner.name)
        chain = None if octets is None else unpack_chain(octets, most=settings.limits.chain_bytes)
        if chain is None:
            return None
        question = Question(
            chain=chain,
            direction=rule.direction,
            trust=trust,
            limits=limits,
            at=self._clock.now(),
            rule=rule.name,
            partners=rule.partners,
        )
        return question if name_of(question) == partner.name else None

    # --- the disk ---------------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        """
        Know those again who came before the service was restarted; handshakes go on meanwhile.
        """
        found = await self._on_disk(self._store.latest, self._settings.refresh.partners)
        for number, one in enumerate(found):
            if number % _ROWS == _ROWS - 1:
                await asyncio.sleep(0)
            partner = partner_from(one.name, one.seen, one.document)
            if partner is None:
                self._forgotten.append(one.name)
            elif self._ahead.get(one.name) is None:
                for gone in self._ahead.accepted(partner):
                    self._forget(gone)
        if found:
            self._log.info("partners_remembered", partners=self._ahead.count)

    def _forget(self, name: bytes) -> None:
        self._chains.pop(name, None)
        self._changed.pop(name, None)
        self._lively.pop(name, None)
        self._to_judge.pop(name, None)
        self._forgotten.append(name)

    async def _write(self) -> None:
        """
        Write what has changed, some rows at a time: nobody's handshake waits while they are put into words.
        """
        names = tuple(self._changed)[:_ROWS]
        forgotten, self._forgotten = tuple(self._forgotten), []
        for name in names:
            del self._changed[name]
        sightings = [
            Sighting(
                name=name,
                seen=partner.seen.timestamp(),
                document=document_of(partner),
                chain=self._chains.get(name),
            )
            for name in names
            if (partner := self._ahead.get(name)) is not None
        ]
        # Who came again after it was forgotten is known.
        gone = [name for name in forgotten if self._ahead.get(name) is None]
        if sightings or gone:
            try:
                await self._on_disk(self._store.write, sightings, gone)
            except Exception as error:  # noqa: BLE001 - no store of ours raises; a restart knows fewer partners
                self._log.error("partners_not_remembered", error=repr(error))
                return
        for one in sightings:
            if one.chain is not None and self._chains.get(one.name) is one.chain:
                del self._chains[one.name]

    def status(self) -> dict[str, Any]:
        """
        For STATUS.
        """
        return status_of(
            self._ahead, self._settings.refresh, now=self._clock.now(), judged_again=self._judged_again
        )


def _is_plain(verdict: Verdict) -> bool:
    """
    Whether a partner was accepted, and not only because its policy audits.
    """
    return verdict.accepted and not verdict.evidence.faults


def _merged(old: tuple[Held, ...], new: tuple[Held, ...]) -> tuple[Held, ...]:
    return tuple({one.key: one for one in (*old, *new)}.values())


def _failures(checked: Checked) -> dict[str, str]:
    """
    Why locations gave nothing that could be used, by URL.
    """
    evidence = checked.outcome.verdict.evidence
    found = {
        source.url: f"{source.cause.value}{': ' if source.detail else ''}{source.detail}"
        for finding in evidence.heard
        for source in finding.sources
        if source.url is not None and source.cause is not None
    }
    for one in checked.statements:
        if one.failure is not None and one.url is not None:
            found[one.url] = f"{one.failure.value}: {one.detail}"
    return found
