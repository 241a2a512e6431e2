"""
The evidence writer: every verdict's record is in the store before the verdict is answered.

Owns the queue before the store, whose work is done in a thread or a process of its own, so that the disk never holds
up the event loop; what waits meanwhile is written together.
"""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import Callable, Sequence
from datetime import datetime

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.log import Log
from cftpki_ext.core.settings import EvidenceSettings
from cftpki_ext.core.values import dataclass
from cftpki_ext.core.verdict import Status, Verdict
from cftpki_ext.evidence import Record, RecordBytes, encode
from cftpki_ext.evidence.noting import Noting
from cftpki_ext.evidence.shares import share_of
from cftpki_ext.evidence.telling import Telling
from cftpki_ext.evidence.unkept import GapStore
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.evidence import AsyncEvidenceStore, BlobsMissingError, EvidenceEntry, Share

# A disk that hangs must not use up the handshake: from then on the record counts as not kept.
PATIENCE_S = 1.0
# Between two looks at what is to be let go; also how often the write-ahead log is folded in.
TEND_S = 30.0
# What takes the store longer than a handful of records does.
_LARGE_BYTES = 1024 * 1024
# Records written in one transaction: the first of them must not wait for all of a burst.
_BATCH = 64
# Records that repeat another one cost a tenth of it.
_REPEATS = 256
# ... nor may they be more than a frame to the store's process holds.
_BATCH_BYTES = 6 * 1024 * 1024
# A list that could not be condensed (a full disk, perhaps) stays as it came for so long.
_CONDENSE_AGAIN_S = 600.0
_STOPPING = "the service is stopping"


class NotKept(enum.StrEnum):
    """
    Why a record is not known to be kept.
    """

    FAILED = "failed"  # the store could not, or not in time: logged and counted
    GONE = "gone"  # the record that it repeats has been let go: whoever repeats it judges anew


@dataclass(frozen=True, slots=True)
class Counted:
    """
    A refusal that was counted, and the id of the verdict that is kept in its place.
    """

    of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """
    A record that repeats another one: its verdict's id, and what `evidence.again.again` made.
    """

    id: str
    stored: RecordBytes


@dataclass(frozen=True, slots=True)
class _Waiting:
    entry: EvidenceEntry
    answer: asyncio.Future[str]
    status: Status

    @property
    def size(self) -> int:
        return len(self.entry.document) + sum(map(len, self.entry.blobs.values()))


