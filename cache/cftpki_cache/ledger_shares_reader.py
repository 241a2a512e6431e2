"""
Both shares of the evidence as one, for who reads.

Owns which ledger is asked, and how what they say is put together: by time, each record with the place and hash that it has
in its own chain.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cftpki_cache.ledger_head import stated
from cftpki_cache.ledger_reader import LedgerReader
from cftpki_cache.ledger_schema import DATABASE
from cftpki_cache.ledger_shares import folder_of_strangers
from cftpki_ext.core.errors import StoreError
from cftpki_ext.core.ledger_notes import Note
from cftpki_ext.core.proven import Proven
from cftpki_ext.ports.evidence import LedgerEntry, LedgerFault, Share


class SharedLedgerReader:
    """
    An `EvidenceReader` of both shares. For one thread.
    """

    def __init__(self, folder: Path) -> None:
        """
        Open the evidence for reading.

        Args:
            folder: of it.

        Raises:
            StoreError: there is none, or partners' cannot be read by this user. What is wrong with strangers' `verify` says.

        """
        self._partners = LedgerReader(folder)
        self._strangers: LedgerReader | None = None
        self._unreadable: str | None = None
        theirs = folder_of_strangers(folder)
        try:
            if (theirs / DATABASE).exists() or any(end is not None and end.seq > 0 for end in stated(theirs)):
                self._strangers = LedgerReader(theirs)
        except (StoreError, OSError) as exc:
            self._unreadable = str(exc)

    def _both(self) -> tuple[LedgerReader, ...]:
        return (self._partners,) if self._strangers is None else (self._partners, self._strangers)

    def find(self, prefix: str) -> tuple[LedgerEntry, ...]:
        """
        See `EvidenceReader`.
        """
        found = [*self._partners.find(prefix)]
        if self._strangers is not None:
            found += map(_of_strangers, self._strangers.find(prefix))
        return tuple(found[:2])

    def since(self, moment: datetime | None = None) -> Iterator[LedgerEntry]:
        """
        See `EvidenceReader`.
        """
        if self._strangers is None:
            return self._partners.since(moment)
        theirs = map(_of_strangers, self._strangers.since(moment))
        return heapq.merge(self._partners.since(moment), theirs, key=lambda entry: entry.kept_at)

    def newest(self, count: int) -> Iterator[LedgerEntry]:
        """
        See `EvidenceReader`.
        """
        if self._strangers is None:
            return self._partners.newest(count)
        theirs = map(_of_strangers, self._strangers.newest(count))
        return heapq.merge(self._partners.newest(count), theirs, key=lambda entry: entry.kept_at)

    def blob(self, digest: str) -> bytes | None:
        """
        See `EvidenceReader`.
        """
        found = self._partners.blob(digest)
        return found if found is not None or self._strangers is None else self._strangers.blob(digest)

    def revoked(self, *, ending_after: datetime) -> tuple[tuple[Proven, str], ...]:
        """
        See `EvidenceReader`: nothing is proven of a stranger.
        """
        return self._partners.revoked(ending_after=ending_after)

    def count(self) -> int:
        """
        See `EvidenceReader`.
        """
        return sum(reader.count() for reader in self._both())

    def ends(self) -> tuple[LedgerEntry | None, LedgerEntry | None]:
        """
        See `EvidenceReader`.
        """
        first, last = self._partners.ends()
        if self._strangers is None:
            return first, last
        theirs = [_of_strangers(one) for one in self._strangers.ends() if one is not None]
        found = sorted(
            (one for one in (first, last, *theirs) if one is not None), key=lambda one: one.kept_at
        )
        return (found[0], found[-1]) if found else (None, None)

    def verify(self, progress: Callable[[int], None] = lambda _: None) -> tuple[LedgerFault, ...]:
        """
        See `EvidenceReader`.
        """
        faults = list(self._partners.verify(progress))
        if self._strangers is not None:
            before = self._partners.count()
            theirs = self._strangers.verify(lambda count: progress(before + count))
            faults += (_fault_of_strangers(one) for one in theirs)
        if self._unreadable is not None:
            faults.append(_fault_of_strangers(LedgerFault(seq=None, detail=self._unreadable)))
        return tuple(faults)

    def notes(self, since: datetime | None = None) -> tuple[Note, ...]:
        """
        See `EvidenceReader`.
        """
        found = [note for reader in self._both() for note in reader.notes(since)]
        return tuple(sorted(found, key=lambda note: note.id))

    def has_index(self) -> bool:
        """
        See `EvidenceReader`.
        """
        return self._partners.has_index()

    def index_lacks(self) -> int:
        """
        See `EvidenceReader`.
        """
        return self._partners.index_lacks()

    def early(self) -> tuple[int, datetime | None, int]:
        """
        See `EvidenceReader`.
        """
        count, newest, _ = self._partners.early()
        return count, newest, 0 if self._strangers is None else self._strangers.early()[0]

    def close(self) -> None:
        """
        Close both.
        """
        with contextlib.ExitStack() as stack:
            for reader in self._both():
                stack.callback(reader.close)


def _of_strangers(entry: LedgerEntry) -> LedgerEntry:
    return replace(entry, share=Share.STRANGERS)


def _fault_of_strangers(fault: LedgerFault) -> LedgerFault:
    return replace(fault, share=Share.STRANGERS, detail=f"strangers: {fault.detail}")
