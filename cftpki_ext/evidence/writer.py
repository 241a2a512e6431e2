"""
The keeper of evidence: every verdict's record is in the store before the verdict is answered.

Owns one writer thread, so that neither encoding nor the disk holds up the event loop; what waits meanwhile is
written together. Imports evidence, ports and settings; never the ledger itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.settings import EvidenceSettings
from cftpki_ext.evidence import Record, encode
from cftpki_ext.ports import Clock, EvidenceEntry, EvidenceStore

# A disk that hangs must not use up the handshake: from then on the record counts as not kept.
PATIENCE_S = 1.0
# Between two looks at what is to be let go; also how often the write-ahead log is folded in.
TEND_S = 30.0
# Records written in one transaction: the first of them must not wait for all of a burst.
_BATCH = 64


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: Record
    answer: asyncio.Future[str]
    loop: asyncio.AbstractEventLoop


class EvidenceKeeper:
    """
    Keeps records in a store, in the order in which they come. For one event loop at a time.
    """

    def __init__(
        self,
        store: EvidenceStore,
        *,
        settings: Callable[[], EvidenceSettings],
        log: FilteringBoundLogger,
        clock: Clock,
    ) -> None:
        """
        Take over a store.

        Args:
            store: closed by `close`.
            settings: the ones in force, asked each time.
            log: told of everything that is not kept.
            clock: the time that a record is kept under.

        """
        self._store = store
        self._settings = settings
        self._log = log
        self._clock = clock
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="evidence")
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._writing = False
        self.kept = 0
        self.not_kept = 0

    async def keep(self, record: Record, *, patience_s: float = PATIENCE_S) -> str | None:
        """
        Keep one record. Never raises: what cannot be kept is logged as an error and counted.

        Args:
            record: of a verdict that has not been answered yet.
            patience_s: how long to wait for the disk. A record that comes late may still be kept.

        Returns:
            The record's hash in the chain (hex), or `None` where it is not known to be kept.

        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        with self._lock:
            self._waiting.append(_Waiting(record, answer, loop))
            start, self._writing = not self._writing, True
        try:
            if start:
                self._writer.submit(self._drain)
            async with asyncio.timeout(max(0.0, patience_s)):
                digest = await answer
        except TimeoutError:
            self._lost(record, f"not written within {patience_s:.1f} s")
            return None
        except (StoreError, RuntimeError) as error:
            self._lost(record, str(error))
            return None
        self.kept += 1
        return digest

    def _lost(self, record: Record, why: str) -> None:
        self.not_kept += 1
        self._log.error(
            "evidence_not_kept",
            verdict_id=record.verdict.id,
            status=record.verdict.status.value,
            error=why,
            required=self._settings().required,
        )

    def status(self) -> dict[str, object]:
        """
        The counts since start, for STATUS.
        """
        return {"kept": self.kept, "not_kept": self.not_kept, "required": self._settings().required}

    async def tend(self) -> None:
        """
        Let go of old records from time to time, until cancelled.
        """
        while True:
            await self.tend_once()
            await asyncio.sleep(TEND_S)

    async def tend_once(self) -> None:
        """
        Let go of what is too old or too much.
        """
        settings = self._settings()
        try:
            gone = await asyncio.to_thread(
                self._store.tend, before=self._clock.now() - settings.keep, max_bytes=settings.max_bytes
            )
        except StoreError as error:
            self._log.error("evidence_not_pruned", error=str(error))
            return
        if gone:
            self._log.info("evidence_pruned", records=gone)

    def close(self) -> None:
        """
        Write what waits, and close the store. May be called again.
        """
        self._writer.shutdown()
        self._store.close()

    def _drain(self) -> None:
        while True:
            with self._lock:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                if not batch:
                    self._writing = False
                    return
            self._write(batch)

    def _write(self, batch: list[_Waiting]) -> None:
        entries: list[EvidenceEntry] = []
        try:
            entries = [self._entry(waiting.record) for waiting in batch]
            digests = self._store.append(entries)
        except Exception as error:  # noqa: BLE001 - whatever it is, the verdicts that wait must hear of it
            if len(batch) > 1:
                # One of them may be the trouble: the others are kept without it.
                for waiting in batch:
                    self._write([waiting])
                return
            failure = (
                error if isinstance(error, StoreError) else StoreError(f"{type(error).__name__}: {error}")
            )
            _answer(batch[0], failure)
            return
        for waiting, digest in zip(batch, digests, strict=True):
            _answer(waiting, digest)

    def _entry(self, record: Record) -> EvidenceEntry:
        stored = encode(record)
        return EvidenceEntry(
            id=record.verdict.id,
            kept_at=self._clock.now(),
            document=stored.document,
            blobs=stored.blobs,
            revoked=stored.revoked,
        )


def _answer(waiting: _Waiting, outcome: str | StoreError) -> None:
    def tell() -> None:
        if waiting.answer.done():  # its call gave up waiting
            return
        if isinstance(outcome, StoreError):
            waiting.answer.set_exception(outcome)
        else:
            waiting.answer.set_result(outcome)

    try:
        waiting.loop.call_soon_threadsafe(tell)
    except RuntimeError:
        # The loop is gone, and with it whoever asked; the record is kept all the same.
        return


class NoStore:
    """
    Stands for a store that cannot be opened: everything fails, and says why.
    """

    def __init__(self, why: str) -> None:
        self._why = why

    def append(self, entries: object) -> tuple[str, ...]:
        """
        Fail.
        """
        del entries
        raise StoreError(self._why)

    def tend(self, *, before: object, max_bytes: int) -> int:
        """
        Fail.
        """
        del before, max_bytes
        raise StoreError(self._why)

    def close(self) -> None:
        """
        Nothing is open.
        """
