"""
What the evidence says besides verdicts, for the writer: which are missing in it, and how often a refusal was the same.

Owns when that is written, and what the log is told of it: some lines at once, then a few a minute with the number of the
others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.ids import new_id
from cftpki_ext.core.ledger_notes import Note
from cftpki_ext.core.line_budget import LineBudget
from cftpki_ext.core.log import Log
from cftpki_ext.core.verdict import Status
from cftpki_ext.evidence.record import Record
from cftpki_ext.evidence.sameness import Sameness
from cftpki_ext.evidence.unkept import GapStore, Unkept
from cftpki_ext.ports.clock import Clock
from cftpki_ext.ports.evidence import AsyncEvidenceStore, EntryKind, EvidenceEntry, Share

# Lines that a record was not kept: a full disk must not fill what is left of it with them.
_BURST, _EVERY_S = 256, 10.0
# Notes that are written in one transaction.
_BATCH = 64
_NOT_KEPT = "evidence_not_kept"


class Noting:
    """
    Counts, and writes notes. For one event loop.

    Args:
        store: takes them.
        log: is told.
        clock: the time.
        gaps: where a gap outlives this process.

    """

    def __init__(
        self, store: AsyncEvidenceStore, *, log: Log, clock: Clock, gaps: GapStore | None = None
    ) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._unkept = Unkept(self._new_id, gaps)
        self._same = Sameness(self._new_id)
        self._lines = LineBudget(burst=_BURST, every_s=_EVERY_S)
        self._writing = asyncio.Lock()

    def _new_id(self) -> str:
        return new_id(int(self._clock.now().timestamp() * 1000))

    @property
    def has_gap(self) -> bool:
        """
        Whether verdicts are missing of which the evidence does not say so yet.
        """
        return self._unkept.open is not None

    def same_as(self, record: Record, share: Share) -> str | None:
        """
        The verdict that a refusal is the same as, where it is counted instead of kept.
        """
        counted = self._same.counted(record, share, self._clock.monotonic())
        if counted is not None and counted.begins:
            verdict = record.verdict
            self._log.warning(
                "refusals_are_counted",
                verdict_id=counted.of,
                reason=None if verdict.reason is None else verdict.reason.value,
                partner=verdict.evidence.path[0].subject if verdict.evidence.path else None,
                remote=record.asked.remote,
                detail="the same refusal again and again: it is counted, and not recorded each time",
            )
        return None if counted is None else counted.of

    def kept(self, record: Record) -> None:
        """
        A record has been kept.
        """
        self._same.kept(record)

    def lost(self, verdict_id: str, status: Status, why: str, *, required: bool) -> None:
        """
        A verdict's record is not known to be kept.
        """
        self._unkept.add(self._clock.now(), status.value, why)
        others = self._lines.ask(_NOT_KEPT, self._clock.monotonic())
        if others is None:
            return
        more = {"others": others} if others else {}
        self._log.error(
            _NOT_KEPT, verdict_id=verdict_id, status=status.value, error=why, required=required, **more
        )

    def came_late(self, status: Status) -> None:
        """
        A record was kept after all, when nobody waited any more.
        """
        self._unkept.came_late(status.value)

    def close(self) -> None:
        """
        Nothing more is counted.
        """
        self._unkept.close()

    async def write(self, *, everything: bool = False) -> None:
        """
        Write what there is to say; what cannot be written is said later.

        Args:
            everything: what goes on as well: nobody will ask again.

        """
        async with self._writing:
            await self._write_gap()
            ended = self._same.take_ended(self._clock.monotonic(), everything=everything)
            for begin in range(0, len(ended), _BATCH):
                batch = ended[begin : begin + _BATCH]
                if not await self._append([(one.note, one.share) for one in batch]):
                    self._same.put_back(ended[begin:])
                    return
                for one in batch:
                    self._log.warning(
                        "refusals_counted",
                        verdict_id=one.note.of,
                        count=one.note.count,
                        detail=one.note.detail,
                    )

    async def _write_gap(self) -> None:
        gap = self._unkept.open
        if gap is not None and await self._append([(gap, Share.PARTNERS)]):
            self._unkept.written(gap)
            self._log.error("evidence_gap", count=sum(gap.counts.values()), detail=gap.detail)

    async def _append(self, notes: Sequence[tuple[Note, Share]]) -> bool:
        now = self._clock.now()
        entries = [
            EvidenceEntry(
                id=note.id, kept_at=now, document=note.document(), blobs={}, share=share, kind=EntryKind.NOTE
            )
            for note, share in notes
        ]
        try:
            await self._store.append(entries)
        except StoreError:
            return False
        return True