class EvidenceWriter:
    """
    Keeps records in a store, in the order in which they come. For one event loop.
    """

    def __init__(
        self,
        store: AsyncEvidenceStore,
        *,
        settings: Callable[[], EvidenceSettings],
        log: Log,
        clock: Clock,
        gaps: GapStore | None = None,
    ) -> None:
        """
        Take over a store.

        Args:
            store: closed by `aclose`.
            settings: the ones in force, asked each time.
            log: told of everything that is not kept.
            clock: the time that a record is kept under.
            gaps: where it outlives this process that verdicts could not be kept.

        """
        self._store = store
        self._settings = settings
        self._log = log
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        self._repeating = asyncio.Lock()
        self._closed = False
        self._telling = Telling(log=log, clock=clock)
        self._condense_again = -math.inf
        self._noting = Noting(store, log=log, clock=clock, gaps=gaps)
        self._saying: asyncio.Task[None] | None = None
        self.kept = 0
        self.not_kept = 0
        self.counted = 0

    async def keep(
        self,
        record: Record,
        stored: RecordBytes | None = None,
        *,
        patience_s: float = PATIENCE_S,
        large_s: float = PATIENCE_S,
    ) -> str | NotKept | Counted:
        """
        Keep one record. Never raises: what cannot be kept is logged as an error and counted.

        Args:
            record: of a verdict that has not been answered yet.
            stored: its stored form, where somebody has made it already.
            patience_s: how long to wait for the store. A record that comes late may still be kept.
            large_s: how long to wait for large blobs of it, a new list for example, before that.

        Returns:
            The record's hash in the chain (hex), that it is the same as one and was counted, or why it is not known to
            be kept.

        """
        share = share_of(record)
        same = self._noting.same_as(record, share)
        if same is not None:
            self.counted += 1
            return Counted(same)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        answer: asyncio.Future[str] = loop.create_future()
        try:
            stored = encode(record) if stored is None else stored
            large = {name: raw for name, raw in stored.blobs.items() if len(raw) > _LARGE_BYTES}
            if large:
                # Not before the queue: nobody else's record waits for it.
                async with asyncio.timeout(max(0.0, large_s)):
                    await self._store.bring(large)
                patience_s = min(patience_s, max(0.0, large_s - (loop.time() - begun)))
            # A stranger has no list of a CA: whoever handed one in is none.
            share = Share.PARTNERS if large or stored.repeats is not None else share
            self._enter(record.verdict, stored, answer, share)
            late = loop.call_later(max(0.0, patience_s), _too_late, answer)
            try:
                digest = await answer
            finally:
                late.cancel()
        except TimeoutError:
            self._lost(record.verdict.id, record.verdict.status, f"not written within {patience_s:.1f} s")
            return NotKept.FAILED
        except Exception as error:  # noqa: BLE001 - whatever it is, the verdict is answered as one without a record
            if isinstance(error, BlobsMissingError) and stored is not None and stored.repeats is not None:
                # The record that it repeats has been let go meanwhile: whoever repeats it judges anew.
                self._log.info("repeated_record_gone", verdict_id=record.verdict.id)
                return NotKept.GONE
            why = str(error) if isinstance(error, StoreError) else repr(error)
            self._lost(record.verdict.id, record.verdict.status, why)
            return NotKept.FAILED
        self.kept += 1
        self._noting.kept(record)
        return digest

    async def keep_repeats(self, repeats: Sequence[Repeat]) -> tuple[str | NotKept, ...]:
        """
        Keep many records that repeat others, of verdicts that hosts gave by themselves. Never raises.

        They are written some hundred at a time, behind what somebody waits for, and nobody gives up waiting.

        Args:
            repeats: in the order of the chain; perhaps of several partners.

        Returns:
            For each, its record's hash in the chain (hex), or why it is not known to be kept.

        """
        outcomes: list[str | NotKept] = []
        for begin in range(0, len(repeats), _REPEATS):
            now = self._clock.now()
            entries = [_entry(one.id, one.stored, now) for one in repeats[begin : begin + _REPEATS]]
            async with self._repeating:
                if self._writing is not None and not self._writing.done():
                    await asyncio.wait((self._writing,), timeout=PATIENCE_S)
                outcomes.extend(await self._keep_repeats(entries))
        return tuple(outcomes)

    async def _keep_repeats(self, entries: list[EvidenceEntry]) -> list[str | NotKept]:
        gone: set[str] = set()
        while True:
            left = [entry for entry in entries if entry.repeats is None or entry.repeats.document not in gone]
            try:
                if self._closed:
                    raise StoreError(_STOPPING)  # noqa: TRY301 - told as any other
                digests = await self._store.append(left) if left else ()
            except BlobsMissingError as error:
                before = len(gone)
                gone |= set(error.digests)
                if len(gone) > before:
                    continue
                return self._failed(left, str(error), len(entries))
            except Exception as error:  # noqa: BLE001 - as in `keep`
                why = str(error) if isinstance(error, StoreError) else repr(error)
                return self._failed(left, why, len(entries))
            kept = {entry.id: digest for entry, digest in zip(left, digests, strict=True)}
            self.kept += len(left)
            self._say_soon()
            return [kept.get(entry.id, NotKept.GONE) for entry in entries]

    def _failed(self, entries: Sequence[EvidenceEntry], why: str, count: int) -> list[str | NotKept]:
        for entry in entries:
            self._lost(entry.id, Status.ACCEPTED, why)  # nothing else is given again
        return [NotKept.FAILED] * count

    def _enter(
        self, verdict: Verdict, stored: RecordBytes, answer: asyncio.Future[str], share: Share
    ) -> None:
        if self._closed:
            raise StoreError(_STOPPING)
        entry = _entry(verdict.id, stored, self._clock.now(), share)
        self._waiting.append(_Waiting(entry, answer, verdict.status))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._drain())

    def _lost(self, verdict_id: str, status: Status, why: str) -> None:
        self.not_kept += 1
        self._noting.lost(verdict_id, status, why, required=self._settings().required)

    def _say_soon(self) -> None:
        """
        Writing works: say what is missing, behind what waits.
        """
        if self._noting.has_gap and not self._closed and (self._saying is None or self._saying.done()):
            self._saying = asyncio.create_task(self.say())

    def status(self) -> dict[str, object]:
        """
        The counts since start, for STATUS.
        """
        settings = self._settings()
        counts: dict[str, object] = {
            "kept": self.kept,
            "not_kept": self.not_kept,
            "counted": self.counted,
            "required": settings.required,
        }
        return counts | self._telling.status(settings)

    async def tend(self) -> None:
        """
        Let go of old records from time to time, until cancelled.
        """
        # First of all whether the ledger is as it was left.
        await self.look_once()
        while True:
            await self.tend_once()
            await self.say()
            await self.condense_once()
            await self.look_once()
            await asyncio.sleep(TEND_S)

    async def say(self) -> None:
        """
        Write what there is to say besides verdicts: which are missing, and what was counted.
        """
        await self._noting.write()

    async def tend_once(self) -> None:
        """
        Let go of what is too old or too much.
        """
        settings = self._settings()
        try:
            gone = await self._store.tend(
                before=self._clock.now() - settings.keep, max_bytes=settings.max_bytes
            )
        except StoreError as error:
            self._log.error("evidence_not_pruned", error=str(error))
            return
        if gone:
            self._log.info("evidence_pruned", records=gone)

    async def condense_once(self) -> None:
        """
        Have large blobs that came lately kept in less room. After a failure, not again for a while.
        """
        monotonic = self._clock.monotonic()
        if monotonic < self._condense_again:
            return
        try:
            await self._store.condense()
        except StoreError as error:
            self._condense_again = monotonic + _CONDENSE_AGAIN_S
            self._log.error("evidence_not_condensed", error=str(error))

    async def look_once(self) -> None:
        """
        See how far back the evidence reaches, and say what should not be.
        """
        try:
            reach = await self._store.reach(now=self._clock.now())
        except StoreError as error:
            self._log.error("evidence_not_looked_at", error=str(error))
            return
        self._telling.heard(reach, self._settings())

    async def aclose(self) -> None:
        """
        Write what waits, and close the store. May be called again.
        """
        if self._closed:
            return
        self._closed = True
        if self._writing is not None:
            await self._writing
        if self._saying is not None:
            await self._saying
        async with self._repeating:
            await self._noting.write(everything=True)
            self._noting.close()
            await self._store.aclose()

    async def _drain(self) -> None:
        while self._waiting:
            size, count = 0, 0
            for waiting in self._waiting[:_BATCH]:
                size += waiting.size
                if count and size > _BATCH_BYTES:
                    break
                count += 1
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
            await self._write(batch)

    async def _write(self, batch: list[_Waiting]) -> None:
        try:
            digests = await self._store.append([waiting.entry for waiting in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, the verdicts that wait must hear of it
            if len(batch) > 1:
                # One of them may be the trouble: the others are kept without it.
                for waiting in batch:
                    await self._write([waiting])
                return
            if not batch[0].answer.done():  # else its call gave up waiting
                batch[0].answer.set_exception(error)
            return
        for waiting, digest in zip(batch, digests, strict=True):
            if waiting.answer.done():  # nobody waits any more: it was counted as missing
                self._noting.came_late(waiting.status)
            else:
                waiting.answer.set_result(digest)
        self._say_soon()


def _entry(
    verdict_id: str, stored: RecordBytes, now: datetime, share: Share = Share.PARTNERS
) -> EvidenceEntry:
    return EvidenceEntry(
        id=verdict_id,
        kept_at=now,
        document=stored.document,
        blobs=stored.blobs,
        revoked=stored.revoked,
        repeats=stored.repeats,
        share=share,
    )


def _too_late(answer: asyncio.Future[str]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())
